//! Who gets through, who does not, and that nothing grows without bound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const OWN: CoreId = CoreId(1);
const OTHER: CoreId = CoreId(2);
const ALICE: ViewerId = ViewerId(1);
const BOB: ViewerId = ViewerId(2);
const DTLS: [u8; 13] = [22; 13];
const RTCP: [u8; 12] = [0x80, 201, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];

fn start() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do to count from"
    )]
    Instant::now()
}

fn address(n: u32) -> SocketAddr {
    let [a, b, high, low] = n.to_be_bytes();
    let port = u16::from_be_bytes([high, low]);
    SocketAddr::from(([10, 0, a, b], port))
}

fn ufrag(core: CoreId, seed: u64) -> String {
    ufrag_for(core, &mut IdSource::seeded(seed))
}

fn stun(message_type: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (attribute, value) in attributes {
        body.extend_from_slice(&attribute.to_be_bytes());
        body.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut message = message_type.to_be_bytes().to_vec();
    message.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    message.extend_from_slice(&[7; 12]);
    message.extend_from_slice(&body);
    message
}

fn check(ufrag: &str) -> Vec<u8> {
    let name = format!("{ufrag}:peer");
    stun(1, &[(0x0006, name.as_bytes()), (0x0008, &[0; 20])])
}

/// Core 1 of 4, with Alice's and Bob's ufrags.
struct Fixture {
    demux: Demux,
    alice: Vec<u8>,
    bob: Vec<u8>,
    stranger: Vec<u8>,
    elsewhere: Vec<u8>,
    now: Instant,
}

fn fixture() -> Fixture {
    let mut demux = Demux::new(OWN, 4);
    let (alice, bob) = (ufrag(OWN, 1), ufrag(OWN, 2));
    demux.register(&alice, ALICE);
    demux.register(&bob, BOB);
    Fixture {
        demux,
        alice: check(&alice),
        bob: check(&bob),
        stranger: check(&ufrag(OWN, 3)),
        elsewhere: check(&ufrag(OTHER, 4)),
        now: start(),
    }
}

impl Fixture {
    fn route(&mut self, from: u32, datagram: &[u8]) -> Route {
        self.demux.route(address(from), datagram, self.now)
    }

    fn bind(&mut self, from: u32, viewer: ViewerId) -> bool {
        self.demux.bind(address(from), viewer, self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn dropped(reason: DropReason) -> Route {
    Route::Drop(reason)
}

#[test]
fn viewer_is_found_by_ufrag_first_and_by_address_once_proved() {
    let mut f = fixture();
    let alice = f.alice.clone();
    assert_eq!(f.route(5, &alice), Route::Candidate(ALICE));
    assert_eq!(
        f.route(5, &alice),
        Route::Candidate(ALICE),
        "not proved by asking"
    );
    assert_eq!(f.route(5, &DTLS), dropped(DropReason::UnknownAddress));
    assert!(f.bind(5, ALICE));
    for datagram in [&alice[..], &DTLS, &RTCP] {
        assert_eq!(f.route(5, datagram), Route::Viewer(ALICE));
    }
    assert_eq!(f.route(6, &DTLS), dropped(DropReason::UnknownAddress));
}

#[test]
fn client_hello_from_another_address_gets_nowhere() {
    let mut f = fixture();
    let mut hello = vec![22, 0xfe, 0xfd];
    hello.resize(300, 0);
    for step in 0..10_000 {
        if step == 5_000 {
            assert!(f.bind(5, ALICE));
        }
        assert_eq!(f.route(66, &hello), dropped(DropReason::UnknownAddress));
    }
    assert_eq!(f.route(5, &hello), Route::Viewer(ALICE));
    assert_eq!(f.demux.sizes().learned, 0);
}

#[test]
fn only_a_binding_request_names_a_viewer() {
    let mut f = fixture();
    let request = f.alice.clone();
    for message_type in [0x0011, 0x0101, 0x0111, 0x0003] {
        let mut other = request.clone();
        other[..2].copy_from_slice(&u16::to_be_bytes(message_type));
        assert_eq!(f.route(5, &other), dropped(DropReason::UnknownAddress));
        assert!(f.bind(6, ALICE));
        assert_eq!(f.route(6, &other), Route::Viewer(ALICE));
    }
    let nameless = stun(1, &[(0x0008, &[0; 20])]);
    assert_eq!(f.route(5, &nameless), dropped(DropReason::UnknownAddress));
    let no_colon = stun(1, &[(0x0006, b"name")]);
    assert_eq!(f.route(5, &no_colon), dropped(DropReason::UnknownAddress));
}

#[test]
fn user_name_behind_the_integrity_or_behind_another_does_not_count() {
    let mut f = fixture();
    let name = format!("{}:peer", ufrag(OWN, 1));
    let behind = stun(1, &[(0x0008, &[0; 20]), (0x0006, name.as_bytes())]);
    assert_eq!(f.route(5, &behind), dropped(DropReason::UnknownAddress));
    let second = stun(1, &[(0x0006, b"AAA:peer"), (0x0006, name.as_bytes())]);
    assert_eq!(f.route(5, &second), dropped(DropReason::UnknownUfrag));
    let odd = stun(
        1,
        &[(0x0020, &[]), (0x8022, b"odd"), (0x0006, name.as_bytes())],
    );
    assert_eq!(f.route(5, &odd), Route::Candidate(ALICE));
}

#[test]
fn truncated_stun_is_dropped_from_anywhere() {
    let mut f = fixture();
    assert!(f.bind(5, ALICE));
    let whole = f.alice.clone();
    for length in 0..whole.len() {
        for from in [5, 6] {
            let route = f.route(from, &whole[..length]);
            let expected = if length < 20 {
                DropReason::Length
            } else {
                DropReason::Malformed
            };
            assert_eq!(route, dropped(expected), "{length} bytes");
        }
        let mut adjusted = whole[..length].to_vec();
        if let Some(place) = adjusted.get_mut(2..4) {
            let body = u16::try_from(length.saturating_sub(20)).unwrap();
            place.copy_from_slice(&body.to_be_bytes());
        }
        assert!(matches!(
            f.route(6, &adjusted),
            Route::Drop(_) | Route::Candidate(_)
        ));
    }
}

#[test]
fn stun_with_lengths_that_do_not_add_up_is_malformed() {
    let mut f = fixture();
    let many: Vec<(u16, &[u8])> = vec![(0x8022, b""); 300];
    let mut beyond = f.alice.clone();
    // The user name claims one byte more than the message has.
    let rest = u16::try_from(beyond.len() - 24 + 1).unwrap();
    beyond[22..24].copy_from_slice(&rest.to_be_bytes());
    let mut unaligned = f.alice.clone();
    unaligned.push(0);
    unaligned[3] += 1;
    let latin = stun(1, &[(0x0006, b"\xff\xfe:peer")]);
    for message in [stun(1, &many), beyond, unaligned, latin] {
        assert_eq!(f.route(5, &message), dropped(DropReason::Malformed));
    }
}

#[test]
fn size_limits_are_those_of_the_kind() {
    let mut f = fixture();
    assert!(f.bind(5, ALICE));
    for first in [22, 0x80] {
        for (length, expected) in [
            (11, dropped(DropReason::Length)),
            (12, Route::Viewer(ALICE)),
            (1_500, Route::Viewer(ALICE)),
            (1_501, dropped(DropReason::Length)),
        ] {
            assert_eq!(f.route(5, &vec![first; length]), expected);
        }
    }
    let pad = vec![0; 1_280 - 20 - 4];
    assert_eq!(
        f.route(5, &stun(0x11, &[(0x8022, &pad)])),
        Route::Viewer(ALICE)
    );
    let pad = vec![0; 1_280 - 20];
    let long = stun(0x11, &[(0x8022, &pad)]);
    assert_eq!(f.route(5, &long), dropped(DropReason::Length));
}

#[test]
fn kinds_are_told_apart_by_the_first_bytes() {
    for first in 0..=255_u8 {
        let kind = |second| DatagramKind::of(&[first, second, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        let expected = match first {
            0..=3 => Some(DatagramKind::Stun),
            20..=63 => Some(DatagramKind::Dtls),
            128..=191 => Some(DatagramKind::Rtp),
            _ => None,
        };
        assert_eq!(kind(96), expected);
        let rtcp = (128..=191).contains(&first);
        let expected = if rtcp {
            Some(DatagramKind::Rtcp)
        } else {
            expected
        };
        assert_eq!(kind(201), expected);
    }
    assert_eq!(
        DatagramKind::of(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x43]),
        None
    );
    assert_eq!(DatagramKind::of(&[22]), None);
}

#[test]
fn media_shaped_junk_reaches_a_proved_viewer_only() {
    let mut f = fixture();
    assert!(f.bind(5, ALICE));
    for length in 0..=1_500 {
        let first = 128 + u8::try_from(length % 64).unwrap();
        let junk = vec![first; length];
        let known = f.route(5, &junk);
        let unknown = f.route(6, &junk);
        if length < 12 {
            assert_eq!([known, unknown], [dropped(DropReason::Length); 2]);
        } else {
            assert_eq!(known, Route::Viewer(ALICE));
            assert_eq!(unknown, dropped(DropReason::UnknownAddress));
        }
    }
}

#[test]
fn flood_from_many_ports_keeps_four_addresses_and_the_viewer_plays_on() {
    let mut f = fixture();
    let alice = f.alice.clone();
    assert!(f.bind(0, ALICE));
    let mut bound = 1;
    for port in 1..20_000 {
        f.pass(Duration::from_micros(100));
        if f.route(port, &alice) == Route::Candidate(ALICE) && f.bind(port, ALICE) {
            bound += 1;
        }
        if port % 100 == 0 {
            assert_eq!(
                f.route(0, &alice),
                Route::Viewer(ALICE),
                "own checks still count"
            );
            assert_eq!(f.route(0, &RTCP), Route::Viewer(ALICE));
        }
    }
    assert_eq!(bound, NEW_ADDRESSES_MAX);
    let sizes = f.demux.sizes();
    assert_eq!((sizes.addresses, sizes.learned), (NEW_ADDRESSES_MAX, 0));
}

#[test]
fn ninth_address_waits_until_one_is_silent() {
    let mut f = fixture();
    for n in 0..8 {
        f.pass(seconds(3));
        assert!(f.bind(n, ALICE));
    }
    f.pass(seconds(9));
    for n in 0..8 {
        assert_eq!(f.route(n, &RTCP), Route::Viewer(ALICE));
    }
    f.pass(seconds(1));
    assert!(!f.bind(8, ALICE), "all eight are in use");
    f.pass(seconds(29));
    for n in (0..8).filter(|n| *n != 3) {
        f.route(n, &RTCP);
    }
    assert!(f.bind(8, ALICE));
    assert_eq!(f.route(3, &RTCP), dropped(DropReason::UnknownAddress));
    assert_eq!(f.demux.sizes().addresses, 8);
}

#[test]
fn fifth_new_address_in_ten_seconds_is_refused() {
    let mut f = fixture();
    for n in 0..4 {
        assert!(f.bind(n, ALICE));
        f.pass(seconds(2));
    }
    assert!(!f.bind(4, ALICE));
    assert!(f.bind(0, ALICE), "a known address is no new one");
    assert!(f.bind(5, BOB), "another viewer has its own count");
    f.pass(seconds(2));
    assert!(f.bind(4, ALICE));
}

#[test]
fn address_in_use_is_not_given_to_another_viewer_until_silent_or_removed() {
    let mut f = fixture();
    let bob = f.bob.clone();
    assert!(f.bind(5, ALICE));
    assert_eq!(f.route(5, &bob), Route::Candidate(BOB));
    assert!(!f.bind(5, BOB));
    f.pass(ADDRESS_IDLE);
    assert!(
        f.bind(5, BOB),
        "Bob's checks did not keep Alice's address alive"
    );
    assert_eq!(f.route(5, &RTCP), Route::Viewer(BOB));

    f.demux.remove(ALICE);
    assert_eq!(
        f.route(5, &RTCP),
        Route::Viewer(BOB),
        "it is Alice's no longer"
    );
    f.demux.remove(BOB);
    assert!(f.demux.is_empty());
}

#[test]
fn unknown_viewer_binds_nothing() {
    let mut f = fixture();
    assert!(!f.bind(5, ViewerId(99)));
    assert_eq!(f.demux.sizes().addresses, 0);
}

#[test]
fn ufrag_of_before_an_ice_restart_stays_valid_but_not_that_before_it() {
    let mut f = fixture();
    let (second, third) = (ufrag(OWN, 11), ufrag(OWN, 12));
    let first = f.alice.clone();
    f.demux.register(&second, ALICE);
    f.demux.register(&second, ALICE);
    assert_eq!(f.route(5, &first), Route::Candidate(ALICE));
    assert_eq!(f.route(5, &check(&second)), Route::Candidate(ALICE));
    f.demux.register(&third, ALICE);
    assert_eq!(f.route(5, &check(&third)), Route::Candidate(ALICE));
    assert_eq!(f.route(5, &first), dropped(DropReason::UnknownUfrag));
    assert_eq!(f.demux.sizes().ufrags, 3);
}

#[test]
fn abandoned_viewers_leave_nothing_behind() {
    let mut demux = Demux::new(OWN, 4);
    let mut ids = IdSource::seeded(1);
    let now = start();
    for n in 0..100_000_u32 {
        let viewer = ViewerId(u64::from(n));
        if n % 3 > 0 {
            demux.register(&ufrag_for(OWN, &mut ids), viewer);
        }
        if n % 3 > 1 {
            assert!(demux.bind(address(n), viewer, now));
        }
    }
    assert_eq!(demux.sizes().viewers, 66_666);
    for n in 0..100_000 {
        demux.remove(ViewerId(n));
    }
    assert!(demux.is_empty());
    assert_eq!(demux.sizes(), DemuxSizes::default());
    let places = demux.viewers.capacity() + demux.ufrags.capacity() + demux.addresses.capacity();
    assert!(places < 10_000, "{places} places kept");
}

#[test]
fn other_core_gets_its_viewers_datagrams_once_their_stun_came_by() {
    let mut f = fixture();
    let elsewhere = f.elsewhere.clone();
    assert_eq!(f.route(5, &DTLS), dropped(DropReason::UnknownAddress));
    assert_eq!(f.route(5, &elsewhere), Route::OtherCore(OTHER));
    let response = stun(0x0101, &[]);
    for datagram in [&DTLS[..], &RTCP, &response] {
        assert_eq!(f.route(5, datagram), Route::OtherCore(OTHER));
        assert_eq!(f.route(6, datagram), dropped(DropReason::UnknownAddress));
    }
    assert!(!f.demux.is_empty());
    assert_eq!(f.demux.sizes().learned, 1);
}

#[test]
fn ufrag_of_a_core_that_does_not_exist_is_unknown() {
    let mut f = fixture();
    for core in [4, 500, u16::MAX] {
        let route = f.route(5, &check(&ufrag(CoreId(core), 1)));
        assert_eq!(route, dropped(DropReason::UnknownUfrag));
    }
}

#[test]
fn learned_address_is_kept_while_used_and_forgotten_afterwards() {
    let mut f = fixture();
    let elsewhere = f.elsewhere.clone();
    assert_eq!(f.route(5, &elsewhere), Route::OtherCore(OTHER));
    for _ in 0..20 {
        f.pass(seconds(14));
        assert_eq!(f.route(5, &RTCP), Route::OtherCore(OTHER));
    }
    f.pass(seconds(31));
    assert_eq!(f.route(5, &RTCP), dropped(DropReason::UnknownAddress));
    assert_eq!(f.demux.sizes().learned, 0);

    assert_eq!(f.route(5, &elsewhere), Route::OtherCore(OTHER));
    f.pass(seconds(16));
    f.demux.expire(f.now);
    assert_eq!(f.demux.sizes().learned, 1);
    f.pass(seconds(15));
    f.demux.expire(f.now);
    assert_eq!(f.demux.sizes().learned, 0);
}

#[test]
fn forged_ufrag_of_another_core_does_not_displace_a_proved_address() {
    let mut f = fixture();
    let elsewhere = f.elsewhere.clone();
    assert!(f.bind(5, ALICE));
    assert_eq!(
        f.route(5, &elsewhere),
        Route::OtherCore(OTHER),
        "only itself"
    );
    assert_eq!(f.route(5, &DTLS), Route::Viewer(ALICE));
    assert_eq!(f.demux.sizes().learned, 0);

    assert_eq!(f.route(6, &elsewhere), Route::OtherCore(OTHER));
    assert_eq!(f.route(6, &f.alice.clone()), Route::Candidate(ALICE));
    assert!(f.bind(6, ALICE));
    assert_eq!(
        f.route(6, &DTLS),
        Route::Viewer(ALICE),
        "proof outranks hearsay"
    );
    assert_eq!(f.demux.sizes().learned, 0);
}

#[test]
fn forged_ufrag_does_not_turn_a_learned_address_to_a_third_core() {
    let mut f = fixture();
    let elsewhere = f.elsewhere.clone();
    let third = check(&ufrag(CoreId(3), 9));
    f.route(5, &elsewhere);
    for _ in 0..10 {
        f.pass(seconds(5));
        assert_eq!(
            f.route(5, &third),
            Route::OtherCore(CoreId(3)),
            "only itself"
        );
        assert_eq!(f.route(5, &DTLS), Route::OtherCore(OTHER));
        assert_eq!(f.route(5, &elsewhere), Route::OtherCore(OTHER));
    }
    f.pass(seconds(10));
    f.route(5, &third);
    assert_eq!(
        f.route(5, &DTLS),
        Route::OtherCore(CoreId(3)),
        "the viewer moved"
    );
}

#[test]
fn learning_is_bounded_by_second_and_in_total() {
    let mut f = fixture();
    let elsewhere = f.elsewhere.clone();
    let mut learned = 0;
    for n in 0..5_000 {
        let route = f.route(n, &elsewhere);
        let passed_on = route == Route::OtherCore(OTHER);
        assert!(passed_on || route == dropped(DropReason::RateLimited));
        learned += u32::from(passed_on);
    }
    assert_eq!(learned, 1_800);
    let mut most = 0;
    for n in 5_000..250_000 {
        f.pass(Duration::from_micros(250));
        f.route(n, &elsewhere);
        most = most.max(f.demux.sizes().learned);
    }
    assert!((50_000..65_536).contains(&most), "{most}");
}

#[test]
fn addresses_kept_in_use_and_new_ones_together_are_bounded() {
    let mut f = fixture();
    let elsewhere = f.elsewhere.clone();
    let flood = |f: &mut Fixture, first: u32| {
        for n in 0..26_000 {
            f.pass(Duration::from_micros(560));
            f.route(first + n, &elsewhere);
        }
    };
    flood(&mut f, 0);
    f.pass(seconds(1));
    for n in 0..26_000 {
        assert_eq!(f.route(n, &RTCP), Route::OtherCore(OTHER));
    }
    flood(&mut f, 30_000);
    assert_eq!(f.demux.sizes().learned, 28_672, "the rest came too late");
    assert_eq!(f.route(0, &RTCP), Route::OtherCore(OTHER));
}

#[test]
fn flood_through_a_learned_address_is_limited() {
    let mut f = fixture();
    let elsewhere = f.elsewhere.clone();
    f.route(5, &elsewhere);
    let mut passed_on = 0;
    for _ in 0..10_000 {
        f.pass(Duration::from_micros(100));
        let route = f.route(5, &RTCP);
        let passes = route == Route::OtherCore(OTHER);
        assert!(passes || route == dropped(DropReason::RateLimited));
        passed_on += u32::from(passes);
    }
    assert!((390..=410).contains(&passed_on), "{passed_on} in a second");
}

#[test]
fn guesser_is_limited_but_others_and_known_ufrags_are_not() {
    let mut f = fixture();
    let (stranger, elsewhere) = (f.stranger.clone(), f.elsewhere.clone());
    let guesser = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let from = |port| SocketAddr::new(guesser, port);
    for port in 0..200 {
        let route = f.demux.route(from(port), &stranger, f.now);
        assert_eq!(route, dropped(DropReason::UnknownUfrag));
    }
    let limited = dropped(DropReason::RateLimited);
    assert_eq!(f.demux.route(from(7), &stranger, f.now), limited);
    assert_eq!(f.demux.route(from(8), &elsewhere, f.now), limited);
    let known = f.demux.route(from(9), &f.alice, f.now);
    assert_eq!(
        known,
        Route::Candidate(ALICE),
        "a neighbour behind the same address"
    );
    assert_eq!(f.route(5, &stranger), dropped(DropReason::UnknownUfrag));
    assert_eq!(f.route(5, &elsewhere), Route::OtherCore(OTHER));
    f.pass(seconds(1));
    let route = f.demux.route(from(7), &stranger, f.now);
    assert_eq!(route, dropped(DropReason::UnknownUfrag));
}

#[test]
fn guesser_with_a_whole_ipv6_network_counts_as_one() {
    let mut f = fixture();
    let stranger = f.stranger.clone();
    let mut limited = 0;
    for host in 0..300 {
        let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host);
        let route = f.demux.route(SocketAddr::from((ip, 5)), &stranger, f.now);
        limited += u32::from(route == dropped(DropReason::RateLimited));
    }
    assert_eq!(limited, 100);
}

#[test]
fn guessers_table_is_bounded() {
    let mut f = fixture();
    let stranger = f.stranger.clone();
    let mut counted = 0;
    for n in 0..10_000_u32 {
        let from = SocketAddr::from((Ipv4Addr::from(n), 5));
        let route = f.demux.route(from, &stranger, f.now);
        counted += u32::from(route == dropped(DropReason::UnknownUfrag));
    }
    assert_eq!(counted, 4_096);
}

#[test]
fn stun_flood_with_a_viewers_ufrag_is_limited_apart_from_its_own() {
    let mut f = fixture();
    let alice = f.alice.clone();
    assert!(f.bind(5, ALICE));
    let candidates = (100..1_100).filter(|n| f.route(*n, &alice) == Route::Candidate(ALICE));
    assert_eq!(candidates.count(), 100);
    let own = (0..1_000).filter(|_| f.route(5, &alice) == Route::Viewer(ALICE));
    assert_eq!(own.count(), 100);
    assert_eq!(f.route(5, &DTLS), Route::Viewer(ALICE));
    f.pass(seconds(1));
    let own = (0..1_000).filter(|_| f.route(5, &alice) == Route::Viewer(ALICE));
    assert_eq!(own.count(), 50);
}

#[test]
fn ufrag_says_its_core_and_nothing_else_is_one() {
    let mut ids = IdSource::seeded(3);
    for core in (0..=u16::MAX).step_by(97).chain([u16::MAX]) {
        let ufrag = ufrag_for(CoreId(core), &mut ids);
        assert_eq!(ufrag.len(), 11);
        assert_eq!(core_of_ufrag(&ufrag), Some(CoreId(core)));
    }
    assert_ne!(ufrag_for(OWN, &mut ids), ufrag_for(OWN, &mut ids));
    for bad in [
        "",
        "AABabcdefg",
        "AABabcdefghi",
        "AABabcdefg ",
        "AAéabcdefg",
        "///abcdefgh",
        "AA-abcdefgh",
    ] {
        assert_eq!(core_of_ufrag(bad), None, "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn junk_never_panics_and_is_never_for_anybody(
        junk in proptest::collection::vec(any::<u8>(), 0..200),
        cookie in any::<bool>(),
    ) {
        let mut f = fixture();
        let mut junk = junk;
        if cookie {
            for (to, from) in junk.iter_mut().skip(4).zip([0x21, 0x12, 0xa4, 0x42]) {
                *to = from;
            }
            let body = u16::try_from(junk.len().saturating_sub(20)).unwrap();
            for (to, from) in junk.iter_mut().zip([0, 1].into_iter().chain(body.to_be_bytes())) {
                *to = from;
            }
        }
        prop_assert!(matches!(f.route(5, &junk), Route::Drop(_)));
    }

    #[test]
    fn altered_stun_names_nobody_else(
        position in 0_usize..60,
        byte in any::<u8>(),
        proved in any::<bool>(),
    ) {
        let mut f = fixture();
        if proved {
            assert!(f.bind(5, ALICE));
        }
        let mut altered = f.alice.clone();
        if let Some(place) = altered.get_mut(position) {
            *place = byte;
        }
        let route = f.route(5, &altered);
        let bob = [Route::Viewer(BOB), Route::Candidate(BOB)];
        prop_assert!(!bob.contains(&route));
    }

    #[test]
    fn tables_agree_whatever_happens(
        steps in proptest::collection::vec((0_u8..6, 0_u64..4, 0_u32..12, 0_u64..20), 0..120),
    ) {
        let mut f = fixture();
        f.demux.remove(ALICE);
        f.demux.remove(BOB);
        let checks: Vec<_> = (0..4).map(|n| check(&ufrag(OWN, n))).collect();
        for (step, viewer, from, time) in steps {
            f.pass(seconds(time));
            let name = ufrag(OWN, viewer);
            let stun = &checks[usize::try_from(viewer).unwrap()];
            match step {
                0 => f.demux.register(&name, ViewerId(viewer)),
                1 => f.demux.remove(ViewerId(viewer)),
                2 => drop(f.route(from, &RTCP)),
                3 => drop(f.route(from, stun)),
                _ => drop(f.bind(from, ViewerId(viewer))),
            }
            f.demux.check_agreement();
        }
        for viewer in 0..4 {
            f.demux.remove(ViewerId(viewer));
        }
        prop_assert_eq!(f.demux.sizes(), DemuxSizes::default());
    }
}

impl Demux {
    /// What must hold between the tables.
    fn check_agreement(&self) {
        let viewers: Vec<_> = (0..4)
            .filter_map(|n| {
                self.viewers
                    .get(&ViewerId(n))
                    .map(|entry| (ViewerId(n), entry))
            })
            .collect();
        assert_eq!(viewers.len(), self.viewers.len());
        let mut addresses = 0;
        let mut ufrags = 0;
        for (viewer, entry) in viewers {
            assert!(entry.addresses.len() <= VIEWER_ADDRESSES_MAX);
            assert!(entry.bound.len() <= NEW_ADDRESSES_MAX);
            for address in &entry.addresses {
                assert_eq!(self.addresses[address].viewer, viewer);
                addresses += 1;
            }
            for ufrag in &entry.ufrags {
                assert_eq!(self.ufrags[ufrag], viewer);
                ufrags += 1;
            }
        }
        assert_eq!(
            (addresses, ufrags),
            (self.addresses.len(), self.ufrags.len())
        );
    }
}
