//! The simulation: whole servers, publishers and players in one thread under a virtual clock,
//! with seeded chance, checked at every step.
//!
//! ```text
//! cargo test --test simulation                          64 seeds and the named scenarios
//! SIM_SEEDS=1000 cargo test --test simulation random    more seeds
//! SIM_SEED=7 cargo test --test simulation random        one seed, with what happens on stderr
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests may stop where they stand"
)]

#[path = "../kit/mod.rs"]
mod kit;

mod acts;
mod chance;
mod clip;
mod encoder;
mod machines;
mod model;
mod network;
mod overload;
mod peers;
mod publisher;
mod random;
mod renditions;
mod scenarios;
mod trace;
mod viewer;
mod watch;
mod world;

use std::io::Write;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

use random::{Outcome, live};
use watch::Tally;

/// Seeds that always run.
const SEEDS: u64 = 64;
/// Threads that share them.
const THREADS: usize = 2;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn random_lives_keep_every_promise() {
    if let Some(seed) = number("SIM_SEED") {
        live(seed, true);
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let run = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return outcomes;
            }
            let outcome = catch_unwind(|| live(seed, false));
            if outcome.is_err() {
                let _ = writeln!(std::io::stderr(), "that was seed {seed}");
            }
            outcomes.push(outcome.map_err(|_panic| seed));
        }
    };
    let outcomes: Vec<Result<Outcome, u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let failed: Vec<u64> = outcomes
        .iter()
        .filter_map(|it| it.as_ref().err())
        .copied()
        .collect();
    if let Some(first) = failed.first() {
        panic!(
            "{} of {seeds} seeds failed: {failed:?}; see one with\n    \
             SIM_SEED={first} cargo test --test simulation random -- --nocapture",
            failed.len()
        );
    }
    let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
    let mut tally = Tally::default();
    outcomes
        .iter()
        .for_each(|outcome| tally.add(&outcome.tally));
    let publishes: u32 = outcomes.iter().map(|outcome| outcome.publishes).sum();
    let count = |index: usize| outcomes.iter().map(|outcome| outcome.counts[index]).sum();
    let counts: [u64; 3] = [count(0), count(1), count(2)];
    let _ = writeln!(
        std::io::stderr(),
        "{publishes} publishes, {tally:?}, forwarded, overflown, refused: {counts:?}"
    );
    // What was never put to the test was not tested.
    let checked = [
        tally.captures,
        tally.skews,
        tally.alive,
        tally.jumps,
        tally.holes,
    ];
    assert!(
        checked.iter().chain(&counts).all(|count| *count > 0),
        "{tally:?} {counts:?}"
    );
}

#[test]
fn a_seed_repeats_itself() {
    for seed in [1, 2, 4] {
        assert_eq!(
            live(seed, false).hash,
            live(seed, false).hash,
            "seed {seed}"
        );
    }
    assert_ne!(live(1, false).hash, live(2, false).hash);
}
