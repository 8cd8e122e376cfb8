//! The recent frames of one track of a room, or of one rendition of its video, in order and without
//! holes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{RING_BYTES_MAX, RING_FRAMES_MAX};
use crate::media::frame::FrameSet;

/// Frames older than this are dropped unless a joining viewer needs them: as long as a viewer may
/// still ask for a packet again.
const HISTORY: Duration = Duration::from_secs(3);

/// Frames from the newest entry point on, and some history before it. Numbers rise by one from
/// frame to frame: a frame that does not continue the ring is either an entry point, which clears
/// it, or refused.
#[derive(Debug, Default)]
pub struct FrameRing {
    frames: VecDeque<Arc<FrameSet>>,
    payload_bytes: usize,
    newest_key: Option<u64>,
}

impl FrameRing {
    /// Appends a frame. Returns `false`, and drops it, if it neither continues the ring nor is an
    /// entry point: what comes before it is missing, nobody could decode it. So is one that was there
    /// before, or could have been.
    pub fn push(&mut self, frame: Arc<FrameSet>) -> bool {
        let continues = self.newest().is_some_and(|newest| {
            newest.number.checked_add(1) == Some(frame.number)
                && newest.next_sequence() == frame.first_sequence
        });
        if !continues {
            let is_newer = self.newest().is_none_or(|it| it.number < frame.number);
            if !frame.key || !is_newer {
                return false;
            }
            self.clear();
        }
        if frame.key {
            self.newest_key = Some(frame.number);
        }
        self.payload_bytes += frame.payload_bytes();
        self.frames.push_back(frame);
        self.evict();
        true
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.payload_bytes = 0;
        self.newest_key = None;
    }

    /// The frame with this number, if it is still kept.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Arc<FrameSet>> {
        let oldest = self.frames.front()?.number;
        let index = usize::try_from(number.checked_sub(oldest)?).ok()?;
        self.frames.get(index)
    }

    /// The newest frame.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<FrameSet>> {
        self.frames.back()
    }

    /// Number of the newest entry point that is still kept.
    #[must_use]
    pub fn newest_key(&self) -> Option<u64> {
        self.newest_key
    }

    /// The frame that holds the packet with a room sequence number, and the packet's index in it.
    #[must_use]
    pub fn packet(&self, sequence: u64) -> Option<(&Arc<FrameSet>, usize)> {
        let after = self
            .frames
            .partition_point(|frame| frame.first_sequence <= sequence);
        let frame = self.frames.get(after.checked_sub(1)?)?;
        Some((frame, frame.packet_index(sequence)?))
    }

    /// Number of frames kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether no frame is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn evict(&mut self) {
        while self.frames.len() > 1 && self.oldest_is_surplus() {
            let Some(oldest) = self.frames.pop_front() else {
                return;
            };
            self.payload_bytes -= oldest.payload_bytes();
            if self.newest_key == Some(oldest.number) {
                self.newest_key = None;
            }
        }
    }

    fn oldest_is_surplus(&self) -> bool {
        if self.frames.len() > RING_FRAMES_MAX || self.payload_bytes > RING_BYTES_MAX {
            return true;
        }
        let (Some(oldest), Some(newest)) = (self.frames.front(), self.frames.back()) else {
            return false;
        };
        let needed = self.newest_key.is_some_and(|key| key <= oldest.number);
        !needed && newest.received.saturating_duration_since(oldest.received) > HISTORY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::media::frame::{FrameSetHead, Rendition, TrackKind};
    use crate::media::time::MediaTime;
    use std::time::Instant;

    fn frame(start: Instant, number: u64, key: bool) -> Arc<FrameSet> {
        let head = FrameSetHead {
            track: TrackKind::Video,
            rendition: Rendition::of_number(number),
            safe: true,
            epoch: Epoch(0),
            number,
            first_sequence: number * 2,
            key,
            disposable: false,
            pts: MediaTime::from_millis(i64::try_from(number).unwrap() * 33),
            received: start + Duration::from_millis(number * 33),
        };
        Arc::new(FrameSet::new(head, vec![7; 10], vec![5, 10]).unwrap())
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn ring_begins_at_a_key_and_refuses_a_hole() {
        let (start, mut ring) = (start(), FrameRing::default());
        assert!(!ring.push(frame(start, 4, false)));
        assert!(ring.push(frame(start, 5, true)));
        assert!(ring.push(frame(start, 6, false)));
        assert!(!ring.push(frame(start, 8, false)));
        assert_eq!(ring.newest().unwrap().number, 6);
        assert!(ring.push(frame(start, 9, true)));
        assert_eq!((ring.len(), ring.newest_key()), (1, Some(9)));
    }

    #[test]
    fn newest_gop_is_kept_however_old() {
        let (start, mut ring) = (start(), FrameRing::default());
        for number in 0..600 {
            assert!(ring.push(frame(start, number, number % 300 == 0)));
        }
        assert_eq!(ring.newest_key(), Some(300));
        assert!(ring.get(300).is_some(), "a joiner needs the keyframe");
        for number in 600..610 {
            ring.push(frame(start, number, number % 300 == 0));
        }
        assert_eq!(ring.newest_key(), Some(600));
        assert!(
            ring.get(511).is_none(),
            "older than the history and before the key"
        );
        assert!(ring.get(530).is_some(), "history for retransmission");
    }

    #[test]
    fn bounds_hold_without_a_second_key() {
        let (start, mut ring) = (start(), FrameRing::default());
        for number in 0..5_000 {
            ring.push(frame(start, number, number == 0));
            assert!(ring.len() <= RING_FRAMES_MAX);
        }
        assert_eq!(ring.newest_key(), None, "an evicted key is no entry point");
    }

    #[test]
    fn packets_are_found_by_room_sequence() {
        let (start, mut ring) = (start(), FrameRing::default());
        for number in 10..20 {
            ring.push(frame(start, number, number == 10));
        }
        let (found, index) = ring.packet(25).unwrap();
        assert_eq!((found.number, index), (12, 1));
        assert!(ring.packet(19).is_none());
        assert!(ring.packet(40).is_none());
    }
}
