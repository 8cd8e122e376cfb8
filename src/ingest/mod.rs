//! From a publisher's RTMP media messages to frames on the server's timeline, with a verdict on
//! the encoder: what it sends, and what it should change (FLV annex E, 14496-15 §5.3, 14496-3
//! §1.6). Whatever is wrong with one message, the publish goes on.

mod audio;
mod avc;
mod coded;
mod gate;
mod report;
mod stats;
pub mod timeline;
mod tracks;
mod verdict;
mod video;
mod warning;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

pub use stats::{DropReason, IngestStats};
pub use warning::IngestWarning;

use crate::ids::Epoch;
use crate::media::codec::VideoCodec;
use crate::media::codec::{AudioConfig, CodedFrame, VideoConfig};
use crate::media::flv::{AudioBody, AudioTag, AudioTags, FlvError, VideoBody, VideoTag, VideoTags};
use crate::media::frame::{StreamInfo, TrackInfo, TrackKind, VideoFrame};
use crate::media::part;
use crate::media::time::{MediaTime, Timebase};
use crate::media::verdict::Verdict;
use audio::AudioTrack;
use report::Report;
use timeline::Timeline;
use tracks::OtherTracks;
use verdict::Judge;
use video::{Picture, Ready, Timing, VideoTrack};

/// Largest width or height that is believed of metadata, in pixels: as of an SPS.
const DIMENSION_PIXELS_MAX: u32 = 8_192;
/// Least distance of two video frames: more than a tick of 90 kHz, as the timeline keeps it.
const VIDEO_STEP: MediaTime = MediaTime::from_micros(12);

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

impl Metadata {
    /// From the numbers that metadata has; what makes no sense is `None`.
    #[must_use]
    pub fn new(width: Option<f64>, height: Option<f64>, framerate: Option<f64>) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the largest width"
        )]
        let pixels = |value: Option<f64>| {
            let legal = 1.0..=f64::from(DIMENSION_PIXELS_MAX);
            let value = value.filter(|value| legal.contains(value));
            value.map(|value| value as u32)
        };
        Self {
            width: pixels(width),
            height: pixels(height),
            framerate,
        }
    }
}

/// One publish, from its first media message to its end.
pub struct Ingest {
    epoch: Epoch,
    timeline: Timeline,
    video: VideoTrack,
    audio: AudioTrack,
    others: OtherTracks,
    last_video: Option<MediaTime>,
    last_audio: Option<MediaTime>,
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
            others: OtherTracks::default(),
            last_video: None,
            last_audio: None,
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
    /// point into it, unless they are a small part of it.
    pub fn handle_video(&mut self, timestamp_ms: u32, payload: Bytes, now: Instant) {
        let bytes = &mut self.report.stats.video_bytes;
        *bytes = bytes.saturating_add(payload.len() as u64);
        self.judge.video_came(now);
        for tag in VideoTags::new(&payload) {
            match tag {
                Ok(tag) if tag.track != 0 => self.others.video(&payload, &tag, &mut self.report),
                Ok(tag) => self.handle_video_tag(timestamp_ms, &payload, tag, now),
                Err(error) => self.bad_tag(error),
            }
        }
        self.tell_info();
    }

    fn handle_video_tag(
        &mut self,
        timestamp_ms: u32,
        message: &Bytes,
        tag: VideoTag,
        now: Instant,
    ) {
        match tag.body {
            VideoBody::Config { codec, data } => {
                let record = message.slice(data);
                self.video.configure(codec, &record, &mut self.report);
            }
            VideoBody::Frame {
                codec,
                key,
                composition_time_ms,
                data,
            } => {
                let timing = Timing {
                    dts: self.map(TrackKind::Video, timestamp_ms, tag.nanoseconds, now),
                    composition_time_ms,
                    received: now,
                };
                let report = &mut self.report;
                let (message, data) = part::kept(message, data);
                let ready = match codec {
                    VideoCodec::Avc => {
                        let whole = message.slice(..data.end);
                        self.video.access_unit(whole, data.start, timing, report)
                    }
                    VideoCodec::Hevc
                    | VideoCodec::Av1
                    | VideoCodec::Vp9
                    | VideoCodec::Vp8
                    | VideoCodec::SorensonH263
                    | VideoCodec::ScreenVideo
                    | VideoCodec::Vp6
                    | VideoCodec::Vp6Alpha
                    | VideoCodec::ScreenVideo2 => {
                        let data = message.slice(data);
                        self.video.coded(codec, key, data, timing, report)
                    }
                };
                self.deliver(ready);
            }
            VideoBody::NoMedia => {}
            VideoBody::TransportStream => {
                self.report.drop(DropReason::UnsupportedCodec);
                self.report.warn(IngestWarning::TransportStream);
            }
            VideoBody::Unknown(codec) => self.video.unplayable(codec, &mut self.report),
        }
    }

    /// Takes an audio message (RTMP type 8) that was complete at `now`.
    pub fn handle_audio(&mut self, timestamp_ms: u32, payload: Bytes, now: Instant) {
        let bytes = &mut self.report.stats.audio_bytes;
        *bytes = bytes.saturating_add(payload.len() as u64);
        for tag in AudioTags::new(&payload) {
            match tag {
                Ok(tag) if tag.track != 0 => self.others.audio(&payload, &tag, &mut self.report),
                Ok(tag) => self.handle_audio_tag(timestamp_ms, &payload, tag, now),
                Err(error) => self.bad_tag(error),
            }
        }
        self.tell_info();
    }

    fn handle_audio_tag(
        &mut self,
        timestamp_ms: u32,
        message: &Bytes,
        tag: AudioTag,
        now: Instant,
    ) {
        match tag.body {
            AudioBody::Config { codec, data } => {
                let header = message.slice(data);
                self.audio.configure(codec, &header, &mut self.report);
            }
            AudioBody::Packet { codec, data } => {
                let pts = self.map(TrackKind::Audio, timestamp_ms, tag.nanoseconds, now);
                let (message, data) = part::kept(message, data);
                let data = message.slice(data);
                if !self.audio.admits(codec, &data, &mut self.report) {
                    return;
                }
                if self.late {
                    self.report.drop(DropReason::Late);
                    return;
                }
                self.tell_info();
                let unit = AudioUnit {
                    pts,
                    data,
                    received: now,
                };
                if self.report.push(IngestOutput::Audio(unit)) {
                    let units = &mut self.report.stats.audio_units;
                    *units = units.saturating_add(1);
                }
            }
            AudioBody::NoMedia => {}
            AudioBody::Unknown(codec) => self.audio.unplayable(codec, &mut self.report),
        }
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
        let size = self.metadata.width.zip(self.metadata.height);
        self.video.hint(size, self.metadata.framerate);
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
        self.video.frames_per_second()
    }

    /// Puts a message on the timeline; `nanoseconds` are what an extended header adds to its
    /// timestamp. A track's times never go back, and video's rise.
    fn map(
        &mut self,
        track: TrackKind,
        timestamp_ms: u32,
        nanoseconds: u32,
        now: Instant,
    ) -> MediaTime {
        const NANOSECONDS_PER_MICROSECOND: u32 = 1_000;
        let reordered = self.info.reordering || self.info.transcode.is_some();
        self.timeline.set_reordering(reordered);
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
        let micros = nanoseconds / NANOSECONDS_PER_MICROSECOND;
        let exact = mapped.dts.plus(MediaTime::from_micros(micros.into()));
        let (last, step) = match track {
            TrackKind::Video => (&mut self.last_video, VIDEO_STEP),
            TrackKind::Audio => (&mut self.last_audio, MediaTime::ZERO),
        };
        let time = last.map_or(exact, |last| exact.max(last.plus(step)));
        *last = Some(time);
        time
    }

    fn deliver(&mut self, ready: Option<Ready>) {
        let Some(Ready { config, picture }) = ready else {
            return;
        };
        // Before the frame, so that those who begin with it know what it is.
        self.tell_info();
        if let Some(config) = config
            && !self.report.push(IngestOutput::VideoConfig(config))
        {
            self.video.lost_config();
            return;
        }
        let (key, output) = match picture {
            Picture::Avc(frame) => (frame.key, IngestOutput::Video(frame)),
            Picture::Coded(frame) => (frame.key, IngestOutput::Coded(frame)),
        };
        if !self.report.push(output) {
            self.video.lost_frame();
            return;
        }
        let stats = &mut self.report.stats;
        stats.video_frames = stats.video_frames.saturating_add(1);
        stats.keyframes = stats.keyframes.saturating_add(u64::from(key));
    }

    /// The tracks, in the order of their numbers: those of the picture, then those of the sound.
    fn tracks(&self, info: &StreamInfo) -> Vec<TrackInfo> {
        let video = tracks::played_video(info, self.video.frames_per_second());
        let audio = tracks::played_audio(&self.audio);
        let videos = video
            .into_iter()
            .chain(self.others.of_kind(TrackKind::Video));
        let audios = audio
            .into_iter()
            .chain(self.others.of_kind(TrackKind::Audio));
        videos.chain(audios).collect()
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
        advice.extend(self.others.advice());
        info.tracks = self.tracks(&info);
        info.advice = self.judge.advise(&advice);
        if info != self.info {
            self.info = info.clone();
            self.report.push(IngestOutput::Info(info));
        }
    }
}

#[cfg(test)]
mod tests;
