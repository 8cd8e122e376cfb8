//! WebSockets: what is said when, to whom, and what the Go reference got wrong.

use super::*;

fn line(n: usize) -> ClientMessage {
    ClientMessage::Candidate(format!(
        "candidate:1 1 udp 1 192.0.2.{} 9 typ host",
        n % 250
    ))
}

fn answer() -> ClientMessage {
    ClientMessage::Answer("v=0 mine".into())
}

#[test]
fn a_socket_gets_offer_candidates_and_whether_somebody_publishes() {
    let mut rig = Rig::new(1);
    let joined = rig.open("cam", "ann");
    let outputs = rig.sdp(joined, SERVER_OFFER);
    let candidate = |text: &str| ServerMessage::GetCandidate {
        candidate: text.into(),
        sdp_mid: Some("v0".into()),
        sdp_m_line_index: Some(0),
    };
    assert_eq!(
        said(&outputs, joined.conn),
        [
            &ServerMessage::GetOffer {
                sdp: SERVER_OFFER.into()
            },
            &candidate("candidate:1 1 udp 2130706431 10.0.0.5 8189 typ host"),
            &candidate("candidate:2 1 udp 2130706430 127.0.0.1 8189 typ host"),
            &ServerMessage::IsPublishing {
                live: false,
                room: name("cam")
            },
        ]
    );
}

#[test]
fn every_change_of_publishing_is_told_to_the_room_only() {
    let mut rig = Rig::new(2);
    let (ann, eve) = (rig.socket("cam", "ann"), rig.socket("other", "eve"));
    let is = |live| ServerMessage::IsPublishing {
        live,
        room: name("cam"),
    };
    let (_, publisher, outputs) = rig.request_publish("cam");
    assert_eq!(said(&outputs, ann.conn), [&is(true)]);
    assert!(said(&outputs, eve.conn).is_empty());
    let late = rig.open("cam", "bob");
    let outputs = rig.sdp(late, SERVER_OFFER);
    assert!(said(&outputs, late.conn).contains(&&is(true)));
    let reason = PublishEnd::Idle;
    let outputs = rig.tell(ControlMsg::PublishEnded { publisher, reason });
    for conn in [ann.conn, late.conn] {
        assert_eq!(said(&outputs, conn), [&is(false)]);
    }
    assert!(said(&outputs, eve.conn).is_empty());
}

#[test]
fn a_change_before_the_offer_is_told_once_with_it() {
    let mut rig = Rig::new(1);
    let joined = rig.open("cam", "ann");
    let (_, _, outputs) = rig.request_publish("cam");
    assert!(said(&outputs, joined.conn).is_empty());
    let outputs = rig.sdp(joined, SERVER_OFFER);
    let told = said(&outputs, joined.conn);
    let live = |m: &&&ServerMessage| matches!(m, ServerMessage::IsPublishing { live: true, .. });
    assert_eq!(told.iter().filter(live).count(), 1);
}

#[test]
fn an_answer_goes_to_its_core_once() {
    let mut rig = Rig::new(1);
    let joined = rig.socket("cam", "ann");
    let outputs = rig.say(joined, answer());
    let told = to_core(&outputs, joined.core);
    assert!(
        matches!(told[..], [CoreMsg::ViewerAnswer { viewer, sdp }]
            if *viewer == joined.viewer && sdp == "v=0 mine"),
        "{outputs:?}"
    );
    let outputs = rig.say(joined, answer());
    assert!(to_core(&outputs, joined.core).is_empty());
    assert!(
        complaint(&outputs, joined.conn)
            .unwrap()
            .contains("already")
    );
}

#[test]
fn answers_and_candidates_before_the_offer_are_error_messages() {
    let mut rig = Rig::new(1);
    let joined = rig.open("cam", "ann");
    for message in [answer(), line(1)] {
        let outputs = rig.say(joined, message);
        assert!(
            complaint(&outputs, joined.conn)
                .unwrap()
                .contains("getOffer")
        );
        assert!(to_core(&outputs, joined.core).is_empty());
    }
    rig.sdp(joined, SERVER_OFFER);
    let outputs = rig.say(joined, answer());
    assert_eq!(
        to_core(&outputs, joined.core).len(),
        1,
        "the session goes on"
    );
}

#[test]
fn messages_of_nobody_are_dropped() {
    let mut rig = Rig::new(1);
    let joined = rig.socket("cam", "ann");
    rig.closed(joined.conn);
    for message in [answer(), line(1), ClientMessage::Chat("hi".into())] {
        assert!(rig.say(joined, message).is_empty());
    }
    let whep = rig.ask("cam");
    assert!(rig.say(whep, ClientMessage::Chat("hi".into())).is_empty());
}

#[test]
fn a_repeated_client_id_is_another_viewer() {
    let mut rig = Rig::new(1);
    let first = rig.socket("cam", "me");
    let second = rig.socket("cam", "me");
    assert_ne!(first.viewer, second.viewer);
    let outputs = rig.say(second, answer());
    assert!(
        matches!(to_core(&outputs, second.core)[..],
            [CoreMsg::ViewerAnswer { viewer, .. }] if *viewer == second.viewer),
        "{outputs:?}"
    );
    rig.closed(second.conn);
    let outputs = rig.say(first, answer());
    assert_eq!(
        to_core(&outputs, first.core).len(),
        1,
        "the first is untouched"
    );
}

#[test]
fn candidates_go_to_their_viewer_only_and_are_limited() {
    let mut rig = Rig::new(1);
    let (ann, bob) = (rig.socket("cam", "ann"), rig.socket("cam", "bob"));
    let mut passed = 0;
    let mut complaints = 0;
    for n in 0..VIEWER_CANDIDATES_MAX + 20 {
        let outputs = rig.say(ann, line(n));
        for message in to_core(&outputs, ann.core) {
            assert!(matches!(message, CoreMsg::AddCandidate { viewer, .. }
                if *viewer == ann.viewer));
            passed += 1;
        }
        complaints += usize::from(complaint(&outputs, ann.conn).is_some());
        assert!(said(&outputs, bob.conn).is_empty());
    }
    assert_eq!((passed, complaints), (VIEWER_CANDIDATES_MAX, 1));
}

#[test]
fn chat_goes_to_everyone_of_the_room_with_name_and_time() {
    let mut rig = Rig::new(2);
    let (ann, bob) = (rig.socket("cam", "ann"), rig.socket("cam", "bob"));
    let eve = rig.socket("other", "eve");
    rig.now += Duration::from_secs(1);
    let outputs = rig.say(ann, ClientMessage::Chat("hello".into()));
    let chat = ServerMessage::GetChat {
        text: "hello".into(),
        client_name: "ANN".into(),
        timestamp_rfc3339: "2026-11-22T19:00:01.123Z".into(),
    };
    assert_eq!(said(&outputs, ann.conn), [&chat]);
    assert_eq!(said(&outputs, bob.conn), [&chat]);
    assert!(said(&outputs, eve.conn).is_empty());
}

#[test]
fn a_viewer_without_a_name_has_one_in_the_chat() {
    let mut rig = Rig::new(1);
    let mut nameless = upgrade("cam", "x");
    nameless.query.truncate(1);
    let conn = rig.conn();
    let outputs = rig.request(conn, nameless);
    let joined = added(&outputs, conn).unwrap();
    rig.sdp(joined, SERVER_OFFER);
    let outputs = rig.say(joined, ClientMessage::Chat("hi".into()));
    assert!(matches!(said(&outputs, conn)[..],
        [ServerMessage::GetChat { client_name, .. }] if client_name == "viewer"));
}

#[test]
fn a_closed_socket_takes_its_viewer_along() {
    let mut rig = Rig::new(1);
    let joined = rig.socket("cam", "ann");
    let outputs = rig.closed(joined.conn);
    assert!(
        matches!(to_core(&outputs, joined.core)[..], [CoreMsg::RemoveViewer { viewer }]
            if *viewer == joined.viewer),
        "{outputs:?}"
    );
    assert!(rig.control.rooms().is_empty());
    assert!(rig.left(joined, ViewerEnd::Left).is_empty());
    assert!(rig.closed(joined.conn).is_empty());
}

#[test]
fn a_viewer_that_left_its_core_is_told_why_and_its_socket_closed() {
    for (reason, code) in [
        (ViewerEnd::Left, 1000),
        (ViewerEnd::Closed, 1000),
        (ViewerEnd::ConnectTimeout, 1011),
        (ViewerEnd::Consent, 1011),
        (ViewerEnd::Failed, 1011),
    ] {
        let mut rig = Rig::new(1);
        let joined = rig.socket("cam", "ann");
        let outputs = rig.left(joined, reason);
        assert!(complaint(&outputs, joined.conn).is_some());
        assert_eq!(close_code_of(&outputs, joined.conn), Some(code));
        assert!(rig.closed(joined.conn).is_empty());
    }
}

#[test]
fn complaints_of_the_core_are_told_and_the_session_goes_on() {
    let mut rig = Rig::new(1);
    let joined = rig.socket("cam", "ann");
    rig.say(joined, answer());
    let viewer = joined.viewer;
    let text = "the answer has no video".to_owned();
    let outputs = rig.tell(ControlMsg::ViewerComplaint { viewer, text });
    assert_eq!(
        complaint(&outputs, joined.conn),
        Some("the answer has no video")
    );
    assert_eq!(close_code_of(&outputs, joined.conn), None);
    let outputs = rig.say(joined, answer());
    assert_eq!(
        to_core(&outputs, joined.core).len(),
        1,
        "it may answer again"
    );
    rig.say(joined, answer());
    rig.connected(joined);
    let text = "bad candidate".to_owned();
    rig.tell(ControlMsg::ViewerComplaint { viewer, text });
    let outputs = rig.say(joined, answer());
    assert!(
        to_core(&outputs, joined.core).is_empty(),
        "once connected it may not"
    );
}

#[test]
fn a_core_that_makes_no_offer_costs_the_socket() {
    let mut rig = Rig::new(1);
    let joined = rig.open("cam", "ann");
    let outputs = rig.wait(VIEWER_SDP_DEADLINE);
    assert!(complaint(&outputs, joined.conn).is_some());
    assert_eq!(close_code_of(&outputs, joined.conn), Some(1011));
    let refused = rig.open("cam", "bob");
    let outputs = rig.tell(ControlMsg::ViewerSdp {
        viewer: refused.viewer,
        sdp: Err(SdpFault::Setup("no port".into())),
    });
    assert_eq!(rig.control.counters().refused_sdp.get(), 0);
    assert_eq!(rig.control.counters().refused_setup.get(), 1);
    assert_eq!(complaint(&outputs, refused.conn), Some("no port"));
    assert_eq!(close_code_of(&outputs, refused.conn), Some(1011));
    assert!(rig.control.rooms().is_empty());
}

#[test]
fn missing_picture_is_explained_once_to_those_there_and_to_those_who_come() {
    let mut rig = Rig::new(1);
    let ann = rig.socket("cam", "ann");
    let publish = rig.publish("cam");
    let trouble = |rig: &mut Rig, epoch, text: Option<&str>| {
        rig.tell(ControlMsg::PictureTrouble {
            room: publish.room,
            epoch,
            trouble: text.map(str::to_owned),
        })
    };
    let outputs = trouble(&mut rig, publish.epoch, Some("install ffmpeg"));
    assert_eq!(complaint(&outputs, ann.conn), Some("install ffmpeg"));
    let outputs = trouble(&mut rig, publish.epoch, Some("install ffmpeg"));
    assert!(said(&outputs, ann.conn).is_empty(), "told twice");
    let outputs = trouble(&mut rig, Epoch(0), None);
    assert!(said(&outputs, ann.conn).is_empty(), "of another publish");
    let bob = rig.open("cam", "bob");
    let outputs = rig.sdp(bob, SERVER_OFFER);
    assert_eq!(complaint(&outputs, bob.conn), Some("install ffmpeg"));
    assert!(said(&outputs, ann.conn).is_empty());
    trouble(&mut rig, publish.epoch, None);
    let cid = rig.open("cam", "cid");
    let outputs = rig.sdp(cid, SERVER_OFFER);
    assert_eq!(complaint(&outputs, cid.conn), None);
}

#[test]
fn b_frames_that_are_made_good_are_for_the_publisher_and_no_viewer_is_told() {
    let mut rig = Rig::new(1);
    let ann = rig.socket("cam", "ann");
    let publish = rig.publish("cam");
    let outputs = rig.tell(ControlMsg::StreamChanged {
        room: publish.room,
        epoch: publish.epoch,
        info: StreamInfo {
            reordering: true,
            ..StreamInfo::default()
        },
    });
    assert!(said(&outputs, ann.conn).is_empty());
    let json = rig.control.rooms()[0].json();
    assert_eq!(json["advice"].as_array().unwrap().len(), 1);
}

#[test]
fn keyframe_for_another_core_s_viewer_is_asked_of_the_publisher_s() {
    let mut rig = Rig::new(2);
    let publish = rig.publish("cam");
    let room = publish.room;
    let outputs = rig.tell(ControlMsg::KeyframeWanted { room });
    let asked = outputs.iter().filter(|output| {
        let ControlOutput::Core { message, .. } = output else {
            return false;
        };
        matches!(message, CoreMsg::KeyframeWanted { room: it } if *it == room)
    });
    assert_eq!(asked.count(), 1);
    let outputs = rig.tell(ControlMsg::KeyframeWanted { room: RoomId(99) });
    assert!(outputs.is_empty(), "nobody publishes there");
}

#[test]
fn pages_of_other_origins_may_not_connect() {
    let mut rig = Rig::with(ControlConfig {
        allowed_origins: vec!["https://good.example".into()],
        ..ControlConfig::default()
    });
    for (origin, expected) in [
        (None, None),
        (Some("http://host:8889"), None),
        (Some("https://good.example"), None),
        (Some("https://evil.example"), Some(403)),
        (Some("null"), Some(403)),
        (Some("https://good.example.evil"), Some(403)),
        (
            Some("https://good.example, https://evil.example"),
            Some(403),
        ),
    ] {
        let conn = rig.conn();
        let request = HttpRequest {
            origin: origin.map(str::to_owned),
            ..upgrade("cam", "ann")
        };
        let outputs = rig.request(conn, request);
        assert_eq!(status(&outputs, conn), expected, "{origin:?}");
        assert_eq!(
            added(&outputs, conn).is_some(),
            expected.is_none(),
            "{origin:?}"
        );
    }
}

#[test]
fn a_request_for_the_socket_that_asks_for_none_is_426() {
    let mut rig = Rig::new(1);
    let conn = rig.conn();
    let request = HttpRequest {
        upgrade: None,
        ..upgrade("cam", "ann")
    };
    let outputs = rig.request(conn, request);
    assert_eq!(status(&outputs, conn), Some(426));
    let conn = rig.conn();
    let outputs = rig.request(conn, upgrade("no room", "ann"));
    assert_eq!(status(&outputs, conn), Some(400));
}

#[test]
fn a_page_is_told_without_a_socket_why_it_got_none() {
    let mut rig = Rig::new(1);
    let question = |origin: Option<&str>, said: Option<&str>| {
        let mut request = HttpRequest {
            upgrade: None,
            origin: origin.map(str::to_owned),
            ..upgrade("cam", "ann")
        };
        let said = said.map(|said| ("origin".to_owned(), said.to_owned()));
        request.query.extend(said);
        request
    };
    // The proxy asks for host:8889, whatever the page is called.
    for (origin, said, expected) in [
        (None, Some("https://live.example"), 403),
        (Some("https://live.example"), None, 403),
        (None, Some("http://host:8889"), 426),
    ] {
        let conn = rig.conn();
        let outputs = rig.request(conn, question(origin, said));
        let response = response(&outputs, conn).unwrap();
        assert_eq!(response.status, expected, "{origin:?} {said:?}");
        let readable = response.field("Access-Control-Allow-Origin");
        assert_eq!(readable, Some("*"), "{origin:?} {said:?}");
        if expected == 403 {
            let body = String::from_utf8_lossy(&response.body);
            assert!(body.contains("http.allowed_origins"), "{body}");
        }
    }
    // What a page claims of itself counts for nothing where it gets a socket.
    let conn = rig.conn();
    let request = HttpRequest {
        upgrade: upgrade("cam", "ann").upgrade,
        ..question(Some("https://live.example"), Some("http://host:8889"))
    };
    let outputs = rig.request(conn, request);
    assert_eq!(status(&outputs, conn), Some(403));
    for _ in 0..VIEWERS_PENDING_PER_ADDRESS_MAX {
        rig.ask("cam");
    }
    let conn = rig.conn();
    let outputs = rig.request(conn, question(None, Some("http://host:8889")));
    assert_eq!(status(&outputs, conn), Some(429));
    let counters = rig.control.counters();
    assert_eq!(counters.refused_origin.get(), 1, "a question was counted");
    assert_eq!(counters.refused_full.get(), 0, "a question was counted");
}
