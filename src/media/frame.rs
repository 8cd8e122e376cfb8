//! Frames: what ingest gives to a room ([`VideoFrame`], [`AudioFrame`]) and what a room gives to
//! its viewers ([`FrameSet`]).

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::codec::{TranscodeReason, TranscodeState};
use super::time::MediaTime;
use crate::ids::Epoch;

/// Which of a room's two tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrackKind {
    /// The picture.
    Video,
    /// The sound.
    Audio,
}

/// A version of a room's video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Rendition {
    /// As published.
    Source,
    /// What any browser decodes: 8-bit 4:2:0 progressive H.264 without reordering. The same as
    /// [`Self::Source`] while that is so already.
    #[default]
    Safe,
}

/// Set in the numbers of [`Rendition::Safe`] where it is made anew. A number says which rendition
/// it is of: a packet that is asked for again is never another one under the same number.
const SAFE_NUMBERS: u64 = 1 << 63;

impl Rendition {
    /// First frame number and first room sequence number of its frames in a publish. Those of one
    /// publish and rendition never meet those of another.
    #[must_use]
    pub fn first_number(self, epoch: Epoch) -> u64 {
        match self {
            Self::Source => epoch.first_number() & !SAFE_NUMBERS,
            Self::Safe => epoch.first_number() | SAFE_NUMBERS,
        }
    }

    /// The rendition whose frames and packets are numbered like this.
    #[must_use]
    pub fn of_number(number: u64) -> Self {
        if number & SAFE_NUMBERS == 0 {
            Self::Source
        } else {
            Self::Safe
        }
    }
}

/// Parameter sets that a decoder needs, each a NAL unit without start code or length
/// (14496-10 §7.3.2): every SPS, then every PPS, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParameterSets {
    /// The NAL units.
    pub nal_units: Vec<Bytes>,
}

/// One coded picture.
#[derive(Debug, Clone)]
pub struct VideoFrame {
    /// When it is shown, on the server's timeline.
    pub pts: MediaTime,
    /// When it is decoded; at most `pts` plus the stream's reordering.
    pub dts: MediaTime,
    /// Whether decoding may begin here (an IDR picture).
    pub key: bool,
    /// See [`CodedFrame::recovery`](crate::media::codec::CodedFrame::recovery).
    pub recovery: bool,
    /// Whether nothing refers to it (`nal_ref_idc` 0 in every slice) or to sets that it brings: may
    /// be left out.
    pub disposable: bool,
    /// For a keyframe, the sets in force; for another, those that changed before it, if any.
    pub parameter_sets: Option<Arc<ParameterSets>>,
    /// The message that held it.
    pub data: Bytes,
    /// Where in `data` the access unit as published begins, length prefixes and all.
    pub start: usize,
    /// Its NAL units in `data`, in decoding order, without length prefixes.
    pub nal_units: Vec<Range<usize>>,
    /// When its last byte was received.
    pub received: Instant,
}

/// One Opus packet.
#[derive(Debug, Clone)]
pub struct AudioFrame {
    /// When its first sample is heard, on the server's timeline.
    pub pts: MediaTime,
    /// The packet (RFC 6716 §3).
    pub data: Bytes,
    /// When the last byte it was made of was received.
    pub received: Instant,
}

/// A frame cut into RTP payloads, once per room, and shared by all of its viewers: payloads back
/// to back in one allocation.
#[derive(Debug)]
pub struct FrameSet {
    /// The track it belongs to.
    pub track: TrackKind,
    /// Which version of the video it is; of sound always [`Rendition::Source`].
    pub rendition: Rendition,
    /// Whether any browser decodes it, together with those before it from its keyframe on: such a
    /// frame of [`Rendition::Source`] is one of [`Rendition::Safe`] as well.
    pub safe: bool,
    /// The publish it belongs to.
    pub epoch: Epoch,
    /// Number of the frame in its room, track and rendition: [`Rendition::first_number`], then
    /// one more each.
    pub number: u64,
    /// Room sequence number of its first packet: [`Rendition::first_number`], then one per packet.
    pub first_sequence: u64,
    /// Whether a viewer may begin here (video: an IDR picture; audio: always).
    pub key: bool,
    /// Whether nothing refers to it.
    pub disposable: bool,
    /// When it is shown or heard.
    pub pts: MediaTime,
    /// When its last byte was received from the publisher.
    pub received: Instant,
    payloads: Box<[u8]>,
    ends: Box<[u32]>,
}

/// What a [`FrameSet`] is made from, but for its payloads.
#[derive(Debug, Clone, Copy)]
pub struct FrameSetHead {
    /// See [`FrameSet::track`].
    pub track: TrackKind,
    /// See [`FrameSet::rendition`].
    pub rendition: Rendition,
    /// See [`FrameSet::safe`].
    pub safe: bool,
    /// See [`FrameSet::epoch`].
    pub epoch: Epoch,
    /// See [`FrameSet::number`].
    pub number: u64,
    /// See [`FrameSet::first_sequence`].
    pub first_sequence: u64,
    /// See [`FrameSet::key`].
    pub key: bool,
    /// See [`FrameSet::disposable`].
    pub disposable: bool,
    /// See [`FrameSet::pts`].
    pub pts: MediaTime,
    /// See [`FrameSet::received`].
    pub received: Instant,
}

impl FrameSet {
    /// Puts a frame together: `ends[i]` is where payload `i` ends in `payloads`.
    ///
    /// Returns `None` unless there is at least one payload, none is empty, and the last ends
    /// where `payloads` does.
    #[must_use]
    pub fn new(head: FrameSetHead, payloads: Vec<u8>, ends: Vec<u32>) -> Option<Self> {
        let rising = ends.first().is_some_and(|&end| end > 0)
            && ends.iter().zip(ends.iter().skip(1)).all(|(a, b)| a < b);
        let complete = ends.last().and_then(|&end| usize::try_from(end).ok());
        if !rising || complete != Some(payloads.len()) {
            return None;
        }
        let FrameSetHead {
            track,
            rendition,
            safe,
            epoch,
            number,
            first_sequence,
            key,
            disposable,
            pts,
            received,
        } = head;
        Some(Self {
            track,
            rendition,
            safe,
            epoch,
            number,
            first_sequence,
            key,
            disposable,
            pts,
            received,
            payloads: payloads.into_boxed_slice(),
            ends: ends.into_boxed_slice(),
        })
    }

    /// How many packets the frame has; at least 1.
    #[must_use]
    pub fn packet_count(&self) -> usize {
        self.ends.len()
    }

    /// Payload of packet `index`, or `None` past the end.
    #[must_use]
    pub fn payload(&self, index: usize) -> Option<&[u8]> {
        let end = usize::try_from(*self.ends.get(index)?).ok()?;
        let start = match index.checked_sub(1) {
            Some(before) => usize::try_from(*self.ends.get(before)?).ok()?,
            None => 0,
        };
        self.payloads.get(start..end)
    }

    /// Payload bytes of the whole frame.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payloads.len()
    }

    /// Room sequence number after its last packet.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.first_sequence
            .saturating_add(self.packet_count() as u64)
    }

    /// Index of the packet with a room sequence number, if it is in this frame.
    #[must_use]
    pub fn packet_index(&self, sequence: u64) -> Option<usize> {
        let index = usize::try_from(sequence.checked_sub(self.first_sequence)?).ok()?;
        (index < self.packet_count()).then_some(index)
    }
}

/// One track of a publish, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackInfo {
    /// Picture or sound.
    pub kind: TrackKind,
    /// Its number (Enhanced RTMP v2, multitrack): 0 is the one that is played.
    pub number: u8,
    /// Its codec as users call it ("H.264 High", "AAC-LC").
    pub codec: String,
    /// Width and height of its picture in pixels, cropped.
    pub size: Option<(u32, u32)>,
    /// Pictures in 1,000 seconds, as announced.
    pub frames_per_1000_s: Option<u32>,
    /// Samples a second of its sound.
    pub sample_rate: Option<u32>,
    /// Channels of its sound.
    pub channels: Option<u8>,
}

impl TrackInfo {
    /// A track of which nothing is known but its codec.
    #[must_use]
    pub fn new(kind: TrackKind, number: u8, codec: String) -> Self {
        Self {
            kind,
            number,
            codec,
            size: None,
            frames_per_1000_s: None,
            sample_rate: None,
            channels: None,
        }
    }
}

/// What is known of a room's publish, for those who join and those who look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamInfo {
    /// `profile_idc`, constraint flags and `level_idc` of the SPS (RFC 6184 §8.1,
    /// `profile-level-id`), if there is H.264 video.
    pub profile_level_id: Option<[u8; 3]>,
    /// Width and height in pixels, cropped.
    pub size: Option<(u32, u32)>,
    /// Whether pictures are shown in another order than they are sent.
    pub reordering: bool,
    /// Why browsers cannot play the video as published, if so (as far as is known).
    pub transcode: Option<TranscodeReason>,
    /// Video codec as users call it ("H.264 High"), if there is video.
    pub video: Option<String>,
    /// Audio codec as users call it ("AAC-LC 48 kHz stereo"), if there is audio.
    pub audio: Option<String>,
    /// What becomes of video that browsers cannot play.
    pub transcoding: TranscodeState,
    /// The publish's tracks: the one video and one audio that are played, and at most 16 others.
    pub tracks: Vec<TrackInfo>,
    /// What the publisher should change, in plain words.
    pub advice: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(first_sequence: u64) -> FrameSetHead {
        FrameSetHead {
            track: TrackKind::Video,
            rendition: Rendition::Source,
            safe: true,
            epoch: Epoch(1),
            number: 3,
            first_sequence,
            key: false,
            disposable: false,
            pts: MediaTime::ZERO,
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            received: Instant::now(),
        }
    }

    #[test]
    fn payloads_come_back_as_they_went_in() {
        let set = FrameSet::new(head(10), b"abcdef".to_vec(), vec![3, 4, 6]).unwrap();
        assert_eq!(set.payload(0), Some(&b"abc"[..]));
        assert_eq!(set.payload(1), Some(&b"d"[..]));
        assert_eq!(set.payload(2), Some(&b"ef"[..]));
        assert_eq!(set.payload(3), None);
        assert_eq!(set.next_sequence(), 13);
        assert_eq!(set.packet_index(12), Some(2));
        assert_eq!(set.packet_index(13), None);
        assert_eq!(set.packet_index(9), None);
    }

    #[test]
    fn a_number_says_its_rendition() {
        for epoch in [0, 1, 7_000_000, Epoch::LAST.0].map(Epoch) {
            for rendition in [Rendition::Source, Rendition::Safe] {
                let first = rendition.first_number(epoch);
                assert_eq!(Rendition::of_number(first), rendition);
                let last = first + u64::from(u32::MAX);
                assert_eq!(Rendition::of_number(last), rendition);
            }
        }
    }

    #[test]
    fn ends_that_do_not_fit_are_refused() {
        for (bytes, ends) in [
            (0, vec![]),
            (2, vec![0, 2]),
            (2, vec![1, 1, 2]),
            (2, vec![3]),
            (3, vec![1, 2]),
        ] {
            assert!(FrameSet::new(head(0), vec![0; bytes], ends).is_none());
        }
    }
}
