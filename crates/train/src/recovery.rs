//! Tests: whatever is lost of a run, it ends where it would have ended, or says why it cannot.

mod pieces;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::arguments::ProgressMode;
use crate::config::{ConfigLayers, TrainConfig};
use crate::fit::{FitError, Outcome, RunContext, fit};
use crate::run::RunFolderError;
use crate::run::checkpoint::tests::{FILES, HARMS};
use crate::run::folder::RunFolder;
use crate::run::record::{RunResult, RunStatus, read_record};
use crate::series::open_newest_unfinished;
use crate::start::Start;

/// Ten classes, a handful of images of each, a network of a few hundred parameters.
fn config(more: &[&str]) -> TrainConfig {
    let mut layers = ConfigLayers::default();
    let tiny = [
        "data.dataset=mnist-sample",
        "data.limit=80",
        "data.valid_fraction=0.25",
        "data.workers=0",
        "epochs=5",
        "batch_size=20",
        "network.blocks=[{channels=2, kernel=5, stride=3, pool={kernel=2}}]",
        "network.dense=[]",
        "test=false",
    ];
    for expression in tiny.iter().chain(more) {
        layers.set_expression(expression).unwrap();
    }
    layers.resolve().unwrap()
}

fn run_context(artifacts: &Path, name: &str) -> RunContext {
    RunContext {
        command: "train",
        artifacts: artifacts.to_owned(),
        name: Some(name.to_owned()),
        search: data::Search::default(),
        progress: ProgressMode::None,
        stop: Arc::default(),
        dataset: None,
        accept_changed_data: false,
        adapts_budget: false,
    }
}

fn finish(config: &TrainConfig, artifacts: &Path, name: &str, start: Start) -> Result<RunResult, FitError> {
    match fit(config, &run_context(artifacts, name), start)? {
        Outcome::Finished(finished) => Ok(finished.result),
        Outcome::Interrupted { .. } => panic!("nobody stops it"),
    }
}

fn resume(artifacts: &Path, name: &str) -> Result<RunResult, FitError> {
    let run = RunFolder::open(&artifacts.join(name))?;
    let config = TrainConfig::from_toml(&run.config_text().unwrap(), Path::new(name)).unwrap();
    finish(&config, artifacts, name, Start::Resume(run))
}

fn fingerprint(result: &RunResult) -> [String; 3] {
    [&result.weights_sha256, &result.last_weights_sha256, &result.optimizer_sha256].map(Clone::clone)
}

/// A copy of a run as it is when killed after its last epoch and before its model is written.
fn killed_at_the_end(run: &Path, copy: &Path) {
    copy_folder(run, copy);
    fs::remove_file(copy.join("model.kiln")).unwrap();
    fs::remove_dir_all(copy.join("report")).unwrap();
    set_status(copy, "\"running\"");
}

fn set_status(run: &Path, status: &str) {
    let text = fs::read_to_string(run.join("run.json")).unwrap();
    fs::write(run.join("run.json"), text.replace("\"finished\"", status)).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Each file of each checkpoint, the best epoch's among them.
#[test]
fn a_damaged_checkpoint_costs_time_and_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = folder.path();
    let config = config(&["checkpoint.keep=1", "optimizer.learning_rate=0.05"]);
    let whole = finish(&config, artifacts, "whole", Start::Scratch).unwrap();
    let kept = checkpoints(&artifacts.join("whole"));
    assert_eq!(kept.len(), 2, "the best is not the last, or this shows nothing: {whole:?}");
    // The harms in turn; `checkpoint` tests all of them on all files.
    let mut harms = HARMS.into_iter().cycle();
    for (position, checkpoint) in kept.iter().enumerate() {
        for file in FILES {
            let (harm, damage) = harms.next().unwrap();
            let copy = artifacts.join("hurt");
            killed_at_the_end(&artifacts.join("whole"), &copy);
            damage(&copy.join("checkpoints").join(checkpoint.file_name().unwrap()).join(file));
            let resumed = resume(artifacts, "hurt").unwrap();
            assert_eq!(fingerprint(&resumed), fingerprint(&whole), "{file} of {position} {harm}");
            let store = RunFolder::open(&copy).unwrap().checkpoints();
            for step in store.steps().unwrap() {
                store.read(step).unwrap_or_else(|error| panic!("{file} {harm}: {error}"));
            }
            fs::remove_dir_all(&copy).unwrap();
        }
        // So that each file meets another harm in the next checkpoint.
        harms.next();
    }
    // All of them, and none: killed before the first.
    for lost in ["emptied", "none"] {
        let copy = artifacts.join(lost);
        killed_at_the_end(&artifacts.join("whole"), &copy);
        for checkpoint in checkpoints(&copy) {
            match lost {
                "none" => fs::remove_dir_all(checkpoint).unwrap(),
                _ => fs::write(checkpoint.join("state.json"), "").unwrap(),
            }
        }
        assert_eq!(fingerprint(&resume(artifacts, lost).unwrap()), fingerprint(&whole), "{lost}");
    }
}

/// Every update moves the weights beyond all numbers: the only batch of the first epoch still has a finite loss, the
/// validation after it has not.
#[test]
fn a_validation_loss_that_is_no_number_is_divergence() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = folder.path();
    let up = config(&[
        "batch_size=1000",
        "optimizer.name=sgd",
        "optimizer.learning_rate=1e38",
        "schedule.name=constant",
        "schedule.warmup_epochs=0.0",
        "regularization.ema_decay=0.0",
    ]);
    let error = finish(&up, artifacts, "up", Start::Scratch).unwrap_err();
    assert!(matches!(error, FitError::Diverged { .. }), "{error}");
    let words = error.to_string();
    assert!(words.contains("the validation loss is") && words.contains("lower --learning-rate"), "{words}");
    let record = read_record(&artifacts.join("up")).unwrap();
    assert!(record.has_diverged() && record.diverged && record.status == RunStatus::Failed);
    assert!(fs::read_to_string(artifacts.join("up/metrics.jsonl")).unwrap().is_empty());
    assert!(RunFolder::open(&artifacts.join("up")).unwrap().checkpoints().steps().unwrap().is_empty());
    // It would diverge again, and says the same.
    assert_eq!(resume(artifacts, "up").unwrap_err().to_string(), words);

    // Without a name it is passed over, and so is what another process works on.
    let open = |said: &mut Vec<String>| open_newest_unfinished(artifacts, |line| said.push(line.to_owned()));
    let nothing = open(&mut Vec::new()).unwrap_err();
    assert!(matches!(nothing, RunFolderError::NothingUnfinished { .. }));
    assert!(nothing.to_string().contains("up diverged"), "{nothing}");
    let config = config(&["epochs=1"]);
    finish(&config, artifacts, "older", Start::Scratch).unwrap();
    for (name, started) in [("older", 10), ("newer", 20)] {
        if name == "newer" {
            copy_folder(&artifacts.join("older"), &artifacts.join(name));
        }
        let path = artifacts.join(name);
        set_status(&path, "\"interrupted\"");
        let mut record: serde_json::Value =
            serde_json::from_slice(&fs::read(path.join("run.json")).unwrap()).unwrap();
        record["started"] = started.into();
        fs::write(path.join("run.json"), record.to_string()).unwrap();
    }
    let mut said = Vec::new();
    let newer = open(&mut said).unwrap();
    assert_eq!((newer.name().as_str(), said.len()), ("newer", 1));
    assert!(said[0].contains("up diverged"), "{said:?}");
    let mut said = Vec::new();
    let older = open(&mut said).unwrap();
    assert_eq!((older.name().as_str(), said.len()), ("older", 2));
    assert!(said[1].contains("another process") && said[1].contains("newer"), "{said:?}");
}

/// A class of weight 0 alone in its batches.
#[test]
fn batches_without_weight_teach_nothing_and_stop_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&[
        "batch_size=1",
        "epochs=1",
        "regularization.class_weights=[0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]",
    ]);
    let result = finish(&config, folder.path(), "weighted", Start::Scratch).unwrap();
    assert!(result.valid_loss.is_finite());
}

/// A run that lost its folder to another stops before it writes there.
#[cfg(unix)]
#[test]
fn a_lost_folder_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::create(folder.path(), Some("run"), "x").unwrap();
    run.write("config.toml", b"").unwrap();
    fs::rename(run.path(), folder.path().join("moved")).unwrap();
    let other = RunFolder::create(folder.path(), Some("run"), "x").unwrap();
    let error = run.write("config.toml", b"mine").unwrap_err().to_string();
    assert!(error.contains("removed or replaced"), "{error}");
    assert!(!other.path().join("config.toml").exists());
}
