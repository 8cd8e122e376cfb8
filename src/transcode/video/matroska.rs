//! Matroska as a live stream (RFC 9559): one video track, clusters of unknown size, and commands
//! to the transcoder in the timestamps.
//!
//! A tick is 0.1 ms. A block's time is its frame's PTS in whole milliseconds, and in the last
//! digit what is to be done with it ([`BlockKind`]): ffmpeg's filters and its encoder see the
//! time, so they can be told something of each frame, which no other way allows while it runs.
//! FLV's timestamps are milliseconds, so the digit is gone behind the encoder.

use bytes::{BufMut, Bytes, BytesMut};

use super::command::FRAME_RATE_UNKNOWN;
use crate::limits::VIDEO_RECORD_BYTES_MAX;
use crate::media::codec::{VideoCodec, VideoConfig};

/// Nanoseconds of one tick (RFC 9559 §5.1.2.9, TimestampScale).
const TICK_NANOS: u64 = 100_000;
/// Ticks of a millisecond.
const TICKS_PER_MS: i64 = 10;

/// Element IDs (RFC 8794 §11.3, RFC 9559 §5.1).
mod id {
    pub(super) const EBML: u32 = 0x1a45_dfa3;
    pub(super) const EBML_VERSION: u32 = 0x4286;
    pub(super) const EBML_READ_VERSION: u32 = 0x42f7;
    pub(super) const EBML_MAX_ID_LENGTH: u32 = 0x42f2;
    pub(super) const EBML_MAX_SIZE_LENGTH: u32 = 0x42f3;
    pub(super) const DOC_TYPE: u32 = 0x4282;
    pub(super) const DOC_TYPE_VERSION: u32 = 0x4287;
    pub(super) const DOC_TYPE_READ_VERSION: u32 = 0x4285;
    pub(super) const SEGMENT: u32 = 0x1853_8067;
    pub(super) const INFO: u32 = 0x1549_a966;
    pub(super) const TIMESTAMP_SCALE: u32 = 0x002a_d7b1;
    pub(super) const MUXING_APP: u32 = 0x4d80;
    pub(super) const WRITING_APP: u32 = 0x5741;
    pub(super) const TRACKS: u32 = 0x1654_ae6b;
    pub(super) const TRACK_ENTRY: u32 = 0xae;
    pub(super) const TRACK_NUMBER: u32 = 0xd7;
    pub(super) const TRACK_UID: u32 = 0x73c5;
    pub(super) const TRACK_TYPE: u32 = 0x83;
    pub(super) const FLAG_LACING: u32 = 0x9c;
    pub(super) const DEFAULT_DURATION: u32 = 0x0023_e383;
    pub(super) const CODEC_ID: u32 = 0x86;
    pub(super) const CODEC_PRIVATE: u32 = 0x63a2;
    pub(super) const VIDEO: u32 = 0xe0;
    pub(super) const PIXEL_WIDTH: u32 = 0xb0;
    pub(super) const PIXEL_HEIGHT: u32 = 0xba;
    pub(super) const DISPLAY_WIDTH: u32 = 0x54b0;
    pub(super) const DISPLAY_HEIGHT: u32 = 0x54ba;
    pub(super) const DISPLAY_UNIT: u32 = 0x54b2;
    pub(super) const CLUSTER: u32 = 0x1f43_b675;
    pub(super) const TIMESTAMP: u32 = 0xe7;
    pub(super) const SIMPLE_BLOCK: u32 = 0xa3;
}

/// A size that says "until the parent ends" (RFC 8794 §6.2), in its 8-byte form.
const UNKNOWN_SIZE: u64 = 0x01ff_ffff_ffff_ffff;
/// Track number 1 as a variable-size integer.
const TRACK_ONE: u8 = 0x81;
/// Flag of a keyframe in a SimpleBlock (RFC 9559 §10.2).
const BLOCK_KEY: u8 = 0x80;
/// Bytes of a SimpleBlock before its frame: track, time, flags.
const BLOCK_HEAD_BYTES: usize = 4;
/// `DisplayUnit`: width and height are an aspect ratio; nothing is known of the display (RFC 9559
/// §5.1.4.1.28.14). With the latter, a shape that the codec itself tells counts.
const DISPLAY_ASPECT_RATIO: u64 = 3;
const DISPLAY_UNKNOWN: u64 = 4;
/// Written where a size is not known, as the element is mandatory; decoders find the real one.
const SIZE_UNKNOWN: (u32, u32) = (16, 16);

/// What the transcoder is to do with a frame: the last digit of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Encode it.
    Plain,
    /// Encode it as a keyframe.
    ForceKey,
    /// Only decode it, since later frames refer to it.
    DecodeOnly,
}

impl BlockKind {
    /// The digit.
    #[must_use]
    pub const fn digit(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::ForceKey => 1,
            Self::DecodeOnly => 2,
        }
    }
}

/// Writes one stream's Matroska.
#[derive(Debug)]
pub struct MatroskaWriter {
    header: Option<Header>,
    /// Time of the open cluster, in ticks.
    cluster: Option<i64>,
    strips_first_byte: bool,
}

/// What the header is written from, once the first frame is there.
#[derive(Debug)]
struct Header {
    codec: VideoCodec,
    private: Bytes,
    size: (u32, u32),
    sample_aspect_ratio: Option<(u32, u32)>,
    /// Of one frame, about.
    frame_nanos: u64,
}

impl MatroskaWriter {
    /// A writer for frames of `config`; a record above [`VIDEO_RECORD_BYTES_MAX`] is left out.
    #[must_use]
    pub fn new(config: &VideoConfig) -> Self {
        let record = match config.codec {
            VideoCodec::Avc | VideoCodec::Hevc | VideoCodec::Av1 => config.record.clone(),
            // What is published as their record is not what Matroska knows as such, and their
            // decoders need none.
            VideoCodec::Vp9 | VideoCodec::Vp8 => Bytes::new(),
            VideoCodec::SorensonH263
            | VideoCodec::ScreenVideo
            | VideoCodec::ScreenVideo2
            | VideoCodec::Vp6
            | VideoCodec::Vp6Alpha => config.record.clone(),
        };
        let fits = record.len() <= VIDEO_RECORD_BYTES_MAX;
        let private = if fits { record } else { Bytes::new() };
        // FLV puts a byte of cropping before each VP6 frame (annex E.4.3.1), which decoders want
        // as configuration instead.
        let is_vp6 = matches!(config.codec, VideoCodec::Vp6 | VideoCodec::Vp6Alpha);
        Self {
            strips_first_byte: is_vp6 && private.is_empty(),
            header: Some(Header {
                codec: config.codec,
                private,
                size: config.size.unwrap_or(SIZE_UNKNOWN),
                sample_aspect_ratio: config.sample_aspect_ratio,
                frame_nanos: frame_nanos(config),
            }),
            cluster: None,
        }
    }

    /// The bytes to send before a frame, and the frame's as they are to follow: `pts_ms` is its
    /// time, at least 0.
    pub fn frame(&mut self, pts_ms: i64, key: bool, kind: BlockKind, data: &Bytes) -> [Bytes; 2] {
        let mut out = BytesMut::new();
        let stripped = usize::from(self.strips_first_byte).min(data.len());
        if let Some(mut header) = self.header.take() {
            if self.strips_first_byte {
                header.private = data.slice(..stripped);
            }
            header.size = screen_size(header.codec, data).unwrap_or(header.size);
            header.write(&mut out);
        }
        let data = data.slice(stripped..);
        let ticks = pts_ms
            .max(0)
            .saturating_mul(TICKS_PER_MS)
            .saturating_add(i64::from(kind.digit()));
        let relative = self.relative(ticks, key, &mut out);
        element_head(
            &mut out,
            id::SIMPLE_BLOCK,
            BLOCK_HEAD_BYTES.saturating_add(data.len()),
        );
        out.put_u8(TRACK_ONE);
        out.put_i16(relative);
        out.put_u8(if key { BLOCK_KEY } else { 0 });
        [out.freeze(), data]
    }

    /// The time of a block in its cluster; opens a cluster for a keyframe, and where the block's
    /// 16 bits would not reach.
    fn relative(&mut self, ticks: i64, key: bool, out: &mut BytesMut) -> i16 {
        let reach = self
            .cluster
            .and_then(|cluster| i16::try_from(ticks.saturating_sub(cluster)).ok());
        if let (Some(relative), false) = (reach, key) {
            return relative;
        }
        put_id(out, id::CLUSTER);
        out.put_u64(UNKNOWN_SIZE);
        number(out, id::TIMESTAMP, u64::try_from(ticks).unwrap_or(0));
        self.cluster = Some(ticks);
        0
    }
}

/// How long a frame of a stream lasts, about.
fn frame_nanos(config: &VideoConfig) -> u64 {
    const NANOS_OF_1000_S: u64 = 1_000_000_000_000;
    let frames = config.frames_per_1000_s.unwrap_or(FRAME_RATE_UNKNOWN);
    NANOS_OF_1000_S / u64::from(frames.max(1))
}

impl Header {
    fn write(&self, out: &mut BytesMut) {
        master(out, id::EBML, |out| {
            number(out, id::EBML_VERSION, 1);
            number(out, id::EBML_READ_VERSION, 1);
            number(out, id::EBML_MAX_ID_LENGTH, 4);
            number(out, id::EBML_MAX_SIZE_LENGTH, 8);
            bytes(out, id::DOC_TYPE, b"matroska");
            number(out, id::DOC_TYPE_VERSION, 4);
            number(out, id::DOC_TYPE_READ_VERSION, 2);
        });
        put_id(out, id::SEGMENT);
        out.put_u64(UNKNOWN_SIZE);
        master(out, id::INFO, |out| {
            number(out, id::TIMESTAMP_SCALE, TICK_NANOS);
            bytes(out, id::MUXING_APP, b"rtmpeer");
            bytes(out, id::WRITING_APP, b"rtmpeer");
        });
        master(out, id::TRACKS, |out| {
            master(out, id::TRACK_ENTRY, |out| self.track(out));
        });
    }

    fn track(&self, out: &mut BytesMut) {
        const VIDEO_TRACK: u64 = 1;
        number(out, id::TRACK_NUMBER, 1);
        number(out, id::TRACK_UID, 1);
        number(out, id::TRACK_TYPE, VIDEO_TRACK);
        number(out, id::FLAG_LACING, 0);
        // Where neither codec nor container tells the rate, ffmpeg takes the clock's for it, and the
        // encoder gives each frame a 300th of its bits. H.264 and H.265 may tell it, but need not.
        number(out, id::DEFAULT_DURATION, self.frame_nanos);
        let (codec_id, four_cc) = codec_id(self.codec);
        bytes(out, id::CODEC_ID, codec_id.as_bytes());
        match four_cc {
            Some(four_cc) => bytes(out, id::CODEC_PRIVATE, &self.bitmap_info(four_cc)),
            None if self.private.is_empty() => {}
            None => bytes(out, id::CODEC_PRIVATE, &self.private),
        }
        let (width, height) = self.size;
        master(out, id::VIDEO, |out| {
            number(out, id::PIXEL_WIDTH, width.into());
            number(out, id::PIXEL_HEIGHT, height.into());
            // H.264 and H.265 tell the shape themselves, and may change it.
            let own_shape = matches!(self.codec, VideoCodec::Avc | VideoCodec::Hevc);
            match self.sample_aspect_ratio.filter(|_| !own_shape) {
                Some((across, down)) => {
                    let side = |pixels: u32, shape: u32| u64::from(pixels) * u64::from(shape);
                    number(out, id::DISPLAY_WIDTH, side(width, across).max(1));
                    number(out, id::DISPLAY_HEIGHT, side(height, down).max(1));
                    number(out, id::DISPLAY_UNIT, DISPLAY_ASPECT_RATIO);
                }
                None => number(out, id::DISPLAY_UNIT, DISPLAY_UNKNOWN),
            }
        });
    }

    /// A BITMAPINFOHEADER, little-endian, with the codec's own data behind it.
    fn bitmap_info(&self, four_cc: [u8; 4]) -> Vec<u8> {
        const HEADER_BYTES: u32 = 40;
        const PLANES: u16 = 1;
        const BITS_PER_PIXEL: u16 = 24;
        let (width, height) = self.size;
        let mut out = Vec::new();
        let length = u32::try_from(self.private.len()).unwrap_or(0);
        out.put_u32_le(HEADER_BYTES.saturating_add(length));
        out.put_u32_le(width);
        out.put_u32_le(height);
        out.put_u16_le(PLANES);
        out.put_u16_le(BITS_PER_PIXEL);
        out.put_slice(&four_cc);
        // Image size, pixels per metre (two), colours used and important: not known.
        out.put_bytes(0, 20);
        out.put_slice(&self.private);
        out
    }
}

/// `CodecID` (RFC 9559 §5.1.4.1.21 and its registry), and for codecs without their own, the
/// FourCC that AVI files have.
fn codec_id(codec: VideoCodec) -> (&'static str, Option<[u8; 4]>) {
    const FOURCC: &str = "V_MS/VFW/FOURCC";
    match codec {
        VideoCodec::Avc => ("V_MPEG4/ISO/AVC", None),
        VideoCodec::Hevc => ("V_MPEGH/ISO/HEVC", None),
        VideoCodec::Av1 => ("V_AV1", None),
        VideoCodec::Vp9 => ("V_VP9", None),
        VideoCodec::Vp8 => ("V_VP8", None),
        VideoCodec::SorensonH263 => (FOURCC, Some(*b"FLV1")),
        VideoCodec::ScreenVideo => (FOURCC, Some(*b"FSV1")),
        VideoCodec::ScreenVideo2 => (FOURCC, Some(*b"FSV2")),
        VideoCodec::Vp6 => (FOURCC, Some(*b"VP6F")),
        VideoCodec::Vp6Alpha => (FOURCC, Some(*b"VP6A")),
    }
}

/// Picture size as each frame of Screen Video begins with it, 12 bits each after the size of its
/// blocks (SWF 10 annex, "Screen Video bitstream format"): its decoder refuses any other.
fn screen_size(codec: VideoCodec, frame: &[u8]) -> Option<(u32, u32)> {
    const LOW_12: u16 = 0x0fff;
    let is_screen = matches!(codec, VideoCodec::ScreenVideo | VideoCodec::ScreenVideo2);
    let [a, b, c, d] = *frame.first_chunk()?;
    let side = |high, low| u32::from(u16::from_be_bytes([high, low]) & LOW_12);
    is_screen.then(|| (side(a, b).max(1), side(c, d).max(1)))
}

fn put_id(out: &mut BytesMut, id: u32) {
    let bytes = id.to_be_bytes();
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    out.put_slice(bytes.get(zeros..).unwrap_or_default());
}

/// ID and size of an element, the size in its 8-byte form.
fn element_head(out: &mut BytesMut, id: u32, size: usize) {
    const EIGHT_BYTES: u64 = 1 << 56;
    put_id(out, id);
    let size = u64::try_from(size).unwrap_or(0) & (EIGHT_BYTES - 1);
    out.put_u64(EIGHT_BYTES | size);
}

fn number(out: &mut BytesMut, id: u32, value: u64) {
    element_head(out, id, size_of::<u64>());
    out.put_u64(value);
}

fn bytes(out: &mut BytesMut, id: u32, value: &[u8]) {
    element_head(out, id, value.len());
    out.put_slice(value);
}

fn master(out: &mut BytesMut, id: u32, fill: impl FnOnce(&mut BytesMut)) {
    let mut inner = BytesMut::new();
    fill(&mut inner);
    bytes(out, id, &inner);
}
