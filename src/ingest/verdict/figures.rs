//! The statistics of a publish: a few sums per second of arrival, in fixed memory, so that a frame
//! costs some additions.

use std::time::{Duration, Instant};

use crate::media::frame::TrackKind;
use crate::media::time::{MediaTime, Timebase};
use crate::media::verdict::{Figures, Spread};

/// Seconds that are looked at together: as many as a long group of pictures lasts.
const SECONDS: usize = 10;
const SECOND: Duration = Duration::from_secs(1);
/// Keyframe intervals that are looked at together.
const INTERVALS: usize = 8;
/// Frames further apart, in microseconds, are a pause and no frame rate.
const PAUSE_MICROS: u64 = 2_000_000;
/// Sizes are averaged over about this many keyframes, and frames.
const KEYFRAMES_AVERAGED: u64 = 8;
const FRAMES_AVERAGED: u64 = 64;
/// A second of arrival with fewer frames than this says nothing of their rate.
const FRAMES_MIN: u64 = 3;

/// One coded picture as it came.
#[derive(Debug, Clone, Copy)]
pub(in crate::ingest) struct SeenFrame {
    pub(in crate::ingest) dts: MediaTime,
    pub(in crate::ingest) key: bool,
    pub(in crate::ingest) bytes: usize,
    pub(in crate::ingest) received: Instant,
}

/// Sums over one second of arrival.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    video: Sums,
    audio: Sums,
    /// Time between frames, in microseconds, and how often it was looked at.
    intervals: u64,
    interval_micros: u64,
    deviation_micros: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    count: u64,
    bytes: u64,
    lead_micros: i64,
    lead_max: Option<MediaTime>,
    lead_min: Option<MediaTime>,
}

impl Sums {
    fn add(&mut self, bytes: usize, lead: MediaTime) {
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.lead_micros = self.lead_micros.saturating_add(lead.as_micros());
        self.lead_max = self.lead_max.max(Some(lead));
        self.lead_min = Some(self.lead_min.map_or(lead, |least| least.min(lead)));
    }

    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.lead_micros = self.lead_micros.saturating_add(other.lead_micros);
        self.lead_max = self.lead_max.max(other.lead_max);
        self.lead_min = match (self.lead_min, other.lead_min) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    fn mean_lead_micros(&self) -> Option<i64> {
        let count = i64::try_from(self.count).ok()?;
        self.lead_micros.checked_div(count)
    }

    fn spread_ms(&self) -> Option<u64> {
        let spread = self.lead_max?.minus(self.lead_min?);
        u64::try_from(spread.as_millis()).ok()
    }
}

/// What is measured of one publish.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    timebase: Timebase,
    began: Option<Instant>,
    /// Number of the newest second since `began`.
    newest: u64,
    seconds: [Second; SECONDS],
    last_dts: Option<MediaTime>,
    /// Time between two frames, averaged, in microseconds.
    interval_micros: u64,
    last_key: Option<MediaTime>,
    key_intervals_ms: [u64; INTERVALS],
    key_intervals: usize,
    key_bytes: u64,
    frame_bytes: u64,
}

impl Meter {
    pub(super) fn new(timebase: Timebase) -> Self {
        Self {
            timebase,
            began: None,
            newest: 0,
            seconds: [Second::default(); SECONDS],
            last_dts: None,
            interval_micros: 0,
            last_key: None,
            key_intervals_ms: [0; INTERVALS],
            key_intervals: 0,
            key_bytes: 0,
            frame_bytes: 0,
        }
    }

    pub(super) fn frame(&mut self, frame: SeenFrame) {
        let lead = self.lead(frame.dts, frame.received);
        let passed = self.last_dts.replace(frame.dts);
        let passed = passed.and_then(|last| micros_after(last, frame.dts));
        let passed = passed.filter(|micros| *micros <= PAUSE_MICROS);
        let mean = average(self.interval_micros, passed, FRAMES_AVERAGED);
        self.interval_micros = mean;
        let second = self.second(TrackKind::Video, frame.bytes, lead, frame.received);
        if let Some(passed) = passed {
            second.intervals = second.intervals.saturating_add(1);
            second.interval_micros = second.interval_micros.saturating_add(passed);
            let deviation = passed.abs_diff(mean);
            second.deviation_micros = second.deviation_micros.saturating_add(deviation);
        }
        let bytes = frame.bytes as u64;
        if !frame.key {
            self.frame_bytes = average(self.frame_bytes, Some(bytes), FRAMES_AVERAGED);
            return;
        }
        self.key_bytes = average(self.key_bytes, Some(bytes), KEYFRAMES_AVERAGED);
        let passed = self.last_key.replace(frame.dts);
        if let Some(micros) = passed.and_then(|last| micros_after(last, frame.dts)) {
            let place = self.key_intervals.wrapping_rem(INTERVALS);
            if let Some(slot) = self.key_intervals_ms.get_mut(place) {
                *slot = micros.div_euclid(1_000);
            }
            self.key_intervals = self.key_intervals.wrapping_add(1);
        }
    }

    pub(super) fn audio(&mut self, pts: MediaTime, bytes: usize, received: Instant) {
        let lead = self.lead(pts, received);
        self.second(TrackKind::Audio, bytes, lead, received);
    }

    /// Timestamps jumped: times before and after cannot be compared.
    pub(super) fn forget_times(&mut self) {
        self.last_dts = None;
        self.last_key = None;
    }

    /// How long the publish has been measured.
    pub(super) fn age(&self, now: Instant) -> Duration {
        let began = self.began.unwrap_or(now);
        now.saturating_duration_since(began)
    }

    /// What it has come to; those of `Figures` that are not measured here are left out.
    pub(super) fn figures(&self, now: Instant) -> Figures {
        let mut all = Second::default();
        for second in &self.seconds {
            all.video.merge(&second.video);
            all.audio.merge(&second.audio);
            all.intervals = all.intervals.saturating_add(second.intervals);
            all.interval_micros = all.interval_micros.saturating_add(second.interval_micros);
            all.deviation_micros = all.deviation_micros.saturating_add(second.deviation_micros);
        }
        let bits_per_second = |sums: &Sums| {
            let micros = self.covered_micros(now);
            let bits = sums.bytes.saturating_mul(8).saturating_mul(1_000_000);
            bits.checked_div(micros).filter(|bits| *bits > 0)
        };
        let video_lead = all.video.mean_lead_micros();
        let audio_lead = all.audio.mean_lead_micros();
        let apart = video_lead.zip(audio_lead);
        let enough = all.intervals >= FRAMES_MIN;
        let per_1000_s = all.intervals.saturating_mul(1_000_000_000);
        Figures {
            frames_per_1000_s: per_1000_s
                .checked_div(all.interval_micros)
                .filter(|_| enough),
            frame_jitter_micros: all
                .deviation_micros
                .checked_div(all.intervals)
                .filter(|_| enough),
            video_bits_per_second: bits_per_second(&all.video),
            audio_bits_per_second: bits_per_second(&all.audio),
            keyframe_interval_ms: self.key_spread(),
            keyframe_bytes: Some(self.key_bytes).filter(|bytes| *bytes > 0),
            frame_bytes: Some(self.frame_bytes).filter(|bytes| *bytes > 0),
            arrival_spread_ms: all.video.spread_ms().or(all.audio.spread_ms()),
            video_after_audio_ms: apart
                .map(|(video, audio)| audio.saturating_sub(video).div_euclid(1_000)),
            ..Figures::default()
        }
    }

    /// How long before its place something came.
    fn lead(&self, position: MediaTime, received: Instant) -> MediaTime {
        position.minus(self.timebase.media_time(received))
    }

    /// Adds to the sums of the second in which something came.
    fn second(
        &mut self,
        track: TrackKind,
        bytes: usize,
        lead: MediaTime,
        received: Instant,
    ) -> &mut Second {
        let began = *self.began.get_or_insert(received);
        let number = received.saturating_duration_since(began).as_secs();
        let passed = number.saturating_sub(self.newest).min(SECONDS as u64);
        for step in 1..=passed {
            let place = slot(number.saturating_sub(passed).saturating_add(step));
            if let Some(second) = self.seconds.get_mut(place) {
                *second = Second::default();
            }
        }
        self.newest = self.newest.max(number);
        let place = slot(self.newest);
        #[expect(
            clippy::indexing_slicing,
            reason = "a slot is below the array's length"
        )]
        let second = &mut self.seconds[place];
        match track {
            TrackKind::Video => second.video.add(bytes, lead),
            TrackKind::Audio => second.audio.add(bytes, lead),
        }
        second
    }

    /// The time that the seconds cover, of which the newest is not over.
    fn covered_micros(&self, now: Instant) -> u64 {
        let whole = SECOND.saturating_mul(u32::try_from(SECONDS).unwrap_or(u32::MAX));
        let age = self.age(now);
        let into_newest = age.saturating_sub(Duration::from_secs(self.newest));
        let full = whole.saturating_sub(SECOND).saturating_add(into_newest);
        u64::try_from(age.min(full).as_micros()).unwrap_or(u64::MAX)
    }

    fn key_spread(&self) -> Option<Spread> {
        let known = self
            .key_intervals_ms
            .get(..self.key_intervals.min(INTERVALS))?;
        let sum: u64 = known.iter().fold(0, |sum, ms| sum.saturating_add(*ms));
        Some(Spread {
            min: known.iter().copied().min()?,
            mean: sum.checked_div(known.len() as u64)?,
            max: known.iter().copied().max()?,
        })
    }
}

fn slot(number: u64) -> usize {
    usize::try_from(number.wrapping_rem(SECONDS as u64)).unwrap_or_default()
}

fn micros_after(before: MediaTime, after: MediaTime) -> Option<u64> {
    u64::try_from(after.minus(before).as_micros()).ok()
}

/// Moves an average on by one of `weight`; the first value is the average.
fn average(mean: u64, value: Option<u64>, weight: u64) -> u64 {
    let Some(value) = value else { return mean };
    if mean == 0 {
        return value;
    }
    let sum = mean.saturating_mul(weight.saturating_sub(1));
    sum.saturating_add(value).div_ceil(weight.max(1))
}
