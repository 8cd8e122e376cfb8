//! Sound that comes in large pieces leaves evenly. An encoder at 8 kHz sends 128 ms at a time
//! (1,024 samples): six Opus packets at once and then none make a player's jitter buffer grow to
//! the size of the piece, and its sound drift from the picture. No packet waits longer than its
//! place in the piece, nor beyond the next piece.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Engine, Timer};
use crate::ids::PublisherId;
use crate::media::frame::AudioFrame;
use crate::media::time::MediaTime;

/// Packets of one piece that leave at once: AAC at 44.1 and 48 kHz makes one or two of a piece, and
/// shall not wait.
const AT_ONCE: usize = 2;
/// Packets that wait at most; the first go early then.
const WAITING_MAX: usize = 64;

/// What was made of one piece of sound: when it came, and its first packet's place in time.
#[derive(Debug, Clone, Copy)]
struct Piece {
    received: Instant,
    began: Instant,
    pts: MediaTime,
    packets: usize,
}

/// A publish's sound on its way from the transcoder to the room.
#[derive(Debug, Default)]
pub(super) struct Spread {
    piece: Option<Piece>,
    waiting: VecDeque<(Instant, AudioFrame)>,
    /// Those before this many packets are due whatever the clock says.
    due: usize,
}

impl Spread {
    /// Takes the next packet; [`Self::pop`] says when it leaves.
    pub(super) fn push(&mut self, frame: AudioFrame, now: Instant) {
        let piece = match &mut self.piece {
            Some(piece) if piece.received == frame.received => piece,
            _ => {
                self.due = self.waiting.len();
                self.piece.insert(Piece {
                    received: frame.received,
                    began: now,
                    pts: frame.pts,
                    packets: 0,
                })
            }
        };
        piece.packets = piece.packets.saturating_add(1);
        let at = match piece.packets > AT_ONCE {
            true => piece.began + since(piece.pts, frame.pts),
            false => now,
        };
        self.waiting.push_back((at, frame));
        let over = self.waiting.len().saturating_sub(WAITING_MAX);
        self.due = self.due.max(over);
    }

    /// Takes the next packet that is to leave by `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<AudioFrame> {
        let (at, _) = self.waiting.front()?;
        if self.due == 0 && *at > now {
            return None;
        }
        self.due = self.due.saturating_sub(1);
        self.waiting.pop_front().map(|(_, frame)| frame)
    }

    /// When the next packet is to leave.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.waiting.front().map(|&(at, _)| at)
    }

    /// Takes all that wait, whenever they were to leave: the publish ends.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = AudioFrame> {
        self.due = 0;
        self.waiting.drain(..).map(|(_, frame)| frame)
    }
}

/// Time from one place on the timeline to a later one.
fn since(from: MediaTime, to: MediaTime) -> Duration {
    let micros = to.minus(from).as_micros();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

impl Engine {
    /// Sends on the sound whose time has come, and sets the time for the rest.
    pub(super) fn release_audio(&mut self, publisher: PublisherId, now: Instant) {
        while let Some(publish) = self.publish_mut(publisher) {
            let Some(frame) = publish.spread.pop(now) else {
                break;
            };
            self.push_audio_frame(publisher, &frame, now);
        }
        let next = self.publish_mut(publisher);
        match next.and_then(|publish| publish.spread.next_timeout()) {
            Some(at) => self.deadlines.set(Timer::Sound(publisher), at),
            None => self.deadlines.remove(Timer::Sound(publisher)),
        }
    }

    /// Sends on all sound that waits: nothing comes after it.
    pub(super) fn flush_audio(&mut self, publisher: PublisherId) {
        let Some(publish) = self.publish_mut(publisher) else {
            return;
        };
        let rest: Vec<_> = publish.spread.drain().collect();
        for frame in rest {
            let now = self
                .clock
                .map_or(frame.received, |clock| clock.max(frame.received));
            self.push_audio_frame(publisher, &frame, now);
        }
        self.deadlines.remove(Timer::Sound(publisher));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const PACKET_MS: u64 = 20;

    fn frame(number: u64, received: Instant) -> AudioFrame {
        AudioFrame {
            pts: MediaTime::from_micros(i64::try_from(number * PACKET_MS * 1_000).unwrap()),
            data: Bytes::from_static(b"opus"),
            received,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test begins at some instant")]
    fn start() -> Instant {
        Instant::now()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Pieces that come `every` milliseconds, of so many packets in turn; when each packet leaves,
    /// in milliseconds, asked each millisecond.
    fn left_at(pieces: &[u64], every: u64, until: u64) -> Vec<u64> {
        let begin = start();
        let mut spread = Spread::default();
        let (mut number, mut next, mut left) = (0, 0, Vec::new());
        for at in 0..until {
            let now = begin + ms(at);
            if at == next * every
                && let Some(&packets) = pieces.get(usize::try_from(next).unwrap())
            {
                for _ in 0..packets {
                    spread.push(frame(number, now), now);
                    number += 1;
                }
                next += 1;
            }
            while spread.pop(now).is_some() {
                left.push(at);
            }
        }
        left
    }

    #[test]
    fn a_large_piece_leaves_evenly() {
        let expected = [0, 0, 40, 60, 80, 100, 128, 128, 168, 188, 208, 228, 248];
        assert_eq!(left_at(&[6, 7], 128, 300), expected);
    }

    #[test]
    fn small_pieces_leave_at_once() {
        assert_eq!(left_at(&[1, 2, 1, 2], 21, 100), [0, 21, 21, 42, 63, 63]);
    }

    #[test]
    fn nothing_waits_beyond_the_next_piece() {
        assert_eq!(left_at(&[5, 1], 50, 200), [0, 0, 40, 50, 50, 50]);
    }

    #[test]
    fn no_more_wait_than_the_bound() {
        let now = start();
        let mut spread = Spread::default();
        for number in 0..1_000 {
            spread.push(frame(number, now), now);
            assert!(spread.waiting.len() <= WAITING_MAX + 1);
            while spread.pop(now).is_some() {}
        }
        assert_eq!(spread.drain().count(), WAITING_MAX);
        assert_eq!(spread.next_timeout(), None);
    }
}
