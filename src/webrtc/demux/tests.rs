//! Who gets through, who does not, and that nothing grows without bound.

mod floods;
mod kinds;

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
