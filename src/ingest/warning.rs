//! What is wrong with a publish, said to the person who publishes: one plain line each, with what
//! to do about it in OBS and in ffmpeg.

use std::fmt;

use crate::media::aac::AacError;
use crate::media::avc::AvcError;
use crate::media::flv::{AudioCodec, FlvError, VideoCodec};

/// Something that the publisher should know. Each kind is given once per publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IngestWarning {
    /// Pictures are shown in another order than they are sent.
    Reordering,
    /// Keyframes are too far apart.
    KeyframeInterval,
    /// The pixels are of a kind that browsers do not decode.
    PixelFormat {
        /// The H.264 profile.
        profile: &'static str,
    },
    /// The video cannot be played.
    VideoCodec(VideoCodec),
    /// The audio cannot be played.
    AudioCodec(AudioCodec),
    /// Video came before its sequence header.
    VideoConfigMissing,
    /// Audio came before its sequence header.
    AudioConfigMissing,
    /// A keyframe refers to an SPS or PPS that never came.
    ParameterSetsMissing,
    /// A message could not be read as an FLV tag.
    BadTag(FlvError),
    /// H.264 could not be read.
    BadVideo(AvcError),
    /// An AAC sequence header could not be read.
    BadAudioConfig(AacError),
    /// An AAC access unit was empty or larger than any real one.
    BadAudio,
    /// Several tracks came in one message.
    Multitrack,
    /// Timestamps jumped.
    TimestampJump,
}

/// How many kinds of warnings there are.
pub(super) const WARNING_KINDS: usize = 14;

impl IngestWarning {
    /// Number of its kind, below [`WARNING_KINDS`].
    pub(super) fn kind(&self) -> usize {
        match self {
            Self::Reordering => 0,
            Self::KeyframeInterval => 1,
            Self::PixelFormat { .. } => 2,
            Self::VideoCodec(_) => 3,
            Self::AudioCodec(_) => 4,
            Self::VideoConfigMissing => 5,
            Self::AudioConfigMissing => 6,
            Self::ParameterSetsMissing => 7,
            Self::BadTag(_) => 8,
            Self::BadVideo(_) => 9,
            Self::BadAudioConfig(_) => 10,
            Self::BadAudio => 11,
            Self::Multitrack => 12,
            Self::TimestampJump => 13,
        }
    }
}

impl fmt::Display for IngestWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reordering => f.write_str(
                "The video has B-frames, which browsers show wrongly over WebRTC. In OBS: \
                 Settings → Output → x264 options: bframes=0 (NVENC: Max B-frames 0). \
                 In ffmpeg: -bf 0",
            ),
            Self::KeyframeInterval => f.write_str(
                "Keyframes are more than 4 s apart, so viewers wait for their first picture. \
                 In OBS: Settings → Output → Keyframe Interval: 1 s or 2 s. \
                 In ffmpeg: -g with twice the frame rate",
            ),
            Self::PixelFormat { profile } => write!(
                f,
                "The video is H.264 {profile}; most browsers decode only 8-bit 4:2:0. \
                 In OBS: Settings → Advanced → Color Format: NV12. In ffmpeg: -pix_fmt yuv420p"
            ),
            Self::VideoCodec(codec) => write!(
                f,
                "The video is {codec}, which is not played here: send H.264. \
                 In OBS: Settings → Output → Video Encoder. In ffmpeg: -c:v libx264 -bf 0"
            ),
            Self::AudioCodec(codec) => write!(
                f,
                "The audio is {codec}, which is not played here: send AAC. \
                 In OBS: Settings → Output → Audio Encoder. In ffmpeg: -c:a aac"
            ),
            Self::VideoConfigMissing => f.write_str(
                "Video came without its sequence header and is dropped until one comes. \
                 Restart the encoder's stream if the picture stays black",
            ),
            Self::AudioConfigMissing => f.write_str(
                "Audio came without its AAC sequence header and is dropped until one comes. \
                 Restart the encoder's stream if it stays silent",
            ),
            Self::ParameterSetsMissing => f.write_str(
                "A keyframe needs an SPS or PPS that never came; it is dropped. \
                 Restart the encoder's stream if the picture stays black",
            ),
            Self::BadTag(error) => write!(f, "A media message was dropped: {error}"),
            Self::BadVideo(error) => write!(f, "Bad video was dropped: {error}"),
            Self::BadAudioConfig(error) => {
                write!(f, "A bad audio sequence header was dropped: {error}")
            }
            Self::BadAudio => f.write_str("Empty or oversized audio was dropped"),
            Self::Multitrack => f.write_str(
                "Additional tracks (Enhanced RTMP multitrack) are ignored; \
                 the main video and audio are played. In OBS: turn off multitrack video",
            ),
            Self::TimestampJump => f.write_str(
                "Timestamps jumped; the stream goes on from there. \
                 If this comes often, look at the encoder's clock and sources",
            ),
        }
    }
}
