//! The writer's bytes, read back by a parser that knows nothing of the writer.

use super::*;

/// An element: its ID and where its content lies; `None` for an unknown size, as of a parent that
/// the following elements belong to.
type Element = (u32, Option<std::ops::Range<usize>>);

/// Elements one after the other, into those with unknown sizes but not into others.
fn elements(bytes: &[u8], mut at: usize, end: usize) -> Vec<Element> {
    let mut found = Vec::new();
    while at < end {
        let length = bytes[at].leading_zeros() as usize + 1;
        let id = bytes[at..at + length]
            .iter()
            .fold(0, |id, byte| id << 8 | u32::from(*byte));
        at += length;
        let length = bytes[at].leading_zeros() as usize + 1;
        let mask = (1_u64 << (7 * length)) - 1;
        let size = bytes[at..at + length]
            .iter()
            .fold(0, |size, byte| size << 8 | u64::from(*byte))
            & mask;
        at += length;
        if size == mask {
            found.push((id, None));
            continue;
        }
        let content = at..at + usize::try_from(size).unwrap();
        assert!(content.end <= end, "0x{id:x} goes past its parent");
        at = content.end;
        found.push((id, Some(content)));
    }
    found
}

fn child(bytes: &[u8], parents: &[u32], id: u32) -> Vec<u8> {
    let mut range = 0..bytes.len();
    for id in parents.iter().chain([&id]) {
        let inner = elements(bytes, range.start, range.end);
        let found = inner.into_iter().find(|(found, _)| found == id);
        range = found.unwrap_or_else(|| panic!("no 0x{id:x}")).1.unwrap();
    }
    bytes[range].to_vec()
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

const TRACK: [u32; 2] = [0x1654_ae6b, 0xae];
const VIDEO: [u32; 3] = [0x1654_ae6b, 0xae, 0xe0];

fn written(config: &VideoConfig, frames: &[(i64, bool, BlockKind, &'static [u8])]) -> Vec<u8> {
    let mut writer = MatroskaWriter::new(config);
    let mut all = Vec::new();
    for (pts_ms, key, kind, data) in frames {
        for part in writer.frame(*pts_ms, *key, *kind, &Bytes::from_static(data)) {
            all.extend_from_slice(&part);
        }
    }
    all
}

fn header(config: &VideoConfig) -> Vec<u8> {
    written(config, &[(0, true, BlockKind::Plain, b"x")])
}

/// Each block's time in ticks, whether it is a keyframe, and its frame.
pub(super) fn blocks(bytes: &[u8]) -> Vec<(i64, bool, Vec<u8>)> {
    let (mut cluster, mut blocks) = (0, Vec::new());
    for (id, content) in elements(bytes, 0, bytes.len()) {
        let content = content.map(|range| &bytes[range]);
        match (id, content) {
            (0xe7, Some(content)) => cluster = i64::try_from(number(content)).unwrap(),
            (0xa3, Some([0x81, high, low, flags, frame @ ..])) => {
                let relative = i16::from_be_bytes([*high, *low]);
                blocks.push((
                    cluster + i64::from(relative),
                    flags & 0x80 != 0,
                    frame.to_vec(),
                ));
            }
            _ => {}
        }
    }
    blocks
}

#[test]
fn the_header_tells_codec_private_data_size_and_scale() {
    let bytes = header(&config(VideoCodec::Avc));
    assert_eq!(child(&bytes, &[0x1a45_dfa3], 0x4282), b"matroska");
    assert_eq!(number(&child(&bytes, &[0x1549_a966], 0x002a_d7b1)), 100_000);
    assert_eq!(child(&bytes, &TRACK, 0x86), b"V_MPEG4/ISO/AVC");
    assert_eq!(child(&bytes, &TRACK, 0x63a2), b"\x01record");
    assert_eq!(number(&child(&bytes, &TRACK, 0x83)), 1);
    assert_eq!(number(&child(&bytes, &VIDEO, 0xb0)), 1_280);
    assert_eq!(number(&child(&bytes, &VIDEO, 0xba)), 720);
    // Nothing is said of the display, so that the SPS tells the shape of a pixel.
    assert_eq!(number(&child(&bytes, &VIDEO, 0x54b2)), 4);
}

#[test]
fn every_codec_has_its_id() {
    for (codec, id) in [
        (VideoCodec::Hevc, "V_MPEGH/ISO/HEVC"),
        (VideoCodec::Av1, "V_AV1"),
        (VideoCodec::Vp9, "V_VP9"),
        (VideoCodec::Vp8, "V_VP8"),
    ] {
        assert_eq!(child(&header(&config(codec)), &TRACK, 0x86), id.as_bytes());
    }
    for (codec, four_cc) in [
        (VideoCodec::SorensonH263, b"FLV1"),
        (VideoCodec::ScreenVideo, b"FSV1"),
        (VideoCodec::ScreenVideo2, b"FSV2"),
        (VideoCodec::Vp6, b"VP6F"),
        (VideoCodec::Vp6Alpha, b"VP6A"),
    ] {
        let bytes = header(&config(codec));
        assert_eq!(child(&bytes, &TRACK, 0x86), b"V_MS/VFW/FOURCC");
        let private = child(&bytes, &TRACK, 0x63a2);
        assert_eq!(private[16..20], *four_cc);
        assert_eq!(private[..4], 47_u32.to_le_bytes());
        assert_eq!(private[4..8], 1_280_u32.to_le_bytes());
        assert_eq!(private[40..], *b"\x01record");
    }
}

#[test]
fn a_pixel_shape_that_the_codec_does_not_tell_is_told() {
    let mut config = config(VideoCodec::Vp9);
    config.sample_aspect_ratio = Some((4, 3));
    let bytes = header(&config);
    assert_eq!(number(&child(&bytes, &VIDEO, 0x54b0)), 1_280 * 4);
    assert_eq!(number(&child(&bytes, &VIDEO, 0x54ba)), 720 * 3);
    assert_eq!(number(&child(&bytes, &VIDEO, 0x54b2)), 3);
}

/// Without it, and without a codec that tells it, ffmpeg takes the clock's rate for the stream's.
#[test]
fn the_duration_of_a_frame_is_told() {
    const DEFAULT_DURATION: u32 = 0x0023_e383;
    for codec in [VideoCodec::Avc, VideoCodec::Hevc, VideoCodec::Av1] {
        for (frames, nanos) in [
            (Some(60_000), 16_666_666),
            (Some(29_970), 33_366_700),
            // Not known: 30 a second.
            (None, 33_333_333),
        ] {
            let mut config = config(codec);
            config.frames_per_1000_s = frames;
            let told = number(&child(&header(&config), &TRACK, DEFAULT_DURATION));
            assert_eq!(told, nanos, "{codec}");
        }
    }
}

#[test]
fn times_hold_the_command_in_their_last_digit() {
    let bytes = written(
        &config(VideoCodec::Avc),
        &[
            (1_000, true, BlockKind::DecodeOnly, b"I"),
            (1_120, false, BlockKind::DecodeOnly, b"P"),
            (1_040, false, BlockKind::Plain, b"b"),
            (1_160, false, BlockKind::ForceKey, b"p"),
        ],
    );
    let expected = [
        (10_002, true, b"I".to_vec()),
        (11_202, false, b"P".to_vec()),
        (10_400, false, b"b".to_vec()),
        (11_601, false, b"p".to_vec()),
    ];
    assert_eq!(blocks(&bytes), expected);
}

#[test]
fn a_cluster_begins_at_each_keyframe_and_before_its_blocks_times_run_out() {
    let frames: Vec<_> = (0..100)
        .map(|frame: i64| {
            (
                10_000 + frame * 100,
                frame == 0 || frame == 50,
                BlockKind::Plain,
                &b"x"[..],
            )
        })
        .collect();
    let bytes = written(&config(VideoCodec::Avc), &frames);
    let times: Vec<i64> = blocks(&bytes).iter().map(|(ticks, ..)| *ticks).collect();
    assert_eq!(
        times,
        (0..100)
            .map(|frame| 100_000 + frame * 1_000)
            .collect::<Vec<_>>()
    );
    let clusters = elements(&bytes, 0, bytes.len());
    let clusters = clusters.iter().filter(|(id, _)| *id == 0x1f43_b675).count();
    // 3.2 s each.
    assert_eq!(clusters, 4);
}

#[test]
fn vp6_s_first_byte_becomes_private_data() {
    let mut config = config(VideoCodec::Vp6);
    config.record = Bytes::new();
    let frames = [
        (0, true, BlockKind::Plain, &b"\x48frame"[..]),
        (40, false, BlockKind::Plain, b"\x48other"),
    ];
    let bytes = written(&config, &frames);
    assert_eq!(child(&bytes, &TRACK, 0x63a2)[40..], *b"\x48");
    let frames: Vec<_> = blocks(&bytes)
        .into_iter()
        .map(|(.., frame)| frame)
        .collect();
    assert_eq!(frames, [b"frame".to_vec(), b"other".to_vec()]);
}

#[test]
fn a_record_of_unheard_of_size_is_left_out() {
    let mut config = config(VideoCodec::Hevc);
    config.record = vec![0; crate::limits::VIDEO_RECORD_BYTES_MAX + 1].into();
    assert!(header(&config).len() < 1_000);
}
