//! Writing a file so that it is either the old one or the new one, whatever happens.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use model::hexadecimal;
use sha2::{Digest, Sha256};

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hexadecimal(Sha256::digest(bytes))
}

/// SHA-256 of a file, in lower-case hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hexadecimal(hasher.finalize()))
}

/// What the name of a file begins and ends with while it is being written.
const UNFINISHED: (&str, &str) = (".kiln-", ".tmp");

/// Writes beside `path`, syncs, and renames over it; makes the folder where it is missing. The file can be read by
/// whom the process lets read its files (its umask).
///
/// # Errors
/// When the system refuses.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = temporary(folder)?;
    file.write_all(bytes)?;
    data::files::keep(file, path)
}

/// A file that vanishes unless it is renamed. It is locked as long as it is open, which tells it from what a killed
/// process left behind.
fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let file = data::files::temporary(folder, UNFINISHED.0, UNFINISHED.1)?;
    // Without locks on this file system nothing is lost: what was left behind stays.
    let _ = file.as_file().try_lock();
    Ok(file)
}

/// Removes the files below `folder` that killed processes were writing; links are not followed, and what another
/// process is writing now stays.
pub(crate) fn remove_unfinished(folder: &Path) {
    let Ok(listing) = fs::read_dir(folder) else { return };
    for entry in listing.flatten() {
        let (Ok(kind), path) = (entry.file_type(), entry.path()) else { continue };
        if kind.is_dir() {
            remove_unfinished(&path);
        } else if kind.is_file() && is_unfinished(&entry.file_name().to_string_lossy()) {
            let abandoned = File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
            if abandoned && let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove what a killed process left");
            }
        }
    }
}

/// Whether a file has the name of one that is being written.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED.0) && name.ends_with(UNFINISHED.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_killed_processes_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("report");
        fs::create_dir_all(inner.join(".kiln-folder.tmp")).unwrap();
        for name in [".kiln-a1.tmp", "report/.kiln-b2.tmp", "kiln-c3.tmp", ".kiln-d4.tmp.txt", "model.kiln"] {
            fs::write(folder.path().join(name), "half").unwrap();
        }
        let written = temporary(&inner).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path().join("model.kiln"), inner.join(".kiln-link.tmp")).unwrap();
        remove_unfinished(folder.path());
        assert_eq!(names(folder.path()), [".kiln-d4.tmp.txt", "kiln-c3.tmp", "model.kiln", "report"]);
        let left = names(&inner);
        let current = written.path().file_name().unwrap().to_string_lossy().into_owned();
        assert!(left.contains(&current) && left.contains(&".kiln-folder.tmp".to_owned()), "{left:?}");
        assert!(!left.contains(&".kiln-b2.tmp".to_owned()), "{left:?}");
        drop(written);
    }
}
