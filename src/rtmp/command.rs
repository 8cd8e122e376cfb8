//! A publisher's commands (Adobe RTMP 1.0 §7.2, and those that encoders took over from Flash
//! Media Live Encoder) and our answers.

use std::time::Instant;

use super::amf0::{self, Amf0Value};
use super::chunk::Admission;
use super::early::Early;
use super::enhanced;
use super::error::RtmpError;
use super::event::{ConnectInfo, Rejection, RtmpEvent};
use super::metadata::plain_text;
use super::name::{NameFault, Target};
use super::reply::{Level, status};
use super::{RtmpSession, State};
use crate::ids::Secret;
use crate::limits::RTMP_MESSAGE_STREAMS_MAX;

/// `fmsVer` that encoders know: some look for "FMS/" and a version of at least 3.5.
const SERVER_VERSION: &str = "FMS/3,5,7,7009";
/// `capabilities` of a Flash Media Server of that version.
const CAPABILITIES: f64 = 31.0;

const NO_KEY: &str = "There is no stream key. Enter a room name as the stream key in the encoder, or publish to rtmp://HOST/live/ROOM.";
const NO_PLAY: &str = "This server takes RTMP in and plays over WebRTC. Open http://HOST:8889/ROOM in a browser instead.";
const PUBLISHES_ALREADY: &str =
    "This connection publishes already. Open another connection for another room.";

/// What is known since `connect`.
pub(super) struct Connected {
    app: String,
    tc_url: String,
    info: ConnectInfo,
    /// Message streams that are open.
    streams: Vec<u32>,
    next_stream: u32,
}

struct Command {
    name: String,
    transaction: f64,
    object: Amf0Value,
    arguments: Vec<Amf0Value>,
}

impl Command {
    /// Reads a command; what is missing behind its name is 0 or null.
    fn parse(payload: &[u8]) -> Result<Self, RtmpError> {
        let mut values = amf0::decode(payload)?.into_iter();
        let Some(Amf0Value::String(name)) = values.next() else {
            return Err(RtmpError::Nameless);
        };
        let transaction = values.next().and_then(|value| value.as_number());
        Ok(Self {
            name,
            transaction: transaction.unwrap_or_default(),
            object: values.next().unwrap_or(Amf0Value::Null),
            arguments: values.collect(),
        })
    }

    fn text_argument(&self) -> &str {
        let first = self.arguments.first();
        first.and_then(Amf0Value::as_str).unwrap_or_default()
    }
}

impl RtmpSession {
    pub(super) fn handle_command(
        &mut self,
        payload: &[u8],
        stream_id: u32,
        now: Instant,
    ) -> Result<(), RtmpError> {
        self.budget.spend(now)?;
        let command = Command::parse(payload)?;
        if command.name == "connect" {
            return self.handle_connect(&command);
        }
        if self.connected.is_none() {
            return Err(RtmpError::NotConnected);
        }
        match command.name.as_str() {
            "createStream" => self.handle_create_stream(&command)?,
            "publish" => self.handle_publish(&command, stream_id),
            "FCPublish" => {
                self.answer(&command, Amf0Value::Undefined);
                self.send_fc_status("onFCPublish", "NetStream.Publish.Start");
            }
            "FCUnpublish" => {
                self.answer(&command, Amf0Value::Undefined);
                self.send_fc_status("onFCUnpublish", "NetStream.Unpublish.Success");
                self.finish_publish(now);
            }
            "deleteStream" => self.handle_delete_stream(&command, now),
            "closeStream" => {
                if stream_id == 0 || self.publish_stream() == Some(stream_id) {
                    self.finish_publish(now);
                }
            }
            "play" | "play2" => self.refuse(stream_id, "NetStream.Play.Failed", NO_PLAY),
            "getStreamLength" => self.answer(&command, Amf0Value::Number(0.0)),
            // Answers to what we never ask.
            "_result" | "_error" | "onStatus" => self.ignore(),
            // releaseStream, _checkbw, and whatever else an encoder calls and goes on without.
            _ => self.answer(&command, Amf0Value::Undefined),
        }
        Ok(())
    }

    fn handle_connect(&mut self, command: &Command) -> Result<(), RtmpError> {
        if self.connected.is_some() {
            return Err(RtmpError::ConnectedTwice);
        }
        let text = |name| {
            let value = command.object.property(name);
            value.and_then(Amf0Value::as_str).unwrap_or_default()
        };
        let tc_url = text("tcUrl");
        self.connected = Some(Connected {
            app: text("app").to_owned(),
            tc_url: tc_url.to_owned(),
            info: ConnectInfo {
                tc_url: Secret::new(tc_url.to_owned()),
                flash_ver: plain_text(text("flashVer")),
                four_cc_list: enhanced::four_cc_list(&command.object),
                caps_ex: enhanced::caps_ex(&command.object),
            },
            streams: Vec::new(),
            next_stream: 1,
        });
        for message in self.replies.begin() {
            self.transmit(message);
        }
        let mut server = vec![
            ("fmsVer".into(), Amf0Value::String(SERVER_VERSION.into())),
            ("capabilities".into(), Amf0Value::Number(CAPABILITIES)),
        ];
        server.extend(enhanced::properties(&command.object));
        // AMF0 whatever was asked for: we speak no AMF3.
        let encoding = ("objectEncoding".into(), Amf0Value::Number(0.0));
        let information = status(
            Level::Status,
            "NetConnection.Connect.Success",
            "Connection succeeded.",
            vec![encoding],
        );
        let values = vec![Amf0Value::Object(server), information];
        let result = self
            .replies
            .command(0, "_result", command.transaction, values);
        self.transmit(result);
        Ok(())
    }

    fn handle_create_stream(&mut self, command: &Command) -> Result<(), RtmpError> {
        let Some(connected) = &mut self.connected else {
            return Ok(());
        };
        if connected.streams.len() >= RTMP_MESSAGE_STREAMS_MAX {
            return Err(RtmpError::TooManyStreams);
        }
        let stream_id = connected.next_stream;
        connected.next_stream = stream_id.saturating_add(1);
        connected.streams.push(stream_id);
        self.answer(command, Amf0Value::Number(f64::from(stream_id)));
        Ok(())
    }

    fn handle_publish(&mut self, command: &Command, stream_id: u32) {
        let since = match self.state {
            State::Setup { since } => since,
            State::Requested { .. } | State::Publishing { .. } => {
                let code = Rejection::Busy.code();
                self.send_status(stream_id, Level::Error, code, PUBLISHES_ALREADY);
                return;
            }
            State::Handshake { .. } | State::Closed => return,
        };
        let Some(connected) = &self.connected else {
            return;
        };
        let name = command.text_argument();
        let target = match Target::parse(&connected.app, &connected.tc_url, name) {
            Ok(target) => target,
            Err(NameFault::NoKey) => {
                self.refuse(stream_id, Rejection::BadName.code(), NO_KEY);
                return;
            }
            Err(NameFault::Illegal) => {
                let why = Rejection::BadName;
                self.refuse(stream_id, why.code(), why.description());
                return;
            }
        };
        let info = connected.info.clone();
        self.state = State::Requested {
            since,
            stream_id,
            early: Early::default(),
        };
        self.reader.set_admission(Admission::Headers);
        self.raise(RtmpEvent::PublishRequested {
            app: target.app,
            key: Secret::new(target.key),
            query: Secret::new(target.query),
            info,
        });
    }

    fn handle_delete_stream(&mut self, command: &Command, now: Instant) {
        let publishing = self.publish_stream();
        let argument = command.arguments.first().and_then(Amf0Value::as_number);
        let names = |id: u32| argument.is_none_or(|argument| argument == f64::from(id));
        if let Some(connected) = &mut self.connected {
            connected.streams.retain(|&id| !names(id));
        }
        if publishing.is_some_and(names) {
            self.finish_publish(now);
        }
    }

    /// The publisher's publish is over, if there was one.
    fn finish_publish(&mut self, now: Instant) {
        let Some(stream_id) = self.publish_stream() else {
            return;
        };
        self.state = State::Setup { since: now };
        self.reader.set_admission(Admission::Skip);
        self.send_status(
            stream_id,
            Level::Status,
            "NetStream.Unpublish.Success",
            "The publish is over.",
        );
        self.raise(RtmpEvent::PublishFinished);
    }

    /// Answers a command, if its sender waits for an answer.
    fn answer(&mut self, command: &Command, value: Amf0Value) {
        if command.transaction == 0.0 {
            return;
        }
        let values = vec![Amf0Value::Null, value];
        let result = self
            .replies
            .command(0, "_result", command.transaction, values);
        self.transmit(result);
    }

    fn send_fc_status(&mut self, name: &str, code: &str) {
        let information = status(Level::Status, code, "", Vec::new());
        let values = vec![Amf0Value::Null, information];
        let message = self.replies.command(0, name, 0.0, values);
        self.transmit(message);
    }
}
