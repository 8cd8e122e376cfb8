//! AudioSpecificConfig: any bytes give a config within bounds, or an error.
#![no_main]

#[path = "../bodies/aac_config.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::fuzz(data));
