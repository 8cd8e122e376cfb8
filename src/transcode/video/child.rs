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
    VIDEO_HANG_AFTER, VIDEO_HANG_AFTER_OPENING, VIDEO_HANG_FRAMES, VIDEO_HANG_SPARE,
    VIDEO_HANG_SPARE_MAX, VIDEO_HANG_SPARE_PER_CACHED, VIDEO_INPUT_AGE_MAX, VIDEO_INPUT_BYTES_MAX,
    VIDEO_KEYFRAME_REQUEST_INTERVAL,
};
use crate::media::codec::{CodedFrame, VideoConfig};
use crate::media::frame::VideoFrame;
use crate::media::time::MediaTime;

/// Longest time that cached frames span: a publish with fewer keyframes begins late.
const REPEATED_MAX: MediaTime = MediaTime::from_millis(60_000);

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
    /// Whether its encoder is a card, which may have to be woken.
    in_hardware: bool,
}

impl Child {
    pub(super) fn new(id: ChildId, config: &VideoConfig, encoder: VideoEncoder) -> Self {
        Self {
            id,
            writer: MatroskaWriter::new(config),
            reader: FlvReader::default(),
            frames: FrameMaker::default(),
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
