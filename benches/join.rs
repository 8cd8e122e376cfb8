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

#[path = "kit/join.rs"]
mod kit_join;
#[path = "../tests/kit/viewer.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "shared test code, of which a part is used here"
)]
mod kit_viewer;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use kit_join::{CHROME, Meter, PROFILE, factory, join, server};
use rtmpeer::ids::ViewerId;

/// Adds up the time spent in the server's part.
#[derive(Default)]
struct Stopwatch(Duration);

impl Meter for Stopwatch {
    fn run<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let began = Instant::now();
        let result = work();
        self.0 += began.elapsed();
        result
    }
}

fn bench_join(criterion: &mut Criterion) {
    let start = Instant::now();
    let mut factory = factory(start);
    let mut group = criterion.benchmark_group("join");
    group.bench_function("answer_ice_dtls", |bencher| {
        bencher.iter_custom(|joins| {
            let mut watch = Stopwatch::default();
            (0..joins).for_each(|_| join(&mut factory, start, &mut watch));
            watch.0
        });
    });
    group.bench_function("answer_only", |bencher| {
        bencher.iter(|| {
            factory
                .answer(ViewerId(1), CHROME, &[server()], PROFILE, start)
                .unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, bench_join);
criterion_main!(benches);
