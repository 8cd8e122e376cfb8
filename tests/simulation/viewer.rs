//! A viewer of the simulation: a str0m player, how it signals, and its way to the server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtmpeer::ids::{ConnId, CoreId, ViewerId};
use rtmpeer::signalling::{HttpRequest, Method, WebSocketUpgrade};

use super::kit::viewer::KitViewer;
use super::network::{Link, Quality};
use super::watch::Watch;

/// How it comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// WHEP.
    Whep,
    /// WebSocket.
    WebSocket,
}

/// How its life goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It asked and waits.
    Asking,
    /// It has an answer, or gave one.
    Playing,
    /// It says goodbye and goes.
    Leaving,
    /// It is dead: nothing goes in or out.
    Silent,
    /// It was refused, or is gone.
    Gone,
}

/// A viewer.
pub struct SimViewer {
    /// The player.
    pub kit: KitViewer,
    /// The room, by its place in the world.
    pub room: usize,
    /// How it came in.
    pub way: Way,
    /// Its HTTP connection.
    pub conn: ConnId,
    /// How far it has got.
    pub stage: Stage,
    /// Path of its WHEP session.
    pub session: Option<String>,
    /// What it is to the server, and where.
    pub id: Option<(ViewerId, CoreId)>,
    /// Its way to the server and back.
    pub quality: Quality,
    /// To the server.
    pub up: Link,
    /// From the server.
    pub down: Link,
    /// When the player wants to be called.
    pub next: Instant,
    /// What is known of what it got.
    pub watch: Watch,
    /// Whether the server says that it is connected.
    pub accepted: bool,
    /// What the WebSocket said last of whether somebody publishes.
    pub told_live: Option<bool>,
    /// Errors that the WebSocket told.
    pub told: Vec<String>,
    /// When its player last asked for a keyframe.
    pub asked_key: Option<Instant>,
    /// Timestamp of the first picture and sound.
    pub first_ticks: [Option<u64>; 2],
}

impl SimViewer {
    /// Whether its player is to be called.
    pub fn is_awake(&self) -> bool {
        matches!(self.stage, Stage::Playing | Stage::Leaving)
    }

    /// Whether the server should hold its session, and send it what there is.
    pub fn is_watching(&self) -> bool {
        self.stage == Stage::Playing
    }

    /// Its way as it is now.
    pub fn quality_now(&self) -> Quality {
        if self.kit.connected && self.accepted {
            self.quality
        } else {
            self.quality.in_handshake()
        }
    }

    /// Lets the player take what is due and send what it wants to.
    pub fn step(&mut self, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut datagrams = Vec::new();
        if self.is_awake() {
            if self.next <= now {
                self.kit.handle_timeout(now);
            }
            let next = self
                .kit
                .poll(|to, datagram| datagrams.push((to, datagram.to_vec())));
            // Whatever it says, it is not called again at once for nothing.
            self.next = next.max(now + Duration::from_micros(100));
        }
        datagrams
    }
}

/// A request without anything.
pub fn request(method: Method, path: &str) -> HttpRequest {
    HttpRequest {
        method,
        path: path.to_owned(),
        query: Vec::new(),
        content_type: None,
        if_match: None,
        if_none_match: None,
        origin: None,
        host: Some("server".into()),
        authorization: None,
        upgrade: None,
        body: bytes::Bytes::new(),
    }
}

/// An offer by WHEP.
pub fn whep_request(room: &str, offer: String) -> HttpRequest {
    let mut request = request(Method::Post, &format!("/{room}/whep"));
    request.content_type = Some("application/sdp".into());
    request.body = offer.into();
    request
}

/// A request to become a WebSocket.
pub fn websocket_request(room: &str) -> HttpRequest {
    let mut request = request(Method::Get, "/v1/ws");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    request.query = vec![
        pair("roomID", room),
        pair("clientID", "same"),
        pair("clientName", "v"),
    ];
    request.upgrade = Some(WebSocketUpgrade {
        key: "dGhlIHNhbXBsZSBub25jZQ==".into(),
    });
    request
}
