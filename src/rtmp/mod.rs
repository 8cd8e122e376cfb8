//! One publisher's RTMP session, as a pure state machine (Adobe RTMP 1.0, Enhanced RTMP v2):
//! bytes in; bytes, media messages and a deadline out.
//!
//! The handshake and the serializer are rml_rtmp's. Its reader and its session are not used, since
//! they panic on legal input before any login: [`chunk`] and [`amf0`] are ours.

mod aggregate;
pub mod amf0;
pub mod chunk;
mod command;
mod early;
mod enhanced;
mod error;
mod event;
mod flow;
mod metadata;
mod name;
mod reply;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rml_rtmp::handshake::{Handshake, HandshakeError, HandshakeProcessResult, PeerType};

pub use self::error::RtmpError;
pub use self::event::{CloseReason, ConnectInfo, Rejection, RtmpEvent, RtmpOutput};
pub use self::metadata::{CodecName, Metadata};

use self::aggregate::SubMessages;
use self::chunk::{Admission, ChunkReader, Message, message_type};
use self::command::Connected;
use self::early::Early;
use self::flow::{Acknowledger, CommandBudget};
use self::reply::{Level, Replies, user_control};
use crate::limits::{
    RTMP_FIRST_MEDIA_DEADLINE, RTMP_HANDSHAKE_DEADLINE, RTMP_IDLE_TIMEOUT, RTMP_OUTPUTS_MAX,
    RTMP_PARTIAL_BYTES_MAX, RTMP_SETUP_DEADLINE,
};

/// C0 (1 byte), C1 and C2 (1,536 each) (Adobe RTMP 1.0 §5.2).
const HANDSHAKE_BYTES: usize = 1 + 2 * 1_536;
/// What the deadline of a closed session is: far away, but no special case for its timer.
const CLOSED_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Deadlines of a session; the default is that of [`crate::limits`].
#[derive(Debug, Clone, Copy)]
pub struct RtmpConfig {
    /// From accept to the end of the handshake.
    pub handshake_deadline: Duration,
    /// From accept (or the end of the last publish) to an accepted publish.
    pub setup_deadline: Duration,
    /// From an accepted publish to its first audio or video.
    pub first_media_deadline: Duration,
    /// Without a byte, after the first audio or video.
    pub idle_timeout: Duration,
}

impl Default for RtmpConfig {
    fn default() -> Self {
        Self {
            handshake_deadline: RTMP_HANDSHAKE_DEADLINE,
            setup_deadline: RTMP_SETUP_DEADLINE,
            first_media_deadline: RTMP_FIRST_MEDIA_DEADLINE,
            idle_timeout: RTMP_IDLE_TIMEOUT,
        }
    }
}

/// One publisher's RTMP connection. After every `handle_*` and every command, pull
/// [`Self::poll_output`] until it says [`RtmpOutput::Timeout`].
pub struct RtmpSession {
    peer: SocketAddr,
    config: RtmpConfig,
    state: State,
    reader: ChunkReader,
    replies: Replies,
    outputs: VecDeque<RtmpOutput>,
    acknowledger: Acknowledger,
    budget: CommandBudget,
    connected: Option<Connected>,
    ignored_messages: u64,
}

enum State {
    /// Bytes of the handshake still come.
    Handshake {
        handshake: Box<Handshake>,
        started: Instant,
        bytes_left: usize,
    },
    /// Commands come; no publish was asked for, or the last one is over.
    Setup { since: Instant },
    /// A publish was asked for and not answered.
    Requested {
        since: Instant,
        stream_id: u32,
        /// What came since then and is not sent again.
        early: Early,
    },
    /// Media comes.
    Publishing { stream_id: u32, alive: Alive },
    /// Only outputs are left.
    Closed,
}

/// Sign of life of a publisher.
enum Alive {
    /// Nothing yet, since the publish was accepted.
    NoMedia { accepted: Instant },
    /// When the last byte came.
    Media { last_input: Instant },
}

impl RtmpSession {
    /// A session of the connection that was just accepted from `peer`.
    #[must_use]
    pub fn new(peer: SocketAddr, config: RtmpConfig, now: Instant) -> Self {
        Self {
            peer,
            config,
            state: State::Handshake {
                handshake: Box::new(Handshake::new(PeerType::Server)),
                started: now,
                bytes_left: HANDSHAKE_BYTES,
            },
            reader: ChunkReader::new(),
            replies: Replies::new(),
            outputs: VecDeque::new(),
            acknowledger: Acknowledger::new(),
            budget: CommandBudget::new(),
            connected: None,
            ignored_messages: 0,
        }
    }

    /// Takes what came from the publisher. A fault closes the session.
    pub fn handle_input(&mut self, bytes: &[u8], now: Instant) {
        if bytes.is_empty() {
            return;
        }
        if let State::Publishing {
            alive: Alive::Media { last_input },
            ..
        } = &mut self.state
        {
            *last_input = now;
        }
        let mut input = bytes;
        let result = self
            .read_handshake(&mut input)
            .and_then(|()| self.read_messages(&mut input, now));
        if let Err(error) = result {
            self.end(CloseReason::Protocol(error));
        }
        self.check_invariants();
    }

    /// Takes notice that the publisher closed the connection (`error`: that it broke).
    pub fn handle_eof(&mut self, error: bool, _now: Instant) {
        self.end(if error {
            CloseReason::Reset
        } else {
            CloseReason::PeerClosed
        });
        self.check_invariants();
    }

    /// Closes the session if a deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(total) = self.acknowledger.take_due(now)
            && !self.is_closed()
        {
            let acknowledgement = self.replies.acknowledgement(total);
            self.transmit(acknowledgement);
        }
        if now >= self.deadline(now) {
            self.end(match self.state {
                State::Handshake { .. } | State::Setup { .. } | State::Requested { .. } => {
                    CloseReason::SetupTimeout
                }
                State::Publishing { .. } | State::Closed => CloseReason::Idle,
            });
        }
        self.check_invariants();
    }

    /// Gives the next thing to do; [`RtmpOutput::Timeout`] when there is nothing more.
    pub fn poll_output(&mut self, now: Instant) -> RtmpOutput {
        let output = self.outputs.pop_front();
        output.unwrap_or_else(|| {
            let deadline = self.deadline(now);
            let acknowledge = self.acknowledger.due_at().filter(|_| !self.is_closed());
            RtmpOutput::Timeout(acknowledge.map_or(deadline, |at| at.min(deadline)))
        })
    }

    /// Accepts the publish that was asked for: what describes it and came before that is given out
    /// next. Does nothing if none is waiting.
    pub fn accept_publish(&mut self, now: Instant) {
        let State::Requested {
            stream_id,
            ref mut early,
            ..
        } = self.state
        else {
            return;
        };
        let early = std::mem::take(early);
        self.reader.set_admission(Admission::Media);
        self.budget.accepted(now);
        self.state = State::Publishing {
            stream_id,
            alive: Alive::NoMedia { accepted: now },
        };
        let begin = self
            .replies
            .user_control(user_control::STREAM_BEGIN, stream_id);
        self.transmit(begin);
        self.send_status(
            stream_id,
            Level::Status,
            "NetStream.Publish.Start",
            "Publishing.",
        );
        for event in early.into_events() {
            self.raise(event);
        }
        self.check_invariants();
    }

    /// Refuses the publish that was asked for, or ends it, telling the publisher why, and closes.
    pub fn reject_publish(&mut self, why: Rejection, _now: Instant) {
        let Some(stream_id) = self.publish_stream() else {
            return;
        };
        self.refuse(stream_id, why.code(), why.description());
        self.check_invariants();
    }

    /// Tells the publisher something about its stream, as an `onStatus` of level `status`: what
    /// encoders log and go on after. Does nothing unless a publish is accepted.
    pub fn notify(&mut self, code: &str, text: &str) {
        let State::Publishing { stream_id, .. } = self.state else {
            return;
        };
        self.send_status(stream_id, Level::Status, code, text);
        self.check_invariants();
    }

    /// Nothing was read of the publisher because we did not look: that is no sign of death.
    pub fn keep_alive(&mut self, now: Instant) {
        if let State::Publishing {
            alive: Alive::Media { last_input },
            ..
        } = &mut self.state
        {
            *last_input = (*last_input).max(now);
        }
        self.acknowledger.heard(now);
    }

    /// The publisher sends faster than is read. It may have closed its connection already, with
    /// much on the way: to whatever is written then, its system answers with a reset, and what was on
    /// the way is lost. So acknowledgements wait until nothing comes any more, which a publisher that
    /// waits for them reaches as well.
    pub fn acknowledge_late(&mut self) {
        self.acknowledger.be_late();
    }

    /// Acknowledges from here on only after [`Self::handle_drained`], or when nothing comes for a
    /// while: as long as there is more to read, the publisher may have closed its connection behind
    /// it, and what is written then would cost the rest.
    pub fn acknowledge_when_drained(&mut self) {
        self.acknowledger.wait_for_drain();
    }

    /// All that the publisher sent so far was read.
    pub fn handle_drained(&mut self) {
        if !self.is_closed()
            && let Some(total) = self.acknowledger.take_drained()
        {
            let acknowledgement = self.replies.acknowledgement(total);
            self.transmit(acknowledgement);
        }
        self.check_invariants();
    }

    /// Closes the session politely.
    pub fn close(&mut self, _now: Instant) {
        if let Some(stream_id) = self.publish_stream() {
            self.send_status(
                stream_id,
                Level::Status,
                "NetStream.Unpublish.Success",
                "The server ended this publish.",
            );
        } else if self.connected.is_some() && !self.is_closed() {
            self.send_status(
                0,
                Level::Status,
                "NetConnection.Connect.Closed",
                "The server closed this connection.",
            );
        }
        self.end(CloseReason::Closed);
        self.check_invariants();
    }

    /// Where the publisher comes from.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Memory held for incomplete messages, in bytes; at most
    /// [`RTMP_PARTIAL_BYTES_MAX`].
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.reader.buffered_bytes()
    }

    /// Messages that were read and not used: media without an accepted publish, but for the last
    /// headers, unknown kinds, malformed data.
    #[must_use]
    pub fn ignored_messages(&self) -> u64 {
        self.ignored_messages
    }

    /// Whether the session is over (its last outputs may still wait to be pulled).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn read_handshake(&mut self, input: &mut &[u8]) -> Result<(), RtmpError> {
        let State::Handshake {
            handshake,
            started,
            bytes_left,
        } = &mut self.state
        else {
            return Ok(());
        };
        // Not a byte more than the handshake has, so that rml_rtmp buffers nothing beyond it.
        let (taken, rest) = input.split_at_checked(*bytes_left).unwrap_or((*input, &[]));
        let Some(&first) = taken.first() else {
            return Ok(());
        };
        *bytes_left = bytes_left.saturating_sub(taken.len());
        *input = rest;
        let result = handshake.process_bytes(taken);
        let result = result.map_err(|error| handshake_error(&error, first))?;
        let reply = match result {
            HandshakeProcessResult::InProgress { response_bytes } => response_bytes,
            HandshakeProcessResult::Completed { response_bytes, .. } => {
                let since = *started;
                self.state = State::Setup { since };
                response_bytes
            }
        };
        self.transmit(Bytes::from(reply));
        Ok(())
    }

    fn read_messages(&mut self, input: &mut &[u8], now: Instant) -> Result<(), RtmpError> {
        if matches!(self.state, State::Handshake { .. } | State::Closed) {
            return Ok(());
        }
        self.acknowledger.heard(now);
        let acknowledge = self.acknowledger.received(input.len(), now);
        while !self.is_closed() {
            let Some(message) = self.reader.next_message(input)? else {
                break;
            };
            self.handle_message(message, now)?;
            if self.outputs.len() > RTMP_OUTPUTS_MAX {
                return Err(RtmpError::TooManyMessages);
            }
        }
        if let Some(total) = acknowledge
            && !self.is_closed()
        {
            let acknowledgement = self.replies.acknowledgement(total);
            self.transmit(acknowledgement);
        }
        Ok(())
    }

    fn handle_message(&mut self, message: Message, now: Instant) -> Result<(), RtmpError> {
        match message.type_id {
            message_type::AUDIO | message_type::VIDEO | message_type::DATA_AMF0 => {
                self.handle_media(message, now);
            }
            message_type::DATA_AMF3 => {
                let payload = without_amf3_prefix(&message.payload);
                self.handle_data(&payload);
            }
            message_type::AGGREGATE => {
                for message in SubMessages::new(message) {
                    if self.outputs.len() > RTMP_OUTPUTS_MAX {
                        break;
                    }
                    self.handle_media(message, now);
                }
            }
            message_type::COMMAND_AMF0 => {
                self.handle_command(&message.payload, message.stream_id, now)?;
            }
            message_type::COMMAND_AMF3 => {
                let payload = without_amf3_prefix(&message.payload);
                self.handle_command(&payload, message.stream_id, now)?;
            }
            message_type::USER_CONTROL => self.handle_user_control(&message.payload, now)?,
            message_type::WINDOW_ACK_SIZE => {
                if let Some(window) = message.payload.first_chunk() {
                    self.acknowledger.set_window(u32::from_be_bytes(*window));
                }
            }
            message_type::ACKNOWLEDGEMENT | message_type::SET_PEER_BANDWIDTH => {}
            _ => self.ignore(),
        }
        Ok(())
    }

    /// One audio, video or data message, by itself or out of an aggregate.
    fn handle_media(&mut self, message: Message, now: Instant) {
        if message.type_id == message_type::DATA_AMF0 {
            self.handle_data(&message.payload);
            return;
        }
        let (timestamp_ms, payload) = (message.timestamp_ms, message.payload);
        let has_payload = !payload.is_empty();
        let event = match message.type_id {
            message_type::AUDIO => RtmpEvent::Audio {
                timestamp_ms,
                payload,
            },
            message_type::VIDEO => RtmpEvent::Video {
                timestamp_ms,
                payload,
            },
            _ => {
                self.ignore();
                return;
            }
        };
        match &mut self.state {
            State::Publishing { alive, .. } if has_payload => {
                *alive = Alive::Media { last_input: now };
                self.raise(event);
            }
            State::Requested { .. } if has_payload => self.keep_early(event),
            State::Handshake { .. }
            | State::Setup { .. }
            | State::Requested { .. }
            | State::Publishing { .. }
            | State::Closed => self.ignore(),
        }
    }

    fn handle_data(&mut self, payload: &[u8]) {
        if self.publish_stream().is_none() {
            self.ignore();
            return;
        }
        let (values, _cut_short) = amf0::decode_prefix(payload);
        match Metadata::from_values(&values).map(RtmpEvent::Metadata) {
            Some(event) if matches!(self.state, State::Publishing { .. }) => self.raise(event),
            Some(event) => self.keep_early(event),
            None => self.ignore(),
        }
    }

    fn handle_user_control(&mut self, payload: &[u8], now: Instant) -> Result<(), RtmpError> {
        let Some((event, rest)) = payload.split_first_chunk() else {
            self.ignore();
            return Ok(());
        };
        let value = rest.first_chunk();
        if u16::from_be_bytes(*event) == user_control::PING_REQUEST
            && let Some(value) = value
        {
            self.budget.spend(now)?;
            let value = u32::from_be_bytes(*value);
            let response = self
                .replies
                .user_control(user_control::PING_RESPONSE, value);
            self.transmit(response);
        }
        Ok(())
    }

    /// The message stream of the publish that was asked for or goes on.
    fn publish_stream(&self) -> Option<u32> {
        match self.state {
            State::Requested { stream_id, .. } | State::Publishing { stream_id, .. } => {
                Some(stream_id)
            }
            State::Handshake { .. } | State::Setup { .. } | State::Closed => None,
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        match &self.state {
            State::Handshake { started, .. } => *started + self.config.handshake_deadline,
            State::Setup { since } | State::Requested { since, .. } => {
                *since + self.config.setup_deadline
            }
            State::Publishing { alive, .. } => match alive {
                Alive::NoMedia { accepted } => *accepted + self.config.first_media_deadline,
                Alive::Media { last_input } => *last_input + self.config.idle_timeout,
            },
            State::Closed => now + CLOSED_TIMEOUT,
        }
    }

    fn transmit(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.outputs.push_back(RtmpOutput::Transmit(bytes));
        }
    }

    fn raise(&mut self, event: RtmpEvent) {
        self.outputs.push_back(RtmpOutput::Event(event));
    }

    fn send_status(&mut self, stream_id: u32, level: Level, code: &str, description: &str) {
        let status = self.replies.on_status(stream_id, level, code, description);
        self.transmit(status);
    }

    /// Tells the publisher why it is turned away, and closes.
    fn refuse(&mut self, stream_id: u32, code: &str, description: &str) {
        self.send_status(stream_id, Level::Error, code, description);
        self.end(CloseReason::Rejected);
    }

    /// Ends the session, once.
    fn end(&mut self, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        log::debug!(
            "RTMP session ends: reason={} peer={}",
            reason.reason(),
            self.peer
        );
        self.state = State::Closed;
        self.reader = ChunkReader::new();
        self.outputs.push_back(RtmpOutput::Close(reason));
    }

    fn ignore(&mut self) {
        self.ignored_messages = self.ignored_messages.saturating_add(1);
    }

    fn check_invariants(&self) {
        debug_assert!(self.buffered_bytes() <= RTMP_PARTIAL_BYTES_MAX);
        debug_assert!(!self.is_closed() || self.buffered_bytes() == 0);
        debug_assert!(self.publish_stream().is_none() || self.connected.is_some());
    }
}

/// AMF3 commands and data are AMF0 behind a zero byte; some encoders leave that byte out.
fn without_amf3_prefix(payload: &Bytes) -> Bytes {
    if payload.first() == Some(&0) {
        payload.slice(1..)
    } else {
        payload.clone()
    }
}

fn handshake_error(error: &HandshakeError, first: u8) -> RtmpError {
    if matches!(error, HandshakeError::BadVersionId) {
        RtmpError::Version(first)
    } else {
        RtmpError::Handshake
    }
}

#[cfg(test)]
pub(crate) mod tests;
