//! What a viewer tells its core: events, what became of a frame, and figures.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::VIEWER_EVENTS_MAX;
use crate::media::frame::TrackKind;
use crate::messages::ViewerEnd;

/// What [`Viewer::poll_output`](super::Viewer::poll_output) returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewerOutput {
    /// Something happened; poll again.
    Event(ViewerEvent),
    /// Nothing more: call [`Viewer::handle_timeout`](super::Viewer::handle_timeout) then, unless something comes earlier.
    Timeout(Instant),
}

/// What happened to a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewerEvent {
    /// ICE and DTLS are up, media may be sent.
    Connected,
    /// The player cannot go on without a keyframe.
    KeyframeWanted,
    /// A packet is to be sent again: look it up and call [`Viewer::resend`](super::Viewer::resend).
    Resend {
        /// Its track.
        track: TrackKind,
        /// Its sequence number in the room.
        sequence: u64,
    },
    /// No sign of the viewer for 15 s: stop sending.
    Silent,
    /// It is there again: begin anew, with a burst.
    Back,
    /// It is over; the viewer is to be dropped.
    Ended(ViewerEnd),
}

/// What [`Viewer::send`](super::Viewer::send) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The frame is gone, or this viewer does not take it.
    Done,
    /// Not, or not all of it: call again with the same frame at that time.
    Paced(Instant),
}

/// What is known of a viewer's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ViewerStats {
    /// RTP packets sent, without retransmissions.
    pub packets_sent: u64,
    /// Payload bytes of them.
    pub bytes_sent: u64,
    /// Packets sent again.
    pub packets_resent: u64,
    /// Payload bytes of them.
    pub bytes_resent: u64,
    /// Packets asked for again.
    pub nacks: u64,
    /// Keyframe requests.
    pub plis: u64,
    /// Round trip time by the last receiver report.
    pub round_trip: Option<Duration>,
    /// Video packets lost since the report before, in 1/256.
    pub fraction_lost: u8,
    /// How much the player believes it can take, in bits per second (REMB).
    pub estimate_bps: Option<u64>,
    /// Datagrams not used: from strangers, malformed, replayed, or media.
    pub datagrams_ignored: u64,
    /// RTP or RTCP that str0m wanted to send, and did not.
    pub media_suppressed: u64,
}

/// Queues an event, unless too many wait. An end is queued into an empty queue only.
pub(super) fn push_event(events: &mut VecDeque<ViewerEvent>, event: ViewerEvent) {
    if events.len() < VIEWER_EVENTS_MAX {
        events.push_back(event);
    }
}
