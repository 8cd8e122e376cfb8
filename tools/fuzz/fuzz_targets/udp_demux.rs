//! What arrives on the UDP port before and after it is known whose it is: demultiplexing, then
#![no_main]

#[path = "../bodies/udp_demux.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::fuzz(data));
