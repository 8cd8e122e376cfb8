//! The figures: computed from what was written and what was seen, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use serde::Serialize;

use crate::Failure;
use crate::frames::{Clip, FRAME_RATE, KEYFRAME_EVERY, frame_time_ms, whole_f64};
use crate::options::Options;
use crate::process::{Usage, mebibytes};
use crate::publishers::Written;
use crate::seen::{FrameSeen, ViewerSeen};

const NANOS_PER_MS: f64 = 1e6;
const MICROS_PER_SECOND: f64 = 1e6;
/// RTP ticks of video in a millisecond (RFC 6184 §8.2.1).
const TICKS_PER_MS: u64 = 90;
/// A timestamp this near a frame's is that frame's, in ticks: a third of the frame interval.
const TICKS_TOLERANCE: u64 = 1_000;
/// A gap of more frames than this is a freeze.
const FREEZE_FRAMES: f64 = 3.0;
/// A gap that nobody overlooks, in milliseconds.
const LONG_GAP_MS: f64 = 250.0;

/// What was measured, and between when.
pub(crate) struct Window {
    /// Begin: nanoseconds since 1970.
    pub(crate) from: i64,
    /// End.
    pub(crate) to: i64,
    pub(crate) begin: Usage,
    pub(crate) end: Usage,
    pub(crate) counters_begin: BTreeMap<String, f64>,
    pub(crate) counters_end: BTreeMap<String, f64>,
    /// Datagrams that the relay lost.
    pub(crate) relay_lost: u64,
}

impl Window {
    fn contains(&self, at: i64) -> bool {
        (self.from..self.to).contains(&at)
    }

    fn seconds(&self) -> f64 {
        millis(self.to - self.from) / 1_000.0
    }

    /// RTP packets that the server counted; none without its metrics.
    fn packets(&self) -> Option<f64> {
        self.counted("rtmpeer_rtp_packets_total")
    }

    fn counted(&self, name: &str) -> Option<f64> {
        Some(self.counters_end.get(name)? - self.counters_begin.get(name).unwrap_or(&0.0))
    }
}

/// A distribution.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Spread {
    count: usize,
    p50: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let last = values.len().saturating_sub(1);
        let at = |per_mille: usize| {
            values
                .get((last * per_mille).div_ceil(1_000))
                .copied()
                .unwrap_or(0.0)
        };
        Self {
            count: values.len(),
            p50: at(500),
            p95: at(950),
            p99: at(990),
            p999: at(999),
            max: at(1_000),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            p50, p95, p99, max, ..
        } = self;
        write!(f, "p50 {p50:.2}  p95 {p95:.2}  p99 {p99:.2}  max {max:.2}")
    }
}

/// All figures. Times in milliseconds unless the name says another unit.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    viewers: usize,
    rooms: usize,
    server_cores: usize,
    seconds: f64,
    load_average_before: f64,
    inspected: usize,
    answered: usize,
    connected: usize,
    present_at_end: usize,
    delay_ms: Spread,
    delay_delta_frames_ms: Spread,
    delay_keyframes_ms: Spread,
    frames_expected: usize,
    frames_missing_or_incomplete: usize,
    freezes: usize,
    gaps_above_250_ms: usize,
    gap_max_ms: f64,
    packets_seen_per_viewer_second: f64,
    packets_lost: u64,
    packets_recovered: u64,
    packets_asked_again: u64,
    relay_lost: u64,
    receiver_reports: u64,
    frames_with_clock: usize,
    storm_offered: usize,
    storm_answered: usize,
    storm_connected: usize,
    storm_answer_ms: Spread,
    storm_connected_ms: Spread,
    loss_percent: f64,
    join_answer_ms: Spread,
    join_connected_ms: Spread,
    join_first_packet_ms: Spread,
    join_cpu_ms: f64,
    join_cpu_ms_by_thread: BTreeMap<String, f64>,
    join_resident_kib: f64,
    idle_cpu_percent: f64,
    idle_resident_mib: f64,
    server_cpu_percent: f64,
    server_cpu_percent_by_thread: BTreeMap<String, f64>,
    /// The cores' threads, ready to run, but the CPU was another's: above a few percent the delays are the machine's.
    server_waited_percent: f64,
    cpu_us_per_packet: f64,
    cpu_us_per_viewer_second: f64,
    server_rtp_packets_per_second: f64,
    server_send_blocked: f64,
    server_send_errors: f64,
    server_frames_skipped: f64,
    resident_mib: f64,
    resident_kib_per_viewer: f64,
}

/// Figures of inspected viewers' pictures.
#[derive(Default)]
struct Pictures {
    delays: Vec<f64>,
    delta_delays: Vec<f64>,
    key_delays: Vec<f64>,
    gaps: Vec<f64>,
    expected: usize,
    complete: usize,
    packets: usize,
    lost: u64,
    recovered: u64,
    stamped: usize,
}

impl Report {
    /// Computes the figures.
    #[expect(clippy::too_many_arguments, reason = "one for each thing measured")]
    pub(crate) fn new(
        options: &Options,
        window: &Window,
        seen: &[ViewerSeen],
        written: &[Written],
        joins: &Usage,
        idle: &Usage,
        idle_now: &Usage,
        load_average: f64,
    ) -> Self {
        let (storm, seen): (Vec<_>, Vec<_>) = seen.iter().partition(|viewer| viewer.storm);
        let inspected: Vec<_> = seen.iter().filter(|viewer| viewer.inspected).collect();
        let mut pictures = Pictures::default();
        for viewer in &inspected {
            if let Some(written) = written.get(viewer.room) {
                pictures.add(viewer, written, window);
            }
        }
        let seconds = window.seconds().max(f64::MIN_POSITIVE);
        let watching = whole_f64(seen.len().max(1));
        let looked_at = whole_f64(inspected.len().max(1));
        let per_viewer = whole_f64(pictures.packets) / looked_at / seconds;
        let cpu = Usage::between(&window.begin, &window.end);
        let counted = |name| window.counted(name).unwrap_or(0.0);
        let sent = window.packets().unwrap_or(per_viewer * watching * seconds);
        let since = |pick| spread_since(&seen, pick);
        let count = |which: fn(&ViewerSeen) -> bool| seen.iter().filter(|v| which(v)).count();
        let percent = |(name, cpu): (&String, &f64)| (name.clone(), 100.0 * cpu / seconds);
        let per_join = |(name, cpu): (&String, &f64)| (name.clone(), cpu * 1_000.0 / watching);
        let all = whole_f64(pictures.packets) + wide(pictures.lost);
        let freeze_ms = FREEZE_FRAMES * 1_000.0 / wide(FRAME_RATE);
        let beyond = |limit: f64| pictures.gaps.iter().filter(|gap| **gap > limit).count();
        let report = Self {
            viewers: options.viewers,
            rooms: options.rooms,
            server_cores: options.cores,
            seconds,
            load_average_before: load_average,
            inspected: inspected.len(),
            answered: seen.len(),
            connected: count(|viewer| viewer.connected.is_some()),
            present_at_end: count(|viewer| viewer.present_at_roll_call && !viewer.closed),
            frames_expected: pictures.expected,
            frames_missing_or_incomplete: pictures.expected.saturating_sub(pictures.complete),
            freezes: beyond(freeze_ms),
            gaps_above_250_ms: beyond(LONG_GAP_MS),
            gap_max_ms: pictures.gaps.iter().copied().fold(0.0, f64::max),
            packets_seen_per_viewer_second: per_viewer,
            packets_lost: pictures.lost,
            packets_recovered: pictures.recovered,
            packets_asked_again: seen.iter().map(|viewer| viewer.asked).sum(),
            relay_lost: window.relay_lost,
            receiver_reports: seen.iter().map(|viewer| viewer.reports).sum(),
            frames_with_clock: pictures.stamped,
            loss_percent: 100.0 * wide(pictures.lost) / all.max(1.0),
            delay_ms: Spread::of(pictures.delays),
            delay_delta_frames_ms: Spread::of(pictures.delta_delays),
            delay_keyframes_ms: Spread::of(pictures.key_delays),
            join_answer_ms: since(|viewer| Some(viewer.answered)),
            join_connected_ms: since(|viewer| viewer.connected),
            join_first_packet_ms: since(|viewer| viewer.first_packet),
            join_cpu_ms: joins.cpu_seconds() * 1_000.0 / watching,
            join_cpu_ms_by_thread: joins.threads.iter().map(per_join).collect(),
            join_resident_kib: joins.resident_kib / watching,
            idle_cpu_percent: 100.0 * idle.cpu_seconds() / idle.seconds.max(f64::MIN_POSITIVE),
            idle_resident_mib: mebibytes(idle_now.resident_kib),
            server_cpu_percent: 100.0 * cpu.cpu_seconds() / cpu.seconds.max(f64::MIN_POSITIVE),
            server_cpu_percent_by_thread: cpu.threads.iter().map(percent).collect(),
            server_waited_percent: 100.0 * cpu.waited / seconds,
            cpu_us_per_packet: cpu.cpu_seconds() * MICROS_PER_SECOND / sent.max(1.0),
            cpu_us_per_viewer_second: cpu.cpu_seconds() * MICROS_PER_SECOND / watching / seconds,
            server_rtp_packets_per_second: sent / seconds,
            server_send_blocked: counted("rtmpeer_send_blocked_total"),
            server_send_errors: counted("rtmpeer_send_errors_total"),
            server_frames_skipped: counted("rtmpeer_frames_skipped_total"),
            resident_mib: mebibytes(window.end.resident_kib),
            resident_kib_per_viewer: (window.end.resident_kib - idle_now.resident_kib) / watching,
            ..Self::default()
        };
        report.with_storm(options, &storm)
    }

    /// Adds what became of those who joined during the measurement.
    fn with_storm(self, options: &Options, storm: &[&ViewerSeen]) -> Self {
        Self {
            storm_offered: options.storm,
            storm_answered: storm.len(),
            storm_connected: storm.iter().filter(|v| v.connected.is_some()).count(),
            storm_answer_ms: spread_since(storm, |viewer| Some(viewer.answered)),
            storm_connected_ms: spread_since(storm, |viewer| viewer.connected),
            ..self
        }
    }

    /// The figures as JSON.
    pub(crate) fn json(&self) -> Result<String, Failure> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Pictures {
    fn add(&mut self, viewer: &ViewerSeen, written: &Written, window: &Window) {
        let in_window = |at: &&i64| window.contains(**at);
        self.expected += written.iter().filter(in_window).count();
        let tracks = [&viewer.video, &viewer.audio];
        for track in tracks {
            let frames = track
                .frames
                .iter()
                .filter(|frame| window.contains(frame.last));
            self.packets += frames.map(|frame| frame.packets).sum::<usize>();
            let missing = track.missing.values().filter(|at| window.contains(**at));
            self.lost += missing.count() as u64;
            let recovered = track.recovered.iter().filter(|at| window.contains(**at));
            self.recovered += recovered.count() as u64;
        }
        let frames: Vec<_> = viewer
            .video
            .frames
            .iter()
            .filter(|frame| frame.complete)
            .collect();
        let mut previous = None;
        for frame in &frames {
            if window.contains(frame.last)
                && let Some(previous) = previous
            {
                self.gaps.push(millis(frame.last - previous));
            }
            previous = Some(frame.last);
        }
        if let Some(previous) = previous {
            // A picture that stands still to the end.
            self.gaps.push(millis(window.to - previous).max(0.0));
        }
        // A join's burst may have timestamps of its own: only what came since counts.
        let frames: Vec<_> = frames
            .into_iter()
            .filter(|frame| frame.last >= window.from)
            .collect();
        let offset = timestamp_offset(&frames, written);
        for frame in &frames {
            // By the clock in the picture; without it by the distance of the timestamps.
            let by_clock = frame.stamp.map(|stamp| written.binary_search(&stamp).ok());
            self.stamped += usize::from(by_clock.is_some());
            let by_offset = || frame_number(frame.timestamp.wrapping_sub(offset?));
            let Some(number) = by_clock.unwrap_or_else(by_offset) else {
                continue;
            };
            let Some(wrote) = written.get(number).copied() else {
                continue;
            };
            if !window.contains(wrote) {
                continue;
            }
            self.complete += 1;
            let delay = millis(frame.last - wrote);
            self.delays.push(delay);
            if number % KEYFRAME_EVERY == 0 {
                self.key_delays.push(delay);
            } else {
                self.delta_delays.push(delay);
            }
        }
    }
}

/// Times since the offers were posted, in milliseconds.
fn spread_since(seen: &[&ViewerSeen], pick: fn(&ViewerSeen) -> Option<Instant>) -> Spread {
    let took = |viewer: &&ViewerSeen| {
        let at = pick(viewer)?;
        Some(at.saturating_duration_since(viewer.posted).as_secs_f64() * 1_000.0)
    };
    Spread::of(seen.iter().filter_map(took).collect())
}

/// What a viewer's timestamps have been moved by. Keyframes are told apart by their size: the
/// newest that was written before one arrived is that one, unless it took longer than a keyframe
/// interval; then the offset comes out too small, so the greatest over all is right.
fn timestamp_offset(frames: &[&FrameSeen], written: &Written) -> Option<u32> {
    let mut best: Option<u32> = None;
    for frame in frames {
        if frame.packets < Clip::keyframe_packets_min() {
            continue;
        }
        let before = written.partition_point(|wrote| *wrote < frame.last);
        let Some(newest) = before.checked_sub(1) else {
            continue;
        };
        let key = newest - newest % KEYFRAME_EVERY;
        let offset = frame.timestamp.wrapping_sub(ticks_of(key));
        // The greatest on the circle of 32 bits.
        if best.is_none_or(|best| offset.wrapping_sub(best) < 1 << 31) {
            best = Some(offset);
        }
    }
    best
}

/// RTP ticks of a frame since the first.
fn ticks_of(number: usize) -> u32 {
    let ticks = frame_time_ms(number) * TICKS_PER_MS;
    u32::try_from(ticks & u64::from(u32::MAX)).unwrap_or(0)
}

/// Which frame has these ticks since the first; none if no frame does.
fn frame_number(ticks: u32) -> Option<usize> {
    let ticks = u64::from(ticks);
    let number = (ticks * FRAME_RATE + 45_000) / (1_000 * TICKS_PER_MS);
    let number = usize::try_from(number).ok()?;
    let exact = frame_time_ms(number) * TICKS_PER_MS;
    (exact.abs_diff(ticks) <= TICKS_TOLERANCE).then_some(number)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "spans of minutes in nanoseconds are exact"
)]
fn millis(nanos: i64) -> f64 {
    nanos as f64 / NANOS_PER_MS
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn wide(number: u64) -> f64 {
    number as f64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self;
        writeln!(
            f,
            "viewers              {} in {} rooms, {} connected, {} present at the end; server on \
             {} cores; {:.1} s; load before {:.1}",
            r.viewers,
            r.rooms,
            r.connected,
            r.present_at_end,
            r.server_cores,
            r.seconds,
            r.load_average_before
        )?;
        writeln!(
            f,
            "delay, ms            {}   ({} viewers inspected)",
            r.delay_ms, r.inspected
        )?;
        writeln!(f, "  delta frames       {}", r.delay_delta_frames_ms)?;
        writeln!(f, "  keyframes          {}", r.delay_keyframes_ms)?;
        writeln!(
            f,
            "frames               {} expected, {} missing or incomplete; freezes {}, gaps > 250 ms \
             {}, longest {:.0} ms",
            r.frames_expected,
            r.frames_missing_or_incomplete,
            r.freezes,
            r.gaps_above_250_ms,
            r.gap_max_ms
        )?;
        writeln!(
            f,
            "packets              {:.0} /s per viewer seen, {} lost ({:.3} %); the server sent \
             {:.0} /s, {:.0} blocked, {:.0} failed, {:.0} frames skipped",
            r.packets_seen_per_viewer_second,
            r.packets_lost,
            r.loss_percent,
            r.server_rtp_packets_per_second,
            r.server_send_blocked,
            r.server_send_errors,
            r.server_frames_skipped
        )?;
        writeln!(
            f,
            "feedback             {} receiver reports; {} packets asked for again, {} recovered, {} \
             datagrams lost on the way; {} frames with a clock",
            r.receiver_reports,
            r.packets_asked_again,
            r.packets_recovered,
            r.relay_lost,
            r.frames_with_clock
        )?;
        if r.storm_offered > 0 {
            writeln!(
                f,
                "storm of joins       {} offered, {} answered, {} connected",
                r.storm_offered, r.storm_answered, r.storm_connected
            )?;
            writeln!(f, "  POST to 201        {}", r.storm_answer_ms)?;
            writeln!(f, "  to connected       {}", r.storm_connected_ms)?;
        }
        r.fmt_server(f)
    }
}

impl Report {
    /// What the viewers cost the server.
    fn fmt_server(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self;
        writeln!(f, "join: POST to 201    {}", r.join_answer_ms)?;
        writeln!(f, "  to connected       {}", r.join_connected_ms)?;
        writeln!(f, "  to first packet    {}", r.join_first_packet_ms)?;
        writeln!(
            f,
            "  server's CPU       {:.3} ms, memory {:.0} KiB (media to those before included)",
            r.join_cpu_ms, r.join_resident_kib
        )?;
        write!(f, "  by thread, ms     ")?;
        for (name, cpu) in &r.join_cpu_ms_by_thread {
            write!(f, " {name} {cpu:.3}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "server idle          {:.2} % CPU, {:.1} MiB",
            r.idle_cpu_percent, r.idle_resident_mib
        )?;
        writeln!(
            f,
            "server under load    {:.1} % CPU, {:.2} us per packet, {:.0} us per viewer-second; \
             {:.1} MiB, {:.1} KiB per viewer",
            r.server_cpu_percent,
            r.cpu_us_per_packet,
            r.cpu_us_per_viewer_second,
            r.resident_mib,
            r.resident_kib_per_viewer
        )?;
        write!(f, "  by thread, %      ")?;
        for (name, percent) in &r.server_cpu_percent_by_thread {
            write!(f, " {name} {percent:.1}")?;
        }
        writeln!(f, "; waited for a CPU {:.1}", r.server_waited_percent)
    }
}
