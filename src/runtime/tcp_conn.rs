//! A TCP connection in a poll loop: non-blocking, edge-triggered, with a bounded write queue.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use bytes::{Buf, Bytes};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// Bytes that wait for a peer that does not read; beyond, it is cut off.
pub(super) const WRITE_BYTES_MAX: usize = 512 * 1_024;

/// Slices handed to one `writev`.
const SLICES_MAX: usize = 16;

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// So many bytes, at the beginning of the buffer; there may be more.
    Bytes(usize),
    /// Nothing more for now.
    Empty,
    /// The peer closed its side.
    Closed,
    /// The connection broke.
    Broken,
}

/// One connection.
#[derive(Debug)]
pub(super) struct TcpConn {
    stream: TcpStream,
    unwritten: VecDeque<Bytes>,
    unwritten_bytes: usize,
    /// Close once all is written.
    closing: bool,
    /// The peer takes nothing any more; what it sent before may still be read.
    mute: bool,
}

impl TcpConn {
    /// Registers a connection with a loop.
    pub(super) fn register(
        mut stream: TcpStream,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            closing: false,
            mute: false,
        })
    }

    /// Takes it out of the loop.
    pub(super) fn deregister(&mut self, registry: &Registry) {
        // Dropping the socket takes it out as well.
        let _ = registry.deregister(&mut self.stream);
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return ReadOutcome::Closed,
                Ok(count) => return ReadOutcome::Bytes(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return ReadOutcome::Empty;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return ReadOutcome::Broken,
            }
        }
    }

    /// Queues bytes and writes what the socket takes. `false`: the connection is of no more use,
    /// broken or its peer does not read.
    #[must_use]
    pub(super) fn write(&mut self, bytes: Bytes) -> bool {
        if self.mute {
            return true;
        }
        self.unwritten_bytes += bytes.len();
        self.unwritten.push_back(bytes);
        self.flush() && self.unwritten_bytes <= WRITE_BYTES_MAX
    }

    /// Writes what the socket takes. `false`: it broke.
    #[must_use]
    pub(super) fn flush(&mut self) -> bool {
        while !self.unwritten.is_empty() {
            let slices: Vec<IoSlice<'_>> = self
                .unwritten
                .iter()
                .take(SLICES_MAX)
                .map(|bytes| IoSlice::new(bytes))
                .collect();
            match self.stream.write_vectored(&slices) {
                Ok(count) => self.written(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// After a failed write: writes nothing more, so that what the peer sent before it closed can
    /// still be read. `false` if the connection is not to be kept for that: the peer just does not
    /// read.
    #[must_use]
    pub(super) fn give_up_writing(&mut self) -> bool {
        let broke = !self.mute && self.unwritten_bytes <= WRITE_BYTES_MAX;
        self.mute = true;
        self.unwritten.clear();
        self.unwritten_bytes = 0;
        broke
    }

    /// Bytes that the peer has not taken yet.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    /// Says that nothing more will be written; the peer may still read and close.
    pub(super) fn end_writing(&self) {
        // Fails only if the peer is gone already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Asks for the connection to be closed once all is written.
    pub(super) fn close_when_written(&mut self) {
        self.closing = true;
    }

    /// Whether it is to be dropped now.
    pub(super) fn is_done(&self) -> bool {
        self.closing && self.unwritten.is_empty()
    }

    fn written(&mut self, mut count: usize) {
        self.unwritten_bytes = self.unwritten_bytes.saturating_sub(count);
        while let Some(front) = self.unwritten.front_mut() {
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.unwritten.pop_front();
        }
    }
}
