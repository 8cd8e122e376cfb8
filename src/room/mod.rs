//! Fan-out: the recent frames of a room's sound and of each rendition of its video, and who has
//! got how far.
//!
//! A new viewer and a slow viewer are the same thing: a [`Cursor`] that must begin at an entry
//! point. Another core is a [`Feed`]: a cursor of everything. No queue per subscriber. A room never
//! knows what a viewer is made of.
//!
//! While the video as published is safe, [`Rendition::Safe`] and [`Rendition::Source`] are one and
//! the same ring; else nothing of the source reaches a cursor that is bound to `Safe`.

mod frame_ring;

use std::sync::Arc;
use std::time::Duration;

pub use frame_ring::FrameRing;

use crate::ids::Epoch;
use crate::media::frame::{FrameSet, Rendition, TrackKind};

/// How many frames behind a newer keyframe a subscriber must be to jump to it: less is what one
/// turn of the loop may bring at once.
const JUMP_BACKLOG_FRAMES: u64 = 3;
/// A rendition whose newest frame was received so long before the source's newest is not live any
/// more: nobody begins with it.
const BEHIND_MAX: Duration = Duration::from_secs(5);

/// How far one subscriber has got: the number of the next frame of each track, or `None` while
/// it waits for an entry point. Bound to one rendition of the video; on its way to another, it
/// goes on with the first until the other has a new entry point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    rendition: Rendition,
    moving: Option<Move>,
    video: Option<u64>,
    audio: Option<u64>,
    /// Rendition of the last frame taken, if one was.
    taken: Option<Rendition>,
    /// Whether it goes on at the first keyframe that is not before its next frame.
    skipping: bool,
}

/// What a subscriber to whom everything comes late is to do without, so that the newest comes sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Nothing.
    None,
    /// What it can be spared: frames before a newer keyframe, and those that no other refers to.
    Spared,
    /// All up to the next keyframe, whether that is there or not.
    ToKeyframe,
}

/// A rendition that a cursor is to be bound to at its first keyframe after number `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Move {
    to: Rendition,
    after: Option<u64>,
}

/// How far another core has got with everything there is.
///
/// What it lost on the way it does not know; if that was a keyframe, [`Room::lacks_start`] says so
/// there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Feed {
    source: Option<u64>,
    safe: Option<u64>,
    audio: Option<u64>,
}

/// What a subscriber gets next.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The frame.
    pub frame: Arc<FrameSet>,
    /// If this frame begins anew (a join or a jump) with others cached behind it: the newest one.
    /// If it is the first of another rendition than before: the newest one, or itself.
    pub burst_to: Option<Arc<FrameSet>>,
    /// How many frames of the same publish the subscriber should have got before this one, and was
    /// too far behind for.
    pub skipped: u64,
}

/// The media of one room on one core.
#[derive(Debug, Default)]
pub struct Room {
    source: FrameRing,
    /// What was made of an unsafe source.
    safe: FrameRing,
    audio: FrameRing,
    /// Number of the keyframe from which on the source is safe, if it is now.
    safe_from: Option<u64>,
    /// The newest publish that is known of. What comes of an older one, from another core, is late.
    epoch: Option<Epoch>,
}

impl Room {
    /// Takes a frame in. `false`: it does not continue what the room has, belongs to a publish
    /// that another has followed, or is made of a source that needs it no more, and is dropped.
    pub fn push(&mut self, frame: Arc<FrameSet>) -> bool {
        if self.epoch > Some(frame.epoch) {
            return false;
        }
        self.epoch = Some(frame.epoch);
        match (frame.track, frame.rendition) {
            (TrackKind::Video, Rendition::Source) => self.push_source(frame),
            (TrackKind::Video, Rendition::Safe) => self.push_made(frame),
            (TrackKind::Audio, _) => self.audio.push(frame),
        }
    }

    fn push_source(&mut self, frame: Arc<FrameSet>) -> bool {
        let (number, key, safe) = (frame.number, frame.key, frame.safe);
        let taken = self.source.push(frame);
        if !safe {
            // Whether it fits or not: no browser decodes what comes from here on.
            self.safe_from = None;
        } else if taken && key && self.safe_from.is_none() {
            self.safe_from = Some(number);
            self.safe.clear();
        }
        taken
    }

    /// Of what is made, all that was received before a source turned safe is late. What begins anew and
    /// was received later than all of the source is made of one of which nothing is kept: of another
    /// codec. Other cores learn from this alone that the source they have is past.
    fn push_made(&mut self, frame: Arc<FrameSet>) -> bool {
        // One read may bring the last of one codec and the first of another.
        let is_later =
            |newest: &Arc<FrameSet>| (frame.received, frame.pts) > (newest.received, newest.pts);
        if self.safe_from.is_some() && frame.key && self.source.newest().is_some_and(is_later) {
            self.leave_source(frame.epoch);
        }
        self.safe_from.is_none() && self.safe.push(frame)
    }

    /// A publish begins: what came before is not shown as live any more.
    pub fn begin(&mut self, epoch: Epoch) {
        self.end(epoch);
        self.epoch = self.epoch.max(Some(epoch));
    }

    /// A publish is over: its media is not shown as live any more. Nothing happens if a later one
    /// has begun.
    pub fn end(&mut self, epoch: Epoch) {
        if self.epoch > Some(epoch) {
            return;
        }
        self.source.clear();
        self.audio.clear();
        self.clear_safe();
        self.safe_from = None;
    }

    /// The publish `epoch` goes on with video of which nothing is kept here: what was published is not
    /// shown as live any more.
    pub fn leave_source(&mut self, epoch: Epoch) {
        if self.epoch > Some(epoch) {
            return;
        }
        self.source.clear();
        self.safe_from = None;
    }

    /// Nothing is made of an unsafe source for now: what was is not shown as live any more.
    pub fn clear_safe(&mut self) {
        self.safe.clear();
    }

    /// The packet with a room sequence number of a track, for retransmission: its frame and its
    /// index in it. Those of all renditions have different numbers.
    #[must_use]
    pub fn packet(&self, track: TrackKind, sequence: u64) -> Option<(&Arc<FrameSet>, usize)> {
        match track {
            TrackKind::Video => self.made(Rendition::of_number(sequence)).packet(sequence),
            TrackKind::Audio => self.audio.packet(sequence),
        }
    }

    /// Number of the newest frame of the video that a cursor is bound to.
    #[must_use]
    pub fn live_edge(&self, cursor: &Cursor) -> Option<u64> {
        let newest = self.ring(cursor.rendition).newest()?;
        Some(newest.number)
    }

    /// Whether a frame of the newest publish that was not taken is refused only because the keyframe
    /// before it never came, so that all that follow will be, up to the next.
    #[must_use]
    pub fn lacks_start(&self, frame: &FrameSet) -> bool {
        let is_needed = match (frame.track, frame.rendition) {
            (TrackKind::Video, Rendition::Source) => true,
            (TrackKind::Video, Rendition::Safe) => self.safe_from.is_none(),
            (TrackKind::Audio, _) => false,
        };
        let newest = self.made(frame.rendition).newest();
        is_needed
            && self.epoch == Some(frame.epoch)
            && newest.is_none_or(|newest| newest.epoch < frame.epoch)
    }

    /// Whether a rendition has a keyframe to begin with, now.
    #[must_use]
    pub fn has_entry(&self, rendition: Rendition) -> bool {
        self.entry(rendition).is_some()
    }

    /// Whether the source of the video is one with [`Rendition::Safe`].
    #[must_use]
    pub fn is_source_safe(&self) -> bool {
        self.safe_from.is_some()
    }

    /// A cursor for a newcomer: video from the newest keyframe of a rendition, audio from the live
    /// edge.
    #[must_use]
    pub fn join(&self, rendition: Rendition) -> Cursor {
        Cursor {
            rendition,
            audio: self.audio.newest().and_then(|f| f.number.checked_add(1)),
            ..Cursor::default()
        }
    }

    /// Makes a cursor begin anew, like a newcomer's.
    pub fn rejoin(&self, cursor: &mut Cursor) {
        *cursor = Cursor {
            taken: cursor.taken,
            ..self.join(cursor.target())
        };
    }

    /// Binds a cursor to another rendition: it moves there at that rendition's next keyframe, and
    /// goes on as before until then.
    pub fn rebind(&self, cursor: &mut Cursor, rendition: Rendition) {
        cursor.moving = None;
        if self.resolve(rendition) == self.resolve(cursor.rendition) || cursor.video.is_none() {
            cursor.rendition = rendition;
        } else {
            cursor.moving = Some(Move {
                to: rendition,
                after: self.ring(rendition).newest_key(),
            });
        }
    }

    /// The next frame of the track for a cursor, or `None` when there is nothing (yet). The
    /// cursor stays until [`Cursor::advance`].
    ///
    /// A video cursor that waits, was overtaken, or lags behind a newer keyframe goes to the
    /// newest keyframe; an audio cursor that was overtaken goes to the newest packet.
    #[must_use]
    pub fn next(&self, cursor: &Cursor, track: TrackKind) -> Option<Delivery> {
        match track {
            TrackKind::Video => self.next_video(cursor),
            TrackKind::Audio => self.next_audio(cursor.audio),
        }
    }

    fn next_video(&self, cursor: &Cursor) -> Option<Delivery> {
        let moving = cursor.moving.filter(|it| {
            let key = self.entry(it.to);
            key.is_some_and(|key| it.begins_with(key))
        });
        let (rendition, next) = match moving {
            Some(Move { to, .. }) => (self.resolve(to), None),
            None => {
                let rendition = self.resolve(cursor.rendition);
                (rendition, cursor.video.filter(|&it| self.is_in(cursor, it)))
            }
        };
        let entry = self.entry(rendition);
        let ring = self.made(rendition);
        let mut delivery = match next.filter(|_| cursor.skipping) {
            Some(next) => {
                let frame = ring.get(entry.filter(|&key| key >= next)?)?;
                Delivery {
                    frame: Arc::clone(frame),
                    burst_to: None,
                    skipped: skipped(Some(next), frame),
                }
            }
            None => next_of(ring, entry, next)?,
        };
        if cursor.taken.is_some_and(|taken| taken != rendition) {
            let itself = || Some(Arc::clone(&delivery.frame));
            delivery.burst_to = delivery.burst_to.take().or_else(itself);
        }
        Some(delivery)
    }

    /// Makes a cursor leave out video that waits for it; how many frames it leaves out at once. What is
    /// left of it can be decoded. A keyframe is left out for a newer one only; nothing is for a cursor that
    /// is to begin anew.
    pub fn hurry(&self, cursor: &mut Cursor, haste: Haste) -> u64 {
        let on_its_way = cursor.moving.is_some() || cursor.skipping || haste == Haste::None;
        let next = cursor.video.filter(|&it| self.is_in(cursor, it));
        let (false, Some(next)) = (on_its_way, next) else {
            return 0;
        };
        let rendition = self.resolve(cursor.rendition);
        let ring = self.made(rendition);
        let Some(frame) = ring.get(next) else {
            return 0;
        };
        if let Some(key) = self.entry(rendition).filter(|&key| key > next) {
            cursor.video = Some(key);
            return key.saturating_sub(next);
        }
        if frame.key {
            return 0;
        }
        if haste == Haste::ToKeyframe {
            // Counted when the keyframe is there.
            cursor.skipping = true;
            return 0;
        }
        let mut first_needed = next;
        while ring.get(first_needed).is_some_and(|frame| frame.disposable) {
            first_needed = first_needed.saturating_add(1);
        }
        cursor.video = Some(first_needed);
        first_needed.saturating_sub(next)
    }

    fn next_audio(&self, next: Option<u64>) -> Option<Delivery> {
        let newest = self.audio.newest()?;
        let frame = match next {
            Some(number) => match self.audio.get(number) {
                Some(frame) => frame,
                None if number > newest.number => return None,
                None => newest,
            },
            None => newest,
        };
        Some(Delivery {
            frame: Arc::clone(frame),
            burst_to: None,
            skipped: skipped(next, frame),
        })
    }

    /// A feed for another core: every rendition from its newest keyframe, audio from the live edge.
    #[must_use]
    pub fn feed(&self) -> Feed {
        Feed {
            audio: self.join(Rendition::Source).audio,
            ..Feed::default()
        }
    }

    /// Makes a feed go back to the newest keyframe of each rendition, if there is one.
    pub fn feed_again(&self, feed: &mut Feed) {
        feed.source = self.source.newest_key().or(feed.source);
        feed.safe = self.safe.newest_key().or(feed.safe);
    }

    /// The next frame for another core, or `None` when there is nothing (yet). It gets the source
    /// whether it is safe or not: that tells it whether the renditions are one, for one message a
    /// frame.
    pub fn next_for(&self, feed: &mut Feed) -> Option<Arc<FrameSet>> {
        let source = next_of(&self.source, self.source.newest_key(), feed.source);
        let next = source
            .or_else(|| next_of(&self.safe, self.safe.newest_key(), feed.safe))
            .or_else(|| self.next_audio(feed.audio))?;
        let frame = next.frame;
        let after = frame.number.checked_add(1);
        match (frame.track, frame.rendition) {
            (TrackKind::Video, Rendition::Source) => feed.source = after,
            (TrackKind::Video, Rendition::Safe) => feed.safe = after,
            (TrackKind::Audio, _) => feed.audio = after,
        }
        Some(frame)
    }

    /// Whether a cursor may go on at a number: it is one of its rendition, as that is now.
    fn is_in(&self, cursor: &Cursor, number: u64) -> bool {
        let unsafe_before = match cursor.rendition {
            Rendition::Source => None,
            Rendition::Safe => self.safe_from,
        };
        Rendition::of_number(number) == self.resolve(cursor.rendition)
            && unsafe_before.is_none_or(|safe_from| number >= safe_from)
    }

    /// Which rendition's own frames stand for a rendition now.
    fn resolve(&self, rendition: Rendition) -> Rendition {
        match rendition {
            Rendition::Safe if self.safe_from.is_none() => Rendition::Safe,
            Rendition::Safe | Rendition::Source => Rendition::Source,
        }
    }

    /// The frames of a rendition's own.
    fn made(&self, rendition: Rendition) -> &FrameRing {
        match rendition {
            Rendition::Source => &self.source,
            Rendition::Safe => &self.safe,
        }
    }

    fn ring(&self, rendition: Rendition) -> &FrameRing {
        self.made(self.resolve(rendition))
    }

    /// Number of the keyframe to begin a rendition with.
    fn entry(&self, rendition: Rendition) -> Option<u64> {
        let ring = self.ring(rendition);
        let (key, newest) = (ring.newest_key()?, ring.newest()?);
        let published = match self.resolve(rendition) {
            Rendition::Source => None,
            // Of another codec than H.264 nothing is kept.
            Rendition::Safe => self.source.newest().or(self.audio.newest()),
        };
        let behind = published.map_or(Duration::ZERO, |it| {
            it.received.saturating_duration_since(newest.received)
        });
        (behind <= BEHIND_MAX).then_some(key)
    }
}

/// The next frame of a ring for one who has got all before `next`.
fn next_of(ring: &FrameRing, entry: Option<u64>, next: Option<u64>) -> Option<Delivery> {
    let lags = |at: u64| entry.is_some_and(|key| key >= at.saturating_add(JUMP_BACKLOG_FRAMES));
    if let Some(number) = next.filter(|&number| !lags(number)) {
        if let Some(frame) = ring.get(number) {
            return Some(Delivery {
                frame: Arc::clone(frame),
                burst_to: None,
                skipped: 0,
            });
        }
        // Either it is not there yet, or a new publish or a hole put its key in front.
        entry.filter(|&key| key > number)?;
    }
    let frame = Arc::clone(ring.get(entry?)?);
    let burst_to = ring
        .newest()
        .filter(|newest| newest.number > frame.number)
        .cloned();
    let skipped = skipped(next, &frame);
    Some(Delivery {
        frame,
        burst_to,
        skipped,
    })
}

/// How many frames lie between the one that was due and the one that is given. Those of another
/// publish or rendition were not due.
fn skipped(due: Option<u64>, given: &FrameSet) -> u64 {
    let first = given.rendition.first_number(given.epoch);
    let due = due.filter(|due| *due >= first);
    due.map_or(0, |due| given.number.saturating_sub(due))
}

impl Move {
    fn begins_with(self, key: u64) -> bool {
        let here = |after: &u64| Rendition::of_number(*after) == Rendition::of_number(key);
        self.after.filter(here).is_none_or(|after| key > after)
    }

    /// Whether a frame that was taken is the one to move at.
    fn is_at(self, frame: &FrameSet) -> bool {
        let is_its = match self.to {
            Rendition::Source => frame.rendition == Rendition::Source,
            Rendition::Safe => frame.safe,
        };
        is_its && frame.key && self.begins_with(frame.number)
    }
}

impl Cursor {
    /// The rendition it is bound to.
    #[must_use]
    pub fn rendition(&self) -> Rendition {
        self.rendition
    }

    /// The rendition it is bound to, or on its way to.
    #[must_use]
    pub fn target(&self) -> Rendition {
        self.moving.map_or(self.rendition, |it| it.to)
    }

    /// Whether its next picture is one to begin with, whatever it has got before.
    #[must_use]
    pub fn begins(&self) -> bool {
        self.video.is_none()
    }

    /// Marks a frame as taken.
    pub fn advance(&mut self, frame: &FrameSet) {
        let next = frame.number.checked_add(1);
        match frame.track {
            TrackKind::Video => {
                self.video = next;
                self.skipping = false;
                self.taken = Some(frame.rendition);
                if let Some(moving) = self.moving.filter(|it| it.is_at(frame)) {
                    self.rendition = moving.to;
                    self.moving = None;
                }
            }
            TrackKind::Audio => self.audio = next,
        }
    }

    /// Makes the video wait for the next entry point: something was lost on the way.
    pub fn await_key(&mut self) {
        self.video = None;
        self.skipping = false;
    }
}

#[cfg(test)]
mod tests;
