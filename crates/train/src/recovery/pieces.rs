//! Every piece of what a run goes on from is lost once, as if it were not saved or not loaded: the run must then end
//! otherwise, or refuse to go on. Else the comparison of a resumed run with a whole one would not see its loss.

use std::collections::BTreeMap;

use burn::optim::OptimizerRecord;
use burn::optim::lr_scheduler::LrSchedulerRecord;
use burn::tensor::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::run::checkpoint::{BestEpoch, CheckpointStore, Snapshot, TrainingState};
use crate::run::files::sha256_hex;

/// Batches of an epoch.
const BATCHES: usize = 3;
/// After two batches of the fifth epoch: nothing of the state is what it was at the start.
const STEP: usize = 4 * BATCHES + 2;
/// Another checkpoint, which no piece belongs to.
const EARLIER: usize = 2 * BATCHES;

/// Everything of which the order, the draws, the rates, the average and the end of a run are made.
fn lively() -> TrainConfig {
    config(&[
        "epochs=9",
        "optimizer.learning_rate=0.05",
        "network.blocks=[{channels=2, kernel=5, stride=3, dropout=0.2, pool={kernel=2}}]",
        "regularization.ema_decay=0.9",
        "schedule.name=plateau",
        "schedule.patience=2",
        "schedule.gamma=0.5",
        "schedule.warmup_epochs=1.0",
        "early_stopping.patience=5",
        "checkpoint.every=2 steps",
        "checkpoint.keep=100",
    ])
}

fn store(run: &Path) -> CheckpointStore {
    CheckpointStore::new(run.join("checkpoints"))
}

/// Puts `snapshot` in the place of the checkpoint after `step`, with a manifest that vouches for it.
fn replace(run: &Path, step: usize, snapshot: &Snapshot) {
    fs::remove_dir_all(store(run).path(step)).unwrap();
    store(run).commit(snapshot).unwrap();
}

/// A run that does not depend on how its validation turns out: after its first epoch it believes to have seen a loss of
/// 0, so no later epoch is an improvement. The rate falls after the epochs 3 and 5, and the sixth is the last.
fn whole(artifacts: &Path) -> RunResult {
    finish(&lively(), artifacts, "first", Start::Scratch).unwrap();
    let run = artifacts.join("whole");
    killed_at_the_end(&artifacts.join("first"), &run);
    store(&run).forget_after(BATCHES).unwrap();
    let mut snapshot = store(&run).read(BATCHES).unwrap();
    let state = &mut snapshot.state;
    state.best = Some(BestEpoch {
        epoch: 1,
        step: BATCHES,
        valid_loss: 0.0,
        valid_accuracy: 1.0,
        valid_mean_average_precision: None,
    });
    state.stopping_reference = Some(0.0);
    state.plateau_reference = Some(0.0);
    replace(&run, BATCHES, &snapshot);
    resume(artifacts, "whole").unwrap()
}

/// What a resumed run must have in common with the whole one, by name. Of times only that none is lost.
fn ending(artifacts: &Path, name: &str, result: &RunResult) -> BTreeMap<&'static str, Value> {
    let run = artifacts.join(name);
    let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut epochs: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut times_kept = name == "whole" || result.seconds >= 1000.0;
    for (position, epoch) in epochs.iter_mut().enumerate().skip(4) {
        times_kept &= name == "whole" || position > 4 || epoch["seconds"].as_f64().unwrap() >= 500.0;
        epoch["seconds"].take();
        epoch["samples_per_second"].take();
    }
    BTreeMap::from([
        ("weights", json!(fingerprint(result))),
        ("epochs", json!(epochs)),
        ("best", json!([result.best_epoch, result.valid_accuracy, result.valid_loss])),
        ("steps", json!(store(&run).steps().unwrap().last())),
        ("history", json!(read_record(&run).unwrap().history)),
        ("times kept", json!(times_kept)),
    ])
}

/// The whole run as it was in its middle, with times that no test takes; gives the checkpoint.
fn middle(artifacts: &Path) -> Snapshot {
    let run = artifacts.join("middle");
    killed_at_the_end(&artifacts.join("whole"), &run);
    for step in store(&run).steps().unwrap() {
        if ![BATCHES, EARLIER, STEP].contains(&step) {
            fs::remove_dir_all(store(&run).path(step)).unwrap();
        }
    }
    let mut snapshot = store(&run).read(STEP).unwrap();
    (snapshot.state.seconds, snapshot.state.epoch_seconds) = (1000.0, 500.0);
    snapshot
}

/// Resumes the whole run from `snapshot` in its middle, in the folder `name`, after `change` has been there, and gives the
/// names of what differs in the end.
fn differences(
    artifacts: &Path,
    name: &str,
    whole: &BTreeMap<&'static str, Value>,
    snapshot: &Snapshot,
    change: fn(&Path),
) -> Vec<String> {
    let copy = artifacts.join(name);
    copy_folder(&artifacts.join("middle"), &copy);
    replace(&copy, STEP, snapshot);
    change(&copy);
    match resume(artifacts, name) {
        Ok(result) => {
            let found = ending(artifacts, name, &result);
            let differ = whole.iter().filter(|(name, value)| found[*name] != **value);
            differ.map(|(name, _)| (*name).to_owned()).collect()
        }
        Err(error) => vec![error.to_string()],
    }
}

/// The paths of all values in `value`; of a list only the first member's.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found));
        }
        Value::Array(members) => {
            members.iter().take(1).for_each(|value| leaves(value, &format!("{path}/0"), found));
        }
        _ => found.push(path.to_owned()),
    }
}

/// Every loss of a part of the state: each field as it is at the start of a run, and each figure and word within it gone.
fn losses_of_state(state: &TrainingState) -> Vec<(String, TrainingState)> {
    let fresh = json!(TrainingState { epoch: 1, ..TrainingState::default() });
    let state = json!(state);
    let mut losses = Vec::new();
    for (key, value) in state.as_object().unwrap() {
        let mut lost = state.clone();
        lost[key] = match key.as_str() {
            // The first checkpoint would not be the newest: this one is filed under another step.
            "step" => json!(STEP + 1),
            // Left out of the file when it is empty.
            "history" => json!([]),
            _ => fresh[key].clone(),
        };
        losses.push((key.clone(), lost));
        let mut within = Vec::new();
        if value.is_object() || value.is_array() {
            leaves(value, &format!("/{key}"), &mut within);
        }
        for path in within {
            let mut lost = state.clone();
            let value = lost.pointer_mut(&path).unwrap();
            *value = match (&*value, path.as_str()) {
                (_, "/best/step") => json!(EARLIER),
                (Value::String(_), _) => json!(""),
                (number, _) if number.as_f64() == Some(0.0) => json!(7),
                _ => json!(0),
            };
            losses.push((path, lost));
        }
    }
    losses
        .into_iter()
        .map(|(path, lost)| {
            assert_ne!(lost, state, "{path} is as at the start: its loss shows nothing");
            (path, serde_json::from_value(lost).unwrap())
        })
        .collect()
}

/// The record of a schedule with one of its two figures as at the start.
fn schedule_without(bytes: &[u8], key: &str) -> Vec<u8> {
    let record = LrSchedulerRecord::from_bytes(Bytes::from_bytes_vec(bytes.to_vec())).unwrap().record("0");
    let (next, plateau): (u64, f64) = (record.scalar("next").unwrap(), record.scalar("plateau").unwrap());
    assert!(next > 0 && plateau < 1.0, "{next}, {plateau}");
    let (next, plateau) = if key == "next" { (0, plateau) } else { (next, 1.0) };
    let record = LrSchedulerRecord::new().with_scalar("next", next).with_scalar("plateau", plateau);
    LrSchedulerRecord::new().with_record("0", record).into_bytes().unwrap().to_vec()
}

/// Takes from `run.json` what stands there of the code that computed the run.
fn forget_code(run: &Path) {
    let path = run.join("run.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["history"] = json!([]);
    record["kernels"] = json!("");
    fs::write(path, record.to_string()).unwrap();
}

/// What is changed of a run before it is resumed: its name, the checkpoint, and the folder.
type Loss = (String, Snapshot, fn(&Path));

/// Every loss of a part of a checkpoint.
fn losses(middle: &Snapshot, earlier: &Snapshot) -> Vec<Loss> {
    let with = |piece: &str, change: &dyn Fn(&mut Snapshot)| -> Loss {
        let mut lost = middle.clone();
        change(&mut lost);
        assert_ne!(lost, *middle, "{piece}");
        (piece.to_owned(), lost, |_| {})
    };
    let mut losses = vec![
        with("the model", &|lost| lost.model.clone_from(&earlier.model)),
        with("the optimiser", &|lost| lost.optimizer.clone_from(&earlier.optimizer)),
        with("all of the optimiser", &|lost| {
            lost.optimizer = OptimizerRecord::default().into_bytes().unwrap().to_vec();
        }),
        with("the schedule", &|lost| lost.schedule.clone_from(&earlier.schedule)),
        with("the schedule's updates", &|lost| lost.schedule = schedule_without(&lost.schedule, "next")),
        with("the schedule's factor", &|lost| lost.schedule = schedule_without(&lost.schedule, "plateau")),
        with("the weight average", &|lost| lost.average.clone_from(&earlier.average)),
        with("all of the weight average", &|lost| lost.average = None),
    ];
    for (piece, state) in losses_of_state(&middle.state) {
        let change: fn(&Path) = if piece == "history" { forget_code } else { |_| {} };
        losses.push((piece, Snapshot { state, ..middle.clone() }, change));
    }
    losses
}

/// The configuration of a run that draws everything from another seed.
fn another_seed() -> String {
    TrainConfig { seed: 7, ..lively() }.to_toml().unwrap()
}

#[test]
fn no_piece_of_what_is_resumed_can_be_lost_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = folder.path();
    let result = whole(artifacts);
    assert_eq!((result.epochs, result.best_epoch), (6, 1), "{result:?}");
    let whole = ending(artifacts, "whole", &result);
    let middle = middle(artifacts);
    let intact = differences(artifacts, "intact", &whole, &middle, |_| {});
    assert!(intact.is_empty(), "a resumed run ended with other {intact:?}");

    let earlier = store(&artifacts.join("middle")).read(EARLIER).unwrap();
    let mut losses = losses(&middle, &earlier);
    let mut reseeded = middle.clone();
    reseeded.state.config_sha256 = sha256_hex(another_seed().as_bytes());
    losses.push(("the seed".to_owned(), reseeded, |run| {
        fs::write(run.join("config.toml"), another_seed()).unwrap();
    }));
    let unseen: Vec<&str> = std::thread::scope(|scope| {
        let started: Vec<_> = losses
            .chunks(losses.len().div_ceil(4))
            .map(|chunk| {
                let whole = &whole;
                scope.spawn(move || {
                    let unseen = |(piece, snapshot, change): &&Loss| {
                        differences(artifacts, &piece.replace('/', " "), whole, snapshot, *change).is_empty()
                    };
                    chunk.iter().filter(unseen).map(|(piece, ..)| piece.as_str()).collect::<Vec<_>>()
                })
            })
            .collect();
        started.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(unseen.is_empty(), "lost without a trace: {unseen:?}");
}
