//! Codecs as FLV tags name them (Adobe FLV 10.1 annex E.4.2.1, E.4.3.1; Enhanced RTMP v2
//! `AudioFourCc`, `VideoFourCc`).

use std::fmt;

use crate::media::codec::{AudioCodec, VideoCodec};

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

/// FourCCs of the video codecs that are played, as encoders are told (`VideoFourCc`).
pub const VIDEO_FOUR_CCS: [(&str, VideoCodec); 5] = [
    ("avc1", VideoCodec::Avc),
    ("hvc1", VideoCodec::Hevc),
    ("av01", VideoCodec::Av1),
    ("vp09", VideoCodec::Vp9),
    ("vp08", VideoCodec::Vp8),
];

/// FourCCs of the audio codecs that are played (`AudioFourCc`).
pub const AUDIO_FOUR_CCS: [(&str, AudioCodec); 6] = [
    ("mp4a", AudioCodec::Aac),
    ("Opus", AudioCodec::Opus),
    ("fLaC", AudioCodec::Flac),
    ("ac-3", AudioCodec::Ac3),
    ("ec-3", AudioCodec::Eac3),
    (".mp3", AudioCodec::Mp3),
];

/// The video codec of a FourCC; `None` if it is not played.
pub(super) fn video_of_four_cc(FourCc(code): FourCc) -> Option<VideoCodec> {
    // Parameter sets may be in the stream, too: nothing else differs.
    let code = if &code == b"hev1" { *b"hvc1" } else { code };
    by_name(&VIDEO_FOUR_CCS, code)
}

/// The audio codec of a FourCC; `None` if it is not played.
pub(super) fn audio_of_four_cc(FourCc(code): FourCc) -> Option<AudioCodec> {
    by_name(&AUDIO_FOUR_CCS, code)
}

fn by_name<T: Copy>(names: &[(&str, T)], code: [u8; 4]) -> Option<T> {
    let named = names.iter().find(|(name, _)| name.as_bytes() == code);
    named.map(|(_, codec)| *codec)
}

/// The video codec of a legacy tag's `CodecID`, and whether H.264's header follows; `None` if it is
/// not played.
pub(super) fn video_of_legacy(number: u8) -> Option<(VideoCodec, bool)> {
    Some(match number {
        2 => (VideoCodec::SorensonH263, false),
        3 => (VideoCodec::ScreenVideo, false),
        4 => (VideoCodec::Vp6, false),
        5 => (VideoCodec::Vp6Alpha, false),
        6 => (VideoCodec::ScreenVideo2, false),
        7 => (VideoCodec::Avc, true),
        // 12 and 13 are in no standard, but common in cameras and in patched ffmpegs; laid out
        // as H.264 is.
        12 => (VideoCodec::Hevc, true),
        13 => (VideoCodec::Av1, true),
        _ => return None,
    })
}

/// The audio codec of a legacy tag, by its first byte; `None` if it is not played.
pub(super) fn audio_of_legacy(first: u8) -> Option<AudioCodec> {
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
        0 | 3 => Some(AudioCodec::Pcm {
            rate,
            channels,
            bits,
        }),
        2 | 14 => Some(AudioCodec::Mp3),
        4 => Some(AudioCodec::Nellymoser { rate: 16_000 }),
        5 => Some(AudioCodec::Nellymoser { rate: 8_000 }),
        6 => Some(AudioCodec::Nellymoser { rate }),
        7 => Some(AudioCodec::ALaw { channels }),
        8 => Some(AudioCodec::MuLaw { channels }),
        10 => Some(AudioCodec::Aac),
        11 => Some(AudioCodec::Speex),
        _ => None,
    }
}
