//! Any channel layout to stereo, by the coefficients of ITU-R BS.775-3 annex 4 (table 2), which
//! are also those of 14496-3 §4.5.1.2.2 but for their normalisation.
//!
//! The sum is not scaled down: films keep the loudness of their front channels. What would then
//! be beyond full scale is turned down by a limiter without look-ahead, for as long as needed.

use crate::transcode::CHANNELS;

/// Most channels of a codec here: 7.1.
pub(super) const CHANNELS_MAX: usize = 8;

/// 3 dB less.
const HALF_POWER: f32 = std::f32::consts::FRAC_1_SQRT_2;

/// Time in which the limiter lets go, in seconds: longer than a period of the lowest bass, so
/// that it does not follow the wave, and short enough that one peak does not mute what follows.
const RELEASE_SECONDS: f32 = 0.2;

/// What a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Front left.
    Left,
    /// Front right.
    Right,
    /// Front centre.
    Centre,
    /// Between centre and left.
    InnerLeft,
    /// Between centre and right.
    InnerRight,
    /// Beside or behind, left.
    SurroundLeft,
    /// Beside or behind, right.
    SurroundRight,
    /// Behind.
    BackCentre,
    /// Low-frequency effects, which a downmix leaves out (BS.775-3 annex 7), and what is not
    /// known.
    Silent,
}

impl Speaker {
    /// Its part in the left and in the right side.
    fn gains(self) -> [f32; CHANNELS] {
        match self {
            Self::Left => [1.0, 0.0],
            Self::Right => [0.0, 1.0],
            Self::Centre => [HALF_POWER, HALF_POWER],
            Self::InnerLeft | Self::SurroundLeft => [HALF_POWER, 0.0],
            Self::InnerRight | Self::SurroundRight => [0.0, HALF_POWER],
            // As much power as each of a pair has.
            Self::BackCentre => [0.5, 0.5],
            Self::Silent => [0.0, 0.0],
        }
    }
}

/// Mixes down, and limits what is too loud.
#[derive(Debug, Clone, Copy)]
pub(super) struct Downmix {
    /// What the sum is multiplied by now: 1 but after a peak.
    gain: f32,
}

impl Default for Downmix {
    fn default() -> Self {
        Self { gain: 1.0 }
    }
}

impl Downmix {
    /// Appends interleaved samples of `speakers` at `rate` hertz to `pcm` as stereo. One channel is
    /// heard on both sides, each at its full level; two are left and right.
    pub(super) fn mix(
        &mut self,
        speakers: &[Speaker],
        rate: u32,
        samples: impl ExactSizeIterator<Item = f32>,
        pcm: &mut Vec<f32>,
    ) {
        match speakers.len() {
            0 => {}
            1 => pcm.extend(samples.flat_map(|sample| [sample; CHANNELS])),
            CHANNELS => pcm.extend(samples),
            _ => self.mix_many(speakers, rate, samples, pcm),
        }
    }

    /// Turns stereo at `rate` hertz down where it is beyond full scale.
    pub(super) fn limit(&mut self, pcm: &mut [f32], rate: u32) {
        let release = release(rate);
        for frame in pcm.chunks_exact_mut(CHANNELS) {
            let peak = frame
                .iter()
                .fold(0_f32, |peak, sample| peak.max(sample.abs()));
            let gain = self.follow(peak, release);
            frame.iter_mut().for_each(|sample| *sample *= gain);
        }
    }

    fn mix_many(
        &mut self,
        speakers: &[Speaker],
        rate: u32,
        mut samples: impl ExactSizeIterator<Item = f32>,
        pcm: &mut Vec<f32>,
    ) {
        let mut gains = [[0.0; CHANNELS]; CHANNELS_MAX];
        for (gains, speaker) in gains.iter_mut().zip(speakers) {
            *gains = speaker.gains();
        }
        let gains = gains.get(..speakers.len()).unwrap_or(&gains);
        let from = pcm.len();
        for _ in 0..samples.len() / speakers.len() {
            let (mut left, mut right) = (0.0, 0.0);
            for ([to_left, to_right], sample) in gains.iter().zip(&mut samples) {
                left += to_left * sample;
                right += to_right * sample;
            }
            pcm.extend([left, right]);
        }
        self.limit(pcm.get_mut(from..).unwrap_or_default(), rate);
    }

    /// The gain for a sample whose louder side is `peak`.
    fn follow(&mut self, peak: f32, release: f32) -> f32 {
        self.gain += (1.0 - self.gain) * release;
        if peak * self.gain > 1.0 {
            self.gain = 1.0 / peak;
        }
        self.gain
    }
}

/// The part of what is missing to full gain that comes back with each sample.
#[expect(clippy::cast_precision_loss, reason = "rates are far below 2^24")]
fn release(rate: u32) -> f32 {
    1.0 / (RELEASE_SECONDS * rate.max(1) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILM: [Speaker; 6] = [
        Speaker::Left,
        Speaker::Right,
        Speaker::Centre,
        Speaker::Silent,
        Speaker::SurroundLeft,
        Speaker::SurroundRight,
    ];

    fn mixed(speakers: &[Speaker], samples: &[f32]) -> Vec<f32> {
        let mut pcm = Vec::new();
        Downmix::default().mix(speakers, 48_000, samples.iter().copied(), &mut pcm);
        pcm
    }

    #[test]
    fn film_is_mixed_by_the_standard_coefficients() {
        for (at, [left, right]) in [
            [1.0, 0.0],
            [0.0, 1.0],
            [HALF_POWER, HALF_POWER],
            [0.0, 0.0],
            [HALF_POWER, 0.0],
            [0.0, HALF_POWER],
        ]
        .into_iter()
        .enumerate()
        {
            let mut samples = [0.0; 6];
            samples[at] = 0.1;
            let pcm = mixed(&FILM, &samples);
            assert!((pcm[0] - 0.1 * left).abs() < 1e-6, "{at}: {pcm:?}");
            assert!((pcm[1] - 0.1 * right).abs() < 1e-6, "{at}: {pcm:?}");
        }
    }

    #[test]
    fn one_channel_is_heard_on_both_sides_at_its_level() {
        assert_eq!(
            mixed(&[Speaker::Centre], &[0.5, -1.0]),
            [0.5, 0.5, -1.0, -1.0]
        );
    }

    #[test]
    fn loudest_film_is_not_clipped_but_turned_down() {
        let samples: Vec<f32> = (0..48_000_u16)
            .flat_map(|index| [(f32::from(index) * 0.13).sin(); 6])
            .collect();
        let pcm = mixed(&FILM, &samples);
        let peak = pcm
            .iter()
            .fold(0_f32, |peak, sample| peak.max(sample.abs()));
        assert!(peak <= 1.000_1, "{peak}");
        // A clipped sine would be flat for three quarters of the time.
        let late: Vec<f32> = pcm[48_000..].iter().step_by(2).copied().collect();
        let flat = late
            .windows(2)
            .filter(|pair| pair[0].abs() > 0.99 && (pair[0] - pair[1]).abs() < 1e-4);
        assert!(flat.count() < late.len() / 20);
    }
}
