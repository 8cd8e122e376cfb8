//! Tests of a whole publish: made messages, and what ffmpeg really sends.

/// Replays a file of `tests/data/codecs`.
macro_rules! sample {
    ($name:literal) => {
        replay(include_bytes!(concat!(
            "../../../tests/data/codecs/",
            $name,
            ".flv"
        )))
    };
}

mod codecs;
mod parts;
mod reports;
mod sets;
mod sounds;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::media::flv::file::{self, TagKind};

/// 320 × 180 Constrained Baseline and High with reordering, by x264, with one PPS for each.
const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x06, 0x7e, 0x7c, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40,
    0x00, 0x00, 0x0f, 0x03, 0xc5, 0x0a, 0xa8,
];
const OTHER_SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41, 0x9f, 0x9f, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00,
    0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x42, 0x99, 0x60,
];
/// PPS 0 of SPS 0, and the same with another quantizer.
const PPS: &[u8] = &[0x68, 0xce, 0x04, 0x72];
const OTHER_PPS: &[u8] = &[0x68, 0xce, 0x06, 0x72];
/// Slices: macroblock 0, of type I, P and B, of PPS 0. The last refers to nothing.
const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x01];
const P: &[u8] = &[0x41, 0x9a, 0x02, 0x03];
const B: &[u8] = &[0x01, 0x9e, 0x05, 0x06];
const SEI: &[u8] = &[0x06, 0x05, 0x01, 0x00, 0x80];
const AAC_CONFIG: &[u8] = &[0xaf, 0, 0x11, 0x90];
const AAC_UNIT: &[u8] = &[0xaf, 1, 0x21, 0x22];

fn record(sps: &[u8], pps: &[u8]) -> Vec<u8> {
    let mut message = vec![0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x0d, 0xff];
    for unit in [sps, pps] {
        message.push(1);
        message.extend(u16::try_from(unit.len()).unwrap().to_be_bytes());
        message.extend(unit);
    }
    message
}

fn access_unit(composition_time_ms: i32, nal_units: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![0x27, 1];
    message.extend(&composition_time_ms.to_be_bytes()[1..]);
    for unit in nal_units {
        message.extend(u32::try_from(unit.len()).unwrap().to_be_bytes());
        message.extend_from_slice(unit);
    }
    message
}

/// A publish, and all it has led to.
struct Rig {
    ingest: Ingest,
    start: Instant,
    outputs: Vec<IngestOutput>,
}

impl Rig {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let timebase = Timebase::new(start, Duration::ZERO);
        Self {
            ingest: Ingest::new(timebase, Epoch(1)),
            start,
            outputs: Vec::new(),
        }
    }

    fn configured() -> Self {
        let mut rig = Self::new();
        rig.video(0, &record(SPS, PPS));
        rig
    }

    fn video(&mut self, timestamp_ms: u32, message: &[u8]) {
        let now = self.start + Duration::from_millis(timestamp_ms.into());
        let message = Bytes::copy_from_slice(message);
        self.ingest.handle_video(timestamp_ms, message, now);
        self.drain();
    }

    fn picture(&mut self, timestamp_ms: u32, nal_units: &[&[u8]]) {
        self.video(timestamp_ms, &access_unit(0, nal_units));
    }

    fn audio(&mut self, timestamp_ms: u32, message: &[u8]) {
        let now = self.start + Duration::from_millis(timestamp_ms.into());
        let message = Bytes::copy_from_slice(message);
        self.ingest.handle_audio(timestamp_ms, message, now);
        self.drain();
    }

    /// Sends one video message again and again for a quarter of a minute; what is advised then.
    fn advised_after(&mut self, message: &[u8]) -> Vec<String> {
        for time in (40..15_000).step_by(40) {
            self.video(time, message);
        }
        self.ingest.info().advice.clone()
    }

    fn drain(&mut self) {
        self.outputs
            .extend(std::iter::from_fn(|| self.ingest.poll_output()));
    }

    fn frames(&self) -> Vec<&VideoFrame> {
        let mut frames = Vec::new();
        for output in &self.outputs {
            if let IngestOutput::Video(frame) = output {
                frames.push(frame);
            }
        }
        frames
    }

    fn units(&self) -> Vec<&AudioUnit> {
        let mut units = Vec::new();
        for output in &self.outputs {
            if let IngestOutput::Audio(unit) = output {
                units.push(unit);
            }
        }
        units
    }

    fn warnings(&self) -> Vec<IngestWarning> {
        let mut warnings = Vec::new();
        for output in &self.outputs {
            if let IngestOutput::Warning(warning) = output {
                warnings.push(warning.clone());
            }
        }
        warnings
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.ingest.stats().dropped(reason)
    }
}

fn nal_units(frame: &VideoFrame) -> Vec<&[u8]> {
    let unit = |range: &std::ops::Range<usize>| &frame.data[range.clone()];
    frame.nal_units.iter().map(unit).collect()
}

#[test]
fn frames_begin_with_a_keyframe_and_its_sets() {
    let mut rig = Rig::configured();
    rig.picture(0, &[P]);
    rig.picture(40, &[SEI, IDR]);
    rig.picture(80, &[P]);
    let frames = rig.frames();
    assert_eq!(frames.len(), 2);
    assert!(frames[0].key && !frames[1].key);
    assert_eq!(nal_units(frames[0]), [SEI, IDR]);
    let sets = frames[0].parameter_sets.as_ref().unwrap();
    assert_eq!(sets.nal_units, [SPS, PPS]);
    assert!(frames[1].parameter_sets.is_none());
    assert_eq!(rig.dropped(DropReason::KeyframeMissing), 1);
    assert!(rig.warnings().is_empty(), "{:?}", rig.warnings());
}

#[test]
fn frames_point_into_their_message() {
    let mut rig = Rig::configured();
    let message = Bytes::from(access_unit(0, &[IDR]));
    rig.ingest.handle_video(0, message.clone(), rig.start);
    rig.drain();
    assert_eq!(rig.frames()[0].data.as_ptr(), message.as_ptr());
}

#[test]
fn codecs_that_are_not_played_are_named_and_the_rest_goes_on() {
    let mut rig = Rig::new();
    for at in 0..50 {
        rig.video(at * 40, b"\x91vvc1\0\0\0\0\0\0\x01\x40");
        rig.audio(at * 40, &[0x1f, 0xff, 0xfb]);
    }
    let warnings = rig.warnings();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].to_string().contains("H.266 (VVC)"));
    assert!(warnings[1].to_string().contains("ADPCM"));
    assert_eq!(rig.dropped(DropReason::UnsupportedCodec), 100);
    let info = rig.ingest.info();
    assert_eq!(info.video.as_deref(), Some("H.266 (VVC)"));
    assert_eq!(info.advice.len(), 2);
    rig.audio(2_000, AAC_CONFIG);
    rig.audio(2_000, AAC_UNIT);
    assert_eq!(rig.units().len(), 1);
    assert_eq!(rig.ingest.info().advice.len(), 1);
}

#[test]
fn enhanced_avc_and_aac_are_played() {
    let mut rig = Rig::new();
    let tail = |message: Vec<u8>| message[5..].to_vec();
    rig.video(0, &[&b"\x90avc1"[..], &tail(record(SPS, PPS))].concat());
    rig.video(
        0,
        &[&b"\x93avc1"[..], &tail(access_unit(0, &[IDR]))].concat(),
    );
    let coded = [&b"\xa1avc1\0\0\x21"[..], &tail(access_unit(0, &[P]))].concat();
    rig.video(40, &coded);
    rig.audio(0, b"\x90mp4a\x11\x90");
    rig.audio(0, b"\x91mp4a\x21\x22");
    assert_eq!(rig.frames().len(), 2);
    assert_eq!(rig.frames()[1].pts.as_millis(), 73);
    assert_eq!(rig.units().len(), 1);
}

#[test]
fn empty_and_tiny_messages_are_counted_and_the_stream_goes_on() {
    let mut rig = Rig::configured();
    rig.picture(0, &[IDR]);
    for tiny in [&[][..], &[0x27], &[0x27, 1, 0, 0]] {
        rig.video(10, tiny);
    }
    rig.video(20, &[0x27, 2, 0, 0, 0]);
    for tiny in [&[][..], &[0xaf], &[0xaf, 0], &[0xaf, 0, 0x11], &[0xaf, 1]] {
        rig.audio(10, tiny);
    }
    rig.audio(20, AAC_CONFIG);
    rig.audio(20, &[0xaf, 1]);
    rig.picture(40, &[P]);
    rig.audio(43, AAC_UNIT);
    assert_eq!(rig.frames().len(), 2);
    assert_eq!(rig.units().len(), 1);
    assert_eq!(rig.dropped(DropReason::BadTag), 5);
    assert_eq!(rig.dropped(DropReason::BadConfig), 2);
    assert_eq!(rig.dropped(DropReason::ConfigMissing), 1);
    assert_eq!(rig.dropped(DropReason::Empty), 1);
}

#[test]
fn malformed_access_unit_is_dropped_whole_and_video_resumes_with_a_keyframe() {
    let cut = |nal_units: &[&[u8]]| {
        let mut message = access_unit(0, nal_units);
        message.pop();
        message
    };
    for message in [
        cut(&[P, P]),
        cut(&[B]),
        access_unit(0, &[&[0xc1, 0x9a, 0x02]]),
        access_unit(0, &[&[0x41]]),
        access_unit(0, &vec![P; 1_025]),
        access_unit(0, &[OTHER_PPS, B, &[0x81]]),
    ] {
        let mut rig = Rig::configured();
        rig.picture(0, &[IDR]);
        rig.video(40, &message);
        rig.picture(80, &[P]);
        assert_eq!(rig.frames().len(), 1, "what follows refers to it");
        rig.picture(120, &[IDR]);
        rig.picture(160, &[P]);
        assert_eq!(rig.frames().len(), 3);
        assert_eq!(rig.dropped(DropReason::Malformed), 1);
        assert_eq!(rig.dropped(DropReason::KeyframeMissing), 1);
        assert_eq!(rig.warnings().len(), 1);
    }
}

#[test]
fn malformed_picture_to_which_nothing_refers_interrupts_nothing() {
    let mut overrun = access_unit(0, &[B, B]);
    overrun.pop();
    for message in [
        overrun,
        access_unit(0, &[SEI, &[0x01]]),
        access_unit(0, &[B, &[0x81]]),
        access_unit(0, &vec![B; 1_025]),
    ] {
        let mut rig = Rig::configured();
        rig.picture(0, &[IDR]);
        rig.video(40, &message);
        rig.picture(80, &[P]);
        assert_eq!(rig.frames().len(), 2);
        assert_eq!(rig.dropped(DropReason::Malformed), 1);
    }
}

#[test]
fn unpolled_output_is_bounded_and_video_resumes_with_a_keyframe() {
    let mut rig = Rig::configured();
    let send = |rig: &mut Rig, at: u32, unit: &[u8]| {
        let message = access_unit(0, &[unit]).into();
        rig.ingest.handle_video(at, message, rig.start);
    };
    send(&mut rig, 0, IDR);
    for at in 1..1_000 {
        send(&mut rig, at, P);
    }
    rig.drain();
    let waiting = rig.frames().len();
    assert!(waiting < 300, "{waiting}");
    rig.picture(1_000, &[P]);
    assert_eq!(rig.frames().len(), waiting);
    rig.picture(1_001, &[IDR]);
    assert_eq!(rig.frames().len(), waiting + 1);
}

/// Replays a file in its own time.
fn replay(sample: &'static [u8]) -> Rig {
    let mut rig = Rig::new();
    for tag in file::tags(Bytes::from_static(sample)).unwrap() {
        match tag.kind {
            TagKind::Video => rig.video(tag.timestamp_ms, &tag.payload),
            TagKind::Audio => rig.audio(tag.timestamp_ms, &tag.payload),
            TagKind::Script | TagKind::Other(_) => {}
        }
    }
    rig
}

#[test]
fn what_ffmpeg_sends_without_b_frames_passes_whole() {
    let rig = replay(include_bytes!("../../tests/data/baseline.flv"));
    let frames = rig.frames();
    assert_eq!(frames.len(), 60);
    assert_eq!(frames.iter().filter(|it| it.key).count(), 2);
    assert!(frames.iter().all(|it| it.pts == it.dts));
    assert!(frames.windows(2).all(|it| it[0].dts < it[1].dts));
    assert!(rig.units().len() > 90);
    assert!(rig.units().windows(2).all(|it| it[0].pts < it[1].pts));
    assert!(rig.warnings().is_empty(), "{:?}", rig.warnings());
    assert_eq!(rig.ingest.stats().dropped_total(), 0);
    let info = rig.ingest.info();
    assert_eq!(info.size, Some((320, 180)));
    assert_eq!(info.audio.as_deref(), Some("AAC-LC 48 kHz stereo"));
    assert!(!info.reordering && info.advice.is_empty());
}

#[test]
fn what_ffmpeg_sends_with_b_frames_is_detected() {
    let rig = replay(include_bytes!("../../tests/data/high-b-frames.flv"));
    assert_eq!(rig.frames().len(), 60, "nothing is dropped for it");
    assert_eq!(rig.warnings(), [IngestWarning::Reordering]);
    assert_eq!(rig.ingest.stats().dropped_total(), 0);
    let info = rig.ingest.info();
    assert!(info.reordering);
    assert_eq!(info.video.as_deref(), Some("H.264 High"));
    assert_eq!(info.audio.as_deref(), Some("AAC-LC 44.1 kHz mono"));
    let mut times: Vec<_> = rig.frames().iter().map(|it| it.pts).collect();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 60, "every picture has its own time");
}

fn any_message() -> impl Strategy<Value = (bool, u32, Vec<u8>)> {
    let well_formed = prop_oneof![
        Just(record(SPS, PPS)),
        Just(record(OTHER_SPS, OTHER_PPS)),
        (any::<i32>(), 0_usize..32).prop_map(|(offset, mask)| {
            let units = [SPS, PPS, IDR, P, B];
            let chosen = units.into_iter().enumerate();
            let chosen = chosen.filter(|(index, _)| mask & (1 << index) != 0);
            access_unit(offset, &chosen.map(|(_, unit)| unit).collect::<Vec<_>>())
        }),
        Just(AAC_CONFIG.to_vec()),
        Just(AAC_UNIT.to_vec()),
    ];
    let noise = proptest::collection::vec(any::<u8>(), 0..30);
    let damage = (
        well_formed.clone(),
        any::<prop::sample::Index>(),
        any::<u8>(),
    );
    let damaged = damage.prop_map(|(mut message, index, value)| {
        let index = index.index(message.len());
        message[index] = value;
        message
    });
    let timestamp = prop_oneof![0_u32..5_000, any::<u32>()];
    let message = prop_oneof![5 => well_formed, 1 => noise, 3 => damaged];
    (any::<bool>(), timestamp, message)
}

#[test]
fn video_of_which_nothing_can_be_shown_is_said() {
    for (mut rig, picture, why) in [
        (Rig::new(), P, "without its sequence header"),
        (Rig::configured(), P, "no keyframe comes"),
        (Rig::configured(), &[0x65][..], "a slice header cannot"),
    ] {
        let picture = access_unit(0, &[picture]);
        let advice = rig.advised_after(&picture);
        assert!(rig.frames().is_empty());
        assert!(
            advice
                .iter()
                .any(|line| line.contains("No picture can be shown") && line.contains(why)),
            "{advice:?}"
        );
        rig.video(15_000, &record(SPS, PPS));
        rig.picture(15_040, &[IDR]);
        rig.picture(16_080, &[P]);
        let advice = &rig.ingest.info().advice;
        assert!(!advice.iter().any(|line| line.contains("No picture")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_comes_the_output_keeps_its_promises(
        messages in proptest::collection::vec(any_message(), 0..40)
    ) {
        let mut rig = Rig::new();
        let mut now = rig.start;
        for (is_video, timestamp, message) in messages {
            now += Duration::from_millis(10);
            match is_video {
                true => rig.ingest.handle_video(timestamp, message.into(), now),
                false => rig.ingest.handle_audio(timestamp, message.into(), now),
            }
            rig.drain();
        }
        let frames = rig.frames();
        prop_assert!(frames.first().is_none_or(|it| it.key && it.parameter_sets.is_some()));
        prop_assert!(frames.windows(2).all(|it| it[0].dts < it[1].dts));
        prop_assert!(frames.iter().all(|it| it.pts >= MediaTime::ZERO));
        for frame in frames {
            prop_assert!(!frame.nal_units.is_empty());
            prop_assert!(frame.nal_units.iter().all(|it| frame.data.get(it.clone()).is_some()));
        }
        prop_assert!(rig.units().windows(2).all(|it| it[0].pts <= it[1].pts));
        prop_assert!(rig.units().iter().all(|it| !it.data.is_empty()));
    }
}
