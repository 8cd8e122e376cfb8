//! Every bound in one place, each with its unit and its reason.

pub(crate) mod complaints;

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
/// Offers and answers handled in one turn of a core's loop: each costs up to 0.3 ms.
pub const JOINS_PER_TURN: usize = 4;
/// Datagrams of DTLS handled in one turn of a core's loop: each costs up to 0.4 ms.
pub const HANDSHAKE_DATAGRAMS_PER_TURN: usize = 8;
/// A turn whose media took so long allows the work of joining once more: half of that time.
pub const HANDSHAKE_TURN: Duration = Duration::from_millis(8);
/// The budgets above, at most so often in one turn: some 70 ms.
pub const HANDSHAKE_SHARES_MAX: usize = 16;
/// Datagrams of DTLS that wait for a turn: two of each of a thousand viewers, of at most 1.5 KiB.
pub const HANDSHAKE_DATAGRAMS_WAITING_MAX: usize = 2_048;
/// Viewers that catch up (after a join) served in one turn of a core's loop, each with about ten
/// packets: some 2 ms, after which those who watch are looked after again.
pub const BURSTS_PER_TURN: usize = 128;
/// The same in a turn after which viewers at the live edge still wait: a tenth of the core, so that
/// those who join come to an end.
pub const BURSTS_PER_BUSY_TURN: usize = 32;
/// Batches sent in one turn of a core's loop: some 4,000 packets or 5 ms, after which sockets and
/// mailboxes are looked at again.
pub const BATCHES_PER_TURN: usize = 8;
/// Viewers of one room served in a row while those of other rooms wait.
pub const VIEWERS_PER_ROOM_TURN: usize = 16;
/// A viewer that waited so long for its turn, because its core is busy, is not sent what it can do
/// without: pictures before a newer keyframe, and those that no other refers to.
pub const PICTURE_LATE_AFTER: Duration = Duration::from_millis(250);
/// A core whose viewers have waited all the time for so long has more to send than it can, and is not
/// just busy with a large keyframe, which can be caught up. Viewers that wait longer than
/// [`PICTURE_LATE_AFTER`] then go on at the next keyframe: some stand still for a second or so, where
/// else all would see ever older pictures.
pub const OVERLOADED_AFTER: Duration = Duration::from_secs(1);
/// Between two warnings that a core is overloaded.
pub const OVERLOAD_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Between two warnings that a page of another origin was refused.
pub const ORIGIN_WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// A turn of a core's loop longer than this is counted and logged.
pub const TURN_MAX: Duration = Duration::from_millis(20);
/// Files that must be allowed to be open for all of the connections below, and a thousand for what
/// else there is: loops, transcoders' pipes, files that are read.
pub const OPEN_FILES_NEEDED: u64 =
    (RTMP_CONNECTIONS_MAX + HTTP_CONNECTIONS_MAX + METRICS_CONNECTIONS_MAX + 1_024) as u64;
/// As far as the soft limit of open files is raised: more are of no use.
pub const OPEN_FILES_MAX: u64 = 16_384;
/// Connections that wait to be accepted, on each listener; the kernel caps them at
/// `net.core.somaxconn`, which is 4,096 (128 before Linux 5.4).
pub const LISTEN_BACKLOG: i32 = 4_096;
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
/// Bytes read from all publishers of a core in one turn, some 4 ms of work: what more of them there is
/// waits, and comes first in the next.
pub const RTMP_READ_BYTES_PER_TURN_IN_ALL: usize = 2 * 1_024 * 1_024;
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
/// Largest audio message, in bytes: a tag header before the largest packet; Enhanced RTMP's grow by a few
/// bytes with each modifier.
pub const RTMP_AUDIO_MESSAGE_BYTES_MAX: usize = AUDIO_UNIT_BYTES_MAX + 256;
/// Largest message of any other kind, and of every kind before a publish, in bytes.
pub const RTMP_MESSAGE_BYTES_MAX: usize = 64 * 1_024;
/// Largest sequence header that is kept of those that come before a publish is accepted, in bytes:
/// twice the largest record that is used. One of each kind is kept.
pub const RTMP_EARLY_BYTES_MAX: usize = 64 * 1_024;
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
/// How long nothing must have come of a publisher that sends ahead of the clock until what it sent is
/// acknowledged: in that time its close would have been seen.
pub const RTMP_LATE_ACK_AFTER: Duration = Duration::from_millis(500);
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

const _: () = assert!(OPEN_FILES_NEEDED <= OPEN_FILES_MAX);
const _: () = assert!(PICTURE_LATE_AFTER.as_nanos() < OVERLOADED_AFTER.as_nanos());
const _: () = assert!(RTMP_READ_BYTES_PER_TURN <= RTMP_READ_BYTES_PER_TURN_IN_ALL);
const _: () = assert!(RTMP_EARLY_BYTES_MAX <= RTMP_MESSAGE_BYTES_MAX);
const _: () = assert!(2 * RTMP_VIDEO_MESSAGE_BYTES_MAX <= RTMP_PARTIAL_BYTES_MAX);
const _: () = assert!(2 * RTMP_MESSAGE_BYTES_MAX <= RTMP_PARTIAL_BYTES_BEFORE_PUBLISH_MAX);
const _: () = assert!(RTMP_AUDIO_MESSAGE_BYTES_MAX <= RTMP_VIDEO_MESSAGE_BYTES_MAX);

// -- rooms (src/room) --

/// Frames kept of a room's track.
pub const RING_FRAMES_MAX: usize = 2_048;
/// Payload bytes kept of a room's track: 20 s at 6 Mbit/s.
pub const RING_BYTES_MAX: usize = 16 * 1_024 * 1_024;

// -- viewers (src/webrtc) --

/// Largest RTP payload, in bytes: with all that a packet has besides (`webrtc::track` adds it up) it
/// fits [`IP_PACKET_BYTES_MAX`].
pub const RTP_PAYLOAD_BYTES_MAX: usize = 1_180;
/// Largest IP packet with media, in bytes: what every link of IPv6 takes (RFC 8200 §5), and what tunnels
/// take as a rule. The socket has nothing fragmented: what is larger than the way takes never arrives,
/// however often it is sent again.
pub const IP_PACKET_BYTES_MAX: usize = 1_280;
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
/// Without a sign of the viewer for so long, media stops (RFC 7675 §5.1; `webrtc::paths` says what counts
/// as one).
pub const CONSENT_SILENT_AFTER: Duration = Duration::from_secs(15);
/// Without a sign of the viewer for so long, its session ends.
pub const CONSENT_LOST_AFTER: Duration = Duration::from_secs(30);

// -- HTTP, WHEP, WebSocket (src/signalling) --

/// Open HTTP connections, the whole server. Beyond, one that rests between two requests gives its
/// place to the newcomer; where none does, the newcomer is closed.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// Open HTTP connections from one address, with the same beyond. Behind a proxy all viewers share one.
pub const HTTP_CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;
/// Open connections to the metrics' own listener: a few collectors and people.
pub const METRICS_CONNECTIONS_MAX: usize = 64;
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
/// Lines of chat in a room at once: each goes to every WebSocket viewer of it.
pub const CHAT_LINES_BURST: u32 = 20;
/// Lines a second in a room for long: nobody reads faster.
pub const CHAT_LINES_PER_SECOND: u32 = 10;
/// Bytes of chat in a room at once, as JSON: eight of the longest lines, and a quarter of what may wait
/// for a viewer.
pub const CHAT_BYTES_BURST: u32 = 64 * 1_024;
/// Bytes of chat a second in a room for long: a tenth of a stream's picture.
pub const CHAT_BYTES_PER_SECOND: u32 = 32 * 1_024;
/// Lines of chat of one viewer at once.
pub const CHAT_SENDER_LINES_BURST: u32 = 5;
/// Lines a second of one viewer for long: a tenth of the room's.
pub const CHAT_SENDER_LINES_PER_SECOND: u32 = 1;

const _: () = assert!(HTTP_TARGET_BYTES_MAX < HTTP_HEAD_BYTES_MAX);
const _: () = assert!(WEBSOCKET_MESSAGE_BYTES_MAX < WEBSOCKET_OUTPUT_BYTES_MAX);
// Each character in four bytes, the name as well.
const _: () = assert!(
    4 * (CHAT_CHARACTERS_MAX + VIEWER_NAME_CHARACTERS_MAX) + 1_024 < CHAT_BYTES_BURST as usize
);
const _: () = assert!(CHAT_BYTES_BURST as usize * 4 <= WEBSOCKET_OUTPUT_BYTES_MAX);

// -- TLS (src/runtime/tls*.rs) --

/// Time for a TLS handshake on the HTTPS port; on the RTMPS port it is part of RTMP's deadlines.
pub const TLS_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes that a peer may send through TLS in a row without any data in them: a handshake with the
/// longest chains fits.
pub const TLS_BARREN_BYTES_MAX: usize = 64 * 1_024;
/// Plain bytes made into TLS records at a time: one record (RFC 8446 §5.1).
pub const TLS_RECORD_BYTES: usize = 16 * 1_024;
/// Largest file of certificates or of a key, in bytes: a chain is about 8 KiB.
pub const TLS_FILE_BYTES_MAX: u64 = 1_024 * 1_024;
/// Certificates in one chain; real ones have up to 4.
pub const TLS_CHAIN_MAX: usize = 16;
/// Time between two looks at whether the certificate's files changed.
pub const TLS_FILES_CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// Time after which files that could not be used are tried again, changed or not: what was mended may
/// be a folder on the way to them, or a group of the server's user.
pub const TLS_FILES_RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// A certificate that ends within this is worth a warning: renewals come at two thirds of 90 days.
pub const TLS_EXPIRY_WARNING: Duration = Duration::from_secs(14 * 86_400);
/// Time between two warnings of that, while nothing is done about it.
pub const TLS_EXPIRY_WARNING_INTERVAL: Duration = Duration::from_secs(86_400);

// -- transcoding (src/transcode) --

/// Streams of one transcode worker: about twice what a core does in real time, so that more could
/// only come late.
pub const TRANSCODE_STREAMS_MAX: usize = 256;
/// When sound that found too many others, or no ffmpeg, is tried again.
pub const AUDIO_RETRY_AFTER_REFUSAL: Duration = Duration::from_secs(10);
/// Largest audio packet, in bytes: a FLAC frame of 4,608 samples on 8 channels of 24 bits that cannot be
/// compressed, or two thirds of a second of PCM.
pub const AUDIO_UNIT_BYTES_MAX: usize = 128 * 1_024;
/// Largest AudioSpecificConfig, in bytes: with a program config element and its longest comment.
pub const AAC_CONFIG_BYTES_MAX: usize = 512;
/// Units of a stream that fail to decode, with none before them that did not, until its viewers
/// are told: a second of sound.
pub const AUDIO_FAILURES_BEFORE_VERDICT: u64 = 50;
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

// -- video to be transcoded, its core's side (src/engine) --

/// Pictures kept of a publish since its last keyframe, for a transcoder that begins: 17 s at 60 a
/// second. After more of them it waits for the next keyframe.
pub const GOP_FRAMES_MAX: usize = 1_024;
/// Bytes of them: 20 s at 6 Mbit/s.
pub const GOP_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// Longest time that a publish goes on after its publisher is done, for what is still on its way:
/// as far as a publisher may be ahead of the clock, and the time that a transcoder takes for its
/// last pictures.
pub const PUBLISH_TAIL_MAX: Duration = Duration::from_millis(1_500);
/// Shortest such time where somebody watches: the last pictures leave with the next turns.
pub const PUBLISH_TAIL_MIN: Duration = Duration::from_millis(100);
/// How long a transcoding goes on that nobody needs: who reloads a page finds it at work.
pub const TRANSCODE_LINGER: Duration = Duration::from_secs(10);
/// Shortest time between two keyframes that viewers of one stream ask a transcoder for: each
/// costs the picture's quality.
pub const TRANSCODE_KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two times that a core asks another to feed a room from its newest keyframe
/// again: many times what the question takes by way of control, and an answer is up to
/// [`RING_FRAMES_MAX`] messages.
pub const FEED_AGAIN_INTERVAL: Duration = Duration::from_millis(500);

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
/// A publisher of which no byte came for this long yields its room to another from its address:
/// live encoders send every few milliseconds, and one that comes back wants on.
pub const PUBLISHER_SILENT_AFTER: Duration = Duration::from_secs(1);
/// Time for a core to say what became of a publisher that was questioned.
pub const PUBLISHER_QUESTION_DEADLINE: Duration = Duration::from_secs(3);
/// Time for a core to make the SDP of a viewer; it takes milliseconds.
pub const VIEWER_SDP_DEADLINE: Duration = Duration::from_secs(5);
/// Viewers that the publisher's core carries more than the least loaded one before a room's
/// next viewer goes there: a room on two cores costs one message per frame, so it is worth it
/// only for a crowd.
pub const SPILL_VIEWERS: usize = 32;
/// From an accepted publish to its start event, so that the event says what is published: the
/// verdict on a stream is there a third of a second after its first frame.
pub const START_EVENT_WAIT: Duration = Duration::from_secs(2);
/// Outputs that may wait before they are done, and before more is read or taken that makes some.
pub const CONTROL_OUTPUTS_MAX: usize = 1_024;
/// Longest time between two looks at the clock when nothing is due.
pub const CONTROL_IDLE: Duration = Duration::from_secs(60);
/// Part of [`DRAIN_DEADLINE`] kept for what the cores say at the end of theirs.
pub const DRAIN_GRACE: Duration = Duration::from_secs(1);
/// After which a WHEP player may ask again when nobody publishes.
pub const RETRY_AFTER_OFFLINE: Duration = Duration::from_secs(3);
/// After which a viewer may ask again when the server is full or stops.
pub const RETRY_AFTER_FULL: Duration = Duration::from_secs(5);

const _: () = assert!(PUBLISHER_SILENT_AFTER.as_nanos() < PUBLISHER_QUESTION_DEADLINE.as_nanos());
const _: () = assert!(PUBLISHER_QUESTION_DEADLINE.as_nanos() < RTMP_SETUP_DEADLINE.as_nanos());
const _: () = assert!(VIEWERS_PENDING_PER_ADDRESS_MAX < VIEWERS_PENDING_MAX);
const _: () = assert!(VIEWERS_PENDING_MAX < VIEWERS_MAX);
const _: () = assert!(DRAIN_GRACE.as_nanos() < DRAIN_DEADLINE.as_nanos());

// -- webhooks (src/webhook) --

/// Events that wait for the webhook, in events of about 1 KiB; beyond, the oldest is lost.
pub const WEBHOOK_OUTBOX_EVENTS_MAX: usize = 1_000;
/// The webhook thread's mailbox, in events, which it empties between two attempts of up to 10 s: the
/// end of each publish and the start of the next, should all encoders reconnect.
pub const WEBHOOK_MAILBOX_EVENTS: usize = 2 * RTMP_CONNECTIONS_MAX;
/// Time that an event is tried for, so that a receiver may be away over a weekend: who bills by
/// events wants each of them.
pub const WEBHOOK_KEPT_FOR: Duration = Duration::from_secs(3 * 86_400);
/// Pause after the first failed attempt; it doubles after each.
pub const WEBHOOK_RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest such pause: how late events are at most after the receiver is back.
pub const WEBHOOK_RETRY_MAX: Duration = Duration::from_secs(60);

// -- video transcoding (src/transcode/video) --

/// The video transcoder's mailbox, in messages, half of it for frames: the cached frames of one
/// stream, and 200 ms of many others.
pub const VIDEO_MAILBOX_MESSAGES: usize = 8_192;
/// Largest decoder configuration record, in bytes: parameter sets have less than 64 KiB together.
pub const VIDEO_RECORD_BYTES_MAX: usize = 128 * 1_024;
/// Largest FLV tag that a child may write, in bytes: the largest picture that a publisher may send.
pub const VIDEO_TAG_BYTES_MAX: usize = RTMP_VIDEO_MESSAGE_BYTES_MAX;
/// Bytes that wait for a child to read them: a long group of cached pictures at a high bitrate.
pub const VIDEO_INPUT_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Longest time that a live frame waits for a child to read it; then all that wait are left out
/// up to a keyframe.
pub const VIDEO_INPUT_AGE_MAX: Duration = Duration::from_secs(2);
/// Frames in a child of which the output is awaited: 16 reordered pictures, and 2 s that wait.
pub const VIDEO_PENDING_FRAMES_MAX: usize = 1_024;
/// Shortest time between two keyframes that viewers ask for: each costs several frames' bits.
pub const VIDEO_KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(500);
/// A child that takes frames and gives none for this long hangs, from its first one on: while it
/// loads its libraries and decodes the cached frames, it computes, and is spared.
pub const VIDEO_HANG_AFTER: Duration = Duration::from_secs(1);
/// The same before the first frame of an encoder in hardware: a driver may sleep while it wakes the
/// card.
pub const VIDEO_HANG_AFTER_OPENING: Duration = Duration::from_secs(3);
/// Longest time that a child which began in the middle of a stream leaves out frames that come
/// meanwhile; on a machine that is too slow for the stream it would never catch up.
pub const VIDEO_CATCH_UP_MAX: Duration = Duration::from_millis(1_500);
/// A silent child that still computes is spared this long at a time: on a busy machine a restart
/// would make it only later.
pub const VIDEO_HANG_SPARE: Duration = Duration::from_millis(250);
/// Longest time that a silent child is spared in all.
pub const VIDEO_HANG_SPARE_MAX: Duration = Duration::from_secs(4);
/// Time added to it before the first frame, for each that is only decoded.
pub const VIDEO_HANG_SPARE_PER_CACHED: Duration = Duration::from_millis(10);
/// Frames that a child must have taken in silence before it is said to hang: more than any codec
/// reorders (14496-10 §A.3.1 h: 16 frames).
pub const VIDEO_HANG_FRAMES: u32 = 20;
/// Restarts of a stream's child within [`VIDEO_RESTART_WINDOW`] before it is given up.
pub const VIDEO_RESTARTS_MAX: usize = 5;
/// See [`VIDEO_RESTARTS_MAX`].
pub const VIDEO_RESTART_WINDOW: Duration = Duration::from_secs(60);
/// Children that may be started for a publish at once, for whatever reason.
pub const VIDEO_STARTS_MAX: u32 = 8;
/// One more may be started after each such time.
pub const VIDEO_START_INTERVAL: Duration = Duration::from_secs(5);
/// When a stream that was given up may be tried again.
pub const VIDEO_RETRY_AFTER_FAILURES: Duration = Duration::from_secs(60);
/// When a stream that found too many others, or no ffmpeg, or has had too many children of late, may be
/// tried again.
pub const VIDEO_RETRY_AFTER_REFUSAL: Duration = Duration::from_secs(10);
/// Bytes kept of the last that a child wrote to its standard error, for the log.
pub const VIDEO_STDERR_BYTES_MAX: usize = 2_048;
/// Bytes read from one child in one turn, so that none starves the others.
pub const VIDEO_READ_BYTES_PER_TURN: usize = 256 * 1_024;
/// Memory that a child may reserve, in bytes: 1080p takes about 130 MB of it in use, but ffmpeg's
/// threads reserve address space without using it.
pub const VIDEO_CHILD_MEMORY_BYTES_MAX: u64 = 4 * 1_024 * 1_024 * 1_024;
/// CPU time that a child may use without giving a picture; renewed while it gives some.
pub const VIDEO_CHILD_CPU_ALLOWANCE: Duration = Duration::from_secs(60);
/// Threads of each kind in a child, where there are as many CPUs: each reserves memory, and more
/// make a picture no sooner.
pub const VIDEO_CHILD_THREADS_MAX: usize = 8;
/// Files that a child may have open: its three pipes, and its libraries while they load.
pub const VIDEO_CHILD_FILES_MAX: u64 = 64;
/// How much a child gives way to others (`nice(2)`): the server's own loops come first.
pub const VIDEO_CHILD_NICENESS: i32 = 5;

const _: () = assert!(VIDEO_TAG_BYTES_MAX < VIDEO_INPUT_BYTES_MAX);
