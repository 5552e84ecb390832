//! The first directory of a TIFF file: which values stand where.

use std::collections::BTreeMap;

use crate::formats::decoded::DecodeError;

/// Why a file is refused; for [`DecodeError::Damaged`], unless it is a limit.
pub(super) enum Fault {
    Reason(String),
    Limit(DecodeError),
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Reason(reason.to_owned())
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Limit(error)
    }
}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Reason(reason) => Self::damaged("TIFF", reason),
            Fault::Limit(error) => error,
        }
    }
}

/// An entry of the directory: where its values are in the file.
pub(super) struct Entry {
    pub(super) kind: u64,
    pub(super) count: usize,
    pub(super) place: usize,
}

/// The first directory of a file.
pub(super) struct Directory<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) little_endian: bool,
    pub(super) entries: BTreeMap<u16, Entry>,
}

/// Tiles and strips of a picture: those of 64x64 pixels in the largest one, twice.
pub(super) const MOST_CHUNKS: u64 = 1 << 17;

/// Bytes of one value, by the number of its type; one for types that nobody has defined.
pub(super) fn size_of_value(kind: u64) -> usize {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}

impl<'a> Directory<'a> {
    /// Reads where everything is. Values that would lie outside the file are an error.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let little_endian = bytes.starts_with(b"II");
        let mut directory = Self { bytes, little_endian, entries: BTreeMap::new() };
        let big = directory.number(2, 2)? == 43;
        // Of `BigTIFF` the size of an offset, which is always eight, and a zero come first.
        let word = if big { 8 } else { 4 };
        let start = directory.number(if big { 8 } else { 4 }, word)? as usize;
        let count_len = if big { 8 } else { 2 };
        let count = directory.number(start, count_len)?;
        let entry_len = 4 + 2 * word;
        for index in 0..count {
            let at = index.checked_mul(entry_len as u64).and_then(|at| usize::try_from(at).ok());
            let at = at.and_then(|at| at.checked_add(start)?.checked_add(count_len)).ok_or(ENDS)?;
            let tag = directory.number(at, 2)? as u16;
            let kind = directory.number(at.saturating_add(2), 2)?;
            let count = directory.number(at.saturating_add(4), word)?;
            let size = count.saturating_mul(size_of_value(kind) as u64);
            let inside = at.saturating_add(4 + word);
            let place = if size <= word as u64 { inside as u64 } else { directory.number(inside, word)? };
            if place.saturating_add(size) > bytes.len() as u64 {
                let length = bytes.len();
                return Err(format!(
                    "tag {tag} claims {count} values at byte {place} of a file of {length} bytes"
                )
                .into());
            }
            let entry = Entry { kind, count: count as usize, place: place as usize };
            directory.entries.entry(tag).or_insert(entry);
        }
        Ok(directory)
    }

    pub(super) fn number(&self, at: usize, len: usize) -> Result<u64, Fault> {
        let field = at.checked_add(len).and_then(|end| self.bytes.get(at..end)).ok_or(ENDS)?;
        let push = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Ok(if self.little_endian { field.iter().rev().fold(0, push) } else { field.iter().fold(0, push) })
    }

    /// The value at `index` of a tag of whole numbers.
    pub(super) fn value(&self, tag: u16, index: usize) -> Option<u64> {
        let entry = self.entries.get(&tag).filter(|entry| index < entry.count)?;
        let size = size_of_value(entry.kind);
        self.number(entry.place + index * size, size).ok()
    }

    pub(super) fn first(&self, tag: u16, default: u64) -> u64 {
        self.value(tag, 0).unwrap_or(default)
    }

    pub(super) fn count(&self, tag: u16) -> usize {
        self.entries.get(&tag).map_or(0, |entry| entry.count)
    }

    pub(super) fn content(&self, tag: u16) -> &'a [u8] {
        let range = |entry: &Entry| {
            self.bytes.get(entry.place..entry.place + entry.count * size_of_value(entry.kind))
        };
        self.entries.get(&tag).and_then(range).unwrap_or_default()
    }
}

/// Why reading stops at the end of the file.
pub(super) const ENDS: &str = "it ends early; get a complete copy";
