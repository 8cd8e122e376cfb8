//! One track of one viewer: RTP headers, sealed packets, retransmissions, and what the sender
//! report says of it.
//!
//! RFC 3550 §5.1 and §6.4.1, RFC 4588 (RTX), RFC 6184 §5.1 (marker), and the playout delay
//! extension of WebRTC.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Instant;

use super::batch::{SendBatch, TRAIN_SEGMENTS_MAX};
use super::codecs::{AudioFormat, VideoFormat};
use super::rtcp::{NtpTime, SenderReport};
use super::rtp::{HeaderExtensions, PlayoutDelay, RtpHeader};
use super::sequence::{Numbering, Place};
use super::srtp::{SrtpError, SrtpSender};
use crate::ids::IdSource;
use crate::limits::{IP_PACKET_BYTES_MAX, RTP_PAYLOAD_BYTES_MAX};
use crate::media::frame::{FrameSet, TrackKind};
use crate::media::time::{AUDIO_CLOCK_RATE, MediaTime, Timebase, VIDEO_CLOCK_RATE, wrap_ticks};

/// First sequence numbers are below this (RFC 3711 §3.3.1).
const FIRST_SEQUENCE_MASK: u32 = 0x7fff;
/// Padding that a frame's last packet gets at most, in bytes: fragments of one NAL unit differ by less
/// than their number, which a train holds.
const PADDING_BYTES_MAX: usize = TRAIN_SEGMENTS_MAX - 1;
/// What a packet has on the wire besides its payload, in bytes: IPv4, UDP, RTP with the playout
/// delay, the tag.
pub(super) const PACKET_OVERHEAD_BYTES: usize = 20 + 8 + 20 + 16;
/// What one has at most: IPv6 instead, the profile with the longest tag, and the original's number in a
/// retransmission (RFC 4588 §4).
const PACKET_OVERHEAD_BYTES_MAX: usize = 40 + 8 + 20 + 16 + 2;
/// While a viewer catches up: show every frame at once.
const DELAY_NONE: PlayoutDelay = PlayoutDelay {
    min_10ms: 0,
    max_10ms: 0,
};
/// Afterwards: as long as the network's jitter needs, at most 10 s.
const DELAY_FREE: PlayoutDelay = PlayoutDelay {
    min_10ms: 0,
    max_10ms: 1_000,
};

const _: () = assert!(
    RTP_PAYLOAD_BYTES_MAX + PACKET_OVERHEAD_BYTES_MAX <= IP_PACKET_BYTES_MAX,
    "the largest packet fits the narrowest way"
);

/// Where packets go, and the local address they leave from.
pub(super) type Target = (SocketAddr, Option<IpAddr>);

/// The source of a track's retransmissions.
#[derive(Debug)]
struct Rtx {
    ssrc: u32,
    payload_type: u8,
    /// Packet index of the next.
    next: u64,
}

/// A track that is sent to a viewer.
#[derive(Debug)]
pub(super) struct Track {
    kind: TrackKind,
    ssrc: u32,
    payload_type: u8,
    rtx: Option<Rtx>,
    playout_delay_id: Option<u8>,
    ticks_offset: u32,
    numbering: Numbering,
    /// For sender reports; they wrap (RFC 3550 §6.4.1).
    packets: u32,
    bytes: u32,
}

/// Where a source's numbers begin: random each (RFC 3550 §5.1).
#[derive(Debug, Clone, Copy)]
struct Origin {
    ssrc: u32,
    sequence: u16,
    ticks: u32,
}

/// The sources of a viewer, drawn before its SDP is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources {
    video: Origin,
    video_rtx: Origin,
    audio: Origin,
}

impl Sources {
    /// Draws three with different numbers, none 0.
    pub(super) fn new(ids: &mut IdSource) -> Self {
        let mut unlike = |others: &[u32]| {
            let mut ssrc = ids.next_u32();
            while ssrc == 0 || others.contains(&ssrc) {
                ssrc = ids.next_u32();
            }
            let sequence = u16::try_from(ids.next_u32() & FIRST_SEQUENCE_MASK);
            Origin {
                ssrc,
                sequence: sequence.unwrap_or_default(),
                ticks: ids.next_u32(),
            }
        };
        let video = unlike(&[]);
        let video_rtx = unlike(&[video.ssrc]);
        let audio = unlike(&[video.ssrc, video_rtx.ssrc]);
        Self {
            video,
            video_rtx,
            audio,
        }
    }

    /// Source of the video's retransmissions, if they get one.
    pub(super) fn video_rtx_ssrc(&self) -> u32 {
        self.video_rtx.ssrc
    }

    /// Source of a track's media.
    pub(super) fn ssrc(&self, kind: TrackKind) -> u32 {
        match kind {
            TrackKind::Video => self.video.ssrc,
            TrackKind::Audio => self.audio.ssrc,
        }
    }
}

impl Track {
    /// The video track in the negotiated format.
    pub(super) fn video(format: VideoFormat, sources: &Sources) -> Self {
        let rtx = format.rtx_payload_type.map(|payload_type| Rtx {
            ssrc: sources.video_rtx.ssrc,
            payload_type,
            next: u64::from(sources.video_rtx.sequence),
        });
        Self {
            rtx,
            playout_delay_id: format.playout_delay_id,
            ..Self::new(TrackKind::Video, sources.video, format.payload_type)
        }
    }

    /// The audio track in the negotiated format.
    pub(super) fn audio(format: AudioFormat, sources: &Sources) -> Self {
        Self::new(TrackKind::Audio, sources.audio, format.payload_type)
    }

    fn new(kind: TrackKind, origin: Origin, payload_type: u8) -> Self {
        Self {
            kind,
            ssrc: origin.ssrc,
            payload_type,
            rtx: None,
            playout_delay_id: None,
            ticks_offset: origin.ticks,
            numbering: Numbering::new(origin.sequence),
            packets: 0,
            bytes: 0,
        }
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Source of its retransmissions, if they have one.
    pub(super) fn rtx_ssrc(&self) -> Option<u32> {
        self.rtx.as_ref().map(|rtx| rtx.ssrc)
    }

    /// Whether a packet was sent.
    pub(super) fn started(&self) -> bool {
        self.numbering.started()
    }

    /// Room sequence number of the packet that the viewer knows as `sequence`.
    pub(super) fn room_sequence(&self, sequence: u16) -> Option<u64> {
        self.numbering.room_sequence(sequence)
    }

    /// Makes the frames from `first` to `newest` a burst.
    pub(super) fn begin_burst(&mut self, first: &FrameSet, newest: &FrameSet) {
        let ticks = self.ticks(newest.pts);
        self.numbering
            .begin_burst(first.number, newest.number, ticks);
    }

    /// Lets the player hold frames back from the next packet on.
    pub(super) fn relax(&mut self) {
        self.numbering.relax();
    }

    /// Seals the packets `packets` of `frame` into `batch`; their payload bytes.
    ///
    /// What a frame's packets have in common is made once. With `fill_up`, the frame's last packet gets
    /// padding if that makes it as long as the one before it, so that one more datagram can leave in the
    /// same train ([`SendBatch`]).
    pub(super) fn send(
        &mut self,
        frame: &FrameSet,
        packets: Range<usize>,
        fill_up: bool,
        sender: &SrtpSender,
        target: Target,
        batch: &mut SendBatch,
    ) -> Result<usize, SrtpError> {
        let end = packets.end.min(frame.packet_count());
        let packets = packets.start..end;
        if packets.is_empty() {
            return Ok(0);
        }
        let ticks = self.ticks(frame.pts);
        let count = packets.len();
        let mut place = self.numbering.place(frame, packets.start, count, ticks);
        let mut header = self
            .header(frame, packets.start, place)
            .write(&self.extensions(place));
        let (to, from) = target;
        let mut sent = 0_usize;
        let mut before_bytes = 0;
        for packet in packets {
            let Some(payload) = frame.payload(packet) else {
                break;
            };
            let marker = self.marker(frame, packet);
            header.renumber(place.sequence(), marker);
            let padding = match marker && fill_up {
                true => self.padding(before_bytes, payload.len()),
                false => 0,
            };
            header.set_padding(padding > 0);
            batch.push(to, from, |out| {
                let payload = (payload, padding);
                sender.seal_padded_rtp(header.as_bytes(), self.ssrc, place.index, payload, out)
            })?;
            before_bytes = payload.len();
            place.index = place.index.saturating_add(1);
            sent = sent.saturating_add(payload.len());
        }
        let count = u32::try_from(count).unwrap_or_default();
        self.packets = self.packets.wrapping_add(count);
        let bytes = u32::try_from(sent).unwrap_or_default();
        self.bytes = self.bytes.wrapping_add(bytes);
        Ok(sent)
    }

    /// Seals a packet that was sent before into `batch` again: from the source of
    /// retransmissions, or else as the very same packet, since AEAD forbids another one under
    /// its number. Its payload bytes, or 0 if it was never sent or is forgotten.
    pub(super) fn resend(
        &mut self,
        frame: &FrameSet,
        packet: usize,
        sender: &SrtpSender,
        target: Target,
        batch: &mut SendBatch,
    ) -> Result<usize, SrtpError> {
        let ticks = self.ticks(frame.pts);
        let place = self.numbering.placed(frame, packet, ticks);
        let (Some(payload), Some(place)) = (frame.payload(packet), place) else {
            return Ok(0);
        };
        let (to, from) = target;
        let extensions = self.extensions(place);
        let header = self.header(frame, packet, place);
        let Some(rtx) = &mut self.rtx else {
            let header = header.write(&extensions);
            batch.push(to, from, |out| {
                sender.seal_rtp(header.as_bytes(), self.ssrc, place.index, payload, out)
            })?;
            return Ok(payload.len());
        };
        let index = rtx.next;
        rtx.next = index.saturating_add(1);
        let again = RtpHeader {
            payload_type: rtx.payload_type,
            sequence: Place { index, ..place }.sequence(),
            ssrc: rtx.ssrc,
            ..header
        };
        let again = again.write(&extensions);
        batch.push(to, from, |out| {
            let original = place.sequence();
            sender.seal_rtx(again.as_bytes(), rtx.ssrc, index, original, payload, out)
        })?;
        Ok(payload.len())
    }

    /// The sender report of `now`.
    pub(super) fn report(&self, timebase: &Timebase, now: Instant) -> SenderReport {
        SenderReport {
            ssrc: self.ssrc,
            ntp: NtpTime(timebase.ntp(now)),
            rtp_timestamp: self.timestamp(self.ticks(timebase.media_time(now))),
            packets: self.packets,
            bytes: self.bytes,
        }
    }

    /// A time in ticks of the track's clock, which do not wrap: how far two pictures are apart is
    /// known however long nobody published in between.
    fn ticks(&self, time: MediaTime) -> i64 {
        time.ticks(match self.kind {
            TrackKind::Video => VIDEO_CLOCK_RATE,
            TrackKind::Audio => AUDIO_CLOCK_RATE,
        })
    }

    /// The timestamp on the wire: here, and nowhere before, ticks wrap.
    fn timestamp(&self, ticks: i64) -> u32 {
        wrap_ticks(ticks).wrapping_add(self.ticks_offset)
    }

    /// Whether a packet ends its picture (RFC 6184 §5.1).
    fn marker(&self, frame: &FrameSet, packet: usize) -> bool {
        self.kind == TrackKind::Video && packet.saturating_add(1) == frame.packet_count()
    }

    /// Padding that makes a packet as long as the one before it; 0 if that is not to be had. A track
    /// without a source of retransmissions gets none: it sends a packet again bit by bit, and what was
    /// padded is not kept.
    fn padding(&self, before_bytes: usize, bytes: usize) -> u8 {
        let lacks = before_bytes.saturating_sub(bytes);
        match self.rtx.is_some() && lacks <= PADDING_BYTES_MAX {
            true => u8::try_from(lacks).unwrap_or(0),
            false => 0,
        }
    }

    fn header(&self, frame: &FrameSet, packet: usize, place: Place) -> RtpHeader {
        RtpHeader {
            marker: self.marker(frame, packet),
            payload_type: self.payload_type,
            sequence: place.sequence(),
            timestamp: self.timestamp(place.ticks),
            ssrc: self.ssrc,
        }
    }

    fn extensions(&self, place: Place) -> HeaderExtensions {
        let mut extensions = HeaderExtensions::NONE;
        if let Some(id) = self.playout_delay_id {
            let delay = if place.relaxed {
                DELAY_FREE
            } else {
                DELAY_NONE
            };
            extensions.push_playout_delay(id, delay);
        }
        extensions
    }
}

#[cfg(test)]
mod tests;
