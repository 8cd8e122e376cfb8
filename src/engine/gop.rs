//! A publish's coded pictures since its last keyframe, for a transcoder that begins in the middle,
//! and how fast they come.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::{GOP_BYTES_MAX, GOP_FRAMES_MAX};
use crate::media::codec::CodedFrame;

/// Time over which the bit rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(2);
/// Time after which a first figure is given: a keyframe alone says nothing.
const RATE_FIRST: Duration = Duration::from_millis(500);
const BITS_PER_BYTE: u128 = 8;
/// Fewest steps from picture to picture that tell their rate, and rates that are believed, in pictures
/// in 1,000 s.
const RATE_STEPS_MIN: usize = 8;
const RATES: std::ops::RangeInclusive<u32> = 1_000..=240_000;
const MICROS_OF_1000_S: i64 = 1_000_000_000;

/// Pictures from the newest keyframe on, in decoding order; where keyframes are far apart, from the
/// last recovery point but one, so that the picture has recovered at the newest. Empty after too many
/// of them, until the next place to begin at.
#[derive(Debug, Default)]
pub(super) struct Gop {
    frames: VecDeque<CodedFrame>,
    bytes: usize,
    /// Where the newest recovery point is.
    recovery: Option<usize>,
}

impl Gop {
    /// Appends a picture, or begins anew with it.
    pub(super) fn push(&mut self, frame: CodedFrame) {
        if frame.key {
            self.clear();
        } else if frame.recovery {
            self.begin_at_recovery_point();
        } else if self.frames.is_empty() {
            return;
        }
        self.bytes = self.bytes.saturating_add(frame.data.len());
        if self.frames.len() >= GOP_FRAMES_MAX || self.bytes > GOP_BYTES_MAX {
            self.clear();
            return;
        }
        self.frames.push_back(frame);
    }

    /// A recovery point comes: what is before the one before it is not needed any more.
    fn begin_at_recovery_point(&mut self) {
        let before = self.recovery.unwrap_or(0).min(self.frames.len());
        let gone: usize = self.frames.drain(..before).map(|it| it.data.len()).sum();
        self.bytes = self.bytes.saturating_sub(gone);
        self.recovery = Some(self.frames.len());
    }

    pub(super) fn clear(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.recovery = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many pictures in 1,000 s come, by most of those that are kept; `None` if they are too few.
    pub(super) fn frames_per_1000_s(&self) -> Option<u32> {
        let times = self.frames.iter().map(|frame| frame.dts);
        let steps = times.clone().skip(1).zip(times);
        let mut steps: Vec<i64> = steps.map(|(b, a)| b.minus(a).as_micros()).collect();
        if steps.len() < RATE_STEPS_MIN {
            return None;
        }
        let middle = steps.len() / 2;
        let (_, usual, _) = steps.select_nth_unstable(middle);
        let rate = MICROS_OF_1000_S.checked_div(*usual)?;
        u32::try_from(rate).ok().filter(|rate| RATES.contains(rate))
    }

    /// Each picture, and whether it is only to be decoded: it is shown before the newest one. With the
    /// first decoding begins, whatever it is.
    pub(super) fn replay(&self) -> impl Iterator<Item = (CodedFrame, bool)> + '_ {
        let newest = self.frames.back().map(|frame| frame.pts);
        let is_past = move |frame: &CodedFrame| Some(frame.pts) < newest;
        self.frames.iter().enumerate().map(move |(index, frame)| {
            let mut frame = frame.clone();
            frame.key |= index == 0;
            let is_past = is_past(&frame);
            (frame, is_past)
        })
    }
}

/// Bits a second, measured over the last seconds.
#[derive(Debug, Default)]
pub(super) struct BitRate {
    began: Option<Instant>,
    bytes: u64,
    measured: Option<u32>,
}

impl BitRate {
    /// Counts what was received.
    pub(super) fn count(&mut self, bytes: usize, received: Instant) {
        let began = *self.began.get_or_insert(received);
        let elapsed = received.saturating_duration_since(began);
        if elapsed >= RATE_WINDOW {
            self.measured = rate(self.bytes, elapsed);
            self.began = Some(received);
            self.bytes = 0;
        } else if self.measured.is_none() && elapsed >= RATE_FIRST {
            self.measured = rate(self.bytes, elapsed);
        }
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// What was measured last; `None` in the first half second.
    pub(super) fn bits_per_second(&self) -> Option<u32> {
        self.measured
    }
}

fn rate(bytes: u64, elapsed: Duration) -> Option<u32> {
    let bits = u128::from(bytes).saturating_mul(BITS_PER_BYTE);
    let per_second = bits.saturating_mul(1_000) / elapsed.as_millis().max(1);
    u32::try_from(per_second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::time::MediaTime;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn frame(pts_ms: i64, key: bool, bytes: usize) -> CodedFrame {
        CodedFrame {
            pts: MediaTime::from_millis(pts_ms),
            dts: MediaTime::from_millis(pts_ms),
            key,
            recovery: false,
            disposable: false,
            data: vec![0; bytes].into(),
            received: Instant::now(),
        }
    }

    fn replayed(gop: &Gop) -> Vec<(i64, bool)> {
        gop.replay()
            .map(|(frame, past)| (frame.pts.as_micros() / 1_000, past))
            .collect()
    }

    #[test]
    fn pictures_from_the_last_keyframe_on_are_kept_and_what_is_past_is_only_decoded() {
        let mut gop = Gop::default();
        gop.push(frame(0, false, 1));
        assert!(gop.is_empty(), "nothing decodes it");
        // As they are sent: I P B B P, shown as I B B P … P.
        for (pts, key) in [
            (0, true),
            (40, true),
            (160, false),
            (80, false),
            (120, false),
        ] {
            gop.push(frame(pts, key, 1));
        }
        let expected = [(40, true), (160, false), (80, true), (120, false)];
        assert_eq!(replayed(&gop), expected);
        gop.push(frame(240, false, 1));
        assert!(
            replayed(&gop)
                .iter()
                .all(|(pts, past)| *past == (*pts < 240))
        );
    }

    #[test]
    fn without_keyframes_pictures_from_the_last_recovery_point_but_one_on_are_kept() {
        let mut gop = Gop::default();
        let push = |gop: &mut Gop, range: std::ops::Range<i64>, recovers: fn(i64) -> bool| {
            for number in range {
                gop.push(CodedFrame {
                    recovery: recovers(number),
                    ..frame(number, false, 1)
                });
            }
        };
        push(&mut gop, 0..5, |_| false);
        assert!(gop.is_empty(), "nothing to begin with");
        push(&mut gop, 5..5_000, |number| number % 60 == 0);
        let kept = replayed(&gop);
        assert_eq!(kept.first(), Some(&(4_920, true)));
        assert_eq!((kept.len(), gop.bytes), (80, 80));
        let keys = gop.replay().filter(|(frame, _)| frame.key);
        assert_eq!(keys.count(), 1, "the first");
        gop.push(frame(5_000, true, 1));
        push(&mut gop, 5_001..5_070, |number| number % 60 == 0);
        assert_eq!(replayed(&gop).first(), Some(&(5_000, true)), "a keyframe");
        push(&mut gop, 5_070..5_101, |number| number % 60 == 0);
        assert_eq!(replayed(&gop).first(), Some(&(5_040, true)));
    }

    #[test]
    fn pictures_tell_their_rate_if_they_are_enough() {
        let mut gop = Gop::default();
        for number in 0..8 {
            gop.push(frame(number * 40, number == 0, 1));
        }
        assert_eq!(gop.frames_per_1000_s(), None);
        gop.push(frame(320, false, 1));
        assert_eq!(gop.frames_per_1000_s(), Some(25_000));
        // A pause says nothing.
        gop.push(frame(5_000, false, 1));
        assert_eq!(gop.frames_per_1000_s(), Some(25_000));
        let mut flood = Gop::default();
        for number in 0..20 {
            flood.push(frame(i64::from(number > 10), number == 0, 1));
        }
        assert_eq!(flood.frames_per_1000_s(), None);
    }

    #[test]
    fn too_much_is_dropped_until_the_next_keyframe() {
        let mut gop = Gop::default();
        for number in 0..3_000 {
            gop.push(frame(number, number == 0, 1));
            assert!(gop.frames.len() <= GOP_FRAMES_MAX);
        }
        assert!(gop.is_empty());
        gop.push(frame(4_000, true, GOP_BYTES_MAX));
        assert_eq!(replayed(&gop), [(4_000, false)]);
        gop.push(frame(4_040, false, 1));
        assert!(gop.is_empty() && gop.bytes == 0);
    }

    #[test]
    fn bit_rate_follows_what_comes() {
        let mut rate = BitRate::default();
        let start = frame(0, true, 0).received;
        let mut at = |number: u32, bytes| {
            rate.count(bytes, start + Duration::from_millis(40) * number);
            rate.bits_per_second()
        };
        assert_eq!(at(0, 10_000), None);
        let first: Vec<_> = (1..60).map(|number| at(number, 10_000)).collect();
        // 25 × 10,000 bytes a second.
        assert_eq!(first.last(), Some(&Some(2_000_000)));
        let second: Vec<_> = (60..180).map(|number| at(number, 1_000)).collect();
        assert_eq!(second.last(), Some(&Some(200_000)));
    }
}
