//! The machine's own addresses, to offer to viewers.

use std::net::IpAddr;

/// What a UDP socket that is bound to `listens_on` can be reached by: that address, or those of all
/// interfaces.
#[must_use]
pub fn reachable_addresses(listens_on: IpAddr) -> Vec<IpAddr> {
    let mut addresses = match listens_on.is_unspecified() {
        true => interface_addresses(),
        false => vec![listens_on],
    };
    addresses.retain(|ip| listens_on.is_ipv6() || ip.is_ipv4());
    addresses
}

/// Addresses of the interfaces that are up, loopback and link-local left out.
#[must_use]
pub fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = if_addrs::get_if_addrs() else {
        return Vec::new();
    };
    let mut addresses: Vec<IpAddr> = interfaces
        .into_iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .map(|interface| interface.ip())
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_one_address_or_family_is_reached_by_no_other() {
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(reachable_addresses(one), [one]);
        let all = reachable_addresses("0.0.0.0".parse().unwrap());
        assert!(all.iter().all(IpAddr::is_ipv4), "{all:?}");
    }
}
