//! Other cores' viewers, and those who only guess: passed on, and bounded.

use super::*;

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
