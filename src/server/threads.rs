//! The server's threads: all are made ready before the first begins, and they end in order.

use std::io;
use std::panic::AssertUnwindSafe;
use std::thread::JoinHandle;

use super::StartError;
use crate::runtime::{ControlMail, CoreMail, Postbox, VideoMail, pin};

/// A thread that has not begun.
pub(super) struct Job {
    name: String,
    cpu: Option<usize>,
    work: Box<dyn FnOnce() + Send>,
}

/// All of them, by the order in which they end.
pub(super) struct Jobs {
    pub(super) control: Job,
    pub(super) cores: Vec<Job>,
    /// Transcoders and webhooks: they end when nobody can send them anything any more.
    pub(super) others: Vec<Job>,
}

/// The ways by which threads are told to end.
#[derive(Debug)]
pub(super) struct Stops {
    pub(super) control: Postbox<ControlMail>,
    pub(super) cores: Vec<Postbox<CoreMail>>,
    pub(super) video: Postbox<VideoMail>,
}

/// The threads that run.
#[derive(Debug)]
pub(super) struct Threads {
    stops: Stops,
    control: Option<JoinHandle<()>>,
    cores: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

/// What makes a thread of a job.
type Spawn<'a> = &'a dyn Fn(Job) -> io::Result<JoinHandle<()>>;

impl Job {
    /// A thread to be, on `cpu` alone if one is given.
    pub(super) fn new(
        name: impl Into<String>,
        cpu: Option<usize>,
        work: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            cpu,
            work: Box::new(work),
        }
    }

    fn run(self) {
        if let Some(cpu) = self.cpu
            && !pin(cpu)
        {
            log::warn!("cannot pin this thread, it runs on any CPU cpu={cpu}");
        }
        // Sessions run under a guard of their own. A panic that comes to here has taken a whole
        // thread's work with it: the service manager starts a whole server again.
        if std::panic::catch_unwind(AssertUnwindSafe(self.work)).is_err() {
            log::error!("a bug ended a thread of the server, please report it");
            std::process::abort();
        }
    }
}

impl Threads {
    /// Begins all of them.
    ///
    /// # Errors
    /// When the system gives no thread. Those that had begun have ended then.
    pub(super) fn start(jobs: Jobs, stops: Stops) -> Result<Self, StartError> {
        Self::start_by(jobs, stops, &|job| {
            let name = job.name.clone();
            std::thread::Builder::new()
                .name(name)
                .spawn(move || job.run())
        })
    }

    fn start_by(jobs: Jobs, stops: Stops, spawn: Spawn<'_>) -> Result<Self, StartError> {
        let mut threads = Self {
            stops,
            control: None,
            cores: Vec::new(),
            others: Vec::new(),
        };
        match threads.begin(jobs, spawn) {
            Ok(()) => Ok(threads),
            Err(error) => {
                threads.wait();
                Err(error)
            }
        }
    }

    /// Begins them from the last to end to the first; those that do not begin are dropped.
    fn begin(&mut self, jobs: Jobs, spawn: Spawn<'_>) -> Result<(), StartError> {
        let spawn = |job: Job| {
            let what = format!("cannot start thread {}", job.name);
            spawn(job).map_err(|source| StartError::Environment { what, source })
        };
        for job in jobs.others {
            self.others.push(spawn(job)?);
        }
        for job in jobs.cores {
            self.cores.push(spawn(job)?);
        }
        self.control = Some(spawn(jobs.control)?);
        Ok(())
    }

    /// Asks control to drain and end; [`Self::wait`] waits for that.
    pub(super) fn stop(&self) {
        if self.stops.control.post(ControlMail::Stop).is_err() {
            log::error!("control's mailbox is full: cannot stop");
        }
    }

    /// Waits until control has drained, then ends the others. `false`: one died of a bug.
    pub(super) fn wait(self) -> bool {
        let ended = |thread: JoinHandle<()>| thread.join().is_ok();
        let mut sound = self.control.is_none_or(ended);
        for core in &self.stops.cores {
            // A loop that ended already needs no telling.
            let _ = core.post(CoreMail::Stop);
        }
        drop(self.stops.cores);
        for thread in self.cores {
            sound &= ended(thread);
        }
        // After the cores, whose last messages close their streams; its box has room then.
        let _ = self.stops.video.post(VideoMail::Stop);
        for thread in self.others {
            sound &= ended(thread);
        }
        sound
    }
}

#[cfg(test)]
mod tests {
    use super::super::prepare;
    use super::*;
    use crate::config::Config;

    fn config() -> Config {
        let any_port = ["RTMP", "HTTP", "WEBRTC", "METRICS"]
            .map(|section| (format!("RTMPEER_{section}__LISTEN"), "127.0.0.1:0".into()));
        let cores = ("RTMPEER_CORES".to_owned(), "2".to_owned());
        Config::load(None, any_port.into_iter().chain([cores])).unwrap()
    }

    /// Starts a server whose thread `missing` the system refuses; says which ones had begun.
    fn start_without(missing: &str) -> Vec<String> {
        let prepared = prepare(&config(), false).unwrap();
        let begun = std::cell::RefCell::new(Vec::new());
        let error = Threads::start_by(prepared.jobs, prepared.stops, &|job| {
            if job.name == missing {
                return Err(io::Error::from(io::ErrorKind::WouldBlock));
            }
            begun.borrow_mut().push(job.name.clone());
            std::thread::Builder::new().spawn(move || job.run())
        })
        .unwrap_err();
        assert!(error.to_string().contains(missing), "{error}");
        // Whoever ran has let go of the ports.
        let at = prepared.facts.addresses;
        for address in [at.rtmp, at.http, at.metrics] {
            std::net::TcpListener::bind(address).unwrap();
        }
        std::net::UdpSocket::bind(at.webrtc).unwrap();
        begun.into_inner()
    }

    /// Threads are joined when the start fails, whichever one is refused: this would hang if one
    /// of them did not end.
    #[test]
    fn a_failed_start_leaves_nothing_running() {
        assert!(start_without("transcode-0").is_empty());
        assert!(start_without("core-0").contains(&"video".into()));
        assert!(start_without("core-1").contains(&"core-0".into()));
        assert!(start_without("control").contains(&"core-1".into()));
    }
}
