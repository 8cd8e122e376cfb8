//! ICE candidate lines of viewers (RFC 8839 §5.1): which of them a server that speaks UDP only,
//! and resolves no names, can use.

use std::net::IpAddr;

use crate::limits::VIEWER_CANDIDATE_BYTES_MAX;

/// What a candidate line is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// A UDP address: the line without `a=`, beginning with `candidate:`.
    Usable(String),
    /// Legal, but TCP, RTCP's component or a host name (browsers hide theirs behind mDNS): to be
    /// dropped silently. A viewer reaches an ICE-lite server without it.
    Unsupported,
    /// Not a candidate.
    Malformed,
}

/// Reads one line, with or without `a=`.
#[must_use]
pub fn parse(line: &str) -> Candidate {
    let line = line.trim();
    let line = line.strip_prefix("a=").unwrap_or(line);
    let illegal = |byte: u8| !(0x20..0x7f).contains(&byte);
    if line.len() > VIEWER_CANDIDATE_BYTES_MAX || line.bytes().any(illegal) {
        return Candidate::Malformed;
    }
    let Some(rest) = line.strip_prefix("candidate:") else {
        return Candidate::Malformed;
    };
    let mut words = rest.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (foundation, component, transport) = (word(), word(), word());
    let (priority, address, port) = (word(), word(), word());
    let (typ, kind) = (word(), word());

    let legal = (1..=32).contains(&foundation.len())
        && priority.parse::<u32>().is_ok()
        && port.parse::<u16>().is_ok()
        && !transport.is_empty()
        && !address.is_empty()
        && typ == "typ"
        && !kind.is_empty();
    let Ok(component) = component.parse::<u16>() else {
        return Candidate::Malformed;
    };
    if !legal {
        return Candidate::Malformed;
    }
    let usable = component == 1
        && transport.eq_ignore_ascii_case("udp")
        && address.parse::<IpAddr>().is_ok();
    if usable {
        Candidate::Usable(line.to_owned())
    } else {
        Candidate::Unsupported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_addresses_are_usable_with_and_without_the_attribute_mark() {
        let line = "candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0";
        assert_eq!(parse(line), Candidate::Usable(line.into()));
        let marked = format!("a={line}\r\n");
        assert_eq!(parse(&marked), Candidate::Usable(line.into()));
        let v6 = "candidate:1 1 UDP 1 2001:db8::1 5000 typ srflx raddr :: rport 0";
        assert_eq!(parse(v6), Candidate::Usable(v6.into()));
    }

    #[test]
    fn tcp_mdns_and_rtcp_candidates_are_unsupported_not_wrong() {
        for line in [
            "candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
            "candidate:1 1 udp 2122260223 1e54a1b0-0000.local 61764 typ host",
            "candidate:1 2 udp 2122260223 192.0.2.1 61764 typ host",
        ] {
            assert_eq!(parse(line), Candidate::Unsupported, "{line}");
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        let long = format!(
            "candidate:1 1 udp 1 192.0.2.1 1 typ host {}",
            "x".repeat(500)
        );
        for line in [
            "",
            "candidate:",
            "hello",
            "candidate:1 1 udp 1 192.0.2.1",
            "candidate:1 1 udp 1 192.0.2.1 70000 typ host",
            "candidate:1 1 udp 1 192.0.2.1 1 type host",
            "candidate:1 1 udp -1 192.0.2.1 1 typ host",
            "candidate:1 1 udp 1 192.0.2.1 1 typ host\r\na=setup:active",
            &long,
        ] {
            assert_eq!(parse(line), Candidate::Malformed, "{line:?}");
        }
    }
}
