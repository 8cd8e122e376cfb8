//! Delay from the publisher's socket write to the last packet of the frame at the viewer, through
//! the whole server in this process, with one viewer. On loopback, in real time.
//!
//! Publisher and viewer are one thread that writes a frame and waits for it, so the figure holds
//! three wake-ups of sleeping threads. Run with `cargo bench --bench latency`; many viewers and
//! the kernel's time stamps are `tools/loadgen`'s.
#![allow(missing_docs, reason = "a bench has no public items to speak of")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench prints its result, and stops at the first surprise"
)]

#[path = "../tools/loadgen/frames.rs"]
#[allow(dead_code, reason = "shared with the load generator")]
mod frames;
#[path = "../tests/kit/publisher.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "shared test code, of which a part is used here"
)]
mod kit_publisher;
#[path = "../tests/kit/server.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared test code, of which a part is used here"
)]
mod kit_server;
#[path = "../tests/kit/viewer.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    reason = "shared test code, of which a part is used here"
)]
mod kit_viewer;
#[path = "../tools/loadgen/seen.rs"]
#[allow(dead_code, reason = "shared with the load generator")]
mod seen;
#[path = "../tests/kit/tls.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared test code, of which a part is used here"
)]
mod tls;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use frames::{Clip, KEYFRAME_EVERY, frame_time_ms};
use kit_publisher::TcpPublisher;
use kit_server::KitServer;
use kit_viewer::KitViewer;
use rtmpeer::runtime::now;
use seen::{Header, TrackSeen};

type Failure = Box<dyn std::error::Error>;

/// Frames measured: ten seconds.
const FRAMES: usize = 300;
/// Frames before that, while the viewer joins.
const FRAMES_BEFORE: usize = 60;
/// A frame that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() {
    let server = KitServer::start(1, &[]);
    let clip = Clip::new(2_500_000).unwrap();
    let mut publisher = TcpPublisher::publish(server.addresses.rtmp, "live", "room");
    publisher.video(0, clip.video_config.clone());
    let mut viewer = OneViewer::join(&server);
    let began = now();
    let (mut keys, mut deltas) = (Vec::new(), Vec::new());
    for number in 0..FRAMES_BEFORE + FRAMES {
        let at_ms = frame_time_ms(number);
        viewer.play_until(began + Duration::from_millis(at_ms));
        let picture = clip.pictures[number % KEYFRAME_EVERY].clone();
        let seen = viewer.track.frames.len();
        let wrote = now();
        publisher.video(u32::try_from(at_ms).unwrap(), picture);
        if number < FRAMES_BEFORE {
            continue;
        }
        viewer.play_while(wrote + PATIENCE, |track| track.frames.len() == seen);
        let delay = (now() - wrote).as_secs_f64() * 1_000.0;
        assert!(
            viewer.track.frames.len() > seen,
            "frame {number} did not arrive"
        );
        if number % KEYFRAME_EVERY == 0 {
            &mut keys
        } else {
            &mut deltas
        }
        .push(delay);
    }
    show("delta frames", &mut deltas);
    show("keyframes", &mut keys);
    assert!(server.stop(), "the server died");
}

fn show(what: &str, delays: &mut [f64]) {
    delays.sort_by(f64::total_cmp);
    let last = delays.len() - 1;
    let at = |percent: usize| delays[(last * percent).div_ceil(100)];
    println!(
        "latency/{what:<13} p50 {:.3} ms  p99 {:.3} ms  max {:.3} ms  ({} frames)",
        at(50),
        at(99),
        at(100),
        delays.len()
    );
}

struct OneViewer {
    player: KitViewer,
    socket: UdpSocket,
    track: TrackSeen,
    next: Instant,
}

impl OneViewer {
    fn join(server: &KitServer) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut player = KitViewer::new(socket.local_addr().unwrap(), now());
        let offer = player.offer();
        let sdp = [("Content-Type", "application/sdp")];
        let reply = server.http("POST", "/room/whep", &sdp, &offer);
        assert_eq!(reply.status, 201, "{}", reply.body);
        player.accept(&reply.body);
        let mut viewer = Self {
            player,
            socket,
            track: TrackSeen::default(),
            next: now(),
        };
        let deadline = now() + PATIENCE;
        while !viewer.player.connected {
            assert!(now() < deadline, "the viewer does not connect");
            viewer.step(deadline);
        }
        viewer
    }

    fn play_until(&mut self, until: Instant) {
        self.play_while(until, |_| true);
    }

    fn play_while(&mut self, until: Instant, go_on: impl Fn(&TrackSeen) -> bool) {
        while now() < until && go_on(&self.track) {
            self.step(until);
        }
    }

    fn step(&mut self, until: Instant) {
        let socket = &self.socket;
        self.next = self.player.poll(|to, datagram| {
            // What cannot be sent is lost, as on any network.
            let _ = socket.send_to(datagram, to);
        });
        let wait = self.next.min(until).saturating_duration_since(now());
        if wait.is_zero() {
            self.player.handle_timeout(now());
            return;
        }
        self.socket.set_read_timeout(Some(wait)).unwrap();
        let mut buffer = [0; 2_048];
        let Ok((count, from)) = self.socket.recv_from(&mut buffer) else {
            self.player.handle_timeout(now());
            return;
        };
        let datagram = &buffer[..count];
        if datagram[0] >> 6 != 2 {
            self.player.handle(from, datagram, now());
        } else if let Some(header) = Header::read(datagram) {
            // No sound is published, and nothing is lost on loopback: it is the picture.
            self.track.take(header, 0);
        }
    }
}
