//! Load generator: publishers and many light WHEP viewers in one process, and what a server makes
//! of them: delay, loss, freezes, join times, CPU and memory.
//!
//! Publisher and viewers share one clock, which each picture carries (SEI), so the delay is a true
//! one-way figure: from the instant before a frame is written to the publisher's socket to the
//! kernel's receive time of its last packet at the viewer. `docs/PERFORMANCE.md` tells the method
//! in full.
//!
//! ```text
//! cargo run --release --example loadgen -- --viewers 100 --seconds 10
//! … -- --viewers 50 --inspect 50 --netem loss=1%,delay=20ms,jitter=5ms
//! … -- --viewers 200 --storm 1000      1,000 join within a second while 200 watch
//! … … --storm-elsewhere                they join a room without a publisher
//! ```

#[path = "loadgen/clock.rs"]
mod clock;
#[path = "loadgen/feedback.rs"]
mod feedback;
#[path = "loadgen/frames.rs"]
mod frames;
#[path = "loadgen/http.rs"]
mod http;
#[path = "loadgen/joiner.rs"]
mod joiner;
#[path = "loadgen/netem.rs"]
mod netem;
#[path = "loadgen/options.rs"]
mod options;
#[path = "loadgen/process.rs"]
mod process;
#[path = "loadgen/publishers.rs"]
mod publishers;
#[path = "loadgen/report.rs"]
mod report;
#[path = "loadgen/seen.rs"]
mod seen;
#[path = "loadgen/viewers.rs"]
mod viewers;

/// The RTMP client of the tests.
#[path = "../tests/kit/publisher.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "shared test code: fails loudly, and a part of it is used here"
)]
mod kit_publisher;
/// The player of the tests.
#[path = "../tests/kit/viewer.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "shared test code: fails loudly, and a part of it is used here"
)]
mod kit_viewer;
#[path = "../tests/kit/tls.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared test code, of which a part is used here"
)]
mod tls;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use joiner::Wave;
use options::Options;
use process::{ServerProcess, Usage};
use publishers::Publishers;
use report::{Report, Window};
use rtmpeer::runtime::now;
use viewers::Viewers;

/// What can go wrong, in words: a tool for people.
type Failure = Box<dyn std::error::Error>;

/// How long the server is looked at before anybody connects.
const IDLE_SPAN: Duration = Duration::from_secs(2);
/// Longest wait for the last viewer beyond the time its turn comes.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// What a storm of joins gets before and after it.
const STORM_REST: Duration = Duration::from_secs(4);
/// How long viewers whose packets the kernel dropped get to show that theirs still come. Longer than a keyframe's
/// interval: a core that is full leaves out pictures up to the next one.
const ROLL_CALL: Duration = Duration::from_millis(2_500);

#[expect(clippy::print_stderr, reason = "a program's last word")]
fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("loadgen: {why}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is what it is run for")]
fn run(options: &Options) -> Result<(), Failure> {
    process::allow_files();
    let mut server = ServerProcess::start(options)?;
    let load_average = process::load_average();
    let booted = server.usage()?;
    pause(IDLE_SPAN);
    let idle = server.usage()?;

    let clip = clip(options)?;
    let publish = |server: &ServerProcess| {
        Publishers::start(server.rtmp, options.rooms, &clip, options.interleaved)
    };
    let early = if options.join_first {
        None
    } else {
        Some(publish(&server)?)
    };
    if early.is_some() {
        // A keyframe's interval, so that the first viewer finds what the last one finds.
        pause(frames::KEYFRAME_INTERVAL);
    }
    let before_joins = server.usage()?;
    let viewers = Viewers::start(options)?;
    let watching = Wave::watching(options);
    let joined = joiner::join_all(options, server.http, &viewers, &watching)?;
    wait_connected(&viewers, joined);
    let after_joins = server.usage()?;
    let publishers = match early {
        Some(publishers) => publishers,
        None => publish(&server)?,
    };
    let storm = Wave::storm(options)?;
    pause(Duration::from_secs_f64(options.warm_up));

    let begin = server.usage()?;
    let counters_begin = http::metrics(server.metrics);
    let from = clock::wall_nanos();
    measure(options, &server, &viewers, &storm)?;
    let to = clock::wall_nanos();
    let counters_end = http::metrics(server.metrics);
    let end = server.usage()?;

    viewers.roll_call();
    pause(ROLL_CALL);
    let (seen, relay_lost) = viewers.stop()?;
    let written = publishers.stop()?;
    server.stop();

    let window = Window {
        from,
        to,
        begin,
        end,
        counters_begin,
        counters_end,
        relay_lost,
    };
    let joins = Usage::between(&before_joins, &after_joins);
    let idle_use = Usage::between(&booted, &idle);
    let report = Report::new(
        options,
        &window,
        &seen,
        &written,
        &joins,
        &idle_use,
        &idle,
        load_average,
    );
    println!("{report}");
    if let Some(path) = &options.json {
        std::fs::write(path, report.json()?)?;
    }
    Ok(())
}

/// What is published.
fn clip(options: &Options) -> Result<frames::Clip, Failure> {
    let mut clip = frames::Clip::new(options.bitrate)?;
    if options.no_sound {
        clip.sounds.clear();
    }
    Ok(clip)
}

/// Waits for those who joined, for a while.
fn wait_connected(viewers: &Viewers, joined: usize) {
    let deadline = now() + CONNECT_PATIENCE;
    while viewers.connected() + viewers.failed() < joined && now() < deadline {
        pause(Duration::from_millis(20));
    }
}

/// Lets the time pass that is measured; meanwhile the storm joins.
fn measure(
    options: &Options,
    server: &ServerProcess,
    viewers: &Viewers,
    storm: &Wave,
) -> Result<(), Failure> {
    let until = now() + Duration::from_secs(options.seconds).max(storm.time() + STORM_REST);
    if options.storm > 0 {
        pause(STORM_REST / 2);
        joiner::join_all(options, server.http, viewers, storm)?;
    }
    pause(until.saturating_duration_since(now()));
    Ok(())
}

/// Waits; the threads do the work.
fn pause(time: Duration) {
    let until = now() + time;
    loop {
        let left = until.saturating_duration_since(now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}
