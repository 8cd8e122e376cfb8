//! What a core is about to send, as trains: datagrams to one viewer that the kernel takes in
//! one call and cuts apart itself (UDP generic segmentation offload, Linux `udp(7)`).

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Trains after which a batch is full: one `sendmmsg` of them.
pub const BATCH_TRAINS_MAX: usize = 64;
/// Bytes after which a batch is full: fits the second-level cache, and the socket's buffer.
pub const BATCH_BYTES_MAX: usize = 512 * 1_024;
/// Datagrams in one train: the kernel's `UDP_MAX_SEGMENTS` of every version that has it.
pub const TRAIN_SEGMENTS_MAX: usize = 64;
/// Bytes in one train: an IP packet's 65,535 less any headers.
pub const TRAIN_BYTES_MAX: usize = 65_000;

/// Datagrams of equal size to one address, back to back; the last may be shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Train {
    /// Where they go.
    pub to: SocketAddr,
    /// The local address they leave from; `None` lets the kernel choose.
    pub from: Option<IpAddr>,
    /// Where they are in the batch's bytes.
    pub range: Range<usize>,
    /// Size of every datagram but the last, in bytes; never 0.
    pub segment_bytes: usize,
    /// How many datagrams it holds; at least 1.
    segments: usize,
    /// Whether another datagram may join.
    open: bool,
}

impl Train {
    /// How many datagrams it holds; at least 1.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments
    }

    fn takes(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        start: usize,
        datagram_bytes: usize,
    ) -> bool {
        self.open
            // Else a datagram that was never finished lies between.
            && self.range.end == start
            && self.to == to
            && self.from == from
            && datagram_bytes <= self.segment_bytes
            && self.segments < TRAIN_SEGMENTS_MAX
            && self.range.len().saturating_add(datagram_bytes) <= TRAIN_BYTES_MAX
    }
}

/// The trains to send next, in one buffer that is used again and again.
#[derive(Debug, Default)]
pub struct SendBatch {
    bytes: Vec<u8>,
    trains: Vec<Train>,
    datagrams: usize,
}

impl SendBatch {
    /// Makes a batch that holds so much before it allocates.
    #[must_use]
    pub fn with_capacity(trains: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            trains: Vec::with_capacity(trains),
            datagrams: 0,
        }
    }

    /// Empties the batch, keeping its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.trains.clear();
        self.datagrams = 0;
    }

    /// Whether nothing is to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    /// Number of trains.
    #[must_use]
    pub fn len(&self) -> usize {
        self.trains.len()
    }

    /// Number of bytes in all trains.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Number of datagrams in all trains.
    #[must_use]
    pub fn datagrams(&self) -> usize {
        self.datagrams
    }

    /// Whether it should be sent before more is pushed. Pushing goes on working, so that a
    /// viewer's frame is not cut in two.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.trains.len() >= BATCH_TRAINS_MAX || self.bytes.len() >= BATCH_BYTES_MAX
    }

    /// Runs `write` to append one datagram for `to`, and joins it to the last train if that is
    /// for the same addresses and may grow. An empty datagram is left out.
    ///
    /// # Errors
    /// That of `write`; the batch is as before then.
    pub fn push<E>(
        &mut self,
        to: SocketAddr,
        from: Option<IpAddr>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        let written = write(&mut self.bytes);
        let datagram_bytes = self.bytes.len().saturating_sub(start);
        if written.is_err() || datagram_bytes == 0 {
            self.bytes.truncate(start);
            return written;
        }
        let end = self.bytes.len();
        self.datagrams = self.datagrams.saturating_add(1);
        match self.trains.last_mut() {
            Some(train) if train.takes(to, from, start, datagram_bytes) => {
                train.range.end = end;
                train.segments = train.segments.saturating_add(1);
                train.open = datagram_bytes == train.segment_bytes;
            }
            Some(_) | None => self.trains.push(Train {
                to,
                from,
                range: start..end,
                segment_bytes: datagram_bytes,
                segments: 1,
                open: true,
            }),
        }
        Ok(())
    }

    /// The trains with their bytes, in the order they were pushed.
    pub fn trains(&self) -> impl Iterator<Item = (&Train, &[u8])> + Clone {
        self.trains.iter().map(|train| {
            let bytes = self.bytes.get(train.range.clone()).unwrap_or_default();
            (train, bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn push(batch: &mut SendBatch, port: u16, size: usize) {
        push_from(batch, port, None, size);
    }

    fn push_from(batch: &mut SendBatch, port: u16, from: Option<IpAddr>, size: usize) {
        let number = u8::try_from(batch.datagrams() % 256).unwrap();
        let write = |out: &mut Vec<u8>| {
            out.resize(out.len() + size, number);
            Ok::<(), ()>(())
        };
        batch.push(to(port), from, write).unwrap();
    }

    /// Each train as port, segment size and length.
    fn shape(batch: &SendBatch) -> Vec<(u16, usize, usize)> {
        batch
            .trains()
            .map(|(train, bytes)| {
                assert_eq!(train.range.len(), bytes.len());
                (train.to.port(), train.segment_bytes, bytes.len())
            })
            .collect()
    }

    #[test]
    fn equal_datagrams_to_one_address_are_one_train() {
        let mut batch = SendBatch::default();
        for _ in 0..9 {
            push(&mut batch, 1, 100);
        }
        assert_eq!(shape(&batch), [(1, 100, 900)]);
        assert_eq!(batch.trains().next().unwrap().0.segments(), 9);
        assert_eq!(batch.datagrams(), 9);
    }

    #[test]
    fn shorter_datagram_joins_and_closes_the_train() {
        let mut batch = SendBatch::default();
        for size in [100, 100, 40, 40, 100] {
            push(&mut batch, 1, size);
        }
        assert_eq!(shape(&batch), [(1, 100, 240), (1, 40, 40), (1, 100, 100)]);
        assert_eq!(batch.trains().next().unwrap().0.segments(), 3);
    }

    #[test]
    fn equal_datagram_after_the_short_one_begins_a_train() {
        let mut batch = SendBatch::default();
        for size in [100, 40, 100] {
            push(&mut batch, 1, size);
        }
        assert_eq!(shape(&batch), [(1, 100, 140), (1, 100, 100)]);
    }

    #[test]
    fn longer_datagram_begins_a_train() {
        let mut batch = SendBatch::default();
        for size in [100, 101, 101] {
            push(&mut batch, 1, size);
        }
        assert_eq!(shape(&batch), [(1, 100, 100), (1, 101, 202)]);
    }

    #[test]
    fn another_address_on_either_end_begins_a_train() {
        let mut batch = SendBatch::default();
        let local = |last| Some(IpAddr::from([10, 0, 0, last]));
        push_from(&mut batch, 1, None, 100);
        push_from(&mut batch, 1, local(1), 100);
        push_from(&mut batch, 1, local(2), 100);
        push_from(&mut batch, 2, local(2), 100);
        push_from(&mut batch, 1, local(2), 100);
        assert_eq!(batch.len(), 5);
    }

    #[test]
    fn train_ends_at_64_datagrams() {
        let mut batch = SendBatch::default();
        for _ in 0..65 {
            push(&mut batch, 1, 100);
        }
        assert_eq!(shape(&batch), [(1, 100, 6_400), (1, 100, 100)]);
    }

    #[test]
    fn train_ends_at_65_000_bytes() {
        let mut batch = SendBatch::default();
        for _ in 0..53 {
            push(&mut batch, 1, 1_250);
        }
        assert_eq!(shape(&batch), [(1, 1_250, 65_000), (1, 1_250, 1_250)]);

        batch.clear();
        for _ in 0..51 {
            push(&mut batch, 1, 1_251);
        }
        push(&mut batch, 1, 1_199);
        assert_eq!(shape(&batch), [(1, 1_251, 65_000)]);
        batch.clear();
        for _ in 0..53 {
            push(&mut batch, 1, 1_251);
        }
        assert_eq!(shape(&batch), [(1, 1_251, 63_801), (1, 1_251, 2_502)]);
    }

    #[test]
    fn failed_and_empty_datagrams_leave_no_trace() {
        let mut batch = SendBatch::default();
        push(&mut batch, 1, 100);
        let before = shape(&batch);
        let failed = batch.push(to(1), None, |out| {
            out.extend_from_slice(&[1; 50]);
            Err("broken")
        });
        assert_eq!(failed, Err("broken"));
        push(&mut batch, 1, 0);
        assert_eq!(shape(&batch), before);
        assert_eq!((batch.bytes_len(), batch.datagrams()), (100, 1));
        push(&mut batch, 1, 100);
        assert_eq!(shape(&batch), [(1, 100, 200)]);
    }

    #[test]
    fn datagram_that_a_panic_left_half_written_is_not_sent() {
        let mut batch = SendBatch::default();
        push(&mut batch, 1, 100);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            batch.push::<()>(to(1), None, |out| {
                out.extend_from_slice(&[9; 40]);
                panic!("a test's own panic")
            })
        }));
        assert!(panicked.is_err());
        push(&mut batch, 1, 100);
        let sent: Vec<u8> = batch
            .trains()
            .flat_map(|(_, bytes)| bytes)
            .copied()
            .collect();
        assert_eq!(sent.len(), 200);
        assert!(!sent.contains(&9));
    }

    #[test]
    fn batch_is_full_at_64_trains_or_512_kib() {
        let mut batch = SendBatch::default();
        for port in 0..63 {
            push(&mut batch, port, 10);
            assert!(!batch.is_full());
        }
        push(&mut batch, 63, 10);
        assert!(batch.is_full());

        batch.clear();
        assert!(batch.is_empty() && !batch.is_full());
        while batch.bytes_len() + 1_024 < BATCH_BYTES_MAX {
            push(&mut batch, 1, 1_024);
            assert!(!batch.is_full());
        }
        push(&mut batch, 1, 1_024);
        assert!(batch.is_full());
    }

    #[test]
    fn cleared_batch_keeps_its_memory() {
        let mut batch = SendBatch::with_capacity(BATCH_TRAINS_MAX, 4_096);
        let memory = batch.bytes.as_ptr();
        for _ in 0..3 {
            for _ in 0..4 {
                push(&mut batch, 1, 1_024);
            }
            assert_eq!(batch.bytes.as_ptr(), memory);
            batch.clear();
            assert_eq!(
                (batch.len(), batch.bytes_len(), batch.datagrams()),
                (0, 0, 0)
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn cutting_the_trains_gives_back_the_datagrams(
            pushes in proptest::collection::vec((0_u16..3, 0_usize..4), 0..200),
        ) {
            const SIZES: [usize; 4] = [1_236, 1_236, 1_235, 77];
            let mut batch = SendBatch::default();
            let mut expected = Vec::new();
            for (number, (port, size)) in pushes.into_iter().enumerate() {
                push(&mut batch, port, SIZES[size]);
                expected.push((port, vec![u8::try_from(number).unwrap(); SIZES[size]]));
            }
            let mut sent = Vec::new();
            for (train, bytes) in batch.trains() {
                prop_assert!(bytes.len() <= TRAIN_BYTES_MAX);
                let segments: Vec<_> = bytes.chunks(train.segment_bytes).collect();
                prop_assert!(segments.len() <= TRAIN_SEGMENTS_MAX);
                prop_assert_eq!(segments.len(), train.segments());
                sent.extend(segments.into_iter().map(|s| (train.to.port(), s.to_vec())));
            }
            prop_assert_eq!(sent, expected);
        }
    }
}
