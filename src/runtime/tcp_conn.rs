//! A TCP connection in a poll loop, plain or TLS: non-blocking, edge-triggered, with a bounded write
//! queue. Whoever uses it sees plain bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use bytes::{Buf, Bytes};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::tls::{HANDSHAKE_RECORD, TlsLayer, TlsTerms, Written};

/// Bytes that wait for a peer that does not read; whatever it is to get beyond, it is cut off. One
/// answer may be larger than this: what waits is bounded by it and the largest answer.
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
    tls: Option<Box<TlsLayer>>,
    unwritten: VecDeque<Bytes>,
    unwritten_bytes: usize,
    /// Something was read.
    begun: bool,
    /// Close once all is written.
    closing: bool,
    /// The peer takes nothing any more; what it sent before may still be read.
    mute: bool,
    /// What is left to write cannot be.
    broken: bool,
}

impl TcpConn {
    /// Registers a connection with a loop. `tls`: its peer must speak TLS.
    pub(super) fn register(
        mut stream: TcpStream,
        tls: Option<TlsTerms>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let tls = tls.map(TlsLayer::new).transpose()?.map(Box::new);
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            tls,
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            begun: false,
            closing: false,
            mute: false,
            broken: false,
        })
    }

    /// Takes it out of the loop.
    pub(super) fn deregister(&mut self, registry: &Registry) {
        // Dropping the socket takes it out as well.
        let _ = registry.deregister(&mut self.stream);
    }

    /// Whether it may be used for data: TLS has shaken hands, if there is TLS.
    pub(super) fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        if let Some(tls) = &mut self.tls {
            return tls.read(&mut self.stream, buffer);
        }
        match without_interrupt(|| self.stream.read(buffer)) {
            Ok(0) => ReadOutcome::Closed,
            Ok(count) => {
                let begins = !std::mem::replace(&mut self.begun, true);
                // Neither RTMP nor HTTP begins so.
                if begins && buffer.first() == Some(&HANDSHAKE_RECORD) {
                    let peer = self.stream.peer_addr().ok().map(|peer| peer.to_string());
                    let peer = peer.as_deref().unwrap_or("gone");
                    log::debug!("client speaks TLS to a port without it peer={peer}");
                    return ReadOutcome::Broken;
                }
                ReadOutcome::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ReadOutcome::Empty,
            Err(_) => ReadOutcome::Broken,
        }
    }

    /// Queues bytes and writes what the socket takes. `false`: the connection is of no more use,
    /// broken or its peer does not read.
    #[must_use]
    pub(super) fn write(&mut self, bytes: Bytes) -> bool {
        if self.mute {
            return true;
        }
        if self.unwritten_bytes > WRITE_BYTES_MAX {
            return false;
        }
        self.unwritten_bytes += bytes.len();
        self.unwritten.push_back(bytes);
        self.flush()
    }

    /// Writes what the socket takes. `false`: it broke.
    #[must_use]
    pub(super) fn flush(&mut self) -> bool {
        match self.tls {
            Some(_) => self.flush_tls(),
            None => self.flush_plain(),
        }
    }

    fn flush_plain(&mut self) -> bool {
        while !self.unwritten.is_empty() {
            let slices: Vec<IoSlice<'_>> = self
                .unwritten
                .iter()
                .take(SLICES_MAX)
                .map(|bytes| IoSlice::new(bytes))
                .collect();
            match without_interrupt(|| self.stream.write_vectored(&slices)) {
                Ok(count) => self.written(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
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

    fn flush_tls(&mut self) -> bool {
        while let Some(tls) = &mut self.tls {
            match tls.flush(&mut self.stream) {
                Written::All => {}
                Written::Blocked => return true,
                Written::Broken => return false,
            }
            match self.unwritten.front() {
                Some(_) if tls.is_handshaking() => return true,
                Some(front) => {
                    let count = tls.take(front);
                    if count == 0 {
                        return false;
                    }
                    self.written(count);
                }
                None => {
                    if !self.closing {
                        return true;
                    }
                    tls.say_goodbye();
                    if tls.is_flushed() {
                        return true;
                    }
                }
            }
        }
        true
    }

    /// Whether the system has taken all that was to be written.
    pub(super) fn is_flushed(&self) -> bool {
        let tls = self.tls.as_ref().is_none_or(|tls| tls.is_flushed());
        self.unwritten.is_empty() && tls
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
        if self.tls.is_none() {
            return;
        }
        if !self.is_open() {
            // It will never be.
            self.unwritten.clear();
            self.unwritten_bytes = 0;
        }
        self.broken = !self.flush_tls();
    }

    /// Whether it is to be dropped now.
    pub(super) fn is_done(&self) -> bool {
        self.closing && (self.broken || self.is_flushed())
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

/// Does it again while signals come between.
pub(super) fn without_interrupt<T>(mut step: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match step() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Peer};

    use super::*;

    /// More than the system's buffers hold.
    const LARGE: usize = 32 << 20;

    #[test]
    fn large_answer_reaches_a_slow_reader_whole_and_nothing_is_queued_behind_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut poll = mio::Poll::new().unwrap();
        let stream = TcpStream::from_std(stream);
        let mut conn = TcpConn::register(stream, None, poll.registry(), Token(0)).unwrap();

        assert!(conn.write(vec![7; LARGE].into()));
        assert!(conn.unwritten_bytes() > WRITE_BYTES_MAX);
        assert!(!conn.write(Bytes::from_static(b"more")));

        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all
        });
        conn.close_when_written();
        let mut events = mio::Events::with_capacity(8);
        while !conn.is_done() {
            poll.poll(&mut events, None).unwrap();
            assert!(conn.flush());
        }
        conn.end_writing();
        assert!(reader.join().unwrap() == vec![7; LARGE]);
    }
}
