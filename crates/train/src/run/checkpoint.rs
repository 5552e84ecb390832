//! A checkpoint is one folder that is either whole or not there.
//!
//! `checkpoints/step-00000430/` holds the records of model, optimiser and schedule (burnpack), the
//! weight average, `state.json`, and `manifest.json`, which names every file with its size and
//! SHA-256 and is renamed into place last. A folder without a manifest is the remains of a killed
//! process. The manifest's first line is the SHA-256 of the rest, so that no bit of a checkpoint can
//! change unnoticed.
//!
//! Longer than other files: what is written and what is verified stand side by side, with tests of every damage.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data::files::sync_folder;
use evaluation::metrics_log::EpochRecord;
use serde::{Deserialize, Serialize};

use crate::run::files::{sha256_hex, write_atomically};
use crate::run::history::CodeVersion;
use crate::run::lock::LockError;

const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const SCHEDULE: &str = "schedule.bpk";
const AVERAGE: &str = "average.bin";
const STATE: &str = "state.json";
/// No file of a checkpoint is larger; a manifest that claims more is damaged.
const LARGEST_FILE: u64 = 8 << 30;

/// Where training stands, besides the records: everything that decides what comes next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingState {
    /// The epoch that runs or is next, from 1.
    pub epoch: usize,
    /// Batches of that epoch that are done.
    pub batch: usize,
    /// Batches done in the whole run.
    pub step: usize,
    /// Sums over the batches of the epoch so far.
    pub running: RunningMetrics,
    /// One record per finished epoch.
    pub epochs: Vec<EpochRecord>,
    /// The best epoch so far.
    pub best: Option<BestEpoch>,
    /// Epochs since validation improved by the minimum change.
    pub waited: usize,
    /// The validation loss that early stopping compares with.
    pub stopping_reference: Option<f64>,
    /// Epochs since the plateau schedule saw an improvement.
    pub plateau_waited: usize,
    /// The lowest validation loss the plateau schedule has seen.
    pub plateau_reference: Option<f64>,
    /// Seconds of training so far, over all processes that worked on the run.
    pub seconds: f64,
    /// Seconds spent in the epoch so far.
    pub epoch_seconds: f64,
    /// SHA-256 of the run's `config.toml`.
    pub config_sha256: String,
    /// Which code computed it. Empty in old checkpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<CodeVersion>,
}

/// Sums over the training batches of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningMetrics {
    /// Sum of loss times batch size.
    pub loss: f64,
    /// Images classified right.
    pub correct: usize,
    /// Images seen.
    pub images: usize,
}

impl RunningMetrics {
    /// Takes in a batch with its mean loss.
    pub(crate) fn add(&mut self, loss: f32, correct: usize, images: usize) {
        self.loss += f64::from(loss) * images as f64;
        self.correct += correct;
        self.images += images;
    }
}

/// The epoch that validation likes best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestEpoch {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The step its checkpoint is filed under.
    pub step: usize,
    /// Its validation loss.
    pub valid_loss: f64,
    /// Its validation accuracy.
    pub valid_accuracy: f64,
    /// Its mean average precision, for a task that is judged by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_mean_average_precision: Option<f64>,
}

/// The verified content of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Burnpack record of the model.
    pub model: Vec<u8>,
    /// Burnpack record of the optimiser.
    pub optimizer: Vec<u8>,
    /// Burnpack record of the schedule.
    pub schedule: Vec<u8>,
    /// The weight average, when one is kept.
    pub average: Option<Vec<u8>>,
    /// Everything else.
    pub state: TrainingState,
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
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
    /// The bytes are not the ones that were written.
    #[error("checkpoint {path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The run's folder is no longer this process's.
    #[error(transparent)]
    Lost(#[from] LockError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    step: usize,
    files: BTreeMap<String, FileEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    bytes: u64,
    sha256: String,
}

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    folder: PathBuf,
}

impl CheckpointStore {
    /// The store in `folder`, which may not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder of the checkpoint after `step` batches.
    pub fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    /// The committed steps, oldest first, whether valid or not.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn steps(&self) -> Result<Vec<usize>, CheckpointError> {
        Ok(self.entries()?.into_iter().filter_map(|(step, committed)| committed.then_some(step)).collect())
    }

    fn entries(&self) -> Result<Vec<(usize, bool)>, CheckpointError> {
        let listing = match fs::read_dir(&self.folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed("list", &self.folder, source)),
        };
        let mut entries: Vec<(usize, bool)> = listing
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
                Some((step, entry.path().join(MANIFEST).exists()))
            })
            .collect();
        entries.sort_unstable();
        Ok(entries)
    }

    /// Removes what a killed process left: folders without a manifest.
    ///
    /// # Errors
    /// When the folder cannot be listed; what cannot be removed is left for the next time.
    pub fn clean(&self) -> Result<(), CheckpointError> {
        for (step, committed) in self.entries()? {
            if !committed {
                let path = self.path(step);
                tracing::debug!(path = %path.display(), "removing the remains of a killed process");
                if let Err(error) = remove_all(&path) {
                    tracing::warn!("{error}");
                }
            }
        }
        Ok(())
    }

    /// Removes the checkpoints behind `step`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn forget_after(&self, step: usize) -> Result<(), CheckpointError> {
        self.steps()?
            .into_iter()
            .filter(|&later| later > step)
            .try_for_each(|later| remove_all(&self.path(later)))
    }

    /// Writes a checkpoint; it exists once this returns, and not before. One of the same step that is whole and was
    /// computed in the same way holds the same state, and stays.
    ///
    /// # Errors
    /// When the folder cannot be written. Earlier checkpoints stay as they are.
    pub fn commit(&self, snapshot: &Snapshot) -> Result<(), CheckpointError> {
        let step = snapshot.state.step;
        let folder = self.path(step);
        let same = |there: &Snapshot| {
            there.state.config_sha256 == snapshot.state.config_sha256
                && there.state.history == snapshot.state.history
        };
        if folder.join(MANIFEST).exists() && self.read(step).is_ok_and(|there| same(&there)) {
            return Ok(());
        }
        remove_all(&folder)?;
        fs::create_dir_all(&folder).map_err(|source| failed("create", &folder, source))?;
        let written = self.write_files(&folder, step, snapshot);
        if written.is_err() {
            // Gives the space back on a full disk; a leftover would be cleaned at the next start anyway.
            let _ = fs::remove_dir_all(&folder);
        }
        written
    }

    fn write_files(&self, folder: &Path, step: usize, snapshot: &Snapshot) -> Result<(), CheckpointError> {
        let state = serde_json::to_vec_pretty(&snapshot.state)
            .map_err(|error| failed("serialise", &folder.join(STATE), error.into()))?;
        let mut files: Vec<(&str, &[u8])> = vec![
            (MODEL, &snapshot.model),
            (OPTIMIZER, &snapshot.optimizer),
            (SCHEDULE, &snapshot.schedule),
            (STATE, &state),
        ];
        if let Some(average) = &snapshot.average {
            files.push((AVERAGE, average));
        }
        let mut manifest = Manifest { format: FORMAT, step, files: BTreeMap::new() };
        for (name, bytes) in files {
            let path = folder.join(name);
            write_synced(&path, bytes).map_err(|source| failed("write", &path, source))?;
            let entry = FileEntry { bytes: bytes.len() as u64, sha256: sha256_hex(bytes) };
            manifest.files.insert(name.to_owned(), entry);
        }
        let path = folder.join(MANIFEST);
        let body = serde_json::to_string_pretty(&manifest)
            .map_err(|error| failed("serialise", &path, error.into()))?;
        let text = format!("{}\n{body}\n", sha256_hex(format!("{body}\n").as_bytes()));
        write_atomically(&path, text.as_bytes()).map_err(|source| failed("write", &path, source))?;
        sync_folder(&self.folder);
        Ok(())
    }

    /// Reads and verifies the checkpoint after `step` batches.
    ///
    /// # Errors
    /// When a file is missing, truncated, has extra bytes or a changed bit.
    pub fn read(&self, step: usize) -> Result<Snapshot, CheckpointError> {
        let folder = self.path(step);
        let path = folder.join(MANIFEST);
        let text = fs::read(&path).map_err(|source| failed("read", &path, source))?;
        let damaged =
            |path: &Path, reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
        let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
        let (digest, body) = text.split_at(end);
        let body = body.get(1..).unwrap_or_default();
        if digest != sha256_hex(body).as_bytes() {
            return Err(damaged(&path, "its first line is not the SHA-256 of the rest".to_owned()));
        }
        let manifest: Manifest =
            serde_json::from_slice(body).map_err(|error| damaged(&path, error.to_string()))?;
        if manifest.format != FORMAT || manifest.step != step {
            return Err(damaged(
                &path,
                format!(
                    "expected format {FORMAT} and step {step}, found {} and {}",
                    manifest.format, manifest.step
                ),
            ));
        }
        let mut files = HashMap::new();
        for (name, entry) in &manifest.files {
            let path = folder.join(name);
            let bytes = read_verified(&path, entry)?;
            files.insert(name.as_str(), bytes);
        }
        let mut take =
            |name: &str| files.remove(name).ok_or_else(|| damaged(&path, format!("it does not list {name}")));
        let state = take(STATE)?;
        Ok(Snapshot {
            model: take(MODEL)?,
            optimizer: take(OPTIMIZER)?,
            schedule: take(SCHEDULE)?,
            average: take(AVERAGE).ok(),
            state: serde_json::from_slice(&state)
                .map_err(|error| damaged(&folder.join(STATE), error.to_string()))?,
        })
    }

    /// The newest checkpoint that is whole; damaged ones are passed over.
    pub fn newest(&self) -> Option<Snapshot> {
        self.steps().ok()?.into_iter().rev().find_map(|step| self.read(step).ok())
    }

    /// The newest checkpoint from which the run can be finished: it is whole, and so is that of the best epoch it knows.
    /// The others are reported; what is trained again takes the place of what is damaged. `None` when the run has to
    /// begin again.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn recover(&self) -> Result<Option<Snapshot>, CheckpointError> {
        self.clean()?;
        for step in self.steps()?.into_iter().rev() {
            let whole = self.read(step).and_then(|snapshot| {
                let best = snapshot.state.best.as_ref().map(|best| best.step);
                if let Some(best) = best.filter(|best| *best != step) {
                    self.read(best)?;
                }
                Ok(snapshot)
            });
            match whole {
                Ok(snapshot) => return Ok(Some(snapshot)),
                Err(error) => tracing::warn!("{error}; going back before step {step}"),
            }
        }
        Ok(None)
    }

    /// Of the checkpoints up to `step`, keeps the newest `keep` and the best, and removes the others. Later ones are
    /// there when a run goes back; it will reach them.
    pub(super) fn prune(&self, step: usize, keep: usize, best: Option<usize>) {
        let Ok(mut steps) = self.steps() else { return };
        steps.retain(|committed| *committed <= step);
        let old = steps.len().saturating_sub(keep);
        for step in &steps[..old] {
            if Some(*step) == best {
                continue;
            }
            let path = self.path(*step);
            // The manifest goes first: what a kill leaves of the rest is an orphan.
            let removed = fs::remove_file(path.join(MANIFEST)).and_then(|()| fs::remove_dir_all(&path));
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old checkpoint");
            }
        }
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Io { action, path: path.to_owned(), source }
}

/// Removes a folder, or whatever has its name.
fn remove_all(path: &Path) -> Result<(), CheckpointError> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    match if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) } {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed("remove", path, source)),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn read_verified(path: &Path, entry: &FileEntry) -> Result<Vec<u8>, CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let length = fs::metadata(path).map_err(|source| failed("read", path, source))?.len();
    if length != entry.bytes || length > LARGEST_FILE {
        return Err(damaged(format!("expected {} bytes, found {length}", entry.bytes)));
    }
    let bytes = fs::read(path).map_err(|source| failed("read", path, source))?;
    let found = sha256_hex(&bytes);
    if found != entry.sha256 {
        return Err(damaged(format!("expected SHA-256 {}, found {found}", entry.sha256)));
    }
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn snapshot(step: usize) -> Snapshot {
        let state = TrainingState {
            epoch: 3,
            step,
            running: RunningMetrics { loss: 0.1 + 0.2, correct: 5, images: 9 },
            config_sha256: "ab".to_owned(),
            ..TrainingState::default()
        };
        Snapshot {
            model: (0..200u8).collect(),
            optimizer: vec![7; 1_500],
            schedule: vec![1, 2, 3],
            average: step.is_multiple_of(2).then(|| vec![9; 50]),
            state,
        }
    }

    fn store() -> (tempfile::TempDir, CheckpointStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(folder.path().join("checkpoints"));
        (folder, store)
    }

    #[test]
    fn what_was_committed_is_read_back() {
        let (_folder, store) = store();
        for step in [4, 5] {
            store.commit(&snapshot(step)).unwrap();
            assert_eq!(store.read(step).unwrap(), snapshot(step));
        }
        assert_eq!(store.newest().unwrap().state.step, 5);
        assert_eq!(store.recover().unwrap().unwrap().state.step, 5);
    }

    /// Every bit of every file, and every truncation.
    #[test]
    fn no_changed_bit_and_no_truncation_goes_unnoticed() {
        let (_folder, store) = store();
        store.commit(&snapshot(4)).unwrap();
        let mut flips = 0;
        for name in FILES {
            let path = store.path(4).join(name);
            let good = fs::read(&path).unwrap();
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, &bad).unwrap();
                assert!(store.read(4).is_err(), "{name}: bit {bit}");
                flips += 1;
            }
            for length in 0..good.len() {
                fs::write(&path, &good[..length]).unwrap();
                assert!(store.read(4).is_err(), "{name}: {length} bytes");
            }
            fs::write(&path, [&good[..], b"x"].concat()).unwrap();
            assert!(store.read(4).is_err(), "{name}: one byte more");
            fs::write(&path, &good).unwrap();
        }
        assert!(flips >= 20_000, "{flips}");
        store.read(4).unwrap();
    }

    /// Checkpoints of steps 1 to 4; those of 3 and 4 know step 2 as the best.
    fn with_a_best_one() -> (tempfile::TempDir, CheckpointStore) {
        let (folder, store) = store();
        for step in 1..=4 {
            let mut snapshot = snapshot(step);
            let best = BestEpoch {
                epoch: 1,
                step: 2,
                valid_loss: 0.1,
                valid_accuracy: 0.9,
                valid_mean_average_precision: None,
            };
            snapshot.state.best = (step >= 2).then_some(best);
            store.commit(&snapshot).unwrap();
        }
        (folder, store)
    }

    /// The files of a checkpoint with a weight average.
    pub(crate) const FILES: [&str; 6] = [MODEL, OPTIMIZER, SCHEDULE, AVERAGE, STATE, MANIFEST];

    /// What can happen to a file, and its name.
    type Harm = (&'static str, fn(&Path));

    pub(crate) const HARMS: [Harm; 4] = [
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("emptied", |path| fs::write(path, b"").unwrap()),
        ("cut", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("changed", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
    ];

    /// Every file of every checkpoint, harmed in every way: the run goes back before what is lost, and what is trained
    /// again takes its place.
    #[test]
    fn a_run_goes_back_before_whatever_is_damaged() {
        for (hurt, expected) in [(1, Some(4)), (2, Some(1)), (3, Some(4)), (4, Some(3))] {
            for name in [MODEL, OPTIMIZER, SCHEDULE, STATE, MANIFEST] {
                for (harm, damage) in HARMS {
                    let (_folder, store) = with_a_best_one();
                    damage(&store.path(hurt).join(name));
                    let found = store.recover().unwrap().map(|snapshot| snapshot.state.step);
                    assert_eq!(found, expected, "{name} of step {hurt} {harm}");
                    for step in 1..=4 {
                        store.commit(&snapshot(step)).unwrap();
                        store.read(step).unwrap_or_else(|error| panic!("{name} of {hurt} {harm}: {error}"));
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_whole_means_to_begin_again() {
        let (_folder, store) = store();
        assert!(store.recover().unwrap().is_none() && store.newest().is_none());
        store.commit(&snapshot(2)).unwrap();
        fs::create_dir_all(store.path(3)).unwrap();
        fs::write(store.path(3).join(MODEL), b"half").unwrap();
        fs::write(store.path(4), b"no folder").unwrap();
        assert_eq!(store.recover().unwrap().unwrap().state.step, 2);
        assert!(!store.path(3).exists() && !store.path(4).exists(), "the remains of killed processes go");
        fs::write(store.path(2).join(OPTIMIZER), b"short").unwrap();
        let error = store.read(2).unwrap_err().to_string();
        assert!(error.contains("expected 1500 bytes, found 5"), "{error}");
        assert!(store.recover().unwrap().is_none());
        store.commit(&snapshot(2)).unwrap();
        assert_eq!(store.read(2).unwrap(), snapshot(2));
    }

    /// A run that is prolonged has another configuration.
    #[test]
    fn a_checkpoint_of_another_configuration_is_replaced() {
        let (_folder, store) = store();
        store.commit(&snapshot(2)).unwrap();
        let mut other = snapshot(2);
        other.state.config_sha256 = "cd".to_owned();
        store.commit(&other).unwrap();
        assert_eq!(store.read(2).unwrap(), other);
    }

    #[test]
    fn the_newest_and_the_best_are_kept() {
        let (_folder, store) = store();
        for step in 1..=5 {
            store.commit(&snapshot(step)).unwrap();
        }
        store.prune(4, 2, Some(1));
        assert_eq!(store.steps().unwrap(), [1, 3, 4, 5], "what lies ahead stays");
        store.prune(5, 2, Some(3));
        assert_eq!(store.steps().unwrap(), [3, 4, 5]);
    }

    #[test]
    fn an_unwritable_folder_is_an_error_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("checkpoints");
        fs::write(&file, b"in the way").unwrap();
        let error = CheckpointStore::new(&file).commit(&snapshot(1)).unwrap_err().to_string();
        assert!(error.contains("checkpoints"), "{error}");
    }
}
