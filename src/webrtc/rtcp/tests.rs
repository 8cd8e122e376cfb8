//! Round trips, wire images, and what a hostile peer may send.

use proptest::prelude::*;

use super::*;

fn items(compound: &[u8]) -> Vec<Result<RtcpItem<'_>, RtcpError>> {
    parse(compound).collect()
}

fn one(compound: &[u8]) -> RtcpItem<'_> {
    let mut items = items(compound);
    assert_eq!(items.len(), 1, "{items:?}");
    items.remove(0).unwrap()
}

fn sequences(item: RtcpItem<'_>) -> Vec<u16> {
    let RtcpItem::Nack { seqs, .. } = item else {
        panic!("no NACK: {item:?}");
    };
    seqs.collect()
}

const REPORT: SenderReport = SenderReport {
    ssrc: 0x0102_0304,
    ntp: NtpTime(0xe000_0001_8000_0002),
    rtp_timestamp: 0x0506_0708,
    packets: 9,
    bytes: 10,
};

#[test]
fn sender_reports_have_the_wire_image_of_rfc_3550() {
    let mut out = Vec::new();
    write_sender_reports(&mut out, &[REPORT], "ab");
    let expected = [
        0x80, 200, 0, 6, 1, 2, 3, 4, 0xe0, 0, 0, 1, 0x80, 0, 0, 2, 5, 6, 7, 8, 0, 0, 0, 9, 0, 0, 0,
        10, // SR
        0x81, 202, 0, 3, 1, 2, 3, 4, 1, 2, b'a', b'b', 0, 0, 0, 0, // SDES
    ];
    assert_eq!(out, expected);
}

#[test]
fn compound_of_two_sources_is_whole_and_appended() {
    let other = SenderReport { ssrc: 77, ..REPORT };
    for length in 0..9 {
        let cname = "x".repeat(length);
        let mut out = vec![0xff];
        write_sender_reports(&mut out, &[REPORT, other], &cname);
        assert_eq!(out.remove(0), 0xff);
        assert_eq!(out.len() % 4, 0);
        let expected = vec![
            Ok(RtcpItem::SenderReport(REPORT)),
            Ok(RtcpItem::SenderReport(other)),
            Ok(RtcpItem::Other { packet_type: 202 }),
        ];
        assert_eq!(items(&out), expected);
    }
}

#[test]
fn goodbye_names_every_source_after_a_report() {
    let mut out = Vec::new();
    write_goodbye(&mut out, &[5, 6], "name");
    assert_eq!(out[..8], [0x80, 201, 0, 1, 0, 0, 0, 5]);
    let expected = vec![
        Ok(RtcpItem::Other { packet_type: 202 }),
        Ok(RtcpItem::Bye { ssrc: 5 }),
        Ok(RtcpItem::Bye { ssrc: 6 }),
    ];
    assert_eq!(items(&out), expected);

    out.clear();
    write_goodbye(&mut out, &[], "name");
    assert!(out.is_empty());
}

#[test]
fn more_sources_and_longer_names_than_fit_are_cut_off() {
    let mut out = Vec::new();
    write_goodbye(&mut out, &[1; 40], &"x".repeat(300));
    let byes = parse(&out).filter(|item| matches!(item, Ok(RtcpItem::Bye { .. })));
    assert_eq!(byes.count(), 31);
    assert!(parse(&out).all(|item| item.is_ok()));
}

#[test]
fn report_blocks_come_back_as_written() {
    let block = ReportBlock {
        ssrc: 1,
        fraction_lost: 128,
        lost: -3,
        highest_seq: 0x0001_fffe,
        jitter: 55,
        lsr: 0xdead_beef,
        dlsr: 65_536,
    };
    let mut out = Vec::new();
    write_receiver_report(
        &mut out,
        9,
        &[
            block,
            ReportBlock {
                lost: 0x7f_ffff,
                ..block
            },
        ],
    );
    let expected = |lost| {
        Ok(RtcpItem::ReceiverReport {
            ssrc: 1,
            fraction_lost: 128,
            lost,
            highest_seq: 0x0001_fffe,
            jitter: 55,
            lsr: 0xdead_beef,
            dlsr: 65_536,
        })
    };
    assert_eq!(items(&out), vec![expected(-3), expected(0x7f_ffff)]);
}

#[test]
fn nack_names_a_packet_and_the_sixteen_after_it() {
    let packet = [
        0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, // header, sender, media
        0xff, 0xfe, 0x80, 0x03, // 65,534 and +1, +2, +16
        0, 100, 0, 0,
    ];
    assert_eq!(sequences(one(&packet)), [65_534, 65_535, 0, 14, 100]);
}

#[test]
fn written_nacks_are_packed_and_read_back() {
    let wanted = [65_530, 65_535, 4, 10, 11, 27, 28, 1_000];
    let mut out = Vec::new();
    write_nack(&mut out, 1, 2, &wanted);
    assert_eq!(out.len(), 12 + 4 * 4);
    assert_eq!(sequences(one(&out)), wanted);
}

#[test]
fn nack_storm_is_cut_off() {
    let mut packet = vec![0x81, 205, 1, 0x11, 0, 0, 0, 1, 0, 0, 0, 2];
    packet.extend_from_slice(&[0xff; 271 * 4]);
    assert_eq!(packet.len(), 4 + 0x111 * 4);
    assert_eq!(sequences(one(&packet)).len(), NACK_SEQUENCES_MAX);
}

#[test]
fn keyframe_requests_name_the_media_source() {
    let mut out = Vec::new();
    write_pli(&mut out, 1, 22);
    write_fir(&mut out, 1, 23, 7);
    let expected = vec![
        Ok(RtcpItem::Pli { ssrc: 22 }),
        Ok(RtcpItem::Fir { ssrc: 23 }),
    ];
    assert_eq!(items(&out), expected);
}

#[test]
fn remb_is_mantissa_times_two_to_the_exponent() {
    let remb = |high: u8, middle: u8, low: u8| {
        let mut packet = vec![0x8f, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0];
        packet.extend_from_slice(b"REMB");
        packet.extend_from_slice(&[0, high, middle, low]);
        let item = one(&packet);
        let RtcpItem::Remb { bitrate_bps } = item else {
            panic!("no REMB: {item:?}");
        };
        bitrate_bps
    };
    assert_eq!(remb(0x00, 0x00, 0x05), 5);
    assert_eq!(remb(0x0f, 0xff, 0xff), 0x3_ffff << 3);
    assert_eq!(remb(0xff, 0xff, 0xff), u64::MAX);
}

#[test]
fn other_application_feedback_is_skipped() {
    let packet = [
        0x8f, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'X',
    ];
    assert_eq!(one(&packet), RtcpItem::Other { packet_type: 206 });
}

#[test]
fn unknown_packets_are_skipped_and_the_rest_is_read() {
    let mut out = vec![0x80, 207, 0, 1, 9, 9, 9, 9];
    write_pli(&mut out, 1, 2);
    let expected = vec![
        Ok(RtcpItem::Other { packet_type: 207 }),
        Ok(RtcpItem::Pli { ssrc: 2 }),
    ];
    assert_eq!(items(&out), expected);
}

#[test]
fn padding_is_left_out_and_impossible_padding_is_an_error() {
    let padded = |count: u8| {
        [
            0xa1, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 0, 0, 0, 0, count,
        ]
    };
    let packet = padded(4);
    assert_eq!(sequences(one(&packet)), [7]);
    assert_eq!(items(&padded(0)), vec![Err(RtcpError::Padding)]);
    assert_eq!(items(&padded(17)), vec![Err(RtcpError::Padding)]);
    assert_eq!(items(&[0xa0, 201, 0, 0]), vec![Err(RtcpError::Padding)]);
}

#[test]
fn what_came_before_an_error_is_read_and_nothing_after() {
    let mut out = Vec::new();
    write_pli(&mut out, 1, 2);
    let good = out.len();
    // One report block announced, none there.
    out.extend_from_slice(&[0x81, 201, 0, 1, 0, 0, 0, 1]);
    write_pli(&mut out, 1, 3);
    let pli = Ok(RtcpItem::Pli { ssrc: 2 });
    assert_eq!(items(&out), vec![pli.clone(), Err(RtcpError::Truncated)]);
    out[good] = 0x41;
    assert_eq!(items(&out), vec![pli, Err(RtcpError::Version)]);
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_compound() {
    let mut out = Vec::new();
    write_sender_reports(&mut out, &[REPORT], "name");
    write_receiver_report(&mut out, 9, &[ReportBlock::default()]);
    write_nack(&mut out, 1, 2, &[1, 2]);
    write_fir(&mut out, 1, 2, 3);
    let whole = items(&out);
    for length in 0..out.len() {
        let cut = items(&out[..length]);
        let good = cut.iter().take_while(|item| item.is_ok()).count();
        assert_eq!(cut[..good], whole[..good]);
        assert!(good < whole.len() && cut.len() <= good + 1);
    }
}

#[test]
fn items_of_one_datagram_are_bounded() {
    let mut out = Vec::new();
    for ssrc in 0..100 {
        write_pli(&mut out, 1, ssrc);
    }
    let items = items(&out);
    assert_eq!(items.len(), ITEMS_MAX + 1);
    assert_eq!(items.last(), Some(&Err(RtcpError::TooMany)));
}

#[test]
fn ntp_time_begins_in_1900() {
    let unix = NtpTime::from_unix(Duration::new(0, 500_000_000));
    assert_eq!(unix, NtpTime(0x83aa_7e80_8000_0000));
    assert_eq!(unix.middle(), 0x7e80_8000);
}

#[test]
fn round_trip_is_now_less_report_less_delay() {
    // The example of RFC 3550 §6.4.1, figure 2.
    let report = NtpTime(0xb44d_b705_2000_0000);
    let arrival = NtpTime((0xb710_8000_u64) << 16);
    let measured = round_trip(arrival, report.middle(), 0x0005_4000).unwrap();
    assert_eq!(measured, Duration::from_millis(6_125));
}

#[test]
fn round_trip_needs_a_report_and_is_never_negative() {
    let now = NtpTime(0x1_0000_0000);
    assert_eq!(round_trip(now, 0, 5), None);
    assert_eq!(
        round_trip(now, 0x0000_ffff, 0),
        Some(Duration::from_nanos(15_258))
    );
    assert_eq!(round_trip(now, 0x0001_0001, 0), Some(Duration::ZERO));
    assert_eq!(round_trip(now, 0x0002_0000, 0), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn junk_never_panics_and_is_bounded(junk in proptest::collection::vec(any::<u8>(), 0..1_500)) {
        let mut items = 0;
        for item in parse(&junk) {
            items += 1;
            if let Ok(RtcpItem::Nack { seqs, .. }) = item {
                prop_assert!(seqs.count() <= NACK_SEQUENCES_MAX);
            }
        }
        prop_assert!(items <= ITEMS_MAX + 1);
    }

    #[test]
    fn junk_behind_good_headers_never_panics(
        heads in proptest::collection::vec((0_u8..32, 200_u8..208, 0_u8..12), 1..8),
        filling in any::<u8>(),
    ) {
        let mut compound = Vec::new();
        for (count, packet_type, words) in heads {
            compound.extend_from_slice(&[0x80 | count, packet_type, 0, words]);
            compound.extend_from_slice(&vec![filling; usize::from(words) * 4]);
        }
        prop_assert!(parse(&compound).count() <= ITEMS_MAX + 1);
    }

    #[test]
    fn written_nacks_name_what_was_asked_for(start in any::<u16>(), steps in proptest::collection::vec(1_u16..40, 1..60)) {
        let mut wanted = vec![start];
        for step in steps {
            wanted.push(wanted.last().unwrap().wrapping_add(step));
        }
        let mut out = Vec::new();
        write_nack(&mut out, 1, 2, &wanted);
        prop_assert_eq!(sequences(one(&out)), wanted);
    }
}
