//! A publish whose publisher is done. What it brought is still on its way: through the transcoders,
//! in the room's rings, and ahead of the clock, since a publisher may send a second before its time.
//! So the publish ends when all of that was shown, within [`PUBLISH_TAIL_MAX`]; at once if nobody
//! watches, or if somebody else is to have the room.

use std::time::{Duration, Instant};

use super::{Engine, EngineOutput, Timer};
use crate::ids::PublisherId;
use crate::limits::{PUBLISH_TAIL_MAX, PUBLISH_TAIL_MIN};
use crate::media::time::MediaTime;
use crate::messages::{ControlMsg, PublishEnd, TranscodeMsg};

/// What a publish that ends waits for.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) reason: PublishEnd,
    /// When all that is known of it was shown.
    shown: Instant,
    /// When it ends whatever is still on its way.
    by: Instant,
    /// Whether the audio worker, or the video transcoder, still has some of it.
    audio: bool,
    video: bool,
    /// Whether its connection is gone.
    pub(super) gone: bool,
}

/// What a transcoder gave the last of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    Audio,
    Video,
}

impl Engine {
    /// A publisher's connection is over.
    pub(super) fn publisher_gone(&mut self, publisher: PublisherId, end: PublishEnd, now: Instant) {
        let has_tail = match end {
            PublishEnd::Finished | PublishEnd::Reset => true,
            PublishEnd::Idle | PublishEnd::Protocol | PublishEnd::Rejected | PublishEnd::Closed => {
                false
            }
        };
        if !has_tail || !self.let_finish(publisher, end, now) {
            self.forget_publisher(publisher, end);
            return;
        }
        if let Some(ending) = self.ending_mut(publisher) {
            ending.gone = true;
        }
        self.deadlines.remove(Timer::Publisher(publisher));
        self.outputs.push_back(EngineOutput::CloseTcp { publisher });
    }

    /// Lets a publish end when what it brought was shown. `false`: it may end now.
    pub(super) fn let_finish(
        &mut self,
        publisher: PublisherId,
        reason: PublishEnd,
        now: Instant,
    ) -> bool {
        let media_now = self.timebase.media_time(now);
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return false;
        };
        if state.ending.is_some() {
            return true;
        }
        let Some(publish) = &mut state.publish else {
            return false;
        };
        let watched = (self.rooms.get(&publish.room)).is_some_and(|room| room.is_watched());
        if !watched || state.hurry || self.draining {
            return false;
        }
        let ahead = publish.newest.minus(media_now).max(MediaTime::ZERO);
        let ahead = Duration::from_micros(u64::try_from(ahead.as_micros()).unwrap_or_default());
        let (audio, video) = (publish.sound.is_open, publish.safe.is_open());
        let mut messages = Vec::new();
        publish.safe.finish(&mut messages);
        state.ending = Some(Ending {
            reason,
            shown: now + ahead.clamp(PUBLISH_TAIL_MIN, PUBLISH_TAIL_MAX),
            by: now + PUBLISH_TAIL_MAX,
            audio,
            video,
            gone: false,
        });
        if audio {
            let message = TranscodeMsg::Finish { publisher };
            self.outputs
                .push_back(EngineOutput::Transcode { publisher, message });
        }
        self.deadlines.remove(Timer::Video(publisher));
        self.post_video(messages);
        self.control(ControlMsg::PublishEnding { publisher });
        self.await_tail(publisher);
        true
    }

    /// A transcoder has given all that it had of a publish that ends.
    pub(super) fn tail_came(&mut self, publisher: PublisherId, tail: Tail, now: Instant) {
        let Some(ending) = self.ending_mut(publisher) else {
            return;
        };
        match tail {
            Tail::Audio => ending.audio = false,
            Tail::Video => ending.video = false,
        }
        // What came with it is yet to be sent.
        ending.shown = ending.shown.max(now + PUBLISH_TAIL_MIN).min(ending.by);
        self.await_tail(publisher);
    }

    fn await_tail(&mut self, publisher: PublisherId) {
        if let Some(ending) = self.ending_mut(publisher) {
            let at = match ending.audio || ending.video {
                true => ending.by,
                false => ending.shown,
            };
            self.deadlines.set(Timer::Ending(publisher), at);
        }
    }

    /// Ends a publish that was ending.
    pub(super) fn end_ending(&mut self, publisher: PublisherId) {
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        let Some(Ending { reason, gone, .. }) = state.ending else {
            return;
        };
        if gone {
            self.forget_publisher(publisher, reason);
        } else {
            self.finish_publish(publisher, reason);
        }
    }

    /// The encoder said that it is done. Its connection stays open until it closes it, or the
    /// session's deadline does: an encoder whose last words meet a closed socket reports an error.
    pub(super) fn publish_finished(&mut self, publisher: PublisherId, now: Instant) {
        let reason = PublishEnd::Finished;
        if !self.let_finish(publisher, reason, now) {
            self.finish_publish(publisher, reason);
        }
    }

    /// Ends a publish whose connection stays.
    fn finish_publish(&mut self, publisher: PublisherId, reason: PublishEnd) {
        self.end_publish(publisher);
        let Some(state) = self.publishers.get_mut(&publisher) else {
            return;
        };
        state.ending = None;
        if !state.finished {
            state.finished = true;
            self.control(ControlMsg::PublishEnded { publisher, reason });
        }
    }

    fn ending_mut(&mut self, publisher: PublisherId) -> Option<&mut Ending> {
        self.publishers.get_mut(&publisher)?.ending.as_mut()
    }
}
