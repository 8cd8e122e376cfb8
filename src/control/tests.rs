//! Tests of the control plane, by what it is told and what it says.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one kind of output among all"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::ids::{Epoch, RoomId, RoomName, Secret, ViewerId};
use crate::limits::{
    SPILL_VIEWERS, VIEWER_CANDIDATES_MAX, VIEWER_SDP_DEADLINE, VIEWERS_PENDING_PER_ADDRESS_MAX,
};
use crate::media::frame::StreamInfo;
use crate::messages::{PublishRejection, SdpFault, ViewerBegin, ViewerEnd};
use crate::signalling::{ClientMessage, HttpRequest, Method, ServerMessage, WebSocketUpgrade};
use crate::webhook::EventKind;

mod chat;
mod drain;
mod http;
mod publishing;
mod random;
mod sockets;
mod whep;

const OFFER: &str = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";
const SERVER_OFFER: &str = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v0\r\n\
     a=candidate:1 1 udp 2130706431 10.0.0.5 8189 typ host\r\n\
     a=candidate:2 1 udp 2130706430 127.0.0.1 8189 typ host\r\n\
     m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a0\r\n\
     a=candidate:1 1 udp 2130706431 10.0.0.5 8189 typ host\r\n";

fn peer() -> SocketAddr {
    "198.51.100.7:5000".parse().unwrap()
}

fn ends() -> Ends {
    Ends {
        peer: peer().ip(),
        local: None,
    }
}

fn name(text: &str) -> RoomName {
    RoomName::parse(text).unwrap()
}

/// A publish as its core sees it.
#[derive(Debug, Clone)]
struct Publish {
    core: CoreId,
    publisher: PublisherId,
    room: RoomId,
    epoch: Epoch,
    links: Vec<CoreId>,
}

/// A viewer as its core sees it.
#[derive(Debug, Clone, Copy)]
struct Joined {
    conn: ConnId,
    viewer: ViewerId,
    core: CoreId,
}

struct Rig {
    control: Control,
    now: Instant,
    next_conn: u64,
}

impl Rig {
    fn new(cores: u16) -> Self {
        Self::with(ControlConfig {
            cores,
            candidates: CandidatePolicy {
                public: Vec::new(),
                interfaces: vec!["10.0.0.5".parse().unwrap()],
                port: 8189,
                ..CandidatePolicy::default()
            },
            ..ControlConfig::default()
        })
    }

    fn with(config: ControlConfig) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let timebase = Timebase::new(now, Duration::from_millis(1_795_374_000_123));
        Self {
            control: Control::new(config, timebase, IdSource::seeded(1), now),
            now,
            next_conn: 1,
        }
    }

    /// All outputs there are.
    fn outputs(&mut self) -> Vec<ControlOutput> {
        let mut outputs = Vec::new();
        loop {
            match self.control.poll_output(self.now) {
                ControlOutput::Timeout(_) => return outputs,
                drained @ ControlOutput::Drained => {
                    outputs.push(drained);
                    return outputs;
                }
                output @ (ControlOutput::Core { .. }
                | ControlOutput::Respond { .. }
                | ControlOutput::Upgrade { .. }
                | ControlOutput::WebSocket { .. }
                | ControlOutput::CloseWebSocket { .. }
                | ControlOutput::Webhook(_)) => outputs.push(output),
            }
        }
    }

    fn tell(&mut self, message: ControlMsg) -> Vec<ControlOutput> {
        self.control.handle_message(message, self.now);
        self.outputs()
    }

    fn wait(&mut self, time: Duration) -> Vec<ControlOutput> {
        self.now += time;
        self.control.handle_timeout(self.now);
        self.outputs()
    }

    fn conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId(self.next_conn)
    }

    // -- publishers --

    fn request_publish(&mut self, key: &str) -> (CoreId, PublisherId, Vec<ControlOutput>) {
        let (core, publisher) = self.control.place_publisher(peer()).unwrap();
        let outputs = self.request_publish_on(core, publisher, key);
        (core, publisher, outputs)
    }

    fn request_publish_on(
        &mut self,
        core: CoreId,
        publisher: PublisherId,
        key: &str,
    ) -> Vec<ControlOutput> {
        self.tell(ControlMsg::PublishRequested {
            core,
            publisher,
            app: "live".into(),
            key: Secret::new(key.into()),
            query: Secret::new("token=QUERYSECRET".into()),
            peer: peer(),
        })
    }

    fn publish(&mut self, room: &str) -> Publish {
        let (core, publisher, outputs) = self.request_publish(room);
        accepted(&outputs).unwrap_or_else(|| panic!("{core} {publisher}: {outputs:?}"))
    }

    fn end(&mut self, publish: &Publish) -> Vec<ControlOutput> {
        self.tell(ControlMsg::PublishEnded {
            publisher: publish.publisher,
            reason: PublishEnd::Finished,
        })
    }

    // -- viewers --

    fn request(&mut self, conn: ConnId, request: HttpRequest) -> Vec<ControlOutput> {
        self.request_between(ends(), conn, request)
    }

    fn request_between(
        &mut self,
        ends: Ends,
        conn: ConnId,
        request: HttpRequest,
    ) -> Vec<ControlOutput> {
        self.control.handle_request(conn, ends, request, self.now);
        self.outputs()
    }

    /// A WHEP player whose offer is with its core.
    fn ask(&mut self, room: &str) -> Joined {
        let conn = self.conn();
        let outputs = self.request(conn, post(room));
        added(&outputs, conn).unwrap_or_else(|| panic!("{outputs:?}"))
    }

    /// A WHEP player whose session is there; with the session's URL and entity tag.
    fn play(&mut self, room: &str) -> (Joined, String, String) {
        let joined = self.ask(room);
        let outputs = self.sdp(joined, "v=0 answer");
        let response = response(&outputs, joined.conn).unwrap();
        assert_eq!(response.status, 201);
        let field = |name: &str| response.field(name).unwrap().to_owned();
        (joined, field("Location"), field("ETag"))
    }

    fn sdp(&mut self, joined: Joined, sdp: &str) -> Vec<ControlOutput> {
        self.tell(ControlMsg::ViewerSdp {
            viewer: joined.viewer,
            sdp: Ok(sdp.into()),
        })
    }

    /// A WebSocket that waits for its offer.
    fn open(&mut self, room: &str, client: &str) -> Joined {
        let conn = self.conn();
        let outputs = self.request(conn, upgrade(room, client));
        let is_upgraded = |output: &ControlOutput| {
            matches!(output, ControlOutput::Upgrade { conn: c, response }
                if *c == conn && response.status == 101)
        };
        assert!(outputs.iter().any(is_upgraded), "{outputs:?}");
        added(&outputs, conn).unwrap()
    }

    /// A WebSocket that has its offer.
    fn socket(&mut self, room: &str, client: &str) -> Joined {
        let joined = self.open(room, client);
        let outputs = self.sdp(joined, SERVER_OFFER);
        assert!(!said(&outputs, joined.conn).is_empty());
        joined
    }

    fn say(&mut self, joined: Joined, message: ClientMessage) -> Vec<ControlOutput> {
        self.control
            .handle_websocket(joined.conn, message, self.now);
        self.outputs()
    }

    fn connected(&mut self, joined: Joined) {
        let viewer = joined.viewer;
        self.tell(ControlMsg::ViewerConnected { viewer });
    }

    fn left(&mut self, joined: Joined, reason: ViewerEnd) -> Vec<ControlOutput> {
        let viewer = joined.viewer;
        self.tell(ControlMsg::ViewerLeft { viewer, reason })
    }

    fn closed(&mut self, conn: ConnId) -> Vec<ControlOutput> {
        self.control.handle_closed(conn, self.now);
        self.outputs()
    }

    fn room_names(&self) -> Vec<String> {
        let rooms = self.control.rooms().into_iter();
        rooms.map(|room| room.room.to_string()).collect()
    }
}

fn request(method: Method, path: &str) -> HttpRequest {
    HttpRequest {
        method,
        path: path.into(),
        query: Vec::new(),
        content_type: None,
        if_match: None,
        if_none_match: None,
        origin: None,
        host: Some("host:8889".into()),
        authorization: None,
        upgrade: None,
        body: bytes::Bytes::new(),
    }
}

fn post(room: &str) -> HttpRequest {
    HttpRequest {
        content_type: Some("application/sdp".into()),
        body: OFFER.into(),
        ..request(Method::Post, &format!("/{room}/whep"))
    }
}

fn upgrade(room: &str, client: &str) -> HttpRequest {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    HttpRequest {
        query: vec![
            pair("roomID", room),
            pair("clientID", client),
            pair("clientName", &client.to_uppercase()),
        ],
        upgrade: Some(WebSocketUpgrade {
            key: "dGhlIHNhbXBsZSBub25jZQ==".into(),
        }),
        ..request(Method::Get, "/v1/ws")
    }
}

fn accepted(outputs: &[ControlOutput]) -> Option<Publish> {
    outputs.iter().find_map(|output| match output {
        ControlOutput::Core {
            to,
            message:
                CoreMsg::PublishAccepted {
                    publisher,
                    room,
                    epoch,
                    links,
                    ..
                },
        } => Some(Publish {
            core: *to,
            publisher: *publisher,
            room: *room,
            epoch: *epoch,
            links: links.clone(),
        }),
        _ => None,
    })
}

fn rejection(outputs: &[ControlOutput]) -> Option<PublishRejection> {
    outputs.iter().find_map(|output| match output {
        ControlOutput::Core {
            message: CoreMsg::PublishRejected { rejection, .. },
            ..
        } => Some(*rejection),
        _ => None,
    })
}

fn added(outputs: &[ControlOutput], conn: ConnId) -> Option<Joined> {
    outputs.iter().find_map(|output| match output {
        ControlOutput::Core {
            to,
            message: CoreMsg::AddViewer { viewer, .. },
        } => Some(Joined {
            conn,
            viewer: *viewer,
            core: *to,
        }),
        _ => None,
    })
}

fn response(outputs: &[ControlOutput], conn: ConnId) -> Option<&HttpResponse> {
    outputs.iter().find_map(|output| match output {
        ControlOutput::Respond { conn: c, response } if *c == conn => Some(response),
        _ => None,
    })
}

fn status(outputs: &[ControlOutput], conn: ConnId) -> Option<u16> {
    response(outputs, conn).map(|response| response.status)
}

/// What was said on a WebSocket.
fn said(outputs: &[ControlOutput], conn: ConnId) -> Vec<&ServerMessage> {
    let said = outputs.iter().filter_map(|output| match output {
        ControlOutput::WebSocket { conn: c, message } if *c == conn => Some(message.message()),
        _ => None,
    });
    said.collect()
}

/// The first error said on a WebSocket.
fn complaint(outputs: &[ControlOutput], conn: ConnId) -> Option<&str> {
    said(outputs, conn)
        .into_iter()
        .find_map(|message| match message {
            ServerMessage::Error { text } => Some(text.as_str()),
            _ => None,
        })
}

fn close_code_of(outputs: &[ControlOutput], conn: ConnId) -> Option<u16> {
    outputs.iter().find_map(|output| match output {
        ControlOutput::CloseWebSocket { conn: c, code, .. } if *c == conn => Some(*code),
        _ => None,
    })
}

/// What was said to a core, but for new viewers.
fn to_core(outputs: &[ControlOutput], core: CoreId) -> Vec<&CoreMsg> {
    let told = outputs.iter().filter_map(|output| match output {
        ControlOutput::Core { to, message } if *to == core => Some(message),
        _ => None,
    });
    told.filter(|message| !matches!(message, CoreMsg::AddViewer { .. }))
        .collect()
}

fn events(outputs: &[ControlOutput]) -> Vec<&WebhookEvent> {
    let events = outputs.iter().filter_map(|output| match output {
        ControlOutput::Webhook(event) => Some(event),
        _ => None,
    });
    events.collect()
}
