//! How many connections a listener has, and from whom, so that one address cannot take them all.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::control::network_of;

/// Why there is no room for another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// There are so many in all.
    InAll(usize),
    /// There are so many of its address.
    OfAddress(usize),
}

impl Full {
    /// Whether a newcomer has room once `other` leaves.
    pub(super) fn is_eased_by(self, other: IpAddr, newcomer: IpAddr) -> bool {
        match self {
            Self::InAll(_) => true,
            Self::OfAddress(_) => network_of(other) == network_of(newcomer),
        }
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InAll(max) => write!(f, "there are {max}, none rests, and no more are taken"),
            Self::OfAddress(max) => write!(
                f,
                "its address has {max}, none rests, and one may have no more (a proxy in front                  shares its address)"
            ),
        }
    }
}

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Crowd {
    total: usize,
    total_max: usize,
    by_network: BTreeMap<IpAddr, usize>,
    per_network_max: usize,
}

impl Crowd {
    /// Nobody yet; at most so many at once, and so many from one address (of IPv6: one network).
    pub(super) fn new(total_max: usize, per_network_max: usize) -> Self {
        Self {
            total: 0,
            total_max,
            by_network: BTreeMap::new(),
            per_network_max,
        }
    }

    /// Counts a connection in, if there is room for it.
    pub(super) fn admit(&mut self, peer: IpAddr) -> Result<(), Full> {
        let network = network_of(peer);
        let count = self.by_network.get(&network).copied().unwrap_or(0);
        // First what only another of its address can give room for.
        if count >= self.per_network_max {
            return Err(Full::OfAddress(self.per_network_max));
        }
        if self.total >= self.total_max {
            return Err(Full::InAll(self.total_max));
        }
        self.total += 1;
        self.by_network.insert(network, count + 1);
        Ok(())
    }

    /// Counts out a connection that was admitted.
    pub(super) fn leave(&mut self, peer: IpAddr) {
        let network = network_of(peer);
        let Some(count) = self.by_network.get_mut(&network) else {
            debug_assert!(false, "it was never admitted");
            return;
        };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.by_network.remove(&network);
        }
        self.total = self.total.saturating_sub(1);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_them_all() {
        let mut crowd = Crowd::new(5, 3);
        for _ in 0..3 {
            assert_eq!(crowd.admit(ip("192.0.2.1")), Ok(()));
        }
        let full = Err(Full::OfAddress(3));
        assert_eq!(crowd.admit(ip("192.0.2.1")), full);
        assert_eq!(crowd.admit(ip("::ffff:192.0.2.1")), full, "the same");
        assert_eq!(crowd.admit(ip("192.0.2.2")), Ok(()));
        assert_eq!(crowd.admit(ip("192.0.2.3")), Ok(()));
        assert_eq!(crowd.admit(ip("192.0.2.4")), Err(Full::InAll(5)));
        assert_eq!(crowd.admit(ip("192.0.2.1")), full, "both");
        let (other, same) = (ip("192.0.2.2"), ip("::ffff:192.0.2.1"));
        let full = Full::OfAddress(3);
        assert!(full.is_eased_by(same, ip("192.0.2.1")));
        assert!(!full.is_eased_by(other, ip("192.0.2.1")));
        assert!(Full::InAll(5).is_eased_by(other, ip("192.0.2.4")));
        assert_eq!(crowd.len(), 5);
        crowd.leave(ip("192.0.2.1"));
        assert_eq!(crowd.admit(ip("192.0.2.4")), Ok(()));
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_and_nothing_is_left_of_those_who_left() {
        let mut crowd = Crowd::new(9, 2);
        for peer in ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"] {
            assert_eq!(crowd.admit(ip(peer)), Ok(()));
        }
        assert!(crowd.admit(ip("2001:db8::3")).is_err());
        for peer in ["2001:db8::7", "2001:db8::8", "2001:db8:0:1::9"] {
            crowd.leave(ip(peer));
        }
        assert!(crowd.len() == 0 && crowd.by_network.is_empty());
    }
}
