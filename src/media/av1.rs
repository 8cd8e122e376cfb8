//! AV1 as RTMP carries it: the configuration record ("AV1 Codec ISO Media File Format Binding"
//! §2.3) and the sequence header OBU (AV1 bitstream specification §5.3, §5.5).

use super::bits::Bits;

/// Largest width or height that is believed, in pixels.
const DIMENSION_PIXELS_MAX: u32 = 8_192;
/// Most OBUs looked at in one temporal unit: the sequence header is among the first.
const OBUS_MAX: usize = 16;
/// `obu_type` of a sequence header and of a temporal delimiter (§6.2.2).
const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;

/// What an AV1CodecConfigurationRecord says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Av1Config {
    /// `seq_profile`: 0 Main, 1 High, 2 Professional.
    pub profile: u8,
    /// Bits of a sample: 8, 10 or 12.
    pub bits: u8,
    /// Width and height in pixels, if it holds a sequence header.
    pub size: Option<(u32, u32)>,
}

impl Av1Config {
    /// Parses a record; `None` if its marker or version is another, or it ends too early.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<Self> {
        const MARKER_AND_VERSION: u8 = 0x81;
        let (&[first, levels, flags, _delay], obus) = record.split_first_chunk()?;
        if first != MARKER_AND_VERSION {
            return None;
        }
        let bits = match (flags & 0x40 != 0, flags & 0x20 != 0) {
            (false, _) => 8,
            (true, false) => 10,
            (true, true) => 12,
        };
        Some(Self {
            profile: levels >> 5,
            bits,
            size: frame_size(obus),
        })
    }

    /// The profile as users call it.
    #[must_use]
    pub fn profile_name(&self) -> &'static str {
        match self.profile {
            0 => "Main",
            1 => "High",
            2 => "Professional",
            _ => "unknown profile",
        }
    }
}

struct Obu<'a> {
    kind: u8,
    payload: &'a [u8],
    rest: &'a [u8],
}

fn read_obu(data: &[u8]) -> Option<Obu<'_>> {
    let (&header, mut rest) = data.split_first()?;
    let (has_extension, has_size) = (header & 0x04 != 0, header & 0x02 != 0);
    if has_extension {
        rest = rest.get(1..)?;
    }
    let mut size = rest.len();
    if has_size {
        (size, rest) = read_leb128(rest)?;
    }
    let (payload, rest) = rest.split_at_checked(size)?;
    Some(Obu {
        kind: (header >> 3) & 0x0f,
        payload,
        rest,
    })
}

/// A little-endian number in groups of 7 bits (§4.10.5), below 2^32.
fn read_leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    const BYTES_MAX: usize = 5;
    let mut value = 0_u64;
    for (index, &byte) in data.iter().enumerate().take(BYTES_MAX) {
        let shift = u32::try_from(index).ok()?.checked_mul(7)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let rest = data.get(index.checked_add(1)?..)?;
            return Some((usize::try_from(value).ok()?, rest));
        }
    }
    None
}

/// How many bytes a temporal delimiter at the start has; Matroska wants none (it is implied).
#[must_use]
pub fn temporal_delimiter_bytes(unit: &[u8]) -> usize {
    match read_obu(unit) {
        Some(obu) if obu.kind == OBU_TEMPORAL_DELIMITER => {
            unit.len().saturating_sub(obu.rest.len())
        }
        Some(_) | None => 0,
    }
}

/// Width and height in pixels by the first sequence header among OBUs.
#[must_use]
pub fn frame_size(obus: &[u8]) -> Option<(u32, u32)> {
    let mut rest = obus;
    for _ in 0..OBUS_MAX {
        let obu = read_obu(rest)?;
        if obu.kind == OBU_SEQUENCE_HEADER {
            return read_sequence_header(obu.payload);
        }
        rest = obu.rest;
    }
    None
}

/// Reads a sequence header up to its size (§5.5.1).
fn read_sequence_header(payload: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::new(payload);
    bits.skip(3 + 1)?;
    let reduced = bits.bit()?;
    if reduced {
        bits.skip(5)?;
    } else {
        skip_operating_points(&mut bits)?;
    }
    let width_bits = bits.read(4)?.checked_add(1)?;
    let height_bits = bits.read(4)?.checked_add(1)?;
    let width = bits.read(width_bits)?.checked_add(1)?;
    let height = bits.read(height_bits)?.checked_add(1)?;
    let legal = 1..=DIMENSION_PIXELS_MAX;
    (legal.contains(&width) && legal.contains(&height)).then_some((width, height))
}

/// Leaves out timing, decoder model and operating points.
fn skip_operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_bits = None;
    let has_timing = bits.bit()?;
    if has_timing {
        bits.skip(32 + 32)?;
        if bits.bit()? {
            skip_uvlc(bits)?;
        }
        if bits.bit()? {
            delay_bits = Some(bits.read(5)?.checked_add(1)?);
            bits.skip(32 + 5 + 5)?;
        }
    }
    let has_display_delay = bits.bit()?;
    let points = bits.read(5)?.checked_add(1)?;
    for _ in 0..points {
        bits.skip(12)?;
        let level = bits.read(5)?;
        if level > 7 {
            bits.skip(1)?;
        }
        if let Some(delay_bits) = delay_bits
            && bits.bit()?
        {
            bits.read(delay_bits)?;
            bits.read(delay_bits)?;
            bits.skip(1)?;
        }
        if has_display_delay && bits.bit()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

/// Leaves out a `uvlc()` (§4.10.3).
fn skip_uvlc(bits: &mut Bits<'_>) -> Option<()> {
    let mut zeros = 0_usize;
    while !bits.bit()? {
        zeros = zeros.checked_add(1)?;
    }
    if zeros < 32 {
        bits.skip(zeros)
    } else {
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As SVT-AV1 writes it for 160 × 90.
    const RECORD: &[u8] = &[
        0x81, 0x00, 0x0c, 0x00, 0x0a, 0x0b, 0x02, 0x00, 0x00, 0x04, 0x9d, 0xa7, 0xec, 0x80, 0x5f,
        0x00, 0x08,
    ];

    #[test]
    fn size_stands_in_the_records_sequence_header() {
        let config = Av1Config::parse(RECORD).unwrap();
        assert_eq!(config.size, Some((160, 90)));
        assert_eq!((config.profile_name(), config.bits), ("Main", 8));
    }

    #[test]
    fn record_without_sequence_header_is_legal() {
        let config = Av1Config::parse(&[0x81, 0x20, 0x4c, 0x00]).unwrap();
        assert_eq!(config.size, None);
        assert_eq!((config.profile_name(), config.bits), ("High", 10));
    }

    #[test]
    fn other_records_are_refused() {
        assert_eq!(Av1Config::parse(&[]), None);
        assert_eq!(Av1Config::parse(&[0x81, 0, 0]), None);
        assert_eq!(Av1Config::parse(&[0x01, 0, 0, 0]), None);
    }

    #[test]
    fn temporal_delimiter_is_measured() {
        assert_eq!(temporal_delimiter_bytes(&[0x12, 0x00, 0x0a, 0x01, 0x00]), 2);
        assert_eq!(temporal_delimiter_bytes(&[0x0a, 0x01, 0x00]), 0);
        assert_eq!(temporal_delimiter_bytes(&[0x12]), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_give_a_legal_size_or_none(
            noise in proptest::collection::vec(any::<u8>(), 0..40),
            header in any::<bool>(),
        ) {
            let mut record = if header { RECORD[..6].to_vec() } else { Vec::new() };
            record.extend(noise);
            let size = Av1Config::parse(&record).and_then(|it| it.size);
            if let Some((width, height)) = size.or_else(|| frame_size(&record)) {
                prop_assert!(width > 0 && height > 0);
                prop_assert!(width <= DIMENSION_PIXELS_MAX && height <= DIMENSION_PIXELS_MAX);
            }
            prop_assert!(temporal_delimiter_bytes(&record) <= record.len());
        }
    }
}
