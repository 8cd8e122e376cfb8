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
    let plan = Plan { seed, cores, media_frames: 4_096, print: false };
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
    assert!(tally.pictures >= 28 * 30 && tally.sounds >= 28 * 50, "{tally:?}");
    assert!(tally.captures >= 20 * 30 && tally.skews >= 20 * 80, "{tally:?}");
    assert_eq!((tally.holes, tally.sound_breaks), (0, 0), "{tally:?}");
    assert_eq!(world.viewers[viewer].stage, Stage::Playing);
    world.end();
}
