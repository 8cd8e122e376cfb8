//! One track of one viewer: RTP headers, sealed packets, retransmissions, and what the sender
//! report says of it.
//!
//! RFC 3550 §5.1 and §6.4.1, RFC 4588 (RTX), RFC 6184 §5.1 (marker), and the playout delay
//! extension of WebRTC.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Instant;

use super::batch::SendBatch;
use super::codecs::{AudioFormat, VideoFormat};
use super::rtcp::{NtpTime, SenderReport};
use super::rtp::{HeaderExtensions, PlayoutDelay, RtpHeader};
use super::sequence::{Numbering, Place};
use super::srtp::{SrtpError, SrtpSender};
use crate::ids::IdSource;
use crate::media::frame::{FrameSet, TrackKind};
use crate::media::time::{AUDIO_CLOCK_RATE, MediaTime, Timebase, VIDEO_CLOCK_RATE, wrap_ticks};

/// First sequence numbers are below this (RFC 3711 §3.3.1).
const FIRST_SEQUENCE_MASK: u32 = 0x7fff;
/// What a packet has on the wire besides its payload, in bytes: IPv4, UDP, RTP with the playout
/// delay, the tag.
pub(super) const PACKET_OVERHEAD_BYTES: usize = 20 + 8 + 20 + 16;
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
    /// What a frame's packets have in common is made once.
    pub(super) fn send(
        &mut self,
        frame: &FrameSet,
        packets: Range<usize>,
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
        for packet in packets {
            let Some(payload) = frame.payload(packet) else {
                break;
            };
            header.renumber(place.sequence(), self.marker(frame, packet));
            batch.push(to, from, |out| {
                sender.seal_rtp(header.as_bytes(), self.ssrc, place.index, payload, out)
            })?;
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
#[expect(
    clippy::cast_possible_truncation,
    reason = "made-up bytes and small numbers"
)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::Epoch;
    use crate::media::frame::{FrameSetHead, Rendition};
    use crate::webrtc::rtp::RtpPacket;
    use crate::webrtc::srtp::{SrtpKeys, SrtpProfile, SrtpReceiver};

    const FORMAT: VideoFormat = VideoFormat {
        payload_type: 102,
        rtx_payload_type: Some(103),
        playout_delay_id: Some(5),
    };

    struct Sealed {
        track: Track,
        sender: SrtpSender,
        receiver: SrtpReceiver,
    }

    fn sealed(format: VideoFormat) -> Sealed {
        let profile = SrtpProfile::AeadAes256Gcm;
        let material: Vec<u8> = (0..profile.keying_material_bytes() as u8).collect();
        let keys = SrtpKeys::from_dtls(profile, &material).unwrap();
        let sources = Sources::new(&mut IdSource::seeded(4));
        Sealed {
            track: Track::video(format, &sources),
            sender: SrtpSender::new(&keys).unwrap(),
            receiver: SrtpReceiver::new_client(&keys).unwrap(),
        }
    }

    impl Sealed {
        fn datagrams(&mut self, frame: &FrameSet, again: bool) -> Vec<Vec<u8>> {
            let target = (SocketAddr::from(([192, 0, 2, 9], 9)), None);
            (0..frame.packet_count())
                .map(|packet| {
                    let mut batch = SendBatch::default();
                    let (track, sender) = (&mut self.track, &self.sender);
                    let bytes = if again {
                        track.resend(frame, packet, sender, target, &mut batch)
                    } else {
                        track.send(frame, packet..packet + 1, sender, target, &mut batch)
                    };
                    assert!(bytes.unwrap() > 0);
                    let (_, datagram) = batch.trains().next().unwrap();
                    datagram.to_vec()
                })
                .collect()
        }

        fn open(&mut self, datagram: &[u8]) -> Vec<u8> {
            let mut plain = Vec::new();
            self.receiver.open_rtp(datagram, &mut plain).unwrap();
            plain
        }
    }

    fn frame(number: u64) -> FrameSet {
        let head = FrameSetHead {
            track: TrackKind::Video,
            rendition: Rendition::of_number(number),
            safe: true,
            epoch: Epoch(0),
            number,
            first_sequence: number * 3,
            key: number == 0,
            disposable: false,
            pts: MediaTime::from_millis(40 * number as i64),
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            received: Instant::now(),
        };
        let payloads = (0..30).map(|i: u8| i.wrapping_add(number as u8)).collect();
        FrameSet::new(head, payloads, vec![10, 20, 30]).unwrap()
    }

    /// A burst of three frames, two live ones, one skipped, and letting go in between.
    fn play(sealed: &mut Sealed) -> Vec<(FrameSet, Vec<Vec<u8>>)> {
        sealed.track.begin_burst(&frame(0), &frame(2));
        [0, 1, 2, 3, 5, 6]
            .into_iter()
            .map(|number| {
                if number == 3 {
                    sealed.track.relax();
                }
                let frame = frame(number);
                let datagrams = sealed.datagrams(&frame, false);
                (frame, datagrams)
            })
            .collect()
    }

    #[test]
    fn packet_without_a_source_of_retransmissions_is_sent_again_bit_by_bit() {
        let mut sealed = sealed(VideoFormat {
            rtx_payload_type: None,
            ..FORMAT
        });
        for (frame, first) in play(&mut sealed) {
            assert_eq!(
                sealed.datagrams(&frame, true),
                first,
                "frame {}",
                frame.number
            );
        }
    }

    #[test]
    fn retransmission_says_all_that_the_original_said_under_its_own_number() {
        let mut sealed = sealed(FORMAT);
        let mut last = None;
        for (frame, first) in play(&mut sealed) {
            let again = sealed.datagrams(&frame, true);
            for (first, again) in first.iter().zip(&again) {
                let (first, again) = (sealed.open(first), sealed.open(again));
                let first = RtpPacket::parse(&first).unwrap();
                let again = RtpPacket::parse(&again).unwrap();
                assert_eq!(again.rtx(), Some((first.header.sequence, first.payload)));
                assert_eq!(again.header.timestamp, first.header.timestamp);
                assert_eq!(again.header.marker, first.header.marker);
                assert_eq!(again.extension(5), first.extension(5));
                assert_eq!(again.header.payload_type, 103);
                assert_ne!(again.header.ssrc, first.header.ssrc);
                let next = last.map(|last: u16| last.wrapping_add(1));
                assert!(next.is_none_or(|next| next == again.header.sequence));
                last = Some(again.header.sequence);
            }
        }
    }

    #[test]
    fn packet_never_sent_is_not_sent_again() {
        let mut sealed = sealed(FORMAT);
        play(&mut sealed);
        let mut batch = SendBatch::default();
        let target = (SocketAddr::from(([192, 0, 2, 9], 9)), None);
        let (track, sender) = (&mut sealed.track, &sealed.sender);
        let skipped = track.resend(&frame(4), 0, sender, target, &mut batch);
        assert_eq!(skipped, Ok(0));
        assert!(batch.is_empty());
    }

    #[test]
    fn timestamps_are_true_after_half_a_day_without_a_picture() {
        // In 6.6 to 13.3 h, the low 32 bits of a timestamp pass more than half of their circle.
        const HOUR_FRAMES: u64 = 3_600 * 25;
        for hours in [1, 7, 10, 13, 14, 20, 30, 100] {
            let mut sealed = sealed(FORMAT);
            play(&mut sealed);
            let first = hours * HOUR_FRAMES;
            sealed.track.begin_burst(&frame(first), &frame(first + 2));
            for number in first..first + 600 {
                // Others cut in, as a jump to a newer keyframe does.
                if number == first + 300 {
                    let (key, newest) = (frame(number), frame(number + 1));
                    sealed.track.begin_burst(&key, &newest);
                }
                let datagrams = sealed.datagrams(&frame(number), false);
                let plain = sealed.open(&datagrams[0]);
                let packet = RtpPacket::parse(&plain).unwrap();
                let true_ticks = sealed.track.ticks(frame(number).pts);
                let behind = sealed
                    .track
                    .timestamp(true_ticks)
                    .wrapping_sub(packet.header.timestamp)
                    .cast_signed();
                let in_burst = number < first + 2 || number == first + 300;
                let allowed = if in_burst { -2 * 3_600..=0 } else { 0..=0 };
                assert!(
                    allowed.contains(&behind),
                    "after {hours} h, frame {}: {behind} ticks behind",
                    number - first
                );
            }
        }
    }

    #[test]
    fn report_counts_media_and_tells_the_time_of_the_frames() {
        let mut sealed = sealed(FORMAT);
        let frames = play(&mut sealed);
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let origin = Instant::now();
        let timebase = Timebase::new(origin, Duration::from_secs(1_700_000_000));
        let report = sealed
            .track
            .report(&timebase, origin + Duration::from_millis(240));
        assert_eq!((report.packets, report.bytes), (18, 180));
        let (last, datagrams) = frames.last().unwrap();
        assert_eq!(last.pts, MediaTime::from_millis(240));
        let plain = sealed.open(&datagrams[0]);
        let packet = RtpPacket::parse(&plain).unwrap();
        assert_eq!(report.rtp_timestamp, packet.header.timestamp);
        assert_eq!(report.ssrc, packet.header.ssrc);
    }
}
