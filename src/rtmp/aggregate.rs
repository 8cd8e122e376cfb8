//! Aggregate messages (Adobe RTMP 1.0 §7.1.6): several messages in one, laid out as FLV tags.

use bytes::Bytes;

use super::chunk::Message;
use crate::media::part;

/// Header of a sub-message: type 1 byte, length 3, timestamp 3 + 1, stream id 3.
const HEADER_BYTES: usize = 11;
/// Length of the sub-message before it, after each.
const BACK_POINTER_BYTES: usize = 4;

/// The messages inside an aggregate, sharing its bytes unless they are a small part of them; ends at
/// the first that is cut short.
pub(super) struct SubMessages {
    aggregate: Bytes,
    /// Where the next begins.
    next: usize,
    stream_id: u32,
    aggregate_timestamp_ms: u32,
    first_timestamp_ms: Option<u32>,
}

impl SubMessages {
    pub(super) fn new(aggregate: Message) -> Self {
        Self {
            aggregate: aggregate.payload,
            next: 0,
            stream_id: aggregate.stream_id,
            aggregate_timestamp_ms: aggregate.timestamp_ms,
            first_timestamp_ms: None,
        }
    }
}

impl Iterator for SubMessages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let rest = self.aggregate.get(self.next..)?;
        let header: [u8; HEADER_BYTES] = *rest.first_chunk()?;
        let [type_id, l0, l1, l2, t0, t1, t2, t3, ..] = header;
        let length = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
        let timestamp_ms = u32::from_be_bytes([t3, t0, t1, t2]);
        let begin = self.next.checked_add(HEADER_BYTES)?;
        let end = begin.checked_add(length)?;
        let whole = self.aggregate.len();
        if end > whole {
            self.next = whole;
            return None;
        }
        let (bytes, part) = part::kept(&self.aggregate, begin..end);
        let payload = bytes.slice(part);
        self.next = end.saturating_add(BACK_POINTER_BYTES).min(whole);
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

    /// A bug was: a few bytes that were kept kept their aggregate of megabytes.
    #[test]
    fn small_message_does_not_keep_a_large_aggregate() {
        let mut payload = sub_message(9, 0, b"small");
        payload.extend(sub_message(9, 40, &vec![1; 100_000]));
        payload.extend(sub_message(9, 80, b"last"));
        let payload = Bytes::from(payload);
        let aggregate = Message {
            type_id: 22,
            timestamp_ms: 0,
            stream_id: 1,
            payload: payload.clone(),
        };
        let parts: Vec<_> = SubMessages::new(aggregate).collect();
        let own = payload.as_ptr_range();
        let shared = parts.iter().map(|it| own.contains(&it.payload.as_ptr()));
        assert_eq!(shared.collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(
            (&parts[0].payload[..], &parts[2].payload[..]),
            (&b"small"[..], &b"last"[..])
        );
    }
}
