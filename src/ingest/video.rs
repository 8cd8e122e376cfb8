//! The video track of a publish: which parameter sets are in force, where decoding may begin,
//! and what about the encoder does not suit live playing (14496-10 §7.4.1.2, RFC 6184 §8.1).

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::report::Report;
use super::stats::DropReason;
use super::warning::IngestWarning;
use crate::media::avc::{
    AvcError, Change, DecoderConfig, NAL_UNITS_PER_ACCESS_UNIT_MAX, NalHeader, NalLengthSize,
    NalType, NalUnits, ParameterSetStore, SliceHeader, SpsInfo, profile_name,
};
use crate::media::flv::VideoCodec;
use crate::media::frame::{ParameterSets, StreamInfo, VideoFrame};
use crate::media::time::MediaTime;

/// Keyframes further apart than this make viewers wait; 4 s, and a little for rounded timestamps.
const KEYFRAME_INTERVAL_MAX: MediaTime = MediaTime::from_millis(4_100);
/// Composition times beyond this, in ms, are nonsense: 16 reordered pictures at 2 fps.
const COMPOSITION_TIME_MS_MAX: u32 = 8_000;

/// Where an access unit stands in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) dts: MediaTime,
    pub(super) composition_time_ms: i32,
    pub(super) received: Instant,
}

/// Whether frames may be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Decoding {
    /// Not before an IDR picture; waiting since the frame with this DTS, if there was one.
    AwaitKeyframe(Option<MediaTime>),
    /// The last IDR picture had this DTS.
    From(MediaTime),
    #[default]
    NotConfigured,
}

#[derive(Default)]
pub(super) struct VideoTrack {
    nal_length_size: Option<NalLengthSize>,
    store: ParameterSetStore,
    decoding: Decoding,
    /// The SPS of the last IDR picture, or before one, the first that came.
    sps: Option<SpsInfo>,
    /// A PPS came that viewers who are already watching do not have.
    sets_due: bool,
    last_pts: Option<MediaTime>,
    reordering: bool,
    keyframes_are_rare: bool,
    unsupported: Option<VideoCodec>,
}

impl VideoTrack {
    /// Fills in what is known of the video.
    pub(super) fn describe(&self, info: &mut StreamInfo, advice: &mut Vec<IngestWarning>) {
        if let Some(sps) = &self.sps {
            let profile = profile_name(sps.profile_level_id);
            info.profile_level_id = Some(sps.profile_level_id);
            info.size = sps.size;
            info.video = Some(format!("H.264 {profile}"));
            advice.extend(pixel_format_advice(sps));
        } else if let Some(codec) = self.unsupported {
            info.video = Some(codec.to_string());
            advice.push(IngestWarning::VideoCodec(codec));
        }
        info.reordering = self.reordering;
        if self.reordering {
            advice.push(IngestWarning::Reordering);
        }
        if self.keyframes_are_rare {
            advice.push(IngestWarning::KeyframeInterval);
        }
    }

    /// Frames per second as the SPS says, if it does.
    pub(super) fn frames_per_second(&self) -> Option<f64> {
        self.sps.as_ref()?.frames_per_second
    }

    pub(super) fn other_codec(&mut self, codec: VideoCodec, report: &mut Report) {
        report.drop(DropReason::UnsupportedCodec);
        report.warn(IngestWarning::VideoCodec(codec));
        if self.unsupported != Some(codec) {
            self.unsupported = Some(codec);
            report.info_changed = true;
        }
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
        self.nal_length_size = Some(config.nal_length_size);
        if self.decoding == Decoding::NotConfigured {
            self.decoding = Decoding::AwaitKeyframe(None);
        }
        for nal_unit in &config.parameter_sets {
            self.insert(nal_unit, report);
        }
    }

    fn insert(&mut self, nal_unit: &[u8], report: &mut Report) {
        match self.store.insert(nal_unit) {
            Ok(Change::None) => {}
            Ok(Change::Picture) => self.sets_due = true,
            Ok(Change::Sequence(id)) => self.begin_sequence(id, report),
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
        self.sps = sps;
        self.reordering = false;
        self.last_pts = None;
        report.info_changed = true;
        if let Some(advice) = self.sps.as_ref().and_then(pixel_format_advice) {
            report.warn(advice);
        }
    }

    /// Timestamps jumped: times before and after cannot be compared.
    pub(super) fn forget_times(&mut self) {
        self.last_pts = None;
    }

    /// A frame could not be passed on after all: what follows cannot be decoded.
    pub(super) fn lost_frame(&mut self) {
        if let Decoding::From(since) = self.decoding {
            self.decoding = Decoding::AwaitKeyframe(Some(since));
        }
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
            Err(error) => {
                report.drop(DropReason::Malformed);
                report.warn(IngestWarning::BadVideo(error));
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
        self.watch_keyframes(timing.dts, report);
        if let Err(reason) = self.begin_decoding(picture, timing.dts, report) {
            report.drop(reason);
            return None;
        }
        let pts = presentation_time(timing);
        self.watch_order(picture.bidirectional, pts, report);
        Some(VideoFrame {
            pts,
            dts: timing.dts,
            key: picture.key,
            disposable: !picture.referenced,
            parameter_sets: self.due_sets(picture.key),
            data: message,
            start,
            nal_units: unit.nal_units,
            received: timing.received,
        })
    }

    /// Decides whether a picture may be passed on, and begins with it if it is an IDR picture.
    fn begin_decoding(
        &mut self,
        picture: Picture,
        dts: MediaTime,
        report: &mut Report,
    ) -> Result<(), DropReason> {
        if picture.key {
            let sps = self.store.sps_of(picture.pps_id).cloned();
            if sps.is_none() {
                report.warn(IngestWarning::ParameterSetsMissing);
                self.lost_frame();
                return Err(DropReason::ParameterSetsMissing);
            }
            self.activate(sps, report);
            self.decoding = Decoding::From(dts);
            return Ok(());
        }
        match self.decoding {
            Decoding::From(_) => Ok(()),
            Decoding::AwaitKeyframe(since) => {
                self.decoding = Decoding::AwaitKeyframe(since.or(Some(dts)));
                Err(DropReason::KeyframeMissing)
            }
            Decoding::NotConfigured => Err(DropReason::ConfigMissing),
        }
    }

    /// The sets a frame must bring: all of them with a keyframe; and between keyframes when a PPS
    /// changed, since the frames from here on may refer to it.
    fn due_sets(&mut self, key: bool) -> Option<Arc<ParameterSets>> {
        if !key && !self.sets_due {
            return None;
        }
        self.sets_due = false;
        self.store.sets()
    }

    fn watch_keyframes(&mut self, dts: MediaTime, report: &mut Report) {
        let since = match self.decoding {
            Decoding::From(since) | Decoding::AwaitKeyframe(Some(since)) => since,
            Decoding::AwaitKeyframe(None) | Decoding::NotConfigured => return,
        };
        // Once given, the advice stays: a scene cut's keyframe proves nothing.
        if dts.minus(since) > KEYFRAME_INTERVAL_MAX && !self.keyframes_are_rare {
            self.keyframes_are_rare = true;
            report.info_changed = true;
            report.warn(IngestWarning::KeyframeInterval);
        }
    }

    fn watch_order(&mut self, bidirectional: bool, pts: MediaTime, report: &mut Report) {
        let backwards = self.last_pts.is_some_and(|last| pts < last);
        self.last_pts = Some(pts);
        let announced = self.sps.as_ref().and_then(|sps| sps.max_num_reorder_frames);
        let reorders = bidirectional || backwards || announced.is_some_and(|count| count > 0);
        if reorders && !self.reordering {
            self.reordering = true;
            report.info_changed = true;
            report.warn(IngestWarning::Reordering);
        }
    }
}

fn pixel_format_advice(sps: &SpsInfo) -> Option<IngestWarning> {
    const HIGH_10: u8 = 110;
    const HIGH_422: u8 = 122;
    const HIGH_444: u8 = 244;
    const CAVLC_444: u8 = 44;
    let [profile, _, _] = sps.profile_level_id;
    matches!(profile, HIGH_10 | HIGH_422 | HIGH_444 | CAVLC_444).then(|| {
        IngestWarning::PixelFormat {
            profile: profile_name(sps.profile_level_id),
        }
    })
}

fn presentation_time(timing: Timing) -> MediaTime {
    let offset = timing.composition_time_ms;
    let sane = offset.unsigned_abs() <= COMPOSITION_TIME_MS_MAX;
    let offset = if sane { offset } else { 0 };
    let pts = timing.dts.plus(MediaTime::from_millis(offset.into()));
    pts.max(MediaTime::ZERO)
}

/// What the NAL units of a message are.
struct AccessUnit {
    /// Those to pass on.
    nal_units: Vec<Range<usize>>,
    parameter_sets: Vec<Range<usize>>,
    picture: Option<Picture>,
}

/// What the slices of an access unit have in common.
#[derive(Debug, Clone, Copy)]
struct Picture {
    key: bool,
    pps_id: u8,
    bidirectional: bool,
    referenced: bool,
}

impl AccessUnit {
    /// Sorts a message's NAL units. One that breaks the rules spoils all of them: a part of a
    /// picture is worse than none.
    fn scan(message: &[u8], start: usize, size: NalLengthSize) -> Result<Self, AvcError> {
        let mut unit = Self {
            nal_units: Vec::new(),
            parameter_sets: Vec::new(),
            picture: None,
        };
        for (index, range) in NalUnits::new(message, start, size).enumerate() {
            let range = range?;
            if index >= NAL_UNITS_PER_ACCESS_UNIT_MAX {
                return Err(AvcError::TooManyNalUnits);
            }
            unit.add(message, range)?;
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
                self.add_slice(header, SliceHeader::parse(nal_unit)?);
                self.nal_units.push(range);
            }
            NalType::Partition | NalType::Sei => self.nal_units.push(range),
            NalType::Sps | NalType::Pps => self.parameter_sets.push(range),
            NalType::Other(_) => {}
        }
        Ok(())
    }

    fn add_slice(&mut self, header: NalHeader, slice: SliceHeader) {
        let picture = self.picture.get_or_insert(Picture {
            key: header.nal_type == NalType::IdrSlice,
            pps_id: slice.pps_id,
            bidirectional: false,
            referenced: false,
        });
        picture.bidirectional |= slice.bidirectional;
        picture.referenced |= header.referenced;
    }
}
