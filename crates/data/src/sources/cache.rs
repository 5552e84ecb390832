//! Files of the cache: each gets its name when it is whole, and what killed processes left is removed.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::files::keep;

/// Prefix of temporary files and folders in the cache.
pub(super) const TEMPORARY: &str = ".part-";

/// Temporary files this old belong to a process that was killed.
pub(super) const ABANDONED: Duration = Duration::from_hours(1);

/// Removes what killed processes left. Failing to is no reason to stop.
pub(crate) fn remove_abandoned(cache: &Path) {
    let Ok(entries) = cache.read_dir() else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age > ABANDONED) {
            let path = entry.path();
            let removed =
                if metadata.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            tracing::debug!("{}: left by a killed run, removed: {removed:?}", path.display());
        }
    }
}

/// A new file in the cache that nobody reads before it is kept (see [`crate::files::keep`]).
pub(crate) fn temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    crate::files::temporary(folder, TEMPORARY, "")
}

/// Writes a file of the cache.
pub(crate) fn write(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let mut file = temporary(path.parent().unwrap_or(Path::new(".")))?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    keep(file, path)
}
