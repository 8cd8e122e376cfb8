//! The composition root: binds the sockets, makes the channels, starts the threads, and ends them
//! in order.

mod video;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;

use mio::Poll;
use mio::net::TcpListener;

use crate::config::Config;
use crate::control::{CandidatePolicy, Control, ControlConfig};
use crate::engine::{Certificate, Engine, EngineConfig};
use crate::ids::{CoreId, IdSource};
use crate::limits::{
    CONTROL_MAILBOX_MESSAGES, CORE_MAILBOX_MESSAGES, MEDIA_MAILBOX_FRAMES, TRANSCODE_INBOX_UNITS,
    WEBHOOK_OUTBOX_EVENTS_MAX,
};
use crate::messages::{MediaMsg, TranscodeMsg};
use crate::metrics::{CoreCounters, TranscodeCounters, WebhookCounters};
use crate::runtime::{
    AllCounters, Clock, ControlLoop, ControlLoopConfig, ControlMail, CoreLoop, CoreLoopConfig,
    CoreMail, DOORBELL, Doorbell, Heartbeat, Listeners, Mailbox, Placement, Postbox, TlsFiles,
    TlsKeeper, TranscodeLoop, UdpSocket, VideoMail, Watchdog, WebhookLoop, bind_udp_group,
    choose_cpus, interface_addresses, mailbox, now, pin,
};
use crate::transcode::AudioSettings;
use crate::webrtc::ViewerError;

/// Why the server did not start.
#[derive(Debug)]
pub enum StartError {
    /// A configuration value cannot be used on this machine; the operator must change it.
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong and what to do.
        text: String,
    },
    /// The environment refused something.
    Environment {
        /// What was tried, naming the key it belongs to.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The cryptography library does not work.
    Crypto(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { key, text } => write!(f, "{key}: {text}"),
            Self::Environment { what, source } => write!(f, "{what}: {source}"),
            Self::Crypto(text) => write!(f, "cryptography does not work here: {text}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Where a running server can be reached.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Publishers.
    pub rtmp: SocketAddr,
    /// Publishers that speak TLS, if there is a certificate.
    pub rtmps: Option<SocketAddr>,
    /// Page, WHEP, WebSocket.
    pub http: SocketAddr,
    /// Whether they speak TLS.
    pub https: bool,
    /// Media.
    pub webrtc: SocketAddr,
    /// Metrics.
    pub metrics: SocketAddr,
}

/// A running server. Dropping it does not stop it; [`Server::stop`] does.
#[derive(Debug)]
pub struct Server {
    addresses: Addresses,
    cores: usize,
    segments_max: usize,
    receive_buffer_bytes: usize,
    control: Postbox<ControlMail>,
    core_boxes: Vec<Postbox<CoreMail>>,
    video: Postbox<VideoMail>,
    control_thread: JoinHandle<()>,
    core_threads: Vec<JoinHandle<()>>,
    other_threads: Vec<JoinHandle<()>>,
}

/// A core's parts that exist before its loop does.
struct CoreParts {
    poll: Poll,
    doorbell: Doorbell,
    mailbox: Mailbox<CoreMail>,
    media: Mailbox<MediaMsg>,
    counters: Arc<CoreCounters>,
    heartbeat: Heartbeat,
}

/// Control's parts that exist before its loop does.
struct ControlEnds {
    poll: Poll,
    doorbell: Doorbell,
    mailbox: Mailbox<ControlMail>,
}

/// What every core's loop gets a copy of.
struct Wiring {
    clock: Clock,
    boxes: CoreBoxes,
    control: Postbox<ControlMail>,
    transcoders: Vec<Postbox<TranscodeMsg>>,
    video: Postbox<VideoMail>,
    video_mode: crate::transcode::video::VideoMode,
    notices: bool,
}

/// The ways to all cores.
struct CoreBoxes {
    mail: Vec<Postbox<CoreMail>>,
    media: Vec<Postbox<MediaMsg>>,
}

impl Server {
    /// Starts a server. With `handle_signals`, SIGTERM and SIGINT stop it.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running then.
    pub fn start(config: &Config, handle_signals: bool) -> Result<Self, StartError> {
        // The crypto library of DTLS for TLS as well. An earlier server in this process may have
        // installed it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let placement =
            choose_cpus(&config.cores).map_err(|text| StartError::Config { key: "cores", text })?;
        let core_count = placement.cores.len();
        let clock = Clock::start();
        let tls = read_certificate(config, &clock)?;
        let (listeners, sockets) = bind_all(config, core_count)?;
        let addresses = addresses(config, &listeners, &sockets)?;
        let receive_buffer_bytes = sockets.first().map_or(0, UdpSocket::receive_buffer_bytes);
        let segments_max = sockets.first().map_or(1, UdpSocket::segments_max);

        let (parts, boxes) = core_parts(core_count)?;
        let (control_ends, control_box) = ControlEnds::new()?;
        let (transcoders, workers, mut other_threads) = start_transcoders(config, &boxes.mail)?;
        let (video, video_counters) =
            video::start(config, &placement, &boxes.mail, &mut other_threads)?;
        let webhook = Arc::<WebhookCounters>::default();
        let webhooks = start_webhooks(config, &clock, &webhook, &mut other_threads)?;
        let cores = parts.iter().map(|part| Arc::clone(&part.counters));
        let counters = AllCounters {
            cores: cores.collect(),
            workers,
            video: video_counters,
            webhook,
        };
        let heartbeats = parts.iter().map(|part| part.heartbeat.clone()).collect();
        let wiring = Wiring {
            clock,
            boxes,
            control: control_box,
            transcoders,
            video,
            video_mode: video::mode(&config.video),
            notices: config.rtmp.notices,
        };
        let core_threads = start_cores(&wiring, &placement, parts, sockets)?;
        let control = control_config(config, &addresses, core_count);
        let ids = IdSource::operating_system();
        let control = Control::new(control, clock.timebase(), ids, now());
        let control_heartbeat = Heartbeat::new(now());
        let control_loop = ControlLoop::new(ControlLoopConfig {
            control,
            listeners,
            poll: control_ends.poll,
            doorbell: control_ends.doorbell,
            mailbox: control_ends.mailbox,
            cores: wiring.boxes.mail.clone(),
            webhooks,
            counters,
            heartbeat: control_heartbeat.clone(),
            watchdog: Watchdog::new(heartbeats, control_heartbeat, now()),
            tls,
            https: config.http.tls,
            handle_signals,
        })
        .map_err(environment("listen"))?;
        let control_thread = spawn("control".into(), placement.control, move || {
            control_loop.run()
        })?;
        Ok(Self {
            addresses,
            cores: core_count,
            segments_max,
            receive_buffer_bytes,
            control: wiring.control,
            core_boxes: wiring.boxes.mail,
            video: wiring.video,
            control_thread,
            core_threads,
            other_threads,
        })
    }

    /// Where it can be reached.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// How many core loops it runs.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Segments the kernel takes in one GSO train; 1 without GSO.
    #[must_use]
    pub fn segments_max(&self) -> usize {
        self.segments_max
    }

    /// Bytes the kernel gave a core's socket for receiving.
    #[must_use]
    pub fn receive_buffer_bytes(&self) -> usize {
        self.receive_buffer_bytes
    }

    /// Asks it to drain and end; [`Server::wait`] waits for that.
    pub fn stop(&self) {
        if self.control.post(ControlMail::Stop).is_err() {
            log::error!("control's mailbox is full: cannot stop");
        }
    }

    /// Waits until it was stopped and has drained. `false`: a thread died of a bug.
    pub fn wait(self) -> bool {
        let mut sound = self.control_thread.join().is_ok();
        for core in &self.core_boxes {
            // A loop that ended already needs no telling.
            let _ = core.post(CoreMail::Stop);
        }
        drop(self.core_boxes);
        for thread in self.core_threads {
            sound &= thread.join().is_ok();
        }
        // After the cores, whose last messages close their streams; its box has room then.
        let _ = self.video.post(VideoMail::Stop);
        for thread in self.other_threads {
            sound &= thread.join().is_ok();
        }
        sound
    }
}

fn environment(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::Environment {
        what: what.to_owned(),
        source,
    }
}

/// Says which key an address belongs to, and what to do when it is taken.
fn bind_error(key: &'static str, address: SocketAddr, source: io::Error) -> StartError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the system's errors, not ours"
    )]
    let advice = match source.kind() {
        io::ErrorKind::AddrInUse => "another program has this port: stop it, or set another port",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: set a higher port"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: set one it has",
        _ => "set an address this machine can listen on",
    };
    StartError::Environment {
        what: format!("{key}: cannot listen on {address} ({advice})"),
        source,
    }
}

fn bind_all(config: &Config, cores: usize) -> Result<(Listeners, Vec<UdpSocket>), StartError> {
    let listen = |key: &'static str, address: SocketAddr| {
        TcpListener::bind(address).map_err(|error| bind_error(key, address, error))
    };
    let rtmps = config.rtmps.listen.filter(|_| config.tls.key.is_some());
    let listeners = Listeners {
        rtmp: listen("rtmp.listen", config.rtmp.listen)?,
        rtmps: rtmps
            .map(|address| listen("rtmps.listen", address))
            .transpose()?,
        http: listen("http.listen", config.http.listen)?,
        metrics: listen("metrics.listen", config.metrics.listen)?,
    };
    let address = config.webrtc.listen;
    // Cores share the port by SO_REUSEPORT, so would a second server of the same user: a plain
    // bind first shows whether somebody has it.
    std::net::UdpSocket::bind(address)
        .map_err(|error| bind_error("webrtc.listen", address, error))?;
    let sockets = bind_udp_group(address, cores)
        .map_err(|error| bind_error("webrtc.listen", address, error))?;
    Ok((listeners, sockets))
}

/// The certificate that TLS is spoken with, if one is configured.
fn read_certificate(config: &Config, clock: &Clock) -> Result<Option<TlsKeeper>, StartError> {
    let (Some(certificate), Some(key)) = (&config.tls.certificate, &config.tls.key) else {
        return Ok(None);
    };
    let files = TlsFiles {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    let keeper = TlsKeeper::load(files, clock.timebase(), now());
    keeper.map(Some).map_err(|error| StartError::Config {
        key: error.key,
        text: error.text,
    })
}

fn addresses(
    config: &Config,
    listeners: &Listeners,
    sockets: &[UdpSocket],
) -> Result<Addresses, StartError> {
    let local = |listener: &TcpListener| listener.local_addr().map_err(environment("listen"));
    let webrtc = sockets
        .first()
        .map(UdpSocket::local_address)
        .ok_or_else(|| StartError::Config {
            key: "cores",
            text: "at least one core is needed".into(),
        })?;
    Ok(Addresses {
        rtmp: local(&listeners.rtmp)?,
        rtmps: listeners.rtmps.as_ref().map(local).transpose()?,
        http: local(&listeners.http)?,
        https: config.http.tls,
        metrics: local(&listeners.metrics)?,
        webrtc,
    })
}

fn core_parts(count: usize) -> Result<(Vec<CoreParts>, CoreBoxes), StartError> {
    let mut parts = Vec::with_capacity(count);
    let mut boxes = CoreBoxes {
        mail: Vec::new(),
        media: Vec::new(),
    };
    for _ in 0..count {
        let poll = Poll::new().map_err(environment("poll"))?;
        let doorbell = Doorbell::new(poll.registry(), DOORBELL).map_err(environment("waker"))?;
        let (mail_box, mail) = mailbox(CORE_MAILBOX_MESSAGES, Some(doorbell.clone()));
        let (media_box, media) = mailbox(MEDIA_MAILBOX_FRAMES, Some(doorbell.clone()));
        boxes.mail.push(mail_box);
        boxes.media.push(media_box);
        parts.push(CoreParts {
            poll,
            doorbell,
            mailbox: mail,
            media,
            counters: Arc::default(),
            heartbeat: Heartbeat::new(now()),
        });
    }
    Ok((parts, boxes))
}

impl ControlEnds {
    fn new() -> Result<(Self, Postbox<ControlMail>), StartError> {
        let poll = Poll::new().map_err(environment("poll"))?;
        let doorbell = Doorbell::new(poll.registry(), DOORBELL).map_err(environment("waker"))?;
        let (postbox, mailbox) = mailbox(CONTROL_MAILBOX_MESSAGES, Some(doorbell.clone()));
        Ok((
            Self {
                poll,
                doorbell,
                mailbox,
            },
            postbox,
        ))
    }
}

fn start_cores(
    wiring: &Wiring,
    placement: &Placement,
    parts: Vec<CoreParts>,
    sockets: Vec<UdpSocket>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let crypto = |error: ViewerError| StartError::Crypto(error.to_string());
    let certificate = Certificate::generate().map_err(crypto)?;
    let cores = u16::try_from(parts.len()).unwrap_or(u16::MAX);
    let mut threads = Vec::with_capacity(parts.len());
    for (index, (part, socket)) in parts.into_iter().zip(sockets).enumerate() {
        let core = CoreId(u16::try_from(index).unwrap_or(u16::MAX));
        let mut engine = Engine::new(EngineConfig {
            core,
            cores,
            timebase: wiring.clock.timebase(),
            certificate: certificate.clone(),
            ids: IdSource::operating_system(),
            counters: Arc::clone(&part.counters),
        })
        .map_err(crypto)?;
        engine.set_video_mode(wiring.video_mode);
        engine.set_notices(wiring.notices);
        let core_loop = CoreLoop::new(CoreLoopConfig {
            core,
            engine,
            socket,
            poll: part.poll,
            doorbell: part.doorbell,
            mailbox: part.mailbox,
            media: part.media,
            control: wiring.control.clone(),
            cores: wiring.boxes.mail.clone(),
            media_to: wiring.boxes.media.clone(),
            transcoders: wiring.transcoders.clone(),
            video: wiring.video.clone(),
            counters: part.counters,
            heartbeat: part.heartbeat,
        })
        .map_err(environment("webrtc.listen"))?;
        let cpu = placement.cores.get(index).copied().flatten();
        threads.push(spawn(format!("core-{index}"), cpu, move || {
            core_loop.run()
        })?);
    }
    Ok(threads)
}

type Transcoders = (
    Vec<Postbox<TranscodeMsg>>,
    Vec<Arc<TranscodeCounters>>,
    Vec<JoinHandle<()>>,
);

fn start_transcoders(
    config: &Config,
    cores: &[Postbox<CoreMail>],
) -> Result<Transcoders, StartError> {
    let settings = AudioSettings {
        bitrate: config.audio.bitrate,
        ..AudioSettings::default()
    };
    let (mut boxes, mut counters, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..config.transcode.workers {
        let (postbox, inbox) = mailbox(TRANSCODE_INBOX_UNITS, None);
        let counted = Arc::<TranscodeCounters>::default();
        let worker = TranscodeLoop::new(
            inbox,
            cores.to_vec(),
            settings,
            config.video.ffmpeg.clone(),
            Arc::clone(&counted),
        );
        counters.push(counted);
        boxes.push(postbox);
        threads.push(spawn(format!("transcode-{index}"), None, move || {
            worker.run()
        })?);
    }
    Ok((boxes, counters, threads))
}

fn start_webhooks(
    config: &Config,
    clock: &Clock,
    counters: &Arc<WebhookCounters>,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<Option<Postbox<crate::webhook::WebhookEvent>>, StartError> {
    let Some(url) = config.webhook.url.clone() else {
        return Ok(None);
    };
    let (postbox, inbox) = mailbox(WEBHOOK_OUTBOX_EVENTS_MAX, None);
    let webhooks = WebhookLoop::new(url, inbox, clock.timebase(), Arc::clone(counters));
    threads.push(spawn("webhook".into(), None, move || webhooks.run())?);
    Ok(Some(postbox))
}

fn control_config(config: &Config, addresses: &Addresses, cores: usize) -> ControlConfig {
    let listens_on = addresses.webrtc.ip();
    let interfaces = if listens_on.is_unspecified() {
        interface_addresses()
    } else {
        vec![listens_on]
    };
    let interfaces = interfaces
        .into_iter()
        .filter(|ip| listens_on.is_ipv6() || ip.is_ipv4())
        .collect();
    ControlConfig {
        cores: u16::try_from(cores).unwrap_or(u16::MAX),
        when_offline: config.whep.when_offline,
        allowed_origins: config.http.allowed_origins.clone(),
        ice_servers: config.webrtc.ice_servers.clone(),
        candidates: CandidatePolicy {
            public: config.webrtc.public_ips.clone(),
            interfaces,
            port: addresses.webrtc.port(),
        },
        rtmp_port: addresses.rtmp.port(),
        rtmps_port: addresses.rtmps.map(|address| address.port()),
    }
}

fn spawn(
    name: String,
    cpu: Option<usize>,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let what = format!("cannot start thread {name}");
    std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            if let Some(cpu) = cpu
                && !pin(cpu)
            {
                log::warn!("cannot pin this thread, it runs on any CPU cpu={cpu}");
            }
            // Sessions run under a guard of their own. A panic that comes to here has taken a
            // whole thread's work with it: the service manager starts a whole server again.
            if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
                log::error!("a bug ended a thread of the server, please report it");
                std::process::abort();
            }
        })
        .map_err(|source| StartError::Environment { what, source })
}
