//! Times of a source that contradict the order of its pictures. GStreamer's flvmux makes such: beside
//! sound it moves a B-frame's time behind that of the sound before it, and so often behind that of
//! the picture after it.

use super::flv_reader::FlvReadError;
use crate::media::time::MediaTime;

/// For how many pictures a source whose times were out of order is taken to go on so: some 10 s.
const DISORDER_PICTURES: u32 = 300;
/// How many pictures in a row may take times of others before them: as many as H.264 reorders
/// (14496-10 §A.3.1, `MaxDpbFrames`).
const BEHIND_MAX: u32 = 16;
/// Pictures whose times are known to be wrong are shown evenly; the mean of their times is followed
/// by this part of the difference a picture …
const FOLLOWED_SHARE: i64 = 8;
/// … unless it is more than so many pictures' time away: then there was a pause.
const PAUSE_PICTURES: i64 = 4;
const MICROS_OF_1000_S: i64 = 1_000_000_000;

/// Finds which time a picture has that a child gave out. Pictures come in the order in which they are
/// shown. Where times were fed in another, the child repeats one, since FLV cannot go back; from
/// there on the times are given out in their own order, and evened.
#[derive(Debug)]
pub(super) struct OutputOrder {
    last_told: Option<u32>,
    /// For so many more pictures times are put in order.
    disordered: u32,
    /// Pictures in a row that took the time of one before them. If they are many, the child left
    /// some out.
    behind: u32,
    /// From picture to picture, in microseconds.
    interval: Option<i64>,
    last_shown: Option<MediaTime>,
}

impl OutputOrder {
    /// For a stream of so many frames in 1,000 s, if that is known.
    pub(super) fn new(frames_per_1000_s: Option<u32>) -> Self {
        Self {
            last_told: None,
            disordered: 0,
            behind: 0,
            interval: frames_per_1000_s
                .and_then(|frames| MICROS_OF_1000_S.checked_div(frames.into())),
            last_shown: None,
        }
    }

    /// The time of the picture that the child says is of `told`; `oldest` is the first of those that
    /// were fed and did not come out yet.
    ///
    /// # Errors
    /// [`FlvReadError::Order`]: it goes back.
    pub(super) fn time_of(&mut self, told: u32, oldest: Option<u32>) -> Result<u32, FlvReadError> {
        let last = self.last_told.replace(told);
        if last.is_some_and(|last| told < last) {
            return Err(FlvReadError::Order);
        }
        if last == Some(told) {
            self.disordered = DISORDER_PICTURES;
        } else {
            self.disordered = self.disordered.saturating_sub(1);
        }
        let earlier = oldest.filter(|oldest| self.disordered > 0 && *oldest < told);
        let Some(earlier) = earlier else {
            self.behind = 0;
            return Ok(told);
        };
        self.behind = self.behind.saturating_add(1);
        Ok(if self.behind > BEHIND_MAX {
            told
        } else {
            earlier
        })
    }

    /// When a picture that came with this time is shown: then, or, if times are wrong, an even step
    /// after the last.
    pub(super) fn shown_at(&mut self, pts: MediaTime) -> MediaTime {
        let even = self.last_shown.zip(self.interval);
        let even = even.filter(|_| self.disordered > 0);
        let shown = even.map_or(pts, |(last, interval)| {
            let next = last.plus(MediaTime::from_micros(interval));
            let off = pts.minus(next).as_micros();
            if off.abs() > interval.saturating_mul(PAUSE_PICTURES) {
                return pts;
            }
            next.plus(MediaTime::from_micros(off / FOLLOWED_SHARE))
        });
        // Never back, as after a stretch of evened times.
        let after = self
            .last_shown
            .map(|last| last.plus(MediaTime::from_micros(1)));
        let shown = after.map_or(shown, |after| shown.max(after));
        self.last_shown = Some(shown);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_a_child_leaves_out_hold_up_no_others_for_long() {
        let fed: Vec<u32> = (0..40).map(|number| number * 33).collect();
        let mut order = OutputOrder::new(None);
        // Once it repeats a time, then one frame is missing, and none after it.
        for told in [fed[3], fed[3]] {
            order.time_of(told, Some(told)).unwrap();
        }
        let mut pending: Vec<u32> = fed[4..].to_vec();
        let mut late = 0;
        for told in fed[5..].iter().copied() {
            let time = order.time_of(told, pending.first().copied()).unwrap();
            pending.retain(|ms| *ms > time);
            late = if time == told { 0 } else { late + 1 };
        }
        assert_eq!(late, 0, "in step again");
    }

    #[test]
    fn disordered_times_are_shown_evenly_and_in_step_with_the_sound() {
        let mut order = OutputOrder::new(Some(30_000));
        let mut shown = Vec::new();
        // Four pictures in 133.3 ms, whose times are wrong by these many ms.
        for (number, wrong) in (0..240).zip([0, 45, 11, 17].into_iter().cycle()) {
            let true_ms: u32 = number * 100 / 3;
            let told = 10_000 + true_ms / 133 * 133;
            order.time_of(told, None).unwrap();
            let pts = MediaTime::from_millis(i64::from(true_ms + wrong));
            let shown_at = order.shown_at(pts).as_micros();
            shown.push((i64::from(true_ms), shown_at));
        }
        for pair in shown[30..].windows(2) {
            let step = pair[1].1 - pair[0].1;
            assert!((28_000..=39_000).contains(&step), "{step}");
            let late = pair[1].1 - pair[1].0 * 1_000;
            assert!((0..=40_000).contains(&late), "{late}");
        }
        // A pause is one, and the order of times is kept when they are right again.
        let pts = MediaTime::from_millis(20_000);
        order.time_of(40_000, None).unwrap();
        assert_eq!(order.shown_at(pts), pts);
        assert!(order.shown_at(MediaTime::from_millis(19_990)) > pts);
    }

    #[test]
    fn right_times_stay_as_they_are() {
        let mut order = OutputOrder::new(Some(30_000));
        for (told, micros) in [(0, 3), (34, 34_001), (61, 60_999), (400, 400_007)] {
            assert_eq!(order.time_of(told, Some(told)), Ok(told));
            let pts = MediaTime::from_micros(micros);
            assert_eq!(order.shown_at(pts), pts);
        }
    }
}
