//! Everything that crosses a thread. Pure values: no socket, no channel.
//!
//! ```text
//! control ── CoreMsg ──▶ core      core ── ControlMsg ──▶ control
//! core ─── MediaMsg ───▶ core      core ─ TranscodeMsg ─▶ transcode ─ TranscodeReply ─▶ core
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::ids::{CoreId, Epoch, PublisherId, RoomId, RoomName, Secret, ViewerId};
use crate::media::codec::{AudioConfig, CodedFrame, VideoConfig};
use crate::media::frame::{FrameSet, Rendition, StreamInfo, VideoFrame};
use crate::media::time::MediaTime;
use crate::media::verdict::Verdict;

/// Control to core.
#[derive(Debug, Clone)]
pub enum CoreMsg {
    /// The publisher may go on: it is the publish `epoch` of `room`.
    PublishAccepted {
        /// Who asked.
        publisher: PublisherId,
        /// The room it publishes to.
        room: RoomId,
        /// The room's name, for the log.
        name: RoomName,
        /// Number of this publish.
        epoch: Epoch,
        /// Other cores that have viewers of the room.
        links: Vec<CoreId>,
    },
    /// The publisher is turned away and its connection closed.
    PublishRejected {
        /// Who asked.
        publisher: PublisherId,
        /// Why.
        rejection: PublishRejection,
    },
    /// Ends a publisher's connection (or a publish that control gave up waiting for).
    ClosePublisher {
        /// Whose.
        publisher: PublisherId,
    },
    /// Another publisher wants this one's room: if it sends nothing until `silence` after its last
    /// byte, end it ([`PublishEnd::Idle`]); if it does, say [`ControlMsg::PublisherAlive`].
    QuestionPublisher {
        /// Which.
        publisher: PublisherId,
        /// How long is too long.
        silence: Duration,
    },
    /// A viewer joins a room on this core.
    AddViewer {
        /// Its id from now on.
        viewer: ViewerId,
        /// The room it watches, live or not.
        room: RoomId,
        /// The room's name, for the log.
        name: RoomName,
        /// What it begins with.
        begin: ViewerBegin,
        /// Local addresses to offer it as ICE candidates.
        candidates: Vec<SocketAddr>,
        /// `profile-level-id` of the room's video, to choose a payload type by.
        profile_level_id: Option<[u8; 3]>,
    },
    /// A viewer's answer to our offer.
    ViewerAnswer {
        /// Whose.
        viewer: ViewerId,
        /// The SDP.
        sdp: String,
    },
    /// A viewer's ICE candidate (RFC 8839 §5.1, with or without `a=`).
    AddCandidate {
        /// Whose.
        viewer: ViewerId,
        /// The candidate line.
        candidate: String,
    },
    /// A viewer leaves.
    RemoveViewer {
        /// Which.
        viewer: ViewerId,
    },
    /// `to` has viewers of a room that is published on this core: feed it; if it is fed already, its
    /// video once more from the newest keyframe.
    LinkRoom {
        /// The room.
        room: RoomId,
        /// Who needs it.
        to: CoreId,
    },
    /// `to` has no viewers of the room any more.
    UnlinkRoom {
        /// The room.
        room: RoomId,
        /// Who no longer needs it.
        to: CoreId,
    },
    /// Binds a viewer to another rendition of its room's video: it moves there at that
    /// rendition's next keyframe.
    BindViewer {
        /// Which.
        viewer: ViewerId,
        /// The rendition.
        rendition: Rendition,
    },
    /// A viewer on another core of a room that is published on this core cannot go on without a
    /// keyframe.
    KeyframeWanted {
        /// The room.
        room: RoomId,
    },
    /// Close every session politely, be done by the deadline, then send [`ControlMsg::Drained`].
    Drain {
        /// When to stop waiting.
        deadline: Instant,
    },
    /// A datagram that another core received for one of this core's viewers.
    Datagram {
        /// Where it came from.
        from: SocketAddr,
        /// The local address it was sent to.
        to: SocketAddr,
        /// Its bytes.
        data: Bytes,
    },
}

/// How a viewer's negotiation begins.
#[derive(Debug, Clone)]
pub enum ViewerBegin {
    /// It sent an SDP offer (WHEP): answer it.
    Offer(String),
    /// It waits for ours (WebSocket).
    SendOffer,
}

/// Why a publisher was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishRejection {
    /// Somebody publishes to the room already.
    Busy,
    /// The stream key is not a legal room name.
    BadName,
    /// The server is stopping.
    Stopping,
    /// The server has as many publishers as it may.
    Full,
}

/// Why a core made no SDP for a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SdpFault {
    /// The viewer's own cannot be used: what is wrong with it.
    Viewer(String),
    /// The server can make no session now, which whoever runs it may mend: why.
    Setup(String),
    /// A bug of the server.
    Bug,
}

/// Core to control.
#[derive(Debug, Clone)]
pub enum ControlMsg {
    /// An RTMP connection asks to publish.
    PublishRequested {
        /// The core that holds it.
        core: CoreId,
        /// The connection.
        publisher: PublisherId,
        /// The RTMP application name.
        app: String,
        /// The stream key without its query.
        key: Secret,
        /// What stood after `?` in the key or in the application, without it.
        query: Secret,
        /// Where it comes from.
        peer: SocketAddr,
    },
    /// A publish's codecs became known or changed.
    StreamChanged {
        /// The room.
        room: RoomId,
        /// Of which publish.
        epoch: Epoch,
        /// What is known now.
        info: StreamInfo,
    },
    /// What was found and measured of a publish; about once a second.
    StreamJudged {
        /// The room.
        room: RoomId,
        /// Of which publish.
        epoch: Epoch,
        /// The verdict, in place of the last one.
        verdict: Arc<Verdict>,
    },
    /// Viewers lack a picture although there is video, or do so no more.
    PictureTrouble {
        /// The room.
        room: RoomId,
        /// Of which publish.
        epoch: Epoch,
        /// Why, and what to do, in plain words; `None` when they have one again.
        trouble: Option<String>,
    },
    /// A viewer of a room that another core publishes cannot go on without a keyframe.
    KeyframeWanted {
        /// The room.
        room: RoomId,
    },
    /// A core with viewers of a room that another core publishes missed the keyframe of what it is fed.
    FeedWanted {
        /// The room.
        room: RoomId,
        /// Of which publish.
        epoch: Epoch,
        /// Who is to be fed again.
        core: CoreId,
    },
    /// A publisher is done, and what it brought is still on its way to viewers: its end follows, at
    /// once if it is questioned.
    PublishEnding {
        /// Which connection.
        publisher: PublisherId,
    },
    /// A publisher's connection ended, after it had asked to publish or not.
    PublishEnded {
        /// Which connection.
        publisher: PublisherId,
        /// Why.
        reason: PublishEnd,
    },
    /// A publisher that was questioned has sent something: it stays.
    PublisherAlive {
        /// Which.
        publisher: PublisherId,
    },
    /// The SDP for a viewer: an answer to its offer, or our offer.
    ViewerSdp {
        /// Whose.
        viewer: ViewerId,
        /// The SDP, or why there is none.
        sdp: Result<String, SdpFault>,
    },
    /// A viewer's message could not be used; its session goes on.
    ViewerComplaint {
        /// Whose.
        viewer: ViewerId,
        /// What is wrong and what to do.
        text: String,
    },
    /// ICE and DTLS are up: media flows from now on.
    ViewerConnected {
        /// Whose.
        viewer: ViewerId,
    },
    /// The viewer is gone from its core.
    ViewerLeft {
        /// Which.
        viewer: ViewerId,
        /// Why.
        reason: ViewerEnd,
    },
    /// Every session of the core has ended.
    Drained {
        /// Which core.
        core: CoreId,
    },
}

/// Why a publish ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishEnd {
    /// The publisher said so (FCUnpublish, deleteStream, closeStream) or closed the connection.
    Finished,
    /// The connection broke.
    Reset,
    /// Nothing came for too long.
    Idle,
    /// It broke the protocol, or a limit.
    Protocol,
    /// It was turned away.
    Rejected,
    /// We closed it.
    Closed,
}

impl PublishEnd {
    /// The word for logs, metrics and webhooks.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Protocol => "protocol",
            Self::Rejected => "rejected",
            Self::Closed => "closed",
        }
    }
}

/// Why a viewer left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewerEnd {
    /// It said so: DELETE, WebSocket closed, or DTLS close.
    Left,
    /// It never connected in time.
    ConnectTimeout,
    /// It answered no more (RFC 7675 consent).
    Consent,
    /// Its session failed.
    Failed,
    /// We closed it.
    Closed,
}

impl ViewerEnd {
    /// The word for logs, metrics and webhooks.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::ConnectTimeout => "connect_timeout",
            Self::Consent => "consent",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

/// Between cores: the media of a room to the cores that only have viewers of it.
#[derive(Debug, Clone)]
pub enum MediaMsg {
    /// One frame; its `track` says which ring it belongs to.
    Frame {
        /// The room.
        room: RoomId,
        /// The frame, shared.
        frame: Arc<FrameSet>,
    },
    /// The publish is over.
    Ended {
        /// The room.
        room: RoomId,
        /// Which publish.
        epoch: Epoch,
    },
}

/// Core to transcode worker.
#[derive(Debug, Clone)]
pub enum TranscodeMsg {
    /// A stream begins; everything else about it follows on the same queue.
    Open {
        /// Where the packets go back to.
        core: CoreId,
        /// Which publish.
        publisher: PublisherId,
        /// How it is coded.
        config: AudioConfig,
    },
    /// The stream's configuration changed.
    Configure {
        /// Which publish.
        publisher: PublisherId,
        /// How it is coded from here on.
        config: AudioConfig,
    },
    /// One packet: an AAC access unit, or what its codec calls it.
    Unit {
        /// Which publish.
        publisher: PublisherId,
        /// When its first sample is heard.
        pts: MediaTime,
        /// The access unit.
        data: Bytes,
        /// When its last byte was received.
        received: Instant,
    },
    /// Nothing more comes: what is left is to be given, then [`TranscodeReply::Finished`].
    Finish {
        /// Which publish.
        publisher: PublisherId,
    },
    /// Nobody listens any more, or the publish ended.
    Close {
        /// Which publish.
        publisher: PublisherId,
    },
}

/// Transcode worker to core.
#[derive(Debug, Clone)]
pub enum TranscodeReply {
    /// One Opus packet.
    Packet {
        /// Which publish.
        publisher: PublisherId,
        /// When its first sample is heard.
        pts: MediaTime,
        /// The packet.
        data: Bytes,
        /// When the bytes it ends with were received.
        received: Instant,
    },
    /// After [`TranscodeMsg::Finish`]: all was given.
    Finished {
        /// Which publish.
        publisher: PublisherId,
    },
    /// The audio cannot be decoded; the video goes on.
    Unplayable {
        /// Which publish.
        publisher: PublisherId,
        /// How it is coded: another configuration may be under way.
        config: AudioConfig,
        /// Why, in plain words.
        text: String,
        /// When to try again; `None`: not before the configuration changes.
        retry_after: Option<Duration>,
    },
}

/// Core to the video transcoders.
#[derive(Debug, Clone)]
pub enum VideoMsg {
    /// Somebody needs a stream's [safe rendition](crate::media::frame::Rendition::Safe);
    /// everything else about it follows on the same queue, its cached frames first.
    Open {
        /// Where the frames go back to.
        core: CoreId,
        /// Which publish.
        publisher: PublisherId,
        /// Its room's name, for the log.
        name: RoomName,
        /// What its frames are coded with.
        config: Arc<VideoConfig>,
        /// Bits a second that it is published with, as far as measured.
        bit_rate: Option<u32>,
    },
    /// The stream's configuration changed: the next frame is a keyframe of the new one.
    Configure {
        /// Which publish.
        publisher: PublisherId,
        /// The new configuration.
        config: Arc<VideoConfig>,
    },
    /// The next frame, in decoding order.
    Frame {
        /// Which publish.
        publisher: PublisherId,
        /// The frame.
        frame: CodedFrame,
        /// Whether it is only to be decoded, since what it shows is past.
        decode_only: bool,
    },
    /// A viewer cannot begin, or go on, without a keyframe.
    Keyframe {
        /// Which publish.
        publisher: PublisherId,
    },
    /// Nothing more comes: what is left is to be given, then [`VideoReply::Finished`].
    Finish {
        /// Which publish.
        publisher: PublisherId,
    },
    /// Nobody needs it any more, or the publish ended.
    Close {
        /// Which publish.
        publisher: PublisherId,
    },
}

/// Video transcoders to core.
#[derive(Debug, Clone)]
pub enum VideoReply {
    /// A frame that any browser decodes; the first is a keyframe. `received` is that of the
    /// frame it was made from.
    Frame {
        /// Which publish.
        publisher: PublisherId,
        /// The frame, with parameter sets if it is a keyframe.
        frame: VideoFrame,
    },
    /// After [`VideoMsg::Finish`]: all was given, or cannot be. The transcoder has closed it.
    Finished {
        /// Which publish.
        publisher: PublisherId,
    },
    /// The encoder was restarted and wants the cached frames once more, from a keyframe on: the
    /// core sends [`VideoMsg::Frame`]s as after [`VideoMsg::Open`].
    Restart {
        /// Which publish.
        publisher: PublisherId,
    },
    /// The stream cannot be transcoded (now): too many are, there is no ffmpeg, or it fails
    /// again and again. The transcoder has closed it; the core may open it anew later.
    Failed {
        /// Which publish.
        publisher: PublisherId,
        /// Why, and what to do, in plain words.
        text: String,
        /// When opening it again makes sense; `None`: not before its configuration changes.
        retry_after: Option<Duration>,
    },
}
