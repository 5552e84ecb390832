//! Losses on their way from the device: an asynchronous one is not made to wait for each step's.

use std::time::Duration;

use burn::tensor::Tensor;
use burn_train::ClassificationOutput;
use data::Labels;

use crate::task::Task;

/// How long such a reading may take before fewer batches are read together: progress is seen only where losses are.
const LONG_READING: Duration = Duration::from_millis(200);
/// Losses and predictions on their way from the device, in the order of their steps.
pub(super) struct LossReader {
    /// Batches that are read together, and how many may be.
    window: usize,
    task: &'static dyn Task,
    most: usize,
    waiting: Vec<Waiting>,
}

struct Waiting {
    step: usize,
    rate: f64,
    labels: Labels,
    loss: Tensor<1>,
    logits: Tensor<2>,
}

pub(super) struct ReadLoss {
    pub(super) step: usize,
    pub(super) rate: f64,
    pub(super) loss: f32,
    pub(super) correct: usize,
    pub(super) images: usize,
}

impl LossReader {
    pub(super) fn new(task: &'static dyn Task, most: usize) -> Self {
        Self { window: 1, task, most, waiting: Vec::new() }
    }

    /// Reads more batches together the next time where reading was quick, fewer where it was not.
    pub(super) fn adapt(&mut self, reading: Duration) {
        self.window =
            if reading < LONG_READING { (2 * self.window).min(self.most) } else { self.window.div_ceil(2) };
    }

    pub(super) fn push(&mut self, step: usize, rate: f64, labels: Labels, output: &ClassificationOutput) {
        self.waiting.push(Waiting {
            step,
            rate,
            labels,
            loss: output.loss.clone().inner(),
            logits: output.output.clone().inner(),
        });
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= self.window
    }

    pub(super) fn drain(&mut self) -> Vec<ReadLoss> {
        let waiting = std::mem::take(&mut self.waiting);
        // Two read-backs for the whole window.
        let (losses, logits) = match waiting.len() {
            0 => return Vec::new(),
            1 => (waiting[0].loss.clone(), waiting[0].logits.clone()),
            _ => (
                Tensor::cat(waiting.iter().map(|wait| wait.loss.clone()).collect(), 0),
                Tensor::cat(waiting.iter().map(|wait| wait.logits.clone()).collect(), 0),
            ),
        };
        let classes = logits.dims()[1];
        let losses = floats(&losses);
        let logits = floats(&logits);
        let mut start = 0;
        waiting
            .iter()
            .zip(losses)
            .map(|(wait, loss)| {
                let images = wait.labels.len();
                let rows = &logits[start..start + images * classes];
                start += images * classes;
                let correct = self.task.right(rows, classes, &wait.labels);
                ReadLoss { step: wait.step, rate: wait.rate, loss, correct, images }
            })
            .collect()
    }
}

/// The values of a tensor, row by row.
pub(super) fn floats<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().iter::<f32>().collect()
}
