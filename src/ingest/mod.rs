//! From a publisher's RTMP media messages to frames on the server's timeline, with a verdict on
//! the encoder: what it sends, and what it should change (FLV annex E, 14496-15 §5.3, 14496-3
//! §1.6). Whatever is wrong with one message, the publish goes on.

mod audio;
mod report;
mod stats;
pub mod timeline;
mod verdict;
mod video;
mod warning;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

pub use stats::{DropReason, IngestStats};
pub use warning::IngestWarning;

use crate::ids::Epoch;
use crate::media::codec::{AudioConfig, CodedFrame, VideoConfig};
use crate::media::flv::{AudioTag, FlvError, VideoTag};
use crate::media::frame::{StreamInfo, TrackKind, VideoFrame};
use crate::media::time::{MediaTime, Timebase};
use crate::media::verdict::Verdict;
use audio::AudioTrack;
use report::Report;
use timeline::Timeline;
use verdict::Judge;
use video::{Timing, VideoTrack};

/// Largest width or height that is believed of metadata, in pixels: as of an SPS.
const DIMENSION_PIXELS_MAX: u32 = 8_192;

/// One audio packet: an AAC access unit, or what its codec calls it.
#[derive(Debug, Clone)]
pub struct AudioUnit {
    /// When its first sample is heard, on the server's timeline.
    pub pts: MediaTime,
    /// The packet; never empty.
    pub data: Bytes,
    /// When its last byte was received.
    pub received: Instant,
}

/// What a publish leads to.
#[derive(Debug, Clone)]
pub enum IngestOutput {
    /// A frame that can be decoded after those before it; the first is a keyframe.
    Video(VideoFrame),
    /// What the video frames from here on are coded with; comes before the first.
    VideoConfig(Arc<VideoConfig>),
    /// A frame of a codec that is never passed on as it is; the first is a keyframe.
    Coded(CodedFrame),
    /// How the audio from here on is coded; it is legal.
    AudioConfig(AudioConfig),
    /// An audio packet; a configuration came before the first.
    Audio(AudioUnit),
    /// What is known of the publish is new or has changed.
    Info(StreamInfo),
    /// Something that the publisher should know; each kind once.
    Warning(IngestWarning),
    /// What was found and measured so far; at most one a second.
    Verdict(Arc<Verdict>),
}

/// What onMetaData says, as far as it is of use. Only believed where the stream itself is silent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Metadata {
    /// `width`, in pixels.
    pub width: Option<u32>,
    /// `height`, in pixels.
    pub height: Option<u32>,
    /// `framerate`, in frames per second.
    pub framerate: Option<f64>,
}

/// One publish, from its first media message to its end.
pub struct Ingest {
    epoch: Epoch,
    timeline: Timeline,
    video: VideoTrack,
    audio: AudioTrack,
    metadata: Metadata,
    info: StreamInfo,
    report: Report,
    judge: Judge,
    /// Whether the last message mapped comes too late to be heard.
    late: bool,
}

impl Ingest {
    /// Begins the publish `epoch` of a room.
    #[must_use]
    pub fn new(timebase: Timebase, epoch: Epoch) -> Self {
        Self {
            epoch,
            timeline: Timeline::new(timebase),
            video: VideoTrack::default(),
            audio: AudioTrack::default(),
            metadata: Metadata::default(),
            info: StreamInfo::default(),
            report: Report::default(),
            judge: Judge::new(timebase),
            late: false,
        }
    }

    /// The publish this is.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes a video message (RTMP type 9) that was complete at `now`. Frames keep `payload` and
    /// point into it.
    pub fn handle_video(&mut self, timestamp_ms: u32, payload: Bytes, now: Instant) {
        let bytes = &mut self.report.stats.video_bytes;
        *bytes = bytes.saturating_add(payload.len() as u64);
        match VideoTag::parse(&payload) {
            Ok(VideoTag::AvcConfig { offset }) => {
                let record = payload.slice(offset..);
                self.video.configure(&record, &mut self.report);
            }
            Ok(VideoTag::AvcAccessUnit {
                offset,
                composition_time_ms,
            }) => {
                let timing = Timing {
                    dts: self.map(TrackKind::Video, timestamp_ms, now),
                    composition_time_ms,
                    received: now,
                };
                self.handle_access_unit(payload, offset, timing);
            }
            Ok(VideoTag::AvcEnd | VideoTag::NoMedia) => {}
            Ok(VideoTag::Multitrack) => self.ignore_multitrack(),
            Ok(VideoTag::Other(codec)) => self.video.other_codec(codec, &mut self.report),
            Err(error) => self.bad_tag(error),
        }
        self.tell_info();
    }

    /// Takes an audio message (RTMP type 8) that was complete at `now`.
    pub fn handle_audio(&mut self, timestamp_ms: u32, payload: Bytes, now: Instant) {
        let bytes = &mut self.report.stats.audio_bytes;
        *bytes = bytes.saturating_add(payload.len() as u64);
        match AudioTag::parse(&payload) {
            Ok(AudioTag::AacConfig { offset }) => {
                let config = payload.slice(offset..);
                self.audio.configure(config, &mut self.report);
            }
            Ok(AudioTag::AacRaw { offset }) => {
                let pts = self.map(TrackKind::Audio, timestamp_ms, now);
                self.handle_audio_unit(AudioUnit {
                    pts,
                    data: payload.slice(offset..),
                    received: now,
                });
            }
            Ok(AudioTag::NoMedia) => {}
            Ok(AudioTag::Multitrack) => self.ignore_multitrack(),
            Ok(AudioTag::Other(codec)) => self.audio.other_codec(codec, &mut self.report),
            Err(error) => self.bad_tag(error),
        }
        self.tell_info();
    }

    /// Takes what onMetaData said; values out of any sense are ignored.
    pub fn handle_metadata(&mut self, metadata: Metadata) {
        let pixels = |value: &u32| (1..=DIMENSION_PIXELS_MAX).contains(value);
        let rate = |value: &f64| value.is_finite() && *value > 0.0;
        self.metadata = Metadata {
            width: metadata.width.filter(pixels),
            height: metadata.height.filter(pixels),
            framerate: metadata.framerate.filter(rate),
        };
        self.report.info_changed = true;
        self.tell_info();
    }

    /// The next output, or `None` when there is none before the next message. To be polled until
    /// then after each message: what is not is bounded, and media beyond the bound is dropped.
    pub fn poll_output(&mut self) -> Option<IngestOutput> {
        if let Some(output) = self.report.pop() {
            self.judge.watch(&output);
            return Some(output);
        }
        if self.judge.evaluate(&self.timeline) {
            self.report.info_changed = true;
            self.tell_info();
        }
        let verdict = self.judge.take().map(IngestOutput::Verdict);
        verdict.or_else(|| self.report.pop())
    }

    /// When the publish may be read on, if not now: it is further ahead of the clock than viewers
    /// can take. Its messages are to be left where they are until then.
    #[must_use]
    pub fn resume_at(&self, now: Instant) -> Option<Instant> {
        self.timeline.resume_at(now)
    }

    /// Totals so far.
    #[must_use]
    pub fn stats(&self) -> IngestStats {
        self.report.stats
    }

    /// What is known of the publish.
    #[must_use]
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// Frames per second as the stream announces them, or else its metadata.
    #[must_use]
    pub fn frames_per_second(&self) -> Option<f64> {
        self.video.frames_per_second().or(self.metadata.framerate)
    }

    fn map(&mut self, track: TrackKind, timestamp_ms: u32, now: Instant) -> MediaTime {
        let mapped = self.timeline.map(track, timestamp_ms, now);
        self.late = mapped.late;
        if mapped.jumped {
            let jumps = &mut self.report.stats.timestamp_jumps;
            *jumps = jumps.saturating_add(1);
            self.judge.jumped(*jumps);
            self.report.warn(IngestWarning::TimestampJump);
            match track {
                TrackKind::Video => self.video.forget_times(),
                TrackKind::Audio => {}
            }
        }
        mapped.dts
    }

    fn handle_access_unit(&mut self, message: Bytes, start: usize, timing: Timing) {
        let frame = self
            .video
            .access_unit(message, start, timing, &mut self.report);
        let Some(frame) = frame else { return };
        // Before the frame, so that those who begin with it know what it is.
        self.tell_info();
        let key = frame.key;
        if !self.report.push(IngestOutput::Video(frame)) {
            self.video.lost_frame();
            return;
        }
        let stats = &mut self.report.stats;
        stats.video_frames = stats.video_frames.saturating_add(1);
        stats.keyframes = stats.keyframes.saturating_add(u64::from(key));
    }

    fn handle_audio_unit(&mut self, unit: AudioUnit) {
        if self.late {
            self.report.drop(DropReason::Late);
            return;
        }
        if !self.audio.admits(&unit.data, &mut self.report) {
            return;
        }
        if self.report.push(IngestOutput::Audio(unit)) {
            let units = &mut self.report.stats.audio_units;
            *units = units.saturating_add(1);
        }
    }

    fn ignore_multitrack(&mut self) {
        self.report.drop(DropReason::Multitrack);
        self.report.warn(IngestWarning::Multitrack);
    }

    fn bad_tag(&mut self, error: FlvError) {
        self.report.drop(DropReason::BadTag);
        self.report.warn(IngestWarning::BadTag(error));
    }

    /// Says what is known of the publish, if that has changed.
    fn tell_info(&mut self) {
        if !std::mem::take(&mut self.report.info_changed) {
            return;
        }
        let mut info = StreamInfo::default();
        let mut advice = Vec::new();
        self.video.describe(&mut info, &mut advice);
        info.audio = self.audio.name();
        advice.extend(self.audio.advice());
        info.advice = self.judge.advise(&advice);
        let known = self.metadata.width.zip(self.metadata.height);
        info.size = info.size.or(known.filter(|_| info.video.is_some()));
        if info != self.info {
            self.info = info.clone();
            self.report.push(IngestOutput::Info(info));
        }
    }
}

#[cfg(test)]
mod tests;
