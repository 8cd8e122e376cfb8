//! The AMF0 reader: no input panics it or overflows its stack, and what it read can be written and
//! read again.

use rtmpeer::rtmp::amf0::{decode, decode_prefix, encode};

/// One input.
pub fn fuzz(data: &[u8]) {
    let (prefix, error) = decode_prefix(data);
    let Ok(values) = decode(data) else {
        assert!(error.is_some());
        return;
    };
    assert!(error.is_none());
    let written = encode(&values);
    // As bytes, since a number may be NaN.
    assert_eq!(encode(&prefix), written);
    // Replaced text may grow beyond what a short string holds.
    if data.len() < 20_000 {
        assert_eq!(encode(&decode(&written).unwrap()), written);
    }
}
