//! Publishers that do not wait for the answer to `publish` before they send (relays, client
//! libraries), and send their headers once.

use super::*;
use crate::limits::RTMP_MESSAGE_BYTES_MAX;

const VIDEO_HEADER: &[u8] = b"\x17\0\0\0\0one";
const OTHER_VIDEO_HEADER: &[u8] = b"\x17\0\0\0\0other";
const AUDIO_HEADER: &[u8] = b"\xaf\0\x11\x90";
const KEYFRAME: &[u8] = b"\x17\x01\0\0\0picture";

fn video(payload: &[u8]) -> Vec<u8> {
    Wire::new(6, VIDEO, 0, payload).bytes()
}

fn audio(payload: &[u8]) -> Vec<u8> {
    Wire::new(5, AUDIO, 0, payload).bytes()
}

/// What is given out after a request, once it is accepted, of what was sent before that.
fn given_out(peer: &mut Peer) -> Vec<&[u8]> {
    let requested = |event: &RtmpEvent| matches!(event, RtmpEvent::PublishRequested { .. });
    assert!(
        peer.events.last().is_some_and(requested),
        "{:?}",
        peer.events
    );
    peer.events.clear();
    peer.session.accept_publish(peer.now);
    peer.drain();
    let body = |event| match event {
        &RtmpEvent::Video { ref payload, .. } | &RtmpEvent::Audio { ref payload, .. } => {
            payload.as_ref()
        }
        RtmpEvent::Metadata(_) => &b"metadata"[..],
        RtmpEvent::PublishRequested { .. } | RtmpEvent::PublishFinished => &b"?"[..],
    };
    peer.events.iter().map(body).collect()
}

#[test]
fn all_in_one_go_the_headers_are_given_out_first_after_acceptance() {
    let go = [
        wire::handshake(),
        wire::connect("live"),
        wire::command("createStream", 4.0, &[]),
        wire::publish("room"),
        wire::metadata(),
        video(VIDEO_HEADER),
        audio(AUDIO_HEADER),
        video(KEYFRAME),
        audio(b"\xaf\x01sound"),
    ];
    for size in [1, 100, 100_000] {
        let mut peer = Peer::new();
        for part in go.concat().chunks(size) {
            peer.send(part);
        }
        let expected = [&b"metadata"[..], VIDEO_HEADER, AUDIO_HEADER];
        assert_eq!(given_out(&mut peer), expected);
        assert_eq!(peer.last_code().as_deref(), Some("NetStream.Publish.Start"));
        assert_eq!(peer.session.ignored_messages(), 2, "the picture and sound");
        peer.media(VIDEO, 40, KEYFRAME);
        assert_eq!(peer.events.len(), 4);
        assert_eq!(peer.close_reason(), None);
    }
}

#[test]
fn last_header_of_each_kind_counts_and_what_is_not_played_or_too_large_does_not() {
    let mut peer = Peer::requested("room");
    peer.send(&video(VIDEO_HEADER));
    peer.send(&audio(AUDIO_HEADER));
    peer.send(&video(OTHER_VIDEO_HEADER));
    // Multitrack, one track: number 1.
    peer.send(&video(b"\x95\x10hvc1\x01header"));
    peer.send(&audio(b"\x95\x10mp4a\x01\x11\x90"));
    let large = [VIDEO_HEADER, &vec![0; RTMP_MESSAGE_BYTES_MAX]].concat();
    peer.send(&video(&large));
    assert_eq!(given_out(&mut peer), [AUDIO_HEADER, OTHER_VIDEO_HEADER]);
    assert_eq!(peer.session.ignored_messages(), 4);
}

#[test]
fn headers_inside_an_aggregate_are_given_out() {
    let mut peer = Peer::requested("room");
    let length = u8::try_from(AUDIO_HEADER.len()).unwrap();
    let mut body = vec![AUDIO, 0, 0, length, 0, 0, 9, 0, 0, 0, 0];
    body.extend(AUDIO_HEADER);
    body.extend([0, 0, 0, 11 + length]);
    peer.media(message_type::AGGREGATE, 500, &body);
    assert_eq!(given_out(&mut peer), [AUDIO_HEADER]);
}

#[test]
fn headers_of_a_request_that_was_taken_back_are_not_those_of_the_next() {
    let mut peer = Peer::requested("room");
    peer.send(&video(VIDEO_HEADER));
    peer.command("deleteStream", &[Amf0Value::Number(1.0)]);
    peer.send(&audio(AUDIO_HEADER));
    peer.publish("room");
    assert_eq!(given_out(&mut peer), [] as [&[u8]; 0]);
}

#[test]
fn request_with_headers_still_notices_what_else_is_said() {
    let mut peer = Peer::requested("room");
    peer.send(&video(VIDEO_HEADER));
    let ping = Wire::new(2, message_type::USER_CONTROL, 0, &[0, 6, 1, 2, 3, 4]);
    peer.send(&ping.bytes());
    let answer = [[0, 7, 1, 2, 3, 4]];
    assert_eq!(peer.controls(message_type::USER_CONTROL), answer);
    peer.session.reject_publish(Rejection::Busy, peer.now);
    peer.drain();
    assert_eq!(peer.close_reason(), Some(CloseReason::Rejected));
    assert_eq!(peer.events.len(), 1, "only the request");
}
