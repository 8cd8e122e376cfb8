//! RTCP: the reports we send, the feedback that players send.
//!
//! RFC 3550 §6 (SR, RR, SDES, BYE), RFC 4585 §6 (NACK, PLI), RFC 5104 §4.3.1 (FIR), RFC 5506
//! (feedback without a report before it), draft-alvestrand-rmcat-remb-03 §2.2 (REMB).

mod read;
#[cfg(test)]
mod tests;

pub use self::read::{
    ITEMS_MAX, NACK_SEQUENCES_MAX, NackSequences, RtcpError, RtcpItem, RtcpItems, parse,
};

use std::time::Duration;

/// Most report blocks or sources in one packet: 5 bits.
const COUNT_MAX: usize = 31;
/// Longest text of a source description item: its length is one byte (RFC 3550 §6.5).
const CNAME_BYTES_MAX: usize = 255;
/// Version 2, no padding.
const VERSION: u8 = 0x80;
const COUNT: u8 = 0x1f;
/// Packet types (RFC 3550 §12.1, RFC 4585 §6.1).
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
/// Feedback message types.
const FEEDBACK_NACK: u8 = 1;
const FEEDBACK_PLI: u8 = 1;
const FEEDBACK_FIR: u8 = 4;
/// Item type of a canonical name (RFC 3550 §6.5.1).
const ITEM_CNAME: u8 = 1;
/// Seconds from 1900, where NTP begins, to 1970.
const NTP_UNIX_SECONDS: u64 = 2_208_988_800;

/// A point in time as RTCP says it: seconds since 1900 in 32.32 fixed point (RFC 3550 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// From the time since 1970. Wraps in 2036 as NTP does.
    #[must_use]
    pub fn from_unix(since_1970: Duration) -> Self {
        let seconds = since_1970.as_secs().wrapping_add(NTP_UNIX_SECONDS) << 32;
        let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
        Self(seconds | fraction)
    }

    /// The middle 32 bits: what a receiver report says back as `lsr`.
    #[must_use]
    pub fn middle(self) -> u32 {
        u32::try_from((self.0 >> 16) & 0xffff_ffff).unwrap_or(0)
    }
}

/// The round trip time that a report block shows (RFC 3550 §6.4.1): `now` less the last sender
/// report's time `lsr` less the delay `dlsr`, both in 1/65,536 s. `None` if the peer had no
/// sender report yet, or if the result is negative by more than rounding.
#[must_use]
pub fn round_trip(now: NtpTime, lsr: u32, dlsr: u32) -> Option<Duration> {
    /// Half of the range, where a difference becomes negative.
    const NEGATIVE: u32 = 0x8000_0000;
    /// Clocks and their rounding may disagree by so much: 10 ms.
    const ROUNDING: u32 = 655;
    if lsr == 0 {
        return None;
    }
    let units = now.middle().wrapping_sub(lsr).wrapping_sub(dlsr);
    if units < NEGATIVE {
        let nanoseconds = (u64::from(units) * 1_000_000_000) >> 16;
        Some(Duration::from_nanos(nanoseconds))
    } else {
        (units.wrapping_neg() <= ROUNDING).then_some(Duration::ZERO)
    }
}

/// What a sender says about one of its sources (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The source.
    pub ssrc: u32,
    /// When the report is sent.
    pub ntp: NtpTime,
    /// The same moment on the source's RTP clock.
    pub rtp_timestamp: u32,
    /// Packets sent so far; wraps.
    pub packets: u32,
    /// Payload bytes sent so far; wraps.
    pub bytes: u32,
}

/// Appends a compound packet: a sender report for each source, and one source description that
/// gives all of them `cname`, so that a player keeps them in sync. Takes 31 sources at most.
pub fn write_sender_reports(out: &mut Vec<u8>, reports: &[SenderReport], cname: &str) {
    let reports = reports.get(..COUNT_MAX).unwrap_or(reports);
    for report in reports {
        write_packet(out, SENDER_REPORT, 0, |out| {
            out.extend_from_slice(&report.ssrc.to_be_bytes());
            out.extend_from_slice(&report.ntp.0.to_be_bytes());
            out.extend_from_slice(&report.rtp_timestamp.to_be_bytes());
            out.extend_from_slice(&report.packets.to_be_bytes());
            out.extend_from_slice(&report.bytes.to_be_bytes());
        });
    }
    write_source_description(out, reports.iter().map(|report| report.ssrc), cname);
}

/// Appends a compound packet that says goodbye for `ssrcs`: an empty receiver report, which
/// RFC 3550 §6.1 wants first, a source description and the BYE. Takes 31 sources at most.
pub fn write_goodbye(out: &mut Vec<u8>, ssrcs: &[u32], cname: &str) {
    let ssrcs = ssrcs.get(..COUNT_MAX).unwrap_or(ssrcs);
    let Some(&first) = ssrcs.first() else {
        return;
    };
    write_receiver_report(out, first, &[]);
    write_source_description(out, ssrcs.iter().copied(), cname);
    write_packet(out, GOODBYE, count(ssrcs.len()), |out| {
        for ssrc in ssrcs {
            out.extend_from_slice(&ssrc.to_be_bytes());
        }
    });
}

/// What a receiver says about one source (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost so far; negative with duplicates. 24 bits.
    pub lost: i32,
    /// Highest sequence number received, with its rollovers in the upper 16 bits.
    pub highest_seq: u32,
    /// Interarrival jitter, in ticks of the source's clock.
    pub jitter: u32,
    /// Middle of the last sender report's NTP time; 0 if there was none.
    pub lsr: u32,
    /// Time since that report arrived, in 1/65,536 s.
    pub dlsr: u32,
}

/// Appends a receiver report, for players. Takes 31 blocks at most.
pub fn write_receiver_report(out: &mut Vec<u8>, sender: u32, blocks: &[ReportBlock]) {
    let blocks = blocks.get(..COUNT_MAX).unwrap_or(blocks);
    write_packet(out, RECEIVER_REPORT, count(blocks.len()), |out| {
        out.extend_from_slice(&sender.to_be_bytes());
        for block in blocks {
            let [_, lost @ ..] = block.lost.to_be_bytes();
            out.extend_from_slice(&block.ssrc.to_be_bytes());
            out.push(block.fraction_lost);
            out.extend_from_slice(&lost);
            out.extend_from_slice(&block.highest_seq.to_be_bytes());
            out.extend_from_slice(&block.jitter.to_be_bytes());
            out.extend_from_slice(&block.lsr.to_be_bytes());
            out.extend_from_slice(&block.dlsr.to_be_bytes());
        }
    });
}

/// Appends a NACK for packets of `media` (RFC 4585 §6.2.1), for players. `sequences` should
/// rise, so that 17 neighbours share one entry.
pub fn write_nack(out: &mut Vec<u8>, sender: u32, media: u32, sequences: &[u16]) {
    write_packet(out, TRANSPORT_FEEDBACK, FEEDBACK_NACK, |out| {
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&media.to_be_bytes());
        let mut rest = sequences;
        while let Some((&first, after)) = rest.split_first() {
            let mut following = 0_u16;
            rest = after;
            while let Some((&next, after)) = rest.split_first() {
                let distance = next.wrapping_sub(first);
                if !(1..=16).contains(&distance) {
                    break;
                }
                following |= 1 << (distance - 1);
                rest = after;
            }
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&following.to_be_bytes());
        }
    });
}

/// Appends a picture loss indication (RFC 4585 §6.3.1), for players.
pub fn write_pli(out: &mut Vec<u8>, sender: u32, media: u32) {
    write_packet(out, PAYLOAD_FEEDBACK, FEEDBACK_PLI, |out| {
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&media.to_be_bytes());
    });
}

/// Appends a full intra request (RFC 5104 §4.3.1), for players. `number` counts requests.
pub fn write_fir(out: &mut Vec<u8>, sender: u32, media: u32, number: u8) {
    write_packet(out, PAYLOAD_FEEDBACK, FEEDBACK_FIR, |out| {
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&0_u32.to_be_bytes());
        out.extend_from_slice(&media.to_be_bytes());
        out.extend_from_slice(&[number, 0, 0, 0]);
    });
}

fn write_source_description(out: &mut Vec<u8>, ssrcs: impl Iterator<Item = u32>, cname: &str) {
    let start = out.len();
    let mut sources = 0;
    let cname = cname.as_bytes();
    let cname = cname.get(..CNAME_BYTES_MAX).unwrap_or(cname);
    write_packet(out, SOURCE_DESCRIPTION, 0, |out| {
        for ssrc in ssrcs.take(COUNT_MAX) {
            sources += 1;
            out.extend_from_slice(&ssrc.to_be_bytes());
            out.extend_from_slice(&[ITEM_CNAME, u8::try_from(cname.len()).unwrap_or(0)]);
            out.extend_from_slice(cname);
            // The list ends with a zero, filled up to a whole word (RFC 3550 §6.5).
            let item_bytes = 2_usize.saturating_add(cname.len());
            let zeros = 4_usize.saturating_sub(item_bytes % 4);
            out.extend_from_slice([0; 4].get(..zeros).unwrap_or_default());
        }
    });
    if let Some(first) = out.get_mut(start) {
        *first |= count(sources);
    }
}

/// Appends one packet: its header, what `body` writes (whole words), and then its length.
fn write_packet(
    out: &mut Vec<u8>,
    packet_type: u8,
    count_or_format: u8,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[VERSION | (count_or_format & COUNT), packet_type, 0, 0]);
    body(out);
    let words = out.len().saturating_sub(start) / 4;
    let length = u16::try_from(words.saturating_sub(1)).unwrap_or(u16::MAX);
    let place = out.get_mut(start..).and_then(|packet| packet.get_mut(2..4));
    if let Some(place) = place {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

fn count(items: usize) -> u8 {
    u8::try_from(items.min(COUNT_MAX)).unwrap_or(0)
}
