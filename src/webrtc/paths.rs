//! The addresses a viewer has proved to be its own, and the one that media goes to.
//!
//! RFC 8445 §7.3 (checks received by an ICE-lite peer), §8.1.1 (nomination by USE-CANDIDATE), RFC
//! 7675 §5.1 (consent).
//!
//! RFC 7675 lets only checks of STUN renew consent, by answers to one's own. An ICE-lite peer sends none,
//! so what it has is what comes from the viewer. Some players send no checks while media flows (GStreamer
//! with libnice 0.1.21: indications, which prove nothing; pion/ice before 4.0.8), but all report. So a
//! report counts as well: one that opens under the session's keys, was not seen before, and comes from the
//! address that media goes to. It proves no less than a check does, which needs the password and may be
//! sent again by anybody: who sends it has the keys, is there, and takes what comes.
//!
//! str0m has a nominated pair of its own but tells nobody, and keeps the older of two pairs of
//! one priority for 15 s. So the media's address is kept here, by the same evidence: a binding
//! request with the session's credentials. The last one with USE-CANDIDATE wins, as a browser
//! facing an ICE-lite peer says it on its selected pair only. A player that says it only once
//! (aiortc) may move by a plain check when its old address has been silent; nothing but an
//! authenticated check ever moves it: a report does not.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::demux::{NEW_ADDRESS_WINDOW, NEW_ADDRESSES_MAX, VIEWER_ADDRESSES_MAX};
use super::prefetch::prefetch;
use crate::limits::VIEWER_ADDRESSES_EVER_MAX;

/// An address that was silent for so long may be replaced by one without USE-CANDIDATE: two
/// checks of the slowest players.
const STALE_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Path {
    remote: SocketAddr,
    /// The local address the viewer's datagrams were sent to.
    local: SocketAddr,
    heard: Instant,
}

/// A viewer's addresses.
#[derive(Debug)]
pub(super) struct Paths {
    paths: Vec<Path>,
    selected: Option<SocketAddr>,
    ever: usize,
    window: Instant,
    new_in_window: usize,
    heard: Option<Instant>,
}

impl Paths {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            paths: Vec::new(),
            selected: None,
            ever: 0,
            window: now,
            new_in_window: 0,
            heard: None,
        }
    }

    /// Whether an address is known, or there is room for it.
    pub(super) fn admits(&self, remote: SocketAddr, now: Instant) -> bool {
        let fresh_window = now.saturating_duration_since(self.window) >= NEW_ADDRESS_WINDOW;
        self.knows(remote)
            || (self.ever < VIEWER_ADDRESSES_EVER_MAX
                && (fresh_window || self.new_in_window < NEW_ADDRESSES_MAX))
    }

    /// Takes an authenticated binding request into account; `false` if the address is one too
    /// many.
    pub(super) fn authenticated(
        &mut self,
        remote: SocketAddr,
        local: SocketAddr,
        nominates: bool,
        now: Instant,
    ) -> bool {
        if !self.admits(remote, now) {
            return false;
        }
        match self.paths.iter_mut().find(|path| path.remote == remote) {
            Some(path) => {
                path.local = local;
                path.heard = now;
            }
            None => self.add(Path {
                remote,
                local,
                heard: now,
            }),
        }
        self.heard = Some(now);
        if nominates || self.selected_is_stale(now) {
            self.selected = Some(remote);
        }
        true
    }

    /// Takes a report into account that opened under the session's keys and was not seen before: from
    /// where media goes it is a sign of the viewer. Whether it is one.
    pub(super) fn reported(&mut self, remote: SocketAddr, now: Instant) -> bool {
        if self.selected != Some(remote) {
            return false;
        }
        let Some(path) = self.paths.iter_mut().find(|path| path.remote == remote) else {
            return false;
        };
        path.heard = now;
        self.heard = Some(now);
        true
    }

    fn add(&mut self, path: Path) {
        let now = path.heard;
        if now.saturating_duration_since(self.window) >= NEW_ADDRESS_WINDOW {
            self.window = now;
            self.new_in_window = 0;
        }
        self.new_in_window = self.new_in_window.saturating_add(1);
        self.ever = self.ever.saturating_add(1);
        if self.paths.len() >= VIEWER_ADDRESSES_MAX {
            let others = self.paths.iter().enumerate();
            let oldest = others
                .filter(|(_, old)| Some(old.remote) != self.selected)
                .min_by_key(|(_, old)| old.heard)
                .map(|(index, _)| index);
            if let Some(index) = oldest {
                self.paths.swap_remove(index);
            }
        }
        self.paths.push(path);
    }

    fn selected_is_stale(&self, now: Instant) -> bool {
        let selected = self.selected.and_then(|remote| self.find(remote));
        let heard = selected.map(|path| path.heard);
        // Before the first nomination there is nothing to be stale.
        heard.is_some_and(|heard| now.saturating_duration_since(heard) >= STALE_AFTER)
    }

    fn find(&self, remote: SocketAddr) -> Option<&Path> {
        self.paths.iter().find(|path| path.remote == remote)
    }

    /// Asks for the addresses to be brought into the cache.
    pub(super) fn prefetch(&self) {
        if let Some(path) = self.paths.first() {
            prefetch(path);
        }
    }

    /// Whether an address has proved itself.
    pub(super) fn knows(&self, remote: SocketAddr) -> bool {
        self.find(remote).is_some()
    }

    /// str0m sent DTLS to `remote`: it is nominated, if nothing else is.
    pub(super) fn dtls_sent(&mut self, remote: SocketAddr) {
        if self.selected.is_none() && self.knows(remote) {
            self.selected = Some(remote);
        }
    }

    /// Where media goes, and the local address it leaves from.
    pub(super) fn target(&self) -> Option<(SocketAddr, Option<IpAddr>)> {
        let remote = self.selected?;
        Some((remote, self.source(remote)))
    }

    /// The local address that datagrams to `remote` leave from; `None` lets the system choose.
    pub(super) fn source(&self, remote: SocketAddr) -> Option<IpAddr> {
        let local = self.find(remote)?.local.ip();
        (!local.is_unspecified()).then_some(local)
    }

    /// When the viewer last said that it is there.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        Instant::now()
    }

    fn remote(port: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 1], port))
    }

    fn local() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 8_189))
    }

    #[test]
    fn last_nomination_wins_and_plain_checks_move_nothing() {
        let now = start();
        let mut paths = Paths::new(now);
        assert!(paths.authenticated(remote(1), local(), false, now));
        assert_eq!(paths.target(), None);
        assert!(paths.authenticated(remote(2), local(), true, now));
        assert!(paths.authenticated(remote(1), local(), false, now));
        assert_eq!(paths.target(), Some((remote(2), Some(local().ip()))));
        assert!(paths.authenticated(remote(3), local(), true, now));
        assert_eq!(paths.target().unwrap().0, remote(3));
    }

    #[test]
    fn plain_check_takes_over_from_a_silent_address() {
        let now = start();
        let mut paths = Paths::new(now);
        paths.authenticated(remote(1), local(), true, now);
        let soon = now + STALE_AFTER / 2;
        paths.authenticated(remote(2), local(), false, soon);
        assert_eq!(paths.target().unwrap().0, remote(1));
        let later = now + STALE_AFTER;
        paths.authenticated(remote(2), local(), false, later);
        assert_eq!(paths.target().unwrap().0, remote(2));
    }

    #[test]
    fn report_keeps_its_address_and_selects_none() {
        let now = start();
        let mut paths = Paths::new(now);
        paths.authenticated(remote(1), local(), false, now);
        assert!(!paths.reported(remote(1), now), "media goes nowhere yet");
        paths.authenticated(remote(1), local(), true, now);
        let later = now + STALE_AFTER;
        paths.authenticated(remote(2), local(), false, now);
        assert!(!paths.reported(remote(2), later));
        assert_eq!(paths.heard(), Some(now));
        assert!(paths.reported(remote(1), later));
        assert_eq!(paths.heard(), Some(later));
        paths.authenticated(remote(2), local(), false, later);
        assert_eq!(paths.target().unwrap().0, remote(1), "it is not silent");
    }

    #[test]
    fn flood_of_authenticated_addresses_is_bounded_and_keeps_the_selected_one() {
        let now = start();
        let mut paths = Paths::new(now);
        assert!(paths.authenticated(remote(1), local(), true, now));
        let admitted = (2..20_000)
            .filter(|&port| {
                let at = now + Duration::from_millis(u64::from(port) * 10);
                paths.authenticated(remote(port), local(), false, at);
                // The viewer itself goes on checking.
                paths.authenticated(remote(1), local(), true, at);
                paths.knows(remote(port))
            })
            .count();
        assert!(admitted < VIEWER_ADDRESSES_EVER_MAX, "{admitted}");
        assert!(paths.paths.len() <= VIEWER_ADDRESSES_MAX);
        assert_eq!(paths.target().unwrap().0, remote(1));
    }

    #[test]
    fn unspecified_local_address_leaves_the_choice_to_the_system() {
        let now = start();
        let mut paths = Paths::new(now);
        let any = SocketAddr::from(([0, 0, 0, 0], 8_189));
        paths.authenticated(remote(1), any, true, now);
        assert_eq!(paths.target(), Some((remote(1), None)));
    }
}
