//! From one sample rate to 48 kHz where the two have a small ratio, as all usual rates have: a
//! windowed sinc that is known beforehand for every place that a new sample can have between two
//! old ones, so that nothing is interpolated between sincs.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType,
    WindowFunction,
};

use super::CHANNELS;
use crate::media::time::AUDIO_CLOCK_RATE;

/// Points of the sinc from [`MANY_BELOW`] on: what is up to 19 kHz passes, and what would be
/// mirrored to below 20 kHz, the highest that Opus carries, is at -75 dB.
const POINTS: usize = 64;
/// Points for lower rates, whose mirror images could be heard.
const POINTS_MANY: usize = 128;
const MANY_BELOW: u32 = 44_100;
/// Narrow for its attenuation of 75 dB.
const WINDOW: WindowFunction = WindowFunction::Blackman;
/// Where the band ends, as a part of the lower rate's half. At its very end for those whose mirror
/// images lie above 20 kHz; else a little before.
const CUTOFF: f32 = 1.0;
const CUTOFF_LOW: f32 = 0.96;
/// Most places between two samples: 11.025 kHz has 640.
const PLACES_MAX: u32 = 640;
/// Room for what a chunk can become longer by, in samples per channel.
const CHUNK_MARGIN_SAMPLES: usize = 64;

/// A converter of two channels.
pub(super) struct Exact {
    sinc: Box<Async<f32>>,
    /// Samples, per channel, that a new converter gives before the first one that was put in.
    delay: usize,
    /// How many of these are still to be left out.
    lead: usize,
    chunk: Vec<f32>,
}

impl Exact {
    /// Makes a converter from `rate` hertz for at most `samples` (per channel) at once; `None` if
    /// the ratio is not a small one.
    pub(super) fn new(rate: u32, samples: usize) -> Option<Self> {
        let places = AUDIO_CLOCK_RATE.checked_div(gcd(rate, AUDIO_CLOCK_RATE))?;
        if places > PLACES_MAX {
            return None;
        }
        let (points, cutoff) = match rate < MANY_BELOW {
            true => (POINTS_MANY, CUTOFF_LOW),
            false => (POINTS, CUTOFF),
        };
        let parameters = SincInterpolationParameters::new(points, WINDOW)
            .f_cutoff(cutoff)
            .oversampling_factor(usize::try_from(places).ok()?)
            .interpolation(SincInterpolationType::Nearest);
        let ratio = f64::from(AUDIO_CLOCK_RATE) / f64::from(rate);
        let fixed = FixedAsync::Input;
        let sinc = Async::new_sinc(ratio, 1.0, &parameters, samples, CHANNELS, fixed).ok()?;
        let delay = sinc.output_delay();
        let room = sinc.output_frames_max() + CHUNK_MARGIN_SAMPLES;
        Some(Self {
            sinc: Box::new(sinc),
            delay,
            lead: delay,
            chunk: vec![0.0; room * CHANNELS],
        })
    }

    /// Forgets all samples.
    pub(super) fn reset(&mut self) {
        self.sinc.reset();
        self.lead = self.delay;
    }

    /// Converts interleaved samples; what is made of them.
    pub(super) fn convert(&mut self, pcm: &[f32]) -> &[f32] {
        let made = self.run(pcm).unwrap_or_default();
        let skip = self.lead.min(made);
        self.lead -= skip;
        let made = self.chunk.get(skip * CHANNELS..made * CHANNELS);
        made.unwrap_or_default()
    }

    fn run(&mut self, pcm: &[f32]) -> Option<usize> {
        let samples = pcm.len() / CHANNELS;
        self.sinc.as_resizable()?.set_chunk_size(samples).ok()?;
        let room = self.chunk.len() / CHANNELS;
        let input = InterleavedSlice::new(pcm, CHANNELS, samples).ok()?;
        let mut output = InterleavedSlice::new_mut(&mut self.chunk, CHANNELS, room).ok()?;
        let (_, made) = self
            .sinc
            .process_into_buffer(&input, &mut output, None)
            .ok()?;
        Some(made)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    match a.checked_rem(b) {
        None => a,
        Some(rest) => gcd(b, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_rates_have_a_small_ratio_and_odd_ones_not() {
        for rate in [
            8_000, 11_025, 22_050, 32_000, 44_100, 64_000, 88_200, 96_000,
        ] {
            assert!(Exact::new(rate, 1_024).is_some(), "{rate}");
        }
        assert!(Exact::new(44_101, 1_024).is_none());
        assert!(Exact::new(5_512, 1_024).is_none());
    }
}
