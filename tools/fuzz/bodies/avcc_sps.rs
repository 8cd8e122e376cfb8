//! H.264 decoder configuration records, and the NAL units of the same bytes.
use bytes::Bytes;
use rtmpeer::media::avc::{
    Change, DecoderConfig, NalLengthSize, NalUnits, ParameterSetStore, SliceHeader, SpsInfo,
    is_turned,
};

/// One input.
pub fn fuzz(data: &[u8]) {
    run(data);
}

fn run(data: &[u8]) {
    let mut store = ParameterSetStore::new();
    if let Ok(config) = DecoderConfig::parse(&Bytes::copy_from_slice(data)) {
        for unit in &config.parameter_sets {
            insert(&mut store, unit);
        }
    }
    for size in [NalLengthSize::One, NalLengthSize::Two, NalLengthSize::Four] {
        let mut end = 0;
        for range in NalUnits::new(data, 0, size).flatten() {
            assert!(range.start > end || end == 0);
            end = range.end;
            let unit = data.get(range).expect("ranges are within the message");
            let _ = SliceHeader::parse(unit);
            let _ = is_turned(unit);
            insert(&mut store, unit);
        }
    }
    insert(&mut store, data);
    let _ = is_turned(data);
}

fn insert(store: &mut ParameterSetStore, unit: &[u8]) {
    let before = store.sets();
    let changed = store.insert(unit);
    let after = store.sets();
    match changed {
        Ok(Change::Sequence(id)) => {
            let info = SpsInfo::parse(unit).expect("the store took it");
            assert_eq!(Some(&info), store.sps(id));
            assert_eq!(store.insert(unit).ok(), Some(Change::None));
        }
        Ok(Change::Picture) => assert_eq!(store.insert(unit).ok(), Some(Change::None)),
        Ok(Change::None) | Err(_) => assert_eq!(before, after),
    }
    if let Some(sets) = after {
        let bytes: usize = sets.nal_units.iter().map(Bytes::len).sum();
        assert!(bytes <= 64 * 1_024, "the store grew without bound");
    }
}
