//! The folder of a run, and every file in it.
//!
//! ```text
//! artifacts/<run>/
//!   config.toml      the resolved configuration; repeats the run
//!   run.json         what it was, on what, how long it took and how it ended
//!   data.csv         the pictures it was trained on: file, class, part and a hash of what it shows
//!   metrics.jsonl    one object an epoch
//!   tensorboard/     the same for TensorBoard
//!   checkpoints/     see `checkpoint`
//!   model.kiln       the best model, in one file
//!   report/          pictures and index.html
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use evaluation::confidence::Calibration;
use evaluation::metrics_log::EpochRecord;
use evaluation::report::ReportFile;
use serde::{Deserialize, Serialize};

use crate::device::Adapter;
use crate::fit::KeptHead;
use crate::run::checkpoint::CheckpointStore;
use crate::run::data_record::{ChangedData, DataRecord};
use crate::run::files::{is_unfinished, remove_unfinished, write_atomically};
use crate::run::history::Computed;
use crate::run::lock::{FolderLock, LockError};
use crate::run::tensorboard;

/// The file name of the model in a run folder.
pub const MODEL_FILE: &str = "model.kiln";

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
    pub history: Vec<Computed>,
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
    /// Accuracy of the saved model on the validation split, 0 to 1.
    pub valid_accuracy: f64,
    /// Mean cross-entropy of the saved model on the validation split.
    pub valid_loss: f64,
    /// Accuracy on the test split, 0 to 1; absent when the run was not tested (`test = false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
    /// Mean cross-entropy on the test split; absent when the run was not tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_loss: Option<f64>,
    /// Unweighted mean of the F1 of the classes with test images; absent when the run was not tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_macro_f1: Option<f64>,
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

/// What goes wrong with run folders.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The name is taken.
    #[error("{0} exists: choose another --name, remove the folder, or go on with it by --resume {0}")]
    Exists(PathBuf),
    /// A name that leaves the folder of runs.
    #[error("--name {0}: expected a plain name of letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// Not a run.
    #[error("{path} is not a run folder: {reason}")]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// It cannot be had for this process alone.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Nothing to resume.
    #[error("{folder} holds no unfinished run to resume{}", if .skipped.is_empty() { String::new() } else { format!(":\n  {}", .skipped.join("\n  ")) })]
    NothingUnfinished {
        /// The folder of runs.
        folder: PathBuf,
        /// One line for each run that is not finished and was passed over.
        skipped: Vec<String>,
    },
}

/// The open folder of one run, locked against other processes.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    lock: Arc<FolderLock>,
}

impl RunFolder {
    /// Creates `artifacts/<name>`; without a name, one from `label` and the date. What is there of a run that was
    /// killed before it had begun is replaced.
    ///
    /// # Errors
    /// When the name is taken or not plain, or the folder cannot be written.
    pub fn create(artifacts: &Path, name: Option<&str>, label: &str) -> Result<Self, RunFolderError> {
        let named = name.is_some();
        let base = match name {
            Some(name) if is_plain(name) => name.to_owned(),
            Some(name) => return Err(RunFolderError::Name(name.to_owned())),
            None => format!("{label}-{}", utc_stamp(now())),
        };
        fs::create_dir_all(artifacts).map_err(|source| failed("create", artifacts, source))?;
        for attempt in 1.. {
            let name = if attempt == 1 { base.clone() } else { format!("{base}-{attempt}") };
            let path = artifacts.join(name);
            match fs::create_dir(&path) {
                Ok(()) => return Self::lock(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && named => {
                    return if never_began(&path) {
                        Self::lock(path)
                    } else {
                        Err(RunFolderError::Exists(path))
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {}
                Err(source) => return Err(failed("create", &path, source)),
            }
        }
        Err(RunFolderError::Exists(artifacts.join(base)))
    }

    /// Opens an existing run to go on with it.
    ///
    /// # Errors
    /// When it is no run, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, RunFolderError> {
        Self::open_with(path, "config.toml")
    }

    /// Opens an existing folder that holds the file `mark`, which tells what kind of folder it is.
    ///
    /// # Errors
    /// When it does not hold that file, or another process holds it.
    pub fn open_with(path: &Path, mark: &str) -> Result<Self, RunFolderError> {
        if !path.join(mark).is_file() {
            let reason = if path.is_dir() && never_began(path) {
                format!("it has no {mark}, since it was stopped before it began; start it again with --name")
            } else {
                format!("it has no {mark}")
            };
            return Err(RunFolderError::NotARun { path: path.to_owned(), reason });
        }
        Self::lock(path.to_owned())
    }

    /// Opens the folder `name` in this one, creating it where there is none.
    ///
    /// # Errors
    /// When it cannot be created, or another process holds it.
    pub fn member(&self, name: &str) -> Result<Self, RunFolderError> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(|source| failed("create", &path, source))?;
        Self::lock(path)
    }

    /// Opens the folder of a run that may have been killed before its first file.
    ///
    /// # Errors
    /// When another process holds it.
    pub(crate) fn open_any(path: &Path) -> Result<Self, RunFolderError> {
        Self::lock(path.to_owned())
    }

    /// Removes the folder of a run that has nothing worth keeping.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn discard(self) -> Result<(), RunFolderError> {
        fs::remove_dir_all(&self.path).map_err(|source| failed("remove", &self.path, source))
    }

    /// The newest run in `artifacts` that is not finished and can go on. Those that diverged would diverge again, and
    /// those that another process works on are not free: they are passed over, and `say` hears of it.
    ///
    /// # Errors
    /// When there is none.
    pub fn open_newest_unfinished(
        artifacts: &Path,
        mut say: impl FnMut(&str),
    ) -> Result<Self, RunFolderError> {
        let runs = list(artifacts)?.into_iter().filter(|run| run.record.status != RunStatus::Finished);
        let runs = runs.map(|run| (run.record.started, run.path, run.record.has_diverged()));
        let series = folders(artifacts)?.into_iter().filter_map(|path| {
            let started = crate::series::folds::unfinished_since(&path)?;
            Some((started, path, false))
        });
        let mut unfinished: Vec<(u64, PathBuf, bool)> = runs.chain(series).collect();
        unfinished.sort();
        let mut skipped: Vec<String> = Vec::new();
        for (_, path, diverged) in unfinished.into_iter().rev() {
            let reason = if diverged {
                format!("{} diverged; to go on with it all the same, name it", path.display())
            } else {
                match Self::open(&path) {
                    Ok(run) => {
                        for line in &skipped {
                            say(line);
                        }
                        return Ok(run);
                    }
                    Err(error) => error.to_string(),
                }
            };
            skipped.push(format!("passed over: {reason}"));
        }
        Err(RunFolderError::NothingUnfinished { folder: artifacts.to_owned(), skipped })
    }

    fn lock(path: PathBuf) -> Result<Self, RunFolderError> {
        let lock = FolderLock::take(&path)?;
        // Nobody else writes here now.
        remove_unfinished(&path);
        Ok(Self { path, lock: Arc::new(lock) })
    }

    /// Whether the folder is still the one that this process has for itself.
    ///
    /// # Errors
    /// When it, or its lock, was removed or replaced: another process may work there.
    pub fn check_held(&self) -> Result<(), LockError> {
        self.lock.check()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's own name.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Its checkpoints.
    pub fn checkpoints(&self) -> CheckpointStore {
        CheckpointStore::new(self.path.join("checkpoints"))
    }

    /// Where its model goes.
    pub fn model_path(&self) -> PathBuf {
        self.path.join(MODEL_FILE)
    }

    /// Writes one file of the run, whole or not at all.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunFolderError> {
        self.check_held()?;
        let path = self.path.join(name);
        write_atomically(&path, bytes).map_err(|source| failed("write", &path, source))
    }

    /// The text of `config.toml`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn config_text(&self) -> Result<String, RunFolderError> {
        let path = self.path.join("config.toml");
        fs::read_to_string(&path).map_err(|source| failed("read", &path, source))
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write_record(&self, record: &RunRecord) -> Result<(), RunFolderError> {
        let text = serde_json::to_string_pretty(record)
            .map_err(|error| failed("serialise", &self.path.join("run.json"), error.into()))?;
        self.write("run.json", format!("{text}\n").as_bytes())
    }

    /// Writes `metrics.jsonl` and the TensorBoard file for all epochs so far; `started` is when the run
    /// began, in seconds since 1970.
    pub(crate) fn write_metrics(
        &self,
        started: u64,
        epochs: &[EpochRecord],
    ) -> Result<(), (PathBuf, io::Error)> {
        let path = self.path.join("metrics.jsonl");
        self.check_held().map_err(|error| (path.clone(), io::Error::other(error)))?;
        let lines: String = epochs.iter().map(EpochRecord::to_line).collect();
        write_atomically(&path, lines.as_bytes()).map_err(|error| (path, error))?;
        let path = self.path.join("tensorboard").join(tensorboard::file_name(started));
        let mut wall_time = started as f64;
        let mut bytes = tensorboard::file_header(wall_time);
        for epoch in epochs {
            wall_time += epoch.seconds;
            bytes.extend(tensorboard::epoch_event(wall_time, epoch));
        }
        write_atomically(&path, &bytes).map_err(|error| (path, error))
    }

    /// Writes the report's files under `report/`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write_report(&self, files: &[ReportFile]) -> Result<(), RunFolderError> {
        files.iter().try_for_each(|file| self.write(&format!("report/{}", file.name), &file.bytes))
    }
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

/// The runs in `artifacts`, newest first; folders that are no runs are passed over.
///
/// # Errors
/// When the folder exists but cannot be listed.
pub fn list(artifacts: &Path) -> Result<Vec<ListedRun>, RunFolderError> {
    let mut runs: Vec<ListedRun> = folders(artifacts)?
        .into_iter()
        .filter_map(|path| {
            let record = read_record(&path).ok()?;
            Some(ListedRun { path, record })
        })
        .collect();
    runs.sort_by(|a, b| (b.record.started, &b.path).cmp(&(a.record.started, &a.path)));
    Ok(runs)
}

/// What the folder holds; nothing where there is no folder.
fn folders(artifacts: &Path) -> Result<Vec<PathBuf>, RunFolderError> {
    match fs::read_dir(artifacts) {
        Ok(listing) => Ok(listing.filter_map(Result::ok).map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(failed("list", artifacts, source)),
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> RunFolderError {
    RunFolderError::Io { action, path: path.to_owned(), source }
}

/// Whether a folder holds no more than what a run leaves that was killed before its configuration was written.
fn never_began(path: &Path) -> bool {
    let ours = |name: &str| name == ".lock" || name == "run.json" || is_unfinished(name);
    fs::read_dir(path).is_ok_and(|listing| {
        listing
            .map(|entry| entry.map(|entry| ours(&entry.file_name().to_string_lossy())))
            .all(|ours| ours.unwrap_or(false))
    })
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 120 && !name.starts_with('.') && name.chars().all(plain)
}

/// `20261122-030405` in UTC, by the days-to-civil algorithm of Howard Hinnant's `chrono` notes.
fn utc_stamp(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let clock = seconds % 86_400;
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(utc_stamp(0), "19700101-000000");
        assert_eq!(utc_stamp(951_782_400), "20000229-000000");
        assert_eq!(utc_stamp(1_795_316_645), "20261122-030405");
    }

    #[test]
    fn a_taken_name_and_a_crooked_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunFolder::create(folder.path(), Some("one"), "x").unwrap();
        first.write("config.toml", b"").unwrap();
        assert!(matches!(RunFolder::create(folder.path(), Some("one"), "x"), Err(RunFolderError::Exists(_))));
        for name in ["", "../up", "a/b", ".hidden", "a b"] {
            assert!(matches!(
                RunFolder::create(folder.path(), Some(name), "x"),
                Err(RunFolderError::Name(_))
            ));
        }
        fs::write(first.path().join("config.toml"), "").unwrap();
        assert!(matches!(RunFolder::open(first.path()), Err(RunFolderError::Lock(LockError::Taken(_)))));
        let path = first.path().to_owned();
        drop(first);
        RunFolder::open(&path).unwrap();
    }

    #[test]
    fn what_a_run_left_that_never_began_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let create = || RunFolder::create(folder.path(), Some("one"), "x");
        let first = create().unwrap();
        assert!(matches!(create(), Err(RunFolderError::Lock(LockError::Taken(_)))), "it is being begun");
        let path = first.path().to_owned();
        drop(first);
        for name in ["run.json", ".kiln-x1.tmp"] {
            fs::write(path.join(name), "half").unwrap();
            let error = RunFolder::open(&path).unwrap_err().to_string();
            assert!(error.contains("before it began"), "{error}");
            drop(create().unwrap());
        }
        for name in ["config.toml", "notes.txt"] {
            fs::write(path.join(name), "").unwrap();
            assert!(matches!(create(), Err(RunFolderError::Exists(_))), "{name}");
            fs::remove_file(path.join(name)).unwrap();
        }
    }
}
