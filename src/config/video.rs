//! Section `video`: what happens with video that browsers cannot play.

use std::time::Duration;

/// Least that the transcoded video's bitrate may be limited to, in bit/s.
pub const VIDEO_BITRATE_MIN: u32 = 200_000;
/// Most that it may be, in bit/s: H.264 level 5.1 ends at 240 Mbit/s, viewers long before.
pub const VIDEO_BITRATE_MAX: u32 = 100_000_000;
/// Least that the transcoded video's height may be limited to, in pixels.
pub const VIDEO_HEIGHT_MIN: u32 = 144;
/// Most that it may be, in pixels (H.264 level 5.1).
pub const VIDEO_HEIGHT_MAX: u32 = 2_304;
/// Most frames a second that transcoded video may have.
pub const VIDEO_FRAME_RATE_MAX: u32 = 240;
/// Longest time between the transcoded video's keyframes, in seconds.
pub const VIDEO_KEYFRAME_INTERVAL_MAX: u32 = 10;
/// Most videos transcoded at once.
pub const VIDEO_TRANSCODES_MAX: u16 = 256;
/// Presets of libx264 that can keep up with a live stream, the cheapest first.
pub const VIDEO_PRESETS: [&str; 6] = [
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
];

/// Section `video`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// `video.transcode`.
    pub transcode: VideoTranscode,
    /// `video.ffmpeg`: the program, a name to look for in `PATH` or a path.
    pub ffmpeg: String,
    /// `video.encoder`.
    pub encoder: VideoEncoder,
    /// `video.preset` of libx264.
    pub preset: &'static str,
    /// `video.bitrate_max`, in bit/s, [`VIDEO_BITRATE_MIN`] to [`VIDEO_BITRATE_MAX`].
    pub bitrate_max: u32,
    /// `video.height_max`: pixels of a picture's shorter side, [`VIDEO_HEIGHT_MIN`] to
    /// [`VIDEO_HEIGHT_MAX`]; a larger picture is scaled down.
    pub height_max: u32,
    /// `video.frame_rate_max`, in frames a second, 1 to [`VIDEO_FRAME_RATE_MAX`].
    pub frame_rate_max: u32,
    /// `video.keyframe_interval`, whole seconds, 1 to [`VIDEO_KEYFRAME_INTERVAL_MAX`].
    pub keyframe_interval: Duration,
    /// `video.max_transcodes`: streams at once, 0 to [`VIDEO_TRANSCODES_MAX`]; unset, one for each
    /// CPU that the process may use.
    pub max_transcodes: Option<u16>,
}

/// When video is transcoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoTranscode {
    /// What browsers cannot play, while somebody watches.
    Auto,
    /// Nothing.
    Never,
    /// Everything that is watched.
    Always,
}

/// Who makes the H.264: ffmpeg's name of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoEncoder {
    /// `libx264`.
    X264,
    /// `h264_nvenc`.
    Nvenc,
    /// `h264_vaapi`.
    Vaapi,
    /// `h264_qsv`.
    Qsv,
    /// `h264_v4l2m2m`.
    V4l2,
    /// `libopenh264`.
    OpenH264,
}

impl Default for Video {
    fn default() -> Self {
        Self {
            transcode: VideoTranscode::Auto,
            ffmpeg: "ffmpeg".into(),
            encoder: VideoEncoder::X264,
            preset: "superfast",
            bitrate_max: 8_000_000,
            height_max: 2_160,
            frame_rate_max: 60,
            keyframe_interval: Duration::from_secs(2),
            max_transcodes: None,
        }
    }
}
