//! Which viewer a datagram is for, on the one UDP port that all cores share.
//!
//! An address counts only once a STUN binding request from it was proved genuine (RFC 8445
//! §7.3); until then nothing but such a request gets through, so that nobody can speak for a
//! viewer, or make us send to a stranger. The ufrag that we gave a viewer begins with its core,
//! so a core that receives another core's datagram knows where to pass it on.

mod learned;
mod pace;
mod stun;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::learned::{Learned, Outcome};
use self::pace::{Pace, Rate, Strangers};
use crate::ids::{CoreId, IdSource, ViewerId};

/// Shortest and longest datagram taken, in bytes: an RTCP header with one word more, and an
/// Ethernet frame.
pub const DATAGRAM_BYTES: std::ops::RangeInclusive<usize> = 12..=1_500;
/// Shortest and longest STUN message taken, in bytes: its header; the IPv6 minimum.
pub const STUN_BYTES: std::ops::RangeInclusive<usize> = 20..=1_280;
/// Addresses kept of one viewer: networks, address families and NAT bindings of one device.
pub const VIEWER_ADDRESSES_MAX: usize = 8;
/// New addresses of one viewer within [`NEW_ADDRESS_WINDOW`]: a change of network brings two.
pub const NEW_ADDRESSES_MAX: usize = 4;
/// See [`NEW_ADDRESSES_MAX`].
pub const NEW_ADDRESS_WINDOW: Duration = Duration::from_secs(10);
/// An address silent for so long gives way to a new one: consent is lost then (RFC 7675 §5.1).
pub const ADDRESS_IDLE: Duration = Duration::from_secs(30);
/// STUN of one viewer: a browser sends one check each 48 ms at most.
const VIEWER_STUN: Rate = Rate {
    interval: Duration::from_millis(20),
    burst: 100,
};
/// Ufrags kept of one viewer: that in force and, while ICE restarts, the one before.
const VIEWER_UFRAGS_MAX: usize = 2;
/// Below so many entries a table's memory is not worth giving back.
const TABLE_ENTRIES_KEPT: usize = 1_024;

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// It comes from a proved address of this viewer.
    Viewer(ViewerId),
    /// It is a STUN binding request with this viewer's ufrag, from an address not proved yet:
    /// verify its integrity, then call [`Demux::bind`], and drop it if either fails.
    Candidate(ViewerId),
    /// It is for a viewer of another core.
    OtherCore(CoreId),
    /// It is for nobody: drop it without an answer.
    Drop(DropReason),
}

/// Why a datagram is dropped: always the sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Shorter or longer than its kind may be.
    Length,
    /// None of STUN, DTLS, RTP and RTCP (RFC 7983 §7).
    Kind,
    /// STUN whose lengths do not add up.
    Malformed,
    /// Not a STUN binding request, and nobody proved the address.
    UnknownAddress,
    /// A STUN binding request for a viewer that is not here, or for nobody.
    UnknownUfrag,
    /// More than the sender may send.
    RateLimited,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Length,
        Self::Kind,
        Self::Malformed,
        Self::UnknownAddress,
        Self::UnknownUfrag,
        Self::RateLimited,
    ];

    /// The word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Kind => "kind",
            Self::Malformed => "malformed",
            Self::UnknownAddress => "unknown_address",
            Self::UnknownUfrag => "unknown_ufrag",
            Self::RateLimited => "rate_limited",
        }
    }
}

/// What kind of datagram shares the port (RFC 7983 §7; RTCP by RFC 5761 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramKind {
    /// STUN, by first byte and magic cookie.
    Stun,
    /// DTLS.
    Dtls,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP.
    Rtcp,
}

impl DatagramKind {
    /// Tells the kind by the first bytes; `None` for anything else.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let &[first, second, ..] = datagram else {
            return None;
        };
        match (first, second) {
            (0..=3, _) => stun::has_cookie(datagram).then_some(Self::Stun),
            (20..=63, _) => Some(Self::Dtls),
            (128..=191, 192..=223) => Some(Self::Rtcp),
            (128..=191, _) => Some(Self::Rtp),
            (_, _) => None,
        }
    }
}

/// Number of entries in each table, for gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DemuxSizes {
    /// Registered viewers.
    pub viewers: usize,
    /// Their ufrags.
    pub ufrags: usize,
    /// Their proved addresses.
    pub addresses: usize,
    /// Addresses of other cores' viewers, learned in passing.
    pub learned: usize,
}

/// The address and ufrag tables of one core.
#[derive(Debug)]
pub struct Demux {
    own: CoreId,
    cores: u16,
    viewers: HashMap<ViewerId, Viewer>,
    ufrags: HashMap<Box<str>, ViewerId>,
    addresses: HashMap<SocketAddr, Proved>,
    learned: Learned,
    strangers: Strangers,
}

/// A registered viewer.
#[derive(Debug, Default)]
struct Viewer {
    /// Oldest first.
    ufrags: Vec<Box<str>>,
    addresses: Vec<SocketAddr>,
    /// When the last addresses were bound, oldest first.
    bound: Vec<Instant>,
    /// STUN from its proved addresses, which a stranger's must not use up.
    checks: Pace,
    /// STUN with its ufrag from other addresses.
    attempts: Pace,
}

/// A proved address.
#[derive(Debug, Clone, Copy)]
struct Proved {
    viewer: ViewerId,
    /// When its last datagram came.
    heard: Instant,
}

impl Demux {
    /// Makes the tables of core `own` of `cores`.
    #[must_use]
    pub fn new(own: CoreId, cores: u16) -> Self {
        Self {
            own,
            cores,
            viewers: HashMap::new(),
            ufrags: HashMap::new(),
            addresses: HashMap::new(),
            learned: Learned::default(),
            strangers: Strangers::default(),
        }
    }

    /// Makes `ufrag` mean `viewer`. After an ICE restart the one before goes on being valid.
    pub fn register(&mut self, ufrag: &str, viewer: ViewerId) {
        let previous = self.ufrags.insert(Box::from(ufrag), viewer);
        if previous == Some(viewer) {
            return;
        }
        debug_assert!(previous.is_none(), "two viewers were given one ufrag");
        if let Some(other) = previous.and_then(|other| self.viewers.get_mut(&other)) {
            other.ufrags.retain(|known| &**known != ufrag);
        }
        let entry = self.viewers.entry(viewer).or_default();
        entry.ufrags.push(Box::from(ufrag));
        if entry.ufrags.len() > VIEWER_UFRAGS_MAX {
            let oldest = entry.ufrags.remove(0);
            self.ufrags.remove(&oldest);
        }
    }

    /// Whether an address has proved to be one of a viewer's.
    #[must_use]
    pub fn knows(&self, from: SocketAddr) -> bool {
        self.addresses.contains_key(&from)
    }

    /// Says where a datagram goes.
    pub fn route(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) -> Route {
        if !DATAGRAM_BYTES.contains(&datagram.len()) {
            return Route::Drop(DropReason::Length);
        }
        match DatagramKind::of(datagram) {
            Some(DatagramKind::Stun) => self.route_stun(from, datagram, now),
            Some(DatagramKind::Dtls | DatagramKind::Rtp | DatagramKind::Rtcp) => {
                self.route_known(from, now)
            }
            None => Route::Drop(DropReason::Kind),
        }
    }

    /// Remembers that `from` is an address of `viewer`, after the integrity of a STUN binding
    /// request from it was verified. `false` if `viewer` is not registered, has
    /// [`VIEWER_ADDRESSES_MAX`] addresses in use or [`NEW_ADDRESSES_MAX`] new ones, or if the
    /// address is in use by another viewer: then the request must not be answered.
    pub fn bind(&mut self, from: SocketAddr, viewer: ViewerId, now: Instant) -> bool {
        let holder = self.addresses.get(&from).copied();
        if holder.is_some_and(|proved| proved.viewer == viewer) {
            return true;
        }
        if holder.is_some_and(|proved| !proved.is_idle(now)) {
            return false;
        }
        let Some(entry) = self.viewers.get_mut(&viewer) else {
            return false;
        };
        entry
            .bound
            .retain(|at| now.saturating_duration_since(*at) < NEW_ADDRESS_WINDOW);
        if entry.bound.len() >= NEW_ADDRESSES_MAX {
            return false;
        }
        if entry.addresses.len() >= VIEWER_ADDRESSES_MAX {
            let addresses = &self.addresses;
            let idle = entry.addresses.iter().position(|address| {
                addresses
                    .get(address)
                    .is_none_or(|proved| proved.is_idle(now))
            });
            let Some(idle) = idle else {
                return false;
            };
            let given_up = entry.addresses.remove(idle);
            self.addresses.remove(&given_up);
        }
        entry.bound.push(now);
        entry.addresses.push(from);
        if let Some(other) = holder.and_then(|proved| self.viewers.get_mut(&proved.viewer)) {
            other.addresses.retain(|address| *address != from);
        }
        self.addresses.insert(from, Proved { viewer, heard: now });
        self.learned.forget(from);
        true
    }

    /// Forgets a viewer, its ufrags and its addresses.
    pub fn remove(&mut self, viewer: ViewerId) {
        let Some(entry) = self.viewers.remove(&viewer) else {
            return;
        };
        for ufrag in entry.ufrags {
            self.ufrags.remove(&ufrag);
        }
        for address in entry.addresses {
            self.addresses.remove(&address);
        }
        shrink(&mut self.viewers);
        shrink(&mut self.ufrags);
        shrink(&mut self.addresses);
    }

    /// Forgets what was learned in passing and not used lately. [`Demux::route`] does the same
    /// when it is called; an idle core may call this now and then to give memory back.
    pub fn expire(&mut self, now: Instant) {
        self.learned.expire(now);
    }

    /// Whether nothing of any viewer is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.viewers.is_empty() && self.ufrags.is_empty() && self.addresses.is_empty()
    }

    /// Number of entries in each table.
    #[must_use]
    pub fn sizes(&self) -> DemuxSizes {
        DemuxSizes {
            viewers: self.viewers.len(),
            ufrags: self.ufrags.len(),
            addresses: self.addresses.len(),
            learned: self.learned.len(),
        }
    }

    /// A datagram that says nothing about who it is for: its address must be known.
    fn route_known(&mut self, from: SocketAddr, now: Instant) -> Route {
        if let Some(proved) = self.addresses.get_mut(&from) {
            proved.heard = now;
            return Route::Viewer(proved.viewer);
        }
        self.learned.datagram(from, now).into()
    }

    fn route_stun(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) -> Route {
        if !STUN_BYTES.contains(&datagram.len()) {
            return Route::Drop(DropReason::Length);
        }
        let Some(message) = stun::read(datagram) else {
            return Route::Drop(DropReason::Malformed);
        };
        match message {
            stun::Message::Request { ufrag } => self.route_request(from, ufrag, now),
            stun::Message::Other => {
                let route = self.route_known(from, now);
                self.paced(route, now)
            }
        }
    }

    fn route_request(&mut self, from: SocketAddr, ufrag: &str, now: Instant) -> Route {
        let holder = self.addresses.get_mut(&from);
        if let Some(&viewer) = self.ufrags.get(ufrag) {
            if let Some(proved) = holder.filter(|proved| proved.viewer == viewer) {
                proved.heard = now;
                return self.paced(Route::Viewer(viewer), now);
            }
            return self.paced(Route::Candidate(viewer), now);
        }
        let other = core_of_ufrag(ufrag).filter(|core| core.0 < self.cores && *core != self.own);
        let Some(core) = other else {
            return Route::Drop(if self.strangers.count(from.ip(), now) {
                DropReason::UnknownUfrag
            } else {
                DropReason::RateLimited
            });
        };
        if let Some(viewer) = holder.map(|proved| proved.viewer) {
            // Passed on but not learned: whoever proved the address here keeps it.
            let attempts = self
                .viewers
                .get_mut(&viewer)
                .map(|entry| &mut entry.attempts);
            let allowed = attempts.is_some_and(|pace| pace.allows(VIEWER_STUN, now));
            return limited(Route::OtherCore(core), allowed);
        }
        if self.strangers.is_noisy(from.ip(), now) {
            return Route::Drop(DropReason::RateLimited);
        }
        self.learned.request(from, core, now).into()
    }

    /// Limits the STUN of a viewer, that of its proved addresses apart from other senders'.
    fn paced(&mut self, route: Route, now: Instant) -> Route {
        let pace = match route {
            Route::Viewer(viewer) => self.viewers.get_mut(&viewer).map(|entry| &mut entry.checks),
            Route::Candidate(viewer) => self
                .viewers
                .get_mut(&viewer)
                .map(|entry| &mut entry.attempts),
            Route::OtherCore(_) | Route::Drop(_) => return route,
        };
        limited(
            route,
            pace.is_some_and(|pace| pace.allows(VIEWER_STUN, now)),
        )
    }
}

impl Proved {
    fn is_idle(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= ADDRESS_IDLE
    }
}

impl From<Outcome> for Route {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::PassOn(core) => Self::OtherCore(core),
            Outcome::Unknown => Self::Drop(DropReason::UnknownAddress),
            Outcome::TooMany => Self::Drop(DropReason::RateLimited),
        }
    }
}

fn limited(route: Route, allowed: bool) -> Route {
    if allowed {
        route
    } else {
        Route::Drop(DropReason::RateLimited)
    }
}

/// Gives a table's memory back after a rush.
fn shrink<K: Eq + std::hash::Hash, V>(table: &mut HashMap<K, V>) {
    if table.capacity() > TABLE_ENTRIES_KEPT && table.len() < table.capacity() / 8 {
        table.shrink_to((table.len() * 2).max(TABLE_ENTRIES_KEPT / 2));
    }
}

/// Characters that say the core: 18 bits, more than a [`CoreId`] has.
const UFRAG_CORE_CHARACTERS: usize = 3;
/// Characters that nobody can guess: 48 bits; RFC 8839 §5.4 wants 24.
const UFRAG_RANDOM_CHARACTERS: usize = 8;
/// `ice-char` (RFC 8839 §5.4) by value.
const ICE_CHARACTERS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Makes a ufrag for a viewer of `core`: the core in the first three characters, then eight
/// random ones.
#[must_use]
pub fn ufrag_for(core: CoreId, ids: &mut IdSource) -> String {
    let character = |shift: u16| {
        let value = usize::from((core.0 >> shift) & 0x3f);
        char::from(ICE_CHARACTERS.get(value).copied().unwrap_or(b'A'))
    };
    let mut ufrag: String = [12, 6, 0].map(character).iter().collect();
    ufrag.push_str(&ids.ice_text(UFRAG_RANDOM_CHARACTERS));
    ufrag
}

/// Reads the core out of a ufrag; `None` if it is none that [`ufrag_for`] makes.
#[must_use]
pub fn core_of_ufrag(ufrag: &str) -> Option<CoreId> {
    let ours = UFRAG_CORE_CHARACTERS + UFRAG_RANDOM_CHARACTERS;
    if ufrag.len() != ours {
        return None;
    }
    let value = |character: u8| {
        let found = ICE_CHARACTERS.iter().position(|known| *known == character);
        found.and_then(|at| u32::try_from(at).ok())
    };
    let (core, random) = ufrag
        .as_bytes()
        .split_first_chunk::<UFRAG_CORE_CHARACTERS>()?;
    let mut number = 0;
    for character in core {
        number = (number << 6) | value(*character)?;
    }
    let all_legal = random.iter().all(|character| value(*character).is_some());
    let core = u16::try_from(number).ok().map(CoreId);
    core.filter(|_| all_legal)
}
