//! RTP headers: written on the stack for every packet that is sent, read by players.
//!
//! RFC 3550 §5.1 (header), RFC 8285 §4.2 (one-byte header extensions), RFC 4588 §4 (payload of a
//! retransmission), and the playout delay extension of WebRTC.

/// Fixed part of a header, in bytes (RFC 3550 §5.1).
pub const RTP_FIXED_BYTES: usize = 12;
/// Room for extension elements in a header, in bytes: a playout delay, a mid and a sequence of
/// transport feedback fit.
pub const EXTENSION_BYTES_MAX: usize = 28;
/// Longest header we write, in bytes.
pub const RTP_HEADER_BYTES_MAX: usize =
    RTP_FIXED_BYTES + EXTENSION_PREFIX_BYTES + EXTENSION_BYTES_MAX;
/// The number of the original packet before the payload of a retransmission, in bytes
/// (RFC 4588 §4).
pub const RTX_PREFIX_BYTES: usize = 2;

/// Profile and length before the extension elements, in bytes (RFC 8285 §4.2).
const EXTENSION_PREFIX_BYTES: usize = 4;
/// Profile of one-byte extension headers (RFC 8285 §4.2).
const ONE_BYTE_PROFILE: u16 = 0xbede;
/// Version 2 (RFC 3550 §5.1).
const VERSION: u8 = 0x80;
/// The bit that says a header extension follows.
const EXTENSION: u8 = 0x10;
/// The bit that says the payload ends in padding.
const PADDING: u8 = 0x20;
/// The marker bit, and the seven bits beside it.
const MARKER: u8 = 0x80;
const PAYLOAD_TYPE: u8 = 0x7f;
/// Greatest playout delay, in units of 10 ms: 12 bits.
const PLAYOUT_DELAY_MAX: u16 = 0x0fff;

/// An RTP header without contributing sources (RFC 3550 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtpHeader {
    /// For video, the last packet of a frame (RFC 6184 §5.1).
    pub marker: bool,
    /// 0 to 127; the eighth bit is cut off.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp, in ticks of the payload's clock.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
}

impl RtpHeader {
    /// Writes the header and its extension elements.
    #[must_use]
    pub fn write(&self, extensions: &HeaderExtensions) -> HeaderBytes {
        let mut header = HeaderBytes::default();
        let flags = if extensions.is_empty() { 0 } else { EXTENSION };
        let marker = if self.marker { MARKER } else { 0 };
        header.push(&[VERSION | flags, marker | (self.payload_type & PAYLOAD_TYPE)]);
        header.push(&self.sequence.to_be_bytes());
        header.push(&self.timestamp.to_be_bytes());
        header.push(&self.ssrc.to_be_bytes());
        if !extensions.is_empty() {
            let words = u16::from(extensions.length).div_ceil(4);
            header.push(&ONE_BYTE_PROFILE.to_be_bytes());
            header.push(&words.to_be_bytes());
            header.push(extensions.as_bytes());
            let padding = usize::from(words * 4).saturating_sub(extensions.as_bytes().len());
            header.push([0; 3].get(..padding).unwrap_or_default());
        }
        header
    }
}

/// A written header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderBytes {
    bytes: [u8; RTP_HEADER_BYTES_MAX],
    length: u8,
}

impl HeaderBytes {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// Makes it the header of another packet of the same frame.
    pub fn renumber(&mut self, sequence: u16, marker: bool) {
        let [_, second, high, low, ..] = &mut self.bytes;
        *second = (*second & PAYLOAD_TYPE) | if marker { MARKER } else { 0 };
        [*high, *low] = sequence.to_be_bytes();
    }

    /// Says whether the payload ends in padding.
    pub fn set_padding(&mut self, is_padded: bool) {
        let [first, ..] = &mut self.bytes;
        *first = (*first & !PADDING) | if is_padded { PADDING } else { 0 };
    }

    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.length);
        let end = start.saturating_add(bytes.len());
        let Some(place) = self.bytes.get_mut(start..end) else {
            debug_assert!(false, "RTP_HEADER_BYTES_MAX holds every header");
            return;
        };
        place.copy_from_slice(bytes);
        self.length = u8::try_from(end).unwrap_or(self.length);
    }
}

impl Default for HeaderBytes {
    fn default() -> Self {
        Self {
            bytes: [0; RTP_HEADER_BYTES_MAX],
            length: 0,
        }
    }
}

impl AsRef<[u8]> for HeaderBytes {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// The extension elements of a header (RFC 8285 §4.2), in wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeaderExtensions {
    bytes: [u8; EXTENSION_BYTES_MAX],
    length: u8,
}

impl HeaderExtensions {
    /// No elements.
    pub const NONE: Self = Self {
        bytes: [0; EXTENSION_BYTES_MAX],
        length: 0,
    };

    /// Adds an element of 1 to 16 bytes with an id of 1 to 14. Adds nothing and returns `false`
    /// if it is not so, or if [`EXTENSION_BYTES_MAX`] would be exceeded.
    pub fn push(&mut self, id: u8, value: &[u8]) -> bool {
        let start = usize::from(self.length);
        let end = start.saturating_add(1).saturating_add(value.len());
        let legal = (1..=14).contains(&id) && (1..=16).contains(&value.len());
        let place = self.bytes.get_mut(start..end);
        let (true, Some([first, rest @ ..])) = (legal, place) else {
            return false;
        };
        *first = (id << 4) | u8::try_from(value.len().saturating_sub(1)).unwrap_or(0);
        rest.copy_from_slice(value);
        self.length = u8::try_from(end).unwrap_or(self.length);
        true
    }

    /// Adds a playout delay; as [`HeaderExtensions::push`].
    pub fn push_playout_delay(&mut self, id: u8, delay: PlayoutDelay) -> bool {
        self.push(id, &delay.to_bytes())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

/// How long a player shall hold frames back
/// (`http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlayoutDelay {
    /// At least, in units of 10 ms, at most 4,095.
    pub min_10ms: u16,
    /// At most, in units of 10 ms, at most 4,095.
    pub max_10ms: u16,
}

impl PlayoutDelay {
    /// The extension element's three bytes: 12 bits each.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 3] {
        let min = u32::from(self.min_10ms.min(PLAYOUT_DELAY_MAX));
        let max = u32::from(self.max_10ms.min(PLAYOUT_DELAY_MAX));
        let [_, high, middle, low] = ((min << 12) | max).to_be_bytes();
        [high, middle, low]
    }

    /// Reads the three bytes.
    #[must_use]
    pub fn from_bytes([high, middle, low]: [u8; 3]) -> Self {
        Self {
            min_10ms: (u16::from(high) << 4) | u16::from(middle >> 4),
            max_10ms: (u16::from(middle & 0x0f) << 8) | u16::from(low),
        }
    }
}

/// A packet taken apart, for players: the server receives no media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// The header.
    pub header: RtpHeader,
    /// The extension elements, if they are of the one-byte kind.
    pub extensions: &'a [u8],
    /// The payload without padding.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Takes a plain packet apart; `None` if it is malformed.
    #[must_use]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (&[first, second, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3], rest) =
            packet.split_first_chunk::<RTP_FIXED_BYTES>()?;
        if first >> 6 != VERSION >> 6 {
            return None;
        }
        let (_, rest) = rest.split_at_checked(usize::from(first & 0x0f) * 4)?;
        let (extensions, rest) = if first & EXTENSION == 0 {
            (&[][..], rest)
        } else {
            let (&[p0, p1, w0, w1], rest) = rest.split_first_chunk::<EXTENSION_PREFIX_BYTES>()?;
            let words = usize::from(u16::from_be_bytes([w0, w1]));
            let (elements, rest) = rest.split_at_checked(words.checked_mul(4)?)?;
            let one_byte = u16::from_be_bytes([p0, p1]) == ONE_BYTE_PROFILE;
            (if one_byte { elements } else { &[] }, rest)
        };
        let padding = match (first & PADDING, rest.last()) {
            (0, _) => 0,
            (_, Some(&count)) if count > 0 => usize::from(count),
            (_, _) => return None,
        };
        let payload = rest.get(..rest.len().checked_sub(padding)?)?;
        Some(Self {
            header: RtpHeader {
                marker: second & MARKER != 0,
                payload_type: second & PAYLOAD_TYPE,
                sequence: u16::from_be_bytes([s0, s1]),
                timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
                ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
            },
            extensions,
            payload,
        })
    }

    /// The extension element with this id, if there is one (RFC 8285 §4.2).
    #[must_use]
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        let mut rest = self.extensions;
        loop {
            let (&first, after) = rest.split_first()?;
            match first >> 4 {
                0 => rest = after,
                15 => return None,
                found => {
                    let length = usize::from(first & 0x0f) + 1;
                    let (value, after) = after.split_at_checked(length)?;
                    if found == id {
                        return Some(value);
                    }
                    rest = after;
                }
            }
        }
    }

    /// The original packet's sequence number and payload, if this is a retransmission with one
    /// (RFC 4588 §4).
    #[must_use]
    pub fn rtx(&self) -> Option<(u16, &'a [u8])> {
        let (original, payload) = self.payload.split_first_chunk::<RTX_PREFIX_BYTES>()?;
        Some((u16::from_be_bytes(*original), payload))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: RtpHeader = RtpHeader {
        marker: true,
        payload_type: 96,
        sequence: 0x1234,
        timestamp: 0x0102_0304,
        ssrc: 0x0506_0708,
    };

    #[test]
    fn header_without_extensions_is_twelve_bytes() {
        let written = HEADER.write(&HeaderExtensions::NONE);
        let expected = [0x80, 0xe0, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(written.as_bytes(), expected);
        let other = RtpHeader {
            marker: false,
            payload_type: 0xff,
            ..HEADER
        };
        assert_eq!(other.write(&HeaderExtensions::NONE).as_bytes()[1], 0x7f);
    }

    #[test]
    fn padding_is_told_and_left_out_by_the_reader() {
        let mut written = HEADER.write(&HeaderExtensions::NONE);
        written.set_padding(true);
        let packet = [written.as_bytes(), b"payload", &[0, 0, 3]].concat();
        let parsed = RtpPacket::parse(&packet).unwrap();
        assert_eq!((parsed.header, parsed.payload), (HEADER, &b"payload"[..]));
        written.set_padding(false);
        assert_eq!(written, HEADER.write(&HeaderExtensions::NONE));
    }

    #[test]
    fn playout_delay_is_one_word_of_extension() {
        let mut extensions = HeaderExtensions::NONE;
        let delay = PlayoutDelay {
            min_10ms: 0x123,
            max_10ms: 0x456,
        };
        assert!(extensions.push_playout_delay(5, delay));
        let written = HEADER.write(&extensions);
        let expected = [
            0x90, 0xe0, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8, // header
            0xbe, 0xde, 0, 1, 0x52, 0x12, 0x34, 0x56,
        ];
        assert_eq!(written.as_bytes(), expected);
    }

    #[test]
    fn playout_delay_is_capped_at_twelve_bits_and_read_back() {
        let long = PlayoutDelay {
            min_10ms: 0,
            max_10ms: u16::MAX,
        };
        assert_eq!(long.to_bytes(), [0x00, 0x0f, 0xff]);
        let read = PlayoutDelay::from_bytes([0x12, 0x34, 0x56]);
        assert_eq!((read.min_10ms, read.max_10ms), (0x123, 0x456));
    }

    #[test]
    fn elements_that_are_illegal_or_do_not_fit_are_left_out() {
        let mut extensions = HeaderExtensions::NONE;
        assert!(!extensions.push(0, &[1]));
        assert!(!extensions.push(15, &[1]));
        assert!(!extensions.push(1, &[]));
        assert!(!extensions.push(1, &[0; 17]));
        assert!(extensions.is_empty());
        assert!(extensions.push(1, &[1; 16]));
        assert!(extensions.push(2, &[2; 10]));
        assert!(!extensions.push(3, &[3]), "28 bytes are taken");
        let written = HEADER.write(&extensions);
        assert_eq!(written.as_bytes().len(), RTP_HEADER_BYTES_MAX);
        let packet = RtpPacket::parse(written.as_bytes()).unwrap();
        assert_eq!(packet.extension(1), Some(&[1; 16][..]));
        assert_eq!(packet.extension(2), Some(&[2; 10][..]));
        assert_eq!(packet.extension(3), None);
    }

    #[test]
    fn parser_skips_sources_and_padding() {
        let mut packet = HEADER.write(&HeaderExtensions::NONE).as_bytes().to_vec();
        packet[0] |= 0x20 | 2;
        packet.extend_from_slice(&[9; 8]);
        packet.extend_from_slice(b"payload\0\0\x03");
        let parsed = RtpPacket::parse(&packet).unwrap();
        assert_eq!(parsed.payload, b"payload");
        for impossible in [0, 11] {
            *packet.last_mut().unwrap() = impossible;
            assert_eq!(RtpPacket::parse(&packet), None);
        }
    }

    #[test]
    fn retransmission_says_which_packet_it_was() {
        let mut packet = HEADER.write(&HeaderExtensions::NONE).as_bytes().to_vec();
        packet.extend_from_slice(b"\x12\x34payload");
        let parsed = RtpPacket::parse(&packet).unwrap();
        assert_eq!(parsed.rtx(), Some((0x1234, &b"payload"[..])));
        assert_eq!(RtpPacket::parse(&packet[..13]).unwrap().rtx(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_is_written_is_read_back(
            marker in any::<bool>(),
            payload_type in 0_u8..128,
            sequence in any::<u16>(),
            timestamp in any::<u32>(),
            ssrc in any::<u32>(),
            elements in proptest::collection::vec((1_u8..15, proptest::collection::vec(any::<u8>(), 1..16)), 0..3),
            payload in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let header = RtpHeader { marker, payload_type, sequence, timestamp, ssrc };
            let mut extensions = HeaderExtensions::NONE;
            let mut kept: Vec<(u8, Vec<u8>)> = Vec::new();
            for (id, value) in elements {
                if kept.iter().all(|(known, _)| *known != id) && extensions.push(id, &value) {
                    kept.push((id, value));
                }
            }
            let mut packet = header.write(&extensions).as_bytes().to_vec();
            packet.extend_from_slice(&payload);
            let parsed = RtpPacket::parse(&packet).unwrap();
            prop_assert_eq!(parsed.header, header);
            prop_assert_eq!(parsed.payload, &payload[..]);
            for (id, value) in kept {
                prop_assert_eq!(parsed.extension(id), Some(&value[..]));
            }
        }

        #[test]
        fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..64), first in 0x80_u8..0xc0) {
            let mut junk = junk;
            if let Some(byte) = junk.first_mut() {
                *byte = first;
            }
            if let Some(packet) = RtpPacket::parse(&junk) {
                for id in 0..16 {
                    let _ = packet.extension(id);
                }
            }
        }
    }
}
