//! Named lives: one thing each that must go well.

use std::time::Duration;

use super::acts::Goodbye;
use super::clip::Clip;
use super::kit::publisher::Progress;
use super::network::Quality;
use super::viewer::{Stage, Way};
use super::world::{Plan, World};

/// A world of so many cores with one room.
fn world(seed: u64, cores: u16) -> World {
    let plan = Plan {
        seed,
        cores,
        media_frames: 4_096,
        print: false,
    };
    World::new(plan, &[Clip::baseline()])
}

/// Waits until a viewer has so many more pictures and sounds.
fn plays(world: &mut World, viewer: usize, what: &str) {
    let (pictures, sounds) = world.viewers[viewer].watch.counts;
    world.run_until(what, Duration::from_secs(5), |world| {
        let (p, s) = world.viewers[viewer].watch.counts;
        p >= pictures + 30 && s >= sounds + 30
    });
}

#[test]
fn quiet_stream_plays_without_a_hole() {
    let mut world = world(100, 1);
    world.publish(0);
    let viewer = world.join(0, Way::Whep, Quality::GOOD);
    world.run_for(Duration::from_secs(30));
    let tally = world.tally();
    assert!(
        tally.pictures >= 28 * 30 && tally.sounds >= 28 * 50,
        "{tally:?}"
    );
    assert!(
        tally.captures >= 20 * 30 && tally.skews >= 20 * 80,
        "{tally:?}"
    );
    assert_eq!((tally.holes, tally.sound_breaks), (0, 0), "{tally:?}");
    assert_eq!(world.viewers[viewer].stage, Stage::Playing);
    world.end();
}

#[test]
fn reconnecting_twenty_times_keeps_the_viewer_and_leaks_nothing() {
    for cores in [1, 2] {
        let mut world = world(101, cores);
        let viewers = [Way::Whep, Way::WebSocket].map(|way| world.join(0, way, Quality::GOOD));
        for turn in 0..20 {
            let publisher = world.publish(0);
            for viewer in viewers {
                plays(&mut world, viewer, "the publish after a reconnect");
            }
            world.end_publisher(publisher, turn % 2 == 0);
            world.run_for(Duration::from_secs(1));
        }
        for viewer in viewers {
            assert_eq!(world.viewers[viewer].stage, Stage::Playing);
        }
        assert_eq!(world.webhooks.started, 20);
        let ended = &world.webhooks.ended;
        assert_eq!((ended["reset"], ended["finished"]), (10, 10));
        let sizes = world.cores.iter().map(|core| core.engine.sizes());
        let sum = sizes.fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
        assert!(
            sum.0 == 0 && sum.1 <= usize::from(cores) && sum.2 == 2,
            "{sum:?}"
        );
        world.end();
    }
}

#[test]
fn fifth_of_the_datagrams_lost_is_made_good_by_retransmission() {
    let mut world = world(102, 1);
    world.publish(0);
    let viewer = world.join(0, Way::Whep, Quality::GOOD);
    plays(&mut world, viewer, "a start");
    world.viewers[viewer].quality = Quality::lossy(200);
    let before = world.tally();
    world.run_for(Duration::from_secs(30));
    let after = world.tally();
    let pictures = after.pictures - before.pictures;
    assert!(pictures >= 30 * 30 * 9 / 10, "{pictures} pictures in 30 s");
    assert!(
        world.cores[0].counters.resends.get() > 200,
        "nothing was sent again"
    );
    assert_eq!(world.viewers[viewer].stage, Stage::Playing);
    world.end();
}

#[test]
fn two_fifths_lost_end_no_session() {
    let mut world = world(103, 1);
    world.publish(0);
    let viewer = world.join(0, Way::Whep, Quality::GOOD);
    plays(&mut world, viewer, "a start");
    world.viewers[viewer].quality = Quality::lossy(400);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.viewers[viewer].stage, Stage::Playing);
    world.viewers[viewer].quality = Quality::GOOD;
    world.viewers[viewer].watch.excuse(world.now);
    plays(&mut world, viewer, "an end of the loss");
    world.end();
}

#[test]
fn room_on_two_cores_is_linked_while_it_is_watched() {
    let mut world = world(104, 2);
    let first = world.join(0, Way::Whep, Quality::GOOD);
    world.run_for(Duration::from_millis(500));
    let publisher = world.publish(0);
    plays(&mut world, first, "media of the other core");
    let home = world.publishers[publisher]
        .id
        .map(|(core, _)| core)
        .unwrap();
    let away = world.viewers[first].id.map(|(_, core)| core).unwrap();
    assert_ne!(home, away, "the room is on one core only");
    let second = world.join(0, Way::WebSocket, Quality::GOOD);
    plays(&mut world, second, "media of its own core");
    assert_eq!(world.viewers[second].id.map(|(_, core)| core), Some(home));

    world.leave(first, Goodbye::Signalling);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.cores[away.index()].engine.sizes(), (0, 0, 0));
    plays(&mut world, second, "media without the other core");
    world.leave(second, Goodbye::Dtls);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.cores[home.index()].engine.sizes(), (1, 1, 0));
    assert_eq!(world.transcoder.streams(), 0, "nobody listens");
    world.end();
}

#[test]
fn viewer_that_its_core_takes_in_late_sees_the_keyframe_that_was_fed_before() {
    let plan = Plan {
        seed: 111,
        cores: 2,
        media_frames: 4_096,
        print: false,
    };
    let mut world = World::new(plan, &[Clip::rare_keyframes()]);
    let wait = Duration::from_millis(2_500);
    for core in &mut world.cores {
        core.joins_wait = wait;
    }
    let viewer = world.join(0, Way::Whep, Quality::GOOD);
    world.run_for(Duration::from_millis(50));
    let publisher = world.publish(0);
    world.run_for(wait);
    let home = world.publishers[publisher].id.map(|(core, _)| core);
    let away = world.viewers[viewer].id.map(|(_, core)| core);
    assert_ne!(home, away, "the room is on one core only");
    // A keyframe came 0.8 s ago, and the next one comes in 1.2 s.
    world.run_for(Duration::from_millis(500));
    let (pictures, sounds) = world.viewers[viewer].watch.counts;
    assert!(
        pictures > 30 && sounds > 10,
        "{pictures} pictures, {sounds} sounds"
    );
    plays(&mut world, viewer, "media of the other core");
    world.end();
}

#[test]
fn hundred_viewers_within_a_second_all_play() {
    let mut world = world(105, 2);
    world.publish(0);
    world.run_for(Duration::from_secs(2));
    for number in 0..100 {
        let way = if number % 4 == 0 {
            Way::WebSocket
        } else {
            Way::Whep
        };
        world.join(0, way, Quality::GOOD);
        world.run_for(Duration::from_millis(10));
    }
    world.run_until("a hundred viewers", Duration::from_secs(2), |world| {
        let plays = |counts: (usize, usize)| counts.0 >= 5 && counts.1 >= 5;
        world
            .viewers
            .iter()
            .all(|viewer| plays(viewer.watch.counts))
    });
    let viewers = world.cores.iter().map(|core| core.engine.sizes().2);
    assert!(
        viewers.clone().sum::<usize>() == 100 && viewers.min() > Some(20),
        "all on one core"
    );
    world.end();
}

#[test]
fn half_open_publisher_is_given_up_after_ten_seconds() {
    let mut world = world(106, 1);
    let publisher = world.publish(0);
    let viewer = world.join(0, Way::Whep, Quality::GOOD);
    plays(&mut world, viewer, "a start");
    world.half_open(publisher);
    world.run_for(Duration::from_millis(9_500));
    assert!(world.rooms[0].live.is_some(), "given up too early");
    world.run_for(Duration::from_millis(1_000));
    assert!(world.rooms[0].live.is_none(), "not given up");
    assert_eq!(world.webhooks.ended["idle"], 1);
    world.publish(0);
    plays(&mut world, viewer, "the return");
    world.end();
}

#[test]
fn silent_viewer_is_given_up_after_thirty_seconds() {
    let mut world = world(107, 1);
    world.publish(0);
    let viewer = world.join(0, Way::Whep, Quality::GOOD);
    plays(&mut world, viewer, "a start");
    world.silence(viewer);
    world.run_for(Duration::from_secs(21));
    assert_eq!(world.cores[0].engine.sizes().2, 1, "given up too early");
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.cores[0].engine.sizes().2, 0, "not given up");
    assert_eq!(world.ended["consent"], 1);
    world.end();
}

#[test]
fn viewer_behind_a_nat_that_binds_anew_plays_on() {
    let mut world = world(108, 2);
    world.publish(0);
    let viewer = world.join(0, Way::Whep, Quality::GOOD);
    plays(&mut world, viewer, "a start");
    for _ in 0..3 {
        world.rebind(viewer);
        // str0m looks after its connection every few seconds.
        world.run_for(Duration::from_secs(9));
        plays(&mut world, viewer, "media at the new address");
    }
    world.end();
}

#[test]
fn second_publisher_is_refused_and_the_first_plays_on() {
    let mut world = world(109, 2);
    world.publish(0);
    let viewer = world.join(0, Way::WebSocket, Quality::GOOD);
    plays(&mut world, viewer, "a start");
    let second = world.publish(0);
    plays(&mut world, viewer, "the first");
    let progress = world.publishers[second].rtmp.progress();
    assert!(matches!(progress, Progress::Refused(_)), "{progress:?}");
    assert_eq!(world.webhooks.started, 1);
    world.end();
}

#[test]
fn full_media_mailbox_is_not_filled_further_and_viewers_go_on_at_a_keyframe() {
    let plan = Plan {
        seed: 110,
        cores: 2,
        media_frames: 8,
        print: false,
    };
    let mut world = World::new(plan, &[Clip::baseline()]);
    let viewer = world.join(0, Way::Whep, Quality::GOOD);
    world.run_for(Duration::from_millis(500));
    world.publish(0);
    plays(&mut world, viewer, "media of the other core");
    let away = world.viewers[viewer].id.map(|(_, core)| core).unwrap();
    let drops = |world: &World| {
        let drops = world
            .cores
            .iter()
            .map(|core| core.counters.media_mailbox_drops.get());
        drops.sum::<u64>()
    };
    let before = drops(&world);
    world.stall_core(away.index(), Duration::from_secs(2));
    world.run_for(Duration::from_secs(2));
    let dropped = drops(&world) - before;
    // 30 pictures and 50 sounds a second, less those that the mailbox holds.
    assert!(
        (100..=2 * (30 + 50)).contains(&dropped),
        "{dropped} frames were refused"
    );
    plays(&mut world, viewer, "the core's return");
    world.end();
}
