//! Tests of the public face: both ends, every profile, and what an attacker may try.

use proptest::prelude::*;

use super::*;

const PROFILES: [SrtpProfile; 3] = [
    SrtpProfile::Aes128CmSha1_80,
    SrtpProfile::AeadAes128Gcm,
    SrtpProfile::AeadAes256Gcm,
];
const SSRC: u32 = 0x1234_5678;

fn keys(profile: SrtpProfile) -> SrtpKeys {
    let material: Vec<u8> = (0..profile.keying_material_bytes())
        .map(|n| u8::try_from(n).unwrap().wrapping_mul(31))
        .collect();
    SrtpKeys::from_dtls(profile, &material).unwrap()
}

fn header(ssrc: u32, index: u64) -> Vec<u8> {
    let [.., high, low] = index.to_be_bytes();
    let mut header = vec![0x80, 0x60, high, low, 0, 0, 0, 9];
    header.extend_from_slice(&ssrc.to_be_bytes());
    header
}

fn sealed(sender: &SrtpSender, index: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sender
        .seal_rtp(&header(SSRC, index), SSRC, index, payload, &mut out)
        .unwrap();
    out
}

fn report(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet
}

fn sealed_report(sender: &mut SrtpSender, ssrc: u32) -> Vec<u8> {
    let mut out = Vec::new();
    sender.seal_rtcp(&report(ssrc), &mut out).unwrap();
    out
}

#[test]
fn keying_material_is_client_key_server_key_client_salt_server_salt() {
    let material: Vec<u8> = (0..56).collect();
    let keys = SrtpKeys::from_dtls(SrtpProfile::AeadAes128Gcm, &material).unwrap();
    assert_eq!(keys.client.key, material[0..16]);
    assert_eq!(keys.server.key, material[16..32]);
    assert_eq!(keys.client.salt, material[32..44]);
    assert_eq!(keys.server.salt, material[44..56]);
    assert!(SrtpKeys::from_dtls(SrtpProfile::AeadAes128Gcm, &material[..55]).is_none());
    assert!(SrtpKeys::from_dtls(SrtpProfile::AeadAes256Gcm, &material).is_none());
}

#[test]
fn debug_shows_no_key() {
    let keys = keys(SrtpProfile::AeadAes256Gcm);
    assert_eq!(format!("{keys:?}"), "SrtpKeys(AeadAes256Gcm, ***)");
    let sender = SrtpSender::new(&keys).unwrap();
    assert_eq!(format!("{sender:?}"), "SrtpSender(***, rtcp_index=0)");
}

#[test]
fn player_opens_what_the_server_seals() {
    for profile in PROFILES {
        let keys = keys(profile);
        let sender = SrtpSender::new(&keys).unwrap();
        let mut receiver = SrtpReceiver::new_client(&keys).unwrap();
        let mut out = Vec::new();
        // Sixteen contributing sources less one, and an extension of two words.
        let mut long = header(SSRC, 7);
        long[0] = 0x80 | 0x10 | 0x0f;
        long.extend_from_slice(&[3; 60]);
        long.extend_from_slice(&[0xbe, 0xde, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
        let mut datagram = Vec::new();
        sender
            .seal_rtp(&long, SSRC, 7, b"payload", &mut datagram)
            .unwrap();
        assert_eq!(datagram.len(), long.len() + 7 + profile.tag_bytes());
        assert_ne!(&datagram[long.len()..long.len() + 7], b"payload");

        let opened = receiver.open_rtp(&datagram, &mut out).unwrap();
        assert_eq!(opened.header_bytes, long.len());
        assert_eq!(opened.index, 7);
        assert_eq!(out, [&long[..], b"payload"].concat());
    }
}

#[test]
fn padding_is_sealed_with_the_payload_and_says_its_length() {
    for profile in PROFILES {
        let keys = keys(profile);
        let sender = SrtpSender::new(&keys).unwrap();
        let mut receiver = SrtpReceiver::new_client(&keys).unwrap();
        for padding in [0_u8, 1, 2, 63, 255] {
            let index = u64::from(padding);
            let head = header(SSRC, index);
            let (mut datagram, mut plain) = (Vec::new(), Vec::new());
            sender
                .seal_padded_rtp(&head, SSRC, index, (b"payload", padding), &mut datagram)
                .unwrap();
            receiver.open_rtp(&datagram, &mut plain).unwrap();
            let mut expected = [&head[..], b"payload", &vec![0; padding.into()]].concat();
            if padding > 0 {
                *expected.last_mut().unwrap() = padding;
            }
            assert_eq!(plain, expected, "{padding} bytes");
        }
    }
}

#[test]
fn rtcp_goes_both_ways_with_keys_of_its_direction() {
    for profile in PROFILES {
        let keys = keys(profile);
        let mut out = Vec::new();
        let mut server = SrtpSender::new(&keys).unwrap();
        let mut player = SrtpSender::new_client(&keys).unwrap();
        let from_server = sealed_report(&mut server, 1);
        let from_player = sealed_report(&mut player, 1);
        assert_eq!(from_server.len(), 8 + profile.rtcp_overhead_bytes());

        let mut at_server = SrtcpReceiver::new(&keys).unwrap();
        let mut at_player = SrtcpReceiver::new_client(&keys).unwrap();
        at_server.open(&from_player, &mut out).unwrap();
        assert_eq!(out, report(1));
        at_player.open(&from_server, &mut out).unwrap();
        assert_eq!(out, report(1));
        let reflected = sealed_report(&mut server, 1);
        let reflected = at_server.open(&reflected, &mut out);
        assert_eq!(reflected, Err(SrtpError::NotAuthentic));
        assert!(out.is_empty());
    }
}

#[test]
fn sealing_appends_and_leaves_the_buffer_alone_when_it_fails() {
    let keys = keys(SrtpProfile::AeadAes256Gcm);
    let mut sender = SrtpSender::new(&keys).unwrap();
    let mut out = vec![1, 2, 3];
    let past = SRTP_INDEX_MAX + 1;
    let result = sender.seal_rtp(&header(SSRC, past), SSRC, past, b"x", &mut out);
    assert_eq!(result, Err(SrtpError::IndexExhausted));
    assert_eq!(
        sender.seal_rtcp(&[0x80, 201, 0], &mut out),
        Err(SrtpError::BadPacket)
    );
    assert_eq!(out, [1, 2, 3]);
    sender
        .seal_rtp(&header(SSRC, 5), SSRC, 5, b"x", &mut out)
        .unwrap();
    assert_eq!(out[..3], [1, 2, 3]);
    assert_eq!(out[3..], sealed(&sender, 5, b"x"));
}

#[test]
fn retransmission_carries_the_original_number_before_the_payload() {
    for profile in PROFILES {
        let sender = SrtpSender::new(&keys(profile)).unwrap();
        let mut out = Vec::new();
        sender
            .seal_rtx(&header(SSRC, 9), SSRC, 9, 0xabcd, b"payload", &mut out)
            .unwrap();
        assert_eq!(out, sealed(&sender, 9, b"\xab\xcdpayload"));
    }
}

#[test]
fn sealing_into_a_large_enough_buffer_does_not_grow_it() {
    for profile in PROFILES {
        let sender = SrtpSender::new(&keys(profile)).unwrap();
        let payload = [7; 1_200];
        let mut out = Vec::with_capacity(12 + payload.len() + GCM_TAG_BYTES);
        let capacity = out.capacity();
        sender
            .seal_rtp(&header(SSRC, 5), SSRC, 5, &payload, &mut out)
            .unwrap();
        assert_eq!(out.capacity(), capacity);
    }
}

#[test]
fn receiver_follows_the_rollover_and_still_takes_a_late_packet() {
    for profile in PROFILES {
        let keys = keys(profile);
        let sender = SrtpSender::new(&keys).unwrap();
        let mut receiver = SrtpReceiver::new_client(&keys).unwrap();
        let mut out = Vec::new();
        let order = [
            0xfffd, 0xfffe, 0x1_0001, 0xffff, 0x1_0000, 0x1_7fff, 0x1_ffff, 0x2_0000,
        ];
        for index in order {
            let opened = receiver.open_rtp(&sealed(&sender, index, b"payload"), &mut out);
            assert_eq!(opened.map(|opened| opened.index), Ok(index), "{profile:?}");
            assert_eq!(&out[12..], b"payload");
        }
    }
}

#[test]
fn the_rollover_counter_is_authenticated() {
    for profile in PROFILES {
        let keys = keys(profile);
        let sender = SrtpSender::new(&keys).unwrap();
        let mut receiver = SrtpReceiver::new_client(&keys).unwrap();
        let mut out = Vec::new();
        let other_round = sealed(&sender, 0x1_0005, b"payload");
        let opened = receiver.open_rtp(&other_round, &mut out);
        assert_eq!(opened, Err(SrtpError::NotAuthentic), "{profile:?}");
    }
}

#[test]
fn no_packet_is_taken_twice() {
    for profile in PROFILES {
        let keys = keys(profile);
        let sender = SrtpSender::new(&keys).unwrap();
        let mut receiver = SrtpReceiver::new_client(&keys).unwrap();
        let mut out = Vec::new();
        let early = sealed(&sender, 10, b"a");
        let late = sealed(&sender, 11, b"a");
        receiver.open_rtp(&late, &mut out).unwrap();
        receiver.open_rtp(&early, &mut out).unwrap();
        for datagram in [&early, &late] {
            let again = receiver.open_rtp(datagram, &mut out);
            assert_eq!(again, Err(SrtpError::Replayed));
            assert!(out.is_empty());
        }
        receiver
            .open_rtp(&sealed(&sender, 1_000, b"a"), &mut out)
            .unwrap();
        let too_old = receiver.open_rtp(&sealed(&sender, 1_000 - 128, b"a"), &mut out);
        assert_eq!(too_old, Err(SrtpError::Replayed));
        receiver
            .open_rtp(&sealed(&sender, 1_000 - 127, b"a"), &mut out)
            .unwrap();
    }
}

#[test]
fn no_report_is_taken_twice_and_each_source_has_its_own_window() {
    for profile in PROFILES {
        let keys = keys(profile);
        let mut sender = SrtpSender::new_client(&keys).unwrap();
        let mut receiver = SrtcpReceiver::new(&keys).unwrap();
        let mut out = Vec::new();
        let captured: Vec<_> = (0..200)
            .map(|n| sealed_report(&mut sender, n % 3))
            .collect();
        for datagram in &captured {
            receiver.open(datagram, &mut out).unwrap();
        }
        for datagram in &captured {
            let again = receiver.open(datagram, &mut out);
            assert_eq!(again, Err(SrtpError::Replayed));
            assert!(out.is_empty());
        }
    }
}

#[test]
fn every_altered_bit_is_noticed_and_changes_nothing() {
    for profile in PROFILES {
        let keys = keys(profile);
        let sender = SrtpSender::new(&keys).unwrap();
        let mut reporter = SrtpSender::new_client(&keys).unwrap();
        let mut receiver = SrtpReceiver::new_client(&keys).unwrap();
        let mut reports = SrtcpReceiver::new(&keys).unwrap();
        let mut out = Vec::new();
        let media = sealed(&sender, 300, b"payload");
        let report = sealed_report(&mut reporter, 5);
        for bit in 0..media.len() * 8 {
            let mut altered = media.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            receiver.open_rtp(&altered, &mut out).unwrap_err();
            assert!(out.is_empty());
        }
        for bit in 0..report.len() * 8 {
            let mut altered = report.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            reports.open(&altered, &mut out).unwrap_err();
            assert!(out.is_empty());
        }
        assert_eq!(receiver.sources.len() + reports.sources.len(), 0);
        receiver.open_rtp(&media, &mut out).unwrap();
        reports.open(&report, &mut out).unwrap();
    }
}

#[test]
fn every_truncation_is_refused() {
    for profile in PROFILES {
        let keys = keys(profile);
        let sender = SrtpSender::new(&keys).unwrap();
        let mut reporter = SrtpSender::new_client(&keys).unwrap();
        let mut receiver = SrtpReceiver::new_client(&keys).unwrap();
        let mut reports = SrtcpReceiver::new(&keys).unwrap();
        let mut out = Vec::new();
        let media = sealed(&sender, 300, b"payload");
        let report = sealed_report(&mut reporter, 5);
        for length in 0..media.len() {
            receiver.open_rtp(&media[..length], &mut out).unwrap_err();
        }
        for length in 0..report.len() {
            reports.open(&report[..length], &mut out).unwrap_err();
        }
    }
}

#[test]
fn unencrypted_rtcp_is_refused_even_if_authentic() {
    let keys = keys(SrtpProfile::Aes128CmSha1_80);
    let Ok(Cipher::Counter(cipher)) = Cipher::derive(keys.profile, &keys.client, &RTCP_LABELS)
    else {
        panic!("another cipher");
    };
    let mut datagram = report(5);
    let tag = cipher.tag(&datagram, &[0, 0, 0, 0]);
    datagram.extend_from_slice(&[0, 0, 0, 0]);
    datagram.extend_from_slice(&tag);
    let mut receiver = SrtcpReceiver::new(&keys).unwrap();
    let opened = receiver.open(&datagram, &mut Vec::new());
    assert_eq!(opened, Err(SrtpError::Malformed));
}

#[test]
fn rtcp_index_counts_up_and_ends_before_it_wraps() {
    for profile in PROFILES {
        let keys = keys(profile);
        let mut sender = SrtpSender::new(&keys).unwrap();
        assert_ne!(sealed_report(&mut sender, 1), sealed_report(&mut sender, 1));
        sender.rtcp_index = SRTCP_INDEX_MAX;
        let mut receiver = SrtcpReceiver::new_client(&keys).unwrap();
        let last = sealed_report(&mut sender, 1);
        receiver.open(&last, &mut Vec::new()).unwrap();
        let mut out = Vec::new();
        for _ in 0..3 {
            let result = sender.seal_rtcp(&report(1), &mut out);
            assert_eq!(result, Err(SrtpError::IndexExhausted));
            assert!(out.is_empty());
        }
    }
}

#[test]
fn sources_of_one_peer_are_bounded_and_none_is_forgotten() {
    let keys = keys(SrtpProfile::AeadAes128Gcm);
    let mut sender = SrtpSender::new_client(&keys).unwrap();
    let mut receiver = SrtcpReceiver::new(&keys).unwrap();
    let mut out = Vec::new();
    let first = sealed_report(&mut sender, 0);
    receiver.open(&first, &mut out).unwrap();
    for ssrc in 1..16 {
        let datagram = sealed_report(&mut sender, ssrc);
        receiver.open(&datagram, &mut out).unwrap();
    }
    let datagram = sealed_report(&mut sender, 16);
    let result = receiver.open(&datagram, &mut out);
    assert_eq!(result, Err(SrtpError::TooManySources));
    let again = receiver.open(&first, &mut out);
    assert_eq!(again, Err(SrtpError::Replayed));
}

#[test]
fn sender_may_move_to_another_thread() {
    fn needs_send<T: Send>() {}
    needs_send::<SrtpSender>();
    needs_send::<SrtcpReceiver>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn junk_never_opens_and_never_panics(
        junk in proptest::collection::vec(any::<u8>(), 0..128),
        first in 0x80_u8..0xc0,
    ) {
        let mut junk = junk;
        if let Some(byte) = junk.first_mut() {
            *byte = first;
        }
        let mut out = Vec::new();
        for profile in PROFILES {
            let keys = keys(profile);
            let mut receiver = SrtpReceiver::new_client(&keys).unwrap();
            prop_assert!(receiver.open_rtp(&junk, &mut out).is_err());
            let mut reports = SrtcpReceiver::new(&keys).unwrap();
            prop_assert!(reports.open(&junk, &mut out).is_err());
            prop_assert!(out.is_empty());
        }
    }

    #[test]
    fn any_index_in_any_order_opens_once(
        start in 0_u64..0x8000,
        steps in proptest::collection::vec(-60_i64..2_000, 1..40),
    ) {
        let keys = keys(SrtpProfile::AeadAes128Gcm);
        let sender = SrtpSender::new(&keys).unwrap();
        let mut receiver = SrtpReceiver::new_client(&keys).unwrap();
        let mut out = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        let mut index = start + 0x7fff;
        receiver
            .open_rtp(&sealed(&sender, index, b"x"), &mut out)
            .unwrap();
        seen.insert(index);
        for step in steps {
            index = index.saturating_add_signed(step);
            let highest = *seen.last().unwrap();
            if index > 0xffff && highest < 0x8000 || highest.saturating_sub(index) >= 128 {
                continue;
            }
            let opened = receiver.open_rtp(&sealed(&sender, index, b"x"), &mut out);
            prop_assert_eq!(opened.is_ok(), seen.insert(index), "index {}", index);
        }
    }
}
