//! TLS 1.2 and 1.3 below a TCP connection (RFC 5246, RFC 8446): a rustls session between the socket
//! and those who see plain bytes only. It never blocks, and holds one record each way.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::{ServerConfig, ServerConnection};

use super::tcp_conn::{ReadOutcome, without_interrupt};
use crate::limits::{TLS_BARREN_BYTES_MAX, TLS_RECORD_BYTES};

/// First byte of a TLS connection: a record of the handshake (RFC 8446 §5.1).
pub(super) const HANDSHAKE_RECORD: u8 = 0x16;

/// What is spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsProtocol {
    /// RTMP.
    Rtmps,
    /// HTTP/1.1 and WebSocket.
    Https,
}

/// How a listener's connections speak TLS. A connection keeps those it began with.
#[derive(Clone)]
pub struct TlsTerms {
    config: Arc<ServerConfig>,
    protocol: TlsProtocol,
}

impl fmt::Debug for TlsTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTerms")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl TlsTerms {
    #[cfg(test)]
    pub(super) fn config_of(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    pub(super) fn new(config: ServerConfig, protocol: TlsProtocol) -> Self {
        Self {
            config: Arc::new(config),
            protocol,
        }
    }
}

/// What became of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// All of it went out.
    All,
    /// The socket takes no more for now.
    Blocked,
    /// The connection broke.
    Broken,
}

/// The TLS side of one connection.
pub(super) struct TlsLayer {
    session: ServerConnection,
    protocol: TlsProtocol,
    /// The peer's first byte was seen, and is TLS.
    greeted: bool,
    /// Bytes since the last ones that held data.
    barren_bytes: usize,
    said_goodbye: bool,
}

impl fmt::Debug for TlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsLayer")
            .field("protocol", &self.protocol)
            .field("greeted", &self.greeted)
            .finish_non_exhaustive()
    }
}

impl TlsLayer {
    pub(super) fn new(terms: TlsTerms) -> io::Result<Self> {
        let session = ServerConnection::new(terms.config).map_err(io::Error::other)?;
        Ok(Self {
            session,
            protocol: terms.protocol,
            greeted: false,
            barren_bytes: 0,
            said_goodbye: false,
        })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Whether all that was given to it has left.
    pub(super) fn is_flushed(&self) -> bool {
        !self.session.wants_write()
    }

    /// Reads plain bytes, and lets the handshake go on.
    pub(super) fn read(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> ReadOutcome {
        if !self.greeted
            && let Some(outcome) = self.greet(stream)
        {
            return outcome;
        }
        loop {
            match self.session.reader().read(buffer) {
                Ok(0) => return ReadOutcome::Closed,
                Ok(count) => {
                    self.barren_bytes = 0;
                    return ReadOutcome::Bytes(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Closed without close_notify, as most encoders do. Nothing inside ends by that.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return ReadOutcome::Closed;
                }
                Err(_) => return ReadOutcome::Broken,
            }
            if self.barren_bytes > TLS_BARREN_BYTES_MAX {
                self.complain(stream, &"it sends records without data");
                return ReadOutcome::Broken;
            }
            match without_interrupt(|| self.session.read_tls(stream)) {
                Ok(count) => self.barren_bytes = self.barren_bytes.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return ReadOutcome::Empty;
                }
                Err(_) => return ReadOutcome::Broken,
            }
            if let Err(error) = self.session.process_new_packets() {
                self.complain(stream, &error);
                // The alert that says so; the peer may be gone.
                let _ = self.flush(stream);
                return ReadOutcome::Broken;
            }
            if self.flush(stream) == Written::Broken {
                return ReadOutcome::Broken;
            }
        }
    }

    /// Takes plain bytes, some of these and at most one record, to be written by the next
    /// [`TlsLayer::flush`]. How many it took.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let record = bytes.get(..TLS_RECORD_BYTES).unwrap_or(bytes);
        // Writing into memory: it fails never, and takes less only when its buffer is full.
        self.session.writer().write(record).unwrap_or(0)
    }

    /// Writes what the session has for the peer.
    pub(super) fn flush(&mut self, stream: &mut TcpStream) -> Written {
        while self.session.wants_write() {
            match without_interrupt(|| self.session.write_tls(stream)) {
                Ok(0) => return Written::Broken,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Written::Blocked;
                }
                Err(_) => return Written::Broken,
            }
        }
        Written::All
    }

    /// Says that nothing follows (RFC 8446 §6.1), once.
    pub(super) fn say_goodbye(&mut self) {
        if !self.said_goodbye {
            self.said_goodbye = true;
            self.session.send_close_notify();
        }
    }

    /// Looks at the first byte. Something to return: it is not there yet, or no TLS.
    fn greet(&mut self, stream: &mut TcpStream) -> Option<ReadOutcome> {
        let mut first = [0];
        match without_interrupt(|| stream.peek(&mut first)) {
            Ok(0) => Some(ReadOutcome::Closed),
            Ok(_) if first == [HANDSHAKE_RECORD] => {
                self.greeted = true;
                None
            }
            Ok(_) => {
                let scheme = match self.protocol {
                    TlsProtocol::Rtmps => "rtmps",
                    TlsProtocol::Https => "https",
                };
                self.complain(stream, &format_args!("it must connect with {scheme}://"));
                if first.iter().all(u8::is_ascii_uppercase) {
                    answer_plain_http(stream, self.protocol);
                }
                Some(ReadOutcome::Broken)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(ReadOutcome::Empty),
            Err(_) => Some(ReadOutcome::Broken),
        }
    }

    fn complain(&self, stream: &TcpStream, what: &dyn fmt::Display) {
        let stage = match (self.greeted, self.session.is_handshaking()) {
            (false, _) => "client speaks no TLS",
            (true, true) => "TLS handshake failed",
            (true, false) => "TLS failed",
        };
        let peer = stream.peer_addr().ok().map(|peer| peer.to_string());
        let peer = peer.as_deref().unwrap_or("gone");
        log::debug!("{stage}: {what} protocol={:?} peer={peer}", self.protocol);
    }
}

/// Tells a browser or a script that spoke plain HTTP what to do.
fn answer_plain_http(stream: &mut TcpStream, protocol: TlsProtocol) {
    /// As much of its request as is read: what is left unread would take back the answer.
    const REQUEST_BYTES: usize = 16 * 1_024;
    let text = match protocol {
        TlsProtocol::Rtmps => "this port speaks RTMPS, RTMP over TLS: publish to rtmps://\n",
        TlsProtocol::Https => "this port speaks HTTPS: use https:// instead of http://\n",
    };
    let _ = stream.read(&mut [0; REQUEST_BYTES]);
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    // Fits in an empty send buffer; if not, the peer does without.
    let _ = stream.write(answer.as_bytes());
}
