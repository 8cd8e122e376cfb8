//! How long a packet lasts, of the codecs that ffmpeg decodes: ETSI TS 102 366 §4.3, §5.3 and annex E
//! (AC-3, E-AC-3), the Speex manual's bit allocation, and Nellymoser's fixed frames.

/// What a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// Samples a second.
    pub(super) rate: u32,
    /// Samples, per channel.
    pub(super) samples: u64,
}

/// Length of an AC-3 header as far as it is read, in bytes.
const AC3_HEADER_BYTES: usize = 6;
/// Kilobits a second by `frmsizecod / 2` (TS 102 366 table 5.18).
const AC3_KILOBITS: [usize; 19] = [
    32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640,
];
const AC3_RATES: [u32; 3] = [48_000, 44_100, 32_000];
/// Samples of a block; an AC-3 frame has six.
const AC3_BLOCK_SAMPLES: u64 = 256;
/// Blocks by `numblkscod` (annex E.2.3.1.5).
const EAC3_BLOCKS: [u64; 4] = [1, 2, 3, 6];

/// Reads all AC-3 and E-AC-3 frames of a packet; `None` if it is not made of such, or they are of
/// several rates.
pub(super) fn ac3(packet: &[u8]) -> Option<Content> {
    let mut content: Option<Content> = None;
    let mut rest = packet;
    while !rest.is_empty() {
        let (bytes, frame) = ac3_frame(rest)?;
        rest = rest.get(bytes..)?;
        let before = content.map_or(0, |content| content.samples);
        if content.is_some_and(|content| content.rate != frame.rate) {
            return None;
        }
        content = Some(Content {
            samples: before + frame.samples,
            ..frame
        });
    }
    content.filter(|content| content.samples > 0)
}

/// A frame's length in bytes, and what it holds.
fn ac3_frame(frame: &[u8]) -> Option<(usize, Content)> {
    let [sync_1, sync_2, third, fourth, fifth, sixth] = *frame.first_chunk::<AC3_HEADER_BYTES>()?;
    if (sync_1, sync_2) != (0x0b, 0x77) {
        return None;
    }
    let code = usize::from(fifth >> 6);
    if sixth >> 3 > 10 {
        // Dependent substreams (type 1) add channels, not time.
        let dependent = third >> 6 == 1;
        let bytes = (usize::from(third & 0x07) << 8 | usize::from(fourth)) * 2 + 2;
        let second = usize::from((fifth >> 4) & 0x03);
        let (rate, blocks) = match AC3_RATES.get(code) {
            Some(rate) => (*rate, *EAC3_BLOCKS.get(second)?),
            None => (AC3_RATES.get(second)? / 2, 6),
        };
        let samples = if dependent {
            0
        } else {
            blocks * AC3_BLOCK_SAMPLES
        };
        return Some((bytes, Content { rate, samples }));
    }
    let size = usize::from(fifth & 0x3f);
    let kilobits = *AC3_KILOBITS.get(size / 2)?;
    let rate = *AC3_RATES.get(code)?;
    let words = match rate {
        48_000 => kilobits * 2,
        32_000 => kilobits * 3,
        _ => kilobits * 96_000 / 44_100 + size % 2,
    };
    let samples = 6 * AC3_BLOCK_SAMPLES;
    Some((words * 2, Content { rate, samples }))
}

/// Nellymoser: frames of 64 bytes, 256 samples.
pub(super) fn nellymoser(packet: &[u8], rate: u32) -> Option<Content> {
    const FRAME_BYTES: usize = 64;
    let frames = packet.len() / FRAME_BYTES;
    (frames > 0).then_some(Content {
        rate,
        samples: frames as u64 * 256,
    })
}

/// Samples of a wideband Speex frame, and their rate.
pub(super) const SPEEX_FRAME: Content = Content {
    rate: 16_000,
    samples: 320,
};
/// Bits of a narrow-band frame by mode, its wideband flag and mode among them.
const SPEEX_NARROW_BITS: [usize; 9] = [5, 43, 119, 160, 220, 300, 364, 492, 79];
/// Bits of what wideband adds by mode, its flag and mode among them.
const SPEEX_WIDE_BITS: [usize; 5] = [4, 36, 112, 192, 352];

/// Takes a Speex packet apart into its frames, each filled up to whole bytes with the terminator
/// (a zero, then ones): decoders read only the first frame of an FLV packet.
pub(super) fn speex(packet: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(bits) = speex_frame_bits(packet, at) {
        frames.push(copy_bits(packet, at, bits));
        at += bits;
    }
    frames
}

fn speex_frame_bits(packet: &[u8], at: usize) -> Option<usize> {
    // A zero, and the mode; modes from 9 on are no sound.
    let mode = read_bits(packet, at, 5)?;
    let narrow = *SPEEX_NARROW_BITS.get(mode)?;
    let wide = match read_bits(packet, at + narrow, 4) {
        Some(flagged) if flagged & 0x08 != 0 => *SPEEX_WIDE_BITS.get(flagged & 0x07)?,
        Some(_) | None => 0,
    };
    let bits = narrow + wide;
    (at + bits <= packet.len() * 8).then_some(bits)
}

fn read_bits(bytes: &[u8], at: usize, count: usize) -> Option<usize> {
    let mut value = 0;
    for place in at..at + count {
        let byte = bytes.get(place / 8)?;
        value = value << 1 | usize::from(byte >> (7 - place % 8) & 1);
    }
    Some(value)
}

fn copy_bits(bytes: &[u8], at: usize, count: usize) -> Vec<u8> {
    (0..count.div_ceil(8))
        .map(|index| {
            (0..8).fold(0, |byte, bit| {
                let place = index * 8 + bit;
                let set = match place.checked_sub(count) {
                    None => read_bits(bytes, at + place, 1).unwrap_or_default() == 1,
                    Some(filling) => filling > 0,
                };
                byte << 1 | u8::from(set)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The beginning of a frame, and the length that it says it has.
    fn frame(head: [u8; 6], bytes: usize) -> Vec<u8> {
        let mut frame = head.to_vec();
        frame.resize(bytes, 0);
        frame
    }

    #[test]
    fn ac3_frames_are_counted() {
        // 48 kHz, 192 kbit/s (frmsizecod 20), bsid 8.
        let one = frame([0x0b, 0x77, 0, 0, 0x14, 0x40], 768);
        let content = Content {
            rate: 48_000,
            samples: 1_536,
        };
        assert_eq!(ac3(&one), Some(content));
        let two = [one.clone(), one.clone()].concat();
        assert_eq!(ac3(&two).unwrap().samples, 3_072);
        assert_eq!(ac3(&one[..700]), None, "cut off");
        // 44.1 kHz, 192 kbit/s, with and without the odd word.
        assert!(ac3(&frame([0x0b, 0x77, 0, 0, 0x54, 0x40], 834)).is_some());
        assert!(ac3(&frame([0x0b, 0x77, 0, 0, 0x55, 0x40], 836)).is_some());
        assert_eq!(ac3(b"no such thing"), None);
    }

    #[test]
    fn eac3_frames_are_counted_by_their_blocks_and_substreams() {
        // Independent, 768 bytes (frmsiz 383), 48 kHz, six blocks, bsid 16.
        let six = frame([0x0b, 0x77, 0x01, 0x7f, 0x3f, 0x80], 768);
        assert_eq!(ac3(&six).unwrap().samples, 1_536);
        let two = frame([0x0b, 0x77, 0x01, 0x7f, 0x1f, 0x80], 768);
        assert_eq!(ac3(&two).unwrap().samples, 512);
        let dependent = frame([0x0b, 0x77, 0x41, 0x7f, 0x3f, 0x80], 768);
        assert_eq!(
            ac3(&[six, dependent.clone()].concat()).unwrap().samples,
            1_536
        );
        assert_eq!(ac3(&dependent), None, "alone it is nothing");
    }

    #[test]
    fn speex_packets_are_taken_apart() {
        // Two frames of mode 0 without wideband, five bits each, then the terminator.
        assert_eq!(speex(&[0b0000_0000, 0b0001_1111]).len(), 2);
        assert_eq!(speex(&[0b0000_0000, 0b0001_1111])[0], [0b0000_0011]);
        // Mode 0 with wideband mode 0: nine bits.
        assert_eq!(speex(&[0b0000_0100, 0b0011_1111]).len(), 1);
        assert!(speex(&[0b0111_1000]).is_empty(), "only the terminator");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _content = ac3(&bytes);
            let mut marked = vec![0x0b, 0x77];
            marked.extend(&bytes);
            let _content = ac3(&marked);
            prop_assert!(speex(&bytes).len() <= bytes.len() * 2);
            prop_assert!(nellymoser(&bytes, 8_000).is_some() == (bytes.len() >= 64));
        }
    }
}
