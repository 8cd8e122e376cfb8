//! What is to be said to a publisher of its encoder: what `ingest` finds and measures, and
//! control shows.

use std::fmt;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know; nobody suffers.
    Info,
    /// Viewers see or hear it, or the server works for it.
    Warning,
    /// Something is not seen or heard at all.
    Problem,
}

impl Severity {
    /// The word for JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was found, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictItem {
    /// What it is, as a word for programs: lower case, with underscores.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was found, in plain words.
    pub text: String,
    /// The setting to touch in OBS; empty if there is none.
    pub obs: String,
    /// The option to give ffmpeg; empty if there is none.
    pub ffmpeg: String,
    /// Whether the log has it already, from the message that it was found in.
    pub logged: bool,
}

impl fmt::Display for VerdictItem {
    /// The text and what to do, as one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if !self.obs.is_empty() {
            write!(f, ". In OBS: {}", self.obs)?;
        }
        if !self.ffmpeg.is_empty() {
            write!(f, ". In ffmpeg: {}", self.ffmpeg)?;
        }
        Ok(())
    }
}

/// Least, mean and greatest of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// The least.
    pub min: u64,
    /// The mean.
    pub mean: u64,
    /// The greatest.
    pub max: u64,
}

/// What was measured of a publish, over its last ten seconds unless it says otherwise. `None`:
/// there was too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Frames in 1,000 seconds of their own time.
    pub frames_per_1000_s: Option<u64>,
    /// Mean deviation of the time between two frames from its mean, in microseconds.
    pub frame_jitter_micros: Option<u64>,
    /// Bits a second of video, as they arrived.
    pub video_bits_per_second: Option<u64>,
    /// Bits a second of audio, as they arrived.
    pub audio_bits_per_second: Option<u64>,
    /// Milliseconds between keyframes, of the last eight.
    pub keyframe_interval_ms: Option<Spread>,
    /// Mean bytes of a keyframe.
    pub keyframe_bytes: Option<u64>,
    /// Mean bytes of any other frame.
    pub frame_bytes: Option<u64>,
    /// Samples a second of the audio, as configured.
    pub audio_sample_rate: Option<u32>,
    /// How unevenly frames arrived against their timestamps: from the most early to the most
    /// late, in milliseconds.
    pub arrival_spread_ms: Option<u64>,
    /// How much later video arrived than audio of the same time, in milliseconds.
    pub video_after_audio_ms: Option<i64>,
    /// What the encoder's clock is slower than the server's by, in millionths.
    pub clock_slow_ppm: i64,
    /// How often the publish was too far ahead of the clock and had to wait.
    pub holds: u64,
    /// How often timestamps jumped.
    pub timestamp_jumps: u64,
}

/// What was found and measured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// What to change, the gravest first.
    pub items: Vec<VerdictItem>,
    /// What was measured.
    pub figures: Figures,
}

impl Verdict {
    /// What the publisher should change, one line each: all but what is only good to know.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        let grave = |item: &&VerdictItem| item.severity > Severity::Info;
        let items = self.items.iter().filter(grave);
        items.map(ToString::to_string).collect()
    }
}
