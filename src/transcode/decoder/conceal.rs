//! A substitute for broken packets of codecs that have none of their own: what was heard last,
//! backwards and faded out, then silence, from which the next sound is faded in. Neither edge
//! clicks.

use crate::transcode::CHANNELS;
use crate::transcode::fade::{fade_in, fade_out_from, fade_samples};

/// Remembers the end of the sound.
#[derive(Debug, Default)]
pub(super) struct Concealer {
    /// The last few milliseconds, interleaved; empty before the first sound.
    last: Vec<f32>,
    /// Rate of the sound, in hertz.
    rate: u32,
    /// Whether a substitute came last.
    concealed: bool,
}

impl Concealer {
    /// Takes note of sound at `rate` hertz, and fades it in after a substitute.
    pub(super) fn heard(&mut self, pcm: &mut [f32], rate: u32) {
        let fade = fade_samples(rate);
        if self.concealed {
            fade_in(pcm, 0, fade);
        }
        self.concealed = false;
        self.rate = rate;
        self.last.clear();
        let from = pcm.len().saturating_sub(fade * CHANNELS);
        self.last
            .extend_from_slice(pcm.get(from..).unwrap_or_default());
    }

    /// Appends `samples` (per channel) of a substitute to `pcm` and returns its rate; `None` if
    /// nothing was heard before.
    pub(super) fn conceal(&mut self, samples: usize, pcm: &mut Vec<f32>) -> Option<u32> {
        if self.rate == 0 {
            return None;
        }
        self.concealed = true;
        let from = pcm.len();
        let backwards = self.last.chunks_exact(CHANNELS).rev().take(samples);
        pcm.extend(backwards.flatten());
        fade_out_from(pcm.get_mut(from..).unwrap_or_default());
        pcm.resize(from + samples * CHANNELS, 0.0);
        self.last.clear();
        Some(self.rate)
    }

    /// Forgets the sound.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_follow_nothing() {
        assert_eq!(Concealer::default().conceal(100, &mut Vec::new()), None);
    }

    #[test]
    fn substitute_goes_on_where_the_sound_was_and_ends_in_silence() {
        let mut concealer = Concealer::default();
        let mut sound = vec![0.5; 2_000];
        concealer.heard(&mut sound, 48_000);
        let mut pcm = Vec::new();
        assert_eq!(concealer.conceal(1_000, &mut pcm), Some(48_000));
        assert_eq!(pcm.len(), 2_000);
        assert!((pcm[0] - 0.5).abs() < 0.01, "{}", pcm[0]);
        assert!(pcm[480..].iter().all(|sample| sample.abs() < 1e-6));
        let steps = pcm.windows(3).map(|three| (three[0] - three[2]).abs());
        assert!(steps.fold(0.0, f32::max) < 0.01);
        // The sound after it comes up gently.
        concealer.heard(&mut sound, 48_000);
        assert!(sound[0].abs() < 0.01, "{}", sound[0]);
        assert!((sound[600] - 0.5).abs() < 1e-6);
    }
}
