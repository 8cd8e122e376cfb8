//! Between this core's publishes and the video transcoders: who needs a safe rendition, what is
//! said of it, and what comes back.

use std::sync::Arc;
use std::time::Instant;

use super::ending::Tail;
use super::safe_video::Updated;
use super::{Engine, EngineOutput, Timer};
use crate::ids::{PublisherId, RoomId};
use crate::limits::TRANSCODE_KEYFRAME_INTERVAL;
use crate::media::codec::{CodedFrame, TranscodeReason, TranscodeState, VideoConfig, VideoMode};
use crate::media::frame::{Rendition, StreamInfo, VideoFrame};
use crate::media::verdict::{Severity, Verdict, VerdictItem};
use crate::messages::{ControlMsg, VideoMsg, VideoReply};

/// Whether published frames are for every viewer. In [`VideoMode::Never`] H.264 goes out as it is
/// published, whatever it is.
pub(super) fn is_source_safe(mode: VideoMode, info: &StreamInfo) -> bool {
    match mode {
        VideoMode::Auto => info.transcode.is_none(),
        VideoMode::Never => true,
        VideoMode::Always => false,
    }
}

impl Engine {
    /// Says when video is transcoded; for the frames from here on.
    pub fn set_video_mode(&mut self, mode: VideoMode) {
        self.video_mode = mode;
    }

    /// Takes what the video transcoder made, or says.
    pub fn handle_video_reply(&mut self, reply: VideoReply, now: Instant) {
        match reply {
            VideoReply::Frame { publisher, frame } => self.push_made(publisher, &frame, now),
            VideoReply::Finished { publisher } => {
                self.tail_came(publisher, Tail::Video, now);
            }
            VideoReply::Restart { publisher } => {
                let mut messages = Vec::new();
                if let Some(publish) = self.publish_mut(publisher) {
                    log::debug!("video is transcoded anew room={}", publish.name);
                    publish.safe.restart(&mut messages);
                }
                self.post_video(messages);
                self.update_video(publisher, now);
            }
            VideoReply::Failed {
                publisher,
                text,
                retry_after,
            } => {
                if let Some(publish) = self.publish_mut(publisher) {
                    publish.safe.fail(text, retry_after, now);
                    let room = publish.room;
                    if let Some(state) = self.rooms.get_mut(&room) {
                        state.room.clear_safe();
                    }
                    self.update_video(publisher, now);
                    self.tell_stream_info(publisher, now);
                }
                self.tail_came(publisher, Tail::Video, now);
            }
        }
        self.check_invariants();
    }

    fn push_made(&mut self, publisher: PublisherId, frame: &VideoFrame, now: Instant) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let (safe, room) = (&mut publish.safe, publish.room);
        let before = (safe.profile_level_id(), safe.trouble().is_some());
        let Some(set) = safe.made(frame) else {
            return;
        };
        let changed = before != (safe.profile_level_id(), safe.trouble().is_some());
        let runs = TranscodeState::Running;
        if std::mem::replace(&mut publish.transcoding, runs) != TranscodeState::Running || changed {
            self.tell_stream_info(publisher, now);
        }
        self.push_frame(room, Arc::new(set), now);
    }

    pub(super) fn video_configured(&mut self, publisher: PublisherId, config: Arc<VideoConfig>) {
        let mut messages = Vec::new();
        if let Some(publish) = self.publish_mut(publisher) {
            publish.safe.configure(config, &mut messages);
        }
        self.post_video(messages);
    }

    /// Keeps a published frame, gives it to the transcoder if that is at work, and sees whether
    /// it should be.
    pub(super) fn video_coded(&mut self, publisher: PublisherId, frame: CodedFrame, now: Instant) {
        let is_off = self.video_mode == VideoMode::Never;
        let mut messages = Vec::new();
        if let Some(publish) = self.publish_mut(publisher).filter(|_| !is_off) {
            publish.safe.frame(frame, &mut messages);
        }
        self.post_video(messages);
        self.update_video(publisher, now);
    }

    /// Takes a frame of a codec of which a room keeps nothing: what it has of another is past.
    pub(super) fn video_not_kept(
        &mut self,
        publisher: PublisherId,
        frame: CodedFrame,
        now: Instant,
    ) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        publish.newest = publish.newest.max(frame.pts);
        let (room, epoch) = (publish.room, publish.epoch);
        if let Some(state) = self.rooms.get_mut(&room) {
            state.room.leave_source(epoch);
        }
        self.video_coded(publisher, frame, now);
    }

    /// Begins or ends a publish's video transcoding as somebody needs it or not.
    pub(super) fn update_video(&mut self, publisher: PublisherId, now: Instant) {
        let mode = self.video_mode;
        if self.is_ending(publisher) {
            return;
        }
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let (room, reason) = (publish.room, publish.info.transcode);
        let has_video = publish.info.video.is_some();
        let Some(state) = self.rooms.get(&room) else {
            return;
        };
        let needed = !state.links.is_empty()
            || state.viewers.keys().any(|&id| {
                let viewer = self.viewers.get(id);
                viewer.is_some_and(|viewer| viewer.takes(Rendition::Safe))
            });
        // A source that turns safe is one with the rendition from its next keyframe on.
        let is_one = state.room.is_source_safe();
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let possible = match mode {
            VideoMode::Auto => reason.is_some() || (publish.safe.is_open() && !is_one),
            VideoMode::Never => false,
            VideoMode::Always => has_video,
        };
        let had_trouble = publish.safe.trouble().is_some();
        let mut messages = Vec::new();
        let updated = publish.safe.update(possible, needed, now, &mut messages);
        let has_trouble = publish.safe.trouble().is_some();
        let progress = publish.safe.progress(possible, needed);
        let progressed = publish.transcoding != progress;
        publish.transcoding = progress;
        let Updated { deadline, closed } = updated;
        match deadline {
            Some(at) => self.deadlines.set(Timer::Video(publisher), at),
            None => self.deadlines.remove(Timer::Video(publisher)),
        }
        if closed && let Some(state) = self.rooms.get_mut(&room) {
            state.room.clear_safe();
        }
        self.post_video(messages);
        if had_trouble != has_trouble || progressed {
            self.tell_stream_info(publisher, now);
        }
    }

    pub(super) fn stop_video(&mut self, publisher: PublisherId) {
        let mut messages = Vec::new();
        if let Some(publish) = self.publish_mut(publisher) {
            publish.safe.stop(&mut messages);
        }
        self.deadlines.remove(Timer::Video(publisher));
        self.post_video(messages);
    }

    /// A viewer of a room cannot go on without a keyframe, or comes. Where the video is made anew
    /// there can be one; RTMP has no way to ask an encoder.
    pub(super) fn keyframe_wanted(&mut self, room: RoomId, now: Instant) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        if let Some(publisher) = state.publisher {
            let mut messages = Vec::new();
            if let Some(publish) = self.publish_mut(publisher) {
                publish.safe.want_keyframe(now, &mut messages);
            }
            self.post_video(messages);
            return;
        }
        let since = |last| now.saturating_duration_since(last);
        let is_due = state
            .keyframe_wanted
            .is_none_or(|last| since(last) >= TRANSCODE_KEYFRAME_INTERVAL);
        // Another core has the publish; only control knows which.
        if is_due && !state.room.is_source_safe() {
            state.keyframe_wanted = Some(now);
            self.control(ControlMsg::KeyframeWanted { room });
        }
    }

    /// Tells control what is known of a publish, and whether its viewers lack sound or a picture.
    pub(super) fn describe_stream(&mut self, publisher: PublisherId) {
        let mode = self.video_mode;
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let (room, epoch, mut info) = (publish.room, publish.epoch, publish.info.clone());
        info.advice
            .extend(publish.sound.trouble().map(str::to_owned));
        if !is_source_safe(mode, &info) {
            info.profile_level_id = Some(publish.safe.profile_level_id());
        }
        let unplayable = match mode {
            VideoMode::Auto | VideoMode::Always => None,
            VideoMode::Never => info.transcode.map(untranscoded),
        };
        info.transcoding = match &unplayable {
            Some(text) => TranscodeState::Refused(text.clone()),
            None => publish.transcoding.clone(),
        };
        let trouble = unplayable.or_else(|| publish.safe.trouble().map(str::to_owned));
        let is_new = publish.told_trouble != trouble;
        publish.told_trouble.clone_from(&trouble);
        info.advice.extend(trouble.clone());
        // Before what is known, so that its line is not said twice.
        if is_new {
            self.control(ControlMsg::PictureTrouble {
                room,
                epoch,
                trouble,
            });
        }
        self.control(ControlMsg::StreamChanged { room, epoch, info });
    }

    /// Adds to a verdict what becomes of video that browsers do not play as it is.
    pub(super) fn with_conversion(
        &mut self,
        publisher: PublisherId,
        verdict: Arc<Verdict>,
    ) -> Arc<Verdict> {
        let mode = self.video_mode;
        let item = self.publish_mut(publisher).and_then(|publish| {
            let reason = publish.info.transcode?;
            Some(conversion(mode, reason, publish.safe.trouble()))
        });
        let Some(item) = item else {
            return verdict;
        };
        let mut verdict = Arc::unwrap_or_clone(verdict);
        verdict.items.push(item);
        let gravest_first = |item: &VerdictItem| std::cmp::Reverse(item.severity);
        verdict.items.sort_by_key(gravest_first);
        Arc::new(verdict)
    }

    pub(super) fn post_video(&mut self, messages: Vec<VideoMsg>) {
        let outputs = messages
            .into_iter()
            .map(|message| EngineOutput::TranscodeVideo { message });
        self.outputs.extend(outputs);
    }
}

/// What viewers are told of video that they would need to have transcoded.
fn untranscoded(reason: TranscodeReason) -> String {
    let shown = match reason {
        TranscodeReason::Codec(_) => "there is no picture",
        TranscodeReason::Reordering
        | TranscodeReason::Interlaced
        | TranscodeReason::PixelShape
        | TranscodeReason::Rotation
        | TranscodeReason::KeyframesMissing
        | TranscodeReason::PixelFormat => "the picture is wrong or missing in browsers",
    };
    format!(
        "{shown}: the video is not what they play ({reason}), and video.transcode is \"never\"; \
         publish progressive 8-bit 4:2:0 H.264 without B-frames, or set video.transcode to \"auto\""
    )
}

/// What the server does about video that browsers do not play, or why it does nothing, in which
/// case the log has it already.
fn conversion(mode: VideoMode, reason: TranscodeReason, trouble: Option<&str>) -> VerdictItem {
    let (severity, text) = match (mode, trouble) {
        (VideoMode::Never, _) => {
            let severity = match reason {
                TranscodeReason::Codec(_) => Severity::Problem,
                TranscodeReason::Reordering
                | TranscodeReason::Interlaced
                | TranscodeReason::PixelShape
                | TranscodeReason::Rotation
                | TranscodeReason::KeyframesMissing
                | TranscodeReason::PixelFormat => Severity::Warning,
            };
            (severity, untranscoded(reason))
        }
        (VideoMode::Auto | VideoMode::Always, Some(trouble)) => {
            let text = format!(
                "Browsers do not play this video as it is, since {reason}, and the server does not \
                 encode it anew: {trouble}"
            );
            (Severity::Problem, text)
        }
        (VideoMode::Auto | VideoMode::Always, None) => {
            let text = format!(
                "Browsers do not play this video as it is, since {reason}: it is encoded anew \
                 while somebody watches, which costs the server a core's work and adds delay"
            );
            (Severity::Info, text)
        }
    };
    VerdictItem {
        code: "transcoding",
        severity,
        text,
        obs: "Settings → Output: an H.264 encoder without B-frames; Advanced → Color Format: NV12"
            .into(),
        ffmpeg: "-c:v libx264 -bf 0 -pix_fmt yuv420p".into(),
        logged: severity > Severity::Info,
    }
}

/// A published H.264 frame as the transcoders take it.
pub(super) fn coded(frame: &VideoFrame) -> CodedFrame {
    let start = frame.start.min(frame.data.len());
    CodedFrame {
        pts: frame.pts,
        dts: frame.dts,
        key: frame.key,
        recovery: frame.recovery,
        disposable: frame.disposable,
        data: frame.data.slice(start..),
        received: frame.received,
    }
}

#[cfg(test)]
mod tests;
