//! One publish's [`Rendition::Safe`](crate::media::frame::Rendition::Safe) where it is made anew:
//! when the video transcoder is told to begin and to end, and what it gets.
//!
//! ```text
//!            needed ▶ Open, cached frames            needed no more
//! ┌ Closed ───────────────────────────────▶ Open ◀──────────────────▶ Lingering ─┐
//! └────▲────────────────────────────────────┘ │ needed                10 s: Close │
//!      │ retry, or another configuration      ▼ failed                           │
//!      └───────────────────────────────── Failed                                 │
//!      ◀─────────────────────────────────────────────────────────────────────────┘
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gop::{BitRate, Gop};
use crate::ids::{CoreId, Epoch, PublisherId, RoomName};
use crate::limits::{TRANSCODE_KEYFRAME_INTERVAL, TRANSCODE_LINGER};
use crate::media::codec::{CodedFrame, TranscodeState, VideoConfig};
use crate::media::frame::{FrameSet, VideoFrame};
use crate::media::time::MediaTime;
use crate::messages::VideoMsg;
use crate::webrtc::packetize::Packetizer;

/// `profile-level-id` of Constrained Baseline 3.1, which every player takes in packetization mode
/// 1 (RFC 7742 §6.2): said while nothing better is known.
const PROFILE_DEFAULT: [u8; 3] = [0x42, 0xe0, 0x1f];
/// NAL unit type of an SPS, and the mask of types (14496-10 table 7-1).
const SPS: u8 = 7;
const TYPE_MASK: u8 = 0x1f;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    /// Open, and nobody needs it.
    Lingering {
        until: Instant,
    },
    /// The transcoder gave up; `None`: until the configuration changes.
    Failed {
        retry_at: Option<Instant>,
    },
}

/// Whose video it is.
#[derive(Debug, Clone)]
pub(super) struct Whose {
    pub(super) core: CoreId,
    pub(super) publisher: PublisherId,
    pub(super) name: RoomName,
}

/// What became of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Updated {
    /// When to come again, if nothing happens before.
    pub(super) deadline: Option<Instant>,
    /// Whether it was closed: what was made is not live any more.
    pub(super) closed: bool,
}

/// The machine. Messages go into the list that each call is given.
#[derive(Debug)]
pub(super) struct SafeVideo {
    whose: Whose,
    config: Option<Arc<VideoConfig>>,
    gop: Gop,
    rate: BitRate,
    packetizer: Packetizer,
    state: State,
    /// Whether the transcoder has every frame from a keyframe on.
    in_step: bool,
    last_keyframe: Option<Instant>,
    /// Whether something was made since the encoder began.
    made: bool,
    /// When what was made last is shown: an encoder that begins anew is not to make it again.
    last_made: Option<MediaTime>,
    /// Of what was made last.
    profile_level_id: Option<[u8; 3]>,
    /// Why there is no picture.
    trouble: Option<String>,
}

impl SafeVideo {
    pub(super) fn new(whose: Whose, epoch: Epoch) -> Self {
        Self {
            whose,
            config: None,
            gop: Gop::default(),
            rate: BitRate::default(),
            packetizer: Packetizer::safe_video(epoch),
            state: State::Closed,
            in_step: false,
            last_keyframe: None,
            made: false,
            last_made: None,
            profile_level_id: None,
            trouble: None,
        }
    }

    /// `profile-level-id` of what is, or will be, made.
    pub(super) fn profile_level_id(&self) -> [u8; 3] {
        self.profile_level_id.unwrap_or(PROFILE_DEFAULT)
    }

    /// Why there is no picture, in plain words, if the transcoder gave up.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// How far it is; `possible` and `needed` as for [`Self::update`].
    pub(super) fn progress(&self, possible: bool, needed: bool) -> TranscodeState {
        match self.state {
            _ if !possible => TranscodeState::Off,
            State::Open | State::Lingering { .. } if self.made => TranscodeState::Running,
            State::Open | State::Lingering { .. } => TranscodeState::Waiting,
            State::Failed { .. } => {
                TranscodeState::Refused(self.trouble.clone().unwrap_or_default())
            }
            // Before a keyframe it cannot begin.
            State::Closed if needed => TranscodeState::Waiting,
            State::Closed => TranscodeState::Needed,
        }
    }

    /// Whether the transcoder has this stream.
    pub(super) fn is_open(&self) -> bool {
        match self.state {
            State::Open | State::Lingering { .. } => true,
            State::Closed | State::Failed { .. } => false,
        }
    }

    /// What the frames from here on are coded with; encoders say the same again and again.
    pub(super) fn configure(&mut self, config: Arc<VideoConfig>, out: &mut Vec<VideoMsg>) {
        if self.config.as_ref() == Some(&config) {
            return;
        }
        self.config = Some(Arc::clone(&config));
        self.gop.clear();
        self.in_step = false;
        let publisher = self.whose.publisher;
        match self.state {
            State::Open | State::Lingering { .. } => {
                out.push(VideoMsg::Configure { publisher, config });
            }
            State::Failed { .. } => self.state = State::Closed,
            State::Closed => {}
        }
    }

    /// Keeps a frame, and sends it to the transcoder if that has those before it.
    pub(super) fn frame(&mut self, mut frame: CodedFrame, out: &mut Vec<VideoMsg>) {
        self.rate.count(frame.data.len(), frame.received);
        self.gop.push(frame.clone());
        if !self.is_open() {
            return;
        }
        if !self.in_step {
            frame.key |= frame.recovery;
            self.in_step = frame.key;
        }
        if self.in_step {
            let publisher = self.whose.publisher;
            out.push(VideoMsg::Frame {
                publisher,
                frame,
                decode_only: false,
            });
        }
    }

    /// Begins or ends the transcoding as it is needed or not. `possible`: the source is one that
    /// is to be transcoded; while it is, the end comes a while after the last need.
    pub(super) fn update(
        &mut self,
        possible: bool,
        needed: bool,
        now: Instant,
        out: &mut Vec<VideoMsg>,
    ) -> Updated {
        if !possible {
            self.trouble = None;
            return self.stop(out);
        }
        match self.state {
            State::Closed if needed => self.open(now, out),
            State::Failed { retry_at } if needed && retry_at.is_some_and(|at| at <= now) => {
                self.state = State::Closed;
                self.open(now, out);
            }
            State::Open if !needed => {
                let until = now + TRANSCODE_LINGER;
                self.state = State::Lingering { until };
            }
            State::Lingering { .. } if needed => self.state = State::Open,
            State::Lingering { until } if until <= now => return self.stop(out),
            State::Closed | State::Open | State::Lingering { .. } | State::Failed { .. } => {}
        }
        let deadline = match self.state {
            State::Lingering { until } => Some(until),
            State::Failed { retry_at } => retry_at.filter(|_| needed),
            State::Closed | State::Open => None,
        };
        Updated {
            deadline,
            closed: false,
        }
    }

    fn open(&mut self, now: Instant, out: &mut Vec<VideoMsg>) {
        // Before a keyframe there is nothing to begin with.
        let Some(config) = self.config.clone().filter(|_| !self.gop.is_empty()) else {
            return;
        };
        // The encoder shares out its bits by it.
        let measured = self.gop.frames_per_1000_s();
        let config = match (config.frames_per_1000_s, measured) {
            (None, Some(_)) => Arc::new(VideoConfig {
                frames_per_1000_s: measured,
                ..VideoConfig::clone(&config)
            }),
            (Some(_), _) | (None, None) => config,
        };
        self.state = State::Open;
        self.made = false;
        self.last_keyframe = Some(now);
        let Whose {
            core,
            publisher,
            name,
        } = self.whose.clone();
        out.push(VideoMsg::Open {
            core,
            publisher,
            name,
            config,
            bit_rate: self.rate.bits_per_second(),
        });
        self.replay(out);
    }

    /// Sends the cached frames, what is past only to be decoded, and that only if others refer to it:
    /// half of the pictures of an encoder with three B-frames are such that nothing does. All of them
    /// where the decoder has to learn from these how far pictures are reordered, and where a field may
    /// be half of a picture.
    fn replay(&mut self, out: &mut Vec<VideoMsg>) {
        let publisher = self.whose.publisher;
        self.in_step = !self.gop.is_empty();
        let last_made = self.last_made;
        let config = self.config.as_ref();
        let skips = config.is_some_and(|it| it.reordering_told && !it.interlaced);
        let messages = self.gop.replay().filter_map(|(frame, is_past)| {
            let decode_only = is_past || Some(frame.pts) <= last_made;
            (!(decode_only && frame.disposable && skips)).then_some(VideoMsg::Frame {
                publisher,
                frame,
                decode_only,
            })
        });
        out.extend(messages);
    }

    /// Ends the transcoding, if it is under way.
    pub(super) fn stop(&mut self, out: &mut Vec<VideoMsg>) -> Updated {
        let closed = self.is_open();
        if closed {
            let publisher = self.whose.publisher;
            out.push(VideoMsg::Close { publisher });
        }
        self.state = State::Closed;
        Updated {
            deadline: None,
            closed,
        }
    }

    /// No more frames come: what the transcoder has of them is to come out.
    pub(super) fn finish(&mut self, out: &mut Vec<VideoMsg>) {
        if self.is_open() {
            self.state = State::Open;
            let publisher = self.whose.publisher;
            out.push(VideoMsg::Finish { publisher });
        }
    }

    /// A viewer cannot go on without a keyframe, or comes; not too often.
    pub(super) fn want_keyframe(&mut self, now: Instant, out: &mut Vec<VideoMsg>) {
        let since = |last| now.saturating_duration_since(last);
        let is_due = self
            .last_keyframe
            .is_none_or(|last| since(last) >= TRANSCODE_KEYFRAME_INTERVAL);
        if self.is_open() && is_due {
            self.last_keyframe = Some(now);
            let publisher = self.whose.publisher;
            out.push(VideoMsg::Keyframe { publisher });
        }
    }

    /// The encoder begins anew.
    pub(super) fn restart(&mut self, out: &mut Vec<VideoMsg>) {
        if self.is_open() {
            self.made = false;
            self.replay(out);
        }
    }

    /// The transcoder has given the stream up.
    pub(super) fn fail(&mut self, text: String, retry_after: Option<Duration>, now: Instant) {
        if self.is_open() {
            let retry_at = retry_after.map(|after| now + after);
            self.state = State::Failed { retry_at };
            self.trouble = Some(text);
        }
    }

    /// Takes a frame that was made. `None`: it is late, or nothing to send.
    pub(super) fn made(&mut self, frame: &VideoFrame) -> Option<FrameSet> {
        if !self.is_open() {
            return None;
        }
        let sps = frame.parameter_sets.iter().flat_map(|it| &it.nal_units);
        let profile = sps
            .filter(|unit| unit.first().is_some_and(|it| it & TYPE_MASK == SPS))
            .find_map(|unit| unit.get(1..)?.first_chunk::<3>().copied());
        self.profile_level_id = profile.or(self.profile_level_id);
        let set = self.packetizer.video(frame)?;
        self.last_made = self.last_made.max(Some(frame.pts));
        self.made = true;
        self.trouble = None;
        Some(set)
    }
}

#[cfg(test)]
mod tests;
