//! What is published: H.264 of the shape of a 720p30 camera picture, and AAC.
//!
//! The slices have valid headers and random bodies: nobody decodes them. Parameter sets are valid
//! (14496-10 §7.3.2.1, §7.3.2.2); the sound is that of the tests' clip.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rtmpeer::media::flv::file::{TagKind, tags};

use crate::Failure;

/// Frames a second.
pub(crate) const FRAME_RATE: u64 = 30;
/// Frames from one keyframe to the next.
pub(crate) const KEYFRAME_EVERY: usize = 60;
/// The same as a time.
pub(crate) const KEYFRAME_INTERVAL: Duration = Duration::from_secs(2);
/// Packets of a keyframe at 2.5 Mbit/s, parameter sets included.
const KEYFRAME_PACKETS: usize = 54;
/// Bytes of a keyframe at [`BITRATE_OF_SHAPE`]: 53 full packets beside the parameter sets.
const KEYFRAME_BYTES: usize = 53 * 1_150;
/// The rate those figures are of, in bit/s.
const BITRATE_OF_SHAPE: u32 = 2_500_000;
/// A delta frame is this much smaller or larger than the mean, in percent.
const DELTA_SPREAD_PERCENT: usize = 25;
const SPS_BYTES: u8 = 9;
const PPS_BYTES: u8 = 4;
/// SPS: Constrained Baseline 3.1, 1280x720, POC type 2, one reference frame.
const SPS: [u8; SPS_BYTES as usize] = [0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe4];
/// PPS: CAVLC, one slice group.
const PPS: [u8; PPS_BYTES as usize] = [0x68, 0xce, 0x3c, 0x80];
/// NAL unit header and slice header of an IDR picture: first_mb 0, I slices.
const IDR_SLICE: [u8; 3] = [0x65, 0x88, 0x80];
/// The same of a P picture.
const P_SLICE: [u8; 2] = [0x41, 0x9a];
/// FLV video tag (annex E.4.3.1): key or inter frame, AVC; NAL units; no composition offset.
const KEY_TAG: [u8; 5] = [0x17, 0x01, 0, 0, 0];
const DELTA_TAG: [u8; 5] = [0x27, 0x01, 0, 0, 0];
/// SEI (14496-10 §7.3.2.3, §D.1.7): user data unregistered, of 32 bytes: this UUID and the clock
/// in 16 hexadecimal digits, so that no byte of it is zero.
const SEI_UUID: [u8; 16] = *b"rtmpeer-loadgen1";
const SEI_HEAD: [u8; 3] = [0x06, 0x05, 0x20];
const SEI_END: u8 = 0x80;
/// NAL unit type, payload type and size, UUID, digits, trailing bits.
const SEI_BYTES: u32 = 3 + 16 + 16 + 1;
/// The SEI stands before the slices, behind at most the parameter sets.
const SEI_WITHIN_BYTES: usize = 256;
const CONFIG_TAG: [u8; 5] = [0x17, 0x00, 0, 0, 0];

/// Sound: milliseconds since the first unit, and the FLV tag's body.
pub(crate) type Sounds = Vec<(u32, Bytes)>;

/// One keyframe interval of picture and a stretch of sound, to be repeated.
pub(crate) struct Clip {
    /// The decoder configuration, as an FLV tag's body.
    pub(crate) video_config: Bytes,
    /// The pictures, the first a keyframe.
    pub(crate) pictures: Vec<Bytes>,
    /// The AAC configuration.
    pub(crate) audio_config: Bytes,
    /// The sound.
    pub(crate) sounds: Sounds,
    /// Length of the sound in milliseconds.
    pub(crate) sounds_ms: u32,
}

impl Clip {
    /// Makes pictures of this rate, in bit/s.
    pub(crate) fn new(bitrate: u32) -> Result<Self, Failure> {
        let scale = f64::from(bitrate) / f64::from(BITRATE_OF_SHAPE);
        let interval_bytes = whole(f64::from(bitrate) / 8.0 * KEYFRAME_INTERVAL.as_secs_f64());
        let key_bytes = whole(scale * whole_f64(KEYFRAME_BYTES)).max(64);
        let delta_mean = interval_bytes.saturating_sub(key_bytes) / (KEYFRAME_EVERY - 1);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut pictures = vec![picture(&KEY_TAG, &IDR_SLICE, key_bytes, &mut random)];
        for _ in 1..KEYFRAME_EVERY {
            let spread = delta_mean * DELTA_SPREAD_PERCENT / 100;
            // A value of at most twice the spread, so it fits.
            let extra = usize::try_from(random.next()).unwrap_or(0) % (2 * spread).max(1);
            let bytes = (delta_mean - spread + extra).max(16);
            pictures.push(picture(&DELTA_TAG, &P_SLICE, bytes, &mut random));
        }
        let (audio_config, sounds, sounds_ms) = sounds()?;
        Ok(Self {
            video_config: video_config(),
            pictures,
            audio_config,
            sounds,
            sounds_ms,
        })
    }

    /// Packets from which on a frame is surely a keyframe.
    pub(crate) fn keyframe_packets_min() -> usize {
        KEYFRAME_PACKETS / 2
    }
}

/// When a frame is shown, in milliseconds since the first.
pub(crate) fn frame_time_ms(number: usize) -> u64 {
    (number as u64 * 1_000).div_ceil(FRAME_RATE)
}

/// The picture with the clock before it, in nanoseconds since 1970.
pub(crate) fn stamped(picture: &Bytes, nanos: i64) -> Bytes {
    let (tag, units) = picture.split_at(KEY_TAG.len().min(picture.len()));
    let mut body = Vec::with_capacity(picture.len() + 64);
    body.extend(tag);
    body.extend(SEI_BYTES.to_be_bytes());
    body.extend(SEI_HEAD);
    body.extend(SEI_UUID);
    body.extend(format!("{nanos:016x}").bytes());
    body.push(SEI_END);
    body.extend(units);
    body.into()
}

/// The clock in the first packet of a picture.
pub(crate) fn stamp_of(payload: &[u8]) -> Option<i64> {
    let within = payload.get(..SEI_WITHIN_BYTES).unwrap_or(payload);
    let at = within.windows(SEI_UUID.len()).position(|w| w == SEI_UUID)?;
    let digits = payload.get(at + SEI_UUID.len()..)?.get(..16)?;
    i64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn picture(tag: &[u8], slice: &[u8], bytes: usize, random: &mut Random) -> Bytes {
    let mut body = tag.to_vec();
    let length = u32::try_from(bytes).unwrap_or(u32::MAX);
    body.extend(length.to_be_bytes());
    body.extend(slice);
    // No zero byte, so nothing looks like a start code.
    body.extend((slice.len()..bytes).map(|_| random.next().to_le_bytes()[0] | 1));
    body.into()
}

fn video_config() -> Bytes {
    let mut body = CONFIG_TAG.to_vec();
    let [_, profile, compatibility, level, ..] = SPS;
    // 14496-15 §5.3.3.1: version 1, lengths of 4 bytes, one SPS, one PPS.
    body.extend([1, profile, compatibility, level, 0xff, 0xe1, 0]);
    body.push(SPS_BYTES);
    body.extend(SPS);
    body.extend([1, 0, PPS_BYTES]);
    body.extend(PPS);
    body.into()
}

/// The sound of the tests' clip: configuration, units, length.
fn sounds() -> Result<(Bytes, Sounds, u32), Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/baseline.flv");
    let file = std::fs::read(&path).map_err(|why| format!("{}: {why}", path.display()))?;
    let tags = tags(Bytes::from(file)).ok_or("baseline.flv is no FLV file")?;
    let mut sounds = tags.filter(|tag| tag.kind == TagKind::Audio);
    let config = sounds.next().ok_or("baseline.flv has no sound")?.payload;
    let sounds: Vec<_> = sounds.collect();
    let first = sounds.first().map_or(0, |tag| tag.timestamp_ms);
    let units: Vec<_> = sounds
        .into_iter()
        .map(|tag| (tag.timestamp_ms - first, tag.payload))
        .collect();
    let last = units.last().map_or(0, |(at, _)| *at);
    let count = u32::try_from(units.len()).unwrap_or(1);
    // One more unit's length, so that the next round begins where this one ends.
    Ok((
        config,
        units,
        last + (last + count / 2) / count.saturating_sub(1).max(1),
    ))
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
pub(crate) fn whole_f64(number: usize) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of frames; the cast saturates"
)]
fn whole(number: f64) -> usize {
    number as usize
}

/// Noise (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
