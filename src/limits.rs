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
/// Largest request head, in bytes with the request line: browsers stay below 4 KiB.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1_024;
/// Header fields of one request: browsers send about 20, a proxy adds a few.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Longest request target, in bytes: room, names and a token fit many times.
pub const HTTP_TARGET_BYTES_MAX: usize = 8 * 1_024;
/// `name=value` pairs in one query: our routes read at most five.
pub const HTTP_QUERY_PAIRS_MAX: usize = 32;
/// Largest request body, in bytes: an offer of a browser with every codec is about 10 KiB.
pub const HTTP_BODY_BYTES_MAX: usize = 64 * 1_024;
/// Bytes kept of a peer that sends on while its request is answered: one whole request.
pub const HTTP_INPUT_BYTES_MAX: usize = HTTP_HEAD_BYTES_MAX + HTTP_BODY_BYTES_MAX;
/// Time for one whole request, head and body, however slowly it comes.
pub const HTTP_REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Time that control has to answer; then the session says 503, so that no connection is stuck.
pub const HTTP_RESPONSE_DEADLINE: Duration = Duration::from_secs(30);
/// Time that a connection may rest between two requests.
pub const HTTP_IDLE_MAX: Duration = Duration::from_secs(30);
/// Requests on one connection; the last answer says `Connection: close`.
pub const HTTP_REQUESTS_PER_CONNECTION_MAX: u32 = 100;
/// ICE candidates taken of one viewer: a machine with many interfaces gathers about 20.
pub const VIEWER_CANDIDATES_MAX: usize = 50;
/// Longest ICE candidate line, in bytes: usual ones are about 120.
pub const VIEWER_CANDIDATE_BYTES_MAX: usize = 512;
/// Largest WebSocket message and frame from a viewer, in bytes: an answer is about 10 KiB.
pub const WEBSOCKET_MESSAGE_BYTES_MAX: usize = 64 * 1_024;
/// Bytes waiting for a viewer that does not read; then it is closed with 1013.
pub const WEBSOCKET_OUTPUT_BYTES_MAX: usize = 256 * 1_024;
/// Messages a viewer may send at once: its answer and its candidates.
pub const WEBSOCKET_MESSAGE_BURST: u32 = 50;
/// Messages a second a viewer may send for long.
pub const WEBSOCKET_MESSAGES_PER_SECOND: u32 = 10;
/// Bytes a viewer may send at once, whatever they are: four of the largest messages.
pub const WEBSOCKET_BYTES_BURST: u32 = 256 * 1_024;
/// Bytes kept of a viewer while its messages wait to be read: the burst.
pub const WEBSOCKET_INPUT_BYTES_MAX: usize = 256 * 1_024;
/// Bytes a second a viewer may send for long.
pub const WEBSOCKET_BYTES_PER_SECOND: u32 = 32 * 1_024;
/// Time between two pings to a viewer.
pub const WEBSOCKET_PING_INTERVAL: Duration = Duration::from_secs(10);
/// Silence after which a viewer is dead: three pings.
pub const WEBSOCKET_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Time that a viewer has to answer our close frame.
pub const WEBSOCKET_CLOSE_WAIT: Duration = Duration::from_secs(3);
/// Characters kept of a viewer's name and of its label.
pub const VIEWER_NAME_CHARACTERS_MAX: usize = 64;
/// Characters of one line of chat.
pub const CHAT_CHARACTERS_MAX: usize = 2_000;

const _: () = assert!(HTTP_TARGET_BYTES_MAX < HTTP_HEAD_BYTES_MAX);
const _: () = assert!(WEBSOCKET_MESSAGE_BYTES_MAX < WEBSOCKET_OUTPUT_BYTES_MAX);

// -- transcoding (src/transcode) --

// -- control (src/control) --

// -- webhooks (src/webhook) --
