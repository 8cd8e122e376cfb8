//! H.264 decoder configuration records, and the NAL units of the same bytes.
#![no_main]

#[path = "../bodies/avcc_sps.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::fuzz(data));
