//! Which run, or cross-validation, is to go on when none is named.

use std::path::{Path, PathBuf};

use crate::run::RunFolderError;
use crate::run::folder::RunFolder;
use crate::run::record::{RunStatus, folders, list, read_record};
use crate::series::folds::{FOLDS_FILE, FoldsResult};

/// The newest run in `artifacts` that is not finished and can go on. Those that diverged would diverge again, and
/// those that another process works on are not free: they are passed over, and `say` hears of it.
///
/// # Errors
/// When there is none.
pub fn open_newest_unfinished(
    artifacts: &Path,
    mut say: impl FnMut(&str),
) -> Result<RunFolder, RunFolderError> {
    let runs = list(artifacts)?.into_iter().filter(|run| run.record.status != RunStatus::Finished);
    let runs = runs.map(|run| (run.record.started, run.path, run.record.has_diverged()));
    let series = folders(artifacts)?.into_iter().filter_map(|path| {
        let started = unfinished_since(&path)?;
        Some((started, path, false))
    });
    let mut unfinished: Vec<(u64, PathBuf, bool)> = runs.chain(series).collect();
    unfinished.sort();
    let mut skipped: Vec<String> = Vec::new();
    for (_, path, diverged) in unfinished.into_iter().rev() {
        let reason = if diverged {
            format!("{} diverged; to go on with it all the same, name it", path.display())
        } else {
            match RunFolder::open(&path) {
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

/// When the cross-validation in a folder began, in seconds since 1970; `None` where there is none, or a finished one.
fn unfinished_since(folder: &Path) -> Option<u64> {
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
