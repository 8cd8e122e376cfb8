//! The RTMP chunk reader: no input panics it, memory stays bounded, and how the input was cut
#![no_main]

#[path = "../bodies/rtmp_chunk.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::fuzz(data));
