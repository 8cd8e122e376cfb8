//! What we send to a publisher: few, small messages, each in one chunk with a whole header.

use bytes::Bytes;
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;

use super::amf0::{self, Amf0Value};
use super::chunk::message_type;
use crate::limits::{RTMP_ACK_WINDOW_BYTES, RTMP_CHUNK_SIZE_OUT};

/// User control events (Adobe RTMP 1.0 §7.1.7).
pub(super) mod user_control {
    /// A message stream can be used.
    pub(in crate::rtmp) const STREAM_BEGIN: u16 = 0;
    /// "Are you there?"
    pub(in crate::rtmp) const PING_REQUEST: u16 = 6;
    /// "I am."
    pub(in crate::rtmp) const PING_RESPONSE: u16 = 7;
}

/// Limit type of Set Peer Bandwidth (§5.4.5): dynamic.
const BANDWIDTH_DYNAMIC: u8 = 2;

/// How grave an `onStatus` is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    Status,
    Error,
}

/// Makes our messages.
pub(super) struct Replies {
    serializer: ChunkSerializer,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            serializer: ChunkSerializer::new(),
        }
    }

    /// Window Acknowledgement Size, Set Peer Bandwidth and Set Chunk Size, as answers to
    /// `connect` begin.
    pub(super) fn begin(&mut self) -> [Bytes; 3] {
        let window = RTMP_ACK_WINDOW_BYTES.to_be_bytes();
        let mut bandwidth = window.to_vec();
        bandwidth.push(BANDWIDTH_DYNAMIC);
        let window = self.message(message_type::WINDOW_ACK_SIZE, 0, window.to_vec());
        let bandwidth = self.message(message_type::SET_PEER_BANDWIDTH, 0, bandwidth);
        let chunk_size = self
            .serializer
            .set_max_chunk_size(RTMP_CHUNK_SIZE_OUT, RtmpTimestamp::new(0))
            .map(|packet| Bytes::from(packet.bytes))
            .unwrap_or_default();
        [window, bandwidth, chunk_size]
    }

    pub(super) fn acknowledgement(&mut self, total: u32) -> Bytes {
        let payload = total.to_be_bytes().to_vec();
        self.message(message_type::ACKNOWLEDGEMENT, 0, payload)
    }

    pub(super) fn user_control(&mut self, event: u16, value: u32) -> Bytes {
        let mut payload = event.to_be_bytes().to_vec();
        payload.extend(value.to_be_bytes());
        self.message(message_type::USER_CONTROL, 0, payload)
    }

    /// A command: `transaction` is that of the request, or 0.
    pub(super) fn command(
        &mut self,
        stream_id: u32,
        name: &str,
        transaction: f64,
        values: Vec<Amf0Value>,
    ) -> Bytes {
        let mut all = vec![
            Amf0Value::String(name.to_owned()),
            Amf0Value::Number(transaction),
        ];
        all.extend(values);
        self.message(message_type::COMMAND_AMF0, stream_id, amf0::encode(&all))
    }

    /// `onStatus` (§7.2.2), what encoders show to their user.
    pub(super) fn on_status(
        &mut self,
        stream_id: u32,
        level: Level,
        code: &str,
        description: &str,
    ) -> Bytes {
        let values = vec![
            Amf0Value::Null,
            status(level, code, description, Vec::new()),
        ];
        self.command(stream_id, "onStatus", 0.0, values)
    }

    fn message(&mut self, type_id: u8, stream_id: u32, payload: Vec<u8>) -> Bytes {
        let message = MessagePayload {
            timestamp: RtmpTimestamp::new(0),
            type_id,
            message_stream_id: stream_id,
            data: Bytes::from(payload),
        };
        match self.serializer.serialize(&message, true, false) {
            Ok(packet) => Bytes::from(packet.bytes),
            Err(error) => {
                log::error!("an RTMP answer could not be written: {error}");
                Bytes::new()
            }
        }
    }
}

/// The information object of `onStatus` and of answers to `connect`.
pub(super) fn status(
    level: Level,
    code: &str,
    description: &str,
    more: Vec<(String, Amf0Value)>,
) -> Amf0Value {
    let level = match level {
        Level::Status => "status",
        Level::Error => "error",
    };
    let text = |name: &str, text: &str| (name.to_owned(), Amf0Value::String(text.to_owned()));
    let mut properties = vec![
        text("level", level),
        text("code", code),
        text("description", description),
    ];
    properties.extend(more);
    Amf0Value::Object(properties)
}
