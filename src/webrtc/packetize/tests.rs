//! Tests of the packetizer, with a depacketizer of their own.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::media::frame::ParameterSets;
use crate::media::time::MediaTime;

const EPOCH: Epoch = Epoch(3);

fn frame(nal_units: &[Vec<u8>], sets: Option<&[Vec<u8>]>) -> VideoFrame {
    let mut data = vec![0xee; 5];
    let mut ranges = Vec::new();
    for unit in nal_units {
        data.extend(u32::try_from(unit.len()).unwrap().to_be_bytes());
        ranges.push(data.len()..data.len() + unit.len());
        data.extend(unit);
    }
    let parameter_sets = sets.map(|sets| {
        let nal_units = sets.iter().cloned().map(Bytes::from).collect();
        Arc::new(ParameterSets { nal_units })
    });
    VideoFrame {
        pts: MediaTime::from_millis(40),
        dts: MediaTime::ZERO,
        key: sets.is_some(),
        recovery: false,
        disposable: false,
        parameter_sets,
        data: data.into(),
        start: 0,
        nal_units: ranges,
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        received: std::time::Instant::now(),
    }
}

fn unit(header: u8, bytes: usize) -> Vec<u8> {
    let mut unit = vec![header];
    unit.extend((1..bytes).map(|index| u8::try_from(index % 251).unwrap()));
    unit
}

fn video(nal_units: &[Vec<u8>], sets: Option<&[Vec<u8>]>) -> Vec<Vec<u8>> {
    let set = Packetizer::new(TrackKind::Video, EPOCH).video(&frame(nal_units, sets));
    payloads(&set.unwrap())
}

fn payloads(set: &FrameSet) -> Vec<Vec<u8>> {
    let payload = |index| set.payload(index).unwrap().to_vec();
    (0..set.packet_count()).map(payload).collect()
}

/// Puts NAL units back together as a receiver does (RFC 6184 §7.2), strictly.
fn depacketize(payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    let mut open = false;
    for payload in payloads {
        assert!(payload.len() <= RTP_PAYLOAD_BYTES_MAX);
        let kind = payload[0] & TYPE_MASK;
        assert!(!open || kind == FU_A, "a fragmented unit was interrupted");
        match kind {
            1..=23 => units.push(payload.clone()),
            STAP_A => {
                let mut rest = &payload[1..];
                let mut nri = 0;
                while !rest.is_empty() {
                    let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    let unit = rest[2..2 + length].to_vec();
                    nri = nri.max(unit[0] & NRI_MASK);
                    units.push(unit);
                    rest = &rest[2 + length..];
                }
                assert_eq!(payload[0] & NRI_MASK, nri, "NRI is the highest within");
            }
            FU_A => {
                let (start, end) = (payload[1] & FU_START != 0, payload[1] & FU_END != 0);
                assert!(!(start && end), "one fragment is no fragmentation");
                assert_ne!(start, open, "start bit on the first fragment only");
                if start {
                    units.push(vec![(payload[0] & !TYPE_MASK) | (payload[1] & TYPE_MASK)]);
                }
                units.last_mut().unwrap().extend(&payload[2..]);
                open = !end;
            }
            other => panic!("payload type {other}"),
        }
    }
    assert!(!open, "the last fragment is missing");
    units
}

#[test]
fn parameter_sets_come_first_in_a_packet_of_their_own() {
    let (sps, pps, idr) = (unit(0x67, 20), unit(0x68, 4), unit(0x65, 100));
    let packets = video(
        std::slice::from_ref(&idr),
        Some(&[sps.clone(), pps.clone()]),
    );
    assert_eq!(packets.len(), 2);
    assert_eq!(packets[0][0], 0x78, "STAP-A with the NRI of the sets");
    assert_eq!(depacketize(&packets), [sps, pps, idr]);
}

#[test]
fn parameter_sets_beyond_one_packet_are_all_sent() {
    let sets = [unit(0x67, 900), unit(0x68, 900), unit(0x68, 3_000)];
    let idr = unit(0x65, 10);
    let packets = video(std::slice::from_ref(&idr), Some(&sets));
    let mut expected = sets.to_vec();
    expected.push(idr);
    assert_eq!(depacketize(&packets), expected);
}

#[test]
fn small_neighbours_share_a_packet() {
    let units = [unit(0x06, 30), unit(0x41, 500), unit(0x41, 500)];
    let packets = video(&units, None);
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0][0], 0x40 | STAP_A);
    assert_eq!(depacketize(&packets), units);
}

#[test]
fn payload_limit_is_met_exactly() {
    let limit = RTP_PAYLOAD_BYTES_MAX;
    assert_eq!(video(&[unit(0x41, limit)], None).len(), 1);
    assert_eq!(video(&[unit(0x41, limit + 1)], None).len(), 2);
    let together = [unit(0x41, 600), unit(0x41, limit - 600 - 5)];
    assert_eq!(video(&together, None).len(), 1);
    let apart = [unit(0x41, 600), unit(0x41, limit - 600 - 4)];
    assert_eq!(video(&apart, None).len(), 2);
}

#[test]
fn fragments_keep_importance_and_type() {
    let packets = video(&[unit(0x25, 3_000)], None);
    assert_eq!(packets.len(), 3);
    for packet in &packets {
        assert_eq!(packet[0], 0x20 | FU_A);
        assert_eq!(packet[1] & TYPE_MASK, 5);
    }
}

#[test]
fn fragments_are_balanced() {
    let sizes: Vec<usize> = video(&[unit(0x65, 1_202)], None)
        .iter()
        .map(Vec::len)
        .collect();
    assert_eq!(sizes, [603, 602]);
}

#[test]
fn numbers_go_on_from_frame_to_frame_and_skip_nothing() {
    let mut packetizer = Packetizer::new(TrackKind::Video, EPOCH);
    let first = packetizer
        .video(&frame(&[unit(0x65, 3_000)], None))
        .unwrap();
    assert_eq!(first.number, EPOCH.first_number());
    assert_eq!(first.first_sequence, EPOCH.first_number());
    assert!(packetizer.video(&frame(&[], None)).is_none());
    let second = packetizer.video(&frame(&[unit(0x41, 30)], None)).unwrap();
    assert_eq!(second.number, EPOCH.first_number() + 1);
    assert_eq!(second.first_sequence, EPOCH.first_number() + 3);
}

#[test]
fn units_that_mean_something_else_in_rtp_are_left_out() {
    let packets = video(&[unit(0x60, 9), unit(0x41, 9), unit(0x7c, 9)], None);
    assert_eq!(packets, [unit(0x41, 9)]);
    let nothing = frame(&[unit(0x78, 9)], Some(&[unit(0x67, 9)]));
    let mut packetizer = Packetizer::new(TrackKind::Video, EPOCH);
    assert!(packetizer.video(&nothing).is_none());
}

#[test]
fn ranges_outside_the_data_give_no_frame() {
    let mut bad = frame(&[unit(0x41, 9)], None);
    bad.nal_units.push(5..500);
    let mut packetizer = Packetizer::new(TrackKind::Video, EPOCH);
    assert!(packetizer.video(&bad).is_none());
}

#[test]
fn opus_packet_is_its_own_payload() {
    let mut packetizer = Packetizer::new(TrackKind::Audio, EPOCH);
    let mut audio = AudioFrame {
        pts: MediaTime::from_millis(20),
        data: Bytes::from_static(&[0xfc, 1, 2]),
        received: frame(&[], None).received,
    };
    let set = packetizer.audio(&audio).unwrap();
    assert_eq!(set.payload(0), Some(&[0xfc, 1, 2][..]));
    assert!(set.key);
    audio.data = Bytes::new();
    assert!(packetizer.audio(&audio).is_none());
    audio.data = vec![0; RTP_PAYLOAD_BYTES_MAX + 1].into();
    assert!(packetizer.audio(&audio).is_none());
}

fn any_unit() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        4 => 1_usize..40,
        2 => 1_usize..1_300,
        2 => 1_190_usize..1_210,
        1 => 1_usize..20_000,
    ];
    (1_u8..24, 0_u8..4, bytes).prop_map(|(kind, nri, bytes)| unit((nri << 5) | kind, bytes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_nal_units_come_back_identical(
        units in proptest::collection::vec(any_unit(), 1..12),
        sets in proptest::option::of(proptest::collection::vec(any_unit(), 1..6)),
    ) {
        let packets = video(&units, sets.as_deref());
        let mut expected = sets.unwrap_or_default();
        expected.extend(units);
        prop_assert_eq!(depacketize(&packets), expected);
    }

    #[test]
    fn fragments_of_any_unit_have_one_size_but_for_the_last(bytes in 1_201_usize..200_000) {
        let packets = video(&[unit(0x65, bytes)], None);
        let first = packets[0].len();
        let (last, others) = packets.split_last().unwrap();
        prop_assert!(others.iter().all(|packet| packet.len() == first));
        prop_assert!(last.len() <= first && !last.is_empty());
        let fewest = (bytes - 1).div_ceil(RTP_PAYLOAD_BYTES_MAX - FU_HEADER_BYTES);
        prop_assert_eq!(packets.len(), fewest);
    }
}

#[test]
fn largest_message_is_cut_within_the_limit() {
    let huge = unit(0x65, 8 * 1_024 * 1_024);
    let packets = video(std::slice::from_ref(&huge), None);
    assert!(
        depacketize(&packets) == [huge],
        "the unit came back changed"
    );
}

#[test]
fn what_ffmpeg_sends_comes_back_identical() {
    use crate::media::avc::{DecoderConfig, NalUnits};
    use crate::media::flv::{VideoBody, VideoTags, file};

    let sample = include_bytes!("../../../tests/data/baseline.flv");
    let mut packetizer = Packetizer::new(TrackKind::Video, EPOCH);
    let mut config = None;
    let mut frames = 0;
    for tag in file::tags(Bytes::from_static(sample)).unwrap() {
        if tag.kind != file::TagKind::Video {
            continue;
        }
        match VideoTags::new(&tag.payload).next().unwrap().unwrap().body {
            VideoBody::Config { data, .. } => {
                config = DecoderConfig::parse(&tag.payload.slice(data)).ok();
            }
            VideoBody::Frame { data, .. } => {
                let config: &DecoderConfig = config.as_ref().unwrap();
                let units = NalUnits::new(&tag.payload, data.start, config.nal_length_size);
                let mut video = frame(&[], Some(&[]));
                video.nal_units = units.collect::<Result<_, _>>().unwrap();
                video.data = tag.payload.clone();
                let nal_units = config.parameter_sets.clone();
                video.parameter_sets = Some(Arc::new(ParameterSets { nal_units }));
                let mut expected: Vec<Vec<u8>> =
                    config.parameter_sets.iter().map(|it| it.to_vec()).collect();
                let unit = |range: &Range<usize>| tag.payload[range.clone()].to_vec();
                expected.extend(video.nal_units.iter().map(unit));
                let set = packetizer.video(&video).unwrap();
                assert_eq!(depacketize(&payloads(&set)), expected);
                frames += 1;
            }
            VideoBody::NoMedia | VideoBody::TransportStream | VideoBody::Unknown(_) => {}
        }
    }
    assert_eq!(frames, 60);
}
