//! Media time, and its relation to the clocks: one timeline for the whole server.

use std::time::{Duration, Instant};

/// RTP clock rate of every video codec (RFC 6184 §8.2.1).
pub const VIDEO_CLOCK_RATE: u32 = 90_000;

/// RTP clock rate of Opus (RFC 7587 §4.1), and its sample rate here.
pub const AUDIO_CLOCK_RATE: u32 = 48_000;

/// A point on the server's media timeline, or a distance on it: microseconds. Whole milliseconds
/// and 20 ms Opus packets convert to RTP ticks exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The beginning of the timeline.
    pub const ZERO: Self = Self(0);

    /// From microseconds.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From milliseconds, saturating.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// In microseconds.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// In whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// In whole ticks of `rate` a second, rounded down: these do not wrap, so two of them can be
    /// compared however far apart they are.
    #[must_use]
    pub fn ticks(self, rate: u32) -> i64 {
        let ticks = (i128::from(self.0) * i128::from(rate)).div_euclid(1_000_000);
        i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
    }

    /// The RTP timestamp at `rate` ticks a second, before any random offset: modulo 2^32.
    #[must_use]
    pub fn rtp_ticks(self, rate: u32) -> u32 {
        wrap_ticks(self.ticks(rate))
    }

    /// Sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Difference, saturating.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Ticks as an RTP timestamp has them: modulo 2^32 (RFC 3550 §5.1).
#[must_use]
pub fn wrap_ticks(ticks: i64) -> u32 {
    u32::try_from(ticks.rem_euclid(1 << 32)).unwrap_or_default()
}

/// Ties the media timeline to the monotonic clock and to the wall clock. Made once per process
/// (by `runtime/clock.rs`) and copied: every core converts alike, so the sender reports of all
/// rooms and both tracks come from one clock.
#[derive(Debug, Clone, Copy)]
pub struct Timebase {
    origin: Instant,
    wall_origin: Duration,
}

/// Seconds from the NTP era (1900) to the Unix epoch (RFC 5905 §6).
const NTP_UNIX_OFFSET_SECONDS: u64 = 2_208_988_800;

impl Timebase {
    /// `origin` is media time zero; `wall_origin` is the wall clock at that moment, since the
    /// Unix epoch.
    #[must_use]
    pub fn new(origin: Instant, wall_origin: Duration) -> Self {
        Self {
            origin,
            wall_origin,
        }
    }

    /// Media time of `now`; zero before the origin.
    #[must_use]
    pub fn media_time(&self, now: Instant) -> MediaTime {
        let micros = now.saturating_duration_since(self.origin).as_micros();
        MediaTime(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// NTP timestamp of `now`, 32.32 fixed point (RFC 3550 §4).
    #[must_use]
    pub fn ntp(&self, now: Instant) -> u64 {
        let wall = self.wall(now);
        let seconds = wall.as_secs().wrapping_add(NTP_UNIX_OFFSET_SECONDS) << 32;
        seconds | ((u64::from(wall.subsec_nanos()) << 32) / 1_000_000_000)
    }

    /// Wall clock of `now`, since the Unix epoch. Follows the monotonic clock: a step of the
    /// system's clock after the start does not show here.
    #[must_use]
    pub fn wall(&self, now: Instant) -> Duration {
        self.wall_origin + now.saturating_duration_since(self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_milliseconds_are_exact_in_video_ticks() {
        assert_eq!(MediaTime::from_millis(1).rtp_ticks(VIDEO_CLOCK_RATE), 90);
        assert_eq!(MediaTime::from_millis(20).rtp_ticks(AUDIO_CLOCK_RATE), 960);
        assert_eq!(
            MediaTime::from_millis(33).rtp_ticks(VIDEO_CLOCK_RATE),
            2_970
        );
    }

    #[test]
    fn rtp_ticks_wrap_at_32_bits() {
        let wrap = MediaTime::from_micros((1_i64 << 32) * 1_000_000 / 90_000);
        assert!(wrap.rtp_ticks(VIDEO_CLOCK_RATE) >= u32::MAX - 1);
        let after = wrap
            .plus(MediaTime::from_millis(1))
            .rtp_ticks(VIDEO_CLOCK_RATE);
        assert!(after < 90);
    }

    #[test]
    fn ticks_do_not_wrap_and_are_the_same_modulo_two_to_the_32() {
        for millis in [-1, 0, 1, 40_000_000, 50_000_000, i64::MAX / 1_000] {
            let time = MediaTime::from_millis(millis);
            let ticks = time.ticks(VIDEO_CLOCK_RATE);
            assert_eq!(i128::from(ticks), i128::from(millis) * 90);
            assert_eq!(wrap_ticks(ticks), time.rtp_ticks(VIDEO_CLOCK_RATE));
        }
        assert_eq!(
            MediaTime::from_millis(-1).rtp_ticks(90_000),
            0_u32.wrapping_sub(90)
        );
        assert_eq!(MediaTime::from_micros(i64::MAX).ticks(u32::MAX), i64::MAX);
    }

    #[test]
    fn ntp_of_the_unix_epoch_is_its_offset() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let origin = Instant::now();
        let timebase = Timebase::new(origin, Duration::from_millis(500));
        assert_eq!(
            timebase.ntp(origin),
            (NTP_UNIX_OFFSET_SECONDS << 32) | (1 << 31)
        );
        assert_eq!(
            timebase
                .media_time(origin + Duration::from_micros(7))
                .as_micros(),
            7
        );
    }
}
