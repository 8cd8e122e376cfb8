//! A core that cannot send all that it should: nobody is shown ever older pictures, and nobody is
//! shown broken ones (which `watch` checks).

use std::time::Duration;

use super::clip::Clip;
use super::network::Quality;
use super::viewer::{Stage, Way};
use super::world::{Plan, World};

/// As many as make a batch a small part of what one may wait.
const VIEWERS: usize = 40;
/// Longest that a picture may come after its capture. It takes a second until a core is known to be
/// overloaded, and turns are long here; without an end to it pictures would come later and later, up
/// to a keyframe interval.
const LATE_MAX: Duration = Duration::from_millis(1_100);

fn skipped(world: &World) -> u64 {
    let cores = world
        .cores
        .iter()
        .map(|core| core.counters.frames_skipped.get());
    cores.sum()
}

/// Lets a core have a quarter more to send than it can. Sound, which goes on, is half of it.
fn overload(world: &mut World, core: usize) {
    const MEASURED_SECONDS: u32 = 2;
    let before = world.cores[core].counters.rtp_packets.get();
    world.run_for(Duration::from_secs(MEASURED_SECONDS.into()));
    let after = world.cores[core].counters.rtp_packets.get();
    let packets = u32::try_from(after - before).unwrap();
    assert!(packets > 0, "core {core} sends nothing");
    world.cores[core].datagram_cost =
        Duration::from_secs(MEASURED_SECONDS.into()) * 5 / 4 / packets;
}

/// Pictures that each of the viewers got in a while, none of them too late.
fn pictures_in(world: &mut World, viewers: &[usize], time: Duration) -> Vec<usize> {
    for &viewer in viewers {
        world.viewers[viewer].watch.latest_micros = i64::MIN;
    }
    let pictures = |world: &World| -> Vec<usize> {
        let counts = viewers
            .iter()
            .map(|&viewer| world.viewers[viewer].watch.counts.0);
        counts.collect()
    };
    let before = pictures(world);
    world.run_for(time);
    for &viewer in viewers {
        let late = world.viewers[viewer].watch.latest_micros;
        let late = Duration::from_micros(u64::try_from(late).unwrap_or(0));
        assert!(
            late <= LATE_MAX,
            "viewer {viewer}: a picture came {late:?} late"
        );
        assert_eq!(world.viewers[viewer].stage, Stage::Playing);
    }
    let after = pictures(world);
    after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect()
}

#[test]
fn overloaded_core_leaves_out_pictures_up_to_a_keyframe_and_all_viewers_stay_live() {
    for cores in [1, 2] {
        let plan = Plan {
            seed: 200 + u64::from(cores),
            cores,
            media_frames: 4_096,
            print: false,
        };
        let mut world = World::new(plan, &[Clip::rare_keyframes()]);
        let all: Vec<usize> = (0..VIEWERS * usize::from(cores))
            .map(|_| world.join(0, Way::Whep, Quality::GOOD))
            .collect();
        world.run_for(Duration::from_secs(1));
        let publisher = world.publish(0);
        world.run_for(Duration::from_secs(5));
        assert_eq!(skipped(&world), 0, "nothing is left out without need");
        // The publisher's core, or the one that is fed by it.
        let home = world.publishers[publisher].id.unwrap().0.index();
        let busy = (home + usize::from(cores) - 1) % usize::from(cores);
        let on_it = |viewer: &usize| world.viewers[*viewer].id.unwrap().1.index() == busy;
        let viewers: Vec<usize> = all.into_iter().filter(on_it).collect();
        assert!(viewers.len() >= VIEWERS / 2, "{}", viewers.len());
        overload(&mut world, busy);
        let rode = world.sounds_in_trains;
        world.run_for(Duration::from_secs(3));
        assert!(
            world.sounds_in_trains > rode + viewers.len(),
            "sound that waits with a picture leaves in its train: {rode}, {}",
            world.sounds_in_trains
        );
        let seconds = 20;
        let packets = world.cores[busy].counters.rtp_packets.get();
        let left_out = skipped(&world);
        let got = pictures_in(&mut world, &viewers, Duration::from_secs(seconds));
        let packets = world.cores[busy].counters.rtp_packets.get() - packets;
        assert!(skipped(&world) > left_out, "nothing is left out");
        // There are 600, of which a half can be sent; nobody is always the one who goes without.
        let (least, mean) = (
            got.iter().min().unwrap(),
            got.iter().sum::<usize>() / got.len(),
        );
        assert!(
            *least >= 60 && mean >= 180,
            "pictures of each in {seconds} s: {got:?}"
        );
        // What it can send it does send.
        let possible =
            Duration::from_secs(seconds).as_nanos() / world.cores[busy].datagram_cost.as_nanos();
        assert!(
            u128::from(packets) * 10 >= possible * 7,
            "{packets} packets of {possible}"
        );

        world.cores[busy].datagram_cost = Duration::ZERO;
        world.run_for(Duration::from_secs(5));
        let left_out = skipped(&world);
        let got = pictures_in(&mut world, &viewers, Duration::from_secs(5));
        assert!(got.iter().all(|&count| count >= 145), "{got:?}");
        assert_eq!(skipped(&world), left_out, "its strength is back");
        world.end();
    }
}
