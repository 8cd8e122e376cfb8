//! Children that hang or fail, and when a stream is given up.

use super::*;

#[test]
fn a_child_that_takes_frames_and_gives_none_for_a_second_is_replaced() {
    let mut world = World::open(VideoSettings::default());
    world.begin();
    world.run(29);
    assert_eq!(world.restarts(), 0);
    let before = world.child();
    world.run(3);
    assert_eq!(world.restarts(), 1);
    assert_eq!(world.killed, [before]);
}

#[test]
fn a_child_that_never_gives_a_frame_is_replaced_as_soon() {
    let mut world = World::open(VideoSettings::default());
    world.run(29);
    assert_eq!(world.restarts(), 0);
    world.run(3);
    assert_eq!(world.restarts(), 1);
}

#[test]
fn an_encoder_in_hardware_has_longer_for_its_first_frame() {
    let mut world = World::open(VideoSettings {
        encoder: VideoEncoder::Nvenc,
        ..VideoSettings::default()
    });
    world.run(88);
    assert_eq!(world.restarts(), 0);
    world.run(5);
    assert_eq!(world.restarts(), 1);
}

#[test]
fn children_that_never_give_a_frame_open_the_breaker_within_seconds() {
    let mut world = World::open(VideoSettings::default());
    let (start, mut restarts) = (world.now, 0);
    while world.failure().is_none() {
        world.run(1);
        if world.restarts() > restarts {
            restarts = world.restarts();
            let newest = world.next - 1;
            for number in newest / 60 * 60..=newest {
                world.frame_number(number, number < newest);
            }
            world.read();
        }
        assert!(world.now - start < Duration::from_secs(8), "{restarts}");
    }
    assert_eq!(restarts, 5);
    assert!(world.failure().unwrap().0.contains("gives none"));
}

#[test]
fn a_silent_child_that_computes_is_spared_but_not_for_ever() {
    let mut world = World::open(VideoSettings::default());
    world.begin();
    let since = world.now;
    while world.restarts() == 0 {
        world.frame_number(world.next, false);
        world.next += 1;
        world.read();
        world.now += FRAME;
        for child in world.transcoder.suspects(world.now) {
            world.transcoder.spare(child, world.now);
        }
        world.pass(Duration::ZERO);
    }
    let silent = world.now - since;
    let expected = Duration::from_secs(5);
    assert!(
        (expected..expected + 2 * FRAME).contains(&silent),
        "{silent:?}"
    );
}

#[test]
fn a_publisher_s_pause_is_no_hang() {
    let mut world = World::open(VideoSettings::default());
    world.begin();
    // As many as a codec may keep back.
    world.run(16);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.restarts(), 0);
    assert_eq!(world.settle(), None);
}

#[test]
fn the_deadline_is_when_the_child_would_hang() {
    let mut world = World::open(VideoSettings::default());
    world.begin();
    let since = world.now;
    world.run(20);
    assert_eq!(world.settle(), Some(since + Duration::from_secs(1)));
}

#[test]
fn six_failures_within_a_minute_end_the_stream() {
    let mut world = World::open(VideoSettings::default());
    for _ in 0..5 {
        world.run(1);
        world.die("Segmentation fault");
        assert_eq!(world.failure(), None);
    }
    world.die("Segmentation fault");
    let (text, retry_after) = world.failure().unwrap();
    assert!(text.contains("failed 5 times in a minute") && text.contains("Segmentation fault"));
    assert_eq!(retry_after, Some(Duration::from_secs(60)));
    assert_eq!(world.transcoder.stats().streams, 0);
    assert_eq!(world.started.len(), 6);
}

#[test]
fn failures_far_apart_end_nothing() {
    let mut world = World::open(VideoSettings::default());
    for _ in 0..20 {
        world.die("");
        world.pass(Duration::from_secs(13));
    }
    assert_eq!(world.failure(), None);
    assert_eq!(world.restarts(), 20);
}

/// The cached frames are sent once more to each new child, and with them what spends it.
#[test]
fn pictures_shown_long_before_the_first_cost_no_child() {
    let mut world = World::open(VideoSettings::default());
    for _ in 0..20 {
        world.frame_shown_after(600, 8_000);
        world.frame_shown_after(601, -8_000);
    }
    assert_eq!((world.started.len(), world.restarts()), (1, 0));
    let expected = [("<600>".into(), 0), ("<601>".into(), 2)];
    assert_eq!(world.commands(), expected);
}

#[test]
fn times_that_no_child_can_be_told_start_no_children_without_end() {
    let mut world = World::open(VideoSettings::default());
    let days = 13 * 86_400_000;
    for _ in 0..100 {
        world.frame_shown_after(600, 0);
        world.frame_shown_after(601, days);
    }
    assert_eq!(world.started.len(), 8);
    let (text, retry_after) = world.failure().unwrap();
    assert!(text.contains("again and again"), "{text}");
    assert_eq!(retry_after, Some(Duration::from_secs(10)));
    assert_eq!(world.started.len(), world.killed.len());
}

#[test]
fn a_few_configurations_in_a_row_are_served_at_once() {
    let mut world = World::open(VideoSettings::default());
    for round in 0..3 {
        for change in 0..7 {
            world.configure((round + change) % 2 == 0);
            world.run(1);
        }
        assert_eq!(world.failure(), None, "in round {round}");
        assert_eq!(world.started.len(), 1 + 7 * (round + 1));
        world.pass(Duration::from_secs(40));
    }
}

#[test]
fn configurations_without_end_start_no_children_without_end() {
    let mut world = World::open(VideoSettings::default());
    let start = world.now;
    // The core begins anew with each other configuration, whatever was said before.
    for change in 0..1_000 {
        world.configure(change % 2 == 0);
        world.run(1);
        if world.transcoder.stats().streams == 0 {
            world.open_stream(PUBLISHER);
        }
    }
    let seconds = usize::try_from((world.now - start).as_secs()).unwrap();
    let expected = 8 + seconds / 5;
    assert!(
        (expected - 1..=expected).contains(&world.started.len()),
        "{} in {seconds} s",
        world.started.len()
    );
    assert!(world.failure().unwrap().0.contains("again and again"));
    // Another publish has a budget of its own.
    let before = world.started.len();
    world.open_stream(PublisherId(8));
    assert_eq!(world.started.len(), before + 1);
    // And this one has it again after a while.
    world.pass(Duration::from_secs(40));
    world.replies.clear();
    world.open_stream(PUBLISHER);
    assert_eq!(world.failure(), None);
}
