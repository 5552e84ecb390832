//! The batches of one epoch, prepared ahead by threads where there are some.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use burn::data::dataloader::{DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{Device, Int, Tensor, TensorData};
use model::Preprocessing;
use rayon::Yield;

use super::sampler::{self, Sampler};
use crate::augment::{AugmentConfig, Augmenter, Pick, mix};
use crate::dataset::{Dataset, Labels};
use crate::error::DataError;
use crate::text::panic_message;

/// Batches that each thread prepares ahead of the one that waits to be taken.
const AHEAD: usize = 1;

/// Time after which a waiting thread looks again whether the pool has work for it.
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);

/// What a network is trained or judged on in one step.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Normalised images, `[N, C, H, W]`.
    pub images: Tensor<4>,
    /// Class of each image, `[N]`; 0 where images have sets of classes.
    pub targets: Tensor<1, Int>,
    /// Position of each image in the data set, `[N]`.
    pub indices: Vec<u32>,
    /// The classes of each image in memory, `[N]`.
    pub labels: Labels,
    /// With Mixup or `CutMix`, the target of each image as probabilities of the classes, `[N, K]`, rows of sum 1;
    /// `targets` are then the likeliest ones. Where images have sets of classes, always: the probability of each.
    pub probabilities: Option<Tensor<2>>,
}

/// How batches are made.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Images in a batch; the last one of an epoch holds the rest.
    pub batch_size: usize,
    /// Seed of the order, different for each epoch; `None` keeps the given order.
    pub shuffle: Option<u64>,
    /// Which images an epoch consists of; other than [`Sampler::Once`] needs `shuffle`.
    pub sampler: Sampler,
    /// Changes to the images and their seed.
    pub augment: Option<(AugmentConfig, u64)>,
    /// Threads that prepare batches ahead; 0 prepares each when it is asked for.
    pub workers: usize,
}

/// What batches are made of. Everything in it is fixed.
pub(super) struct Source {
    pub(super) dataset: Arc<Dataset>,
    pub(super) indices: Arc<[u32]>,
    pub(super) preprocessing: Preprocessing,
    pub(super) config: LoaderConfig,
    pub(super) augmenter: Option<Augmenter>,
}

impl Source {
    pub(super) fn order(&self, epoch: usize) -> Vec<Pick> {
        match self.config.shuffle {
            Some(seed) => match self.dataset.labels.ones() {
                Some(labels) => sampler::order(self.config.sampler, &self.indices, labels, seed, epoch),
                None => sampler::order(Sampler::Once, &self.indices, &[], seed, epoch),
            },
            None => self.indices.iter().copied().map(Pick::from).collect(),
        }
    }

    pub(super) fn batches(&self) -> usize {
        self.indices.len().div_ceil(self.config.batch_size)
    }
}

/// One epoch.
pub(super) struct Plan {
    pub(super) source: Arc<Source>,
    pub(super) epoch: usize,
    pub(super) order: Vec<Pick>,
}

/// A batch before it becomes tensors, which the consumer's thread does: backends tie streams and memory to
/// threads.
pub(super) struct Prepared {
    pub(super) images: Vec<f32>,
    pub(super) indices: Vec<u32>,
    pub(super) labels: Labels,
    pub(super) probabilities: Option<Vec<f32>>,
}

impl Plan {
    /// Batch `batch`, or why it could not be made; a panic becomes an error too.
    pub(super) fn prepare(&self, batch: usize) -> Result<Prepared, DataError> {
        catch_unwind(AssertUnwindSafe(|| self.gather(batch))).map_err(|panic| DataError::Worker {
            epoch: self.epoch,
            batch,
            message: panic_message(panic.as_ref()).unwrap_or("no message").to_owned(),
        })
    }

    pub(super) fn gather(&self, batch: usize) -> Prepared {
        let Source { dataset, preprocessing, config, augmenter, .. } = self.source.as_ref();
        let start = batch * config.batch_size;
        let picks = &self.order[start..self.order.len().min(start + config.batch_size)];
        let indices: Vec<u32> = picks.iter().map(|pick| pick.index).collect();
        let labels = dataset.labels.subset(&indices);
        let mut images = vec![0.0; indices.len() * dataset.image_len()];
        if let Some(augmenter) = augmenter {
            augmenter.batch_into(dataset, picks, self.epoch, &mut images);
        } else {
            model::ops::gather_normalize(
                &dataset.pixels,
                dataset.image_len(),
                &indices,
                dataset.shape.channels,
                &preprocessing.mean,
                &preprocessing.std,
                &mut images,
            );
        }
        let mixing = config.augment.as_ref().filter(|(augment, _)| augment.mixes());
        let classes = dataset.class_names.len();
        let probabilities = match mixing {
            Some((augment, seed)) => {
                let images = (dataset.shape, &mut images[..]);
                Some(mix(augment, *seed, self.epoch, picks, (&labels, classes), images))
            }
            None => labels.is_sets().then(|| labels.dense(classes)),
        };
        Prepared { images, indices, labels, probabilities }
    }
}

/// Waits for a batch. A member of the thread pool does the pool's work meanwhile: that is what the batch waits for.
pub(super) fn receive<T>(batches: &Receiver<T>) -> Option<T> {
    loop {
        match batches.try_recv() {
            Ok(batch) => return Some(batch),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        match rayon::yield_now() {
            None => return batches.recv().ok(),
            Some(Yield::Executed) => {}
            Some(Yield::Idle) => match batches.recv_timeout(BETWEEN_LOOKS) {
                Ok(batch) => return Some(batch),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            },
        }
    }
}

/// The rest of an epoch.
pub(super) struct BatchIterator {
    pub(super) plan: Arc<Plan>,
    pub(super) device: Device,
    pub(super) next: usize,
    pub(super) delivered: usize,
    /// Samples from the first batch of this iterator to the end of the epoch.
    pub(super) expected: usize,
    /// Nothing comes any more: the epoch is complete, or an error was reported.
    pub(super) ended: bool,
    pub(super) workers: Vec<Worker>,
    pub(super) first: usize,
}

/// A thread that prepares every `n`-th batch. Taking from the threads in turn restores the order.
pub(super) struct Worker {
    pub(super) batches: Option<Receiver<Result<Prepared, DataError>>>,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl BatchIterator {
    pub(super) fn new(plan: Arc<Plan>, first: usize, device: Device) -> Self {
        let batch_size = plan.source.config.batch_size;
        let expected = plan.order.len().saturating_sub(first.saturating_mul(batch_size));
        let left = plan.source.batches().saturating_sub(first);
        let count = plan.source.config.workers.min(left);
        let workers = (0..count).map(|worker| Worker::spawn(&plan, first + worker, count)).collect();
        Self { plan, device, next: first, delivered: 0, expected, ended: false, workers, first }
    }

    pub(super) fn prepared(&mut self) -> Result<Prepared, DataError> {
        let batch = self.next;
        if self.workers.is_empty() {
            return self.plan.prepare(batch);
        }
        let turn = (batch - self.first) % self.workers.len();
        let received = self.workers[turn].batches.as_ref().and_then(receive);
        received.unwrap_or_else(|| {
            let message = "it ended without a result".to_owned();
            Err(DataError::Worker { epoch: self.plan.epoch, batch, message })
        })
    }

    pub(super) fn batch(&self, prepared: Prepared) -> Batch {
        let Prepared { images, indices, labels, probabilities } = prepared;
        let Dataset { shape, class_names, .. } = self.plan.source.dataset.as_ref();
        let count = labels.len();
        let images = TensorData::new(images, [count, shape.channels, shape.height, shape.width]);
        let targets = labels.ones().map_or_else(
            || vec![0; count],
            |labels| labels.iter().map(|&label| label as i32).collect::<Vec<i32>>(),
        );
        let targets = TensorData::new(targets, [count]);
        let probabilities = probabilities.map(|probabilities| {
            Tensor::from_data(TensorData::new(probabilities, [count, class_names.len()]), &self.device)
        });
        Batch {
            images: Tensor::from_data(images, &self.device),
            targets: Tensor::from_data(targets, &self.device),
            indices,
            labels,
            probabilities,
        }
    }
}

impl Iterator for BatchIterator {
    type Item = Result<Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.next >= self.plan.source.batches() {
            self.ended = true;
            // Cannot differ as the code stands; a training run must not depend on that.
            return (self.delivered != self.expected).then(|| {
                let (epoch, expected, found) = (self.plan.epoch, self.expected, self.delivered);
                Err(DatasetError::new(DataError::SampleCount { epoch, expected, found }))
            });
        }
        match self.prepared() {
            Ok(prepared) => {
                self.next += 1;
                self.delivered += prepared.labels.len();
                Some(Ok(self.batch(prepared)))
            }
            Err(error) => {
                self.ended = true;
                Some(Err(DatasetError::new(error)))
            }
        }
    }
}

impl DataLoaderIterator<Batch> for BatchIterator {
    /// Items of the whole epoch, including those before the start of a resumed one.
    fn progress(&self) -> Progress {
        let total = self.plan.order.len();
        Progress::new(total - self.expected + self.delivered, total, Some("items".to_owned()))
    }
}

impl Worker {
    /// Prepares `first`, `first + step`, and so on.
    pub(super) fn spawn(plan: &Arc<Plan>, first: usize, step: usize) -> Self {
        let (sender, batches) = sync_channel(AHEAD);
        let plan = plan.clone();
        let work = move || {
            for batch in (first..plan.source.batches()).step_by(step) {
                if !deliver(&sender, plan.prepare(batch)) {
                    break;
                }
            }
        };
        // Without a thread the receiver finds its channel closed, which is reported as an error.
        let thread = std::thread::Builder::new().name("data-loader".to_owned()).spawn(work).ok();
        Self { batches: Some(batches), thread }
    }
}

/// Whether to go on.
pub(super) fn deliver(
    sender: &SyncSender<Result<Prepared, DataError>>,
    prepared: Result<Prepared, DataError>,
) -> bool {
    let good = prepared.is_ok();
    sender.send(prepared).is_ok() && good
}

impl Drop for BatchIterator {
    fn drop(&mut self) {
        // A thread that wants to send finds its channel closed and ends.
        for worker in &mut self.workers {
            worker.batches = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // Panics are caught inside and were reported as errors.
                let _ = thread.join();
            }
        }
    }
}
