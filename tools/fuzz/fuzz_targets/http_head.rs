//! HTTP/1.1 heads and bodies, routes and WHEP requests: whatever a peer sends, however it is
#![no_main]

#[path = "../bodies/http_head.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::fuzz(data));
