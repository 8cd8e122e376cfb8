//! What publishers of the simulation send: a clip of `tests/data`, and how to know its pictures
//! again behind the server.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::OnceLock;

use bytes::Bytes;
use rtmpeer::media::flv::file::{Tag, TagKind};

use super::kit;

/// NAL unit types (H.264 table 7-1).
const SLICE: u8 = 1;
const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
/// First byte of a video tag's body: key or inter frame, AVC (FLV annex E.4.3.1).
const KEY_TAG: u8 = 0x17;
const DELTA_TAG: u8 = 0x27;
/// The same as VP9, and what follows then (Enhanced RTMP v2).
const VP9_KEY_TAG: u8 = 0x91;
const VP9_DELTA_TAG: u8 = 0xa1;
const VP9: &[u8] = b"vp09";
/// Bytes of a video tag's body before the access unit, and of each length in it.
const VIDEO_HEADER_BYTES: usize = 5;
const LENGTH_BYTES: usize = 4;

/// A clip.
pub struct Clip {
    /// Configurations, sent first.
    pub heads: Vec<Tag>,
    /// Pictures and sounds.
    pub tags: Vec<Tag>,
    /// How long one turn of it lasts, in milliseconds.
    pub round_ms: u32,
    /// Whether pictures come out as they go in, at once: all others are made anew.
    pub in_order: bool,
    /// Publishers begin before this tag.
    pub begin_before: usize,
    /// Picture by content: its place among the pictures in the order of showing, and when it is
    /// shown.
    pictures: BTreeMap<u64, (usize, u32)>,
}

/// What a picture holds.
pub struct Picture {
    /// Parameter sets and an IDR slice: it can be decoded without any other.
    pub complete: bool,
    /// An IDR slice.
    pub idr: bool,
    /// Its slices.
    fingerprint: u64,
}

impl Clip {
    /// Without B-frames.
    pub fn baseline() -> &'static Self {
        static CLIP: OnceLock<Clip> = OnceLock::new();
        CLIP.get_or_init(|| Self::read("baseline.flv", true))
    }

    /// The same with a keyframe every two seconds only: its others are made ordinary pictures.
    pub fn rare_keyframes() -> &'static Self {
        static CLIP: OnceLock<Clip> = OnceLock::new();
        CLIP.get_or_init(|| {
            let first = Self::baseline();
            let mut tags = first.tags.clone();
            let is_later_key = |tag: &&mut Tag| {
                let is_key = tag.kind == TagKind::Video && tag.payload[0] == KEY_TAG;
                is_key && tag.timestamp_ms >= first.round_ms / 4
            };
            for tag in tags.iter_mut().filter(is_later_key) {
                tag.payload = without_idr(&tag.payload);
            }
            let begin_before = tags.len();
            Self::of("rare", first.heads.clone(), tags, true, begin_before)
        })
    }

    /// With B-frames, and 44.1 kHz mono.
    pub fn reordered() -> &'static Self {
        static CLIP: OnceLock<Clip> = OnceLock::new();
        CLIP.get_or_init(|| Self::read("high-b-frames.flv", false))
    }

    /// Without B-frames, then with, and so on.
    pub fn turning() -> &'static Self {
        static CLIP: OnceLock<Clip> = OnceLock::new();
        CLIP.get_or_init(|| {
            let (first, second) = (Self::baseline(), Self::reordered());
            let mut tags = first.tags.clone();
            let begin_before = tags.len();
            let later = |tag: &Tag| Tag {
                timestamp_ms: tag.timestamp_ms + first.round_ms,
                ..tag.clone()
            };
            let is = |kind: TagKind| move |tag: &&Tag| tag.kind == kind;
            let head = second.heads.iter().filter(is(TagKind::Video));
            let pictures = second.tags.iter().filter(is(TagKind::Video));
            let sounds = first.tags.iter().filter(is(TagKind::Audio));
            tags.extend(head.chain(pictures).chain(sounds).map(later));
            tags.sort_by_key(|tag| tag.timestamp_ms);
            Self::of("turning", first.heads.clone(), tags, false, begin_before)
        })
    }

    /// Without B-frames, the second half as VP9, of which the server parses next to nothing and keeps
    /// nothing, and so on. The encoder of the simulation finds the pictures in it all the same.
    pub fn changing_codec() -> &'static Self {
        static CLIP: OnceLock<Clip> = OnceLock::new();
        CLIP.get_or_init(|| {
            let first = Self::baseline();
            let mut tags = first.tags.clone();
            let is_later_key = |tag: &Tag| {
                let is_key = tag.kind == TagKind::Video && tag.payload[0] == KEY_TAG;
                is_key && tag.timestamp_ms >= first.round_ms / 3
            };
            let begin = tags.iter().position(is_later_key).unwrap();
            let is_video = |tag: &&mut Tag| tag.kind == TagKind::Video;
            for tag in tags[begin..].iter_mut().filter(is_video) {
                tag.payload = as_vp9(&tag.payload);
            }
            Self::of("changing", first.heads.clone(), tags, false, begin)
        })
    }

    fn read(name: &str, in_order: bool) -> Self {
        let is_head = |tag: &Tag| tag.payload.get(1) == Some(&0);
        let is_media = |tag: &Tag| matches!(tag.kind, TagKind::Audio | TagKind::Video);
        let all = kit::clip::clip(name).into_iter().filter(is_media);
        let (heads, tags): (Vec<Tag>, Vec<Tag>) = all.partition(is_head);
        let begin_before = tags.len();
        let clip = Self::of(name, heads, tags, in_order, begin_before);
        assert!(
            clip.heads.len() == 2 && clip.pictures.len() == 60,
            "{name} is another clip"
        );
        clip
    }

    fn of(
        name: &str,
        heads: Vec<Tag>,
        tags: Vec<Tag>,
        in_order: bool,
        begin_before: usize,
    ) -> Self {
        let last = tags.iter().map(|tag| tag.timestamp_ms).max().unwrap();
        let videos = tags.iter().filter(|tag| tag.kind == TagKind::Video);
        // The last one says the end of the sequence and has no picture.
        let shown: Vec<(u32, u64)> = videos
            .filter(|tag| is_picture(&tag.payload))
            .map(|tag| {
                let shown_ms = tag.timestamp_ms + composition_time_ms(&tag.payload);
                (shown_ms, fingerprint(access_unit(&tag.payload)))
            })
            .collect();
        let mut in_order_of_showing = shown;
        in_order_of_showing.sort_unstable();
        let mut pictures = BTreeMap::new();
        for (place, (shown_ms, fingerprint)) in in_order_of_showing.into_iter().enumerate() {
            let before = pictures.insert(fingerprint, (place, shown_ms));
            assert!(before.is_none(), "two pictures of {name} are the same");
        }
        Self {
            heads,
            tags,
            round_ms: last + 33,
            in_order,
            begin_before,
            pictures,
        }
    }

    /// Number of pictures.
    pub fn picture_count(&self) -> usize {
        self.pictures.len()
    }

    /// Place and timestamp of a picture; `None` if the clip does not have it.
    pub fn place(&self, picture: &Picture) -> Option<(usize, u32)> {
        self.pictures.get(&picture.fingerprint).copied()
    }
}

/// Takes a picture in Annex B form apart.
pub fn picture(annex_b: &[u8]) -> Picture {
    let units = || annex_b_units(annex_b);
    let has = |kind: u8| units().any(|unit| kind_of(unit) == kind);
    let idr = has(IDR);
    let complete = idr && has(SPS) && has(PPS);
    Picture {
        complete,
        idr,
        fingerprint: fingerprint(units()),
    }
}

fn kind_of(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |first| first & 0x1f)
}

fn fingerprint<'a>(units: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for unit in units.filter(|unit| [SLICE, IDR].contains(&kind_of(unit))) {
        // Whoever makes a picture anew says where keyframes are.
        hasher.write(&unit[1..]);
    }
    hasher.finish()
}

/// Whether a video tag's body has a picture.
fn is_picture(body: &Bytes) -> bool {
    body.get(1) == Some(&1) || is_vp9(body)
}

/// Whether a video tag's body is one of [`as_vp9`].
fn is_vp9(body: &Bytes) -> bool {
    body.get(1..VIDEO_HEADER_BYTES) == Some(VP9)
}

/// A picture's tag as if it were VP9 (Enhanced RTMP v2: `PacketTypeCodedFrames`); its header happens to
/// be as long.
fn as_vp9(body: &Bytes) -> Bytes {
    if !is_picture(body) {
        return body.clone();
    }
    let first = if body[0] == KEY_TAG {
        VP9_KEY_TAG
    } else {
        VP9_DELTA_TAG
    };
    let mut made = vec![first];
    made.extend(VP9);
    made.extend(&body[VIDEO_HEADER_BYTES..]);
    made.into()
}

/// A keyframe's tag as that of an ordinary picture.
fn without_idr(body: &Bytes) -> Bytes {
    let mut made = vec![DELTA_TAG];
    made.extend(&body[1..VIDEO_HEADER_BYTES]);
    for unit in access_unit(body) {
        let (&header, rest) = unit.split_first().unwrap();
        let kind = if kind_of(unit) == IDR {
            SLICE
        } else {
            kind_of(unit)
        };
        made.extend(u32::try_from(unit.len()).unwrap().to_be_bytes());
        made.push((header & 0xe0) | kind);
        made.extend(rest);
    }
    made.into()
}

/// What a video tag's body says of how long after its time it is shown (FLV annex E.4.3.1).
fn composition_time_ms(body: &Bytes) -> u32 {
    if is_vp9(body) {
        return 0;
    }
    u32::from_be_bytes([0, body[2], body[3], body[4]])
}

/// NAL units of a video tag's body.
fn access_unit(body: &Bytes) -> impl Iterator<Item = &[u8]> {
    let mut rest = &body[VIDEO_HEADER_BYTES..];
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
        let (unit, after) = after.split_at(length);
        rest = after;
        Some(unit)
    })
}

/// NAL units of a byte stream (H.264 annex B).
fn annex_b_units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    let start = |bytes: &[u8]| bytes.windows(3).position(|window| window == [0, 0, 1]);
    std::iter::from_fn(move || {
        let begin = start(rest)? + 3;
        let after = &rest[begin..];
        let (end, is_last) = start(after).map_or((after.len(), true), |end| (end, false));
        let unit = &after[..end];
        rest = &after[end..];
        // The zero byte of the next long start code.
        Some(if is_last {
            unit
        } else {
            unit.strip_suffix(&[0]).unwrap_or(unit)
        })
    })
}
