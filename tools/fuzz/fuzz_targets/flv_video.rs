//! A publish of any messages, through ingest and packetizer: what comes out keeps its promises.
#![no_main]

#[path = "../bodies/flv_video.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::fuzz(data));
