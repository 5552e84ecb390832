//! What a task decides: the loss, what counts as right, and what of a configuration has a meaning for it.

use std::fmt::Debug;

use burn::tensor::Tensor;
use data::{Batch, Labels};
use model::TaskName;

use crate::config::TrainConfig;
use crate::task::error::TaskError;

/// What a network is trained for.
pub trait Task: Debug + Send + Sync {
    /// What it is called.
    fn name(&self) -> TaskName;

    /// Refuses what has no meaning for it.
    ///
    /// # Errors
    /// [`TaskError::Meaningless`] with the key, and what to do.
    fn check(&self, config: &TrainConfig) -> Result<(), TaskError>;

    /// The loss `[1]` of logits `[N, K]` on a batch; `class_weights` `[K]`.
    fn loss(
        &self,
        logits: Tensor<2>,
        batch: &Batch,
        class_weights: Option<Tensor<1>>,
        label_smoothing: f32,
    ) -> Tensor<1>;

    /// How many of the logits `[N, K]`, row by row, are right.
    fn right(&self, logits: &[f32], classes: usize, labels: &Labels) -> usize;

    /// Whether epochs are compared by [`Task::mean_average_precision`], which is a figure of the whole validation split,
    /// and not by the share of right answers.
    fn has_average_precision(&self) -> bool;

    /// The mean average precision of logits `[N, K]`, row by row, where the task has one and there is an image of a
    /// class.
    fn mean_average_precision(&self, logits: &[f32], classes: usize, labels: &Labels) -> Option<f64>;
}
