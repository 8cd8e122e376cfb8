//! H.264 as RTMP carries it: the decoder configuration record and length-prefixed NAL units
//! (ISO/IEC 14496-15 §5.3.3), and what a server must know of the NAL units themselves
//! (14496-10 §7.3, §7.4). Parameter sets have their own file.

pub(super) mod bits;
mod parameter_sets;
mod sei;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

pub use parameter_sets::{Change, ParameterSetStore, SpsInfo, profile_name};
pub use sei::{is_recovery_point, is_timing_only, is_turned};

use bits::RbspBits;

use super::frame::ParameterSets;

/// Most NAL units in one access unit: 68 slice rows of 8 slices and their SEI fit twice over;
/// without a bound, an 8 MiB message of empty units would cost 64 MB of ranges.
pub const NAL_UNITS_PER_ACCESS_UNIT_MAX: usize = 1_024;

/// H.264 that does not follow its specification. Always the publisher's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AvcError {
    /// The decoder configuration record ends too early.
    RecordTruncated,
    /// The decoder configuration record has another version than 1.
    RecordVersion(u8),
    /// NAL unit lengths of 3 bytes are not legal.
    NalLengthSize,
    /// A NAL unit's length goes past the end of its message.
    NalOverrun,
    /// More than [`NAL_UNITS_PER_ACCESS_UNIT_MAX`].
    TooManyNalUnits,
    /// A NAL unit's `forbidden_zero_bit` is set.
    ForbiddenBit,
    /// A slice header cannot be read.
    SliceHeader,
    /// A parameter set is of the wrong type, too short, or its id cannot be read.
    ParameterSet,
    /// A parameter set, or all of them together, are larger than any real ones.
    ParameterSetSize,
    /// The picture is larger than 8,192 pixels in a direction, or has no pixels.
    PictureSize,
}

impl fmt::Display for AvcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordTruncated => f.write_str("the H.264 sequence header ends too early"),
            Self::RecordVersion(version) => {
                write!(f, "the H.264 sequence header has version {version}, not 1")
            }
            Self::NalLengthSize => {
                f.write_str("the H.264 sequence header asks for NAL unit lengths of 3 bytes")
            }
            Self::NalOverrun => f.write_str("a NAL unit goes past the end of its message"),
            Self::TooManyNalUnits => f.write_str("an access unit has too many NAL units"),
            Self::ForbiddenBit => f.write_str("a NAL unit has its forbidden bit set"),
            Self::SliceHeader => f.write_str("a slice header cannot be read"),
            Self::ParameterSet => f.write_str("an SPS or PPS cannot be read"),
            Self::ParameterSetSize => f.write_str("the SPS or PPS are too large"),
            Self::PictureSize => f.write_str("the picture size is out of bounds"),
        }
    }
}

impl std::error::Error for AvcError {}

/// How many bytes the length before each NAL unit has (14496-15 §5.3.3.1,
/// `lengthSizeMinusOne`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NalLengthSize {
    /// 1 byte.
    One,
    /// 2 bytes.
    Two,
    /// 4 bytes.
    Four,
}

/// An AVCDecoderConfigurationRecord (14496-15 §5.3.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderConfig {
    /// Size of the NAL unit lengths of every access unit that follows.
    pub nal_length_size: NalLengthSize,
    /// Its SPS, then its PPS, each a NAL unit that is not empty, otherwise unchecked.
    pub parameter_sets: Vec<Bytes>,
}

impl DecoderConfig {
    /// Parses a record. What follows the PPS (chroma format, SPS extensions) may be absent and is
    /// not looked at; reserved bits may be anything, since encoders disagree on them.
    ///
    /// # Errors
    /// [`AvcError::RecordVersion`], [`AvcError::NalLengthSize`] or [`AvcError::RecordTruncated`].
    pub fn parse(record: &Bytes) -> Result<Self, AvcError> {
        let [version, _profile, _constraints, _level, sizes, sps_count] =
            *record.first_chunk::<6>().ok_or(AvcError::RecordTruncated)?;
        if version != 1 {
            return Err(AvcError::RecordVersion(version));
        }
        let nal_length_size = match sizes & 0x03 {
            0 => NalLengthSize::One,
            1 => NalLengthSize::Two,
            3 => NalLengthSize::Four,
            _ => return Err(AvcError::NalLengthSize),
        };
        let mut parameter_sets = Vec::new();
        let position = read_sets(record, 6, sps_count & 0x1f, &mut parameter_sets)?;
        let pps_count = *record.get(position).ok_or(AvcError::RecordTruncated)?;
        let position = position.saturating_add(1);
        read_sets(record, position, pps_count, &mut parameter_sets)?;
        Ok(Self {
            nal_length_size,
            parameter_sets,
        })
    }

    /// Writes a record of the sets in force, for a stream that changed them in band. Of what does
    /// not fit (31 SPS, 255 PPS), the last are left out; the fields that High profiles append
    /// are, too, since decoders read them from the SPS.
    ///
    /// Returns `None` without an SPS.
    #[must_use]
    pub fn write(nal_length_size: NalLengthSize, sets: &ParameterSets) -> Option<Bytes> {
        const SPS_COUNT_MAX: usize = 31;
        const PPS_COUNT_MAX: usize = 255;
        let of = |wanted: NalType| {
            let is = move |unit: &&Bytes| {
                let header = unit.first().map(|&first| NalHeader::parse(first));
                matches!(header, Some(Ok(header)) if header.nal_type == wanted)
            };
            sets.nal_units.iter().filter(is)
        };
        let first = of(NalType::Sps).next()?;
        let mut record = vec![1];
        record.extend_from_slice(first.get(1..4)?);
        record.push(match nal_length_size {
            NalLengthSize::One => 0xfc,
            NalLengthSize::Two => 0xfd,
            NalLengthSize::Four => 0xff,
        });
        for (kind, most, reserved) in [
            (NalType::Sps, SPS_COUNT_MAX, 0xe0),
            (NalType::Pps, PPS_COUNT_MAX, 0),
        ] {
            let count = of(kind).take(most).count();
            record.push(reserved | u8::try_from(count).ok()?);
            for unit in of(kind).take(most) {
                record.extend(u16::try_from(unit.len()).ok()?.to_be_bytes());
                record.extend_from_slice(unit);
            }
        }
        Some(record.into())
    }
}

/// Reads `count` sets, each after a 16-bit length; returns where the next byte is.
fn read_sets(
    record: &Bytes,
    start: usize,
    count: u8,
    sets: &mut Vec<Bytes>,
) -> Result<usize, AvcError> {
    let mut units = NalUnits::new(record, start, NalLengthSize::Two);
    for _ in 0..count {
        let range = units
            .next()
            .and_then(Result::ok)
            .ok_or(AvcError::RecordTruncated)?;
        if !range.is_empty() {
            sets.push(record.slice(range));
        }
    }
    Ok(units.position)
}

/// Walks the length-prefixed NAL units of a message: yields where each lies, without its length;
/// some may be empty. After an error it ends.
#[derive(Debug, Clone)]
pub struct NalUnits<'a> {
    message: &'a [u8],
    position: usize,
    length_size: NalLengthSize,
}

impl<'a> NalUnits<'a> {
    /// Begins at `start`, counted from the beginning of the message, as the ranges are.
    #[must_use]
    pub fn new(message: &'a [u8], start: usize, length_size: NalLengthSize) -> Self {
        Self {
            message,
            position: start,
            length_size,
        }
    }

    /// Where the next unit's length is.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    fn read_length(&mut self) -> Option<usize> {
        let rest = self.message.get(self.position..)?;
        let (length, prefix) = match self.length_size {
            NalLengthSize::One => (u32::from(*rest.first()?), 1),
            NalLengthSize::Two => (u32::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
            NalLengthSize::Four => (u32::from_be_bytes(*rest.first_chunk()?), 4),
        };
        self.position = self.position.checked_add(prefix)?;
        usize::try_from(length).ok()
    }

    fn read_unit(&mut self) -> Option<Range<usize>> {
        let length = self.read_length()?;
        let end = self.position.checked_add(length)?;
        let range = self.position..end;
        self.message.get(range.clone())?;
        self.position = end;
        Some(range)
    }
}

impl Iterator for NalUnits<'_> {
    type Item = Result<Range<usize>, AvcError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.message.len() {
            return None;
        }
        let unit = self.read_unit().ok_or(AvcError::NalOverrun);
        if unit.is_err() {
            self.position = self.message.len();
        }
        Some(unit)
    }
}

/// What a NAL unit is (14496-10 table 7-1), as far as a server treats it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NalType {
    /// Types 1 and 2: a slice of a picture, or its first data partition.
    Slice,
    /// Types 3 and 4: further data partitions, without a slice header.
    Partition,
    /// Type 5: a slice of an IDR picture.
    IdrSlice,
    /// Type 6: supplemental enhancement information.
    Sei,
    /// Type 7: a sequence parameter set.
    Sps,
    /// Type 8: a picture parameter set.
    Pps,
    /// Any other: delimiters, ends, filler, extensions that no browser decodes, and numbers that
    /// mean something else in RTP (RFC 6184 §5.2).
    Other(u8),
}

/// The first byte of a NAL unit (14496-10 §7.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NalHeader {
    /// What the unit is.
    pub nal_type: NalType,
    /// Whether other pictures refer to it (`nal_ref_idc` is not 0).
    pub referenced: bool,
}

impl NalHeader {
    /// Parses the first byte of a NAL unit.
    ///
    /// # Errors
    /// [`AvcError::ForbiddenBit`].
    pub fn parse(first_byte: u8) -> Result<Self, AvcError> {
        if first_byte & 0x80 != 0 {
            return Err(AvcError::ForbiddenBit);
        }
        let nal_type = match first_byte & 0x1f {
            1 | 2 => NalType::Slice,
            3 | 4 => NalType::Partition,
            5 => NalType::IdrSlice,
            6 => NalType::Sei,
            7 => NalType::Sps,
            8 => NalType::Pps,
            other => NalType::Other(other),
        };
        Ok(Self {
            nal_type,
            referenced: first_byte & 0x60 != 0,
        })
    }
}

/// The beginning of a slice header (14496-10 §7.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceHeader {
    /// Address of its first macroblock; 0 for a picture's first slice.
    pub first_macroblock: u32,
    /// Whether it is a B slice (`slice_type` 1 or 6, table 7-6).
    pub bidirectional: bool,
    /// The PPS it refers to.
    pub pps_id: u8,
}

impl SliceHeader {
    /// Parses the header of a NAL unit of type 1, 2 or 5.
    ///
    /// # Errors
    /// [`AvcError::SliceHeader`] if it ends too early or a value is out of its range.
    pub fn parse(nal_unit: &[u8]) -> Result<Self, AvcError> {
        const SLICE_TYPES: u32 = 10;
        let mut bits = RbspBits::new(nal_unit.get(1..).unwrap_or_default());
        let mut read = || bits.exp_golomb().ok_or(AvcError::SliceHeader);
        let (first_macroblock, slice_type, pps_id) = (read()?, read()?, read()?);
        if slice_type >= SLICE_TYPES {
            return Err(AvcError::SliceHeader);
        }
        let Ok(pps_id) = u8::try_from(pps_id) else {
            return Err(AvcError::SliceHeader);
        };
        Ok(Self {
            first_macroblock,
            bidirectional: slice_type % 5 == 1,
            pps_id,
        })
    }

    /// Whether a NAL unit of type 1, 2 or 5 is a slice of a field and not of a frame
    /// (`field_pic_flag`); `None` if it ends before that.
    #[must_use]
    pub fn is_field(nal_unit: &[u8], sps: &SpsInfo) -> Option<bool> {
        if sps.frames_only {
            return Some(false);
        }
        let mut bits = RbspBits::new(nal_unit.get(1..)?);
        for _ in 0..3 {
            bits.exp_golomb()?;
        }
        if sps.separate_colour_planes {
            bits.skip(2)?;
        }
        bits.skip(sps.frame_num_bits)?;
        bits.bit()
    }
}

#[cfg(test)]
mod tests;
