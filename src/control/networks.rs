//! What counts as one address, and how many there are of each.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is counted as one address: an IPv4 address, or the /64 that one IPv6 host may have whole
/// (RFC 6177 §2).
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    /// The upper 64 bits of an address.
    const NETWORK: u128 = !0 << 64;
    match address.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => IpAddr::V6((ip.to_bits() & NETWORK).into()),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    }
}

pub(super) fn count(counts: &BTreeMap<IpAddr, usize>, network: IpAddr) -> usize {
    counts.get(&network).copied().unwrap_or_default()
}

pub(super) fn increase(counts: &mut BTreeMap<IpAddr, usize>, network: IpAddr) {
    let count = counts.entry(network).or_default();
    *count = count.saturating_add(1);
}

pub(super) fn decrease(counts: &mut BTreeMap<IpAddr, usize>, network: IpAddr) {
    let left = count(counts, network).saturating_sub(1);
    if left == 0 {
        counts.remove(&network);
    } else {
        counts.insert(network, left);
    }
}
