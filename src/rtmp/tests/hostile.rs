//! T-03 to T-15 of the whole session: what a stranger can do to it.

use std::time::Duration;

use proptest::prelude::*;

use super::peer::Peer;
use super::wire::{self, Wire, text};
use crate::rtmp::amf0::{Amf0Error, Amf0Value};
use crate::rtmp::chunk::{ChunkError, message_type};
use crate::rtmp::{CloseReason, RtmpError, RtmpEvent};

const VIDEO: u8 = message_type::VIDEO;

fn protocol(peer: &Peer) -> RtmpError {
    match peer.close_reason() {
        Some(CloseReason::Protocol(error)) => error,
        other => panic!("closed for another reason: {other:?}"),
    }
}

#[test]
fn t03_length_change_inside_a_message_closes() {
    let mut peer = Peer::publishing();
    let first = Wire::new(4, VIDEO, 0, &[0; 200]).chunks().remove(0);
    peer.send(&first);
    peer.send(&Wire::new(4, VIDEO, 0, &[0; 50]).bytes());
    let error = RtmpError::Chunk(ChunkError::HeaderInsideMessage);
    assert_eq!(protocol(&peer), error);
    assert_eq!(error.reason(), "chunk_header");
    assert_eq!(peer.session.buffered_bytes(), 0);
}

#[test]
fn t04_huge_length_before_publish_closes_at_the_header() {
    let mut peer = Peer::new();
    peer.send(&wire::handshake());
    peer.send(&Wire::new(3, 20, 0, b"").header(16_777_215));
    assert_eq!(protocol(&peer).reason(), "message_length");
    assert_eq!(peer.session.buffered_bytes(), 0);
}

#[test]
fn t06_chunk_size_zero_closes() {
    for size in [0, 0x8000_0000] {
        let mut peer = Peer::connected("live");
        peer.send(&wire::control(message_type::SET_CHUNK_SIZE, size));
        assert_eq!(
            protocol(&peer),
            RtmpError::Chunk(ChunkError::ChunkSize(size))
        );
    }
}

/// `connect` with an argument of strict arrays in each other.
fn deep_connect(depth: usize) -> Vec<u8> {
    let mut body = crate::rtmp::amf0::encode(&[
        text("connect"),
        Amf0Value::Number(1.0),
        Amf0Value::Object(vec![]),
    ]);
    for _ in 0..depth {
        body.extend([0x0a, 0, 0, 0, 1]);
    }
    body.push(5);
    wire::command_bytes(&body, 0)
}

#[test]
fn t07_deep_connect_closes_and_a_shallow_one_does_not() {
    let connect = |depth| {
        let mut peer = Peer::new();
        peer.send(&wire::handshake());
        peer.send(&deep_connect(depth));
        peer
    };
    assert_eq!(connect(31).close_reason(), None);
    for depth in [33, 1_000, 13_000] {
        let error = RtmpError::Amf0(Amf0Error::TooDeep);
        assert_eq!(protocol(&connect(depth)), error);
    }
}

#[test]
fn t08_counts_that_lie_close() {
    for body in [
        &[2, 0, 1, b'x', 0x0a, 0xff, 0xff, 0xff, 0xff, 5, 5, 5][..],
        &[2, 0, 1, b'x', 3, 0xff, 0xff, b'a', b'b'],
        &[2, 0xff, 0xff, b'a'],
        &[5; 60_000],
    ] {
        let mut peer = Peer::connected("live");
        peer.send(&wire::command_bytes(body, 0));
        assert_eq!(protocol(&peer).reason(), "amf0");
    }
    let mut peer = Peer::connected("live");
    peer.send(&wire::command_bytes(&[5, 5], 0));
    assert_eq!(protocol(&peer), RtmpError::Nameless);
}

#[test]
fn t09_any_window_gives_at_most_one_acknowledgement_per_read() {
    for window in [0, 1, 1 << 31, u32::MAX] {
        let mut peer = Peer::publishing();
        peer.send(&wire::control(message_type::WINDOW_ACK_SIZE, window));
        peer.replies.clear();
        let chunk_size = 0x00ff_ffff;
        peer.send(&wire::control(message_type::SET_CHUNK_SIZE, chunk_size));
        let video = Wire::new(4, VIDEO, 0, &vec![1; 1_000_000])
            .chunk_size(usize::try_from(chunk_size).unwrap())
            .bytes();
        for reads in 1..=100 {
            peer.send(&video);
            let sent = peer.controls(message_type::ACKNOWLEDGEMENT).len();
            assert!(sent <= reads, "{sent} acknowledgements of {reads} reads");
            assert!(reads < 10 || sent > 0);
            peer.events.clear();
        }
        assert_eq!(peer.close_reason(), None);
    }
}

#[test]
fn t11_slow_handshake_is_closed_at_its_deadline() {
    let mut peer = Peer::new();
    for byte in wire::handshake().chunks(1).take(4) {
        peer.send(byte);
        peer.wait(Duration::from_secs(1));
    }
    assert_eq!(peer.close_reason(), None);
    peer.wait(Duration::from_millis(900));
    assert_eq!(peer.close_reason(), None);
    peer.wait(Duration::from_millis(100));
    assert_eq!(peer.close_reason(), Some(CloseReason::SetupTimeout));
}

#[test]
fn t11_slow_setup_is_closed_at_an_absolute_deadline() {
    let mut peer = Peer::new();
    peer.wait(Duration::from_secs(4));
    peer.send(&wire::handshake());
    let mut bytes = wire::connect("live").into_iter();
    for _ in 0..5 {
        peer.send(&[bytes.next().unwrap()]);
        peer.wait(Duration::from_secs(1));
    }
    peer.wait(Duration::from_millis(900));
    assert_eq!(peer.close_reason(), None);
    peer.wait(Duration::from_millis(100));
    assert_eq!(peer.close_reason(), Some(CloseReason::SetupTimeout));
}

#[test]
fn t11_request_that_nobody_answers_is_closed_at_the_same_deadline() {
    let mut peer = Peer::requested("room");
    peer.wait(Duration::from_millis(9_900));
    assert_eq!(peer.close_reason(), None);
    peer.wait(Duration::from_millis(100));
    assert_eq!(peer.close_reason(), Some(CloseReason::SetupTimeout));
}

#[test]
fn t12_silent_connection_is_closed_after_five_seconds() {
    let mut peer = Peer::new();
    peer.wait(Duration::from_millis(4_900));
    assert_eq!(peer.close_reason(), None);
    peer.wait(Duration::from_millis(100));
    assert_eq!(peer.close_reason(), Some(CloseReason::SetupTimeout));
}

#[test]
fn t13_publisher_that_falls_silent_is_closed_after_ten_seconds() {
    let mut peer = Peer::publishing();
    for _ in 0..3 {
        peer.media(VIDEO, 0, b"v");
        peer.wait(Duration::from_millis(9_900));
        assert_eq!(peer.close_reason(), None);
    }
    // Any byte is a sign of life.
    peer.send(&[0x04]);
    peer.wait(Duration::from_millis(9_900));
    assert_eq!(peer.close_reason(), None);
    peer.wait(Duration::from_millis(100));
    assert_eq!(peer.close_reason(), Some(CloseReason::Idle));
}

#[test]
fn publish_without_media_is_closed_after_twenty_seconds() {
    let mut peer = Peer::publishing();
    peer.wait(Duration::from_secs(10));
    peer.send(&wire::metadata());
    peer.wait(Duration::from_millis(9_900));
    assert_eq!(peer.close_reason(), None);
    peer.wait(Duration::from_millis(100));
    assert_eq!(peer.close_reason(), Some(CloseReason::Idle));
}

#[test]
fn t14_other_protocols_are_closed_at_their_first_byte() {
    let tls = [0x16, 3, 1, 2, 0, 1, 0];
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-x\r\n",
        &[6; 100],
        &tls,
    ] {
        let mut peer = Peer::new();
        peer.send(bytes);
        assert_eq!(protocol(&peer), RtmpError::Version(bytes[0]));
        assert!(peer.transmitted.is_empty());
    }
}

#[test]
fn t15_illegal_names_are_refused_with_bad_name_and_never_logged() {
    let long = "k".repeat(60_000);
    for name in ["a\r\nb: c", "\u{1b}[2J", "a\0b", &long, "\u{9b}31m"] {
        let mut peer = Peer::connected("live");
        peer.publish(name);
        assert_eq!(
            peer.last_code().as_deref(),
            Some("NetStream.Publish.BadName")
        );
        assert_eq!(peer.close_reason(), Some(CloseReason::Rejected));
        assert!(peer.events.is_empty());
    }
    let mut peer = Peer::connected("live\r\n");
    peer.publish("room");
    assert_eq!(peer.close_reason(), Some(CloseReason::Rejected));
    // Judging the rest is control's: it must come through as it is.
    for name in ["../x", "a b", "\u{202e}x"] {
        let peer = Peer::requested(name);
        let last = peer.events.last();
        assert!(matches!(last, Some(RtmpEvent::PublishRequested { .. })));
    }
}

#[test]
fn t15_missing_key_is_refused_with_what_to_do() {
    let mut peer = Peer::connected("live");
    peer.publish("");
    let status = peer.last_values("onStatus").unwrap();
    let description = status[1].property("description").unwrap();
    assert!(description.as_str().unwrap().contains("stream key"));
}

#[test]
fn commands_are_limited_before_and_after_publish() {
    let mut peer = Peer::connected("live");
    for _ in 0..31 {
        peer.command("_checkbw", &[]);
    }
    assert_eq!(peer.close_reason(), None);
    peer.command("_checkbw", &[]);
    assert_eq!(protocol(&peer), RtmpError::TooManyCommands);

    let mut peer = Peer::publishing();
    for _ in 0..30 {
        peer.media(VIDEO, 0, b"v");
        peer.command("_checkbw", &[]);
        peer.wait(Duration::from_millis(100));
    }
    assert_eq!(peer.close_reason(), None);
    for _ in 0..12 {
        peer.command("_checkbw", &[]);
    }
    assert_eq!(protocol(&peer), RtmpError::TooManyCommands);
}

#[test]
fn pings_count_as_commands() {
    let mut peer = Peer::publishing();
    let ping = Wire::new(2, message_type::USER_CONTROL, 0, &[0, 6, 0, 0, 0, 1]).bytes();
    peer.send(&ping.repeat(1_000));
    assert_eq!(protocol(&peer), RtmpError::TooManyCommands);
}

#[test]
fn ninth_message_stream_closes() {
    let mut peer = Peer::connected("live");
    for _ in 0..8 {
        peer.command("createStream", &[]);
    }
    assert_eq!(peer.close_reason(), None);
    peer.command("deleteStream", &[Amf0Value::Number(3.0)]);
    peer.command("createStream", &[]);
    assert_eq!(peer.close_reason(), None);
    peer.command("createStream", &[]);
    assert_eq!(protocol(&peer), RtmpError::TooManyStreams);
}

#[test]
fn commands_out_of_order_close() {
    for name in ["createStream", "publish", "play", "whatIsThis"] {
        let mut peer = Peer::new();
        peer.send(&wire::handshake());
        peer.command(name, &[]);
        assert_eq!(protocol(&peer), RtmpError::NotConnected, "{name}");
    }
    let mut peer = Peer::connected("live");
    peer.send(&wire::connect("live"));
    assert_eq!(protocol(&peer), RtmpError::ConnectedTwice);
}

#[test]
fn flood_of_tiny_messages_in_one_read_closes_and_stays_bounded() {
    let mut peer = Peer::publishing();
    let mut bytes = Wire::new(4, VIDEO, 0, b"v").bytes();
    bytes.extend([0xc4, b'v'].repeat(100_000));
    peer.session.handle_input(&bytes, peer.now);
    peer.drain();
    assert_eq!(protocol(&peer), RtmpError::TooManyMessages);
    assert!(peer.events.len() <= 8_300);

    // The same inside an aggregate.
    let mut peer = Peer::publishing();
    let sub = [VIDEO, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'v', 0, 0, 0, 12];
    let body = sub.repeat(20_000);
    peer.send(&Wire::new(4, message_type::AGGREGATE, 0, &body).bytes());
    assert_eq!(protocol(&peer), RtmpError::TooManyMessages);
    assert!(peer.events.len() <= 8_300);
}

#[test]
fn bytes_after_the_close_do_nothing() {
    let mut peer = Peer::new();
    peer.send(b"GET /");
    let transmitted = peer.transmitted.len();
    peer.send(&wire::handshake());
    peer.session.accept_publish(peer.now);
    peer.session.close(peer.now);
    peer.session.handle_eof(true, peer.now);
    peer.drain();
    peer.wait(Duration::from_secs(60));
    assert_eq!(peer.transmitted.len(), transmitted);
    assert_eq!(protocol(&peer), RtmpError::Version(b'G'));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mutated_dialogues_never_panic_and_close_at_most_once(
        edits in prop::collection::vec((3_073_usize..6_000, any::<u8>()), 1..6),
        cut in 1_usize..2_000,
    ) {
        let (setup, media) = super::dialogue();
        let border = setup.len();
        let mut bytes = [setup, media].concat();
        for (at, value) in edits {
            let at = at.min(bytes.len() - 1);
            bytes[at] = value;
        }
        let mut peer = Peer::new();
        for part in bytes[..border].chunks(cut) {
            peer.send(part);
        }
        peer.session.accept_publish(peer.now);
        peer.drain();
        for part in bytes[border..].chunks(cut) {
            peer.send(part);
        }
        peer.session.close(peer.now);
        peer.drain();
        prop_assert!(peer.close_reason().is_some());
    }
}
