//! Any AAC sample rate to 48 kHz, without a break from frame to frame, and the fine adjustment of
//! the rate that keeps the sound on the publisher's clock.
//!
//! Usual rates go through a fixed filter; 48 kHz goes through untouched. While there is drift,
//! single samples are slipped in or out, cross-faded. Odd rates go through a windowed sinc whose
//! ratio is trimmed, which takes twice as long.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, SincInterpolationParameters, SincInterpolationType, Slip, WindowFunction,
};

use super::exact::Exact;
use super::{CHANNELS, TranscodeError};
use crate::media::time::AUDIO_CLOCK_RATE;

/// Points of the sinc. With [`WINDOW`], 44.1 kHz is flat to 19 kHz (-1.7 dB at 20 kHz), what
/// lies above is at -100 dB, and the delay is 1.4 ms. Twice as many gain 0.5 kHz for 1.4 ms more.
const SINC_POINTS: usize = 128;
/// Sincs between two samples. Linear interpolation between them stays below -100 dB.
const SINC_OVERSAMPLING: usize = 256;
const WINDOW: WindowFunction = WindowFunction::Blackman2;

/// Samples, per channel, that go through at once: an HE-AAC frame.
const CHUNK_SAMPLES: usize = 2_048;
/// Fewest samples, per channel, that single samples can be slipped into.
const SLIP_SAMPLES_MIN: usize = 4;
/// Room for what a chunk can become longer by, in samples per channel.
const CHUNK_MARGIN_SAMPLES: usize = 64;

/// Largest trim of the ratio: ±0.3 %, or 5 cents, which is heard as no change of pitch.
pub(super) const TRIM_MAX: f64 = 0.003;

/// A converter from one rate to 48 kHz.
pub(super) struct Resampler {
    rate: u32,
    kind: Kind,
    /// Samples, per channel, that a new converter gives before the first one that was put in.
    delay: usize,
    /// How many of these are still to be left out.
    lead: usize,
    /// Samples of 48 kHz, per channel, that were put in but have not come out.
    pending: f64,
    trim: f64,
    chunk: Vec<f32>,
    /// Before `kind`, which then is at 48 kHz.
    exact: Option<Exact>,
}

enum Kind {
    Slip(Slip<f32>),
    Sinc(Box<Async<f32>>),
}

impl Resampler {
    /// Makes a converter from `rate` hertz.
    ///
    /// # Errors
    /// If there is none for such a rate: [`TranscodeError::Config`].
    pub(super) fn new(rate: u32) -> Result<Self, TranscodeError> {
        let ratio = f64::from(AUDIO_CLOCK_RATE) / f64::from(rate);
        let exact = match rate {
            AUDIO_CLOCK_RATE => None,
            rate => Exact::new(rate, CHUNK_SAMPLES),
        };
        let kind = if rate == AUDIO_CLOCK_RATE || exact.is_some() {
            Slip::new(CHUNK_SAMPLES, CHANNELS, FixedAsync::Input).map(Kind::Slip)
        } else {
            let parameters = SincInterpolationParameters::new(SINC_POINTS, WINDOW)
                .oversampling_factor(SINC_OVERSAMPLING)
                .interpolation(SincInterpolationType::Linear);
            let fixed = FixedAsync::Input;
            let most = 1.0 + 2.0 * TRIM_MAX;
            Async::new_sinc(ratio, most, &parameters, CHUNK_SAMPLES, CHANNELS, fixed)
                .map(|sinc| Kind::Sinc(Box::new(sinc)))
        };
        let mut kind = kind.map_err(|error| TranscodeError::Config {
            codec: "sound",
            detail: error.to_string(),
        })?;
        let converter = kind.converter();
        let delay = converter.output_delay();
        let room = converter.output_frames_max() + CHUNK_MARGIN_SAMPLES;
        Ok(Self {
            rate,
            kind,
            delay,
            lead: delay,
            pending: 0.0,
            trim: 0.0,
            chunk: vec![0.0; room * CHANNELS],
            exact,
        })
    }

    /// The rate it converts from, in hertz.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Samples of 48 kHz, per channel, that were put in but have not come out.
    pub(super) fn pending(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most a few sinc lengths; a fraction below zero saturates"
        )]
        let pending = self.pending.round() as u64;
        pending
    }

    /// Makes the output longer by the part `trim` (shorter, if negative), from the next sample.
    pub(super) fn set_trim(&mut self, trim: f64) {
        self.trim = trim.clamp(-TRIM_MAX, TRIM_MAX);
    }

    /// Converts interleaved stereo samples and appends the result to `out`.
    pub(super) fn push(&mut self, pcm: &[f32], out: &mut Vec<f32>) {
        let Some(mut exact) = self.exact.take() else {
            self.push_chunks(pcm, out);
            return;
        };
        for chunk in pcm.chunks(CHUNK_SAMPLES * CHANNELS) {
            let converted = exact.convert(chunk);
            #[expect(clippy::cast_precision_loss, reason = "a chunk's samples")]
            let kept = (chunk.len() / CHANNELS) as f64 * f64::from(AUDIO_CLOCK_RATE)
                / f64::from(self.rate)
                - (converted.len() / CHANNELS) as f64;
            self.pending += kept;
            self.push_chunks(converted, out);
        }
        self.exact = Some(exact);
    }

    fn push_chunks(&mut self, pcm: &[f32], out: &mut Vec<f32>) {
        for chunk in pcm.chunks(CHUNK_SAMPLES * CHANNELS) {
            self.push_chunk(chunk, out);
        }
    }

    /// Appends what is pending to `out`, and is as new.
    pub(super) fn drain(&mut self, out: &mut Vec<f32>) {
        const SILENCE: [f32; SINC_POINTS * CHANNELS] = [0.0; SINC_POINTS * CHANNELS];
        let pending = usize::try_from(self.pending()).unwrap_or_default();
        let end = out.len() + pending * CHANNELS;
        // A converter that gives nothing is not asked for ever.
        for _ in 0..=pending {
            if out.len() >= end {
                break;
            }
            self.push(&SILENCE, out);
        }
        out.resize(end, 0.0);
        if let Some(exact) = &mut self.exact {
            exact.reset();
        }
        self.kind.converter().reset();
        self.lead = self.delay;
        self.pending = 0.0;
    }

    fn push_chunk(&mut self, pcm: &[f32], out: &mut Vec<f32>) {
        let samples = pcm.len() / CHANNELS;
        if matches!(self.kind, Kind::Slip(_)) && samples < SLIP_SAMPLES_MIN {
            out.extend_from_slice(pcm);
            return;
        }
        let (made, ratio) = self.convert(pcm, samples).unwrap_or_default();
        let skip = self.lead.min(made);
        self.lead -= skip;
        #[expect(clippy::cast_precision_loss, reason = "a chunk's samples")]
        let grown = samples as f64 * ratio - (made - skip) as f64;
        self.pending += grown;
        if let Some(new) = self.chunk.get(skip * CHANNELS..made * CHANNELS) {
            out.extend_from_slice(new);
        }
    }

    /// Converts a chunk into `self.chunk` and returns its samples per channel, and by how much
    /// it became longer.
    fn convert(&mut self, pcm: &[f32], samples: usize) -> Option<(usize, f64)> {
        let converter = self.kind.converter();
        converter.as_resizable()?.set_chunk_size(samples).ok()?;
        let adjustable = converter.as_adjustable()?;
        // A slipping converter clamps what is too much for a short chunk, and says so.
        let _clamped = adjustable.set_resample_ratio_relative(1.0 + self.trim, false);
        let ratio = converter.resample_ratio();
        let room = self.chunk.len() / CHANNELS;
        let input = InterleavedSlice::new(pcm, CHANNELS, samples).ok()?;
        let mut output = InterleavedSlice::new_mut(&mut self.chunk, CHANNELS, room).ok()?;
        let (_, made) = converter
            .process_into_buffer(&input, &mut output, None)
            .ok()?;
        Some((made, ratio))
    }
}

impl Kind {
    fn converter(&mut self) -> &mut dyn rubato::Resampler<f32> {
        match self {
            Self::Slip(slip) => slip,
            Self::Sinc(sinc) => sinc.as_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_possible_truncation, reason = "test signals")]

    use std::f64::consts::TAU;

    use super::*;

    /// AAC frames of a sine, and what comes of them.
    fn sine(rate: u32, hertz: f64, trim: f64) -> (Resampler, Vec<f32>) {
        let mut resampler = Resampler::new(rate).unwrap();
        resampler.set_trim(trim);
        let mut out = Vec::new();
        for frame in 0..150 {
            let pcm: Vec<_> = (frame * 1_024..(frame + 1) * 1_024)
                .flat_map(|index| {
                    let phase = TAU * hertz * f64::from(index) / f64::from(rate);
                    [phase.sin() as f32 * 0.5; CHANNELS]
                })
                .collect();
            resampler.push(&pcm, &mut out);
        }
        (resampler, out)
    }

    /// Level of the sine itself and of everything else, in dB of the sine that went in.
    fn levels(out: &[f32], hertz: f64) -> (f64, f64) {
        let samples: Vec<f64> = out
            .iter()
            .step_by(CHANNELS)
            .map(|s| f64::from(*s))
            .collect();
        let samples = &samples[4_800..4_800 + 48_000];
        let wave = |index: usize| (TAU * hertz / 48_000.0 * index as f64).sin_cos();
        let scale = 2.0 / samples.len() as f64;
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (index, sample) in samples.iter().enumerate() {
            let (sin, cos) = wave(index);
            sine += sample * sin * scale;
            cosine += sample * cos * scale;
        }
        let rest = samples.iter().enumerate().map(|(index, sample)| {
            let (sin, cos) = wave(index);
            (sample - sine * sin - cosine * cos).powi(2)
        });
        let power = 0.125;
        let level = sine.hypot(cosine) / 0.5;
        let rest = rest.sum::<f64>() / samples.len() as f64;
        (20.0 * level.log10(), 10.0 * (rest / power).log10())
    }

    #[test]
    fn sweep_from_44_100_hz_has_no_aliases() {
        // Opus carries 20 kHz.
        for step in 1..=40 {
            let hertz = f64::from(step) * 500.0;
            let (_, out) = sine(44_100, hertz, 0.0);
            let (level, rest) = levels(&out, hertz);
            assert!(rest < -75.0, "{hertz} Hz: {rest} dB");
            if hertz <= 19_000.0 {
                assert!(level.abs() < 0.1, "{hertz} Hz: {level} dB");
            }
        }
    }

    #[test]
    fn sweeps_from_low_rates_have_no_images() {
        for rate in [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000] {
            for step in 1..=9 {
                let hertz = f64::from(rate) * 0.05 * f64::from(step);
                let (_, out) = sine(rate, hertz, 0.0);
                let (level, rest) = levels(&out, hertz);
                assert!(rest < -70.0, "{rate} Hz, {hertz} Hz: {rest} dB");
                assert!(level.abs() < 0.1, "{rate} Hz, {hertz} Hz: {level} dB");
            }
        }
    }

    #[test]
    fn what_would_alias_into_hearing_is_filtered() {
        // 28 kHz would be heard at 20 kHz, the highest that Opus carries.
        for (rate, hertz) in [
            (96_000, 28_000.0),
            (96_000, 30_000.0),
            (96_000, 40_000.0),
            (88_200, 28_000.0),
            (64_000, 28_000.0),
        ] {
            let (_, out) = sine(rate, hertz, 0.0);
            let energy: f32 = out[9_600..].iter().map(|sample| sample * sample).sum();
            let level = 10.0 * (energy / (out.len() - 9_600) as f32 / 0.125).log10();
            assert!(level < -60.0, "{hertz} Hz: {level} dB");
        }
    }

    #[test]
    fn frames_at_48_000_hz_go_through_untouched() {
        let mut resampler = Resampler::new(48_000).unwrap();
        let pcm: Vec<_> = (0..2_048_u16)
            .map(|index| f32::from(index) / 4_096.0)
            .collect();
        let mut out = Vec::new();
        resampler.push(&pcm, &mut out);
        assert_eq!(out, pcm);
        assert_eq!(resampler.pending(), 0);
    }

    #[test]
    fn samples_are_counted_exactly_at_every_rate_and_trim() {
        for rate in [7_350, 8_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000] {
            for trim in [0.0, 0.001, -0.001] {
                let (mut resampler, mut out) = sine(rate, 500.0, trim);
                let wanted = 150.0 * 1_024.0 * 48_000.0 / f64::from(rate) * (1.0 + trim);
                let counted = (out.len() / CHANNELS) as u64 + resampler.pending();
                resampler.drain(&mut out);
                let drained = (out.len() / CHANNELS) as u64;
                assert!(
                    (drained as f64 - wanted).abs() <= 1.0 && drained == counted,
                    "{rate} Hz, trim {trim}: {drained} instead of {wanted}"
                );
                assert_eq!(resampler.pending(), 0);
            }
        }
    }

    #[test]
    fn first_sample_comes_first() {
        for rate in [8_000, 22_050, 44_100, 48_000, 96_000] {
            let mut resampler = Resampler::new(rate).unwrap();
            let mut pcm = vec![0.0; 1_024 * CHANNELS];
            // A smooth pulse of which each rate has the same: 4 ms, its top at 4 ms.
            for (index, frame) in pcm.chunks_exact_mut(CHANNELS).enumerate() {
                let phase = index as f64 / f64::from(rate) / 0.004 - 1.0;
                frame.fill((-8.0 * phase * phase).exp() as f32);
            }
            for _ in 0..2 {
                let mut out = Vec::new();
                resampler.push(&pcm, &mut out);
                resampler.drain(&mut out);
                let top = out
                    .iter()
                    .step_by(CHANNELS)
                    .enumerate()
                    .max_by(|one, other| one.1.total_cmp(other.1))
                    .unwrap();
                assert!(top.0.abs_diff(192) <= 2, "{rate} Hz: {top:?}");
            }
        }
    }

    #[test]
    fn trim_slips_samples_without_a_click() {
        for trim in [0.000_2, -0.000_2, 0.002, -0.002] {
            let (_, out) = sine(48_000, 1_000.0, trim);
            let samples: Vec<_> = out.iter().step_by(CHANNELS).collect();
            let bend = samples
                .windows(3)
                .map(|three| (three[0] - 2.0 * three[1] + three[2]).abs())
                .fold(0.0, f32::max);
            let natural = 0.5 * (TAU as f32 / 48.0).powi(2);
            assert!(
                bend < 1.1 * natural,
                "trim {trim}: {bend} instead of {natural}"
            );
        }
    }
}
