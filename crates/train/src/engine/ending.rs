//! How the training loop ended.

use crate::run::checkpoint::TrainingState;

/// How training ended.
#[derive(Debug)]
pub enum Ending {
    /// After the last epoch.
    Finished,
    /// By early stopping, after this epoch.
    EarlyStopped(usize),
    /// By a signal or the dashboard; a checkpoint of this step is written.
    Interrupted(usize),
    /// A loss was NaN or infinite.
    Diverged {
        /// Which loss.
        split: LossOf,
        /// Epoch, from 1.
        epoch: usize,
        /// Batch in the whole run, from 1.
        step: usize,
        /// The loss.
        loss: f64,
        /// The learning rate of that step.
        learning_rate: f64,
    },
    /// burn-train's interrupter holds the error.
    Failed,
}

/// The images behind a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossOf {
    /// A batch to learn from.
    Training,
    /// The validation split, after an epoch.
    Validation,
}

impl std::fmt::Display for LossOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Training => "loss",
            Self::Validation => "validation loss",
        })
    }
}

/// What the loop leaves behind besides the model.
#[derive(Debug)]
pub struct LoopResult {
    /// How it ended.
    pub ending: Ending,
    /// Where it stands.
    pub state: TrainingState,
}
