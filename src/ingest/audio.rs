//! The audio track of a publish: which configuration is in force, and which packets may go on to
//! be decoded.

use bytes::Bytes;

use super::IngestOutput;
use super::report::Report;
use super::stats::DropReason;
use super::warning::IngestWarning;
use crate::limits::AUDIO_UNIT_BYTES_MAX;
use crate::media::aac::{AacError, AudioSpecificConfig};
use crate::media::audio_header::{Sound, flac_format, flac_header};
use crate::media::codec::{AudioCodec, AudioConfig};
use crate::media::flv::UnknownCodec;

/// Largest AAC access unit, in bytes: 6,144 bits for each of 8 channels (14496-3 §4.5.3.1), with
/// room for what encoders append.
const AAC_UNIT_BYTES_MAX: usize = 8 * 1_024;
/// Largest sequence header, in bytes: AAC's with a full program config element and its comment;
/// FLAC's with a few tags, but no pictures.
const CONFIG_BYTES_MAX: usize = 4 * 1_024;

#[derive(Default)]
pub(super) struct AudioTrack {
    /// What was last announced.
    config: Option<AudioConfig>,
    /// Its codec, as users call it.
    codec: Option<String>,
    /// How it is sampled.
    sound: Option<Sound>,
    unplayable: Option<UnknownCodec>,
}

impl AudioTrack {
    /// The audio as users call it, if there is some: "AAC-LC 48 kHz stereo".
    pub(super) fn name(&self) -> Option<String> {
        let codec = self.codec()?;
        Some(match self.sound {
            Some(sound) => format!("{codec} {sound}"),
            None => codec,
        })
    }

    /// Its codec alone: "AAC-LC".
    pub(super) fn codec(&self) -> Option<String> {
        let unplayable = || self.unplayable.map(|codec| codec.to_string());
        self.codec.clone().or_else(unplayable)
    }

    /// How it is sampled, if that is known.
    pub(super) fn sound(&self) -> Option<Sound> {
        self.sound
    }

    pub(super) fn advice(&self) -> Option<IngestWarning> {
        let silent = self.config.is_none();
        let codec = self.unplayable.filter(|_| silent);
        codec.map(IngestWarning::UnknownAudio)
    }

    /// A codec that is not played.
    pub(super) fn unplayable(&mut self, codec: UnknownCodec, report: &mut Report) {
        report.drop(DropReason::UnsupportedCodec);
        report.warn(IngestWarning::UnknownAudio(codec));
        if self.unplayable != Some(codec) {
            self.unplayable = Some(codec);
            report.info_changed = true;
        }
    }

    /// Takes a sequence header; the same again changes nothing.
    pub(super) fn configure(&mut self, codec: AudioCodec, data: &Bytes, report: &mut Report) {
        // A copy, so that it does not hold on to its message.
        let data = match data.len() {
            0..=CONFIG_BYTES_MAX => Bytes::copy_from_slice(data),
            _ => Bytes::new(),
        };
        match codec {
            AudioCodec::Aac => self.configure_aac(data, report),
            AudioCodec::Flac => match flac_header(&data) {
                Some(header) => {
                    let sound = Sound::of_flac(&header);
                    if !self.has_flac_format(&header) {
                        let config = AudioConfig::Flac(header);
                        self.announce(codec.to_string(), config, sound, report);
                    }
                }
                None => {
                    report.drop(DropReason::BadConfig);
                    report.warn(IngestWarning::BadAudioHeader(codec));
                }
            },
            AudioCodec::Opus => {
                let sound = Sound::of_opus_header(&data);
                let header = sound.map(|_| data);
                self.announce(codec.to_string(), AudioConfig::Opus(header), sound, report);
            }
            // They need none; the first packet announces them.
            AudioCodec::Mp3
            | AudioCodec::Ac3
            | AudioCodec::Eac3
            | AudioCodec::ALaw { .. }
            | AudioCodec::MuLaw { .. }
            | AudioCodec::Pcm { .. }
            | AudioCodec::Speex
            | AudioCodec::Nellymoser { .. } => {}
        }
    }

    /// Whether a FLAC header changes nothing for a decoder: encoders send it again at the end,
    /// with the counts and the checksum that they know by then.
    fn has_flac_format(&self, header: &[u8]) -> bool {
        match &self.config {
            Some(AudioConfig::Flac(old)) => flac_format(old) == flac_format(header),
            Some(_) | None => false,
        }
    }

    fn configure_aac(&mut self, data: Bytes, report: &mut Report) {
        let config = AudioConfig::Aac(data.clone());
        if self.config.as_ref() == Some(&config) {
            return;
        }
        let parsed = match data.is_empty() {
            true => Err(AacError::Truncated),
            false => AudioSpecificConfig::parse(&data),
        };
        match parsed {
            Ok(parsed) => {
                let sound = Sound {
                    rate: parsed.output_sampling_frequency(),
                    channels: parsed.output_channels(),
                };
                self.announce(parsed.codec(), config, Some(sound), report);
            }
            Err(error) => {
                report.drop(DropReason::BadConfig);
                report.warn(IngestWarning::BadAudioConfig(error));
            }
        }
    }

    /// Makes a configuration the one in force, if it is another.
    fn announce(
        &mut self,
        codec: String,
        config: AudioConfig,
        sound: Option<Sound>,
        report: &mut Report,
    ) {
        if self.config.as_ref() == Some(&config) {
            return;
        }
        let pushed = report.push(IngestOutput::AudioConfig(config.clone()));
        self.config = Some(config).filter(|_| pushed);
        self.rename(codec, sound, report);
    }

    fn rename(&mut self, codec: String, sound: Option<Sound>, report: &mut Report) {
        self.codec = Some(codec);
        self.sound = sound;
        report.info_changed = true;
    }

    /// Whether a packet may go on; counts it if not. Announces it first, if its codec needs no
    /// sequence header and is new.
    pub(super) fn admits(&mut self, codec: AudioCodec, packet: &[u8], report: &mut Report) -> bool {
        let most = match codec {
            AudioCodec::Aac => AAC_UNIT_BYTES_MAX,
            AudioCodec::Mp3
            | AudioCodec::Opus
            | AudioCodec::Flac
            | AudioCodec::Ac3
            | AudioCodec::Eac3
            | AudioCodec::ALaw { .. }
            | AudioCodec::MuLaw { .. }
            | AudioCodec::Pcm { .. }
            | AudioCodec::Speex
            | AudioCodec::Nellymoser { .. } => AUDIO_UNIT_BYTES_MAX,
        };
        let sized = !packet.is_empty() && packet.len() <= most;
        if sized {
            self.announce_by_packet(codec, packet, report);
        }
        if !self.is_configured(codec) && (sized || needs_header(codec)) {
            report.drop(DropReason::ConfigMissing);
            report.warn(IngestWarning::AudioConfigMissing);
            return false;
        }
        if !sized {
            report.drop(match packet.is_empty() {
                true => DropReason::Empty,
                false => DropReason::Malformed,
            });
            // Empty audio is how some encoders say that there is silence.
            if !packet.is_empty() {
                report.warn(IngestWarning::BadAudio);
            }
            return false;
        }
        true
    }

    fn announce_by_packet(&mut self, codec: AudioCodec, packet: &[u8], report: &mut Report) {
        let (config, sound) = match codec {
            AudioCodec::Aac | AudioCodec::Flac => return,
            AudioCodec::Opus => {
                if self.is_configured(codec) {
                    return;
                }
                (AudioConfig::Opus(None), Sound::of_opus_packet(packet))
            }
            AudioCodec::Mp3 => (AudioConfig::Mp3, Sound::of_mp3(packet)),
            AudioCodec::Ac3 => (AudioConfig::Ac3, Sound::of_ac3(packet)),
            AudioCodec::Eac3 => (AudioConfig::Eac3, Sound::of_ac3(packet)),
            AudioCodec::ALaw { channels } => {
                (AudioConfig::ALaw { channels }, sound(8_000, channels))
            }
            AudioCodec::MuLaw { channels } => {
                (AudioConfig::MuLaw { channels }, sound(8_000, channels))
            }
            AudioCodec::Pcm {
                rate,
                channels,
                bits,
            } => {
                let config = AudioConfig::Pcm {
                    rate,
                    channels,
                    bits,
                };
                (config, sound(rate, channels))
            }
            AudioCodec::Speex => (AudioConfig::Speex, sound(16_000, 1)),
            AudioCodec::Nellymoser { rate } => (AudioConfig::Nellymoser { rate }, sound(rate, 1)),
        };
        let known = self.config.as_ref() == Some(&config);
        if known && sound.is_some() && sound != self.sound {
            // A packet that says something else of the sound than those before.
            self.rename(codec.to_string(), sound, report);
        }
        if !known {
            self.announce(codec.to_string(), config, sound, report);
        }
    }

    fn is_configured(&self, codec: AudioCodec) -> bool {
        match (codec, &self.config) {
            (AudioCodec::Aac, config) => matches!(config, Some(AudioConfig::Aac(_))),
            (AudioCodec::Flac, config) => matches!(config, Some(AudioConfig::Flac(_))),
            (AudioCodec::Opus, config) => matches!(config, Some(AudioConfig::Opus(_))),
            // Announced by the packet itself.
            (
                AudioCodec::Mp3
                | AudioCodec::Ac3
                | AudioCodec::Eac3
                | AudioCodec::ALaw { .. }
                | AudioCodec::MuLaw { .. }
                | AudioCodec::Pcm { .. }
                | AudioCodec::Speex
                | AudioCodec::Nellymoser { .. },
                config,
            ) => config.is_some(),
        }
    }
}

fn needs_header(codec: AudioCodec) -> bool {
    matches!(codec, AudioCodec::Aac | AudioCodec::Flac)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the same type as what packets may or may not say"
)]
fn sound(rate: u32, channels: u8) -> Option<Sound> {
    Some(Sound { rate, channels })
}
