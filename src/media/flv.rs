//! FLV tag bodies as RTMP carries them: what a video or audio message holds and where its media
//! lies (Adobe FLV 10.1 annex E; Enhanced RTMP v2 "ExVideoTagHeader", "ExAudioTagHeader"). A
//! message may hold several tracks; it is read without copying or allocating.

mod extended;
pub mod file;
mod names;

use std::fmt;
use std::ops::Range;

pub use names::{AUDIO_FOUR_CCS, FourCc, UnknownCodec, VIDEO_FOUR_CCS};

use super::codec::{AudioCodec, VideoCodec};
use extended::{Part, Parts, Reader};

/// Flag of an extended video header in the first byte (Enhanced RTMP, `isExVideoHeader`).
const EX_VIDEO_FLAG: u8 = 0x80;
/// `SoundFormat` of an extended audio header (Enhanced RTMP, `SoundFormat.ExHeader`).
const EX_AUDIO_FORMAT: u8 = 9;
/// `VideoFrameType` of frames where decoding may begin: "key" and "generated key" (annex E.4.3.1).
const FRAME_TYPES_KEY: [u8; 2] = [1, 4];
/// `VideoFrameType.Command`: a seek hint of a recorded stream, no picture (annex E.4.3.1).
const FRAME_TYPE_COMMAND: u8 = 5;
/// `SoundFormat` of AAC (annex E.4.2.1).
const FORMAT_AAC: u8 = 10;

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
    /// Its multitrack layout is not defined, or one multitrack header is inside another.
    Multitrack(u8),
    /// More tracks than anyone sends in one message.
    TooManyTracks,
}

impl fmt::Display for FlvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the message is empty"),
            Self::Truncated => f.write_str("the message ends within its header"),
            Self::PacketType(value) => write!(f, "packet type 0x{value:02x} is not defined"),
            Self::Modifiers => f.write_str("the message has too many extensions"),
            Self::Multitrack(value) => {
                write!(f, "multitrack type 0x{value:02x} is not defined")
            }
            Self::TooManyTracks => f.write_str("the message has too many tracks"),
        }
    }
}

impl std::error::Error for FlvError {}

/// What one track of a video message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoTag {
    /// Which track: 0 is the one that is played.
    pub track: u8,
    /// What is to be added to the message's time, in nanoseconds, below 1,000,000 (Enhanced RTMP
    /// v2, `TimestampOffsetNano`).
    pub nanoseconds: u32,
    /// What it holds.
    pub body: VideoBody,
}

/// What a video tag holds; ranges count from the start of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoBody {
    /// A sequence header: the codec's configuration record.
    Config {
        /// The codec.
        codec: VideoCodec,
        /// Where the record lies; may be empty.
        data: Range<usize>,
    },
    /// A coded picture.
    Frame {
        /// The codec.
        codec: VideoCodec,
        /// Whether the publisher says that decoding may begin here.
        key: bool,
        /// PTS minus DTS, in milliseconds: a signed 24-bit number.
        composition_time_ms: i32,
        /// Where it lies; may be empty. H.264 and H.265: length-prefixed NAL units.
        data: Range<usize>,
    },
    /// The end of a sequence, a command, or colour metadata: no media.
    NoMedia,
    /// An MPEG-2 transport stream's descriptor (`MPEG2TSSequenceStart`): not played.
    TransportStream,
    /// A codec that is not played.
    Unknown(UnknownCodec),
}

/// The tracks of a video message, in its order. Ends after the first error.
#[derive(Debug, Clone)]
pub struct VideoTags<'a> {
    message: &'a [u8],
    state: TagsState<'a>,
}

#[derive(Debug, Clone)]
enum TagsState<'a> {
    Begin,
    Extended(Parts<'a>),
    Done,
}

impl<'a> VideoTags<'a> {
    /// Begins to read a video message (RTMP type 9).
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        Self {
            message,
            state: TagsState::Begin,
        }
    }

    fn begin(&mut self) -> Result<Option<VideoTag>, FlvError> {
        self.state = TagsState::Done;
        let mut reader = Reader::new(self.message);
        let first = reader.byte().ok_or(FlvError::Empty)?;
        if first & EX_VIDEO_FLAG == 0 {
            return parse_legacy_video(first, &mut reader).map(Some);
        }
        let parts = Parts::video(first, reader)?;
        if frame_type(first) == FRAME_TYPE_COMMAND && !parts.is_video_metadata() {
            return Ok(Some(VideoTag {
                track: 0,
                nanoseconds: 0,
                body: VideoBody::NoMedia,
            }));
        }
        self.state = TagsState::Extended(parts);
        Ok(None)
    }
}

impl Iterator for VideoTags<'_> {
    type Item = Result<VideoTag, FlvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.state, TagsState::Begin) {
            match self.begin() {
                Ok(None) => {}
                Ok(Some(tag)) => return Some(Ok(tag)),
                Err(error) => return Some(Err(error)),
            }
        }
        let TagsState::Extended(parts) = &mut self.state else {
            return None;
        };
        let key = self.message.first().is_some_and(|&it| is_key(it));
        let tag = parts
            .next()?
            .and_then(|part| parse_video_part(self.message, key, part));
        if tag.is_err() {
            self.state = TagsState::Done;
        }
        Some(tag)
    }
}

fn frame_type(first: u8) -> u8 {
    (first >> 4) & 0x07
}

fn is_key(first: u8) -> bool {
    FRAME_TYPES_KEY.contains(&frame_type(first))
}

fn parse_legacy_video(first: u8, reader: &mut Reader<'_>) -> Result<VideoTag, FlvError> {
    let tag = |body| VideoTag {
        track: 0,
        nanoseconds: 0,
        body,
    };
    if frame_type(first) == FRAME_TYPE_COMMAND {
        return Ok(tag(VideoBody::NoMedia));
    }
    let number = first & 0x0f;
    let key = is_key(first);
    let Some((codec, has_header)) = names::video_of_legacy(number) else {
        return Ok(tag(VideoBody::Unknown(UnknownCodec::Video(number))));
    };
    if !has_header {
        return Ok(tag(VideoBody::Frame {
            codec,
            key,
            composition_time_ms: 0,
            data: reader.rest(),
        }));
    }
    let packet_type = reader.byte().ok_or(FlvError::Truncated)?;
    let composition_time_ms = reader.signed_24().ok_or(FlvError::Truncated)?;
    let data = reader.rest();
    Ok(tag(match packet_type {
        0 => VideoBody::Config { codec, data },
        1 => VideoBody::Frame {
            codec,
            key,
            composition_time_ms,
            data,
        },
        2 => VideoBody::NoMedia,
        other => return Err(FlvError::PacketType(other)),
    }))
}

/// Reads one track of an extended video message (Enhanced RTMP, "ExVideoTagBody").
fn parse_video_part(message: &[u8], key: bool, part: Part) -> Result<VideoTag, FlvError> {
    let tag = |body| VideoTag {
        track: part.track,
        nanoseconds: part.nanoseconds,
        body,
    };
    let Some(codec) = names::video_of_four_cc(part.four_cc) else {
        let unknown = UnknownCodec::FourCc(part.four_cc);
        return Ok(tag(VideoBody::Unknown(unknown)));
    };
    let mut reader = Reader::within(message, &part.data);
    Ok(tag(match part.packet_type {
        0 => VideoBody::Config {
            codec,
            data: part.data,
        },
        1 => {
            let composition_time_ms = match codec {
                VideoCodec::Avc | VideoCodec::Hevc => {
                    reader.signed_24().ok_or(FlvError::Truncated)?
                }
                VideoCodec::Av1
                | VideoCodec::Vp9
                | VideoCodec::Vp8
                | VideoCodec::SorensonH263
                | VideoCodec::ScreenVideo
                | VideoCodec::Vp6
                | VideoCodec::Vp6Alpha
                | VideoCodec::ScreenVideo2 => 0,
            };
            VideoBody::Frame {
                codec,
                key,
                composition_time_ms,
                data: reader.rest(),
            }
        }
        2 | extended::VIDEO_METADATA => VideoBody::NoMedia,
        // CodedFramesX: as CodedFrames, with a composition time of zero left out.
        3 => VideoBody::Frame {
            codec,
            key,
            composition_time_ms: 0,
            data: part.data,
        },
        5 => VideoBody::TransportStream,
        other => return Err(FlvError::PacketType(other)),
    }))
}

/// What one track of an audio message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioTag {
    /// Which track: 0 is the one that is played.
    pub track: u8,
    /// As [`VideoTag::nanoseconds`].
    pub nanoseconds: u32,
    /// What it holds.
    pub body: AudioBody,
}

/// What an audio tag holds; ranges count from the start of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioBody {
    /// A sequence header: AudioSpecificConfig, Opus identification header, FLAC stream info.
    Config {
        /// The codec.
        codec: AudioCodec,
        /// Where it lies; may be empty.
        data: Range<usize>,
    },
    /// A packet.
    Packet {
        /// The codec.
        codec: AudioCodec,
        /// Where it lies; may be empty.
        data: Range<usize>,
    },
    /// The end of a sequence or a channel layout: no media.
    NoMedia,
    /// A codec that is not played.
    Unknown(UnknownCodec),
}

/// The tracks of an audio message, in its order. Ends after the first error.
#[derive(Debug, Clone)]
pub struct AudioTags<'a> {
    message: &'a [u8],
    state: TagsState<'a>,
}

impl<'a> AudioTags<'a> {
    /// Begins to read an audio message (RTMP type 8).
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        Self {
            message,
            state: TagsState::Begin,
        }
    }

    fn begin(&mut self) -> Result<Option<AudioTag>, FlvError> {
        self.state = TagsState::Done;
        let mut reader = Reader::new(self.message);
        let first = reader.byte().ok_or(FlvError::Empty)?;
        if first >> 4 != EX_AUDIO_FORMAT {
            return parse_legacy_audio(first, &mut reader).map(Some);
        }
        self.state = TagsState::Extended(Parts::audio(first, reader)?);
        Ok(None)
    }
}

impl Iterator for AudioTags<'_> {
    type Item = Result<AudioTag, FlvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.state, TagsState::Begin) {
            match self.begin() {
                Ok(None) => {}
                Ok(Some(tag)) => return Some(Ok(tag)),
                Err(error) => return Some(Err(error)),
            }
        }
        let TagsState::Extended(parts) = &mut self.state else {
            return None;
        };
        let tag = parts.next()?.and_then(parse_audio_part);
        if tag.is_err() {
            self.state = TagsState::Done;
        }
        Some(tag)
    }
}

fn parse_legacy_audio(first: u8, reader: &mut Reader<'_>) -> Result<AudioTag, FlvError> {
    let tag = |body| AudioTag {
        track: 0,
        nanoseconds: 0,
        body,
    };
    let format = first >> 4;
    let Some(codec) = names::audio_of_legacy(first) else {
        return Ok(tag(AudioBody::Unknown(UnknownCodec::Audio(format))));
    };
    let packet_type = match format {
        FORMAT_AAC => reader.byte().ok_or(FlvError::Truncated)?,
        _ => 1,
    };
    let data = reader.rest();
    Ok(tag(match packet_type {
        0 => AudioBody::Config { codec, data },
        1 => AudioBody::Packet { codec, data },
        other => return Err(FlvError::PacketType(other)),
    }))
}

/// Reads one track of an extended audio message (Enhanced RTMP, "ExAudioTagBody").
fn parse_audio_part(part: Part) -> Result<AudioTag, FlvError> {
    const MULTICHANNEL_CONFIG: u8 = 4;
    let data = part.data;
    let body = match (names::audio_of_four_cc(part.four_cc), part.packet_type) {
        (None, _) => AudioBody::Unknown(UnknownCodec::FourCc(part.four_cc)),
        (Some(codec), 0) => AudioBody::Config { codec, data },
        (Some(codec), 1) => AudioBody::Packet { codec, data },
        (Some(_), 2 | MULTICHANNEL_CONFIG) => AudioBody::NoMedia,
        (Some(_), other) => return Err(FlvError::PacketType(other)),
    };
    Ok(AudioTag {
        track: part.track,
        nanoseconds: part.nanoseconds,
        body,
    })
}

#[cfg(test)]
mod tests;
