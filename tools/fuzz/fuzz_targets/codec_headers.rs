//! Multitrack tags, and the headers of every codec but H.264 and AAC.
#![no_main]

#[path = "../bodies/codec_headers.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::fuzz(data));
