//! Parameter sets: which are in force, and what an SPS says of the picture (14496-10 §7.3.2,
//! annex E).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use h264_reader::nal::sps::{ChromaFormat, FrameMbsFlags, SeqParameterSet};
use h264_reader::rbsp::{BitReader, decode_nal};

use super::bits::RbspBits;
use super::{AvcError, NalHeader, NalType};
use crate::media::frame::ParameterSets;

/// Largest SPS or PPS, in bytes: one with every scaling list and full VUI has less than 2 kB.
const PARAMETER_SET_BYTES_MAX: usize = 4 * 1_024;
/// All sets together, in bytes: they are sent before each keyframe.
const PARAMETER_SETS_BYTES_MAX: usize = 64 * 1_024;
/// Largest width or height, in pixels: H.264's level 6.2 ends at 8,192 × 4,320.
const DIMENSION_PIXELS_MAX: u32 = 8_192;
/// `level_idc` of the highest level, 6.2 (14496-10 table A-1).
const LEVEL_IDC_MAX: u8 = 62;
/// `profile_idc` of the profiles for more than 8-bit 4:2:0 (annex A).
const HIGH_10: u8 = 110;
const HIGH_422: u8 = 122;
const HIGH_444: u8 = 244;
const CAVLC_444: u8 = 44;
/// Greatest SPS id (14496-10 §7.4.2.1).
const SPS_ID_MAX: u32 = 31;

/// What an SPS says, as far as it could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct SpsInfo {
    /// Its id, 0 to 31.
    pub id: u8,
    /// `profile_idc`, constraint flags, `level_idc` (RFC 6184 §8.1).
    pub profile_level_id: [u8; 3],
    /// Width and height in pixels, cropped; `None` if the SPS breaks a rule of the standard that
    /// decoders do not mind.
    pub size: Option<(u32, u32)>,
    /// How many pictures may precede another in decoding order and follow it on the screen
    /// (annex E, `max_num_reorder_frames`), if it says so.
    pub max_num_reorder_frames: Option<u32>,
    /// Frames per second by its timing information, if it has any.
    pub frames_per_second: Option<f64>,
    /// Width and height of a pixel's shape, if it says so and they are not 0 (annex E.2.1).
    pub sample_aspect_ratio: Option<(u32, u32)>,
    /// Whether its samples are 8-bit 4:2:0, the only ones that every browser decodes.
    pub plain_pixels: bool,
    /// `frame_mbs_only_flag`: no picture is made of fields.
    pub frames_only: bool,
    /// `mb_adaptive_frame_field_flag`: macroblocks of frames may be made of fields.
    pub adaptive_fields: bool,
    /// Bits of `frame_num` in slice headers (`log2_max_frame_num_minus4` plus 4).
    pub frame_num_bits: u32,
    /// `separate_colour_plane_flag`.
    pub separate_colour_planes: bool,
}

impl SpsInfo {
    /// Parses an SPS NAL unit.
    ///
    /// # Errors
    /// [`AvcError::ParameterSet`] if it is none or its id cannot be read,
    /// [`AvcError::ParameterSetSize`] and [`AvcError::PictureSize`] if it is out of bounds.
    pub fn parse(nal_unit: &[u8]) -> Result<Self, AvcError> {
        let [header, profile, constraints, level] =
            *nal_unit.first_chunk().ok_or(AvcError::ParameterSet)?;
        if NalHeader::parse(header)?.nal_type != NalType::Sps {
            return Err(AvcError::ParameterSet);
        }
        if nal_unit.len() > PARAMETER_SET_BYTES_MAX {
            return Err(AvcError::ParameterSetSize);
        }
        let id = RbspBits::new(nal_unit.get(4..).unwrap_or_default())
            .exp_golomb()
            .filter(|&id| id <= SPS_ID_MAX)
            .and_then(|id| u8::try_from(id).ok())
            .ok_or(AvcError::ParameterSet)?;
        let mut info = Self {
            id,
            profile_level_id: [profile, constraints, level],
            size: None,
            max_num_reorder_frames: None,
            frames_per_second: None,
            sample_aspect_ratio: None,
            plain_pixels: !matches!(profile, HIGH_10 | HIGH_422 | HIGH_444 | CAVLC_444),
            frames_only: true,
            adaptive_fields: false,
            frame_num_bits: 0,
            separate_colour_planes: false,
        };
        if let Some(sps) = read_fully(nal_unit) {
            info.fill(&sps)?;
        }
        Ok(info)
    }

    fn fill(&mut self, sps: &SeqParameterSet) -> Result<(), AvcError> {
        if let Ok((width, height)) = sps.pixel_dimensions() {
            let legal = 1..=DIMENSION_PIXELS_MAX;
            if !legal.contains(&width) || !legal.contains(&height) {
                return Err(AvcError::PictureSize);
            }
            self.size = Some((width, height));
        }
        self.frames_per_second = sps.fps().filter(|fps| fps.is_finite() && *fps > 0.0);
        let restrictions = sps
            .vui_parameters
            .as_ref()
            .and_then(|vui| vui.bitstream_restrictions.as_ref());
        self.max_num_reorder_frames = restrictions.map(|it| it.max_num_reorder_frames);
        let shape = sps
            .vui_parameters
            .as_ref()
            .and_then(|vui| vui.aspect_ratio_info.as_ref()?.get());
        self.sample_aspect_ratio = shape
            .filter(|&(width, height)| width > 0 && height > 0)
            .map(|(width, height)| (width.into(), height.into()));
        let chroma = &sps.chroma_info;
        self.plain_pixels = self.plain_pixels
            && chroma.chroma_format == ChromaFormat::YUV420
            && chroma.bit_depth_luma_minus8 == 0
            && chroma.bit_depth_chroma_minus8 == 0;
        self.separate_colour_planes = chroma.separate_colour_plane_flag;
        self.frame_num_bits = sps.log2_max_frame_num().into();
        match sps.frame_mbs_flags {
            FrameMbsFlags::Frames => {}
            FrameMbsFlags::Fields {
                mb_adaptive_frame_field_flag,
            } => {
                self.frames_only = false;
                self.adaptive_fields = mb_adaptive_frame_field_flag;
            }
        }
        Ok(())
    }
}

fn read_fully(nal_unit: &[u8]) -> Option<SeqParameterSet> {
    // Some encoders pad their parameter sets with zeros, which the parser takes for data.
    let end = nal_unit.iter().rposition(|&byte| byte != 0)?;
    let mut payload = decode_nal(nal_unit.get(..=end)?).ok()?.into_owned();
    // Encoders are often told a lower level than their picture needs. Decoders do not mind, but
    // the parser would.
    *payload.get_mut(2)? = LEVEL_IDC_MAX;
    SeqParameterSet::from_bits(BitReader::new(&payload[..])).ok()
}

/// A profile as users call it, from `profile_idc` and constraint flags (14496-10 annex A).
#[must_use]
pub fn profile_name([profile, constraints, _level]: [u8; 3]) -> &'static str {
    let flag = |number: u8| constraints & (0x80 >> number) != 0;
    match profile {
        66 if flag(1) => "Constrained Baseline",
        66 => "Baseline",
        77 if flag(0) => "Constrained Baseline",
        77 => "Main",
        88 => "Extended",
        100 if flag(4) && flag(5) => "Constrained High",
        100 => "High",
        110 => "High 10",
        122 => "High 4:2:2",
        244 => "High 4:4:4",
        44 => "CAVLC 4:4:4",
        83 | 86 => "Scalable",
        118 | 128 => "Multiview",
        _ => "unknown profile",
    }
}

/// What a new parameter set did to those in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it was known.
    None,
    /// A PPS is new or another.
    Picture,
    /// The SPS with this id is new or another: it takes effect with the next IDR picture.
    Sequence(u8),
}

struct StoredSps {
    nal_unit: Bytes,
    info: SpsInfo,
    /// See [`ParameterSetStore::take_changed`].
    changed: bool,
}

struct StoredPps {
    nal_unit: Bytes,
    sps_id: u8,
    changed: bool,
}

/// The parameter sets in force, by id: from the sequence header and from the stream itself.
#[derive(Default)]
pub struct ParameterSetStore {
    sps: BTreeMap<u8, StoredSps>,
    pps: BTreeMap<u8, StoredPps>,
    bytes: usize,
    shared: Option<Arc<ParameterSets>>,
}

impl ParameterSetStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an SPS or PPS NAL unit in place of the one with its id; copies it if it is new, so
    /// that it does not hold on to its message.
    ///
    /// # Errors
    /// Those of [`SpsInfo::parse`], which also stand for a bad PPS, and
    /// [`AvcError::ParameterSetSize`] when the store is full. Nothing changes then.
    pub fn insert(&mut self, nal_unit: &[u8]) -> Result<Change, AvcError> {
        let first = *nal_unit.first().ok_or(AvcError::ParameterSet)?;
        match NalHeader::parse(first)?.nal_type {
            NalType::Sps => self.insert_sps(nal_unit),
            NalType::Pps => self.insert_pps(nal_unit),
            NalType::Slice
            | NalType::Partition
            | NalType::IdrSlice
            | NalType::Sei
            | NalType::Other(_) => Err(AvcError::ParameterSet),
        }
    }

    fn insert_sps(&mut self, nal_unit: &[u8]) -> Result<Change, AvcError> {
        if self.sps.values().any(|it| it.nal_unit == nal_unit) {
            return Ok(Change::None);
        }
        let info = SpsInfo::parse(nal_unit)?;
        let replaced = self.sps.get(&info.id).map(|it| it.nal_unit.len());
        self.account(replaced, nal_unit.len())?;
        let nal_unit = Bytes::copy_from_slice(nal_unit);
        let id = info.id;
        let stored = StoredSps {
            nal_unit,
            info,
            changed: true,
        };
        self.sps.insert(id, stored);
        Ok(Change::Sequence(id))
    }

    fn insert_pps(&mut self, nal_unit: &[u8]) -> Result<Change, AvcError> {
        if nal_unit.len() > PARAMETER_SET_BYTES_MAX {
            return Err(AvcError::ParameterSetSize);
        }
        if self.pps.values().any(|it| it.nal_unit == nal_unit) {
            return Ok(Change::None);
        }
        let mut bits = RbspBits::new(nal_unit.get(1..).unwrap_or_default());
        let mut read = || bits.exp_golomb().and_then(|id| u8::try_from(id).ok());
        let (Some(id), Some(sps_id)) = (read(), read()) else {
            return Err(AvcError::ParameterSet);
        };
        if u32::from(sps_id) > SPS_ID_MAX {
            return Err(AvcError::ParameterSet);
        }
        let replaced = self.pps.get(&id).map(|it| it.nal_unit.len());
        self.account(replaced, nal_unit.len())?;
        let nal_unit = Bytes::copy_from_slice(nal_unit);
        let stored = StoredPps {
            nal_unit,
            sps_id,
            changed: true,
        };
        self.pps.insert(id, stored);
        Ok(Change::Picture)
    }

    fn account(&mut self, replaced: Option<usize>, added: usize) -> Result<(), AvcError> {
        let kept = self.bytes.saturating_sub(replaced.unwrap_or_default());
        let bytes = kept.saturating_add(added);
        if bytes > PARAMETER_SETS_BYTES_MAX {
            return Err(AvcError::ParameterSetSize);
        }
        self.bytes = bytes;
        self.shared = None;
        Ok(())
    }

    /// Every set in force, shared until one changes; `None` until there are an SPS and a PPS.
    pub fn sets(&mut self) -> Option<Arc<ParameterSets>> {
        if self.sps.is_empty() || self.pps.is_empty() {
            return None;
        }
        let (sps, pps) = (&self.sps, &self.pps);
        let shared = self.shared.get_or_insert_with(|| {
            let sps = sps.values().map(|it| it.nal_unit.clone());
            let pps = pps.values().map(|it| it.nal_unit.clone());
            let nal_units = sps.chain(pps).collect();
            Arc::new(ParameterSets { nal_units })
        });
        Some(Arc::clone(shared))
    }

    /// The sets that are new or another since this was last called, in the order of
    /// [`Self::sets`]; `None` if there are none.
    pub fn take_changed(&mut self) -> Option<Arc<ParameterSets>> {
        let mut nal_units = Vec::new();
        for sps in self.sps.values_mut() {
            nal_units.extend(std::mem::take(&mut sps.changed).then(|| sps.nal_unit.clone()));
        }
        for pps in self.pps.values_mut() {
            nal_units.extend(std::mem::take(&mut pps.changed).then(|| pps.nal_unit.clone()));
        }
        (!nal_units.is_empty()).then(|| Arc::new(ParameterSets { nal_units }))
    }

    /// The SPS that slices with this PPS are decoded by, if both are known.
    #[must_use]
    pub fn sps_of(&self, pps_id: u8) -> Option<&SpsInfo> {
        let pps = self.pps.get(&pps_id)?;
        self.sps.get(&pps.sps_id).map(|it| &it.info)
    }

    /// The SPS with an id, if it is known.
    #[must_use]
    pub fn sps(&self, id: u8) -> Option<&SpsInfo> {
        self.sps.get(&id).map(|it| &it.info)
    }
}
