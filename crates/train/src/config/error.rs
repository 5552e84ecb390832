//! Why a configuration was refused.

use std::path::PathBuf;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not TOML, a key is unknown or a value has the wrong type.
    #[error("{origin}: {message}")]
    Parse {
        /// The file, or the flag.
        origin: String,
        /// The parser's words, which name key and line.
        message: String,
    },
    /// No network of that name.
    #[error("--model {name}: no such network; expected one of {}", .known.join(", "))]
    Network {
        /// The name given.
        name: String,
        /// The names on offer.
        known: Vec<&'static str>,
    },
    /// `--set` needs `key=value`.
    #[error("--set {0}: expected key=value, for example --set optimizer.weight_decay=0.01")]
    Set(String),
    /// The augmentation's settings.
    #[error(transparent)]
    Augment(#[from] data::DataError),
    /// A value is outside its range.
    #[error("{key} = {found}: expected {expected}")]
    Range {
        /// Dotted key.
        key: &'static str,
        /// The value.
        found: String,
        /// The allowed range.
        expected: &'static str,
    },
}
