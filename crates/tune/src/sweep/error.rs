//! What can go wrong with a sweep.

use std::path::PathBuf;

use train::config::ConfigError;
use train::fit::FitError;
use train::run::RunFolderError;
use train::run::data_record::DataRecordError;
use train::start::StartError;

/// Why a sweep cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A setting outside its range.
    #[error("{key} = {found}: expected {expected}")]
    Setting {
        /// Dotted key.
        key: String,
        /// What was given.
        found: String,
        /// What it takes.
        expected: &'static str,
    },
    /// A key that a sweep must not vary.
    #[error("sweep.parameters.{key} cannot be varied: {reason}")]
    Fixed {
        /// Dotted key.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// A trial whose configuration is refused.
    #[error("trial {number} ({values}): {source}")]
    Trial {
        /// Its number.
        number: usize,
        /// What it varies.
        values: String,
        /// Why it is refused.
        source: Box<FitError>,
    },
    /// The file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Where the trials start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A run.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The data is not what the sweep began with.
    #[error(transparent)]
    Data(#[from] DataRecordError),
    /// The folder.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// `sweep.json` is not what this program writes.
    #[error("{path} is damaged: {reason}; remove it: finished trials are found in their folders")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nothing to choose from.
    #[error("all {0} trials diverged: give lower learning rates")]
    AllDiverged(usize),
}

impl SweepError {
    pub(super) fn setting(key: &str, found: impl std::fmt::Display, expected: &'static str) -> Self {
        Self::Setting { key: key.to_owned(), found: found.to_string(), expected }
    }

    /// Whether the sweep's file is at fault (exit status 2).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Setting { .. } | Self::Fixed { .. } | Self::Config(_) => true,
            Self::Trial { source, .. } => source.is_usage(),
            Self::Fit(error) => error.is_usage(),
            Self::Start(error) => error.is_usage(),
            Self::Folder(error) => matches!(error, RunFolderError::Exists(_) | RunFolderError::Name(_)),
            Self::Data(_) | Self::Record { .. } | Self::AllDiverged(_) => false,
        }
    }
}
