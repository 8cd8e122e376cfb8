//! WebSocket frames and the JSON in them: whatever a viewer sends, however it is split, the same
#![no_main]

#[path = "../bodies/ws_frame.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::fuzz(data));
