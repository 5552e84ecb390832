//! How strongly images are changed.

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// How strongly images are changed. The limits of the distortions (`shift` to `shear`) are drawn uniformly between
/// minus and plus the value given here. The default, all 0 and off, changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Largest shift in each direction, in pixels.
    pub shift: f32,
    /// Largest rotation, in degrees.
    pub rotate: f32,
    /// Largest change of size, as a fraction: 0.1 scales by 0.9 to 1.1.
    pub scale: f32,
    /// Largest horizontal shear, in degrees.
    pub shear: f32,
    /// Strength of the elastic deformation, in pixels before smoothing.
    pub elastic_alpha: f32,
    /// Standard deviation of the smoothing of the elastic deformation, in pixels.
    pub elastic_sigma: f32,
    /// Mirror left and right with probability 1/2.
    pub flip: bool,
    /// Random resized crop: the smallest share of the area that is cut out and enlarged to the whole (0.08 is
    /// common for large photographs); 0 is off.
    pub crop: f32,
    /// Brightness times 1 minus to 1 plus this.
    pub brightness: f32,
    /// Contrast times 1 minus to 1 plus this.
    pub contrast: f32,
    /// Saturation times 1 minus to 1 plus this; grey images have none.
    pub saturation: f32,
    /// One random operation of random strength for each image: `TrivialAugment`, wide.
    pub trivial: bool,
    /// Side of a square hole at a random place, in pixels: Cutout; 0 is off.
    pub cutout: usize,
    /// Probability of a rectangular hole of 2 to 33 % of the area: random erasing.
    pub erase: f32,
    /// Mixup: images and targets are mixed with a share from Beta(`mixup`, `mixup`) (0.2 is common); 0 is off.
    pub mixup: f32,
    /// `CutMix`: a rectangle of the neighbour, its area from Beta(`cutmix`, `cutmix`) (1 is common); 0 is off. With
    /// `mixup` on as well, each image gets one of the two.
    pub cutmix: f32,
}

impl AugmentConfig {
    /// Whether images stay as they are.
    pub fn is_off(&self) -> bool {
        !self.distorts() && !self.changes_photo() && !self.makes_holes() && !self.mixes()
    }

    /// Whether images are resampled.
    pub(super) fn distorts(&self) -> bool {
        let Self { shift, rotate, scale, shear, elastic_alpha, .. } = *self;
        [shift, rotate, scale, shear, elastic_alpha].iter().any(|&limit| limit != 0.0)
    }

    /// Whether there is something to do on bytes.
    pub(super) fn changes_photo(&self) -> bool {
        let Self { flip, trivial, crop, brightness, contrast, saturation, .. } = *self;
        flip || trivial || [crop, brightness, contrast, saturation].iter().any(|&limit| limit != 0.0)
    }

    pub(super) fn makes_holes(&self) -> bool {
        self.cutout > 0 || self.erase != 0.0
    }

    /// Whether targets become probabilities.
    pub(crate) fn mixes(&self) -> bool {
        self.mixup != 0.0 || self.cutmix != 0.0
    }

    /// Checks that every limit makes sense.
    ///
    /// # Errors
    /// [`DataError::Setting`] names the first that does not.
    pub fn validate(&self) -> Result<(), DataError> {
        let range = |field: &'static str, value: f32, limit: f32, unit: &str| {
            if (0.0..=limit).contains(&value) {
                return Ok(());
            }
            Err(DataError::Setting {
                field,
                found: value.to_string(),
                reason: format!("0 to {limit} {unit}"),
            })
        };
        range("shift", self.shift, 1e4, "pixels")?;
        range("rotate", self.rotate, 180.0, "degrees")?;
        range("scale", self.scale, 0.9, "of the size")?;
        range("shear", self.shear, 80.0, "degrees")?;
        range("elastic_alpha", self.elastic_alpha, 1e4, "pixels")?;
        range("elastic_sigma", self.elastic_sigma, 100.0, "pixels")?;
        range("crop", self.crop, 1.0, "of the area")?;
        range("brightness", self.brightness, 1.0, "of the brightness")?;
        range("contrast", self.contrast, 1.0, "of the contrast")?;
        range("saturation", self.saturation, 1.0, "of the saturation")?;
        range("cutout", self.cutout as f32, 1e4, "pixels")?;
        range("erase", self.erase, 1.0, "of the images")?;
        range("mixup", self.mixup, 100.0, "as parameter of the beta distribution")?;
        range("cutmix", self.cutmix, 100.0, "as parameter of the beta distribution")?;
        if self.elastic_alpha > 0.0 && self.elastic_sigma == 0.0 {
            let reason =
                "elastic deformation needs a smoothing above 0 (4 for digits of 28 pixels)".to_owned();
            return Err(DataError::Setting { field: "elastic_sigma", found: "0".to_owned(), reason });
        }
        Ok(())
    }
}
