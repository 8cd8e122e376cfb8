//! The composition root: binds the sockets, makes the channels, starts the threads, and ends them
//! in order.

mod threads;
mod video;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::Poll;
use mio::net::TcpListener;

use self::threads::{Job, Jobs, Stops, Threads};
use crate::config::Config;
use crate::control::{CandidatePolicy, Control, ControlConfig};
use crate::engine::{Certificate, Engine, EngineConfig};
use crate::ids::{CoreId, IdSource};
use crate::limits::{
    CONTROL_MAILBOX_MESSAGES, CORE_MAILBOX_MESSAGES, MEDIA_MAILBOX_FRAMES, TRANSCODE_INBOX_UNITS,
    WEBHOOK_MAILBOX_EVENTS,
};
use crate::messages::{MediaMsg, TranscodeMsg};
use crate::metrics::{CoreCounters, TranscodeCounters, WebhookCounters};
use crate::runtime::{
    AllCounters, Clock, ControlLoop, ControlLoopConfig, ControlMail, CoreLoop, CoreLoopConfig,
    CoreMail, DOORBELL, Doorbell, Heartbeat, Listeners, Mailbox, Placement, Postbox, TlsFiles,
    TlsKeeper, TranscodeLoop, UdpSocket, VideoMail, Watchdog, WebhookLoop, bind_udp_group,
    choose_cpus, listen_on, mailbox, now, raise_open_files, reachable_addresses,
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
    facts: Facts,
    threads: Threads,
}

/// What is known of a server once its sockets are bound.
#[derive(Debug)]
struct Facts {
    addresses: Addresses,
    cores: usize,
    segments_max: usize,
    receive_buffer_bytes: usize,
}

/// A server of which nothing runs yet.
struct Prepared {
    facts: Facts,
    jobs: Jobs,
    stops: Stops,
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
        raise_open_files();
        let Prepared { facts, jobs, stops } = prepare(config, handle_signals)?;
        let threads = Threads::start(jobs, stops)?;
        Ok(Self { facts, threads })
    }

    /// Where it can be reached.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.facts.addresses
    }

    /// How many core loops it runs.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.facts.cores
    }

    /// Segments the kernel takes in one GSO train; 1 without GSO.
    #[must_use]
    pub fn segments_max(&self) -> usize {
        self.facts.segments_max
    }

    /// Bytes the kernel gave a core's socket for receiving.
    #[must_use]
    pub fn receive_buffer_bytes(&self) -> usize {
        self.facts.receive_buffer_bytes
    }

    /// Asks it to drain and end; [`Server::wait`] waits for that.
    pub fn stop(&self) {
        self.threads.stop();
    }

    /// Waits until it was stopped and has drained. `false`: a thread died of a bug.
    pub fn wait(self) -> bool {
        self.threads.wait()
    }
}

/// Does everything that can fail for a reason of the operator's: nothing runs yet.
fn prepare(config: &Config, handle_signals: bool) -> Result<Prepared, StartError> {
    let placement =
        choose_cpus(&config.cores).map_err(|text| StartError::Config { key: "cores", text })?;
    let core_count = placement.cores.len();
    let clock = Clock::start();
    let tls = read_certificate(config, &clock)?;
    let (listeners, sockets) = bind_all(config, core_count)?;
    let facts = facts(config, &listeners, &sockets, core_count)?;

    let (parts, boxes) = core_parts(core_count)?;
    let (control_ends, control_box) = ControlEnds::new()?;
    let (transcoders, workers, mut others) = transcoders(config, &boxes.mail);
    let (video, video_counters, video_job) = video::prepare(config, &placement, &boxes.mail)?;
    others.push(video_job);
    let webhook = Arc::<WebhookCounters>::default();
    let (webhooks, webhook_job) = webhooks(config, &webhook).unzip();
    others.extend(webhook_job);
    let counters = AllCounters {
        cores: parts.iter().map(|part| part.counters.clone()).collect(),
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
    let cores = cores(&wiring, &placement, parts, sockets)?;
    let control = control_config(config, &facts.addresses, core_count);
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
        webrtc: facts.addresses.webrtc.ip(),
        handle_signals,
    })
    .map_err(environment("listen"))?;
    let control = Job::new("control", placement.control, move || control_loop.run());
    Ok(Prepared {
        facts,
        jobs: Jobs {
            control,
            cores,
            others,
        },
        stops: Stops {
            control: wiring.control,
            cores: wiring.boxes.mail,
            video: wiring.video,
        },
    })
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
        listen_on(address).map_err(|error| bind_error(key, address, error))
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

fn facts(
    config: &Config,
    listeners: &Listeners,
    sockets: &[UdpSocket],
    cores: usize,
) -> Result<Facts, StartError> {
    let local = |listener: &TcpListener| listener.local_addr().map_err(environment("listen"));
    let socket = sockets.first().ok_or_else(|| StartError::Config {
        key: "cores",
        text: "at least one core is needed".into(),
    })?;
    Ok(Facts {
        addresses: Addresses {
            rtmp: local(&listeners.rtmp)?,
            rtmps: listeners.rtmps.as_ref().map(local).transpose()?,
            http: local(&listeners.http)?,
            https: config.http.tls,
            metrics: local(&listeners.metrics)?,
            webrtc: socket.local_address(),
        },
        cores,
        segments_max: socket.segments_max(),
        receive_buffer_bytes: socket.receive_buffer_bytes(),
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

fn cores(
    wiring: &Wiring,
    placement: &Placement,
    parts: Vec<CoreParts>,
    sockets: Vec<UdpSocket>,
) -> Result<Vec<Job>, StartError> {
    let crypto = |error: ViewerError| StartError::Crypto(error.to_string());
    let certificate = Certificate::generate().map_err(crypto)?;
    let cores = u16::try_from(parts.len()).unwrap_or(u16::MAX);
    let mut jobs = Vec::with_capacity(parts.len());
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
        let name = format!("core-{index}");
        jobs.push(Job::new(name, cpu, move || core_loop.run()));
    }
    Ok(jobs)
}

type Transcoders = (
    Vec<Postbox<TranscodeMsg>>,
    Vec<Arc<TranscodeCounters>>,
    Vec<Job>,
);

fn transcoders(config: &Config, cores: &[Postbox<CoreMail>]) -> Transcoders {
    let settings = AudioSettings {
        bitrate: config.audio.bitrate,
        ..AudioSettings::default()
    };
    let (mut boxes, mut counters, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
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
        let name = format!("transcode-{index}");
        jobs.push(Job::new(name, None, move || worker.run()));
    }
    (boxes, counters, jobs)
}

fn webhooks(
    config: &Config,
    counters: &Arc<WebhookCounters>,
) -> Option<(Postbox<crate::webhook::WebhookEvent>, Job)> {
    let url = config.webhook.url.clone()?;
    let (postbox, inbox) = mailbox(WEBHOOK_MAILBOX_EVENTS, None);
    let webhooks = WebhookLoop::new(url, inbox, Arc::clone(counters));
    Some((postbox, Job::new("webhook", None, move || webhooks.run())))
}

fn control_config(config: &Config, addresses: &Addresses, cores: usize) -> ControlConfig {
    ControlConfig {
        cores: u16::try_from(cores).unwrap_or(u16::MAX),
        when_offline: config.whep.when_offline,
        allowed_origins: config.http.allowed_origins.clone(),
        ice_servers: config.webrtc.ice_servers.clone(),
        candidates: CandidatePolicy {
            public: config.webrtc.public_ips.clone(),
            interfaces: reachable_addresses(addresses.webrtc.ip()),
            listens_on: addresses.webrtc.ip(),
            port: addresses.webrtc.port(),
        },
        rtmp_port: addresses.rtmp.port(),
        rtmps_port: addresses.rtmps.map(|address| address.port()),
    }
}
