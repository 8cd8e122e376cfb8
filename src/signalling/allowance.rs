//! How much of something that strangers send may still come: a burst at once, a rate for long.

use std::time::{Duration, Instant};

/// An allowance of one thing, such as messages or bytes. It begins unused.
#[derive(Debug, Clone)]
pub struct Allowance {
    burst: u32,
    per_second: u32,
    /// The time from which on everything that came would have come at the allowed rate.
    paid_until: Option<Instant>,
}

impl Allowance {
    /// So many at once, and so many a second for long.
    #[must_use]
    pub const fn new(burst: u32, per_second: u32) -> Self {
        Self {
            burst,
            per_second,
            paid_until: None,
        }
    }

    /// Whether `count` may come at `now`.
    #[must_use]
    pub fn has(&self, count: u32, now: Instant) -> bool {
        self.paid_after(count, now).is_some()
    }

    /// Takes `count` if that many may come at `now`.
    pub fn take(&mut self, count: u32, now: Instant) -> bool {
        let paid_until = self.paid_after(count, now);
        if paid_until.is_some() {
            self.paid_until = paid_until;
        }
        paid_until.is_some()
    }

    fn paid_after(&self, count: u32, now: Instant) -> Option<Instant> {
        let second = Duration::from_secs(1);
        let cost = second.saturating_mul(count) / self.per_second.max(1);
        let most = second.saturating_mul(self.burst) / self.per_second.max(1);
        let paid = self.paid_until.map_or(now, |paid| paid.max(now)) + cost;
        (paid.saturating_duration_since(now) <= most).then_some(paid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_comes_at_once_and_then_the_rate() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut allowance = Allowance::new(5, 2);
        assert!(!allowance.has(6, start) && !allowance.take(6, start));
        let taken = (0..8).filter(|_| allowance.take(1, start)).count();
        assert_eq!(taken, 5);
        let later = start + Duration::from_millis(500);
        assert!(allowance.has(1, later) && !allowance.has(2, later));
        assert!(allowance.take(1, later) && !allowance.take(1, later));
    }
}
