//! What is said on WebSockets: offers, candidates, whether somebody publishes, chat, errors.

use std::time::Instant;

use super::directory::{Offer, Signalling, Socket};
use super::joining::text_of;
use super::{Control, ControlOutput};
use crate::ids::{ConnId, RoomId, ViewerId};
use crate::limits::{LOCAL_CANDIDATES_MAX, VIEWER_CANDIDATES_MAX};
use crate::messages::{CoreMsg, SdpFault, ViewerEnd};
use crate::signalling::websocket::close_code;
use crate::signalling::{ClientMessage, ServerMessage, SharedMessage};

impl Control {
    /// Takes a message of a WebSocket. One of a connection that has no viewer (any more) is
    /// dropped: its close frame is on the way.
    pub fn handle_websocket(&mut self, conn: ConnId, message: ClientMessage, now: Instant) {
        if let Some(viewer) = self.directory.viewer_of_conn(conn) {
            match message {
                ClientMessage::Answer(sdp) => self.answer(viewer, sdp),
                ClientMessage::Candidate(candidate) => self.candidate(viewer, candidate),
                ClientMessage::Chat(text) => self.chat(viewer, text, now),
            }
        }
        self.settle();
    }

    /// Takes that an HTTP or WebSocket connection is gone. A WHEP session outlives the
    /// connection it began on, once its answer was sent.
    pub fn handle_closed(&mut self, conn: ConnId, _now: Instant) {
        if let Some(viewer) = self.directory.viewer_of_conn(conn) {
            self.count_end(ViewerEnd::Left);
            self.remove_viewer(viewer);
        }
        self.settle();
    }

    fn answer(&mut self, id: ViewerId, sdp: String) {
        let Some((conn, offer)) = self.socket(id).map(|s| (s.conn, s.offer)) else {
            return;
        };
        match offer {
            Offer::Awaited { .. } => {
                self.complain(conn, "answer: wait for getOffer, then answer it".into());
            }
            Offer::Answered => {
                let text = "answer: the offer was answered already; connect again for a new one";
                self.complain(conn, text.into());
            }
            Offer::Sent => {
                self.change_socket(id, |socket| socket.offer = Offer::Answered);
                self.tell_viewer(id, |viewer| CoreMsg::ViewerAnswer { viewer, sdp });
            }
        }
    }

    fn candidate(&mut self, id: ViewerId, candidate: String) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        let (conn, named) = (socket.conn, socket.candidates);
        match socket.offer {
            Offer::Awaited { .. } => {
                self.complain(conn, "candidate: wait for getOffer first".into());
                return;
            }
            Offer::Sent | Offer::Answered => {}
        }
        if named >= VIEWER_CANDIDATES_MAX {
            // Said once: it may go on naming them.
            if named == VIEWER_CANDIDATES_MAX {
                let text = format!("candidate: more than {VIEWER_CANDIDATES_MAX} are not used");
                self.complain(conn, text);
            }
            self.change_socket(id, |socket| socket.candidates = named.saturating_add(1));
            return;
        }
        self.change_socket(id, |socket| socket.candidates = named.saturating_add(1));
        self.tell_viewer(id, |viewer| CoreMsg::AddCandidate { viewer, candidate });
    }

    /// Our offer for a WebSocket viewer came from its core, or what was wrong.
    pub(super) fn socket_sdp(&mut self, id: ViewerId, sdp: Result<String, SdpFault>) {
        let Some((conn, offer)) = self.socket(id).map(|s| (s.conn, s.offer)) else {
            return;
        };
        let is_first = match offer {
            Offer::Awaited { .. } => true,
            Offer::Sent | Offer::Answered => false,
        };
        let sdp = match sdp {
            Ok(sdp) => sdp,
            Err(fault) => {
                self.complain(conn, text_of(&fault).into());
                if is_first {
                    self.count_fault(&fault);
                    self.close_socket(conn, ViewerEnd::Failed);
                    self.remove_viewer(id);
                } else {
                    self.reopen_offer(id);
                }
                return;
            }
        };
        self.change_socket(id, |socket| socket.offer = Offer::Sent);
        let candidates = candidates_of(&sdp);
        self.say(conn, ServerMessage::GetOffer { sdp });
        for candidate in candidates {
            self.say(conn, candidate);
        }
        if is_first {
            self.welcome(id, conn);
        }
    }

    /// Lets a viewer answer once more: it may have been its answer that was wrong. If it was
    /// not, its core refuses the second.
    pub(super) fn reopen_offer(&mut self, id: ViewerId) {
        self.change_socket(id, |socket| match socket.offer {
            Offer::Answered => socket.offer = Offer::Sent,
            Offer::Awaited { .. } | Offer::Sent => {}
        });
    }

    /// Says how the room is, to one who came.
    fn welcome(&mut self, id: ViewerId, conn: ConnId) {
        let room = self.directory.viewer(id).map(|viewer| viewer.room);
        let Some(room) = room.and_then(|room| self.directory.room(room)) else {
            return;
        };
        let live = room.live.is_some();
        let trouble = room.live.as_ref().and_then(|live| live.trouble.clone());
        let room = room.name.clone();
        self.say(conn, ServerMessage::IsPublishing { live, room });
        if let Some(text) = trouble {
            self.complain(conn, text);
        }
    }

    /// Says something to every WebSocket viewer of a room that was welcomed.
    pub(super) fn broadcast(&mut self, room: RoomId, message: &SharedMessage) {
        let Some(room) = self.directory.room(room) else {
            return;
        };
        let conn_of = |id: &ViewerId| {
            let socket = self.socket(*id)?;
            match socket.offer {
                // It is told when it has the offer.
                Offer::Awaited { .. } => None,
                Offer::Sent | Offer::Answered => Some(socket.conn),
            }
        };
        let conns: Vec<ConnId> = room.viewers.iter().filter_map(conn_of).collect();
        for conn in conns {
            let message = message.clone();
            self.outputs
                .push_back(ControlOutput::WebSocket { conn, message });
        }
    }

    pub(super) fn complain(&mut self, conn: ConnId, text: String) {
        self.say(conn, ServerMessage::Error { text });
    }

    fn say(&mut self, conn: ConnId, message: ServerMessage) {
        let message = SharedMessage::new(message);
        self.outputs
            .push_back(ControlOutput::WebSocket { conn, message });
    }

    /// The viewer of this WebSocket has left its core: says why and closes.
    pub(super) fn dismiss(&mut self, conn: ConnId, reason: ViewerEnd) {
        let text = match reason {
            ViewerEnd::Left => "the session has ended",
            ViewerEnd::ConnectTimeout => {
                "no connection came about: the server's UDP port must be reachable from here, \
                 and webrtc.public_ips must name the address that viewers reach"
            }
            ViewerEnd::Consent => "the connection was lost: connect again",
            ViewerEnd::Failed => "the session failed: connect again",
            ViewerEnd::Closed => "the server closed the session",
        };
        self.complain(conn, text.into());
        self.close_socket(conn, reason);
    }

    pub(super) fn dismiss_overdue(&mut self, conn: ConnId) {
        self.complain(
            conn,
            "the server made no offer in time: connect again".into(),
        );
        self.close_socket(conn, ViewerEnd::Failed);
    }

    pub(super) fn close_socket(&mut self, conn: ConnId, reason: ViewerEnd) {
        let (code, reason) = match reason {
            _ if !self.is_serving() => (close_code::GOING_AWAY, "the server is stopping"),
            ViewerEnd::Left => (close_code::NORMAL, "the session has ended"),
            ViewerEnd::Closed => (close_code::NORMAL, "the server closed the session"),
            ViewerEnd::ConnectTimeout => (close_code::INTERNAL, "no connection came about"),
            ViewerEnd::Consent => (close_code::INTERNAL, "the connection was lost"),
            ViewerEnd::Failed => (close_code::INTERNAL, "the session failed"),
        };
        self.outputs
            .push_back(ControlOutput::CloseWebSocket { conn, code, reason });
    }

    pub(super) fn socket(&self, id: ViewerId) -> Option<&Socket> {
        match &self.directory.viewer(id)?.by {
            Signalling::WebSocket(socket) => Some(socket),
            Signalling::Whep { .. } => None,
        }
    }

    pub(super) fn change_socket(&mut self, id: ViewerId, change: impl FnOnce(&mut Socket)) {
        self.directory
            .change_viewer(id, |viewer| match &mut viewer.by {
                Signalling::WebSocket(socket) => change(socket),
                Signalling::Whep { .. } => {}
            });
    }
}

/// The candidates of our own SDP, as clients that trickle expect them (RFC 8839 §5.1). They
/// stand in the SDP as well, in the first m-section: all are bundled.
fn candidates_of(sdp: &str) -> Vec<ServerMessage> {
    let lines = || {
        sdp.lines()
            .map(str::trim_end)
            .skip_while(|line| !line.starts_with("m="))
    };
    let sdp_mid = lines().find_map(|line| line.strip_prefix("a=mid:"));
    let mut seen: Vec<&str> = Vec::new();
    for line in lines().filter_map(|line| line.strip_prefix("a=")) {
        let is_new = line.starts_with("candidate:") && !seen.contains(&line);
        if is_new && seen.len() < LOCAL_CANDIDATES_MAX {
            seen.push(line);
        }
    }
    let message = |candidate: &str| ServerMessage::GetCandidate {
        candidate: candidate.to_owned(),
        sdp_mid: sdp_mid.map(str::to_owned),
        sdp_m_line_index: Some(0),
    };
    seen.into_iter().map(message).collect()
}
