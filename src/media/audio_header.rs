//! What an audio packet or its sequence header says of the sound: MPEG-1, 2 and 2.5 layer III
//! (11172-3 §2.4.2.3), AC-3 and E-AC-3 (ETSI TS 102 366 §4.3, annex E.1.2), Opus (RFC 7845 §5.1,
//! RFC 6716 §3.1) and FLAC (RFC 9639 §8.2). Only for telling people; decoders look themselves.

use std::fmt;

use bytes::Bytes;

use super::bits::Bits;

/// What a FLAC file begins with (RFC 9639 §6).
const FLAC_MARKER: &[u8] = b"fLaC";
/// Bytes of a FLAC stream info block without its header (RFC 9639 §8.2).
const STREAM_INFO_BYTES: usize = 34;
/// Bytes of a FLAC metadata block's header (RFC 9639 §8.1).
const BLOCK_HEADER_BYTES: usize = 4;

/// How a sound is sampled. `Display` says it as users do: "48 kHz stereo".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sound {
    /// Samples a second; more than 0.
    pub rate: u32,
    /// How many channels; at least 1.
    pub channels: u8,
}

impl fmt::Display for Sound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kHz ", f64::from(self.rate) / 1_000.0)?;
        match self.channels {
            1 => f.write_str("mono"),
            2 => f.write_str("stereo"),
            6 => f.write_str("5.1"),
            8 => f.write_str("7.1"),
            channels => write!(f, "{channels} channels"),
        }
    }
}

impl Sound {
    /// Of a layer III frame.
    #[must_use]
    pub fn of_mp3(frame: &[u8]) -> Option<Self> {
        const SYNC: u32 = 0x7ff;
        const LAYER_3: u32 = 1;
        const MONO: u32 = 3;
        let mut bits = Bits::new(frame);
        if bits.read(11)? != SYNC {
            return None;
        }
        let version = bits.read(2)?;
        if bits.read(2)? != LAYER_3 {
            return None;
        }
        bits.skip(1 + 4)?;
        let full_rate = match bits.read(2)? {
            0 => 44_100,
            1 => 48_000,
            2 => 32_000,
            _ => return None,
        };
        let rate = match version {
            3 => full_rate,
            2 => full_rate / 2,
            0 => full_rate / 4,
            _ => return None,
        };
        bits.skip(2)?;
        let channels = if bits.read(2)? == MONO { 1 } else { 2 };
        Some(Self { rate, channels })
    }

    /// Of an AC-3 or E-AC-3 frame.
    #[must_use]
    pub fn of_ac3(frame: &[u8]) -> Option<Self> {
        const SYNC: u32 = 0x0b77;
        const BSID_AT: usize = 5;
        const BSID_AC3_MAX: u8 = 10;
        let mut bits = Bits::new(frame);
        if bits.read(16)? != SYNC {
            return None;
        }
        // bsid lies at the same place in both.
        let is_ac3 = frame.get(BSID_AT)? >> 3 <= BSID_AC3_MAX;
        bits.skip(16)?;
        let rate_code = bits.byte(2)?;
        let (rate, mode) = if is_ac3 {
            bits.skip(6 + 5 + 3)?;
            let mode = bits.byte(3)?;
            let has_center = mode & 1 != 0 && mode != 1;
            let has_surround = mode & 4 != 0;
            let is_stereo = mode == 2;
            for present in [has_center, has_surround, is_stereo] {
                bits.skip(if present { 2 } else { 0 })?;
            }
            (ac3_rate(rate_code)?, mode)
        } else {
            let second = bits.byte(2)?;
            let rate = match rate_code {
                3 => ac3_rate(second)? / 2,
                code => ac3_rate(code)?,
            };
            (rate, bits.byte(3)?)
        };
        let channels = match mode {
            1 => 1,
            0 | 2 => 2,
            3 | 4 => 3,
            5 | 6 => 4,
            _ => 5,
        };
        let low_frequency = u8::from(bits.bit()?);
        Some(Self {
            rate,
            channels: low_frequency.saturating_add(channels),
        })
    }

    /// Of an Opus identification header: the rate is always 48 kHz.
    #[must_use]
    pub fn of_opus_header(header: &[u8]) -> Option<Self> {
        let rest = header.strip_prefix(b"OpusHead")?;
        let &[_version, channels] = rest.first_chunk()?;
        (channels > 0).then_some(Self {
            rate: 48_000,
            channels,
        })
    }

    /// Of an Opus packet without a header before it.
    #[must_use]
    pub fn of_opus_packet(packet: &[u8]) -> Option<Self> {
        let is_stereo = packet.first()? & 0x04 != 0;
        Some(Self {
            rate: 48_000,
            channels: if is_stereo { 2 } else { 1 },
        })
    }

    /// Of a FLAC header as [`flac_header`] returns it.
    #[must_use]
    pub fn of_flac(header: &[u8]) -> Option<Self> {
        const RATE_AT_BITS: usize = 80;
        let info = header.get(FLAC_MARKER.len().checked_add(BLOCK_HEADER_BYTES)?..)?;
        let mut bits = Bits::new(info);
        bits.skip(RATE_AT_BITS)?;
        let rate = bits.read(20)?;
        let channels = bits.byte(3)?.checked_add(1)?;
        (rate > 0).then_some(Self { rate, channels })
    }
}

fn ac3_rate(code: u8) -> Option<u32> {
    match code {
        0 => Some(48_000),
        1 => Some(44_100),
        2 => Some(32_000),
        _ => None,
    }
}

/// A FLAC sequence header as its standard says: `fLaC` and metadata blocks, of which the first
/// is the stream info. ffmpeg sends the stream info's contents alone, which are completed here.
///
/// Returns `None` if it is neither.
#[must_use]
pub fn flac_header(data: &Bytes) -> Option<Bytes> {
    const LAST_BLOCK_STREAM_INFO: [u8; BLOCK_HEADER_BYTES] = [0x80, 0, 0, 34];
    if data.len() == STREAM_INFO_BYTES {
        let whole = [FLAC_MARKER, &LAST_BLOCK_STREAM_INFO, data].concat();
        return Some(whole.into());
    }
    let block = data.strip_prefix(FLAC_MARKER)?;
    let &[kind, 0, 0, 34] = block.first_chunk()? else {
        return None;
    };
    let is_stream_info = kind & 0x7f == 0;
    let whole = block.len() >= BLOCK_HEADER_BYTES.checked_add(STREAM_INFO_BYTES)?;
    (is_stream_info && whole).then(|| data.clone())
}

/// What a decoder needs of a FLAC header as [`flac_header`] returns it: least and greatest block
/// size, and sample rate, channels and bits in one number.
#[must_use]
pub fn flac_format(header: &[u8]) -> Option<(u32, u32)> {
    const BLOCK_SIZE_BITS: u32 = 32;
    const FRAME_SIZES_BITS: usize = 48;
    const FORMAT_BITS: u32 = 20 + 3 + 5;
    let info = header.get(FLAC_MARKER.len().checked_add(BLOCK_HEADER_BYTES)?..)?;
    let mut bits = Bits::new(info);
    let block_sizes = bits.read(BLOCK_SIZE_BITS)?;
    bits.skip(FRAME_SIZES_BITS)?;
    Some((block_sizes, bits.read(FORMAT_BITS)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(sound: Option<Sound>) -> String {
        sound.unwrap().to_string()
    }

    #[test]
    fn mp3_frames_say_their_rate_and_channels() {
        assert_eq!(
            text(Sound::of_mp3(&[0xff, 0xfb, 0x30, 0xc4])),
            "44.1 kHz mono"
        );
        assert_eq!(
            text(Sound::of_mp3(&[0xff, 0xfb, 0x94, 0x00])),
            "48 kHz stereo"
        );
        assert_eq!(
            text(Sound::of_mp3(&[0xff, 0xf3, 0x40, 0x40])),
            "22.05 kHz stereo"
        );
        assert_eq!(text(Sound::of_mp3(&[0xff, 0xe3, 0x18, 0xc0])), "8 kHz mono");
        assert_eq!(Sound::of_mp3(&[0xff, 0xfd, 0x94, 0x00]), None, "layer II");
        assert_eq!(Sound::of_mp3(b"ID3\x03"), None);
    }

    #[test]
    fn ac3_frames_say_their_rate_and_channels() {
        let mono = [0x0b, 0x77, 0x48, 0x0d, 0x0c, 0x40, 0x2f, 0x84];
        assert_eq!(text(Sound::of_ac3(&mono)), "48 kHz mono");
        // acmod 7 with cmixlev, surmixlev, lfeon.
        let surround = [0x0b, 0x77, 0, 0, 0x1e, 0x40, 0b1110_1011, 0x00];
        assert_eq!(text(Sound::of_ac3(&surround)), "48 kHz 5.1");
        let enhanced = [0x0b, 0x77, 0x00, 0xbf, 0x32, 0x87, 0xc0, 0x00];
        assert_eq!(text(Sound::of_ac3(&enhanced)), "48 kHz mono");
    }

    #[test]
    fn opus_says_its_channels() {
        let header = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
        assert_eq!(text(Sound::of_opus_header(header)), "48 kHz stereo");
        assert_eq!(text(Sound::of_opus_packet(&[0x78])), "48 kHz mono");
        assert_eq!(Sound::of_opus_header(b"OpusHead\x01\0"), None);
    }

    #[test]
    fn flac_stream_info_alone_is_completed() {
        let mut info = vec![0x04, 0x00, 0x04, 0x00, 0, 0, 0, 0, 0x08, 0x15];
        info.extend([0x0b, 0xb8, 0x02, 0xf0]);
        info.resize(STREAM_INFO_BYTES, 0);
        let header = flac_header(&info.clone().into()).unwrap();
        assert_eq!(&header[..8], b"fLaC\x80\0\0\x22");
        assert_eq!(&header[8..], info);
        assert_eq!(text(Sound::of_flac(&header)), "48 kHz stereo");
        assert_eq!(flac_header(&header), Some(header.clone()));
        let mut last = header.to_vec();
        last[41] = 7;
        assert_eq!(flac_format(&last), flac_format(&header));
        last[20] ^= 2;
        assert_ne!(flac_format(&last), flac_format(&header));
        assert_eq!(flac_header(&header.slice(..41)), None);
        assert_eq!(flac_header(&Bytes::new()), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_give_a_sound_with_rate_and_channels_or_none(
            sync in prop::sample::select(vec![
                &b""[..], b"\xff\xfb", b"\x0b\x77", b"OpusHead", b"fLaC"
            ]),
            noise in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let data = Bytes::from([sync, &noise].concat());
            let flac = flac_header(&data);
            for sound in [
                Sound::of_mp3(&data),
                Sound::of_ac3(&data),
                Sound::of_opus_header(&data),
                Sound::of_opus_packet(&data),
                flac.and_then(|it| Sound::of_flac(&it)),
                Sound::of_flac(&data),
            ].into_iter().flatten() {
                prop_assert!(sound.rate > 0 && sound.channels > 0);
            }
        }
    }
}
