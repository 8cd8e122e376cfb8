//! RTMP time to the server's timeline: 32-bit milliseconds that wrap, begin anywhere and jump
//! become one rising [`MediaTime`] per track, with both tracks of a publish in step
//! (Adobe RTMP 1.0 §5.3.1.2, "Timestamp").

use std::time::Instant;

use crate::media::frame::TrackKind;
use crate::media::time::{MediaTime, Timebase};

/// A step forward of a track beyond this, in ms, is a new beginning and not a pause.
const JUMP_FORWARD_MS: i64 = 10_000;
/// A step back of a track beyond this, in ms, is a new beginning and not an unsteady clock.
const JUMP_BACK_MS: i64 = -1_000;
/// Tracks whose timestamps are at most this far apart, in ms, count by the same clock.
const SAME_CLOCK_MS: i64 = 10_000;
/// Least distance of two video frames: more than a tick of 90 kHz, so that no two frames share
/// an RTP timestamp.
const VIDEO_STEP: MediaTime = MediaTime::from_micros(12);

/// Maps the timestamps of one publish.
///
/// The first media message anchors both tracks: its timestamp is the moment it arrived. A track
/// that jumps is anchored anew where the publish has got to by then; if the other track makes
/// the same jump, it joins that anchor, and if it does not, it keeps its own, so that they stay
/// in step either way.
///
/// `offset` is all that ties a track to the server's clock: a correction of the encoder's slow
/// drift would change it in small steps, on both tracks alike.
#[derive(Debug, Clone)]
pub struct Timeline {
    timebase: Timebase,
    video: Option<TrackClock>,
    audio: Option<TrackClock>,
    generations: u64,
}

/// A timestamp on the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// When the message is decoded; never before the track's previous one.
    pub dts: MediaTime,
    /// Whether the track was anchored anew by a jump.
    pub jumped: bool,
}

#[derive(Debug, Clone, Copy)]
struct TrackClock {
    /// Timestamp of the last message, as it came.
    timestamp: u32,
    /// The same, counted on over wraps.
    unwrapped_ms: i64,
    /// Timeline position of unwrapped 0.
    offset: MediaTime,
    /// Where the last message was put.
    mapped: MediaTime,
    /// When it arrived.
    arrival: Instant,
    /// Which anchor it counts by: greater is newer.
    generation: u64,
}

impl TrackClock {
    /// Milliseconds from the last message to a timestamp, in the window of ±2^31.
    fn distance_ms(&self, timestamp: u32) -> i64 {
        i64::from(timestamp.wrapping_sub(self.timestamp).cast_signed())
    }

    fn unwrap(&self, timestamp: u32) -> i64 {
        self.unwrapped_ms
            .saturating_add(self.distance_ms(timestamp))
    }

    /// How far the track has got by `now`, if it goes on in real time.
    fn position(&self, now: Instant) -> MediaTime {
        let elapsed = now.saturating_duration_since(self.arrival).as_micros();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        self.mapped.plus(MediaTime::from_micros(elapsed))
    }
}

impl Timeline {
    /// A timeline that is not anchored yet.
    #[must_use]
    pub fn new(timebase: Timebase) -> Self {
        Self {
            timebase,
            video: None,
            audio: None,
            generations: 0,
        }
    }

    /// Maps the timestamp of a track's next message, which arrived `now`.
    pub fn map(&mut self, track: TrackKind, timestamp: u32, now: Instant) -> Mapped {
        let (own, other) = match track {
            TrackKind::Video => (self.video, self.audio),
            TrackKind::Audio => (self.audio, self.video),
        };
        let jumped = own.is_some_and(|own| {
            let distance = own.distance_ms(timestamp);
            !(JUMP_BACK_MS..=JUMP_FORWARD_MS).contains(&distance)
        });
        let (unwrapped_ms, offset, generation) = match own {
            Some(own) if !jumped => (own.unwrap(timestamp), own.offset, own.generation),
            Some(_) | None => self.anchor(own, other, timestamp, now),
        };
        let position = offset.plus(MediaTime::from_millis(unwrapped_ms));
        let earliest = match (own, track) {
            (None, TrackKind::Video | TrackKind::Audio) => MediaTime::ZERO,
            (Some(own), TrackKind::Video) => own.mapped.plus(VIDEO_STEP),
            (Some(own), TrackKind::Audio) => own.mapped,
        };
        let mapped = position.max(earliest);
        let clock = TrackClock {
            timestamp,
            unwrapped_ms,
            offset,
            mapped,
            arrival: now,
            generation,
        };
        match track {
            TrackKind::Video => self.video = Some(clock),
            TrackKind::Audio => self.audio = Some(clock),
        }
        Mapped {
            dts: mapped,
            jumped,
        }
    }

    /// Unwrapped timestamp, offset and generation of a track that begins or has jumped.
    fn anchor(
        &mut self,
        own: Option<TrackClock>,
        other: Option<TrackClock>,
        timestamp: u32,
        now: Instant,
    ) -> (i64, MediaTime, u64) {
        let newer = |other: &TrackClock| own.is_none_or(|own| own.generation < other.generation);
        let near = |other: &TrackClock| other.distance_ms(timestamp).abs() <= SAME_CLOCK_MS;
        if let Some(other) = other.filter(newer).filter(near) {
            return (other.unwrap(timestamp), other.offset, other.generation);
        }
        // Whichever track was heard last says best how late this publish runs behind its anchor.
        let latest = own.into_iter().chain(other).max_by_key(|it| it.arrival);
        let position = match latest {
            Some(latest) => latest.position(now),
            None => self.timebase.media_time(now),
        };
        self.generations = self.generations.saturating_add(1);
        let unwrapped_ms = i64::from(timestamp);
        let offset = position.minus(MediaTime::from_millis(unwrapped_ms));
        (unwrapped_ms, offset, self.generations)
    }
}

#[cfg(test)]
mod tests {
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
}
