//! H.265 as RTMP carries it: the decoder configuration record (ISO/IEC 14496-15 §8.3.3.1), and
//! what a server must know of its NAL units (ITU-T H.265 §7.3.1.2, §7.3.2.2, §7.4.2.2).

use bytes::Bytes;

use super::avc::bits::RbspBits;
use super::avc::{AvcError, NAL_UNITS_PER_ACCESS_UNIT_MAX, NalLengthSize, NalUnits};

/// Largest width or height, in pixels: H.265's level 6.2 ends at 8,192 × 4,320 for browsers.
const DIMENSION_PIXELS_MAX: u32 = 8_192;
/// Largest SPS that is read, in bytes; the size stands in its first hundred.
const SPS_BYTES_MAX: usize = 4 * 1_024;
/// `nal_unit_type` of a sequence parameter set (table 7-1).
const NAL_SPS: u8 = 33;
/// `nal_unit_type` of the first and last intra random access point picture (table 7-1).
const NAL_IRAP_FIRST: u8 = 16;
const NAL_IRAP_LAST: u8 = 23;
/// `nal_unit_type` of the last coded slice segment (table 7-1).
const NAL_SLICE_LAST: u8 = 31;

/// What an HEVCDecoderConfigurationRecord says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HevcConfig {
    /// Size of the NAL unit lengths of every access unit that follows.
    pub nal_length_size: NalLengthSize,
    /// `general_profile_idc` (annex A): 1 is Main, 2 is Main 10.
    pub profile: u8,
    /// What its SPS says, if it has one that can be read.
    pub sps: Option<HevcSps>,
}

impl HevcConfig {
    /// Parses a record. Its version may be 0 or 1, since encoders disagree.
    ///
    /// Returns `None` if it ends within its fixed part or asks for lengths of 3 bytes. NAL units
    /// that are cut off end its list.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<Self> {
        const LENGTH_SIZE_AT: usize = 21;
        const ARRAYS_AT: usize = 23;
        let &[version, profile] = record.first_chunk()?;
        let sizes = *record.get(LENGTH_SIZE_AT)?;
        let arrays = *record.get(LENGTH_SIZE_AT.saturating_add(1))?;
        if version > 1 {
            return None;
        }
        let nal_length_size = match sizes & 0x03 {
            0 => NalLengthSize::One,
            1 => NalLengthSize::Two,
            3 => NalLengthSize::Four,
            _ => return None,
        };
        Some(Self {
            nal_length_size,
            profile: profile & 0x1f,
            sps: find_sps(record, ARRAYS_AT, arrays),
        })
    }

    /// The profile as users call it.
    #[must_use]
    pub fn profile_name(&self) -> &'static str {
        match self.profile {
            1 => "Main",
            2 => "Main 10",
            3 => "Main Still Picture",
            4 => "Range Extensions",
            _ => "unknown profile",
        }
    }
}

/// The first readable SPS of a record's arrays of NAL units.
fn find_sps(record: &[u8], start: usize, arrays: u8) -> Option<HevcSps> {
    let mut position = start;
    for _ in 0..arrays {
        let [_kind, high, low] = *record.get(position..)?.first_chunk()?;
        let mut units = NalUnits::new(record, position.checked_add(3)?, NalLengthSize::Two);
        for _ in 0..u16::from_be_bytes([high, low]) {
            let unit = record.get(units.next()?.ok()?)?;
            if let Some(sps) = HevcSps::parse(unit) {
                return Some(sps);
            }
        }
        position = units.position();
    }
    None
}

/// What a sequence parameter set says, as far as a server needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HevcSps {
    /// Width and height in pixels, cropped.
    pub size: (u32, u32),
    /// `chroma_format_idc`: 1 is 4:2:0.
    pub chroma_format: u32,
    /// Bits of a luma sample.
    pub luma_bits: u32,
}

impl HevcSps {
    /// Parses an SPS NAL unit, up to its bit depth; `None` if it is none, ends too early, or its
    /// size is out of bounds.
    #[must_use]
    pub fn parse(nal_unit: &[u8]) -> Option<Self> {
        const HEADER_BYTES: usize = 2;
        if nal_type(nal_unit)? != NAL_SPS {
            return None;
        }
        let payload = nal_unit.get(HEADER_BYTES..nal_unit.len().min(SPS_BYTES_MAX))?;
        let mut bits = RbspBits::new(payload);
        bits.skip(4)?;
        let sub_layers = bits.bits(3)?;
        bits.skip(1)?;
        skip_profile_tier_level(&mut bits, sub_layers)?;
        bits.exp_golomb()?;
        let chroma_format = bits.exp_golomb().filter(|&format| format <= 3)?;
        if chroma_format == 3 {
            bits.skip(1)?;
        }
        let (width, height) = (bits.exp_golomb()?, bits.exp_golomb()?);
        let mut window = [0_u32; 4];
        if bits.bit()? {
            for offset in &mut window {
                *offset = bits.exp_golomb()?;
            }
        }
        let luma_bits = bits.exp_golomb().filter(|&more| more <= 8)?;
        // Units of the conformance window (table 6-1).
        let (unit_width, unit_height) = match chroma_format {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let [left, right, top, bottom] = window;
        let crop = |whole: u32, unit: u32, a: u32, b: u32| {
            let cut = a.checked_add(b)?.checked_mul(unit)?;
            let pixels = whole.checked_sub(cut)?;
            (1..=DIMENSION_PIXELS_MAX)
                .contains(&pixels)
                .then_some(pixels)
        };
        Some(Self {
            size: (
                crop(width, unit_width, left, right)?,
                crop(height, unit_height, top, bottom)?,
            ),
            chroma_format,
            luma_bits: luma_bits.checked_add(8)?,
        })
    }
}

/// Leaves out `profile_tier_level(1, sub_layers)` (§7.3.3).
fn skip_profile_tier_level(bits: &mut RbspBits<'_>, sub_layers: u32) -> Option<()> {
    const PROFILE_BITS: u32 = 88;
    const LEVEL_BITS: u32 = 8;
    bits.skip(PROFILE_BITS + LEVEL_BITS)?;
    let mut present = Vec::new();
    for _ in 0..sub_layers {
        present.push((bits.bit()?, bits.bit()?));
    }
    if sub_layers > 0 {
        bits.skip(2_u32.checked_mul(8_u32.checked_sub(sub_layers)?)?)?;
    }
    for (profile, level) in present {
        if profile {
            bits.skip(PROFILE_BITS)?;
        }
        if level {
            bits.skip(LEVEL_BITS)?;
        }
    }
    Some(())
}

/// What an access unit holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HevcUnit {
    /// Whether there is a slice.
    pub picture: bool,
    /// Whether it is a random access point (IDR, CRA or BLA): decoding may begin here.
    pub random_access: bool,
    /// An SPS that came in band.
    pub sps: Option<HevcSps>,
}

impl HevcUnit {
    /// Looks through an access unit's length-prefixed NAL units.
    ///
    /// # Errors
    /// [`AvcError::NalOverrun`] or [`AvcError::TooManyNalUnits`].
    pub fn scan(data: &Bytes, size: NalLengthSize) -> Result<Self, AvcError> {
        let mut found = Self::default();
        for (index, range) in NalUnits::new(data, 0, size).enumerate() {
            let range = range?;
            if index >= NAL_UNITS_PER_ACCESS_UNIT_MAX {
                return Err(AvcError::TooManyNalUnits);
            }
            let nal_unit = data.get(range).unwrap_or_default();
            let Some(kind) = nal_type(nal_unit) else {
                continue;
            };
            found.picture |= kind <= NAL_SLICE_LAST;
            found.random_access |= (NAL_IRAP_FIRST..=NAL_IRAP_LAST).contains(&kind);
            if kind == NAL_SPS {
                found.sps = found.sps.or_else(|| HevcSps::parse(nal_unit));
            }
        }
        Ok(found)
    }
}

fn nal_type(nal_unit: &[u8]) -> Option<u8> {
    Some((nal_unit.first()? >> 1) & 0x3f)
}

#[cfg(test)]
mod tests;
