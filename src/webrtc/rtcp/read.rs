//! Reads a peer's RTCP, item by item, without copying (RFC 3550 §6, RFC 4585 §6).

use std::fmt;

use super::{
    COUNT, FEEDBACK_FIR, FEEDBACK_NACK, FEEDBACK_PLI, GOODBYE, NtpTime, PAYLOAD_FEEDBACK,
    RECEIVER_REPORT, SENDER_REPORT, SenderReport, TRANSPORT_FEEDBACK, VERSION,
};

/// Sequence numbers taken of one NACK: a viewer that lost more than a second of packets
/// needs a keyframe instead.
pub const NACK_SEQUENCES_MAX: usize = 512;
/// Items taken of one datagram; a legal one of 1,500 bytes has far fewer.
pub const ITEMS_MAX: usize = 64;

/// Common header, in bytes (RFC 3550 §6.4.1).
const HEADER_BYTES: usize = 4;
/// One report block, in bytes.
const BLOCK_BYTES: usize = 24;
/// The bit that says the body ends in padding.
const PADDING: u8 = 0x20;
/// Feedback message type of an application's own message (RFC 4585 §6.4).
const FEEDBACK_APPLICATION: u8 = 15;

/// What was wrong with a packet: always the peer's fault. What came before it is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtcpError {
    /// A packet ends before its header says it does, or before what it counts.
    Truncated,
    /// The version is not 2.
    Version,
    /// The padding is longer than the packet, or empty.
    Padding,
    /// More than [`ITEMS_MAX`] items.
    TooMany,
}

impl fmt::Display for RtcpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "RTCP packet ends too early",
            Self::Version => "RTCP packet of another version than 2",
            Self::Padding => "RTCP packet with impossible padding",
            Self::TooMany => "more RTCP items than one datagram may have",
        })
    }
}

impl std::error::Error for RtcpError {}

/// One thing that a peer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RtcpItem<'a> {
    /// How one of our sources arrives (a report block of an RR or SR).
    ReceiverReport {
        /// Our source.
        ssrc: u32,
        /// Lost since the last report, in 1/256.
        fraction_lost: u8,
        /// Lost so far; negative with duplicates.
        lost: i32,
        /// Highest sequence number received, with its rollovers in the upper 16 bits.
        highest_seq: u32,
        /// Interarrival jitter, in ticks of the source's clock.
        jitter: u32,
        /// Middle of the last sender report's NTP time; 0 if there was none.
        lsr: u32,
        /// Time since that report arrived, in 1/65,536 s.
        dlsr: u32,
    },
    /// What a sender says about a source of its own; viewers have none.
    SenderReport(SenderReport),
    /// Packets to send again (RFC 4585 §6.2.1).
    Nack {
        /// Our source.
        ssrc: u32,
        /// Their numbers, [`NACK_SEQUENCES_MAX`] at most.
        seqs: NackSequences<'a>,
    },
    /// A keyframe is needed (RFC 4585 §6.3.1).
    Pli {
        /// Our source.
        ssrc: u32,
    },
    /// A keyframe is needed (RFC 5104 §4.3.1).
    Fir {
        /// Our source.
        ssrc: u32,
    },
    /// How much the receiver believes it can take.
    Remb {
        /// In bits per second.
        bitrate_bps: u64,
    },
    /// A source of the peer is gone.
    Bye {
        /// The peer's source.
        ssrc: u32,
    },
    /// Something we do not use: a source description, an extended report, another feedback.
    Other {
        /// Its packet type.
        packet_type: u8,
    },
}

/// The sequence numbers of a NACK, in the order the peer said them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NackSequences<'a> {
    /// Whole entries of 4 bytes that are still to be read.
    entries: &'a [u8],
    /// The entry in hand: its first number, and a bit for each of this and the next 16.
    first: u16,
    pending: u32,
    left: usize,
}

impl<'a> NackSequences<'a> {
    fn new(entries: &'a [u8]) -> Self {
        Self {
            entries,
            first: 0,
            pending: 0,
            left: NACK_SEQUENCES_MAX,
        }
    }
}

impl Iterator for NackSequences<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        self.left = self.left.checked_sub(1)?;
        if self.pending == 0 {
            let (&[p0, p1, b0, b1], rest) = self.entries.split_first_chunk::<4>()?;
            self.entries = rest;
            self.first = u16::from_be_bytes([p0, p1]);
            self.pending = (u32::from(u16::from_be_bytes([b0, b1])) << 1) | 1;
        }
        let distance = self.pending.trailing_zeros();
        self.pending &= self.pending.wrapping_sub(1);
        Some(self.first.wrapping_add(u16::try_from(distance).ok()?))
    }
}

/// Reads a decrypted compound packet, item by item. Reading ends with the first error.
#[must_use]
pub fn parse(compound: &[u8]) -> RtcpItems<'_> {
    RtcpItems {
        rest: compound,
        packet: Packet::Done,
        left: ITEMS_MAX,
    }
}

/// The items of a compound packet. See [`parse`].
#[derive(Debug, Clone)]
pub struct RtcpItems<'a> {
    rest: &'a [u8],
    packet: Packet<'a>,
    left: usize,
}

/// The packet in hand, as far as it has more than one item.
#[derive(Debug, Clone)]
enum Packet<'a> {
    Done,
    /// Report blocks that are still to be read.
    Blocks(&'a [u8]),
    /// Sources that left.
    Gone(&'a [u8]),
    /// Entries of a full intra request, of 8 bytes each.
    Intra(&'a [u8]),
}

impl<'a> Iterator for RtcpItems<'a> {
    type Item = Result<RtcpItem<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.item();
        let failed = match &item {
            Ok(None) => return None,
            Ok(Some(_)) => self.left == 0,
            Err(_) => {
                self.rest = &[];
                self.packet = Packet::Done;
                return item.transpose();
            }
        };
        if failed {
            self.rest = &[];
            self.packet = Packet::Done;
            return Some(Err(RtcpError::TooMany));
        }
        self.left = self.left.saturating_sub(1);
        item.transpose()
    }
}

impl<'a> RtcpItems<'a> {
    fn item(&mut self) -> Result<Option<RtcpItem<'a>>, RtcpError> {
        loop {
            if let Some(item) = self.packet.next() {
                return Ok(Some(item));
            }
            if self.rest.is_empty() {
                return Ok(None);
            }
            let (head, body, rest) = split_packet(self.rest)?;
            self.rest = rest;
            if let Some(item) = self.begin(head, body)? {
                return Ok(Some(item));
            }
        }
    }

    /// Looks at a packet; its only item, or that of several which is not in a list.
    fn begin(&mut self, head: Head, body: &'a [u8]) -> Result<Option<RtcpItem<'a>>, RtcpError> {
        match head.packet_type {
            SENDER_REPORT => {
                let (report, blocks) = sender_report(body)?;
                self.packet = Packet::Blocks(counted(blocks, head.count, BLOCK_BYTES)?);
                Ok(Some(RtcpItem::SenderReport(report)))
            }
            RECEIVER_REPORT => {
                let (_, blocks) = body.split_first_chunk::<4>().ok_or(RtcpError::Truncated)?;
                self.packet = Packet::Blocks(counted(blocks, head.count, BLOCK_BYTES)?);
                Ok(None)
            }
            GOODBYE => {
                self.packet = Packet::Gone(counted(body, head.count, 4)?);
                Ok(None)
            }
            TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK => self.begin_feedback(head, body),
            packet_type => Ok(Some(RtcpItem::Other { packet_type })),
        }
    }

    fn begin_feedback(
        &mut self,
        head: Head,
        body: &'a [u8],
    ) -> Result<Option<RtcpItem<'a>>, RtcpError> {
        let (&[_, _, _, _, m0, m1, m2, m3], control) =
            body.split_first_chunk::<8>().ok_or(RtcpError::Truncated)?;
        let ssrc = u32::from_be_bytes([m0, m1, m2, m3]);
        let packet_type = head.packet_type;
        match (packet_type, head.count) {
            (TRANSPORT_FEEDBACK, FEEDBACK_NACK) => Ok(Some(RtcpItem::Nack {
                ssrc,
                seqs: NackSequences::new(control),
            })),
            (PAYLOAD_FEEDBACK, FEEDBACK_PLI) => Ok(Some(RtcpItem::Pli { ssrc })),
            (PAYLOAD_FEEDBACK, FEEDBACK_FIR) => {
                self.packet = Packet::Intra(control);
                Ok(None)
            }
            (PAYLOAD_FEEDBACK, FEEDBACK_APPLICATION) => Ok(Some(
                remb(control).unwrap_or(RtcpItem::Other { packet_type }),
            )),
            (_, _) => Ok(Some(RtcpItem::Other { packet_type })),
        }
    }
}

impl<'a> Packet<'a> {
    fn next(&mut self) -> Option<RtcpItem<'a>> {
        match self {
            Self::Done => None,
            Self::Blocks(rest) => {
                let (block, after) = rest.split_first_chunk::<BLOCK_BYTES>()?;
                *rest = after;
                Some(report_block(block))
            }
            Self::Gone(rest) => {
                let (ssrc, after) = rest.split_first_chunk::<4>()?;
                *rest = after;
                Some(RtcpItem::Bye {
                    ssrc: u32::from_be_bytes(*ssrc),
                })
            }
            Self::Intra(rest) => {
                let (&[s0, s1, s2, s3, _, _, _, _], after) = rest.split_first_chunk::<8>()?;
                *rest = after;
                Some(RtcpItem::Fir {
                    ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
                })
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Head {
    /// Number of blocks or sources, or the feedback message type.
    count: u8,
    packet_type: u8,
}

/// One packet of a compound: its header, its body without padding, and what follows.
fn split_packet(compound: &[u8]) -> Result<(Head, &[u8], &[u8]), RtcpError> {
    let (&[first, packet_type, l0, l1], after) = compound
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(RtcpError::Truncated)?;
    if first >> 6 != VERSION >> 6 {
        return Err(RtcpError::Version);
    }
    let body_bytes = usize::from(u16::from_be_bytes([l0, l1])).saturating_mul(4);
    let (body, rest) = after
        .split_at_checked(body_bytes)
        .ok_or(RtcpError::Truncated)?;
    let body = if first & PADDING == 0 {
        body
    } else {
        let padding = body.last().map_or(0, |count| usize::from(*count));
        let kept = body.len().checked_sub(padding).filter(|_| padding > 0);
        kept.and_then(|kept| body.get(..kept))
            .ok_or(RtcpError::Padding)?
    };
    let count = first & COUNT;
    Ok((Head { count, packet_type }, body, rest))
}

/// The first `count` items of `item_bytes` each.
fn counted(bytes: &[u8], count: u8, item_bytes: usize) -> Result<&[u8], RtcpError> {
    let wanted = usize::from(count).saturating_mul(item_bytes);
    bytes.get(..wanted).ok_or(RtcpError::Truncated)
}

fn sender_report(body: &[u8]) -> Result<(SenderReport, &[u8]), RtcpError> {
    let (ssrc, rest) = take_u32(body)?;
    let (ntp_seconds, rest) = take_u32(rest)?;
    let (ntp_fraction, rest) = take_u32(rest)?;
    let (rtp_timestamp, rest) = take_u32(rest)?;
    let (packets, rest) = take_u32(rest)?;
    let (bytes, blocks) = take_u32(rest)?;
    let ntp = NtpTime((u64::from(ntp_seconds) << 32) | u64::from(ntp_fraction));
    let report = SenderReport {
        ssrc,
        ntp,
        rtp_timestamp,
        packets,
        bytes,
    };
    Ok((report, blocks))
}

fn take_u32(bytes: &[u8]) -> Result<(u32, &[u8]), RtcpError> {
    let (word, rest) = bytes.split_first_chunk::<4>().ok_or(RtcpError::Truncated)?;
    Ok((u32::from_be_bytes(*word), rest))
}

fn report_block<'a>(block: &[u8; BLOCK_BYTES]) -> RtcpItem<'a> {
    let &[
        s0,
        s1,
        s2,
        s3,
        fraction_lost,
        l0,
        l1,
        l2,
        h0,
        h1,
        h2,
        h3,
        j0,
        j1,
        j2,
        j3,
        r0,
        r1,
        r2,
        r3,
        d0,
        d1,
        d2,
        d3,
    ] = block;
    RtcpItem::ReceiverReport {
        ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
        fraction_lost,
        // A shift to the right keeps the sign of the 24 bits.
        lost: i32::from_be_bytes([l0, l1, l2, 0]) >> 8,
        highest_seq: u32::from_be_bytes([h0, h1, h2, h3]),
        jitter: u32::from_be_bytes([j0, j1, j2, j3]),
        lsr: u32::from_be_bytes([r0, r1, r2, r3]),
        dlsr: u32::from_be_bytes([d0, d1, d2, d3]),
    }
}

/// A receiver estimated maximum bitrate: its name, the number of sources, then 6 bits of
/// exponent and 18 of mantissa.
fn remb<'a>(control: &[u8]) -> Option<RtcpItem<'a>> {
    let (name, rest) = control.split_first_chunk::<4>()?;
    let &[_, high, middle, low] = rest.first_chunk::<4>()?;
    if name != b"REMB" {
        return None;
    }
    let mantissa = u128::from(u32::from_be_bytes([0, high & 0x03, middle, low]));
    let bits = mantissa << (high >> 2);
    Some(RtcpItem::Remb {
        bitrate_bps: u64::try_from(bits).unwrap_or(u64::MAX),
    })
}
