//! The world: several cores' engines, control, a transcode worker, publishers, viewers and the
//! network between them, in one thread under one virtual clock.
//!
//! A step: deliver what is due, let deadlines pass, drain every machine as its loop does, then
//! check. What [`super::acts`] does to the world comes between steps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtmpeer::control::{CandidatePolicy, Control, ControlConfig};
use rtmpeer::engine::{Certificate, Engine, EngineConfig};
use rtmpeer::ids::{ConnId, CoreId, IdSource, PublisherId, ViewerId};
use rtmpeer::media::time::Timebase;
use rtmpeer::messages::{
    ControlMsg, CoreMsg, MediaMsg, TranscodeMsg, TranscodeReply, VideoMsg, VideoReply,
};
use rtmpeer::metrics::CoreCounters;
use rtmpeer::signalling::{ClientMessage, HttpRequest, HttpResponse, ServerMessage};
use rtmpeer::transcode::{AudioSettings, Transcoder};

use super::chance::Chance;
use super::clip::Clip;
use super::encoder::FakeEncoder;
use super::model::Webhooks;
use super::publisher::SimPublisher;
use super::trace::Trace;
use super::viewer::SimViewer;
use super::watch::Tally;

/// The wall clock when a world begins, since 1970.
pub(super) const WALL_ORIGIN: Duration = Duration::from_secs(1_800_000_000);
/// Turns of one loop in a simulated millisecond: more is a busy loop.
const TURNS_PER_MS_MAX: u32 = 1_000;
/// From a viewer's silence to the end of its session.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(31);
/// How often it is checked that frames go on coming.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The server's UDP port.
pub(super) const SERVER: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 8_189);

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
    Control(Box<ControlInput>),
    Transcode(TranscodeMsg),
    TranscodeVideo(VideoMsg),
    Viewer(usize, ViewerInput),
    Publisher(usize, PublisherInput),
}

pub(super) enum CoreInput {
    Mail(CoreMsg),
    Accepted {
        publisher: usize,
        id: PublisherId,
        peer: SocketAddr,
    },
    Transcoded(TranscodeReply),
    VideoMade(VideoReply),
    Media(MediaMsg),
    Datagram {
        from: SocketAddr,
        data: Vec<u8>,
    },
    Tcp {
        publisher: usize,
        bytes: Vec<u8>,
        completes: Option<u32>,
    },
    TcpClosed {
        publisher: usize,
        error: bool,
    },
}

pub(super) enum ControlInput {
    Mail(ControlMsg),
    Accept {
        publisher: usize,
    },
    Request {
        conn: ConnId,
        peer: SocketAddr,
        request: HttpRequest,
    },
    WebSocket {
        conn: ConnId,
        message: ClientMessage,
    },
    Closed {
        conn: ConnId,
    },
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
    /// How long it takes it to send a datagram.
    pub datagram_cost: Duration,
    /// How long viewers that join wait for their turn, while nothing else does.
    pub joins_wait: Duration,
    pub(super) next: Instant,
    pub(super) mail_waiting: usize,
    pub(super) media_waiting: usize,
    pub(super) last_mail: Instant,
    pub(super) last_media: Instant,
    pub(super) turns: Turns,
    pub(super) is_due: bool,
}

impl SimCore {
    fn new(
        index: u16,
        plan: &Plan,
        timebase: Timebase,
        certificate: &Certificate,
        start: Instant,
    ) -> Self {
        let counters = Arc::new(CoreCounters::default());
        let engine = Engine::new(EngineConfig {
            core: CoreId(index),
            cores: plan.cores,
            timebase,
            certificate: certificate.clone(),
            ids: IdSource::seeded(Chance::of(&[plan.seed, 1, index.into()]).next()),
            counters: Arc::clone(&counters),
        });
        Self {
            engine: engine.unwrap(),
            counters,
            stalled_until: start,
            datagram_cost: Duration::ZERO,
            joins_wait: Duration::ZERO,
            next: start,
            mail_waiting: 0,
            media_waiting: 0,
            last_mail: start,
            last_media: start,
            turns: Turns::default(),
            is_due: true,
        }
    }
}

/// Turns of a loop in one millisecond.
#[derive(Debug, Default)]
pub(super) struct Turns {
    millisecond: u128,
    count: u32,
}

impl Turns {
    pub(super) fn count(&mut self, whose: &str, now: Duration) {
        if self.millisecond != now.as_millis() {
            *self = Self {
                millisecond: now.as_millis(),
                count: 0,
            };
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
    /// The video transcoder.
    pub encoder: FakeEncoder,
    pub(super) last_video: Instant,
    /// Its rooms.
    pub rooms: Vec<SimRoom>,
    /// Everyone who ever published.
    pub publishers: Vec<SimPublisher>,
    /// Everyone who ever watched.
    pub viewers: Vec<SimViewer>,
    pub(super) addresses: BTreeMap<SocketAddr, usize>,
    pub(super) every_address: BTreeSet<SocketAddr>,
    /// Trains of datagrams that ended in a packet of another source than they began with.
    pub(super) sounds_in_trains: usize,
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
        let core = |index| SimCore::new(index, &plan, timebase, &certificate, start);
        let config = ControlConfig {
            cores: plan.cores,
            candidates: CandidatePolicy {
                public: vec![SERVER.ip()],
                interfaces: vec![SERVER.ip()],
                port: SERVER.port(),
                ..CandidatePolicy::default()
            },
            ..ControlConfig::default()
        };
        let ids = IdSource::seeded(Chance::of(&[plan.seed, 2]).next());
        let room = |(index, clip): (usize, &&'static Clip)| {
            let name = format!("room-{index}");
            SimRoom {
                name,
                clip,
                live: None,
                fault: start,
            }
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
            transcoder: Transcoder::new(AudioSettings {
                complexity: 0,
                ..AudioSettings::default()
            }),
            transcode_waiting: 0,
            last_transcode: start,
            encoder: FakeEncoder::default(),
            last_video: start,
            rooms: clips.iter().enumerate().map(room).collect(),
            publishers: Vec::new(),
            viewers: Vec::new(),
            addresses: BTreeMap::new(),
            every_address: BTreeSet::new(),
            sounds_in_trains: 0,
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
        let times = self
            .cores
            .iter()
            .map(core)
            .chain([self.control_next, self.next_check]);
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
            Due::Control(input) => self.deliver_to_control(*input),
            Due::Transcode(message) => self.transcode(message),
            Due::TranscodeVideo(message) => self.transcode_video(message),
            Due::Viewer(index, input) => self.deliver_to_viewer(index, input),
            Due::Publisher(index, input) => self.deliver_to_publisher(index, input),
        }
    }
}
