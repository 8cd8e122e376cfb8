//! Which local addresses a viewer is offered as ICE candidates (RFC 8445 §5.1.1.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::LOCAL_CANDIDATES_MAX;

/// The server's addresses.
#[derive(Debug, Clone, Default)]
pub struct CandidatePolicy {
    /// Configured ones; if there are any, the interfaces' are not offered.
    pub public: Vec<IpAddr>,
    /// Those of the interfaces that the UDP socket receives on: IPv4 only if the socket is.
    pub interfaces: Vec<IpAddr>,
    /// The UDP port.
    pub port: u16,
}

impl CandidatePolicy {
    /// Whether it knows no address that it would offer to a viewer elsewhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.public.is_empty() && !self.interfaces.iter().any(|ip| is_offered(*ip))
    }

    /// The addresses for a viewer that signals from `peer`, at most [`LOCAL_CANDIDATES_MAX`]. A
    /// viewer on this machine is offered loopback too.
    #[must_use]
    pub fn for_viewer(&self, peer: IpAddr) -> Vec<SocketAddr> {
        // The interfaces tell what the socket is; without any, nothing is known against IPv6.
        let has_ipv6 = self.interfaces.is_empty() || self.interfaces.iter().any(IpAddr::is_ipv6);
        let usable = |ip: &&IpAddr| ip.is_ipv4() || has_ipv6;
        let offered: Vec<IpAddr> = if self.public.is_empty() {
            let own = self.interfaces.iter().filter(|ip| is_offered(**ip));
            own.copied().collect()
        } else {
            self.public.iter().filter(usable).copied().collect()
        };
        let peer = peer.to_canonical();
        let loopback = peer.is_loopback().then_some(match peer {
            IpAddr::V6(_) if has_ipv6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
            IpAddr::V4(_) | IpAddr::V6(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        });
        let room = LOCAL_CANDIDATES_MAX.saturating_sub(usize::from(loopback.is_some()));
        let mut candidates: Vec<SocketAddr> = Vec::new();
        for ip in offered.into_iter().take(room).chain(loopback) {
            let address = SocketAddr::new(ip, self.port);
            if !candidates.contains(&address) {
                candidates.push(address);
            }
        }
        candidates
    }
}

/// Whether an interface's address may be reached from elsewhere.
fn is_offered(ip: IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !ip.is_loopback() && !ip.is_unspecified() && !is_link_local
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn offered(public: &[&str], interfaces: &[&str], peer: &str) -> Vec<String> {
        let policy = CandidatePolicy {
            public: ips(public),
            interfaces: ips(interfaces),
            port: 8189,
        };
        let candidates = policy.for_viewer(peer.parse().unwrap());
        candidates.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn interfaces_own_addresses_are_offered_but_not_loopback_to_a_viewer_elsewhere() {
        let interfaces = [
            "127.0.0.1",
            "10.0.0.5",
            "169.254.1.1",
            "fe80::1",
            "2001:db8::5",
        ];
        assert_eq!(
            offered(&[], &interfaces, "10.0.0.9"),
            ["10.0.0.5:8189", "[2001:db8::5]:8189"]
        );
    }

    #[test]
    fn configured_addresses_replace_the_interfaces_own() {
        let (public, own) = (["203.0.113.7", "2001:db8::7"], ["10.0.0.5"]);
        assert_eq!(offered(&public, &own, "10.0.0.9"), ["203.0.113.7:8189"]);
        let both = ["10.0.0.5", "2001:db8::5"];
        assert_eq!(offered(&public, &both, "10.0.0.9").len(), 2);
    }

    #[test]
    fn a_viewer_on_this_machine_is_offered_loopback_too() {
        for peer in ["127.0.0.1", "127.0.0.2", "::ffff:127.0.0.1", "::1"] {
            let candidates = offered(&[], &["10.0.0.5"], peer);
            assert_eq!(candidates, ["10.0.0.5:8189", "127.0.0.1:8189"], "{peer}");
        }
        let candidates = offered(&[], &["10.0.0.5", "2001:db8::5"], "::1");
        assert_eq!(candidates.last().unwrap(), "[::1]:8189");
        assert_eq!(
            offered(&[], &["127.0.0.1"], "127.0.0.1"),
            ["127.0.0.1:8189"]
        );
    }

    #[test]
    fn many_interfaces_leave_room_for_loopback() {
        let many: Vec<String> = (0..40).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let candidates = offered(&[], &many, "127.0.0.1");
        assert_eq!(candidates.len(), LOCAL_CANDIDATES_MAX);
        assert_eq!(candidates.last().unwrap(), "127.0.0.1:8189");
    }
}
