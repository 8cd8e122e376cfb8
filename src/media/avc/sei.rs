//! Supplemental enhancement information (14496-10 annex D), as far as it says how a picture is shown.

use super::bits::RbspBits;

/// Payload types (14496-10 §D.1).
const BUFFERING_PERIOD: u32 = 0;
const PICTURE_TIMING: u32 = 1;
const FILLER_PAYLOAD: u32 = 3;
const RECOVERY_POINT: u32 = 6;
const DISPLAY_ORIENTATION: u32 = 47;
/// Bytes of messages that are looked through, in one NAL unit: real ones before those above are small.
const SCANNED_BYTES_MAX: u32 = 4_096;
/// What is taken for upright, in 2^-16 turns: one degree.
const UPRIGHT_MAX: u32 = (1 << 16) / 360;

/// Whether a SEI NAL unit says that the picture must be turned or mirrored before it is shown: to be
/// done by players, and browsers do not over WebRTC (§D.2.27).
#[must_use]
pub fn is_turned(nal_unit: &[u8]) -> bool {
    let turned = |mut payload: RbspBits<'_>| {
        let cancel = payload.bit()?;
        let mirrored = payload.bit()? | payload.bit()?;
        let turned = payload.bits(16)?;
        let upright = turned <= UPRIGHT_MAX || turned >= (1 << 16) - UPRIGHT_MAX;
        Some(!cancel && (mirrored || !upright))
    };
    find(nal_unit, DISPLAY_ORIENTATION)
        .and_then(turned)
        .unwrap_or(false)
}

/// Whether a SEI NAL unit says that decoding may begin with its picture, though it is none that all
/// begins anew with (§D.2.8): good for a decoder of our own, browsers wait for an IDR picture.
#[must_use]
pub fn is_recovery_point(nal_unit: &[u8]) -> bool {
    find(nal_unit, RECOVERY_POINT).is_some()
}

/// Whether all a SEI NAL unit says is when a decoder of a given buffer reads and shows the picture
/// (§D.2.1 to §D.2.4 but pan-scan), which no viewer over RTP goes by: its times are RTP's. Encoders at a
/// constant bit rate send one with each picture (NVENC in OBS, `nal-hrd` of x264).
#[must_use]
pub fn is_timing_only(nal_unit: &[u8]) -> bool {
    let Some(mut messages) = Messages::of(nal_unit) else {
        return false;
    };
    let is_timing = |payload_type| {
        matches!(
            payload_type,
            BUFFERING_PERIOD | PICTURE_TIMING | FILLER_PAYLOAD
        )
    };
    messages.all(|(payload_type, _)| is_timing(payload_type)) && messages.are_over()
}

/// The payload of a NAL unit's first message of a type.
fn find(nal_unit: &[u8], wanted: u32) -> Option<RbspBits<'_>> {
    let found = Messages::of(nal_unit)?.find(|(payload_type, _)| *payload_type == wanted);
    found.map(|(_, payload)| payload)
}

/// A NAL unit's messages (§7.3.2.3): their types, each with what is left from its payload on. Ends at
/// what is broken, and after [`SCANNED_BYTES_MAX`].
struct Messages<'a> {
    bits: RbspBits<'a>,
    /// Payload that `bits` is still before, in bytes.
    unread: u32,
    scanned: u32,
}

impl<'a> Messages<'a> {
    /// `None` without a NAL unit's first byte.
    fn of(nal_unit: &'a [u8]) -> Option<Self> {
        Some(Self {
            bits: RbspBits::new(nal_unit.get(1..)?),
            unread: 0,
            scanned: 0,
        })
    }

    /// Whether the last one was given out, and nothing broken came.
    fn are_over(&self) -> bool {
        self.unread == 0 && self.bits.is_stop_byte()
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = (u32, RbspBits<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.scanned >= SCANNED_BYTES_MAX {
            return None;
        }
        self.bits.skip_bytes(self.unread)?;
        self.unread = 0;
        if self.bits.is_stop_byte() {
            return None;
        }
        let payload_type = number(&mut self.bits)?;
        self.unread = number(&mut self.bits)?;
        self.scanned = self.scanned.saturating_add(self.unread).saturating_add(2);
        Some((payload_type, self.bits.clone()))
    }
}

/// A payload's type or size: bytes that are added up as long as they are 255 (§7.3.2.3.1).
fn number(bits: &mut RbspBits<'_>) -> Option<u32> {
    let mut sum = 0_u32;
    loop {
        let byte = bits.byte()?;
        sum = sum.checked_add(byte.into())?;
        if sum > SCANNED_BYTES_MAX {
            return None;
        }
        if byte < 255 {
            return Some(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A display orientation: 16 bits of turn between the flags and what follows.
    fn message(cancel: bool, horizontal: bool, vertical: bool, turn: u16) -> Vec<u8> {
        let flags = u32::from(cancel) << 2 | u32::from(horizontal) << 1 | u32::from(vertical);
        // A repetition period of 1 in three bits, no extension, and the stop bit.
        let bits = flags << 29 | u32::from(turn) << 13 | 0b0_1001 << 8;
        let [a, b, c, d] = bits.to_be_bytes();
        vec![47, 4, a, b, c, d]
    }

    fn sei(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![6];
        for byte in messages.concat() {
            // Emulation prevention (14496-10 §7.4.1).
            if bytes.ends_with(&[0, 0]) && byte <= 3 {
                bytes.push(3);
            }
            bytes.push(byte);
        }
        bytes.push(0x80);
        bytes
    }

    #[test]
    fn turned_and_mirrored_pictures_are_told_from_upright_ones() {
        for (turn, turned) in [
            (0, false),
            (100, false),
            (0xffff, false),
            (0x4000, true),
            (0x8000, true),
            (0xc000, true),
            (1_000, true),
        ] {
            let unit = sei(&[message(false, false, false, turn)]);
            assert_eq!(is_turned(&unit), turned, "{turn}");
            assert!(!is_turned(&sei(&[message(true, false, false, turn)])));
        }
        assert!(is_turned(&sei(&[message(false, true, false, 0)])));
        assert!(is_turned(&sei(&[message(false, false, true, 0)])));
    }

    #[test]
    fn it_is_found_behind_other_messages_and_missing_ones_are_no_news() {
        let mut long = vec![5, 255, 45];
        long.resize(3 + 300, 0);
        let turned = message(false, false, false, 0x4000);
        assert!(is_turned(&sei(&[vec![1, 1, 0], long.clone(), turned])));
        assert!(!is_turned(&sei(&[vec![1, 1, 0], long])));
    }

    #[test]
    fn recovery_points_are_found() {
        let point = vec![6, 1, 0xc4];
        assert!(is_recovery_point(&sei(std::slice::from_ref(&point))));
        assert!(is_recovery_point(&sei(&[vec![1, 2, 0, 0], point])));
        assert!(!is_recovery_point(&sei(&[vec![1, 2, 0, 0]])));
    }

    #[test]
    fn messages_of_timing_alone_are_told_from_those_with_more() {
        // As x264 writes them with `nal-hrd=cbr`.
        let period = vec![0, 5, 0x93, 0x80, 0x01, 0x02, 0x10];
        let timing = vec![1, 3, 0x00, 0x00, 0x01];
        let long_filler = [vec![3, 255, 45], vec![0xff; 300]].concat();
        for timing_only in [
            vec![timing.clone()],
            vec![period, timing.clone()],
            vec![timing.clone(), long_filler],
        ] {
            assert!(is_timing_only(&sei(&timing_only)), "{timing_only:?}");
        }
        let user_data = vec![5, 2, 0xaa, 0xbb];
        for more in [
            vec![user_data.clone()],
            vec![timing.clone(), user_data.clone()],
            vec![user_data, timing.clone()],
            vec![timing.clone(), vec![6, 1, 0xc4]],
            vec![message(false, false, false, 0)],
        ] {
            assert!(!is_timing_only(&sei(&more)), "{more:?}");
        }
        let whole = sei(&[timing]);
        for length in 0..whole.len() {
            assert!(!is_timing_only(&whole[..length]), "{length}");
        }
        let endless = [&[6][..], &[1, 1, 0].repeat(100_000), &[0x80]].concat();
        assert!(!is_timing_only(&endless));
    }

    #[test]
    fn broken_and_endless_ones_end() {
        let whole = sei(&[message(false, false, false, 0x4000)]);
        for length in 0..4 {
            assert!(!is_turned(&whole[..length]));
        }
        assert!(!is_turned(&[6, 47, 255]));
        assert!(!is_turned(&[&[6][..], &[255; 100_000]].concat()));
        assert!(!is_turned(&[&[6][..], &[1; 100_000]].concat()));
    }
}
