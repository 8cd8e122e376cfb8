//! Cuts frames into RTP payloads, once per room and track: H.264 by RFC 6184 in packetization
//! mode 1, Opus by RFC 7587. Headers, sequence numbers and the marker (last packet of a frame)
//! are each viewer's own, set by its sender.

use std::ops::Range;

use crate::ids::Epoch;
use crate::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::frame::{AudioFrame, FrameSet, FrameSetHead, Rendition, TrackKind, VideoFrame};

/// Payload types inside a payload (RFC 6184 table 1), and the masks of a NAL unit's first byte.
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const TYPE_MASK: u8 = 0x1f;
const NRI_MASK: u8 = 0x60;
const FORBIDDEN_MASK: u8 = 0x80;
/// First and last fragment (RFC 6184 §5.8).
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;
/// Bytes before a fragment: FU indicator and FU header.
const FU_HEADER_BYTES: usize = 2;
/// Bytes before each NAL unit in a STAP-A (RFC 6184 §5.7.1).
const STAP_LENGTH_BYTES: usize = 2;

/// Cuts the frames of one rendition of one track of one publish into payloads and numbers them.
#[derive(Debug)]
pub struct Packetizer {
    track: TrackKind,
    rendition: Rendition,
    safe: bool,
    epoch: Epoch,
    next_number: u64,
    next_sequence: u64,
}

impl Packetizer {
    /// Begins with the first numbers of the publish, for its sound or its video as published.
    #[must_use]
    pub fn new(track: TrackKind, epoch: Epoch) -> Self {
        Self::of(track, Rendition::Source, epoch)
    }

    /// The same for video that is made anew, [`Rendition::Safe`].
    #[must_use]
    pub fn safe_video(epoch: Epoch) -> Self {
        Self::of(TrackKind::Video, Rendition::Safe, epoch)
    }

    fn of(track: TrackKind, rendition: Rendition, epoch: Epoch) -> Self {
        Self {
            track,
            rendition,
            safe: true,
            epoch,
            next_number: rendition.first_number(epoch),
            next_sequence: rendition.first_number(epoch),
        }
    }

    /// Says whether the frames from here on are safe ([`FrameSet::safe`]); they are until told.
    pub fn set_safe(&mut self, safe: bool) {
        self.safe = safe;
    }

    /// Cuts an access unit: its parameter sets, if it brings any, in packets of their own, then
    /// its NAL units. Neighbours that fit together share a STAP-A, what fits alone is a single
    /// NAL unit packet, what does not is cut into fragments of one size but for the last.
    ///
    /// Returns `None` and counts no number if there is nothing to send: no NAL unit that RFC 6184
    /// can carry, or ranges that are not in `data`.
    pub fn video(&mut self, frame: &VideoFrame) -> Option<FrameSet> {
        let carries = |range: &Range<usize>| frame.data.get(range.clone()).is_some_and(is_carried);
        if !frame.nal_units.iter().any(carries) {
            return None;
        }
        let mut size = Measure::default();
        write_frame(frame, &mut size)?;
        let mut payloads = Payloads::with_capacity(size.bytes, size.packets);
        write_frame(frame, &mut payloads)?;
        debug_assert_eq!(
            payloads.bytes.len(),
            size.bytes,
            "measured and written differ"
        );
        debug_assert_eq!(
            payloads.ends.len(),
            size.packets,
            "measured and written differ"
        );
        let head = FrameSetHead {
            track: self.track,
            rendition: self.rendition,
            safe: self.safe,
            epoch: self.epoch,
            number: self.next_number,
            first_sequence: self.next_sequence,
            key: frame.key,
            disposable: frame.disposable,
            pts: frame.pts,
            received: frame.received,
        };
        self.finish(head, payloads)
    }

    /// Makes the one packet of an Opus frame (RFC 7587 §4.2).
    ///
    /// Returns `None` and counts no number if the frame is empty or larger than a payload.
    pub fn audio(&mut self, frame: &AudioFrame) -> Option<FrameSet> {
        if frame.data.len() > RTP_PAYLOAD_BYTES_MAX {
            return None;
        }
        let mut payloads = Payloads::with_capacity(frame.data.len(), 1);
        payloads.put(&frame.data);
        payloads.end_packet()?;
        let head = FrameSetHead {
            track: self.track,
            rendition: self.rendition,
            safe: true,
            epoch: self.epoch,
            number: self.next_number,
            first_sequence: self.next_sequence,
            key: true,
            disposable: false,
            pts: frame.pts,
            received: frame.received,
        };
        self.finish(head, payloads)
    }

    fn finish(&mut self, head: FrameSetHead, payloads: Payloads) -> Option<FrameSet> {
        let set = FrameSet::new(head, payloads.bytes, payloads.ends)?;
        self.next_number = self.next_number.saturating_add(1);
        self.next_sequence = set.next_sequence();
        Some(set)
    }
}

/// Where payloads go: measured first, so that they need one allocation, then written.
trait Sink {
    fn put(&mut self, bytes: &[u8]);
    fn end_packet(&mut self) -> Option<()>;
}

#[derive(Default)]
struct Measure {
    bytes: usize,
    packets: usize,
}

impl Sink for Measure {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len());
    }

    fn end_packet(&mut self) -> Option<()> {
        self.packets = self.packets.saturating_add(1);
        Some(())
    }
}

struct Payloads {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Payloads {
    fn with_capacity(bytes: usize, packets: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(packets),
        }
    }
}

impl Sink for Payloads {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn end_packet(&mut self) -> Option<()> {
        self.ends.push(u32::try_from(self.bytes.len()).ok()?);
        Some(())
    }
}

fn write_frame(frame: &VideoFrame, sink: &mut impl Sink) -> Option<()> {
    if let Some(sets) = &frame.parameter_sets {
        let nal_unit = |index: usize| sets.nal_units.get(index).map(|unit| &unit[..]);
        write_units(0..sets.nal_units.len(), nal_unit, sink)?;
    }
    let nal_unit = |index: usize| frame.data.get(frame.nal_units.get(index)?.clone());
    write_units(0..frame.nal_units.len(), nal_unit, sink)
}

/// Writes NAL units in order, as many neighbours to a packet as fit.
fn write_units<'a>(
    indices: Range<usize>,
    nal_unit: impl Fn(usize) -> Option<&'a [u8]>,
    sink: &mut impl Sink,
) -> Option<()> {
    let mut group = Group::default();
    for index in indices {
        let unit = nal_unit(index)?;
        if !is_carried(unit) {
            continue;
        }
        if !group.fits(unit.len()) {
            group.write(&nal_unit, sink)?;
            group = Group::default();
        }
        group.add(index, unit);
    }
    group.write(&nal_unit, sink)
}

/// Whether a NAL unit's type is its own in RTP: 0 and 24 to 31 have other meanings there.
fn is_carried(unit: &[u8]) -> bool {
    unit.first()
        .is_some_and(|first| (1..STAP_A).contains(&(first & TYPE_MASK)))
}

/// Neighbouring NAL units that share a packet.
#[derive(Default)]
struct Group {
    indices: Range<usize>,
    units: usize,
    aggregate_bytes: usize,
    header_bits: u8,
    nri: u8,
}

impl Group {
    fn fits(&self, unit_bytes: usize) -> bool {
        let bytes = self.bytes_with(unit_bytes);
        self.units == 0 || bytes <= RTP_PAYLOAD_BYTES_MAX
    }

    fn bytes_with(&self, unit_bytes: usize) -> usize {
        let before = self.aggregate_bytes.max(1);
        before
            .saturating_add(STAP_LENGTH_BYTES)
            .saturating_add(unit_bytes)
    }

    fn add(&mut self, index: usize, unit: &[u8]) {
        let first = unit.first().copied().unwrap_or_default();
        if self.units == 0 {
            self.indices.start = index;
        }
        self.indices.end = index.saturating_add(1);
        self.aggregate_bytes = self.bytes_with(unit.len());
        self.units = self.units.saturating_add(1);
        self.header_bits |= first & FORBIDDEN_MASK;
        self.nri = self.nri.max(first & NRI_MASK);
    }

    fn write<'a>(
        self,
        nal_unit: &impl Fn(usize) -> Option<&'a [u8]>,
        sink: &mut impl Sink,
    ) -> Option<()> {
        if self.units == 0 {
            return Some(());
        }
        let mut carried = self
            .indices
            .filter_map(nal_unit)
            .filter(|it| is_carried(it));
        if self.units == 1 {
            let unit = carried.next()?;
            return if unit.len() <= RTP_PAYLOAD_BYTES_MAX {
                sink.put(unit);
                sink.end_packet()
            } else {
                write_fragments(unit, sink)
            };
        }
        sink.put(&[self.header_bits | self.nri | STAP_A]);
        for unit in carried {
            sink.put(&u16::try_from(unit.len()).ok()?.to_be_bytes());
            sink.put(unit);
        }
        sink.end_packet()
    }
}

/// Cuts a NAL unit into as few fragments as it needs, all of one size but for the last, which is
/// not larger: segmentation offload sends datagrams of one size.
fn write_fragments(unit: &[u8], sink: &mut impl Sink) -> Option<()> {
    let (&header, content) = unit.split_first()?;
    let content_max = RTP_PAYLOAD_BYTES_MAX.saturating_sub(FU_HEADER_BYTES);
    let count = content.len().div_ceil(content_max);
    let fragment_bytes = content.len().div_ceil(count.max(1)).max(1);
    let indicator = (header & (FORBIDDEN_MASK | NRI_MASK)) | FU_A;
    let mut start = FU_START;
    let mut fragments = content.chunks(fragment_bytes).peekable();
    while let Some(fragment) = fragments.next() {
        let end = if fragments.peek().is_none() {
            FU_END
        } else {
            0
        };
        sink.put(&[indicator, start | end | (header & TYPE_MASK)]);
        sink.put(fragment);
        sink.end_packet()?;
        start = 0;
    }
    Some(())
}

#[cfg(test)]
mod tests;
