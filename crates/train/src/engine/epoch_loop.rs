//! The training loop: the one place where epochs and batches are counted.
//!
//! burn-train owns the learner, its metrics, renderer and event store; this
//! [`SupervisedLearningStrategy`] owns the order of things, because a run has to be able to stop after
//! any batch and go on from there bit for bit. No hidden state survives a step: the order of an epoch
//! is a function of (seed, epoch), augmentation of (seed, epoch, image), and the device's generator is
//! seeded anew from (seed, epoch, batch).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::GradientsAccumulator;
use burn::tensor::Device;
use burn_train::{
    ClassificationOutput, EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent,
    LearningCheckpointer, SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader,
    TrainingComponents, TrainingItem, ValidLoader,
};
use data::{Batch, BatchLoader, Labels};
use evaluation::metrics_log::EpochRecord;
use model::WeightAverage;

use crate::config::{CheckpointEvery, ScheduleName, TrainConfig};
use crate::engine::ending::{Ending, LoopResult, LossOf};
use crate::engine::losses::{LossReader, floats};
use crate::engine::observer::Observer;
use crate::engine::schedule::PlateauFactor;
use crate::engine::step::Trainable;
use crate::run::checkpoint::{BestEpoch, RunningMetrics, TrainingState};
use crate::run::committer::Committer;
use crate::seed::mix;
use crate::task::Task;

/// Most batches whose losses are read back together on a device that computes asynchronously.
const ASYNCHRONOUS_WINDOW: usize = 32;
/// The loop's parts that burn-train does not carry.
pub struct EpochLoop {
    /// The configuration.
    pub config: TrainConfig,
    /// What is learned.
    pub task: &'static dyn Task,
    /// The autodiff device.
    pub device: Device,
    /// The training split's loader, whose position the loop sets.
    pub loader: Arc<BatchLoader>,
    /// Where the run stands at the start.
    pub start: TrainingState,
    /// The weight average's bytes at the start, when resuming with one.
    pub average: Option<Vec<u8>>,
    /// Lowered by the plateau schedule.
    pub plateau: PlateauFactor,
    /// Gets the checkpoints' companions.
    pub committer: Committer,
    /// Told what happens.
    pub observer: Arc<Mutex<dyn Observer>>,
    /// Set by SIGINT and SIGTERM.
    pub stop: Arc<AtomicBool>,
    /// Whether burn-train's metrics are looked at (its dashboard).
    pub events: bool,
    /// Filled when the loop ends.
    pub result: Arc<Mutex<Option<LoopResult>>>,
}

/// burn-train's consumer of metrics and renderer events.
type Processor = SupervisedTrainingEventProcessor<Trainable>;

impl SupervisedLearningStrategy<Trainable> for EpochLoop {
    fn fit(
        &self,
        components: TrainingComponents<Trainable>,
        mut learner: Learner<Trainable>,
        train: TrainLoader<Trainable>,
        valid: ValidLoader<Trainable>,
        _starting_epoch: usize,
    ) -> (Trainable, Processor) {
        learner.fork(&self.device);
        let TrainingComponents { interrupter, event_processor, event_store, checkpointer, .. } = components;
        let average = self.initial_average(&learner, &interrupter);
        let mut run = Run {
            parts: self,
            train: train.to_device(&self.device),
            valid: valid.to_device(&self.device.clone().inner()),
            state: self.start.clone(),
            average,
            learner,
            processor: event_processor,
            interrupter,
            losses: LossReader::new(self.task, self.most_read_together()),
            checkpointer,
            event_store,
            last_checkpoint: Instant::now(),
            updates_since_checkpoint: 0,
        };
        let ending = run.epochs();
        // Joins the writers: what the loop reports as saved is on disk.
        drop(run.checkpointer.take());
        let ending = if run.interrupter.error().is_some() { Ending::Failed } else { ending };
        let result = LoopResult { ending, state: run.state };
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        (run.learner.model(), run.processor)
    }
}

impl EpochLoop {
    /// Batches whose losses may be read back together: one where the processor computes, whose steps are slow enough.
    fn most_read_together(&self) -> usize {
        let backend = self.config.backend;
        let on_processor = backend.is_cpu() || backend.adapter().is_some_and(|adapter| adapter.software);
        if on_processor { 1 } else { ASYNCHRONOUS_WINDOW }
    }

    fn initial_average(
        &self,
        learner: &Learner<Trainable>,
        interrupter: &Interrupter,
    ) -> Option<WeightAverage> {
        let decay = self.config.regularization.ema_decay;
        if decay == 0.0 {
            return None;
        }
        let average = match &self.average {
            None => WeightAverage::new(&learner.model().network, decay),
            Some(bytes) => WeightAverage::from_bytes(bytes, &self.device),
        };
        average.map_err(|error| fail(interrupter, &error)).ok()
    }
}

struct Run<'a> {
    parts: &'a EpochLoop,
    train: TrainLoader<Trainable>,
    valid: ValidLoader<Trainable>,
    state: TrainingState,
    average: Option<WeightAverage>,
    learner: Learner<Trainable>,
    processor: Processor,
    interrupter: Interrupter,
    losses: LossReader,
    checkpointer: Option<LearningCheckpointer<Trainable>>,
    event_store: Arc<burn_train::metric::store::EventStoreClient>,
    last_checkpoint: Instant,
    updates_since_checkpoint: usize,
}

impl Run<'_> {
    fn epochs(&mut self) -> Ending {
        let patience = self.parts.config.early_stopping.patience;
        if patience > 0 && self.state.waited >= patience {
            // Killed between the last epoch and the test.
            return Ending::EarlyStopped(self.state.epoch - 1);
        }
        while self.state.epoch <= self.parts.config.epochs {
            if self.interrupter.should_stop() {
                return Ending::Failed;
            }
            let ended = match self.train_epoch() {
                Ok(ended) => ended,
                Err(ending) => return ending,
            };
            let stop_here = match self.finish_epoch(&ended) {
                Ok(stop_here) => stop_here,
                Err(ending) => return ending,
            };
            self.checkpoint();
            if stop_here && self.state.epoch <= self.parts.config.epochs {
                return Ending::EarlyStopped(self.state.epoch - 1);
            }
            if self.stop_requested() && self.state.epoch <= self.parts.config.epochs {
                return Ending::Interrupted(self.state.step);
            }
        }
        Ending::Finished
    }

    /// The rest of the current epoch; gives the rate of its last update.
    fn train_epoch(&mut self) -> Result<EndedEpoch, Ending> {
        let config = &self.parts.config;
        let started = Instant::now();
        let epoch = self.state.epoch;
        let total = self.parts.loader.batches();
        let items = self.train.num_items();
        let seconds_before = self.state.epoch_seconds;
        self.learner.model().objective().set_epoch(epoch);
        self.event(LearnerEvent::StartSplit { epoch_number: epoch, total_items: items });
        self.observe(|observer| observer.epoch_started(epoch, config.epochs, items));

        self.parts.loader.seek(epoch, self.state.batch);
        let train = Arc::clone(&self.train);
        let mut batches = train.iter();
        let mut accumulator = GradientsAccumulator::new();
        let mut accumulated = 0;
        let mut rate = 0.0;
        while let Some(batch) = batches.next() {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    self.interrupter.fail(error);
                    return Err(Ending::Failed);
                }
            };
            let number = self.state.batch;
            self.parts.device.seed(mix(&[config.seed, epoch as u64, number as u64]));
            let labels = batch.labels.clone();
            let output = self.learner.train_step(batch);

            accumulated += 1;
            let due = accumulated == config.regularization.accumulate || number + 1 == total;
            let gradients = if config.regularization.accumulate == 1 {
                Some(output.grads)
            } else {
                accumulator.accumulate(&self.learner.model(), output.grads);
                due.then(|| accumulator.grads())
            };
            if let Some(gradients) = gradients {
                self.learner.model().objective().set_accumulated(accumulated);
                self.learner.lr_step();
                self.learner.optimizer_step(gradients);
                rate = self.learner.lr_current().base();
                accumulated = 0;
                self.updates_since_checkpoint += 1;
                if let Some(average) = &mut self.average
                    && let Err(error) = average.update(&self.learner.model().network)
                {
                    fail(&self.interrupter, &error);
                    return Err(Ending::Failed);
                }
            }
            self.state.batch += 1;
            self.state.step += 1;
            self.losses.push(self.state.step, rate, labels, &output.item);
            if self.losses.is_full() {
                self.read_losses()?;
            }
            if self.parts.events {
                let item = TrainingItem::new(
                    output.item,
                    batches.progress(),
                    Some(self.state.batch),
                    Some(self.learner.lr_current()),
                );
                self.event(LearnerEvent::ProcessedItem(item));
            }
            // What is computed, not what a device was told to compute.
            let running = &self.state.running;
            let (done, loss) = (running.images, running.loss / running.images.max(1) as f64);
            self.observe(|observer| observer.batch_done(done, loss));

            if accumulated == 0 && self.state.batch < total {
                let stop = self.stop_requested();
                if stop || self.checkpoint_due() {
                    self.read_losses()?;
                    self.state.epoch_seconds = seconds_before + started.elapsed().as_secs_f64();
                    self.checkpoint();
                }
                if stop {
                    return Err(Ending::Interrupted(self.state.step));
                }
                if self.interrupter.error().is_some() {
                    return Err(Ending::Failed);
                }
            }
        }
        self.read_losses()?;
        drop(batches);
        self.event(LearnerEvent::EndSplit(epoch));
        let seconds = seconds_before + started.elapsed().as_secs_f64();
        Ok(EndedEpoch { rate, seconds, items })
    }

    /// Validates, records, and decides whether early stopping ends the run. A validation loss that is no finite number
    /// is recorded nowhere: it can be compared with nothing.
    fn finish_epoch(&mut self, ended: &EndedEpoch) -> Result<bool, Ending> {
        let epoch = self.state.epoch;
        let (validation, mean_average_precision) = self.validate(epoch);
        if self.interrupter.error().is_some() {
            return Err(Ending::Failed);
        }
        if !validation.loss.is_finite() {
            return Err(Ending::Diverged {
                split: LossOf::Validation,
                epoch,
                step: self.state.step,
                loss: validation.loss,
                learning_rate: ended.rate,
            });
        }
        let running = std::mem::take(&mut self.state.running);
        let images = running.images.max(1) as f64;
        let record = EpochRecord {
            epoch,
            train_loss: running.loss / images,
            train_accuracy: running.correct as f64 / images,
            valid_loss: validation.loss / validation.images.max(1) as f64,
            valid_accuracy: validation.correct as f64 / validation.images.max(1) as f64,
            valid_mean_average_precision: mean_average_precision,
            learning_rate: ended.rate,
            samples_per_second: ended.items as f64 / ended.seconds.max(1e-9),
            seconds: ended.seconds,
        };
        self.state.seconds += ended.seconds;
        self.state.epoch_seconds = 0.0;
        let figures = (record.valid_loss, mean_average_precision.unwrap_or(record.valid_accuracy));
        let better = self.state.best.as_ref().is_none_or(|best| {
            let best = (best.valid_loss, best.valid_mean_average_precision.unwrap_or(best.valid_accuracy));
            self.parts.config.checkpoint.best.is_better(figures, best)
        });
        if better {
            self.state.best = Some(BestEpoch {
                epoch,
                step: self.state.step,
                valid_loss: record.valid_loss,
                valid_accuracy: record.valid_accuracy,
                valid_mean_average_precision: mean_average_precision,
            });
        }
        let stop = self.early_stop(record.valid_loss);
        self.plateau(record.valid_loss);
        self.state.epochs.push(record);
        self.state.epoch += 1;
        self.state.batch = 0;
        let epochs = self.parts.config.epochs;
        let left = (epochs + 1 - self.state.epoch.min(epochs + 1)) as f64 * ended.seconds;
        let state = &self.state;
        self.observe(|observer| {
            observer.epoch_finished(&record, epochs, Duration::from_secs_f64(left), state);
        });
        self.event(LearnerEvent::EndEpoch(epoch));
        Ok(stop)
    }

    fn early_stop(&mut self, loss: f64) -> bool {
        let config = &self.parts.config.early_stopping;
        if self.state.stopping_reference.is_none_or(|reference| loss < reference - config.min_delta) {
            self.state.stopping_reference = Some(loss);
            self.state.waited = 0;
        } else {
            self.state.waited += 1;
        }
        config.patience > 0 && self.state.waited >= config.patience
    }

    fn plateau(&mut self, loss: f64) {
        let config = &self.parts.config.schedule;
        if config.name != ScheduleName::Plateau {
            return;
        }
        if self.state.plateau_reference.is_none_or(|reference| loss < reference) {
            self.state.plateau_reference = Some(loss);
            self.state.plateau_waited = 0;
            return;
        }
        self.state.plateau_waited += 1;
        if self.state.plateau_waited >= config.patience.max(1) {
            self.parts.plateau.set(self.parts.plateau.get() * config.gamma);
            self.state.plateau_waited = 0;
        }
    }

    /// Sums over the validation split, and its mean average precision where the task has one.
    fn validate(&mut self, epoch: usize) -> (RunningMetrics, Option<f64>) {
        let task = self.parts.task;
        let mut model = self.learner.model().valid();
        if let Some(average) = &self.average {
            match average.into_network(model.network.clone()) {
                Ok(network) => model.network = network,
                Err(error) => fail(&self.interrupter, &error),
            }
        }
        let total = self.valid.num_items();
        self.valid_event(LearnerEvent::StartSplit { epoch_number: epoch, total_items: total });
        let mut sums = RunningMetrics::default();
        let (mut all, mut classes, mut targets) = (Vec::new(), 1, Labels::Sets(Vec::new()));
        let valid = Arc::clone(&self.valid);
        let mut batches = valid.iter();
        let mut number = 0;
        while let Some(batch) = batches.next() {
            let batch: Batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    self.interrupter.fail(error);
                    break;
                }
            };
            number += 1;
            let labels = batch.labels.clone();
            let output = InferenceStep::step(&model, batch);
            let loss = output.loss.clone().into_scalar::<f32>();
            let logits = floats(&output.output);
            classes = output.output.dims()[1];
            sums.add(loss, task.right(&logits, classes, &labels), labels.len());
            if task.has_average_precision() {
                all.extend(logits);
                targets = targets.joined(labels);
            }
            if self.parts.events {
                let item = TrainingItem::new(output, batches.progress(), Some(number), None);
                self.valid_event(LearnerEvent::ProcessedItem(item));
            }
        }
        self.valid_event(LearnerEvent::EndSplit(epoch));
        (sums, task.mean_average_precision(&all, classes, &targets))
    }

    /// Reads the losses that are due and adds them up in the order of their steps.
    fn read_losses(&mut self) -> Result<(), Ending> {
        let begin = Instant::now();
        let read = self.losses.drain();
        self.losses.adapt(begin.elapsed());
        for read in read {
            if !read.loss.is_finite() {
                return Err(Ending::Diverged {
                    split: LossOf::Training,
                    epoch: self.state.epoch,
                    step: read.step,
                    loss: f64::from(read.loss),
                    learning_rate: read.rate,
                });
            }
            self.state.running.add(read.loss, read.correct, read.images);
        }
        Ok(())
    }

    fn checkpoint_due(&self) -> bool {
        match self.parts.config.checkpoint.every {
            CheckpointEvery::Epoch => false,
            CheckpointEvery::Steps(steps) => self.updates_since_checkpoint >= steps,
            CheckpointEvery::Minutes(minutes) => {
                self.last_checkpoint.elapsed().as_secs_f64() >= minutes * 60.0
            }
        }
    }

    /// Hands the state to the writer threads; they commit while training goes on.
    fn checkpoint(&mut self) {
        self.last_checkpoint = Instant::now();
        self.updates_since_checkpoint = 0;
        let average = match self.average.as_ref().map(WeightAverage::to_bytes).transpose() {
            Ok(average) => average,
            Err(error) => return fail(&self.interrupter, &error),
        };
        self.parts.committer.announce(self.state.clone(), average);
        if let Some(checkpointer) = &mut self.checkpointer {
            checkpointer.checkpoint(&self.learner, self.state.step, &self.event_store);
        }
    }

    fn stop_requested(&self) -> bool {
        self.parts.stop.load(Ordering::Relaxed)
            || (self.interrupter.should_stop() && self.interrupter.error().is_none())
    }

    fn observe(&self, tell: impl FnOnce(&mut dyn Observer)) {
        tell(&mut *self.parts.observer.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn event(&mut self, event: LearnerEvent<ClassificationOutput>) {
        self.interrupter.fail_on_error(self.processor.process_train(event));
    }

    fn valid_event(&mut self, event: LearnerEvent<ClassificationOutput>) {
        self.interrupter.fail_on_error(self.processor.process_valid(event));
    }
}

struct EndedEpoch {
    rate: f64,
    seconds: f64,
    items: usize,
}

/// Stops the run with an error of the weight average; burn-train's error has no better place for it.
fn fail(interrupter: &Interrupter, error: &model::AverageError) {
    interrupter.fail(burn_train::checkpoint::CheckpointerError::Unknown(error.to_string()));
}
