//! What a session gives out, and the words it uses for it.

use std::time::Instant;

use bytes::Bytes;

use super::error::RtmpError;
use super::metadata::Metadata;
use crate::ids::Secret;

/// One thing to do for a session.
#[derive(Debug, Clone)]
pub enum RtmpOutput {
    /// Bytes for the publisher, in this order.
    Transmit(Bytes),
    /// Something the publisher did.
    Event(RtmpEvent),
    /// The session is over: close the socket once what was transmitted is flushed. Given once.
    Close(CloseReason),
    /// Nothing more now; call `handle_timeout` at this time at the latest.
    Timeout(Instant),
}

/// Something a publisher did.
#[derive(Debug, Clone)]
pub enum RtmpEvent {
    /// It asks to publish: answer with `accept_publish` or `reject_publish`.
    PublishRequested {
        /// The application name, without query and surrounding slashes.
        app: String,
        /// The stream key, without its query.
        key: Secret,
        /// What stood behind `?`: of the key, then of the application, joined with `&`.
        query: Secret,
        /// What else it said at `connect`.
        info: ConnectInfo,
    },
    /// One video message (an FLV video tag's body). Never empty.
    Video {
        /// Decoding time, in milliseconds modulo 2^32.
        timestamp_ms: u32,
        /// The body.
        payload: Bytes,
    },
    /// One audio message (an FLV audio tag's body). Never empty.
    Audio {
        /// Presentation time, in milliseconds modulo 2^32.
        timestamp_ms: u32,
        /// The body.
        payload: Bytes,
    },
    /// What it says about its stream; may be wrong.
    Metadata(Metadata),
    /// It ended its publish (FCUnpublish, deleteStream, closeStream), or took its request back.
    /// The connection may go on to publish again.
    PublishFinished,
}

/// What a publisher said at `connect`. Only its own words: may be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectInfo {
    /// The URL it was given, whole: may hold a key.
    pub tc_url: Secret,
    /// Its name and version (`flashVer`), at most 128 characters, none of them control.
    pub flash_ver: String,
    /// Codecs it can send beyond the classic ones (Enhanced RTMP v2, `fourCcList`,
    /// `videoFourCcInfoMap` and `audioFourCcInfoMap`), at most 32; "*" means any.
    pub four_cc_list: Vec<String>,
    /// What else it can do (Enhanced RTMP v2, `capsEx`): 1 reconnect, 2 multitrack, 4 ModEx,
    /// 8 nanoseconds.
    pub caps_ex: u32,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The publisher closed the connection.
    PeerClosed,
    /// The connection broke.
    Reset,
    /// Nothing came for too long.
    Idle,
    /// The publisher was too slow to begin.
    SetupTimeout,
    /// It broke the protocol, or a limit.
    Protocol(RtmpError),
    /// It was turned away.
    Rejected,
    /// We closed it.
    Closed,
}

impl CloseReason {
    /// The word for logs and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::SetupTimeout => "setup_timeout",
            Self::Protocol(error) => error.reason(),
            Self::Rejected => "rejected",
            Self::Closed => "closed",
        }
    }
}

/// Why a publish is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Somebody publishes to the room already.
    Busy,
    /// The key is not a legal room name.
    BadName,
    /// The publisher may not publish there.
    Denied,
    /// The server is stopping.
    Stopping,
    /// The server has as many publishers as it may.
    Full,
}

impl Rejection {
    /// The `onStatus` code that encoders know.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Busy | Self::BadName => "NetStream.Publish.BadName",
            Self::Denied => "NetStream.Publish.Denied",
            Self::Stopping | Self::Full => "NetStream.Publish.Rejected",
        }
    }

    /// What encoders show to their user.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Busy => {
                "Somebody is publishing with this stream key already. Stop that one, or use another key."
            }
            Self::BadName => {
                "The stream key is not a legal room name. Use 1 to 128 letters, digits or . _ ~ - as the stream key."
            }
            Self::Denied => "Publishing is not allowed with this stream key. Check the key.",
            Self::Stopping => "The server is stopping. Try again in a few seconds.",
            Self::Full => "The server has as many publishers as it may. Try again later.",
        }
    }
}
