//! The extended header that audio and video messages have in common: ModEx extensions, and how
//! several tracks lie in one message (Enhanced RTMP v2 "ExAudioTagHeader", "ExVideoTagHeader").

use std::ops::Range;

use super::FlvError;
use super::names::FourCc;

/// Most ModEx extensions that may precede a packet type: one is defined so far.
const MODIFIERS_MAX: usize = 4;
/// Most tracks in one message: renditions and languages of any real publish fit twice over.
const TRACKS_PER_MESSAGE_MAX: usize = 32;
/// Most nanoseconds that a ModEx may add: less than a millisecond.
const NANOSECONDS_MAX: u32 = 999_999;
/// `ModEx`, the same for audio and video.
const MOD_EX: u8 = 7;
/// `VideoPacketType.Multitrack`.
const VIDEO_MULTITRACK: u8 = 6;
/// `AudioPacketType.Multitrack`.
const AUDIO_MULTITRACK: u8 = 5;
/// `VideoPacketType.Metadata`: its frame type means nothing.
pub(super) const VIDEO_METADATA: u8 = 4;

/// One track of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) track: u8,
    pub(super) nanoseconds: u32,
    pub(super) packet_type: u8,
    pub(super) four_cc: FourCc,
    /// What follows all headers, in the message.
    pub(super) data: Range<usize>,
}

/// How the tracks lie (`AvMultitrackType`).
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// Not multitrack: the FourCC, then the data.
    Plain,
    /// The FourCC, the track, then the data.
    One,
    /// For each track, its number, the size of its data, and its data.
    SameCodec(FourCc),
    /// As [`Self::SameCodec`], with a FourCC before each track.
    OwnCodecs,
    /// Nothing more.
    End,
}

/// The tracks of an extended message.
#[derive(Debug, Clone)]
pub(super) struct Parts<'a> {
    reader: Reader<'a>,
    packet_type: u8,
    nanoseconds: u32,
    layout: Layout,
    tracks_left: usize,
}

impl<'a> Parts<'a> {
    /// Reads what stands before the tracks; `first` is the byte before the reader.
    pub(super) fn video(first: u8, reader: Reader<'a>) -> Result<Self, FlvError> {
        Self::read(first, VIDEO_MULTITRACK, reader)
    }

    pub(super) fn audio(first: u8, reader: Reader<'a>) -> Result<Self, FlvError> {
        Self::read(first, AUDIO_MULTITRACK, reader)
    }

    fn read(first: u8, multitrack: u8, mut reader: Reader<'a>) -> Result<Self, FlvError> {
        let (mut packet_type, nanoseconds) = read_modifiers(first & 0x0f, &mut reader)?;
        let mut layout = Layout::Plain;
        if packet_type == multitrack {
            let types = reader.byte().ok_or(FlvError::Truncated)?;
            packet_type = types & 0x0f;
            if packet_type == multitrack {
                return Err(FlvError::Multitrack(types));
            }
            layout = match types >> 4 {
                0 => Layout::One,
                1 => Layout::SameCodec(reader.four_cc().ok_or(FlvError::Truncated)?),
                2 => Layout::OwnCodecs,
                other => return Err(FlvError::Multitrack(other)),
            };
        }
        Ok(Self {
            reader,
            packet_type,
            nanoseconds,
            layout,
            tracks_left: TRACKS_PER_MESSAGE_MAX,
        })
    }

    pub(super) fn is_video_metadata(&self) -> bool {
        self.packet_type == VIDEO_METADATA
    }

    fn read_part(&mut self) -> Option<(FourCc, u8, Range<usize>)> {
        let layout = std::mem::replace(&mut self.layout, Layout::End);
        let reader = &mut self.reader;
        match layout {
            Layout::Plain => Some((reader.four_cc()?, 0, reader.rest())),
            Layout::One => Some((reader.four_cc()?, reader.byte()?, reader.rest())),
            Layout::SameCodec(_) | Layout::OwnCodecs => {
                self.layout = layout;
                let four_cc = match layout {
                    Layout::SameCodec(four_cc) => four_cc,
                    Layout::OwnCodecs | Layout::Plain | Layout::One | Layout::End => {
                        reader.four_cc()?
                    }
                };
                let track = reader.byte()?;
                let [a, b, c] = reader.array()?;
                let size = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
                Some((four_cc, track, reader.take(size)?))
            }
            Layout::End => None,
        }
    }
}

impl Iterator for Parts<'_> {
    type Item = Result<Part, FlvError>;

    fn next(&mut self) -> Option<Self::Item> {
        let many = match self.layout {
            Layout::Plain | Layout::One => false,
            Layout::SameCodec(_) | Layout::OwnCodecs => true,
            Layout::End => return None,
        };
        if many && self.reader.is_empty() && self.tracks_left < TRACKS_PER_MESSAGE_MAX {
            return None;
        }
        let Some(tracks_left) = self.tracks_left.checked_sub(1) else {
            self.layout = Layout::End;
            return Some(Err(FlvError::TooManyTracks));
        };
        self.tracks_left = tracks_left;
        let Some((four_cc, track, data)) = self.read_part() else {
            self.layout = Layout::End;
            return Some(Err(FlvError::Truncated));
        };
        Some(Ok(Part {
            track,
            nanoseconds: self.nanoseconds,
            packet_type: self.packet_type,
            four_cc,
            data,
        }))
    }
}

/// Reads ModEx extensions: returns the packet type behind them, and the nanoseconds that one of
/// them may add to the time.
fn read_modifiers(packet_type: u8, reader: &mut Reader<'_>) -> Result<(u8, u32), FlvError> {
    const LONG_SIZE: u8 = 0xff;
    const TIMESTAMP_OFFSET_NANO: u8 = 0;
    let mut packet_type = packet_type;
    let mut nanoseconds = 0;
    for _ in 0..MODIFIERS_MAX {
        if packet_type != MOD_EX {
            return Ok((packet_type, nanoseconds));
        }
        let short = reader.byte().ok_or(FlvError::Truncated)?;
        let size_minus_one = if short == LONG_SIZE {
            u16::from_be_bytes(reader.array().ok_or(FlvError::Truncated)?)
        } else {
            u16::from(short)
        };
        let size = usize::from(size_minus_one).saturating_add(1);
        let data = reader.bytes(size).ok_or(FlvError::Truncated)?;
        let types = reader.byte().ok_or(FlvError::Truncated)?;
        packet_type = types & 0x0f;
        if let (TIMESTAMP_OFFSET_NANO, Some(&[a, b, c])) = (types >> 4, data.first_chunk::<3>()) {
            nanoseconds = u32::from_be_bytes([0, a, b, c]).min(NANOSECONDS_MAX);
        }
    }
    if packet_type == MOD_EX {
        return Err(FlvError::Modifiers);
    }
    Ok((packet_type, nanoseconds))
}

/// Reads a message from its start; never past its end.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0 }
    }

    /// Reads a part of a message; positions count from the start of the message.
    pub(super) fn within(message: &'a [u8], range: &Range<usize>) -> Self {
        Self {
            data: message.get(..range.end).unwrap_or(message),
            position: range.start,
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.data.get(self.position..)?.first_chunk::<N>()?;
        self.position = self.position.checked_add(N)?;
        Some(*bytes)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn four_cc(&mut self) -> Option<FourCc> {
        self.array().map(FourCc)
    }

    pub(super) fn signed_24(&mut self) -> Option<i32> {
        let [a, b, c] = self.array()?;
        // Placed in the upper bytes, so that the shift back extends the sign.
        Some(i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    fn take(&mut self, count: usize) -> Option<Range<usize>> {
        let end = self.position.checked_add(count)?;
        let range = self.position..end;
        self.data.get(range.clone())?;
        self.position = end;
        Some(range)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let range = self.take(count)?;
        self.data.get(range)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> Range<usize> {
        let start = self.position.min(self.data.len());
        self.position = self.data.len();
        start..self.data.len()
    }

    fn is_empty(&self) -> bool {
        self.position >= self.data.len()
    }
}
