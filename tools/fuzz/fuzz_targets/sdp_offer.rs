//! A viewer's SDP, as an offer and as an answer to ours: whatever it says, there is no panic, no
#![no_main]

#[path = "../bodies/sdp_offer.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::fuzz(data));
