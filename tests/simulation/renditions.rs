//! Named lives with video that is made anew: B-frames, failures, moves.

use std::time::Duration;

use rtmpeer::media::frame::Rendition;
use rtmpeer::messages::CoreMsg;

use super::clip::Clip;
use super::network::Quality;
use super::viewer::{Stage, Way};
use super::world::{CoreInput, Due, Plan, World};

/// A world with one room of this clip.
fn world(seed: u64, cores: u16, clip: &'static Clip) -> World {
    let plan = Plan {
        seed,
        cores,
        media_frames: 4_096,
        print: false,
    };
    World::new(plan, &[clip])
}

fn pictures(world: &World, viewer: usize) -> usize {
    world.viewers[viewer].watch.counts.0
}

fn plays(world: &mut World, viewer: usize, what: &str) {
    let before = pictures(world, viewer);
    world.run_until(what, Duration::from_secs(3), |world| {
        pictures(world, viewer) >= before + 30
    });
}

fn bind(world: &mut World, viewer: usize, rendition: Rendition) {
    let (viewer, core) = world.viewers[viewer].id.unwrap();
    let message = CoreMsg::BindViewer { viewer, rendition };
    world.cores[core.index()].mail_waiting += 1;
    world.post(world.now, Due::Core(core.index(), CoreInput::Mail(message)));
}

#[test]
fn stream_with_b_frames_plays_in_order_on_every_core() {
    for cores in [1, 2] {
        let mut world = world(200, cores, Clip::reordered());
        let first = world.join(0, Way::Whep, Quality::GOOD);
        world.run_for(Duration::from_millis(500));
        world.publish(0);
        plays(&mut world, first, "a start");
        let second = world.join(0, Way::WebSocket, Quality::GOOD);
        plays(&mut world, second, "a joiner");
        world.run_for(Duration::from_secs(20));
        let tally = world.tally();
        assert!(tally.captures > 20 * 30, "{tally:?}");
        assert_eq!(tally.holes, 0, "{tally:?}");
        assert_eq!(world.encoder.opened, 1);
        let refused = |core: &super::world::SimCore| core.counters.video_frames_refused.get();
        assert_eq!(world.cores.iter().map(refused).sum::<u64>(), 0);
        world.end();
    }
}

/// Two viewers of a source that changes what it is again and again, on one core and on two: they get so
/// many percent of its pictures, and the encoder is opened so often.
fn changes_and_keeps_its_viewers(
    seed: u64,
    clip: &'static Clip,
    percent: u64,
    opened: std::ops::RangeInclusive<u32>,
) {
    for cores in [1, 2] {
        let mut world = world(seed, cores, clip);
        let first = world.join(0, Way::Whep, Quality::GOOD);
        world.run_for(Duration::from_millis(500));
        world.publish(0);
        let second = world.join(0, Way::Whep, Quality::GOOD);
        for viewer in [first, second] {
            plays(&mut world, viewer, "a start");
        }
        let before = world.tally();
        world.run_for(Duration::from_secs(24));
        let after = world.tally();
        // At each change a few are lost: those that only the encoder saw.
        let pictures = after.pictures - before.pictures;
        assert!(
            pictures > 2 * 24 * 30 * percent / 100,
            "{pictures} pictures"
        );
        assert_eq!(after.holes, 0, "{after:?}");
        assert!(
            opened.contains(&world.encoder.opened),
            "{}",
            world.encoder.opened
        );
        assert_eq!(world.viewers[first].stage, Stage::Playing);
        world.end();
    }
}

#[test]
fn source_that_turns_unsafe_in_mid_stream_and_back_keeps_its_viewers() {
    // 120 pictures a turn.
    changes_and_keeps_its_viewers(201, Clip::turning(), 90, 5..=8);
}

#[test]
fn source_that_changes_its_codec_in_mid_stream_and_back_keeps_its_viewers() {
    // 60 pictures a turn.
    changes_and_keeps_its_viewers(207, Clip::changing_codec(), 80, 11..=14);
}

#[test]
fn viewer_moved_to_the_source_and_back_has_unbroken_numbers_and_timestamps() {
    // The source is published without B-frames, and made anew all the same.
    let mut world = world(202, 2, Clip::baseline());
    for core in &mut world.cores {
        core.engine
            .set_video_mode(rtmpeer::engine::VideoMode::Always);
    }
    let moved = world.join(0, Way::Whep, Quality::GOOD);
    world.run_for(Duration::from_millis(500));
    world.publish(0);
    let other = world.join(0, Way::Whep, Quality::GOOD);
    for viewer in [moved, other] {
        plays(&mut world, viewer, "a start");
    }
    let start = world.tally();
    for turn in 0..6 {
        let to = [Rendition::Source, Rendition::Safe][turn % 2];
        bind(&mut world, moved, to);
        // What comes later than what was shown catches up.
        let now = world.now + Duration::from_secs(1);
        world.viewers[moved].watch.excuse(now);
        world.run_for(Duration::from_secs(8));
    }
    let tally = world.tally();
    // Moving on to what comes earlier skips some pictures; moving back shows some again.
    assert!(tally.jumps - start.jumps >= 6, "{tally:?}");
    assert_eq!(tally.holes, 0, "{tally:?}");
    let count = pictures(&world, moved).abs_diff(pictures(&world, other));
    assert!(count < 40, "{count} pictures were lost or repeated");
    world.end();
}

#[test]
fn restarted_encoder_keeps_its_viewers() {
    let mut world = world(203, 2, Clip::reordered());
    let viewer = world.join(0, Way::Whep, Quality::GOOD);
    world.run_for(Duration::from_millis(500));
    world.publish(0);
    for _ in 0..5 {
        plays(&mut world, viewer, "a start");
        world.restart_encoders();
    }
    plays(&mut world, viewer, "the last restart");
    assert_eq!(world.encoder.opened, 1);
    world.end();
}

#[test]
fn failing_encoder_is_told_of_and_tried_again_while_the_sound_goes_on() {
    let mut world = world(204, 1, Clip::reordered());
    world.encoder.fails = Some(("install ffmpeg", Duration::from_secs(2)));
    world.publish(0);
    let viewer = world.join(0, Way::WebSocket, Quality::GOOD);
    world.run_for(Duration::from_secs(4));
    let (pictures, sounds) = world.viewers[viewer].watch.counts;
    assert_eq!(pictures, 0);
    assert!(sounds > 100, "{sounds} sounds");
    assert_eq!(world.viewers[viewer].told, ["install ffmpeg"]);
    world.encoder.fails = None;
    plays(&mut world, viewer, "the next try");
    let status = world.control.rooms();
    assert_eq!(status[0].viewers, 1);
    world.end();
}

#[test]
fn nobody_watching_for_ten_seconds_ends_the_encoder() {
    let mut world = world(205, 1, Clip::reordered());
    world.publish(0);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.encoder.opened, 0, "nobody watches");
    for turn in 1..3 {
        let viewer = world.join(0, Way::Whep, Quality::GOOD);
        plays(&mut world, viewer, "a start");
        world.leave(viewer, super::acts::Goodbye::Signalling);
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.encoder.streams(), 1, "it lingers");
        world.run_for(Duration::from_secs(6));
        assert_eq!(world.encoder.streams(), 0, "it lingers too long");
        assert_eq!(world.encoder.opened, turn);
    }
    world.end();
}

#[test]
fn keyframe_that_a_viewer_needs_is_made_wherever_it_is() {
    let mut world = world(206, 2, Clip::reordered());
    let far = world.join(0, Way::Whep, Quality::GOOD);
    world.run_for(Duration::from_millis(500));
    let publisher = world.publish(0);
    plays(&mut world, far, "a start");
    let core = |id: Option<(_, rtmpeer::ids::CoreId)>| id.map(|(_, core)| core);
    assert_ne!(
        core(world.viewers[far].id),
        world.publishers[publisher].id.map(|(core, _)| core)
    );
    let before = world.encoder.keyframes;
    world.viewers[far].kit.request_keyframe();
    world.viewers[far].next = world.now;
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.encoder.keyframes, before + 1);
    world.end();
}
