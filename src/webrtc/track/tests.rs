//! One track's packets: numbers, timestamps, padding, and what is sent again.
#![expect(
    clippy::cast_possible_truncation,
    reason = "made-up bytes and small numbers"
)]

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
                    track.send(frame, packet..packet + 1, false, sender, target, &mut batch)
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
    let payloads = (0..30).map(|i: u8| i.wrapping_add(number as u8)).collect();
    FrameSet::new(head(number), payloads, vec![10, 20, 30]).unwrap()
}

fn head(number: u64) -> FrameSetHead {
    FrameSetHead {
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
    }
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

/// A frame of packets of these sizes, sent with room for one more datagram: the batch.
fn filled_up(sealed: &mut Sealed, sizes: &[u32]) -> SendBatch {
    let ends = sizes.iter().scan(0, |end, size| {
        *end += size;
        Some(*end)
    });
    let ends: Vec<u32> = ends.collect();
    let bytes = vec![9; *ends.last().unwrap() as usize];
    let frame = FrameSet::new(head(0), bytes, ends).unwrap();
    let target = (SocketAddr::from(([192, 0, 2, 9], 9)), None);
    let mut batch = SendBatch::default();
    let (track, sender) = (&mut sealed.track, &sealed.sender);
    track
        .send(&frame, 0..sizes.len(), true, sender, target, &mut batch)
        .unwrap();
    batch
        .push(target.0, None, |out| -> Result<(), SrtpError> {
            out.extend_from_slice(&[1; 40]);
            Ok(())
        })
        .unwrap();
    batch
}

#[test]
fn picture_is_filled_up_so_that_sound_leaves_in_its_train() {
    for (sizes, trains) in [
        (&[500, 500, 500][..], 1),
        (&[500, 500, 499], 1),
        (&[500, 500, 437], 1),
        (&[500, 500, 436], 2),
        (&[50, 500, 490], 2),
        (&[300], 1),
    ] {
        let mut sealed = sealed(FORMAT);
        let batch = filled_up(&mut sealed, sizes);
        assert_eq!(batch.len(), trains, "{sizes:?}");
        let datagrams: Vec<Vec<u8>> = batch
            .trains()
            .flat_map(|(train, bytes)| bytes.chunks(train.segment_bytes))
            .map(<[u8]>::to_vec)
            .collect();
        assert_eq!(datagrams.len(), sizes.len() + 1);
        for (datagram, &size) in datagrams.iter().zip(sizes) {
            let plain = sealed.open(datagram);
            let packet = RtpPacket::parse(&plain).unwrap();
            assert_eq!(packet.payload, vec![9; size as usize], "{sizes:?}");
        }
    }
}

#[test]
fn track_that_sends_again_bit_by_bit_is_not_filled_up() {
    let mut sealed = sealed(VideoFormat {
        rtx_payload_type: None,
        ..FORMAT
    });
    let batch = filled_up(&mut sealed, &[500, 500, 499]);
    assert_eq!(batch.len(), 2);
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
