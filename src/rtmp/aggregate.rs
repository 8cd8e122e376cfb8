//! Aggregate messages (Adobe RTMP 1.0 §7.1.6): several messages in one, laid out as FLV tags.

use bytes::Bytes;

use super::chunk::Message;

/// Header of a sub-message: type 1 byte, length 3, timestamp 3 + 1, stream id 3.
const HEADER_BYTES: usize = 11;
/// Length of the sub-message before it, after each.
const BACK_POINTER_BYTES: usize = 4;

/// The messages inside an aggregate, sharing its bytes; ends at the first that is cut short.
pub(super) struct SubMessages {
    rest: Bytes,
    stream_id: u32,
    aggregate_timestamp_ms: u32,
    first_timestamp_ms: Option<u32>,
}

impl SubMessages {
    pub(super) fn new(aggregate: Message) -> Self {
        Self {
            rest: aggregate.payload,
            stream_id: aggregate.stream_id,
            aggregate_timestamp_ms: aggregate.timestamp_ms,
            first_timestamp_ms: None,
        }
    }
}

impl Iterator for SubMessages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let header: [u8; HEADER_BYTES] = *self.rest.first_chunk()?;
        let [type_id, l0, l1, l2, t0, t1, t2, t3, ..] = header;
        let length = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
        let timestamp_ms = u32::from_be_bytes([t3, t0, t1, t2]);
        let end = HEADER_BYTES.checked_add(length)?;
        if end > self.rest.len() {
            self.rest = Bytes::new();
            return None;
        }
        let payload = self.rest.slice(HEADER_BYTES..end);
        let next = end.saturating_add(BACK_POINTER_BYTES).min(self.rest.len());
        self.rest = self.rest.slice(next..);
        let first = *self.first_timestamp_ms.get_or_insert(timestamp_ms);
        let since_first = timestamp_ms.wrapping_sub(first);
        Some(Message {
            type_id,
            timestamp_ms: self.aggregate_timestamp_ms.wrapping_add(since_first),
            stream_id: self.stream_id,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub_message(type_id: u8, timestamp_ms: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let [t3, t0, t1, t2] = timestamp_ms.to_be_bytes();
        let mut bytes = vec![type_id, length[1], length[2], length[3], t0, t1, t2, t3];
        bytes.extend([0, 0, 0]);
        bytes.extend(payload);
        bytes.extend((u32::try_from(payload.len()).unwrap() + 11).to_be_bytes());
        bytes
    }

    fn split(timestamp_ms: u32, payload: Vec<u8>) -> Vec<(u8, u32, Vec<u8>)> {
        let aggregate = Message {
            type_id: 22,
            timestamp_ms,
            stream_id: 1,
            payload: payload.into(),
        };
        let parts = SubMessages::new(aggregate);
        parts
            .map(|part| (part.type_id, part.timestamp_ms, part.payload.to_vec()))
            .collect()
    }

    #[test]
    fn timestamps_inside_an_aggregate_count_from_its_first_message() {
        let mut payload = sub_message(8, 0x0100_0000, b"a");
        payload.extend(sub_message(9, 0x0100_0028, b"vv"));
        let expected = vec![(8, 1_000, b"a".to_vec()), (9, 1_040, b"vv".to_vec())];
        assert_eq!(split(1_000, payload), expected);
    }

    #[test]
    fn an_aggregate_that_is_cut_short_gives_what_is_whole() {
        let mut payload = sub_message(8, 0, b"a");
        let whole = payload.len();
        payload.extend(sub_message(9, 0, b"vv"));
        for length in 0..payload.len() {
            let parts = split(0, payload[..length].to_vec());
            let expected =
                usize::from(length >= whole - 4) + usize::from(length >= payload.len() - 4);
            assert_eq!(parts.len(), expected, "{length} bytes");
        }
    }
}
