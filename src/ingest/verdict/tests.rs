//! Tests of the verdict: simulated encoders, and what is said of each.

use super::*;
use crate::ids::Epoch;
use crate::ingest::Ingest;
use crate::media::codec::CodedFrame;
use crate::media::frame::TrackKind;
use bytes::Bytes;

/// A publish as it is measured.
struct Rig {
    judge: Judge,
    timeline: Timeline,
    start: Instant,
    verdicts: Vec<(u64, Arc<Verdict>)>,
    changes: usize,
}

impl Rig {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let timebase = Timebase::new(start, Duration::ZERO);
        let mut judge = Judge::new(timebase);
        judge.info.video = Some("H.264 High".into());
        judge.info.audio = Some("AAC-LC 48 kHz stereo".into());
        judge.info.size = Some((1_280, 720));
        judge.audio_sample_rate = Some(48_000);
        Self {
            judge,
            timeline: Timeline::new(timebase),
            start,
            verdicts: Vec::new(),
            changes: 0,
        }
    }

    fn frame(&mut self, timestamp_ms: u32, at_ms: u64, key: bool, bytes: usize) {
        let received = self.start + Duration::from_millis(at_ms);
        let dts = self.timeline.map(TrackKind::Video, timestamp_ms, received);
        let frame = CodedFrame {
            pts: dts.dts,
            dts: dts.dts,
            key,
            recovery: false,
            disposable: false,
            data: Bytes::from(vec![0; bytes]),
            received,
        };
        self.judge.watch(&IngestOutput::Coded(frame));
        self.poll(at_ms);
    }

    fn unit(&mut self, timestamp_ms: u32, at_ms: u64) {
        let received = self.start + Duration::from_millis(at_ms);
        let pts = self.timeline.map(TrackKind::Audio, timestamp_ms, received);
        self.judge.audio(pts.dts, 341, received);
        self.poll(at_ms);
    }

    fn poll(&mut self, at_ms: u64) {
        self.changes += usize::from(self.judge.evaluate(&self.timeline));
        let taken = self.judge.take();
        self.verdicts.extend(taken.map(|verdict| (at_ms, verdict)));
    }

    fn last(&self) -> &Verdict {
        &self.verdicts.last().unwrap().1
    }

    fn codes(&self) -> Vec<&str> {
        self.last().items.iter().map(|item| item.code).collect()
    }
}

/// How an encoder behaves; 25 frames/s, the default is what is asked for.
struct Encoder {
    gop: fn(u32) -> bool,
    key_bytes: usize,
    bytes: usize,
    /// What is added to a frame's timestamp, and to its arrival.
    off_ms: fn(u32) -> u32,
    delay_ms: fn(u32) -> u64,
    audio_delay_ms: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            gop: |index| index % 50 == 0,
            key_bytes: 60_000,
            bytes: 10_000,
            off_ms: |_| 0,
            delay_ms: |_| 0,
            audio_delay_ms: 0,
        }
    }
}

impl Encoder {
    fn run(&self, seconds: u32) -> Rig {
        let mut rig = Rig::new();
        for index in 0..seconds * 25 {
            let at = index * 40;
            let key = (self.gop)(index);
            let bytes = if key { self.key_bytes } else { self.bytes };
            let delay = (self.delay_ms)(index);
            rig.frame(at + (self.off_ms)(index), u64::from(at) + delay, key, bytes);
            if u64::from(at) >= self.audio_delay_ms {
                let sound = at - u32::try_from(self.audio_delay_ms).unwrap();
                rig.unit(sound.saturating_sub(20), u64::from(at) + delay);
                rig.unit(sound, u64::from(at) + delay);
            }
        }
        rig
    }
}

#[test]
fn a_good_encoder_is_measured_and_told_nothing() {
    let rig = Encoder::default().run(30);
    assert_eq!(rig.codes(), [""; 0]);
    let figures = rig.last().figures;
    assert_eq!(figures.frames_per_1000_s, Some(25_000));
    assert_eq!(figures.frame_jitter_micros, Some(0));
    let spread = figures.keyframe_interval_ms.unwrap();
    assert_eq!((spread.min, spread.mean, spread.max), (2_000, 2_000, 2_000));
    let video = figures.video_bits_per_second.unwrap();
    assert!((2_100_000..2_300_000).contains(&video), "{video}");
    let audio = figures.audio_bits_per_second.unwrap();
    assert!((130_000..143_000).contains(&audio), "{audio}");
    assert_eq!(figures.keyframe_bytes, Some(60_000));
    assert_eq!(figures.frame_bytes, Some(10_000));
}

#[test]
fn a_verdict_comes_at_most_once_a_second_and_advice_changes_rarely() {
    let rig = Encoder::default().run(60);
    assert!(
        (58..=61).contains(&rig.verdicts.len()),
        "{}",
        rig.verdicts.len()
    );
    assert!(rig.verdicts[0].0 <= 400);
    for pair in rig.verdicts.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 1_000);
    }
    assert_eq!(rig.changes, 0);
}

/// What encoders do wrong, each with the code of its item.
fn faults() -> [(&'static str, Encoder); 9] {
    [
        (
            "keyframe_interval",
            Encoder {
                gop: |index| index % 208 == 0,
                ..Encoder::default()
            },
        ),
        (
            "keyframe_interval_uneven",
            Encoder {
                gop: |index| index % 50 == 0 || index % 50 == 10,
                ..Encoder::default()
            },
        ),
        (
            "keyframe_size",
            Encoder {
                key_bytes: 400_000,
                ..Encoder::default()
            },
        ),
        (
            "frame_rate_uneven",
            Encoder {
                off_ms: |index| (index % 2) * 30,
                ..Encoder::default()
            },
        ),
        (
            "bitrate_high",
            Encoder {
                bytes: 60_000,
                key_bytes: 90_000,
                ..Encoder::default()
            },
        ),
        (
            "bitrate_low",
            Encoder {
                bytes: 1_000,
                key_bytes: 10_000,
                ..Encoder::default()
            },
        ),
        (
            "arrival_uneven",
            Encoder {
                delay_ms: |index| u64::from(40 * (20 - index % 21)),
                ..Encoder::default()
            },
        ),
        (
            "av_offset",
            Encoder {
                audio_delay_ms: 800,
                ..Encoder::default()
            },
        ),
        (
            "clock",
            Encoder {
                off_ms: |index| index * 40 / 2_500,
                ..Encoder::default()
            },
        ),
    ]
}

/// Each fault leads to its item, and to no other.
#[test]
fn each_fault_of_an_encoder_has_its_item() {
    for (expected, encoder) in faults() {
        let seconds = if expected == "clock" { 900 } else { 40 };
        let rig = encoder.run(seconds);
        assert_eq!(rig.codes(), [expected]);
    }
}

#[test]
fn what_stands_is_said_while_it_does_and_the_gravest_first() {
    let mut rig = Encoder::default().run(6);
    rig.judge.audio_sample_rate = Some(44_100);
    let warnings = [IngestWarning::Reordering];
    let lines = rig.judge.advise(&warnings);
    assert_eq!(lines, [IngestWarning::Reordering.to_string()]);
    let happened = IngestOutput::Warning(IngestWarning::TimestampJump);
    rig.judge.watch(&happened);
    rig.frame(10_000, 10_000, false, 10_000);
    assert_eq!(rig.codes(), ["b_frames", "timestamp_jump", "audio_rate"]);
    assert!(rig.last().items[0].logged && !rig.last().items[2].logged);
    assert_eq!(rig.judge.advise(&[]), [""; 0]);
    rig.frame(11_000, 11_000, false, 10_000);
    assert_eq!(rig.codes(), ["timestamp_jump", "audio_rate"]);
}

#[test]
fn settings_are_told_apart_from_what_was_found() {
    let item = findings::of_warning(&IngestWarning::KeyframeInterval);
    assert!(!item.text.contains("OBS") && !item.text.contains("ffmpeg"));
    assert!(item.obs.contains("Keyframe Interval"), "{}", item.obs);
    assert!(item.ffmpeg.contains("-g"), "{}", item.ffmpeg);
    let line = item.to_string();
    assert_eq!(line, IngestWarning::KeyframeInterval.to_string());
}

#[test]
fn ingest_gives_verdicts_and_their_advice() {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let start = Instant::now();
    let mut ingest = Ingest::new(Timebase::new(start, Duration::ZERO), Epoch(1));
    let mut verdicts = 0;
    let mut advice = Vec::new();
    let config = Bytes::from_static(&[0xaf, 0, 0x11, 0x90]);
    ingest.handle_audio(0, config, start);
    for index in 0..3_000_u32 {
        let now = start + Duration::from_micros(u64::from(index) * 21_333);
        // The network holds things up for a second, again and again.
        let late = u64::from(47 - index % 48) * 21_333;
        let unit = Bytes::from_static(&[0xaf, 1, 0x21, 0x22]);
        ingest.handle_audio(index * 21, unit, now + Duration::from_micros(late));
        while let Some(output) = ingest.poll_output() {
            match output {
                IngestOutput::Verdict(_) => verdicts += 1,
                IngestOutput::Info(info) => advice = info.advice,
                IngestOutput::Video(_)
                | IngestOutput::VideoConfig(_)
                | IngestOutput::Coded(_)
                | IngestOutput::AudioConfig(_)
                | IngestOutput::Audio(_)
                | IngestOutput::Warning(_) => {}
            }
        }
    }
    assert!((50..=65).contains(&verdicts), "{verdicts}");
    assert!(
        advice.iter().any(|line| line.contains("arrive unevenly")),
        "{advice:?}"
    );
}
