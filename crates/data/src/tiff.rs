//! What the directory of a TIFF file claims, checked before a decoder believes it.
//!
//! The decoder of `image` 0.25 reserves 32 bytes for every value that an entry of the directory counts, before it
//! reads one, and 256 MiB of such values before it can be told a limit. A file of 400 bytes may count millions.

use std::io::{Error, ErrorKind, Read, Seek, SeekFrom};

/// What the decoder reserves for one value: its own number and the list that becomes of it.
const BYTES_PER_VALUE: u64 = 64;

/// Tags up to here describe the pixels (TIFF 6.0, appendix A); later ones are private, mostly metadata that
/// decoding never reads.
const LAST_TAG: u16 = 532;

/// Checks the first directory: that the values of every entry lie within the file, and that those which decoding
/// reads fit into `memory` bytes. Leaves the reader at its beginning.
///
/// The layout is that of TIFF 6.0, section 2, and of `BigTIFF`.
///
/// # Errors
/// The entry, what it claims and what there is; or that the directory cannot be read.
pub(crate) fn check_directory<R: Read + Seek>(file: &mut R, memory: u64) -> std::io::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut fields = Fields { file, little_endian: false };
    let mut order = [0; 2];
    fields.file.read_exact(&mut order)?;
    fields.little_endian = order == *b"II";
    let big = fields.number(2)? == 43;
    let word = if big { 8 } else { 4 };
    if big {
        // The size of an offset, which is always eight, and a zero.
        fields.number(4)?;
    }
    let directory = fields.number(word)?;
    fields.file.seek(SeekFrom::Start(directory))?;
    for _ in 0..fields.number(if big { 8 } else { 2 })? {
        let tag = fields.number(2)? as u16;
        let kind = fields.number(2)?;
        let count = fields.number(word)?;
        let place = fields.number(word)?;
        let bytes = count.saturating_mul(size_of_value(kind));
        if bytes > word && place.saturating_add(bytes) > length {
            return Err(Error::new(
                ErrorKind::UnexpectedEof,
                format!("tag {tag} claims {count} values at byte {place} of a file of {length} bytes"),
            ));
        }
        if tag <= LAST_TAG && count > memory / BYTES_PER_VALUE {
            return Err(Error::new(
                ErrorKind::InvalidData,
                format!("tag {tag} claims {count} values; expected at most {}", memory / BYTES_PER_VALUE),
            ));
        }
    }
    file.rewind()
}

struct Fields<'a, R> {
    file: &'a mut R,
    little_endian: bool,
}

impl<R: Read> Fields<'_, R> {
    fn number(&mut self, bytes: u64) -> std::io::Result<u64> {
        let mut field = [0; 8];
        let field = &mut field[..bytes as usize];
        self.file.read_exact(field)?;
        if self.little_endian {
            field.reverse();
        }
        Ok(field.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }
}

/// Bytes of one value, by the number of its type; one for types that nobody has defined.
fn size_of_value(kind: u64) -> u64 {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A little-endian directory of one entry.
    fn file(tag: u16, kind: u16, count: u32, place: u32) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0\x01\0".to_vec();
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(place.to_le_bytes());
        bytes.extend([0; 100]);
        bytes
    }

    fn fault(bytes: Vec<u8>) -> String {
        let error = check_directory(&mut Cursor::new(bytes), 640).expect_err("a fault");
        error.to_string()
    }

    #[test]
    fn an_honest_directory_passes_and_is_read_again_from_its_beginning() {
        let mut cursor = Cursor::new(file(273, 4, 10, 22));
        check_directory(&mut cursor, 640).expect("no fault");
        assert_eq!(cursor.position(), 0);
        // One value lies in the entry itself, whatever its bytes would mean as a place.
        check_directory(&mut Cursor::new(file(256, 4, 1, u32::MAX)), 640).expect("no fault");
    }

    #[test]
    fn a_claim_beyond_the_file_or_the_memory_is_refused() {
        assert_eq!(fault(file(273, 4, 26, 22)), "tag 273 claims 26 values at byte 22 of a file of 122 bytes");
        assert_eq!(fault(file(273, 3, 11, 22)), "tag 273 claims 11 values; expected at most 10");
        // Metadata are not read, so their count costs nothing.
        check_directory(&mut Cursor::new(file(700, 3, 11, 22)), 640).expect("no fault");
        let cut = file(273, 4, 10, 22)[..15].to_vec();
        assert_eq!(
            check_directory(&mut Cursor::new(cut), 640).expect_err("a fault").kind(),
            ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn the_other_order_of_bytes_and_big_tiff_are_read() {
        let mut bytes = b"MM\0+\0\x08\0\0".to_vec();
        bytes.extend(16_u64.to_be_bytes());
        bytes.extend(1_u64.to_be_bytes());
        bytes.extend(273_u16.to_be_bytes());
        bytes.extend(16_u16.to_be_bytes());
        bytes.extend(6_u64.to_be_bytes());
        bytes.extend(44_u64.to_be_bytes());
        bytes.extend([0; 47]);
        let length = bytes.len();
        assert_eq!(fault(bytes), format!("tag 273 claims 6 values at byte 44 of a file of {length} bytes"));
    }
}
