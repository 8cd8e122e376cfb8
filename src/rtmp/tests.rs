//! The session against a byte builder of our own and against rml_rtmp's client; T-02 to T-15 of
//! the whole session, with a virtual clock.

mod early;
mod hostile;
mod peer;
mod rml;
mod seeds;
pub(crate) mod wire;

use std::time::Duration;

use proptest::prelude::*;

use self::peer::{Peer, Reply};
use self::wire::{Wire, text};
use super::amf0::Amf0Value;
use super::chunk::message_type;
use super::{CloseReason, CodecName, Rejection, RtmpError, RtmpEvent};

const AUDIO: u8 = message_type::AUDIO;
const VIDEO: u8 = message_type::VIDEO;

fn names(peer: &Peer) -> (String, String, String) {
    let found = peer.events.iter().rev().find_map(|event| match event {
        RtmpEvent::PublishRequested {
            app, key, query, ..
        } => Some((
            app.clone(),
            key.expose().to_owned(),
            query.expose().to_owned(),
        )),
        RtmpEvent::Video { .. }
        | RtmpEvent::Audio { .. }
        | RtmpEvent::Metadata(_)
        | RtmpEvent::PublishFinished => None,
    });
    found.expect("no publish was asked for")
}

#[test]
fn connect_is_answered_with_windows_chunk_size_and_success_in_amf0() {
    let peer = Peer::connected("live");
    let window = 2_500_000_u32.to_be_bytes();
    assert_eq!(peer.controls(message_type::WINDOW_ACK_SIZE), [window]);
    let bandwidth = [&window[..], &[2]].concat();
    assert_eq!(peer.controls(message_type::SET_PEER_BANDWIDTH), [bandwidth]);
    assert_eq!(
        peer.last_code().as_deref(),
        Some("NetConnection.Connect.Success")
    );
    let Some(Reply::Command {
        transaction,
        values,
        ..
    }) = peer.replies.last()
    else {
        panic!("no answer");
    };
    assert_eq!(*transaction, 1.0);
    let encoding = values[1].property("objectEncoding");
    assert_eq!(encoding, Some(&Amf0Value::Number(0.0)));
    assert!(values[0].property("fmsVer").is_some());
    let flags = |map, name| values[0].property(map)?.property(name)?.as_number();
    assert_eq!(flags("videoFourCcInfoMap", "hvc1"), Some(1.0));
    assert_eq!(flags("audioFourCcInfoMap", "Opus"), Some(1.0));
    assert_eq!(peer.close_reason(), None);
}

#[test]
fn obs_dialogue_leads_to_media() {
    let mut peer = Peer::connected("live");
    peer.send(&wire::command("releaseStream", 2.0, &[text("room")]));
    peer.send(&wire::command("FCPublish", 3.0, &[text("room")]));
    assert!(peer.last_values("onFCPublish").is_some());
    peer.send(&wire::command("createStream", 4.0, &[]));
    let result = peer.last_values("_result").unwrap();
    assert_eq!(result, [Amf0Value::Null, Amf0Value::Number(1.0)]);
    peer.send(&wire::command("_checkbw", 5.0, &[]));
    peer.publish("room?token=secret");
    assert_eq!(
        names(&peer),
        ("live".into(), "room".into(), "token=secret".into())
    );
    peer.session.accept_publish(peer.now);
    peer.drain();
    assert_eq!(peer.last_code().as_deref(), Some("NetStream.Publish.Start"));
    assert_eq!(
        peer.controls(message_type::USER_CONTROL),
        [[0, 0, 0, 0, 0, 1]]
    );
    peer.send(&wire::metadata());
    peer.media(VIDEO, 40, b"\x17video");
    peer.media(AUDIO, 41, b"\xafaudio");
    let [
        RtmpEvent::Metadata(metadata),
        RtmpEvent::Video {
            timestamp_ms: 40,
            payload: video,
        },
        RtmpEvent::Audio {
            timestamp_ms: 41,
            payload: audio,
        },
    ] = &peer.events[1..]
    else {
        panic!("{:?}", peer.events);
    };
    assert_eq!(metadata.width, Some(1280.0));
    assert_eq!(metadata.videocodecid, Some(CodecName::Number(7.0)));
    assert_eq!(
        (&video[..], &audio[..]),
        (&b"\x17video"[..], &b"\xafaudio"[..])
    );
}

#[test]
fn publish_ends_once_however_often_it_is_said_and_another_may_follow() {
    let mut peer = Peer::publishing();
    peer.media(VIDEO, 0, b"a");
    peer.events.clear();
    peer.command("FCUnpublish", &[text("room")]);
    assert!(peer.last_values("onFCUnpublish").is_some());
    peer.command("deleteStream", &[Amf0Value::Number(1.0)]);
    peer.send(&wire::command("closeStream", 0.0, &[]));
    assert!(matches!(peer.events[..], [RtmpEvent::PublishFinished]));
    peer.media(VIDEO, 40, b"b");
    assert_eq!((peer.events.len(), peer.session.ignored_messages()), (1, 1));
    peer.command("createStream", &[]);
    let id = peer.last_values("_result").unwrap();
    assert_eq!(id[1], Amf0Value::Number(2.0));
    peer.publish("other");
    assert_eq!(names(&peer).1, "other");
    peer.session.accept_publish(peer.now);
    peer.drain();
    peer.media(VIDEO, 80, b"c");
    assert!(matches!(peer.events.last(), Some(RtmpEvent::Video { .. })));
    assert_eq!(peer.close_reason(), None);
}

#[test]
fn each_way_of_ending_a_publish_is_understood() {
    for (name, arguments) in [
        ("FCUnpublish", vec![text("room")]),
        ("deleteStream", vec![Amf0Value::Number(1.0)]),
        ("deleteStream", vec![]),
        ("closeStream", vec![]),
    ] {
        let mut peer = Peer::publishing();
        peer.command(name, &arguments);
        let last = peer.events.last();
        assert!(matches!(last, Some(RtmpEvent::PublishFinished)), "{name}");
    }
    let mut peer = Peer::publishing();
    peer.command("deleteStream", &[Amf0Value::Number(2.0)]);
    let last = peer.events.last();
    assert!(!matches!(last, Some(RtmpEvent::PublishFinished)));
}

#[test]
fn request_that_is_taken_back_is_over_and_a_late_acceptance_does_nothing() {
    let mut peer = Peer::requested("room");
    peer.command("deleteStream", &[Amf0Value::Number(1.0)]);
    assert!(matches!(
        peer.events.last(),
        Some(RtmpEvent::PublishFinished)
    ));
    let replies = peer.replies.len();
    peer.session.accept_publish(peer.now);
    peer.session.reject_publish(Rejection::Busy, peer.now);
    peer.drain();
    assert_eq!(peer.replies.len(), replies);
    assert_eq!(peer.close_reason(), None);
}

#[test]
fn media_before_acceptance_is_counted_and_not_given_out() {
    let mut peer = Peer::requested("room");
    peer.events.clear();
    peer.media(VIDEO, 0, &[0; 100_000]);
    peer.media(AUDIO, 0, b"a");
    peer.media(message_type::DATA_AMF0, 0, b"?");
    assert!(peer.events.is_empty());
    assert_eq!(peer.session.ignored_messages(), 3);
    assert_eq!(peer.close_reason(), None);
    peer.session.accept_publish(peer.now);
    peer.drain();
    peer.media(VIDEO, 0, b"v");
    assert_eq!(peer.events.len(), 1);
}

#[test]
fn second_publish_of_a_connection_is_refused_and_the_first_goes_on() {
    let mut peer = Peer::publishing();
    peer.publish("other");
    assert_eq!(
        peer.last_code().as_deref(),
        Some("NetStream.Publish.BadName")
    );
    peer.media(VIDEO, 0, b"v");
    assert!(matches!(peer.events.last(), Some(RtmpEvent::Video { .. })));
    assert_eq!(peer.close_reason(), None);
}

#[test]
fn rejections_have_codes_that_encoders_know_and_say_what_to_do() {
    for (why, code) in [
        (Rejection::Busy, "NetStream.Publish.BadName"),
        (Rejection::BadName, "NetStream.Publish.BadName"),
        (Rejection::Denied, "NetStream.Publish.Denied"),
        (Rejection::Stopping, "NetStream.Publish.Rejected"),
        (Rejection::Full, "NetStream.Publish.Rejected"),
    ] {
        let mut peer = Peer::requested("room");
        peer.session.reject_publish(why, peer.now);
        peer.drain();
        assert_eq!(peer.last_code().as_deref(), Some(code));
        let status = peer.last_values("onStatus").unwrap();
        assert_eq!(status[1].property("level"), Some(&text("error")));
        assert!(status[1].property("description").unwrap() != &text(""));
        assert_eq!(peer.close_reason(), Some(CloseReason::Rejected));
    }
}

#[test]
fn notice_is_a_status_of_the_publish_and_of_nothing_else() {
    let mut peer = Peer::requested("room");
    peer.replies.clear();
    peer.session.notify("NetStream.Publish.Notice", "too early");
    peer.drain();
    assert_eq!(peer.replies, []);
    let mut peer = Peer::publishing();
    peer.session.notify("NetStream.Publish.Notice", "B-frames");
    peer.drain();
    let status = peer.last_values("onStatus").unwrap();
    assert_eq!(status[1].property("level"), Some(&text("status")));
    assert_eq!(status[1].property("description"), Some(&text("B-frames")));
    peer.media(VIDEO, 0, b"v");
    assert!(matches!(peer.events.last(), Some(RtmpEvent::Video { .. })));
}

#[test]
fn publisher_that_is_not_read_is_not_idle() {
    let mut peer = Peer::publishing();
    peer.media(VIDEO, 0, b"v");
    for _ in 0..4 {
        let later = peer.now + Duration::from_secs(5);
        peer.session.keep_alive(later);
        peer.wait(Duration::from_secs(5));
    }
    assert_eq!(peer.close_reason(), None);
    peer.wait(Duration::from_secs(11));
    assert_eq!(peer.close_reason(), Some(CloseReason::Idle));
}

#[test]
fn play_is_refused_with_a_way_out() {
    let mut peer = Peer::connected("live");
    peer.command("createStream", &[]);
    peer.command("play", &[text("room")]);
    assert_eq!(peer.last_code().as_deref(), Some("NetStream.Play.Failed"));
    assert_eq!(peer.close_reason(), Some(CloseReason::Rejected));
}

#[test]
fn closing_is_announced_as_fits_the_state() {
    let close = |mut peer: Peer| {
        peer.replies.clear();
        peer.session.close(peer.now);
        peer.session.close(peer.now);
        peer.drain();
        assert_eq!(peer.close_reason(), Some(CloseReason::Closed));
        peer.last_code()
    };
    assert_eq!(close(Peer::new()), None);
    let code = close(Peer::connected("live"));
    assert_eq!(code.as_deref(), Some("NetConnection.Connect.Closed"));
    let code = close(Peer::publishing());
    assert_eq!(code.as_deref(), Some("NetStream.Unpublish.Success"));
}

#[test]
fn end_of_the_connection_is_told_apart_from_its_break() {
    for (error, reason) in [(false, CloseReason::PeerClosed), (true, CloseReason::Reset)] {
        let mut peer = Peer::publishing();
        peer.session.handle_eof(error, peer.now);
        peer.session.handle_eof(error, peer.now);
        peer.drain();
        peer.media(VIDEO, 0, b"late");
        assert_eq!(peer.close_reason(), Some(reason));
        assert_eq!(peer.events.len(), 1);
    }
}

#[test]
fn connect_keeps_what_the_encoder_said_and_hides_secrets() {
    let mut peer = Peer::connected("live");
    peer.command("createStream", &[]);
    peer.publish("hush?token=hush");
    let Some(RtmpEvent::PublishRequested { info, .. }) = peer.events.last() else {
        panic!("no request");
    };
    assert_eq!(info.flash_ver, "FMLE/3.0 (compatible; FMSc/1.0)");
    assert_eq!(info.four_cc_list, ["av01", "hvc1"]);
    assert_eq!(info.tc_url.expose(), "rtmp://localhost/live");
    let printed = format!("{:?}", peer.events);
    assert!(!printed.contains("hush") && !printed.contains("localhost"));
}

#[test]
fn amf3_commands_and_data_are_read_as_amf0() {
    let mut peer = Peer::connected("live");
    let command = |prefix: &[u8], type_id, body: &[u8]| {
        let body = [prefix, body].concat();
        Wire::new(3, type_id, 0, &body).bytes()
    };
    let create = super::amf0::encode(&[
        text("createStream"),
        Amf0Value::Number(2.0),
        Amf0Value::Null,
    ]);
    peer.send(&command(&[0], message_type::COMMAND_AMF3, &create));
    let id = peer.last_values("_result").unwrap();
    assert_eq!(id[1], Amf0Value::Number(1.0));
    peer.send(&command(&[], message_type::COMMAND_AMF3, &create));
    let id = peer.last_values("_result").unwrap();
    assert_eq!(id[1], Amf0Value::Number(2.0));
    peer.publish("room");
    peer.session.accept_publish(peer.now);
    peer.drain();
    let object = Amf0Value::Object(vec![("width".into(), Amf0Value::Number(8.0))]);
    let data = super::amf0::encode(&[text("onMetaData"), object]);
    peer.send(&command(&[0], message_type::DATA_AMF3, &data));
    assert!(matches!(peer.events.last(), Some(RtmpEvent::Metadata(_))));
}

#[test]
fn command_may_lack_everything_behind_its_name() {
    let mut peer = Peer::connected("live");
    peer.send(&wire::command_bytes(
        &super::amf0::encode(&[text("releaseStream")]),
        0,
    ));
    assert_eq!(peer.close_reason(), None);
    peer.send(&wire::command_bytes(
        &super::amf0::encode(&[text("publish")]),
        1,
    ));
    assert_eq!(
        peer.last_code().as_deref(),
        Some("NetStream.Publish.BadName")
    );
    assert_eq!(peer.close_reason(), Some(CloseReason::Rejected));
}

#[test]
fn stream_length_is_zero_and_unknown_calls_are_answered() {
    let mut peer = Peer::connected("live");
    peer.command("getStreamLength", &[text("room")]);
    let values = peer.last_values("_result").unwrap();
    assert_eq!(values[1], Amf0Value::Number(0.0));
    let replies = peer.replies.len();
    peer.command("whatIsThis", &[]);
    assert_eq!(peer.replies.len(), replies + 1);
    peer.send(&wire::command("whatIsThis", 0.0, &[]));
    peer.send(&wire::command("_result", 9.0, &[]));
    assert_eq!(peer.replies.len(), replies + 1);
}

#[test]
fn ping_is_answered_with_its_own_time() {
    let mut peer = Peer::connected("live");
    let ping = Wire::new(2, message_type::USER_CONTROL, 0, &[0, 6, 1, 2, 3, 4]);
    peer.send(&ping.bytes());
    let short = Wire::new(2, message_type::USER_CONTROL, 0, &[0, 6, 1]);
    peer.send(&short.bytes());
    assert_eq!(
        peer.controls(message_type::USER_CONTROL),
        [[0, 7, 1, 2, 3, 4]]
    );
    assert_eq!(peer.close_reason(), None);
}

#[test]
fn aggregate_is_given_out_message_by_message() {
    let mut peer = Peer::publishing();
    peer.events.clear();
    let mut body = vec![AUDIO, 0, 0, 1, 0, 0, 9, 0, 0, 0, 0, b'a', 0, 0, 0, 12];
    body.extend([VIDEO, 0, 0, 1, 0, 0, 29, 0, 0, 0, 0, b'v', 0, 0, 0, 12]);
    body.extend([99, 0, 0, 1, 0, 0, 30, 0, 0, 0, 0, b'?', 0, 0, 0, 12]);
    peer.media(message_type::AGGREGATE, 500, &body);
    assert_eq!(
        peer.event_texts(),
        [
            "Audio { timestamp_ms: 500, payload: b\"a\" }",
            "Video { timestamp_ms: 520, payload: b\"v\" }",
        ]
    );
}

#[test]
fn malformed_data_is_counted_and_the_publish_goes_on() {
    let mut peer = Peer::publishing();
    peer.events.clear();
    peer.media(message_type::DATA_AMF0, 0, &[0x0a, 0xff, 0xff, 0xff, 0xff]);
    peer.media(message_type::DATA_AMF0, 0, &[]);
    peer.media(77, 0, b"?");
    peer.media(VIDEO, 0, b"");
    assert_eq!(peer.session.ignored_messages(), 4);
    assert!(peer.events.is_empty());
    assert_eq!(peer.close_reason(), None);
}

/// A publish's bytes before and after its acceptance.
fn dialogue() -> (Vec<u8>, Vec<u8>) {
    let setup = [
        wire::handshake(),
        wire::connect("live"),
        wire::command("releaseStream", 2.0, &[text("room")]),
        wire::command("createStream", 3.0, &[]),
        wire::publish("room?t=1"),
    ];
    let mut media = wire::metadata();
    let video = Wire::new(6, VIDEO, 40, &[7; 700]).chunks();
    let audio = Wire::new(5, AUDIO, 0x0100_0000, &[8; 300]).chunks();
    let mut audio = audio.into_iter();
    for chunk in video {
        media.extend(chunk);
        media.extend(audio.next().unwrap_or_default());
    }
    media.extend(wire::control(message_type::WINDOW_ACK_SIZE, 0));
    media.extend(wire::command("FCUnpublish", 4.0, &[text("room")]));
    (setup.concat(), media)
}

fn run(cuts: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> (Vec<String>, Vec<Reply>) {
    let (setup, media) = dialogue();
    let mut peer = Peer::new();
    for part in cuts(&setup) {
        peer.send(&part);
    }
    peer.session.accept_publish(peer.now);
    peer.drain();
    for part in cuts(&media) {
        peer.send(&part);
    }
    assert_eq!(peer.close_reason(), None);
    (peer.event_texts(), peer.replies)
}

#[test]
fn t02_one_byte_at_a_time_gives_the_same_events_and_answers() {
    let whole = run(|bytes| vec![bytes.to_vec()]);
    assert_eq!(whole.0.len(), 5);
    assert_eq!(
        run(|bytes| bytes.chunks(1).map(<[u8]>::to_vec).collect()),
        whole
    );
}

#[test]
fn t02_every_split_in_two_gives_the_same_events_and_answers() {
    let whole = run(|bytes| vec![bytes.to_vec()]);
    let (setup, media) = dialogue();
    // Inside C1 and C2 every 97th will do: a split there only waits for more.
    let handshake = (0..3_073).step_by(97);
    for cut in handshake.chain(3_060..setup.len().max(media.len())) {
        let split = run(|bytes| {
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            vec![a.to_vec(), b.to_vec()]
        });
        assert_eq!(split, whole, "split at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn t02_random_splits_give_the_same_events_and_answers(sizes in prop::collection::vec(1_usize..900, 1..40)) {
        let whole = run(|bytes| vec![bytes.to_vec()]);
        let split = run(|bytes| {
            let mut parts = Vec::new();
            let mut rest = bytes;
            for &size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, after) = rest.split_at(size.min(rest.len()));
                parts.push(part.to_vec());
                rest = after;
            }
            parts
        });
        prop_assert_eq!(split, whole);
    }
}

#[test]
fn acknowledgements_count_what_came_after_the_handshake() {
    let mut peer = Peer::publishing();
    peer.send(&wire::control(message_type::WINDOW_ACK_SIZE, 65_536));
    let before = [
        wire::connect("live"),
        wire::command("createStream", 4.0, &[]),
        wire::publish("room"),
        wire::control(message_type::WINDOW_ACK_SIZE, 65_536),
    ];
    let video = Wire::new(4, VIDEO, 0, &[1; 60_000]).bytes();
    peer.send(&video);
    let total = u32::try_from(before.concat().len() + video.len()).unwrap();
    assert_eq!(
        peer.controls(message_type::ACKNOWLEDGEMENT),
        [total.to_be_bytes()]
    );
}

/// What is written to a publisher that has closed costs the rest of what it sent.
#[test]
fn publisher_that_is_ahead_is_acknowledged_only_when_it_waits() {
    let mut peer = Peer::publishing();
    peer.send(&wire::control(message_type::WINDOW_ACK_SIZE, 65_536));
    peer.session.acknowledge_late();
    for time in [0, 40] {
        peer.media(VIDEO, time, &[1; 60_000]);
        peer.wait(Duration::from_millis(400));
    }
    assert_eq!(peer.controls(message_type::ACKNOWLEDGEMENT).len(), 0);
    peer.wait(Duration::from_millis(200));
    assert_eq!(peer.controls(message_type::ACKNOWLEDGEMENT).len(), 1);
    peer.wait(Duration::from_secs(5));
    assert_eq!(peer.controls(message_type::ACKNOWLEDGEMENT).len(), 1);
}

#[test]
fn publish_finished_restarts_the_setup_deadline() {
    let mut peer = Peer::publishing();
    peer.media(VIDEO, 0, b"v");
    peer.command("FCUnpublish", &[text("room")]);
    peer.wait(Duration::from_millis(9_900));
    assert_eq!(peer.close_reason(), None);
    peer.wait(Duration::from_millis(200));
    assert_eq!(peer.close_reason(), Some(CloseReason::SetupTimeout));
}

#[test]
fn errors_say_whose_fault_and_have_a_word_for_metrics() {
    let error = RtmpError::Version(b'G');
    assert_eq!(CloseReason::Protocol(error).reason(), "version");
    assert!(error.to_string().contains("0x47"));
}
