//! Chunk headers: basic header, message header and extended timestamp (Adobe RTMP 1.0 §5.3.1).

/// Basic header (§5.3.1.1) 3 bytes, message header (§5.3.1.2) 11, extended timestamp (§5.3.1.3) 4.
pub(super) const HEADER_BYTES_MAX: usize = 18;
/// Timestamp field that says an extended timestamp follows (§5.3.1.3).
const EXTENDED_TIMESTAMP: u32 = 0x00ff_ffff;

/// One chunk header, as it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) chunk_stream: u32,
    pub(super) format: Format,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    /// Type 0: everything.
    Full(MessageHeader, u32),
    /// Type 1: all but the message stream.
    SameStream(MessageHeader),
    /// Type 2: only a timestamp delta.
    Delta(Timestamp),
    /// Type 3: as before.
    Same(Option<Timestamp>),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct MessageHeader {
    pub(super) timestamp: Timestamp,
    pub(super) length: usize,
    pub(super) type_id: u8,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Timestamp {
    pub(super) field: u32,
    pub(super) extended: bool,
}

/// What a type 3 header builds on, where the last timestamp was extended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Earlier {
    /// The last timestamp field, absolute or delta.
    pub(super) field: u32,
    /// The time of the message, or of the last one.
    pub(super) timestamp_ms: u32,
    /// Whether a message of this chunk stream is incomplete.
    pub(super) inside_message: bool,
}

/// Reads a header; `None` if there are too few bytes to tell. Returns it with its length.
/// `earlier` tells of a chunk stream whose last timestamp was extended.
pub(super) fn parse_header(
    bytes: &[u8],
    earlier: impl Fn(u32) -> Option<Earlier>,
) -> Option<(Header, usize)> {
    let mut cursor = Cursor {
        rest: bytes,
        used: 0,
    };
    let [first] = cursor.take()?;
    let chunk_stream = match first & 0x3f {
        0 => {
            let [id] = cursor.take()?;
            u32::from(id).saturating_add(64)
        }
        1 => u32::from(u16::from_le_bytes(cursor.take()?)).saturating_add(64),
        id => u32::from(id),
    };
    let format = match first >> 6 {
        0 => {
            let (field, length, type_id) = cursor.message_header()?;
            let stream_id = u32::from_le_bytes(cursor.take()?);
            Format::Full(cursor.extend(field, length, type_id)?, stream_id)
        }
        1 => {
            let (field, length, type_id) = cursor.message_header()?;
            Format::SameStream(cursor.extend(field, length, type_id)?)
        }
        2 => {
            let field = cursor.u24()?;
            Format::Delta(cursor.extended(field)?)
        }
        _ => Format::Same(cursor.repeated_timestamp(earlier(chunk_stream))?),
    };
    let header = Header {
        chunk_stream,
        format,
    };
    Some((header, cursor.used))
}

struct Cursor<'a> {
    rest: &'a [u8],
    used: usize,
}

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        self.used = self.used.saturating_add(N);
        Some(*taken)
    }

    fn u24(&mut self) -> Option<u32> {
        let [a, b, c] = self.take()?;
        Some(u32::from_be_bytes([0, a, b, c]))
    }

    fn message_header(&mut self) -> Option<(u32, usize, u8)> {
        let field = self.u24()?;
        let length = usize::try_from(self.u24()?).ok()?;
        let [type_id] = self.take()?;
        Some((field, length, type_id))
    }

    fn extend(&mut self, field: u32, length: usize, type_id: u8) -> Option<MessageHeader> {
        Some(MessageHeader {
            timestamp: self.extended(field)?,
            length,
            type_id,
        })
    }

    fn extended(&mut self, field: u32) -> Option<Timestamp> {
        if field != EXTENDED_TIMESTAMP {
            return Some(Timestamp {
                field,
                extended: false,
            });
        }
        Some(Timestamp {
            field: u32::from_be_bytes(self.take()?),
            extended: true,
        })
    }

    /// The extended timestamp of a type 3 chunk (§5.3.1.3). Some encoders leave it out inside a
    /// message, so the four bytes are taken only if they are what they must be: the message's
    /// field, or its timestamp, as some write instead of a delta. As soon as one byte differs it
    /// is payload, and nothing is waited for.
    fn repeated_timestamp(&mut self, earlier: Option<Earlier>) -> Option<Option<Timestamp>> {
        let Some(earlier) = earlier else {
            return Some(None);
        };
        if !earlier.inside_message {
            let field = u32::from_be_bytes(self.take()?);
            return Some(Some(Timestamp {
                field,
                extended: true,
            }));
        }
        let there = self.rest.get(..4).unwrap_or(self.rest);
        let expected = [earlier.field, earlier.timestamp_ms];
        if expected
            .iter()
            .any(|value| value.to_be_bytes().starts_with(there))
        {
            self.take::<4>()?;
        }
        Some(None)
    }
}
