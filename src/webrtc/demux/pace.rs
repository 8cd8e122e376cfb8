//! Limits on how often somebody may send, each of a few bytes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Unknown ufrags that one address may name in a second before it counts as noisy.
const STRANGER_REQUESTS_PER_SECOND: u16 = 200;
/// Addresses counted in a second; those beyond count as noisy.
const STRANGERS_MAX: usize = 4_096;
/// What "per second" means.
const SECOND: Duration = Duration::from_secs(1);

/// How often something may happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Time between two, in the long run.
    pub(super) interval: Duration,
    /// How many may come at once.
    pub(super) burst: u32,
}

/// Keeps one [`Rate`]: remembers only when the allowance will be whole again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    whole: Option<Instant>,
}

impl Pace {
    /// Whether one more may happen now; counts it if so.
    pub(super) fn allows(&mut self, rate: Rate, now: Instant) -> bool {
        let whole = self.whole.map_or(now, |whole| whole.max(now));
        let debt = whole.saturating_duration_since(now);
        let limit = rate.interval.saturating_mul(rate.burst.saturating_sub(1));
        if debt > limit {
            return false;
        }
        self.whole = whole.checked_add(rate.interval);
        true
    }
}

/// Counts something in each second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PerSecond {
    began: Option<Instant>,
    count: u32,
}

impl PerSecond {
    /// Whether one more may happen in this second; counts it if so.
    pub(super) fn allows(&mut self, max: u32, now: Instant) -> bool {
        if begins_anew(&mut self.began, now) {
            self.count = 0;
        }
        let allowed = self.count < max;
        if allowed {
            self.count = self.count.saturating_add(1);
        }
        allowed
    }
}

/// Counts unknown ufrags by sender, so that who only guesses is not listened to.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    began: Option<Instant>,
    counts: HashMap<IpAddr, u16>,
}

impl Strangers {
    /// Counts an unknown ufrag. `false` if the sender had its share of this second.
    pub(super) fn count(&mut self, from: IpAddr, now: Instant) -> bool {
        self.turn(now);
        let sender = network(from);
        let room = self.counts.len() < STRANGERS_MAX;
        match self.counts.get_mut(&sender) {
            Some(count) => {
                *count = count.saturating_add(1);
                *count <= STRANGER_REQUESTS_PER_SECOND
            }
            None if room => {
                self.counts.insert(sender, 1);
                true
            }
            None => false,
        }
    }

    /// Whether the sender had its share of this second.
    pub(super) fn is_noisy(&mut self, from: IpAddr, now: Instant) -> bool {
        self.turn(now);
        self.counts
            .get(&network(from))
            .is_some_and(|count| *count >= STRANGER_REQUESTS_PER_SECOND)
    }

    fn turn(&mut self, now: Instant) {
        if begins_anew(&mut self.began, now) && !self.counts.is_empty() {
            self.counts.clear();
        }
    }
}

fn begins_anew(began: &mut Option<Instant>, now: Instant) -> bool {
    let over = began.is_none_or(|at| now.saturating_duration_since(at) >= SECOND);
    if over {
        *began = Some(now);
    }
    over
}

/// What one sender can choose freely counts as one: an IPv6 host has a /64 (RFC 4291 §2.5.4).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}
