//! What one viewer got, checked frame by frame against what it should get.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use str0m::media::MediaKind;

use super::clip::{Clip, picture};
use super::encoder::REORDERED;
use super::kit::viewer::{KitFrame, KitReport};
use super::publisher::Anchor;

/// After a fault, what depends on timing is not checked for so long.
pub const SETTLE: Duration = Duration::from_secs(5);
/// Picture and sound may be so far apart.
const SKEW_MAX: Duration = Duration::from_millis(80);
/// Sound comes so much later than the picture it belongs to: what of the AAC decoder's delay is to
/// be waited for, and half of an Opus packet and of an access unit, of which the first must be full
/// and the second be there.
const SOUND_LATENESS_MICROS: i64 = 38_000;
/// A picture's capture time may be said so wrongly: clip timestamps are whole milliseconds.
const CAPTURE_ERROR_MAX_MICROS: i64 = 3_000;
/// A viewer on a good way waits at most so long for the next frame.
const FRAME_WAIT_MAX: Duration = Duration::from_millis(150);
/// A viewer on a bad way waits at most so long: a keyframe comes each second.
const FRAME_WAIT_LOSSY_MAX: Duration = Duration::from_secs(4);
/// After the end of a publish its pictures may be under way for so long.
const STALE_MAX: Duration = Duration::from_secs(2);
/// Frames that a median of lateness is made of.
const LATENESS_FRAMES: usize = 15;
/// Samples of one Opus packet.
const SOUND_TICKS: u64 = 960;

/// What a viewer's room and way are like.
#[derive(Clone, Copy)]
pub struct Scene {
    /// Now.
    pub now: Instant,
    /// When the world began, and the wall clock then.
    pub start: Instant,
    /// See `start`.
    pub wall_origin: Duration,
    /// What is played in the room.
    pub clip: &'static Clip,
    /// Whether an encoder makes its pictures anew.
    pub made_anew: bool,
    /// The publish's first message, if one goes on.
    pub anchor: Option<Anchor>,
    /// Whether somebody publishes.
    pub live: bool,
    /// Whether nothing more comes of who does.
    pub ending: bool,
    /// When the room, or the viewer's core, last had a fault.
    pub room_fault: Instant,
    /// Whether every datagram arrives in order.
    pub faithful: bool,
    /// Longest time on the way.
    pub way: Duration,
}

/// How much was checked, over all viewers.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Pictures that arrived.
    pub pictures: u64,
    /// Sounds that arrived.
    pub sounds: u64,
    /// Pictures whose capture time was checked.
    pub captures: u64,
    /// Times that picture and sound were compared.
    pub skews: u64,
    /// The largest difference of these.
    pub skew_max: Duration,
    /// Times that frames were expected, and came.
    pub alive: u64,
    /// Pictures that did not continue the one before, and were IDR.
    pub jumps: u64,
    /// Pictures that the network made holes before.
    pub holes: u64,
    /// Sounds off the grid of 960 ticks, each at a change of publish or a fault.
    pub sound_breaks: u64,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.pictures += other.pictures;
        self.sounds += other.sounds;
        self.captures += other.captures;
        self.skews += other.skews;
        self.skew_max = self.skew_max.max(other.skew_max);
        self.alive += other.alive;
        self.jumps += other.jumps;
        self.holes += other.holes;
        self.sound_breaks += other.sound_breaks;
    }
}

#[derive(Clone, Copy)]
struct Seen {
    ticks: u64,
    place: usize,
    at: Instant,
}

/// What is known of what a viewer got.
pub struct Watch {
    /// The last time that something happened to it, its joining included.
    pub fault: Instant,
    /// Whether anything happened to it since it joined.
    disturbed: bool,
    /// When the network last made a hole before a picture.
    hole: Option<Instant>,
    picture: Option<Seen>,
    sound: Option<Seen>,
    /// Breaks of the sound's timestamps, and how many had a cause.
    breaks: u32,
    /// See `breaks`.
    pub causes: u32,
    reports: [Option<KitReport>; 2],
    lateness: [VecDeque<i64>; 2],
    /// Pictures and sounds so far.
    pub counts: (usize, usize),
    /// How long after its capture the latest of the pictures came, by the sender's reports, in µs.
    pub latest_micros: i64,
    /// How much was checked.
    pub tally: Tally,
}

impl Watch {
    /// Nothing yet.
    pub fn new(now: Instant) -> Self {
        Self {
            fault: now,
            disturbed: false,
            hole: None,
            picture: None,
            sound: None,
            breaks: 0,
            causes: 0,
            reports: [None, None],
            lateness: [VecDeque::new(), VecDeque::new()],
            counts: (0, 0),
            latest_micros: i64::MIN,
            tally: Tally::default(),
        }
    }

    /// Something happened to the viewer that excuses it for a while.
    pub fn excuse(&mut self, until: Instant) {
        self.fault = self.fault.max(until);
        self.disturbed = true;
    }

    /// Takes what arrived; `true` if a browser would ask for a keyframe now.
    pub fn take(&mut self, frames: &[KitFrame], reports: &[KitReport], scene: &Scene) -> bool {
        for report in reports {
            self.reports[track(report.kind)] = Some(*report);
        }
        let mut wants_key = false;
        for frame in frames {
            match frame.kind {
                MediaKind::Video => wants_key |= self.take_picture(frame, scene),
                MediaKind::Audio => self.take_sound(frame, scene),
            }
        }
        wants_key
    }

    /// Frames go on coming.
    pub fn check_alive(&mut self, scene: &Scene) {
        let (settle, wait) = match scene.faithful {
            true => (SETTLE, FRAME_WAIT_MAX + scene.way),
            false => (SETTLE * 2, FRAME_WAIT_LOSSY_MAX),
        };
        let since = self.fault.max(scene.room_fault);
        if scene.anchor.is_none() || scene.now < since + settle {
            return;
        }
        for (what, last) in [("picture", self.picture), ("sound", self.sound)] {
            let last = last.map(|last| scene.now.saturating_duration_since(last.at));
            assert!(
                last.is_some_and(|last| last <= wait),
                "no {what} for {last:?}"
            );
        }
        self.tally.alive += 1;
    }

    fn take_picture(&mut self, frame: &KitFrame, scene: &Scene) -> bool {
        let picture = picture(&frame.data);
        let Some((place, clip_ms)) = scene.clip.place(&picture) else {
            assert!(
                !frame.contiguous || !scene.faithful,
                "a picture that nobody sent"
            );
            return true;
        };
        // What is cached of a publish that is over must not be shown as live.
        let is_over = !scene.live && scene.now > scene.room_fault + STALE_MAX;
        assert!(!is_over, "picture {place} of a publish that is over");
        let excused = scene.now < self.fault + SETTLE;
        if scene.faithful {
            assert!(
                self.picture.is_some() || self.disturbed || picture.complete,
                "the first picture, {place} at {clip_ms} ms, needs others"
            );
            assert!(
                frame.contiguous || excused,
                "a hole without loss before picture {place}"
            );
        }
        if let Some(last) = self.picture {
            let rises = frame.ticks > last.ticks;
            let (before, after) = (last.ticks, frame.ticks);
            assert!(
                rises,
                "picture {place} at {after} after {} at {before}",
                last.place
            );
            let count = scene.clip.picture_count();
            let follows = place == (last.place + 1) % count;
            // At the end of a publish, pictures come out of the encoder's reordering although those
            // to be shown between them never came.
            let left_out = ((place + count - last.place) % count).saturating_sub(1);
            let is_end = scene.ending && left_out <= REORDERED;
            if frame.contiguous && !follows {
                assert!(
                    picture.complete || is_end,
                    "picture {place} after {} is no entry",
                    last.place
                );
                self.tally.jumps += 1;
            }
        }
        self.picture = Some(Seen {
            ticks: frame.ticks,
            place,
            at: frame.received,
        });
        self.counts.0 += 1;
        self.tally.pictures += 1;
        if let Some(captured) = self.captured(frame) {
            let late = micros(scene.wall_origin + (frame.received - scene.start)) - captured;
            self.latest_micros = self.latest_micros.max(late);
        }
        if !frame.contiguous {
            self.hole = Some(scene.now);
            self.tally.holes += 1;
            return !picture.idr;
        }
        if let Some(error) = self.capture_error(frame, clip_ms, scene) {
            let is_small = error.abs() <= CAPTURE_ERROR_MAX_MICROS;
            assert!(
                is_small,
                "picture {place}: capture time is wrong by {error} µs"
            );
            self.tally.captures += 1;
        }
        self.note_lateness(frame, scene);
        false
    }

    fn take_sound(&mut self, frame: &KitFrame, scene: &Scene) {
        if let Some(last) = self.sound {
            assert!(
                frame.ticks > last.ticks,
                "sound at {} after {}",
                frame.ticks,
                last.ticks
            );
            let step = frame.ticks - last.ticks;
            let settled = self.is_settled(scene) && scene.faithful;
            if !step.is_multiple_of(SOUND_TICKS) || (settled && step != SOUND_TICKS) {
                self.breaks += 1;
                self.tally.sound_breaks += 1;
                let (breaks, causes) = (self.breaks, self.causes);
                assert!(
                    breaks <= causes,
                    "sound goes on by {step}: {breaks} of {causes} times"
                );
            }
        }
        self.sound = Some(Seen {
            ticks: frame.ticks,
            place: 0,
            at: frame.received,
        });
        self.counts.1 += 1;
        self.tally.sounds += 1;
        self.note_lateness(frame, scene);
    }

    fn is_settled(&self, scene: &Scene) -> bool {
        let fault = self
            .hole
            .into_iter()
            .fold(self.fault.max(scene.room_fault), Instant::max);
        scene.now >= fault + SETTLE && scene.anchor.is_some()
    }

    /// What the sender's reports say when a frame was captured, in µs since 1970.
    fn captured(&self, frame: &KitFrame) -> Option<i64> {
        let report = self.reports[track(frame.kind)]?;
        let rate = match frame.kind {
            MediaKind::Video => 90_000,
            MediaKind::Audio => 48_000,
        };
        let low = |ticks: u64| u32::try_from(ticks & 0xffff_ffff).unwrap();
        let ticks = low(frame.ticks)
            .wrapping_sub(low(report.rtp.numer()))
            .cast_signed();
        Some(micros(report.wall) + i64::from(ticks) * 1_000_000 / rate)
    }

    /// How wrong that is, by what the publisher said; turns of the clip do not count.
    fn capture_error(&self, frame: &KitFrame, clip_ms: u32, scene: &Scene) -> Option<i64> {
        if !self.is_settled(scene) {
            return None;
        }
        let anchor = scene.anchor?;
        let origin = micros(scene.wall_origin + (anchor.at - scene.start));
        let expected = origin + (i64::from(clip_ms) - i64::from(anchor.clip_ms)) * 1_000;
        let round = i64::from(scene.clip.round_ms) * 1_000;
        let error = (self.captured(frame)? - expected).rem_euclid(round);
        Some(if error > round / 2 {
            error - round
        } else {
            error
        })
    }

    fn note_lateness(&mut self, frame: &KitFrame, scene: &Scene) {
        // On a bad way the player itself waits for what is lost.
        if !self.is_settled(scene) || !scene.faithful {
            self.lateness.iter_mut().for_each(VecDeque::clear);
            return;
        }
        let Some(captured) = self.captured(frame) else {
            return;
        };
        let received = micros(scene.wall_origin + (frame.received - scene.start));
        let of_track = &mut self.lateness[track(frame.kind)];
        of_track.push_back(received - captured);
        if of_track.len() > LATENESS_FRAMES {
            of_track.pop_front();
        }
        let [pictures, sounds] = &self.lateness;
        if let (Some(pictures), Some(sounds)) = (median(pictures), median(sounds)) {
            // A picture that is made anew comes later than it is due.
            if !scene.made_anew {
                let skew =
                    Duration::from_micros((pictures + SOUND_LATENESS_MICROS).abs_diff(sounds));
                assert!(
                    skew <= SKEW_MAX,
                    "picture and sound are {skew:?} apart: {pictures} and {sounds} µs late"
                );
                self.tally.skews += 1;
                self.tally.skew_max = self.tally.skew_max.max(skew);
            }
        }
    }
}

fn track(kind: MediaKind) -> usize {
    match kind {
        MediaKind::Video => 0,
        MediaKind::Audio => 1,
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap()
}

fn median(values: &VecDeque<i64>) -> Option<i64> {
    let mut sorted: Vec<i64> = values.iter().copied().collect();
    sorted.sort_unstable();
    (sorted.len() == LATENESS_FRAMES).then(|| sorted[LATENESS_FRAMES / 2])
}
