//! RTMP's chunk stream, the receiving side (Adobe RTMP 1.0 §5.3, §5.4): bytes in, whole messages
//! out.
//!
//! Chunks of different messages may alternate, so each chunk stream id assembles its own message,
//! in a buffer that grows with the bytes that came, never with the length that was declared.

mod header;

use std::fmt;

use bytes::Bytes;

use self::header::{Earlier, Format, HEADER_BYTES_MAX, Header, Timestamp, parse_header};
use crate::limits::{
    RTMP_AUDIO_MESSAGE_BYTES_MAX, RTMP_CHUNK_STREAMS_MAX, RTMP_EARLY_BYTES_MAX,
    RTMP_MESSAGE_BYTES_MAX, RTMP_PARTIAL_BYTES_BEFORE_PUBLISH_MAX, RTMP_PARTIAL_BYTES_MAX,
    RTMP_VIDEO_MESSAGE_BYTES_MAX,
};

/// Message type ids (§5.4, §7.1).
pub mod message_type {
    /// Set Chunk Size (§5.4.1).
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Abort Message (§5.4.2).
    pub const ABORT: u8 = 2;
    /// Acknowledgement (§5.4.3).
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User Control (§6.2).
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size (§5.4.4).
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Set Peer Bandwidth (§5.4.5).
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio (§7.1.4).
    pub const AUDIO: u8 = 8;
    /// Video (§7.1.5).
    pub const VIDEO: u8 = 9;
    /// Data that says it is AMF3; AMF0 in practice (§7.1.2).
    pub const DATA_AMF3: u8 = 15;
    /// A command that says it is AMF3; AMF0 behind a zero byte in practice (§7.1.1).
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0 (§7.1.2).
    pub const DATA_AMF0: u8 = 18;
    /// A command in AMF0 (§7.1.1).
    pub const COMMAND_AMF0: u8 = 20;
    /// Several messages in one (§7.1.6).
    pub const AGGREGATE: u8 = 22;
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// See [`message_type`].
    pub type_id: u8,
    /// Milliseconds, modulo 2^32.
    pub timestamp_ms: u32,
    /// Message stream: 0 for the connection itself.
    pub stream_id: u32,
    /// The body; empty if it was not kept (see [`Admission`]).
    pub payload: Bytes,
}

/// How far the publisher has come: decides how large its messages may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// No publish was asked for: small messages only.
    Small,
    /// Asked for and not accepted: only audio and video small enough for a sequence header is kept.
    Headers,
    /// Over: audio and video is read past, not kept.
    Skip,
    /// Publishing.
    Media,
}

/// What is wrong with a publisher's chunks. The publisher's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// A new message header inside a message of the same chunk stream.
    HeaderInsideMessage,
    /// A header that builds on an earlier one, but there is none.
    NoEarlierHeader,
    /// A message longer than its kind may be.
    MessageTooLong {
        /// Its message type.
        type_id: u8,
        /// The length it declared, in bytes.
        length: usize,
    },
    /// More than [`RTMP_CHUNK_STREAMS_MAX`] chunk stream ids.
    TooManyChunkStreams,
    /// Incomplete messages fill the memory they may.
    TooManyPartialBytes,
    /// A chunk size of zero, or above 2^31 - 1.
    ChunkSize(u32),
    /// A Set Chunk Size or Abort message without its four bytes.
    ShortControlMessage,
}

impl ChunkError {
    /// The word for logs and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::HeaderInsideMessage | Self::NoEarlierHeader => "chunk_header",
            Self::MessageTooLong { .. } => "message_length",
            Self::TooManyChunkStreams => "chunk_streams",
            Self::TooManyPartialBytes => "partial_bytes",
            Self::ChunkSize(_) => "chunk_size",
            Self::ShortControlMessage => "control_message",
        }
    }
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderInsideMessage => f.write_str("a new chunk header inside a message"),
            Self::NoEarlierHeader => f.write_str("a short chunk header without an earlier one"),
            Self::MessageTooLong { type_id, length } => {
                write!(
                    f,
                    "a message of type {type_id} with {length} bytes is too long"
                )
            }
            Self::TooManyChunkStreams => {
                write!(f, "more than {RTMP_CHUNK_STREAMS_MAX} chunk streams")
            }
            Self::TooManyPartialBytes => f.write_str("too many incomplete messages"),
            Self::ChunkSize(size) => write!(f, "chunk size {size:#x} is not legal"),
            Self::ShortControlMessage => f.write_str("a protocol control message is too short"),
        }
    }
}

impl std::error::Error for ChunkError {}

/// Chunk size until a Set Chunk Size message (§5.4.1), in bytes.
const INITIAL_CHUNK_SIZE: usize = 128;
/// First memory given to a message, in bytes: most frames fit, and 64 such buffers are 1 MiB.
const FIRST_BUFFER_BYTES: usize = 16 * 1_024;
/// The same before a publish.
const FIRST_BUFFER_BYTES_SMALL: usize = 1_024;

/// Puts messages together from chunks. Pure: bytes in, messages out.
///
/// Set Chunk Size and Abort are obeyed here and not given out.
#[derive(Debug)]
pub struct ChunkReader {
    admission: Admission,
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    /// Header bytes that came without the rest of their header.
    carry: [u8; HEADER_BYTES_MAX],
    carry_len: usize,
    /// The chunk whose payload comes now.
    chunk: Option<OpenChunk>,
    /// Capacity of all assembly buffers, in bytes.
    held: usize,
}

#[derive(Debug, Clone, Copy)]
struct OpenChunk {
    /// Index into the list of chunk streams.
    stream: usize,
    /// Payload bytes of this chunk still to come; at least 1.
    left: usize,
}

#[derive(Debug)]
struct ChunkStream {
    id: u32,
    type_id: u8,
    length: usize,
    stream_id: u32,
    timestamp_ms: u32,
    /// The last timestamp field, absolute or delta, extended or not.
    field: u32,
    /// Whether that field was extended.
    extended: bool,
    assembly: Option<Assembly>,
}

/// A message that is not complete.
#[derive(Debug)]
struct Assembly {
    buffer: Vec<u8>,
    left: usize,
    keep: bool,
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkReader {
    /// A reader at the first byte after the handshake.
    #[must_use]
    pub fn new() -> Self {
        Self {
            admission: Admission::Small,
            chunk_size: INITIAL_CHUNK_SIZE,
            streams: Vec::new(),
            carry: [0; HEADER_BYTES_MAX],
            carry_len: 0,
            chunk: None,
            held: 0,
        }
    }

    /// Sets what messages may be, for those that begin from now on.
    pub fn set_admission(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// Memory held for incomplete messages, in bytes.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.held
    }

    /// Reads up to the end of the next message, and moves `input` past what it used. Returns
    /// `None` when `input` is used up.
    ///
    /// # Errors
    /// See [`ChunkError`]. The reader must not be used after one.
    pub fn next_message(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        loop {
            let complete = match self.chunk {
                Some(chunk) => {
                    if self.carry_len == 0 && input.is_empty() {
                        return Ok(None);
                    }
                    self.read_payload(chunk, input)?
                }
                None => {
                    let Some(header) = self.read_header(input) else {
                        return Ok(None);
                    };
                    self.begin_chunk(header)?
                }
            };
            let Some(message) = complete else { continue };
            match message.type_id {
                message_type::SET_CHUNK_SIZE => self.set_chunk_size(&message.payload)?,
                message_type::ABORT => self.abort(&message.payload)?,
                _ => return Ok(Some(message)),
            }
        }
    }

    /// Takes one header from the carried bytes and `input`; `None` if it is not complete, in
    /// which case what there is of it is carried.
    fn read_header(&mut self, input: &mut &[u8]) -> Option<Header> {
        let carried = self.carry_len;
        let mut bytes = self.carry;
        let mut length = carried;
        for (to, &from) in bytes.iter_mut().skip(carried).zip(input.iter()) {
            *to = from;
            length = length.saturating_add(1);
        }
        let Some((header, used)) = self.parse_header(bytes.get(..length)?) else {
            *input = input.get(length.saturating_sub(carried)..)?;
            self.carry = bytes;
            self.carry_len = length;
            return None;
        };
        // A type 3 header can turn out shorter than what was carried of it: those bytes are
        // payload then.
        let from_input = used.saturating_sub(carried);
        self.carry_len = carried.saturating_sub(used);
        self.carry = bytes;
        if self.carry_len > 0 {
            self.carry.copy_within(used..carried, 0);
        }
        *input = input.get(from_input..)?;
        Some(header)
    }

    fn parse_header(&self, bytes: &[u8]) -> Option<(Header, usize)> {
        parse_header(bytes, |id| {
            let stream = self.streams.iter().find(|stream| stream.id == id)?;
            stream.extended.then_some(Earlier {
                field: stream.field,
                timestamp_ms: stream.timestamp_ms,
                inside_message: stream.assembly.is_some(),
            })
        })
    }

    /// Applies a header. Returns the message if it is already complete, having no bytes.
    fn begin_chunk(&mut self, header: Header) -> Result<Option<Message>, ChunkError> {
        let index = self.stream_index(&header)?;
        let chunk_size = self.chunk_size;
        let admission = self.admission;
        let Some(stream) = self.streams.get_mut(index) else {
            return Ok(None);
        };
        if stream.assembly.is_none() {
            stream.apply(header.format);
            let keep = admit(admission, stream.type_id, stream.length)?;
            stream.assembly = Some(Assembly {
                buffer: Vec::new(),
                left: stream.length,
                keep,
            });
        } else if !matches!(header.format, Format::Same(_)) {
            return Err(ChunkError::HeaderInsideMessage);
        }
        let left = stream.assembly.as_ref().map_or(0, |assembly| assembly.left);
        if left == 0 {
            return Ok(self.finish(index));
        }
        self.chunk = Some(OpenChunk {
            stream: index,
            left: left.min(chunk_size),
        });
        Ok(None)
    }

    fn stream_index(&mut self, header: &Header) -> Result<usize, ChunkError> {
        let id = header.chunk_stream;
        if let Some(index) = self.streams.iter().position(|stream| stream.id == id) {
            return Ok(index);
        }
        match header.format {
            // librtmp opens chunk streams with type 1, for pings: the stream id is 0 then.
            Format::Full(..) | Format::SameStream(_) => {}
            Format::Delta(_) | Format::Same(_) => return Err(ChunkError::NoEarlierHeader),
        }
        if self.streams.len() >= RTMP_CHUNK_STREAMS_MAX {
            return Err(ChunkError::TooManyChunkStreams);
        }
        self.streams.push(ChunkStream::new(id));
        Ok(self.streams.len().saturating_sub(1))
    }

    fn read_payload(
        &mut self,
        chunk: OpenChunk,
        input: &mut &[u8],
    ) -> Result<Option<Message>, ChunkError> {
        let (carry, carry_len) = (self.carry, self.carry_len);
        let mut source: &[u8] = if carry_len > 0 {
            carry.get(..carry_len).unwrap_or_default()
        } else {
            input
        };
        let before = source.len();
        let left = self.take_payload(chunk, &mut source)?;
        let used = before.saturating_sub(source.len());
        if carry_len > 0 {
            self.carry_len = carry_len.saturating_sub(used);
            self.carry.copy_within(used..carry_len, 0);
        } else {
            *input = input.get(used..).unwrap_or_default();
        }
        if left.chunk > 0 {
            self.chunk = Some(OpenChunk {
                left: left.chunk,
                ..chunk
            });
            return Ok(None);
        }
        self.chunk = None;
        if left.message > 0 {
            return Ok(None);
        }
        Ok(self.finish(chunk.stream))
    }

    /// Moves payload from `source` to the message of `chunk`; returns what is left to come.
    fn take_payload(&mut self, chunk: OpenChunk, source: &mut &[u8]) -> Result<Left, ChunkError> {
        let taken = source.get(..chunk.left).unwrap_or(source);
        *source = source.get(taken.len()..).unwrap_or_default();
        let left_in_chunk = chunk.left.saturating_sub(taken.len());
        let stream = self.streams.get_mut(chunk.stream);
        let Some(assembly) = stream.and_then(|stream| stream.assembly.as_mut()) else {
            return Ok(Left {
                chunk: left_in_chunk,
                message: 0,
            });
        };
        if assembly.keep {
            let grown = assembly.make_room(taken.len(), self.admission);
            self.held = self.held.saturating_add(grown);
            if self.held > partial_bytes_max(self.admission) {
                return Err(ChunkError::TooManyPartialBytes);
            }
            assembly.buffer.extend_from_slice(taken);
        }
        assembly.left = assembly.left.saturating_sub(taken.len());
        Ok(Left {
            chunk: left_in_chunk,
            message: assembly.left,
        })
    }

    fn finish(&mut self, index: usize) -> Option<Message> {
        let stream = self.streams.get_mut(index)?;
        let assembly = stream.assembly.take()?;
        self.held = self.held.saturating_sub(assembly.buffer.capacity());
        Some(Message {
            type_id: stream.type_id,
            timestamp_ms: stream.timestamp_ms,
            stream_id: stream.stream_id,
            payload: Bytes::from(assembly.buffer),
        })
    }

    fn set_chunk_size(&mut self, payload: &[u8]) -> Result<(), ChunkError> {
        let size = control_u32(payload)?;
        if size == 0 || size > i32::MAX.cast_unsigned() {
            return Err(ChunkError::ChunkSize(size));
        }
        // Beyond the longest message a chunk size changes nothing.
        self.chunk_size = usize::try_from(size)
            .unwrap_or(usize::MAX)
            .min(RTMP_VIDEO_MESSAGE_BYTES_MAX);
        Ok(())
    }

    fn abort(&mut self, payload: &[u8]) -> Result<(), ChunkError> {
        let id = control_u32(payload)?;
        let stream = self.streams.iter_mut().find(|stream| stream.id == id);
        if let Some(assembly) = stream.and_then(|stream| stream.assembly.take()) {
            self.held = self.held.saturating_sub(assembly.buffer.capacity());
        }
        Ok(())
    }
}

struct Left {
    chunk: usize,
    message: usize,
}

impl ChunkStream {
    fn new(id: u32) -> Self {
        Self {
            id,
            type_id: 0,
            length: 0,
            stream_id: 0,
            timestamp_ms: 0,
            field: 0,
            extended: false,
            assembly: None,
        }
    }

    /// Takes over the header of a message's first chunk.
    fn apply(&mut self, format: Format) {
        match format {
            Format::Full(header, stream_id) => {
                self.stream_id = stream_id;
                self.length = header.length;
                self.type_id = header.type_id;
                self.field = header.timestamp.field;
                self.extended = header.timestamp.extended;
                self.timestamp_ms = header.timestamp.field;
            }
            Format::SameStream(header) => {
                self.length = header.length;
                self.type_id = header.type_id;
                self.advance(header.timestamp);
            }
            Format::Delta(timestamp) => self.advance(timestamp),
            // §5.3.1.2.4: after a type 0, its timestamp is the delta.
            Format::Same(timestamp) => self.advance(timestamp.unwrap_or(Timestamp {
                field: self.field,
                extended: self.extended,
            })),
        }
    }

    fn advance(&mut self, delta: Timestamp) {
        self.field = delta.field;
        self.extended = delta.extended;
        self.timestamp_ms = self.timestamp_ms.wrapping_add(delta.field);
    }
}

impl Assembly {
    /// Makes room for `more` bytes that are there; returns the growth in bytes. Doubles, so that
    /// a message is moved few times, and never beyond what the message can still need.
    fn make_room(&mut self, more: usize, admission: Admission) -> usize {
        let before = self.buffer.capacity();
        let needed = self.buffer.len().saturating_add(more);
        if needed <= before {
            return 0;
        }
        let first = match admission {
            Admission::Small => FIRST_BUFFER_BYTES_SMALL,
            Admission::Headers | Admission::Skip | Admission::Media => FIRST_BUFFER_BYTES,
        };
        let whole = self.buffer.len().saturating_add(self.left);
        let wanted = before
            .saturating_mul(2)
            .max(first)
            .min(whole)
            .max(needed.min(whole));
        self.buffer
            .reserve_exact(wanted.saturating_sub(self.buffer.len()));
        self.buffer.capacity().saturating_sub(before)
    }
}

/// Whether a message's bytes are kept, or why it may not be at all.
fn admit(admission: Admission, type_id: u8, length: usize) -> Result<bool, ChunkError> {
    let large = matches!(type_id, message_type::VIDEO | message_type::AGGREGATE);
    let media = large || type_id == message_type::AUDIO;
    let longest = match admission {
        Admission::Small => RTMP_MESSAGE_BYTES_MAX,
        Admission::Headers | Admission::Skip | Admission::Media => match (large, media) {
            (true, _) => RTMP_VIDEO_MESSAGE_BYTES_MAX,
            (false, true) => RTMP_AUDIO_MESSAGE_BYTES_MAX,
            (false, false) => RTMP_MESSAGE_BYTES_MAX,
        },
    };
    if length > longest {
        return Err(ChunkError::MessageTooLong { type_id, length });
    }
    match admission {
        Admission::Small | Admission::Skip => Ok(!media),
        Admission::Headers => Ok(!media || length <= RTMP_EARLY_BYTES_MAX),
        Admission::Media => Ok(true),
    }
}

fn partial_bytes_max(admission: Admission) -> usize {
    match admission {
        Admission::Small => RTMP_PARTIAL_BYTES_BEFORE_PUBLISH_MAX,
        Admission::Headers | Admission::Skip | Admission::Media => RTMP_PARTIAL_BYTES_MAX,
    }
}

fn control_u32(payload: &[u8]) -> Result<u32, ChunkError> {
    let bytes = payload.first_chunk();
    let bytes = bytes.ok_or(ChunkError::ShortControlMessage)?;
    Ok(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
