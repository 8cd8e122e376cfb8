//! Viewers: SDP, ICE-lite and DTLS by str0m; SRTP, RTCP, retransmission and pacing by us.
//!
//! [`ViewerFactory`] makes [`Viewer`]s; a room's [`FrameSet`](crate::media::frame::FrameSet)s go
//! through [`Viewer::send`] into a [`batch::SendBatch`], and [`demux::Demux`] says which viewer a
//! datagram is for. All of it is state without sockets or clocks, and knows nothing of rooms.

pub mod batch;
mod codecs;
pub mod demux;
pub mod dtls;
mod factory;
mod keyframes;
mod media;
mod output;
mod pacing;
pub mod packetize;
mod parts;
mod paths;
mod prefetch;
pub mod rtcp;
pub mod rtp;
mod sdp;
mod sequence;
pub mod srtp;
mod track;
mod viewer;

#[cfg(test)]
mod tests;

pub use dtls::Certificate;
pub use factory::{ViewerError, ViewerFactory};
pub use output::{Sent, ViewerEvent, ViewerOutput, ViewerStats};
pub use prefetch::prefetch;
pub use viewer::Viewer;
