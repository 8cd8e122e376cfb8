//! One child as the supervisor sees it: what waits to be written to it, what it owes, and whether
//! it still lives.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use super::VideoEncoder;
use super::flv_reader::{FlvReadError, FlvReader};
use super::frames::{Feed, FrameMaker, Source};
use super::matroska::{BlockKind, MatroskaWriter};
use crate::limits::{
    VIDEO_CATCH_UP_MAX, VIDEO_HANG_AFTER, VIDEO_HANG_AFTER_OPENING, VIDEO_HANG_FRAMES,
    VIDEO_HANG_SPARE, VIDEO_HANG_SPARE_MAX, VIDEO_HANG_SPARE_PER_CACHED, VIDEO_INPUT_AGE_MAX,
    VIDEO_INPUT_BYTES_MAX, VIDEO_KEYFRAME_REQUEST_INTERVAL,
};
use crate::media::codec::{CodedFrame, VideoConfig};
use crate::media::frame::VideoFrame;
use crate::media::time::MediaTime;

/// Longest time that cached frames span: a publish with fewer keyframes begins late.
const REPEATED_MAX: MediaTime = MediaTime::from_millis(60_000);

/// With more frames than these unread the child is behind the stream; its pipe holds some more.
const FRAMES_BEHIND_MAX: usize = 2;

/// Number of a child; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(pub u64);

/// What became of a frame that was to be fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    /// It waits to be written.
    Queued,
    /// It was left out: no keyframe came before it, it came before, or too much waits.
    Dropped {
        /// How many frames are lost, those that waited included.
        frames: u64,
    },
    /// The child can go on no longer: the time cannot be told to it.
    Spent,
}

/// A frame that waits to be written.
#[derive(Debug)]
struct Waiting {
    head: Bytes,
    data: Bytes,
    /// Its millisecond, if an output frame is expected of it.
    encoded: Option<u32>,
    since: Instant,
    begun: bool,
}

impl Waiting {
    fn len(&self) -> usize {
        self.head.len().saturating_add(self.data.len())
    }
}

/// Whether a child that began in the middle of a stream has caught up with it.
#[derive(Debug, Clone, Copy)]
enum CatchUp {
    /// No frame to be shown was fed yet.
    NotBegun,
    /// It is still reading those from before: at the latest until then.
    Until(Instant),
    Done,
}

/// One child's state.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) id: ChildId,
    writer: MatroskaWriter,
    reader: FlvReader,
    frames: FrameMaker,
    queue: VecDeque<Waiting>,
    queue_bytes: usize,
    /// A keyframe must come first: nothing was fed yet, or frames were left out.
    awaits_key: bool,
    /// Decoding time of the last frame that was fed.
    last_dts: Option<MediaTime>,
    key_wanted: bool,
    key_made: Option<Instant>,
    /// When the first frame was fed that nothing came out after.
    silent_since: Option<Instant>,
    fed_in_silence: u32,
    /// It computes still: not to be killed before this.
    spared_until: Option<Instant>,
    decoded_only: u32,
    catch_up: CatchUp,
    /// Whether its encoder is a card, which may have to be woken.
    in_hardware: bool,
}

impl Child {
    pub(super) fn new(id: ChildId, config: &VideoConfig, encoder: VideoEncoder) -> Self {
        Self {
            id,
            writer: MatroskaWriter::new(config),
            reader: FlvReader::default(),
            frames: FrameMaker::new(config.frames_per_1000_s),
            queue: VecDeque::new(),
            queue_bytes: 0,
            awaits_key: true,
            last_dts: None,
            key_wanted: false,
            key_made: None,
            silent_since: None,
            fed_in_silence: 0,
            spared_until: None,
            decoded_only: 0,
            catch_up: CatchUp::NotBegun,
            in_hardware: !encoder.is_software(),
        }
    }

    /// Asks for a keyframe as soon as may be.
    pub(super) fn want_key(&mut self) {
        // The first frame is one.
        self.key_wanted |= self.frames.has_begun();
    }

    /// Whether a frame was fed already: the core sends cached frames once more after a restart,
    /// and one of them may have come before. A frame from long before is none of those, but begins
    /// another timeline.
    pub(super) fn had(&self, frame: &CodedFrame) -> bool {
        self.last_dts
            .is_some_and(|last| frame.dts <= last && last.minus(frame.dts) < REPEATED_MAX)
    }

    /// Takes the next frame.
    pub(super) fn feed(&mut self, frame: &CodedFrame, decode_only: bool, now: Instant) -> Fed {
        let left_out = self.drop_stale(frame, now);
        if self.awaits_key && !frame.key && !frame.recovery {
            return Fed::Dropped {
                frames: left_out.saturating_add(1),
            };
        }
        let decode_only = decode_only || self.catches_up(now);
        let source = Source {
            pts: frame.pts,
            received: frame.received,
        };
        let (ms, decode_only) = match self.frames.feed(source, !decode_only) {
            Feed::At(ms) => (ms, decode_only),
            Feed::Late(ms) => (ms, true),
            Feed::Spent => return Fed::Spent,
        };
        self.awaits_key = false;
        self.last_dts = Some(frame.dts);
        let kind = self.kind(decode_only, now);
        let [head, data] = self.writer.frame(ms.into(), frame.key, kind, &frame.data);
        let waiting = Waiting {
            head,
            data,
            encoded: (!decode_only).then_some(ms),
            since: now,
            begun: false,
        };
        self.queue_bytes = self.queue_bytes.saturating_add(waiting.len());
        self.queue.push_back(waiting);
        if decode_only {
            self.decoded_only = self.decoded_only.saturating_add(1);
        } else {
            self.silent_since.get_or_insert(now);
            self.fed_in_silence = self.fed_in_silence.saturating_add(1);
        }
        match left_out {
            0 => Fed::Queued,
            frames => Fed::Dropped { frames },
        }
    }

    /// Whether a frame that is to be shown would only be late: of a stream that was begun in the middle
    /// the child shows the first such frame as soon as it can, so that there is a picture, and then what
    /// is live by the time it has decoded the cache. What comes meanwhile it only decodes.
    fn catches_up(&mut self, now: Instant) -> bool {
        let is_behind = self.queue.len() > FRAMES_BEHIND_MAX;
        let (next, catches_up) = match self.catch_up {
            CatchUp::NotBegun if is_behind => (CatchUp::Until(now + VIDEO_CATCH_UP_MAX), false),
            CatchUp::Until(until) if is_behind && now < until => (self.catch_up, true),
            CatchUp::NotBegun | CatchUp::Until(_) | CatchUp::Done => (CatchUp::Done, false),
        };
        self.catch_up = next;
        catches_up
    }

    /// When too much waits, leaves out all of it but what the child has begun to read.
    fn drop_stale(&mut self, next: &CodedFrame, now: Instant) -> u64 {
        let too_much = self.queue_bytes.saturating_add(next.data.len()) > VIDEO_INPUT_BYTES_MAX;
        // Cached frames are late from the start: only those to be shown have an age.
        let oldest = self.queue.iter().find(|waiting| waiting.encoded.is_some());
        let too_old = oldest.is_some_and(|waiting| {
            now.saturating_duration_since(waiting.since) > VIDEO_INPUT_AGE_MAX
        });
        if !too_much && !too_old {
            return 0;
        }
        self.awaits_key = true;
        let kept = self
            .queue
            .iter()
            .take_while(|waiting| waiting.begun)
            .count();
        let mut dropped = 0_u64;
        for waiting in self.queue.drain(kept..) {
            dropped = dropped.saturating_add(1);
            self.queue_bytes = self.queue_bytes.saturating_sub(waiting.len());
            if let Some(ms) = waiting.encoded {
                self.frames.forget(ms);
            }
        }
        dropped
    }

    fn kind(&mut self, decode_only: bool, now: Instant) -> BlockKind {
        if decode_only {
            return BlockKind::DecodeOnly;
        }
        let rested = self.key_made.is_none_or(|made| {
            now.saturating_duration_since(made) >= VIDEO_KEYFRAME_REQUEST_INTERVAL
        });
        if !self.key_wanted || !rested {
            return BlockKind::Plain;
        }
        self.key_wanted = false;
        self.key_made = Some(now);
        BlockKind::ForceKey
    }

    /// What is to be written next; empty: nothing.
    pub(super) fn input(&self) -> &[u8] {
        let Some(waiting) = self.queue.front() else {
            return &[];
        };
        if waiting.head.is_empty() {
            &waiting.data
        } else {
            &waiting.head
        }
    }

    /// So many bytes of [`Self::input`] were written.
    pub(super) fn input_taken(&mut self, count: usize) {
        let Some(waiting) = self.queue.front_mut() else {
            return;
        };
        waiting.begun = true;
        let part = if waiting.head.is_empty() {
            &mut waiting.data
        } else {
            &mut waiting.head
        };
        let count = count.min(part.len());
        part.advance(count);
        self.queue_bytes = self.queue_bytes.saturating_sub(count);
        if waiting.head.is_empty() && waiting.data.is_empty() {
            self.queue.pop_front();
        }
    }

    /// Takes what the child wrote.
    pub(super) fn push_output(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// Gives the next frame that came out.
    pub(super) fn next_frame(&mut self, now: Instant) -> Result<Option<VideoFrame>, FlvReadError> {
        while let Some(item) = self.reader.next_item()? {
            let Some(frame) = self.frames.take(item)? else {
                continue;
            };
            self.silent_since = None;
            self.fed_in_silence = 0;
            self.spared_until = None;
            if frame.key {
                self.key_made = Some(now);
                self.key_wanted = false;
            }
            return Ok(Some(frame));
        }
        Ok(None)
    }

    /// Whether a picture came out.
    pub(super) fn has_begun(&self) -> bool {
        self.frames.has_begun()
    }

    /// When it hangs, if nothing comes out until then.
    pub(super) fn hangs_at(&self) -> Option<Instant> {
        if self.fed_in_silence < VIDEO_HANG_FRAMES {
            return None;
        }
        let opens = !self.frames.has_begun();
        let patience = match opens && self.in_hardware {
            true => VIDEO_HANG_AFTER_OPENING,
            false => VIDEO_HANG_AFTER,
        };
        let cached = if opens { self.decoded_only } else { 0 };
        let for_cached: Duration = VIDEO_HANG_SPARE_PER_CACHED.saturating_mul(cached);
        let at = self.silent_since?.checked_add(patience)?;
        let latest = at.checked_add(VIDEO_HANG_SPARE_MAX.saturating_add(for_cached))?;
        Some(
            self.spared_until
                .map_or(at, |until| until.clamp(at, latest)),
        )
    }

    /// It is silent, but not idle.
    pub(super) fn spare(&mut self, now: Instant) {
        self.spared_until = now.checked_add(VIDEO_HANG_SPARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::VideoCodec;

    struct Rig {
        child: Child,
        now: Instant,
        fed: i64,
    }

    impl Rig {
        fn new() -> Self {
            let config = VideoConfig {
                codec: VideoCodec::Vp8,
                record: Bytes::new(),
                size: Some((320, 180)),
                sample_aspect_ratio: None,
                interlaced: false,
                reordering_told: false,
                frames_per_1000_s: Some(30_000),
            };
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            let now = Instant::now();
            Self {
                child: Child::new(ChildId(1), &config, VideoEncoder::X264),
                now,
                fed: 0,
            }
        }

        fn feed(&mut self, count: usize, decode_only: bool) {
            for _ in 0..count {
                let time = MediaTime::from_millis(33 * self.fed);
                let frame = CodedFrame {
                    pts: time,
                    dts: time,
                    key: self.fed == 0,
                    recovery: false,
                    disposable: false,
                    data: Bytes::from_static(b"frame"),
                    received: self.now,
                };
                self.fed += 1;
                self.child.feed(&frame, decode_only, self.now);
            }
        }

        /// Which of those that wait are to be shown; the child reads them.
        fn read(&mut self) -> Vec<bool> {
            let queue = self.child.queue.iter();
            let shown = queue.map(|waiting| waiting.encoded.is_some()).collect();
            while !self.child.input().is_empty() {
                self.child.input_taken(self.child.input().len());
            }
            shown
        }
    }

    #[test]
    fn child_that_began_in_the_middle_shows_one_frame_and_then_what_is_live() {
        let mut rig = Rig::new();
        rig.feed(30, true);
        rig.feed(5, false);
        let shown = rig.read();
        assert_eq!(shown[30..], [true, false, false, false, false]);
        assert!(shown[..30].iter().all(|shown| !shown));
        rig.feed(20, false);
        assert!(rig.read().iter().all(|shown| *shown), "it has caught up");
    }

    #[test]
    fn child_that_never_catches_up_shows_frames_all_the_same() {
        let mut rig = Rig::new();
        rig.feed(30, true);
        rig.feed(5, false);
        rig.now += VIDEO_CATCH_UP_MAX;
        rig.feed(5, false);
        assert_eq!(rig.read()[35..], [true; 5]);
    }

    #[test]
    fn child_that_began_with_the_stream_shows_every_frame() {
        let mut rig = Rig::new();
        rig.feed(30, false);
        assert_eq!(rig.read(), [true; 30]);
    }
}
