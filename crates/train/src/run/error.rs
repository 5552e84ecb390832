//! What goes wrong with run folders.

use std::io;
use std::path::{Path, PathBuf};

use crate::run::lock::LockError;

/// What goes wrong with run folders.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
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
    /// The name is taken.
    #[error("{0} exists: choose another --name, remove the folder, or go on with it by --resume {0}")]
    Exists(PathBuf),
    /// A name that leaves the folder of runs.
    #[error("--name {0}: expected a plain name of letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// Not a run.
    #[error("{path} is not a run folder: {reason}")]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// It cannot be had for this process alone.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Nothing to resume.
    #[error("{folder} holds no unfinished run to resume{}", if .skipped.is_empty() { String::new() } else { format!(":\n  {}", .skipped.join("\n  ")) })]
    NothingUnfinished {
        /// The folder of runs.
        folder: PathBuf,
        /// One line for each run that is not finished and was passed over.
        skipped: Vec<String>,
    },
}

impl RunFolderError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
