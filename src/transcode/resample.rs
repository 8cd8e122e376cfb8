//! Any AAC sample rate to 48 kHz, without a break from frame to frame, and the fine adjustment of
//! the rate that keeps the sound on the publisher's clock.
//!
//! Other rates go through a windowed sinc, whose ratio is trimmed. 48 kHz goes through untouched,
//! but for single samples that are slipped in or out, cross-faded, while there is drift.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, SincInterpolationParameters, SincInterpolationType, Slip, WindowFunction,
};

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
        let kind = if rate == AUDIO_CLOCK_RATE {
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
            self.push_chunk(&SILENCE, out);
        }
        out.resize(end, 0.0);
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
