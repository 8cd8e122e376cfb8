//! Builds RTMP bytes for tests, legal and not, without our reader or rml_rtmp.

use crate::rtmp::amf0::{self, Amf0Value};

/// How a chunk stream id is written (Adobe RTMP 1.0 §5.3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdForm {
    Shortest,
    ThreeBytes,
}

/// A basic header.
pub(crate) fn basic(format: u8, id: u32, form: IdForm) -> Vec<u8> {
    let format = format << 6;
    let beyond = id.wrapping_sub(64);
    match id {
        2..=63 => vec![format | u8::try_from(id).unwrap()],
        64..=319 if form == IdForm::Shortest => vec![format, u8::try_from(beyond).unwrap()],
        64..=65_599 => {
            let [low, high] = u16::try_from(beyond).unwrap().to_le_bytes();
            vec![format | 1, low, high]
        }
        _ => panic!("no such chunk stream id: {id}"),
    }
}

fn u24(value: u32) -> [u8; 3] {
    let [_, a, b, c] = value.to_be_bytes();
    [a, b, c]
}

/// A message to be cut into chunks.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    /// Header type of the first chunk.
    pub(crate) format: u8,
    pub(crate) id: u32,
    pub(crate) form: IdForm,
    /// Absolute for type 0, else a delta.
    pub(crate) time: u32,
    pub(crate) type_id: u8,
    pub(crate) stream_id: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) chunk_size: usize,
    /// Whether type 3 chunks inside the message repeat an extended timestamp.
    pub(crate) repeats_time: bool,
}

impl Wire {
    pub(crate) fn new(id: u32, type_id: u8, time: u32, payload: &[u8]) -> Self {
        Self {
            format: 0,
            id,
            form: IdForm::Shortest,
            time,
            type_id,
            stream_id: u32::from(!(1..=7).contains(&type_id)),
            payload: payload.to_vec(),
            chunk_size: 128,
            repeats_time: true,
        }
    }

    pub(crate) fn stream(mut self, stream_id: u32) -> Self {
        self.stream_id = stream_id;
        self
    }

    pub(crate) fn format(mut self, format: u8) -> Self {
        self.format = format;
        self
    }

    pub(crate) fn chunk_size(mut self, chunk_size: usize) -> Self {
        self.chunk_size = chunk_size;
        self
    }

    /// The first chunk's header, declaring `length`.
    pub(crate) fn header(&self, length: u32) -> Vec<u8> {
        let mut bytes = basic(self.format, self.id, self.form);
        let extended = self.time >= 0x00ff_ffff;
        if self.format <= 2 {
            bytes.extend(u24(if extended { 0x00ff_ffff } else { self.time }));
        }
        if self.format <= 1 {
            bytes.extend(u24(length));
            bytes.push(self.type_id);
        }
        if self.format == 0 {
            bytes.extend(self.stream_id.to_le_bytes());
        }
        if extended {
            bytes.extend(self.time.to_be_bytes());
        }
        bytes
    }

    /// The message's chunks.
    pub(crate) fn chunks(&self) -> Vec<Vec<u8>> {
        let length = u32::try_from(self.payload.len()).unwrap();
        let mut chunks = Vec::new();
        let mut parts = self.payload.chunks(self.chunk_size);
        let mut first = self.header(length);
        first.extend(parts.next().unwrap_or_default());
        chunks.push(first);
        for part in parts {
            let mut chunk = basic(3, self.id, self.form);
            if self.time >= 0x00ff_ffff && self.repeats_time {
                chunk.extend(self.time.to_be_bytes());
            }
            chunk.extend(part);
            chunks.push(chunk);
        }
        chunks
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.chunks().concat()
    }
}

/// A protocol control message with one number.
pub(crate) fn control(type_id: u8, value: u32) -> Vec<u8> {
    Wire::new(2, type_id, 0, &value.to_be_bytes()).bytes()
}

pub(crate) fn text(text: &str) -> Amf0Value {
    Amf0Value::String(text.to_owned())
}

/// A command in AMF0, null as its object.
pub(crate) fn command(name: &str, transaction: f64, arguments: &[Amf0Value]) -> Vec<u8> {
    let mut values = vec![text(name), Amf0Value::Number(transaction), Amf0Value::Null];
    values.extend_from_slice(arguments);
    command_bytes(&amf0::encode(&values), 0)
}

/// A command message with any body.
pub(crate) fn command_bytes(body: &[u8], stream_id: u32) -> Vec<u8> {
    Wire::new(3, 20, 0, body).stream(stream_id).bytes()
}

/// `connect`, as OBS words it.
pub(crate) fn connect(app: &str) -> Vec<u8> {
    let object = Amf0Value::Object(vec![
        ("app".into(), text(app)),
        ("type".into(), text("nonprivate")),
        ("flashVer".into(), text("FMLE/3.0 (compatible; FMSc/1.0)")),
        ("tcUrl".into(), text("rtmp://localhost/live")),
        (
            "fourCcList".into(),
            Amf0Value::Array(vec![text("av01"), text("hvc1")]),
        ),
        ("objectEncoding".into(), Amf0Value::Number(3.0)),
    ]);
    let values = [text("connect"), Amf0Value::Number(1.0), object];
    command_bytes(&amf0::encode(&values), 0)
}

/// C0, a C1 of the plain handshake and any C2.
pub(crate) fn handshake() -> Vec<u8> {
    let mut bytes = vec![3, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.resize(1 + 1_536 + 1_536, 0x55);
    bytes
}

/// `publish` on message stream 1.
pub(crate) fn publish(key: &str) -> Vec<u8> {
    let values = [
        text("publish"),
        Amf0Value::Number(5.0),
        Amf0Value::Null,
        text(key),
        text("live"),
    ];
    command_bytes(&amf0::encode(&values), 1)
}

/// `@setDataFrame` with `onMetaData`.
pub(crate) fn metadata() -> Vec<u8> {
    let object = Amf0Value::Object(vec![
        ("width".into(), Amf0Value::Number(1280.0)),
        ("videocodecid".into(), Amf0Value::Number(7.0)),
    ]);
    let values = [text("@setDataFrame"), text("onMetaData"), object];
    Wire::new(4, 18, 0, &amf0::encode(&values)).bytes()
}
