//! A publisher that plays a clip of `tests/data` in real time, again and again, on a thread of its
//! own, until it is dropped.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rtmpeer::media::flv::file::{Tag, TagKind, tags};
use rtmpeer::runtime::now;

use super::publisher::{Progress, TcpPublisher};
use super::tls::KitTls;

/// The tags of a clip.
pub fn clip(name: &str) -> Vec<Tag> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    let bytes = std::fs::read(&path).unwrap();
    tags(Bytes::from(bytes)).unwrap().collect()
}

/// A live publish.
pub struct LiveClip {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LiveClip {
    /// Publishes the baseline clip; the server must accept.
    pub fn publish(server: SocketAddr, room: &str) -> Self {
        Self::publish_clip(server, room, "baseline.flv")
    }

    /// Publishes a clip of `tests/data`; the server must accept.
    pub fn publish_clip(server: SocketAddr, room: &str, name: &str) -> Self {
        Self::play(TcpPublisher::publish(server, "live", room), name)
    }

    /// Publishes the baseline clip by RTMPS; the server must accept.
    pub fn publish_tls(server: SocketAddr, tls: &KitTls, room: &str) -> Self {
        let publisher = TcpPublisher::publish_tls(server, tls, "live", room);
        Self::play(publisher, "baseline.flv")
    }

    /// Plays a clip by a publisher that was accepted.
    pub fn play(mut publisher: TcpPublisher, name: &str) -> Self {
        assert_eq!(*publisher.rtmp.progress(), Progress::Publishing);
        let tags = clip(name);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let began = now();
            let round = tags.iter().map(|tag| tag.timestamp_ms).max().unwrap_or(0) + 33;
            for turn in 0_u32.. {
                for tag in &tags {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let timestamp = turn * round + tag.timestamp_ms;
                    let due = began + Duration::from_millis(u64::from(timestamp));
                    while now() < due {
                        std::thread::park_timeout(due.saturating_duration_since(now()));
                        if stopped.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                    match tag.kind {
                        TagKind::Video => publisher.video(timestamp, tag.payload.clone()),
                        TagKind::Audio => publisher.audio(timestamp, tag.payload.clone()),
                        TagKind::Script | TagKind::Other(_) => {}
                    }
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for LiveClip {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().unwrap();
        }
    }
}
