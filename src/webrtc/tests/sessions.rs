//! How sessions begin, go on elsewhere, and end.

use super::*;
use crate::messages::ViewerEnd;

#[test]
fn closing_reaches_the_player_and_sends_nothing_after() {
    let mut world = World::answering().connected();
    world.play(5);
    world.viewer.close(world.now, &mut world.batch);
    world.settle();
    assert!(world.player.closed);
    world.sent.clear();
    world.play(5);
    world.run(Duration::from_secs(60));
    assert!(world.sent.is_empty());
    assert!(world.events.is_empty(), "{:?}", world.events);
}

#[test]
fn player_that_closes_has_left() {
    let mut world = World::answering().connected();
    world.player.close();
    world.run(Duration::from_millis(100));
    assert_eq!(world.events, [ViewerEvent::Ended(ViewerEnd::Left)]);
}

#[test]
fn silent_player_is_not_sent_to_after_15_seconds_and_gone_after_30() {
    let mut world = World::answering().connected();
    world.mute = true;
    let muted = world.now;
    world.run(Duration::from_millis(15_400));
    assert_eq!(world.events, [ViewerEvent::Silent]);
    world.sent.clear();
    world.play(10);
    assert!(world.sent.is_empty());
    world.run(muted + Duration::from_millis(30_400) - world.now);
    assert_eq!(
        world.events,
        [ViewerEvent::Silent, ViewerEvent::Ended(ViewerEnd::Consent)]
    );
}

#[test]
fn player_that_comes_back_goes_on_without_a_handshake() {
    let mut world = World::answering().connected();
    world.play(10);
    world.mute = true;
    world.run(Duration::from_millis(15_500));
    world.mute = false;
    world.run(Duration::from_secs(5));
    assert_eq!(world.events, [ViewerEvent::Silent, ViewerEvent::Back]);
    let before = world.player.pictures().count();
    world.play(30);
    assert_eq!(world.player.pictures().count(), before + 30);
}

#[test]
fn player_that_reports_and_never_checks_watches_on() {
    let mut world = World::answering().connected();
    world.checks_lost = true;
    world.play(60 * 30);
    assert!(world.events.is_empty(), "{:?}", world.events);
    world.assert_all_arrived();
    world.mute = true;
    world.run(Duration::from_millis(16_000));
    assert_eq!(world.events, [ViewerEvent::Silent]);
    world.mute = false;
    world.run(Duration::from_secs(8));
    assert_eq!(world.events, [ViewerEvent::Silent, ViewerEvent::Back]);
    world.viewer.close(world.now, &mut world.batch);
    world.settle();
    assert!(world.player.closed, "it is still told of the end");
}

#[test]
fn report_that_was_seen_before_is_no_sign_of_the_player() {
    let mut world = World::answering().connected();
    world.play(60);
    world.mute = true;
    let report = std::mem::take(&mut world.reported);
    assert!(is_rtcp(&report));
    for _ in 0..16 {
        world.run(Duration::from_secs(1));
        let now = world.now;
        let viewer = &mut world.viewer;
        viewer.handle_datagram(player_address(), server(), &report, now);
    }
    assert_eq!(world.events, [ViewerEvent::Silent]);
}

#[test]
fn report_from_an_address_that_media_does_not_go_to_keeps_nothing_going() {
    let mut world = World::answering().connected();
    world.play(10);
    world
        .player
        .rebind(SocketAddr::from(([198, 51, 100, 7], 50_000)));
    world.run(Duration::from_secs(6));
    world.checks_lost = true;
    world.player.rebind(player_address());
    world.reported.clear();
    world.run(Duration::from_secs(16));
    assert!(is_rtcp(&world.reported));
    assert_eq!(world.events, [ViewerEvent::Silent]);
}

#[test]
fn media_follows_a_nat_that_binds_anew() {
    let mut world = World::answering().connected();
    world.play(10);
    let moved = SocketAddr::from(([198, 51, 100, 7], 50_000));
    world.player.rebind(moved);
    world.run(Duration::from_secs(6));
    world.sent.clear();
    world.play(30);
    let astray = world.sent.iter().filter(|(to, _)| *to != moved).count();
    assert_eq!(astray, 0);
}

#[test]
fn viewer_that_never_connects_ends_in_ten_seconds() {
    let mut world = World::answering();
    world.mute = true;
    world.run(Duration::from_millis(9_900));
    assert!(world.events.is_empty());
    world.run(Duration::from_millis(200));
    assert_eq!(
        world.events,
        [ViewerEvent::Ended(ViewerEnd::ConnectTimeout)]
    );
}

#[test]
fn offer_waits_thirty_seconds_for_its_answer_and_ten_more_for_the_connection() {
    let now = start();
    let mut factory = factory(1, now);
    let (mut viewer, offer) = factory.offer(ViewerId(1), &[server()], HIGH, now).unwrap();
    let mut player = KitViewer::new(player_address(), now);
    let answer = player.answer(&offer);
    let mut batch = SendBatch::default();
    let mut ended = |viewer: &mut Viewer, at: Duration| {
        viewer.handle_timeout(now + at);
        matches!(
            viewer.poll_output(now + at, &mut batch),
            ViewerOutput::Event(ViewerEvent::Ended(ViewerEnd::ConnectTimeout))
        )
    };
    assert!(!ended(&mut viewer, Duration::from_secs(29)));
    viewer
        .accept_answer(&answer, now + Duration::from_secs(29))
        .unwrap();
    assert_eq!(
        viewer.accept_answer(&answer, now + Duration::from_secs(29)),
        Err(ViewerError::AnswerUnexpected)
    );
    assert!(!ended(&mut viewer, Duration::from_secs(38)));
    assert!(ended(&mut viewer, Duration::from_secs(39)));
    let (mut other, _) = factory.offer(ViewerId(2), &[server()], HIGH, now).unwrap();
    assert!(ended(&mut other, Duration::from_secs(30)));
}

#[test]
fn credentials_come_from_the_id_source() {
    let now = start();
    let credentials = |seed| {
        let (viewer, offer) = factory(seed, now)
            .offer(ViewerId(1), &[server()], None, now)
            .unwrap();
        let value = |name: &str| {
            let line = offer.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().to_owned()
        };
        assert_eq!(viewer.ufrag(), value("a=ice-ufrag:"));
        assert_eq!(demux::core_of_ufrag(viewer.ufrag()), Some(CoreId(3)));
        (value("a=ice-ufrag:"), value("a=ice-pwd:"))
    };
    assert_eq!(credentials(5), credentials(5), "two factories of one seed");
    let (ufrag, password) = credentials(6);
    assert_ne!(credentials(5), (ufrag, password.clone()));
    assert!(password.len() >= 24);
}

#[test]
fn candidates_are_checked_counted_and_never_used() {
    let mut world = World::answering();
    let now = world.now;
    let line = "candidate:1 1 udp 2122260223 203.0.113.9 50000 typ host";
    let mdns = "a=candidate:1 1 udp 2122260223 0bb0-4e.local 50000 typ host";
    assert_eq!(world.viewer.add_candidate(line, now), Ok(()));
    assert_eq!(world.viewer.add_candidate(mdns, now), Ok(()));
    assert_eq!(world.viewer.add_candidate("", now), Ok(()));
    assert_eq!(
        world.viewer.add_candidate("hello", now),
        Err(ViewerError::Candidate)
    );
    let taken = (0..1_000)
        .filter(|_| world.viewer.add_candidate(line, now).is_ok())
        .count();
    assert!(taken < 50, "{taken}");
    world = world.connected();
    assert!(world.sent.iter().all(|(to, _)| *to == player_address()));
}

#[test]
fn one_core_makes_many_viewers_each_with_its_own_keys() {
    let now = start();
    let mut factory = factory(1, now);
    let mut worlds: Vec<World> = (0..4_u16)
        .map(|i| {
            let address = SocketAddr::from(([198, 51, 100, 7], 40_000 + i));
            let mut player = KitViewer::new(address, now);
            let offer = player.offer();
            let viewer = ViewerId(u64::from(i));
            let made = factory.answer(viewer, &offer, &[server()], HIGH, now);
            let (viewer, answer) = made.unwrap();
            player.accept(&answer);
            World::of(viewer, player, now)
        })
        .collect();
    // An offer that fails in between must not mix up the keys.
    assert!(
        factory
            .answer(ViewerId(9), "v=0", &[server()], HIGH, now)
            .is_err()
    );
    for world in worlds.drain(..) {
        let mut world = world.connected();
        world.play(5);
        world.assert_all_arrived();
    }
}

#[test]
fn player_that_insists_on_being_dtls_server_is_served_too() {
    let now = start();
    let mut player = KitViewer::new(player_address(), now);
    let offer = player.offer().replace("a=setup:actpass", "a=setup:passive");
    let (viewer, answer) = factory(1, now)
        .answer(ViewerId(1), &offer, &[server()], HIGH, now)
        .unwrap();
    assert!(answer.contains("a=setup:active"));
    player.accept(&answer);
    let mut world = World::of(viewer, player, now).connected();
    world.play(30);
    world.assert_all_arrived();
}
