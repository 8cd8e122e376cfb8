//! Which local addresses a viewer is offered as ICE candidates (RFC 8445 §5.1.1.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::LOCAL_CANDIDATES_MAX;

/// The two ends of the TCP connection that a viewer signals on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The viewer's, or that of a proxy in front of us.
    pub peer: IpAddr,
    /// Ours, if it is known.
    pub local: Option<IpAddr>,
}

/// The server's addresses.
#[derive(Debug, Clone)]
pub struct CandidatePolicy {
    /// Configured ones; if there are any, the interfaces' are not offered.
    pub public: Vec<IpAddr>,
    /// Those of the interfaces that the UDP socket receives on: IPv4 only if the socket is.
    pub interfaces: Vec<IpAddr>,
    /// What the UDP socket is bound to.
    pub listens_on: IpAddr,
    /// The UDP port.
    pub port: u16,
}

impl Default for CandidatePolicy {
    fn default() -> Self {
        Self {
            public: Vec::new(),
            interfaces: Vec::new(),
            listens_on: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 0,
        }
    }
}

impl CandidatePolicy {
    /// Whether it knows no address that it would offer to a viewer elsewhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.public.is_empty() && !self.interfaces.iter().any(|ip| is_offered(*ip))
    }

    /// The addresses for a viewer that signals between `ends`, at most [`LOCAL_CANDIDATES_MAX`].
    /// Of the machine's own, the one that the viewer's TCP reached comes first: no other is known to
    /// be reachable. A viewer on this machine is offered loopback too.
    #[must_use]
    pub fn for_viewer(&self, ends: Ends) -> Vec<SocketAddr> {
        // The interfaces tell what the socket is; without any, nothing is known against IPv6.
        let has_ipv6 = self.interfaces.is_empty() || self.interfaces.iter().any(IpAddr::is_ipv6);
        let usable = |ip: &&IpAddr| ip.is_ipv4() || has_ipv6;
        let mut offered: Vec<IpAddr> = Vec::new();
        if self.public.is_empty() {
            offered.extend(self.reached(ends));
            let own = self.interfaces.iter().filter(|ip| is_offered(**ip));
            for ip in own {
                if !offered.contains(ip) {
                    offered.push(*ip);
                }
            }
        } else {
            offered.extend(self.public.iter().filter(usable));
        }
        let peer = ends.peer.to_canonical();
        let loopback = peer.is_loopback().then_some(match peer {
            IpAddr::V6(_) if has_ipv6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
            IpAddr::V4(_) | IpAddr::V6(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        });
        let room = LOCAL_CANDIDATES_MAX.saturating_sub(usize::from(loopback.is_some()));
        if self.public.is_empty() {
            keep_the_best(&mut offered, room, self.reached(ends));
        }
        let mut candidates: Vec<SocketAddr> = Vec::new();
        for ip in offered.into_iter().take(room).chain(loopback) {
            let address = SocketAddr::new(ip, self.port);
            if !candidates.contains(&address) {
                candidates.push(address);
            }
        }
        candidates
    }

    /// The address that a viewer's TCP came to, if the UDP socket receives there as well and it means
    /// the same to the viewer: loopback is a proxy's, or of a viewer on this machine.
    fn reached(&self, ends: Ends) -> Option<IpAddr> {
        let local = ends.local?.to_canonical();
        let is_meant = match local {
            IpAddr::V4(_) => is_offered(local) || is_link_local(local),
            // Only of use with the number of an interface, which differs from machine to machine.
            IpAddr::V6(_) => is_offered(local),
        };
        let is_received = match self.listens_on.is_unspecified() {
            true => local.is_ipv4() || self.listens_on.is_ipv6(),
            false => local == self.listens_on.to_canonical(),
        };
        (is_meant && is_received).then_some(local)
    }
}

/// Leaves `room` of the machine's own addresses: `first`, then public ones before private ones, but
/// at least one of each family.
fn keep_the_best(addresses: &mut Vec<IpAddr>, room: usize, first: Option<IpAddr>) {
    if addresses.len() <= room {
        return;
    }
    addresses.sort_by_key(|ip| (Some(*ip) != first, is_private(*ip), ip.is_ipv6()));
    let left_out = addresses.split_off(room);
    for is_ipv6 in [false, true] {
        let is_of_it = |ip: &IpAddr| ip.is_ipv6() == is_ipv6;
        let best = left_out.iter().copied().find(is_of_it);
        if let Some(best) = best.filter(|_| !addresses.iter().any(is_of_it))
            && let Some(last) = addresses.last_mut()
        {
            *last = best;
        }
    }
}

/// Whether an address is of use inside a network only (RFC 1918, RFC 4193, RFC 6598).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// Whether an interface's address may be reached from elsewhere.
fn is_offered(ip: IpAddr) -> bool {
    !ip.is_loopback() && !ip.is_unspecified() && !is_link_local(ip)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
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
            listens_on: "::".parse().unwrap(),
            port: 8189,
        };
        let candidates = policy.for_viewer(Ends {
            peer: peer.parse().unwrap(),
            local: None,
        });
        candidates.iter().map(SocketAddr::to_string).collect()
    }

    /// What a viewer elsewhere is offered that signals to `local`, without the port.
    fn reached(listens_on: &str, interfaces: &[&str], local: &str) -> Vec<IpAddr> {
        let policy = CandidatePolicy {
            interfaces: ips(interfaces),
            listens_on: listens_on.parse().unwrap(),
            ..CandidatePolicy::default()
        };
        let ends = Ends {
            peer: "192.0.2.9".parse().unwrap(),
            local: Some(local.parse().unwrap()),
        };
        let candidates = policy.for_viewer(ends);
        candidates.iter().map(SocketAddr::ip).collect()
    }

    #[test]
    fn the_address_that_a_viewer_signals_to_is_offered_first() {
        let own = ["10.0.0.5", "192.168.1.5", "2001:db8::5"];
        for (listens_on, local, expected) in [
            ("0.0.0.0", "192.168.1.5", "192.168.1.5"),
            ("::", "::ffff:192.168.1.5", "192.168.1.5"),
            ("::", "2001:db8::5", "2001:db8::5"),
            // Of no interface, but routed to the machine.
            ("0.0.0.0", "203.0.113.80", "203.0.113.80"),
            // All that two machines have at the ends of one cable.
            ("0.0.0.0", "169.254.3.4", "169.254.3.4"),
        ] {
            let offered = reached(listens_on, &own, local);
            let expected: IpAddr = expected.parse().unwrap();
            assert_eq!(offered.first(), Some(&expected), "{local}");
            let rest: Vec<IpAddr> = ips(&own).into_iter().filter(|ip| *ip != expected).collect();
            assert_eq!(offered.get(1..), Some(&rest[..]), "{local}");
        }
    }

    #[test]
    fn an_address_that_media_does_not_come_to_is_not_offered_for_being_signalled_to() {
        let own = ["10.0.0.5"];
        for (listens_on, local) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "::1"),
            ("0.0.0.0", "0.0.0.0"),
            ("::", "fe80::1"),
            ("0.0.0.0", "2001:db8::5"),
            ("10.0.0.5", "192.168.1.5"),
        ] {
            assert_eq!(reached(listens_on, &own, local), ips(&own), "{local}");
        }
        let policy = CandidatePolicy {
            public: ips(&["203.0.113.7"]),
            interfaces: ips(&own),
            ..CandidatePolicy::default()
        };
        let ends = Ends {
            peer: "192.0.2.9".parse().unwrap(),
            local: Some("10.0.0.5".parse().unwrap()),
        };
        let configured: Vec<IpAddr> = policy.for_viewer(ends).iter().map(SocketAddr::ip).collect();
        assert_eq!(configured, ips(&["203.0.113.7"]));
    }

    #[test]
    fn of_many_addresses_the_public_ones_and_one_of_each_family_are_kept() {
        let docker: Vec<String> = (0..40).map(|n| format!("172.17.{n}.1")).collect();
        let docker: Vec<&str> = docker.iter().map(String::as_str).collect();
        let tail = ["192.168.1.5", "203.0.113.7", "fd00::5", "2001:db8::5"];
        let many = [&docker[..], &tail[..]].concat();
        let kept = reached("::", &many, "192.168.1.5");
        assert_eq!(kept.len(), LOCAL_CANDIDATES_MAX);
        let best = ["192.168.1.5", "203.0.113.7", "2001:db8::5", "172.17.0.1"];
        assert_eq!(kept[..4], ips(&best));
        // Through a proxy on this machine nothing is known of what viewers reach.
        let kept = reached("::", &many, "127.0.0.1");
        assert_eq!(kept.len(), LOCAL_CANDIDATES_MAX);
        assert_eq!(kept[..2], ips(&["203.0.113.7", "2001:db8::5"]));
        assert!(kept[2..].iter().all(|ip| is_private(*ip) && ip.is_ipv4()));

        let private = [&docker[..], &["fd00::5"]].concat();
        let kept = reached("::", &private, "172.17.39.1");
        assert_eq!(kept.first(), ips(&["172.17.39.1"]).first());
        assert_eq!(kept.last(), ips(&["fd00::5"]).first());

        let temporary: Vec<String> = (0..40).map(|n| format!("2001:db8::{n:x}1")).collect();
        let temporary: Vec<&str> = temporary.iter().map(String::as_str).collect();
        let kept = reached("::", &[&temporary[..], &["10.0.0.5"]].concat(), "::1");
        assert_eq!(kept.len(), LOCAL_CANDIDATES_MAX);
        assert_eq!(kept.last(), ips(&["10.0.0.5"]).first());
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
