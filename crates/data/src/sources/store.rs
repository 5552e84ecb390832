//! The four files of a data set while they are collected: each is verified, then kept in the cache.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::cache::temporary;
use super::catalog::{KnownDataset, KnownFile};
use crate::error::{Attempt, DataError};
use crate::files::keep;
use crate::formats::idx::{self, Idx};
use crate::formats::idx_set::IdxFile;

/// Reads a file and compares its hash.
pub(super) fn read_verified(path: PathBuf, file: &KnownFile) -> Result<IdxFile, DataError> {
    let idx = idx::read(&path, file.content)?;
    verify(&idx, file, &path)?;
    Ok(IdxFile { path, idx })
}

fn verify(idx: &Idx, file: &KnownFile, origin: &Path) -> Result<(), DataError> {
    if idx.sha256 == file.sha256 {
        return Ok(());
    }
    Err(DataError::Checksum {
        path: origin.to_owned(),
        expected: file.sha256.to_owned(),
        found: idx.sha256.clone(),
    })
}

/// The files collected so far; verified ones are kept in the cache.
pub(super) struct Store<'a> {
    pub(super) known: &'static KnownDataset,
    pub(super) cache: &'a Path,
    pub(super) slots: [Option<IdxFile>; 4],
    /// The cache cannot be written: no other source would help.
    pub(super) failure: Option<DataError>,
}

impl Store<'_> {
    /// Runs one source; `true` when every file is there afterwards.
    pub(super) fn try_source(
        &mut self,
        name: &str,
        attempts: &mut Vec<Attempt>,
        source: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<bool, DataError> {
        let outcome = source(self);
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let reason = match outcome {
            Ok(()) => match self.missing().first() {
                None => return Ok(true),
                Some(file) => format!("it does not contain {}", file.name),
            },
            Err(reason) => reason,
        };
        tracing::warn!("{name}: {reason}");
        attempts.push(Attempt { source: name.to_owned(), reason });
        Ok(false)
    }

    pub(super) fn missing(&self) -> Vec<&'static KnownFile> {
        self.known
            .files
            .iter()
            .zip(&self.slots)
            .filter(|(_, slot)| slot.is_none())
            .map(|(file, _)| file)
            .collect()
    }

    /// Verifies the bytes of `file`, plain or compressed, and keeps them.
    pub(super) fn deliver(
        &mut self,
        file: &'static KnownFile,
        stored: &[u8],
        origin: &str,
    ) -> Result<(), String> {
        let named = Path::new(origin);
        let idx = idx::parse(stored, stored.len() as u64, file.content, named)
            .map_err(|error| error.to_string())?;
        verify(&idx, file, named).map_err(|error| error.to_string())?;
        let path = self.cache.join(file.name);
        if let Err(source) = self.write(file, &idx, &path) {
            self.failure = Some(DataError::Io { action: "write to the cache", path: path.clone(), source });
            return Err("the cache cannot be written".into());
        }
        for (slot, other) in self.slots.iter_mut().zip(&self.known.files) {
            if other.name == file.name {
                *slot = Some(IdxFile { path, idx });
                break;
            }
        }
        Ok(())
    }

    fn write(&self, file: &KnownFile, idx: &Idx, path: &Path) -> std::io::Result<()> {
        let mut temporary = temporary(self.cache)?;
        idx.write(file.content, &mut temporary)?;
        temporary.flush()?;
        keep(temporary, path)
    }
}
