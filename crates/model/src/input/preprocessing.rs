//! From pixels to what a network sees. Mean and standard deviation are stated here and nowhere
//! else; they travel inside the model file, so that serving uses what training used.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{Fit, InputShape, Picture, PictureError, ops};

/// Why a preprocessing cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PreprocessingError {
    /// Not one mean and one standard deviation for each channel.
    #[error("preprocessing: {found} values of `{field}` for {channels} channels; give one for each channel")]
    Channels {
        /// `mean` or `std`.
        field: &'static str,
        /// Channels of the input.
        channels: usize,
        /// Values given.
        found: usize,
    },
    /// A mean that is no number, or a standard deviation that is not positive.
    #[error("preprocessing: `{field}` of channel {channel} is {value}; {expected}")]
    Value {
        /// `mean` or `std`.
        field: &'static str,
        /// Index of the channel.
        channel: usize,
        /// The value given.
        value: f32,
        /// What it must be.
        expected: &'static str,
    },
    /// Images that no picture can become.
    #[error("preprocessing: no picture can become an image of {input}: it has 1 channel (grey) or 3 (RGB)")]
    Input {
        /// Size of an image.
        input: InputShape,
    },
    /// A cut for which even a square picture would have to be enlarged beyond all measure.
    #[error(
        "preprocessing: no picture can be cut for an image of {input}: its shortest side would be {shortest}, at most {}",
        Picture::LONGEST_CUT
    )]
    Crop {
        /// Size of an image.
        input: InputShape,
        /// Shortest side before the cut.
        shortest: usize,
    },
}

/// From a picture to the input of a network: its size, its channels, and `(pixel / 255 - mean) / std` for
/// each channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Size of an image.
    pub input: InputShape,
    /// Mean of each channel after scaling to `[0, 1]`.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel after scaling to `[0, 1]`.
    pub std: Vec<f32>,
    /// How a picture of another size is made to fit.
    #[serde(default)]
    pub fit: Fit,
}

impl Preprocessing {
    /// For MNIST: 28x28 grey; mean and standard deviation of the 60,000 training images.
    pub fn mnist() -> Self {
        Self { input: InputShape::new(1, 28, 28), mean: vec![0.1307], std: vec![0.3081], fit: Fit::Digit }
    }

    /// For Fashion-MNIST: 28x28 grey; mean and standard deviation of the 60,000 training images.
    pub fn fashion_mnist() -> Self {
        Self {
            input: InputShape::new(1, 28, 28),
            mean: vec![0.2860],
            std: vec![0.3530],
            fit: Fit::LightOnDark,
        }
    }

    /// Checks that pictures can become the input, and that there is one finite mean and one positive standard
    /// deviation for each channel.
    ///
    /// # Errors
    /// Names the value at fault.
    pub fn validate(&self) -> Result<(), PreprocessingError> {
        let input = self.input;
        let channels = input.channels;
        if !matches!(channels, 1 | 3) {
            return Err(PreprocessingError::Input { input });
        }
        if let Fit::Crop { resize } = self.fit {
            let shortest = resize.max(input.height).max(input.width);
            if shortest > Picture::LONGEST_CUT {
                return Err(PreprocessingError::Crop { input, shortest });
            }
        }
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != channels {
                return Err(PreprocessingError::Channels { field, channels, found: values.len() });
            }
        }
        let fault = |field, channel, value, expected| {
            Err(PreprocessingError::Value { field, channel, value, expected })
        };
        for (channel, &mean) in self.mean.iter().enumerate() {
            if !mean.is_finite() {
                return fault("mean", channel, mean, "it must be finite");
            }
        }
        for (channel, &std) in self.std.iter().enumerate() {
            if !(std.is_finite() && std > 0.0) {
                return fault("std", channel, std, "it must be positive and finite");
            }
        }
        Ok(())
    }

    /// A picture of any size as one image `[C, H, W]` of the network's, not yet normalised.
    ///
    /// # Errors
    /// A picture that cannot be fitted, see [`Picture::fitted`].
    pub fn prepare(&self, picture: &Picture) -> Result<Vec<u8>, PictureError> {
        Ok(picture.fitted(self.input, self.fit)?.planes())
    }

    /// Normalises images one after the other: `pixels` and `out` are `[N, C, H, W]`.
    ///
    /// # Panics
    /// Lengths that differ or are no multiple of an image, or a preprocessing that
    /// [`Self::validate`] refuses.
    pub fn normalize_into(&self, pixels: &[u8], out: &mut [f32]) {
        assert_eq!(pixels.len(), out.len(), "as many values as pixels");
        assert!(!self.input.is_empty(), "an image holds at least one pixel");
        assert_eq!(pixels.len() % self.input.len(), 0, "whole images of {}", self.input);
        let indices: Vec<u32> = (0..(pixels.len() / self.input.len()) as u32).collect();
        ops::gather_normalize(
            pixels,
            self.input.len(),
            &indices,
            self.input.channels,
            &self.mean,
            &self.std,
            out,
        );
    }

    /// The inverse of the normalisation, rounded and limited to bytes: normalised images `[N, C, H, W]` as they look.
    ///
    /// # Panics
    /// Values that are no whole images.
    pub fn denormalize(&self, values: &[f32]) -> Vec<u8> {
        assert!(!self.input.is_empty(), "an image holds at least one pixel");
        assert_eq!(values.len() % self.input.len(), 0, "whole images of {}", self.input);
        let plane = self.input.height * self.input.width;
        let channels = self.mean.iter().zip(&self.std).cycle();
        let planes = values.chunks_exact(plane).zip(channels);
        // Saturates.
        let byte = |value: f32, mean: f32, std: f32| ((value * std + mean) * 255.0 + 0.5) as u8;
        planes
            .flat_map(|(plane, (&mean, &std))| plane.iter().map(move |&value| byte(value, mean, std)))
            .collect()
    }

    /// `n` images `[n, C, H, W]` as a normalised tensor on `device`.
    ///
    /// # Panics
    /// `pixels` is not `n` images long; otherwise as [`Self::normalize_into`].
    pub fn batch(&self, pixels: &[u8], n: usize, device: &Device) -> Tensor<4> {
        assert_eq!(pixels.len(), n * self.input.len(), "{n} images of {}", self.input);
        let mut values = vec![0.0; pixels.len()];
        self.normalize_into(pixels, &mut values);
        let InputShape { channels, height, width } = self.input;
        Tensor::from_data(TensorData::new(values, [n, channels, height, width]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_and_white_become_the_known_values() {
        let mut out = [0.0; 784];
        let mut pixels = [0; 784];
        pixels[1] = 255;
        Preprocessing::mnist().normalize_into(&pixels, &mut out);
        // (0 - 0.1307) / 0.3081 and (1 - 0.1307) / 0.3081
        assert!((out[0] - -0.424_213).abs() < 1e-6, "{}", out[0]);
        assert!((out[1] - 2.821_486).abs() < 1e-6, "{}", out[1]);
        Preprocessing::fashion_mnist().normalize_into(&pixels, &mut out);
        assert!((out[0] - -0.810_198).abs() < 1e-6, "{}", out[0]);
        assert!((out[1] - 2.022_663).abs() < 1e-6, "{}", out[1]);
    }

    #[test]
    fn without_mean_and_std_the_range_is_zero_to_one() {
        let scale = Preprocessing {
            input: InputShape::new(1, 1, 256),
            mean: vec![0.0],
            std: vec![1.0],
            fit: Fit::default(),
        };
        let pixels: Vec<u8> = (0..=255).collect();
        let mut out = [0.5; 256];
        scale.normalize_into(&pixels, &mut out);
        assert_eq!(out.iter().copied().fold(f32::INFINITY, f32::min).to_bits(), 0);
        assert_eq!(out.iter().copied().fold(f32::NEG_INFINITY, f32::max).to_bits(), 1f32.to_bits());
    }

    #[test]
    fn every_channel_has_its_own_mean() {
        let rgb = Preprocessing {
            input: InputShape::new(3, 1, 2),
            mean: vec![0.0, 0.5, 1.0],
            std: vec![1.0, 0.5, 0.25],
            fit: Fit::default(),
        };
        let batch = rgb.batch(&[0, 255, 0, 255, 0, 255, 255, 0, 255, 0, 255, 0], 2, &Device::flex());
        assert_eq!(batch.dims(), [2, 3, 1, 2]);
        assert_eq!(
            batch.into_data().try_to_vec::<f32>().unwrap(),
            [0.0, 1.0, -1.0, 1.0, -4.0, 0.0, 1.0, 0.0, 1.0, -1.0, 0.0, -4.0]
        );
    }

    #[test]
    fn denormalising_gives_the_bytes_back() {
        let rgb = Preprocessing {
            input: InputShape::new(3, 16, 16),
            mean: vec![0.1, 0.5, 0.9],
            std: vec![0.3, 0.2, 0.7],
            fit: Fit::default(),
        };
        let pixels: Vec<u8> = (0..2 * 768).map(|i| (i * 7 % 256) as u8).collect();
        let mut values = vec![0.0; pixels.len()];
        rgb.normalize_into(&pixels, &mut values);
        assert_eq!(rgb.denormalize(&values), pixels);
        values.fill(1e9);
        assert!(rgb.denormalize(&values).iter().all(|&byte| byte == 255));
    }

    #[test]
    fn what_no_picture_can_become_is_refused() {
        let with = |channels, fit| Preprocessing {
            input: InputShape::new(channels, 2, 2),
            mean: vec![0.5; channels],
            std: vec![0.5; channels],
            fit,
        };
        for channels in [0, 2, 4, 7, 1000] {
            let error = with(channels, Fit::Stretch).validate().unwrap_err().to_string();
            assert!(error.contains(&format!("{channels}x2x2")) && error.contains("grey"), "{error}");
        }
        let picture = Picture::new(3, 2, 1, vec![7; 6]).unwrap();
        for fit in [Fit::Letterbox, Fit::Stretch, Fit::Digit, Fit::LightOnDark, Fit::Crop { resize: 4096 }] {
            for channels in [1, 3] {
                let sound = with(channels, fit);
                assert_eq!(sound.validate(), Ok(()));
                assert_eq!(sound.prepare(&picture).unwrap().len(), sound.input.len());
            }
        }
        for resize in [Picture::LONGEST_CUT + 1, 1 << 40, usize::MAX] {
            let absurd = with(1, Fit::Crop { resize });
            assert!(absurd.validate().unwrap_err().to_string().contains("no picture can be cut"));
            // Without the check an error, too, and no overflow.
            assert!(absurd.prepare(&picture).is_err());
        }
    }

    #[test]
    fn unusable_values_are_refused() {
        let broken = |mean: &[f32], std: &[f32]| {
            let preprocessing = Preprocessing {
                input: InputShape::new(1, 2, 2),
                mean: mean.into(),
                std: std.into(),
                fit: Fit::default(),
            };
            preprocessing.validate().unwrap_err().to_string()
        };
        assert!(Preprocessing::mnist().validate().is_ok());
        assert_eq!(
            broken(&[0.0, 0.0], &[1.0]),
            "preprocessing: 2 values of `mean` for 1 channels; give one for each channel"
        );
        assert!(broken(&[0.0], &[]).contains("0 values of `std`"));
        assert!(broken(&[f32::NAN], &[1.0]).contains("`mean` of channel 0 is NaN"));
        for std in [0.0, -1.0, f32::INFINITY] {
            assert!(broken(&[0.0], &[std]).contains("`std` of channel 0"));
        }
    }
}
