//! Video that browsers cannot decode becomes [`Rendition::Safe`]: an `ffmpeg` as a child process
//! per stream, Matroska into its standard input, FLV out of its standard output.
//!
//! ```text
//! VideoMsg ─▶ VideoTranscoder ─ matroska ─▶ [ child ] ─ FLV ─▶ flv_reader ─ frames ─▶ VideoReply
//!                    └── command: the child's arguments
//! ```
//!
//! All of it is pure: no clock, no thread, no process. `runtime` starts the children, moves their
//! bytes and tells of their ends.
//!
//! [`Rendition::Safe`]: crate::media::frame::Rendition::Safe

mod child;
mod command;
mod flv_reader;
mod frames;
mod matroska;
mod order;
mod starts;
mod supervisor;

use std::time::Duration;

pub use crate::media::codec::VideoMode;
pub use child::ChildId;
pub use command::arguments;
pub use flv_reader::{FlvItem, FlvReadError, FlvReader};
pub use frames::{Feed, FrameMaker, Source};
pub use matroska::{BlockKind, MatroskaWriter};
pub use supervisor::{ChildEnd, VideoOutput, VideoStats, VideoTranscoder};

/// The H.264 encoder that ffmpeg is told to use, by ffmpeg's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VideoEncoder {
    /// `libx264`, software.
    #[default]
    X264,
    /// `h264_nvenc`, NVIDIA.
    Nvenc,
    /// `h264_vaapi`, Intel and AMD on Linux.
    Vaapi,
    /// `h264_qsv`, Intel Quick Sync.
    Qsv,
    /// `h264_v4l2m2m`, boards such as the Raspberry Pi.
    V4l2,
    /// `libopenh264`, software.
    OpenH264,
}

impl VideoEncoder {
    /// ffmpeg's name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X264 => "libx264",
            Self::Nvenc => "h264_nvenc",
            Self::Vaapi => "h264_vaapi",
            Self::Qsv => "h264_qsv",
            Self::V4l2 => "h264_v4l2m2m",
            Self::OpenH264 => "libopenh264",
        }
    }

    /// Whether it works in memory of our own, so that a child's memory can be limited: drivers of
    /// graphics cards reserve address space without measure.
    #[must_use]
    pub fn is_software(self) -> bool {
        match self {
            Self::X264 | Self::OpenH264 => true,
            Self::Nvenc | Self::Vaapi | Self::Qsv | Self::V4l2 => false,
        }
    }
}

/// What the operator chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoSettings {
    /// When video is transcoded.
    pub mode: VideoMode,
    /// The program: a name to look for in `PATH`, or a path.
    pub ffmpeg: String,
    /// The encoder.
    pub encoder: VideoEncoder,
    /// libx264's preset.
    pub preset: String,
    /// Most bits a second of the output.
    pub bitrate_max: u32,
    /// Most pixels of a picture's shorter side; a larger picture is scaled down.
    pub height_max: u32,
    /// Most frames a second of the output; of a faster stream some are left out.
    pub frame_rate_max: u32,
    /// Longest time from one keyframe to the next.
    pub keyframe_interval: Duration,
    /// Most streams at once.
    pub max_transcodes: usize,
    /// CPUs that the encoder and the filters may count on.
    pub threads: usize,
}

impl Default for VideoSettings {
    fn default() -> Self {
        Self {
            mode: VideoMode::Auto,
            ffmpeg: "ffmpeg".into(),
            encoder: VideoEncoder::X264,
            preset: "superfast".into(),
            bitrate_max: 8_000_000,
            height_max: 2_160,
            frame_rate_max: 60,
            keyframe_interval: Duration::from_secs(2),
            max_transcodes: 4,
            threads: 2,
        }
    }
}

#[cfg(test)]
mod tests;
