//! Publishers: acceptance, placement, links, events.

use std::sync::Arc;

use super::*;
use crate::limits::{PUBLISHER_QUESTION_DEADLINE, START_EVENT_WAIT};
use crate::media::verdict::{Figures, Severity, Spread, Verdict, VerdictItem};

#[test]
fn a_publisher_of_a_free_room_is_accepted_on_its_core() {
    let mut rig = Rig::new(2);
    let publish = rig.publish("cam");
    assert_eq!(publish.links, []);
    assert_eq!(rig.control.rooms()[0].room, name("cam"));
    assert!(rig.control.rooms()[0].live);
    assert_eq!(rig.control.counters().publishes.get(), 1);
    assert_eq!(rig.control.counters().rooms_live.get(), 1);
}

#[test]
fn a_second_publisher_is_busy_and_the_first_untouched() {
    let mut rig = Rig::new(2);
    let first = rig.publish("cam");
    let (_, second, outputs) = rig.request_publish("cam");
    assert_eq!(questioned(&outputs), [first.publisher]);
    let publisher = first.publisher;
    let outputs = rig.tell(ControlMsg::PublisherAlive { publisher });
    assert_eq!(rejection(&outputs), Some(PublishRejection::Busy));
    assert!(to_core(&outputs, first.core).is_empty());
    let outputs = rig.tell(ControlMsg::PublishEnded {
        publisher: second,
        reason: PublishEnd::Rejected,
    });
    assert!(outputs.is_empty(), "{outputs:?}");
    assert!(rig.control.rooms()[0].live);
}

/// Publishers whose cores are asked whether they still send.
fn questioned(outputs: &[ControlOutput]) -> Vec<PublisherId> {
    let question = |output: &ControlOutput| match output {
        ControlOutput::Core {
            message: CoreMsg::QuestionPublisher { publisher, .. },
            ..
        } => Some(*publisher),
        _ => None,
    };
    outputs.iter().filter_map(question).collect()
}

#[test]
fn a_silent_publisher_yields_its_room_to_another_of_its_address() {
    let mut rig = Rig::new(2);
    let first = rig.publish("cam");
    let (_, second, outputs) = rig.request_publish("cam");
    assert_eq!(questioned(&outputs), [first.publisher]);
    assert!(accepted(&outputs).is_none());
    let mut outputs = rig.tell(ControlMsg::PublishEnded {
        publisher: first.publisher,
        reason: PublishEnd::Idle,
    });
    outputs.extend(rig.wait(START_EVENT_WAIT));
    let taken = accepted(&outputs).unwrap();
    assert_eq!(taken.publisher, second);
    assert!(taken.epoch > first.epoch);
    let kinds: Vec<_> = events(&outputs).iter().map(|event| &event.kind).collect();
    assert!(
        matches!(
            kinds[..],
            [
                EventKind::StreamStarted { .. },
                EventKind::StreamEnded { reason: "idle", .. },
                EventKind::StreamStarted { .. }
            ]
        ),
        "{kinds:?}"
    );
}

#[test]
fn a_publisher_of_another_address_is_busy_at_once() {
    let mut rig = Rig::new(2);
    rig.publish("cam");
    let stranger: SocketAddr = "192.0.2.99:5000".parse().unwrap();
    let (core, publisher) = rig.control.place_publisher(stranger).unwrap();
    let outputs = rig.request_publish_on(core, publisher, "cam");
    assert_eq!(rejection(&outputs), Some(PublishRejection::Busy));
    assert!(questioned(&outputs).is_empty());
}

#[test]
fn a_publisher_that_is_done_yields_its_room_to_anybody_at_once() {
    let mut rig = Rig::new(2);
    let first = rig.publish("cam");
    let publisher = first.publisher;
    rig.tell(ControlMsg::PublishEnding { publisher });
    assert!(rig.control.rooms()[0].live, "it is still shown");
    let stranger: SocketAddr = "192.0.2.99:5000".parse().unwrap();
    let (core, second) = rig.control.place_publisher(stranger).unwrap();
    let outputs = rig.request_publish_on(core, second, "cam");
    assert_eq!(questioned(&outputs), [publisher]);
    let reason = PublishEnd::Finished;
    let outputs = rig.tell(ControlMsg::PublishEnded { publisher, reason });
    assert_eq!(accepted(&outputs).unwrap().publisher, second);
}

#[test]
fn only_one_publisher_waits_for_a_room_and_not_for_ever() {
    let mut rig = Rig::new(1);
    let first = rig.publish("cam");
    let (_, second, outputs) = rig.request_publish("cam");
    assert_eq!(questioned(&outputs), [first.publisher]);
    let (_, _, outputs) = rig.request_publish("cam");
    assert_eq!(rejection(&outputs), Some(PublishRejection::Busy));
    let outputs = rig.wait(PUBLISHER_QUESTION_DEADLINE);
    assert_eq!(rejection(&outputs), Some(PublishRejection::Busy));
    // The one that waited may go; the next one may wait.
    let reason = PublishEnd::Rejected;
    rig.tell(ControlMsg::PublishEnded {
        publisher: second,
        reason,
    });
    let (_, third, outputs) = rig.request_publish("cam");
    assert_eq!(questioned(&outputs), [first.publisher]);
    let reason = PublishEnd::Finished;
    let gone = ControlMsg::PublishEnded {
        publisher: third,
        reason,
    };
    assert!(rig.tell(gone).is_empty());
    assert!(
        accepted(&rig.end(&first)).is_none(),
        "it went away meanwhile"
    );
}

#[test]
fn an_illegal_key_is_refused_and_shown_nowhere() {
    let mut rig = Rig::new(1);
    for key in ["", "a/b", "KEYSECRET?", "../x", "a b", &"x".repeat(129)] {
        let (_, _, outputs) = rig.request_publish(key);
        assert_eq!(rejection(&outputs), Some(PublishRejection::BadName));
        let shown = format!("{outputs:?}");
        assert!(!shown.contains("SECRET"), "{shown}");
    }
    assert!(rig.control.rooms().is_empty());
    assert_eq!(rig.control.counters().publish_bad_name.get(), 6);
}

#[test]
fn the_query_of_a_key_is_shown_nowhere() {
    let mut rig = Rig::new(1);
    let (_, _, outputs) = rig.request_publish("cam");
    let shown = format!("{outputs:?} {:?}", rig.control);
    assert!(!shown.contains("QUERYSECRET"));
}

#[test]
fn a_room_that_was_left_can_be_published_again_with_a_greater_epoch() {
    let mut rig = Rig::new(1);
    let first = rig.publish("cam");
    rig.end(&first);
    assert!(rig.control.rooms().is_empty(), "the room was not freed");
    let second = rig.publish("cam");
    assert!(second.epoch > first.epoch);
    let other = rig.publish("other");
    assert!(other.epoch > second.epoch, "epochs are the process's");
}

#[test]
fn publishers_of_two_rooms_sit_on_two_cores() {
    let mut rig = Rig::new(2);
    let (a, b) = (rig.publish("a"), rig.publish("b"));
    assert_ne!(a.core, b.core);
    assert_ne!(a.room, b.room);
}

#[test]
fn one_connection_publishes_once() {
    let mut rig = Rig::new(1);
    let publish = rig.publish("cam");
    let outputs = rig.request_publish_on(publish.core, publish.publisher, "other");
    assert_eq!(rejection(&outputs), Some(PublishRejection::Busy));
    assert_eq!(rig.room_names(), ["cam"]);
}

#[test]
fn requests_of_unknown_connections_are_closed() {
    let mut rig = Rig::new(2);
    let (core, publisher) = rig.control.place_publisher(peer()).unwrap();
    let other = CoreId(1 - core.0);
    for (core, publisher) in [(core, PublisherId(99)), (other, publisher)] {
        let outputs = rig.request_publish_on(core, publisher, "cam");
        let told = to_core(&outputs, core);
        assert!(
            matches!(told[..], [CoreMsg::ClosePublisher { .. }]),
            "{outputs:?}"
        );
    }
    assert!(rig.control.rooms().is_empty());
}

#[test]
fn connections_of_one_address_are_limited_and_those_of_another_are_not() {
    let mut rig = Rig::new(2);
    let mut placed = Vec::new();
    while let Ok((_, publisher)) = rig.control.place_publisher(peer()) {
        placed.push(publisher);
        assert!(placed.len() <= RTMP_CONNECTIONS_PER_ADDRESS_MAX);
    }
    assert_eq!(placed.len(), RTMP_CONNECTIONS_PER_ADDRESS_MAX);
    let refused = rig.control.place_publisher(peer()).unwrap_err();
    assert_eq!(refused, NoPlace::AddressFull);
    let text = refused.to_string();
    assert!(text.contains("64") && text.contains("address"), "{text}");
    assert_eq!(rig.control.counters().publish_address.get(), 2);
    let mapped = "[::ffff:198.51.100.7]:1".parse().unwrap();
    assert!(
        rig.control.place_publisher(mapped).is_err(),
        "the same in IPv6"
    );
    assert!(
        rig.control
            .place_publisher("198.51.100.8:1".parse().unwrap())
            .is_ok()
    );
    rig.control.publisher_lost(placed[0], rig.now);
    assert!(rig.control.place_publisher(peer()).is_ok());
}

#[test]
fn addresses_of_one_ipv6_network_count_as_one() {
    let mut rig = Rig::new(1);
    for host in 0..RTMP_CONNECTIONS_PER_ADDRESS_MAX {
        let peer = format!("[2001:db8::{host:x}]:1").parse().unwrap();
        assert!(rig.control.place_publisher(peer).is_ok());
    }
    assert!(
        rig.control
            .place_publisher("[2001:db8::ffff]:1".parse().unwrap())
            .is_err()
    );
    assert!(
        rig.control
            .place_publisher("[2001:db8:0:1::1]:1".parse().unwrap())
            .is_ok()
    );
}

#[test]
fn start_and_end_events_name_one_session_and_have_their_own_ids() {
    let mut rig = Rig::new(1);
    let (_, publisher, outputs) = rig.request_publish("cam");
    assert!(events(&outputs).is_empty(), "before anything is known");
    let begun = rig.control.timebase.wall(rig.now);
    let outputs = rig.wait(Duration::from_secs(3));
    let start = events(&outputs)[0].clone();
    let stream = serde_json::Value::Null;
    assert_eq!(start.kind, EventKind::StreamStarted { stream });
    assert_eq!((&start.room, start.at), (&name("cam"), begun));
    assert!(events(&rig.wait(Duration::ZERO)).is_empty(), "once");
    let outputs = rig.tell(ControlMsg::PublishEnded {
        publisher,
        reason: PublishEnd::Reset,
    });
    let [end] = events(&outputs)[..] else {
        panic!("{outputs:?}")
    };
    let duration = Duration::from_secs(3);
    let reason = "reset";
    assert_eq!(end.kind, EventKind::StreamEnded { reason, duration });
    assert_eq!((&end.session, end.epoch), (&start.session, start.epoch));
    assert_ne!(end.id, start.id);
    assert_ne!(end.session, end.id);
    assert_eq!(end.at, start.at + duration);
    assert_eq!(end.session.len(), 22);
}

fn judged(publish: &Publish) -> ControlMsg {
    let item = VerdictItem {
        code: "b_frames",
        severity: Severity::Warning,
        text: "The video has B-frames".into(),
        obs: "B-frames 0".into(),
        ffmpeg: String::new(),
        logged: false,
    };
    let keyframe_interval_ms = Some(Spread {
        min: 1_000,
        mean: 2_000,
        max: 3_000,
    });
    let figures = Figures {
        frames_per_1000_s: Some(29_970),
        keyframe_interval_ms,
        ..Figures::default()
    };
    let items = vec![item];
    ControlMsg::StreamJudged {
        room: publish.room,
        epoch: publish.epoch,
        verdict: Arc::new(Verdict { items, figures }),
    }
}

#[test]
fn verdict_is_in_the_room_s_json_and_in_the_start_event() {
    let mut rig = Rig::new(1);
    let publish = rig.publish("cam");
    let outputs = rig.tell(judged(&publish));
    let [start] = events(&outputs)[..] else {
        panic!("{outputs:?}")
    };
    let EventKind::StreamStarted { stream } = &start.kind else {
        panic!("{start:?}")
    };
    let room = rig.control.rooms()[0].full_json();
    assert_eq!(room["verdict"], stream["verdict"]);
    let item = &room["verdict"]["items"][0];
    assert_eq!(
        (&item["code"], &item["severity"]),
        (&"b_frames".into(), &"warning".into())
    );
    assert_eq!(item["setting"]["obs"], "B-frames 0");
    assert!(item["setting"]["ffmpeg"].is_null());
    let measured = &room["verdict"]["measured"];
    assert_eq!(measured["fps"], 29.97);
    assert_eq!(measured["keyframe_interval_ms"]["max"], 3_000);
    assert!(
        events(&rig.tell(judged(&publish))).is_empty(),
        "one start event"
    );
    rig.end(&publish);
    rig.tell(judged(&publish));
    assert!(rig.control.rooms().is_empty());
}

#[test]
fn start_event_comes_before_the_end_however_short_the_publish() {
    let mut rig = Rig::new(1);
    let publish = rig.publish("cam");
    let outputs = rig.end(&publish);
    let kinds: Vec<&str> = events(&outputs)
        .iter()
        .map(|event| event.kind.as_str())
        .collect();
    assert_eq!(kinds, ["stream.started", "stream.ended"]);
}

#[test]
fn the_end_of_a_connection_that_never_published_is_no_event() {
    let mut rig = Rig::new(1);
    let (_, publisher) = rig.control.place_publisher(peer()).unwrap();
    let reason = PublishEnd::Protocol;
    let ended = ControlMsg::PublishEnded { publisher, reason };
    assert!(rig.tell(ended.clone()).is_empty());
    assert!(rig.tell(ended).is_empty(), "nor its repetition");
}

#[test]
fn stream_info_of_an_earlier_publish_is_not_taken() {
    let mut rig = Rig::new(1);
    let first = rig.publish("cam");
    rig.ask("cam");
    rig.end(&first);
    let second = rig.publish("cam");
    let info = |video: &str| StreamInfo {
        video: Some(video.into()),
        ..StreamInfo::default()
    };
    let changed = |publish: &Publish, video| ControlMsg::StreamChanged {
        room: publish.room,
        epoch: publish.epoch,
        info: info(video),
    };
    rig.tell(changed(&second, "new"));
    rig.tell(changed(&first, "old"));
    assert_eq!(rig.control.rooms()[0].info.video.as_deref(), Some("new"));
    rig.end(&second);
    rig.tell(changed(&second, "late"));
    assert_eq!(rig.control.rooms()[0].info, StreamInfo::default());
}

/// Fills the publisher's core until viewers go to the other.
fn spill(rig: &mut Rig, room: &str) -> Vec<Joined> {
    (0..SPILL_VIEWERS).map(|_| rig.ask(room)).collect()
}

#[test]
fn another_core_is_linked_with_its_first_viewer_and_unlinked_with_its_last() {
    let mut rig = Rig::new(2);
    let publish = rig.publish("cam");
    for joined in spill(&mut rig, "cam") {
        assert_eq!(joined.core, publish.core);
    }
    let conn = rig.conn();
    let outputs = rig.request(conn, post("cam"));
    let away = added(&outputs, conn).unwrap();
    assert_ne!(away.core, publish.core);
    let told = to_core(&outputs, publish.core);
    assert!(
        matches!(told[..], [CoreMsg::LinkRoom { room, to }]
            if *room == publish.room && *to == away.core),
        "{outputs:?}"
    );
    let conn = rig.conn();
    rig.left(away, ViewerEnd::ConnectTimeout);
    let outputs = rig.request(conn, post("cam"));
    let back = added(&outputs, conn).unwrap();
    assert_ne!(back.core, publish.core);
    assert_eq!(to_core(&outputs, publish.core).len(), 1, "linked again");
    let outputs = rig.left(back, ViewerEnd::Left);
    let told = to_core(&outputs, publish.core);
    assert!(
        matches!(told[..], [CoreMsg::UnlinkRoom { room, to }]
            if *room == publish.room && *to == back.core),
        "{outputs:?}"
    );
}

#[test]
fn core_that_missed_a_keyframe_is_linked_again_while_it_has_viewers_of_that_publish() {
    let mut rig = Rig::new(2);
    let publish = rig.publish("cam");
    let (room, epoch, home) = (publish.room, publish.epoch, publish.core);
    let away = CoreId(1 - home.0);
    let wanted = |epoch, core| ControlMsg::FeedWanted { room, epoch, core };
    spill(&mut rig, "cam");
    assert!(rig.tell(wanted(epoch, away)).is_empty(), "it has no viewer");
    let joined = rig.ask("cam");
    assert_eq!(joined.core, away);
    let outputs = rig.tell(wanted(epoch, away));
    let told = to_core(&outputs, home);
    assert!(
        matches!(told[..], [CoreMsg::LinkRoom { room: it, to }] if *it == room && *to == away),
        "{outputs:?}"
    );
    assert!(rig.tell(wanted(epoch, home)).is_empty(), "to itself");
    let other = Epoch(epoch.0 - 1);
    assert!(rig.tell(wanted(other, away)).is_empty(), "another publish");
    rig.left(joined, ViewerEnd::Left);
    assert!(rig.tell(wanted(epoch, away)).is_empty(), "it has none left");
    rig.end(&publish);
    assert!(rig.tell(wanted(epoch, away)).is_empty(), "it is over");
}

#[test]
fn a_publish_begins_with_links_to_the_other_cores_that_wait_for_it() {
    let mut rig = Rig::new(3);
    let mut waiting = BTreeSet::new();
    for _ in 0..3 {
        let outputs_core = rig.ask("cam").core;
        waiting.insert(outputs_core);
    }
    assert_eq!(waiting.len(), 3, "viewers of an offline room are spread");
    let publish = rig.publish("cam");
    waiting.remove(&publish.core);
    assert_eq!(
        publish.links.iter().copied().collect::<BTreeSet<_>>(),
        waiting
    );
}

#[test]
fn nobody_is_linked_while_nobody_publishes() {
    let mut rig = Rig::new(2);
    let publish = rig.publish("cam");
    let stays = rig.ask("cam");
    rig.end(&publish);
    let conn = rig.conn();
    let outputs = rig.request(conn, post("cam"));
    let away = added(&outputs, conn).unwrap();
    assert_ne!(away.core, stays.core);
    let linked = |output: &ControlOutput| format!("{output:?}").contains("LinkRoom");
    assert!(!outputs.iter().any(linked));
    let outputs = rig.left(away, ViewerEnd::Left);
    assert!(!outputs.iter().any(linked), "nor unlinked: {outputs:?}");
}

#[test]
fn a_publisher_that_returns_on_another_core_is_linked_to_where_its_viewers_are() {
    let mut rig = Rig::new(2);
    let first = rig.publish("cam");
    let viewer = rig.ask("cam");
    assert_eq!(viewer.core, first.core);
    let blocker = rig.control.place_publisher(peer()).unwrap();
    assert_ne!(blocker.0, first.core);
    rig.control.publisher_lost(blocker.1, rig.now);
    rig.end(&first);
    // The core with fewer viewers is taken.
    let second = rig.publish("cam");
    assert_ne!(second.core, viewer.core);
    assert_eq!(second.links, [viewer.core]);
    assert_eq!(second.room, first.room, "the room stayed for its viewer");
}
