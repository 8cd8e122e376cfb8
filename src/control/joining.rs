//! Viewers come and go: by WHEP, by WebSocket, and as their cores say.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::chat::Chatter;
use super::directory::{Offer, Signalling, Socket, WhepAnswer};
use super::networks::network_of;
use super::publishing::ID_CHARACTERS;
use super::{Control, ControlOutput, Ends};
use crate::config::WhenOffline;
use crate::ids::{ConnId, RoomName, ViewerId};
use crate::limits::{
    ORIGIN_WARNING_INTERVAL, RETRY_AFTER_FULL, RETRY_AFTER_OFFLINE, VIEWER_SDP_DEADLINE,
    VIEWERS_MAX, VIEWERS_PENDING_MAX, VIEWERS_PENDING_PER_ADDRESS_MAX,
};
use crate::messages::{CoreMsg, SdpFault, ViewerBegin, ViewerEnd};
use crate::signalling::websocket::upgrade_required;
use crate::signalling::{
    HttpRequest, HttpResponse, WebSocketUpgrade, WhepRequest, WhepSession, accept_response,
    origin_allowed, whep,
};

/// Characters of an entity tag: 72 bits; it need only differ from session to session.
const ETAG_CHARACTERS: usize = 12;
/// As much of a refused page's origin is written to the log: strangers choose it.
const ORIGIN_CHARACTERS_LOGGED: usize = 128;
/// How viewers without a name are called in the chat.
const NAMELESS: &str = "viewer";

/// Why a viewer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Stopping,
    Full,
    /// Too many of its address are joining.
    TooOften,
}

impl Control {
    pub(super) fn whep_endpoint(
        &mut self,
        conn: ConnId,
        ends: Ends,
        room: &RoomName,
        request: &HttpRequest,
        now: Instant,
    ) {
        match whep::endpoint_request(request) {
            Ok(WhepRequest::Play { offer }) => self.join_by_whep(conn, ends, room, offer, now),
            Ok(WhepRequest::Discover(discovery)) => {
                self.respond(conn, whep::discovered(discovery));
            }
            Ok(WhepRequest::Trickle { .. } | WhepRequest::IceRestart | WhepRequest::Leave) => {
                self.respond(conn, whep::not_found());
            }
            Err(response) => self.respond(conn, response),
        }
    }

    pub(super) fn whep_session(
        &mut self,
        conn: ConnId,
        room: &RoomName,
        session_id: &str,
        request: &HttpRequest,
    ) {
        let viewer = self.directory.viewer_of_session(session_id);
        // A session is known under its own room's URL only.
        let viewer = viewer.filter(|viewer| self.room_name(*viewer) == Some(room));
        let read = match viewer {
            None => whep::session_request(request, None),
            Some(viewer) => {
                let read =
                    |session: &mut WhepSession| whep::session_request(request, Some(session));
                let read = self.with_whep(viewer, read);
                read.unwrap_or_else(|| Err(whep::not_found()))
            }
        };
        let response = match (read, viewer) {
            (Ok(WhepRequest::Trickle { candidates, .. }), Some(viewer)) => {
                for candidate in candidates {
                    self.tell_viewer(viewer, |viewer| CoreMsg::AddCandidate { viewer, candidate });
                }
                whep::trickled()
            }
            (Ok(WhepRequest::IceRestart), Some(_)) => whep::ice_restart_unsupported(),
            (Ok(WhepRequest::Leave), Some(viewer)) => {
                self.count_end(ViewerEnd::Left);
                self.remove_viewer(viewer);
                whep::left()
            }
            (Ok(WhepRequest::Discover(discovery)), _) => whep::discovered(discovery),
            (Ok(_), _) => whep::not_found(),
            (Err(response), _) => response,
        };
        self.respond(conn, response);
    }

    fn join_by_whep(
        &mut self,
        conn: ConnId,
        ends: Ends,
        room: &RoomName,
        offer: String,
        now: Instant,
    ) {
        if let Err(refusal) = self.admit(ends.peer) {
            let response = match refusal {
                Refusal::Stopping | Refusal::Full => whep::unavailable(RETRY_AFTER_FULL),
                Refusal::TooOften => whep::too_often(RETRY_AFTER_FULL),
            };
            self.respond(conn, response);
            return;
        }
        let found = self.directory.room_named(room);
        let is_live = found.is_some_and(|room| room.live.is_some());
        if !is_live && self.config.when_offline == WhenOffline::Reject {
            self.counters.refused_offline.inc();
            self.respond(conn, whep::not_live(RETRY_AFTER_OFFLINE));
            return;
        }
        let etag = self.ids.url_text(ETAG_CHARACTERS);
        let by = Signalling::Whep {
            session_id: self.ids.url_text(ID_CHARACTERS),
            session: WhepSession::new(&offer, etag),
            answer: WhepAnswer::Awaited {
                conn,
                deadline: sdp_deadline(now),
            },
        };
        self.counters.whep_started.inc();
        self.add_viewer(ends, room, by, ViewerBegin::Offer(offer));
    }

    pub(super) fn join_by_websocket(
        &mut self,
        conn: ConnId,
        ends: Ends,
        room: &RoomName,
        name: Option<String>,
        request: &HttpRequest,
        now: Instant,
    ) {
        let upgrade = match self.websocket_upgrade(ends.peer, request, now) {
            Ok(upgrade) => upgrade,
            Err(response) => {
                // A player on another site reads it as well; there is nothing secret in it.
                self.respond(conn, response.header("Access-Control-Allow-Origin", "*"));
                return;
            }
        };
        self.counters.http_upgrades.inc();
        self.counters.websocket_started.inc();
        let response = accept_response(upgrade);
        self.outputs
            .push_back(ControlOutput::Upgrade { conn, response });
        // What it calls itself is a label: whoever says the same is another viewer.
        let by = Signalling::WebSocket(Socket {
            conn,
            name: name.unwrap_or_else(|| NAMELESS.into()),
            offer: Offer::Awaited {
                deadline: sdp_deadline(now),
            },
            candidates: 0,
            chatter: Chatter::default(),
        });
        self.add_viewer(ends, room, by, ViewerBegin::SendOffer);
    }

    /// What is to be accepted, or why nothing is. Scripts cannot read what a WebSocket was answered,
    /// so a page whose WebSocket did not open asks for its URL without one, and is told what it would
    /// have been told. Browsers name no origin in a GET to the page's own host: the page says it in
    /// the query.
    fn websocket_upgrade<'a>(
        &mut self,
        peer: IpAddr,
        request: &'a HttpRequest,
        now: Instant,
    ) -> Result<&'a WebSocketUpgrade, HttpResponse> {
        let (mut origin, host) = (request.origin.as_deref(), request.host.as_deref());
        if request.upgrade.is_none() {
            origin = origin.or_else(|| request.parameter("origin"));
        }
        if !origin_allowed(origin, host, &self.config.allowed_origins) {
            if request.upgrade.is_some() {
                self.counters.refused_origin.inc();
                self.warn_of_origin(origin, host, now);
            }
            let text = "pages of this origin may not connect: add it to http.allowed_origins, or \
                        have the proxy in front of the server pass the Host header on";
            return Err(HttpResponse::error(403, text));
        }
        let admitted = match &request.upgrade {
            Some(_) => self.admit(peer),
            None => self.may_join(peer),
        };
        if let Err(refusal) = admitted {
            let (status, text) = match refusal {
                Refusal::Stopping => (503, "the server is stopping"),
                Refusal::Full => (503, "the server takes no more viewers now"),
                Refusal::TooOften => (429, "too many viewers of this address are joining"),
            };
            let response = HttpResponse::error(status, text);
            return Err(retry_after(response, RETRY_AFTER_FULL));
        }
        request.upgrade.as_ref().ok_or_else(upgrade_required)
    }

    /// Behind a proxy that rewrites the Host header each viewer is refused: the log says what to set.
    fn warn_of_origin(&mut self, origin: Option<&str>, host: Option<&str>, now: Instant) {
        if self.origin_told_until.is_some_and(|until| now < until) {
            return;
        }
        self.origin_told_until = now.checked_add(ORIGIN_WARNING_INTERVAL);
        let cut = |text: Option<&str>| -> String {
            let characters = text.unwrap_or_default().chars();
            characters.take(ORIGIN_CHARACTERS_LOGGED).collect()
        };
        log::warn!(
            "WebSocket refused: the page's origin is not the host it asked; have the proxy pass the \
             host on (nginx: proxy_set_header Host $http_host), or add the origin to \
             http.allowed_origins origin={:?} host={:?}",
            cut(origin),
            cut(host)
        );
    }

    /// Whether one more viewer may come; a refusal is counted.
    fn admit(&self, peer: IpAddr) -> Result<(), Refusal> {
        self.may_join(peer).inspect_err(|refusal| {
            let counter = match refusal {
                Refusal::Stopping => &self.counters.refused_stopping,
                Refusal::Full | Refusal::TooOften => &self.counters.refused_full,
            };
            counter.inc();
        })
    }

    fn may_join(&self, peer: IpAddr) -> Result<(), Refusal> {
        if !self.is_serving() {
            return Err(Refusal::Stopping);
        }
        let directory = &self.directory;
        let is_full = directory.viewer_count() >= VIEWERS_MAX;
        if is_full || directory.pending() >= VIEWERS_PENDING_MAX {
            return Err(Refusal::Full);
        }
        if directory.pending_of(network_of(peer)) >= VIEWERS_PENDING_PER_ADDRESS_MAX {
            return Err(Refusal::TooOften);
        }
        Ok(())
    }

    fn add_viewer(&mut self, ends: Ends, name: &RoomName, by: Signalling, begin: ViewerBegin) {
        let Ends { peer, local: _ } = ends;
        let candidates = self.config.candidates.for_viewer(ends);
        if candidates.is_empty() && !std::mem::replace(&mut self.lack_told, true) {
            log::warn!("no address to offer to a viewer: set webrtc.public_ips room={name}");
        }
        let added = self.directory.add_viewer(name, network_of(peer), by);
        let (viewer, core, room, link_from) = added;
        let live = self.directory.room(room).and_then(|r| r.live.as_ref());
        let profile_level_id = live.and_then(|live| live.info.profile_level_id);
        log::debug!("viewer joins room={name} viewer={viewer} core={core} peer={peer}");
        let add = CoreMsg::AddViewer {
            viewer,
            room,
            name: name.clone(),
            begin,
            candidates,
            profile_level_id,
        };
        self.tell(core, add);
        if let Some(home) = link_from {
            self.tell(home, CoreMsg::LinkRoom { room, to: core });
        }
    }

    /// Removes a viewer from the directory and from its core.
    pub(super) fn remove_viewer(&mut self, id: ViewerId) {
        self.tell_viewer(id, |viewer| CoreMsg::RemoveViewer { viewer });
        self.forget_viewer(id);
    }

    /// Removes a viewer from the directory: its core does not have it (any more).
    pub(super) fn forget_viewer(&mut self, id: ViewerId) {
        let Some(removed) = self.directory.remove_viewer(id) else {
            return;
        };
        if let Some(home) = removed.unlink_from {
            let (room, to) = (removed.viewer.room, removed.viewer.core);
            self.tell(home, CoreMsg::UnlinkRoom { room, to });
        }
    }

    // -- what cores say --

    pub(super) fn viewer_sdp(&mut self, id: ViewerId, sdp: Result<String, SdpFault>) {
        // Not known: it left while its core was at work.
        let Some(viewer) = self.directory.viewer(id) else {
            return;
        };
        let (conn, session_id, session) = match &viewer.by {
            Signalling::WebSocket(_) => return self.socket_sdp(id, sdp),
            Signalling::Whep {
                session_id,
                session,
                answer,
            } => match answer {
                WhepAnswer::Awaited { conn, .. } => (*conn, session_id, session),
                WhepAnswer::Sent => return,
            },
        };
        match sdp {
            Ok(answer) => {
                let Some(room) = self.directory.room(viewer.room) else {
                    return;
                };
                let servers = &self.config.ice_servers;
                let etag = session.etag();
                let response = whep::accepted(&room.name, session_id, etag, &answer, servers);
                self.respond(conn, response);
                self.directory.change_viewer(id, |viewer| {
                    if let Signalling::Whep { answer, .. } = &mut viewer.by {
                        *answer = WhepAnswer::Sent;
                    }
                });
            }
            Err(fault) => {
                self.count_fault(&fault);
                let text = text_of(&fault);
                let response = match &fault {
                    SdpFault::Viewer(_) => whep::bad_offer(text),
                    SdpFault::Setup(_) => retry_after(whep::error(503, text), RETRY_AFTER_FULL),
                    SdpFault::Bug => whep::error(500, text),
                };
                self.respond(conn, response);
                self.remove_viewer(id);
            }
        }
    }

    /// The core did not make the SDP in time.
    pub(super) fn sdp_overdue(&mut self, id: ViewerId) {
        log::error!("a core did not answer in time viewer={id}");
        self.counters.refused_timeout.inc();
        let Some(viewer) = self.directory.viewer(id) else {
            return;
        };
        match &viewer.by {
            Signalling::Whep { .. } => {
                if let Some(conn) = viewer.conn() {
                    self.respond(conn, whep::unavailable(RETRY_AFTER_FULL));
                }
            }
            Signalling::WebSocket(socket) => {
                let conn = socket.conn;
                self.dismiss_overdue(conn);
            }
        }
        self.remove_viewer(id);
    }

    pub(super) fn viewer_complaint(&mut self, id: ViewerId, text: String) {
        let Some(viewer) = self.directory.viewer(id) else {
            return;
        };
        match &viewer.by {
            // Its requests were answered already; only the log can say it.
            Signalling::Whep { .. } => log::debug!("{text} viewer={id}"),
            Signalling::WebSocket(socket) => {
                let conn = socket.conn;
                let may_answer_again = !viewer.connected;
                self.complain(conn, text);
                if may_answer_again {
                    self.reopen_offer(id);
                }
            }
        }
    }

    pub(super) fn viewer_connected(&mut self, id: ViewerId) {
        let connect = |viewer: &mut super::directory::Viewer| {
            let again = std::mem::replace(&mut viewer.connected, true);
            (!again).then_some((viewer.room, viewer.core))
        };
        let first = self.directory.change_viewer(id, connect).flatten();
        let Some((room, core)) = first else {
            return;
        };
        if let Some(room) = self.directory.room(room) {
            log::info!(
                "viewer connected room={} viewer={id} core={core}",
                room.name
            );
        }
    }

    pub(super) fn viewer_left(&mut self, id: ViewerId, reason: ViewerEnd) {
        // Not known: we removed it, and this is the echo.
        let Some(viewer) = self.directory.viewer(id) else {
            return;
        };
        self.count_end(reason);
        if let Some(room) = self.directory.room(viewer.room) {
            let (room, reason) = (&room.name, reason.as_str());
            log::info!("viewer left reason={reason} room={room} viewer={id}");
        }
        match &viewer.by {
            Signalling::Whep { answer, .. } => match *answer {
                WhepAnswer::Awaited { conn, .. } => {
                    self.respond(conn, whep::unavailable(RETRY_AFTER_FULL));
                }
                WhepAnswer::Sent => {}
            },
            Signalling::WebSocket(socket) => {
                let conn = socket.conn;
                self.dismiss(conn, reason);
            }
        }
        self.forget_viewer(id);
    }

    /// Answers those that wait and closes the WebSockets, because the server stops. WHEP
    /// sessions end when their cores say so.
    pub(super) fn dismiss_signalling(&mut self) {
        for id in self.directory.viewer_ids() {
            let Some(viewer) = self.directory.viewer(id) else {
                continue;
            };
            match &viewer.by {
                Signalling::Whep { answer, .. } => match *answer {
                    WhepAnswer::Awaited { conn, .. } => {
                        self.counters.refused_stopping.inc();
                        self.respond(conn, whep::unavailable(RETRY_AFTER_FULL));
                        self.forget_viewer(id);
                    }
                    WhepAnswer::Sent => {}
                },
                Signalling::WebSocket(socket) => {
                    let conn = socket.conn;
                    self.count_end(ViewerEnd::Closed);
                    self.close_socket(conn, ViewerEnd::Closed);
                    self.forget_viewer(id);
                }
            }
        }
    }

    // -- small things --

    pub(super) fn count_fault(&self, fault: &SdpFault) {
        let counter = match fault {
            SdpFault::Viewer(_) => &self.counters.refused_sdp,
            SdpFault::Setup(_) => &self.counters.refused_setup,
            SdpFault::Bug => &self.counters.refused_bug,
        };
        counter.inc();
    }

    pub(super) fn count_end(&self, reason: ViewerEnd) {
        let counter = match reason {
            ViewerEnd::Left => &self.counters.viewers_left,
            ViewerEnd::ConnectTimeout => &self.counters.viewers_connect_timeout,
            ViewerEnd::Consent => &self.counters.viewers_consent,
            ViewerEnd::Failed => &self.counters.viewers_failed,
            ViewerEnd::Closed => &self.counters.viewers_closed,
        };
        counter.inc();
    }

    /// Sends a message about a viewer to its core.
    pub(super) fn tell_viewer(&mut self, id: ViewerId, message: impl FnOnce(ViewerId) -> CoreMsg) {
        if let Some(viewer) = self.directory.viewer(id) {
            let core = viewer.core;
            self.tell(core, message(id));
        }
    }

    fn room_name(&self, id: ViewerId) -> Option<&RoomName> {
        let viewer = self.directory.viewer(id)?;
        self.directory.room(viewer.room).map(|room| &room.name)
    }

    fn with_whep<R>(
        &mut self,
        id: ViewerId,
        step: impl FnOnce(&mut WhepSession) -> R,
    ) -> Option<R> {
        let step = |viewer: &mut super::directory::Viewer| match &mut viewer.by {
            Signalling::Whep { session, .. } => Some(step(session)),
            Signalling::WebSocket(_) => None,
        };
        self.directory.change_viewer(id, step).flatten()
    }
}

/// What a viewer without a session is told.
pub(super) fn text_of(fault: &SdpFault) -> &str {
    match fault {
        SdpFault::Viewer(text) | SdpFault::Setup(text) => text,
        SdpFault::Bug => "the session could not be made: this is a bug of the server",
    }
}

fn sdp_deadline(now: Instant) -> Instant {
    now.checked_add(VIEWER_SDP_DEADLINE).unwrap_or(now)
}

fn retry_after(response: HttpResponse, after: Duration) -> HttpResponse {
    response.header("Retry-After", after.as_secs().to_string())
}
