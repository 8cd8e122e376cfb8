//! The machine's own addresses, to offer to viewers.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Between two looks at the interfaces.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Looks at the interfaces again from time to time: a machine moves to another network, gets another
/// lease, or started before its network.
#[derive(Debug)]
pub(super) struct AddressWatch {
    listens_on: IpAddr,
    read: fn(IpAddr) -> io::Result<Vec<IpAddr>>,
    next: Option<Instant>,
}

impl AddressWatch {
    /// A watch over what a UDP socket that is bound to `listens_on` can be reached by.
    pub(super) fn new(listens_on: IpAddr) -> Self {
        Self {
            listens_on,
            read: read_reachable,
            next: None,
        }
    }

    /// The addresses, if it is time to look again and the system tells them.
    pub(super) fn look(&mut self, now: Instant) -> Option<Vec<IpAddr>> {
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = now.checked_add(LOOK_INTERVAL);
        // Without a descriptor to ask by, what was known before is better than nothing.
        let addresses = (self.read)(self.listens_on);
        addresses
            .inspect_err(|error| log::debug!("cannot read the interfaces' addresses: {error}"))
            .ok()
    }
}

/// What a UDP socket that is bound to `listens_on` can be reached by: that address, or those of all
/// interfaces.
#[must_use]
pub fn reachable_addresses(listens_on: IpAddr) -> Vec<IpAddr> {
    read_reachable(listens_on).unwrap_or_default()
}

/// Addresses of the interfaces that are up, loopback and link-local left out; IPv4 first, and the
/// machine's own interfaces before those that came later, such as containers'.
#[must_use]
pub fn interface_addresses() -> Vec<IpAddr> {
    read_interfaces().unwrap_or_default()
}

fn read_reachable(listens_on: IpAddr) -> io::Result<Vec<IpAddr>> {
    let mut addresses = match listens_on.is_unspecified() {
        true => read_interfaces()?,
        false => vec![listens_on],
    };
    addresses.retain(|ip| listens_on.is_ipv6() || ip.is_ipv4());
    Ok(addresses)
}

fn read_interfaces() -> io::Result<Vec<IpAddr>> {
    let mut interfaces = if_addrs::get_if_addrs()?;
    interfaces.retain(|interface| !interface.is_loopback() && !interface.is_link_local());
    interfaces.sort_by_key(|interface| (interface.ip().is_ipv6(), interface.index, interface.ip()));
    let mut addresses: Vec<IpAddr> = Vec::with_capacity(interfaces.len());
    for interface in interfaces {
        // Two interfaces may have one address.
        if !addresses.contains(&interface.ip()) {
            addresses.push(interface.ip());
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_looked_at_again_but_not_at_each_join() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut watch = AddressWatch::new("192.0.2.1".parse().unwrap());
        let old: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(watch.look(start), Some(vec![old]));
        // The machine moved to another network.
        watch.read = |_| Ok(vec!["198.51.100.1".parse().unwrap()]);
        let early = start + LOOK_INTERVAL - Duration::from_millis(1);
        assert_eq!(watch.look(early), None);
        let new: IpAddr = "198.51.100.1".parse().unwrap();
        assert_eq!(watch.look(start + LOOK_INTERVAL), Some(vec![new]));
        watch.read = |_| Err(io::Error::other("no descriptors"));
        assert_eq!(watch.look(start + 2 * LOOK_INTERVAL), None);
    }

    #[test]
    fn a_socket_of_one_address_or_family_is_reached_by_no_other() {
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(reachable_addresses(one), [one]);
        let all = reachable_addresses("0.0.0.0".parse().unwrap());
        assert!(all.iter().all(IpAddr::is_ipv4), "{all:?}");
    }
}
