//! The batch loader. A batch is a pure function of (seeds, epoch, index of the batch): neither the number of
//! threads nor what was loaded before changes it, so a resumed run sees what the uninterrupted one would have
//! seen.

use std::sync::{Arc, Mutex, PoisonError};

use burn::data::dataloader::{DataLoader, DataLoaderIterator};
use burn::tensor::Device;
use model::Preprocessing;

use super::epoch::{Batch, BatchIterator, LoaderConfig, Plan, Source};
use super::sampler::Sampler;
use crate::augment::Augmenter;
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::rng::{Purpose, Stream};

/// Where the next epoch begins.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    epoch: usize,
    batch: usize,
}

/// Batches of selected images of a data set in memory. Each call of [`DataLoader::iter`] runs one epoch from
/// the cursor (see [`BatchLoader::seek`]) and moves it to the start of the next; the first epoch is 0. Clones
/// and copies for other devices share the cursor.
#[derive(Clone)]
pub struct BatchLoader {
    source: Arc<Source>,
    cursor: Arc<Mutex<Cursor>>,
    device: Device,
}

impl BatchLoader {
    /// A loader of the images `indices` of `dataset`.
    ///
    /// # Errors
    /// [`DataError::Setting`] when there is no image, an index is out of range, the batch size is 0, the
    /// augmentation is impossible, or the preprocessing is not for images of this size.
    pub fn new(
        dataset: Arc<Dataset>,
        indices: Arc<[u32]>,
        preprocessing: Preprocessing,
        config: LoaderConfig,
        device: Device,
    ) -> Result<Self, DataError> {
        let setting = |field, found: String, reason: &str| DataError::Setting {
            field,
            found,
            reason: reason.to_owned(),
        };
        if config.batch_size == 0 {
            return Err(setting("batch_size", "0".into(), "a batch holds at least one image"));
        }
        if indices.is_empty() {
            return Err(setting("indices", "[]".into(), "there must be at least one image"));
        }
        if let Some(index) = indices.iter().find(|&&index| index as usize >= dataset.len()) {
            let reason = format!("data set `{}` has {} images", dataset.name, dataset.len());
            return Err(setting("indices", index.to_string(), &reason));
        }
        if preprocessing.input != dataset.shape {
            let reason = format!("the images of `{}` are {:?}", dataset.name, dataset.shape);
            return Err(setting("preprocessing.input", format!("{:?}", preprocessing.input), &reason));
        }
        if let Err(error) = preprocessing.validate() {
            return Err(setting("preprocessing", format!("{preprocessing:?}"), &error.to_string()));
        }
        if config.sampler != Sampler::Once && config.shuffle.is_none() {
            return Err(setting("sampler", "balanced".into(), "the order must be shuffled with it"));
        }
        if config.sampler != Sampler::Once && dataset.labels.is_sets() {
            let reason = "images have several classes each, so their classes cannot come equally often";
            return Err(setting("sampler", "balanced".into(), reason));
        }
        let augmenter = match &config.augment {
            Some((augment, seed)) if !augment.is_off() => {
                Some(Augmenter::new(*augment, *seed, preprocessing.clone())?)
            }
            Some((augment, _)) => augment.validate().map(|()| None)?,
            None => None,
        };
        let source = Arc::new(Source { dataset, indices, preprocessing, config, augmenter });
        Ok(Self { source, cursor: Arc::default(), device })
    }

    /// Lets the next call of [`DataLoader::iter`] begin at batch `batch` of `epoch`. What it then yields
    /// equals the tail of that epoch; past the last batch it is empty.
    pub fn seek(&self, epoch: usize, batch: usize) {
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = Cursor { epoch, batch };
    }

    /// Indices of the images of `epoch` in the order in which they come.
    pub fn order(&self, epoch: usize) -> Vec<u32> {
        self.source.order(epoch).iter().map(|pick| pick.index).collect()
    }

    /// The number of batches of an epoch.
    pub fn batches(&self) -> usize {
        self.source.batches()
    }

    /// The rest of the epoch at the cursor; moves the cursor to the next epoch.
    fn start(&self) -> BatchIterator {
        let start = {
            let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
            let next = Cursor { epoch: cursor.epoch + 1, batch: 0 };
            std::mem::replace(&mut *cursor, next)
        };
        let plan = Arc::new(Plan {
            order: self.source.order(start.epoch),
            epoch: start.epoch,
            source: self.source.clone(),
        });
        BatchIterator::new(plan, start.batch, self.device.clone())
    }
}

impl DataLoader<Batch> for BatchLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Batch> + 'a> {
        Box::new(self.start())
    }

    fn num_items(&self) -> usize {
        self.source.indices.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<Batch>> {
        Arc::new(Self { device: device.clone(), ..self.clone() })
    }

    /// A part of the images, with a cursor of its own that starts where this one stands. With shuffling, the
    /// part is cut out of a fixed random order, so that parts of a data set sorted by class still hold every
    /// class.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<Batch>> {
        let source = &self.source;
        let mut indices = source.indices.to_vec();
        if let Some(seed) = source.config.shuffle {
            Stream::new(seed, Purpose::Shard, [0, 0]).shuffle(&mut indices);
        }
        let end = end.min(indices.len());
        let source = Source {
            dataset: source.dataset.clone(),
            indices: indices[start.min(end)..end].into(),
            preprocessing: source.preprocessing.clone(),
            config: source.config.clone(),
            augmenter: source.augmenter.clone(),
        };
        let cursor = *self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(Self {
            source: Arc::new(source),
            cursor: Arc::new(Mutex::new(cursor)),
            device: self.device.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::AugmentConfig;
    use crate::dataset::Labels;
    use model::{Fit, InputShape};
    use proptest::prelude::*;

    const SHAPE: InputShape = InputShape { channels: 1, height: 4, width: 4 };

    /// Images that differ, each with a label that follows from its index.
    fn dataset(count: usize) -> Arc<Dataset> {
        let pixels = (0..count * 16).map(|i| (i * 31 % 255) as u8).collect();
        let labels: Vec<u32> = (0..count).map(|i| (i % 3) as u32).collect();
        Arc::new(Dataset::new("counted", pixels, labels, SHAPE, ["a", "b", "c"].map(String::from).to_vec()))
    }

    fn preprocessing() -> Preprocessing {
        Preprocessing { input: SHAPE, mean: vec![0.5], std: vec![0.25], fit: Fit::default() }
    }

    fn augment() -> AugmentConfig {
        AugmentConfig {
            shift: 1.0,
            rotate: 20.0,
            elastic_alpha: 4.0,
            elastic_sigma: 2.0,
            ..Default::default()
        }
    }

    fn config(batch_size: usize, workers: usize) -> LoaderConfig {
        let sampler = Sampler::Once;
        LoaderConfig { batch_size, shuffle: Some(3), sampler, augment: Some((augment(), 4)), workers }
    }

    fn loader(count: usize, config: LoaderConfig) -> BatchLoader {
        let indices = (0..count as u32).collect();
        BatchLoader::new(dataset(count), indices, preprocessing(), config, Device::flex()).unwrap()
    }

    /// Everything a batch holds, comparable to the bit.
    #[derive(Debug, PartialEq)]
    struct Content {
        images: Vec<u32>,
        targets: Vec<i64>,
        indices: Vec<u32>,
        labels: Vec<u32>,
        probabilities: Vec<f32>,
    }

    fn content(batch: Batch) -> Content {
        let count = batch.indices.len();
        assert_eq!(batch.images.dims(), [count, 1, 4, 4]);
        assert_eq!(batch.targets.dims(), [count]);
        Content {
            images: batch.images.into_data().iter::<f32>().map(f32::to_bits).collect(),
            targets: batch.targets.into_data().iter::<i64>().collect(),
            indices: batch.indices,
            labels: batch.labels.ones().unwrap().to_vec(),
            probabilities: batch
                .probabilities
                .map_or_else(Vec::new, |p| p.into_data().iter::<f32>().collect()),
        }
    }

    fn epoch(loader: &dyn DataLoader<Batch>) -> Vec<Content> {
        loader.iter().map(|batch| content(batch.unwrap())).collect()
    }

    #[test]
    fn batch_holds_normalised_images_with_their_labels() {
        let plain =
            LoaderConfig { batch_size: 4, shuffle: None, sampler: Sampler::Once, augment: None, workers: 0 };
        let loader = loader(10, plain);
        let batches = epoch(&loader);
        assert_eq!(batches.iter().map(|batch| batch.indices.len()).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(batches[1].indices, [4, 5, 6, 7]);
        assert_eq!(batches[1].labels, [1, 2, 0, 1]);
        assert_eq!(batches[1].targets, [1, 2, 0, 1]);
        let data = dataset(10);
        for (found, &pixel) in batches[1].images.iter().zip(&data.pixels[64..]) {
            let expected = (f32::from(pixel) / 255.0 - 0.5) / 0.25;
            assert!((f32::from_bits(*found) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn epochs_follow_each_other_and_seek_returns() {
        let loader = loader(20, config(8, 0));
        let (first, second) = (epoch(&loader), epoch(&loader));
        assert_ne!(first, second);
        let copy = loader.to_device(&Device::flex());
        loader.seek(0, 0);
        assert_eq!(epoch(copy.as_ref()), first);
        assert_eq!(epoch(&loader), second);
        assert_eq!(loader.order(1), second.into_iter().flat_map(|batch| batch.indices).collect::<Vec<_>>());
    }

    #[test]
    fn progress_counts_what_a_resumed_epoch_skips() {
        let loader = loader(10, config(4, 1));
        loader.seek(2, 1);
        let mut batches = loader.iter();
        assert_eq!(batches.progress().items_processed, 4);
        batches.next().unwrap().unwrap();
        assert_eq!((batches.progress().items_processed, batches.progress().items_total), (8, 10));
    }

    #[test]
    fn seek_past_the_end_is_an_empty_epoch() {
        let loader = loader(10, config(4, 2));
        loader.seek(0, 3);
        assert_eq!(epoch(&loader), []);
        assert_eq!(epoch(&loader).len(), 3);
    }

    #[test]
    fn dropping_an_unfinished_epoch_ends_its_threads() {
        let loader = loader(100, config(1, 3));
        let source = Arc::downgrade(&loader.source);
        let mut batches = loader.iter();
        batches.next().unwrap().unwrap();
        drop(batches);
        drop(loader);
        // The threads owned the source as well.
        assert!(source.upgrade().is_none());
    }

    /// A loader whose third batch cannot be made.
    fn broken(workers: usize) -> BatchLoader {
        let mut loader = loader(10, config(2, workers));
        let source = Arc::get_mut(&mut loader.source).unwrap();
        source.augmenter = None;
        source.config.shuffle = None;
        // A fault no check foresaw: the label of image 5 is missing.
        let labels = &mut Arc::get_mut(&mut source.dataset).unwrap().labels;
        *labels = labels.subset(&[0, 1, 2, 3, 4]);
        loader
    }

    #[test]
    fn panic_in_a_worker_is_an_error_and_ends_the_epoch() {
        for workers in [0, 1, 3] {
            let loader = broken(workers);
            let mut batches = loader.iter();
            assert!(batches.next().unwrap().is_ok() && batches.next().unwrap().is_ok());
            let error = batches.next().unwrap().unwrap_err().to_string();
            assert!(
                error.starts_with("a loader thread failed at batch 2 of epoch 0: index out of bounds"),
                "{error}"
            );
            assert!(batches.next().is_none());
        }
    }

    #[test]
    fn missing_samples_are_an_error() {
        let loader = loader(10, config(4, 0));
        let mut batches = loader.start();
        batches.delivered = 1; // as if one had been counted that was not delivered
        let results: Vec<_> = batches.map(|batch| batch.map(|batch| batch.labels.len())).collect();
        let error = results[3].as_ref().unwrap_err().to_string();
        assert_eq!(error, "epoch 0 delivered 11 samples instead of 10: the epoch is not complete");
        assert_eq!(results.len(), 4);
    }

    #[test]
    fn mixed_batches_have_probabilities_whatever_the_workers_and_the_start() {
        let mixing = AugmentConfig { mixup: 0.3, cutmix: 1.0, flip: true, ..augment() };
        let run = |workers: usize, from: usize| {
            let loader = loader(20, LoaderConfig { augment: Some((mixing, 4)), ..config(8, workers) });
            loader.seek(2, from);
            epoch(&loader)
        };
        let whole = run(0, 0);
        assert_eq!(whole, run(3, 0));
        assert_eq!(whole[1..], run(1, 1));
        for batch in &whole {
            assert_eq!(batch.probabilities.len(), 3 * batch.labels.len());
            for (row, &label) in batch.probabilities.chunks_exact(3).zip(&batch.labels) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                assert!(row[label as usize] >= 0.5, "{row:?}");
            }
        }
        assert!(epoch(&loader(20, config(8, 0))).iter().all(|batch| batch.probabilities.is_empty()));
    }

    #[test]
    fn a_balanced_epoch_is_as_long_and_repeats_differ() {
        let mut skewed = Arc::unwrap_or_clone(dataset(30));
        let labels: Vec<u32> = (0..30).map(|i| u32::from(i >= 20) + u32::from(i >= 28)).collect();
        skewed.labels = labels.into();
        let balanced = LoaderConfig { sampler: Sampler::Balanced, ..config(7, 2) };
        let new = |config| {
            let (data, indices) = (Arc::new(skewed.clone()), (0..30).collect());
            BatchLoader::new(data, indices, preprocessing(), config, Device::flex())
        };
        let loader = new(balanced.clone()).unwrap();
        let batches = epoch(&loader);
        let labels: Vec<u32> = batches.iter().flat_map(|batch| batch.labels.clone()).collect();
        assert_eq!((labels.len(), loader.num_items(), loader.batches()), (30, 30, 5));
        assert_eq!(crate::dataset::class_counts(&labels, 3), [10; 3]);
        // Image 28 comes five times, changed in another way each time.
        let images = batches.iter().flat_map(|batch| batch.indices.iter().zip(batch.images.chunks_exact(16)));
        let same: std::collections::BTreeSet<Vec<u32>> =
            images.filter(|(index, _)| **index == 28).map(|(_, image)| image.to_vec()).collect();
        assert_eq!(same.len(), 5);
        let error = new(LoaderConfig { shuffle: None, ..balanced }).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("sampler = balanced"), "{error}");
    }

    #[test]
    fn batches_of_sets_have_a_number_for_each_class_and_no_balance() {
        let mut several = Arc::unwrap_or_clone(dataset(3));
        several.labels = Labels::Sets(vec![vec![0, 2], vec![], vec![1]]);
        let new = |sampler| {
            let config = LoaderConfig { batch_size: 2, shuffle: Some(1), sampler, augment: None, workers: 0 };
            let (data, indices) = (Arc::new(several.clone()), [0, 1, 2].into());
            BatchLoader::new(data, indices, preprocessing(), config, Device::flex())
        };
        for batch in new(Sampler::Once).unwrap().iter().map(Result::unwrap) {
            let found: Vec<f32> = batch.probabilities.unwrap().into_data().iter::<f32>().collect();
            assert_eq!(found, several.labels.subset(&batch.indices).dense(3));
            assert_eq!(batch.labels, several.labels.subset(&batch.indices));
        }
        let error = new(Sampler::Balanced).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("sampler") && error.contains("several classes"), "{error}");
    }

    #[test]
    fn slices_are_disjoint_and_hold_every_class_of_a_sorted_set() {
        let mut sorted = Arc::unwrap_or_clone(dataset(300));
        let mut labels = sorted.labels.ones().unwrap().to_vec();
        labels.sort_unstable();
        sorted.labels = labels.clone().into();
        let indices = (0..300).collect();
        let loader =
            BatchLoader::new(Arc::new(sorted), indices, preprocessing(), config(50, 0), Device::flex())
                .unwrap();
        let mut seen = Vec::new();
        for part in 0..3 {
            let slice = loader.slice(part * 100, (part + 1) * 100);
            assert_eq!(slice.num_items(), 100);
            let indices: Vec<u32> =
                epoch(slice.as_ref()).into_iter().flat_map(|batch| batch.indices).collect();
            for class in 0..3 {
                let count = indices.iter().filter(|&&index| labels[index as usize] == class).count();
                assert!((20..50).contains(&count), "part {part}, class {class}: {count} of 100");
            }
            seen.extend(indices);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn impossible_settings_are_named() {
        let try_new = |indices: &[u32], preprocessing, config| {
            let result = BatchLoader::new(dataset(3), indices.into(), preprocessing, config, Device::flex());
            result.map(|_| ()).unwrap_err().to_string()
        };
        assert!(try_new(&[0], preprocessing(), config(0, 0)).contains("batch_size = 0"));
        assert!(try_new(&[], preprocessing(), config(1, 0)).contains("at least one image"));
        assert!(try_new(&[0, 3], preprocessing(), config(1, 0)).contains("indices = 3"));
        assert!(try_new(&[0], Preprocessing::mnist(), config(1, 0)).contains("preprocessing.input"));
        let zero = Preprocessing { std: vec![0.0], ..preprocessing() };
        assert!(try_new(&[0], zero, config(1, 0)).contains("`std` of channel 0"));
        let strong =
            LoaderConfig { augment: Some((AugmentConfig { scale: 2.0, ..augment() }, 0)), ..config(1, 0) };
        assert!(try_new(&[0], preprocessing(), strong).contains("scale = 2"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn every_sample_comes_once_whatever_the_workers(
            count in 1usize..60, batch_size in 1usize..20, number in 0usize..5,
        ) {
            let run = |workers: usize| {
                let loader = loader(count, config(batch_size, workers));
                loader.seek(number, 0);
                epoch(&loader)
            };
            let inline = run(0);
            prop_assert_eq!(&inline, &run(1));
            prop_assert_eq!(&inline, &run(3));
            prop_assert!(inline.iter().rev().skip(1).all(|batch| batch.indices.len() == batch_size));
            let mut indices: Vec<u32> = inline.into_iter().flat_map(|batch| batch.indices).collect();
            indices.sort_unstable();
            prop_assert_eq!(indices, (0..count as u32).collect::<Vec<_>>());
        }

        #[test]
        fn resumed_epoch_is_the_tail_of_the_whole_one(
            count in 1usize..60, batch_size in 1usize..20, number in 0usize..3, workers in 0usize..3,
            at in 0.0f64..1.0,
        ) {
            let loader = loader(count, config(batch_size, workers));
            loader.seek(number, 0);
            let mut whole = epoch(&loader);
            let following = epoch(&loader);
            let batch = (at * loader.batches() as f64) as usize;
            loader.seek(number, batch);
            prop_assert_eq!(epoch(&loader), whole.split_off(batch));
            prop_assert_eq!(epoch(&loader), following);
        }

        #[test]
        fn order_depends_on_seed_and_epoch_alone(count in 20usize..60, epoch in 0usize..9, seed: u64) {
            let order = |batch_size, workers, seed, epoch| {
                let config = LoaderConfig { shuffle: Some(seed), ..config(batch_size, workers) };
                let loader = loader(count, config);
                loader.order(epoch)
            };
            let reference = order(3, 0, seed, epoch);
            prop_assert_eq!(&reference, &order(7, 2, seed, epoch));
            prop_assert_ne!(&reference, &order(3, 0, seed, epoch + 1));
            prop_assert_ne!(&reference, &order(3, 0, seed ^ 1, epoch));
        }
    }
}
