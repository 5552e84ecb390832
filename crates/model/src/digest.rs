//! Digests as text.

use std::fmt::Write as _;

/// Bytes as lower-case hexadecimal digits, two for each: what a finished SHA-256 is written as everywhere.
pub fn hexadecimal(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(hexadecimal([0, 1, 0x7f, 0xab, 255]), "00017fabff");
        assert_eq!(hexadecimal([]), "");
    }
}
