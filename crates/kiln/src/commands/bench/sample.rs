//! Images to measure with: real ones where they are at hand.

use std::collections::BTreeMap;

use clap::ValueEnum;
use data::{Dataset, DatasetPair, Search};
use model::{Fit, InputShape, Preprocessing};
use train::command::Failure;

/// The input of MNIST.
const DIGITS: InputShape = InputShape::new(1, 28, 28);
/// Classes of the images.
pub(super) const CLASSES: usize = 10;
/// The most pixels that are kept, so that a round of large images does not fill the memory.
const MOST_BYTES: usize = 48 << 20;

/// Where images come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// MNIST if it is on this machine, else its built-in sample; synthetic for other inputs
    Auto,
    /// The built-in sample, repeated
    MnistSample,
    /// Noise
    Synthetic,
}

impl Source {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::MnistSample => "mnist-sample",
            Self::Synthetic => "synthetic",
        }
    }

    /// Whether the source can have images for a network.
    pub(super) fn check(self, net: &str, input: InputShape) -> Result<(), Failure> {
        if self == Self::MnistSample && input != DIGITS {
            return Err(Failure::usage(format!(
                "--data mnist-sample has images of {DIGITS}, {net} takes {input}: use --data synthetic"
            )));
        }
        Ok(())
    }
}

/// Images and labels, of which any number can be taken.
pub(super) struct Images {
    pool: Dataset,
    test: Dataset,
    pub(super) preprocessing: Preprocessing,
}

impl Images {
    /// Never downloads anything.
    pub(super) fn find(source: Source, input: InputShape) -> Result<Self, Failure> {
        if source == Source::Synthetic || input != DIGITS {
            return Ok(Self::synthetic(input));
        }
        let at_hand = Search { mirrors: Some(Vec::new()), packages: false, ..Search::default() };
        let pair = match source {
            Source::Auto => data::load("mnist", &at_hand).or_else(|_| data::load("mnist-sample", &at_hand)),
            _ => data::load("mnist-sample", &at_hand),
        };
        let pair = pair.map_err(Failure::failed)?;
        Ok(Self { pool: pair.train, test: pair.test, preprocessing: pair.preprocessing })
    }

    fn synthetic(input: InputShape) -> Self {
        let set = |count: usize| {
            let labels: Vec<u32> = (0..count).map(|index| (index % CLASSES) as u32).collect();
            let names = (0..CLASSES).map(|class| class.to_string()).collect();
            Dataset::new("synthetic", noise(count * input.len()), labels, input, names)
        };
        let preprocessing = Preprocessing {
            input,
            mean: vec![0.5; input.channels],
            std: vec![0.25; input.channels],
            fit: Fit::default(),
        };
        let count = (MOST_BYTES / input.len()).clamp(CLASSES, 2_000);
        Self { pool: set(count), test: set(100), preprocessing }
    }

    pub(super) fn name(&self) -> &str {
        &self.pool.name
    }

    pub(super) fn classes(&self) -> usize {
        self.pool.class_names.len()
    }

    /// The most images that [`Self::into_pair`] should be asked for.
    pub(super) fn most(input: InputShape) -> usize {
        (MOST_BYTES / input.len()).max(1)
    }

    /// The pixels of `count` images, `[count, C, H, W]`, the pool repeated as needed.
    pub(super) fn pixels(&self, count: usize) -> Vec<u8> {
        self.pool.pixels.iter().copied().cycle().take(count * self.pool.image_len()).collect()
    }

    /// A data set with `count` images to train and validate on; makes no copy of the pool, since memory is
    /// measured.
    pub(super) fn into_pair(mut self, count: usize) -> DatasetPair {
        repeat_to(&mut self.pool.pixels, count * self.pool.shape.len());
        let pool = self.pool.labels.len() as u32;
        self.pool.labels =
            self.pool.labels.subset(&(0..count as u32).map(|at| at % pool).collect::<Vec<_>>());
        self.pool.content = self.pool.content.iter().copied().cycle().take(count).collect();
        DatasetPair {
            train: self.pool,
            test: self.test,
            preprocessing: self.preprocessing,
            sha256: BTreeMap::new(),
            origin: "memory".to_owned(),
            valid: Vec::new(),
            pictures: None,
            test_set_aside: false,
        }
        .fixed()
    }
}

/// Cuts off the end, or starts again from the front.
fn repeat_to<T: Copy>(values: &mut Vec<T>, len: usize) {
    while values.len() < len {
        let more = values.len().min(len - values.len());
        values.extend_from_within(..more);
    }
    values.truncate(len);
}

/// Bytes of Knuth's linear congruential generator (MMIX), the same every time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_pool_is_repeated() {
        let Ok(images) = Images::find(Source::MnistSample, DIGITS) else { panic!("the sample is built in") };
        let pair = images.into_pair(5_000);
        assert_eq!((pair.train.len(), pair.train.pixels.len()), (5_000, 5_000 * 784));
        assert_eq!(pair.train.image(2_000), pair.train.image(0));
        assert_eq!(pair.train.labels[2_001], pair.train.labels[1]);
        assert_ne!(pair.train.image(1), pair.train.image(0));
    }

    #[test]
    fn synthetic_images_hold_every_class() {
        let images = Images::synthetic(InputShape::new(3, 8, 8));
        assert_eq!(images.into_pair(100).train.class_counts(), vec![10; 10]);
        assert!(Source::MnistSample.check("stack", InputShape::new(3, 32, 32)).is_err());
    }
}
