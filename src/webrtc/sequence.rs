//! One viewer's numbering of one track: a room's sequence numbers and timestamps, made into an
//! unbroken run of the viewer's own.
//!
//! RFC 3550 §5.1 (sequence number and timestamp), RFC 3711 §3.3.1 (packet index).
//!
//! A [`Segment`] is a stretch in which the viewer's number is the room's plus a constant. A
//! skipped frame, a new publish, another rendition or a join's burst begins the next one. Everything that a packet's
//! header says follows from its viewer number and its segment, so that a packet sent again is the
//! same to the last bit: with AEAD ciphers, another plaintext under the same number would give
//! the key away.
//!
//! Ticks are those of the server's timeline and do not wrap: a viewer may stay while nobody publishes
//! for hours, after which timestamps of 32 bits no longer say which of two is the newer.

use std::collections::VecDeque;

use crate::media::frame::FrameSet;

/// Segments kept for retransmissions: many seconds, unless the viewer skips all the time.
const SEGMENTS_MAX: usize = 16;
/// Distance of a join burst's timestamps, in ticks: 1 ms of video.
const BURST_TICKS: i64 = 90;
/// When even the newest cached picture was shown already and all are sent again: how long after it
/// they end, in ticks. Less than the time to the next picture at 90 pictures a second.
const REPEAT_TICKS: i64 = 900;

/// Frames after a burst that may still be older than what was shown: those of a rendition that
/// comes later than the one before it, while it catches up; 17 s at 30 pictures a second.
const LATE_FRAMES_MAX: u64 = 512;

/// A join's burst, and where its timestamps end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Burst {
    /// Number of its first frame.
    pub(super) first: u64,
    /// Number of its newest frame.
    pub(super) newest: u64,
    /// Timestamp of that, in ticks, without the viewer's offset; its true one, unless that is
    /// over.
    pub(super) newest_ticks: i64,
    /// Ticks from one frame to the next.
    pub(super) spacing: i64,
    /// Whether the newest's true timestamp is over, so that those of the next frames may be too.
    pub(super) is_late: bool,
}

impl Burst {
    /// Timestamp of a frame whose true one is `ticks`. Depends on nothing else, so that a packet
    /// sent again carries the same. Frames of another rendition have numbers before the first, or
    /// far behind the newest.
    fn ticks(self, number: u64, ticks: i64) -> i64 {
        if number < self.first {
            return ticks;
        }
        if number <= self.newest {
            let before = frames_between(number, self.newest);
            return self
                .newest_ticks
                .saturating_sub(before.saturating_mul(self.spacing));
        }
        if !self.is_late || number.saturating_sub(self.newest) > LATE_FRAMES_MAX {
            return ticks;
        }
        let after = frames_between(self.newest, number);
        let earliest = self
            .newest_ticks
            .saturating_add(after.saturating_mul(BURST_TICKS));
        ticks.max(earliest)
    }

    /// A burst of the frames from `first` to `newest`, whose true timestamp is `newest_ticks`, for
    /// a viewer that was shown everything up to `shown`: a player drops a picture that is older
    /// than one it has shown, so they all fit in behind that.
    fn new(first: u64, newest: u64, newest_ticks: i64, shown: Option<i64>) -> Self {
        let frames = frames_between(first, newest);
        let true_end = Self {
            first,
            newest,
            newest_ticks,
            spacing: BURST_TICKS,
            is_late: false,
        };
        let Some(shown) = shown else {
            return true_end;
        };
        let ahead = newest_ticks.saturating_sub(shown);
        if ahead > frames.saturating_mul(BURST_TICKS) {
            return true_end;
        }
        let is_ahead = ahead > frames;
        let ahead = if is_ahead {
            ahead
        } else {
            REPEAT_TICKS.max(frames.saturating_add(1))
        };
        Self {
            first,
            newest,
            newest_ticks: shown.saturating_add(ahead),
            spacing: (ahead / frames.saturating_add(1)).clamp(1, BURST_TICKS),
            is_late: !is_ahead,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    /// First viewer number, unbounded: the low 16 bits go on the wire.
    viewer: u64,
    /// Room sequence number of the same packet.
    room: u64,
    burst: Option<Burst>,
    /// First viewer number that says players may hold frames back.
    relaxed: Option<u64>,
}

/// Where a packet stands in a viewer's numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its packet index: rollover counter and sequence number.
    pub(super) index: u64,
    /// Its timestamp, in ticks, without the viewer's offset.
    pub(super) ticks: i64,
    /// Whether it says that players may hold frames back.
    pub(super) relaxed: bool,
}

impl Place {
    /// The sequence number on the wire.
    pub(super) fn sequence(self) -> u16 {
        low_bits(self.index)
    }
}

/// How many frames one is before another.
fn frames_between(first: u64, last: u64) -> i64 {
    i64::try_from(last.saturating_sub(first)).unwrap_or(i64::MAX)
}

fn low_bits(index: u64) -> u16 {
    let [.., high, low] = index.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// The numbering.
#[derive(Debug)]
pub(super) struct Numbering {
    segments: VecDeque<Segment>,
    /// Viewer number of the next packet.
    next: u64,
    /// Room sequence number that would continue the last segment.
    expected: Option<u64>,
    burst: Option<Burst>,
    relaxed: bool,
    /// Newest timestamp sent.
    shown: Option<i64>,
}

impl Numbering {
    /// Begins at `first`, which is to be random and below 2^15 (RFC 3711 §3.3.1: no player may
    /// mistake the first rollover).
    pub(super) fn new(first: u16) -> Self {
        Self {
            segments: VecDeque::new(),
            next: u64::from(first),
            expected: None,
            burst: None,
            relaxed: false,
            shown: None,
        }
    }

    /// From the next packet on, frames older than `burst.newest` are a burst, and players are
    /// not to hold frames back.
    pub(super) fn begin_burst(&mut self, first: u64, newest: u64, newest_ticks: i64) {
        self.burst = Some(Burst::new(first, newest, newest_ticks, self.shown));
        self.relaxed = false;
        self.expected = None;
    }

    /// From the next packet on, players may hold frames back.
    pub(super) fn relax(&mut self) {
        self.relaxed = true;
        if let Some(segment) = self.segments.back_mut() {
            segment.relaxed.get_or_insert(self.next);
        }
    }

    /// Numbers the next packets to be sent: `count` packets of `frame` from `packet` on; the
    /// frame's true timestamp is `ticks`. Gives the place of the first; the others' are one packet
    /// index further each.
    pub(super) fn place(
        &mut self,
        frame: &FrameSet,
        packet: usize,
        count: usize,
        ticks: i64,
    ) -> Place {
        let room = frame.first_sequence.saturating_add(packet as u64);
        let count = count as u64;
        if self.expected != Some(room) {
            while self.segments.len() >= SEGMENTS_MAX {
                self.segments.pop_front();
            }
            self.segments.push_back(Segment {
                viewer: self.next,
                room,
                burst: self.burst,
                relaxed: self.relaxed.then_some(self.next),
            });
        }
        self.expected = Some(room.saturating_add(count));
        let index = self.next;
        self.next = self.next.saturating_add(count);
        let ticks = self
            .burst
            .map_or(ticks, |burst| burst.ticks(frame.number, ticks));
        self.shown = self.shown.max(Some(ticks));
        Place {
            index,
            ticks,
            relaxed: self.relaxed,
        }
    }

    /// The place that a packet was given when it was last sent; `None` if it was not, or too
    /// long ago.
    pub(super) fn placed(&self, frame: &FrameSet, packet: usize, ticks: i64) -> Option<Place> {
        let room = frame.first_sequence.saturating_add(packet as u64);
        let mut end = self.next;
        for segment in self.segments.iter().rev() {
            let index = room
                .checked_sub(segment.room)
                .map(|distance| segment.viewer.saturating_add(distance))
                .filter(|&index| index < end);
            if let Some(index) = index {
                return Some(Place {
                    index,
                    ticks: segment
                        .burst
                        .map_or(ticks, |burst| burst.ticks(frame.number, ticks)),
                    relaxed: segment.relaxed.is_some_and(|from| index >= from),
                });
            }
            end = segment.viewer;
        }
        None
    }

    /// Room sequence number of the packet that was sent to the viewer as `sequence` last.
    pub(super) fn room_sequence(&self, sequence: u16) -> Option<u64> {
        let last = self.next.checked_sub(1)?;
        let back = low_bits(last).wrapping_sub(sequence);
        let index = last.checked_sub(u64::from(back))?;
        let segment = self
            .segments
            .iter()
            .rev()
            .find(|segment| segment.viewer <= index)?;
        Some(
            segment
                .room
                .saturating_add(index.checked_sub(segment.viewer)?),
        )
    }

    /// Packets sent so far; also whether there are any.
    pub(super) fn started(&self) -> bool {
        !self.segments.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::Epoch;
    use crate::media::frame::{FrameSetHead, Rendition, TrackKind};
    use crate::media::time::MediaTime;

    fn frame(number: u64, first_sequence: u64, packets: u32) -> FrameSet {
        let head = FrameSetHead {
            track: TrackKind::Video,
            rendition: Rendition::of_number(number),
            safe: true,
            epoch: Epoch(0),
            number,
            first_sequence,
            key: false,
            disposable: false,
            pts: MediaTime::ZERO,
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            received: Instant::now(),
        };
        let bytes = vec![0; packets as usize];
        FrameSet::new(head, bytes, (1..=packets).collect()).unwrap()
    }

    #[test]
    fn numbers_have_no_hole_where_frames_are_skipped() {
        let mut numbering = Numbering::new(7);
        let frames = [frame(0, 100, 2), frame(5, 130, 1), frame(6, 131, 2)];
        let mut places = Vec::new();
        for frame in &frames {
            for packet in 0..frame.packet_count() {
                places.push(numbering.place(frame, packet, 1, 0).index);
            }
        }
        assert_eq!(places, [7, 8, 9, 10, 11]);
        assert_eq!(numbering.room_sequence(8), Some(101));
        assert_eq!(numbering.room_sequence(9), Some(130));
        assert_eq!(numbering.room_sequence(11), Some(132));
        assert_eq!(numbering.room_sequence(12), None, "not sent yet");
        assert_eq!(numbering.room_sequence(6), None, "before the first");
    }

    #[test]
    fn wire_number_rolls_over_and_the_index_does_not() {
        let mut numbering = Numbering::new(32_767);
        let long = frame(0, 0, 40_000);
        let mut last = None;
        for packet in 0..long.packet_count() {
            last = Some(numbering.place(&long, packet, 1, 0));
        }
        let last = last.unwrap();
        assert_eq!(last.index, 72_766);
        assert_eq!(last.sequence(), 7_230);
        assert_eq!(numbering.room_sequence(7_230), Some(39_999));
        assert_eq!(numbering.room_sequence(65_535), Some(32_768));
        assert_eq!(numbering.placed(&long, 39_999, 0), Some(last));
    }

    #[test]
    fn burst_sent_again_shows_nothing_older_than_what_was_shown() {
        let mut numbering = Numbering::new(0);
        let place = |numbering: &mut Numbering, number: u64, ticks| {
            numbering
                .place(&frame(number, number, 1), 0, 1, ticks)
                .ticks
        };
        let mut shown = 0;
        for number in 0..300 {
            shown = place(&mut numbering, number, 1_000 + 3_000 * number.cast_signed());
        }
        for _ in 0..2 {
            numbering.begin_burst(0, 299, 1_000 + 3_000 * 299);
            for number in 0..300 {
                let ticks = place(&mut numbering, number, 1_000 + 3_000 * number.cast_signed());
                assert!(ticks > shown, "frame {number}: {ticks} after {shown}");
                shown = ticks;
            }
        }
        let next = place(&mut numbering, 300, 1_000 + 3_000 * 300);
        assert!(
            next > shown,
            "the next picture is at its true time: {next} after {shown}"
        );
    }

    #[test]
    fn change_of_rendition_breaks_neither_numbers_nor_timestamps() {
        const MADE: u64 = 1 << 63;
        let mut numbering = Numbering::new(9);
        // Ticks of the source, and of what is made of it, which comes 100 ms later.
        let source = |number: u64| 90_000 + 3_000 * number.cast_signed();
        let made = |number: u64| source(number) - 9_000;
        let mut sent = Vec::new();
        let mut send = |numbering: &mut Numbering, number: u64, ticks| {
            let frame = frame(number, number * 2, 2);
            for packet in 0..2 {
                let place = numbering.place(&frame, packet, 1, ticks);
                sent.push((number, ticks, packet, place));
            }
        };
        for number in 0..10 {
            send(&mut numbering, number, source(number));
        }
        // At a keyframe of the other, and back at one of the source.
        let first = MADE / 2 + 10;
        numbering.begin_burst(first, first, made(10));
        for number in 10..40 {
            send(&mut numbering, MADE / 2 + number, made(number));
        }
        numbering.begin_burst(45, 46, source(46));
        for number in 45..60 {
            send(&mut numbering, number, source(number));
        }
        let places: Vec<Place> = sent.iter().map(|it| it.3).collect();
        let indices: Vec<u64> = places.iter().map(|place| place.index).collect();
        assert_eq!(indices, (9..9 + indices.len() as u64).collect::<Vec<_>>());
        for pair in sent.windows(3).step_by(2) {
            let (before, after) = (pair[1].3.ticks, pair[2].3.ticks);
            assert!(after > before, "{after} follows {before}");
        }
        let true_again = sent.iter().filter(|it| it.0 > MADE / 2 + 14);
        assert!(true_again.clone().count() > 40);
        assert!(true_again.into_iter().all(|it| it.3.ticks == it.1));
        for (number, ticks, packet, place) in sent {
            let frame = frame(number, number * 2, 2);
            assert_eq!(numbering.placed(&frame, packet, ticks), Some(place));
            let room = number * 2 + packet as u64;
            assert_eq!(numbering.room_sequence(place.sequence()), Some(room));
        }
    }

    #[test]
    fn burst_timestamps_are_a_millisecond_apart_and_end_at_the_true_one() {
        let mut numbering = Numbering::new(0);
        numbering.begin_burst(9, 12, 900_000);
        let ticks = |numbering: &mut Numbering, number: u64, ticks| {
            numbering
                .place(&frame(number, number, 1), 0, 1, ticks)
                .ticks
        };
        assert_eq!(ticks(&mut numbering, 10, 894_000), 899_820);
        assert_eq!(ticks(&mut numbering, 11, 897_000), 899_910);
        assert_eq!(ticks(&mut numbering, 12, 900_000), 900_000);
        assert_eq!(ticks(&mut numbering, 13, 903_000), 903_000);
    }

    #[test]
    fn segments_are_bounded_and_old_ones_forgotten() {
        let mut numbering = Numbering::new(0);
        for number in 0..100 {
            numbering.place(&frame(number, number * 10, 1), 0, 1, 0);
        }
        assert_eq!(numbering.segments.len(), SEGMENTS_MAX);
        assert_eq!(numbering.room_sequence(99), Some(990));
        assert_eq!(numbering.room_sequence(10), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// Whatever is skipped, repeated by a burst or relaxed: a packet sent again is the same.
        #[test]
        fn placed_says_what_place_said(
            first in 0u16..32_768,
            steps in proptest::collection::vec((0u64..4, 1u32..5, 0u8..12), 1..60),
        ) {
            let mut numbering = Numbering::new(first);
            let (mut number, mut sequence) = (1_000u64, 50_000u64);
            let mut sent = Vec::new();
            for (skip, packets, action) in steps {
                number += skip + 1;
                sequence += skip * 3;
                match action {
                    0 => numbering.begin_burst(number, number + 2, 77),
                    1 => numbering.relax(),
                    _ => {}
                }
                let frame = frame(number, sequence, packets);
                sequence += u64::from(packets);
                for packet in 0..frame.packet_count() {
                    let ticks = (number * 3_000).cast_signed();
                    let place = numbering.place(&frame, packet, 1, ticks);
                    prop_assert_eq!(place.index, u64::from(first) + sent.len() as u64);
                    sent.push((number, frame.first_sequence, packets, packet, ticks, place));
                }
            }
            let kept = numbering.segments.front().map_or(0, |segment| segment.viewer);
            for (number, sequence, packets, packet, ticks, place) in sent {
                let found = numbering.placed(&frame(number, sequence, packets), packet, ticks);
                if place.index >= kept {
                    prop_assert_eq!(found, Some(place));
                    let room = sequence + packet as u64;
                    prop_assert_eq!(numbering.room_sequence(place.sequence()), Some(room));
                } else {
                    prop_assert_eq!(found, None);
                }
            }
        }
    }
}
