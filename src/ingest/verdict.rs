//! The verdict on an encoder: what it sends, measured, and what it should change.
//!
//! [`Judge`] sees every output of a publish go by. A frame costs some sums; once a second at most
//! they are looked at, and made a [`Verdict`].

mod figures;
mod findings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::IngestOutput;
use super::timeline::Timeline;
use super::warning::IngestWarning;
use crate::media::aac::AudioSpecificConfig;
use crate::media::codec::AudioConfig;
use crate::media::frame::StreamInfo;
use crate::media::time::{MediaTime, Timebase};
use crate::media::verdict::{Severity, Verdict, VerdictItem};
use figures::{Meter, SeenFrame};

/// Time between two verdicts.
const PERIOD: Duration = Duration::from_secs(1);
/// From the first frame to the first verdict: both tracks have said what they are by then.
const FIRST_AFTER: Duration = Duration::from_millis(300);
/// Measured for less, nothing is concluded from figures.
const MEASURED_MIN: Duration = Duration::from_secs(5);
/// With only one track for so long, the publisher is told.
const BOTH_TRACKS_WITHIN: Duration = Duration::from_secs(10);
/// Video of which nothing can be passed on for so long is no beginning.
const PICTURE_WITHIN: Duration = Duration::from_secs(10);
/// Rate of Opus streams, and of G.711, Speex.
const OPUS_RATE: u32 = 48_000;
const G711_RATE: u32 = 8_000;
const SPEEX_RATE: u32 = 16_000;

/// Watches one publish.
pub(super) struct Judge {
    meter: Meter,
    /// What is wrong as it stands.
    standing: Vec<VerdictItem>,
    /// What happened, each kind once.
    happened: Vec<VerdictItem>,
    info: StreamInfo,
    audio_sample_rate: Option<u32>,
    jumps: u64,
    /// When the first video came, until a picture of it is passed on.
    pictureless_since: Option<Instant>,
    has_picture: bool,
    now: Option<Instant>,
    due: Option<Instant>,
    verdict: Arc<Verdict>,
    /// The last verdict, until it is taken.
    fresh: bool,
}

impl Judge {
    pub(super) fn new(timebase: Timebase) -> Self {
        Self {
            meter: Meter::new(timebase),
            standing: Vec::new(),
            happened: Vec::new(),
            info: StreamInfo::default(),
            audio_sample_rate: None,
            jumps: 0,
            pictureless_since: None,
            has_picture: false,
            now: None,
            due: None,
            verdict: Arc::default(),
            fresh: false,
        }
    }

    /// Takes what is wrong with the stream as it stands, and gives what the publisher should
    /// change, in plain words.
    pub(super) fn advise(&mut self, standing: &[IngestWarning]) -> Vec<String> {
        self.standing = standing.iter().map(findings::of_warning).collect();
        let lines = standing.iter().map(ToString::to_string);
        let mut lines: Vec<_> = self.standing.iter().cloned().zip(lines).collect();
        for item in self.verdict.items.iter().filter(|item| !item.logged) {
            if !lines.iter().any(|(known, _)| known.code == item.code) {
                lines.push((item.clone(), item.to_string()));
            }
        }
        lines.retain(|(item, _)| item.severity > Severity::Info);
        lines.sort_by_key(|(item, _)| std::cmp::Reverse(item.severity));
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// Timestamps jumped; `total`: how often, in all.
    pub(super) fn jumped(&mut self, total: u64) {
        self.jumps = total;
        self.meter.forget_times();
    }

    /// A message of video came, whatever becomes of it.
    pub(super) fn video_came(&mut self, now: Instant) {
        if !self.has_picture {
            self.pictureless_since.get_or_insert(now);
            if self.lacks_picture(now) {
                self.tick(now);
            }
        }
    }

    /// Whether video comes, and has led to no picture for long.
    fn lacks_picture(&self, now: Instant) -> bool {
        self.pictureless_since
            .is_some_and(|since| now.saturating_duration_since(since) >= PICTURE_WITHIN)
    }

    /// Sees an output go by.
    pub(super) fn watch(&mut self, output: &IngestOutput) {
        match output {
            IngestOutput::Video(frame) => self.frame(SeenFrame {
                dts: frame.dts,
                key: frame.key,
                bytes: frame.data.len(),
                received: frame.received,
            }),
            IngestOutput::Coded(frame) => self.frame(SeenFrame {
                dts: frame.dts,
                key: frame.key,
                bytes: frame.data.len(),
                received: frame.received,
            }),
            IngestOutput::Audio(unit) => self.audio(unit.pts, unit.data.len(), unit.received),
            IngestOutput::AudioConfig(config) => self.audio_sample_rate = sample_rate(config),
            IngestOutput::Info(info) => self.info = info.clone(),
            IngestOutput::Warning(warning) => {
                merge(&mut self.happened, [findings::of_warning(warning)]);
            }
            IngestOutput::VideoConfig(_) | IngestOutput::Verdict(_) => {}
        }
    }

    fn frame(&mut self, frame: SeenFrame) {
        self.has_picture = true;
        self.pictureless_since = None;
        self.meter.frame(frame);
        self.tick(frame.received);
    }

    fn audio(&mut self, pts: MediaTime, bytes: usize, received: Instant) {
        self.meter.audio(pts, bytes, received);
        self.tick(received);
    }

    fn tick(&mut self, now: Instant) {
        self.now = Some(now);
        self.due
            .get_or_insert(now.checked_add(FIRST_AFTER).unwrap_or(now));
    }

    /// Makes a new verdict if it is time for one; returns whether what the publisher should
    /// change is something else than before.
    pub(super) fn evaluate(&mut self, timeline: &Timeline) -> bool {
        let Some((now, due)) = self.now.zip(self.due) else {
            return false;
        };
        if now < due {
            return false;
        }
        self.due = now.checked_add(PERIOD);
        let verdict = self.judge(timeline, now);
        let changed = verdict.advice() != self.verdict.advice();
        self.verdict = Arc::new(verdict);
        self.fresh = true;
        changed
    }

    /// The last verdict, once.
    pub(super) fn take(&mut self) -> Option<Arc<Verdict>> {
        std::mem::take(&mut self.fresh).then(|| Arc::clone(&self.verdict))
    }

    fn judge(&self, timeline: &Timeline, now: Instant) -> Verdict {
        let mut figures = self.meter.figures(now);
        figures.audio_sample_rate = self.audio_sample_rate;
        figures.clock_slow_ppm = timeline.clock_slow_ppm();
        figures.holds = timeline.holds();
        figures.timestamp_jumps = self.jumps;
        let mut items = self.standing.clone();
        let passing = |item: &&VerdictItem| !is_standing(item.code);
        merge(&mut items, self.happened.iter().filter(passing).cloned());
        let mut found = Vec::new();
        findings::of_info(&self.info, &mut found);
        if self.meter.age(now) >= MEASURED_MIN {
            findings::of_figures(&figures, &self.info, &mut found);
        }
        if self.meter.age(now) >= BOTH_TRACKS_WITHIN {
            findings::of_tracks(&self.info, &mut found);
        }
        if self.lacks_picture(now) {
            findings::of_no_picture(&self.happened, &mut found);
        }
        merge(&mut items, found);
        sort(&mut items);
        Verdict { items, figures }
    }
}

/// Whether a code's warning describes how the stream is, so that [`Judge::advise`] says when it
/// no longer does; the others say what happened.
fn is_standing(code: &str) -> bool {
    [
        "b_frames",
        "keyframe_interval",
        "pixel_format",
        "interlaced",
        "pixel_shape",
        "rotation",
        "video_codec",
        "video_unknown",
        "audio_unknown",
        "multitrack",
    ]
    .contains(&code)
}

/// Adds items whose code is not there yet.
fn merge(items: &mut Vec<VerdictItem>, more: impl IntoIterator<Item = VerdictItem>) {
    for item in more {
        if !items.iter().any(|known| known.code == item.code) {
            items.push(item);
        }
    }
}

/// The gravest first, else in the order found.
fn sort(items: &mut [VerdictItem]) {
    items.sort_by_key(|item| std::cmp::Reverse::<Severity>(item.severity));
}

/// Samples a second, as the configuration says.
fn sample_rate(config: &AudioConfig) -> Option<u32> {
    match config {
        AudioConfig::Aac(config) => AudioSpecificConfig::parse(config)
            .ok()
            .map(|config| config.output_sampling_frequency()),
        AudioConfig::ALaw { .. } | AudioConfig::MuLaw { .. } => Some(G711_RATE),
        AudioConfig::Pcm { rate, .. } | AudioConfig::Nellymoser { rate } => Some(*rate),
        AudioConfig::Opus(_) => Some(OPUS_RATE),
        AudioConfig::Speex => Some(SPEEX_RATE),
        AudioConfig::Mp3 | AudioConfig::Flac(_) | AudioConfig::Ac3 | AudioConfig::Eac3 => None,
    }
}

#[cfg(test)]
mod tests;
