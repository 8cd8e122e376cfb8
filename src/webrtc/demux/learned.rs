//! Addresses of other cores' viewers, learned from the ufrags in their STUN as it is passed on,
//! so that their DTLS and RTCP can be passed on too.
//!
//! Nothing of it is proved: this core does not know the passwords. So it is bounded in size, in
//! growth and in what it lets through, it ages, and a proved address is never looked up here.

use std::collections::HashMap;
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::pace::{Pace, PerSecond, Rate};
use crate::ids::CoreId;

/// An address unused for one to two generations is forgotten: consent is lost after 30 s.
const GENERATION: Duration = Duration::from_secs(15);
/// Addresses in one generation; two exist. Fills a table of 32,768 places to its load limit.
const GENERATION_ENTRIES_MAX: usize = 28_672;
/// New addresses in one second: 1,000 viewers who join at once, with two networks each, on two
/// cores.
const NEW_PER_SECOND: u32 = 1_800;
/// Datagrams passed on for one address: DTLS flights, RTCP and checks of one viewer.
const ADDRESS_DATAGRAMS: Rate = Rate {
    interval: Duration::from_millis(5),
    burst: 200,
};
/// Who named an address within this time keeps it: a forged ufrag must not turn it away.
const INCUMBENT: Duration = Duration::from_secs(10);
/// Entries whose memory is kept when a generation ends.
const ENTRIES_KEPT: usize = 1_024;

#[expect(clippy::cast_possible_truncation, reason = "15 s")]
const _: () = assert!(
    NEW_PER_SECOND as usize * GENERATION.as_secs() as usize <= GENERATION_ENTRIES_MAX,
    "a flood of new addresses ends with its generation before the table is full"
);

/// What to do with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Pass it on to this core.
    PassOn(CoreId),
    /// The address was not learned.
    Unknown,
    /// Some limit is reached.
    TooMany,
}

/// The addresses, in two generations: what is used moves to the young one, and the old one is
/// forgotten as a whole.
#[derive(Debug, Default)]
pub(super) struct Learned {
    young: HashMap<SocketAddr, Entry>,
    old: HashMap<SocketAddr, Entry>,
    turned: Option<Instant>,
    new: PerSecond,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    core: CoreId,
    /// When a ufrag of that core last came from the address.
    named: Instant,
    pace: Pace,
}

impl Learned {
    /// A binding request with a ufrag of `core`.
    pub(super) fn request(&mut self, from: SocketAddr, core: CoreId, now: Instant) -> Outcome {
        self.expire(now);
        if let Some(entry) = self.find(from) {
            let incumbent = now.saturating_duration_since(entry.named) < INCUMBENT;
            if entry.core == core || !incumbent {
                entry.core = core;
                entry.named = now;
            }
            // Either way the request itself goes where it says.
            return entry.pass_on(core, now);
        }
        if self.young.len() >= GENERATION_ENTRIES_MAX || !self.new.allows(NEW_PER_SECOND, now) {
            return Outcome::TooMany;
        }
        let mut entry = Entry {
            core,
            named: now,
            pace: Pace::default(),
        };
        let outcome = entry.pass_on(core, now);
        self.young.insert(from, entry);
        outcome
    }

    /// Anything else.
    pub(super) fn datagram(&mut self, from: SocketAddr, now: Instant) -> Outcome {
        self.expire(now);
        match self.find(from) {
            Some(entry) => entry.pass_on(entry.core, now),
            None => Outcome::Unknown,
        }
    }

    /// Forgets one address.
    pub(super) fn forget(&mut self, address: SocketAddr) {
        self.young.remove(&address);
        self.old.remove(&address);
    }

    /// Forgets what was not used for two generations.
    pub(super) fn expire(&mut self, now: Instant) {
        let turned = *self.turned.get_or_insert(now);
        let age = now.saturating_duration_since(turned);
        if age < GENERATION {
            return;
        }
        self.turned = Some(now);
        mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
        if age >= GENERATION.saturating_mul(2) {
            self.old.clear();
        }
        if self.old.len() < ENTRIES_KEPT {
            self.young.shrink_to(ENTRIES_KEPT);
            self.old.shrink_to(ENTRIES_KEPT);
        }
    }

    /// Number of addresses.
    pub(super) fn len(&self) -> usize {
        self.young.len().saturating_add(self.old.len())
    }

    fn find(&mut self, from: SocketAddr) -> Option<&mut Entry> {
        if self.young.contains_key(&from) {
            return self.young.get_mut(&from);
        }
        if self.young.len() >= GENERATION_ENTRIES_MAX {
            return self.old.get_mut(&from);
        }
        let entry = self.old.remove(&from)?;
        Some(self.young.entry(from).or_insert(entry))
    }
}

impl Entry {
    fn pass_on(&mut self, core: CoreId, now: Instant) -> Outcome {
        if self.pace.allows(ADDRESS_DATAGRAMS, now) {
            Outcome::PassOn(core)
        } else {
            Outcome::TooMany
        }
    }
}
