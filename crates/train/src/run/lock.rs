//! One process at a time in a folder.
//!
//! Where the system can lock folders (Unix) the folder itself is locked: no file can be removed from under that. The file
//! `.lock` in it is locked everywhere. A lock belongs to what is open, not to its name: after locking, and again before
//! anything is written, what is open is compared with what the name stands for.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = ".lock";
/// Attempts at a lock file that others remove at the same time.
const ATTEMPTS: usize = 100;

/// Why a folder is not this process's alone.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another process is working on {0}; wait for it or stop it first")]
    Taken(PathBuf),
    /// Something else has the name of the lock file.
    #[error("{path} is {found}: expected a plain file, or none; remove it")]
    NotAFile {
        /// The lock file.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
    },
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was this process's, and is no more.
    #[error(
        "{0} was removed or replaced while this process worked there; another process may do so now, so this one stops"
    )]
    Lost(PathBuf),
}

/// A folder held by this process until this is dropped.
#[derive(Debug)]
pub(crate) struct FolderLock {
    held: Vec<Held>,
}

/// A locked file or folder, and the name it had.
#[derive(Debug)]
struct Held {
    file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Takes a folder, or says that another process has it.
    ///
    /// # Errors
    /// When it is taken, cannot be written, or its lock file is a link or no file.
    pub(crate) fn take(folder: &Path) -> Result<Self, LockError> {
        let mut held = Vec::new();
        #[cfg(unix)]
        {
            let file = File::open(folder).map_err(|source| failed("open", folder, source))?;
            if locked(&file, folder)? {
                held.push(Held { file, path: folder.to_owned() });
            }
        }
        held.push(take_file(folder)?);
        let lock = Self { held };
        lock.check()?;
        Ok(lock)
    }

    /// Whether what is held still has its name. A lock file that was only tidied away is no harm where the folder
    /// itself is held.
    ///
    /// # Errors
    /// [`LockError::Lost`] when not.
    pub(crate) fn check(&self) -> Result<(), LockError> {
        let folder_is_held = self.held.len() > 1;
        for Held { file, path } in &self.held {
            let tidied = folder_is_held && path.ends_with(LOCK_FILE) && !exists(path);
            if !tidied && !is_same(file, path) {
                return Err(LockError::Lost(path.clone()));
            }
        }
        Ok(())
    }
}

fn take_file(folder: &Path) -> Result<Held, LockError> {
    let path = folder.join(LOCK_FILE);
    for _ in 0..ATTEMPTS {
        let Some(file) = open_or_create(&path)? else { continue };
        locked(&file, folder)?;
        if is_same(&file, &path) {
            return Ok(Held { file, path });
        }
    }
    Err(LockError::Taken(folder.to_owned()))
}

/// The lock file, without following a link and without changing what is there; `None` when it came or went meanwhile.
fn open_or_create(path: &Path) -> Result<Option<File>, LockError> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => return Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(failed("create", path, source)),
    }
    let found = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => None,
        Ok(metadata) if metadata.is_symlink() => Some("a symbolic link"),
        Ok(metadata) if metadata.is_dir() => Some("a folder"),
        Ok(_) => Some("neither file nor folder"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("read", path, source)),
    };
    if let Some(found) = found {
        return Err(LockError::NotAFile { path: path.to_owned(), found });
    }
    match OpenOptions::new().write(true).open(path) {
        // Compared with the name once it is locked: a link put there since then is noticed.
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("open", path, source)),
    }
}

/// Locks; `false` on a file system without locks.
fn locked(file: &File, folder: &Path) -> Result<bool, LockError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Err(LockError::Taken(folder.to_owned())),
        Err(TryLockError::Error(error)) => {
            tracing::debug!(%error, "no locks here");
            Ok(false)
        }
    }
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Whether the open file is what the name stands for, links not followed for a file.
#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    // A folder of runs may well be reached through a link; the lock file may not.
    let named = if path.ends_with(LOCK_FILE) { fs::symlink_metadata(path) } else { fs::metadata(path) };
    let Ok((named, open)) = named.and_then(|named| Ok((named, file.metadata()?))) else { return false };
    (named.dev(), named.ino()) == (open.dev(), open.ino())
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn is_same(_file: &File, path: &Path) -> bool {
    exists(path)
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> LockError {
    LockError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path()).unwrap();
        assert!(matches!(FolderLock::take(folder.path()), Err(LockError::Taken(_))));
        first.check().unwrap();
        drop(first);
        FolderLock::take(folder.path()).unwrap();
    }

    /// Removed, replaced, moved away: nobody else gets in while the holder goes on, and the holder notices.
    #[cfg(unix)]
    #[test]
    fn a_removed_lock_lets_nobody_in() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("run");
        fs::create_dir(&folder).unwrap();
        let file = folder.join(LOCK_FILE);
        let first = FolderLock::take(&folder).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(matches!(FolderLock::take(&folder), Err(LockError::Taken(_))));
        first.check().unwrap();

        fs::write(&file, "").unwrap();
        assert!(matches!(first.check(), Err(LockError::Lost(_))), "another lock file");

        fs::rename(&folder, parent.path().join("moved")).unwrap();
        assert!(matches!(first.check(), Err(LockError::Lost(_))));
        fs::create_dir(&folder).unwrap();
        FolderLock::take(&folder).unwrap();
        assert!(matches!(first.check(), Err(LockError::Lost(_))), "another folder of that name");
    }

    /// The file alone, as where folders cannot be locked.
    #[cfg(unix)]
    #[test]
    fn a_removed_file_alone_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(LOCK_FILE);
        let first = FolderLock { held: vec![take_file(folder.path()).unwrap()] };
        fs::remove_file(&file).unwrap();
        assert!(matches!(first.check(), Err(LockError::Lost(_))));
        let second = FolderLock { held: vec![take_file(folder.path()).unwrap()] };
        second.check().unwrap();
        assert!(matches!(first.check(), Err(LockError::Lost(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed_and_nothing_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let (target, file) = (folder.path().join("thesis.txt"), folder.path().join(LOCK_FILE));
        fs::write(&target, "years of work").unwrap();
        for to in [target.as_path(), Path::new("nowhere")] {
            std::os::unix::fs::symlink(to, &file).unwrap();
            let error = FolderLock::take(folder.path()).unwrap_err().to_string();
            assert!(error.contains(".lock is a symbolic link"), "{error}");
            fs::remove_file(&file).unwrap();
        }
        assert!(!folder.path().join("nowhere").exists());
        fs::create_dir(&file).unwrap();
        assert!(FolderLock::take(folder.path()).unwrap_err().to_string().contains("a folder"));
        fs::remove_dir(&file).unwrap();
        // What is in the file stays, too.
        fs::rename(&target, &file).unwrap();
        FolderLock::take(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "years of work");
    }
}
