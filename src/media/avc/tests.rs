//! Tests of the H.264 parsers, with parameter sets that x264 made.

use proptest::prelude::*;

use super::*;

/// 320 × 180, Constrained Baseline 1.3, 30 fps, no reordering.
const BASELINE_SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x06, 0x7e, 0x7c, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40,
    0x00, 0x00, 0x0f, 0x03, 0xc5, 0x0a, 0xa8,
];
/// 320 × 180, High 1.3, 30 fps, up to 2 reordered pictures.
const HIGH_SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41, 0x9f, 0x9f, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00,
    0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x42, 0x99, 0x60,
];
const PPS: &[u8] = &[0x68, 0xce, 0x04, 0x72];

/// Bits to bytes, the last filled up with zeros, with emulation prevention.
fn bytes(bits: &str) -> Vec<u8> {
    let bits: Vec<u8> = bits.bytes().filter(|byte| *byte != b' ').collect();
    let byte = |chunk: &[u8]| {
        let bit = |index: usize| u8::from(chunk.get(index) == Some(&b'1'));
        (0..8).fold(0, |value, index| value << 1 | bit(index))
    };
    let mut bytes = Vec::new();
    for byte in bits.chunks(8).map(byte) {
        if bytes.ends_with(&[0, 0]) && byte <= 3 {
            bytes.push(3);
        }
        bytes.push(byte);
    }
    bytes
}

/// An unsigned Exp-Golomb number as bits.
fn ue(value: u32) -> String {
    let coded = format!("{:b}", u64::from(value) + 1);
    "0".repeat(coded.len() - 1) + &coded
}

/// A Baseline SPS without VUI.
fn sps(id: u32, width_mbs: u32, height_mbs: u32) -> Vec<u8> {
    let body = [id, 0, 2, 1].map(ue).concat() + "0" + &ue(width_mbs - 1) + &ue(height_mbs - 1);
    let mut unit = vec![0x67, 66, 0, 30];
    unit.extend(bytes(&(body + "1100" + "1")));
    unit
}

fn pps(id: u32, sps_id: u32) -> Vec<u8> {
    let mut unit = vec![0x68];
    unit.extend(bytes(&(ue(id) + &ue(sps_id) + "0011 1000 1")));
    unit
}

fn record(size_byte: u8, sps: &[&[u8]], pps: &[&[u8]], extension: &[u8]) -> Bytes {
    let mut record = vec![1, 0x42, 0xc0, 0x0d, size_byte];
    for (mask, units) in [(0xe0, sps), (0, pps)] {
        record.push(mask | u8::try_from(units.len()).unwrap());
        for unit in units {
            record.extend(u16::try_from(unit.len()).unwrap().to_be_bytes());
            record.extend_from_slice(unit);
        }
    }
    record.extend_from_slice(extension);
    record.into()
}

#[test]
fn record_gives_every_set_and_the_length_size() {
    for (size_byte, expected) in [
        (0xfc, NalLengthSize::One),
        (0xfd, NalLengthSize::Two),
        (0xff, NalLengthSize::Four),
        (0x03, NalLengthSize::Four),
    ] {
        let record = record(size_byte, &[BASELINE_SPS, HIGH_SPS], &[PPS], &[]);
        let config = DecoderConfig::parse(&record).unwrap();
        assert_eq!(config.nal_length_size, expected);
        assert_eq!(config.parameter_sets, [BASELINE_SPS, HIGH_SPS, PPS]);
    }
}

#[test]
fn record_may_have_an_extension_or_none() {
    let with = record(0xff, &[HIGH_SPS], &[PPS], &[0xfd, 0xf8, 0xf8, 0x00]);
    let without = record(0xff, &[HIGH_SPS], &[PPS], &[]);
    assert_eq!(DecoderConfig::parse(&with), DecoderConfig::parse(&without));
}

#[test]
fn record_without_sets_or_with_empty_ones_is_legal() {
    let config = DecoderConfig::parse(&record(0xff, &[], &[], &[])).unwrap();
    assert!(config.parameter_sets.is_empty());
    let config = DecoderConfig::parse(&record(0xff, &[&[]], &[PPS], &[])).unwrap();
    assert_eq!(config.parameter_sets, [PPS]);
}

#[test]
fn bad_records_are_typed_errors() {
    let good = record(0xff, &[BASELINE_SPS], &[PPS], &[]);
    for length in 0..good.len() {
        assert_eq!(
            DecoderConfig::parse(&good.slice(..length)),
            Err(AvcError::RecordTruncated),
            "{length}"
        );
    }
    assert_eq!(
        DecoderConfig::parse(&record(0xfe, &[], &[], &[])),
        Err(AvcError::NalLengthSize)
    );
    let annex_b = Bytes::from_static(&[0, 0, 0, 1, 0x67, 0x42, 0xc0]);
    assert_eq!(
        DecoderConfig::parse(&annex_b),
        Err(AvcError::RecordVersion(0))
    );
}

#[test]
fn walk_finds_units_behind_lengths_of_any_size() {
    for (size, message) in [
        (NalLengthSize::One, &[9, 2, 0xa, 0xb, 0, 1, 0xc][..]),
        (NalLengthSize::Two, &[9, 0, 2, 0xa, 0xb, 0, 0, 0, 1, 0xc]),
        (
            NalLengthSize::Four,
            &[9, 0, 0, 0, 2, 0xa, 0xb, 0, 0, 0, 0, 0, 0, 0, 1, 0xc],
        ),
    ] {
        let units: Result<Vec<_>, _> = NalUnits::new(message, 1, size).collect();
        let units: Vec<&[u8]> = units.unwrap().into_iter().map(|it| &message[it]).collect();
        assert_eq!(units, [&[0xa, 0xb][..], &[], &[0xc]], "{size:?}");
    }
}

#[test]
fn walk_ends_with_an_error_at_an_overrun() {
    for message in [
        &[0, 0, 0, 1, 0xa, 0, 0, 0, 2, 0xb][..],
        &[0, 0, 0, 1, 0xa, 0xff, 0xff, 0xff, 0xff, 0xb],
        &[0, 0, 0, 1, 0xa, 0, 0],
    ] {
        let units: Vec<_> = NalUnits::new(message, 0, NalLengthSize::Four).collect();
        assert_eq!(units, [Ok(4..5), Err(AvcError::NalOverrun)]);
    }
}

#[test]
fn headers_tell_type_and_importance() {
    let header = |byte| NalHeader::parse(byte).unwrap();
    assert_eq!(header(0x65).nal_type, NalType::IdrSlice);
    assert_eq!(header(0x41).nal_type, NalType::Slice);
    assert_eq!(header(0x06).nal_type, NalType::Sei);
    assert_eq!(header(0x09).nal_type, NalType::Other(9));
    assert!(header(0x41).referenced);
    assert!(!header(0x01).referenced);
    assert_eq!(NalHeader::parse(0xe5), Err(AvcError::ForbiddenBit));
}

#[test]
fn slice_headers_tell_b_slices_and_the_pps() {
    for (slice_type, bidirectional) in [(0, false), (1, true), (2, false), (5, false), (6, true)] {
        let mut unit = vec![0x41];
        unit.extend(bytes(&([40, slice_type, 255].map(ue).concat() + "1")));
        assert_eq!(
            SliceHeader::parse(&unit),
            Ok(SliceHeader {
                first_macroblock: 40,
                bidirectional,
                pps_id: 255
            })
        );
    }
    for bad in [[0, 10, 0], [0, 0, 256]] {
        let mut unit = vec![0x41];
        unit.extend(bytes(&(bad.map(ue).concat() + "1")));
        assert_eq!(SliceHeader::parse(&unit), Err(AvcError::SliceHeader));
    }
    assert_eq!(SliceHeader::parse(&[]), Err(AvcError::SliceHeader));
    assert_eq!(SliceHeader::parse(&[0x65]), Err(AvcError::SliceHeader));
}

#[test]
fn sps_tells_size_rate_and_reordering() {
    let baseline = SpsInfo::parse(BASELINE_SPS).unwrap();
    assert_eq!(baseline.profile_level_id, [0x42, 0xc0, 0x0d]);
    assert_eq!(baseline.size, Some((320, 180)), "16-pixel rows are cropped");
    assert_eq!(baseline.frames_per_second, Some(30.0));
    assert_eq!(baseline.max_num_reorder_frames, Some(0));
    let high = SpsInfo::parse(HIGH_SPS).unwrap();
    assert_eq!(high.size, Some((320, 180)));
    assert_eq!(high.max_num_reorder_frames, Some(2));
    let bare = SpsInfo::parse(&sps(3, 20, 15)).unwrap();
    assert_eq!((bare.id, bare.size), (3, Some((320, 240))));
    assert_eq!(bare.max_num_reorder_frames, None);
}

#[test]
fn sps_padded_with_zeros_is_read() {
    let mut padded = BASELINE_SPS.to_vec();
    padded.extend([0; 4]);
    assert_eq!(SpsInfo::parse(&padded), SpsInfo::parse(BASELINE_SPS));
}

#[test]
fn picture_larger_than_its_level_allows_is_read() {
    let mut unit = sps(0, 120, 68);
    unit[3] = 10;
    let info = SpsInfo::parse(&unit).unwrap();
    assert_eq!(info.profile_level_id, [66, 0, 10]);
    assert_eq!(info.size, Some((1_920, 1_088)));
}

#[test]
fn sps_out_of_bounds_is_refused() {
    let largest = SpsInfo::parse(&sps(0, 512, 270)).unwrap();
    assert_eq!(largest.size, Some((8_192, 4_320)));
    let huge = SpsInfo::parse(&sps(0, 513, 20));
    assert_eq!(huge, Err(AvcError::PictureSize));
    assert_eq!(
        SpsInfo::parse(&sps(32, 20, 20)),
        Err(AvcError::ParameterSet)
    );
    assert_eq!(SpsInfo::parse(PPS), Err(AvcError::ParameterSet));
    assert_eq!(SpsInfo::parse(&[0x67, 66]), Err(AvcError::ParameterSet));
    let mut long = BASELINE_SPS.to_vec();
    long.resize(5_000, 1);
    assert_eq!(SpsInfo::parse(&long), Err(AvcError::ParameterSetSize));
}

#[test]
fn sps_that_cannot_be_read_to_its_end_is_still_one() {
    let cut = SpsInfo::parse(&BASELINE_SPS[..7]).unwrap();
    assert_eq!(cut.profile_level_id, [0x42, 0xc0, 0x0d]);
    assert_eq!(cut.size, None);
}

#[test]
fn profiles_have_their_names() {
    for (profile_level_id, name) in [
        ([66, 0, 30], "Baseline"),
        ([66, 0xc0, 30], "Constrained Baseline"),
        ([77, 0x40, 31], "Main"),
        ([100, 0, 40], "High"),
        ([100, 0x0c, 40], "Constrained High"),
        ([122, 0, 40], "High 4:2:2"),
    ] {
        assert_eq!(profile_name(profile_level_id), name);
    }
}

#[test]
fn store_gives_sets_in_the_order_of_their_ids() {
    let mut store = ParameterSetStore::new();
    assert_eq!(store.insert(&pps(1, 0)), Ok(Change::Picture));
    assert!(store.sets().is_none());
    assert_eq!(store.insert(&sps(2, 20, 20)), Ok(Change::Sequence(2)));
    assert_eq!(store.insert(&sps(0, 10, 10)), Ok(Change::Sequence(0)));
    assert_eq!(store.insert(&pps(0, 2)), Ok(Change::Picture));
    let expected = [sps(0, 10, 10), sps(2, 20, 20), pps(0, 2), pps(1, 0)];
    assert_eq!(store.sets().unwrap().nal_units, expected);
    assert_eq!(store.sps_of(0).and_then(|sps| sps.size), Some((320, 320)));
    assert_eq!(store.sps_of(1).and_then(|sps| sps.size), Some((160, 160)));
    assert!(store.sps_of(2).is_none());
}

#[test]
fn store_replaces_by_id_and_tells_what_changed() {
    let mut store = ParameterSetStore::new();
    store.insert(&sps(0, 20, 20)).unwrap();
    store.insert(&pps(0, 0)).unwrap();
    let before = store.sets().unwrap();
    assert_eq!(store.insert(&sps(0, 20, 20)), Ok(Change::None));
    assert_eq!(store.insert(&pps(0, 0)), Ok(Change::None));
    let shared = store.sets().unwrap();
    assert!(
        std::sync::Arc::ptr_eq(&before, &shared),
        "nothing was copied"
    );
    assert_eq!(store.insert(&sps(0, 30, 20)), Ok(Change::Sequence(0)));
    let after = store.sets().unwrap();
    assert_eq!(after.nal_units, [sps(0, 30, 20), pps(0, 0)]);
    assert_eq!(before.nal_units, [sps(0, 20, 20), pps(0, 0)]);
}

#[test]
fn store_tells_once_which_sets_changed() {
    let mut store = ParameterSetStore::new();
    for unit in [pps(1, 0), sps(0, 20, 20), pps(0, 0)] {
        store.insert(&unit).unwrap();
    }
    let changed = store.take_changed().unwrap();
    assert_eq!(changed.nal_units, [sps(0, 20, 20), pps(0, 0), pps(1, 0)]);
    store.insert(&pps(1, 0)).unwrap();
    assert!(store.take_changed().is_none());
    store.insert(&pps(1, 2)).unwrap();
    store.insert(&sps(1, 20, 20)).unwrap();
    let changed = store.take_changed().unwrap();
    assert_eq!(changed.nal_units, [sps(1, 20, 20), pps(1, 2)]);
    assert_eq!(store.sets().unwrap().nal_units.len(), 4);
}

#[test]
fn store_is_bounded_and_keeps_what_it_has() {
    let mut store = ParameterSetStore::new();
    store.insert(BASELINE_SPS).unwrap();
    let mut refused = 0;
    for id in 0..256 {
        let mut large = pps(id, 0);
        large.resize(4_000, 0xff);
        refused += u32::from(store.insert(&large) == Err(AvcError::ParameterSetSize));
    }
    assert!(refused > 200);
    let sets = store.sets().unwrap();
    let total: usize = sets.nal_units.iter().map(Bytes::len).sum();
    assert!(total <= 64 * 1_024);
    assert_eq!(sets.nal_units[0], BASELINE_SPS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn records_never_panic(record in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut record = record;
        if let Some(version) = record.first_mut() {
            *version = 1;
        }
        let mut store = ParameterSetStore::new();
        if let Ok(config) = DecoderConfig::parse(&record.into()) {
            for unit in &config.parameter_sets {
                let _ = store.insert(unit);
            }
        }
    }

    #[test]
    fn damaged_sps_never_panic(
        damage in proptest::collection::vec((0_usize..26, any::<u8>()), 0..6),
        length in 0_usize..=26,
    ) {
        let mut unit = HIGH_SPS.to_vec();
        for (index, value) in damage {
            unit[index] = value;
        }
        unit.truncate(length);
        if let Ok(info) = SpsInfo::parse(&unit) {
            prop_assert!(info.id <= 31);
            if let Some((width, height)) = info.size {
                prop_assert!((1..=8_192).contains(&width) && (1..=8_192).contains(&height));
            }
        }
    }

    #[test]
    fn walk_stays_within_the_message(
        message in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..60),
        start in 0_usize..70,
    ) {
        for size in [NalLengthSize::One, NalLengthSize::Two, NalLengthSize::Four] {
            let mut end = start;
            for range in NalUnits::new(&message, start, size).flatten() {
                prop_assert!(range.start > end, "each has its length before it");
                prop_assert!(range.end <= message.len());
                end = range.end;
            }
        }
    }
}
