//! Whole streams: AAC made by an encoder, Opus judged after a decoder.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "signals and times of a few seconds"
)]

mod codecs;
mod faults;
mod time;

use std::f64::consts::TAU;
use std::ops::Range;

use fdk_aac::enc;
use proptest::prelude::*;

use bytes::Bytes;

use super::{AudioSettings, AudioTranscoder, OpusPacket, TranscodeError};
use crate::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::codec::AudioConfig;
use crate::media::time::MediaTime;

const SECOND: MediaTime = MediaTime::from_millis(1_000);
/// What the tests' tone has, of full scale: its peaks are at -20 dBFS.
const AMPLITUDE: f64 = 0.1;
const TONE_HZ: f64 = 1_000.0;

// -- level and purity --

#[test]
fn tone_keeps_its_level_at_every_rate_on_both_sides() {
    for (rate, channels) in [
        (8_000, 1),
        (16_000, 1),
        (22_050, 2),
        (24_000, 2),
        (32_000, 1),
        (44_100, 1),
        (44_100, 2),
        (48_000, 1),
        (48_000, 2),
        (96_000, 2),
    ] {
        let heard = Heard::of(&Stream::tone(rate, channels, 2.0).transcode());
        for side in 0..2 {
            let level = level_db(heard.side(side, 1.0..1.8));
            let wanted = 20.0 * (AMPLITUDE / 2f64.sqrt()).log10();
            assert!(
                (level - wanted).abs() < 0.5,
                "{rate} Hz, {channels} channels, side {side}: {level} dB instead of {wanted}"
            );
        }
    }
}

/// Encoders of broadcasters say how loud a programme is, and decoders bring it to the level of a
/// television set: here it stays as published.
#[test]
fn what_a_stream_says_of_its_loudness_changes_nothing() {
    let plain = Stream::tone(48_000, 2, 1.0);
    let mut told = Stream::tone(48_000, 2, 1.0);
    for (_, unit) in &mut told.units {
        *unit = with_reference_level(unit);
    }
    let level = |stream: &Stream| level_db(Heard::of(&stream.transcode()).side(0, 0.4..0.9));
    let (plain, told) = (level(&plain), level(&told));
    assert!((plain - told).abs() < 0.1, "{plain} dB, then {told} dB");
}

/// The same access unit behind a fill element with dynamic range information: a reference level of
/// -10 dBFS and no compression (14496-3 tables 4.11, 4.57 and 4.58).
fn with_reference_level(unit: &[u8]) -> Vec<u8> {
    const FILL: u32 = 0b110;
    const BYTES: u32 = 3;
    const DYNAMIC_RANGE: u32 = 0b1011;
    // Of six flags before the level only "there is one" is set; behind it a reserved bit, and a gain
    // of 0 in one band.
    let element = FILL << 28 | BYTES << 24 | DYNAMIC_RANGE << 20 | 0b0001 << 16 | 40 << 9;
    let mut bits: Vec<bool> = (0..31).rev().map(|bit| element >> bit & 1 == 1).collect();
    bits.extend(
        unit.iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)),
    );
    let byte = |bits: &[bool]| {
        let place = |(index, &bit): (usize, &bool)| u8::from(bit) << (7 - index);
        bits.iter().enumerate().map(place).sum()
    };
    bits.chunks(8).map(byte).collect()
}

#[test]
fn he_aac_is_heard_at_its_output_rate() {
    let aac = Aac::encode_as(
        enc::AudioObjectType::Mpeg4HeAac,
        48_000,
        &tone(44_100, 2, 2.0),
        44_100,
        2,
    );
    let heard = Heard::of(&Stream::from_aac(aac).transcode());
    let level = level_db(heard.side(0, 1.0..1.8));
    assert!((level + 23.0).abs() < 0.7, "{level} dB");
}

#[test]
fn he_aac_that_is_not_announced_is_heard_at_its_rate_and_time() {
    use enc::AudioObjectType::{Mpeg4HeAac, Mpeg4HeAacV2};
    for (kind, bitrate, config) in [
        // AAC-LC, 22.05 kHz, stereo; the same, mono.
        (Mpeg4HeAac, 64_000, [0x13, 0x90]),
        (Mpeg4HeAacV2, 40_000, [0x13, 0x88]),
    ] {
        let mut coded = Aac::encode_as(kind, bitrate, &tone(44_100, 2, 2.0), 44_100, 2);
        coded.config = config.to_vec();
        let (packets, stats) = Stream::from_aac(coded).transcode_and_count();
        assert_contiguous(&packets);
        assert_eq!(
            (stats.gaps, stats.overlaps, stats.jumps),
            (0, 0, 0),
            "{kind:?}"
        );
        let level = level_db(Heard::of(&packets).side(1, 1.0..1.8));
        assert!((level + 23.0).abs() < 0.7, "{kind:?}: {level} dB");
        let clicks = clicks(44_100, 2, 3.0, &[1.5]);
        let mut coded = Aac::encode_as(kind, bitrate, &clicks, 44_100, 2);
        coded.config = config.to_vec();
        let times = [coded.time_of(1.5)];
        let heard = Heard::of(&Stream::from_aac(coded).transcode());
        heard.assert_clicks(&times, 2_500, &format!("{kind:?}"));
    }
}

#[test]
fn minute_of_a_tone_has_no_click() {
    for rate in [44_100, 48_000] {
        let heard = Heard::of(&Stream::tone(rate, 2, 60.0).transcode());
        let bend = largest_bend(heard.side(0, 0.5..59.5));
        // A sine's second difference; the rest is the codecs' noise.
        let natural = AMPLITUDE * (TAU * TONE_HZ / 48_000.0).powi(2);
        assert!(
            bend < 2.5 * natural,
            "{rate} Hz: {bend} instead of {natural}"
        );
    }
}

#[test]
fn click_is_heard_at_its_time() {
    use enc::AudioObjectType::{Mpeg4HeAac, Mpeg4HeAacV2, Mpeg4LowComplexity};
    for (kind, rate, bitrate) in [
        (Mpeg4LowComplexity, 48_000, 160_000),
        (Mpeg4LowComplexity, 44_100, 160_000),
        (Mpeg4LowComplexity, 96_000, 256_000),
        (Mpeg4LowComplexity, 22_050, 96_000),
        (Mpeg4LowComplexity, 8_000, 32_000),
        (Mpeg4HeAac, 44_100, 64_000),
        (Mpeg4HeAacV2, 48_000, 40_000),
    ] {
        let aac = Aac::encode_as(kind, bitrate, &clicks(rate, 2, 3.0, &[1.5]), rate, 2);
        let clicks = [aac.time_of(1.5)];
        let heard = Heard::of(&Stream::from_aac(aac).transcode());
        heard.assert_clicks(&clicks, 2_000, &format!("{kind:?} {rate} Hz"));
    }
}

#[test]
fn first_unit_gives_the_first_packet() {
    let stream = Stream::tone(48_000, 2, 0.5);
    let mut transcoder = stream.transcoder();
    let mut packets = 0;
    transcoder.push(&stream.units[0].1, SECOND, &mut |_| packets += 1);
    assert_eq!(packets, 1);
}

#[test]
fn packets_are_20_ms_stereo_and_fit_a_datagram() {
    let packets = Stream::tone(44_100, 1, 3.0).transcode();
    assert_contiguous(&packets);
    for packet in &packets {
        assert!(packet.data.len() <= RTP_PAYLOAD_BYTES_MAX);
        assert_eq!(
            opus::packet::get_nb_samples(&packet.data, 48_000).ok(),
            Some(960)
        );
        assert_eq!(
            opus::packet::get_nb_channels(&packet.data).ok(),
            Some(opus::Channels::Stereo)
        );
    }
    // RFC 6716 §3.1: the configurations from 16 on are CELT, the others speech.
    assert!(packets.iter().all(|packet| packet.data[0] >> 3 >= 16));
    let bytes: usize = packets.iter().map(|packet| packet.data.len()).sum();
    let bitrate = bytes * 8 * 50 / packets.len();
    assert!((64_000..160_000).contains(&bitrate), "{bitrate} bit/s");
}

// -- the kit: streams --

fn aac(config: &[u8]) -> AudioConfig {
    AudioConfig::Aac(Bytes::copy_from_slice(config))
}

/// AAC as an encoder makes it.
struct Aac {
    config: Vec<u8>,
    units: Vec<Vec<u8>>,
    rate: u32,
    /// Input samples of a unit, per channel.
    frame: usize,
    /// Input samples, per channel, by which the encoder's output is later.
    priming: u32,
}

impl Aac {
    fn encode(pcm: &[i16], rate: u32, channels: usize) -> Self {
        let bitrate = (u32::try_from(channels).unwrap() * rate * 2).min(160_000);
        let kind = enc::AudioObjectType::Mpeg4LowComplexity;
        Self::encode_as(kind, bitrate, pcm, rate, channels)
    }

    fn encode_as(
        audio_object_type: enc::AudioObjectType,
        bitrate: u32,
        pcm: &[i16],
        rate: u32,
        channels: usize,
    ) -> Self {
        let encoder = enc::Encoder::new(enc::EncoderParams {
            bit_rate: enc::BitRate::Cbr(bitrate),
            sample_rate: rate,
            transport: enc::Transport::Raw,
            channels: match channels {
                1 => enc::ChannelMode::Mono,
                _ => enc::ChannelMode::Stereo,
            },
            audio_object_type,
        })
        .unwrap();
        let info = encoder.info().unwrap();
        let frame = info.frameLength as usize;
        let mut buffer = vec![0; 8_192];
        let units = pcm.chunks_exact(frame * channels).filter_map(|chunk| {
            let made = encoder.encode(chunk, &mut buffer).unwrap();
            (made.output_size > 0).then(|| buffer[..made.output_size].to_vec())
        });
        Self {
            units: units.collect(),
            config: info.confBuf[..info.confSize as usize].to_vec(),
            rate,
            frame,
            priming: info.nDelayCore,
        }
    }

    /// When the input at `second` is heard, if the first unit is at [`SECOND`].
    fn time_of(&self, second: f64) -> MediaTime {
        SECOND.plus(seconds(
            second + f64::from(self.priming) / f64::from(self.rate),
        ))
    }

    /// The length of all units.
    fn end(&self) -> MediaTime {
        seconds((self.units.len() * self.frame) as f64 / f64::from(self.rate))
    }
}

/// Access units with the times that RTMP gives them: whole milliseconds.
struct Stream {
    config: Vec<u8>,
    units: Vec<(MediaTime, Vec<u8>)>,
}

impl Stream {
    fn tone(rate: u32, channels: usize, length: f64) -> Self {
        Self::from_aac(Aac::encode(&tone(rate, channels, length), rate, channels))
    }

    fn from_aac(aac: Aac) -> Self {
        let frame = aac.frame as f64 / f64::from(aac.rate);
        let units = aac.units.into_iter().enumerate().map(|(index, unit)| {
            let millis = (index as f64 * frame * 1_000.0).round() as i64;
            (SECOND.plus(MediaTime::from_millis(millis)), unit)
        });
        Self {
            config: aac.config,
            units: units.collect(),
        }
    }

    /// Takes out the units of a span, given in seconds from the first unit, and returns the span
    /// of time that is missing.
    fn lose(&mut self, span: Range<f64>) -> Range<f64> {
        let (start, end) = (self.first_after(span.start), self.first_after(span.end));
        self.units.retain(|(pts, _)| *pts < start || *pts >= end);
        as_seconds(start)..as_seconds(end)
    }

    fn first_after(&self, second: f64) -> MediaTime {
        let time = SECOND.plus(seconds(second));
        self.units.iter().find(|(pts, _)| *pts >= time).unwrap().0
    }

    fn shift_after(&mut self, second: f64, by: MediaTime) {
        let time = self.first_after(second);
        for (pts, _) in self.units.iter_mut().filter(|(pts, _)| *pts >= time) {
            *pts = pts.plus(by);
        }
    }

    fn transcoder(&self) -> AudioTranscoder {
        self.transcoder_with(AudioSettings::default())
    }

    fn transcoder_with(&self, settings: AudioSettings) -> AudioTranscoder {
        let mut transcoder = AudioTranscoder::new(settings).unwrap();
        transcoder.configure(&aac(&self.config)).unwrap();
        transcoder
    }

    fn transcode(&self) -> Vec<OpusPacket> {
        self.transcode_and_count().0
    }

    fn transcode_and_count(&self) -> (Vec<OpusPacket>, super::TranscodeStats) {
        let mut transcoder = self.transcoder();
        let mut packets = Vec::new();
        for (pts, unit) in &self.units {
            transcoder.push(unit, *pts, &mut |packet| packets.push(packet));
        }
        (packets, transcoder.stats())
    }
}

fn tone(rate: u32, channels: usize, length: f64) -> Vec<i16> {
    let samples = (f64::from(rate) * length) as usize;
    let value = |index: usize| {
        let phase = TAU * TONE_HZ * index as f64 / f64::from(rate);
        (AMPLITUDE * 32_768.0 * phase.sin()).round() as i16
    };
    (0..samples)
        .flat_map(|index| std::iter::repeat_n(value(index), channels))
        .collect()
}

/// Silence with clicks of 1 ms at the given seconds.
fn clicks(rate: u32, channels: usize, length: f64, at: &[f64]) -> Vec<i16> {
    let samples = (f64::from(rate) * length) as usize;
    let value = |index: usize| {
        let second = index as f64 / f64::from(rate);
        let loud = at.iter().any(|click| (second - click).abs() <= 0.0005);
        if loud { 20_000 } else { 0 }
    };
    (0..samples)
        .flat_map(|index| std::iter::repeat_n(value(index), channels))
        .collect()
}

// -- the kit: ears --

/// What a viewer hears: samples of 48 kHz, and when the first is heard.
struct Heard {
    start: MediaTime,
    sides: [Vec<f32>; 2],
}

impl Heard {
    /// Decodes packets that follow on one another.
    fn of(packets: &[OpusPacket]) -> Self {
        let mut decoder = opus::Decoder::new(48_000, opus::Channels::Stereo).unwrap();
        let mut sides = [Vec::new(), Vec::new()];
        let mut pcm = [0.0; 960 * 2];
        for packet in packets {
            let samples = decoder.decode_float(&packet.data, &mut pcm, false).unwrap();
            assert_eq!(samples, 960);
            for frame in pcm.chunks_exact(2) {
                sides[0].push(frame[0]);
                sides[1].push(frame[1]);
            }
        }
        let start = packets[0].pts;
        Self { start, sides }
    }

    /// Samples of a span, in seconds from the first.
    fn side(&self, side: usize, span: Range<f64>) -> &[f32] {
        let index = |second: f64| (second * 48_000.0) as usize;
        &self.sides[side][index(span.start)..index(span.end)]
    }

    /// When the first silence of more than 10 ms is, half a second after the start at the
    /// earliest, in seconds of media time.
    fn silence(&self) -> Range<f64> {
        let samples = &self.sides[0];
        let loud = |window: &[f32]| window.iter().any(|sample| sample.abs() > 0.003);
        let from = 24_000;
        let start = (from..samples.len() - 480)
            .find(|at| !loud(&samples[*at..at + 480]))
            .expect("there is silence");
        let length = samples[start..]
            .iter()
            .position(|sample| sample.abs() > 0.003)
            .unwrap();
        let second = |index: usize| as_seconds(self.start) + index as f64 / 48_000.0;
        second(start)..second(start + length)
    }

    /// Each of the clicks must be heard within `within_micros` of its time, and none elsewhere.
    fn assert_clicks(&self, times: &[MediaTime], within_micros: u64, what: &str) {
        let samples = &self.sides[0];
        let peak = samples
            .iter()
            .fold(0f32, |peak, sample| peak.max(sample.abs()));
        assert!(peak > 0.1, "{what}: no click at all");
        let near = |index: usize, time: MediaTime| apart(self.time(index), time) <= within_micros;
        let mut loudest = vec![0f32; times.len()];
        for (index, sample) in samples.iter().enumerate() {
            let place = times.iter().position(|time| near(index, *time));
            match place {
                Some(place) => loudest[place] = loudest[place].max(sample.abs()),
                None => assert!(
                    sample.abs() < 0.5 * peak,
                    "{what}: {sample} at {:?} instead of {times:?}",
                    self.time(index)
                ),
            }
        }
        assert!(
            loudest.iter().all(|loud| *loud > 0.5 * peak),
            "{what}: {loudest:?} at {times:?}"
        );
    }

    fn time(&self, index: usize) -> MediaTime {
        self.start.plus(seconds(index as f64 / 48_000.0))
    }
}

fn assert_contiguous(packets: &[OpusPacket]) {
    assert!(!packets.is_empty());
    for pair in packets.windows(2) {
        let step = pair[1].pts.minus(pair[0].pts);
        assert_eq!(step, MediaTime::from_millis(20));
    }
}

fn level_db(samples: &[f32]) -> f64 {
    let energy: f64 = samples
        .iter()
        .map(|sample| f64::from(*sample).powi(2))
        .sum();
    10.0 * (energy / samples.len() as f64).log10()
}

/// The largest second difference: a click has a large one.
fn largest_bend(samples: &[f32]) -> f64 {
    samples
        .windows(3)
        .map(|three| f64::from(three[0] - 2.0 * three[1] + three[2]).abs())
        .fold(0.0, f64::max)
}

fn seconds(seconds: f64) -> MediaTime {
    MediaTime::from_micros((seconds * 1_000_000.0).round() as i64)
}

fn as_seconds(time: MediaTime) -> f64 {
    time.as_micros() as f64 / 1_000_000.0
}

fn apart(one: MediaTime, other: MediaTime) -> u64 {
    one.minus(other).as_micros().unsigned_abs()
}
