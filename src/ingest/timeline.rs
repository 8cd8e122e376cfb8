//! RTMP time to the server's timeline: 32-bit milliseconds that wrap, begin anywhere, jump, stand
//! still, drift and come in bursts become one rising [`MediaTime`] per track, with both tracks of
//! a publish in step (Adobe RTMP 1.0 §5.3.1.2, "Timestamp").

mod drift;
mod pace;

use std::time::{Duration, Instant};

use crate::media::frame::TrackKind;
use crate::media::time::{MediaTime, Timebase};
use drift::Drift;
use pace::Pace;

/// A step forward of a track beyond this, in ms, is a new beginning, unless it was a pause that
/// took as long.
const JUMP_FORWARD_MS: i64 = 10_000;
/// A step back of a track beyond this, in ms, is a new beginning and not an unsteady clock.
const JUMP_BACK_MS: i64 = -1_000;
/// A step forward by this much more than the time that it took, in ms, is a new beginning if it
/// leads ahead of the clock: waiting for the clock would only stop the picture. A pause whose
/// length is known as well is none.
const LEAP_MS: i64 = 2_000;
/// Tracks whose timestamps are at most this far apart, in ms, count by the same clock.
const SAME_CLOCK_MS: i64 = 10_000;
/// Messages of a track whose timestamp stands still for so long are placed by their arrival.
const STANDSTILL: Duration = Duration::from_millis(500);
/// A track that was silent for longer says less of where it is than the other does.
const SILENT: Duration = Duration::from_secs(2);
/// Least distance of two video frames: more than a tick of 90 kHz, so that no two frames share
/// an RTP timestamp.
const VIDEO_STEP: MediaTime = MediaTime::from_micros(12);
/// The same where a burst is pressed together: browsers decode frames so far apart at once and show
/// the last; with less between them they halt.
const PRESSED_STEP: MediaTime = MediaTime::from_millis(1);
/// Audio that would begin this much before the end of what came before was heard already, or is
/// left out for the publish to catch up; less is a rounding of timestamps.
const AUDIO_OVERLAP_MAX: MediaTime = MediaTime::from_millis(20);

/// Maps the timestamps of one publish.
///
/// The first media message anchors both tracks: its timestamp is the moment it arrived. A track
/// that jumps is anchored anew where it has got to by then; if the other track makes the same
/// jump, it joins that anchor, and if it does not, it keeps its own, so that they stay in step
/// either way.
///
/// Both tracks together are kept at the server's clock: slowly against the drift of the encoder's
/// (`drift`), at once after a stall (`pace`). [`Timeline::resume_at`] keeps back a publish
/// that comes faster than it plays.
#[derive(Debug, Clone)]
pub struct Timeline {
    timebase: Timebase,
    video: Option<TrackClock>,
    audio: Option<TrackClock>,
    generations: u64,
    drift: Drift,
    pace: Pace,
}

/// A timestamp on the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// When the message is decoded; never before the track's previous one.
    pub dts: MediaTime,
    /// Whether the track was anchored anew by a jump.
    pub jumped: bool,
    /// Whether its place is before what came earlier: sound is to be left out, a picture only to
    /// be decoded.
    pub late: bool,
}

#[derive(Debug, Clone, Copy)]
struct TrackClock {
    /// Timestamp of the last message, as it came.
    timestamp: u32,
    /// The same, counted on over wraps.
    unwrapped_ms: i64,
    /// Timeline position of unwrapped 0, without what is common to both tracks.
    offset: MediaTime,
    /// Where the last message was put.
    mapped: MediaTime,
    /// When it arrived.
    arrival: Instant,
    /// How long before its place.
    lead: MediaTime,
    /// When the timestamp last changed.
    moved: Instant,
    /// Which anchor it counts by: greater is newer.
    generation: u64,
}

/// What a track counts by.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    unwrapped_ms: i64,
    offset: MediaTime,
    generation: u64,
}

impl TrackClock {
    /// Milliseconds from the last message to a timestamp, in the window of ±2^31.
    fn distance_ms(&self, timestamp: u32) -> i64 {
        i64::from(timestamp.wrapping_sub(self.timestamp).cast_signed())
    }

    fn unwrap(&self, timestamp: u32) -> i64 {
        self.unwrapped_ms
            .saturating_add(self.distance_ms(timestamp))
    }

    fn anchor(&self, timestamp: u32) -> Anchor {
        Anchor {
            unwrapped_ms: self.unwrap(timestamp),
            offset: self.offset,
            generation: self.generation,
        }
    }

    /// How far the track has got by `now`, if it goes on in real time.
    fn position(&self, now: Instant) -> MediaTime {
        let elapsed = elapsed(self.arrival, now);
        self.mapped.plus(elapsed)
    }
}

impl Timeline {
    /// A timeline that is not anchored yet.
    #[must_use]
    pub fn new(timebase: Timebase) -> Self {
        Self {
            timebase,
            video: None,
            audio: None,
            generations: 0,
            drift: Drift::default(),
            pace: Pace::new(),
        }
    }

    /// Maps the timestamp of a track's next message, which arrived `now`.
    pub fn map(&mut self, track: TrackKind, timestamp: u32, now: Instant) -> Mapped {
        let (own, other) = match track {
            TrackKind::Video => (self.video, self.audio),
            TrackKind::Audio => (self.audio, self.video),
        };
        self.drift.advance(now);
        let stuck = own.is_some_and(|own| is_stuck(&own, timestamp, now));
        let jumped = own.is_some_and(|own| self.is_jump(&own, other, timestamp, now));
        let anchor = match own {
            Some(own) if !jumped && !stuck => own.anchor(timestamp),
            Some(_) | None => self.anchor(own, other, timestamp, now),
        };
        let fresh = jumped || stuck;
        let usual = own.filter(|_| !fresh).map(|own| own.lead);
        let (position, lead) = self.place(anchor, usual, now);
        let (dts, late) = match (own, track) {
            (None, TrackKind::Video | TrackKind::Audio) => (position.max(MediaTime::ZERO), false),
            (Some(own), TrackKind::Video) => {
                let step = match self.pace.is_pressing(now) {
                    true => PRESSED_STEP,
                    false => VIDEO_STEP,
                };
                let earliest = own.mapped.plus(step);
                (position.max(earliest), position < own.mapped)
            }
            (Some(own), TrackKind::Audio) => {
                let overlaps = position.plus(AUDIO_OVERLAP_MAX) < own.mapped;
                let late = overlaps || (self.pace.is_behind() && is_burst(&own, timestamp, now));
                (position.max(own.mapped), late)
            }
        };
        let moved = own.filter(|own| own.timestamp == timestamp);
        let clock = TrackClock {
            timestamp,
            unwrapped_ms: anchor.unwrapped_ms,
            offset: anchor.offset,
            mapped: dts,
            arrival: now,
            lead,
            moved: moved.map_or(now, |own| own.moved),
            generation: anchor.generation,
        };
        match track {
            TrackKind::Video => self.video = Some(clock),
            TrackKind::Audio => self.audio = Some(clock),
        }
        Mapped { dts, jumped, late }
    }

    /// When the publish may be read on: while it is further ahead of the clock than its viewers
    /// can take, its next messages are to be left where they are. At most five seconds on; `None`: now.
    #[must_use]
    pub fn resume_at(&self, now: Instant) -> Option<Instant> {
        self.pace.resume_at(now)
    }

    /// Says whether pictures are shown in another order than they are sent: their times are then
    /// never pressed together.
    pub fn set_reordering(&mut self, reordering: bool) {
        self.pace.keep_order(reordering);
    }

    /// How many messages came too far ahead of the clock.
    #[must_use]
    pub fn holds(&self) -> u64 {
        self.pace.holds()
    }

    /// What the encoder's clock is slower than ours by, in millionths; 0 until that is known.
    #[must_use]
    pub fn clock_slow_ppm(&self) -> i64 {
        self.drift.clock_slow_ppm()
    }

    /// Position of a message, and how long before it the message came, once the publish is where
    /// it should be.
    fn place(
        &mut self,
        anchor: Anchor,
        usual: Option<MediaTime>,
        now: Instant,
    ) -> (MediaTime, MediaTime) {
        let position = self.position(anchor);
        let lead = position.minus(self.timebase.media_time(now));
        let step = self.pace.observe(lead, usual, now);
        if step.is_some() || self.resume_at(now).is_some() {
            self.drift.forget();
        }
        let step = step.unwrap_or(MediaTime::ZERO);
        let (position, lead) = (position.plus(step), lead.plus(step));
        self.drift.observe(lead, now);
        (position, lead)
    }

    fn position(&self, anchor: Anchor) -> MediaTime {
        let by_clock = anchor
            .offset
            .plus(MediaTime::from_millis(anchor.unwrapped_ms));
        by_clock.plus(self.common())
    }

    /// What is common to both tracks.
    fn common(&self) -> MediaTime {
        self.drift.correction().plus(self.pace.shift())
    }

    fn is_jump(
        &self,
        own: &TrackClock,
        other: Option<TrackClock>,
        timestamp: u32,
        now: Instant,
    ) -> bool {
        let distance = own.distance_ms(timestamp);
        if distance < JUMP_BACK_MS {
            return true;
        }
        if distance > JUMP_FORWARD_MS {
            return !self.is_pause(own, other, timestamp, now);
        }
        let took = elapsed(own.arrival, now).as_millis();
        let leaps = distance.saturating_sub(took) > LEAP_MS;
        let position = self.position(own.anchor(timestamp));
        leaps && position.minus(self.timebase.media_time(now)) > MediaTime::from_millis(LEAP_MS)
    }

    /// Whether a track that went far forward was only silent meanwhile (a muted source, a screen on
    /// which nothing moves): as much time has passed; or it is where the other is by then, which
    /// counts by the same anchor, if what comes is held up or sent faster than it plays.
    fn is_pause(
        &self,
        own: &TrackClock,
        other: Option<TrackClock>,
        timestamp: u32,
        now: Instant,
    ) -> bool {
        let took = elapsed(own.arrival, now).as_millis();
        if own.distance_ms(timestamp).abs_diff(took) <= LEAP_MS.unsigned_abs() {
            return true;
        }
        let position = self.position(own.anchor(timestamp));
        other
            .filter(|other| other.generation == own.generation)
            .map(|other| position.minus(other.position(now)).as_millis())
            .is_some_and(|apart| (-LEAP_MS..=LEAP_MS).contains(&apart))
    }

    /// The anchor of a track that begins, has jumped, or whose timestamps stand still.
    fn anchor(
        &mut self,
        own: Option<TrackClock>,
        other: Option<TrackClock>,
        timestamp: u32,
        now: Instant,
    ) -> Anchor {
        let newer = |other: &TrackClock| own.is_none_or(|own| own.generation < other.generation);
        let near = |other: &TrackClock| other.distance_ms(timestamp).abs() <= SAME_CLOCK_MS;
        if let Some(other) = other.filter(newer).filter(near) {
            return other.anchor(timestamp);
        }
        // A track says itself how far it is behind its anchor, unless it was silent.
        let recent = own.filter(|own| now.saturating_duration_since(own.arrival) <= SILENT);
        let both = own.into_iter().chain(other);
        let position = match recent.or(both.max_by_key(|it| it.arrival)) {
            Some(latest) => latest.position(now),
            None => self.timebase.media_time(now),
        };
        self.generations = self.generations.saturating_add(1);
        let unwrapped_ms = i64::from(timestamp);
        Anchor {
            unwrapped_ms,
            offset: position
                .minus(MediaTime::from_millis(unwrapped_ms))
                .minus(self.common()),
            generation: self.generations,
        }
    }
}

/// Whether a message came in less than half the time that it is later than the last.
fn is_burst(own: &TrackClock, timestamp: u32, now: Instant) -> bool {
    let took = elapsed(own.arrival, now).as_millis();
    took.saturating_mul(2) < own.distance_ms(timestamp)
}

fn is_stuck(own: &TrackClock, timestamp: u32, now: Instant) -> bool {
    own.timestamp == timestamp && now.saturating_duration_since(own.moved) >= STANDSTILL
}

fn elapsed(since: Instant, now: Instant) -> MediaTime {
    let micros = now.saturating_duration_since(since).as_micros();
    MediaTime::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
