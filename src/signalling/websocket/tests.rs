//! T-31, T-32, T-33, T-40 by hand: hostile frames, slow readers, foreign pages.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ids::RoomName;

#[expect(
    clippy::disallowed_methods,
    reason = "a test's clock begins with one reading and is then moved by hand"
)]
fn start() -> Instant {
    Instant::now()
}

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FIN: u8 = 0x80;
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A masked frame; `first` is its first byte.
#[expect(
    clippy::cast_possible_truncation,
    reason = "each arm holds lengths that fit"
)]
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    let mask = MASK.iter().cycle();
    bytes.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn text(payload: &str) -> Vec<u8> {
    frame(FIN | TEXT, payload.as_bytes())
}

fn chat(line: &str) -> Vec<u8> {
    text(&format!(r#"{{"type":"chat","data":"{line}"}}"#))
}

#[derive(Debug, Default, PartialEq)]
struct Seen {
    sent: Vec<u8>,
    messages: Vec<ClientMessage>,
    invalid: usize,
    closed: Option<u16>,
}

impl Seen {
    /// Our frames, as (first byte, payload). Ours are unmasked.
    fn frames(&self) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        let mut rest = self.sent.as_slice();
        while let [first, length, after @ ..] = rest {
            let (length, after) = match length {
                126 => (
                    usize::from(u16::from_be_bytes([after[0], after[1]])),
                    &after[2..],
                ),
                length => (usize::from(*length), after),
            };
            frames.push((*first, after[..length].to_vec()));
            rest = &after[length..];
        }
        frames
    }

    fn close_frame(&self) -> Option<u16> {
        let (_, payload) = self
            .frames()
            .into_iter()
            .find(|(first, _)| *first == FIN | CLOSE)?;
        Some(u16::from_be_bytes([payload[0], payload[1]]))
    }
}

fn drain(session: &mut WebSocketSession, seen: &mut Seen, now: Instant) -> Option<Instant> {
    loop {
        match session.poll_output(now) {
            WsOutput::Transmit(bytes) => seen.sent.extend_from_slice(&bytes),
            WsOutput::Message(message) => seen.messages.push(message),
            WsOutput::Invalid(_) => seen.invalid += 1,
            WsOutput::Close { code, .. } => {
                seen.closed = Some(code);
                return None;
            }
            WsOutput::Timeout(deadline) => return Some(deadline),
        }
    }
}

fn run(bytes: &[u8]) -> Seen {
    let now = start();
    let mut session = WebSocketSession::new(bytes, now);
    let mut seen = Seen::default();
    drain(&mut session, &mut seen, now);
    seen
}

#[test]
fn message_that_came_with_the_request_is_read() {
    let seen = run(&chat("hi"));
    assert_eq!(seen.messages, [ClientMessage::Chat("hi".into())]);
    assert_eq!(seen.closed, None);
}

#[test]
fn fragments_are_one_message_with_a_ping_answered_between() {
    let payload = br#"{"type":"chat","data":"hello"}"#;
    let (head, tail) = payload.split_at(9);
    let mut bytes = frame(TEXT, head);
    bytes.extend(frame(FIN | PING, b"now?"));
    bytes.extend(frame(FIN, tail));
    let seen = run(&bytes);
    assert_eq!(seen.messages, [ClientMessage::Chat("hello".into())]);
    assert_eq!(seen.frames(), [(FIN | PONG, b"now?".to_vec())]);
}

#[test]
fn message_of_ours_is_one_text_frame() {
    let now = start();
    let mut session = WebSocketSession::new(&[], now);
    let mut seen = Seen::default();
    let room = RoomName::parse("demo").unwrap();
    session.send(&ServerMessage::IsPublishing { live: true, room }, now);
    drain(&mut session, &mut seen, now);
    let expected = br#"{"type":"isPublishing","data":"true","fromClientID":"demo"}"#;
    assert_eq!(seen.frames(), [(FIN | TEXT, expected.to_vec())]);
}

#[test]
fn message_that_is_not_understood_is_told_and_the_session_goes_on() {
    let mut bytes = text("nonsense");
    bytes.extend(chat("still here"));
    let seen = run(&bytes);
    assert_eq!((seen.invalid, seen.messages.len()), (1, 1));
    assert_eq!(seen.closed, None);
}

/// T-31, and T-40 by hand.
#[expect(clippy::too_many_lines, reason = "a table, one vector a line")]
#[test]
fn hostile_frames_close_with_the_right_code() {
    let header = |bytes: &[u8]| bytes.to_vec();
    let mut length_63 = vec![FIN | TEXT, 0xff];
    length_63.extend((u64::MAX >> 1).to_be_bytes());
    length_63.extend(MASK);
    let mut length_31 = vec![FIN | TEXT, 0xff];
    length_31.extend((1_u64 << 31).to_be_bytes());
    length_31.extend(MASK);
    let two = |first: Vec<u8>, second: Vec<u8>| [first, second].concat();
    let half = vec![b'x'; 40 * 1_024];
    let vectors: Vec<(&str, u16, Vec<u8>)> = vec![
        ("length 2^63-1", 1009, length_63),
        ("length 2^31", 1009, length_31),
        ("64 KiB + 1", 1009, frame(FIN | TEXT, &vec![b'x'; 65_537])),
        (
            "64 KiB + 1 in fragments",
            1009,
            two(frame(TEXT, &half), frame(FIN, &half)),
        ),
        ("fragmented ping", 1002, frame(PING, b"")),
        ("fragmented close", 1002, frame(CLOSE, b"")),
        ("126 bytes of ping", 1002, frame(FIN | PING, &[0; 126])),
        ("126 bytes of close", 1002, frame(FIN | CLOSE, &[3; 126])),
        ("unmasked", 1002, header(&[FIN | TEXT, 1, b'x'])),
        ("RSV1", 1002, frame(FIN | 0x40 | TEXT, b"x")),
        ("RSV2", 1002, frame(FIN | 0x20 | TEXT, b"x")),
        ("RSV3", 1002, frame(FIN | 0x10 | PING, b"x")),
        ("opcode 3", 1002, frame(FIN | 0x3, b"x")),
        ("opcode 15", 1002, frame(FIN | 0xf, b"")),
        ("continuation of nothing", 1002, frame(FIN, b"x")),
        (
            "a new message within another",
            1002,
            two(frame(TEXT, b"x"), frame(FIN | TEXT, b"y")),
        ),
        ("one byte of close", 1002, frame(FIN | CLOSE, &[3])),
        (
            "close 1005",
            1002,
            frame(FIN | CLOSE, &1005_u16.to_be_bytes()),
        ),
        (
            "close 1006",
            1002,
            frame(FIN | CLOSE, &1006_u16.to_be_bytes()),
        ),
        ("close 0", 1002, frame(FIN | CLOSE, &0_u16.to_be_bytes())),
        (
            "close 999",
            1002,
            frame(FIN | CLOSE, &999_u16.to_be_bytes()),
        ),
        ("bad UTF-8", 1007, frame(FIN | TEXT, b"\xc0\xaf")),
        ("half a character", 1007, frame(FIN | TEXT, b"\xe2\x82")),
        ("a surrogate", 1007, frame(FIN | TEXT, b"\xed\xa0\x80")),
        (
            "bad UTF-8 over fragments",
            1007,
            two(frame(TEXT, b"\xe2"), frame(FIN, b"\x28\xa1")),
        ),
        (
            "bad UTF-8 in a close",
            1007,
            frame(FIN | CLOSE, b"\x03\xe8\xff"),
        ),
        ("binary", 1003, frame(FIN | BINARY, b"x")),
        (
            "binary in fragments",
            1003,
            two(frame(BINARY, b"x"), frame(FIN, b"y")),
        ),
    ];
    for (name, code, vector) in vectors {
        let mut bytes = vector.clone();
        bytes.extend(chat("never read"));
        let seen = run(&bytes);
        assert_eq!(seen.close_frame(), Some(code), "{name}");
        assert_eq!(seen.closed, Some(code), "{name}");
        assert!(seen.messages.is_empty(), "{name}");
    }
}

/// T-31: a million of them would be 6 MB.
#[test]
fn empty_continuation_frames_are_cut_off_by_their_bytes() {
    let now = start();
    let mut session = WebSocketSession::new(&frame(TEXT, b""), now);
    let mut seen = Seen::default();
    let thousand = frame(0, b"").repeat(1_000);
    for round in 0.. {
        assert!(round < 50, "not cut off");
        session.handle_input(&thousand, now);
        drain(&mut session, &mut seen, now);
        if seen.closed.is_some() {
            break;
        }
    }
    assert_eq!(seen.close_frame(), Some(close_code::POLICY));
}

#[test]
fn flood_of_messages_is_cut_off_and_the_allowed_rate_is_not() {
    let now = start();
    let seen = run(&chat("x").repeat(51));
    assert_eq!(seen.messages.len(), 50);
    assert_eq!(seen.closed, Some(close_code::POLICY));

    let mut session = WebSocketSession::new(&[], now);
    let mut seen = Seen::default();
    for tenth in 0..600 {
        let now = now + Duration::from_millis(100) * tenth;
        session.handle_timeout(now);
        session.handle_input(&chat("x"), now);
        drain(&mut session, &mut seen, now);
    }
    assert_eq!((seen.messages.len(), seen.closed), (600, None));
}

/// T-32.
#[test]
fn viewer_that_never_reads_is_closed_at_the_limit() {
    let now = start();
    let mut session = WebSocketSession::new(&[], now);
    let message = ServerMessage::Error {
        text: "x".repeat(1_000),
    };
    for _ in 0..10_000 {
        session.send(&message, now);
        assert!(session.pipe.outgoing.len() <= WEBSOCKET_OUTPUT_BYTES_MAX);
    }
    let mut seen = Seen::default();
    drain(&mut session, &mut seen, now);
    assert_eq!(seen.close_frame(), Some(close_code::TRY_AGAIN_LATER));
    assert_eq!(seen.closed, Some(close_code::TRY_AGAIN_LATER));
}

#[test]
fn what_the_socket_did_not_take_counts_as_unread() {
    let now = start();
    let mut session = WebSocketSession::new(&[], now);
    let mut seen = Seen::default();
    session.handle_backlog(WEBSOCKET_OUTPUT_BYTES_MAX);
    assert!(drain(&mut session, &mut seen, now).is_some());
    session.send(&ServerMessage::Error { text: "x".into() }, now);
    drain(&mut session, &mut seen, now);
    assert_eq!(seen.closed, Some(close_code::TRY_AGAIN_LATER));
}

#[test]
fn pings_keep_a_viewer_that_answers_and_end_one_that_does_not() {
    let began = start();
    let mut session = WebSocketSession::new(&[], began);
    let mut seen = Seen::default();
    let mut now = began;
    for _ in 0..12 {
        let deadline = drain(&mut session, &mut seen, now).unwrap();
        assert_eq!(deadline, now + WEBSOCKET_PING_INTERVAL);
        now = deadline;
        session.handle_timeout(now);
        drain(&mut session, &mut seen, now);
        session.handle_input(&frame(FIN | PONG, b""), now);
    }
    assert_eq!(seen.frames(), vec![(FIN | PING, Vec::new()); 12]);

    let silent_since = now;
    drain(&mut session, &mut seen, now);
    while let Some(deadline) = drain(&mut session, &mut seen, now) {
        assert!(deadline > now);
        now = deadline;
        session.handle_timeout(now);
    }
    assert_eq!(seen.closed, Some(close_code::ABNORMAL));
    assert_eq!(now - silent_since, WEBSOCKET_SILENCE_MAX);
}

#[test]
fn bytes_that_make_no_message_keep_nobody_alive() {
    let began = start();
    let mut session = WebSocketSession::new(&frame(TEXT, b"x"), began);
    let mut seen = Seen::default();
    for second in 1..=30 {
        let now = began + Duration::from_secs(1) * second;
        session.handle_input(&frame(0, b"x"), now);
        session.handle_timeout(now);
        drain(&mut session, &mut seen, now);
    }
    assert_eq!(seen.closed, Some(close_code::ABNORMAL));
}

#[test]
fn close_of_the_viewer_is_answered_with_its_code() {
    let seen = run(&frame(FIN | CLOSE, b"\x03\xe9bye"));
    assert_eq!(seen.frames(), [(FIN | CLOSE, b"\x03\xe9bye".to_vec())]);
    assert_eq!(seen.closed, Some(1001));
    let seen = run(&frame(FIN | CLOSE, b""));
    assert_eq!(seen.frames(), [(FIN | CLOSE, Vec::new())]);
    assert_eq!(seen.closed, Some(1000));
}

#[test]
fn close_of_ours_waits_for_the_viewers_and_reads_nothing_else() {
    let now = start();
    let mut session = WebSocketSession::new(&[], now);
    let mut seen = Seen::default();
    session.close(close_code::GOING_AWAY, "the server stops", now);
    session.send(&ServerMessage::Error { text: "x".into() }, now);
    session.handle_input(&chat("too late"), now);
    let deadline = drain(&mut session, &mut seen, now);
    assert_eq!(deadline, Some(now + WEBSOCKET_CLOSE_WAIT));
    assert_eq!(
        seen.frames(),
        [(FIN | CLOSE, b"\x03\xe9the server stops".to_vec())]
    );
    assert!(seen.messages.is_empty());

    let mut again = seen.sent.len();
    session.handle_input(&frame(FIN | CLOSE, &1001_u16.to_be_bytes()), now);
    drain(&mut session, &mut seen, now);
    assert_eq!(seen.closed, Some(1001));
    again -= seen.sent.len();
    assert_eq!(again, 0, "no second close frame");
}

#[test]
fn viewer_that_ignores_our_close_is_closed_all_the_same() {
    let now = start();
    let mut session = WebSocketSession::new(&[], now);
    let mut seen = Seen::default();
    session.close(close_code::NORMAL, "over", now);
    let deadline = drain(&mut session, &mut seen, now).unwrap();
    session.handle_timeout(deadline);
    drain(&mut session, &mut seen, deadline);
    assert_eq!(seen.closed, Some(1000));
    let after = session.poll_output(deadline);
    assert!(matches!(after, WsOutput::Timeout(_)), "{after:?}");
}

#[test]
fn long_reason_is_cut_between_characters() {
    let now = start();
    let mut session = WebSocketSession::new(&[], now);
    let mut seen = Seen::default();
    let reason = "ééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé";
    session.close(close_code::NORMAL, reason, now);
    drain(&mut session, &mut seen, now);
    let (_, payload) = seen.frames().remove(0);
    assert_eq!(payload.len(), 2 + 122);
    assert!(std::str::from_utf8(&payload[2..]).is_ok());
}

/// T-33.
#[test]
fn pages_of_other_hosts_may_not_open_a_websocket() {
    let ask = |origin: &str, host: &str| origin_allowed(Some(origin), Some(host), &[]);
    let host = "good.example";
    assert!(origin_allowed(None, Some(host), &[]));
    for (origin, host) in [
        ("https://good.example", host),
        ("http://GOOD.example", host),
        ("http://good.example:8889", "good.example:8889"),
        ("https://good.example", "good.example:443"),
        ("http://good.example", "good.example:80"),
        ("http://[::1]:8889", "[::1]:8889"),
    ] {
        assert!(ask(origin, host), "{origin} {host}");
    }
    for origin in [
        "https://evil.example",
        "null",
        "",
        "https://good.example.evil",
        "https://evil.good.example",
        "http://good.example:8889",
        "https://good.example:80",
        "http://good.example, http://good.example",
        "https://good.example/",
        "https://evil@good.example",
        "file://good.example",
        "http://",
    ] {
        assert!(!ask(origin, host), "{origin}");
    }
    assert!(!origin_allowed(Some("http://good.example"), None, &[]));
    let listed = ["https://shop.example".to_owned()];
    let shop = |origin| origin_allowed(Some(origin), Some(host), &listed);
    assert!(shop("https://shop.example"));
    assert!(!shop("http://shop.example"));
    assert!(origin_allowed(Some("null"), Some(host), &["*".to_owned()]));
}

#[test]
fn accept_key_is_that_of_the_rfc() {
    let upgrade = WebSocketUpgrade {
        key: "dGhlIHNhbXBsZSBub25jZQ==".into(),
    };
    let response = accept_response(&upgrade);
    assert_eq!(response.status, 101);
    assert_eq!(
        response.field("Sec-WebSocket-Accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-z]{0,200}".prop_map(|line| chat(&line)),
        2 => prop::collection::vec(any::<u8>(), 0..20).prop_map(|data| frame(FIN | PING, &data)),
        1 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(first, payload)| frame(first, &payload)),
        1 => "[a-z]{0,20}".prop_map(|part| frame(TEXT, part.as_bytes())),
        1 => Just(frame(FIN, b"x")),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn same_bytes_are_the_same_messages_however_they_are_split(
        pieces in prop::collection::vec(piece(), 1..8),
        cuts in prop::collection::vec(1_usize..30, 0..100),
    ) {
        let input = pieces.concat();
        let whole = run(&input);
        let now = start();
        let mut session = WebSocketSession::new(&[], now);
        let mut split = Seen::default();
        let mut rest = input.as_slice();
        for cut in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            session.handle_input(part, now);
            drain(&mut session, &mut split, now);
            rest = after;
        }
        session.handle_input(rest, now);
        drain(&mut session, &mut split, now);
        split.closed = split.closed.or(whole.closed.filter(|_| split.close_frame().is_some()));
        prop_assert_eq!(split, whole);
    }
}
