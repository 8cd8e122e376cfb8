//! What is wrong with a publish, said to the person who publishes: one plain line each, with what
//! to do about it in OBS and in ffmpeg.

use std::fmt;

use crate::media::aac::AacError;
use crate::media::avc::AvcError;
use crate::media::codec::{AudioCodec, VideoCodec};
use crate::media::flv::{FlvError, UnknownCodec};

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
    /// Pictures are made of fields.
    Interlaced,
    /// Pixels are not square.
    PixelShape,
    /// Pictures are to be turned or mirrored before they are shown.
    Rotation,
    /// The video is not H.264.
    VideoCodec(VideoCodec),
    /// The video cannot be played.
    UnknownVideo(UnknownCodec),
    /// The audio cannot be played.
    UnknownAudio(UnknownCodec),
    /// The video is announced as an MPEG-2 transport stream.
    TransportStream,
    /// Video came before its sequence header.
    VideoConfigMissing,
    /// Audio came before its sequence header.
    AudioConfigMissing,
    /// A keyframe refers to an SPS or PPS that never came.
    ParameterSetsMissing,
    /// A message could not be read as an FLV tag.
    BadTag(FlvError),
    /// H.264 or H.265 could not be read.
    BadVideo(AvcError),
    /// A sequence header of another codec than H.264 could not be read.
    BadVideoConfig(VideoCodec),
    /// An AAC sequence header could not be read.
    BadAudioConfig(AacError),
    /// Another audio sequence header could not be read.
    BadAudioHeader(AudioCodec),
    /// An audio packet was larger than any real one.
    BadAudio,
    /// There are more tracks than the one video and one audio that are played.
    Multitrack,
    /// Timestamps jumped.
    TimestampJump,
}

/// How many kinds of warnings there are.
pub(super) const WARNING_KINDS: usize = 21;

impl IngestWarning {
    /// Number of its kind, below [`WARNING_KINDS`].
    pub(super) fn kind(&self) -> usize {
        match self {
            Self::Reordering => 0,
            Self::KeyframeInterval => 1,
            Self::PixelFormat { .. } => 2,
            Self::Interlaced => 3,
            Self::VideoCodec(_) => 4,
            Self::UnknownVideo(_) => 5,
            Self::UnknownAudio(_) => 6,
            Self::TransportStream => 7,
            Self::VideoConfigMissing => 8,
            Self::AudioConfigMissing => 9,
            Self::ParameterSetsMissing => 10,
            Self::BadTag(_) => 11,
            Self::BadVideo(_) => 12,
            Self::BadVideoConfig(_) => 13,
            Self::BadAudioConfig(_) => 14,
            Self::BadAudioHeader(_) => 15,
            Self::BadAudio => 16,
            Self::Multitrack => 17,
            Self::TimestampJump => 18,
            Self::PixelShape => 19,
            Self::Rotation => 20,
        }
    }

    /// What there is to say where the words do not depend on the publish.
    fn text(&self) -> Option<&'static str> {
        match self {
            Self::Reordering => Some(
                "The video has B-frames, which browsers do not play over WebRTC: it has to be \
                 converted for them, which costs the server CPU and adds delay. To avoid that, \
                 in OBS: Settings → Output → x264 options: bframes=0 (NVENC: Max B-frames 0). \
                 In ffmpeg: -bf 0",
            ),
            Self::KeyframeInterval => Some(
                "Keyframes are more than 4 s apart, so viewers wait for their first picture. \
                 In OBS: Settings → Output → Keyframe Interval: 1 s or 2 s. \
                 In ffmpeg: -g with twice the frame rate",
            ),
            Self::Interlaced => Some(
                "The video is interlaced, which browsers show with combs: it has to be converted \
                 for them, which costs the server CPU and adds delay. To avoid that, send \
                 progressive video: switch the camera to a mode with \"p\" (1080p instead of 1080i). \
                 In ffmpeg: -vf yadif and neither -flags +ildct nor +ilme",
            ),
            Self::PixelShape => Some(
                "The video's pixels are not square, which browsers show squeezed: it has to be \
                 converted for them, which costs the server CPU and adds delay. To avoid that, send \
                 it in the size it is shown in. In ffmpeg: -vf scale=iw*sar:ih,setsar=1",
            ),
            Self::Rotation => Some(
                "The video is to be turned or mirrored before it is shown, which browsers do not do: \
                 it has to be converted for them, which costs the server CPU and adds delay. To \
                 avoid that, turn the picture in the encoder (phones: lock the orientation before \
                 going live). In ffmpeg: leave -autorotate on",
            ),
            Self::TransportStream => Some(
                "The video is announced as an MPEG-2 transport stream, which is not played \
                 here: let the encoder send plain Enhanced RTMP",
            ),
            Self::VideoConfigMissing => Some(
                "Video came without its sequence header and is dropped until one comes. \
                 Restart the encoder's stream if the picture stays black",
            ),
            Self::AudioConfigMissing => Some(
                "Audio came without its sequence header and is dropped until one comes. \
                 Restart the encoder's stream if it stays silent",
            ),
            Self::ParameterSetsMissing => Some(
                "A keyframe needs an SPS or PPS that never came; it is dropped. \
                 Restart the encoder's stream if the picture stays black",
            ),
            Self::BadAudio => Some("Oversized audio was dropped"),
            Self::Multitrack => Some(
                "Additional tracks (Enhanced RTMP multitrack) are not played; the video and \
                 audio of track 0 are. In OBS: turn off multitrack video to save bandwidth",
            ),
            Self::TimestampJump => Some(
                "Timestamps jumped; the stream goes on from there. \
                 If this comes often, look at the encoder's clock and sources",
            ),
            Self::PixelFormat { .. }
            | Self::VideoCodec(_)
            | Self::UnknownVideo(_)
            | Self::UnknownAudio(_)
            | Self::BadTag(_)
            | Self::BadVideo(_)
            | Self::BadVideoConfig(_)
            | Self::BadAudioConfig(_)
            | Self::BadAudioHeader(_) => None,
        }
    }
}

impl fmt::Display for IngestWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.text() {
            return f.write_str(text);
        }
        match self {
            Self::PixelFormat { profile } => write!(
                f,
                "The video's pixels are not 8-bit 4:2:0 (H.264 {profile}), which most browsers \
                 do not play: it has to be converted for them, which costs the server CPU and \
                 adds delay. To avoid that, in OBS: Settings → Advanced → Color Format: NV12. \
                 In ffmpeg: -pix_fmt yuv420p"
            ),
            Self::VideoCodec(codec) => write!(
                f,
                "The video is {codec}, which not every browser plays over WebRTC: it has to be \
                 converted to H.264, which costs the server CPU and adds delay. To avoid that, send \
                 H.264. In OBS: Settings → Output → Video Encoder. In ffmpeg: -c:v libx264 -bf 0"
            ),
            Self::UnknownVideo(codec) => write!(
                f,
                "The video is {codec}, which is not played here: send H.264. \
                 In OBS: Settings → Output → Video Encoder. In ffmpeg: -c:v libx264 -bf 0"
            ),
            Self::UnknownAudio(codec) => write!(
                f,
                "The audio is {codec}, which is not played here: send AAC. \
                 In OBS: Settings → Output → Audio Encoder. In ffmpeg: -c:a aac"
            ),
            Self::BadTag(error) => write!(f, "A media message was dropped: {error}"),
            Self::BadVideo(error) => write!(f, "Bad video was dropped: {error}"),
            Self::BadVideoConfig(codec) => {
                write!(
                    f,
                    "A sequence header of {codec} cannot be read and was dropped"
                )
            }
            Self::BadAudioConfig(error) => {
                write!(f, "A bad audio sequence header was dropped: {error}")
            }
            Self::BadAudioHeader(codec) => {
                write!(
                    f,
                    "A sequence header of {codec} cannot be read and was dropped"
                )
            }
            Self::Reordering
            | Self::KeyframeInterval
            | Self::Interlaced
            | Self::PixelShape
            | Self::Rotation
            | Self::TransportStream
            | Self::VideoConfigMissing
            | Self::AudioConfigMissing
            | Self::ParameterSetsMissing
            | Self::BadAudio
            | Self::Multitrack
            | Self::TimestampJump => Ok(()),
        }
    }
}
