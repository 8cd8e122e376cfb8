//! The audio track of a publish: which configuration is in force, and which access units may go
//! on to be decoded.

use bytes::Bytes;

use super::IngestOutput;
use super::report::Report;
use super::stats::DropReason;
use super::warning::IngestWarning;
use crate::media::aac::{AacError, AudioSpecificConfig};
use crate::media::codec::AudioConfig;
use crate::media::flv::AudioCodec;

/// Largest AAC access unit, in bytes: 6,144 bits for each of 8 channels (14496-3 §4.5.3.1), with
/// room for what encoders append.
const ACCESS_UNIT_BYTES_MAX: usize = 8 * 1_024;
/// Largest AudioSpecificConfig, in bytes: with a full program config element and its comment.
const CONFIG_BYTES_MAX: usize = 512;

#[derive(Default)]
pub(super) struct AudioTrack {
    config: Option<(Bytes, AudioSpecificConfig)>,
    unsupported: Option<AudioCodec>,
}

impl AudioTrack {
    /// The codec as users call it, if there is audio.
    pub(super) fn name(&self) -> Option<String> {
        match (&self.config, self.unsupported) {
            (Some((_, config)), _) => Some(config.to_string()),
            (None, Some(codec)) => Some(codec.to_string()),
            (None, None) => None,
        }
    }

    pub(super) fn advice(&self) -> Option<IngestWarning> {
        let silent = self.config.is_none();
        let codec = self.unsupported.filter(|_| silent);
        codec.map(IngestWarning::AudioCodec)
    }

    pub(super) fn other_codec(&mut self, codec: AudioCodec, report: &mut Report) {
        report.drop(DropReason::UnsupportedCodec);
        report.warn(IngestWarning::AudioCodec(codec));
        if self.unsupported != Some(codec) {
            self.unsupported = Some(codec);
            report.info_changed = true;
        }
    }

    pub(super) fn configure(&mut self, config: Bytes, report: &mut Report) {
        if self.config.as_ref().is_some_and(|(old, _)| *old == config) {
            return;
        }
        let parsed = match config.len() {
            0..=CONFIG_BYTES_MAX => AudioSpecificConfig::parse(&config),
            _ => Err(AacError::Channels),
        };
        match parsed {
            Ok(parsed) => {
                self.config = Some((config.clone(), parsed));
                report.info_changed = true;
                report.push(IngestOutput::AudioConfig(AudioConfig::Aac(config)));
            }
            Err(error) => {
                report.drop(DropReason::BadConfig);
                report.warn(IngestWarning::BadAudioConfig(error));
            }
        }
    }

    /// Whether an access unit may go on; counts it if not.
    pub(super) fn admits(&self, unit: &[u8], report: &mut Report) -> bool {
        if self.config.is_none() {
            report.drop(DropReason::ConfigMissing);
            report.warn(IngestWarning::AudioConfigMissing);
            return false;
        }
        if unit.is_empty() || unit.len() > ACCESS_UNIT_BYTES_MAX {
            report.drop(match unit.is_empty() {
                true => DropReason::Empty,
                false => DropReason::Malformed,
            });
            report.warn(IngestWarning::BadAudio);
            return false;
        }
        true
    }
}
