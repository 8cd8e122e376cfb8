//! The size that a keyframe's own header says, for codecs without a configuration record that
//! has it: VP9 (bitstream specification §6.2), VP8 (RFC 6386 §9.1), On2 VP6, Sorenson H.263 and
//! Screen Video (Adobe FLV 10.1 annex E.4.3).

use super::bits::Bits;
use super::codec::VideoCodec;

/// Largest width or height that is believed, in pixels.
const DIMENSION_PIXELS_MAX: u32 = 8_192;

/// Width and height in pixels of a keyframe, given as FLV has it; `None` if the codec keeps it
/// elsewhere, or this is no keyframe.
///
/// `adjustment` is VP6's: what is cut off at the right (upper half of the byte) and bottom.
#[must_use]
pub fn frame_size(codec: VideoCodec, data: &[u8], adjustment: u8) -> Option<(u32, u32)> {
    let size = match codec {
        VideoCodec::Vp9 => vp9(data),
        VideoCodec::Vp8 => vp8(data),
        VideoCodec::Vp6 => vp6(data, adjustment),
        VideoCodec::Vp6Alpha => {
            const ALPHA_OFFSET_BYTES: usize = 3;
            vp6(data.get(ALPHA_OFFSET_BYTES..)?, adjustment)
        }
        VideoCodec::SorensonH263 => sorenson(data),
        VideoCodec::ScreenVideo | VideoCodec::ScreenVideo2 => screen(data),
        VideoCodec::Avc | VideoCodec::Hevc | VideoCodec::Av1 => None,
    };
    let legal = 1..=DIMENSION_PIXELS_MAX;
    size.filter(|(width, height)| legal.contains(width) && legal.contains(height))
}

fn vp8(data: &[u8]) -> Option<(u32, u32)> {
    const SIZE_MASK: u16 = 0x3fff;
    let &[tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = data.first_chunk()? else {
        return None;
    };
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & SIZE_MASK);
    (tag & 1 == 0).then(|| (side(w0, w1), side(h0, h1)))
}

fn vp9(data: &[u8]) -> Option<(u32, u32)> {
    const FRAME_MARKER: u32 = 2;
    const SYNC_CODE: u32 = 0x49_8342;
    const COLOR_SPACE_RGB: u32 = 7;
    let mut bits = Bits::new(data);
    if bits.read(2)? != FRAME_MARKER {
        return None;
    }
    let profile = u8::from(bits.bit()?) | (u8::from(bits.bit()?) << 1);
    if profile == 3 {
        bits.skip(1)?;
    }
    let (shows_existing, is_inter) = (bits.bit()?, bits.bit()?);
    bits.skip(2)?;
    if shows_existing || is_inter || bits.read(24)? != SYNC_CODE {
        return None;
    }
    if profile >= 2 {
        bits.skip(1)?;
    }
    let has_subsampling = profile == 1 || profile == 3;
    if bits.read(3)? != COLOR_SPACE_RGB {
        bits.skip(if has_subsampling { 4 } else { 1 })?;
    } else if has_subsampling {
        bits.skip(1)?;
    }
    Some((
        bits.read(16)?.checked_add(1)?,
        bits.read(16)?.checked_add(1)?,
    ))
}

fn vp6(data: &[u8], adjustment: u8) -> Option<(u32, u32)> {
    const MACROBLOCK_PIXELS: u32 = 16;
    let &[first, second] = data.first_chunk()?;
    let is_inter = first & 0x80 != 0;
    let separate_coefficients = first & 0x01 != 0;
    let has_filter_header = second & 0x06 != 0;
    let start = match separate_coefficients || !has_filter_header {
        true => 4,
        false => 2,
    };
    let &[rows, columns] = data.get(start..)?.first_chunk()?;
    let side = |count: u8, cut: u8| {
        u32::from(count)
            .checked_mul(MACROBLOCK_PIXELS)?
            .checked_sub(cut.into())
    };
    (!is_inter).then_some(())?;
    Some((
        side(columns, adjustment >> 4)?,
        side(rows, adjustment & 0x0f)?,
    ))
}

fn sorenson(data: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::new(data);
    if bits.read(17)? != 1 {
        return None;
    }
    bits.skip(5 + 8)?;
    match bits.read(3)? {
        0 => Some((bits.read(8)?, bits.read(8)?)),
        1 => Some((bits.read(16)?, bits.read(16)?)),
        2 => Some((352, 288)),
        3 => Some((176, 144)),
        4 => Some((128, 96)),
        5 => Some((320, 240)),
        6 => Some((160, 120)),
        _ => None,
    }
}

fn screen(data: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::new(data);
    bits.skip(4)?;
    let width = bits.read(12)?;
    bits.skip(4)?;
    Some((width, bits.read(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keyframes_of_real_encoders_say_their_size() {
        let vp8 = [0x70, 0x43, 0x00, 0x9d, 0x01, 0x2a, 0xa0, 0x00, 0x5a, 0x00];
        let vp9 = [
            0x82, 0x49, 0x83, 0x42, 0x00, 0x09, 0xf0, 0x05, 0x96, 0x06, 0x38,
        ];
        let sorenson = [0x00, 0x00, 0x84, 0x00, 0x50, 0x2d, 0x11, 0x9e];
        let screen = [0x30, 0xa0, 0x30, 0x5a, 0x00, 0x94];
        for (codec, data) in [
            (VideoCodec::Vp8, &vp8[..]),
            (VideoCodec::Vp9, &vp9[..]),
            (VideoCodec::SorensonH263, &sorenson[..]),
            (VideoCodec::ScreenVideo, &screen[..]),
            (VideoCodec::ScreenVideo2, &screen[..]),
        ] {
            assert_eq!(frame_size(codec, data, 0), Some((160, 90)), "{codec}");
        }
    }

    #[test]
    fn vp6_is_cut_by_its_adjustment() {
        // Without separate coefficients and with a filter header: 6 rows, 10 columns.
        let data = [0x20, 0x36, 6, 10, 6, 10];
        let size = frame_size(VideoCodec::Vp6, &data, 0x06);
        assert_eq!(size, Some((160, 90)));
        let with_alpha = [&[0, 1, 2][..], &data].concat();
        let size = frame_size(VideoCodec::Vp6Alpha, &with_alpha, 0x06);
        assert_eq!(size, Some((160, 90)));
        let separate = [0x21, 0x36, 0, 9, 6, 10];
        assert_eq!(
            frame_size(VideoCodec::Vp6, &separate, 0x40),
            Some((156, 96))
        );
    }

    #[test]
    fn other_frames_say_nothing() {
        assert_eq!(frame_size(VideoCodec::Vp9, &[0x86, 0, 0x40, 0x92], 0), None);
        assert_eq!(
            frame_size(VideoCodec::Vp6, &[0xa0, 0x36, 6, 10, 6, 10], 0),
            None
        );
        assert_eq!(frame_size(VideoCodec::Avc, &[0; 40], 0), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_give_a_legal_size_or_none(
            data in proptest::collection::vec(any::<u8>(), 0..24),
            adjustment: u8,
        ) {
            for codec in [
                VideoCodec::Vp9,
                VideoCodec::Vp8,
                VideoCodec::Vp6,
                VideoCodec::Vp6Alpha,
                VideoCodec::SorensonH263,
                VideoCodec::ScreenVideo,
            ] {
                if let Some((width, height)) = frame_size(codec, &data, adjustment) {
                    prop_assert!(width > 0 && height > 0);
                    prop_assert!(width <= DIMENSION_PIXELS_MAX && height <= DIMENSION_PIXELS_MAX);
                }
            }
        }
    }
}
