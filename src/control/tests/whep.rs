//! WHEP: sessions, their URLs, hostile orders and floods.

use super::*;

fn on_session(method: Method, url: &str) -> HttpRequest {
    request(method, url)
}

fn patch(url: &str, etag: &str) -> HttpRequest {
    HttpRequest {
        content_type: Some("application/trickle-ice-sdpfrag".into()),
        if_match: Some(etag.into()),
        body: "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".into(),
        ..request(Method::Patch, url)
    }
}

#[test]
fn an_offer_goes_to_a_core_and_its_answer_back_as_201() {
    let mut rig = Rig::with(ControlConfig {
        ice_servers: vec!["stun:s:3478".into()],
        candidates: CandidatePolicy {
            public: vec!["203.0.113.7".parse().unwrap()],
            interfaces: vec!["10.0.0.5".parse().unwrap()],
            port: 8189,
            ..CandidatePolicy::default()
        },
        ..ControlConfig::default()
    });
    let conn = rig.conn();
    let outputs = rig.request(conn, post("cam"));
    assert_eq!(status(&outputs, conn), None, "answered before the core");
    let ControlOutput::Core {
        message:
            CoreMsg::AddViewer {
                begin: ViewerBegin::Offer(offer),
                candidates,
                name: room,
                ..
            },
        ..
    } = &outputs[0]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(offer, OFFER);
    assert_eq!(room, &name("cam"));
    assert_eq!(candidates, &["203.0.113.7:8189".parse().unwrap()]);
    let joined = added(&outputs, conn).unwrap();
    let outputs = rig.sdp(joined, "v=0 the answer");
    let response = response(&outputs, conn).unwrap();
    assert_eq!(response.status, 201);
    assert_eq!(&response.body[..], b"v=0 the answer");
    let location = response.field("Location").unwrap();
    let session = location.strip_prefix("/cam/whep/").unwrap();
    assert_eq!(session.len(), 22);
    assert!(response.field("ETag").unwrap().len() > 8);
    assert!(response.field("Link").unwrap().contains("stun:s:3478"));
    assert!(rig.sdp(joined, "v=0 again").is_empty(), "answered twice");
}

#[test]
fn the_profile_of_a_live_room_is_told_to_the_core() {
    let mut rig = Rig::new(1);
    let publish = rig.publish("cam");
    let profile = Some([0x64, 0x00, 0x1f]);
    rig.tell(ControlMsg::StreamChanged {
        room: publish.room,
        epoch: publish.epoch,
        info: StreamInfo {
            profile_level_id: profile,
            ..StreamInfo::default()
        },
    });
    let conn = rig.conn();
    let outputs = rig.request(conn, post("cam"));
    let ControlOutput::Core {
        message: CoreMsg::AddViewer {
            profile_level_id, ..
        },
        ..
    } = &outputs[0]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(*profile_level_id, profile);
}

#[test]
fn an_offer_the_core_cannot_use_is_400_and_leaves_nothing() {
    let mut rig = Rig::new(1);
    let joined = rig.ask("cam");
    let outputs = rig.tell(ControlMsg::ViewerSdp {
        viewer: joined.viewer,
        sdp: Err(SdpFault::Viewer("no H.264".into())),
    });
    let response = response(&outputs, joined.conn).unwrap();
    assert_eq!(response.status, 400);
    assert!(String::from_utf8_lossy(&response.body).contains("no H.264"));
    assert!(rig.control.rooms().is_empty(), "the room was not freed");
}

#[test]
fn addresses_that_come_after_the_start_are_offered() {
    let mut rig = Rig::with(ControlConfig::default());
    assert!(rig.control.lacks_addresses());
    // What an interface has of itself, before a network gives it one.
    rig.control.set_interfaces(vec![
        "fe80::1".parse().unwrap(),
        "169.254.3.4".parse().unwrap(),
    ]);
    assert!(rig.control.lacks_addresses());
    rig.control
        .set_interfaces(vec!["10.0.0.5".parse().unwrap()]);
    assert!(!rig.control.lacks_addresses());
    let conn = rig.conn();
    let outputs = rig.request(conn, post("cam"));
    let ControlOutput::Core {
        message: CoreMsg::AddViewer { candidates, .. },
        ..
    } = &outputs[0]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(*candidates, ["10.0.0.5:0".parse().unwrap()]);
}

#[test]
fn a_fault_of_the_server_is_not_told_as_the_viewer_s() {
    for (fault, status, word) in [
        (SdpFault::Setup("no address".into()), 503, "no address"),
        (SdpFault::Bug, 500, "a bug of the server"),
    ] {
        let mut rig = Rig::new(1);
        let joined = rig.ask("cam");
        let outputs = rig.tell(ControlMsg::ViewerSdp {
            viewer: joined.viewer,
            sdp: Err(fault),
        });
        let response = response(&outputs, joined.conn).unwrap();
        assert_eq!(response.status, status);
        assert!(String::from_utf8_lossy(&response.body).contains(word));
        assert_eq!(response.field("Retry-After").is_some(), status == 503);
        assert!(rig.control.rooms().is_empty(), "the room was not freed");
        let counters = rig.control.counters();
        let counted = [&counters.refused_setup, &counters.refused_bug];
        assert_eq!(
            counted.map(|counter| counter.get()),
            match status {
                503 => [1, 0],
                _ => [0, 1],
            }
        );
        assert_eq!(counters.refused_sdp.get(), 0);
    }
}

#[test]
fn a_core_that_does_not_answer_costs_the_viewer_503_after_the_deadline() {
    let mut rig = Rig::new(1);
    let joined = rig.ask("cam");
    assert!(
        rig.wait(VIEWER_SDP_DEADLINE - Duration::from_millis(1))
            .is_empty()
    );
    let outputs = rig.wait(Duration::from_millis(1));
    assert_eq!(status(&outputs, joined.conn), Some(503));
    let told = to_core(&outputs, joined.core);
    assert!(
        matches!(told[..], [CoreMsg::RemoveViewer { .. }]),
        "{outputs:?}"
    );
    assert!(rig.sdp(joined, "v=0 late").is_empty());
}

#[test]
fn the_next_timeout_is_the_deadline_of_the_oldest_offer() {
    let mut rig = Rig::new(1);
    let deadline = rig.now + VIEWER_SDP_DEADLINE;
    rig.ask("cam");
    rig.now += Duration::from_secs(1);
    rig.ask("cam");
    assert!(
        matches!(rig.control.poll_output(rig.now), ControlOutput::Timeout(at) if at == deadline)
    );
}

#[test]
fn a_session_outlives_its_connection_but_a_waiting_offer_does_not() {
    let mut rig = Rig::new(1);
    let (joined, url, _) = rig.play("cam");
    assert!(rig.closed(joined.conn).is_empty());
    let conn = rig.conn();
    let outputs = rig.request(conn, on_session(Method::Get, &url));
    assert_eq!(status(&outputs, conn), Some(204));
    let waiting = rig.ask("cam");
    let outputs = rig.closed(waiting.conn);
    let told = to_core(&outputs, waiting.core);
    assert!(
        matches!(told[..], [CoreMsg::RemoveViewer { viewer }] if *viewer == waiting.viewer),
        "{outputs:?}"
    );
}

#[test]
fn a_session_ends_when_its_core_says_so() {
    let mut rig = Rig::new(1);
    let (joined, url, _) = rig.play("cam");
    rig.connected(joined);
    assert!(rig.left(joined, ViewerEnd::Consent).is_empty());
    let conn = rig.conn();
    let outputs = rig.request(conn, on_session(Method::Get, &url));
    assert_eq!(status(&outputs, conn), Some(404));
    assert!(rig.control.rooms().is_empty());
    assert_eq!(rig.control.counters().viewers_consent.get(), 1);
}

#[test]
fn candidates_go_to_their_viewer_only() {
    let mut rig = Rig::new(2);
    let (first, url, etag) = rig.play("cam");
    let (second, _, _) = rig.play("cam");
    let conn = rig.conn();
    let outputs = rig.request(conn, patch(&url, &etag));
    assert_eq!(status(&outputs, conn), Some(204));
    let told = to_core(&outputs, first.core);
    let [CoreMsg::AddCandidate { viewer, candidate }] = told[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*viewer, first.viewer);
    assert!(candidate.contains("192.0.2.1"));
    assert!(to_core(&outputs, second.core).is_empty());
}

#[test]
fn a_foreign_session_can_be_neither_patched_nor_deleted() {
    let mut rig = Rig::new(1);
    let (_, url, etag) = rig.play("cam");
    let (_, _, foreign_etag) = rig.play("other");
    let session = url.rsplit('/').next().unwrap();
    let guessed = format!("/cam/whep/{}", "A".repeat(22));
    let elsewhere = format!("/other/whep/{session}");
    for url in [&guessed, &elsewhere] {
        for request in [patch(url, &etag), on_session(Method::Delete, url)] {
            let conn = rig.conn();
            let outputs = rig.request(conn, request);
            assert_eq!(status(&outputs, conn), Some(404));
            assert_eq!(outputs.len(), 1, "{outputs:?}");
        }
    }
    let conn = rig.conn();
    let outputs = rig.request(conn, patch(&url, &foreign_etag));
    assert_eq!(status(&outputs, conn), Some(412));
}

#[test]
fn delete_ends_the_session_once() {
    let mut rig = Rig::new(1);
    let (joined, url, _) = rig.play("cam");
    let conn = rig.conn();
    let outputs = rig.request(conn, on_session(Method::Delete, &url));
    assert_eq!(status(&outputs, conn), Some(200));
    let told = to_core(&outputs, joined.core);
    assert!(
        matches!(told[..], [CoreMsg::RemoveViewer { .. }]),
        "{outputs:?}"
    );
    let outputs = rig.request(conn, on_session(Method::Delete, &url));
    assert_eq!(status(&outputs, conn), Some(404));
    assert!(
        rig.left(joined, ViewerEnd::Left).is_empty(),
        "the core's echo"
    );
    assert_eq!(rig.control.counters().viewers_left.get(), 1);
}

#[test]
fn an_offline_room_is_waited_for_or_409_as_configured() {
    let mut rig = Rig::with(ControlConfig {
        when_offline: WhenOffline::Reject,
        ..ControlConfig::default()
    });
    let conn = rig.conn();
    let outputs = rig.request(conn, post("cam"));
    let refused = response(&outputs, conn).unwrap();
    assert_eq!(refused.status, 409);
    assert!(refused.field("Retry-After").is_some());
    assert!(rig.control.rooms().is_empty());
    rig.publish("cam");
    rig.play("cam");
    let mut rig = Rig::new(1);
    rig.play("cam");
}

#[test]
fn wrong_methods_types_and_names_are_refused_without_a_viewer() {
    let mut rig = Rig::new(1);
    let html = HttpRequest {
        content_type: Some("text/html".into()),
        ..post("cam")
    };
    for (request, expected) in [
        (request(Method::Put, "/cam/whep"), 405),
        (request(Method::Get, "/cam/whep"), 204),
        (request(Method::Head, "/cam/whep"), 200),
        (request(Method::Options, "/cam/whep"), 200),
        (html, 415),
        (post("a b"), 400),
        (request(Method::Post, "/cam/whep/xyz"), 405),
        (request(Method::Patch, "/cam/whep/xyz"), 404),
    ] {
        let conn = rig.conn();
        let outputs = rig.request(conn, request);
        assert_eq!(status(&outputs, conn), Some(expected), "{outputs:?}");
        assert_eq!(outputs.len(), 1);
    }
    assert!(rig.control.rooms().is_empty());
}

#[test]
fn joins_of_one_address_are_limited_until_they_are_connected() {
    let mut rig = Rig::new(2);
    let joined: Vec<Joined> = (0..VIEWERS_PENDING_PER_ADDRESS_MAX)
        .map(|_| rig.ask("cam"))
        .collect();
    let conn = rig.conn();
    let outputs = rig.request(conn, post("cam"));
    let refused = response(&outputs, conn).unwrap();
    assert_eq!(refused.status, 429);
    assert!(refused.field("Retry-After").is_some());
    let other = Ends {
        peer: "198.51.100.8".parse().unwrap(),
        ..ends()
    };
    let outputs = rig.request_between(other, conn, post("cam"));
    assert!(
        added(&outputs, conn).is_some(),
        "another address is refused"
    );
    rig.connected(joined[0]);
    rig.connected(joined[0]);
    rig.ask("cam");
    let outputs = rig.request(conn, post("cam"));
    assert_eq!(status(&outputs, conn), Some(429));
}

#[test]
fn a_connection_that_asks_again_gives_up_what_it_asked_before() {
    let mut rig = Rig::new(1);
    let first = rig.ask("cam");
    let outputs = rig.request(first.conn, post("cam"));
    let second = added(&outputs, first.conn).unwrap();
    assert!(matches!(
        to_core(&outputs, first.core)[..],
        [CoreMsg::RemoveViewer { .. }]
    ));
    assert!(rig.sdp(first, "v=0").is_empty());
    assert_eq!(status(&rig.sdp(second, "v=0"), first.conn), Some(201));
}

#[test]
fn viewers_that_come_and_go_leave_no_room_behind() {
    let mut rig = Rig::new(2);
    for round in 0..1_000 {
        let room = format!("room-{}", round % 7);
        let publish = (round % 3 == 0).then(|| rig.publish(&room));
        let (joined, url, _) = rig.play(&room);
        match round % 2 {
            0 => drop(rig.left(joined, ViewerEnd::Failed)),
            _ => drop(rig.request(ConnId(1), on_session(Method::Delete, &url))),
        }
        if let Some(publish) = publish {
            rig.end(&publish);
        }
    }
    assert!(rig.control.rooms().is_empty());
    let directory = &rig.control.directory;
    assert_eq!(
        (directory.viewer_count(), directory.publisher_count()),
        (0, 0)
    );
    assert_eq!(directory.next_deadline(), None);
    for core in directory.placement.cores() {
        assert_eq!(directory.placement.counts(core), (0, 0));
    }
}
