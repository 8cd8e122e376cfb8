//! Tests of the timeline: the mapping message by message, and simulated publishes of hours.

mod simulation;

use super::*;
use TrackKind::{Audio, Video};
use std::time::Duration;

struct Rig {
    timeline: Timeline,
    start: Instant,
}

impl Rig {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let timebase = Timebase::new(start, Duration::ZERO);
        Self {
            timeline: Timeline::new(timebase),
            start,
        }
    }

    /// Maps a message that arrives at `at_ms`; returns its place in ms.
    fn map(&mut self, track: TrackKind, timestamp: u32, at_ms: u64) -> i64 {
        self.mapped(track, timestamp, at_ms).dts.as_millis()
    }

    fn mapped(&mut self, track: TrackKind, timestamp: u32, at_ms: u64) -> Mapped {
        let now = self.start + Duration::from_millis(at_ms);
        self.timeline.map(track, timestamp, now)
    }
}

#[test]
fn first_message_of_either_track_anchors_both() {
    let mut rig = Rig::new();
    assert_eq!(rig.map(Audio, 5_000, 300), 300);
    assert_eq!(rig.map(Video, 5_040, 301), 340);
    assert_eq!(rig.map(Audio, 5_021, 350), 321);
}

#[test]
fn arrival_jitter_does_not_show() {
    let mut rig = Rig::new();
    assert_eq!(rig.map(Video, 0, 100), 100);
    assert_eq!(rig.map(Video, 33, 400), 133);
    assert_eq!(rig.map(Video, 67, 401), 167);
}

#[test]
fn time_goes_on_over_the_24_bit_mark_and_both_wraps() {
    for mark in [1_u32 << 24, 1 << 31, 0] {
        let mut rig = Rig::new();
        let first = mark.wrapping_sub(1_000);
        for step in 0..100_u32 {
            let at = i64::from(step) * 20;
            let now = u64::from(step) * 20;
            let video = rig.mapped(Video, first.wrapping_add(step * 20), now);
            let audio = rig.mapped(Audio, first.wrapping_add(step * 20), now);
            assert_eq!((video.dts.as_millis(), video.jumped), (at, false));
            assert_eq!((audio.dts.as_millis(), audio.jumped), (at, false));
        }
    }
}

#[test]
fn days_of_timestamps_are_counted_on() {
    let mut rig = Rig::new();
    let step = 9_000_u32;
    let mut timestamp = 0_u32;
    let mut at = 0_u64;
    for _ in 0..1_200_000 {
        assert_eq!(rig.map(Video, timestamp, at), i64::try_from(at).unwrap());
        timestamp = timestamp.wrapping_add(step);
        at += u64::from(step);
    }
    assert!(at > 2 * (1 << 32));
}

#[test]
fn jump_of_both_tracks_goes_on_in_real_time_and_in_step() {
    for jump in [3_600_000_i64, -10_000, -3_000, 10_001] {
        let mut rig = Rig::new();
        rig.map(Video, 100_000, 0);
        rig.map(Audio, 100_010, 10);
        let jumped = u32::try_from(100_033 + jump).unwrap();
        let video = rig.mapped(Video, jumped, 33);
        assert!(video.jumped, "{jump}");
        assert_eq!(video.dts.as_millis(), 33, "{jump}");
        assert_eq!(rig.map(Audio, jumped + 1, 34), 34, "{jump}");
        assert_eq!(rig.map(Video, jumped + 33, 66), 66, "{jump}");
    }
}

#[test]
fn jump_of_one_track_leaves_the_other_and_stays_in_step() {
    let mut rig = Rig::new();
    // The publish runs 400 ms late: the network had filled up.
    rig.map(Video, 0, 0);
    rig.map(Audio, 0, 0);
    rig.map(Video, 1_000, 1_400);
    rig.map(Audio, 1_000, 1_400);
    let audio = rig.mapped(Audio, 90_000, 1_421);
    assert!(audio.jumped);
    assert_eq!(audio.dts.as_millis(), 1_021);
    assert_eq!(rig.map(Video, 1_033, 1_433), 1_033);
    assert_eq!(rig.map(Audio, 90_021, 1_442), 1_042);
}

#[test]
fn long_pause_stays_a_pause() {
    let mut rig = Rig::new();
    rig.map(Video, 0, 0);
    rig.map(Audio, 0, 5);
    let video = rig.map(Video, 15_000, 15_000);
    assert!((14_990..=15_010).contains(&video), "{video}");
    assert_eq!(rig.map(Audio, 15_000, 15_005), video, "in step");
}

#[test]
fn track_that_paused_while_the_publish_was_held_up_is_where_the_other_is() {
    let mut rig = Rig::new();
    rig.map(Video, 0, 0);
    rig.map(Audio, 0, 0);
    // The network fills up: after 12 s, the publish is 3 s late.
    for step in 1..=50_u32 {
        rig.map(Video, step * 240, u64::from(step) * 300);
    }
    let audio = rig.mapped(Audio, 12_000, 15_000);
    assert_eq!((audio.dts.as_millis(), audio.jumped), (12_000, false));
}

#[test]
fn small_step_back_keeps_the_anchor_and_rises() {
    let mut rig = Rig::new();
    rig.map(Video, 1_000, 0);
    let first = rig.mapped(Video, 1_033, 33);
    let back = rig.mapped(Video, 533, 66);
    assert!(!back.jumped);
    assert_eq!(back.dts, first.dts.plus(VIDEO_STEP));
    assert_eq!(rig.map(Video, 1_066, 600), 66);
}

#[test]
fn video_frames_with_one_timestamp_get_different_rtp_time() {
    let mut rig = Rig::new();
    let first = rig.mapped(Video, 7, 0).dts;
    let second = rig.mapped(Video, 7, 0).dts;
    assert_ne!(first.rtp_ticks(90_000), second.rtp_ticks(90_000));
    let first = rig.mapped(Audio, 7, 0).dts;
    assert_eq!(rig.mapped(Audio, 7, 0).dts, first);
}

#[test]
fn late_track_joins_or_is_placed_by_its_arrival() {
    let mut rig = Rig::new();
    rig.map(Video, 0, 0);
    rig.map(Video, 9_990, 9_990);
    assert_eq!(rig.map(Audio, 9_980, 9_991), 9_980, "one clock");
    let mut rig = Rig::new();
    rig.map(Video, 30_000, 0);
    assert_eq!(rig.map(Audio, 0, 20), 20, "a clock of its own");
    assert_eq!(rig.map(Video, 30_033, 33), 33);
    assert_eq!(rig.map(Audio, 23, 43), 43);
}

#[test]
fn nothing_is_before_the_origin() {
    let mut rig = Rig::new();
    rig.map(Video, 5_000, 0);
    assert_eq!(rig.map(Audio, 0, 1), 0);
}
