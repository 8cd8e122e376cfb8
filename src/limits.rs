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
/// Offers and answers taken in one turn of a core's loop: each costs up to 0.3 ms.
pub const JOINS_PER_TURN: usize = 4;
/// Datagrams of DTLS handled in one turn of a core's loop: each costs up to 0.4 ms.
pub const HANDSHAKE_DATAGRAMS_PER_TURN: usize = 8;
/// A turn whose media took so long allows the work of joining once more: half of that time.
pub const HANDSHAKE_TURN: Duration = Duration::from_millis(8);
/// The budgets above, at most so often in one turn: some 70 ms.
pub const HANDSHAKE_SHARES_MAX: usize = 16;
/// Datagrams of DTLS that wait for a turn: two of each of a thousand viewers, of at most 1.5 KiB.
pub const HANDSHAKE_DATAGRAMS_WAITING_MAX: usize = 2_048;
/// A turn of a core's loop longer than this is counted and logged.
pub const TURN_MAX: Duration = Duration::from_millis(20);
/// Time that open sessions get to close politely when the server stops.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

// -- RTMP (src/rtmp) --

/// Open RTMP connections, the whole server: those that publish, and a thousand that only pretend to
/// until their handshake's deadline.
pub const RTMP_CONNECTIONS_MAX: usize = 2_000;
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
/// Viewers that the publisher's core carries more than the least loaded one before a room's
/// next viewer goes there: a room on two cores costs one message per frame, so it is worth it
/// only for a crowd.
pub const SPILL_VIEWERS: usize = 32;
/// Longest time between two looks at the clock when nothing is due.
pub const CONTROL_IDLE: Duration = Duration::from_secs(60);
/// Part of [`DRAIN_DEADLINE`] kept for what the cores say at the end of theirs.
pub const DRAIN_GRACE: Duration = Duration::from_secs(1);
/// After which a WHEP player may ask again when nobody publishes.
pub const RETRY_AFTER_OFFLINE: Duration = Duration::from_secs(3);
/// After which a viewer may ask again when the server is full or stops.
pub const RETRY_AFTER_FULL: Duration = Duration::from_secs(5);

const _: () = assert!(VIEWERS_PENDING_PER_ADDRESS_MAX < VIEWERS_PENDING_MAX);
const _: () = assert!(VIEWERS_PENDING_MAX < VIEWERS_MAX);
const _: () = assert!(DRAIN_GRACE.as_nanos() < DRAIN_DEADLINE.as_nanos());

// -- webhooks (src/webhook) --

/// Events that wait for the webhook, in events of about 1 KiB.
pub const WEBHOOK_OUTBOX_EVENTS_MAX: usize = 1_000;
/// Attempts to deliver one event.
pub const WEBHOOK_ATTEMPTS_MAX: u32 = 5;
/// Pause after the first failed attempt; it doubles after each.
pub const WEBHOOK_RETRY_FIRST: Duration = Duration::from_secs(1);
