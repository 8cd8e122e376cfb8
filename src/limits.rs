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
/// A publisher's handshake (C0, C1, C2) takes at most this long.
pub const RTMP_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// From accept to an accepted publish, absolute: slow senders hold no connection longer.
pub const RTMP_SETUP_DEADLINE: Duration = Duration::from_secs(10);
/// From an accepted publish to its first audio or video: encoders may start slowly.
pub const RTMP_FIRST_MEDIA_DEADLINE: Duration = Duration::from_secs(20);
/// A publisher of which no byte comes for this long is gone.
pub const RTMP_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest video message, in bytes: an uncommonly large keyframe is 4 MiB.
pub const RTMP_VIDEO_MESSAGE_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// Largest message of any other kind, and of every kind before a publish, in bytes.
pub const RTMP_MESSAGE_BYTES_MAX: usize = 64 * 1_024;
/// Memory for incomplete messages of one connection, in bytes: two of the largest.
pub const RTMP_PARTIAL_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// The same before a publish is asked for: two of the largest then.
pub const RTMP_PARTIAL_BYTES_BEFORE_PUBLISH_MAX: usize = 128 * 1_024;
/// Distinct chunk stream ids of one connection; real encoders use up to 8, some beyond id 63.
pub const RTMP_CHUNK_STREAMS_MAX: usize = 64;
/// Chunk size that we send with, in bytes: every answer fits in one chunk.
pub const RTMP_CHUNK_SIZE_OUT: u32 = 4_096;
/// Window of acknowledgements that we ask for, and assume until told another, in bytes.
pub const RTMP_ACK_WINDOW_BYTES: u32 = 2_500_000;
/// Smallest window that a publisher can make us acknowledge in, in bytes.
pub const RTMP_ACK_WINDOW_BYTES_MIN: u32 = 64 * 1_024;
/// Largest such window, in bytes.
pub const RTMP_ACK_WINDOW_BYTES_MAX: u32 = 16 * 1_024 * 1_024;
/// Nesting of AMF0 objects and arrays; encoders nest up to 3.
pub const AMF0_DEPTH_MAX: usize = 32;
/// AMF0 values in one message, nested ones counted.
pub const AMF0_VALUES_MAX: usize = 4_096;
/// Longest application name and longest stream key, in bytes.
pub const RTMP_NAME_BYTES_MAX: usize = 256;
/// Longest query behind a name, in bytes: a large signed token fits.
pub const RTMP_QUERY_BYTES_MAX: usize = 4_096;
/// Commands of one connection before its first publish is accepted; encoders send up to 10.
pub const RTMP_COMMANDS_BEFORE_PUBLISH_MAX: u32 = 32;
/// Commands a second after that, and how many may come at once.
pub const RTMP_COMMANDS_PER_SECOND_MAX: u32 = 10;
/// Message streams open at once on one connection; encoders open 1.
pub const RTMP_MESSAGE_STREAMS_MAX: usize = 8;
/// Outputs waiting to be pulled: more messages than any real stream has in one read.
pub const RTMP_OUTPUTS_MAX: usize = 8_192;

const _: () = assert!(2 * RTMP_VIDEO_MESSAGE_BYTES_MAX <= RTMP_PARTIAL_BYTES_MAX);
const _: () = assert!(2 * RTMP_MESSAGE_BYTES_MAX <= RTMP_PARTIAL_BYTES_BEFORE_PUBLISH_MAX);

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

// -- webhooks (src/webhook) --
