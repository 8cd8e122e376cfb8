//! Fades at the edges of sound: raised cosines, smooth at both ends.

use super::CHANNELS;

/// Length of the fades at the edges of silence, in milliseconds.
const FADE_MS: u32 = 5;

/// Samples of a fade at `rate` hertz, per channel.
pub(super) fn fade_samples(rate: u32) -> usize {
    usize::try_from(rate * FADE_MS / 1_000).unwrap_or_default()
}

/// Fades in samples of which `faded` of `fade` (per channel) went before.
pub(super) fn fade_in(pcm: &mut [f32], faded: usize, fade: usize) {
    let left = fade.saturating_sub(faded);
    for (index, frame) in pcm.chunks_exact_mut(CHANNELS).take(left).enumerate() {
        let gain = gain(faded + index, fade);
        frame.iter_mut().for_each(|sample| *sample *= gain);
    }
}

/// Fades out the end.
pub(super) fn fade_out(pcm: &mut [f32], rate: u32) {
    let length = (fade_samples(rate) * CHANNELS).min(pcm.len());
    let from = pcm.len().saturating_sub(length);
    fade_out_from(pcm.get_mut(from..).unwrap_or_default());
}

/// Fades out from the first sample to the last.
pub(super) fn fade_out_from(pcm: &mut [f32]) {
    let fade = pcm.len() / CHANNELS;
    for (index, frame) in pcm.chunks_exact_mut(CHANNELS).rev().enumerate() {
        let gain = gain(index, fade);
        frame.iter_mut().for_each(|sample| *sample *= gain);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred samples")]
fn gain(index: usize, fade: usize) -> f32 {
    let phase = (index as f32 + 0.5) / fade.max(1) as f32;
    0.5 - 0.5 * (std::f32::consts::PI * phase).cos()
}
