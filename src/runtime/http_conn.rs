//! One HTTP or WebSocket connection of the control loop: socket, and the session that reads it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Registry, Token};

use super::tcp_conn::{ReadOutcome, TcpConn};
use super::tls::TlsTerms;
use crate::control::Ends;
use crate::limits::TLS_HANDSHAKE_DEADLINE;
use crate::metrics::prometheus::CONTENT_TYPE;
use crate::signalling::{
    ClientMessage, HttpOutput, HttpRequest, HttpResponse, HttpSession, ServerMessage,
    SharedMessage, WebSocketSession, WsOutput,
};

/// One read, in bytes: the size of the buffer that [`HttpConn::turn`] is given.
pub(super) const READ_BYTES: usize = 16 * 1_024;
/// How long a peer may take to read the last answer and close, before we do: closing at once
/// would take back an answer to a request that it is still sending.
const LINGER: Duration = Duration::from_secs(1);
/// How long it may take before that to take the answer into its own system.
const LAST_WRITE: Duration = Duration::from_secs(10);
/// Reads in one turn.
const READS_PER_TURN: usize = 4;

/// What a connection said.
pub(super) enum ConnInput<'a> {
    /// A request; to be answered by [`HttpConn::respond`] or [`HttpConn::upgrade`].
    Request(Box<HttpRequest>),
    /// A WebSocket message.
    WebSocket(ClientMessage),
    /// The metrics page is wanted: call it with the page's text.
    Metrics(&'a mut dyn FnMut(String)),
}

/// What became of a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct TurnOutcome {
    /// Whether the connection is still of use.
    pub(super) open: bool,
    /// Whether there may be more to read at once.
    pub(super) more: bool,
}

#[derive(Debug)]
enum Speaks {
    Http(HttpSession),
    WebSocket(Box<WebSocketSession>),
}

/// One connection.
#[derive(Debug)]
pub(super) struct HttpConn {
    tcp: TcpConn,
    peer: SocketAddr,
    /// Our address, as the peer reached it.
    local: Option<IpAddr>,
    of_metrics: bool,
    speaks: Speaks,
    deadline: Instant,
    /// When TLS must have shaken hands.
    open_by: Instant,
    /// The connection is of no more use.
    gone: bool,
    /// The peer closed its side. It may wait for an answer.
    ended: bool,
    /// The session is over: close when the peer does, or then.
    linger_until: Option<Instant>,
    /// The socket was shut down for writing.
    said_all: bool,
}

impl HttpConn {
    pub(super) fn register(
        stream: TcpStream,
        tls: Option<TlsTerms>,
        peer: SocketAddr,
        of_metrics: bool,
        (registry, token): (&Registry, Token),
        now: Instant,
    ) -> io::Result<Self> {
        let local = stream.local_addr().ok();
        let tcp = TcpConn::register(stream, tls, registry, token)?;
        let speaks = Speaks::Http(HttpSession::new(now));
        Ok(Self {
            tcp,
            peer,
            local: local.map(|local| local.ip().to_canonical()),
            of_metrics,
            speaks,
            deadline: now,
            open_by: now + TLS_HANDSHAKE_DEADLINE,
            gone: false,
            ended: false,
            linger_until: None,
            said_all: false,
        })
    }

    pub(super) fn deregister(&mut self, registry: &Registry) {
        self.tcp.deregister(registry);
    }

    pub(super) fn is_of_metrics(&self) -> bool {
        self.of_metrics
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The addresses of both ends.
    pub(super) fn ends(&self) -> Ends {
        Ends {
            peer: self.peer.ip(),
            local: self.local,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When it is closed for resting between two requests: one that has rested longer is closed sooner.
    /// `None` while it does not rest.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        match &self.speaks {
            Speaks::Http(session) if self.tcp.is_flushed() => session.rests_until(),
            Speaks::Http(_) | Speaks::WebSocket(_) => None,
        }
    }

    /// Says that it is closed, if its peer is to be told; it must be dropped now.
    pub(super) fn say_goodbye(&mut self) {
        self.tcp.close_when_written();
    }

    /// Reads what is there, lets the session work, writes what comes out.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        mut take: impl FnMut(ConnInput<'_>, Ends),
    ) -> TurnOutcome {
        let more = self.read(buffer, now);
        if self.deadline <= now {
            match &mut self.speaks {
                Speaks::Http(session) => session.handle_timeout(now),
                Speaks::WebSocket(session) => session.handle_timeout(now),
            }
        }
        let usable = self.drain(now, &mut take) && self.tcp.flush();
        if let Speaks::WebSocket(session) = &mut self.speaks {
            session.handle_backlog(self.tcp.unwritten_bytes());
        }
        let over = self.linger(now) || (self.ended && self.said_all) || self.is_slow_to_open(now);
        TurnOutcome {
            open: usable && !over && !self.gone,
            more,
        }
    }

    /// Waits a little for the peer to read the last of it. `true`: it had its time.
    fn linger(&mut self, now: Instant) -> bool {
        let Some(mut until) = self.linger_until else {
            return false;
        };
        if self.tcp.is_done() && !self.said_all {
            // Once: each shutdown is an event that wakes this loop again.
            self.said_all = true;
            self.tcp.end_writing();
            until = now + LINGER;
            self.linger_until = Some(until);
        }
        self.deadline = until;
        now >= until
    }

    /// Whether TLS took too long to shake hands.
    fn is_slow_to_open(&mut self, now: Instant) -> bool {
        if self.tcp.is_open() {
            return false;
        }
        self.deadline = self.deadline.min(self.open_by);
        if now < self.open_by {
            return false;
        }
        log::debug!("TLS handshake takes too long peer={}", self.peer);
        true
    }

    fn read(&mut self, buffer: &mut [u8], now: Instant) -> bool {
        for _ in 0..READS_PER_TURN {
            match self.tcp.read(buffer) {
                ReadOutcome::Bytes(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    match &mut self.speaks {
                        Speaks::Http(session) => session.handle_input(bytes, now),
                        Speaks::WebSocket(session) => session.handle_input(bytes, now),
                    }
                }
                ReadOutcome::Empty => return false,
                ReadOutcome::Closed => {
                    self.ended = true;
                    match &mut self.speaks {
                        Speaks::Http(session) => session.handle_end(now),
                        Speaks::WebSocket(_) => self.gone = true,
                    }
                    return false;
                }
                ReadOutcome::Broken => {
                    self.gone = true;
                    return false;
                }
            }
        }
        true
    }

    /// Takes the session's outputs. `false`: the connection is of no more use.
    fn drain(&mut self, now: Instant, take: &mut impl FnMut(ConnInput<'_>, Ends)) -> bool {
        let ends = self.ends();
        loop {
            let usable = match &mut self.speaks {
                Speaks::Http(session) => match session.poll_output(now) {
                    HttpOutput::Transmit(bytes) => self.tcp.write(bytes),
                    HttpOutput::Request(request) if self.of_metrics => {
                        session.respond(metrics_response(&request, ends, take), now);
                        true
                    }
                    HttpOutput::Request(request) => {
                        take(ConnInput::Request(Box::new(request)), ends);
                        true
                    }
                    HttpOutput::Upgraded { leftover } => {
                        let session = WebSocketSession::new(&leftover, now);
                        self.speaks = Speaks::WebSocket(Box::new(session));
                        true
                    }
                    HttpOutput::Close => {
                        self.tcp.close_when_written();
                        self.linger_until = Some(now + LAST_WRITE);
                        true
                    }
                    HttpOutput::Timeout(at) => {
                        self.deadline = at;
                        return true;
                    }
                },
                Speaks::WebSocket(session) => match session.poll_output(now) {
                    WsOutput::Transmit(bytes) => self.tcp.write(bytes),
                    WsOutput::Message(message) => {
                        take(ConnInput::WebSocket(message), ends);
                        true
                    }
                    WsOutput::Invalid(text) => {
                        session.send(&ServerMessage::Error { text }, now);
                        true
                    }
                    WsOutput::Close { code, reason } => {
                        log::debug!("WebSocket closes: {reason} code={code} peer={}", self.peer);
                        self.tcp.close_when_written();
                        self.linger_until = Some(now + LAST_WRITE);
                        true
                    }
                    WsOutput::Timeout(at) => {
                        self.deadline = at;
                        return true;
                    }
                },
            };
            if !usable {
                return false;
            }
        }
    }

    pub(super) fn respond(&mut self, response: HttpResponse, now: Instant) {
        if let Speaks::Http(session) = &mut self.speaks {
            session.respond(response, now);
        }
    }

    pub(super) fn upgrade(&mut self, response: HttpResponse, now: Instant) {
        self.respond(response, now);
    }

    pub(super) fn send(&mut self, message: &SharedMessage, now: Instant) {
        if let Speaks::WebSocket(session) = &mut self.speaks {
            session.send_shared(message, now);
        }
    }

    pub(super) fn close_websocket(&mut self, code: u16, reason: &'static str, now: Instant) {
        if let Speaks::WebSocket(session) = &mut self.speaks {
            session.close(code, reason, now);
        }
    }
}

fn metrics_response(
    request: &HttpRequest,
    ends: Ends,
    take: &mut impl FnMut(ConnInput<'_>, Ends),
) -> HttpResponse {
    if request.path != "/metrics" {
        return HttpResponse::error(404, "the metrics are at /metrics");
    }
    let mut page = String::new();
    take(ConnInput::Metrics(&mut |text| page = text), ends);
    HttpResponse::new(200)
        .header("Content-Type", CONTENT_TYPE)
        .body(page)
}
