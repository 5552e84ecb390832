//! Which model to start from.

use std::fmt;
use std::path::{Path, PathBuf};

use train::command::Failure;
use train::run::folder::MODEL_FILE;
use train::run::record::{RunStatus, list};
use train::start::model_io::{REFERENCE as REFERENCE_RUN, has_reference, model_path};

/// The one committed model, below the folder of runs.
const REFERENCE: &str = "reference";

/// A model file and how it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    path: PathBuf,
    why: &'static str,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.why)
    }
}

impl Source {
    /// What `--from` names; else the newest finished run in `artifacts` that was trained on other
    /// data than `dataset`; else the reference model.
    ///
    /// # Errors
    /// When there is nothing to start from.
    pub fn find(from: Option<&Path>, artifacts: &Path, dataset: &str) -> Result<Self, Failure> {
        if let Some(path) = from {
            return Ok(Self { path: model_path(path), why: "--from" });
        }
        let newest = list(artifacts)?.into_iter().find(|run| {
            run.record.status == RunStatus::Finished
                && run.record.dataset != dataset
                && run.path.join(MODEL_FILE).is_file()
        });
        if let Some(run) = newest {
            return Ok(Self {
                path: run.path.join(MODEL_FILE),
                why: "the newest finished run on other data",
            });
        }
        let near = artifacts.join(REFERENCE).join(MODEL_FILE);
        let path = if near.is_file() { near } else { Path::new(REFERENCE_RUN).join(MODEL_FILE) };
        if path.is_file() || has_reference() {
            return Ok(Self { path, why: "the reference model; no finished run on other data was found" });
        }
        Err(Failure::failed(format!(
            "there is nothing to fine-tune: no finished run in {0}, and no reference model at {0}/{REFERENCE}/{MODEL_FILE}; \
             train one first, or name a model file with --from",
            artifacts.display()
        )))
    }

    /// The model file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
