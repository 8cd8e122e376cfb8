//! stub

pub mod batch;
pub mod demux;
pub mod rtcp;
pub mod rtp;
pub mod srtp;
