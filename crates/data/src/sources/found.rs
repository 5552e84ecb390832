//! Where known data sets are on this machine.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::Attempt;

/// What is known about one data set on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The data set.
    pub name: String,
    /// Where it is, complete and verified; `None` when it would have to be fetched.
    pub found: Option<Found>,
    /// The local places that were looked into without success.
    pub attempts: Vec<Attempt>,
}

/// A complete data set whose every hash was compared.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Folder or cache.
    pub origin: String,
    /// Its files.
    pub files: Vec<FoundFile>,
    /// Names of the classes.
    pub class_names: Vec<String>,
    /// Training images of each class.
    pub train_counts: Vec<usize>,
    /// Test images of each class.
    pub test_counts: Vec<usize>,
    /// Height and width of the images, in pixels.
    pub size: [usize; 2],
}

/// A verified file.
#[derive(Clone, Debug, Serialize)]
pub struct FoundFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length there, in bytes.
    pub bytes: u64,
    /// SHA-256 of its uncompressed content.
    pub sha256: String,
}
