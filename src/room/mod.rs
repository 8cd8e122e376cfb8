//! Fan-out: the recent frames of a room's two tracks, and who has got how far.
//!
//! A new viewer, a slow viewer and another core are the same thing: a [`Cursor`] that must begin at
//! an entry point. No queue per subscriber. A room never knows what a viewer is made of.

mod frame_ring;

use std::sync::Arc;

pub use frame_ring::FrameRing;

use crate::ids::Epoch;
use crate::media::frame::{FrameSet, TrackKind};

/// How many frames behind a newer keyframe a subscriber must be to jump to it: less is what one
/// turn of the loop may bring at once.
const JUMP_BACKLOG_FRAMES: u64 = 3;

/// How far one subscriber has got: the number of the next frame of each track, or `None` while
/// it waits for an entry point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    video: Option<u64>,
    audio: Option<u64>,
}

/// What a subscriber gets next.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The frame.
    pub frame: Arc<FrameSet>,
    /// If this frame begins anew (a join or a jump) with others cached behind it: the newest one.
    pub burst_to: Option<Arc<FrameSet>>,
}

/// The media of one room on one core.
#[derive(Debug, Default)]
pub struct Room {
    video: FrameRing,
    audio: FrameRing,
    /// The newest publish that is known of. What comes of an older one, from another core, is late.
    epoch: Option<Epoch>,
}

impl Room {
    /// Takes a frame in. `false`: it does not continue what the room has, or belongs to a publish
    /// that another has followed, and is dropped.
    pub fn push(&mut self, frame: Arc<FrameSet>) -> bool {
        if self.epoch > Some(frame.epoch) {
            return false;
        }
        self.epoch = Some(frame.epoch);
        match frame.track {
            TrackKind::Video => self.video.push(frame),
            TrackKind::Audio => self.audio.push(frame),
        }
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
        self.video.clear();
        self.audio.clear();
    }

    /// The ring of a track, for retransmission.
    #[must_use]
    pub fn ring(&self, track: TrackKind) -> &FrameRing {
        match track {
            TrackKind::Video => &self.video,
            TrackKind::Audio => &self.audio,
        }
    }

    /// A cursor for a newcomer: video from the newest keyframe, audio from the live edge.
    #[must_use]
    pub fn join(&self) -> Cursor {
        Cursor {
            video: None,
            audio: self.audio.newest().and_then(|f| f.number.checked_add(1)),
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
            TrackKind::Video => self.next_video(cursor.video),
            TrackKind::Audio => self.next_audio(cursor.audio),
        }
    }

    fn next_video(&self, next: Option<u64>) -> Option<Delivery> {
        let newest_key = self.video.newest_key();
        let lags =
            |at: u64| newest_key.is_some_and(|key| key >= at.saturating_add(JUMP_BACKLOG_FRAMES));
        if let Some(number) = next.filter(|&number| !lags(number)) {
            if let Some(frame) = self.video.get(number) {
                return Some(Delivery {
                    frame: Arc::clone(frame),
                    burst_to: None,
                });
            }
            // Either it is not there yet, or a new publish or a hole put its key in front.
            newest_key.filter(|&key| key > number)?;
        }
        let frame = Arc::clone(self.video.get(newest_key?)?);
        let burst_to = self
            .video
            .newest()
            .filter(|newest| newest.number > frame.number)
            .cloned();
        Some(Delivery { frame, burst_to })
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
        })
    }
}

impl Cursor {
    /// Marks a frame as taken.
    pub fn advance(&mut self, frame: &FrameSet) {
        let next = frame.number.checked_add(1);
        match frame.track {
            TrackKind::Video => self.video = next,
            TrackKind::Audio => self.audio = next,
        }
    }

    /// Makes the video wait for the next entry point: something was lost on the way.
    pub fn await_key(&mut self) {
        self.video = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::frame::FrameSetHead;
    use crate::media::time::MediaTime;
    use std::time::Instant;

    fn frame(track: TrackKind, number: u64, key: bool) -> Arc<FrameSet> {
        let head = FrameSetHead {
            track,
            epoch: Epoch(u32::try_from(number >> 32).unwrap()),
            number,
            first_sequence: number,
            key,
            disposable: false,
            pts: MediaTime::ZERO,
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            received: Instant::now(),
        };
        Arc::new(FrameSet::new(head, vec![1], vec![1]).unwrap())
    }

    fn drain(room: &Room, cursor: &mut Cursor, track: TrackKind) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(delivery) = room.next(cursor, track) {
            cursor.advance(&delivery.frame);
            numbers.push(delivery.frame.number);
        }
        numbers
    }

    #[test]
    fn viewer_joining_mid_gop_starts_at_keyframe() {
        let mut room = Room::default();
        for number in 0..5 {
            room.push(frame(TrackKind::Video, number, number == 0 || number == 2));
        }
        let mut cursor = room.join();
        let first = room.next(&cursor, TrackKind::Video).unwrap();
        assert_eq!(first.frame.number, 2);
        assert_eq!(first.burst_to.unwrap().number, 4);
        assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [2, 3, 4]);
        room.push(frame(TrackKind::Video, 5, false));
        assert!(
            room.next(&cursor, TrackKind::Video)
                .unwrap()
                .burst_to
                .is_none()
        );
    }

    #[test]
    fn viewer_before_the_publisher_waits_and_gets_the_first_key() {
        let mut room = Room::default();
        let mut cursor = room.join();
        assert!(room.next(&cursor, TrackKind::Video).is_none());
        room.push(frame(TrackKind::Video, 0, true));
        room.push(frame(TrackKind::Audio, 0, true));
        assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [0]);
        assert_eq!(drain(&room, &mut cursor, TrackKind::Audio), [0]);
    }

    #[test]
    fn audio_starts_at_the_live_edge() {
        let mut room = Room::default();
        for number in 0..10 {
            room.push(frame(TrackKind::Audio, number, true));
        }
        let mut cursor = room.join();
        assert!(room.next(&cursor, TrackKind::Audio).is_none());
        room.push(frame(TrackKind::Audio, 10, true));
        assert_eq!(drain(&room, &mut cursor, TrackKind::Audio), [10]);
    }

    #[test]
    fn viewer_left_behind_jumps_to_the_newest_key() {
        let mut room = Room::default();
        room.push(frame(TrackKind::Video, 0, true));
        let mut cursor = room.join();
        drain(&room, &mut cursor, TrackKind::Video);
        for number in 1..20 {
            room.push(frame(TrackKind::Video, number, number == 15));
        }
        assert_eq!(
            drain(&room, &mut cursor, TrackKind::Video),
            [15, 16, 17, 18, 19]
        );
    }

    #[test]
    fn viewer_two_frames_behind_a_key_gets_them_all() {
        let mut room = Room::default();
        room.push(frame(TrackKind::Video, 0, true));
        let mut cursor = room.join();
        drain(&room, &mut cursor, TrackKind::Video);
        for number in 1..4 {
            room.push(frame(TrackKind::Video, number, number == 3));
        }
        assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [1, 2, 3]);
    }

    #[test]
    fn next_publish_goes_on_at_its_first_key() {
        let mut room = Room::default();
        room.push(frame(TrackKind::Video, 0, true));
        room.push(frame(TrackKind::Audio, 0, true));
        let mut cursor = room.join();
        drain(&room, &mut cursor, TrackKind::Video);
        room.end(Epoch(0));
        assert!(room.next(&cursor, TrackKind::Video).is_none());
        let start = Epoch(1).first_number();
        room.push(frame(TrackKind::Video, start, true));
        room.push(frame(TrackKind::Audio, start, true));
        assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [start]);
        assert_eq!(drain(&room, &mut cursor, TrackKind::Audio), [start]);
    }

    #[test]
    fn what_is_late_of_an_older_publish_changes_nothing() {
        let mut room = Room::default();
        room.push(frame(TrackKind::Video, 0, true));
        let start = Epoch(1).first_number();
        room.begin(Epoch(1));
        assert!(!room.push(frame(TrackKind::Video, 1, true)));
        room.push(frame(TrackKind::Video, start, true));
        room.end(Epoch(0));
        let mut cursor = room.join();
        assert_eq!(drain(&room, &mut cursor, TrackKind::Video), [start]);
    }
}
