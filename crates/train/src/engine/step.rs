//! What one training step does: forward, loss, backward, and what happens to the gradients before
//! the optimiser sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Tensor, TensorData};
use burn_train::{ClassificationOutput, InferenceStep, TrainOutput, TrainStep};
use data::Batch;
use model::{Network, TaskName};

use crate::config::{FinetuneConfig, RegularizationConfig};
use crate::engine::freeze::{FreezeError, Freezing};
use crate::task::{self, Task};

/// A network together with what it is trained for.
#[derive(Module, Debug)]
pub struct Trainable {
    /// The network.
    pub network: Network,
    #[module(skip)]
    objective: Objective,
}

/// The loss, the penalties and what is frozen; shared by all copies of a [`Trainable`].
#[derive(Clone, Debug)]
pub struct Objective {
    settings: Arc<Settings>,
}

#[derive(Debug)]
struct Settings {
    task: &'static dyn Task,
    label_smoothing: f32,
    class_weights: Option<Vec<f32>>,
    l1: f64,
    clip_norm: f64,
    freezing: Option<Freezing>,
    /// Epoch, counted from 1.
    epoch: AtomicUsize,
    /// Batches behind the gradients that are handed to `optimize`.
    accumulated: AtomicUsize,
}

impl Objective {
    /// `class_weights` `[K]` as resolved for the data set of `task`; `network` is the one to train.
    ///
    /// # Errors
    /// As [`Freezing::new`].
    pub fn new(
        task: TaskName,
        regularization: &RegularizationConfig,
        class_weights: Option<Vec<f32>>,
        finetune: Option<&FinetuneConfig>,
        network: &Network,
    ) -> Result<Self, FreezeError> {
        let freezing = match finetune {
            Some(finetune) => Freezing::new(finetune, network)?,
            None => None,
        };
        Ok(Self {
            settings: Arc::new(Settings {
                task: task::of(task),
                label_smoothing: regularization.label_smoothing,
                class_weights,
                l1: regularization.l1,
                clip_norm: regularization.clip_norm,
                freezing,
                epoch: AtomicUsize::new(1),
                accumulated: AtomicUsize::new(1),
            }),
        })
    }

    /// Tells all copies which epoch (from 1) runs.
    pub fn set_epoch(&self, epoch: usize) {
        self.settings.epoch.store(epoch, Ordering::Relaxed);
    }

    /// Tells all copies how many batches the next update averages.
    pub fn set_accumulated(&self, batches: usize) {
        self.settings.accumulated.store(batches, Ordering::Relaxed);
    }

    fn frozen_now(&self) -> Option<&ParamGroup> {
        self.settings.freezing.as_ref()?.at(self.settings.epoch.load(Ordering::Relaxed))
    }
}

impl Trainable {
    /// A network with its objective.
    pub fn new(network: Network, objective: Objective) -> Self {
        Self { network, objective }
    }

    /// The objective that all copies share.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    fn forward(&self, network: &Network, batch: Batch) -> ClassificationOutput {
        let settings = &self.objective.settings;
        let logits = network.forward(batch.images.clone());
        let weights = settings.class_weights.as_ref().map(|weights| {
            Tensor::from_data(TensorData::new(weights.clone(), [weights.len()]), &logits.device())
        });
        let loss = settings.task.loss(logits.clone(), &batch, weights, settings.label_smoothing);
        ClassificationOutput { loss, output: logits, targets: batch.targets }
    }
}

impl TrainStep for Trainable {
    type Input = Batch;
    type Output = ClassificationOutput;

    fn step(&self, batch: Batch) -> TrainOutput<ClassificationOutput> {
        let output = match self.objective.frozen_now() {
            // A frozen copy: its parameters are out of the graph, so no time goes into their gradients, and its batch
            // normalisation uses its running statistics and leaves them as they are.
            Some(group) => self.forward(&self.clone().freeze_group(group.clone()).network, batch),
            None => self.forward(&self.network, batch),
        };
        let gradients = output.loss.backward();
        TrainOutput::new(self, gradients, output)
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        rates: ModuleLearningRate,
        mut gradients: GradientsParams,
    ) -> Self {
        let settings = &self.objective.settings;
        let accumulated = settings.accumulated.load(Ordering::Relaxed);
        if accumulated > 1 || settings.l1 > 0.0 {
            self.visit(&mut Penalty {
                gradients: &mut gradients,
                scale: 1.0 / accumulated as f64,
                l1: settings.l1,
            });
        }
        if settings.clip_norm > 0.0 {
            clip_global_norm(&self, &mut gradients, settings.clip_norm);
        }
        optimizer.step(rates, self, gradients)
    }
}

impl InferenceStep for Trainable {
    type Input = Batch;
    type Output = ClassificationOutput;

    fn step(&self, batch: Batch) -> ClassificationOutput {
        self.forward(&self.network, batch)
    }
}

/// Averages accumulated gradients and adds the L1 penalty's.
struct Penalty<'a> {
    gradients: &'a mut GradientsParams,
    scale: f64,
    l1: f64,
}

impl ModuleVisitor for Penalty<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let Some(mut gradient) = self.gradients.remove::<D>(parameter.id) else { return };
        gradient = gradient.mul_scalar(self.scale);
        // Biases and norms are vectors; only weights are to become sparse.
        if self.l1 > 0.0 && D > 1 {
            gradient = gradient + parameter.val().inner().sign().mul_scalar(self.l1);
        }
        self.gradients.register(parameter.id, gradient);
    }
}

/// Scales all gradients by `min(1, limit / norm)`, where `norm` is taken over all of them together
/// (Pascanu, Mikolov & Bengio 2013, algorithm 1).
fn clip_global_norm(module: &Trainable, gradients: &mut GradientsParams, limit: f64) {
    struct SquaredNorm<'a> {
        gradients: &'a GradientsParams,
        sum: Option<Tensor<1>>,
    }
    impl ModuleVisitor for SquaredNorm<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            let Some(gradient) = self.gradients.get::<D>(parameter.id) else { return };
            let square = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
    }
    struct Scale<'a> {
        gradients: &'a mut GradientsParams,
        factor: Tensor<1>,
    }
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            let Some(gradient) = self.gradients.remove::<D>(parameter.id) else { return };
            let factor = self.factor.clone().reshape([1; D]);
            self.gradients.register(parameter.id, gradient * factor);
        }
    }
    let mut norm = SquaredNorm { gradients, sum: None };
    module.visit(&mut norm);
    let Some(sum) = norm.sum else { return };
    // A NaN norm stays a NaN here and reaches the loss check.
    let factor = (sum.sqrt() + 1e-6).recip().mul_scalar(limit).clamp_max(1.0);
    module.visit(&mut Scale { gradients, factor });
}
