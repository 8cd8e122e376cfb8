//! Tests against what x265 writes, and against noise.

use proptest::prelude::*;

use super::*;

/// 160 × 90, cropped from 160 × 96 units of 8.
const SPS: &[u8] = &[
    0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03,
    0x00, 0x1e, 0xa0, 0x14, 0x20, 0x61, 0xf2, 0x65, 0x95, 0x92, 0x49, 0x32, 0xbc, 0x05, 0xa0, 0x20,
    0x00, 0x00, 0x03, 0x00, 0x20, 0x00, 0x00, 0x03, 0x01, 0xe1,
];
const PPS: &[u8] = &[0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40];

fn record() -> Vec<u8> {
    let mut record = vec![0x01, 0x01, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0x1e];
    record.extend([0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, 2]);
    for (kind, unit) in [(34, PPS), (33, SPS)] {
        record.extend([kind, 0, 1, 0, u8::try_from(unit.len()).unwrap()]);
        record.extend(unit);
    }
    record
}

fn access_unit(nal_units: &[&[u8]]) -> Bytes {
    let mut data = Vec::new();
    for unit in nal_units {
        data.extend(u32::try_from(unit.len()).unwrap().to_be_bytes());
        data.extend_from_slice(unit);
    }
    data.into()
}

#[test]
fn record_of_x265_says_profile_and_size() {
    let config = HevcConfig::parse(&record()).unwrap();
    assert_eq!(config.nal_length_size, NalLengthSize::Four);
    assert_eq!(config.profile_name(), "Main");
    let sps = config.sps.unwrap();
    assert_eq!(sps.size, (160, 90));
    assert_eq!((sps.chroma_format, sps.luma_bits), (1, 8));
}

#[test]
fn records_without_an_sps_are_legal_and_short_ones_are_not() {
    let whole = record();
    for end in 0..23 {
        assert_eq!(HevcConfig::parse(&whole[..end]), None, "{end}");
    }
    for end in 23..whole.len() {
        let config = HevcConfig::parse(&whole[..end]).unwrap();
        assert!(config.sps.is_none_or(|sps| sps.size == (160, 90)), "{end}");
    }
    let mut three_bytes = whole;
    three_bytes[21] = 0x0e;
    assert_eq!(HevcConfig::parse(&three_bytes), None);
}

#[test]
fn random_access_points_are_the_irap_types() {
    for kind in 0_u8..64 {
        let unit = [kind << 1, 1, 0x80];
        let found = HevcUnit::scan(&access_unit(&[&unit]), NalLengthSize::Four).unwrap();
        assert_eq!(found.random_access, (16..=23).contains(&kind), "{kind}");
        assert_eq!(found.picture, kind < 32, "{kind}");
    }
}

#[test]
fn sps_in_band_is_read_and_lengths_are_checked() {
    let unit = access_unit(&[SPS, PPS, &[], &[0x26, 1, 0xaf]]);
    let found = HevcUnit::scan(&unit, NalLengthSize::Four).unwrap();
    assert!(found.random_access);
    assert_eq!(found.sps.unwrap().size, (160, 90));
    let cut = unit.slice(..unit.len() - 1);
    let error = HevcUnit::scan(&cut, NalLengthSize::Four);
    assert_eq!(error, Err(AvcError::NalOverrun));
    let many: Vec<&[u8]> = vec![&[0x02, 1]; 1_025];
    let error = HevcUnit::scan(&access_unit(&many), NalLengthSize::Four);
    assert_eq!(error, Err(AvcError::TooManyNalUnits));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_records_give_a_legal_size_or_none(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        noise in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut damaged = record();
        for (index, value) in damage {
            let index = index.index(damaged.len());
            damaged[index] = value;
        }
        let mut sps = SPS[..2].to_vec();
        sps.extend(&noise);
        let from_record = HevcConfig::parse(&damaged).and_then(|it| it.sps);
        for found in [from_record, HevcSps::parse(&sps)].into_iter().flatten() {
            let (width, height) = found.size;
            prop_assert!((1..=DIMENSION_PIXELS_MAX).contains(&width));
            prop_assert!((1..=DIMENSION_PIXELS_MAX).contains(&height));
        }
        let _ = HevcConfig::parse(&noise);
        let _ = HevcUnit::scan(&noise.into(), NalLengthSize::Two);
    }
}
