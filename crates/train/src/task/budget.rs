//! How much training a folder of pictures gets when nobody says: the defaults are those of MNIST's 60,000 images, and
//! would leave a hundred pictures ten updates.

use std::fmt;

use data::text::counted;

use crate::config::TrainConfig;

/// Updates that an epoch should have at least.
const UPDATES_PER_EPOCH: usize = 20;
/// Updates that a run should have at least.
const UPDATES: usize = 600;
/// Most epochs more than the configuration's: each is validated and leaves a checkpoint.
const MOST_EPOCHS: usize = 300;
/// Images of a batch, at least; at most as many as the configuration has.
const SMALLEST_BATCH: usize = 16;
/// Multiply-accumulates that more epochs than the configuration's may cost: some minutes on a few cores.
const MOST_MACS: u64 = 10_000_000_000_000;
/// Forward, and twice as much backward.
const PASSES: u64 = 3;

/// Batch size and epochs that suit so many pictures, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Images per step.
    pub batch_size: usize,
    /// Passes over the training images.
    pub epochs: usize,
    /// Training images.
    images: usize,
    /// Updates of an epoch.
    updates: usize,
    /// Whether more epochs would have taken too long.
    capped: bool,
}

impl Budget {
    /// For `images` training images of which each takes `macs` multiply-accumulates; never more images per step and
    /// fewer epochs than `config` has.
    ///
    /// The batch is the largest power of two from 16 on that leaves an epoch 20 updates, and there are so many epochs
    /// that the run has 600 updates, as long as those are at most 300 and do not take too long.
    pub fn fitting(config: &TrainConfig, images: usize, macs: u64) -> Self {
        let images = images.max(1);
        let most = config.batch_size;
        let wanted = (images / UPDATES_PER_EPOCH).max(SMALLEST_BATCH);
        let batch_size = most.min(1 << wanted.ilog2());
        let updates = images.div_ceil(batch_size).div_ceil(config.regularization.accumulate);
        let epochs = UPDATES.div_ceil(updates).min(MOST_EPOCHS);
        let epoch = macs.saturating_mul(PASSES).saturating_mul(images as u64).max(1);
        let affordable = usize::try_from(MOST_MACS / epoch).unwrap_or(usize::MAX);
        let capped = epochs > affordable.max(config.epochs);
        Self { batch_size, epochs: epochs.min(affordable).max(config.epochs), images, updates, capped }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch_size, epochs, images, updates, capped } = self;
        write!(
            f,
            "for {} to train on: batches of {batch_size} and {}, which makes {} an epoch and {} in all{} (--batch-size or \
             --epochs choose otherwise)",
            counted(*images, "picture"),
            counted(*epochs, "epoch"),
            counted(*updates, "update"),
            updates * epochs,
            if *capped { ", not more because of the time they take" } else { "" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitting(images: usize, macs: u64) -> Budget {
        Budget::fitting(&TrainConfig::default(), images, macs)
    }

    #[test]
    fn few_pictures_get_small_batches_and_many_epochs() {
        for (images, batch_size, epochs) in [
            (10, 16, 300),
            (40, 16, 200),
            (100, 16, 86),
            (320, 16, 30),
            (639, 16, 15),
            (700, 32, 28),
            (2560, 128, 30),
        ] {
            let budget = fitting(images, 1_000_000);
            assert_eq!((budget.batch_size, budget.epochs), (batch_size, epochs), "{images}");
            assert!(images.div_ceil(batch_size) * epochs >= UPDATES || epochs == MOST_EPOCHS, "{images}");
        }
    }

    #[test]
    fn many_pictures_get_what_the_configuration_has() {
        for images in [8_000, 60_000, 1_000_000] {
            let budget = fitting(images, 1_000_000);
            assert_eq!((budget.batch_size, budget.epochs, budget.capped), (128, 10, false));
        }
    }

    #[test]
    fn a_slow_network_is_not_trained_for_hours_and_says_so() {
        let budget = fitting(2_560, 1_800_000_000);
        assert_eq!((budget.batch_size, budget.epochs, budget.capped), (128, 10, true));
        assert!(budget.to_string().contains("not more because of the time"), "{budget}");
        // A few pictures are quick with any network.
        assert_eq!(fitting(40, 1_800_000_000).epochs, 46);
    }

    #[test]
    fn a_smaller_batch_and_more_epochs_of_the_configuration_stay() {
        let config = TrainConfig { batch_size: 8, epochs: 500, ..TrainConfig::default() };
        let budget = Budget::fitting(&config, 100, 1_000);
        assert_eq!((budget.batch_size, budget.epochs), (8, 500));
    }
}
