//! One whole join of a stock str0m client under a virtual clock: offer, ICE, DTLS. No socket.
//!
//! Shared by `benches/join.rs`, which takes the time, and `tools/callgrind`, which counts
//! instructions: each brings a [`Meter`] for the server's part.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtmpeer::ids::{CoreId, IdSource, ViewerId};
use rtmpeer::media::time::Timebase;
use rtmpeer::webrtc::batch::SendBatch;
use rtmpeer::webrtc::{Certificate, Viewer, ViewerFactory, ViewerOutput};

use crate::kit_viewer::KitViewer;

/// Constrained Baseline 3.1.
pub(crate) const PROFILE: Option<[u8; 3]> = Some([0x42, 0xc0, 0x1f]);
/// Chrome's offer to receive picture and sound.
pub(crate) const CHROME: &str = include_str!("../../tools/fuzz/corpus/sdp_offer/chrome");
/// Virtual time in which a join on a perfect network must be over.
const PATIENCE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(1);

/// Measures the server's part of the work.
pub(crate) trait Meter {
    /// Does the work, measured.
    fn run<R>(&mut self, work: impl FnOnce() -> R) -> R;
}

/// Where the server is.
pub(crate) fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 8_189))
}

fn player_address() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], 40_000))
}

/// A core's factory of viewers.
pub(crate) fn factory(start: Instant) -> ViewerFactory {
    let timebase = Timebase::new(start, Duration::from_secs(1_700_000_000));
    let certificate = Certificate::generate().unwrap();
    ViewerFactory::new(CoreId(0), certificate, timebase, IdSource::seeded(1)).unwrap()
}

/// Joins; the meter sees the server's part.
pub(crate) fn join(factory: &mut ViewerFactory, start: Instant, meter: &mut impl Meter) {
    let address = player_address();
    let mut now = start;
    let mut player = KitViewer::new(address, now);
    let offer = player.offer();
    let made = meter.run(|| factory.answer(ViewerId(1), &offer, &[server()], PROFILE, now));
    let (mut viewer, answer) = made.unwrap();
    player.accept(&answer);
    let mut batch = SendBatch::default();
    let mut known = false;
    while !(viewer.ready() && player.connected) {
        assert!(now < start + PATIENCE, "the join does not come to an end");
        let mut outgoing = Vec::new();
        player.poll(|to, datagram| outgoing.push((to, datagram.to_vec())));
        for (to, datagram) in &outgoing {
            meter.run(|| {
                known = known || viewer.verify_stun(address, *to, datagram, now);
                if known {
                    viewer.handle_datagram(address, *to, datagram, now);
                }
                drain(&mut viewer, now, &mut batch);
            });
        }
        let quiet = outgoing.is_empty() && batch.is_empty();
        for (train, bytes) in batch.trains() {
            for datagram in bytes.chunks(train.segment_bytes) {
                player.handle(server(), datagram, now);
            }
        }
        batch.clear();
        if quiet {
            now += TICK;
            player.handle_timeout(now);
            meter.run(|| {
                viewer.handle_timeout(now);
                drain(&mut viewer, now, &mut batch);
            });
        }
    }
}

fn drain(viewer: &mut Viewer, now: Instant, batch: &mut SendBatch) {
    while let ViewerOutput::Event(_) = viewer.poll_output(now, batch) {}
}
