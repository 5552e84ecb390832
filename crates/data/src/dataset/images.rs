//! Labelled images in memory.

use std::sync::Arc;

use model::{Fit, InputShape, Picture, PictureError, Preprocessing};
use rayon::prelude::*;

use super::content::ContentHash;
use super::labels::Labels;

/// Labelled images of one size, as bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Name of the data set, for reports.
    pub name: String,
    /// `[N, C, H, W]`, 0 to 255.
    pub pixels: Vec<u8>,
    /// Of each image its class or its classes, each below the number of class names. Files of labels hold bytes; classes
    /// of pictures may be more than 256.
    pub labels: Labels,
    /// `C`, `H` and `W`.
    pub shape: InputShape,
    /// What the labels mean.
    pub class_names: Vec<String>,
    /// Name of each image's file, as the data set names it: a path below its root with `/` between the folders, or what
    /// its list says. Empty where images have no files of their own.
    pub files: Arc<[String]>,
    /// What each image showed before it was made to fit, `[N]`.
    pub content: Arc<[ContentHash]>,
    /// What belongs together in one part, `[N]`: the content of each image, or a hash of the group that it is named to
    /// be of. Empty for known data sets: their content never changes, so they are divided by index.
    pub units: Arc<[ContentHash]>,
}

impl Dataset {
    /// Images `pixels`, `[N, C, H, W]`, without files of their own.
    pub fn new(
        name: impl Into<String>,
        pixels: Vec<u8>,
        labels: impl Into<Labels>,
        shape: InputShape,
        class_names: Vec<String>,
    ) -> Self {
        let content: Arc<[ContentHash]> = ContentHash::of_each(shape, &pixels).into();
        let units = Arc::clone(&content);
        let labels = labels.into();
        Self { name: name.into(), pixels, labels, shape, class_names, files: Arc::default(), content, units }
    }

    /// Whether its content never changes, and it is divided by index; see [`Dataset::units`].
    pub fn is_fixed(&self) -> bool {
        self.units.is_empty()
    }

    /// No image, with the names and the shape of this one.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let labels = self.labels.emptied();
        Self::new(self.name.clone(), Vec::new(), labels, self.shape, self.class_names.clone())
    }

    /// The images `indices`, in that order.
    ///
    /// # Panics
    /// When an index is not below [`Dataset::len`].
    #[must_use]
    pub fn subset(&self, indices: &[u32]) -> Self {
        let mut pixels = Vec::with_capacity(indices.len() * self.image_len());
        for &index in indices {
            pixels.extend_from_slice(self.image(index as usize));
        }
        Self {
            name: self.name.clone(),
            pixels,
            labels: self.labels.subset(indices),
            shape: self.shape,
            class_names: self.class_names.clone(),
            files: indices.iter().filter_map(|&index| self.files.get(index as usize).cloned()).collect(),
            content: indices.iter().filter_map(|&index| self.content.get(index as usize).copied()).collect(),
            units: indices.iter().filter_map(|&index| self.units.get(index as usize).copied()).collect(),
        }
    }

    /// These images and then those of `other`, which has the same shape and the same classes.
    #[must_use]
    pub fn joined(mut self, other: Self) -> Self {
        debug_assert!(self.shape == other.shape && self.class_names == other.class_names);
        self.pixels.extend(other.pixels);
        self.labels = self.labels.joined(other.labels);
        self.files = self.files.iter().chain(other.files.iter()).cloned().collect();
        self.content = self.content.iter().chain(other.content.iter()).copied().collect();
        self.units = self.units.iter().chain(other.units.iter()).copied().collect();
        self
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.shape.channels * self.shape.height * self.shape.width
    }

    /// Image `index`, `[C, H, W]`.
    ///
    /// # Panics
    /// When `index` is not below [`Dataset::len`].
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.image_len()..][..self.image_len()]
    }

    /// The same images with 1 or 3 channels, by the rule of [`Picture::with_channels`]: grey becomes RGB by
    /// repetition, RGB becomes grey by its luma.
    ///
    /// # Errors
    /// Other numbers of channels.
    pub fn with_channels(self, channels: usize) -> Result<Self, PictureError> {
        let InputShape { channels: own, height, width } = self.shape;
        if own == channels {
            return Ok(self);
        }
        let mut pixels = Vec::with_capacity(self.len() * channels * height * width);
        for image in self.pixels.chunks_exact(self.image_len()) {
            let plane = height * width;
            let interleaved = (0..plane).flat_map(|at| (0..own).map(move |c| image[c * plane + at]));
            let picture = Picture::new(width, height, own, interleaved.collect())?;
            pixels.extend(picture.with_channels(channels)?.planes());
        }
        Ok(Self { pixels, shape: InputShape { channels, height, width }, ..self })
    }

    /// The same images as if they were pictures of another size.
    pub(crate) fn fitted(self, input: InputShape, fit: Fit) -> Result<Self, PictureError> {
        let fitted: Result<Vec<Vec<u8>>, PictureError> = self
            .pixels
            .par_chunks_exact(self.image_len())
            .map(|image| Ok(Picture::from_planes(self.shape, image)?.fitted(input, fit)?.planes()))
            .collect();
        Ok(Self { pixels: fitted?.concat(), shape: input, ..self })
    }

    /// The number of images of each class.
    pub fn class_counts(&self) -> Vec<usize> {
        self.labels.counts(self.class_names.len())
    }
}

/// Labels of each class.
pub fn class_counts(labels: &[u32], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for &label in labels {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    counts
}

/// Mean and standard deviation over all pixels of each channel, scaled to 0 to 1.
pub(crate) fn measure(train: &Dataset) -> Preprocessing {
    let InputShape { channels, height, width } = train.shape;
    let plane = height * width;
    let (mut mean, mut std) = (vec![0.0; channels], vec![0.0; channels]);
    for channel in 0..channels {
        let mut histogram = [0u64; 256];
        for image in train.pixels.chunks_exact(channels * plane) {
            for &pixel in &image[channel * plane..][..plane] {
                histogram[usize::from(pixel)] += 1;
            }
        }
        let moment = |power: i32| -> f64 {
            let sum: f64 =
                (0..256).map(|value| histogram[value] as f64 * (value as f64 / 255.0).powi(power)).sum();
            sum / (train.len() * plane).max(1) as f64
        };
        mean[channel] = moment(1) as f32;
        // Images of one colour have no deviation: they are shifted, not scaled.
        let variance = moment(2) - moment(1).powi(2);
        std[channel] = if variance > 1e-12 { variance.sqrt() as f32 } else { 1.0 };
    }
    Preprocessing { input: train.shape, mean, std, fit: Fit::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_class() {
        assert_eq!(class_counts(&[0, 2, 2, 0, 2], 4), [2, 0, 3, 0]);
        let many = class_counts(&[0, 256, 299, 256], 300);
        assert_eq!((many[0], many[256], many[299], many.iter().sum::<usize>()), (1, 2, 1, 4));
    }
}
