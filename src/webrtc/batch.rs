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
    /// Whether another datagram may join.
    open: bool,
}

impl Train {
    /// How many datagrams it holds; at least 1.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.range.len().div_ceil(self.segment_bytes.max(1))
    }

    fn takes(&self, to: SocketAddr, from: Option<IpAddr>, datagram_bytes: usize) -> bool {
        self.open
            && self.to == to
            && self.from == from
            && datagram_bytes <= self.segment_bytes
            && self.segments() < TRAIN_SEGMENTS_MAX
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
            Some(train) if train.takes(to, from, datagram_bytes) => {
                train.range.end = end;
                train.open = datagram_bytes == train.segment_bytes;
            }
            Some(_) | None => self.trains.push(Train {
                to,
                from,
                range: start..end,
                segment_bytes: datagram_bytes,
                open: true,
            }),
        }
        Ok(())
    }

    /// The trains with their bytes, in the order they were pushed.
    pub fn trains(&self) -> impl Iterator<Item = (&Train, &[u8])> {
        self.trains.iter().map(|train| {
            let bytes = self.bytes.get(train.range.clone()).unwrap_or_default();
            (train, bytes)
        })
    }
}
