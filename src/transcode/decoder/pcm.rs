//! Sound that needs no decoder: linear PCM, and G.711 (ITU-T G.711), 8 kHz.

use super::conceal::Concealer;
use super::downmix::Downmix;
use super::{Codec, Decoded, Format, RATES};
use crate::transcode::{CHANNELS, TranscodeError};

/// Sample rate of G.711, in hertz.
const G711_RATE: u32 = 8_000;
/// Length of a substitute, in parts of a second.
const CONCEAL_PARTS: u32 = 50;

/// How a sample is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    ALaw,
    MuLaw,
    Unsigned8,
    Signed16,
    Float32,
}

/// "Decodes" samples.
pub(super) struct PcmDecoder {
    coding: Coding,
    rate: u32,
    channels: u8,
    concealer: Concealer,
    limiter: Downmix,
}

impl PcmDecoder {
    /// A-law.
    ///
    /// # Errors
    /// If it has neither one nor two channels.
    pub(super) fn a_law(channels: u8) -> Result<Self, TranscodeError> {
        Self::new(Coding::ALaw, G711_RATE, channels)
    }

    /// µ-law.
    ///
    /// # Errors
    /// If it has neither one nor two channels.
    pub(super) fn mu_law(channels: u8) -> Result<Self, TranscodeError> {
        Self::new(Coding::MuLaw, G711_RATE, channels)
    }

    /// Linear samples of `bits` bits.
    ///
    /// # Errors
    /// If there are other than 8 or 16 bits, 1 or 2 channels, or the rate is absurd.
    pub(super) fn linear(rate: u32, channels: u8, bits: u8) -> Result<Self, TranscodeError> {
        let coding = match bits {
            8 => Coding::Unsigned8,
            16 => Coding::Signed16,
            _ => return Err(unusable(format!("{bits} bits a sample"))),
        };
        Self::new(coding, rate, channels)
    }

    /// Stereo floating point, which may be beyond full scale.
    ///
    /// # Errors
    /// If the rate is absurd.
    pub(super) fn floating(rate: u32) -> Result<Self, TranscodeError> {
        Self::new(Coding::Float32, rate, 2)
    }

    fn new(coding: Coding, rate: u32, channels: u8) -> Result<Self, TranscodeError> {
        if !(1..=2).contains(&channels) {
            return Err(unusable(format!("{channels} channels")));
        }
        if !RATES.contains(&rate) {
            return Err(unusable(format!("{rate} Hz")));
        }
        Ok(Self {
            coding,
            rate,
            channels,
            concealer: Concealer::default(),
            limiter: Downmix::default(),
        })
    }

    fn format(&self) -> Format {
        Format {
            rate: self.rate,
            delay: 0,
        }
    }

    fn extend(&self, samples: impl Iterator<Item = f32>, pcm: &mut Vec<f32>) {
        if usize::from(self.channels) == CHANNELS {
            pcm.extend(samples);
            // Half a pair at the end is nobody's.
            pcm.truncate(pcm.len() / CHANNELS * CHANNELS);
        } else {
            pcm.extend(samples.flat_map(|sample| [sample; CHANNELS]));
        }
    }
}

impl Codec for PcmDecoder {
    fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) -> Decoded {
        const HALF_BYTE: f32 = 128.0;
        const FULL_SCALE: f32 = 32_768.0;
        let bytes = packet.iter().copied();
        match self.coding {
            Coding::ALaw => self.extend(bytes.map(a_law).map(|s| f32::from(s) / FULL_SCALE), pcm),
            Coding::MuLaw => self.extend(bytes.map(mu_law).map(|s| f32::from(s) / FULL_SCALE), pcm),
            Coding::Unsigned8 => {
                self.extend(bytes.map(|s| (f32::from(s) - HALF_BYTE) / HALF_BYTE), pcm);
            }
            Coding::Signed16 => {
                let (pairs, _) = packet.as_chunks::<2>();
                let samples = pairs.iter().map(|pair| i16::from_le_bytes(*pair));
                self.extend(samples.map(|s| f32::from(s) / FULL_SCALE), pcm);
            }
            Coding::Float32 => {
                let (words, _) = packet.as_chunks::<4>();
                let samples = words.iter().map(|word| f32::from_le_bytes(*word));
                self.extend(samples.map(|s| if s.is_finite() { s } else { 0.0 }), pcm);
                self.limiter.limit(pcm, self.rate);
            }
        }
        self.concealer.heard(pcm, self.rate);
        Decoded::Clean(self.format())
    }

    fn conceal(&mut self, pcm: &mut Vec<f32>) -> Option<Format> {
        let samples = usize::try_from(self.rate / CONCEAL_PARTS).ok()?;
        self.concealer.conceal(samples, pcm)?;
        Some(self.format())
    }

    fn restart(&mut self) {
        self.concealer.forget();
    }
}

/// A-law: 13 bits, here at the top of 16 (G.711 table 1).
fn a_law(coded: u8) -> i16 {
    let bits = coded ^ 0x55;
    let step = i16::from(bits & 0x0f);
    let segment = (bits >> 4) & 0x07;
    let magnitude = match segment {
        0 => (step << 4) + 0x08,
        segment => ((step << 4) + 0x108) << (segment - 1),
    };
    if bits & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }
}

/// µ-law: 14 bits, here at the top of 16 (G.711 table 2).
fn mu_law(coded: u8) -> i16 {
    const BIAS: i16 = 0x84;
    let bits = !coded;
    let step = i16::from(bits & 0x0f);
    let segment = (bits >> 4) & 0x07;
    let magnitude = (((step << 3) + BIAS) << segment) - BIAS;
    if bits & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

fn unusable(detail: String) -> TranscodeError {
    TranscodeError::Config {
        codec: "PCM",
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_decodes_as_its_tables_say() {
        // G.711 tables 1 and 2: the ends of the scales, and the smallest values.
        assert_eq!((a_law(0xd5), a_law(0x55)), (8, -8));
        assert_eq!((a_law(0xaa), a_law(0x2a)), (32_256, -32_256));
        assert_eq!((mu_law(0xff), mu_law(0x7f)), (0, 0));
        assert_eq!((mu_law(0x80), mu_law(0x00)), (32_124, -32_124));
    }

    #[test]
    fn linear_samples_keep_their_value() {
        let mut pcm = Vec::new();
        let mut decoder = PcmDecoder::linear(44_100, 2, 16).unwrap();
        decoder.decode(&[0x00, 0x40, 0x00, 0xc0, 0x01], &mut pcm);
        assert_eq!(pcm, [0.5, -0.5]);
        pcm.clear();
        let mut decoder = PcmDecoder::linear(11_025, 1, 8).unwrap();
        decoder.decode(&[0x80, 0xc0, 0x00], &mut pcm);
        assert_eq!(pcm, [0.0, 0.0, 0.5, 0.5, -1.0, -1.0]);
    }

    #[test]
    fn absurd_formats_are_refused() {
        assert!(PcmDecoder::linear(48_000, 2, 24).is_err());
        assert!(PcmDecoder::linear(48_000, 0, 16).is_err());
        assert!(PcmDecoder::linear(1, 2, 16).is_err());
        assert!(PcmDecoder::a_law(3).is_err());
    }
}
