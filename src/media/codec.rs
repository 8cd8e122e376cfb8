//! What a publish may be coded with, as published, by the names that users know: what `ingest` tells
//! the transcoders.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use super::time::MediaTime;

/// A video codec that RTMP carries (FLV annex E.4.3.1 `CodecID`; Enhanced RTMP `VideoFourCc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// H.264 (`avc1`).
    Avc,
    /// H.265 (`hvc1`).
    Hevc,
    /// AV1 (`av01`).
    Av1,
    /// VP9 (`vp09`).
    Vp9,
    /// VP8 (`vp08`).
    Vp8,
    /// Sorenson H.263 (`CodecID` 2).
    SorensonH263,
    /// Screen Video (`CodecID` 3).
    ScreenVideo,
    /// On2 VP6 (`CodecID` 4).
    Vp6,
    /// On2 VP6 with alpha channel (`CodecID` 5).
    Vp6Alpha,
    /// Screen Video 2 (`CodecID` 6).
    ScreenVideo2,
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avc => "H.264",
            Self::Hevc => "H.265",
            Self::Av1 => "AV1",
            Self::Vp9 => "VP9",
            Self::Vp8 => "VP8",
            Self::SorensonH263 => "Sorenson H.263",
            Self::ScreenVideo => "Screen Video",
            Self::Vp6 => "VP6",
            Self::Vp6Alpha => "VP6 with alpha",
            Self::ScreenVideo2 => "Screen Video 2",
        })
    }
}

/// An audio codec, with what a legacy tag's header says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// AAC (`SoundFormat` 10, `mp4a`).
    Aac,
    /// MP3 (2, 14, `.mp3`).
    Mp3,
    /// Opus (`Opus`).
    Opus,
    /// FLAC (`fLaC`).
    Flac,
    /// AC-3 (`ac-3`).
    Ac3,
    /// E-AC-3 (`ec-3`).
    Eac3,
    /// G.711 A-law (7), 8 kHz.
    ALaw {
        /// 1 or 2.
        channels: u8,
    },
    /// G.711 µ-law (8), 8 kHz.
    MuLaw {
        /// 1 or 2.
        channels: u8,
    },
    /// PCM, little-endian (3; also 0, "platform endian": nobody sends big-endian).
    Pcm {
        /// Samples a second.
        rate: u32,
        /// 1 or 2.
        channels: u8,
        /// 8 or 16.
        bits: u8,
    },
    /// Speex (11): 16 kHz mono whatever the header says.
    Speex,
    /// Nellymoser (4, 5, 6): mono.
    Nellymoser {
        /// Samples a second.
        rate: u32,
    },
}

impl fmt::Display for AudioCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aac => "AAC",
            Self::Mp3 => "MP3",
            Self::Opus => "Opus",
            Self::Flac => "FLAC",
            Self::Ac3 => "AC-3",
            Self::Eac3 => "E-AC-3",
            Self::ALaw { .. } => "G.711 A-law",
            Self::MuLaw { .. } => "G.711 \u{b5}-law",
            Self::Pcm { .. } => "PCM",
            Self::Speex => "Speex",
            Self::Nellymoser { .. } => "Nellymoser",
        })
    }
}

/// What a decoder must know of a video before its first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoConfig {
    /// The codec.
    pub codec: VideoCodec,
    /// The configuration record as published, which is Matroska's `CodecPrivate`: avcC, hvcC,
    /// av1C; empty for codecs without one. An avcC is written anew when the stream has changed
    /// its parameter sets in band. VP8 and VP9 may have a vpcC, which is no `CodecPrivate`. VP6
    /// has one byte, FLV's adjustment (pixels cut off at the right in the upper half, at the
    /// bottom in the lower), which ffmpeg takes as extradata: in Matroska, what follows the
    /// BITMAPINFOHEADER of `V_MS/VFW/FOURCC`.
    pub record: Bytes,
    /// Width and height in pixels, if they are known.
    pub size: Option<(u32, u32)>,
    /// Width and height of a pixel's shape, if not square (14496-10 annex E.2.1).
    pub sample_aspect_ratio: Option<(u32, u32)>,
    /// Whether pictures may be interlaced: fields or MBAFF are allowed, used or not.
    pub interlaced: bool,
    /// Whether it says how far pictures are reordered (14496-10 annex E, `max_num_reorder_frames`).
    /// A decoder that is not told learns it from the pictures that nothing refers to.
    pub reordering_told: bool,
    /// Frames in 1,000 seconds, if that is known.
    pub frames_per_1000_s: Option<u32>,
}

/// One coded picture as published, of any codec.
#[derive(Debug, Clone)]
pub struct CodedFrame {
    /// When it is shown, on the server's timeline.
    pub pts: MediaTime,
    /// When it is decoded.
    pub dts: MediaTime,
    /// Whether decoding may begin here.
    pub key: bool,
    /// Whether decoding may begin here as well, though it shows its first pictures wrong: said only of
    /// streams whose keyframes are far apart.
    pub recovery: bool,
    /// Whether nothing refers to it, as far as is known: if it is not shown, it need not be decoded.
    pub disposable: bool,
    /// Its bytes as Matroska takes them: length-prefixed NAL units (H.264, H.265), OBUs without a
    /// temporal delimiter (AV1), or the codec's frame: all that follows the FLV tag's header
    /// byte, for VP6 without the adjustment byte (see [`VideoConfig::record`]), with alpha still
    /// with the 24-bit offset of its alpha plane, as ffmpeg's FLV reader gives it.
    pub data: Bytes,
    /// When its last byte was received.
    pub received: Instant,
}

/// Why a room's video cannot be shown as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TranscodeReason {
    /// Pictures are shown in another order than they are sent.
    Reordering,
    /// Pictures are made of fields.
    Interlaced,
    /// More than 8 bits a sample, or chroma other than 4:2:0.
    PixelFormat,
    /// Pixels are not square: browsers show them as if they were.
    PixelShape,
    /// Pictures are to be turned or mirrored, which browsers leave undone.
    Rotation,
    /// Keyframes come so rarely that who joins would wait for one, and there are places between them
    /// where a decoder may begin, but browsers do not.
    KeyframesMissing,
    /// Not H.264.
    Codec(VideoCodec),
}

impl fmt::Display for TranscodeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reordering => f.write_str("it has B-frames"),
            Self::Interlaced => f.write_str("it is interlaced"),
            Self::PixelFormat => f.write_str("its pixels are not 8-bit 4:2:0"),
            Self::PixelShape => f.write_str("its pixels are not square"),
            Self::KeyframesMissing => f.write_str("it has no keyframes for those who join"),
            Self::Rotation => f.write_str("it is to be turned before it is shown"),
            Self::Codec(codec) => write!(f, "it is {codec}"),
        }
    }
}

/// What becomes of a room's video that browsers cannot play as published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TranscodeState {
    /// There is none: they play it as it is, or there is no video.
    #[default]
    Off,
    /// It would be transcoded, but nobody watches.
    Needed,
    /// It is to be transcoded, and the first picture is not made yet.
    Waiting,
    /// It is being transcoded.
    Running,
    /// It cannot be transcoded (now): why, and what to do, in plain words.
    Refused(String),
}

impl TranscodeState {
    /// The word for JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Needed => "needed",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Refused(_) => "refused",
        }
    }

    /// Why it is refused, if it is.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Refused(text) => Some(text),
            Self::Off | Self::Needed | Self::Waiting | Self::Running => None,
        }
    }
}

/// How a publish's audio is coded, with what a decoder must know before its first packet (FLV
/// annex E.4.2.1 `SoundFormat`; Enhanced RTMP `AudioFourCc`). The first of a kind is heard at the
/// packet's time; where a packet holds several of the codec's frames, they follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioConfig {
    /// AAC of any kind: its AudioSpecificConfig (14496-3 §1.6.2.1).
    Aac(Bytes),
    /// MPEG-1, 2 or 2.5 layer III; every frame says its own rate and channels.
    Mp3,
    /// G.711 A-law, 8 kHz (ITU-T G.711).
    ALaw {
        /// 1 or 2.
        channels: u8,
    },
    /// G.711 µ-law, 8 kHz.
    MuLaw {
        /// 1 or 2.
        channels: u8,
    },
    /// Linear PCM, interleaved, little-endian (8 bit: unsigned).
    Pcm {
        /// Samples a second.
        rate: u32,
        /// 1 or 2.
        channels: u8,
        /// 8 or 16.
        bits: u8,
    },
    /// Opus: its identification header (RFC 7845 §5.1), if one came.
    Opus(Option<Bytes>),
    /// FLAC: `fLaC` and its metadata blocks, as the sequence header has them (RFC 9639 §6).
    Flac(Bytes),
    /// AC-3 (ETSI TS 102 366); every frame says its own rate and channels.
    Ac3,
    /// E-AC-3 (ETSI TS 102 366 annex E).
    Eac3,
    /// Speex, 16 kHz mono.
    Speex,
    /// Nellymoser, mono.
    Nellymoser {
        /// Samples a second: 8,000, 16,000 or 22,050 (the tag's rate).
        rate: u32,
    },
}

/// When video is transcoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VideoMode {
    /// What browsers cannot decode, while somebody watches it.
    #[default]
    Auto,
    /// Nothing: what browsers cannot decode is reported instead.
    Never,
    /// Everything that is watched.
    Always,
}
