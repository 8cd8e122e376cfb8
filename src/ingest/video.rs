//! The video track of a publish, whatever its codec: what is passed on, with what configuration
//! before it, and what about the encoder does not suit live playing.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::avc::AvcTrack;
use super::coded::CodedTrack;
use super::report::Report;
use super::stats::DropReason;
use super::warning::IngestWarning;
use crate::media::codec::{CodedFrame, VideoCodec, VideoConfig};
use crate::media::flv::UnknownCodec;
use crate::media::frame::{StreamInfo, VideoFrame};
use crate::media::time::MediaTime;

/// Largest configuration record that is kept, in bytes: twelve of x265's, which put their whole
/// option text into it.
pub(super) const RECORD_BYTES_MAX: usize = 32 * 1_024;
/// Composition times beyond this, in ms, are nonsense: 16 reordered pictures at 2 fps.
const COMPOSITION_TIME_MS_MAX: u32 = 8_000;
/// Highest frame rate that is believed, in frames a second.
const FRAMES_PER_SECOND_MAX: f64 = 1_000.0;

/// Where an access unit stands in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) dts: MediaTime,
    pub(super) composition_time_ms: i32,
    pub(super) received: Instant,
}

impl Timing {
    pub(super) fn presentation_time(self) -> MediaTime {
        let offset = self.composition_time_ms;
        let sane = offset.unsigned_abs() <= COMPOSITION_TIME_MS_MAX;
        let offset = if sane { offset } else { 0 };
        let pts = self.dts.plus(MediaTime::from_millis(offset.into()));
        pts.max(MediaTime::ZERO)
    }
}

/// A frame rate in frames per 1,000 seconds, if it makes sense.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and a million"
)]
pub(super) fn frames_per_1000_s(per_second: f64) -> Option<u32> {
    let sane = per_second > 0.0 && per_second <= FRAMES_PER_SECOND_MAX;
    let rounded = (per_second * 1_000.0).round();
    (sane && rounded >= 1.0).then_some(rounded as u32)
}

/// A picture to pass on.
pub(super) enum Picture {
    Avc(VideoFrame),
    Coded(CodedFrame),
}

/// A picture, and what must come before it.
pub(super) struct Ready {
    pub(super) config: Option<Arc<VideoConfig>>,
    pub(super) picture: Picture,
}

#[derive(Default)]
pub(super) struct VideoTrack {
    avc: AvcTrack,
    coded: CodedTrack,
    /// What was last announced, without what metadata adds.
    announced: Option<VideoConfig>,
    unplayable: Option<UnknownCodec>,
    /// As metadata says.
    size: Option<(u32, u32)>,
    frame_rate: Option<f64>,
}

impl VideoTrack {
    /// Takes what metadata says; it counts where the stream is silent.
    pub(super) fn hint(&mut self, size: Option<(u32, u32)>, frame_rate: Option<f64>) {
        self.size = size;
        self.frame_rate = frame_rate;
    }

    /// Fills in what is known of the video.
    pub(super) fn describe(&self, info: &mut StreamInfo, advice: &mut Vec<IngestWarning>) {
        match self.is_avc() {
            true => self.avc.describe(info, advice),
            false => self.coded.describe(info, advice),
        }
        if let Some(codec) = self.unplayable.filter(|_| info.video.is_none()) {
            info.video = Some(codec.to_string());
            advice.push(IngestWarning::UnknownVideo(codec));
        }
        if info.video.is_some() {
            info.size = info.size.or(self.size);
        }
    }

    /// Whether what is played, or before that, what was heard of, is H.264.
    fn is_avc(&self) -> bool {
        match &self.announced {
            Some(announced) => announced.codec == VideoCodec::Avc,
            None => self.avc.is_known() && self.coded.codec().is_none(),
        }
    }

    /// Frames per second as the stream announces them, or else its metadata.
    pub(super) fn frames_per_second(&self) -> Option<f64> {
        let announced = match self.is_avc() {
            true => self.avc.frames_per_second(),
            false => None,
        };
        announced.or(self.frame_rate)
    }

    /// A codec that is not played.
    pub(super) fn unplayable(&mut self, codec: UnknownCodec, report: &mut Report) {
        report.drop(DropReason::UnsupportedCodec);
        report.warn(IngestWarning::UnknownVideo(codec));
        if self.unplayable != Some(codec) {
            self.unplayable = Some(codec);
            report.info_changed = true;
        }
    }

    /// Takes a sequence header.
    pub(super) fn configure(&mut self, codec: VideoCodec, record: &Bytes, report: &mut Report) {
        match codec {
            VideoCodec::Avc => self.avc.configure(record, report),
            VideoCodec::Hevc
            | VideoCodec::Av1
            | VideoCodec::Vp9
            | VideoCodec::Vp8
            | VideoCodec::SorensonH263
            | VideoCodec::ScreenVideo
            | VideoCodec::Vp6
            | VideoCodec::Vp6Alpha
            | VideoCodec::ScreenVideo2 => self.coded.configure(codec, record, report),
        }
    }

    /// Takes the H.264 access unit that begins at `start` of its message.
    ///
    /// Returns `None` if it is not to be passed on, which is counted then.
    pub(super) fn access_unit(
        &mut self,
        message: Bytes,
        start: usize,
        timing: Timing,
        report: &mut Report,
    ) -> Option<Ready> {
        let frame = self.avc.access_unit(message, start, timing, report)?;
        let announced = self.announced.as_ref();
        let is_first = announced.is_none_or(|announced| announced.codec != VideoCodec::Avc);
        let begins = frame.key || frame.recovery && is_first;
        let config = match begins {
            true => self.avc.config(),
            false => None,
        };
        let config = self.change(VideoCodec::Avc, begins, config, report)?;
        let picture = Picture::Avc(frame);
        Some(Ready { config, picture })
    }

    /// Takes a picture of another codec; otherwise as [`Self::access_unit`].
    pub(super) fn coded(
        &mut self,
        codec: VideoCodec,
        key: bool,
        data: Bytes,
        timing: Timing,
        report: &mut Report,
    ) -> Option<Ready> {
        let frame = self.coded.frame(codec, key, data, timing, report)?;
        let config = match frame.key {
            true => self.coded.config(),
            false => None,
        };
        let config = self.change(codec, frame.key, config, report)?;
        let picture = Picture::Coded(frame);
        Some(Ready { config, picture })
    }

    /// What is to be announced before a frame, if something; `None` if the frame cannot follow
    /// those before it, which is counted then.
    fn change(
        &mut self,
        codec: VideoCodec,
        key: bool,
        config: Option<VideoConfig>,
        report: &mut Report,
    ) -> Option<Option<Arc<VideoConfig>>> {
        let announced = self.announced.as_ref();
        let same_codec = announced.is_some_and(|announced| announced.codec == codec);
        if key && config.is_some() && config.as_ref() != announced {
            report.info_changed |= !same_codec;
            self.announced.clone_from(&config);
            return Some(config.map(|config| Arc::new(self.complete(config))));
        }
        if same_codec {
            return Some(None);
        }
        report.drop(DropReason::KeyframeMissing);
        self.lost_frame();
        None
    }

    fn complete(&self, config: VideoConfig) -> VideoConfig {
        let frame_rate = self.frame_rate.and_then(frames_per_1000_s);
        VideoConfig {
            size: config.size.or(self.size),
            frames_per_1000_s: config.frames_per_1000_s.or(frame_rate),
            ..config
        }
    }

    /// Timestamps jumped: times before and after cannot be compared.
    pub(super) fn forget_times(&mut self) {
        self.avc.forget_times();
    }

    /// A frame, or the configuration before it, could not be passed on after all: what follows
    /// cannot be decoded, and the next keyframe brings its configuration again.
    pub(super) fn lost_frame(&mut self) {
        self.avc.lost_frame();
        self.coded.lost_frame();
    }

    /// The configuration before a frame could not be passed on: the next keyframe brings it.
    pub(super) fn lost_config(&mut self) {
        self.announced = None;
        self.lost_frame();
    }
}
