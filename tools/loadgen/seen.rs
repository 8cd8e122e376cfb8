//! What a viewer sees: frames put together from RTP headers, which SRTP leaves readable
//! (RFC 3550 §5.1, RFC 3711 §3.1).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

const RTP_HEADER_BYTES: usize = 12;
/// Frames back that a packet sent again may belong to: seven seconds.
const LATE_FRAMES_MAX: usize = 200;

/// The part of an RTP header that is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    marker: bool,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
}

impl Header {
    /// Reads a header; none if it is RTCP or too short.
    pub(crate) fn read(datagram: &[u8]) -> Option<Self> {
        let header = datagram.first_chunk::<RTP_HEADER_BYTES>()?;
        let [_, second, s1, s0, t3, t2, t1, t0, a, b, c, d] = *header;
        let payload_type = second & 0x7f;
        // RFC 5761 §4: these are RTCP's.
        if (64..96).contains(&payload_type) {
            return None;
        }
        Some(Self {
            marker: second & 0x80 != 0,
            sequence: u16::from_be_bytes([s1, s0]),
            timestamp: u32::from_be_bytes([t3, t2, t1, t0]),
            ssrc: u32::from_be_bytes([a, b, c, d]),
        })
    }

    /// Its source.
    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Its number.
    pub(crate) fn sequence(&self) -> u16 {
        self.sequence
    }

    /// The header of the packet that a retransmission repeats (RFC 4588 §4).
    pub(crate) fn repeated(self, sequence: u16) -> Self {
        Self { sequence, ..self }
    }
}

/// A frame that came, whole or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameSeen {
    /// RTP timestamp.
    pub(crate) timestamp: u32,
    /// Receive time of its last packet: nanoseconds since 1970.
    pub(crate) last: i64,
    /// Packets of it that came.
    pub(crate) packets: usize,
    /// Whether all of it came: known once [`TrackSeen::settle`] was called.
    pub(crate) complete: bool,
    /// When its publisher wrote it, as it says itself.
    pub(crate) stamp: Option<i64>,
    /// Lowest and highest number of its packets, unwrapped.
    numbers: (u64, u64),
    marker: bool,
}

/// One track as it arrives.
#[derive(Debug, Default)]
pub(crate) struct TrackSeen {
    next: Option<u64>,
    current: Option<FrameSeen>,
    /// Every frame in order (of sound: every packet).
    pub(crate) frames: Vec<FrameSeen>,
    /// Packets that never came, with the receive time of the one after.
    pub(crate) missing: BTreeMap<u64, i64>,
    /// Receive times of the packets that came when they were sent again.
    pub(crate) recovered: Vec<i64>,
}

impl TrackSeen {
    /// Takes a packet of the track; gives the numbers before it that did not come.
    pub(crate) fn take(&mut self, header: Header, at: i64) -> Vec<u16> {
        let number = self.unwrapped(header.sequence);
        let next = self.next.unwrap_or(number);
        if number < next {
            self.take_late(header, at);
            return Vec::new();
        }
        self.missing
            .extend((next..number).map(|number| (number, at)));
        self.next = Some(number + 1);
        if self
            .current
            .is_some_and(|frame| frame.timestamp != header.timestamp)
        {
            self.finish();
        }
        let frame = self
            .current
            .get_or_insert_with(|| FrameSeen::begin(header, number, at));
        frame.add(header, number, at);
        if header.marker {
            self.finish();
        }
        (next..number).map(wrapped).collect()
    }

    /// Takes a packet that is a frame by itself: Opus sets the marker at talk spurts only.
    pub(crate) fn take_whole(&mut self, header: Header, at: i64) {
        let whole = Header {
            marker: true,
            ..header
        };
        self.take(whole, at);
    }

    /// Takes a packet that comes after its time; gives whether it was missing.
    pub(crate) fn take_late(&mut self, header: Header, at: i64) -> bool {
        let number = self.unwrapped(header.sequence);
        if self.missing.remove(&number).is_none() {
            return false;
        }
        self.recovered.push(at);
        let frames = self.frames.iter_mut().rev().take(LATE_FRAMES_MAX);
        let mut frames = self.current.iter_mut().chain(frames);
        match frames.find(|frame| frame.timestamp == header.timestamp) {
            Some(frame) => frame.add(header, number, at),
            None => {
                // Nothing of its frame had come.
                let mut frame = FrameSeen::begin(header, number, at);
                frame.add(header, number, at);
                let before = |seen: &FrameSeen| seen.numbers.0 < number;
                let place = self.frames.iter().rposition(before).map_or(0, |at| at + 1);
                self.frames.insert(place, frame);
            }
        }
        true
    }

    /// Whether the frame of this packet says when it was written.
    pub(crate) fn is_stamped(&self, header: Header) -> bool {
        let newest = self.current.as_ref().or(self.frames.last());
        newest.is_some_and(|f| f.timestamp == header.timestamp && f.stamp.is_some())
    }

    /// Notes when the frame of this packet was written.
    pub(crate) fn stamp(&mut self, header: Header, stamp: i64) {
        let frames = self.frames.iter_mut().rev().take(LATE_FRAMES_MAX);
        let mut frames = self.current.iter_mut().chain(frames);
        if let Some(frame) = frames.find(|frame| frame.timestamp == header.timestamp) {
            frame.stamp = Some(stamp);
        }
    }

    /// Finds out which frames are whole: their packets have no gap, none before them, and an end.
    pub(crate) fn settle(&mut self) {
        let mut before: Option<u64> = None;
        for frame in &mut self.frames {
            let (first, last) = frame.numbers;
            let whole = last - first + 1 == frame.packets as u64 && frame.marker;
            frame.complete = whole && before.is_none_or(|before| before + 1 == first);
            before = frame.marker.then_some(last).or(Some(u64::MAX - 1));
        }
    }

    fn finish(&mut self) {
        self.frames.extend(self.current.take());
    }

    fn unwrapped(&self, sequence: u16) -> u64 {
        // Far from 0, so that what is older than the first packet has a number too.
        let next = self.next.unwrap_or(0x1_0000 + u64::from(sequence));
        let ahead = sequence.wrapping_sub(wrapped(next));
        if ahead < 0x8000 {
            next + u64::from(ahead)
        } else {
            next - u64::from(ahead.wrapping_neg())
        }
    }
}

impl FrameSeen {
    fn begin(header: Header, number: u64, at: i64) -> Self {
        Self {
            timestamp: header.timestamp,
            last: at,
            packets: 0,
            complete: false,
            stamp: None,
            numbers: (number, number),
            marker: false,
        }
    }

    fn add(&mut self, header: Header, number: u64, at: i64) {
        self.packets += 1;
        self.last = self.last.max(at);
        self.marker |= header.marker;
        self.numbers = (self.numbers.0.min(number), self.numbers.1.max(number));
    }
}

fn wrapped(number: u64) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or(0)
}

/// What became of one viewer.
#[derive(Debug)]
pub(crate) struct ViewerSeen {
    /// Its room.
    pub(crate) room: usize,
    /// Whether it joined during the measurement.
    pub(crate) storm: bool,
    /// Whether its packets were looked at.
    pub(crate) inspected: bool,
    /// When its offer was posted.
    pub(crate) posted: Instant,
    /// When the 201 was read.
    pub(crate) answered: Instant,
    /// When ICE and DTLS were up.
    pub(crate) connected: Option<Instant>,
    /// When the first picture's packet came.
    pub(crate) first_packet: Option<Instant>,
    /// Whether its session was over before the end.
    pub(crate) closed: bool,
    /// Whether media came after the measurement too.
    pub(crate) present_at_roll_call: bool,
    /// Where the server's media comes from.
    pub(crate) server: Option<SocketAddr>,
    /// Packets it asked for again.
    pub(crate) asked: u64,
    /// Receiver reports it sent.
    pub(crate) reports: u64,
    /// Its picture.
    pub(crate) video: TrackSeen,
    /// Its sound.
    pub(crate) audio: TrackSeen,
}
