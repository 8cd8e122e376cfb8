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

// -- HTTP, WHEP, WebSocket (src/signalling) --

/// Open HTTP connections, the whole server.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// Open HTTP connections from one address. Behind a proxy all viewers share one.
pub const HTTP_CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;

// -- transcoding (src/transcode) --

// -- control (src/control) --

/// Viewers' sessions, the whole server; each holds about 100 KiB.
pub const VIEWERS_MAX: usize = 10_000;
/// Viewers that are not connected yet, the whole server: what a flood of joins may hold.
pub const VIEWERS_PENDING_MAX: usize = 4_096;
/// Viewers that are not connected yet, from one address. Behind a proxy all viewers share one,
/// so it must allow a crowd that joins within a second.
pub const VIEWERS_PENDING_PER_ADDRESS_MAX: usize = 1_024;
/// Rooms: each has a publisher or a viewer, or is freed.
pub const ROOMS_MAX: usize = VIEWERS_MAX + RTMP_CONNECTIONS_MAX;
/// Time for a core to make the SDP of a viewer; it takes milliseconds.
pub const VIEWER_SDP_DEADLINE: Duration = Duration::from_secs(5);
/// Remote candidates taken from one viewer; browsers send fewer than 20.
pub const VIEWER_CANDIDATES_MAX: u32 = 50;
/// Local candidates offered to one viewer.
pub const LOCAL_CANDIDATES_MAX: usize = 16;
/// Longest chat text, in bytes: it is multiplied by the viewers of a room.
pub const CHAT_TEXT_BYTES_MAX: usize = 2_000;
/// Longest name shown beside a chat text, in characters.
pub const CHAT_NAME_CHARS_MAX: usize = 64;
/// Messages of one WebSocket that may come at once.
pub const WEBSOCKET_MESSAGES_BURST: u32 = 50;
/// Messages of one WebSocket in a second, after the burst.
pub const WEBSOCKET_MESSAGES_PER_SECOND: u32 = 10;
/// Viewers that the publisher's core carries more than the least loaded one before a room's
/// next viewer goes there: a room on two cores costs one message per frame, so it is worth it
/// only for a crowd.
pub const SPILL_VIEWERS: usize = 32;
/// Longest time between two looks at the clock when nothing is due.
pub const CONTROL_IDLE: Duration = Duration::from_secs(60);
/// Time beyond [`DRAIN_DEADLINE`] after which a core that has not reported is not waited for.
pub const DRAIN_GRACE: Duration = Duration::from_secs(1);

// -- webhooks (src/webhook) --

/// Events that wait for the webhook, in events of about 1 KiB.
pub const WEBHOOK_OUTBOX_EVENTS_MAX: usize = 1_000;
/// Attempts to deliver one event.
pub const WEBHOOK_ATTEMPTS_MAX: u32 = 5;
/// Pause after the first failed attempt; it doubles after each.
pub const WEBHOOK_RETRY_FIRST: Duration = Duration::from_secs(1);
