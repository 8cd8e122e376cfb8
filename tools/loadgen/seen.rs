//! What a viewer sees: frames put together from RTP headers, which SRTP leaves readable
//! (RFC 3550 §5.1, RFC 3711 §3.1).

use std::time::Instant;

const RTP_HEADER_BYTES: usize = 12;

/// The part of an RTP header that is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) payload_type: u8,
    marker: bool,
    sequence: u16,
    timestamp: u32,
}

impl Header {
    /// Reads a header; none if it is RTCP or too short.
    pub(crate) fn read(datagram: &[u8]) -> Option<Self> {
        let header = datagram.first_chunk::<RTP_HEADER_BYTES>()?;
        let [_, second, s1, s0, t3, t2, t1, t0, ..] = *header;
        let payload_type = second & 0x7f;
        // RFC 5761 §4: these are RTCP's.
        if (64..96).contains(&payload_type) {
            return None;
        }
        Some(Self {
            payload_type,
            marker: second & 0x80 != 0,
            sequence: u16::from_be_bytes([s1, s0]),
            timestamp: u32::from_be_bytes([t3, t2, t1, t0]),
        })
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
    /// Whether all of it came.
    pub(crate) complete: bool,
}

/// One track as it arrives.
#[derive(Debug, Default)]
pub(crate) struct TrackSeen {
    next_sequence: Option<u16>,
    current: Option<FrameSeen>,
    /// Every frame in order (of sound: every packet).
    pub(crate) frames: Vec<FrameSeen>,
    /// Missing packets, by the receive time of the one after.
    pub(crate) holes: Vec<(i64, u32)>,
}

impl TrackSeen {
    /// Takes a packet of the track.
    pub(crate) fn take(&mut self, header: Header, at: i64) {
        let expected = self.next_sequence.unwrap_or(header.sequence);
        let missing = header.sequence.wrapping_sub(expected);
        if missing >= 0x8000 {
            // Older than what came: late or sent again; it stays counted as missing.
            return;
        }
        if missing > 0 {
            self.holes.push((at, u32::from(missing)));
        }
        self.next_sequence = Some(header.sequence.wrapping_add(1));
        if self
            .current
            .is_some_and(|frame| frame.timestamp != header.timestamp)
        {
            self.finish(false);
        }
        let begun = FrameSeen {
            timestamp: header.timestamp,
            last: at,
            packets: 0,
            complete: true,
        };
        let frame = self.current.get_or_insert(begun);
        frame.packets += 1;
        frame.last = frame.last.max(at);
        frame.complete &= missing == 0;
        if header.marker {
            self.finish(true);
        }
    }

    /// Takes a packet that is a frame by itself: Opus sets the marker at talk spurts only.
    pub(crate) fn take_whole(&mut self, header: Header, at: i64) {
        self.take(
            Header {
                marker: true,
                ..header
            },
            at,
        );
    }

    fn finish(&mut self, ended: bool) {
        if let Some(frame) = self.current.take() {
            self.frames.push(FrameSeen {
                complete: frame.complete && ended,
                ..frame
            });
        }
    }
}

/// What became of one viewer.
#[derive(Debug)]
pub(crate) struct ViewerSeen {
    /// Its room.
    pub(crate) room: usize,
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
    /// Its picture.
    pub(crate) video: TrackSeen,
    /// Its sound.
    pub(crate) audio: TrackSeen,
}
