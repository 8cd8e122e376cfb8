//! Bits of a raw byte sequence payload: fixed-length and Exp-Golomb numbers (14496-10 §9.1), with
//! the emulation prevention bytes left out (14496-10 §7.4.1). H.265 has the same.

/// Reads bits from a NAL unit's bytes after its header.
#[derive(Clone)]
pub(in crate::media) struct RbspBits<'a> {
    rest: &'a [u8],
    zeros: u8,
    current: u8,
    bits_left: u8,
}

impl<'a> RbspBits<'a> {
    pub(in crate::media) fn new(payload: &'a [u8]) -> Self {
        Self {
            rest: payload,
            zeros: 0,
            current: 0,
            bits_left: 0,
        }
    }

    /// The next unsigned number, `ue(v)`; `None` past the end or above 32 bits.
    pub(in crate::media) fn exp_golomb(&mut self) -> Option<u32> {
        let mut leading_zeros = 0_u32;
        while !self.bit()? {
            leading_zeros = leading_zeros.checked_add(1)?;
            if leading_zeros >= u32::BITS {
                return None;
            }
        }
        let mut value = 1_u32;
        for _ in 0..leading_zeros {
            value = (value << 1) | u32::from(self.bit()?);
        }
        value.checked_sub(1)
    }

    /// The next `count` bits, at most 32, as a number.
    pub(in crate::media) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count.min(u32::BITS) {
            value = (value << 1) | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// Leaves out `count` bits.
    pub(in crate::media) fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bit()?;
        }
        Some(())
    }

    /// Leaves out `count` bytes, from a byte's beginning.
    pub(in crate::media) fn skip_bytes(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.byte()?;
        }
        Some(())
    }

    /// Whether what is left, from a byte's beginning, is the byte that ends a payload of whole bytes
    /// (`rbsp_trailing_bits`, 14496-10 §7.3.2.11).
    pub(in crate::media) fn is_stop_byte(&self) -> bool {
        self.bits_left == 0 && self.rest == [0x80]
    }

    pub(in crate::media) fn bit(&mut self) -> Option<bool> {
        if self.bits_left == 0 {
            self.current = self.byte()?;
            self.bits_left = 8;
        }
        self.bits_left = self.bits_left.checked_sub(1)?;
        Some((self.current >> self.bits_left) & 1 == 1)
    }

    /// The next byte, from a byte's beginning.
    pub(in crate::media) fn byte(&mut self) -> Option<u8> {
        const EMULATION_PREVENTION: u8 = 3;
        debug_assert_eq!(self.bits_left, 0);
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        if self.zeros >= 2 && first == EMULATION_PREVENTION {
            self.zeros = 0;
            return self.byte_after_prevention();
        }
        self.zeros = if first == 0 {
            self.zeros.saturating_add(1)
        } else {
            0
        };
        Some(first)
    }

    fn byte_after_prevention(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.zeros = u8::from(first == 0);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(bytes: &[u8]) -> Vec<u32> {
        let mut bits = RbspBits::new(bytes);
        std::iter::from_fn(|| bits.exp_golomb()).collect()
    }

    #[test]
    fn numbers_follow_table_9_2() {
        // 1 010 011 00100 00101 1…
        assert_eq!(
            numbers(&[0b1010_0110, 0b0100_0010, 0b1100_0000]),
            [0, 1, 2, 3, 4, 0]
        );
    }

    #[test]
    fn emulation_prevention_bytes_are_left_out() {
        let plain = [0x00, 0x00, 0x01, 0xff, 0xff, 0xff, 0xff];
        let guarded = [0x00, 0x00, 0x03, 0x01, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(numbers(&guarded), numbers(&plain));
        assert!(!numbers(&plain).is_empty());
    }

    #[test]
    fn numbers_above_32_bits_are_refused() {
        let largest = [0x00, 0x00, 0x00, 0x01, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(numbers(&largest).first(), Some(&(u32::MAX - 1)));
        let mut bits = RbspBits::new(&[0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(bits.exp_golomb(), None);
    }
}
