//! Between burn-train, which hands out three records from three threads, and the checkpoints of a run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::Bytes;
use burn_train::checkpoint::{
    Checkpoint, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy,
};
use burn_train::metric::store::EventStoreClient;

use crate::run::checkpoint::{CheckpointError, Snapshot, TrainingState};
use crate::run::folder::RunFolder;

/// Collects the three records that burn-train hands out separately, and commits them as one.
#[derive(Clone)]
pub struct Committer {
    inner: Arc<Mutex<Pending>>,
    run: RunFolder,
    keep: usize,
}

#[derive(Default)]
struct Pending {
    /// By step: the state and average announced for it, and the records that have arrived.
    announced: HashMap<usize, (TrainingState, Option<Vec<u8>>)>,
    records: HashMap<usize, [Option<Vec<u8>>; 3]>,
    restore: Option<Snapshot>,
}

impl Committer {
    /// Commits into the folder of `run`, keeping `keep` checkpoints and the best.
    pub fn new(run: RunFolder, keep: usize, restore: Option<Snapshot>) -> Self {
        let inner = Pending { restore, ..Pending::default() };
        Self { inner: Arc::new(Mutex::new(inner)), run, keep }
    }

    /// Announces what goes with the records of `state.step`; call it before they are saved.
    pub fn announce(&self, state: TrainingState, average: Option<Vec<u8>>) {
        self.pending().announced.insert(state.step, (state, average));
    }

    /// The three sinks that burn-train saves records to: model, optimiser, schedule.
    pub fn sinks(&self) -> (RecordSink<0>, RecordSink<1>, RecordSink<2>) {
        (RecordSink(self.clone()), RecordSink(self.clone()), RecordSink(self.clone()))
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(&self, part: usize, step: usize, bytes: Vec<u8>) -> Result<(), CheckpointError> {
        let snapshot = {
            let mut pending = self.pending();
            let records = pending.records.entry(step).or_default();
            records[part] = Some(bytes);
            if records.iter().any(Option::is_none) {
                return Ok(());
            }
            let Some([Some(model), Some(optimizer), Some(schedule)]) = pending.records.remove(&step) else {
                return Ok(());
            };
            let Some((state, average)) = pending.announced.remove(&step) else { return Ok(()) };
            Snapshot { model, optimizer, schedule, average, state }
        };
        self.run.check_held()?;
        let store = self.run.checkpoints();
        store.commit(&snapshot)?;
        store.prune(snapshot.state.step, self.keep, snapshot.state.best.as_ref().map(|best| best.step));
        Ok(())
    }
}

/// Where burn-train saves one of the three records, and restores it from: 0 the model, 1 the optimiser, 2 the schedule.
pub struct RecordSink<const PART: usize>(Committer);

impl<R: Checkpoint, const PART: usize> Checkpointer<R> for RecordSink<PART> {
    fn save(&self, step: usize, record: R) -> Result<(), CheckpointerError> {
        let bytes = record.checkpoint_into_bytes().map_err(CheckpointerError::Record)?;
        self.0
            .arrived(PART, step, bytes.to_vec())
            .map_err(|error| CheckpointerError::Unknown(error.to_string()))
    }

    fn delete(&self, _step: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn restore(&self, step: usize) -> Result<R, CheckpointerError> {
        let pending = self.0.pending();
        let snapshot =
            pending.restore.as_ref().filter(|snapshot| snapshot.state.step == step).ok_or_else(|| {
                CheckpointerError::Unknown(format!("no verified checkpoint of step {step}"))
            })?;
        let bytes = match PART {
            0 => &snapshot.model,
            1 => &snapshot.optimizer,
            _ => &snapshot.schedule,
        };
        R::checkpoint_from_bytes(Bytes::from_bytes_vec(bytes.clone())).map_err(CheckpointerError::Record)
    }
}

/// The loop says when; burn-train then always saves, and [`Committer`] removes.
pub struct AlwaysSave;

impl CheckpointingStrategy for AlwaysSave {
    fn checkpointing(&mut self, _step: usize, _store: &EventStoreClient) -> Vec<CheckpointingAction> {
        vec![CheckpointingAction::Save]
    }
}
