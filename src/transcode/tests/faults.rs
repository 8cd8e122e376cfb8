//! Broken units, changed and bad configurations, and whatever else may come.

use super::*;

#[test]
fn broken_units_are_concealed_and_cost_no_time() {
    let mut stream = Stream::tone(44_100, 2, 4.0);
    for index in [60, 61, 100] {
        stream.units[index].1 = vec![0x5a; 200];
    }
    let (packets, stats) = stream.transcode_and_count();
    assert_contiguous(&packets);
    assert_eq!((stats.concealed, stats.ignored, stats.gaps), (3, 0, 0));
    let heard = Heard::of(&packets);
    assert!((level_db(heard.side(0, 3.0..3.8)) + 23.0).abs() < 0.5);
    let (first, last) = (stream.units[0].0, stream.units[stream.units.len() - 1].0);
    let lasted = packets[packets.len() - 1].pts.minus(packets[0].pts);
    assert!(apart(lasted, last.minus(first)) < 45_000);
}

#[test]
fn empty_and_absurd_units_are_ignored() {
    let stream = Stream::tone(48_000, 2, 1.0);
    let mut transcoder = stream.transcoder();
    transcoder.push(&[], SECOND, &mut |_| panic!("a packet of nothing"));
    transcoder.push(&vec![0x21; 70_000], SECOND, &mut |_| panic!("a packet"));
    assert_eq!(transcoder.stats().ignored, 2);
    let mut unconfigured = AudioTranscoder::new(AudioSettings::default()).unwrap();
    unconfigured.push(&stream.units[0].1, SECOND, &mut |_| panic!("a packet"));
    assert_eq!(unconfigured.stats().ignored, 1);
}

#[test]
fn configuration_change_keeps_the_timeline() {
    let (mono, stereo) = (
        Aac::encode(&clicks(44_100, 1, 3.0, &[1.0]), 44_100, 1),
        Aac::encode(&clicks(48_000, 2, 3.0, &[2.0]), 48_000, 2),
    );
    let (first, second) = (mono.time_of(1.0), mono.end().plus(stereo.time_of(2.0)));
    let end = mono.end();
    let mut transcoder = AudioTranscoder::new(AudioSettings::default()).unwrap();
    let mut packets = Vec::new();
    transcoder.configure(&aac(&mono.config)).unwrap();
    for (pts, unit) in Stream::from_aac(mono).units {
        transcoder.push(&unit, pts, &mut |packet| packets.push(packet));
    }
    transcoder.configure(&aac(&stereo.config)).unwrap();
    transcoder.configure(&aac(&stereo.config)).unwrap();
    for (pts, unit) in Stream::from_aac(stereo).units {
        let pts = pts.plus(end);
        transcoder.push(&unit, pts, &mut |packet| packets.push(packet));
    }
    assert_contiguous(&packets);
    let stats = transcoder.stats();
    assert_eq!((stats.format_changes, stats.jumps), (1, 0));
    assert!(stats.silence < MediaTime::from_millis(3), "{stats:?}");
    Heard::of(&packets).assert_clicks(&[first, second], 3_000, "configuration change");
}

#[test]
fn bad_configurations_are_refused_and_the_old_one_stays() {
    let stream = Stream::tone(48_000, 2, 1.0);
    let mut transcoder = stream.transcoder();
    let error = transcoder.configure(&aac(&[])).unwrap_err();
    assert_eq!(error, TranscodeError::ConfigLength { bytes: 0 });
    assert!(transcoder.configure(&aac(&[0; 600])).is_err());
    let error = transcoder.configure(&aac(&[0xff; 8])).unwrap_err();
    assert!(matches!(error, TranscodeError::Config { .. }));
    assert!(error.to_string().contains("publisher"), "{error}");
    let mut packets = 0;
    transcoder.push(&stream.units[0].1, SECOND, &mut |_| packets += 1);
    assert_eq!(packets, 1);
}

#[test]
fn endless_configuration_changes_are_refused() {
    let mut transcoder = AudioTranscoder::new(AudioSettings::default()).unwrap();
    let mut results = (0..20).map(|index| {
        let config: &[u8] = if index % 2 == 0 {
            &[0x11, 0x90]
        } else {
            &[0x12, 0x10]
        };
        transcoder.configure(&aac(config))
    });
    assert!(results.any(|result| result == Err(TranscodeError::TooManyChanges)));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let with = |change: fn(&mut AudioSettings)| {
        let mut settings = AudioSettings::default();
        change(&mut settings);
        AudioTranscoder::new(settings).err().unwrap().to_string()
    };
    assert!(with(|settings| settings.bitrate = 1).contains("bitrate"));
    assert!(with(|settings| settings.complexity = 11).contains("complexity"));
    assert!(with(|settings| settings.expected_loss_percent = 101).contains("loss"));
}

#[derive(Debug, Clone)]
enum Act {
    Configure(Vec<u8>),
    Unit(Vec<u8>, i64),
    Good(usize, i64),
}

fn any_act() -> impl Strategy<Value = Act> {
    let time = || {
        prop_oneof![
            8 => -3_000_i64..10_000,
            1 => Just(i64::MIN),
            1 => Just(i64::MAX),
        ]
    };
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        1 => prop_oneof![
            bytes(),
            proptest::collection::vec(any::<u8>(), 2..6),
            Just(vec![0x11, 0x90]),
            Just(vec![0x12, 0x08]),
            Just(vec![0x2b, 0x92, 0x08, 0x00]),
        ]
        .prop_map(Act::Configure),
        4 => (bytes(), time()).prop_map(|(unit, pts)| Act::Unit(unit, pts)),
        4 => (0..40_usize, time()).prop_map(|(index, pts)| Act::Good(index, pts)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_bytes_and_no_times_panic(acts in proptest::collection::vec(any_act(), 1..60)) {
        let good = Stream::tone(48_000, 2, 1.0);
        let mut transcoder = good.transcoder_with(AudioSettings {
            complexity: 0,
            ..AudioSettings::default()
        });
        let mut sizes = Vec::new();
        for act in acts {
            let mut sink = |packet: OpusPacket| sizes.push(packet.data.len());
            match act {
                Act::Configure(config) => {
                    let _refused = transcoder.configure(&aac(&config));
                }
                Act::Unit(unit, pts) => {
                    transcoder.push(&unit, MediaTime::from_millis(pts), &mut sink);
                }
                Act::Good(index, pts) => {
                    transcoder.push(
                        &good.units[index].1,
                        MediaTime::from_millis(pts),
                        &mut sink,
                    );
                }
            }
        }
        let stats = transcoder.stats();
        prop_assert!(sizes.iter().all(|size| (1..=RTP_PAYLOAD_BYTES_MAX).contains(size)));
        prop_assert_eq!(stats.packets, sizes.len() as u64);
        prop_assert_eq!(stats.decoded + stats.concealed + stats.ignored, stats.units);
    }
}
