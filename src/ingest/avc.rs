//! H.264 as published: which parameter sets are in force, where decoding may begin, and why
//! browsers could not play it as it is (14496-10 §7.4.1.2, RFC 6184 §8.1).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::gate::Gate;
use super::report::Report;
use super::stats::DropReason;
use super::video::{RECORD_BYTES_MAX, Timing, frames_per_1000_s};
use super::warning::IngestWarning;
use crate::media::avc::{
    AvcError, Change, DecoderConfig, NAL_UNITS_PER_ACCESS_UNIT_MAX, NalHeader, NalLengthSize,
    NalType, NalUnits, ParameterSetStore, SliceHeader, SpsInfo, is_recovery_point, is_timing_only,
    is_turned, profile_name,
};
use crate::media::codec::{TranscodeReason, VideoCodec, VideoConfig};
use crate::media::frame::{ParameterSets, StreamInfo, VideoFrame};
use crate::media::time::MediaTime;

#[derive(Default)]
pub(super) struct AvcTrack {
    nal_length_size: Option<NalLengthSize>,
    /// The sequence header in force; `None` when the stream has since changed its sets in band.
    record: Option<Bytes>,
    store: ParameterSetStore,
    gate: Gate,
    /// The SPS of the last IDR picture, or before one, the first that came.
    sps: Option<SpsInfo>,
    /// A set came that viewers who are already watching do not have.
    sets_due: bool,
    last_pts: Option<MediaTime>,
    /// Why browsers cannot play what this SPS brings; once found, it stays for the SPS.
    reason: Option<TranscodeReason>,
}

impl AvcTrack {
    /// Whether an SPS came.
    pub(super) fn is_known(&self) -> bool {
        self.sps.is_some()
    }

    /// Fills in what is known of the video.
    pub(super) fn describe(&self, info: &mut StreamInfo, advice: &mut Vec<IngestWarning>) {
        let Some(sps) = &self.sps else { return };
        let profile = profile_name(sps.profile_level_id);
        info.profile_level_id = Some(sps.profile_level_id);
        info.size = sps.size;
        info.video = Some(format!("{} {profile}", VideoCodec::Avc));
        info.reordering = self.reason == Some(TranscodeReason::Reordering);
        info.transcode = self.reason;
        advice.extend(self.reason.and_then(|reason| advice_on(reason, sps)));
        if self.gate.keyframes_are_rare() {
            advice.push(IngestWarning::KeyframeInterval);
        }
    }

    /// Frames per second as the SPS says, if it does.
    pub(super) fn frames_per_second(&self) -> Option<f64> {
        self.sps.as_ref()?.frames_per_second
    }

    /// What a decoder must know before the next frame, as the stream itself says; `None` before
    /// an SPS.
    pub(super) fn config(&mut self) -> Option<VideoConfig> {
        let sps = self.sps.as_ref()?;
        let record = match &self.record {
            Some(record) => record.clone(),
            None => {
                let sets = self.store.sets()?;
                DecoderConfig::write(self.nal_length_size?, &sets)?
            }
        };
        Some(VideoConfig {
            codec: VideoCodec::Avc,
            record,
            size: sps.size,
            sample_aspect_ratio: sps
                .sample_aspect_ratio
                .filter(|(width, height)| width != height),
            interlaced: !sps.frames_only,
            reordering_told: sps.max_num_reorder_frames.is_some(),
            frames_per_1000_s: sps.frames_per_second.and_then(frames_per_1000_s),
        })
    }

    /// Takes a sequence header. Sets it does not mention stay in force.
    pub(super) fn configure(&mut self, record: &Bytes, report: &mut Report) {
        let config = match DecoderConfig::parse(record) {
            Ok(config) => config,
            Err(error) => {
                report.drop(DropReason::BadConfig);
                report.warn(IngestWarning::BadVideo(error));
                return;
            }
        };
        if self
            .nal_length_size
            .is_some_and(|size| size != config.nal_length_size)
        {
            self.lost_frame();
        }
        self.nal_length_size = Some(config.nal_length_size);
        self.gate.configured();
        for nal_unit in &config.parameter_sets {
            self.insert(nal_unit, report);
        }
        let has_sets = !config.parameter_sets.is_empty();
        let keeps = has_sets && record.len() <= RECORD_BYTES_MAX;
        // A copy, so that it does not hold on to its message.
        self.record = keeps.then(|| Bytes::copy_from_slice(record));
    }

    fn insert(&mut self, nal_unit: &[u8], report: &mut Report) {
        match self.store.insert(nal_unit) {
            Ok(Change::None) => {}
            Ok(Change::Picture) => {
                self.record = None;
                self.sets_due = true;
            }
            Ok(Change::Sequence(id)) => {
                self.record = None;
                self.begin_sequence(id, report);
            }
            Err(error) => {
                report.drop(DropReason::Malformed);
                report.warn(IngestWarning::BadVideo(error));
            }
        }
    }

    /// A new SPS takes effect with the next IDR picture. If it stands in for the one in use, what
    /// comes before that picture cannot be decoded.
    fn begin_sequence(&mut self, id: u8, report: &mut Report) {
        self.sets_due = true;
        let in_use = self.sps.as_ref().map(|sps| sps.id);
        if in_use.is_none_or(|in_use| in_use == id) {
            self.lost_frame();
            self.activate(self.store.sps(id).cloned(), report);
        }
    }

    /// Makes an SPS the one in use; what was seen of the encoder's ways is to be seen anew.
    fn activate(&mut self, sps: Option<SpsInfo>, report: &mut Report) {
        if self.sps == sps {
            return;
        }
        self.reason = None;
        self.last_pts = None;
        report.info_changed = true;
        let announced = sps.as_ref().and_then(announced_reason);
        self.sps = sps;
        if let Some(reason) = announced {
            self.found(reason, report);
        }
    }

    /// A reason was found why browsers cannot play this.
    fn found(&mut self, reason: TranscodeReason, report: &mut Report) {
        if self.reason.is_some() {
            return;
        }
        self.reason = Some(reason);
        report.info_changed = true;
        if let Some(warning) = self.sps.as_ref().and_then(|sps| advice_on(reason, sps)) {
            report.warn(warning);
        }
    }

    /// Timestamps jumped: times before and after cannot be compared.
    pub(super) fn forget_times(&mut self) {
        self.last_pts = None;
    }

    /// A frame could not be passed on after all: what follows cannot be decoded.
    pub(super) fn lost_frame(&mut self) {
        self.gate.close();
    }

    /// Takes the access unit that begins at `start` of its message.
    ///
    /// Returns `None` if it is not to be passed on, which is counted then.
    pub(super) fn access_unit(
        &mut self,
        message: Bytes,
        start: usize,
        timing: Timing,
        report: &mut Report,
    ) -> Option<VideoFrame> {
        let Some(length_size) = self.nal_length_size else {
            report.drop(DropReason::ConfigMissing);
            report.warn(IngestWarning::VideoConfigMissing);
            return None;
        };
        let unit = match AccessUnit::scan(&message, start, length_size) {
            Ok(unit) => unit,
            Err((error, read)) => {
                report.drop(DropReason::Malformed);
                report.warn(IngestWarning::BadVideo(error));
                if !read.is_disposable() {
                    self.lost_frame();
                }
                return None;
            }
        };
        for range in &unit.parameter_sets {
            self.insert(message.get(range.clone()).unwrap_or_default(), report);
        }
        let Some(picture) = unit.picture else {
            if unit.parameter_sets.is_empty() {
                report.drop(DropReason::Empty);
            }
            return None;
        };
        self.gate.watch(timing.dts, report);
        let recovery = !picture.key && self.recovers(&unit.nal_units, &message, timing.dts);
        if recovery {
            self.do_without_keyframes(timing.dts, report);
        }
        if let Err(reason) = self.begin_decoding(&picture, timing.dts, report) {
            report.drop(reason);
            return None;
        }
        let pts = timing.presentation_time();
        if picture.key {
            self.watch_orientation(&unit.nal_units, &message, report);
        }
        self.watch_fields(&picture, &message, report);
        self.watch_order(picture.bidirectional, pts, report);
        let parameter_sets = self.due_sets(picture.key);
        Some(VideoFrame {
            pts,
            dts: timing.dts,
            key: picture.key,
            recovery,
            disposable: !picture.referenced && parameter_sets.is_none(),
            parameter_sets,
            data: message,
            start,
            nal_units: unit.nal_units,
            received: timing.received,
        })
    }

    /// Decides whether a picture may be passed on, and begins with it if it is an IDR picture.
    fn begin_decoding(
        &mut self,
        picture: &Picture,
        dts: MediaTime,
        report: &mut Report,
    ) -> Result<(), DropReason> {
        if !picture.key {
            return self.gate.admit(dts);
        }
        let sps = self.store.sps_of(picture.pps_id).cloned();
        if sps.is_none() {
            report.warn(IngestWarning::ParameterSetsMissing);
            self.lost_frame();
            return Err(DropReason::ParameterSetsMissing);
        }
        self.activate(sps, report);
        self.gate.open(dts);
        Ok(())
    }

    /// Whether a decoder may begin with a picture that is no keyframe. Not looked for while keyframes
    /// come as they should.
    fn recovers(&self, nal_units: &[Range<usize>], message: &Bytes, dts: MediaTime) -> bool {
        self.gate.since_keyframe(dts) > RECOVERY_AFTER
            && seis(nal_units, message).any(is_recovery_point)
    }

    /// A stream that refreshes its picture little by little, or begins anew without an IDR picture
    /// (open GOP of broadcasters), may have no keyframe but the first, or none that came here.
    fn do_without_keyframes(&mut self, dts: MediaTime, report: &mut Report) {
        let missed = self.gate.open_without();
        if missed || self.gate.since_keyframe(dts) > KEYFRAMES_MISSING_AFTER {
            self.found(TranscodeReason::KeyframesMissing, report);
        }
    }

    /// The sets a frame must bring: all of them with a keyframe; between keyframes those that
    /// changed, since the frames from here on may refer to them. Who began with the keyframe has
    /// the others: all of them with each change would be a thousand times what was published.
    fn due_sets(&mut self, key: bool) -> Option<Arc<ParameterSets>> {
        let changed = match std::mem::take(&mut self.sets_due) {
            true => self.store.take_changed(),
            false => None,
        };
        match key {
            true => self.store.sets(),
            false => changed,
        }
    }

    /// Fields are found where they are used and not where they are allowed: x264 and cameras
    /// set `frame_mbs_only_flag` to 0 for pictures that are progressive all the same.
    fn watch_fields(&mut self, picture: &Picture, message: &[u8], report: &mut Report) {
        let Some(sps) = &self.sps else { return };
        if sps.frames_only || self.reason.is_some() {
            return;
        }
        let slice = message.get(picture.first_slice.clone()).unwrap_or_default();
        if sps.adaptive_fields || SliceHeader::is_field(slice, sps) == Some(true) {
            self.found(TranscodeReason::Interlaced, report);
        }
    }

    /// Said with each picture that one may begin with.
    fn watch_orientation(
        &mut self,
        nal_units: &[Range<usize>],
        message: &Bytes,
        report: &mut Report,
    ) {
        if self.reason.is_none() && seis(nal_units, message).any(is_turned) {
            self.found(TranscodeReason::Rotation, report);
        }
    }

    fn watch_order(&mut self, bidirectional: bool, pts: MediaTime, report: &mut Report) {
        let backwards = self.last_pts.is_some_and(|last| pts < last);
        self.last_pts = Some(pts);
        if bidirectional || backwards {
            self.found(TranscodeReason::Reordering, report);
        }
    }
}

/// Supplemental enhancement information among a message's NAL units.
fn seis<'a>(nal_units: &'a [Range<usize>], message: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let units = nal_units.iter().filter_map(|it| message.get(it.clone()));
    units.filter(|unit| {
        let header = unit.first().and_then(|&byte| NalHeader::parse(byte).ok());
        header.is_some_and(|header| header.nal_type == NalType::Sei)
    })
}

/// After so long without a keyframe it matters where else a decoder may begin.
const RECOVERY_AFTER: MediaTime = MediaTime::from_millis(5_000);
/// After so long without one, and with such places, who joins cannot be let wait for it. Encoders'
/// defaults are 250 pictures, which are 8.3 s at 30 of them a second.
const KEYFRAMES_MISSING_AFTER: MediaTime = MediaTime::from_millis(10_000);
/// By how many percent a pixel may be wider or higher than a square: scalers that round a picture's
/// size make such pixels, and nobody sees it.
const PIXEL_SHAPE_PERCENT: u64 = 3;

/// Why browsers cannot play what an SPS announces. Without `max_num_reorder_frames`, the order
/// counts as kept until a picture proves otherwise.
fn announced_reason(sps: &SpsInfo) -> Option<TranscodeReason> {
    if !sps.plain_pixels {
        return Some(TranscodeReason::PixelFormat);
    }
    if sps.max_num_reorder_frames.is_some_and(|count| count > 0) {
        return Some(TranscodeReason::Reordering);
    }
    let (width, height) = sps.sample_aspect_ratio?;
    let difference = u64::from(width.abs_diff(height)).saturating_mul(100);
    let squeezed = difference > PIXEL_SHAPE_PERCENT.saturating_mul(width.min(height).into());
    squeezed.then_some(TranscodeReason::PixelShape)
}

fn advice_on(reason: TranscodeReason, sps: &SpsInfo) -> Option<IngestWarning> {
    match reason {
        TranscodeReason::Reordering => Some(IngestWarning::Reordering),
        TranscodeReason::Interlaced => Some(IngestWarning::Interlaced),
        TranscodeReason::PixelFormat => Some(IngestWarning::PixelFormat {
            profile: profile_name(sps.profile_level_id),
        }),
        TranscodeReason::PixelShape => Some(IngestWarning::PixelShape),
        TranscodeReason::Rotation => Some(IngestWarning::Rotation),
        // That keyframes are rare is said already.
        TranscodeReason::KeyframesMissing | TranscodeReason::Codec(_) => None,
    }
}

/// What the NAL units of a message are.
struct AccessUnit {
    /// Those to pass on.
    nal_units: Vec<Range<usize>>,
    parameter_sets: Vec<Range<usize>>,
    picture: Option<Picture>,
}

/// What the headers of an access unit's NAL units say, up to where it breaks the rules.
#[derive(Debug, Clone, Copy, Default)]
struct ReadBefore {
    /// There is a slice with `nal_ref_idc` 0; all of its picture have it then (14496-10 §7.4.1).
    unreferenced: bool,
    /// There is something that later pictures need.
    needed: bool,
}

impl ReadBefore {
    fn add(&mut self, first: Option<&u8>) {
        let Some(Ok(header)) = first.map(|first| NalHeader::parse(*first)) else {
            return;
        };
        match header.nal_type {
            NalType::Slice | NalType::Partition | NalType::IdrSlice => {
                self.unreferenced |= !header.referenced;
                self.needed |= header.referenced;
            }
            NalType::Sps | NalType::Pps => self.needed = true,
            NalType::Sei | NalType::Other(_) => {}
        }
    }

    /// Whether what follows is known to need nothing of it.
    fn is_disposable(self) -> bool {
        self.unreferenced && !self.needed
    }
}

/// What the slices of an access unit have in common.
#[derive(Debug, Clone)]
struct Picture {
    key: bool,
    first_slice: Range<usize>,
    pps_id: u8,
    bidirectional: bool,
    referenced: bool,
}

impl AccessUnit {
    /// Sorts a message's NAL units. One that breaks the rules spoils all of them: a part of a
    /// picture is worse than none. The error comes with what was read before it.
    fn scan(
        message: &[u8],
        start: usize,
        size: NalLengthSize,
    ) -> Result<Self, (AvcError, ReadBefore)> {
        let mut unit = Self {
            nal_units: Vec::new(),
            parameter_sets: Vec::new(),
            picture: None,
        };
        let mut read = ReadBefore::default();
        for (index, range) in NalUnits::new(message, start, size).enumerate() {
            let range = range.map_err(|error| (error, read))?;
            if index >= NAL_UNITS_PER_ACCESS_UNIT_MAX {
                return Err((AvcError::TooManyNalUnits, read));
            }
            read.add(message.get(range.start));
            unit.add(message, range).map_err(|error| (error, read))?;
        }
        Ok(unit)
    }

    fn add(&mut self, message: &[u8], range: Range<usize>) -> Result<(), AvcError> {
        let nal_unit = message.get(range.clone()).unwrap_or_default();
        let Some(&first) = nal_unit.first() else {
            return Ok(());
        };
        let header = NalHeader::parse(first)?;
        match header.nal_type {
            NalType::Slice | NalType::IdrSlice => {
                self.add_slice(header, SliceHeader::parse(nal_unit)?, &range);
                self.nal_units.push(range);
            }
            // As a packet of its own before a train of equal ones, it would cost a third of what the
            // picture does.
            NalType::Sei if is_timing_only(nal_unit) => {}
            NalType::Partition | NalType::Sei => self.nal_units.push(range),
            NalType::Sps | NalType::Pps => self.parameter_sets.push(range),
            NalType::Other(_) => {}
        }
        Ok(())
    }

    fn add_slice(&mut self, header: NalHeader, slice: SliceHeader, range: &Range<usize>) {
        let picture = self.picture.get_or_insert(Picture {
            key: header.nal_type == NalType::IdrSlice,
            first_slice: range.clone(),
            pps_id: slice.pps_id,
            bidirectional: false,
            referenced: false,
        });
        picture.bidirectional |= slice.bidirectional;
        picture.referenced |= header.referenced;
    }
}
