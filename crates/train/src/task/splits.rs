//! The images of a run: loaded, and divided into what is learned from, validated on and tested on.

use std::sync::Arc;

use burn::tensor::Device;
use data::text::one_line;
use data::{BatchLoader, Dataset, DatasetPair, ImageOptions, LoaderConfig, Sampler, Search};
use model::{MOST_SEEN, Seen, TaskName};

use crate::config::{ClassWeighting, ClassWeights, TrainConfig};
use crate::task::division::{Parts, divide};
use crate::task::error::TaskError;
use crate::task::tasks;

/// The images that the configuration names, in the size and with the channels it asks for.
fn load_pair(config: &TrainConfig, search: &Search) -> Result<DatasetPair, TaskError> {
    load_pair_at(config, &config.data.dataset, search)
}

/// As [`Splits::load`] finds them, from where the data lies now.
///
/// # Errors
/// When they cannot be read, or cannot get the channels asked for.
pub fn load_pair_at(config: &TrainConfig, place: &str, search: &Search) -> Result<DatasetPair, TaskError> {
    let options = ImageOptions { task: config.task, ..config.data.images() };
    let pair = data::load_with(place, search, &options)?;
    match config.data.channels {
        0 => Ok(pair),
        channels => pair.with_channels(channels).map_err(TaskError::Channels),
    }
}

/// The data set and who gets which image.
pub struct Splits {
    /// The data set; its training images are moved to `training`.
    pub pair: DatasetPair,
    /// The images that are trained and validated on.
    pub training: Arc<Dataset>,
    /// Positions in `training` of what is learned from.
    pub train: Arc<[u32]>,
    /// Positions in `training` of what is validated on.
    pub valid: Arc<[u32]>,
}

impl Splits {
    /// Finds the images and divides them.
    ///
    /// # Errors
    /// When they cannot be read, or are too few for the splits.
    pub fn load(config: &TrainConfig, search: &Search) -> Result<Self, TaskError> {
        Self::new(config, load_pair(config, search)?)
    }

    /// Divides images that are in memory already.
    ///
    /// # Errors
    /// When they are too few for the splits.
    pub fn new(config: &TrainConfig, mut pair: DatasetPair) -> Result<Self, TaskError> {
        if config.task == Some(TaskName::MultiLabel) {
            pair = pair.with_sets();
        }
        let task = task_of(&pair.train);
        if config.task == Some(TaskName::Classify) && task != TaskName::Classify {
            return Err(TaskError::Sets { dataset: pair.train.name, what: "task = \"classify\"" });
        }
        tasks::of(task).check(config)?;
        let Parts { train, valid } = divide(config, &pair)?;
        // Taken out rather than copied: 47 MB for MNIST.
        let empty = pair.test.emptied();
        if !config.test {
            pair.test = empty.clone();
        } else if pair.test.is_empty() {
            tracing::warn!(
                "{}: there is no image to test on, so the figures of this run are those of validation; add images, or \
                 raise data.test_fraction",
                pair.train.name
            );
        }
        let training = std::mem::replace(&mut pair.train, empty);
        let counts = training.labels.subset(&train).counts(training.class_names.len());
        tracing::info!("images to train on, by class: {}", in_words(&training.class_names, &counts));
        if let Some(skew) = data::balance::Skew::of(&counts, &training.class_names)
            && task == TaskName::Classify
            && config.data.sampler == Sampler::Once
            && config.regularization.class_weights == ClassWeights::Equal
        {
            tracing::warn!("{skew}");
        }
        tracing::info!(
            "{}: {} images to train on, {} to validate, {} to test; from {}",
            training.name,
            train.len(),
            valid.len(),
            pair.test.len(),
            pair.origin
        );
        Ok(Self { pair, training: Arc::new(training), train: train.into(), valid: valid.into() })
    }

    /// What is learned: by the labels of the images.
    pub fn task(&self) -> TaskName {
        task_of(&self.training)
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.training.class_names.len()
    }

    /// The batches to learn from.
    ///
    /// # Errors
    /// When the loader refuses its settings.
    pub fn training_loader(&self, config: &TrainConfig, device: &Device) -> Result<BatchLoader, TaskError> {
        let augment = &config.data.augment;
        let loading = LoaderConfig {
            batch_size: config.batch_size,
            shuffle: Some(config.seed),
            sampler: config.data.sampler,
            augment: (!augment.is_off()).then_some((*augment, config.seed)),
            workers: config.data.workers,
        };
        let (images, indices) = (Arc::clone(&self.training), Arc::clone(&self.train));
        Ok(BatchLoader::new(images, indices, self.pair.preprocessing.clone(), loading, device.clone())?)
    }

    /// Whether there is something to test on: runs that are chosen from have nothing, and few pictures may have none.
    pub fn is_tested(&self) -> bool {
        !self.pair.test.is_empty()
    }

    /// What a finished run is evaluated on: name, data set and positions in it.
    pub fn held_out(&self) -> (&'static str, &Dataset, Vec<u32>) {
        if self.is_tested() {
            ("test", &self.pair.test, (0..self.pair.test.len() as u32).collect())
        } else {
            ("validation", &self.training, self.valid.to_vec())
        }
    }

    /// The pictures that a model of this data has seen, together with those that it had seen before where it began as a
    /// model of others. Known data sets are not recorded, nor is what would be too much: of two lists that do not fit
    /// together that of this data stays.
    pub fn seen(&self, before: Option<&Seen>) -> Option<Seen> {
        if self.training.is_fixed() {
            return before.cloned();
        }
        let content = |indices: &[u32]| {
            indices.iter().map(|&index| *self.training.content[index as usize].bytes()).collect::<Vec<_>>()
        };
        let Some(own) = Seen::new(&content(&self.train), &content(&self.valid)) else {
            tracing::warn!(
                "more than {MOST_SEEN} images: the model does not record them, so evaluating on them will not be noticed"
            );
            return None;
        };
        let Some(before) = before else { return Some(own) };
        let both = own.with(before);
        if both.is_none() {
            tracing::warn!(
                "more than {MOST_SEEN} images with those that the starting model was trained on: the model records only \
                 those of this run, so evaluating on the others will not be noticed"
            );
        }
        both.or(Some(own))
    }
}

fn task_of(images: &Dataset) -> TaskName {
    if images.labels.is_sets() { TaskName::MultiLabel } else { TaskName::Classify }
}

/// The weight of each class in the loss; `None` where all are equal.
///
/// # Errors
/// When the configuration gives another number of weights than there are classes.
pub fn class_weights(weights: &ClassWeights, data: &Splits) -> Result<Option<Vec<f32>>, TaskError> {
    match weights {
        ClassWeights::Equal | ClassWeights::Named(ClassWeighting::None) => Ok(None),
        ClassWeights::Named(ClassWeighting::Balanced) => {
            let counts = data.training.labels.subset(&data.train).counts(data.classes());
            Ok(Some(data::balance::balanced_weights(&counts)))
        }
        ClassWeights::Given(weights) if weights.len() == data.classes() => Ok(Some(weights.clone())),
        ClassWeights::Given(weights) => {
            Err(TaskError::ClassWeights { found: weights.len(), expected: data.classes() })
        }
    }
}

/// `cat 12, dog 9`, cut short after many classes.
fn in_words(names: &[String], counts: &[usize]) -> String {
    const SHOWN: usize = 25;
    let shown =
        names.iter().zip(counts).take(SHOWN).map(|(name, count)| format!("{} {count}", one_line(name)));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more classes", names.len() - SHOWN));
    }
    text
}
