//! Numbers and hashes in lower-case hexadecimal digits.

/// The digits of these bytes. There are twice as many.
pub fn digits<const BYTES: usize, const DIGITS: usize>(bytes: [u8; BYTES]) -> [u8; DIGITS] {
    const ALL: &[u8; 16] = b"0123456789abcdef";
    const { assert!(DIGITS == 2 * BYTES) };
    let mut digits = [0; DIGITS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = ALL[usize::from(byte >> 4)];
        pair[1] = ALL[usize::from(byte & 15)];
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_two_digits() {
        assert_eq!(&digits([0x00, 0x09, 0xaf, 0xff]), b"0009afff");
    }
}
