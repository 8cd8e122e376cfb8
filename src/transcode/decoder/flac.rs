//! FLAC frames (RFC 9639 §9), one in each packet.

use symphonia::core::codecs::audio::well_known::CODEC_ID_FLAC;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration, Timestamp};
use symphonia::default::codecs::FlacDecoder as Symphonia;

use super::conceal::Concealer;
use super::downmix::{Downmix, Speaker};
use super::{Codec, Decoded, Format, RATES};
use crate::transcode::{CHANNELS, TranscodeError};

/// What begins a FLAC file (RFC 9639 §6).
const MARK: &[u8] = b"fLaC";
/// Length of a metadata block's header, and of the STREAMINFO block (§8.1, §8.2), in bytes.
const BLOCK_HEADER_BYTES: usize = 4;
const STREAMINFO_BYTES: usize = 34;
/// Samples of a substitute, per channel, when no frame says how many: the usual block.
const BLOCK_SAMPLES: usize = 4_096;

/// Decodes FLAC.
pub(super) struct FlacDecoder {
    symphonia: Symphonia,
    rate: u32,
    speakers: &'static [Speaker],
    /// Samples of the latest frame, per channel.
    block: usize,
    downmix: Downmix,
    concealer: Concealer,
    /// A decoded frame: kept for its memory.
    samples: Vec<f32>,
}

impl FlacDecoder {
    /// Makes a decoder for `fLaC` and the metadata blocks after it; a bare STREAMINFO will do.
    ///
    /// # Errors
    /// If there is no usable STREAMINFO.
    pub(super) fn new(blocks: &[u8]) -> Result<Self, TranscodeError> {
        let info = stream_info(blocks).ok_or_else(|| unusable("it has no STREAMINFO"))?;
        let mut parameters = AudioCodecParameters::new();
        parameters
            .for_codec(CODEC_ID_FLAC)
            .with_extra_data(info.into());
        let symphonia = Symphonia::try_new(&parameters, &AudioDecoderOptions::default())
            .map_err(|error| unusable(&error.to_string()))?;
        let known = symphonia.codec_params();
        let rate = known.sample_rate.filter(|rate| RATES.contains(rate));
        let channels = known
            .channels
            .as_ref()
            .map_or(0, |channels| channels.count());
        Ok(Self {
            rate: rate.ok_or_else(|| unusable("it has no usual sample rate"))?,
            speakers: speakers(channels).ok_or_else(|| unusable("it has too many channels"))?,
            symphonia,
            block: BLOCK_SAMPLES,
            downmix: Downmix::default(),
            concealer: Concealer::default(),
            samples: Vec::new(),
        })
    }

    fn format(&self) -> Format {
        Format {
            rate: self.rate,
            delay: 0,
        }
    }
}

impl Codec for FlacDecoder {
    fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) -> Decoded {
        let frame = PacketRef::new(0, Timestamp::default(), Duration::default(), packet);
        let Ok(buffer) = self.symphonia.decode_ref(&frame) else {
            return self
                .conceal(pcm)
                .map_or(Decoded::Nothing, Decoded::Concealed);
        };
        buffer.copy_to_vec_interleaved(&mut self.samples);
        let samples = self.samples.iter().copied();
        self.downmix.mix(self.speakers, self.rate, samples, pcm);
        self.block = pcm.len() / CHANNELS;
        self.concealer.heard(pcm, self.rate);
        Decoded::Clean(self.format())
    }

    fn conceal(&mut self, pcm: &mut Vec<f32>) -> Option<Format> {
        self.concealer.conceal(self.block.max(1), pcm)?;
        Some(self.format())
    }

    fn restart(&mut self) {
        self.concealer.forget();
    }
}

/// The STREAMINFO block, which is the first.
fn stream_info(blocks: &[u8]) -> Option<&[u8]> {
    if blocks.len() == STREAMINFO_BYTES {
        return Some(blocks);
    }
    let blocks = blocks.strip_prefix(MARK).unwrap_or(blocks);
    let kind = blocks.first()? & 0x7f;
    let end = BLOCK_HEADER_BYTES + STREAMINFO_BYTES;
    (kind == 0)
        .then(|| blocks.get(BLOCK_HEADER_BYTES..end))
        .flatten()
}

/// Which channels a count means (RFC 9639 §9.1.3).
fn speakers(channels: usize) -> Option<&'static [Speaker]> {
    use Speaker::{
        BackCentre, Centre, Left, Right, Silent, SurroundLeft as SLeft, SurroundRight as SRight,
    };
    Some(match channels {
        1 => &[Centre],
        2 => &[Left, Right],
        3 => &[Left, Right, Centre],
        4 => &[Left, Right, SLeft, SRight],
        5 => &[Left, Right, Centre, SLeft, SRight],
        6 => &[Left, Right, Centre, Silent, SLeft, SRight],
        7 => &[Left, Right, Centre, Silent, BackCentre, SLeft, SRight],
        8 => &[Left, Right, Centre, Silent, SLeft, SRight, SLeft, SRight],
        _ => return None,
    })
}

fn unusable(detail: &str) -> TranscodeError {
    TranscodeError::Config {
        codec: "FLAC",
        detail: detail.to_owned(),
    }
}
