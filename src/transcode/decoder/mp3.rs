//! MPEG-1, 2 and 2.5 layer III frames (11172-3 §2.4, 13818-3 §2.4): any number of them in a packet,
//! also split over packets.
//!
//! The first frames may refer to bits of frames before them, which never came (the bit
//! reservoir): they are silent, in whole or in part.

use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration, Timestamp};
use symphonia::default::codecs::MpaDecoder as Symphonia;

use super::conceal::Concealer;
use super::downmix::{Downmix, Speaker};
use super::{Codec, Decoded, Format};
use crate::media::time::MediaTime;
use crate::transcode::packetizer::samples_time;

/// Length of a frame's header, in bytes (11172-3 §2.4.1.3).
const HEADER_BYTES: usize = 4;
/// Kilobits a second by `bitrate_index`, of MPEG-1 and of the others (11172-3 §2.4.2.3,
/// 13818-3 §2.4.2.3).
const KILOBITS: [[u32; 14]; 2] = [
    [
        32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];
/// Hertz by `sampling_frequency`, of MPEG-1; MPEG-2 has a half, MPEG-2.5 a quarter.
const RATES: [u32; 3] = [44_100, 48_000, 32_000];

/// Longest beginning of a frame that waits for the next packet, in bytes: several of the largest
/// frames (1,441), in case the rate changes with the first.
const CARRY_BYTES_MAX: usize = 8 * 1_024;

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    rate: u32,
    mono: bool,
    /// Samples of the frame, per channel.
    samples: usize,
    /// Bytes of the frame, its header among them.
    bytes: usize,
}

impl Header {
    /// Reads a header; `None` if it is none of layer III, or its length is not written
    /// (free format).
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [first, second, third, fourth] = *bytes.first_chunk::<HEADER_BYTES>()?;
        let version = (second >> 3) & 0x03;
        let layer_3 = (second >> 1) & 0x03 == 0x01;
        if first != 0xff || second & 0xe0 != 0xe0 || !layer_3 || version == 0x01 {
            return None;
        }
        let first_version = version == 0x03;
        let divisor = match version {
            0x03 => 1,
            0x02 => 2,
            _ => 4,
        };
        let rate = RATES.get(usize::from((third >> 2) & 0x03))? / divisor;
        let [of_1, of_2] = &KILOBITS;
        let rates = if first_version { of_1 } else { of_2 };
        let kilobits = rates.get(usize::from(third >> 4).checked_sub(1)?)?;
        let samples = if first_version { 1_152 } else { 576 };
        let padding = u32::from((third >> 1) & 0x01);
        let bytes = samples / 8 * kilobits * 1_000 / rate + padding;
        Some(Self {
            rate,
            mono: fourth >> 6 == 0x03,
            samples: usize::try_from(samples).ok()?,
            bytes: usize::try_from(bytes).ok()?,
        })
    }

    fn same_stream(self, other: Self) -> bool {
        (self.rate, self.mono) == (other.rate, other.mono)
    }
}

/// Decodes MP3.
pub(super) struct Mp3Decoder {
    /// For frames like `header`.
    symphonia: Option<Symphonia>,
    /// Of the latest frame.
    header: Option<Header>,
    /// The beginning of a frame that goes on in the next packet.
    carry: Vec<u8>,
    concealer: Concealer,
    /// A decoded frame: kept for its memory.
    samples: Vec<f32>,
}

impl Mp3Decoder {
    /// Makes a decoder.
    pub(super) fn new() -> Self {
        Self {
            symphonia: None,
            header: None,
            carry: Vec::new(),
            concealer: Concealer::default(),
            samples: Vec::new(),
        }
    }

    /// Decodes a frame, appending to `pcm`; whether it was sound.
    fn frame(&mut self, header: Header, bytes: &[u8], pcm: &mut Vec<f32>) -> bool {
        if !self.header.is_some_and(|old| old.same_stream(header)) {
            self.symphonia = None;
        }
        self.header = Some(header);
        let from = pcm.len();
        if self.decode_frame(header, bytes, pcm) {
            let heard = pcm.get_mut(from..).unwrap_or_default();
            self.concealer.heard(heard, header.rate);
            return true;
        }
        pcm.truncate(from);
        // Before the first sound nothing is missed.
        let _silent = self.concealer.conceal(header.samples, pcm);
        false
    }

    fn decode_frame(&mut self, header: Header, bytes: &[u8], pcm: &mut Vec<f32>) -> bool {
        if self.symphonia.is_none() {
            let mut parameters = AudioCodecParameters::new();
            parameters.for_codec(CODEC_ID_MP3);
            self.symphonia = Symphonia::try_new(&parameters, &AudioDecoderOptions::default()).ok();
        }
        let Some(symphonia) = &mut self.symphonia else {
            return false;
        };
        let packet = PacketRef::new(0, Timestamp::default(), Duration::default(), bytes);
        let Ok(buffer) = symphonia.decode_ref(&packet) else {
            return false;
        };
        if buffer.frames() != header.samples {
            return false;
        }
        buffer.copy_to_vec_interleaved(&mut self.samples);
        let speakers: &[Speaker] = match header.mono {
            true => &[Speaker::Centre],
            false => &[Speaker::Left, Speaker::Right],
        };
        let samples = self.samples.iter().copied();
        Downmix::default().mix(speakers, header.rate, samples, pcm);
        true
    }

    /// Whether the frame that the carry begins goes on in `packet`.
    fn goes_on(&self, packet: &[u8]) -> bool {
        let Some(header) = Header::parse(&self.carry) else {
            // Less than a header is too little to tell.
            return self.carry.len() < HEADER_BYTES;
        };
        let next = packet.get(header.bytes.saturating_sub(self.carry.len())..);
        match next {
            Some([]) => true,
            Some(next) if next.len() < HEADER_BYTES => true,
            Some(next) => Header::parse(next).is_some(),
            // Still not its end, unless this is a frame of its own.
            None => Header::parse(packet).is_none_or(|own| own.bytes != packet.len()),
        }
    }
}

impl Codec for Mp3Decoder {
    fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) -> Decoded {
        let mut clean = true;
        if !self.goes_on(packet) {
            self.carry.clear();
            clean = false;
        }
        let mut joined = std::mem::take(&mut self.carry);
        let bytes = if joined.is_empty() {
            packet
        } else {
            joined.extend_from_slice(packet);
            &joined
        };
        let mut rest = bytes;
        let mut rate = None;
        while rest.len() >= HEADER_BYTES {
            let Some(header) = Header::parse(rest) else {
                clean = false;
                rest = rest.get(1..).unwrap_or_default();
                continue;
            };
            let Some((frame, after)) = rest.split_at_checked(header.bytes) else {
                break;
            };
            // Sound of two rates does not go together: the other one waits for its turn.
            if *rate.get_or_insert(header.rate) != header.rate {
                break;
            }
            clean &= self.frame(header, frame, pcm);
            rest = after;
        }
        // Packets in which the rate changes to and fro would have more carried on each time.
        if rest.len() <= CARRY_BYTES_MAX {
            self.carry.extend_from_slice(rest);
        } else {
            clean = false;
        }
        match (rate, clean) {
            (Some(rate), true) => Decoded::Clean(Format { rate, delay: 0 }),
            (Some(rate), false) => Decoded::Concealed(Format { rate, delay: 0 }),
            (None, true) => Decoded::Nothing,
            (None, false) if self.carry.len() < HEADER_BYTES => self
                .conceal(pcm)
                .map_or(Decoded::Nothing, Decoded::Concealed),
            (None, false) => Decoded::Nothing,
        }
    }

    fn conceal(&mut self, pcm: &mut Vec<f32>) -> Option<Format> {
        let header = self.header?;
        let rate = self.concealer.conceal(header.samples, pcm)?;
        Some(Format { rate, delay: 0 })
    }

    fn restart(&mut self) {
        self.symphonia = None;
        self.carry.clear();
        self.concealer.forget();
    }

    fn carried(&self) -> MediaTime {
        let mut time = MediaTime::ZERO;
        let mut rest = self.carry.as_slice();
        while let Some(header) = Header::parse(rest) {
            time = time.plus(samples_time(header.samples as u64, header.rate));
            rest = rest.get(header.bytes..).unwrap_or_default();
        }
        // Less than a header will be a frame like the last.
        match self.header {
            Some(header) if !rest.is_empty() => {
                time.plus(samples_time(header.samples as u64, header.rate))
            }
            Some(_) | None => time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_all_three_versions_are_read() {
        for (bytes, rate, samples, length) in [
            // MPEG-1, 128 kbit/s, 44.1 kHz, padded, joint stereo.
            ([0xff, 0xfb, 0x92, 0x64], 44_100, 1_152, 418),
            // MPEG-2, 64 kbit/s, 22.05 kHz, mono.
            ([0xff, 0xf3, 0x80, 0xc4], 22_050, 576, 208),
            // MPEG-2.5, 8 kbit/s, 8 kHz, mono.
            ([0xff, 0xe3, 0x18, 0xc4], 8_000, 576, 72),
        ] {
            let header = Header::parse(&bytes).unwrap();
            assert_eq!(
                (header.rate, header.samples, header.bytes),
                (rate, samples, length)
            );
        }
    }

    #[test]
    fn rates_to_and_fro_are_not_carried_on_for_ever() {
        // MPEG-2, 8 kbit/s, mono: 26 bytes at 22.05 kHz, 24 at 24 kHz.
        let frame = |rate: u8, bytes: usize| {
            let mut frame = vec![0xff, 0xf3, 0x10 | rate, 0xc4];
            frame.resize(bytes, 0);
            frame
        };
        let packet = [frame(0x00, 26), frame(0x04, 24)].concat().repeat(20);
        let mut decoder = Mp3Decoder::new();
        for _ in 0..100 {
            decoder.decode(&packet, &mut Vec::new());
            assert!(decoder.carry.len() <= CARRY_BYTES_MAX);
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bytes in [
            &[0xff, 0xfb, 0x92][..],
            // Not in sync, a reserved version, layer II, free format, a reserved bitrate, a
            // reserved rate.
            &[0xfe, 0xfb, 0x92, 0x64],
            &[0xff, 0xeb, 0x92, 0x64],
            &[0xff, 0xfd, 0x92, 0x64],
            &[0xff, 0xfb, 0x02, 0x64],
            &[0xff, 0xfb, 0xf2, 0x64],
            &[0xff, 0xfb, 0x9e, 0x64],
        ] {
            assert_eq!(Header::parse(bytes), None, "{bytes:02x?}");
        }
    }
}
