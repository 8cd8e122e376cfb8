//! The AMF0 reader: no input panics it or overflows its stack, and what it read can be written and
#![no_main]

#[path = "../bodies/amf0.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::fuzz(data));
