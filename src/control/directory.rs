//! Who is where: rooms, publishers, viewers and the connections they signal on. Plain maps that
//! must agree; [`Directory::check_invariants`] says how.
//!
//! A room exists while it has a publisher or a viewer. Everything here is bounded by
//! [`RTMP_CONNECTIONS_MAX`] and [`VIEWERS_MAX`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chat::{Chatter, RoomChat};
use super::networks::{count, decrease, increase};
use super::placement::Placement;
use crate::ids::{ConnId, CoreId, Epoch, PublisherId, RoomId, RoomName, ViewerId};
use crate::limits::{ROOMS_MAX, RTMP_CONNECTIONS_MAX, VIEWERS_MAX};
use crate::media::frame::StreamInfo;
use crate::media::verdict::Verdict;
use crate::signalling::WhepSession;

/// A room with somebody in it.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: RoomName,
    pub(super) live: Option<Live>,
    pub(super) viewers: BTreeSet<ViewerId>,
    /// Viewers on each core that has some.
    pub(super) by_core: BTreeMap<CoreId, usize>,
    pub(super) chat: RoomChat,
}

/// The publish of a room.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) publisher: PublisherId,
    pub(super) core: CoreId,
    pub(super) epoch: Epoch,
    pub(super) info: StreamInfo,
    pub(super) verdict: Option<Arc<Verdict>>,
    /// Codes of the verdict's items that the log has.
    pub(super) logged: BTreeSet<&'static str>,
    /// Names the publish to the webhook's receiver.
    pub(super) session: String,
    pub(super) since: Instant,
    /// The same on the wall clock, since the Unix epoch.
    pub(super) since_wall: Duration,
    /// Whether its start event was sent.
    pub(super) announced: bool,
    /// Why its viewers have no picture, or a wrong one, if so.
    pub(super) trouble: Option<String>,
}

/// An RTMP connection.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) core: CoreId,
    pub(super) network: IpAddr,
    pub(super) room: Option<RoomId>,
}

/// A viewer's session.
#[derive(Debug)]
pub(super) struct Viewer {
    pub(super) core: CoreId,
    pub(super) room: RoomId,
    pub(super) network: IpAddr,
    /// Whether media flows, or flowed once.
    pub(super) connected: bool,
    pub(super) by: Signalling,
}

/// How a viewer signals, and how far that is.
#[derive(Debug)]
pub(super) enum Signalling {
    Whep {
        session_id: String,
        session: WhepSession,
        answer: WhepAnswer,
    },
    WebSocket(Socket),
}

/// Where the answer to a WHEP player's offer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhepAnswer {
    /// The core makes it; the request waits.
    Awaited {
        conn: ConnId,
        deadline: Instant,
    },
    Sent,
}

/// A viewer's WebSocket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) conn: ConnId,
    /// As others see it in the chat.
    pub(super) name: String,
    pub(super) offer: Offer,
    /// Candidates it named.
    pub(super) candidates: usize,
    pub(super) chatter: Chatter,
}

/// Where our offer to a WebSocket viewer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// The core makes it.
    Awaited { deadline: Instant },
    /// The viewer has it.
    Sent,
    /// The viewer answered it.
    Answered,
}

impl Viewer {
    /// When the core's SDP must be here, if it is awaited.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.by {
            Signalling::Whep { answer, .. } => match answer {
                WhepAnswer::Awaited { deadline, .. } => Some(*deadline),
                WhepAnswer::Sent => None,
            },
            Signalling::WebSocket(socket) => match socket.offer {
                Offer::Awaited { deadline } => Some(deadline),
                Offer::Sent | Offer::Answered => None,
            },
        }
    }

    /// The connection that is this viewer's, if there is one now.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match &self.by {
            Signalling::Whep { answer, .. } => match answer {
                WhepAnswer::Awaited { conn, .. } => Some(*conn),
                WhepAnswer::Sent => None,
            },
            Signalling::WebSocket(socket) => Some(socket.conn),
        }
    }
}

/// A viewer that was removed.
pub(super) struct Removed {
    pub(super) viewer: Viewer,
    /// The publisher's core, if the viewer's own core has no more viewers of the room and is
    /// another one: it need not be fed.
    pub(super) unlink_from: Option<CoreId>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) placement: Placement,
    rooms: BTreeMap<RoomId, Room>,
    names: BTreeMap<RoomName, RoomId>,
    publishers: BTreeMap<PublisherId, Publisher>,
    viewers: BTreeMap<ViewerId, Viewer>,
    /// WHEP sessions by their names. Hashed with a random key: how long a look-up takes tells
    /// nothing of the names.
    sessions: HashMap<String, ViewerId>,
    conns: BTreeMap<ConnId, ViewerId>,
    deadlines: BTreeSet<(Instant, ViewerId)>,
    publishers_by_network: BTreeMap<IpAddr, usize>,
    pending_by_network: BTreeMap<IpAddr, usize>,
    pending: usize,
    live: usize,
    next_room: u64,
    next_publisher: u64,
    next_viewer: u64,
    next_epoch: u32,
}

impl Directory {
    pub(super) fn new(cores: u16) -> Self {
        Self {
            placement: Placement::new(cores),
            rooms: BTreeMap::new(),
            names: BTreeMap::new(),
            publishers: BTreeMap::new(),
            viewers: BTreeMap::new(),
            sessions: HashMap::new(),
            conns: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            publishers_by_network: BTreeMap::new(),
            pending_by_network: BTreeMap::new(),
            pending: 0,
            live: 0,
            next_room: 1,
            next_publisher: 1,
            next_viewer: 1,
            next_epoch: 1,
        }
    }

    // -- questions --

    pub(super) fn room(&self, id: RoomId) -> Option<&Room> {
        self.rooms.get(&id)
    }

    pub(super) fn room_mut(&mut self, id: RoomId) -> Option<&mut Room> {
        self.rooms.get_mut(&id)
    }

    pub(super) fn room_named(&self, name: &RoomName) -> Option<&Room> {
        self.rooms.get(self.names.get(name)?)
    }

    /// Every room, in the order of names.
    pub(super) fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.names.values().filter_map(|id| self.rooms.get(id))
    }

    pub(super) fn live_rooms(&self) -> Vec<RoomId> {
        let live = self.rooms.iter().filter(|(_, room)| room.live.is_some());
        live.map(|(id, _)| *id).collect()
    }

    pub(super) fn publisher(&self, id: PublisherId) -> Option<&Publisher> {
        self.publishers.get(&id)
    }

    pub(super) fn viewer(&self, id: ViewerId) -> Option<&Viewer> {
        self.viewers.get(&id)
    }

    pub(super) fn viewer_of_session(&self, session_id: &str) -> Option<ViewerId> {
        self.sessions.get(session_id).copied()
    }

    pub(super) fn viewer_of_conn(&self, conn: ConnId) -> Option<ViewerId> {
        self.conns.get(&conn).copied()
    }

    /// Every viewer, in the order they came.
    pub(super) fn viewer_ids(&self) -> Vec<ViewerId> {
        self.viewers.keys().copied().collect()
    }

    pub(super) fn publisher_count(&self) -> usize {
        self.publishers.len()
    }

    pub(super) fn publishers_of(&self, network: IpAddr) -> usize {
        count(&self.publishers_by_network, network)
    }

    pub(super) fn viewer_count(&self) -> usize {
        self.viewers.len()
    }

    pub(super) fn whep_count(&self) -> usize {
        self.sessions.len()
    }

    /// Viewers that never were connected.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    pub(super) fn pending_of(&self, network: IpAddr) -> usize {
        count(&self.pending_by_network, network)
    }

    pub(super) fn room_count(&self) -> usize {
        self.rooms.len()
    }

    pub(super) fn live_count(&self) -> usize {
        self.live
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A viewer whose SDP is overdue.
    pub(super) fn overdue(&self, now: Instant) -> Option<ViewerId> {
        let (at, viewer) = self.deadlines.first()?;
        (*at <= now).then_some(*viewer)
    }

    // -- publishers --

    pub(super) fn add_publisher(&mut self, network: IpAddr) -> (CoreId, PublisherId) {
        let core = self.placement.for_publisher();
        let id = PublisherId(next(&mut self.next_publisher));
        self.placement.add_publisher(core);
        increase(&mut self.publishers_by_network, network);
        let publisher = Publisher {
            core,
            network,
            room: None,
        };
        self.publishers.insert(id, publisher);
        (core, id)
    }

    /// Forgets a publisher; its room, if it has one, must be ended first.
    pub(super) fn remove_publisher(&mut self, id: PublisherId) {
        let Some(publisher) = self.publishers.remove(&id) else {
            return;
        };
        debug_assert!(publisher.room.is_none(), "its publish must be ended first");
        self.placement.remove_publisher(publisher.core);
        decrease(&mut self.publishers_by_network, publisher.network);
    }

    /// The number of the next publish; `None` after [`Epoch::LAST`].
    pub(super) fn take_epoch(&mut self) -> Option<Epoch> {
        let epoch = Some(Epoch(self.next_epoch)).filter(|epoch| *epoch <= Epoch::LAST)?;
        self.next_epoch = self.next_epoch.checked_add(1)?;
        Some(epoch)
    }

    /// Makes the room live. Returns it and the other cores that have viewers of it; `None` if it
    /// is live already or the publisher is unknown or publishes.
    pub(super) fn begin(&mut self, name: &RoomName, live: Live) -> Option<(RoomId, Vec<CoreId>)> {
        let publisher = self.publishers.get(&live.publisher)?;
        if publisher.room.is_some() || self.room_named(name).is_some_and(|r| r.live.is_some()) {
            return None;
        }
        let id = self.room_or_new(name);
        let room = self.rooms.get_mut(&id)?;
        let links = room.by_core.keys().filter(|core| **core != live.core);
        let links = links.copied().collect();
        if let Some(publisher) = self.publishers.get_mut(&live.publisher) {
            publisher.room = Some(id);
        }
        room.live = Some(live);
        self.live = self.live.saturating_add(1);
        Some((id, links))
    }

    /// Ends the publish of a room. The room may still be freed by [`Directory::free_if_empty`].
    pub(super) fn end(&mut self, id: RoomId) -> Option<Live> {
        let live = self.rooms.get_mut(&id)?.live.take()?;
        if let Some(publisher) = self.publishers.get_mut(&live.publisher) {
            publisher.room = None;
        }
        self.live = self.live.saturating_sub(1);
        Some(live)
    }

    /// Frees a room without publisher and viewers.
    pub(super) fn free_if_empty(&mut self, id: RoomId) {
        let is_empty = |room: &Room| room.live.is_none() && room.viewers.is_empty();
        if self.rooms.get(&id).is_some_and(is_empty)
            && let Some(room) = self.rooms.remove(&id)
        {
            self.names.remove(&room.name);
        }
    }

    fn room_or_new(&mut self, name: &RoomName) -> RoomId {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let id = RoomId(next(&mut self.next_room));
        let room = Room {
            name: name.clone(),
            live: None,
            viewers: BTreeSet::new(),
            by_core: BTreeMap::new(),
            chat: RoomChat::default(),
        };
        self.rooms.insert(id, room);
        self.names.insert(name.clone(), id);
        id
    }

    // -- viewers --

    /// Adds a viewer to the room of that name on the core that suits it. Returns the publisher's
    /// core as well if that must feed the viewer's core from now on.
    pub(super) fn add_viewer(
        &mut self,
        name: &RoomName,
        network: IpAddr,
        by: Signalling,
    ) -> (ViewerId, CoreId, RoomId, Option<CoreId>) {
        let room_id = self.room_or_new(name);
        let home = self.rooms.get(&room_id).and_then(|room| room.live.as_ref());
        let home = home.map(|live| live.core);
        let core = self.placement.for_viewer(home);
        let id = ViewerId(next(&mut self.next_viewer));
        let mut link_from = None;
        if let Some(room) = self.rooms.get_mut(&room_id) {
            room.viewers.insert(id);
            let on_core = room.by_core.entry(core).or_default();
            if *on_core == 0 {
                link_from = home.filter(|home| *home != core);
            }
            *on_core = on_core.saturating_add(1);
        }
        self.placement.add_viewer(core);
        self.pending = self.pending.saturating_add(1);
        increase(&mut self.pending_by_network, network);
        let viewer = Viewer {
            core,
            room: room_id,
            network,
            connected: false,
            by,
        };
        if let Signalling::Whep { session_id, .. } = &viewer.by {
            self.sessions.insert(session_id.clone(), id);
        }
        self.index(id, &viewer);
        self.viewers.insert(id, viewer);
        (id, core, room_id, link_from)
    }

    /// Changes a viewer's state and keeps the indexes in step.
    pub(super) fn change_viewer<R>(
        &mut self,
        id: ViewerId,
        change: impl FnOnce(&mut Viewer) -> R,
    ) -> Option<R> {
        let mut viewer = self.viewers.remove(&id)?;
        self.unindex(id, &viewer);
        let was_pending = !viewer.connected;
        let result = change(&mut viewer);
        if was_pending && viewer.connected {
            self.end_pending(viewer.network);
        }
        self.index(id, &viewer);
        self.viewers.insert(id, viewer);
        Some(result)
    }

    /// Removes a viewer, and its room if that is empty then.
    pub(super) fn remove_viewer(&mut self, id: ViewerId) -> Option<Removed> {
        let viewer = self.viewers.remove(&id)?;
        self.unindex(id, &viewer);
        if !viewer.connected {
            self.end_pending(viewer.network);
        }
        if let Signalling::Whep { session_id, .. } = &viewer.by {
            self.sessions.remove(session_id);
        }
        self.placement.remove_viewer(viewer.core);
        let mut unlink_from = None;
        if let Some(room) = self.rooms.get_mut(&viewer.room) {
            room.viewers.remove(&id);
            let left = room
                .by_core
                .get(&viewer.core)
                .map_or(0, |n| n.saturating_sub(1));
            if left == 0 {
                room.by_core.remove(&viewer.core);
                let home = room.live.as_ref().map(|live| live.core);
                unlink_from = home.filter(|home| *home != viewer.core);
            } else {
                room.by_core.insert(viewer.core, left);
            }
        }
        self.free_if_empty(viewer.room);
        Some(Removed {
            viewer,
            unlink_from,
        })
    }

    fn index(&mut self, id: ViewerId, viewer: &Viewer) {
        if let Some(conn) = viewer.conn() {
            self.conns.insert(conn, id);
        }
        if let Some(deadline) = viewer.deadline() {
            self.deadlines.insert((deadline, id));
        }
    }

    fn unindex(&mut self, id: ViewerId, viewer: &Viewer) {
        if let Some(conn) = viewer.conn() {
            self.conns.remove(&conn);
        }
        if let Some(deadline) = viewer.deadline() {
            self.deadlines.remove(&(deadline, id));
        }
    }

    fn end_pending(&mut self, network: IpAddr) {
        self.pending = self.pending.saturating_sub(1);
        decrease(&mut self.pending_by_network, network);
    }

    /// What must hold between two calls.
    pub(super) fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        debug_assert!(self.rooms.len() <= ROOMS_MAX);
        debug_assert!(self.viewers.len() <= VIEWERS_MAX);
        debug_assert!(self.publishers.len() <= RTMP_CONNECTIONS_MAX);
        self.check_rooms();
        self.check_viewers();
        for (id, publisher) in &self.publishers {
            let live = publisher
                .room
                .map(|room| self.rooms.get(&room).map(|r| &r.live));
            let is_its = |live: &Option<Live>| live.as_ref().is_some_and(|l| l.publisher == *id);
            debug_assert!(live.is_none_or(|live| live.is_some_and(is_its)));
        }
        let networks: usize = self.publishers_by_network.values().sum();
        debug_assert_eq!(networks, self.publishers.len());
        for core in self.placement.cores() {
            let publishers = self.publishers.values().filter(|p| p.core == core).count();
            let viewers = self.viewers.values().filter(|v| v.core == core).count();
            debug_assert_eq!(self.placement.counts(core), (publishers, viewers));
        }
    }

    fn check_rooms(&self) {
        debug_assert_eq!(self.rooms.len(), self.names.len());
        for (id, room) in &self.rooms {
            debug_assert_eq!(self.names.get(&room.name), Some(id));
            debug_assert!(room.live.is_some() || !room.viewers.is_empty(), "not freed");
            if let Some(live) = &room.live {
                let publisher = self.publishers.get(&live.publisher);
                debug_assert_eq!(
                    publisher.map(|p| (p.core, p.room)),
                    Some((live.core, Some(*id)))
                );
            }
            let mut by_core: BTreeMap<CoreId, usize> = BTreeMap::new();
            for viewer in room.viewers.iter().map(|viewer| self.viewers.get(viewer)) {
                debug_assert_eq!(viewer.map(|viewer| viewer.room), Some(*id));
                if let Some(viewer) = viewer {
                    *by_core.entry(viewer.core).or_default() += 1;
                }
            }
            debug_assert_eq!(by_core, room.by_core);
        }
        let live = self
            .rooms
            .values()
            .filter(|room| room.live.is_some())
            .count();
        debug_assert_eq!(live, self.live);
    }

    fn check_viewers(&self) {
        let (mut conns, mut deadlines, mut sessions, mut pending) = (0, 0, 0, 0);
        for (id, viewer) in &self.viewers {
            let room = self.rooms.get(&viewer.room);
            debug_assert!(room.is_some_and(|room| room.viewers.contains(id)));
            if let Some(conn) = viewer.conn() {
                debug_assert_eq!(self.conns.get(&conn), Some(id));
                conns += 1;
            }
            if let Some(deadline) = viewer.deadline() {
                debug_assert!(self.deadlines.contains(&(deadline, *id)));
                deadlines += 1;
            }
            if let Signalling::Whep { session_id, .. } = &viewer.by {
                debug_assert_eq!(self.sessions.get(session_id), Some(id));
                sessions += 1;
            }
            pending += usize::from(!viewer.connected);
        }
        debug_assert_eq!(conns, self.conns.len());
        debug_assert_eq!(deadlines, self.deadlines.len());
        debug_assert_eq!(sessions, self.sessions.len());
        debug_assert_eq!(pending, self.pending);
        debug_assert_eq!(pending, self.pending_by_network.values().sum::<usize>());
    }
}

fn next(counter: &mut u64) -> u64 {
    let value = *counter;
    *counter = counter.saturating_add(1);
    value
}
