//! Cross-validation: the labelled images are dealt into folds, and one run for each is judged on the images that it
//! has not seen. The test split takes no part.
//!
//! ```text
//! artifacts/<name>/
//!   config.toml      the configuration, with `data.folds` and without `data.fold`
//!   folds.json       mean and standard deviation, and the figures of the runs that have finished
//!   fold-1/ ...      run folders
//! ```

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;
use crate::fit::{FitError, RunContext};
use crate::run::RunFolderError;
use crate::run::data_record;
use crate::run::folder::RunFolder;
use crate::run::record::RunResult;
use crate::series::member::{Member, Spread, complete};
use crate::task::load_pair_at;

/// The file with the figures of a cross-validation.
pub const FOLDS_FILE: &str = "folds.json";

/// `folds.json`; with `--json`, what is printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoldsResult {
    /// The folder of the runs.
    pub run: String,
    /// Data set.
    pub dataset: String,
    /// How many folds there are.
    pub folds: usize,
    /// Whether every fold has finished.
    pub finished: bool,
    /// Accuracy (with several labels a picture: mean average precision) on the images held back, 0 to 1, over the folds
    /// that have finished.
    pub valid_accuracy: Spread,
    /// Mean cross-entropy on the images held back.
    pub valid_loss: Spread,
    /// Seconds of training, all folds together.
    pub seconds: f64,
    /// The figures of each fold.
    pub runs: Vec<RunResult>,
}

impl FoldsResult {
    fn new(folder: &Path, config: &TrainConfig, runs: Vec<RunResult>) -> Self {
        let spread = |figure: fn(&RunResult) -> f64| Spread::of(&runs.iter().map(figure).collect::<Vec<_>>());
        Self {
            run: folder.display().to_string(),
            dataset: config.data.dataset.clone(),
            folds: config.data.folds,
            finished: runs.len() == config.data.folds,
            valid_accuracy: spread(RunResult::valid_score),
            valid_loss: spread(|run| run.valid_loss),
            seconds: runs.iter().map(|run| run.seconds).sum(),
            runs,
        }
    }
}

/// Runs every fold of `config` that has not finished, one after the other; `None` when a signal stopped one. `series` is
/// the folder of the sweep that this is a trial of, or `folder` itself.
///
/// # Errors
/// As [`complete`]; what is done stays done.
pub fn cross_validate(
    config: &TrainConfig,
    folder: &RunFolder,
    series: &Path,
    context: &RunContext,
) -> Result<Option<FoldsResult>, FitError> {
    let context = &at_one_place(config, folder, series, context)?;
    folder.write("config.toml", config.to_toml()?.as_bytes())?;
    let mut runs = Vec::new();
    for fold in 1..=config.data.folds {
        let mut config = config.clone();
        config.data.fold = fold;
        config.test = false;
        tracing::info!("fold {fold} of {}", config.data.folds);
        match complete(&config, &folder.path().join(format!("fold-{fold}")), series, context)? {
            Member::Finished(result) => runs.push(*result),
            Member::Interrupted => return Ok(None),
        }
        let result = FoldsResult::new(folder.path(), &config, runs.clone());
        let text = serde_json::to_string_pretty(&result).map_err(|error| RunFolderError::Io {
            action: "serialise",
            path: folder.path().join(FOLDS_FILE),
            source: error.into(),
        })?;
        folder.write(FOLDS_FILE, format!("{text}\n").as_bytes())?;
    }
    Ok(Some(FoldsResult::new(folder.path(), config, runs)))
}

/// Where the data of the folds is: for a cross-validation that goes on, what has finished must have seen the same.
fn at_one_place(
    config: &TrainConfig,
    folder: &RunFolder,
    series: &Path,
    context: &RunContext,
) -> Result<RunContext, FitError> {
    let path = folder.path();
    let place = data_record::place(path, context.dataset.as_deref(), &config.data.dataset)?;
    if data_record::holds_runs(path) {
        let config = data_record::with_input(&[series], config);
        data_record::join_series(path, &place, &mut load_pair_at(&config, &place, &context.search)?)?;
    }
    Ok(RunContext { dataset: Some(place), ..context.clone() })
}
