//! What a container of weights would unpack to, before a reader unpacks it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Longest pickle: one byte of it can make some fifty of a reader's. Those of networks with a thousand tensors have some
/// hundred thousand.
const MOST_PICKLE: u64 = 8 << 20;

/// How many times longer than the file all entries together may be; weights are hardly ever compressed.
const MOST_UNPACKED: u64 = 4;

/// Length of a TAR header, and the unit of what follows it.
const BLOCK: u64 = 512;

/// Checks what the entries of a ZIP or TAR file claim to hold against its length; other files hold what they hold.
///
/// # Errors
/// Entries that would unpack to far more than the file is long, and files that cannot be read, in words.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut first = Vec::new();
    file.by_ref().take(BLOCK).read_to_end(&mut first).map_err(|error| error.to_string())?;
    let len = file.metadata().map_err(|error| error.to_string())?.len();
    if first.starts_with(b"PK") {
        zip(file, len)
    } else if first.get(257..262) == Some(b"ustar") {
        tar(&mut file).map_err(|error| error.to_string())?
    } else {
        Ok(())
    }
}

fn zip(file: File, len: u64) -> Result<(), String> {
    let mut archive = zip::ZipArchive::new(io::BufReader::new(file)).map_err(|error| error.to_string())?;
    let mut unpacked = 0u64;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| error.to_string())?;
        unpacked = unpacked.saturating_add(entry.size());
        if entry.name().is_ok_and(|name| name.ends_with("data.pkl")) && entry.size() > MOST_PICKLE {
            return Err(format!(
                "its pickle would have {} bytes, expected at most {MOST_PICKLE}: it holds more than weights",
                entry.size()
            ));
        }
    }
    if unpacked > len.saturating_mul(MOST_UNPACKED) {
        return Err(format!(
            "its entries would unpack to {unpacked} bytes, the file has {len}: no file of weights shrinks so much"
        ));
    }
    Ok(())
}

/// A sparse entry holds any number of zeros without a byte in the file.
fn tar(file: &mut File) -> io::Result<Result<(), String>> {
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let mut header = Vec::new();
        file.take(BLOCK).read_to_end(&mut header)?;
        if header.len() < BLOCK as usize || header.iter().all(|&byte| byte == 0) {
            return Ok(Ok(()));
        }
        if header[156] == b'S' {
            return Ok(Err("a sparse entry, which no file of weights has".to_owned()));
        }
        let digits = header[124..136].iter().filter(|byte| byte.is_ascii_digit());
        let size =
            digits.fold(0u64, |size, digit| size.saturating_mul(8).saturating_add(u64::from(digit - b'0')));
        at = at.saturating_add(BLOCK).saturating_add(size.min(u64::MAX / 2).next_multiple_of(BLOCK));
    }
}
