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

/// Streams of one transcode worker: about twice what a core does in real time, so that more could
/// only come late.
pub const TRANSCODE_STREAMS_MAX: usize = 256;
/// Largest AAC access unit, in bytes: 6,144 bits (14496-3 §4.5.3.1) for each of 8 channels.
pub const AAC_UNIT_BYTES_MAX: usize = 6_144;
/// Largest AudioSpecificConfig, in bytes: with a program config element and its longest comment.
pub const AAC_CONFIG_BYTES_MAX: usize = 512;
/// Units of a stream that fail to decode, with none before them that did not, until its viewers
/// are told: a second of sound.
pub const AAC_FAILURES_BEFORE_VERDICT: u64 = 50;
/// Distance between a unit's time and where the sound before it ends that still counts as jitter:
/// longer than one AAC frame at 44.1 kHz (23.2 ms), so that neither a publisher that rounds nor a
/// single lost frame tears the sound, and less than the 45 ms of early sound that people notice
/// (ITU-R BT.1359-1).
pub const AUDIO_JITTER_MAX: Duration = Duration::from_millis(40);
/// Longest gap that is filled with silence; after a longer one the timeline begins anew.
pub const AUDIO_GAP_MAX: Duration = Duration::from_secs(2);
/// Longest overlap that is left out; after a longer one the timeline begins anew.
pub const AUDIO_OVERLAP_MAX: Duration = Duration::from_secs(1);
/// Changes of a stream's format in a row: each makes a new decoder and resampler.
pub const AUDIO_FORMAT_CHANGES_MAX: u32 = 8;
/// Access units that earn a stream one more change of format: about five seconds.
pub const AUDIO_UNITS_PER_FORMAT_CHANGE: u32 = 256;

// -- control (src/control) --

// -- webhooks (src/webhook) --
