//! A data set in two parts: to learn from and to test on.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{PictureError, Preprocessing};

use super::account::PictureReport;
use super::images::{Dataset, measure};

/// A data set as published: a part to train on and a part to test on.
#[derive(Clone, Debug)]
pub struct DatasetPair {
    /// For training and validation.
    pub train: Dataset,
    /// For the one final test.
    pub test: Dataset,
    /// What must be done to the images of this data set.
    pub preprocessing: Preprocessing,
    /// SHA-256 of each uncompressed file, by name.
    pub sha256: BTreeMap<String, String>,
    /// Folder, address or package in which the data was found.
    pub origin: String,
    /// Whether the data names no test part: `test` was set aside from what it has.
    pub test_set_aside: bool,
    /// Images of `train` that the data itself names for validation, in ascending order; often none.
    pub valid: Vec<u32>,
    /// What was found out about picture files, where the data consists of them.
    pub pictures: Option<PictureReport>,
}

impl DatasetPair {
    /// Images in two parts, as they were published: no part for validation is named, and no file is a picture.
    pub(crate) fn published(
        train: Dataset,
        test: Dataset,
        preprocessing: Preprocessing,
        sha256: BTreeMap<String, String>,
        origin: String,
    ) -> Self {
        let (valid, pictures, test_set_aside) = (Vec::new(), None, false);
        Self { train, test, preprocessing, sha256, origin, test_set_aside, valid, pictures }
    }

    /// As a data set whose content never changes, see [`Dataset::units`].
    #[must_use]
    pub fn fixed(mut self) -> Self {
        self.train.units = Arc::default();
        self.test.units = Arc::default();
        self
    }

    /// With each image's one class as a set of one.
    #[must_use]
    pub fn with_sets(mut self) -> Self {
        self.train.labels = self.train.labels.into_sets();
        self.test.labels = self.test.labels.into_sets();
        self
    }

    /// Both parts with 1 or 3 channels, see [`Dataset::with_channels`]. Grey images that become RGB keep their mean
    /// and standard deviation, for each channel; those of RGB images that become grey are measured anew.
    ///
    /// # Errors
    /// Other numbers of channels.
    pub fn with_channels(self, channels: usize) -> Result<Self, PictureError> {
        let own = self.train.shape.channels;
        if own == channels {
            return Ok(self);
        }
        let (train, test) = (self.train.with_channels(channels)?, self.test.with_channels(channels)?);
        let preprocessing = if own == 1 {
            let Preprocessing { mean, std, fit, .. } = self.preprocessing;
            Preprocessing { input: train.shape, mean: mean.repeat(channels), std: std.repeat(channels), fit }
        } else {
            Preprocessing { fit: self.preprocessing.fit, ..measure(&train) }
        };
        Ok(Self { train, test, preprocessing, ..self })
    }
}
