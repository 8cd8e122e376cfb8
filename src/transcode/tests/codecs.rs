//! Every codec, from samples that `tools/audio_samples` made: a tone of 440 Hz at the left and
//! 1,000 Hz at the right (mono: 440 Hz), and with more channels 250 Hz in the centre, all at
//! -20 dBFS.

use super::*;
use crate::media::flv::file::{TagKind, tags};
use crate::transcode::decoder::{Decoded, Decoder};

/// A sample's configuration and packets.
struct Sample {
    config: AudioConfig,
    packets: Vec<(MediaTime, Bytes)>,
}

impl Sample {
    /// Reads an FLV file: legacy tags (annex E.4.2.1) and Enhanced RTMP's.
    fn flv(file: &'static [u8]) -> Self {
        let mut config = None;
        let mut packets = Vec::new();
        for tag in tags(Bytes::from_static(file)).unwrap() {
            // At its end ffmpeg sends an empty one.
            let empty = tag.payload.len() < 2 || tag.payload[0] >> 4 == 9 && tag.payload.len() < 6;
            if tag.kind != TagKind::Audio || empty {
                continue;
            }
            let body = &tag.payload;
            let first = body[0];
            let pts = SECOND.plus(MediaTime::from_millis(i64::from(tag.timestamp_ms)));
            let mut packet = |from: usize| packets.push((pts, body.slice(from..)));
            let channels = (first & 1) + 1;
            let rate = 44_100 >> (3 - (first >> 2 & 3));
            let bits = if first & 2 == 0 { 8 } else { 16 };
            match (first >> 4, first & 0x0f) {
                (9, kind) => {
                    let rest = body.slice(5..);
                    let known = match &body[1..5] {
                        b"Opus" => AudioConfig::Opus(Some(rest)),
                        b"fLaC" => AudioConfig::Flac(rest),
                        b"ac-3" => AudioConfig::Ac3,
                        b"ec-3" => AudioConfig::Eac3,
                        b"mp4a" => AudioConfig::Aac(rest),
                        other => panic!("{other:?}"),
                    };
                    match kind {
                        0 => config = Some(known),
                        1 => {
                            config.get_or_insert(known);
                            packet(5);
                        }
                        _ => {}
                    }
                    continue;
                }
                (10, _) if body[1] == 0 => {
                    config = Some(AudioConfig::Aac(body.slice(2..)));
                    continue;
                }
                (10, _) => {
                    packet(2);
                    continue;
                }
                (3, _) => {
                    config = Some(AudioConfig::Pcm {
                        rate,
                        channels,
                        bits,
                    })
                }
                (7, _) => config = Some(AudioConfig::ALaw { channels }),
                (8, _) => config = Some(AudioConfig::MuLaw { channels }),
                (11, _) => config = Some(AudioConfig::Speex),
                (6, _) => config = Some(AudioConfig::Nellymoser { rate }),
                (other, _) => panic!("format {other}"),
            }
            packet(1);
        }
        Self {
            config: config.unwrap(),
            packets,
        }
    }

    /// Cuts an MP3 file into packets of so many bytes, whatever its frames are.
    fn mp3(file: &'static [u8], bytes: usize) -> Self {
        let whole = Bytes::from_static(file);
        let mut packets = Vec::new();
        let (mut from, mut samples) = (0, 0_u64);
        let (rate, frames) = mp3_frames(&whole);
        while from < whole.len() {
            let end = (from + bytes).min(whole.len());
            // A packet's time is that of the first frame that begins in it.
            let begins = frames.iter().find(|(at, _)| *at >= from);
            samples = begins.map_or(samples, |(_, samples)| *samples);
            let millis = (samples as f64 * 1_000.0 / f64::from(rate)).round() as i64;
            let pts = SECOND.plus(MediaTime::from_millis(millis));
            packets.push((pts, whole.slice(from..end)));
            from = end;
        }
        Self {
            config: AudioConfig::Mp3,
            packets,
        }
    }

    /// One packet for each frame.
    fn mp3_by_frames(file: &'static [u8]) -> Self {
        let whole = Bytes::from_static(file);
        let (rate, frames) = mp3_frames(&whole);
        let ends = frames.iter().skip(1).map(|(at, _)| *at);
        let packets = frames.iter().zip(ends.chain([whole.len()]));
        let packets = packets.map(|((from, samples), end)| {
            let millis = (*samples as f64 * 1_000.0 / f64::from(rate)).round() as i64;
            let pts = SECOND.plus(MediaTime::from_millis(millis));
            (pts, whole.slice(*from..end))
        });
        Self {
            config: AudioConfig::Mp3,
            packets: packets.collect(),
        }
    }

    fn transcode(&self) -> (Vec<OpusPacket>, crate::transcode::TranscodeStats) {
        let mut transcoder = AudioTranscoder::new(AudioSettings::default()).unwrap();
        transcoder.configure(&self.config).unwrap();
        let mut packets = Vec::new();
        for (pts, packet) in &self.packets {
            transcoder.push(packet, *pts, &mut |packet| packets.push(packet));
        }
        (packets, transcoder.stats())
    }

    /// What the decoder gives, before anything else touches it: rate and interleaved samples.
    fn decode(&self) -> (u32, Vec<f32>) {
        let mut decoder = Decoder::new(&self.config).unwrap();
        let (mut all, mut pcm, mut rate) = (Vec::new(), Vec::new(), 0);
        for (_, packet) in &self.packets {
            if let Decoded::Clean(format) | Decoded::Concealed(format) =
                decoder.decode(packet, &mut pcm)
            {
                rate = format.rate;
                all.extend_from_slice(&pcm);
            }
        }
        (rate, all)
    }
}

/// The rate of a file of layer III, and where each frame begins: byte and sample. By the bits of
/// the first header, since all frames are alike but for padding.
fn mp3_frames(file: &[u8]) -> (u32, Vec<(usize, u64)>) {
    let (sync, rest) = (file[1], file[2]);
    let (divisor, samples) = match sync >> 3 & 3 {
        3 => (1, 1_152),
        2 => (2, 576),
        _ => (4, 576),
    };
    let rate = [44_100, 48_000, 32_000][usize::from(rest >> 2 & 3)] / divisor;
    let mut frames = Vec::new();
    let mut count = 0;
    for at in 0..file.len().saturating_sub(3) {
        let header = &file[at..at + 3];
        if header[0] == 0xff && header[1] == sync && header[2] & 0xfc == rest & 0xfc {
            let far = frames.last().is_none_or(|(last, _)| at - last > 40);
            if far {
                frames.push((at, count));
                count += samples;
            }
        }
    }
    (rate, frames)
}

macro_rules! sample {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/audio/",
            $name
        ))
        .as_slice()
    };
}

mod surround;

fn flv_samples() -> [(&'static str, &'static [u8], Layout); 9] {
    use Layout::{Film, Mono, Stereo};
    [
        ("flac", sample!("flac.flv"), Stereo),
        ("opus", sample!("opus.flv"), Stereo),
        ("opus 5.1", sample!("opus-5.1.flv"), Film),
        ("aac 5.1", sample!("aac-5.1.flv"), Film),
        ("aac 7.1", sample!("aac-7.1.flv"), Film),
        ("A-law", sample!("alaw.flv"), Mono),
        ("µ-law", sample!("mulaw.flv"), Mono),
        ("pcm", sample!("pcm.flv"), Stereo),
        ("mp3", sample!("mp3-44100.mp3"), Stereo),
    ]
}

fn mp3_samples() -> [(&'static str, &'static [u8], Layout); 9] {
    use Layout::{Mono, Stereo};
    [
        ("mp3 48,000", sample!("mp3-48000.mp3"), Stereo),
        ("mp3 44,100", sample!("mp3-44100.mp3"), Stereo),
        ("mp3 32,000", sample!("mp3-32000.mp3"), Stereo),
        ("mp3 24,000", sample!("mp3-24000.mp3"), Mono),
        ("mp3 22,050", sample!("mp3-22050.mp3"), Mono),
        ("mp3 16,000", sample!("mp3-16000.mp3"), Mono),
        ("mp3 12,000", sample!("mp3-12000.mp3"), Mono),
        ("mp3 11,025", sample!("mp3-11025.mp3"), Mono),
        ("mp3 8,000", sample!("mp3-8000.mp3"), Mono),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Mono,
    Stereo,
    Film,
}

impl Layout {
    /// What is to be heard at a side: hertz, and level against -20 dBFS in dB.
    fn tones(self, side: usize) -> Vec<(f64, f64)> {
        let own = [440.0, 1_000.0][side];
        match self {
            Self::Mono => vec![(440.0, 0.0)],
            Self::Stereo => vec![(own, 0.0)],
            Self::Film => vec![(own, 0.0), (250.0, -3.01)],
        }
    }
}

/// The tones' levels against -20 dBFS, and the level of all else against the first tone's, in dB.
fn measure(samples: &[f32], rate: u32, tones: &[f64]) -> (Vec<f64>, f64) {
    let wave = |hertz: f64, index: usize| (TAU * hertz / f64::from(rate) * index as f64).sin_cos();
    // Whole periods of every tone: 10 ms are 2.5 periods of 250 Hz, 20 ms five.
    let length = samples.len() / (rate as usize / 50) * (rate as usize / 50);
    let samples = &samples[..length];
    let mut rest: Vec<f64> = samples.iter().map(|sample| f64::from(*sample)).collect();
    let mut levels = Vec::new();
    for hertz in tones {
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (index, sample) in samples.iter().enumerate() {
            let (sin, cos) = wave(*hertz, index);
            sine += f64::from(*sample) * sin * 2.0 / length as f64;
            cosine += f64::from(*sample) * cos * 2.0 / length as f64;
        }
        for (index, sample) in rest.iter_mut().enumerate() {
            let (sin, cos) = wave(*hertz, index);
            *sample -= sine * sin + cosine * cos;
        }
        levels.push(20.0 * (sine.hypot(cosine) / AMPLITUDE).log10());
    }
    let power = rest.iter().map(|sample| sample * sample).sum::<f64>() / length as f64;
    (
        levels,
        10.0 * (power / (AMPLITUDE * AMPLITUDE / 2.0)).log10(),
    )
}

fn assert_heard(name: &str, heard: &Heard, layout: Layout) {
    for side in 0..2 {
        let wanted = layout.tones(side);
        let hertz: Vec<f64> = wanted.iter().map(|(hertz, _)| *hertz).collect();
        let span = heard.side(side, 0.3..0.7);
        let (levels, rest) = measure(span, 48_000, &hertz);
        for ((hertz, wanted), level) in wanted.iter().zip(levels) {
            assert!(
                (level - wanted).abs() < 0.5,
                "{name}, side {side}, {hertz} Hz: {level} dB instead of {wanted}"
            );
        }
        assert!(
            rest < -22.0,
            "{name}, side {side}: {rest} dB of something else"
        );
        let natural: f64 = wanted
            .iter()
            .map(|(hertz, _)| AMPLITUDE * (TAU * hertz / 48_000.0).powi(2))
            .sum();
        let bend = largest_bend(span);
        assert!(
            bend < 4.0 * natural + 0.001,
            "{name}: a click, {bend} {natural}"
        );
    }
}

/// Judges what the decoder gives.
fn assert_decoded(name: &str, sample: &Sample, layout: Layout, rest_max: f64) {
    let (rate, pcm) = sample.decode();
    let span = |from: f64| (from * f64::from(rate)) as usize * 2;
    for side in 0..2 {
        let tones: Vec<f64> = layout.tones(side).iter().map(|(hertz, _)| *hertz).collect();
        let samples: Vec<f32> = pcm[span(0.3) + side..span(0.7)]
            .iter()
            .step_by(2)
            .copied()
            .collect();
        let (_, rest) = measure(&samples, rate, &tones);
        assert!(
            rest < rest_max,
            "{name}, side {side}: {rest} dB of something else"
        );
    }
}

#[test]
fn every_codec_is_decoded_purely() {
    for (name, file, layout) in flv_samples().into_iter().chain(mp3_samples()) {
        let sample = match name.starts_with("mp3") {
            true => Sample::mp3_by_frames(file),
            false => Sample::flv(file),
        };
        let rest_max = match name {
            // 16 bits at -20 dBFS.
            "flac" | "pcm" => -60.0,
            "A-law" | "µ-law" => -35.0,
            // The library's own decoder, not what ffmpeg makes of it.
            "opus 5.1" => -30.0,
            _ => -40.0,
        };
        assert_decoded(name, &sample, layout, rest_max);
    }
}

#[test]
fn every_codec_keeps_level_and_tone_and_does_not_click() {
    for (name, file, layout) in flv_samples() {
        let sample = match name {
            "mp3" => Sample::mp3_by_frames(file),
            _ => Sample::flv(file),
        };
        let (packets, stats) = sample.transcode();
        assert_contiguous(&packets);
        assert_eq!(
            stats.decoded,
            sample.packets.len() as u64,
            "{name}: {stats:?}"
        );
        assert_heard(name, &Heard::of(&packets), layout);
    }
}

#[test]
fn every_mp3_rate_keeps_level_and_tone() {
    for (name, file, layout) in mp3_samples() {
        let sample = Sample::mp3_by_frames(file);
        let (packets, stats) = sample.transcode();
        assert_contiguous(&packets);
        assert_eq!(
            stats.jumps + stats.gaps + stats.overlaps,
            0,
            "{name}: {stats:?}"
        );
        assert_heard(name, &Heard::of(&packets), layout);
    }
}

#[test]
fn mp3_frames_may_be_split_and_merged_over_packets() {
    for (name, file, layout) in mp3_samples() {
        let (_, by_frames) = Sample::mp3_by_frames(file).decode();
        for bytes in [100, 417, 1_500] {
            let sample = Sample::mp3(file, bytes);
            let (_, cut) = sample.decode();
            assert_eq!(cut, by_frames, "{name}, {bytes} bytes");
            let (packets, stats) = sample.transcode();
            assert_eq!(
                stats.jumps + stats.gaps + stats.overlaps,
                0,
                "{name}: {stats:?}"
            );
            assert_heard(name, &Heard::of(&packets), layout);
        }
    }
}

#[test]
fn lossless_sound_is_exact() {
    for (name, file) in [("flac", sample!("flac.flv")), ("pcm", sample!("pcm.flv"))] {
        let (rate, pcm) = Sample::flv(file).decode();
        for (index, frame) in pcm.chunks_exact(2).enumerate() {
            let time = index as f64 / f64::from(rate);
            for (sample, hertz) in frame.iter().zip([440.0, 1_000.0]) {
                let wanted = AMPLITUDE * (TAU * hertz * time).sin();
                let off = (f64::from(*sample) - wanted).abs();
                assert!(off < 2.0 / 32_768.0, "{name} at {index}: {off}");
            }
        }
    }
}

#[test]
fn opus_that_browsers_take_passes_untouched() {
    let sample = Sample::flv(sample!("opus.flv"));
    let (packets, stats) = sample.transcode();
    assert_eq!(packets.len(), sample.packets.len());
    assert_eq!(stats.packets, packets.len() as u64);
    for (passed, (pts, published)) in packets.iter().zip(&sample.packets) {
        assert_eq!(passed.data, published);
        // The first of them lasts 13.5 ms by its timestamp, without the encoder's priming.
        assert!(apart(passed.pts, *pts) < 8_000);
    }
}

#[test]
fn broken_packets_of_any_codec_are_concealed_without_a_click() {
    for (name, file, layout) in flv_samples() {
        // Samples cannot be broken, and Opus that passes is the browser's to conceal.
        if ["A-law", "µ-law", "pcm", "opus"].contains(&name) {
            continue;
        }
        let mut sample = match name {
            "mp3" => Sample::mp3_by_frames(file),
            _ => Sample::flv(file),
        };
        let at = sample.packets.len() / 4;
        sample.packets[at].1 = Bytes::from_static(&[0x5a; 90]);
        let (packets, stats) = sample.transcode();
        assert_contiguous(&packets);
        assert!(stats.concealed + stats.ignored <= 2, "{name}: {stats:?}");
        let heard = Heard::of(&packets);
        let bend = largest_bend(heard.side(0, 0.1..0.7));
        assert!(bend < 0.02, "{name}: a click, {bend}");
        assert_heard(name, &heard, layout);
    }
}

#[test]
fn codec_change_keeps_the_timeline() {
    let names = ["flac.flv", "opus.flv", "mp3", "aac", "pcm.flv"];
    let samples = [
        Sample::flv(sample!("flac.flv")),
        Sample::flv(sample!("opus.flv")),
        Sample::mp3_by_frames(sample!("mp3-44100.mp3")),
        Sample::flv(sample!("aac-5.1.flv")),
        Sample::flv(sample!("pcm.flv")),
    ];
    let mut transcoder = AudioTranscoder::new(AudioSettings::default()).unwrap();
    let mut packets = Vec::new();
    let mut offset = MediaTime::ZERO;
    for (name, sample) in names.iter().zip(&samples) {
        transcoder.configure(&sample.config).unwrap();
        let before = packets.len();
        for (pts, packet) in &sample.packets {
            transcoder.push(packet, pts.plus(offset), &mut |packet| packets.push(packet));
        }
        assert!(packets.len() > before + 30, "{name}");
        offset = offset.plus(MediaTime::from_millis(800));
    }
    for pair in packets.windows(2) {
        let step = pair[1].pts.minus(pair[0].pts).as_micros();
        assert!((0..80_000).contains(&step), "{step} µs");
    }
    assert_eq!(transcoder.stats().jumps, 0);
}

#[test]
fn codecs_without_a_decoder_here_are_refused_by_name() {
    for config in [AudioConfig::Ac3, AudioConfig::Speex] {
        let mut transcoder = AudioTranscoder::new(AudioSettings::default()).unwrap();
        let error = transcoder.configure(&config).unwrap_err();
        assert!(error.to_string().contains("install ffmpeg"), "{error}");
    }
}

/// For comparing with another decoder: writes what each sample decodes to into the folder that
/// `AUDIO_ORACLE` names, as 32-bit floating point; with `AUDIO_STREAMS`, that of the FLV files in
/// that folder.
#[test]
#[ignore = "a tool: tools/audio_oracle runs it"]
fn decoded_samples_are_written() {
    let Some(folder) = std::env::var_os("AUDIO_ORACLE") else {
        return;
    };
    let write = |name: &str, sample: &Sample| {
        let (rate, pcm) = sample.decode();
        let bytes: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let file = format!("{} {rate}.f32", name.replace(',', ""));
        std::fs::write(std::path::Path::new(&folder).join(file), bytes).unwrap();
    };
    if let Some(streams) = std::env::var_os("AUDIO_STREAMS") {
        for entry in std::fs::read_dir(streams).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let file = std::fs::read(&path).unwrap().leak();
            let sample = Sample::flv(file);
            match Decoder::new(&sample.config) {
                Ok(_) => write(name, &sample),
                Err(error) => println!("{name}: {error}"),
            }
        }
        return;
    }
    for (name, file, _) in flv_samples().into_iter().chain(mp3_samples()) {
        let sample = match name.starts_with("mp3") {
            true => Sample::mp3_by_frames(file),
            false => Sample::flv(file),
        };
        write(name, &sample);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic_in_any_decoder(
        which in 0..9_usize,
        acts in proptest::collection::vec((0..30_usize, any::<u8>(), any::<u16>()), 1..40)
    ) {
        let (name, file, _) = flv_samples()[which];
        let sample = match name {
            "mp3" => Sample::mp3_by_frames(file),
            _ => Sample::flv(file),
        };
        let mut transcoder = AudioTranscoder::new(AudioSettings {
            complexity: 0,
            ..AudioSettings::default()
        })
        .unwrap();
        transcoder.configure(&sample.config).unwrap();
        for (index, value, place) in acts {
            let (pts, packet) = &sample.packets[index % sample.packets.len()];
            let mut bytes = packet.to_vec();
            let at = usize::from(place) % bytes.len();
            bytes[at] ^= value;
            bytes.truncate(if value & 1 == 0 { bytes.len() } else { at + 1 });
            transcoder.push(&bytes, *pts, &mut |_| {});
        }
        let stats = transcoder.stats();
        prop_assert_eq!(stats.decoded + stats.concealed + stats.ignored, stats.units);
    }
}
