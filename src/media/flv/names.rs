//! Codecs as FLV tags name them (Adobe FLV 10.1 annex E.4.2.1, E.4.3.1; Enhanced RTMP v2
//! `AudioFourCc`, `VideoFourCc`).

use std::fmt;

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

/// A codec that is not played; `Display` says its name as users know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnknownCodec {
    /// `CodecID` of a legacy video tag.
    Video(u8),
    /// `SoundFormat` of a legacy audio tag.
    Audio(u8),
    /// FourCC of an extended tag.
    FourCc(FourCc),
}

impl fmt::Display for UnknownCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Video(number) => write!(f, "video codec number {number}"),
            Self::Audio(1) => f.write_str("ADPCM"),
            Self::Audio(number) => write!(f, "audio codec number {number}"),
            Self::FourCc(FourCc(code)) => match code {
                b"vvc1" => f.write_str("H.266 (VVC)"),
                other => write!(f, "codec \"{}\"", FourCc(*other)),
            },
        }
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

impl AudioCodec {
    /// The codec of a legacy tag, by its first byte; `None` if it is not played.
    pub(super) fn of_legacy(first: u8) -> Option<Self> {
        // SoundRate: 5,512.5 Hz, of which no sample rate of ours has the half.
        let rate = match (first >> 2) & 0x03 {
            0 => 5_512,
            1 => 11_025,
            2 => 22_050,
            _ => 44_100,
        };
        let bits = if first & 0x02 == 0 { 8 } else { 16 };
        let channels = if first & 0x01 == 0 { 1 } else { 2 };
        match first >> 4 {
            0 | 3 => Some(Self::Pcm {
                rate,
                channels,
                bits,
            }),
            2 | 14 => Some(Self::Mp3),
            4 => Some(Self::Nellymoser { rate: 16_000 }),
            5 => Some(Self::Nellymoser { rate: 8_000 }),
            6 => Some(Self::Nellymoser { rate }),
            7 => Some(Self::ALaw { channels }),
            8 => Some(Self::MuLaw { channels }),
            10 => Some(Self::Aac),
            11 => Some(Self::Speex),
            _ => None,
        }
    }

    /// The codec of a FourCC; `None` if it is not played.
    pub(super) fn of_four_cc(FourCc(code): FourCc) -> Option<Self> {
        match &code {
            b"mp4a" => Some(Self::Aac),
            b".mp3" => Some(Self::Mp3),
            b"Opus" => Some(Self::Opus),
            b"fLaC" => Some(Self::Flac),
            b"ac-3" => Some(Self::Ac3),
            b"ec-3" => Some(Self::Eac3),
            _ => None,
        }
    }
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
