//! What surrounds a run, and what comes out of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data::Search;
use model::LoadReport;

use crate::config::arguments::ProgressMode;
use crate::run::record::RunResult;

/// What a run needs besides its configuration; none of it changes the numbers but `adapts_budget`, which changes the
/// configuration first.
#[derive(Clone, Debug)]
pub struct RunContext {
    /// `train` or `finetune`, for `run.json`.
    pub command: &'static str,
    /// The folder of runs.
    pub artifacts: PathBuf,
    /// The run's name, when one was given.
    pub name: Option<String>,
    /// Where data is looked for.
    pub search: Search,
    /// Where the data of a run that goes on lies now, when it was named anew.
    pub dataset: Option<String>,
    /// Whether a run may go on with data that changed since it began.
    pub accept_changed_data: bool,
    /// What is shown.
    pub progress: ProgressMode,
    /// Set by a signal.
    pub stop: Arc<AtomicBool>,
    /// Whether batch size and epochs follow the number of pictures, for folders and lists of them: the user set
    /// neither.
    pub adapts_budget: bool,
}

/// How a run that did not fail ended.
#[derive(Debug)]
pub enum Outcome {
    /// Tested and saved.
    Finished(Box<Finished>),
    /// Stopped by a signal, with a checkpoint.
    Interrupted {
        /// The run folder.
        run: PathBuf,
        /// Batches done.
        step: usize,
    },
}

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    /// Its figures.
    pub result: RunResult,
    /// What was taken from the starting model.
    pub loaded: Option<LoadReport>,
}
