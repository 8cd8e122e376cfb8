//! One viewer's WebSocket of the server's side, without its socket (RFC 6455).
//!
//! tungstenite reads and writes frames over a pipe in memory; this adds what it leaves open: how
//! much a viewer may send and leave unread, when it is dead, and which close code says so.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Instant;

use bytes::Bytes;
use tungstenite::error::Error;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

use super::allowance::Allowance;
use super::messages::{ClientMessage, ServerMessage, SharedMessage};
use super::request::WebSocketUpgrade;
use super::response::HttpResponse;
use crate::limits::{
    WEBSOCKET_BYTES_BURST, WEBSOCKET_BYTES_PER_SECOND, WEBSOCKET_CLOSE_WAIT,
    WEBSOCKET_INPUT_BYTES_MAX, WEBSOCKET_MESSAGE_BURST, WEBSOCKET_MESSAGE_BYTES_MAX,
    WEBSOCKET_MESSAGES_PER_SECOND, WEBSOCKET_OUTPUT_BYTES_MAX, WEBSOCKET_PING_INTERVAL,
    WEBSOCKET_SILENCE_MAX,
};

/// Close codes (RFC 6455 §7.4.1 and its registry).
pub mod close_code {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server stops.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// A binary message: only text is taken.
    pub const UNSUPPORTED: u16 = 1003;
    /// The connection broke without a close frame. Never sent.
    pub const ABNORMAL: u16 = 1006;
    /// Text that is not UTF-8.
    pub const INVALID_TEXT: u16 = 1007;
    /// The peer sends too much too fast.
    pub const POLICY: u16 = 1008;
    /// A message or frame larger than we take.
    pub const TOO_BIG: u16 = 1009;
    /// Our own fault.
    pub const INTERNAL: u16 = 1011;
    /// The peer does not read what it is sent.
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

/// One WebSocket.
#[derive(Debug)]
pub struct WebSocketSession {
    context: WebSocketContext,
    pipe: Pipe,
    state: State,
    messages: Allowance,
    bytes: Allowance,
    /// When the last whole message, ping or pong came.
    heard: Instant,
    next_ping: Instant,
    /// Bytes that were pulled and that the peer has not taken.
    unsent_bytes: usize,
}

/// What a WebSocket wants.
#[derive(Debug, PartialEq, Eq)]
pub enum WsOutput {
    /// Send these bytes, and say with [`WebSocketSession::handle_backlog`] how much of them the
    /// socket did not take: what a viewer leaves unread is limited here.
    Transmit(Bytes),
    /// The viewer said this.
    Message(ClientMessage),
    /// The viewer said what is not understood; this tells it why ([`ServerMessage::Error`]).
    Invalid(String),
    /// Close the connection when everything is sent, or a second later (the viewer may be one that
    /// reads nothing). Said once; nothing follows.
    Close {
        /// Close code, the peer's or ours.
        code: u16,
        /// Why, in plain words; not the peer's.
        reason: &'static str,
    },
    /// Nothing more to do before that time: then call [`WebSocketSession::handle_timeout`].
    Timeout(Instant),
}

#[derive(Debug, Clone, Copy)]
enum State {
    Open,
    /// We sent a close frame and wait for the peer's.
    Closing {
        code: u16,
        reason: &'static str,
        deadline: Instant,
    },
    /// To be told to the caller.
    Closed {
        code: u16,
        reason: &'static str,
    },
    Over,
}

/// The 101 that makes a connection a WebSocket (RFC 6455 §4.2.2).
#[must_use]
pub fn accept_response(upgrade: &WebSocketUpgrade) -> HttpResponse {
    HttpResponse::new(101)
        .header("Upgrade", "websocket")
        .header(
            "Sec-WebSocket-Accept",
            derive_accept_key(upgrade.key.as_bytes()),
        )
}

/// 426: the answer to a request for the WebSocket's URL that does not ask for one.
#[must_use]
pub fn upgrade_required() -> HttpResponse {
    HttpResponse::error(426, "this URL is a WebSocket: connect with ws:// or wss://")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
}

/// Whether a page of `origin` may open a WebSocket here (RFC 6455 §10.2). A program sends none;
/// a page must be of the host that it asks, or in `allowed` (whole origins, or `*`).
#[must_use]
pub fn origin_allowed(origin: Option<&str>, host: Option<&str>, allowed: &[String]) -> bool {
    let Some(origin) = origin else {
        return true;
    };
    let listed = |entry: &String| entry == "*" || entry.eq_ignore_ascii_case(origin);
    if allowed.iter().any(listed) {
        return true;
    }
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.strip_suffix(default_port).unwrap_or(&text).to_owned()
    };
    !authority.is_empty() && host.is_some_and(|host| plain(host) == plain(authority))
}

impl WebSocketSession {
    /// Begins after the 101 was sent. `leftover` is what came behind the request.
    #[must_use]
    pub fn new(leftover: &[u8], now: Instant) -> Self {
        /// Bytes that tungstenite reads from the pipe at a time.
        const READ_BYTES: usize = 4 * 1_024;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(WEBSOCKET_MESSAGE_BYTES_MAX))
            .max_frame_size(Some(WEBSOCKET_MESSAGE_BYTES_MAX));
        let mut session = Self {
            context: WebSocketContext::new(Role::Server, Some(config)),
            pipe: Pipe::default(),
            state: State::Open,
            messages: Allowance::new(WEBSOCKET_MESSAGE_BURST, WEBSOCKET_MESSAGES_PER_SECOND),
            bytes: Allowance::new(WEBSOCKET_BYTES_BURST, WEBSOCKET_BYTES_PER_SECOND),
            heard: now,
            next_ping: now + WEBSOCKET_PING_INTERVAL,
            unsent_bytes: 0,
        };
        session.handle_input(leftover, now);
        session
    }

    /// Takes bytes that the viewer sent. They are read as outputs are pulled.
    pub fn handle_input(&mut self, bytes: &[u8], now: Instant) {
        match self.state {
            State::Open | State::Closing { .. } => {}
            State::Closed { .. } | State::Over => return,
        }
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let unread = self.pipe.incoming.len().saturating_add(bytes.len());
        if unread > WEBSOCKET_INPUT_BYTES_MAX || !self.bytes.take(count, now) {
            self.fail(close_code::POLICY, "too many bytes in too short a time");
            return;
        }
        self.pipe.incoming.extend(bytes);
    }

    /// Says how many of the bytes pulled so far the viewer has not taken yet.
    pub fn handle_backlog(&mut self, unsent_bytes: usize) {
        self.unsent_bytes = unsent_bytes;
        self.limit_output();
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Open => {
                if self.heard + WEBSOCKET_SILENCE_MAX <= now {
                    self.end(close_code::ABNORMAL, "the viewer answers no more");
                } else if self.next_ping <= now {
                    self.next_ping = now + WEBSOCKET_PING_INTERVAL;
                    self.write(Message::Ping(Bytes::new()));
                }
            }
            State::Closing {
                code,
                reason,
                deadline,
            } if deadline <= now => self.end(code, reason),
            State::Closing { .. } | State::Closed { .. } | State::Over => {}
        }
    }

    /// Sends a message. After a close it is dropped.
    pub fn send(&mut self, message: &ServerMessage, _now: Instant) {
        self.write(Message::text(message.to_json()));
    }

    /// The same with a message that others get as well: its text is not made anew.
    pub fn send_shared(&mut self, message: &SharedMessage, _now: Instant) {
        self.write(Message::Text(message.text()));
    }

    /// Closes politely: with a close frame, then waiting a little for the viewer's.
    /// `reason` is sent, cut to 123 bytes (RFC 6455 §5.5).
    pub fn close(&mut self, code: u16, reason: &'static str, now: Instant) {
        match self.state {
            State::Open => {}
            State::Closing { .. } | State::Closed { .. } | State::Over => return,
        }
        self.write_close(code, reason);
        self.state = State::Closing {
            code,
            reason,
            deadline: now + WEBSOCKET_CLOSE_WAIT,
        };
    }

    /// Pulls the next output. Call until [`WsOutput::Timeout`] or [`WsOutput::Close`].
    pub fn poll_output(&mut self, now: Instant) -> WsOutput {
        loop {
            if let Some(bytes) = self.pipe.take_outgoing() {
                return WsOutput::Transmit(bytes);
            }
            match self.state {
                State::Open | State::Closing { .. } => match self.read(now) {
                    Reading::Output(output) => return output,
                    Reading::Again => {}
                    // Reading may have written the answer to a ping.
                    Reading::Drained if self.pipe.outgoing.is_empty() => {
                        return WsOutput::Timeout(self.deadline(now));
                    }
                    Reading::Drained => {}
                },
                State::Closed { code, reason } => {
                    self.state = State::Over;
                    return WsOutput::Close { code, reason };
                }
                State::Over => return WsOutput::Timeout(self.deadline(now)),
            }
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        match self.state {
            State::Open => self.next_ping.min(self.heard + WEBSOCKET_SILENCE_MAX),
            State::Closing { deadline, .. } => deadline,
            State::Closed { .. } => now,
            State::Over => now + WEBSOCKET_SILENCE_MAX,
        }
    }

    fn read(&mut self, now: Instant) -> Reading {
        let message = match self.context.read(&mut self.pipe) {
            Ok(message) => message,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Reading::Drained;
            }
            Err(error) => {
                self.handle_error(&error);
                return Reading::Again;
            }
        };
        self.heard = now;
        self.limit_output();
        let is_open = matches!(self.state, State::Open);
        match message {
            Message::Text(text) if is_open => self.handle_text(text.as_str(), now),
            Message::Binary(_) if is_open => {
                self.fail(close_code::UNSUPPORTED, "only text messages are taken");
                Reading::Again
            }
            // The answer to a ping or a close is in the pipe already; after a close of ours
            // nothing else counts.
            Message::Text(_)
            | Message::Binary(_)
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::Frame(_) => Reading::Again,
            Message::Close(frame) => {
                let code = frame.map_or(close_code::NORMAL, |frame| frame.code.into());
                let (code, reason) = match self.state {
                    State::Closing { code, reason, .. } => (code, reason),
                    State::Open | State::Closed { .. } | State::Over => {
                        (code, "the viewer closed it")
                    }
                };
                // Writes the answer to it, if that is not done yet.
                let _ = self.context.flush(&mut self.pipe);
                self.end(code, reason);
                Reading::Again
            }
        }
    }

    fn handle_text(&mut self, text: &str, now: Instant) -> Reading {
        if !self.messages.take(1, now) {
            self.fail(close_code::POLICY, "too many messages in too short a time");
            return Reading::Again;
        }
        match ClientMessage::parse(text) {
            Ok(Some(message)) => Reading::Output(WsOutput::Message(message)),
            Ok(None) => Reading::Again,
            Err(text) => Reading::Output(WsOutput::Invalid(text)),
        }
    }

    fn handle_error(&mut self, error: &Error) {
        match error {
            Error::Capacity(_) => self.fail(close_code::TOO_BIG, "a message larger than 64 KiB"),
            Error::Protocol(_) => self.fail(close_code::PROTOCOL, "the protocol was broken"),
            Error::Utf8(_) => self.fail(close_code::INVALID_TEXT, "text that is not UTF-8"),
            Error::ConnectionClosed | Error::AlreadyClosed => {
                self.end(close_code::NORMAL, "closed");
            }
            Error::WriteBufferFull(_) => self.overflow(),
            Error::Io(_)
            | Error::Tls(_)
            | Error::AttackAttempt
            | Error::Url(_)
            | Error::Http(_)
            | Error::HttpFormat(_) => self.fail(close_code::INTERNAL, "the session failed"),
        }
    }

    fn write(&mut self, message: Message) {
        match self.state {
            State::Open => {}
            State::Closing { .. } | State::Closed { .. } | State::Over => return,
        }
        if let Err(error) = self.context.write(&mut self.pipe, message) {
            self.handle_error(&error);
        }
        self.limit_output();
    }

    fn write_close(&mut self, code: u16, reason: &str) {
        /// RFC 6455 §5.5: 125 bytes of payload, two of them the code.
        const REASON_BYTES_MAX: usize = 123;
        let mut ends = (0..=reason.len().min(REASON_BYTES_MAX)).rev();
        let cut = ends.find_map(|end| reason.get(..end)).unwrap_or_default();
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: cut.into(),
        };
        // A context that cannot be closed any more has nothing to say: the peer closed first.
        let _ = self.context.close(&mut self.pipe, Some(frame));
    }

    fn limit_output(&mut self) {
        let waiting = self.pipe.outgoing.len().saturating_add(self.unsent_bytes);
        if waiting > WEBSOCKET_OUTPUT_BYTES_MAX {
            self.overflow();
        }
    }

    /// Drops what the viewer did not read: whole frames, since a pull takes all there is.
    fn overflow(&mut self) {
        match self.state {
            State::Open | State::Closing { .. } => {}
            State::Closed { .. } | State::Over => return,
        }
        self.pipe.outgoing.clear();
        self.fail(
            close_code::TRY_AGAIN_LATER,
            "the viewer does not read its messages",
        );
    }

    /// Ends because of the viewer's fault: says why and listens no more.
    fn fail(&mut self, code: u16, reason: &'static str) {
        match self.state {
            State::Open => self.write_close(code, reason),
            State::Closing { .. } | State::Closed { .. } | State::Over => {}
        }
        self.end(code, reason);
    }

    fn end(&mut self, code: u16, reason: &'static str) {
        match self.state {
            State::Open | State::Closing { .. } => {
                self.pipe.incoming = VecDeque::new();
                self.state = State::Closed { code, reason };
            }
            State::Closed { .. } | State::Over => {}
        }
    }
}

enum Reading {
    Output(WsOutput),
    Again,
    Drained,
}

/// The socket that tungstenite sees: what came in and is not read, what goes out and is not
/// pulled.
#[derive(Debug, Default)]
struct Pipe {
    incoming: VecDeque<u8>,
    outgoing: Vec<u8>,
}

impl Pipe {
    fn take_outgoing(&mut self) -> Option<Bytes> {
        if self.outgoing.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut self.outgoing).into())
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.incoming.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
