//! What a checkpoint of `PyTorch` would unpack to, before a reader unpacks it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

/// How many times longer than the file all entries together may be; weights are hardly ever compressed.
const MOST_UNPACKED: u64 = 4;

/// Instructions that the pickles of a checkpoint may have, besides one for so many bytes of the file: a reader makes up
/// to two hundred bytes of each. A tensor takes some thirty; ResNet-110 with the state of Adam has 80,000.
const MOST_INSTRUCTIONS: u64 = 200_000;
const BYTES_PER_INSTRUCTION: u64 = 32;

/// Pickles before the values of an old checkpoint: magic number, version, system, tensors, keys.
const PICKLES: usize = 5;

/// Checks what a file claims to hold against its length.
///
/// # Errors
/// A file that would unpack to far more than it is long, one of a container that cannot be checked, and one that cannot
/// be read, in words.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    let mut file = File::open(path).map_err(words)?;
    let mut first = Vec::new();
    file.by_ref().take(512).read_to_end(&mut first).map_err(words)?;
    let len = file.metadata().map_err(words)?.len();
    let mut left = MOST_INSTRUCTIONS + len / BYTES_PER_INSTRUCTION;
    if first.get(257..262) == Some(b"ustar") {
        return Err(
            "a TAR file, as PyTorch before 0.1.10 (2017) wrote it; load it there and save it anew".to_owned()
        );
    }
    if first.starts_with(b"PK") {
        return zip(file, len, &mut left);
    }
    file.seek(SeekFrom::Start(0)).map_err(words)?;
    let mut reader = BufReader::new(file);
    for _ in 0..PICKLES {
        // What ends early or is no pickle is the reader's to name.
        if !skip_pickle(&mut reader, &mut left).unwrap_or(false) {
            break;
        }
    }
    within(left)
}

fn within(left: u64) -> Result<(), String> {
    if left > 0 {
        return Ok(());
    }
    Err("its pickle has more instructions than weights of this length need: it would fill the memory"
        .to_owned())
}

fn zip(file: File, len: u64, left: &mut u64) -> Result<(), String> {
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| error.to_string())?;
    let (mut unpacked, mut pickles) = (0u64, Vec::new());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| error.to_string())?;
        unpacked = unpacked.saturating_add(entry.size());
        if entry.name().is_ok_and(|name| name.ends_with("data.pkl")) {
            pickles.push(index);
        }
    }
    if unpacked > len.saturating_mul(MOST_UNPACKED) {
        return Err(format!(
            "its entries would unpack to {unpacked} bytes, the file has {len}: no file of weights shrinks so much"
        ));
    }
    for index in pickles {
        let entry = archive.by_index(index).map_err(|error| error.to_string())?;
        let size = entry.size();
        let _ = skip_pickle(&mut BufReader::new(entry.take(size)), left);
    }
    within(*left)
}

/// Passes over a pickle (Python's `pickletools` has the instructions), taking one from `left` for each; whether it
/// ended while some were left.
fn skip_pickle(reader: &mut impl BufRead, left: &mut u64) -> io::Result<bool> {
    while *left > 0 {
        *left -= 1;
        let [instruction] = number(reader)?;
        match instruction {
            b'.' => return Ok(true),
            b'K' | b'h' | b'q' | 0x80 | 0x82 => skip(reader, 1)?,
            b'M' | 0x83 => skip(reader, 2)?,
            b'J' | b'j' | b'r' | 0x84 => skip(reader, 4)?,
            b'G' | 0x95 => skip(reader, 8)?,
            b'I' | b'L' | b'F' | b'S' | b'V' | b'g' | b'p' | b'P' => skip_line(reader)?,
            b'c' | b'i' => {
                skip_line(reader)?;
                skip_line(reader)?;
            }
            b'U' | b'C' | 0x8a | 0x8c => {
                let [len] = number(reader)?;
                skip(reader, len.into())?;
            }
            b'T' | b'X' | b'B' | 0x8b => {
                let len = u32::from_le_bytes(number(reader)?);
                skip(reader, len.into())?;
            }
            0x8d | 0x8e | 0x96 => {
                let len = u64::from_le_bytes(number(reader)?);
                skip(reader, len)?;
            }
            _ => {}
        }
    }
    Ok(false)
}

fn number<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(reader: &mut impl Read, len: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(len), &mut io::sink())?;
    if skipped == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    reader.skip_until(b'\n').map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The instructions of pickles one behind the other, and the bytes behind them.
    fn skipped(bytes: &[u8], pickles: usize) -> (u64, Vec<u8>) {
        let (mut reader, mut left) = (bytes, 1000);
        for _ in 0..pickles {
            assert!(skip_pickle(&mut reader, &mut left).unwrap());
        }
        (1000 - left, reader.to_vec())
    }

    #[test]
    fn arguments_are_no_instructions() {
        // The full stops in the arguments end nothing.
        let all = b"\x80\x02K.M..J....G........I1.\nL1.\ncos.\nsystem.\nU\x02..X\x02\0\0\0..\x8d\x02\0\0\0\0\0\0\0..}(N.rest";
        assert_eq!(skipped(all, 1), (15, b"rest".to_vec()));
        assert_eq!(skipped(b"\x80\x02N.\x80\x02K\x01.values", 2), (6, b"values".to_vec()));
        for cut in [&b"\x80"[..], b"X\xff\xff\xff\xff.", b"K", b"NNN"] {
            assert!(skip_pickle(&mut &cut[..], &mut 1000).is_err());
        }
    }

    #[test]
    fn a_pickle_without_end_is_not_read_to_its_end() {
        let mut left = 100;
        assert!(!skip_pickle(&mut &[b'N'; 1000][..], &mut left).unwrap());
        assert!(within(left).is_err());
    }
}
