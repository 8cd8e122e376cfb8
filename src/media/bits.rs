//! Bits of a byte string, most significant first, without escapes: the headers of AV1, VP9 and
//! the older codecs.

/// Reads bits; never past the end.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// In bits.
    position: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0 }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        let byte = self.data.get(self.position / 8)?;
        let bit = (byte >> (7 - self.position % 8)) & 1;
        self.position = self.position.checked_add(1)?;
        Some(bit == 1)
    }

    /// The next `count` bits, at most 32, as a number.
    pub(super) fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count.min(u32::BITS) {
            value = (value << 1) | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// The next `count` bits as a small number; at most 8.
    pub(super) fn byte(&mut self, count: u32) -> Option<u8> {
        u8::try_from(self.read(count.min(8))?).ok()
    }

    /// Leaves out `count` bits.
    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        let position = self.position.checked_add(count)?;
        (position <= self.data.len().saturating_mul(8)).then(|| self.position = position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_most_significant_first_and_end_with_the_data() {
        let mut bits = Bits::new(&[0b1010_0101, 0xff]);
        assert_eq!(bits.read(3), Some(0b101));
        assert_eq!(bits.byte(5), Some(0b0_0101));
        assert_eq!(bits.skip(7), Some(()));
        assert_eq!(bits.bit(), Some(true));
        assert_eq!(bits.bit(), None);
        assert_eq!(bits.skip(1), None);
    }
}
