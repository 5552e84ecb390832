//! `run.json`: what a run was, on what, how long it took and how it ended.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data::{DatasetPair, InputRequest};
use evaluation::confidence::Calibration;
use evaluation::multi_label::{SetClassMetrics, SetFigures};
use model::TaskName;
use serde::{Deserialize, Serialize};

use crate::device::Adapter;
use crate::run::error::RunFolderError;
use crate::run::history::CodeVersion;

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// A process works on it, or died while it did.
    Running,
    /// Stopped by a signal; can be resumed.
    Interrupted,
    /// Stopped by an error.
    Failed,
    /// Tested and saved.
    Finished,
}

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its folder's name.
    pub name: String,
    /// `train` or `finetune`.
    pub command: String,
    /// How far it has come.
    pub status: RunStatus,
    /// Seconds since 1970 when it began.
    pub started: u64,
    /// Seed of everything random.
    pub seed: u64,
    /// What was learned. Absent in old runs: one class a picture.
    #[serde(default, skip_serializing_if = "is_classify")]
    pub task: TaskName,
    /// The data set's name, or its folder.
    pub dataset: String,
    /// SHA-256 of the data's uncompressed files, as the run began.
    pub data_sha256: BTreeMap<String, String>,
    /// What the run began with. Absent in old runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataRecord>,
    /// Data that changed since, and that the run went on with all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_data: Vec<ChangedData>,
    /// What became of the starting model's classes, when its head was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<KeptHead>,
    /// Where tensors lived.
    pub backend: String,
    /// The graphics adapter, for `wgpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Adapter>,
    /// The path the CPU kernels take, or took last.
    pub kernels: String,
    /// Which code computed which part of the run, in the order of the steps. Absent in old runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<CodeVersion>,
    /// Threads of the CPU pool.
    pub threads: usize,
    /// Versions of Kiln and Burn.
    pub versions: BTreeMap<String, String>,
    /// Network and its sizes in words.
    pub network: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// Images in the splits: train, valid, test.
    pub images: BTreeMap<String, usize>,
    /// Pictures that were left out because they cannot be decoded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_images: Vec<data::BadImage>,
    /// SHA-256 of what the run started from: of a model's weights, or of the file where another program wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_weights_sha256: Option<String>,
    /// What went wrong, for a failed run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether that was a loss which became infinite or no number: it would again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub diverged: bool,
    /// The end of a finished run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RunResult>,
    /// What a trial of a sweep had finished with before it was prolonged, by the epochs that it was to train then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<usize, RunResult>,
}

/// The figures of a finished run; with `--json`, what `train` and `finetune` print.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Run folder.
    pub run: String,
    /// Model file.
    pub model: String,
    /// Data set.
    pub dataset: String,
    /// Backend.
    pub backend: String,
    /// Seed.
    pub seed: u64,
    /// Epochs done.
    pub epochs: usize,
    /// The epoch that was saved.
    pub best_epoch: usize,
    /// Trainable parameters.
    pub parameters: usize,
    /// Accuracy of the saved model on the validation split, 0 to 1; with several labels a picture (`multi_label`) an image
    /// counts as right with all of its labels.
    pub valid_accuracy: f64,
    /// Mean cross-entropy of the saved model on the validation split.
    pub valid_loss: f64,
    /// Accuracy on the test split, 0 to 1 (as `valid_accuracy`); absent when the run was not tested (`test = false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
    /// Mean cross-entropy on the test split; absent when the run was not tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_loss: Option<f64>,
    /// Unweighted mean of the F1 of the classes with test images; absent when the run was not tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_macro_f1: Option<f64>,
    /// What else there is to say where a picture may have several labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_label: Option<MultiLabelResult>,
    /// Classes of which no image was tested (or validated, when the run was not tested): no figure speaks of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes_without_images: Vec<String>,
    /// Training images a second, median over the epochs.
    pub train_samples_per_second: f64,
    /// Seconds of training, over all processes that worked on the run.
    pub seconds: f64,
    /// Bytes of the model file.
    pub model_bytes: u64,
    /// SHA-256 of the saved weights.
    pub weights_sha256: String,
    /// SHA-256 of the last weights, which a resumed run must reproduce, too.
    pub last_weights_sha256: String,
    /// SHA-256 of the optimiser's state after the last update.
    pub optimizer_sha256: String,
    /// How well its probabilities are calibrated. Absent in old runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Share of the largest class among the images of the test split (of the validation split where the run was not
    /// tested), 0 to 1: the accuracy of always naming it. Absent in old runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_accuracy: Option<f64>,
    /// Whether the accuracy on them is no better than that, luck allowed for.
    #[serde(default)]
    pub no_better_than_chance: bool,
}

impl RunResult {
    /// The figure that runs are chosen by, 0 to 1: the accuracy on the validation split, with several labels a picture
    /// the mean average precision there.
    pub fn valid_score(&self) -> f64 {
        let precision = self.multi_label.as_ref().and_then(|found| found.valid_mean_average_precision);
        precision.unwrap_or(self.valid_accuracy)
    }
}

/// The figures of a run whose pictures may have several labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelResult {
    /// Mean average precision of the saved model on the validation split, by which its epoch was chosen.
    pub valid_mean_average_precision: Option<f64>,
    /// What the figures below are of: `test`, or `validation` where the run was not tested.
    pub subset: String,
    /// All labels together.
    #[serde(flatten)]
    pub figures: SetFigures,
    /// Each class, with the threshold that was fitted on validation images.
    pub per_class: Vec<SetClassMetrics>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_classify(task: &TaskName) -> bool {
    *task == TaskName::Classify
}

/// What a run began with, in `run.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Where it was found last, absolute; none for a data set that has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The classes in their order.
    pub classes: Vec<String>,
    /// Size and channels that the pictures got, which follow from all of them where the configuration does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputRequest>,
    /// [`DatasetPair::content_sha256`].
    pub content_sha256: String,
}

/// Data that changed and was accepted, in `run.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedData {
    /// The run went on with it after this many batches.
    pub step: usize,
    /// SHA-256 of the data's uncompressed files.
    pub data_sha256: BTreeMap<String, String>,
    /// [`DatasetPair::content_sha256`].
    pub content_sha256: String,
    /// What changed, in words.
    pub changes: Vec<String>,
}

impl DataRecord {
    /// Of the data found at `place`.
    pub fn new(place: &str, pair: &DatasetPair) -> Self {
        let is_known = data::known_names().contains(&place);
        let absolute = || std::path::absolute(place).unwrap_or_else(|_| PathBuf::from(place));
        Self {
            path: (!is_known).then(absolute),
            classes: pair.train.class_names.clone(),
            input: pair.pictures.is_some().then(|| pair.train.shape.into()),
            content_sha256: pair.content_sha256(),
        }
    }
}

/// A classification head that was kept, in `run.json`: classes are matched by their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHead {
    /// Classes that go on with what the starting model knows of them.
    pub kept: Vec<String>,
    /// Classes of the data that the starting model did not know: they begin anew.
    pub new: Vec<String>,
    /// Classes of the starting model that the data does not have.
    pub dropped: Vec<String>,
}

impl RunRecord {
    /// Whether its loss became infinite or no number. Runs of the first version say so in words only.
    pub fn has_diverged(&self) -> bool {
        let in_words = |error: &String| error.starts_with("training diverged");
        self.status == RunStatus::Failed && (self.diverged || self.error.as_ref().is_some_and(in_words))
    }
}

/// A run as `run.json` tells it.
#[derive(Clone, Debug)]
pub struct ListedRun {
    /// Its folder.
    pub path: PathBuf,
    /// Its record.
    pub record: RunRecord,
}

/// Reads a run's record.
///
/// # Errors
/// When the folder has no readable `run.json`.
pub fn read_record(path: &Path) -> Result<RunRecord, RunFolderError> {
    let file = path.join("run.json");
    let not_a_run = |reason: String| RunFolderError::NotARun { path: path.to_owned(), reason };
    let text = fs::read(&file).map_err(|error| not_a_run(format!("{}: {error}", file.display())))?;
    serde_json::from_slice(&text).map_err(|error| not_a_run(format!("{}: {error}", file.display())))
}

/// The runs in `artifacts`, newest first; folders that are no runs are passed over, and those whose `run.json` cannot
/// be read are so with a warning.
///
/// # Errors
/// When the folder exists but cannot be listed.
pub fn list(artifacts: &Path) -> Result<Vec<ListedRun>, RunFolderError> {
    let mut runs: Vec<ListedRun> = folders(artifacts)?
        .into_iter()
        .filter_map(|path| {
            let record = read_record(&path);
            if let Err(error) = &record
                && path.join("run.json").exists()
            {
                tracing::warn!("left out: {error}");
            }
            Some(ListedRun { path, record: record.ok()? })
        })
        .collect();
    runs.sort_by(|a, b| (b.record.started, &b.path).cmp(&(a.record.started, &a.path)));
    Ok(runs)
}

/// What the folder holds; nothing where there is no folder.
pub(crate) fn folders(artifacts: &Path) -> Result<Vec<PathBuf>, RunFolderError> {
    match fs::read_dir(artifacts) {
        Ok(listing) => Ok(listing.filter_map(Result::ok).map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(RunFolderError::io("list", artifacts, source)),
    }
}
