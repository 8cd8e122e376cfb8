//! What a viewer's join costs the server: its offer answered, ICE and DTLS to the end. No socket.
//!
//! The player is a stock str0m client in the same thread under a virtual clock; only the calls
//! into the server's part are timed. Run with `cargo bench --bench join`.
#![allow(missing_docs, reason = "criterion's macros make a public function")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench measures time, and stops at the first surprise"
)]

#[path = "../tests/kit/viewer.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "shared test code, of which a part is used here"
)]
mod kit_viewer;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use kit_viewer::KitViewer;
use rtmpeer::ids::{CoreId, IdSource, ViewerId};
use rtmpeer::media::time::Timebase;
use rtmpeer::webrtc::batch::SendBatch;
use rtmpeer::webrtc::{Certificate, Viewer, ViewerFactory, ViewerOutput};

/// Constrained Baseline 3.1.
const PROFILE: Option<[u8; 3]> = Some([0x42, 0xc0, 0x1f]);
/// Virtual time in which a join on a perfect network must be over.
const PATIENCE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(1);

/// Adds up the time spent in the server's part.
#[derive(Default)]
struct Stopwatch(Duration);

impl Stopwatch {
    fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let began = Instant::now();
        let result = work();
        self.0 += began.elapsed();
        result
    }
}

/// One whole join; gives the server's time.
fn join(factory: &mut ViewerFactory, start: Instant) -> Duration {
    let server = SocketAddr::from(([192, 0, 2, 1], 8_189));
    let address = SocketAddr::from(([198, 51, 100, 7], 40_000));
    let mut watch = Stopwatch::default();
    let mut now = start;
    let mut player = KitViewer::new(address, now);
    let offer = player.offer();
    let made = watch.time(|| factory.answer(ViewerId(1), &offer, &[server], PROFILE, now));
    let (mut viewer, answer) = made.unwrap();
    player.accept(&answer);
    let mut batch = SendBatch::default();
    let mut known = false;
    while !(viewer.ready() && player.connected) {
        assert!(now < start + PATIENCE, "the join does not come to an end");
        let mut outgoing = Vec::new();
        player.poll(|to, datagram| outgoing.push((to, datagram.to_vec())));
        for (to, datagram) in &outgoing {
            watch.time(|| {
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
                player.handle(server, datagram, now);
            }
        }
        batch.clear();
        if quiet {
            now += TICK;
            player.handle_timeout(now);
            watch.time(|| {
                viewer.handle_timeout(now);
                drain(&mut viewer, now, &mut batch);
            });
        }
    }
    watch.0
}

fn drain(viewer: &mut Viewer, now: Instant, batch: &mut SendBatch) {
    while let ViewerOutput::Event(_) = viewer.poll_output(now, batch) {}
}

fn bench_join(criterion: &mut Criterion) {
    let start = Instant::now();
    let timebase = Timebase::new(start, Duration::from_secs(1_700_000_000));
    let certificate = Certificate::generate().unwrap();
    let mut factory = ViewerFactory::new(
        CoreId(0),
        certificate,
        timebase,
        IdSource::operating_system(),
    )
    .unwrap();
    let mut group = criterion.benchmark_group("join");
    group.bench_function("answer_ice_dtls", |bencher| {
        bencher.iter_custom(|joins| (0..joins).map(|_| join(&mut factory, start)).sum());
    });
    let offer = KitViewer::new(SocketAddr::from(([198, 51, 100, 7], 40_000)), start).offer();
    let server = [SocketAddr::from(([192, 0, 2, 1], 8_189))];
    group.bench_function("answer_only", |bencher| {
        bencher.iter(|| {
            factory
                .answer(ViewerId(1), &offer, &server, PROFILE, start)
                .unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, bench_join);
criterion_main!(benches);
