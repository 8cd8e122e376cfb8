//! A whole RTMP session: no input panics it, it closes once, its memory and its outputs stay
#![no_main]

#[path = "../bodies/rtmp_session.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::fuzz(data));
