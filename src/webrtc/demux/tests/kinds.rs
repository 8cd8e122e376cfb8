//! What a datagram is and whom it names.

use super::*;

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
