//! Times into a child and back, and its pictures as frames: what was fed is remembered by its
//! millisecond, so that what comes out has exactly the time, to the microsecond, and the arrival
//! of what it was made from.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::limits::VIDEO_PENDING_FRAMES_MAX;
use crate::media::avc::{
    DecoderConfig, NAL_UNITS_PER_ACCESS_UNIT_MAX, NalHeader, NalLengthSize, NalType, NalUnits,
    ParameterSetStore,
};
use crate::media::frame::VideoFrame;
use crate::media::time::MediaTime;

use super::flv_reader::{FlvItem, FlvReadError};
use super::order::OutputOrder;

/// What a child's first frame is timed, in ms: pictures that follow it but are shown before it
/// must not come before zero.
const FIRST_MS: u32 = 10_000;
/// Times beyond this, in ms, would come near what FLV can tell (2^31): about 12 days.
const LAST_MS: u32 = 1 << 30;
/// Times up to so far before 0, in ms, are those of pictures that are shown long before the first: it
/// and they may each say that they are shown 8 s from where they are decoded. What is further back
/// belongs to another timeline.
const BEFORE_MS_MAX: i64 = 10_000;
/// How far a time is moved so that no two frames have the same, in ms.
const SHIFT_MS_MAX: u32 = 100;

/// What an output frame is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// When it is shown.
    pub pts: MediaTime,
    /// When its last byte was received.
    pub received: Instant,
}

/// How a frame is to be fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// With this millisecond.
    At(u32),
    /// With this millisecond, and only to be decoded: pictures of later times came out already, too
    /// many frames have the same time, or it is shown too long before the first.
    Late(u32),
    /// Its time is too far from the first frame's to be told in FLV: the child is of no more use.
    Spent,
}

/// Keeps one child's times, and makes frames of its output.
pub struct FrameMaker {
    /// Media time of millisecond 0.
    base: Option<MediaTime>,
    /// Frames that were fed to be encoded and did not come out yet, by their millisecond.
    pending: BTreeMap<u32, Source>,
    /// The last that came out.
    last_out: Option<(u32, Source)>,
    order: OutputOrder,
    nal_length_size: Option<NalLengthSize>,
    store: ParameterSetStore,
    begun: bool,
}

impl std::fmt::Debug for FrameMaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameMaker")
            .field("base", &self.base)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl FrameMaker {
    /// For a stream of so many frames in 1,000 s, if that is known.
    pub fn new(frames_per_1000_s: Option<u32>) -> Self {
        Self {
            base: None,
            pending: BTreeMap::new(),
            last_out: None,
            order: OutputOrder::new(frames_per_1000_s),
            nal_length_size: None,
            store: ParameterSetStore::new(),
            begun: false,
        }
    }

    /// How to feed a frame; the first sets the scale. With `encoded`, an output frame is expected of
    /// it, so no other frame gets the same millisecond.
    pub fn feed(&mut self, source: Source, encoded: bool) -> Feed {
        let base = *self.base.get_or_insert_with(|| {
            source
                .pts
                .minus(MediaTime::from_millis(i64::from(FIRST_MS)))
        });
        let wanted = source.pts.minus(base).as_millis();
        if (-BEFORE_MS_MAX..0).contains(&wanted) {
            return Feed::Late(0);
        }
        let wanted = u32::try_from(wanted).ok();
        let Some(wanted) = wanted.filter(|wanted| *wanted <= LAST_MS) else {
            return Feed::Spent;
        };
        if !encoded {
            return Feed::At(wanted);
        }
        let mut times = wanted..wanted.saturating_add(SHIFT_MS_MAX);
        let Some(free) = times.find(|ms| self.is_free(*ms)) else {
            return Feed::Late(wanted);
        };
        self.pending.insert(free, source);
        if self.pending.len() > VIDEO_PENDING_FRAMES_MAX {
            self.pending.pop_first();
        }
        Feed::At(free)
    }

    fn is_free(&self, ms: u32) -> bool {
        let passed = self.last_out.is_some_and(|(last, _)| ms <= last);
        !passed && !self.pending.contains_key(&ms)
    }

    /// A frame that was to be fed is left out after all.
    pub fn forget(&mut self, ms: u32) {
        self.pending.remove(&ms);
    }

    /// Whether a picture came out.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Takes what the child wrote. Gives a frame if it was a picture; the first is a keyframe.
    ///
    /// # Errors
    /// [`FlvReadError::Media`] when it cannot be read, [`FlvReadError::Order`] when it goes back in
    /// time.
    pub fn take(&mut self, item: FlvItem) -> Result<Option<VideoFrame>, FlvReadError> {
        match item {
            FlvItem::Config(record) => {
                let config = DecoderConfig::parse(&record).map_err(media)?;
                self.nal_length_size = Some(config.nal_length_size);
                for nal_unit in &config.parameter_sets {
                    self.store.insert(nal_unit).map_err(media)?;
                }
                Ok(None)
            }
            FlvItem::Picture {
                pts_ms,
                body,
                start,
            } => {
                let size = self.nal_length_size.ok_or(FlvReadError::Media)?;
                let source = self.source_of(pts_ms)?;
                let pts = self.order.shown_at(source.pts);
                let mut frame = VideoFrame {
                    pts,
                    // Nothing is reordered.
                    dts: pts,
                    key: false,
                    recovery: false,
                    disposable: true,
                    parameter_sets: None,
                    nal_units: Vec::new(),
                    data: body,
                    start,
                    received: source.received,
                };
                self.scan(&mut frame, size)?;
                if frame.nal_units.is_empty() || (!frame.key && !self.begun) {
                    return Ok(None);
                }
                self.begun = true;
                if frame.key {
                    frame.parameter_sets = Some(self.store.sets().ok_or(FlvReadError::Media)?);
                }
                Ok(Some(frame))
            }
        }
    }

    /// What the picture with this millisecond was made from. One that nobody fed has the time that
    /// the child says.
    fn source_of(&mut self, told: u32) -> Result<Source, FlvReadError> {
        let after = self.last_out.map_or(0, |(last, _)| last.saturating_add(1));
        let oldest = self.pending.keys().next().copied();
        let ms = self.order.time_of(told, oldest)?.max(after);
        let source = match self.pending.remove(&ms) {
            Some(source) => source,
            None => {
                let before = self.last_out.map(|(_, source)| source);
                let other = before.or_else(|| self.pending.values().next().copied());
                let (base, other) = self.base.zip(other).ok_or(FlvReadError::Order)?;
                Source {
                    pts: base.plus(MediaTime::from_millis(ms.into())),
                    received: other.received,
                }
            }
        };
        // What was to be shown before it will not come any more.
        self.pending = self.pending.split_off(&ms);
        self.last_out = Some((ms, source));
        Ok(source)
    }

    /// Finds the NAL units to pass on: slices. What else encoders write is not for viewers.
    fn scan(&mut self, frame: &mut VideoFrame, size: NalLengthSize) -> Result<(), FlvReadError> {
        for (index, range) in NalUnits::new(&frame.data, frame.start, size).enumerate() {
            let range = range.map_err(media)?;
            if index >= NAL_UNITS_PER_ACCESS_UNIT_MAX {
                return Err(FlvReadError::Media);
            }
            let nal_unit = frame.data.get(range.clone()).unwrap_or_default();
            let Some(&first) = nal_unit.first() else {
                continue;
            };
            let header = NalHeader::parse(first).map_err(media)?;
            match header.nal_type {
                NalType::Slice | NalType::IdrSlice | NalType::Partition => {
                    frame.key |= header.nal_type == NalType::IdrSlice;
                    frame.disposable &= !header.referenced;
                    frame.nal_units.push(range);
                }
                NalType::Sps | NalType::Pps => {
                    self.store.insert(nal_unit).map_err(media)?;
                }
                NalType::Sei | NalType::Other(_) => {}
            }
        }
        Ok(())
    }
}

fn media<E>(_: E) -> FlvReadError {
    FlvReadError::Media
}
