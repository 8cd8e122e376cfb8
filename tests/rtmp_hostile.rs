//! The RTMP handshake through the public API, against handshakes built here: plain, and with a
//! digest at either of its two places (Flash Player 9, as published by reverse engineers).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may fail loudly, and any instant will do for a clock"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use aws_lc_rs::hmac;
use rtmpeer::rtmp::{CloseReason, RtmpConfig, RtmpOutput, RtmpSession};

/// C1, C2, S1 and S2 (Adobe RTMP 1.0 §5.2.3).
const PACKET_BYTES: usize = 1_536;
const DIGEST_BYTES: usize = 32;
/// Where the four bytes stand whose sum tells the digest's place, per scheme.
const SCHEMES: [usize; 2] = [8, 772];
const PLAYER_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001";
/// What follows the names above in the keys of C2 and S2.
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57,
    0x6e, 0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, &parts.concat()).as_ref().to_vec()
}

fn digest_offset(packet: &[u8], scheme: usize) -> usize {
    let sum: usize = packet[scheme..scheme + 4]
        .iter()
        .map(|&byte| usize::from(byte))
        .sum();
    sum % 728 + scheme + 4
}

fn digest_of(packet: &[u8], offset: usize, key: &[u8]) -> Vec<u8> {
    mac(key, &[&packet[..offset], &packet[offset + DIGEST_BYTES..]])
}

/// A C1 without zeros where the plain handshake has them.
fn c1() -> Vec<u8> {
    let byte = |index: usize| u8::try_from(index * 7 % 251).unwrap();
    (0..PACKET_BYTES).map(byte).collect()
}

fn session() -> RtmpSession {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    RtmpSession::new(peer, RtmpConfig::default(), Instant::now())
}

/// What the session sends, and why it closed if it did.
fn drain(session: &mut RtmpSession) -> (Vec<u8>, Option<CloseReason>) {
    let (mut bytes, mut closed) = (Vec::new(), None);
    loop {
        match session.poll_output(Instant::now()) {
            RtmpOutput::Transmit(part) => bytes.extend_from_slice(&part),
            RtmpOutput::Close(reason) => closed = Some(reason),
            RtmpOutput::Event(event) => panic!("unexpected {event:?}"),
            RtmpOutput::Timeout(_) => return (bytes, closed),
        }
    }
}

/// Sends C0 and C1; returns S1 and S2.
fn exchange(session: &mut RtmpSession, c1: &[u8]) -> (Vec<u8>, Vec<u8>) {
    session.handle_input(&[&[3], c1].concat(), Instant::now());
    let (bytes, closed) = drain(session);
    assert_eq!((bytes.len(), closed), (1 + 2 * PACKET_BYTES, None));
    assert_eq!(bytes[0], 3);
    let (s1, s2) = bytes[1..].split_at(PACKET_BYTES);
    (s1.to_vec(), s2.to_vec())
}

/// Sends C2 and a ping; the answer shows that the session reads on.
fn assert_reads_chunks_after(session: &mut RtmpSession, c2: &[u8]) {
    let ping = [
        2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 0xa1, 0xa2, 0xa3, 0xa4,
    ];
    session.handle_input(&[c2, &ping].concat(), Instant::now());
    let (bytes, closed) = drain(session);
    assert_eq!(closed, None);
    assert!(bytes.ends_with(&[0, 7, 0xa1, 0xa2, 0xa3, 0xa4]));
}

#[test]
fn plain_handshake_is_answered_with_a_copy_of_c1() {
    let mut session = session();
    let mut c1 = c1();
    c1[4..8].fill(0);
    let (s1, s2) = exchange(&mut session, &c1);
    assert_eq!(s2, c1);
    assert_reads_chunks_after(&mut session, &s1);
}

#[test]
fn digest_handshake_is_answered_with_digests_in_both_schemes() {
    for scheme in SCHEMES {
        let mut session = session();
        let mut c1 = c1();
        let offset = digest_offset(&c1, scheme);
        let digest = digest_of(&c1, offset, PLAYER_KEY);
        c1[offset..offset + DIGEST_BYTES].copy_from_slice(&digest);
        let (s1, s2) = exchange(&mut session, &c1);

        let signed = SCHEMES.iter().any(|&scheme| {
            let offset = digest_offset(&s1, scheme);
            s1[offset..offset + DIGEST_BYTES] == digest_of(&s1, offset, SERVER_KEY)
        });
        assert!(signed, "S1 holds no digest of ours");
        let key = mac(&[SERVER_KEY, &KEY_TAIL].concat(), &[&digest]);
        let (body, signature) = s2.split_at(PACKET_BYTES - DIGEST_BYTES);
        assert_eq!(
            signature,
            mac(&key, &[body]),
            "S2 does not answer C1's digest"
        );
        assert_reads_chunks_after(&mut session, &[0x5a; PACKET_BYTES]);
    }
}

#[test]
fn handshake_with_a_wrong_digest_is_taken_for_a_plain_one() {
    let mut session = session();
    let c1 = c1();
    let (s1, s2) = exchange(&mut session, &c1);
    assert_eq!(s2, c1);
    assert_reads_chunks_after(&mut session, &s1);
}
