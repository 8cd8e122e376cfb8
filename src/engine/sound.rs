//! Between this core's publishes and the transcode workers: who listens, what comes back, and what is
//! said and done when a worker cannot decode the sound, for good or for now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Engine, EngineOutput, Timer};
use crate::ids::PublisherId;
use crate::ingest::AudioUnit;
use crate::limits::{
    AUDIO_FORMAT_CHANGES_MAX, AUDIO_RETRY_AFTER_REFUSAL, AUDIO_UNITS_PER_FORMAT_CHANGE,
};
use crate::media::codec::AudioConfig;
use crate::media::frame::AudioFrame;
use crate::messages::TranscodeMsg;

/// Configurations of a publish's audio that may prove undecodable before no more are tried.
const FAILURES_MAX: u32 = 8;
/// What is said of audio that changes more often than it may.
const RESTLESS: &str = "the audio format changes again and again: choose one format in the encoder; \
                        it is tried again in a while";

/// One publish's sound.
#[derive(Debug)]
pub(super) struct Sound {
    /// How it is coded; `None` if it cannot be decoded.
    config: Option<AudioConfig>,
    /// Whether it is being transcoded.
    pub(super) is_open: bool,
    /// Whether it was refused for now: [`Timer::Audio`] says when to try again.
    is_refused: bool,
    /// Whether it changed too often, and is left alone until [`Timer::Audio`].
    is_restless: bool,
    /// Changes that a worker may still be told of: each is a message that must not be lost, to a
    /// mailbox that many publishes share.
    changes_left: u32,
    /// Packets until it may be told of one more.
    units_to_change: u32,
    /// How many configurations could not be decoded.
    failures: u32,
    /// Why there is none, in plain words.
    trouble: Option<String>,
}

impl Default for Sound {
    fn default() -> Self {
        Self {
            config: None,
            is_open: false,
            is_refused: false,
            is_restless: false,
            changes_left: AUDIO_FORMAT_CHANGES_MAX,
            units_to_change: AUDIO_UNITS_PER_FORMAT_CHANGE,
            failures: 0,
            trouble: None,
        }
    }
}

impl Sound {
    /// Why there is none, if a worker said so.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn is_hopeless(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    /// What a worker could begin with now.
    fn playable(&self) -> Option<&AudioConfig> {
        let config = self.config.as_ref();
        let is_left_alone = self.is_refused || self.is_restless || self.is_hopeless();
        config.filter(|_| !is_left_alone)
    }

    /// Whether a worker may be told of another configuration, which it then is.
    fn may_change(&mut self) -> bool {
        let left = self.changes_left.checked_sub(1);
        self.changes_left = left.unwrap_or(0);
        left.is_some()
    }

    /// Counts a packet that a worker gets.
    fn count_unit(&mut self) {
        self.units_to_change = self.units_to_change.saturating_sub(1);
        if self.units_to_change == 0 {
            self.units_to_change = AUDIO_UNITS_PER_FORMAT_CHANGE;
            self.changes_left = self
                .changes_left
                .saturating_add(1)
                .min(AUDIO_FORMAT_CHANGES_MAX);
        }
    }
}

impl Engine {
    /// Starts or stops a publish's audio transcoding as somebody listens or not; its video's with
    /// the next turn.
    pub(super) fn update_transcoding(&mut self, publisher: PublisherId) {
        self.mark_publisher(publisher);
        if self.is_ending(publisher) {
            return;
        }
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let (room, was) = (publish.room, publish.sound.is_open);
        let config = publish.sound.playable().cloned();
        let watched = self
            .rooms
            .get(&room)
            .is_some_and(|state| state.is_watched());
        let wanted = watched && config.is_some();
        if wanted == was {
            return;
        }
        let message = match config.filter(|_| wanted) {
            Some(config) => TranscodeMsg::Open {
                core: self.core,
                publisher,
                config,
            },
            None => TranscodeMsg::Close { publisher },
        };
        self.post_audio(publisher, message);
        if let Some(publish) = self.publish_mut(publisher) {
            publish.sound.is_open = wanted;
        }
    }

    /// The audio is coded so from here on.
    pub(super) fn audio_configured(
        &mut self,
        publisher: PublisherId,
        config: AudioConfig,
        now: Instant,
    ) {
        let state = self.publishers.get_mut(&publisher);
        let Some(publish) = state.and_then(|state| state.publish.as_mut()) else {
            return;
        };
        let room = self.rooms.get(&publish.room);
        let watched = room.is_some_and(|room| room.is_watched());
        let sound = &mut publish.sound;
        let is_first = sound.config.is_none() && sound.failures == 0;
        sound.config = Some(config.clone());
        if sound.is_restless {
            return;
        }
        let is_told = watched && !is_first && !sound.is_hopeless();
        if is_told && !sound.may_change() {
            self.leave_audio_alone(publisher, now);
            return;
        }
        sound.is_refused = false;
        let open = sound.is_open;
        // The last reason stays where nothing more is tried.
        let is_hopeless = sound.is_hopeless();
        let changed = !is_hopeless && sound.trouble.take().is_some();
        self.deadlines.remove(Timer::Audio(publisher));
        if open {
            self.post_audio(publisher, TranscodeMsg::Configure { publisher, config });
        }
        if changed {
            self.tell_stream_info(publisher, now);
        }
        self.update_transcoding(publisher);
    }

    /// The audio changes too often for a worker to be told each time, and what it would be given is
    /// not coded as it knows: it lets go of it, and begins anew later with what there is then.
    fn leave_audio_alone(&mut self, publisher: PublisherId, now: Instant) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        log::warn!("audio is not played: {RESTLESS} room={}", publish.name);
        let sound = &mut publish.sound;
        sound.is_restless = true;
        sound.trouble = Some(RESTLESS.to_owned());
        let was_open = std::mem::take(&mut sound.is_open);
        let until = now + AUDIO_RETRY_AFTER_REFUSAL;
        self.deadlines.set(Timer::Audio(publisher), until);
        if was_open {
            self.post_audio(publisher, TranscodeMsg::Close { publisher });
        }
        self.tell_stream_info(publisher, now);
    }

    /// Gives a packet to the worker, if it is to have it.
    pub(super) fn audio_unit(&mut self, publisher: PublisherId, unit: AudioUnit) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        publish.newest = publish.newest.max(unit.pts);
        if publish.sound.is_open {
            publish.sound.count_unit();
            let message = TranscodeMsg::Unit {
                publisher,
                pts: unit.pts,
                data: unit.data,
                received: unit.received,
            };
            self.post_audio(publisher, message);
        }
    }

    /// Takes a transcoded audio packet: to its room, now or when its time comes.
    pub(super) fn push_audio(&mut self, publisher: PublisherId, frame: AudioFrame, now: Instant) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        publish.spread.push(frame, now);
        // What was on its way when the worker gave up says nothing.
        let sound = &mut publish.sound;
        let works_again = sound.is_open && sound.trouble.take().is_some();
        if works_again {
            self.tell_stream_info(publisher, now);
        }
        self.release_audio(publisher, now);
    }

    /// Adds an audio packet to its room.
    pub(super) fn push_audio_frame(
        &mut self,
        publisher: PublisherId,
        frame: &AudioFrame,
        now: Instant,
    ) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let room = publish.room;
        if let Some(set) = publish.audio.audio(frame) {
            self.push_frame(room, Arc::new(set), now);
        }
    }

    /// The audio as it is configured cannot be decoded, and why: the worker lets go of it. It is tried
    /// again after a time if one is said; else another configuration begins anew, though not for ever.
    pub(super) fn audio_unplayable(
        &mut self,
        publisher: PublisherId,
        config: &AudioConfig,
        (text, retry_after): (String, Option<Duration>),
        now: Instant,
    ) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let sound = &mut publish.sound;
        if sound.is_restless || sound.config.as_ref() != Some(config) {
            // The publisher has changed it meanwhile, again and again perhaps.
            return;
        }
        if sound.trouble() != Some(&text) {
            log::warn!("audio cannot be played: {text} room={}", publish.name);
        }
        sound.trouble = Some(text);
        let was_open = std::mem::take(&mut sound.is_open);
        match retry_after {
            Some(after) => {
                sound.is_refused = true;
                self.deadlines.set(Timer::Audio(publisher), now + after);
            }
            None => {
                sound.failures = sound.failures.saturating_add(1);
                sound.config = None;
            }
        }
        if was_open {
            self.post_audio(publisher, TranscodeMsg::Close { publisher });
        }
        self.tell_stream_info(publisher, now);
    }

    /// Audio that was refused or left alone for now may be tried again: now, or when somebody comes.
    pub(super) fn retry_audio(&mut self, publisher: PublisherId) {
        if let Some(publish) = self.publish_mut(publisher) {
            publish.sound.is_refused = false;
            if std::mem::take(&mut publish.sound.is_restless) {
                publish.sound.changes_left = AUDIO_FORMAT_CHANGES_MAX;
            }
        }
        self.update_transcoding(publisher);
    }

    /// A publish is over.
    pub(super) fn end_sound(&mut self, publisher: PublisherId, sound: &Sound) {
        self.deadlines.remove(Timer::Audio(publisher));
        if sound.is_open {
            self.post_audio(publisher, TranscodeMsg::Close { publisher });
        }
    }

    fn post_audio(&mut self, publisher: PublisherId, message: TranscodeMsg) {
        self.outputs
            .push_back(EngineOutput::Transcode { publisher, message });
    }
}
