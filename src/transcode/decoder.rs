//! AAC access units (14496-3 §4.4) to stereo PCM, by the Fraunhofer FDK decoder.
//!
//! Broken units never end a stream: the FDK decoder makes a substitute of what came before.

use fdk_aac::dec::{Decoder as FdkDecoder, DecoderError, Transport};

use super::{CHANNELS, TranscodeError};
use crate::limits::AAC_CONFIG_BYTES_MAX;

/// What a decoded frame is, as the decoder says after decoding it: HE-AAC differs from its
/// AudioSpecificConfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// Sample rate, in hertz.
    pub(super) rate: u32,
    /// Samples of one frame, per channel.
    pub(super) frame: usize,
    /// Samples, per channel, by which the decoder's output lags behind its input: concealment,
    /// limiter and SBR.
    pub(super) delay: usize,
}

/// What became of an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoded {
    /// It is sound.
    Clean(Format),
    /// It was broken: this is a substitute.
    Concealed(Format),
    /// It was broken, and nothing came before that a substitute could be made of.
    Nothing,
}

/// Shortest AudioSpecificConfig, in bytes (14496-3 §1.6.2.1: 5 + 4 + 4 bits).
const CONFIG_BYTES_MIN: usize = 2;

/// Longest frame, in samples per channel: USAC with 4:1 SBR (23003-3 §4.2).
const FRAME_SAMPLES_MAX: usize = 4_096;

/// Sample rates of AAC, in hertz (14496-3 §1.6.3.4).
const RATES: std::ops::RangeInclusive<u32> = 7_350..=96_000;

/// Longest delay that is believed, in samples per channel: HE-AAC has 3,671.
const DELAY_SAMPLES_MAX: usize = 16_384;

/// A unit that holds no element but the end (14496-3 §4.5.2.1, ID_END): the decoder takes it for
/// a lost frame.
const LOST_UNIT: [u8; 1] = [0xe0];

/// The errors after which the decoder's output is a usable substitute. Its library calls the
/// whole class "output buffer is valid but concealed".
const CONCEALED: [DecoderError; 13] = [
    DecoderError::TRANSPORT_ERROR,
    DecoderError::PARSE_ERROR,
    DecoderError::UNSUPPORTED_EXTENSION_PAYLOAD,
    DecoderError::DECODE_FRAME_ERROR,
    DecoderError::CRC_ERROR,
    DecoderError::INVALID_CODE_BOOK,
    DecoderError::UNSUPPORTED_PREDICTION,
    DecoderError::UNSUPPORTED_CCE,
    DecoderError::UNSUPPORTED_LFE,
    DecoderError::UNSUPPORTED_GAIN_CONTROL_DATA,
    DecoderError::UNSUPPORTED_SBA,
    DecoderError::TNS_READ_ERROR,
    DecoderError::RVLC_ERROR,
];

/// One AAC decoder, for one AudioSpecificConfig.
#[derive(Debug)]
pub(super) struct Decoder {
    fdk: FdkDecoder,
    config: Box<[u8]>,
    /// What the decoder writes into: interleaved, one or two channels.
    samples: Vec<i16>,
    /// Of the latest frame.
    format: Option<Format>,
}

impl Decoder {
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
            fdk: open(config)?,
            config: config.into(),
            samples: vec![0; FRAME_SAMPLES_MAX * CHANNELS],
            format: None,
        })
    }

    /// The AudioSpecificConfig it decodes.
    pub(super) fn config(&self) -> &[u8] {
        &self.config
    }

    /// The latest frame's format.
    pub(super) fn format(&self) -> Option<Format> {
        self.format
    }

    /// Forgets what was decoded, so that the next unit does not overlap with sound that belongs
    /// elsewhere. Keeps the old state if memory is short.
    pub(super) fn restart(&mut self) {
        if let Ok(fdk) = open(&self.config) {
            self.fdk = fdk;
        }
    }

    /// Decodes a unit into `pcm` (replaced): interleaved stereo, full scale ±1.
    pub(super) fn decode(&mut self, unit: &[u8], pcm: &mut Vec<f32>) -> Decoded {
        match self.run(unit, pcm) {
            Some((format, true)) => Decoded::Clean(format),
            Some((format, false)) => Decoded::Concealed(format),
            None => self
                .conceal(pcm)
                .map_or(Decoded::Nothing, Decoded::Concealed),
        }
    }

    /// Makes `pcm` (replaced) the substitute for a lost unit, if anything came before.
    pub(super) fn conceal(&mut self, pcm: &mut Vec<f32>) -> Option<Format> {
        let (format, _) = self.run(&LOST_UNIT, pcm)?;
        Some(format)
    }

    /// Returns the frame's format and whether the unit was sound, or `None` if nothing came out.
    fn run(&mut self, unit: &[u8], pcm: &mut Vec<f32>) -> Option<(Format, bool)> {
        pcm.clear();
        let taken = self.fdk.fill(unit).ok()?;
        if taken != unit.len() {
            return None;
        }
        let clean = match self.fdk.decode_frame(&mut self.samples) {
            Ok(()) => true,
            Err(error) if CONCEALED.contains(&error) => false,
            Err(_) => return None,
        };
        let info = self.fdk.stream_info();
        let format = Format {
            rate: u32::try_from(info.sampleRate).ok()?,
            frame: usize::try_from(info.frameSize).ok()?,
            delay: usize::try_from(info.outputDelay).ok()?,
        };
        let channels = usize::try_from(info.numChannels).ok()?;
        let believable = RATES.contains(&format.rate)
            && (1..=FRAME_SAMPLES_MAX).contains(&format.frame)
            && format.delay <= DELAY_SAMPLES_MAX
            && (1..=CHANNELS).contains(&channels);
        if !believable {
            return None;
        }
        let samples = self.samples.get(..format.frame * channels)?;
        to_stereo(samples, channels, pcm);
        self.format = Some(format);
        Some((format, clean))
    }
}

/// Opens the library's decoder: raw access units, at most two channels out.
fn open(config: &[u8]) -> Result<FdkDecoder, TranscodeError> {
    let mut fdk = FdkDecoder::new(Transport::Raw);
    // Comes first, for it is the only call that survives a decoder which could not be allocated.
    fdk.set_max_output_channels(CHANNELS)
        .map_err(|error| TranscodeError::Start {
            library: "the AAC decoder",
            detail: error.to_string(),
        })?;
    fdk.config_raw(config)
        .map_err(|error| TranscodeError::Config {
            detail: error.message().trim_end_matches(['.', ' ']).to_owned(),
        })?;
    Ok(fdk)
}

/// One channel is heard on both sides, each at its full level.
fn to_stereo(samples: &[i16], channels: usize, pcm: &mut Vec<f32>) {
    const FULL_SCALE: f32 = 32_768.0;
    let float = |sample: i16| f32::from(sample) / FULL_SCALE;
    if channels == CHANNELS {
        pcm.extend(samples.iter().map(|sample| float(*sample)));
    } else {
        pcm.extend(samples.iter().flat_map(|sample| [float(*sample); CHANNELS]));
    }
}
