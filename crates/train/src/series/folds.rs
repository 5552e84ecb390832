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
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::command::{Failure, how_to_call, print, print_json, say, surroundings};
use crate::config::TrainConfig;
use crate::config::arguments::CommonArguments;
use crate::engine::interrupt::INTERRUPTED;
use crate::fit::{FitError, Start, Surroundings, load_pair_at, short_name, suited_before};
use crate::run::data_record;
use crate::run::folder::{RunFolder, RunFolderError, RunResult, read_record};
use crate::series::{Member, Spread, complete};

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
    /// Accuracy on the images held back, 0 to 1, over the folds that have finished.
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
            valid_accuracy: spread(|run| run.valid_accuracy),
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
    surroundings: &Surroundings,
) -> Result<Option<FoldsResult>, FitError> {
    let surroundings = &at_one_place(config, folder, series, surroundings)?;
    folder.write("config.toml", config.to_toml()?.as_bytes())?;
    let mut runs = Vec::new();
    for fold in 1..=config.data.folds {
        let mut config = config.clone();
        config.data.fold = fold;
        config.test = false;
        tracing::info!("fold {fold} of {}", config.data.folds);
        match complete(&config, &folder.path().join(format!("fold-{fold}")), series, surroundings)? {
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
    surroundings: &Surroundings,
) -> Result<Surroundings, FitError> {
    let path = folder.path();
    let place = data_record::place(path, surroundings.dataset.as_deref(), &config.data.dataset)?;
    if data_record::holds_runs(path) {
        let config = data_record::with_input(&[series], config);
        data_record::join_series(path, &place, &mut load_pair_at(&config, &place, &surroundings.search)?)?;
    }
    Ok(Surroundings { dataset: Some(place), ..surroundings.clone() })
}

/// When the cross-validation in a folder began, in seconds since 1970; `None` where there is none, or a finished one.
pub(crate) fn unfinished_since(folder: &Path) -> Option<u64> {
    if !folder.join("fold-1").is_dir() {
        return None;
    }
    let began = match read_record(&folder.join("fold-1")) {
        Ok(record) => record.started,
        // Killed before the first fold began.
        Err(_) => {
            let written = std::fs::metadata(folder.join("config.toml")).and_then(|config| config.modified());
            written.ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()
        }
    };
    let result = std::fs::read(folder.join(FOLDS_FILE)).ok();
    let result = result.and_then(|bytes| serde_json::from_slice::<FoldsResult>(&bytes).ok());
    let is_finished = result.is_some_and(|result| result.finished);
    (folder.join("config.toml").is_file() && !is_finished).then_some(began)
}

/// Cross-validates and prints what came out; `start` is the folder of a cross-validation to go on with, or anything
/// else for a new one.
///
/// # Errors
/// As [`cross_validate`].
pub fn run(
    command: &'static str,
    config: &TrainConfig,
    start: Start,
    common: &CommonArguments,
) -> Result<ExitCode, Failure> {
    let surroundings = surroundings(command, common)?;
    let suited = common.leaves_budget_open().then(|| {
        // All folds are of one size, but for an image.
        let mut first = config.clone();
        first.data.fold = 1;
        let suited = suited_before(&first, &surroundings.search)?;
        Ok::<_, FitError>(TrainConfig {
            batch_size: suited.batch_size,
            epochs: suited.epochs,
            ..config.clone()
        })
    });
    let suited = suited.transpose()?;
    let config = suited.as_ref().unwrap_or(config);
    let folder = match start {
        Start::Resume(folder) => folder,
        // Each fold opens the file anew.
        Start::Foreign(_) | Start::Weights(_) | Start::Scratch => {
            let label = format!("{command}-folds-{}", short_name(&config.data.dataset));
            RunFolder::create(&common.out, common.name.as_deref(), &label)?
        }
    };
    let Some(result) = cross_validate(config, &folder, folder.path(), &surroundings)? else {
        say(&format!(
            "stopped; what is done is saved. Go on with:\n  {} --resume {}",
            how_to_call(command),
            folder.path().display()
        ));
        return Ok(ExitCode::from(INTERRUPTED as u8));
    };
    if common.json {
        print_json(&result)?;
    } else {
        print(&in_words(&result))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(result: &FoldsResult) -> String {
    let mut text = String::new();
    for (index, run) in result.runs.iter().enumerate() {
        text.push_str(&format!(
            "fold {}  validation accuracy {:.2}%  loss {:.4}  (best epoch {} of {})\n",
            index + 1,
            run.valid_accuracy * 100.0,
            run.valid_loss,
            run.best_epoch,
            run.epochs,
        ));
    }
    format!(
        "{text}validation accuracy {:.2}% +- {:.2}% (mean and standard deviation of {} folds; the test split was not \
         read)\nruns    {}",
        result.valid_accuracy.mean * 100.0,
        result.valid_accuracy.deviation * 100.0,
        result.folds,
        result.run
    )
}
