//! Who is where: places publishers and viewers on cores, answers HTTP, WHEP and WebSocket, tells
//! the webhook, and stops the server in order. Frames never pass through here.
//!
//! A pure state machine with the house's face: `handle_*` in, [`Control::poll_output`] out.
//! Keys and queries of publishers are never logged: they may be secrets.

mod candidates;
mod chat;
mod directory;
mod http;
mod joining;
mod networks;
mod placement;
mod publishing;
mod sockets;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

pub use candidates::{CandidatePolicy, Ends};
pub use placement::Placement;
pub use status::RoomStatus;

use directory::Directory;
pub(crate) use networks::network_of;
use publishing::Waiting;

use crate::config::WhenOffline;
use crate::ids::{ConnId, CoreId, Epoch, IdSource, PublisherId, RoomId};
use crate::limits::complaints::Complaints;
use crate::limits::{
    CONTROL_IDLE, DRAIN_DEADLINE, DRAIN_GRACE, RTMP_CONNECTIONS_MAX,
    RTMP_CONNECTIONS_PER_ADDRESS_MAX,
};
use crate::media::time::Timebase;
use crate::messages::{ControlMsg, CoreMsg, PublishEnd};
use crate::metrics::ControlCounters;
use crate::signalling::{HttpResponse, SharedMessage};
use crate::webhook::WebhookEvent;

/// What [`Control`] must know of the server.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// How many cores there are; 0 counts as 1.
    pub cores: u16,
    /// What a WHEP viewer of a room without a publisher gets.
    pub when_offline: WhenOffline,
    /// Origins of pages that may open a WebSocket here, besides the server's own.
    pub allowed_origins: Vec<String>,
    /// ICE servers that WHEP viewers are told of.
    pub ice_servers: Vec<String>,
    /// Addresses to offer.
    pub candidates: CandidatePolicy,
    /// Where publishers connect, for the page that says so.
    pub rtmp_port: u16,
    /// The same for those that speak TLS, if they can.
    pub rtmps_port: Option<u16>,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            cores: 1,
            when_offline: WhenOffline::Wait,
            allowed_origins: Vec::new(),
            ice_servers: Vec::new(),
            candidates: CandidatePolicy::default(),
            rtmp_port: 1_935,
            rtmps_port: None,
        }
    }
}

/// What [`Control`] wants done.
#[derive(Debug)]
pub enum ControlOutput {
    /// Send a message to a core.
    Core {
        /// Which.
        to: CoreId,
        /// The message.
        message: CoreMsg,
    },
    /// Answer the request of a connection.
    Respond {
        /// Which.
        conn: ConnId,
        /// The answer.
        response: HttpResponse,
    },
    /// Answer with 101, then speak WebSocket on the connection.
    Upgrade {
        /// Which.
        conn: ConnId,
        /// The answer.
        response: HttpResponse,
    },
    /// Send a message on a WebSocket.
    WebSocket {
        /// Which.
        conn: ConnId,
        /// The message, which others may get as well.
        message: SharedMessage,
    },
    /// Close a WebSocket; control has forgotten it already.
    CloseWebSocket {
        /// Which.
        conn: ConnId,
        /// RFC 6455 §7.4.
        code: u16,
        /// Why, in plain words.
        reason: &'static str,
    },
    /// Put an event into the outbox.
    Webhook(WebhookEvent),
    /// Nothing more before this moment.
    Timeout(Instant),
    /// The server has stopped: everything was said. Said once.
    Drained,
}

/// Why an RTMP connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// The server stops.
    Stopping,
    /// There are [`RTMP_CONNECTIONS_MAX`].
    Full,
    /// There are [`RTMP_CONNECTIONS_PER_ADDRESS_MAX`] from its address.
    AddressFull,
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopping => f.write_str("the server is stopping"),
            Self::Full => write!(
                f,
                "the server has {RTMP_CONNECTIONS_MAX} RTMP connections and takes no more"
            ),
            Self::AddressFull => write!(
                f,
                "its address has {RTMP_CONNECTIONS_PER_ADDRESS_MAX} RTMP connections, and one may \
                 have no more (a relay or proxy in front shares its address)"
            ),
        }
    }
}

/// Whether the server takes newcomers.
#[derive(Debug)]
enum Stage {
    Serving,
    /// It waits for these cores, at most until `by`.
    Draining {
        waiting: BTreeSet<CoreId>,
        by: Instant,
    },
    /// All is over; [`ControlOutput::Drained`] is still to be said.
    Done,
    /// It was said.
    Over,
}

/// The control plane.
#[derive(Debug)]
pub struct Control {
    config: ControlConfig,
    timebase: Timebase,
    ids: IdSource,
    directory: Directory,
    outputs: VecDeque<ControlOutput>,
    /// Publishes whose start event waits for a verdict, until when at most; as many as begin in
    /// [`START_EVENT_WAIT`](crate::limits::START_EVENT_WAIT).
    unannounced: VecDeque<(Instant, RoomId, Epoch)>,
    /// Publishers that wait for a room, by the publisher that has it.
    waiting: BTreeMap<PublisherId, Waiting>,
    /// Publishers that are done, while what they brought is still on its way.
    ending: BTreeSet<PublisherId>,
    stage: Stage,
    /// It was said that there is no address to offer, and there has been none since.
    lack_told: bool,
    /// About what streams are.
    stream_lines: Complaints,
    /// No line about a refused origin is written before this moment.
    origin_told_until: Option<Instant>,
    counters: ControlCounters,
}

impl Control {
    /// A server without publishers and viewers.
    #[must_use]
    pub fn new(config: ControlConfig, timebase: Timebase, ids: IdSource, _now: Instant) -> Self {
        Self {
            directory: Directory::new(config.cores),
            config,
            lack_told: false,
            stream_lines: Complaints::default(),
            origin_told_until: None,
            timebase,
            ids,
            outputs: VecDeque::new(),
            unannounced: VecDeque::new(),
            waiting: BTreeMap::new(),
            ending: BTreeSet::new(),
            stage: Stage::Serving,
            counters: ControlCounters::default(),
        }
    }

    /// Chooses the core of a new RTMP connection and names it.
    ///
    /// # Errors
    /// Why it is not taken; close the connection.
    pub fn place_publisher(&mut self, peer: SocketAddr) -> Result<(CoreId, PublisherId), NoPlace> {
        let network = network_of(peer.ip());
        if !self.is_serving() {
            self.counters.publish_stopping.inc();
            return Err(NoPlace::Stopping);
        }
        if self.directory.publisher_count() >= RTMP_CONNECTIONS_MAX {
            self.counters.publish_connections.inc();
            return Err(NoPlace::Full);
        }
        if self.directory.publishers_of(network) >= RTMP_CONNECTIONS_PER_ADDRESS_MAX {
            self.counters.publish_address.inc();
            return Err(NoPlace::AddressFull);
        }
        let placed = self.directory.add_publisher(network);
        self.directory.check_invariants();
        Ok(placed)
    }

    /// Takes back [`Control::place_publisher`]: the connection did not reach its core.
    pub fn publisher_lost(&mut self, publisher: PublisherId, now: Instant) {
        let reason = PublishEnd::Closed;
        self.handle_message(ControlMsg::PublishEnded { publisher, reason }, now);
    }

    /// Takes a message from a core.
    pub fn handle_message(&mut self, message: ControlMsg, now: Instant) {
        match message {
            ControlMsg::PublishRequested {
                core,
                publisher,
                app: _,
                key,
                query: _,
                peer,
            } => self.publish_requested(core, publisher, &key, peer, now),
            ControlMsg::StreamChanged { room, epoch, info } => {
                self.stream_changed(room, epoch, info, now);
            }
            ControlMsg::StreamJudged {
                room,
                epoch,
                verdict,
            } => self.stream_judged(room, epoch, verdict),
            ControlMsg::PictureTrouble {
                room,
                epoch,
                trouble,
            } => self.picture_trouble(room, epoch, trouble),
            ControlMsg::KeyframeWanted { room } => self.keyframe_wanted(room),
            ControlMsg::FeedWanted { room, epoch, core } => self.feed_wanted(room, epoch, core),
            ControlMsg::PublishEnding { publisher } => self.publish_ending(publisher),
            ControlMsg::PublishEnded { publisher, reason } => {
                self.publish_ended(publisher, reason, now);
            }
            ControlMsg::PublisherAlive { publisher } => self.publisher_alive(publisher),
            ControlMsg::ViewerSdp { viewer, sdp } => self.viewer_sdp(viewer, sdp),
            ControlMsg::ViewerComplaint { viewer, text } => self.viewer_complaint(viewer, text),
            ControlMsg::ViewerConnected { viewer } => self.viewer_connected(viewer),
            ControlMsg::ViewerLeft { viewer, reason } => self.viewer_left(viewer, reason),
            ControlMsg::Drained { core } => self.core_drained(core, now),
        }
        self.settle();
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(viewer) = self.directory.overdue(now) {
            self.sdp_overdue(viewer);
        }
        self.announce_overdue(now);
        self.end_waiting(now);
        let is_late = match &self.stage {
            Stage::Draining { by, .. } => *by <= now,
            Stage::Serving | Stage::Done | Stage::Over => false,
        };
        if is_late {
            log::warn!("not all cores reported that they stopped");
            self.finish(now);
        }
        self.settle();
    }

    /// Begins to stop: refuses newcomers, has every session closed, and says
    /// [`ControlOutput::Drained`] within [`DRAIN_DEADLINE`].
    pub fn drain(&mut self, now: Instant) {
        if !self.is_serving() {
            return;
        }
        let cores: BTreeSet<CoreId> = self.directory.placement.cores().collect();
        let by = now.checked_add(DRAIN_DEADLINE).unwrap_or(now);
        let deadline = by.checked_sub(DRAIN_GRACE).unwrap_or(now);
        for core in &cores {
            self.tell(*core, CoreMsg::Drain { deadline });
        }
        // The cores keep half of the grace, we the other half.
        let by = by.checked_sub(DRAIN_GRACE / 2).unwrap_or(now);
        self.stage = Stage::Draining { waiting: cores, by };
        self.dismiss_signalling();
        self.settle();
    }

    /// Stops at once: what is left ends now, as far as [`Control::drain`] has not ended it.
    pub fn stop_now(&mut self, now: Instant) {
        match self.stage {
            Stage::Serving | Stage::Draining { .. } => self.finish(now),
            Stage::Done | Stage::Over => {}
        }
        self.settle();
    }

    /// Pulls the next output. Call until [`ControlOutput::Timeout`] or
    /// [`ControlOutput::Drained`].
    pub fn poll_output(&mut self, now: Instant) -> ControlOutput {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let idle = now.checked_add(CONTROL_IDLE).unwrap_or(now);
        let stop = match &self.stage {
            Stage::Done => {
                self.stage = Stage::Over;
                return ControlOutput::Drained;
            }
            Stage::Draining { by, .. } => Some(*by),
            Stage::Serving | Stage::Over => None,
        };
        let start_event = self.unannounced.front().map(|(at, ..)| *at);
        let waiting = self.waiting.values().map(|waiting| waiting.until).min();
        let next = self.directory.next_deadline();
        let deadlines = [next, start_event, waiting, stop];
        let first = deadlines.into_iter().flatten().min();
        ControlOutput::Timeout(first.map_or(idle, |at| at.min(idle)))
    }

    /// How many outputs wait to be pulled.
    #[must_use]
    pub fn outputs_waiting(&self) -> usize {
        self.outputs.len()
    }

    /// Whether there is no address to offer to viewers elsewhere.
    #[must_use]
    pub fn lacks_addresses(&self) -> bool {
        self.config.candidates.is_empty()
    }

    /// Takes the addresses of the interfaces, in place of those it had.
    pub fn set_interfaces(&mut self, interfaces: Vec<IpAddr>) {
        if self.config.candidates.interfaces == interfaces {
            return;
        }
        if self.config.candidates.public.is_empty() {
            log::info!("the addresses to offer to viewers are now {interfaces:?}");
        }
        self.config.candidates.interfaces = interfaces;
        self.lack_told &= self.lacks_addresses();
    }

    /// What control counts.
    #[must_use]
    pub fn counters(&self) -> &ControlCounters {
        &self.counters
    }

    /// Every room with a publisher or a viewer, in the order of names.
    #[must_use]
    pub fn rooms(&self) -> Vec<RoomStatus> {
        let status = |room| RoomStatus::of(room, &self.directory);
        self.directory.rooms().map(status).collect()
    }

    fn is_serving(&self) -> bool {
        match self.stage {
            Stage::Serving => true,
            Stage::Draining { .. } | Stage::Done | Stage::Over => false,
        }
    }

    fn core_drained(&mut self, core: CoreId, now: Instant) {
        match &mut self.stage {
            Stage::Draining { waiting, .. } => {
                waiting.remove(&core);
                if waiting.is_empty() {
                    self.finish(now);
                }
            }
            Stage::Serving | Stage::Done | Stage::Over => self.counters.unexpected_messages.inc(),
        }
    }

    /// Ends what is left, so that every start event has its end event.
    fn finish(&mut self, now: Instant) {
        for room in self.directory.live_rooms() {
            self.end_publish(room, PublishEnd::Closed, now);
        }
        self.stage = Stage::Done;
    }

    fn tell(&mut self, to: CoreId, message: CoreMsg) {
        self.outputs.push_back(ControlOutput::Core { to, message });
    }

    fn respond(&mut self, conn: ConnId, response: HttpResponse) {
        let counters = &self.counters;
        let counter = match response.status / 100 {
            1 => &counters.http_upgrades,
            2 => &counters.http_2xx,
            3 => &counters.http_3xx,
            4 => &counters.http_4xx,
            _ => &counters.http_5xx,
        };
        counter.inc();
        self.outputs
            .push_back(ControlOutput::Respond { conn, response });
    }

    /// After every change: gauges are right and maps agree.
    fn settle(&mut self) {
        let (directory, counters) = (&self.directory, &self.counters);
        let whep = directory.whep_count();
        counters.rooms_known.set_len(directory.room_count());
        counters.rooms_live.set_len(directory.live_count());
        counters.whep_sessions.set_len(whep);
        let websockets = directory.viewer_count().saturating_sub(whep);
        counters.websocket_sessions.set_len(websockets);
        directory.check_invariants();
    }
}

#[cfg(test)]
mod tests;
