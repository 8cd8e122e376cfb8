//! FLV tag bodies as RTMP carries them: what a video or audio message holds and where its media
//! begins (Adobe FLV 10.1 annex E; Enhanced RTMP v2 "ExVideoTagHeader", "ExAudioTagHeader").

pub mod file;

use std::fmt;

/// Most ModEx extensions that may precede a packet type: one is defined so far.
const MODIFIERS_MAX: usize = 4;
/// Flag of an extended video header in the first byte (Enhanced RTMP, `isExVideoHeader`).
const EX_VIDEO_FLAG: u8 = 0x80;
/// `SoundFormat` of an extended audio header (Enhanced RTMP, `SoundFormat.ExHeader`).
const EX_AUDIO_FORMAT: u8 = 9;
/// `VideoFrameType.Command`: a seek hint of a recorded stream, no picture (annex E.4.3.1).
const FRAME_TYPE_COMMAND: u8 = 5;
/// `CodecID` of H.264 (annex E.4.3.1).
const CODEC_AVC: u8 = 7;
/// `SoundFormat` of AAC (annex E.4.2.1).
const FORMAT_AAC: u8 = 10;
/// FourCC of H.264 and of AAC (Enhanced RTMP, `VideoFourCc`, `AudioFourCc`).
const FOURCC_AVC: FourCc = FourCc(*b"avc1");
const FOURCC_AAC: FourCc = FourCc(*b"mp4a");

/// A message body that is no FLV tag. Always the publisher's fault; the stream may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlvError {
    /// It has no bytes.
    Empty,
    /// It ends within its header.
    Truncated,
    /// Its packet type is not defined for its codec.
    PacketType(u8),
    /// More ModEx extensions than anyone sends.
    Modifiers,
}

impl fmt::Display for FlvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the message is empty"),
            Self::Truncated => f.write_str("the message ends within its header"),
            Self::PacketType(value) => write!(f, "packet type 0x{value:02x} is not defined"),
            Self::Modifiers => f.write_str("the message has too many extensions"),
        }
    }
}

impl std::error::Error for FlvError {}

/// What a video message holds; offsets count from the start of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoTag {
    /// H.264 sequence header: the AVCDecoderConfigurationRecord begins at `offset`.
    AvcConfig {
        /// Where.
        offset: usize,
    },
    /// H.264 access unit: its length-prefixed NAL units begin at `offset`.
    AvcAccessUnit {
        /// Where.
        offset: usize,
        /// PTS minus DTS, in milliseconds: a signed 24-bit number.
        composition_time_ms: i32,
    },
    /// End of the H.264 sequence; holds no media.
    AvcEnd,
    /// A command frame or colour metadata: holds no media.
    NoMedia,
    /// Several tracks in one message (Enhanced RTMP, `VideoPacketType.Multitrack`).
    Multitrack,
    /// Another codec.
    Other(VideoCodec),
}

impl VideoTag {
    /// Parses the header of a video message.
    ///
    /// # Errors
    /// [`FlvError`] if the message is empty, ends too early, or names an undefined packet type.
    pub fn parse(message: &[u8]) -> Result<Self, FlvError> {
        let mut reader = Reader::new(message);
        let first = reader.byte().ok_or(FlvError::Empty)?;
        if first & EX_VIDEO_FLAG != 0 {
            return Self::parse_extended(first, &mut reader);
        }
        let codec = first & 0x0f;
        if first >> 4 == FRAME_TYPE_COMMAND {
            return Ok(Self::NoMedia);
        }
        if codec != CODEC_AVC {
            return Ok(Self::Other(VideoCodec::Legacy(codec)));
        }
        let packet_type = reader.byte().ok_or(FlvError::Truncated)?;
        let composition_time_ms = reader.signed_24().ok_or(FlvError::Truncated)?;
        let offset = reader.position;
        match packet_type {
            0 => Ok(Self::AvcConfig { offset }),
            1 => Ok(Self::AvcAccessUnit {
                offset,
                composition_time_ms,
            }),
            2 => Ok(Self::AvcEnd),
            other => Err(FlvError::PacketType(other)),
        }
    }

    fn parse_extended(first: u8, reader: &mut Reader<'_>) -> Result<Self, FlvError> {
        let packet_type = skip_modifiers(first & 0x0f, reader)?;
        const METADATA: u8 = 4;
        const MULTITRACK: u8 = 6;
        if packet_type == MULTITRACK {
            return Ok(Self::Multitrack);
        }
        if packet_type == METADATA || (first >> 4) & 0x07 == FRAME_TYPE_COMMAND {
            return Ok(Self::NoMedia);
        }
        let four_cc = reader.four_cc().ok_or(FlvError::Truncated)?;
        if four_cc != FOURCC_AVC {
            return Ok(Self::Other(VideoCodec::FourCc(four_cc)));
        }
        match packet_type {
            0 => Ok(Self::AvcConfig {
                offset: reader.position,
            }),
            1 => {
                let composition_time_ms = reader.signed_24().ok_or(FlvError::Truncated)?;
                Ok(Self::AvcAccessUnit {
                    offset: reader.position,
                    composition_time_ms,
                })
            }
            2 => Ok(Self::AvcEnd),
            // CodedFramesX: as CodedFrames, with a composition time of zero left out.
            3 => Ok(Self::AvcAccessUnit {
                offset: reader.position,
                composition_time_ms: 0,
            }),
            other => Err(FlvError::PacketType(other)),
        }
    }
}

/// What an audio message holds; offsets count from the start of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioTag {
    /// AAC sequence header: the AudioSpecificConfig begins at `offset`.
    AacConfig {
        /// Where.
        offset: usize,
    },
    /// One raw AAC access unit, from `offset` to the end.
    AacRaw {
        /// Where.
        offset: usize,
    },
    /// End of sequence or a channel layout: holds no media.
    NoMedia,
    /// Several tracks in one message (Enhanced RTMP, `AudioPacketType.Multitrack`).
    Multitrack,
    /// Another codec.
    Other(AudioCodec),
}

impl AudioTag {
    /// Parses the header of an audio message.
    ///
    /// # Errors
    /// [`FlvError`] if the message is empty, ends too early, or names an undefined packet type.
    pub fn parse(message: &[u8]) -> Result<Self, FlvError> {
        let mut reader = Reader::new(message);
        let first = reader.byte().ok_or(FlvError::Empty)?;
        let format = first >> 4;
        if format == EX_AUDIO_FORMAT {
            return Self::parse_extended(first, &mut reader);
        }
        if format != FORMAT_AAC {
            return Ok(Self::Other(AudioCodec::Legacy(format)));
        }
        let packet_type = reader.byte().ok_or(FlvError::Truncated)?;
        let offset = reader.position;
        match packet_type {
            0 => Ok(Self::AacConfig { offset }),
            1 => Ok(Self::AacRaw { offset }),
            other => Err(FlvError::PacketType(other)),
        }
    }

    fn parse_extended(first: u8, reader: &mut Reader<'_>) -> Result<Self, FlvError> {
        const MULTICHANNEL_CONFIG: u8 = 4;
        const MULTITRACK: u8 = 5;
        let packet_type = skip_modifiers(first & 0x0f, reader)?;
        if packet_type == MULTITRACK {
            return Ok(Self::Multitrack);
        }
        let four_cc = reader.four_cc().ok_or(FlvError::Truncated)?;
        if four_cc != FOURCC_AAC {
            return Ok(Self::Other(AudioCodec::FourCc(four_cc)));
        }
        let offset = reader.position;
        match packet_type {
            0 => Ok(Self::AacConfig { offset }),
            1 => Ok(Self::AacRaw { offset }),
            2 | MULTICHANNEL_CONFIG => Ok(Self::NoMedia),
            other => Err(FlvError::PacketType(other)),
        }
    }
}

/// A codec's four characters (Enhanced RTMP). Prints other than printable ASCII as `?`, since
/// the publisher chose them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            let printable = byte.is_ascii_graphic() || byte == b' ';
            fmt::Write::write_char(f, if printable { char::from(byte) } else { '?' })?;
        }
        Ok(())
    }
}

/// A video codec other than H.264; `Display` says its name as users know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VideoCodec {
    /// `CodecID` of a legacy tag (annex E.4.3.1).
    Legacy(u8),
    /// FourCC of an extended tag.
    FourCc(FourCc),
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Legacy(2) => "Sorenson H.263",
            Self::Legacy(3) => "Screen Video",
            Self::Legacy(4) => "VP6",
            Self::Legacy(5) => "VP6 with alpha",
            Self::Legacy(6) => "Screen Video 2",
            // 12 and 13 are in no standard, but common in cameras and in patched ffmpegs.
            Self::Legacy(12) => "H.265 (HEVC)",
            Self::Legacy(13) => "AV1",
            Self::Legacy(other) => return write!(f, "video codec number {other}"),
            Self::FourCc(FourCc(code)) => match code {
                b"hvc1" | b"hev1" => "H.265 (HEVC)",
                b"vvc1" => "H.266 (VVC)",
                b"av01" => "AV1",
                b"vp09" => "VP9",
                b"vp08" => "VP8",
                other => return write!(f, "video codec \"{}\"", FourCc(*other)),
            },
        };
        f.write_str(name)
    }
}

/// An audio codec other than AAC; `Display` says its name as users know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AudioCodec {
    /// `SoundFormat` of a legacy tag (annex E.4.2.1).
    Legacy(u8),
    /// FourCC of an extended tag.
    FourCc(FourCc),
}

impl fmt::Display for AudioCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Legacy(0 | 3) => "uncompressed PCM",
            Self::Legacy(1) => "ADPCM",
            Self::Legacy(2 | 14) => "MP3",
            Self::Legacy(4..=6) => "Nellymoser",
            Self::Legacy(7) => "G.711 A-law",
            Self::Legacy(8) => "G.711 \u{b5}-law",
            Self::Legacy(11) => "Speex",
            Self::Legacy(other) => return write!(f, "audio codec number {other}"),
            Self::FourCc(FourCc(code)) => match code {
                b"Opus" => "Opus",
                b"fLaC" => "FLAC",
                b"ac-3" => "AC-3",
                b"ec-3" => "E-AC-3",
                b".mp3" => "MP3",
                other => return write!(f, "audio codec \"{}\"", FourCc(*other)),
            },
        };
        f.write_str(name)
    }
}

/// Skips ModEx extensions and returns the packet type behind them (Enhanced RTMP v2,
/// `VideoPacketType.ModEx` and `AudioPacketType.ModEx` are both 7).
fn skip_modifiers(packet_type: u8, reader: &mut Reader<'_>) -> Result<u8, FlvError> {
    const MOD_EX: u8 = 7;
    const LONG_SIZE: u8 = 0xff;
    let mut packet_type = packet_type;
    for _ in 0..MODIFIERS_MAX {
        if packet_type != MOD_EX {
            return Ok(packet_type);
        }
        let short = reader.byte().ok_or(FlvError::Truncated)?;
        let size_minus_one = if short == LONG_SIZE {
            let high = reader.byte().ok_or(FlvError::Truncated)?;
            let low = reader.byte().ok_or(FlvError::Truncated)?;
            u16::from_be_bytes([high, low])
        } else {
            u16::from(short)
        };
        let size = usize::from(size_minus_one).saturating_add(1);
        reader.skip(size).ok_or(FlvError::Truncated)?;
        packet_type = reader.byte().ok_or(FlvError::Truncated)? & 0x0f;
    }
    if packet_type == MOD_EX {
        return Err(FlvError::Modifiers);
    }
    Ok(packet_type)
}

struct Reader<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0 }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.data.get(self.position..)?.first_chunk::<N>()?;
        self.position = self.position.checked_add(N)?;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn four_cc(&mut self) -> Option<FourCc> {
        self.array().map(FourCc)
    }

    fn signed_24(&mut self) -> Option<i32> {
        let [a, b, c] = self.array()?;
        // Placed in the upper bytes, so that the shift back extends the sign.
        Some(i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        let position = self.position.checked_add(count)?;
        (position <= self.data.len()).then(|| self.position = position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn legacy_avc_sequence_header_begins_after_five_bytes() {
        let tag = VideoTag::parse(&[0x17, 0, 0, 0, 0, 1, 0x64]);
        assert_eq!(tag, Ok(VideoTag::AvcConfig { offset: 5 }));
    }

    #[test]
    fn composition_time_is_signed() {
        for (bytes, expected) in [
            ([0x00, 0x00, 0x21], 33),
            ([0xff, 0xff, 0xff], -1),
            ([0x7f, 0xff, 0xff], 8_388_607),
            ([0x80, 0x00, 0x00], -8_388_608),
        ] {
            let [a, b, c] = bytes;
            assert_eq!(
                VideoTag::parse(&[0x27, 1, a, b, c]),
                Ok(VideoTag::AvcAccessUnit {
                    offset: 5,
                    composition_time_ms: expected
                })
            );
        }
    }

    #[test]
    fn short_messages_are_errors() {
        assert_eq!(VideoTag::parse(&[]), Err(FlvError::Empty));
        assert_eq!(AudioTag::parse(&[]), Err(FlvError::Empty));
        for short in [
            &[0x17][..],
            &[0x17, 1],
            &[0x17, 1, 0, 0],
            &[0x91, b'a', b'v'],
        ] {
            assert_eq!(
                VideoTag::parse(short),
                Err(FlvError::Truncated),
                "{short:?}"
            );
        }
        for short in [&[0xaf][..], &[0x90], &[0x90, b'm', b'p', b'4']] {
            assert_eq!(
                AudioTag::parse(short),
                Err(FlvError::Truncated),
                "{short:?}"
            );
        }
    }

    #[test]
    fn enhanced_avc_is_avc() {
        let tag = |bytes: &[u8]| VideoTag::parse(bytes);
        assert_eq!(
            tag(b"\x90avc1\x01"),
            Ok(VideoTag::AvcConfig { offset: 5 }),
            "SequenceStart"
        );
        assert_eq!(
            tag(b"\xa1avc1\xff\xff\xfe\x00"),
            Ok(VideoTag::AvcAccessUnit {
                offset: 8,
                composition_time_ms: -2
            }),
            "CodedFrames"
        );
        assert_eq!(
            tag(b"\xa3avc1\x00"),
            Ok(VideoTag::AvcAccessUnit {
                offset: 5,
                composition_time_ms: 0
            }),
            "CodedFramesX"
        );
        assert_eq!(tag(b"\x92avc1"), Ok(VideoTag::AvcEnd));
        assert_eq!(tag(b"\x95avc1"), Err(FlvError::PacketType(5)));
    }

    #[test]
    fn modifiers_before_the_packet_type_are_skipped() {
        let short = b"\x97\x02\x01\x02\x03\x00avc1\x01";
        assert_eq!(
            VideoTag::parse(short),
            Ok(VideoTag::AvcConfig { offset: 10 })
        );
        let mut long = vec![0x97, 0xff, 0x01, 0x00];
        long.extend([0; 257]);
        long.extend(b"\x00avc1");
        assert_eq!(
            VideoTag::parse(&long),
            Ok(VideoTag::AvcConfig { offset: 266 })
        );
        assert_eq!(
            VideoTag::parse(&[0x97, 0, 0, 7, 0, 0, 7, 0, 0, 7, 0, 0, 7, 0, 0, 7]),
            Err(FlvError::Modifiers)
        );
    }

    #[test]
    fn other_codecs_are_named() {
        let video = |bytes: &[u8]| match VideoTag::parse(bytes) {
            Ok(VideoTag::Other(codec)) => codec.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(video(b"\x90hvc1"), "H.265 (HEVC)");
        assert_eq!(video(b"\x91av01"), "AV1");
        assert_eq!(video(b"\x90vp09"), "VP9");
        assert_eq!(video(b"\x90\x1b[2J"), "video codec \"?[2J\"");
        assert_eq!(video(&[0x12]), "Sorenson H.263");
        assert_eq!(video(&[0x1c]), "H.265 (HEVC)");
        let audio = |bytes: &[u8]| match AudioTag::parse(bytes) {
            Ok(AudioTag::Other(codec)) => codec.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(audio(&[0x2f]), "MP3");
        assert_eq!(audio(b"\x90Opus"), "Opus");
        assert_eq!(audio(b"\x90ec-3"), "E-AC-3");
    }

    #[test]
    fn aac_tags_are_told_apart() {
        assert_eq!(
            AudioTag::parse(&[0xaf, 0, 0x11, 0x90]),
            Ok(AudioTag::AacConfig { offset: 2 })
        );
        assert_eq!(
            AudioTag::parse(&[0xaf, 1, 0x21]),
            Ok(AudioTag::AacRaw { offset: 2 })
        );
        assert_eq!(
            AudioTag::parse(b"\x91mp4a\x21"),
            Ok(AudioTag::AacRaw { offset: 5 })
        );
        assert_eq!(AudioTag::parse(&[0xaf, 2]), Err(FlvError::PacketType(2)));
    }

    #[test]
    fn multitrack_and_messages_without_media_are_recognised() {
        assert_eq!(VideoTag::parse(&[0x96, 0]), Ok(VideoTag::Multitrack));
        assert_eq!(AudioTag::parse(&[0x95, 0]), Ok(AudioTag::Multitrack));
        assert_eq!(VideoTag::parse(&[0x57, 0]), Ok(VideoTag::NoMedia));
        assert_eq!(VideoTag::parse(&[0x94, 0]), Ok(VideoTag::NoMedia));
        assert_eq!(AudioTag::parse(b"\x94mp4a"), Ok(AudioTag::NoMedia));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn offsets_never_pass_the_end(message in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(VideoTag::AvcConfig { offset } | VideoTag::AvcAccessUnit { offset, .. }) =
                VideoTag::parse(&message)
            {
                prop_assert!(offset <= message.len());
            }
            if let Ok(AudioTag::AacConfig { offset } | AudioTag::AacRaw { offset }) =
                AudioTag::parse(&message)
            {
                prop_assert!(offset <= message.len());
            }
        }
    }
}
