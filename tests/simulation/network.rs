//! The way between a viewer and the server's UDP port: loss, delay, jitter, reordering,
//! duplication, outages; all of it seeded, each datagram by its own number.

use std::time::{Duration, Instant};

use super::chance::Chance;

/// What a way does to datagrams.
#[derive(Debug, Clone, Copy)]
pub struct Quality {
    /// Lost, in a thousand.
    pub loss: u32,
    /// Sent twice, in a thousand.
    pub duplicates: u32,
    /// Overtaken by those behind it, in a thousand.
    pub reordered: u32,
    /// How long it takes.
    pub delay: Duration,
    /// How much longer it takes at most.
    pub jitter: Duration,
}

impl Quality {
    /// A good way.
    pub const GOOD: Self = Self {
        loss: 0,
        duplicates: 0,
        reordered: 0,
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
    };

    /// A good way but for loss.
    pub fn lossy(per_mille: u32) -> Self {
        Self {
            loss: per_mille,
            ..Self::GOOD
        }
    }

    /// Any way, often a good one.
    pub fn any(chance: &mut Chance) -> Self {
        let mut or_none = |most: usize| {
            let some = chance.hits(400);
            if some {
                u32::try_from(chance.below(most)).unwrap()
            } else {
                0
            }
        };
        let (loss, duplicates, reordered) = (or_none(80), or_none(50), or_none(50));
        let jitter = if chance.hits(500) {
            chance.micros(0, 12_000)
        } else {
            Duration::ZERO
        };
        Self {
            loss,
            duplicates,
            reordered,
            delay: chance.millis(1, 60),
            jitter,
        }
    }

    /// The same without loss, copies and reordering: DTLS waits by chance before it repeats itself, so a
    /// handshake that loses something would not repeat from run to run.
    pub fn in_handshake(&self) -> Self {
        Self {
            loss: 0,
            duplicates: 0,
            reordered: 0,
            ..*self
        }
    }

    /// Whether every datagram arrives, in order.
    pub fn is_faithful(&self) -> bool {
        self.loss == 0 && self.reordered == 0
    }
}

/// One direction of a way.
#[derive(Debug)]
pub struct Link {
    key: [u64; 3],
    sent: u64,
    last: Option<Instant>,
    /// Nothing gets through until then.
    pub out_until: Option<Instant>,
}

impl Link {
    /// Direction `direction` of viewer `viewer` in the world of `seed`.
    pub fn new(seed: u64, viewer: u64, direction: u64) -> Self {
        Self {
            key: [seed, viewer, direction],
            sent: 0,
            last: None,
            out_until: None,
        }
    }

    /// When a datagram arrives: never, once, or twice.
    pub fn carry(&mut self, quality: &Quality, now: Instant) -> [Option<Instant>; 2] {
        self.sent += 1;
        let [seed, viewer, direction] = self.key;
        let mut chance = Chance::of(&[seed, viewer, direction, self.sent]);
        let is_out = self.out_until.is_some_and(|until| now < until);
        if chance.hits(quality.loss) || is_out {
            return [None, None];
        }
        let jitter = u64::try_from(quality.jitter.as_micros()).unwrap();
        let mut arrival = now + quality.delay + chance.micros(0, jitter);
        if chance.hits(quality.reordered) {
            arrival += chance.millis(1, 15);
        } else {
            arrival = self.last.map_or(arrival, |last| last.max(arrival));
            self.last = Some(arrival);
        }
        let again = chance
            .hits(quality.duplicates)
            .then(|| arrival + chance.millis(0, 5));
        [Some(arrival), again]
    }
}
