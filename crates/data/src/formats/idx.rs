//! Reader of IDX files, the format of MNIST ("The MNIST database of handwritten digits",
//! yann.lecun.com/exdb/mnist, section "File formats"): a magic number, one big-endian `u32` for each
//! dimension, then the bytes.
//!
//! Files may be plain or compressed with gzip; the content decides, not the name. Memory is reserved only
//! after the length in the header has been compared with the length of the file.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use model::hexadecimal;
use sha2::{Digest, Sha256};

use crate::error::DataError;

/// No compressor of the deflate format does better than 1032 bytes for one (zlib's technical notes).
const DEFLATE_LIMIT: u64 = 1032;

/// Images wider or higher than this are refused: the header is damaged, or this is the wrong program.
const MAX_SIDE: u32 = 1 << 14;

/// What an IDX file holds; both kinds consist of unsigned bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Three dimensions: count, height, width.
    Images,
    /// One dimension: count.
    Labels,
}

impl Content {
    /// Two zero bytes, the type (8: unsigned byte), the number of dimensions.
    pub fn magic(self) -> u32 {
        match self {
            Self::Images => 0x0000_0803,
            Self::Labels => 0x0000_0801,
        }
    }

    /// The number of dimensions in the header.
    pub fn rank(self) -> usize {
        match self {
            Self::Images => 3,
            Self::Labels => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Labels => "labels",
        }
    }
}

/// The checked content of one IDX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    /// `[count, height, width]` of images, `[count]` of labels; none is 0.
    pub dimensions: Vec<usize>,
    /// As many bytes as the dimensions say, last dimension fastest.
    pub bytes: Vec<u8>,
    /// SHA-256 of the uncompressed file (header and bytes), in hexadecimal.
    pub sha256: String,
}

impl Idx {
    /// Writes the uncompressed file that this was read from.
    ///
    /// # Errors
    /// Those of `writer`.
    pub fn write(&self, content: Content, mut writer: impl Write) -> std::io::Result<()> {
        writer.write_all(&header(content, &self.dimensions))?;
        writer.write_all(&self.bytes)
    }

    /// Images or labels in memory as an IDX file. `dimensions` must multiply to the number of `bytes`.
    pub fn new(content: Content, dimensions: Vec<usize>, bytes: Vec<u8>) -> Self {
        debug_assert_eq!(dimensions.iter().product::<usize>(), bytes.len());
        let sha256 = hexadecimal(
            Sha256::new().chain_update(header(content, &dimensions)).chain_update(&bytes).finalize(),
        );
        Self { dimensions, bytes, sha256 }
    }
}

fn header(content: Content, dimensions: &[usize]) -> Vec<u8> {
    let mut header = content.magic().to_be_bytes().to_vec();
    for &dimension in dimensions {
        header.extend((dimension as u32).to_be_bytes());
    }
    header
}

/// Reads the file at `path`.
///
/// # Errors
/// [`DataError`] with the path: unreadable, wrong magic number or dimensions, truncated, trailing bytes,
/// damaged gzip.
pub fn read(path: &Path, content: Content) -> Result<Idx, DataError> {
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let metadata = file.metadata().map_err(DataError::io("inspect", path))?;
    if !metadata.is_file() {
        let source = std::io::Error::other("not a regular file");
        return Err(DataError::Io { action: "read", path: path.to_owned(), source });
    }
    parse(file, metadata.len(), content, path)
}

/// Reads an IDX file of `stored` bytes from `source`; `origin` names it in errors.
///
/// # Errors
/// As [`read`].
pub fn parse(mut source: impl Read, stored: u64, content: Content, origin: &Path) -> Result<Idx, DataError> {
    let mut start = [0; 2];
    let got = fill(&mut source, &mut start).map_err(DataError::io("read", origin))?;
    let mut whole = start[..got].chain(source);
    if start == [0x1f, 0x8b] {
        let mut reader = Reader {
            source: MultiGzDecoder::new(BufReader::new(whole)),
            origin,
            content,
            position: 0,
            gzip: true,
        };
        let (dimensions, length, mut hash) = reader.header()?;
        let total = reader.position + length;
        let possible = stored.saturating_mul(DEFLATE_LIMIT);
        if total > possible {
            return Err(DataError::Truncated { path: origin.to_owned(), expected: total, found: possible });
        }
        // One byte more than announced, so that trailing bytes show and the decoder checks its CRC at the
        // end.
        let mut bytes = Vec::new();
        let outcome = (&mut reader.source).take(length + 1).read_to_end(&mut bytes);
        reader.position += bytes.len() as u64;
        outcome.map_err(|error| reader.failure(error))?;
        reader.compare(total, reader.position)?;
        bytes.shrink_to_fit();
        hash.update(&bytes);
        Ok(Idx { dimensions, bytes, sha256: hexadecimal(hash.finalize()) })
    } else {
        let mut reader = Reader { source: &mut whole, origin, content, position: 0, gzip: false };
        let (dimensions, length, mut hash) = reader.header()?;
        let total = reader.position + length;
        reader.compare(total, stored)?;
        let mut bytes = vec![0; length as usize];
        let got = fill(&mut reader.source, &mut bytes).map_err(DataError::io("read", origin))?;
        reader.compare(total, reader.position + got as u64)?; // the file shrank meanwhile
        hash.update(&bytes);
        Ok(Idx { dimensions, bytes, sha256: hexadecimal(hash.finalize()) })
    }
}

struct Reader<'a, R> {
    source: R,
    origin: &'a Path,
    content: Content,
    /// Uncompressed bytes consumed.
    position: u64,
    gzip: bool,
}

impl<R: Read> Reader<'_, R> {
    /// Dimensions, the number of bytes that follow, and the hash of the header.
    fn header(&mut self) -> Result<(Vec<usize>, u64, Sha256), DataError> {
        let mut hash = Sha256::new();
        let found = self.word(&mut hash)?;
        let expected = self.content.magic();
        if found != expected {
            return Err(DataError::Magic {
                path: self.origin.to_owned(),
                content: self.content.name(),
                expected,
                found,
            });
        }
        let sizes =
            (0..self.content.rank()).map(|_| self.word(&mut hash)).collect::<Result<Vec<u32>, _>>()?;
        let impossible = |reason: String| DataError::Dimensions {
            path: self.origin.to_owned(),
            found: sizes.clone(),
            reason,
        };
        if sizes.contains(&0) {
            return Err(impossible("none may be 0".into()));
        }
        if sizes[1..].iter().any(|&side| side > MAX_SIDE) {
            return Err(impossible(format!("images have at most {MAX_SIDE} rows and columns")));
        }
        // At most 2^32 * 2^14 * 2^14: no overflow.
        let length = sizes.iter().map(|&size| u64::from(size)).product();
        Ok((sizes.iter().map(|&size| size as usize).collect(), length, hash))
    }

    fn word(&mut self, hash: &mut Sha256) -> Result<u32, DataError> {
        let mut bytes = [0; 4];
        let got = fill(&mut self.source, &mut bytes).map_err(|error| self.failure(error))?;
        self.position += got as u64;
        if got < bytes.len() {
            let expected = 4 * (1 + self.content.rank() as u64);
            return Err(DataError::Truncated {
                path: self.origin.to_owned(),
                expected,
                found: self.position,
            });
        }
        hash.update(bytes);
        Ok(u32::from_be_bytes(bytes))
    }

    fn compare(&self, expected: u64, found: u64) -> Result<(), DataError> {
        let path = self.origin.to_owned();
        match found.cmp(&expected) {
            std::cmp::Ordering::Less => Err(DataError::Truncated { path, expected, found }),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(DataError::Trailing { path, expected, found }),
        }
    }

    fn failure(&self, source: std::io::Error) -> DataError {
        let path = self.origin.to_owned();
        if self.gzip {
            DataError::Gzip { path, found: self.position, source }
        } else {
            DataError::Io { action: "read", path, source }
        }
    }
}

/// Reads until `buffer` is full or the source ends; the number of bytes read.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    fn parse_bytes(stored: &[u8], content: Content) -> Result<Idx, DataError> {
        parse(stored, stored.len() as u64, content, Path::new("test-file"))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn images(count: usize, height: usize, width: usize) -> Vec<u8> {
        let bytes = (0..count * height * width).map(|i| (i * 37 % 251) as u8).collect();
        let mut file = Vec::new();
        Idx::new(Content::Images, vec![count, height, width], bytes)
            .write(Content::Images, &mut file)
            .unwrap();
        file
    }

    fn text(result: Result<Idx, DataError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn hash_is_that_of_the_uncompressed_file() {
        let file = images(3, 2, 5);
        let expected = hexadecimal(Sha256::new().chain_update(&file).finalize());
        assert_eq!(parse_bytes(&file, Content::Images).unwrap().sha256, expected);
        assert_eq!(parse_bytes(&gzip(&file), Content::Images).unwrap().sha256, expected);
    }

    #[test]
    fn every_fault_names_file_expected_and_found() {
        let file = images(2, 3, 4);
        assert_eq!(
            text(parse_bytes(&file, Content::Labels)),
            "test-file: not an IDX file of labels: magic number 0x00000803, expected 0x00000801"
        );
        assert_eq!(
            text(parse_bytes(&file[..39], Content::Images)),
            "test-file: truncated: 39 bytes, but its header announces 40; get a complete copy"
        );
        assert_eq!(
            text(parse_bytes(&file[..7], Content::Images)),
            "test-file: truncated: 7 bytes, but its header announces 16; get a complete copy"
        );
        let longer = [&file[..], &[0, 0]].concat();
        assert_eq!(
            text(parse_bytes(&longer, Content::Images)),
            "test-file: trailing bytes: at least 42 bytes, but its header announces 40"
        );
        assert_eq!(
            text(parse_bytes(&gzip(&longer), Content::Images)),
            "test-file: trailing bytes: at least 41 bytes, but its header announces 40"
        );
        let mut empty = file.clone();
        empty[11] = 0;
        assert_eq!(
            text(parse_bytes(&empty, Content::Images)),
            "test-file: impossible dimensions [2, 0, 4]: none may be 0"
        );
    }

    #[test]
    fn claim_of_four_billion_images_is_refused_before_memory_is_reserved() {
        let claim = [&[0, 0, 8, 3][..], &[0xff; 4], &[0, 0, 0x40, 0], &[0, 0, 0x40, 0]].concat();
        for stored in [claim.clone(), gzip(&claim)] {
            assert!(matches!(parse_bytes(&stored, Content::Images), Err(DataError::Truncated { .. })));
        }
    }

    #[test]
    fn gzip_bomb_stops_one_byte_after_the_announced_length() {
        let mut bomb = images(1, 2, 2);
        bomb.resize(50_000_000, 0);
        let stored = gzip(&bomb);
        match parse_bytes(&stored, Content::Images) {
            Err(DataError::Trailing { expected: 20, found: 21, .. }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flipped_bit_in_a_gzip_stream_is_detected() {
        let stored = gzip(&images(4, 5, 5));
        let clean = parse_bytes(&stored, Content::Images).unwrap();
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A few bits (time of the archive, padding) carry nothing; no flip may change what is read.
            if let Ok(read) = parse_bytes(&flipped, Content::Images) {
                assert_eq!(read, clean, "bit {bit}");
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let plain = images(2, 3, 3);
        for stored in [gzip(&plain), plain] {
            for length in 0..stored.len() {
                assert!(parse_bytes(&stored[..length], Content::Images).is_err(), "{length}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), labels: bool) {
            let content = if labels { Content::Labels } else { Content::Images };
            let _ = parse_bytes(&bytes, content);
            let _ = parse_bytes(&[&[0x1f, 0x8b][..], &bytes].concat(), content);
            let _ = parse_bytes(&gzip(&bytes), content);
        }

        #[test]
        fn accepted_headers_describe_the_file(
            header in prop::collection::vec(0u32..6, 3), extra in 0usize..80,
        ) {
            let mut file = Content::Images.magic().to_be_bytes().to_vec();
            file.extend(header.iter().flat_map(|d| d.to_be_bytes()));
            file.resize(16 + extra, 7);
            let product: u32 = header.iter().product();
            let valid = product > 0 && product as usize == extra;
            for stored in [gzip(&file), file] {
                let read = parse_bytes(&stored, Content::Images);
                prop_assert_eq!(read.is_ok(), valid);
                if let Ok(read) = read {
                    prop_assert_eq!(read.bytes.len(), extra);
                    prop_assert!(read.bytes.capacity() < 2 * extra + 64);
                }
            }
        }

        #[test]
        fn written_files_are_read_back(count in 1usize..5, height in 1usize..6, width in 1usize..6) {
            let file = images(count, height, width);
            let read = parse_bytes(&file, Content::Images).unwrap();
            prop_assert_eq!(&read, &parse_bytes(&gzip(&file), Content::Images).unwrap());
            prop_assert_eq!(&read.dimensions, &[count, height, width]);
            let mut again = Vec::new();
            read.write(Content::Images, &mut again).unwrap();
            prop_assert_eq!(again, file);
        }
    }
}
