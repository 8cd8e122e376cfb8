//! What a viewer's session begins with.

use std::net::SocketAddr;
use std::time::Instant;

use str0m::Rtc;
use str0m::change::SdpPendingOffer;
use str0m::media::Mid;

use super::dtls::KeyReceiver;
use super::factory::Tracks;
use super::track::Sources;
use crate::ids::{Secret, ViewerId};
use crate::media::time::Timebase;

/// How a session begins.
pub(super) enum Begin {
    /// Both descriptions are known.
    Negotiated {
        remote_ufrag: String,
        /// Candidates the viewer's SDP held.
        candidates: usize,
        deadline: Instant,
    },
    /// Ours is on its way. Boxed: it is large, and short-lived.
    Offered(Box<Offered>),
}

/// An offer of ours that waits for its answer.
pub(super) struct Offered {
    pub(super) pending: SdpPendingOffer,
    /// Of video and of audio.
    pub(super) mids: [Mid; 2],
    pub(super) sources: Sources,
    pub(super) deadline: Instant,
}

/// What a session is made of.
pub(super) struct Parts {
    pub(super) viewer: ViewerId,
    pub(super) rtc: Rtc,
    pub(super) keys: KeyReceiver,
    pub(super) ufrag: String,
    pub(super) password: Secret,
    /// Local addresses that were advertised; at least one.
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) cname: String,
    pub(super) timebase: Timebase,
    /// A random number, to spread reports.
    pub(super) jitter: u32,
    pub(super) tracks: Tracks,
}
