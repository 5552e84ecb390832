//! Lists of the names of classes.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::DataError;
use crate::text::{composed, decoded};

/// The names of classes in a file with one a line, empty lines left out.
pub(crate) fn named_classes(path: &Path, bytes: &[u8]) -> Result<Vec<String>, DataError> {
    let fault = |reason: String| DataError::Folder { path: path.to_owned(), reason };
    let (text, guess) = decoded(bytes).map_err(fault)?;
    if let Some(guess) = guess {
        tracing::warn!("{}: {guess}", path.display());
    }
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(composed).collect();
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(twice) => {
            Err(fault(format!("the class `{twice}` is named twice; each needs a name of its own")))
        }
        None => Ok(names),
    }
}
