//! One HTTP/1.1 connection of the server's side, without its socket (RFC 9112).
//!
//! Requests come out one at a time: the next is not even read before the last is answered. After
//! the first thing that is wrong, nothing more of that connection is read at all.

use std::collections::VecDeque;
use std::mem;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use super::request::{self, Framing, HeadScan, HttpRequest, Method};
use super::response::HttpResponse;
use crate::limits::{
    HTTP_IDLE_MAX, HTTP_INPUT_BYTES_MAX, HTTP_REQUEST_DEADLINE, HTTP_REQUESTS_PER_CONNECTION_MAX,
    HTTP_RESPONSE_DEADLINE,
};

/// One connection. Feed it bytes, pull outputs until [`HttpOutput::Timeout`], and answer each
/// [`HttpOutput::Request`] exactly once with [`Self::respond`].
#[derive(Debug)]
pub struct HttpSession {
    /// Bytes from the first of the request now being read; at most [`HTTP_INPUT_BYTES_MAX`].
    input: BytesMut,
    scan: HeadScan,
    state: State,
    /// At most an answer's head and body, and one `100 Continue`.
    output: VecDeque<Bytes>,
    answered: u32,
    /// The peer sent more than we keep: nothing after the current request is read.
    overrun: bool,
    /// The peer sends nothing more: what is whole is answered, and then this ends.
    ended: bool,
}

/// What a connection wants.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "handed over once a request, never kept in a list"
)]
pub enum HttpOutput {
    /// Send these bytes.
    Transmit(Bytes),
    /// Answer this request with [`HttpSession::respond`].
    Request(HttpRequest),
    /// The 101 is sent: from here on the connection is a WebSocket's.
    Upgraded {
        /// What came after the request.
        leftover: Bytes,
    },
    /// Close the connection when everything is sent (RFC 9112 §9.6: end our side, read on for a
    /// second, so that the peer gets the last answer). Said once; nothing follows.
    Close,
    /// Nothing more to do before that time: then call [`HttpSession::handle_timeout`].
    Timeout(Instant),
}

#[derive(Debug)]
enum State {
    /// Before or within a head. `begun` once its first byte is here.
    Head { begun: bool, deadline: Instant },
    /// The head is read, its body not whole.
    Body {
        request: Box<HttpRequest>,
        framing: Framing,
        deadline: Instant,
    },
    /// A whole request waits to be pulled.
    Ready {
        request: Box<HttpRequest>,
        exchange: Exchange,
    },
    /// It was pulled and is not answered.
    Answering {
        exchange: Exchange,
        deadline: Instant,
    },
    /// 101 was said; the hand-over waits to be pulled.
    Upgraded,
    /// The last answer was said; the close waits to be pulled.
    Closing,
    /// Closed or handed over.
    Over,
}

/// What must be remembered of a request to answer it.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    is_head: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl HttpSession {
    /// Begins with a connection accepted at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            input: BytesMut::new(),
            scan: HeadScan::default(),
            state: State::Head {
                begun: false,
                deadline: now + HTTP_REQUEST_DEADLINE,
            },
            output: VecDeque::new(),
            answered: 0,
            overrun: false,
            ended: false,
        }
    }

    /// Takes bytes that the peer sent.
    pub fn handle_input(&mut self, bytes: &[u8], now: Instant) {
        match self.state {
            State::Closing | State::Over => return,
            State::Head { .. }
            | State::Body { .. }
            | State::Ready { .. }
            | State::Answering { .. }
            | State::Upgraded => {}
        }
        let room = HTTP_INPUT_BYTES_MAX.saturating_sub(self.input.len());
        let (kept, lost) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.input.extend_from_slice(kept);
        self.overrun |= !lost.is_empty();
        self.advance(now);
        self.check_invariants();
    }

    /// The peer ended its side. It may still read (RFC 9112 §9.6 lets a client do so after its last
    /// request): requests that are here whole are answered.
    pub fn handle_end(&mut self, now: Instant) {
        self.ended = true;
        self.advance(now);
        self.check_invariants();
    }

    /// Whether more bytes can be used. While not, the peer may be left unread; what comes all the
    /// same is kept as far as [`HTTP_INPUT_BYTES_MAX`].
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match self.state {
            State::Head { .. } | State::Body { .. } => true,
            State::Ready { .. }
            | State::Answering { .. }
            | State::Upgraded
            | State::Closing
            | State::Over => false,
        }
    }

    /// When it is closed for resting between two requests; `None` while it does not rest: it is at
    /// work, or nothing was asked of it yet.
    #[must_use]
    pub fn rests_until(&self) -> Option<Instant> {
        let State::Head {
            begun: false,
            deadline,
        } = self.state
        else {
            return None;
        };
        let rests = self.answered > 0 && self.output.is_empty();
        rests.then_some(deadline)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Head { begun, deadline } if deadline <= now => {
                if begun {
                    self.refuse(&too_slow());
                } else {
                    self.close();
                }
            }
            State::Body { deadline, .. } if deadline <= now => self.refuse(&too_slow()),
            State::Answering { deadline, .. } if deadline <= now => {
                self.refuse(&HttpResponse::error(
                    503,
                    "the server did not answer in time",
                ));
            }
            State::Head { .. }
            | State::Body { .. }
            | State::Ready { .. }
            | State::Answering { .. }
            | State::Upgraded
            | State::Closing
            | State::Over => {}
        }
        self.check_invariants();
    }

    /// Answers the request that was pulled last. Without one (the session itself said 503
    /// meanwhile) this does nothing.
    pub fn respond(&mut self, response: HttpResponse, now: Instant) {
        let State::Answering { exchange, .. } = self.state else {
            return;
        };
        self.answered = self.answered.saturating_add(1);
        if response.status == 101 && exchange.upgrade {
            self.output.push_back(response.head(Some("Upgrade")).into());
            self.state = State::Upgraded;
            return;
        }
        debug_assert_ne!(response.status, 101, "nobody asked for an upgrade");
        // A peer that asked for a WebSocket may have sent frames already: they are no requests.
        let again = exchange.keep_alive
            && !exchange.upgrade
            && !self.overrun
            && self.answered < HTTP_REQUESTS_PER_CONNECTION_MAX;
        let connection = if again { None } else { Some("close") };
        let has_body = !exchange.is_head && response.has_length() && !response.body.is_empty();
        self.output.push_back(response.head(connection).into());
        if has_body {
            self.output.push_back(response.body);
        }
        if again {
            self.state = State::Head {
                begun: false,
                deadline: now + HTTP_IDLE_MAX,
            };
            self.advance(now);
        } else {
            self.close();
        }
        self.check_invariants();
    }

    /// Pulls the next output. Call until [`HttpOutput::Timeout`], [`HttpOutput::Close`] or
    /// [`HttpOutput::Upgraded`].
    pub fn poll_output(&mut self, now: Instant) -> HttpOutput {
        if let Some(bytes) = self.output.pop_front() {
            return HttpOutput::Transmit(bytes);
        }
        match mem::replace(&mut self.state, State::Over) {
            State::Ready { request, exchange } => {
                self.state = State::Answering {
                    exchange,
                    deadline: now + HTTP_RESPONSE_DEADLINE,
                };
                HttpOutput::Request(*request)
            }
            State::Upgraded => HttpOutput::Upgraded {
                leftover: self.input.split().freeze(),
            },
            State::Closing => HttpOutput::Close,
            State::Over => HttpOutput::Timeout(now + HTTP_IDLE_MAX),
            waiting @ (State::Head { deadline, .. }
            | State::Body { deadline, .. }
            | State::Answering { deadline, .. }) => {
                self.state = waiting;
                HttpOutput::Timeout(deadline)
            }
        }
    }

    /// Reads on as far as the input allows.
    fn advance(&mut self, now: Instant) {
        if let Err(response) = self.read_head(now) {
            self.refuse(&response);
            return;
        }
        self.read_body();
        if self.ended && self.wants_input() {
            self.close();
        }
    }

    fn read_head(&mut self, now: Instant) -> Result<(), HttpResponse> {
        let State::Head { begun, deadline } = &mut self.state else {
            return Ok(());
        };
        if self.input.is_empty() {
            return Ok(());
        }
        if !*begun {
            *begun = true;
            // The first request's time runs from the accept, so that silence buys nothing.
            if self.answered > 0 {
                *deadline = now + HTTP_REQUEST_DEADLINE;
            }
        }
        let deadline = *deadline;
        let Some(length) = self.scan.advance(&self.input)? else {
            return Ok(());
        };
        let head = self.input.split_to(length.min(self.input.len()));
        self.scan = HeadScan::default();
        let (request, framing) = request::parse(&head)?;
        if framing.expects_continue && self.input.len() < framing.body_bytes {
            let go_on = Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.output.push_back(go_on);
        }
        self.state = State::Body {
            request: Box::new(request),
            framing,
            deadline,
        };
        Ok(())
    }

    fn read_body(&mut self) {
        match mem::replace(&mut self.state, State::Over) {
            State::Body {
                mut request,
                framing,
                ..
            } if self.input.len() >= framing.body_bytes => {
                request.body = self.input.copy_to_bytes(framing.body_bytes);
                let exchange = Exchange {
                    is_head: request.method == Method::Head,
                    keep_alive: framing.keep_alive,
                    upgrade: request.upgrade.is_some(),
                };
                self.state = State::Ready { request, exchange };
            }
            other @ (State::Head { .. }
            | State::Body { .. }
            | State::Ready { .. }
            | State::Answering { .. }
            | State::Upgraded
            | State::Closing
            | State::Over) => self.state = other,
        }
    }

    /// Says what is wrong and reads no further.
    fn refuse(&mut self, response: &HttpResponse) {
        self.output.push_back(response.head(Some("close")).into());
        self.output.push_back(response.body.clone());
        self.close();
    }

    fn close(&mut self) {
        self.input = BytesMut::new();
        self.state = State::Closing;
    }

    fn check_invariants(&self) {
        debug_assert!(self.input.len() <= HTTP_INPUT_BYTES_MAX);
        debug_assert!(self.output.len() <= 4);
    }
}

fn too_slow() -> HttpResponse {
    HttpResponse::error(408, "the request was not complete within 10 s")
}

#[cfg(test)]
mod tests;
