//! The server's process: started or found; its CPU time and memory from /proc (proc(5)).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rtmpeer::runtime::{now, pin};

use crate::options::Options;
use crate::{Failure, http, pause};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const START_PATIENCE: Duration = Duration::from_secs(20);
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How the names of the cores' threads begin.
const CORE_THREADS: &str = "core-";
const NANOS_PER_SECOND: f64 = 1e9;
const KIBIBYTE: f64 = 1_024.0;

/// A server that is measured.
pub(crate) struct ServerProcess {
    child: Option<Child>,
    pid: u32,
    /// Where to publish.
    pub(crate) rtmp: SocketAddr,
    /// Where to join.
    pub(crate) http: SocketAddr,
    /// Its counters.
    pub(crate) metrics: Option<SocketAddr>,
}

/// What the process has used up to a moment, or between two.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    at: Option<Instant>,
    /// Wall time, in seconds.
    pub(crate) seconds: f64,
    /// CPU time by the thread's name, in seconds.
    pub(crate) threads: BTreeMap<String, f64>,
    /// Time that the cores' threads were ready to run while something else had their CPU, in seconds. On
    /// a single CPU the server's other threads wait for these, which says nothing of the machine.
    pub(crate) waited: f64,
    /// Resident memory in KiB: at the moment, or what was added.
    pub(crate) resident_kib: f64,
}

impl Usage {
    /// CPU time of all threads, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.threads.values().sum()
    }

    /// What was used from one moment to a later one.
    pub(crate) fn between(from: &Self, to: &Self) -> Self {
        let seconds = match (from.at, to.at) {
            (Some(from), Some(to)) => to.saturating_duration_since(from).as_secs_f64(),
            _ => 0.0,
        };
        let used = |(name, cpu): (&String, &f64)| {
            let before = from.threads.get(name).copied().unwrap_or(0.0);
            (name.clone(), cpu - before)
        };
        Self {
            at: to.at,
            seconds,
            threads: to.threads.iter().map(used).collect(),
            waited: to.waited - from.waited,
            resident_kib: to.resident_kib - from.resident_kib,
        }
    }
}

impl ServerProcess {
    /// Starts the server on free loopback ports, or finds the running one.
    pub(crate) fn start(options: &Options) -> Result<Self, Failure> {
        if let (Some(pid), Some(rtmp), Some(http)) = (options.pid, options.rtmp, options.http) {
            return Ok(Self {
                child: None,
                pid,
                rtmp,
                http,
                metrics: options.metrics,
            });
        }
        let cpus = std::thread::available_parallelism()?.get();
        let cores = options.cores.clamp(1, cpus);
        let [rtmp, http, metrics] = [free_tcp()?, free_tcp()?, free_tcp()?];
        let webrtc = UdpSocket::bind((LOCAL, 0))?.local_addr()?;
        let last = cores - 1;
        // taskset becomes the server: the process id stays.
        let child = Command::new("taskset")
            .args(["-c", &format!("0-{last}")])
            .arg(&options.server)
            .env("RTMPEER_CORES", cores.to_string())
            .env("RTMPEER_RTMP__LISTEN", rtmp.to_string())
            .env("RTMPEER_HTTP__LISTEN", http.to_string())
            .env("RTMPEER_WEBRTC__LISTEN", webrtc.to_string())
            .env("RTMPEER_METRICS__LISTEN", metrics.to_string())
            .env("RTMPEER_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|why| format!("cannot start taskset {}: {why}", options.server.display()))?;
        if cores < cpus && !pin(cpus - 1) {
            return Err("cannot pin the load generator beside the server".into());
        }
        let pid = child.id();
        let mut server = Self {
            child: Some(child),
            pid,
            rtmp,
            http,
            metrics: Some(metrics),
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let deadline = now() + START_PATIENCE;
        while now() < deadline {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                return Err(format!("the server ended at once: {status}").into());
            }
            if matches!(
                http::request(self.http, 0, "GET", "/v1/health", ""),
                Ok((200, _))
            ) {
                return Ok(());
            }
            pause(Duration::from_millis(20));
        }
        Err("the server does not get ready".into())
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Result<Usage, Failure> {
        let root = format!("/proc/{}", self.pid);
        let mut threads = BTreeMap::new();
        let mut waited = 0.0;
        for entry in std::fs::read_dir(format!("{root}/task"))? {
            let path = entry?.path();
            // A thread may end between the listing and here.
            let Ok(name) = std::fs::read_to_string(path.join("comm")) else {
                continue;
            };
            let Ok(spent) = std::fs::read_to_string(path.join("schedstat")) else {
                continue;
            };
            // Documentation/scheduler/sched-stats.rst: time on the CPU, time in the run queue.
            let mut nanos = spent.split_whitespace().map(str::parse::<f64>);
            let ran = nanos.next().unwrap_or(Ok(0.0))?;
            let queued = nanos.next().unwrap_or(Ok(0.0))?;
            if name.starts_with(CORE_THREADS) {
                waited += queued / NANOS_PER_SECOND;
            }
            *threads.entry(name.trim().to_owned()).or_insert(0.0) += ran / NANOS_PER_SECOND;
        }
        let status = std::fs::read_to_string(format!("{root}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap_or("0");
        Ok(Usage {
            at: Some(now()),
            seconds: 0.0,
            threads,
            waited,
            resident_kib: resident.parse()?,
        })
    }

    /// Ends the server if it was started here.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // SIGTERM, as a service manager does; without `kill` it is ended below.
        let _ = Command::new("kill").arg(child.id().to_string()).status();
        let deadline = now() + STOP_PATIENCE;
        while now() < deadline {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            pause(Duration::from_millis(20));
        }
        // It may have ended in this instant.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.stop();
    }
}

/// As many open files as the system allows: a socket for each viewer, and one while it joins. The
/// server that is started here inherits it.
pub(crate) fn allow_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // It stays as it is if it may not be raised.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

fn free_tcp() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((LOCAL, 0))?.local_addr()?)
}

/// Runnable threads of the machine, the last minute's mean.
pub(crate) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(0.0)
}

/// KiB as MiB.
pub(crate) fn mebibytes(kibibytes: f64) -> f64 {
    kibibytes / KIBIBYTE
}
