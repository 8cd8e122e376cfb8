//! A publisher for tests: says bytes to a session and reads what comes back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::wire;
use crate::rtmp::amf0::{self, Amf0Value};
use crate::rtmp::chunk::{Admission, ChunkReader, message_type};
use crate::rtmp::{CloseReason, RtmpConfig, RtmpEvent, RtmpOutput, RtmpSession};

/// S0, S1 and S2.
const HANDSHAKE_REPLY_BYTES: usize = 1 + 1_536 + 1_536;

/// A command or control message of ours, as a publisher reads it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Command {
        stream_id: u32,
        name: String,
        transaction: f64,
        values: Vec<Amf0Value>,
    },
    Control(u8, Vec<u8>),
}

pub(crate) struct Peer {
    pub(crate) session: RtmpSession,
    pub(crate) now: Instant,
    pub(crate) events: Vec<RtmpEvent>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) closed: Vec<CloseReason>,
    pub(crate) deadline: Option<Instant>,
    /// Everything transmitted, not yet taken.
    pub(crate) transmitted: Vec<u8>,
    reader: ChunkReader,
    handshake_left: usize,
}

impl Peer {
    pub(crate) fn new() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the virtual clock begins anywhere"
        )]
        let now = Instant::now();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let mut reader = ChunkReader::new();
        reader.set_admission(Admission::Media);
        let mut peer = Self {
            session: RtmpSession::new(address, RtmpConfig::default(), now),
            now,
            events: Vec::new(),
            replies: Vec::new(),
            closed: Vec::new(),
            deadline: None,
            transmitted: Vec::new(),
            reader,
            handshake_left: HANDSHAKE_REPLY_BYTES,
        };
        peer.drain();
        peer
    }

    /// After the handshake and `connect`.
    pub(crate) fn connected(app: &str) -> Self {
        let mut peer = Self::new();
        peer.send(&wire::handshake());
        peer.send(&wire::connect(app));
        peer
    }

    /// After `publish`, not answered.
    pub(crate) fn requested(key: &str) -> Self {
        let mut peer = Self::connected("live");
        peer.command("createStream", &[]);
        peer.publish(key);
        peer
    }

    /// Publishing.
    pub(crate) fn publishing() -> Self {
        let mut peer = Self::requested("room");
        peer.session.accept_publish(peer.now);
        peer.drain();
        assert_eq!(peer.last_code(), Some("NetStream.Publish.Start".to_owned()));
        peer
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.session.handle_input(bytes, self.now);
        self.drain();
    }

    pub(crate) fn command(&mut self, name: &str, arguments: &[Amf0Value]) {
        self.send(&wire::command(name, 4.0, arguments));
    }

    pub(crate) fn publish(&mut self, key: &str) {
        self.send(&wire::publish(key));
    }

    pub(crate) fn media(&mut self, type_id: u8, time: u32, payload: &[u8]) {
        self.send(&wire::Wire::new(4, type_id, time, payload).bytes());
    }

    /// Lets time pass, in steps of 100 ms, with the timer called when it is due.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += Duration::from_millis(100);
            if self.deadline.is_some_and(|deadline| deadline <= self.now) {
                self.session.handle_timeout(self.now);
                self.drain();
            }
        }
    }

    /// The `code` of the last command that has one.
    pub(crate) fn last_code(&self) -> Option<String> {
        self.replies.iter().rev().find_map(|reply| match reply {
            Reply::Command { values, .. } => {
                let code = values.last()?.property("code")?;
                code.as_str().map(str::to_owned)
            }
            Reply::Control(..) => None,
        })
    }

    /// The values of the last command of this name.
    pub(crate) fn last_values(&self, wanted: &str) -> Option<Vec<Amf0Value>> {
        self.replies.iter().rev().find_map(|reply| match reply {
            Reply::Command { name, values, .. } => (name == wanted).then(|| values.clone()),
            Reply::Control(..) => None,
        })
    }

    pub(crate) fn controls(&self, wanted: u8) -> Vec<Vec<u8>> {
        let control = |reply: &Reply| match reply {
            Reply::Control(type_id, payload) => (*type_id == wanted).then(|| payload.clone()),
            Reply::Command { .. } => None,
        };
        self.replies.iter().filter_map(control).collect()
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        assert!(self.closed.len() <= 1, "closed more than once");
        self.closed.first().copied()
    }

    /// Events without their bodies' identity: to compare two runs.
    pub(crate) fn event_texts(&self) -> Vec<String> {
        let text = |event| format!("{event:?}");
        self.events.iter().map(text).collect()
    }

    pub(crate) fn drain(&mut self) {
        for _ in 0..100_000 {
            match self.session.poll_output(self.now) {
                RtmpOutput::Transmit(bytes) => {
                    self.transmitted.extend_from_slice(&bytes);
                    self.read_reply(&bytes);
                }
                RtmpOutput::Event(event) => self.events.push(event),
                RtmpOutput::Close(reason) => self.closed.push(reason),
                RtmpOutput::Timeout(deadline) => {
                    self.deadline = Some(deadline);
                    return;
                }
            }
        }
        panic!("the session gives outputs without end");
    }

    fn read_reply(&mut self, bytes: &[u8]) {
        let handshake = self.handshake_left.min(bytes.len());
        self.handshake_left -= handshake;
        let mut rest = &bytes[handshake..];
        while let Some(message) = self.reader.next_message(&mut rest).unwrap() {
            if message.type_id != message_type::COMMAND_AMF0 {
                let payload = message.payload.to_vec();
                self.replies.push(Reply::Control(message.type_id, payload));
                continue;
            }
            let mut values = amf0::decode(&message.payload).unwrap();
            let rest = values.split_off(2);
            self.replies.push(Reply::Command {
                stream_id: message.stream_id,
                name: values[0].as_str().unwrap().to_owned(),
                transaction: values[1].as_number().unwrap(),
                values: rest,
            });
        }
    }
}
