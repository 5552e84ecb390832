//! Model files on disk.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::Device;
use data::text::composed;
use model::{Metadata, Model, ModelFileError};

use crate::run::folder::MODEL_FILE;

/// A model file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelIoError {
    /// The system refused.
    #[error("cannot read the model {path}: {source}{}", if *.hint { "\nA run folder has its model only after the run has finished" } else { "" })]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// Whether it was looked for in a run folder.
        hint: bool,
    },
    /// The content is not a model, or damaged.
    #[error("{path}: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ModelFileError,
    },
}

/// Where the reference model lies in a checkout: what answers when no model is named.
pub const REFERENCE: &str = "artifacts/reference";

/// The reference model inside the program.
static BUILT_IN: OnceLock<&'static [u8]> = OnceLock::new();

/// Gives the process a reference model that answers where no file [`REFERENCE`] is. A second call changes nothing.
pub fn provide_reference(bytes: &'static [u8]) {
    let _ = BUILT_IN.set(bytes);
}

/// Whether [`read`] gives the reference model: from its file, or from inside the program.
pub fn has_reference() -> bool {
    BUILT_IN.get().is_some() || Path::new(REFERENCE).join(MODEL_FILE).is_file()
}

/// The reference model inside the program, where it is asked for by its name and no such file is.
fn built_in(path: &Path, error: &std::io::Error) -> Option<Vec<u8>> {
    let missing = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    let asked = path == Path::new(REFERENCE) || path == Path::new(REFERENCE).join(MODEL_FILE);
    let bytes = BUILT_IN.get().filter(|_| missing && asked)?;
    tracing::info!(
        "no {REFERENCE} here: the reference model inside the program is used (digits, trained on MNIST)"
    );
    Some(bytes.to_vec())
}

/// The model file that a run folder or a file name stands for.
pub fn model_path(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(MODEL_FILE) } else { path.to_owned() }
}

/// Reads and verifies a model file, or that of a run folder.
///
/// # Errors
/// When it cannot be read, is damaged, or does not reproduce its probe logits.
pub fn load(path: &Path, device: &Device) -> Result<Model, ModelIoError> {
    let path = model_path(path);
    let bytes = read(&path)?;
    let mut model = model::decode(&bytes, device).map_err(|source| ModelIoError::Content { path, source })?;
    compose(&mut model.metadata);
    Ok(model)
}

/// Only what the file says about itself.
///
/// # Errors
/// As [`load`], but for what only the tensors can show.
pub fn load_metadata(path: &Path) -> Result<Metadata, ModelIoError> {
    let path = model_path(path);
    let bytes = read(&path)?;
    let mut metadata =
        model::read_metadata(&bytes).map_err(|source| ModelIoError::Content { path, source })?;
    compose(&mut metadata);
    Ok(metadata)
}

/// Names of classes in the form in which those of data come, to compare them.
fn compose(metadata: &mut Metadata) {
    for name in &mut metadata.classes {
        *name = composed(name);
    }
}

/// The bytes of a model file; those inside the program for a reference model that is not there as a file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, ModelIoError> {
    fs::read(path).or_else(|source| {
        built_in(path, &source).ok_or_else(|| ModelIoError::Read {
            path: path.to_owned(),
            source,
            hint: path.parent().is_some_and(|folder| folder.join("run.json").is_file()),
        })
    })
}
