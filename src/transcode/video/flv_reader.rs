//! FLV as a child writes it to its standard output (Adobe FLV 10.1 annex E.2 to E.4.3), piece by
//! piece. The child has decoded what a stranger published, so nothing of it is believed: what is
//! not H.264 in FLV ends the reading.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::VIDEO_TAG_BYTES_MAX;

/// Bytes of the file's header, as every writer makes it (annex E.2).
const FILE_HEADER_BYTES: u32 = 9;
/// Bytes of a tag's header (annex E.4.1).
const TAG_HEADER_BYTES: usize = 11;
/// Bytes of the size that follows each tag and the file's header (annex E.3).
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;
/// Bytes of a video tag's body before its media (annex E.4.3.1).
const VIDEO_HEADER_BYTES: usize = 5;
/// Tag types (annex E.4.1).
const TYPE_VIDEO: u8 = 9;
const TYPE_SCRIPT: u8 = 18;
/// `CodecID` of H.264 (annex E.4.3.1).
const CODEC_AVC: u8 = 7;

/// What a child wrote is not what it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlvReadError {
    /// It does not begin with FLV's header.
    FileHeader,
    /// A tag is neither video nor script data.
    TagType(u8),
    /// A tag is larger than [`VIDEO_TAG_BYTES_MAX`].
    TagSize(u32),
    /// The size behind a tag is not the tag's.
    PreviousTagSize,
    /// A video tag is not H.264.
    Codec(u8),
    /// A video tag ends within its header.
    Truncated,
    /// An H.264 tag is of no known type.
    PacketType(u8),
    /// A picture's NAL units or the decoder configuration cannot be read.
    Media,
    /// A picture's time is not after that of the one before it.
    Order,
}

impl fmt::Display for FlvReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileHeader => f.write_str("its output is not FLV"),
            Self::TagType(value) => write!(f, "its output has a tag of type 0x{value:02x}"),
            Self::TagSize(bytes) => write!(f, "its output has a tag of {bytes} bytes"),
            Self::PreviousTagSize => f.write_str("its output's sizes do not agree"),
            Self::Codec(value) => write!(f, "its output is video of codec 0x{value:02x}"),
            Self::Truncated => f.write_str("its output has a tag that ends too early"),
            Self::PacketType(value) => write!(f, "its output has a packet of type 0x{value:02x}"),
            Self::Media => f.write_str("its output has a picture that cannot be read"),
            Self::Order => f.write_str("its output goes back in time"),
        }
    }
}

impl std::error::Error for FlvReadError {}

/// What a tag holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlvItem {
    /// The decoder configuration record (14496-15 §5.3.3.1).
    Config(Bytes),
    /// A picture.
    Picture {
        /// When it is shown, in milliseconds, modulo 2^32.
        pts_ms: u32,
        /// The tag's body.
        body: Bytes,
        /// Where in it the length-prefixed NAL units begin.
        start: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FileHeader,
    Tag,
    Failed(FlvReadError),
}

/// Reads one child's output.
#[derive(Debug)]
pub struct FlvReader {
    state: State,
    buffer: BytesMut,
}

impl Default for FlvReader {
    fn default() -> Self {
        Self {
            state: State::FileHeader,
            buffer: BytesMut::new(),
        }
    }
}

impl FlvReader {
    /// Takes bytes; then [`Self::next_item`] is to be called until it gives nothing, which leaves
    /// less than one tag, at most [`VIDEO_TAG_BYTES_MAX`], in memory.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Gives the next item that is complete.
    ///
    /// # Errors
    /// [`FlvReadError`]; the same each time from then on.
    pub fn next_item(&mut self) -> Result<Option<FlvItem>, FlvReadError> {
        loop {
            let step = match self.state {
                State::FileHeader => self.file_header(),
                State::Tag => self.tag(),
                State::Failed(error) => Err(error),
            };
            match step {
                Ok(Step::Item(item)) => return Ok(Some(item)),
                Ok(Step::Skipped) => {}
                Ok(Step::Incomplete) => return Ok(None),
                Err(error) => {
                    self.state = State::Failed(error);
                    self.buffer.clear();
                    return Err(error);
                }
            }
        }
    }

    fn file_header(&mut self) -> Result<Step, FlvReadError> {
        const SIGNATURE: &[u8] = b"FLV\x01";
        let known = self.buffer.len().min(SIGNATURE.len());
        if self.buffer.get(..known) != SIGNATURE.get(..known) {
            return Err(FlvReadError::FileHeader);
        }
        // Four bytes of size follow, zero since no tag comes before.
        let Some(header) = self.buffer.first_chunk::<13>() else {
            return Ok(Step::Incomplete);
        };
        let [_, _, _, _, _flags, a, b, c, d, before @ ..] = *header;
        let header_bytes = u32::from_be_bytes([a, b, c, d]);
        if header_bytes != FILE_HEADER_BYTES || before != [0; PREVIOUS_TAG_SIZE_BYTES] {
            return Err(FlvReadError::FileHeader);
        }
        let taken = header.len();
        self.buffer.advance(taken);
        self.state = State::Tag;
        Ok(Step::Skipped)
    }

    fn tag(&mut self) -> Result<Step, FlvReadError> {
        let Some(header) = self.buffer.first_chunk::<TAG_HEADER_BYTES>() else {
            return Ok(Step::Incomplete);
        };
        let [kind, s2, s1, s0, t2, t1, t0, t3, _, _, _] = *header;
        if kind != TYPE_VIDEO && kind != TYPE_SCRIPT {
            return Err(FlvReadError::TagType(kind));
        }
        let size = u32::from_be_bytes([0, s2, s1, s0]);
        let body_bytes = usize::try_from(size).unwrap_or(usize::MAX);
        if body_bytes > VIDEO_TAG_BYTES_MAX {
            return Err(FlvReadError::TagSize(size));
        }
        let dts_ms = u32::from_be_bytes([t3, t2, t1, t0]);
        let tag_bytes = TAG_HEADER_BYTES.saturating_add(body_bytes);
        let whole = tag_bytes.saturating_add(PREVIOUS_TAG_SIZE_BYTES);
        if self.buffer.len() < whole {
            // Grown once for the whole tag rather than read by read.
            self.buffer.reserve(whole.saturating_sub(self.buffer.len()));
            return Ok(Step::Incomplete);
        }
        self.buffer.advance(TAG_HEADER_BYTES);
        let body = self.buffer.split_to(body_bytes).freeze();
        let previous = self.buffer.get_u32();
        if usize::try_from(previous) != Ok(tag_bytes) {
            return Err(FlvReadError::PreviousTagSize);
        }
        if kind == TYPE_SCRIPT {
            return Ok(Step::Skipped);
        }
        video(body, dts_ms)
    }
}

/// What came of looking at the buffer's beginning.
enum Step {
    Item(FlvItem),
    Skipped,
    Incomplete,
}

fn video(body: Bytes, dts_ms: u32) -> Result<Step, FlvReadError> {
    let Some(&[first, packet_type, c2, c1, c0]) = body.first_chunk::<VIDEO_HEADER_BYTES>() else {
        // The end of the sequence may come without a time.
        return Err(FlvReadError::Truncated);
    };
    // The upper half is the frame type, which the NAL units tell better; its highest bit would
    // say that the tag is an extended one.
    if first & 0x8f != CODEC_AVC {
        return Err(FlvReadError::Codec(first & 0x8f));
    }
    match packet_type {
        0 => Ok(Step::Item(FlvItem::Config(
            body.slice(VIDEO_HEADER_BYTES..),
        ))),
        1 => {
            // PTS minus DTS, a signed number of 24 bits.
            let composition_ms = i32::from_be_bytes([c2, c1, c0, 0]) >> 8;
            Ok(Step::Item(FlvItem::Picture {
                pts_ms: dts_ms.wrapping_add_signed(composition_ms),
                body,
                start: VIDEO_HEADER_BYTES,
            }))
        }
        2 => Ok(Step::Skipped),
        other => Err(FlvReadError::PacketType(other)),
    }
}
