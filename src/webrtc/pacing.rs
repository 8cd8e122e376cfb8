//! How fast a viewer's packets may leave: token buckets for video and for retransmissions.
//!
//! A bucket of bytes fills at a rate and holds a bounded number; what does not fit waits. Bursts
//! of about 1.5 MB at once are lost on the way, and slower than 20 Mbit/s a join takes seconds.

use std::time::{Duration, Instant};

use super::track::PACKET_OVERHEAD_BYTES;
use crate::limits::RTP_PAYLOAD_BYTES_MAX;

/// Video leaves at this rate at least, in bytes a second: 40 Mbit/s.
const VIDEO_BYTES_PER_SECOND: u64 = 5_000_000;
/// Video of a join's burst that may leave at once, in bytes: about ten packets.
const JOIN_TRAIN_BYTES: u64 = 12_000;
/// Live video that may leave at once, in bytes: a whole keyframe of 720p at 2.5 Mbit/s, and about
/// what the kernel takes as one train. Larger frames go on in trains of this size.
const LIVE_TRAIN_BYTES: u64 = 72_000;
/// A live frame is to be gone in this part of the frame interval, 1/4.
const LIVE_SHARE: u32 = 4;
/// Frame interval assumed until one is seen.
const INTERVAL_DEFAULT: Duration = Duration::from_millis(33);
/// Frame intervals outside of this are a pause or a broken clock, not a frame rate.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(8)..=Duration::from_millis(100);
/// Retransmissions: this part of what is sent, 1/4 …
const RESEND_SHARE: u64 = 4;
/// … and this much besides, in bytes a second.
const RESEND_BYTES_PER_SECOND: u64 = 16_000;
/// Retransmissions that may leave at once, in bytes: a keyframe of 6 Mbit/s video.
const RESEND_BURST_BYTES: u64 = 150_000;
/// The largest packet with all that it has on the wire, in bytes.
const PACKET_BYTES_MAX: u64 = (RTP_PAYLOAD_BYTES_MAX + PACKET_OVERHEAD_BYTES) as u64;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A bucket of bytes that fills with time.
#[derive(Debug, Clone)]
struct Bucket {
    bytes: u64,
    burst_bytes: u64,
    updated: Instant,
}

impl Bucket {
    fn full(burst_bytes: u64, now: Instant) -> Self {
        Self {
            bytes: burst_bytes,
            burst_bytes,
            updated: now,
        }
    }

    fn fill(&mut self, bytes_per_second: u64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated);
        let bytes = elapsed.as_nanos().saturating_mul(bytes_per_second.into()) / NANOS_PER_SECOND;
        if bytes == 0 {
            // Not counted as filled: at every call a little less than a byte would be lost.
            return;
        }
        self.updated = now;
        self.add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Makes it hold at most so much.
    fn resize(&mut self, burst_bytes: u64) {
        self.burst_bytes = burst_bytes;
        self.bytes = self.bytes.min(burst_bytes);
    }

    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes).min(self.burst_bytes);
    }

    /// What is more than a full bucket costs a full one.
    fn take(&mut self, bytes: u64) -> bool {
        match self.bytes.checked_sub(bytes.min(self.burst_bytes)) {
            Some(left) => {
                self.bytes = left;
                true
            }
            None => false,
        }
    }
}

/// The pace of one viewer's video.
#[derive(Debug, Clone)]
pub(super) struct VideoPacer {
    bucket: Bucket,
    bytes_per_second: u64,
    interval: Duration,
}

impl VideoPacer {
    /// Begins with a full bucket.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            bucket: Bucket::full(LIVE_TRAIN_BYTES, now),
            bytes_per_second: VIDEO_BYTES_PER_SECOND,
            interval: INTERVAL_DEFAULT,
        }
    }

    /// Sets the rate for a frame of `bytes`. A live frame is to be gone in a quarter of a frame
    /// interval, so that it does not delay the next; `since_last` is its distance from the frame
    /// before. Frames of a join's burst keep the lowest rate and leave in small trains.
    pub(super) fn begin_frame(&mut self, bytes: usize, live: bool, since_last: Option<Duration>) {
        if let Some(interval) = since_last.filter(|interval| INTERVALS.contains(interval)) {
            self.interval = interval;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let train_bytes = if live {
            LIVE_TRAIN_BYTES
        } else {
            JOIN_TRAIN_BYTES
        };
        self.bucket.resize(train_bytes);
        let queued = u128::from(bytes.saturating_sub(train_bytes));
        let time = (self.interval / LIVE_SHARE).as_nanos().max(1);
        let needed = queued.saturating_mul(NANOS_PER_SECOND) / time;
        let needed = if live { needed } else { 0 };
        self.bytes_per_second = u64::try_from(needed)
            .unwrap_or(u64::MAX)
            .max(VIDEO_BYTES_PER_SECOND);
    }

    /// Takes packets of `sizes` bytes, as many as may leave; how many those are.
    pub(super) fn take(&mut self, sizes: impl Iterator<Item = usize>, now: Instant) -> usize {
        self.bucket.fill(self.bytes_per_second, now);
        sizes
            .take_while(|&bytes| {
                let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
                self.bucket.take(bytes)
            })
            .count()
    }

    /// When to go on with a frame of which `bytes` are left: when the rest, or a full bucket,
    /// may leave as one train.
    pub(super) fn next(&self, bytes: usize, now: Instant) -> Instant {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let missing = bytes
            .min(self.bucket.burst_bytes)
            .saturating_sub(self.bucket.bytes);
        let nanos = u128::from(missing).saturating_mul(NANOS_PER_SECOND)
            / u128::from(self.bytes_per_second.max(1));
        // One more, as the division rounds down.
        now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0).saturating_add(1))
    }
}

/// The bytes that one viewer may have sent again: a storm of requests must not multiply traffic.
#[derive(Debug, Clone)]
pub(super) struct ResendBudget {
    bucket: Bucket,
}

impl ResendBudget {
    /// Begins with a full bucket.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            bucket: Bucket::full(RESEND_BURST_BYTES, now),
        }
    }

    /// Counts media that was sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bucket
            .add(u64::try_from(bytes).unwrap_or(u64::MAX) / RESEND_SHARE);
    }

    /// Whether not even one packet of the largest may be sent again now.
    pub(super) fn is_spent(&mut self, now: Instant) -> bool {
        self.bucket.fill(RESEND_BYTES_PER_SECOND, now);
        self.bucket.bytes < PACKET_BYTES_MAX
    }

    /// Takes a packet's bytes; `false` if the budget is spent.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> bool {
        self.bucket.fill(RESEND_BYTES_PER_SECOND, now);
        self.bucket.take(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        Instant::now()
    }

    /// Sends `count` packets of `bytes` as the pacer lets them; how long that takes, and the
    /// most that left at one moment.
    fn drain(
        pacer: &mut VideoPacer,
        count: usize,
        bytes: usize,
        start: Instant,
    ) -> (Duration, usize) {
        let (mut now, mut at_once, mut most) = (start, 0, 0);
        for sent in 0..count {
            while pacer.take(std::iter::once(bytes), now) == 0 {
                now = pacer.next(bytes * (count - sent), now);
                at_once = 0;
            }
            at_once += bytes;
            most = most.max(at_once);
        }
        (now - start, most)
    }

    #[test]
    fn join_burst_leaves_at_forty_megabits_in_trains_of_twelve_kilobytes() {
        let now = start();
        let mut pacer = VideoPacer::new(now);
        pacer.begin_frame(2_500_000, false, None);
        let (took, most) = drain(&mut pacer, 2_000, 1_250, now);
        let megabits = 2.5 * 8.0 / took.as_secs_f64();
        assert!((35.0..=42.0).contains(&megabits), "{megabits} Mbit/s");
        assert!(most <= 12_000, "{most} bytes at once");
    }

    #[test]
    fn delta_frame_leaves_at_once() {
        let now = start();
        let mut pacer = VideoPacer::new(now);
        pacer.begin_frame(9 * 1_250, true, None);
        assert_eq!(drain(&mut pacer, 9, 1_250, now).0, Duration::ZERO);
    }

    #[test]
    fn ordinary_keyframe_leaves_at_once() {
        let now = start();
        let mut pacer = VideoPacer::new(now);
        pacer.begin_frame(54 * 1_250, true, None);
        assert_eq!(drain(&mut pacer, 54, 1_250, now).0, Duration::ZERO);
    }

    #[test]
    fn large_keyframe_leaves_in_trains_in_a_quarter_of_a_frame_interval() {
        let now = start();
        for (bytes, interval_ms) in [(250_000, 16), (1_000_000, 33)] {
            let mut pacer = VideoPacer::new(now);
            let interval = Duration::from_millis(interval_ms);
            pacer.begin_frame(bytes, true, Some(interval));
            let (took, most) = drain(&mut pacer, bytes / 1_250, 1_250, now);
            let quarter = interval / 4 + Duration::from_micros(1);
            assert!(took <= quarter, "{bytes} bytes took {took:?}");
            assert!(took > interval / 8, "{bytes} bytes took only {took:?}");
            assert!(most <= 72_000, "{most} bytes at once");
        }
    }

    #[test]
    fn resend_budget_follows_what_was_sent_and_ends_a_storm() {
        let now = start();
        let mut budget = ResendBudget::new(now);
        let burst = (0..1_000).filter(|_| budget.take(1_000, now)).count();
        assert_eq!(burst, 150);
        budget.sent(8_000);
        let after = (0..1_000).filter(|_| budget.take(1_000, now)).count();
        assert_eq!(after, 2);
        let later = now + Duration::from_secs(1);
        let constant = (0..1_000).filter(|_| budget.take(1_000, later)).count();
        assert_eq!(constant, 16);
    }
}
