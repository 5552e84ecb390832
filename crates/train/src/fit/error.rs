//! Why a run failed.

use std::path::PathBuf;

use evaluation::report::ReportError;

use crate::config::ConfigError;
use crate::device::DeviceError;
use crate::engine::ending::LossOf;
use crate::engine::evaluate::EvaluateError;
use crate::engine::freeze::FreezeError;
use crate::run::RunFolderError;
use crate::run::checkpoint::CheckpointError;
use crate::run::data_record::DataRecordError;
use crate::start::StartError;
use crate::task::TaskError;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The network does not fit the images.
    #[error("the network does not fit: {0}")]
    Shape(#[from] model::ShapeError),
    /// `freeze`.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// The backend.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The kernels' path.
    #[error(transparent)]
    Kernels(#[from] model::ops::KernelsError),
    /// The data.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// What is to be learned from.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The data of a run that is to go on.
    #[error(transparent)]
    DataRecord(#[from] DataRecordError),
    /// The run folder.
    #[error(transparent)]
    Run(#[from] RunFolderError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint of another configuration.
    #[error(
        "{0} was changed since the run began: its checkpoints belong to another configuration; restore it, or start a new run with --config {0}"
    )]
    ConfigChanged(PathBuf),
    /// The folder of a cross-validation was handed to a single run.
    #[error(
        "data.folds = {0} stands for {0} runs: this takes a single one; set data.fold to 1 to {0}, or data.folds = 0"
    )]
    Folds(usize),
    /// Where it starts.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A record that is whole but does not fit.
    #[error("the checkpoint does not fit the network: {0}")]
    Record(String),
    /// The weight average.
    #[error(transparent)]
    Average(#[from] model::AverageError),
    /// Training blew up.
    #[error(
        "training diverged: the {split} is {loss} at step {step} (epoch {epoch}) with learning rate {learning_rate:e}.\n{advice}"
    )]
    Diverged {
        /// Which loss.
        split: LossOf,
        /// The loss.
        loss: f64,
        /// Batch in the whole run, from 1.
        step: usize,
        /// Epoch, from 1.
        epoch: usize,
        /// The rate of that step.
        learning_rate: f64,
        /// The last good checkpoint and what to do.
        advice: String,
    },
    /// burn-train stopped.
    #[error("training stopped: {0}")]
    Training(String),
    /// The test.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The device, after training.
    #[error(transparent)]
    Classify(#[from] model::ClassifyError),
    /// The model file.
    #[error(transparent)]
    ModelFile(#[from] model::ModelFileError),
    /// The report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// `metrics.jsonl` or TensorBoard's file.
    #[error("cannot write {0}: {1}")]
    Metrics(PathBuf, std::io::Error),
}

impl FitError {
    /// Whether the command line or the configuration is at fault (exit status 2).
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Shape(_)
                | Self::Freeze(_)
                | Self::Kernels(_)
                | Self::Task(TaskError::ClassWeights { .. })
                | Self::Folds(_)
                | Self::Run(RunFolderError::Exists(_) | RunFolderError::Name(_))
        ) || matches!(self, Self::Start(error) if error.is_usage())
    }
}
