//! What can keep a stream's sound from being transcoded, and whose fault it is.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::limits::{AAC_CONFIG_BYTES_MAX, AUDIO_RETRY_AFTER_REFUSAL};

/// Why sound cannot be transcoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TranscodeError {
    /// The operator's: a setting of the Opus encoder is out of its range.
    Setting {
        /// Which.
        name: &'static str,
        /// What it may be.
        range: &'static str,
    },
    /// The environment's: a codec library cannot start, for want of memory.
    Start {
        /// Which library.
        library: &'static str,
        /// What it says.
        detail: String,
    },
    /// The publisher's: its AudioSpecificConfig is empty or too long.
    ConfigLength {
        /// Its length, in bytes.
        bytes: usize,
    },
    /// The publisher's: its configuration is broken, or names a kind of the codec that is not
    /// supported.
    Config {
        /// Of which codec, as users call it.
        codec: &'static str,
        /// What the decoder says.
        detail: String,
    },
    /// The operator's: the codec needs ffmpeg, which is not there.
    NeedsFfmpeg,
    /// The operator's: the codec needs ffmpeg, which decodes as many streams as it may already.
    TooManyChildren,
    /// The environment's or the publisher's: ffmpeg ends again and again, or gives nothing.
    ChildFails,
    /// The publisher's: it changes its audio format all the time.
    TooManyChanges,
}

impl fmt::Display for TranscodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { name, range } => {
                write!(
                    f,
                    "the audio setting {name} must be {range}: correct the configuration"
                )
            }
            Self::Start { library, detail } => {
                write!(
                    f,
                    "the server cannot start {library} ({detail}): is it out of memory?"
                )
            }
            Self::ConfigLength { bytes } => write!(
                f,
                "the publisher's AAC configuration has {bytes} bytes instead of 2 to \
                 {AAC_CONFIG_BYTES_MAX}: restart the encoder"
            ),
            Self::Config { codec, detail } => write!(
                f,
                "the publisher's {codec} cannot be decoded ({detail}): choose AAC-LC, mono or \
                 stereo, in the encoder"
            ),
            Self::NeedsFfmpeg => f.write_str(
                "the publisher's audio codec is decoded by ffmpeg, which is missing: install \
                 ffmpeg on the server, or set video.ffmpeg to its path, or choose AAC in the encoder",
            ),
            Self::TooManyChildren => f.write_str(
                "the publisher's audio codec is decoded by ffmpeg, which decodes the sound of as \
                 many streams as it may already: choose AAC in the encoder, or raise \
                 transcode.workers",
            ),
            Self::ChildFails => f.write_str(
                "the server's ffmpeg cannot decode the publisher's audio: choose AAC in the encoder",
            ),
            Self::TooManyChanges => f.write_str(
                "the publisher changes its audio format again and again: choose one format in \
                 the encoder",
            ),
        }
    }
}

impl TranscodeError {
    /// When it may be over, though nothing about the stream changes.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Start { .. } | Self::NeedsFfmpeg | Self::TooManyChildren => {
                Some(AUDIO_RETRY_AFTER_REFUSAL)
            }
            Self::Setting { .. }
            | Self::ConfigLength { .. }
            | Self::Config { .. }
            | Self::ChildFails
            | Self::TooManyChanges => None,
        }
    }
}

impl Error for TranscodeError {}
