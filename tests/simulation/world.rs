//! The world: several cores' engines, control, a transcode worker, publishers, viewers and the
//! network between them, in one thread under one virtual clock.
//!
//! A step: deliver what is due, let deadlines pass, drain every machine as its loop does, then
//! check. What [`super::acts`] does to the world comes between steps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtmpeer::control::{CandidatePolicy, Control, ControlConfig, ControlOutput};
use rtmpeer::engine::{Certificate, Engine, EngineConfig, EngineOutput};
use rtmpeer::ids::{ConnId, CoreId, IdSource, PublisherId, ViewerId};
use rtmpeer::limits::{CONTROL_MAILBOX_MESSAGES, CORE_MAILBOX_MESSAGES, TRANSCODE_INBOX_UNITS};
use rtmpeer::media::time::Timebase;
use rtmpeer::messages::{ControlMsg, CoreMsg, MediaMsg, TranscodeMsg, TranscodeReply};
use rtmpeer::metrics::CoreCounters;
use rtmpeer::signalling::{ClientMessage, HttpRequest, HttpResponse, ServerMessage};
use rtmpeer::transcode::{AudioSettings, Transcoder};
use rtmpeer::webrtc::batch::{BATCH_BYTES_MAX, BATCH_TRAINS_MAX};

use super::chance::Chance;
use super::clip::Clip;
use super::model::Webhooks;
use super::publisher::{Anchor, SimPublisher};
use super::trace::Trace;
use super::viewer::{SimViewer, Stage};
use super::watch::Tally;

/// The wall clock when a world begins, since 1970.
pub(super) const WALL_ORIGIN: Duration = Duration::from_secs(1_800_000_000);
/// Turns of one loop in a simulated millisecond: more is a busy loop.
const TURNS_PER_MS_MAX: u32 = 1_000;
/// Outputs of one turn apart from datagrams: more were piled up.
const OUTPUTS_PER_TURN_MAX: u32 = 10_000;
/// A batch may be so much larger than full: one viewer's frame is not cut.
const BATCH_EXCESS_BYTES: usize = 64 * 1_024;
/// See [`BATCH_EXCESS_BYTES`]; in trains.
const BATCH_EXCESS_TRAINS: usize = 64;
/// From a viewer's silence to the end of its session.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(31);
/// How often it is checked that frames go on coming.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The server's UDP port.
pub(super) const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 8_189);

/// What a world is made of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Where its chance comes from.
    pub seed: u64,
    /// Cores.
    pub cores: u16,
    /// Frames in each core's media mailbox.
    pub media_frames: usize,
    /// Whether to show what happens.
    pub print: bool,
}

pub(super) enum Due {
    Core(usize, CoreInput),
    Control(ControlInput),
    Transcode(TranscodeMsg),
    Viewer(usize, ViewerInput),
    Publisher(usize, PublisherInput),
}

pub(super) enum CoreInput {
    Mail(CoreMsg),
    Accepted { publisher: usize, id: PublisherId, peer: SocketAddr },
    Transcoded(TranscodeReply),
    Media(MediaMsg),
    Datagram { from: SocketAddr, data: Vec<u8> },
    Tcp { publisher: usize, bytes: Vec<u8>, completes: Option<u32> },
    TcpClosed { publisher: usize, error: bool },
}

pub(super) enum ControlInput {
    Mail(ControlMsg),
    Accept { publisher: usize },
    Request { conn: ConnId, peer: SocketAddr, request: HttpRequest },
    WebSocket { conn: ConnId, message: ClientMessage },
    Closed { conn: ConnId },
}

pub(super) enum ViewerInput {
    Datagram(Vec<u8>),
    Response(HttpResponse),
    WebSocket(ServerMessage),
    Closed,
}

pub(super) enum PublisherInput {
    Connected,
    Bytes(bytes::Bytes),
    Closed,
}

/// A core and its mailboxes.
pub struct SimCore {
    /// Its engine.
    pub engine: Engine,
    /// What it counts.
    pub counters: Arc<CoreCounters>,
    /// Its loop does not run until then.
    pub stalled_until: Instant,
    next: Instant,
    mail_waiting: usize,
    media_waiting: usize,
    last_mail: Instant,
    last_media: Instant,
    turns: Turns,
    is_due: bool,
}

/// Turns of a loop in one millisecond.
#[derive(Debug, Default)]
pub(super) struct Turns {
    millisecond: u128,
    count: u32,
}

impl Turns {
    fn count(&mut self, whose: &str, now: Duration) {
        if self.millisecond != now.as_millis() {
            *self = Self { millisecond: now.as_millis(), count: 0 };
        }
        self.count += 1;
        assert!(self.count <= TURNS_PER_MS_MAX, "{whose} is in a busy loop");
    }
}

/// A room as the world sees it.
pub struct SimRoom {
    /// Its name.
    pub name: String,
    /// What is played in it.
    pub clip: &'static Clip,
    /// Which publisher the server has accepted.
    pub live: Option<usize>,
    /// When something last happened to it.
    pub fault: Instant,
}

/// The world.
pub struct World {
    pub(super) plan: Plan,
    /// The virtual clock.
    pub now: Instant,
    /// When it began.
    pub start: Instant,
    pub(super) chance: Chance,
    /// Its cores.
    pub cores: Vec<SimCore>,
    /// Control.
    pub control: Control,
    pub(super) control_next: Instant,
    pub(super) control_turns: Turns,
    pub(super) control_waiting: usize,
    pub(super) last_control: Instant,
    pub(super) control_is_due: bool,
    /// The transcode worker.
    pub transcoder: Transcoder,
    pub(super) transcode_waiting: usize,
    pub(super) last_transcode: Instant,
    /// Its rooms.
    pub rooms: Vec<SimRoom>,
    /// Everyone who ever published.
    pub publishers: Vec<SimPublisher>,
    /// Everyone who ever watched.
    pub viewers: Vec<SimViewer>,
    pub(super) addresses: BTreeMap<SocketAddr, usize>,
    pub(super) every_address: BTreeSet<SocketAddr>,
    pub(super) conns: BTreeMap<ConnId, usize>,
    /// Whose request control is reading.
    pub(super) asking: Option<ConnId>,
    /// Sessions that must have ended by then.
    pub(super) must_leave: BTreeMap<ViewerId, Instant>,
    /// How viewers' sessions ended, by reason.
    pub ended: BTreeMap<&'static str, u32>,
    /// What the webhook was told.
    pub webhooks: Webhooks,
    /// What happened.
    pub trace: Trace,
    pub(super) due: BTreeMap<(Instant, u64), Due>,
    pub(super) sequence: u64,
    pub(super) next_check: Instant,
}

impl World {
    /// An empty world with rooms of these clips.
    pub fn new(plan: Plan, clips: &[&'static Clip]) -> Self {
        let start = rtmpeer::runtime::now();
        let timebase = Timebase::new(start, WALL_ORIGIN);
        let certificate = Certificate::generate().unwrap();
        let core = |index: u16| {
            let counters = Arc::new(CoreCounters::default());
            let engine = Engine::new(EngineConfig {
                core: CoreId(index),
                cores: plan.cores,
                timebase,
                certificate: certificate.clone(),
                ids: IdSource::seeded(Chance::of(&[plan.seed, 1, index.into()]).next()),
                counters: Arc::clone(&counters),
            });
            SimCore {
                engine: engine.unwrap(),
                counters,
                stalled_until: start,
                next: start,
                mail_waiting: 0,
                media_waiting: 0,
                last_mail: start,
                last_media: start,
                turns: Turns::default(),
                is_due: true,
            }
        };
        let config = ControlConfig {
            cores: plan.cores,
            candidates: CandidatePolicy {
                public: vec![SERVER.ip()],
                interfaces: vec![SERVER.ip()],
                port: SERVER.port(),
            },
            ..ControlConfig::default()
        };
        let ids = IdSource::seeded(Chance::of(&[plan.seed, 2]).next());
        let room = |(index, clip): (usize, &&'static Clip)| {
            let name = format!("room-{index}");
            SimRoom { name, clip, live: None, fault: start }
        };
        Self {
            plan,
            now: start,
            start,
            chance: Chance::of(&[plan.seed, 3]),
            cores: (0..plan.cores).map(core).collect(),
            control: Control::new(config, timebase, ids, start),
            control_next: start,
            control_turns: Turns::default(),
            control_waiting: 0,
            last_control: start,
            control_is_due: true,
            transcoder: Transcoder::new(AudioSettings { complexity: 0, ..AudioSettings::default() }),
            transcode_waiting: 0,
            last_transcode: start,
            rooms: clips.iter().enumerate().map(room).collect(),
            publishers: Vec::new(),
            viewers: Vec::new(),
            addresses: BTreeMap::new(),
            every_address: BTreeSet::new(),
            conns: BTreeMap::new(),
            asking: None,
            must_leave: BTreeMap::new(),
            ended: BTreeMap::new(),
            webhooks: Webhooks::default(),
            trace: Trace::new(start, plan.print),
            due: BTreeMap::new(),
            sequence: 0,
            next_check: start,
        }
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let next = self.next_time().max(self.now);
            if next > until {
                break;
            }
            self.now = next;
            self.step();
        }
        self.now = until;
    }

    /// Lets time pass until something is so; fails after `patience`.
    pub fn run_until(&mut self, what: &str, patience: Duration, done: impl Fn(&Self) -> bool) {
        let until = self.now + patience;
        while !done(self) {
            assert!(self.now < until, "waited in vain for {what}");
            self.run_for(Duration::from_millis(5));
        }
    }

    /// How much was checked, over all viewers.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for viewer in &self.viewers {
            tally.add(&viewer.watch.tally);
        }
        tally
    }

    fn next_time(&self) -> Instant {
        let core = |core: &SimCore| core.next.max(core.stalled_until);
        let viewers = self.viewers.iter().filter(|viewer| viewer.is_awake());
        let times = self.cores.iter().map(core).chain([self.control_next, self.next_check]);
        let times = times.chain(self.publishers.iter().filter_map(SimPublisher::next_time));
        let times = times.chain(viewers.map(|viewer| viewer.next));
        let due = self.due.first_key_value().map(|((at, _), _)| *at);
        times.chain(due).min().unwrap_or(self.now)
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, sequence), due) = entry.remove_entry();
            self.deliver(sequence, due);
        }
        for index in 0..self.cores.len() {
            self.turn_core(index);
        }
        if self.control_is_due || self.control_next <= now {
            self.control.handle_timeout(now);
            self.drain_control();
        }
        for index in 0..self.publishers.len() {
            if self.publishers[index].is_active() {
                self.turn_publisher(index);
            }
        }
        for index in 0..self.viewers.len() {
            if self.viewers[index].is_awake() && self.viewers[index].next <= now {
                self.turn_viewer(index);
            }
        }
        if self.next_check <= now {
            self.next_check = now + CHECK_INTERVAL;
            self.check_alive();
        }
    }

    pub(super) fn post(&mut self, at: Instant, due: Due) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), due);
    }

    fn deliver(&mut self, sequence: u64, due: Due) {
        match due {
            Due::Core(index, input) => {
                let until = self.cores[index].stalled_until;
                if until > self.now {
                    self.due.insert((until, sequence), Due::Core(index, input));
                } else {
                    self.deliver_to_core(index, input);
                }
            }
            Due::Control(input) => self.deliver_to_control(input),
            Due::Transcode(message) => self.transcode(message),
            Due::Viewer(index, input) => self.deliver_to_viewer(index, input),
            Due::Publisher(index, input) => self.deliver_to_publisher(index, input),
        }
    }

    // -- cores --

    fn deliver_to_core(&mut self, index: usize, input: CoreInput) {
        let now = self.now;
        let core = &mut self.cores[index];
        core.is_due = true;
        match input {
            CoreInput::Mail(message) => {
                core.mail_waiting -= 1;
                core.engine.handle_message(message, now);
            }
            CoreInput::Accepted { publisher, id, peer } => {
                core.mail_waiting -= 1;
                core.engine.add_publisher(id, peer, now);
                self.post(now, Due::Publisher(publisher, PublisherInput::Connected));
            }
            CoreInput::Transcoded(reply) => {
                core.mail_waiting -= 1;
                core.engine.handle_transcoded(reply, now);
            }
            CoreInput::Media(message) => {
                core.media_waiting -= 1;
                core.engine.handle_media(message);
            }
            CoreInput::Datagram { from, data } => {
                core.engine.handle_datagram(from, SERVER, &data, now);
            }
            CoreInput::Tcp { publisher, bytes, completes } => {
                let publisher = &mut self.publishers[publisher];
                let (false, Some((_, id))) = (publisher.closed_by_server, publisher.id) else {
                    return;
                };
                if let Some(clip_ms) = completes {
                    publisher.anchor.get_or_insert(Anchor { at: now, clip_ms });
                }
                core.engine.handle_publisher_input(id, &bytes, now);
            }
            CoreInput::TcpClosed { publisher, error } => {
                let publisher = &self.publishers[publisher];
                if let (false, Some((_, id))) = (publisher.closed_by_server, publisher.id) {
                    core.engine.handle_publisher_closed(id, error, now);
                }
            }
        }
    }

    fn turn_core(&mut self, index: usize) {
        let (now, start) = (self.now, self.start);
        let core = &mut self.cores[index];
        if core.stalled_until > now || !(core.is_due || core.next <= now) {
            return;
        }
        core.is_due = false;
        core.turns.count("a core", now - start);
        core.engine.handle_timeout(now);
        let mut outputs = 0;
        loop {
            let core = &mut self.cores[index];
            match core.engine.poll_output(now) {
                EngineOutput::Datagrams => self.send_batch(index),
                EngineOutput::Timeout(next) => {
                    core.next = next;
                    break;
                }
                other => {
                    outputs += 1;
                    assert!(outputs <= OUTPUTS_PER_TURN_MAX, "outputs pile up");
                    self.core_output(index, other);
                }
            }
        }
        let panics = self.cores[index].counters.panics.get();
        assert_eq!(panics, 0, "a session panicked");
    }

    fn send_batch(&mut self, index: usize) {
        let engine = &mut self.cores[index].engine;
        let batch = engine.batch();
        assert!(batch.bytes_len() <= BATCH_BYTES_MAX + BATCH_EXCESS_BYTES, "the batch grew");
        assert!(batch.len() <= BATCH_TRAINS_MAX + BATCH_EXCESS_TRAINS, "the batch grew");
        let mut datagrams = Vec::with_capacity(batch.datagrams());
        for (train, bytes) in batch.trains() {
            for datagram in bytes.chunks(train.segment_bytes) {
                datagrams.push((train.to, datagram.to_vec()));
            }
        }
        engine.batch_sent(self.now);
        for (to, datagram) in datagrams {
            assert!(self.every_address.contains(&to), "{to} never was a viewer, but got something");
            let Some(&viewer) = self.addresses.get(&to) else { continue };
            let state = &mut self.viewers[viewer];
            for at in state.down.carry(&state.quality, self.now).into_iter().flatten() {
                let input = ViewerInput::Datagram(datagram.clone());
                self.post(at, Due::Viewer(viewer, input));
            }
        }
    }

    fn core_output(&mut self, index: usize, output: EngineOutput) {
        match output {
            EngineOutput::Tcp { publisher, bytes } => {
                if let Some(publisher) = self.publisher_of(publisher) {
                    let at = self.now + Duration::from_millis(5);
                    self.post(at, Due::Publisher(publisher, PublisherInput::Bytes(bytes)));
                }
            }
            EngineOutput::CloseTcp { publisher } => {
                if let Some(publisher) = self.publisher_of(publisher) {
                    self.trace.note(self.now, format_args!("publisher {publisher} is closed"));
                    self.publishers[publisher].closed_by_server = true;
                    let at = self.now + Duration::from_millis(5);
                    self.post(at, Due::Publisher(publisher, PublisherInput::Closed));
                }
            }
            EngineOutput::Control(message) => {
                self.note_control_message(&message);
                self.post_control(ControlInput::Mail(message));
            }
            EngineOutput::Core { to, message } => {
                assert!(matches!(message, CoreMsg::Datagram { .. }), "cores only pass datagrams");
                self.post_core(to, CoreInput::Mail(message));
            }
            EngineOutput::Media { to, message } => self.post_media(index, to, message),
            EngineOutput::Transcode { publisher: _, message } => self.post_transcode(message),
            EngineOutput::Datagrams | EngineOutput::Timeout(_) => unreachable!(),
        }
    }

    fn post_core(&mut self, to: CoreId, input: CoreInput) {
        let delay = self.chance.micros(5, 300);
        let core = &mut self.cores[to.index()];
        core.mail_waiting += 1;
        assert!(core.mail_waiting <= CORE_MAILBOX_MESSAGES, "a core's mailbox is full");
        core.last_mail = core.last_mail.max(self.now + delay);
        let at = core.last_mail;
        self.post(at, Due::Core(to.index(), input));
    }

    fn post_media(&mut self, from: usize, to: CoreId, message: MediaMsg) {
        let delay = self.chance.micros(5, 2_000);
        let core = &mut self.cores[to.index()];
        if core.media_waiting >= self.plan.media_frames {
            self.trace.note(self.now, format_args!("media mailbox of core {to} is full"));
            self.cores[from].engine.media_refused(to, &message);
            let (now, affected) = (self.now, Some(to));
            let viewers = self.viewers.iter_mut();
            let on_core = |viewer: &&mut SimViewer| viewer.id.map(|(_, core)| core) == affected;
            viewers.filter(on_core).for_each(|viewer| viewer.watch.excuse(now));
            return;
        }
        core.media_waiting += 1;
        core.last_media = core.last_media.max(self.now + delay);
        let at = core.last_media;
        self.post(at, Due::Core(to.index(), CoreInput::Media(message)));
    }

    // -- the transcode worker --

    fn post_transcode(&mut self, message: TranscodeMsg) {
        self.transcode_waiting += 1;
        assert!(self.transcode_waiting <= TRANSCODE_INBOX_UNITS, "the transcoder's inbox is full");
        let delay = self.chance.micros(200, 5_000);
        self.last_transcode = self.last_transcode.max(self.now + delay);
        self.post(self.last_transcode, Due::Transcode(message));
    }

    fn transcode(&mut self, message: TranscodeMsg) {
        self.transcode_waiting -= 1;
        let mut replies = Vec::new();
        self.transcoder.handle(message, &mut |core, reply| replies.push((core, reply)));
        for (core, reply) in replies {
            if let TranscodeReply::Unplayable { text, .. } = &reply {
                panic!("good sound is called unplayable: {text}");
            }
            self.post_core(core, CoreInput::Transcoded(reply));
        }
        assert_eq!(self.transcoder.faults(), 0, "the transcoder panicked");
        assert_eq!(self.transcoder.strays(), 0, "the transcoder is sent what it cannot place");
    }

    // -- control --

    pub(super) fn post_control(&mut self, input: ControlInput) {
        let delay = self.chance.micros(5, 300);
        self.control_waiting += 1;
        assert!(self.control_waiting <= CONTROL_MAILBOX_MESSAGES, "control's mailbox is full");
        self.last_control = self.last_control.max(self.now + delay);
        self.post(self.last_control, Due::Control(input));
    }

    fn deliver_to_control(&mut self, input: ControlInput) {
        let now = self.now;
        self.control_waiting -= 1;
        self.control_is_due = true;
        match input {
            ControlInput::Mail(message) => self.control.handle_message(message, now),
            ControlInput::Accept { publisher } => {
                let peer = self.publishers[publisher].peer;
                let Some((core, id)) = self.control.place_publisher(peer) else {
                    panic!("a publisher is not accepted");
                };
                self.trace.note(now, format_args!("publisher {publisher} is {id} on core {core}"));
                self.publishers[publisher].id = Some((core, id));
                self.post_core(core, CoreInput::Accepted { publisher, id, peer });
            }
            ControlInput::Request { conn, peer, request } => {
                self.asking = Some(conn);
                self.control.handle_request(conn, peer, request, now);
            }
            ControlInput::WebSocket { conn, message } => {
                self.control.handle_websocket(conn, message, now);
            }
            ControlInput::Closed { conn } => self.control.handle_closed(conn, now),
        }
        // At once, so that it is known whose viewer was added.
        self.drain_control();
    }

    fn drain_control(&mut self) {
        self.control_is_due = false;
        self.control_turns.count("control", self.now - self.start);
        loop {
            match self.control.poll_output(self.now) {
                ControlOutput::Core { to, message } => {
                    self.note_core_message(to, &message);
                    self.post_core(to, CoreInput::Mail(message));
                }
                ControlOutput::Respond { conn, response } => {
                    self.post_viewer(conn, ViewerInput::Response(response));
                }
                ControlOutput::Upgrade { .. } => {}
                ControlOutput::WebSocket { conn, message } => {
                    self.post_viewer(conn, ViewerInput::WebSocket(message));
                }
                ControlOutput::CloseWebSocket { conn, .. } => {
                    self.post_viewer(conn, ViewerInput::Closed);
                }
                ControlOutput::Webhook(event) => {
                    let (room, kind) = (event.room.to_string(), event.kind.as_str());
                    self.trace.note(self.now, format_args!("webhook {kind} {room}"));
                    if self.webhooks.take(&event) {
                        let room = self.rooms.iter_mut().find(|known| known.name == room);
                        let room = room.expect("a room of this world");
                        room.live = None;
                        room.fault = self.now;
                    }
                }
                ControlOutput::Timeout(next) => {
                    self.control_next = next;
                    return;
                }
                ControlOutput::Drained => panic!("nobody told it to stop"),
            }
        }
    }

    /// What control says to cores tells the world who was placed where.
    fn note_core_message(&mut self, to: CoreId, message: &CoreMsg) {
        let now = self.now;
        match message {
            CoreMsg::PublishAccepted { publisher, room, epoch, links, .. } => {
                let (id, links) = (publisher, links.len());
                self.trace.note(now, format_args!("{id} accepted {room} {epoch:?} links {links}"));
                let publisher = self.publisher_of(*publisher).unwrap();
                let room = self.publishers[publisher].room;
                assert!(self.rooms[room].live.is_none(), "two publish to one room");
                self.rooms[room].live = Some(publisher);
                self.rooms[room].fault = now;
                let viewers = self.viewers.iter_mut().filter(|viewer| viewer.room == room);
                viewers.for_each(|viewer| viewer.watch.causes += 1);
            }
            CoreMsg::AddViewer { viewer, .. } => {
                // Control reads one request at a time.
                let asking = self.asking.and_then(|conn| self.conns.get(&conn));
                let asking = &mut self.viewers[*asking.expect("someone asked")];
                asking.id = Some((*viewer, to));
                if asking.stage != Stage::Asking {
                    self.must_leave.insert(*viewer, now + SILENCE_MAX);
                }
                self.trace.note(now, format_args!("viewer {viewer} is added to core {to}"));
            }
            CoreMsg::LinkRoom { .. } | CoreMsg::UnlinkRoom { .. } => {
                self.trace.note(now, format_args!("core {to}: {message:?}"));
            }
            CoreMsg::PublishRejected { .. }
            | CoreMsg::ClosePublisher { .. }
            | CoreMsg::ViewerAnswer { .. }
            | CoreMsg::AddCandidate { .. }
            | CoreMsg::RemoveViewer { .. }
            | CoreMsg::Drain { .. }
            | CoreMsg::Datagram { .. } => {}
        }
    }

    fn note_control_message(&mut self, message: &ControlMsg) {
        let now = self.now;
        match message {
            ControlMsg::ViewerLeft { viewer, reason } => {
                let reason = reason.as_str();
                self.trace.note(now, format_args!("viewer {viewer} left: {reason}"));
                *self.ended.entry(reason).or_default() += 1;
                self.must_leave.remove(viewer);
                let has_id = |known: &&mut SimViewer| known.id.map(|(id, _)| id) == Some(*viewer);
                let Some(known) = self.viewers.iter_mut().find(has_id) else { return };
                if known.stage == Stage::Playing {
                    let may_fail = !known.kit.connected && known.quality.loss > 0;
                    assert!(may_fail, "viewer {viewer} is well, and its session ended: {reason}");
                }
                known.stage = Stage::Gone;
            }
            ControlMsg::ViewerConnected { viewer } => {
                self.trace.note(now, format_args!("viewer {viewer} is connected"));
            }
            ControlMsg::PublishEnded { publisher, reason } => {
                self.trace.note(now, format_args!("publish ended {publisher}: {reason:?}"));
            }
            ControlMsg::PublishRequested { .. }
            | ControlMsg::StreamChanged { .. }
            | ControlMsg::ViewerSdp { .. }
            | ControlMsg::ViewerComplaint { .. }
            | ControlMsg::Drained { .. } => {}
        }
    }
}
