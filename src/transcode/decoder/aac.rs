//! AAC access units (14496-3 §4.4), of any kind that the Fraunhofer FDK decoder knows.
//!
//! Broken units never end a stream: the FDK decoder makes a substitute of what came before.

use super::downmix::Downmix;
use super::fdk::{Fdk, Frame};
use super::layout::Layout;
use super::{Codec, Decoded, Format};
use crate::limits::AAC_CONFIG_BYTES_MAX;
use crate::media::aac::AudioSpecificConfig;
use crate::transcode::TranscodeError;

/// Shortest AudioSpecificConfig, in bytes (14496-3 §1.6.2.1: 5 + 4 + 4 bits).
const CONFIG_BYTES_MIN: usize = 2;

/// Decodes AAC for one AudioSpecificConfig.
pub(super) struct AacDecoder {
    fdk: Fdk,
    config: Box<[u8]>,
    downmix: Downmix,
}

impl AacDecoder {
    /// Makes a decoder for an AudioSpecificConfig (14496-3 §1.6.2.1).
    ///
    /// # Errors
    /// If the configuration is malformed or not supported, or memory is short.
    pub(super) fn new(config: &[u8]) -> Result<Self, TranscodeError> {
        if !(CONFIG_BYTES_MIN..=AAC_CONFIG_BYTES_MAX).contains(&config.len()) {
            return Err(TranscodeError::ConfigLength {
                bytes: config.len(),
            });
        }
        Ok(Self {
            fdk: Fdk::open(config, layout(config))?,
            config: config.into(),
            downmix: Downmix::default(),
        })
    }
}

impl Codec for AacDecoder {
    fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) -> Decoded {
        if let Some(frame) = self.fdk.decode(packet) {
            let clean = frame.clean;
            let format = take(&mut self.downmix, &frame, pcm);
            return match clean {
                true => Decoded::Clean(format),
                false => Decoded::Concealed(format),
            };
        }
        self.conceal(pcm)
            .map_or(Decoded::Nothing, Decoded::Concealed)
    }

    fn conceal(&mut self, pcm: &mut Vec<f32>) -> Option<Format> {
        let frame = self.fdk.conceal()?;
        Some(take(&mut self.downmix, &frame, pcm))
    }

    fn restart(&mut self) {
        if let Ok(fdk) = Fdk::open(&self.config, layout(&self.config)) {
            self.fdk = fdk;
        }
    }
}

/// The layout of a configuration's channels; of one that only the library understands, none.
fn layout(config: &[u8]) -> Layout {
    let parsed = AudioSpecificConfig::parse(config);
    parsed.map_or_else(|_| Layout::default(), |parsed| Layout::of(&parsed))
}

fn take(downmix: &mut Downmix, frame: &Frame<'_>, pcm: &mut Vec<f32>) -> Format {
    const FULL_SCALE: f32 = 32_768.0;
    let (speakers, channels) = &frame.speakers;
    let speakers = speakers.get(..*channels).unwrap_or_default();
    let samples = frame.samples.iter();
    let samples = samples.map(|sample| f32::from(*sample) / FULL_SCALE);
    downmix.mix(speakers, frame.rate, samples, pcm);
    Format {
        rate: frame.rate,
        delay: frame.delay,
    }
}
