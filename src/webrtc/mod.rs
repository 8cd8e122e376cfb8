//! stub

pub mod packetize;
