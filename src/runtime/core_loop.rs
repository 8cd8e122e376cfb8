//! One core's poll loop: publishers' sockets, the UDP socket, the mailboxes, and the engine.
//!
//! A turn: wait → read the clock once → mail → sockets → due timers → drain outputs → joins and
//! handshakes. Each step has a budget, so no source starves another.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll, Token};

use super::handshakes::Handshakes;
use super::mailbox::{Doorbell, Mailbox, Postbox};
use super::tcp_conn::{ReadOutcome, TcpConn};
use super::tls::TlsTerms;
use super::udp_socket::{SendPlace, UdpSocket};
use super::video_loop::{Torn, VideoMail};
use super::watchdog::Heartbeat;
use super::{clock, control_loop::ControlMail};
use crate::engine::{Complaints, Engine, EngineOutput};
use crate::ids::{CoreId, PublisherId};
use crate::limits::{
    MESSAGES_PER_TURN, RTMP_READ_BYTES_PER_TURN, RTMP_READ_BYTES_PER_TURN_IN_ALL, TURN_MAX,
};
use crate::messages::{CoreMsg, MediaMsg, TranscodeMsg, TranscodeReply, VideoMsg, VideoReply};
use crate::metrics::CoreCounters;

/// Token of the doorbell.
pub const DOORBELL: Token = Token(0);
const UDP: Token = Token(1);
/// Tokens of publishers' connections begin here; a publisher's id is added.
const FIRST_PUBLISHER: usize = 16;
/// Events taken from one poll.
const EVENTS_PER_TURN: usize = 1_024;
/// One read from a publisher's socket, in bytes.
const READ_BYTES: usize = 64 * 1_024;

/// How long a batch waits for the kernel's send buffer; then its rest is dropped, as a network drops
/// it, and asked for again by those who miss it. Meanwhile no frame is taken from a room, and viewers
/// who waited too long are left out pictures by the engine.
const BLOCKED_MAX: Duration = Duration::from_millis(200);
/// How long until a full send buffer is tried again, should the kernel not tell.
const BLOCKED_RETRY: Duration = Duration::from_millis(2);

/// What comes to a core's mailbox.
#[derive(Debug)]
pub enum CoreMail {
    /// A message for the engine.
    Message(CoreMsg),
    /// A publisher's connection.
    Accepted {
        /// Its id.
        publisher: PublisherId,
        /// The socket.
        stream: TcpStream,
        /// How it speaks TLS, if it does.
        tls: Option<TlsTerms>,
        /// Who it is.
        peer: SocketAddr,
    },
    /// What a transcode worker made.
    Transcoded(TranscodeReply),
    /// What the video transcoder made, or says.
    VideoTranscoded(VideoReply),
    /// End the loop.
    Stop,
}

/// What a core's loop is made of.
#[derive(Debug)]
pub struct CoreLoopConfig {
    /// Which core.
    pub core: CoreId,
    /// Its engine.
    pub engine: Engine,
    /// Its socket.
    pub socket: UdpSocket,
    /// The poll its doorbell belongs to.
    pub poll: Poll,
    /// Its doorbell.
    pub doorbell: Doorbell,
    /// Its mailbox.
    pub mailbox: Mailbox<CoreMail>,
    /// Media of other cores' rooms.
    pub media: Mailbox<MediaMsg>,
    /// The way to control.
    pub control: Postbox<ControlMail>,
    /// The way to every core, itself included.
    pub cores: Vec<Postbox<CoreMail>>,
    /// The media way to every core.
    pub media_to: Vec<Postbox<MediaMsg>>,
    /// The way to every transcode worker.
    pub transcoders: Vec<Postbox<TranscodeMsg>>,
    /// The way to the video transcoder.
    pub video: Postbox<VideoMail>,
    /// Where it counts.
    pub counters: Arc<CoreCounters>,
    /// Its sign of life.
    pub heartbeat: Heartbeat,
}

/// One core's loop.
#[derive(Debug)]
pub struct CoreLoop {
    io: CoreLoopConfig,
    connections: BTreeMap<PublisherId, TcpConn>,
    /// Publishers whose sockets may hold more than their turn's budget.
    readable: BTreeSet<PublisherId>,
    /// Which of them is read first: the one for which the last turn's budget did not last.
    read_first: PublisherId,
    /// Publishers that are not read because they are ahead of the clock: what they send on waits
    /// in their hands.
    held: BTreeSet<PublisherId>,
    socket_readable: bool,
    mail_waits: bool,
    handshakes: Handshakes,
    buffer: Vec<u8>,
    /// The kernel takes no more datagrams: since when, and how far it has taken the engine's batch.
    blocked: Option<(Instant, SendPlace)>,
    /// Whether the poll tells when the socket takes more.
    watches_writable: bool,
    /// Cores and control that were sent something in this turn.
    rung: Rung,
    video_torn: Torn,
    /// About messages for control that were lost.
    full_lines: Complaints,
}

#[derive(Debug, Default)]
struct Rung {
    control: bool,
    video: bool,
    cores: BTreeSet<CoreId>,
}

impl CoreLoop {
    /// A loop that is ready to run.
    ///
    /// # Errors
    /// When the socket cannot be registered.
    pub fn new(mut config: CoreLoopConfig) -> io::Result<Self> {
        config.socket.register(config.poll.registry(), UDP)?;
        Ok(Self {
            io: config,
            connections: BTreeMap::new(),
            readable: BTreeSet::new(),
            read_first: PublisherId(0),
            held: BTreeSet::new(),
            socket_readable: true,
            mail_waits: true,
            handshakes: Handshakes::default(),
            buffer: vec![0; READ_BYTES],
            blocked: None,
            watches_writable: false,
            rung: Rung::default(),
            video_torn: Torn::default(),
            full_lines: Complaints::default(),
        })
    }

    /// Runs until it is told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut deadline = clock::now();
        let mut media_took = Duration::ZERO;
        loop {
            let timeout = self.timeout(deadline);
            if let Err(error) = self.io.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("cannot wait for sockets: {error} core={}", self.io.core);
                return;
            }
            let now = clock::now();
            self.io.heartbeat.beat(now);
            for event in &events {
                self.note(event.token(), event.is_readable(), now);
            }
            let is_behind = self.io.engine.is_behind();
            self.handshakes.begin_turn(media_took, is_behind);
            if !self.take_mail(now) {
                return;
            }
            self.read_sockets(now);
            self.io.engine.handle_timeout(now);
            deadline = self.drain(now);
            media_took = clock::now().saturating_duration_since(now);
            if self.handshakes.wait() {
                // After the media, which does not wait for them.
                self.shake_hands(now);
                deadline = self.drain(now);
            }
            self.release_held();
            self.count_turn(now);
        }
    }

    fn timeout(&self, deadline: Instant) -> Duration {
        let work_left = self.mail_waits
            || self.socket_readable
            || self.handshakes.wait()
            || !self.readable.is_empty();
        if work_left {
            return Duration::ZERO;
        }
        deadline.saturating_duration_since(clock::now())
    }

    fn note(&mut self, token: Token, readable: bool, now: Instant) {
        match token {
            DOORBELL => self.mail_waits = true,
            UDP => self.socket_readable = true,
            Token(number) => {
                let Some(id) = number.checked_sub(FIRST_PUBLISHER) else {
                    return;
                };
                let publisher = PublisherId(id as u64);
                if readable {
                    self.readable.insert(publisher);
                }
                if let Some(connection) = self.connections.get_mut(&publisher) {
                    let usable = connection.flush();
                    self.settle(publisher, usable, now);
                }
            }
        }
    }

    /// Empties the mailboxes, up to the budget. `false`: stop.
    fn take_mail(&mut self, now: Instant) -> bool {
        if !self.mail_waits {
            return true;
        }
        self.io.doorbell.silence();
        for _ in 0..MESSAGES_PER_TURN {
            let Some(message) = self.io.media.take() else {
                break;
            };
            self.io.engine.handle_media(message, now);
        }
        for _ in 0..MESSAGES_PER_TURN {
            if !self.handshakes.has_room() {
                break;
            }
            let Some(mail) = self.io.mailbox.take() else {
                break;
            };
            match mail {
                CoreMail::Message(CoreMsg::Datagram { from, to, data }) => {
                    let engine = &mut self.io.engine;
                    if !self.handshakes.keeps(engine, from, to, &data) {
                        engine.handle_forwarded(from, to, &data, now);
                    }
                }
                CoreMail::Message(message) => {
                    if let Some(message) = self.handshakes.keep_message(message) {
                        self.io.engine.handle_message(message, now);
                    }
                }
                CoreMail::Accepted {
                    publisher,
                    stream,
                    tls,
                    peer,
                } => {
                    self.accept(publisher, (stream, tls), peer, now);
                }
                CoreMail::Transcoded(reply) => self.io.engine.handle_transcoded(reply, now),
                CoreMail::VideoTranscoded(reply) => self.io.engine.handle_video_reply(reply, now),
                CoreMail::Stop => return false,
            }
        }
        self.mail_waits = !self.io.mailbox.is_empty() || !self.io.media.is_empty();
        true
    }

    fn accept(
        &mut self,
        id: PublisherId,
        (stream, tls): (TcpStream, Option<TlsTerms>),
        peer: SocketAddr,
        now: Instant,
    ) {
        self.io.engine.add_publisher(id, peer, now);
        let token = usize::try_from(id.0)
            .ok()
            .and_then(|id| id.checked_add(FIRST_PUBLISHER));
        let registry = self.io.poll.registry();
        let registered =
            token.and_then(|id| TcpConn::register(stream, tls, registry, Token(id)).ok());
        match registered {
            Some(connection) => {
                self.connections.insert(id, connection);
                self.readable.insert(id);
            }
            None => self.io.engine.handle_publisher_closed(id, true, now),
        }
    }

    fn read_sockets(&mut self, now: Instant) {
        if self.socket_readable {
            let (socket, counters) = (&mut self.io.socket, &self.io.counters);
            let (engine, handshakes) = (&mut self.io.engine, &mut self.handshakes);
            self.socket_readable = socket.receive(|from, to, bytes| {
                counters.datagrams_in.inc();
                if !handshakes.keeps(engine, from, to, bytes) {
                    engine.handle_datagram(from, to, bytes, now);
                }
            });
        }
        let mut left = RTMP_READ_BYTES_PER_TURN_IN_ALL;
        let mut before = std::mem::take(&mut self.readable);
        let from_first = before.split_off(&self.read_first);
        for publisher in from_first.into_iter().chain(before) {
            if left == 0 {
                self.readable.insert(publisher);
            } else if self.io.engine.is_held(publisher) {
                self.held.insert(publisher);
            } else {
                let budget = left.min(RTMP_READ_BYTES_PER_TURN);
                left = left.saturating_sub(self.read_publisher(publisher, budget, now));
                if left == 0 {
                    self.read_first = PublisherId(publisher.0.saturating_add(1));
                }
            }
        }
    }

    /// Has publishers read again that are no longer held. Their sockets said only once that there
    /// is something.
    fn release_held(&mut self) {
        for publisher in std::mem::take(&mut self.held) {
            let set = match self.io.engine.is_held(publisher) {
                true => &mut self.held,
                false => &mut self.readable,
            };
            set.insert(publisher);
        }
    }

    /// Does this turn's share of the joins and of the DTLS that wait.
    fn shake_hands(&mut self, now: Instant) {
        while let Some(message) = self.handshakes.next_message() {
            self.io.engine.handle_message(message, now);
        }
        while let Some((from, to, datagram)) = self.handshakes.next() {
            self.io.engine.handle_datagram(from, to, &datagram, now);
        }
    }

    /// Reads what a publisher sent, up to `budget` bytes; how many those were.
    fn read_publisher(&mut self, publisher: PublisherId, budget: usize, now: Instant) -> usize {
        let mut left = budget;
        loop {
            let taken = budget.saturating_sub(left);
            let Some(connection) = self.connections.get_mut(&publisher) else {
                return taken;
            };
            match connection.read(&mut self.buffer) {
                ReadOutcome::Bytes(count) => {
                    let bytes = self.buffer.get(..count).unwrap_or_default();
                    self.io.engine.handle_publisher_input(publisher, bytes, now);
                    left = left.saturating_sub(count);
                    if left == 0 {
                        self.readable.insert(publisher);
                        return budget;
                    }
                }
                ReadOutcome::Empty => {
                    self.io.engine.handle_publisher_drained(publisher);
                    return taken;
                }
                ReadOutcome::Closed => {
                    self.io
                        .engine
                        .handle_publisher_closed(publisher, false, now);
                    return taken;
                }
                ReadOutcome::Broken => {
                    self.io.engine.handle_publisher_closed(publisher, true, now);
                    return taken;
                }
            }
        }
    }

    /// Does what the engine says until it waits; gives the time until when.
    fn drain(&mut self, now: Instant) -> Instant {
        if self.blocked.is_some() && !self.send_batch(now) {
            return now + BLOCKED_RETRY;
        }
        let deadline = loop {
            match self.io.engine.poll_output(now) {
                EngineOutput::Datagrams => {
                    if !self.send_batch(now) {
                        break now + BLOCKED_RETRY;
                    }
                }
                EngineOutput::Tcp { publisher, bytes } => {
                    if let Some(connection) = self.connections.get_mut(&publisher) {
                        let usable = connection.write(bytes);
                        self.settle(publisher, usable, now);
                    }
                }
                EngineOutput::CloseTcp { publisher } => {
                    if let Some(connection) = self.connections.get_mut(&publisher) {
                        connection.close_when_written();
                        self.settle(publisher, true, now);
                    }
                }
                EngineOutput::Control(message) => {
                    if self.io.control.put(ControlMail::Message(message)).is_err() {
                        self.io.counters.mailbox_drops.inc();
                        if let Some(left_out) = self.full_lines.admit(now) {
                            let core = self.io.core;
                            log::error!("control's mailbox is full core={core}{left_out}");
                        }
                    }
                    self.rung.control = true;
                }
                EngineOutput::Core { to, message } => self.post_core(to, message),
                EngineOutput::Media { to, message } => self.post_media(to, message),
                EngineOutput::Transcode { publisher, message } => {
                    self.post_transcode(publisher, message);
                }
                EngineOutput::TranscodeVideo { message } => self.post_video(message),
                EngineOutput::Timeout(deadline) => break deadline,
            }
        };
        self.ring();
        deadline
    }

    /// Sends the engine's batch, or its rest. `false`: the kernel takes no more for now.
    fn send_batch(&mut self, now: Instant) -> bool {
        let (since, place) = self.blocked.take().unwrap_or((now, SendPlace::default()));
        let outcome = self.io.socket.send(self.io.engine.batch(), place);
        self.io.counters.send_errors.add(outcome.failed);
        let trains = self.io.engine.batch().len();
        let left = trains.saturating_sub(outcome.place.train);
        if left > 0 {
            if now.saturating_duration_since(since) < BLOCKED_MAX {
                self.watch_writable(true);
                self.blocked = Some((since, outcome.place));
                return false;
            }
            self.io.counters.send_blocked.add_len(left);
        }
        self.watch_writable(false);
        self.io.engine.batch_sent(clock::now());
        true
    }

    /// A failure costs [`BLOCKED_RETRY`] at most.
    fn watch_writable(&mut self, watch: bool) {
        if self.watches_writable != watch {
            let registry = self.io.poll.registry();
            let watching = self.io.socket.watch_writable(registry, UDP, watch);
            self.watches_writable = watching.is_ok() && watch;
        }
    }

    fn post_core(&mut self, to: CoreId, message: CoreMsg) {
        let Some(postbox) = self.io.cores.get(to.index()) else {
            return;
        };
        // Only datagrams go this way; they may be lost like any datagram.
        if postbox.put_if_roomy(CoreMail::Message(message)).is_err() {
            self.io.counters.datagrams_dropped_mailbox.inc();
        }
        self.rung.cores.insert(to);
    }

    fn post_media(&mut self, to: CoreId, message: MediaMsg) {
        let Some(postbox) = self.io.media_to.get(to.index()) else {
            return;
        };
        // Half of the box is kept for the ends of publishes, which are not sent again.
        let posted = match message {
            MediaMsg::Frame { .. } => postbox.put_if_roomy(message),
            MediaMsg::Ended { .. } => postbox.put(message),
        };
        if let Err(message) = posted {
            self.io.engine.media_refused(to, &message);
        }
        self.rung.cores.insert(to);
    }

    fn post_transcode(&mut self, publisher: PublisherId, message: TranscodeMsg) {
        let workers = self.io.transcoders.len().max(1) as u64;
        let worker = usize::try_from(publisher.0 % workers).unwrap_or(0);
        let Some(postbox) = self.io.transcoders.get(worker) else {
            return;
        };
        // A full inbox loses access units, never the messages that open and close a stream: the
        // transcoder fills the gap with silence.
        let posted = match message {
            TranscodeMsg::Unit { .. } => postbox.put_if_roomy(message),
            TranscodeMsg::Open { .. }
            | TranscodeMsg::Configure { .. }
            | TranscodeMsg::Finish { .. }
            | TranscodeMsg::Close { .. } => postbox.put(message),
        };
        if posted.is_err() {
            self.io.counters.transcode_drops.inc();
        }
    }

    fn post_video(&mut self, message: VideoMsg) {
        let lost = match &message {
            VideoMsg::Frame {
                publisher, frame, ..
            } => {
                let publisher = *publisher;
                let torn = self.video_torn.refuses(publisher, frame);
                let mail = VideoMail::Message(message);
                let lost = torn || self.io.video.put_if_roomy(mail).is_err();
                self.video_torn.note(publisher, lost);
                lost
            }
            VideoMsg::Open { publisher, .. }
            | VideoMsg::Configure { publisher, .. }
            | VideoMsg::Finish { publisher }
            | VideoMsg::Close { publisher } => {
                self.video_torn.mend(*publisher);
                self.io.video.put(VideoMail::Message(message)).is_err()
            }
            VideoMsg::Keyframe { .. } => {
                let mail = VideoMail::Message(message);
                self.io.video.put_if_roomy(mail).is_err()
            }
        };
        if lost {
            self.io.counters.video_transcode_drops.inc();
        }
        self.rung.video = true;
    }

    fn ring(&mut self) {
        if std::mem::take(&mut self.rung.video) {
            self.io.video.ring();
        }
        if std::mem::take(&mut self.rung.control) {
            self.io.control.ring();
        }
        for core in std::mem::take(&mut self.rung.cores) {
            if let Some(postbox) = self.io.cores.get(core.index()) {
                postbox.ring();
            }
        }
    }

    /// Drops a connection that is done with or of no more use.
    fn settle(&mut self, publisher: PublisherId, usable: bool, now: Instant) {
        let Some(connection) = self.connections.get_mut(&publisher) else {
            return;
        };
        if usable && !connection.is_done() {
            return;
        }
        if !usable && connection.give_up_writing() && !connection.is_done() {
            // An encoder that closed may have sent more than was read; the end is found there.
            self.readable.insert(publisher);
            return;
        }
        connection.deregister(self.io.poll.registry());
        self.connections.remove(&publisher);
        if !usable {
            self.io.engine.handle_publisher_closed(publisher, true, now);
        }
    }

    fn count_turn(&self, began: Instant) {
        let (connections, rooms, viewers) = self.io.engine.sizes();
        let counters = &self.io.counters;
        counters.rtmp_connections.set_len(connections);
        counters.rooms.set_len(rooms);
        counters.viewers.set_len(viewers);
        counters.turns.inc();
        let took = clock::now().saturating_duration_since(began);
        if took > TURN_MAX {
            self.io.counters.turns_too_long.inc();
            log::debug!("a turn took {} ms core={}", took.as_millis(), self.io.core);
        }
    }
}
