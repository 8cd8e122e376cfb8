//! Any codec's packets to stereo PCM. One packet in, all the frames it holds out; a broken one
//! becomes a substitute, and never ends a stream.

mod aac;
mod conceal;
mod downmix;
mod fdk;
mod flac;
mod layout;
mod mp3;
mod opus;
mod pcm;

use self::aac::AacDecoder;
use self::flac::FlacDecoder;
use self::mp3::Mp3Decoder;
use self::opus::OpusDecoder;
use self::pcm::PcmDecoder;
use super::{CHANNELS, TranscodeError};
use crate::media::codec::AudioConfig;
use crate::media::time::MediaTime;

/// Sample rates that are believed, in hertz: from FLV's lowest (5.5 kHz) to what studios use.
const RATES: std::ops::RangeInclusive<u32> = 5_500..=192_000;

/// What decoded sound is, as the decoder says after decoding it: HE-AAC differs from its
/// AudioSpecificConfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// Sample rate, in hertz.
    pub(super) rate: u32,
    /// Samples, per channel, by which the decoder's output lags behind its input.
    pub(super) delay: usize,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoded {
    /// It is sound.
    Clean(Format),
    /// It was broken, or part of it: the rest is a substitute.
    Concealed(Format),
    /// Nothing can be heard of it: a part of a frame that goes on in the next packet, or broken
    /// with nothing before it that a substitute could be made of.
    Nothing,
}

/// What every codec's decoder does.
trait Codec {
    /// Decodes a packet into `pcm` (empty before): interleaved stereo, full scale ±1.
    fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) -> Decoded;

    /// Makes `pcm` (empty before) what may follow the sound so far, if there was any: a few
    /// milliseconds at least.
    fn conceal(&mut self, pcm: &mut Vec<f32>) -> Option<Format>;

    /// Forgets what was decoded, so that the next packet does not overlap with sound that belongs
    /// elsewhere. Keeps the old state if memory is short.
    fn restart(&mut self);

    /// How long the frames last that have begun in earlier packets but not come out: the next
    /// packet's sound begins this much before its time.
    fn carried(&self) -> MediaTime {
        MediaTime::ZERO
    }
}

/// The decoder of one stream, for one configuration.
pub(super) struct Decoder {
    codec: Box<dyn Codec>,
    config: AudioConfig,
    /// For PCM of a child process, its rate in hertz.
    fed_rate: Option<u32>,
    /// Of the latest packet.
    format: Option<Format>,
}

impl Decoder {
    /// Makes a decoder.
    ///
    /// # Errors
    /// If the configuration is malformed or not supported, or memory is short.
    pub(super) fn new(config: &AudioConfig) -> Result<Self, TranscodeError> {
        let codec: Box<dyn Codec> = match config {
            AudioConfig::Aac(specific) => Box::new(AacDecoder::new(specific)?),
            AudioConfig::Mp3 => Box::new(Mp3Decoder::new()),
            AudioConfig::ALaw { channels } => Box::new(PcmDecoder::a_law(*channels)?),
            AudioConfig::MuLaw { channels } => Box::new(PcmDecoder::mu_law(*channels)?),
            AudioConfig::Pcm {
                rate,
                channels,
                bits,
            } => Box::new(PcmDecoder::linear(*rate, *channels, *bits)?),
            AudioConfig::Opus(head) => Box::new(OpusDecoder::new(head.as_deref())?),
            AudioConfig::Flac(blocks) => Box::new(FlacDecoder::new(blocks)?),
            AudioConfig::Ac3
            | AudioConfig::Eac3
            | AudioConfig::Speex
            | AudioConfig::Nellymoser { .. } => {
                return Err(TranscodeError::NeedsFfmpeg);
            }
        };
        Ok(Self {
            codec,
            config: config.clone(),
            fed_rate: None,
            format: None,
        })
    }

    /// Makes one for what a child process decodes: little-endian 32-bit floating point at `rate`
    /// hertz, stereo.
    ///
    /// # Errors
    /// If the rate is absurd.
    pub(super) fn feed(config: &AudioConfig, rate: u32) -> Result<Self, TranscodeError> {
        Ok(Self {
            codec: Box::new(PcmDecoder::floating(rate)?),
            config: config.clone(),
            fed_rate: Some(rate),
            format: None,
        })
    }

    /// The configuration it decodes.
    pub(super) fn config(&self) -> &AudioConfig {
        &self.config
    }

    /// For PCM of a child process, its rate in hertz.
    pub(super) fn fed_rate(&self) -> Option<u32> {
        self.fed_rate
    }

    /// The latest packet's format.
    pub(super) fn format(&self) -> Option<Format> {
        self.format
    }

    /// By how much the next packet's sound begins before its time.
    pub(super) fn carried(&self) -> MediaTime {
        self.codec.carried()
    }

    /// Forgets what was decoded.
    pub(super) fn restart(&mut self) {
        self.codec.restart();
    }

    /// Decodes a packet into `pcm` (replaced): interleaved stereo, full scale ±1.
    pub(super) fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) -> Decoded {
        pcm.clear();
        let decoded = self.codec.decode(packet, pcm);
        match decoded {
            Decoded::Clean(format) | Decoded::Concealed(format)
                if RATES.contains(&format.rate) && !pcm.is_empty() =>
            {
                self.format = Some(format);
                decoded
            }
            Decoded::Clean(_) | Decoded::Concealed(_) | Decoded::Nothing => Decoded::Nothing,
        }
    }

    /// At least `samples` (per channel) of what may follow the sound so far, if there was any.
    pub(super) fn tail(&mut self, samples: usize) -> Option<(Vec<f32>, u32)> {
        let format = self.format?;
        let wanted = samples.max(format.delay) * CHANNELS;
        let mut tail = Vec::with_capacity(wanted);
        let mut pcm = Vec::new();
        while tail.len() < wanted {
            pcm.clear();
            let same = self.codec.conceal(&mut pcm)?.rate == format.rate;
            if !same || pcm.is_empty() {
                return None;
            }
            tail.extend_from_slice(&pcm);
        }
        tail.truncate(wanted);
        Some((tail, format.rate))
    }
}
