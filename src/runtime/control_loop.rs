//! The control thread's poll loop: listeners, HTTP and WebSocket connections, signals, and
//! [`Control`]. Frames never pass through it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::all_counters::AllCounters;
use super::clock;
use super::core_loop::CoreMail;
use super::crowd::{Crowd, Full};
use super::http_conn::{HttpConn, READ_BYTES};
use super::interfaces::AddressWatch;
use super::mailbox::{Doorbell, Mailbox, Postbox};
use super::tls::TlsTerms;
use super::tls_files::TlsKeeper;
use super::watchdog::{Heartbeat, Watchdog};
use super::webhook_loop::post_event;
use crate::control::{Control, ControlOutput};
use crate::engine::Complaints;
use crate::ids::{ConnId, CoreId};
use crate::limits::{
    CONTROL_OUTPUTS_MAX, DRAIN_DEADLINE, HTTP_CONNECTIONS_MAX, HTTP_CONNECTIONS_PER_ADDRESS_MAX,
    MESSAGES_PER_TURN, METRICS_CONNECTIONS_MAX,
};
use crate::messages::ControlMsg;
use crate::webhook::WebhookEvent;

const DOORBELL: Token = super::core_loop::DOORBELL;
const SIGNALS: Token = Token(1);
const RTMP: Token = Token(2);
const HTTP: Token = Token(3);
const METRICS: Token = Token(4);
const RTMPS: Token = Token(5);
/// Tokens of connections begin here; a connection's id is added.
const FIRST_CONNECTION: u64 = 16;
/// Events taken from one poll.
const EVENTS_PER_TURN: usize = 512;
/// Connections accepted from one listener in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long not to accept after the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// What comes to control's mailbox.
#[derive(Debug)]
pub enum ControlMail {
    /// A message for [`Control`].
    Message(ControlMsg),
    /// Drain, then end.
    Stop,
}

/// The sockets that accept connections, bound and listening.
#[derive(Debug)]
pub struct Listeners {
    /// For publishers.
    pub rtmp: TcpListener,
    /// For publishers that speak TLS.
    pub rtmps: Option<TcpListener>,
    /// For viewers.
    pub http: TcpListener,
    /// For the operator.
    pub metrics: TcpListener,
}

/// What the control loop is made of.
#[derive(Debug)]
pub struct ControlLoopConfig {
    /// The decisions.
    pub control: Control,
    /// The sockets.
    pub listeners: Listeners,
    /// The poll its doorbell belongs to.
    pub poll: Poll,
    /// Its doorbell.
    pub doorbell: Doorbell,
    /// Its mailbox.
    pub mailbox: Mailbox<ControlMail>,
    /// The way to every core.
    pub cores: Vec<Postbox<CoreMail>>,
    /// The way to the webhook thread.
    pub webhooks: Option<Postbox<WebhookEvent>>,
    /// Whose figures the metrics page shows.
    pub counters: AllCounters,
    /// Its sign of life.
    pub heartbeat: Heartbeat,
    /// What the UDP socket of the viewers is bound to.
    pub webrtc: IpAddr,
    /// The service manager.
    pub watchdog: Watchdog,
    /// The certificate, if there is one.
    pub tls: Option<TlsKeeper>,
    /// Whether viewers must speak TLS.
    pub https: bool,
    /// Whether SIGTERM and SIGINT stop this loop, and SIGHUP reads the certificate anew.
    pub handle_signals: bool,
}

/// The control loop.
pub struct ControlLoop {
    io: ControlLoopConfig,
    connections: BTreeMap<ConnId, HttpConn>,
    /// Those of viewers.
    viewers: Crowd,
    /// Those that read the metrics: a flood of viewers does not keep the operator out.
    scrapers: Crowd,
    /// Connections to look at in this turn.
    active: BTreeSet<ConnId>,
    next_connection: u64,
    mail_waits: bool,
    signals: Option<Signals>,
    /// Listeners that may hold more connections.
    accepting: BTreeSet<Token>,
    accept_again: Option<Instant>,
    addresses: AddressWatch,
    stop_by: Option<Instant>,
    signals_seen: u32,
    /// Publishers that are not taken, for the log.
    refusals: Complaints,
    /// Viewers and scrapers that are not.
    turned_away: Complaints,
    buffer: Vec<u8>,
}

impl ControlLoop {
    /// A loop that is ready to run.
    ///
    /// # Errors
    /// When a socket or the signals cannot be registered.
    pub fn new(mut config: ControlLoopConfig) -> io::Result<Self> {
        let registry = config.poll.registry();
        let listeners = &mut config.listeners;
        registry.register(&mut listeners.rtmp, RTMP, Interest::READABLE)?;
        if let Some(rtmps) = &mut listeners.rtmps {
            registry.register(rtmps, RTMPS, Interest::READABLE)?;
        }
        registry.register(&mut listeners.http, HTTP, Interest::READABLE)?;
        registry.register(&mut listeners.metrics, METRICS, Interest::READABLE)?;
        let mut signals = None;
        if config.handle_signals {
            let mut source = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
            registry.register(&mut source, SIGNALS, Interest::READABLE)?;
            signals = Some(source);
        }
        Ok(Self {
            addresses: AddressWatch::new(config.webrtc),
            io: config,
            connections: BTreeMap::new(),
            viewers: Crowd::new(HTTP_CONNECTIONS_MAX, HTTP_CONNECTIONS_PER_ADDRESS_MAX),
            scrapers: Crowd::new(METRICS_CONNECTIONS_MAX, METRICS_CONNECTIONS_MAX),
            active: BTreeSet::new(),
            next_connection: 0,
            mail_waits: true,
            signals,
            accepting: BTreeSet::from([RTMP, RTMPS, HTTP, METRICS]),
            accept_again: None,
            stop_by: None,
            signals_seen: 0,
            refusals: Complaints::default(),
            turned_away: Complaints::default(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Runs until the server has drained after a signal or [`ControlMail::Stop`].
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut deadline = clock::now();
        self.io.watchdog.ready();
        loop {
            let timeout = self.timeout(deadline);
            if let Err(error) = self.io.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("cannot wait for sockets: {error}");
                return;
            }
            let now = clock::now();
            self.io.heartbeat.beat(now);
            for event in &events {
                self.note(event.token(), now);
            }
            self.accept(now);
            self.take_mail(now);
            self.io.control.handle_timeout(now);
            if let Some(tls) = &mut self.io.tls {
                tls.look(now);
            }
            for id in std::mem::take(&mut self.active) {
                self.turn_connection(id, now);
                // What one said to many is passed on before the next one speaks.
                if self.has_much_to_do() && self.drain(now).is_none() {
                    return;
                }
            }
            let Some(next) = self.drain(now) else { return };
            if self.stop_by.is_some_and(|by| now >= by) {
                log::warn!("some sessions did not close in time");
                // Their ends are told nevertheless.
                self.io.control.stop_now(now);
                self.drain(now);
                return;
            }
            deadline = self.next_deadline(next, now);
        }
    }

    fn timeout(&self, deadline: Instant) -> Duration {
        let accepting = !self.accepting.is_empty() && self.accept_again.is_none();
        if self.mail_waits || accepting || !self.active.is_empty() {
            return Duration::ZERO;
        }
        deadline.saturating_duration_since(clock::now())
    }

    fn next_deadline(&mut self, next: Instant, now: Instant) -> Instant {
        let mut deadline = next.min(now + Duration::from_secs(1));
        if let Some(tick) = self.io.watchdog.tick(now) {
            deadline = deadline.min(tick);
        }
        let look = self.io.tls.as_ref().map(TlsKeeper::next_look);
        for at in [self.accept_again, self.stop_by, look]
            .into_iter()
            .flatten()
        {
            deadline = deadline.min(at);
        }
        // Connections are few and slow compared with viewers: a scan is cheap.
        for (id, connection) in &self.connections {
            let due = connection.deadline();
            if due <= now {
                self.active.insert(*id);
            }
            deadline = deadline.min(due);
        }
        deadline
    }

    fn note(&mut self, token: Token, now: Instant) {
        match token {
            DOORBELL => self.mail_waits = true,
            SIGNALS => self.take_signals(now),
            RTMP | RTMPS | HTTP | METRICS => {
                self.accepting.insert(token);
            }
            Token(number) => {
                if let Some(id) = (number as u64).checked_sub(FIRST_CONNECTION) {
                    self.active.insert(ConnId(id));
                }
            }
        }
    }

    fn take_signals(&mut self, now: Instant) {
        let Some(signals) = &mut self.signals else {
            return;
        };
        let pending: Vec<_> = signals.pending().collect();
        for signal in pending {
            if signal == SIGHUP {
                match &mut self.io.tls {
                    Some(tls) => tls.reload(now),
                    None => log::info!("there is no certificate to read anew"),
                }
                continue;
            }
            self.signals_seen += 1;
            self.begin_stop(now);
        }
    }

    fn begin_stop(&mut self, now: Instant) {
        if self.stop_by.is_some() {
            if self.signals_seen > 1 {
                log::warn!("told to stop twice: not waiting any longer");
                self.stop_by = Some(now);
            }
            return;
        }
        log::info!("stopping");
        self.io.watchdog.stopping();
        self.stop_by = Some(now + DRAIN_DEADLINE);
        self.io.control.drain(now);
    }

    fn accept(&mut self, now: Instant) {
        if self.accept_again.is_some_and(|at| now < at) {
            return;
        }
        self.accept_again = None;
        for token in std::mem::take(&mut self.accepting) {
            for turn in 0..=ACCEPTS_PER_TURN {
                if turn == ACCEPTS_PER_TURN {
                    self.accepting.insert(token);
                    break;
                }
                let listener = match token {
                    RTMP => Some(&self.io.listeners.rtmp),
                    RTMPS => self.io.listeners.rtmps.as_ref(),
                    HTTP => Some(&self.io.listeners.http),
                    _ => Some(&self.io.listeners.metrics),
                };
                let Some(listener) = listener else { break };
                match listener.accept() {
                    Ok((stream, peer)) => self.accepted(token, stream, peer, now),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_of_the_peer(&error) => {}
                    Err(error) => {
                        log::warn!("cannot accept connections, pausing: {error}");
                        self.accept_again = Some(now + ACCEPT_PAUSE);
                        self.accepting.insert(token);
                        break;
                    }
                }
            }
        }
    }

    fn accepted(&mut self, token: Token, stream: TcpStream, peer: SocketAddr, now: Instant) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let tls = self.io.tls.as_ref();
        let tls = match token {
            RTMPS => tls.map(TlsKeeper::rtmps),
            HTTP if self.io.https => tls.map(TlsKeeper::https),
            _ => None,
        };
        if token == RTMP || token == RTMPS {
            self.pass_on(stream, tls, peer, now);
            return;
        }
        let of_metrics = token == METRICS;
        if !self.admit(of_metrics, peer, now) {
            return;
        }
        let id = ConnId(self.next_connection);
        self.next_connection += 1;
        let number = usize::try_from(id.0 + FIRST_CONNECTION).unwrap_or(usize::MAX);
        let place = (self.io.poll.registry(), Token(number));
        match HttpConn::register(stream, tls, peer, of_metrics, place, now) {
            Ok(connection) => {
                self.connections.insert(id, connection);
                self.active.insert(id);
            }
            Err(error) => {
                self.crowd(of_metrics).leave(peer.ip());
                log::debug!("connection lost at once: {error} peer={peer}");
            }
        }
        self.count_connections();
    }

    /// Gives a publisher's connection to a core.
    fn pass_on(
        &mut self,
        stream: TcpStream,
        tls: Option<TlsTerms>,
        peer: SocketAddr,
        now: Instant,
    ) {
        let (core, publisher) = match self.io.control.place_publisher(peer) {
            Ok(placed) => placed,
            Err(why) => {
                if let Some(left_out) = self.refusals.admit(now) {
                    log::warn!("publisher refused: {why} peer={peer}{left_out}");
                }
                return;
            }
        };
        let mail = CoreMail::Accepted {
            publisher,
            stream,
            tls,
            peer,
        };
        let core_box = self.io.cores.get(core.index());
        let posted = core_box.is_some_and(|core| core.post(mail).is_ok());
        if !posted {
            self.core_is_full(core);
            self.io.control.publisher_lost(publisher, now);
        }
    }

    /// Counts a connection in. Where there is no place, the one that has rested longest between two
    /// requests gives up its own: a browser keeps it only to ask sooner the next time.
    fn admit(&mut self, of_metrics: bool, peer: SocketAddr, now: Instant) -> bool {
        let Err(full) = self.crowd(of_metrics).admit(peer.ip()) else {
            return true;
        };
        // The next request of one that is active may be here.
        let calm = self.connections.iter().filter(|(id, connection)| {
            connection.is_of_metrics() == of_metrics && !self.active.contains(id)
        });
        let rests = calm.filter_map(|(id, connection)| {
            let rest = (connection.rests_until()?, *id);
            full.is_eased_by(connection.peer().ip(), peer.ip())
                .then_some(rest)
        });
        if let Some((_, id)) = rests.min() {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.say_goodbye();
            }
            self.drop_connection(id, now);
            if self.crowd(of_metrics).admit(peer.ip()).is_ok() {
                return true;
            }
        }
        let counters = self.io.control.counters();
        match full {
            _ if of_metrics => {}
            Full::InAll(_) => counters.http_refused_connections.inc(),
            Full::OfAddress(_) => counters.http_refused_address.inc(),
        }
        if let Some(left_out) = self.turned_away.admit(now) {
            let what = if of_metrics { "metrics" } else { "HTTP" };
            log::warn!("{what} connection refused: {full} peer={peer}{left_out}");
        }
        false
    }

    fn crowd(&mut self, of_metrics: bool) -> &mut Crowd {
        match of_metrics {
            true => &mut self.scrapers,
            false => &mut self.viewers,
        }
    }

    fn count_connections(&self) {
        let counters = self.io.control.counters();
        counters.http_connections.set_len(self.viewers.len());
    }

    fn take_mail(&mut self, now: Instant) {
        if !self.mail_waits {
            return;
        }
        self.io.doorbell.silence();
        for _ in 0..MESSAGES_PER_TURN {
            if self.has_much_to_do() {
                break;
            }
            match self.io.mailbox.take() {
                Some(ControlMail::Message(message)) => {
                    self.io.control.handle_message(message, now);
                }
                Some(ControlMail::Stop) => self.begin_stop(now),
                None => break,
            }
        }
        self.mail_waits = !self.io.mailbox.is_empty();
    }

    fn has_much_to_do(&self) -> bool {
        self.io.control.outputs_waiting() >= CONTROL_OUTPUTS_MAX
    }

    /// Reads and writes one connection, and gives what it says to [`Control`].
    fn turn_connection(&mut self, id: ConnId, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let control = &mut self.io.control;
        let counters = &self.io.counters;
        let expiry = self.io.tls.as_ref().and_then(TlsKeeper::expires);
        let buffer = &mut self.buffer;
        let watch = &mut self.addresses;
        let alive = connection.turn(now, buffer, |input, ends| {
            use super::http_conn::ConnInput;
            match input {
                ConnInput::Request(request) => {
                    // Somebody may join.
                    if let Some(addresses) = watch.look(now) {
                        control.set_interfaces(addresses);
                    }
                    control.handle_request(id, ends, *request, now);
                }
                ConnInput::WebSocket(message) => control.handle_websocket(id, message, now),
                ConnInput::Metrics(respond) => respond(counters.page(control.counters(), expiry)),
            }
        });
        if alive.more {
            self.active.insert(id);
        }
        if !alive.open {
            self.drop_connection(id, now);
        }
    }

    fn drop_connection(&mut self, id: ConnId, now: Instant) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        connection.deregister(self.io.poll.registry());
        self.active.remove(&id);
        let of_metrics = connection.is_of_metrics();
        self.crowd(of_metrics).leave(connection.peer().ip());
        self.count_connections();
        if !of_metrics {
            self.io.control.handle_closed(id, now);
        }
    }

    /// Does what control says until it waits. `None`: the server has drained.
    fn drain(&mut self, now: Instant) -> Option<Instant> {
        let mut ring = BTreeSet::new();
        let next = loop {
            match self.io.control.poll_output(now) {
                ControlOutput::Core { to, message } => {
                    if let Some(core) = self.io.cores.get(to.index()) {
                        if core.put(CoreMail::Message(message)).is_err() {
                            self.core_is_full(to);
                        }
                        ring.insert(to);
                    }
                }
                ControlOutput::Respond { conn, response } => {
                    self.with_connection(conn, |connection| connection.respond(response, now));
                }
                ControlOutput::Upgrade { conn, response } => {
                    self.with_connection(conn, |connection| connection.upgrade(response, now));
                }
                ControlOutput::WebSocket { conn, message } => {
                    self.with_connection(conn, |connection| connection.send(&message, now));
                }
                ControlOutput::CloseWebSocket { conn, code, reason } => {
                    self.with_connection(conn, |connection| {
                        connection.close_websocket(code, reason, now);
                    });
                }
                ControlOutput::Webhook(event) => self.post_webhook(event),
                ControlOutput::Timeout(at) => break Some(at),
                ControlOutput::Drained => break None,
            }
        };
        for core in ring {
            if let Some(core) = self.io.cores.get(core.index()) {
                core.ring();
            }
        }
        if next.is_none() {
            self.flush_connections(now);
        }
        next
    }

    fn core_is_full(&self, core: CoreId) {
        self.io.control.counters().mailbox_drops.inc();
        log::error!("a core's mailbox is full core={core}");
    }

    /// Writes what is left to say, as far as the sockets take it.
    fn flush_connections(&mut self, now: Instant) {
        let all: Vec<ConnId> = self.connections.keys().copied().collect();
        for id in all {
            self.turn_connection(id, now);
        }
    }

    fn with_connection(&mut self, id: ConnId, step: impl FnOnce(&mut HttpConn)) {
        if let Some(connection) = self.connections.get_mut(&id) {
            step(connection);
            self.active.insert(id);
        }
    }

    fn post_webhook(&mut self, event: WebhookEvent) {
        if let Some(webhooks) = &self.io.webhooks {
            post_event(webhooks, event, self.io.control.counters());
        }
    }
}

/// Whether accepting failed because of the connection, not because of us (accept(2)).
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
