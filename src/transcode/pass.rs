//! Opus that passes as it is published, with timestamps by its packets' own durations: those of
//! RTMP are whole milliseconds, and a browser takes a step in them for a loss.
//!
//! Packets cannot be made longer or shorter. So drift between the publisher's clock and ours is
//! undone by a whole packet: one too many is left out, one too few is a hole, which the browser
//! conceals as it does a loss. At 50 ppm that is once in seven minutes.

use bytes::Bytes;

use super::OpusPacket;
use super::opus_packet::{Head, packet_samples};
use super::packetizer::samples_time;
use super::timeline::{Placement, SilenceBudget, Timeline};
use crate::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::time::{AUDIO_CLOCK_RATE, MediaTime};

/// Durations that pass, in samples of 48 kHz: 10 to 60 ms. Shorter ones would cost each viewer
/// more packets than a picture has; longer ones more delay than a re-encoding.
const SAMPLES: std::ops::RangeInclusive<u64> = 480..=2_880;
/// Lasting distance from the timestamps at which a short packet is left out or missed: with the
/// jitter it stays below the 45 ms of early sound that people notice (ITU-R BT.1359-1).
const SKEW_MAX: MediaTime = MediaTime::from_millis(20);

/// The same for a packet of any duration. One of more than twice [`SKEW_MAX`] would take the sound beyond
/// it on the other side, from where it would be brought back, and so on. So more than half of the packet
/// is waited for, though less than the 40 ms that are taken for a gap: 36 ms with the longest.
fn skew_max(duration: MediaTime) -> MediaTime {
    let part = MediaTime::from_micros(duration.as_micros() * 3 / 5);
    part.max(SKEW_MAX)
}

/// Gives a stream's packets their times.
pub(super) struct Passer {
    timeline: Option<Timeline>,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// It goes to the viewers.
    Packet(OpusPacket),
    /// The same, after time in which nothing came, as in discontinuous transmission.
    AfterGap(OpusPacket),
    /// The same, on a new timeline.
    AfterJump(OpusPacket),
    /// It is left out: its time has been.
    LeftOut,
    /// It is not Opus.
    Broken,
    /// It is no packet for browsers: the stream has to be decoded and encoded anew.
    Unfit,
}

impl Passer {
    /// For a stream with this identification header; `None` if it needs to be encoded anew: it
    /// has more than two channels, or is to be amplified.
    pub(super) fn new(head: Option<&[u8]>) -> Option<Self> {
        let head = Head::parse_or_default(head).ok()?;
        let fits = head.streams.is_none() && head.gain == 0;
        fits.then_some(Self { timeline: None })
    }

    /// The first packet follows on sound that ended at `time`.
    pub(super) fn begin_at(&mut self, time: MediaTime) {
        self.timeline = Some(Timeline::new(time, SilenceBudget::default()));
    }

    /// Where the sound so far ends, if there was any.
    pub(super) fn end(&self) -> Option<MediaTime> {
        self.timeline.as_ref().map(Timeline::end)
    }

    /// How far the sound is behind its timestamps.
    pub(super) fn skew(&self) -> MediaTime {
        self.timeline
            .as_ref()
            .map_or(MediaTime::ZERO, Timeline::skew)
    }

    /// Takes a packet.
    pub(super) fn push(&mut self, packet: &[u8], pts: MediaTime) -> Passed {
        let Some(samples) = packet_samples(packet) else {
            return Passed::Broken;
        };
        if !SAMPLES.contains(&samples) || packet.len() > RTP_PAYLOAD_BYTES_MAX {
            return Passed::Unfit;
        }
        let Some(timeline) = &mut self.timeline else {
            return Passed::Packet(self.begin(packet, samples, pts));
        };
        let distance = pts.minus(timeline.end());
        match timeline.place(distance) {
            Placement::Continues => {}
            // Nothing has to be made for a gap, so any length will do.
            Placement::Cut | Placement::Jump if distance > MediaTime::ZERO => {
                return Passed::AfterGap(self.begin(packet, samples, pts));
            }
            Placement::Cut => return Passed::LeftOut,
            Placement::Jump => return Passed::AfterJump(self.begin(packet, samples, pts)),
        }
        let duration = samples_time(samples, AUDIO_CLOCK_RATE);
        timeline.observe(distance, duration);
        let (skew, skew_max) = (timeline.skew(), skew_max(duration));
        if skew > skew_max {
            timeline.advance(samples);
            timeline.shifted(duration);
        } else if skew < MediaTime::ZERO.minus(skew_max) {
            timeline.shifted(MediaTime::ZERO.minus(duration));
            return Passed::LeftOut;
        }
        let pts = timeline.end();
        timeline.advance(samples);
        Passed::Packet(OpusPacket {
            pts,
            data: Bytes::copy_from_slice(packet),
        })
    }

    fn begin(&mut self, packet: &[u8], samples: u64, pts: MediaTime) -> OpusPacket {
        let mut timeline = Timeline::new(pts, SilenceBudget::default());
        timeline.advance(samples);
        self.timeline = Some(timeline);
        OpusPacket {
            pts,
            data: Bytes::copy_from_slice(packet),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CELT, 20 ms, stereo (RFC 6716 table 2: configuration 31).
    const PACKET: [u8; 3] = [0xfc, 0xff, 0xfe];

    fn at(passer: &mut Passer, micros: i64) -> Passed {
        passer.push(&PACKET, MediaTime::from_micros(micros))
    }

    fn passer() -> Passer {
        Passer::new(None).unwrap()
    }

    #[test]
    fn times_follow_from_durations_and_not_from_rounded_timestamps() {
        let mut passer = passer();
        for index in 0..500_i64 {
            // Whole milliseconds, with jitter.
            let said = index * 20_000 + (index * 7_919 % 31 - 15) * 1_000;
            let first = -15_000;
            let Passed::Packet(packet) = at(&mut passer, said) else {
                panic!("packet {index} did not pass");
            };
            assert_eq!(packet.pts.as_micros(), first + index * 20_000);
            assert_eq!(&packet.data[..], PACKET);
        }
    }

    #[test]
    fn discontinuous_transmission_makes_no_packets() {
        let mut passer = passer();
        at(&mut passer, 0);
        let after = at(&mut passer, 400_000);
        assert!(
            matches!(&after, Passed::AfterGap(packet) if packet.pts.as_micros() == 400_000),
            "{after:?}"
        );
    }

    #[test]
    fn time_never_goes_back_a_little_but_begins_anew_far_back() {
        let mut passer = passer();
        for index in 0..10 {
            at(&mut passer, 2_000_000 + index * 20_000);
        }
        assert_eq!(at(&mut passer, 2_050_000), Passed::LeftOut);
        assert!(matches!(at(&mut passer, 2_200_000), Passed::Packet(_)));
        assert!(matches!(at(&mut passer, 0), Passed::AfterJump(_)));
    }

    /// Half an hour of a packet whose timestamps run fast or slow by `ppm`: how often a packet was left
    /// out or missed.
    fn corrections(packet: &[u8], millis: i64, ppm: i64) -> i64 {
        let mut passer = passer();
        let (mut corrections, mut end) = (0, 0);
        let duration = millis * 1_000;
        for index in 0..1_800_000 / millis {
            let said = index * (duration + duration * ppm / 1_000_000);
            match passer.push(packet, MediaTime::from_micros(said)) {
                Passed::Packet(packet) => {
                    let pts = packet.pts.as_micros();
                    assert!(pts >= end, "packets overlap");
                    assert!((pts - said).abs() < 40_000, "{ppm} ppm: {said} at {pts}");
                    corrections += (pts - end) / duration;
                    end = pts + duration;
                }
                Passed::LeftOut => corrections += 1,
                other @ (Passed::AfterGap(_)
                | Passed::AfterJump(_)
                | Passed::Broken
                | Passed::Unfit) => panic!("{millis} ms, {ppm} ppm: {other:?}"),
            }
        }
        corrections
    }

    #[test]
    fn drift_is_undone_by_a_packet_now_and_then() {
        // CELT of 10 ms, and one to three frames of 20 ms (RFC 6716 table 2 and §3.2).
        for (packet, millis) in [
            (&[0xf4, 0xff, 0xfe][..], 10),
            (&PACKET, 20),
            (&[0xfd, 0xff, 0xfe], 40),
            (&[0xff, 3, 0xff, 0xfe, 0xfd], 60),
        ] {
            for ppm in [200, -200] {
                // 360 ms in half an hour.
                let needed = 360 / millis;
                let made = corrections(packet, millis, ppm);
                assert!(
                    (needed - 2..=needed + 1).contains(&made),
                    "{millis} ms, {ppm} ppm: {made} instead of {needed}"
                );
            }
            assert_eq!(corrections(packet, millis, 0), 0);
        }
    }

    #[test]
    fn what_browsers_do_not_take_well_does_not_pass() {
        let mut passer = passer();
        assert_eq!(passer.push(&[], MediaTime::ZERO), Passed::Broken);
        // CELT, 2.5 ms; six frames of 20 ms; more than a datagram.
        assert_eq!(passer.push(&[0xe0, 0], MediaTime::ZERO), Passed::Unfit);
        assert_eq!(passer.push(&[0xff, 6, 0], MediaTime::ZERO), Passed::Unfit);
        let mut large = vec![0; RTP_PAYLOAD_BYTES_MAX + 1];
        large[0] = 0xfc;
        assert_eq!(passer.push(&large, MediaTime::ZERO), Passed::Unfit);
        let amplified = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\x00\x01\0";
        assert!(Passer::new(Some(amplified)).is_none());
    }
}
