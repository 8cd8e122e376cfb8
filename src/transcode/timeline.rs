//! Where sound belongs in time: the publisher's timestamps say it to the millisecond and with
//! jitter, the number of samples says it exactly but by another clock.
//!
//! Samples are counted. How far the timestamps are from the count, averaged, trims the resampler,
//! so that drift between the two clocks settles at a few milliseconds and never accumulates. Only a
//! distance that no jitter explains is a gap or an overlap.

use std::time::Duration;

use super::packetizer::samples_time;
use crate::limits::{AUDIO_GAP_MAX, AUDIO_JITTER_MAX, AUDIO_OVERLAP_MAX};
use crate::media::time::{AUDIO_CLOCK_RATE, MediaTime};

/// The distance is averaged over this, in microseconds: a hundred times RTMP's rounding period,
/// a tenth of the time in which the trim acts.
const AVERAGE_OVER_MICROS: f64 = 2_000_000.0;
/// A lasting distance up to this, in microseconds, is left alone: sound whose timestamps follow
/// from its samples is then never touched.
const TOLERANCE_MICROS: f64 = 3_000.0;
/// What is beyond is undone at this part of it a second. 200 ppm of drift thus settle at
/// 3 + 3.3 ms, and [`AUDIO_JITTER_MAX`] asks for 0.22 %, below what is heard as a change of pitch.
const CORRECTION_PER_SECOND: f64 = 0.06;

/// What a unit's time means for the sound before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// It goes on.
    Continues,
    /// It is cut here: silence is missing, or sound came twice.
    Cut,
    /// It has nothing to do with it any more.
    Jump,
}

/// The count of samples, and how far the timestamps are from it.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    /// When sample 0 is heard.
    origin: MediaTime,
    /// Samples of 48 kHz, per channel, since.
    samples: u64,
    /// Average distance of the timestamps from the count, in microseconds: positive if the sound
    /// is behind them.
    skew_micros: f64,
    silence_left: SilenceBudget,
}

/// Silence that may still be made for a stream. Sound earns as much silence as it lasts, so that
/// timestamps alone cannot make work.
#[derive(Debug, Clone, Copy)]
pub(super) struct SilenceBudget(MediaTime);

impl Default for SilenceBudget {
    /// One gap of the longest kind.
    fn default() -> Self {
        Self(from_duration(AUDIO_GAP_MAX))
    }
}

impl Timeline {
    /// Begins at `origin`, with what is left of the stream's budget.
    pub(super) fn new(origin: MediaTime, silence_left: SilenceBudget) -> Self {
        Self {
            origin,
            samples: 0,
            skew_micros: 0.0,
            silence_left,
        }
    }

    /// What is left of the stream's budget.
    pub(super) fn silence_left(&self) -> SilenceBudget {
        self.silence_left
    }

    /// Counts `samples` of 48 kHz, per channel.
    pub(super) fn advance(&mut self, samples: u64) {
        self.samples = self.samples.saturating_add(samples);
    }

    /// When the sample after the last counted one is heard.
    pub(super) fn end(&self) -> MediaTime {
        self.origin
            .plus(samples_time(self.samples, AUDIO_CLOCK_RATE))
    }

    /// Average distance of the timestamps from the count: positive if the sound is behind them.
    pub(super) fn skew(&self) -> MediaTime {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, and stays within the jitter"
        )]
        MediaTime::from_micros(self.skew_micros as i64)
    }

    /// What sound that says it is `distance` later than it would be by count (earlier, if
    /// negative) means for the sound before it.
    pub(super) fn place(&self, distance: MediaTime) -> Placement {
        let jitter = from_duration(AUDIO_JITTER_MAX);
        let SilenceBudget(gap_max) = self.silence_left;
        let overlap_max = from_duration(AUDIO_OVERLAP_MAX);
        if distance > jitter {
            if distance > gap_max {
                return Placement::Jump;
            }
            return Placement::Cut;
        }
        if distance < MediaTime::ZERO.minus(overlap_max) {
            return Placement::Jump;
        }
        if distance < MediaTime::ZERO.minus(jitter) {
            return Placement::Cut;
        }
        Placement::Continues
    }

    /// Sound of `duration` goes on, `distance` from its place by count.
    pub(super) fn observe(&mut self, distance: MediaTime, duration: MediaTime) {
        let part = micros(duration) / (micros(duration) + AVERAGE_OVER_MICROS);
        self.skew_micros += (micros(distance) - self.skew_micros) * part;
        let SilenceBudget(left) = self.silence_left;
        self.silence_left = SilenceBudget(left.plus(duration).min(from_duration(AUDIO_GAP_MAX)));
    }

    /// The sound was cut, and its next piece set exactly after `silence`.
    pub(super) fn cut(&mut self, silence: MediaTime) {
        self.skew_micros = 0.0;
        let SilenceBudget(left) = self.silence_left;
        self.silence_left = SilenceBudget(left.minus(silence).max(MediaTime::ZERO));
    }

    /// The sound was put later by `shift` (earlier, if negative), and is so much less behind the
    /// timestamps from here on.
    pub(super) fn shifted(&mut self, shift: MediaTime) {
        self.skew_micros -= micros(shift);
    }

    /// The part by which the sound should be longer (shorter, if negative) for now.
    pub(super) fn trim(&self) -> f64 {
        let beyond = (self.skew_micros.abs() - TOLERANCE_MICROS).max(0.0);
        beyond.copysign(self.skew_micros) * CORRECTION_PER_SECOND / 1_000_000.0
    }
}

fn micros(time: MediaTime) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "what is averaged is within the jitter"
    )]
    let micros = time.as_micros() as f64;
    micros
}

fn from_duration(duration: Duration) -> MediaTime {
    MediaTime::from_micros(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: MediaTime = MediaTime::from_millis(20);

    fn timeline() -> Timeline {
        Timeline::new(MediaTime::ZERO, SilenceBudget::default())
    }

    #[test]
    fn distance_decides_between_jitter_cut_and_jump() {
        let timeline = timeline();
        for (millis, placement) in [
            (0, Placement::Continues),
            (40, Placement::Continues),
            (-40, Placement::Continues),
            (41, Placement::Cut),
            (-41, Placement::Cut),
            (2_000, Placement::Cut),
            (-1_000, Placement::Cut),
            (2_001, Placement::Jump),
            (-1_001, Placement::Jump),
            (i64::MAX, Placement::Jump),
            (i64::MIN, Placement::Jump),
        ] {
            let distance = MediaTime::from_millis(millis);
            assert_eq!(timeline.place(distance), placement, "{millis} ms");
        }
    }

    #[test]
    fn end_is_exact_after_a_day() {
        let mut timeline = timeline();
        timeline.advance(86_400 * 48_000);
        assert_eq!(timeline.end(), MediaTime::from_millis(86_400_000));
    }

    #[test]
    fn rounding_to_milliseconds_trims_nothing() {
        let mut timeline = timeline();
        for index in 0..10_000_i64 {
            timeline.observe(MediaTime::from_micros(index * 337 % 1_000 - 500), FRAME);
            assert_eq!(timeline.trim().abs(), 0.0);
        }
    }

    #[test]
    fn lasting_skew_is_trimmed_towards_the_timestamps() {
        for (millis, sign) in [(20, 1.0), (-20, -1.0)] {
            let mut timeline = timeline();
            for _ in 0..1_000 {
                timeline.observe(MediaTime::from_millis(millis), FRAME);
            }
            let trim = timeline.trim() * sign;
            assert!((0.000_9..0.001_1).contains(&trim), "{trim}");
        }
    }

    /// Sound of 44.1 kHz whose timestamps run fast or slow by `ppm(second)` against its samples,
    /// rounded to milliseconds, as a corrected clock gives them: the greatest step of the trim
    /// and the greatest skew, in ms, of an hour.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an hour in samples"
    )]
    fn follow(ppm: impl Fn(u64) -> f64) -> (f64, i64) {
        const UNIT: f64 = 1_024.0 / 44_100.0;
        let mut timeline = timeline();
        let (mut pts, mut pending) = (0.0_f64, 0.0);
        let (mut step, mut skew) = (0.0_f64, 0);
        for index in 0..155_000 {
            let rounded = MediaTime::from_millis((pts * 1_000.0) as i64);
            let distance = rounded.minus(timeline.end());
            assert_eq!(timeline.place(distance), Placement::Continues);
            let before = timeline.trim();
            timeline.observe(distance, MediaTime::from_micros(23_220));
            step = step.max((timeline.trim() - before).abs());
            skew = skew.max(timeline.skew().as_micros().abs() / 1_000);
            // The resampler makes as much more or less as the trim says.
            pending += UNIT * 48_000.0 * (1.0 + timeline.trim());
            let whole = pending.floor();
            timeline.advance(whole as u64);
            pending -= whole;
            pts += UNIT * (1.0 + ppm((f64::from(index) * UNIT) as u64) / 1_000_000.0);
        }
        (step, skew)
    }

    #[test]
    fn corrected_timestamps_are_followed_without_a_cut_or_a_step() {
        for ppm in [200.0, -200.0, 500.0, -500.0] {
            let (step, skew) = follow(|_| ppm);
            assert!(step < 0.000_01, "{ppm}: {step}");
            assert!(skew <= 12, "{ppm}: {skew} ms");
            // The rate is set anew every quarter of a minute.
            let (step, skew) = follow(|second| match second / 15 % 2 {
                0 => ppm,
                _ => -ppm,
            });
            assert!(step < 0.000_01, "±{ppm}: {step}");
            assert!(skew <= 12, "±{ppm}: {skew} ms");
        }
    }

    #[test]
    fn silence_must_be_earned_by_sound() {
        let mut timeline = timeline();
        let gap = MediaTime::from_millis(1_500);
        assert_eq!(timeline.place(gap), Placement::Cut);
        timeline.cut(gap);
        assert_eq!(timeline.place(gap), Placement::Jump);
        for _ in 0..50 {
            timeline.observe(MediaTime::ZERO, FRAME);
        }
        assert_eq!(timeline.place(gap), Placement::Cut);
    }
}
