//! Every bound in one place, each with its unit and its reason.

use std::time::Duration;

// -- loops --

/// A core's control mailbox, in messages: every session's few messages fit many times over.
pub const CORE_MAILBOX_MESSAGES: usize = 8_192;
/// Control's mailbox, in messages.
pub const CONTROL_MAILBOX_MESSAGES: usize = 16_384;
/// A core's media mailbox, in frames: about 20 rooms' keyframe intervals.
pub const MEDIA_MAILBOX_FRAMES: usize = 4_096;
/// A transcode worker's inbox, in access units: 128 streams' 200 ms.
pub const TRANSCODE_INBOX_UNITS: usize = 1_024;
/// Messages taken from one mailbox in one turn of a loop.
pub const MESSAGES_PER_TURN: usize = 512;
/// A turn of a core's loop longer than this is counted and logged.
pub const TURN_MAX: Duration = Duration::from_millis(20);
/// Time that open sessions get to close politely when the server stops.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

// -- RTMP (src/rtmp) --

/// Open RTMP connections, the whole server.
pub const RTMP_CONNECTIONS_MAX: usize = 1_000;
/// Open RTMP connections from one address.
pub const RTMP_CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// Bytes read from one publisher in one turn, so that none starves its core.
pub const RTMP_READ_BYTES_PER_TURN: usize = 256 * 1_024;

// -- rooms (src/room) --

/// Frames kept of a room's track.
pub const RING_FRAMES_MAX: usize = 2_048;
/// Payload bytes kept of a room's track: 20 s at 6 Mbit/s.
pub const RING_BYTES_MAX: usize = 16 * 1_024 * 1_024;

// -- viewers (src/webrtc) --

/// Largest RTP payload, in bytes: with header, extension and tag below 1,280, the IPv6 minimum.
pub const RTP_PAYLOAD_BYTES_MAX: usize = 1_200;
/// Largest SDP of a viewer, in bytes: a browser's with every codec has 10 KiB.
pub const SDP_BYTES_MAX: usize = 64 * 1_024;
/// Most lines in a viewer's SDP.
pub const SDP_LINES_MAX: usize = 1_024;
/// Most `m=` sections in a viewer's SDP: two are of use.
pub const SDP_SECTIONS_MAX: usize = 32;
/// Most ICE candidates of a viewer, in its SDP and after it together.
pub const SDP_CANDIDATES_MAX: usize = 50;
/// Longest ICE candidate line, in bytes.
pub const CANDIDATE_BYTES_MAX: usize = 1_024;
/// Addresses of one viewer in all its life: str0m keeps something of each for ever. A viewer
/// that has had more joins anew.
pub const VIEWER_ADDRESSES_EVER_MAX: usize = 64;
/// Events of one viewer that wait to be polled: the requests of a NACK or two.
pub const VIEWER_EVENTS_MAX: usize = 512;
/// Local addresses offered to a viewer.
pub const LOCAL_CANDIDATES_MAX: usize = 16;
/// From a viewer's SDP to its connection.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// From our offer to the viewer's answer.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Without a sign of the viewer for so long, media stops (RFC 7675 §5.1).
pub const CONSENT_SILENT_AFTER: Duration = Duration::from_secs(15);
/// Without a sign of the viewer for so long, its session ends.
pub const CONSENT_LOST_AFTER: Duration = Duration::from_secs(30);

// -- HTTP, WHEP, WebSocket (src/signalling) --

/// Open HTTP connections, the whole server.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// Open HTTP connections from one address. Behind a proxy all viewers share one.
pub const HTTP_CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;

// -- transcoding (src/transcode) --

// -- control (src/control) --

// -- webhooks (src/webhook) --
