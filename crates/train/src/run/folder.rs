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

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use evaluation::metrics_log::EpochRecord;
use evaluation::report::ReportFile;

use crate::run::checkpoint::CheckpointStore;
use crate::run::error::RunFolderError;
use crate::run::files::{is_unfinished, remove_unfinished, write_atomically};
use crate::run::lock::{FolderLock, LockError};
use crate::run::record::RunRecord;
use crate::run::tensorboard;

/// The file name of the model in a run folder.
pub const MODEL_FILE: &str = "model.kiln";

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
        fs::create_dir_all(artifacts).map_err(|source| RunFolderError::io("create", artifacts, source))?;
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
                Err(source) => return Err(RunFolderError::io("create", &path, source)),
            }
        }
        Err(RunFolderError::Exists(artifacts.join(base)))
    }

    /// Whether [`Self::create`] could make this folder, as far as that shows before: to be asked before work begins that
    /// would be lost. Nothing is made.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn check_free(artifacts: &Path, name: Option<&str>) -> Result<(), RunFolderError> {
        if let Some(name) = name {
            if !is_plain(name) {
                return Err(RunFolderError::Name(name.to_owned()));
            }
            let path = artifacts.join(name);
            if path.exists() && !never_began(&path) {
                return Err(RunFolderError::Exists(path));
            }
        }
        let nearest = artifacts.ancestors().find(|folder| folder.exists());
        match nearest.filter(|folder| !folder.is_dir()) {
            Some(_) => Err(RunFolderError::io("create", artifacts, io::ErrorKind::NotADirectory.into())),
            None => Ok(()),
        }
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
        fs::create_dir_all(&path).map_err(|source| RunFolderError::io("create", &path, source))?;
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
        fs::remove_dir_all(&self.path).map_err(|source| RunFolderError::io("remove", &self.path, source))
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
        write_atomically(&path, bytes).map_err(|source| RunFolderError::io("write", &path, source))
    }

    /// The text of `config.toml`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn config_text(&self) -> Result<String, RunFolderError> {
        let path = self.path.join("config.toml");
        fs::read_to_string(&path).map_err(|source| RunFolderError::io("read", &path, source))
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write_record(&self, record: &RunRecord) -> Result<(), RunFolderError> {
        let text = serde_json::to_string_pretty(record)
            .map_err(|error| RunFolderError::io("serialise", &self.path.join("run.json"), error.into()))?;
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

/// The last part of a path, for the name of a run.
pub fn short_name(dataset: &str) -> String {
    let name = Path::new(dataset)
        .file_name()
        .map_or_else(|| "data".to_owned(), |name| name.to_string_lossy().into_owned());
    name.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
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
