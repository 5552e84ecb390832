//! Pictures of any size, and how one becomes an image of a network's size.

use crate::InputShape;

/// Largest number of pixels that a resized picture may have before it is cropped (64 megapixels).
pub(super) const MAX_PIXELS: usize = 1 << 26;

/// Transparent pixels below this share of all (one in 20) are a picture's edge, not its ground: they are white.
const FEW_TRANSPARENT: u64 = 20;

/// From this luma on ink is light: on white paper it would be hard to see, or gone.
const LIGHT_INK: u64 = 160;

/// A decoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    /// `[H, W, C]`, rows from the top.
    pixels: Vec<u8>,
}

/// Why a picture cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// No pixels.
    #[error("the picture is {width}x{height}; expected at least one pixel")]
    Empty {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// A number of bytes that the size does not explain.
    #[error("{found} bytes for a picture of {width}x{height} with {channels} channels; expected {expected}")]
    Length {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Samples of a pixel.
        channels: usize,
        /// What the size asks for.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// Neither grey nor RGB.
    #[error("{channels} channels; expected 1 (grey) or 3 (RGB)")]
    Channels {
        /// Samples of a pixel.
        channels: usize,
    },
    /// So long and thin that its short side cannot be resized as asked.
    #[error(
        "the picture is {width}x{height}: resized to a shortest side of {shortest} it would have {pixels} pixels; expected at most {MAX_PIXELS}; cut it to its subject"
    )]
    TooThin {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Shortest side asked for.
        shortest: usize,
        /// Pixels that would result.
        pixels: usize,
    },
}

impl Picture {
    /// Longest shortest side before a cut: a square of it has as many pixels as a picture may have.
    pub(crate) const LONGEST_CUT: usize = MAX_PIXELS.isqrt();

    /// A picture from interleaved samples `[H, W, C]`, rows from the top; 1 channel is grey, 3 are RGB.
    ///
    /// # Errors
    /// No pixels, another number of channels, or a length that does not match.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Result<Self, PictureError> {
        if width == 0 || height == 0 {
            return Err(PictureError::Empty { width, height });
        }
        if channels != 1 && channels != 3 {
            return Err(PictureError::Channels { channels });
        }
        let expected = width.saturating_mul(height).saturating_mul(channels);
        if pixels.len() != expected {
            return Err(PictureError::Length { width, height, channels, expected, found: pixels.len() });
        }
        Ok(Self { width, height, channels, pixels })
    }

    /// A picture from samples with opacity, `[H, W, C]`: of 2 channels the second and of 4 the last is the opacity.
    ///
    /// What is transparent becomes white paper; black, where the ink is light: where the mean luma of what is visible,
    /// weighted by its opacity, is 160 or more. Pictures with hardly any transparency (less than 5 %) stand on white.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_transparent(
        width: usize,
        height: usize,
        channels: usize,
        mut samples: Vec<u8>,
    ) -> Result<Self, PictureError> {
        let expected = width.saturating_mul(height).saturating_mul(channels);
        if channels != 2 && channels != 4 {
            return Err(PictureError::Channels { channels });
        }
        if samples.len() != expected {
            return Err(PictureError::Length { width, height, channels, expected, found: samples.len() });
        }
        let colors = channels - 1;
        let ground = u32::from(if has_light_ink(&samples, colors) { 0u8 } else { 255 });
        for pixel in 0..width * height {
            let opacity = u32::from(samples[pixel * channels + colors]);
            for color in 0..colors {
                let value = u32::from(samples[pixel * channels + color]);
                let laid = value * opacity + ground * (255 - opacity);
                // Never behind what is still to be read.
                samples[pixel * colors + color] = ((laid + 127) / 255) as u8;
            }
        }
        samples.truncate(width * height * colors);
        // A large picture is copied in parts later; what is free then is needed.
        samples.shrink_to_fit();
        Self::new(width, height, colors, samples)
    }

    /// A picture from an image of a network, `[C, H, W]`: the way back from [`Self::planes`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_planes(shape: InputShape, planes: &[u8]) -> Result<Self, PictureError> {
        let InputShape { channels, height, width } = shape;
        let plane = width * height;
        let expected = shape.len();
        if planes.len() != expected {
            return Err(PictureError::Length { width, height, channels, expected, found: planes.len() });
        }
        let interleaved =
            (0..plane).flat_map(|at| (0..channels).map(move |channel| planes[channel * plane + at]));
        Self::new(width, height, channels, interleaved.collect())
    }

    /// A picture of a size that the caller has made.
    pub(crate) fn from_parts(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Self {
        debug_assert_eq!(pixels.len(), width * height * channels);
        Self { width, height, channels, pixels }
    }

    /// The picture with every sample replaced.
    #[must_use]
    pub(crate) fn map(self, sample: impl Fn(u8) -> u8) -> Self {
        Self { pixels: self.pixels.into_iter().map(sample).collect(), ..self }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 for grey, 3 for RGB.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Interleaved samples `[H, W, C]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Samples by channel, `[C, H, W]`, as networks take them.
    pub fn planes(&self) -> Vec<u8> {
        let mut planes = Vec::with_capacity(self.pixels.len());
        for channel in 0..self.channels {
            planes.extend(self.pixels.iter().skip(channel).step_by(self.channels));
        }
        planes
    }

    /// With `channels` channels: RGB becomes grey by its luma (ITU-R BT.601: 0.299 R + 0.587 G +
    /// 0.114 B), grey becomes RGB by repetition.
    ///
    /// # Errors
    /// Other than 1 or 3 channels.
    pub fn with_channels(self, channels: usize) -> Result<Self, PictureError> {
        let Self { width, height, channels: own, pixels } = self;
        let pixels = match (own, channels) {
            (a, b) if a == b => pixels,
            (3, 1) => pixels.chunks_exact(3).map(luma).collect(),
            (1, 3) => pixels.iter().flat_map(|&value| [value; 3]).collect(),
            _ => return Err(PictureError::Channels { channels }),
        };
        Ok(Self { width, height, channels, pixels })
    }

    /// The part of `width` x `height` whose top left corner is at column `left`, row `top`.
    ///
    /// # Panics
    /// A part that reaches over the edge.
    #[must_use]
    pub fn crop(&self, left: usize, top: usize, width: usize, height: usize) -> Self {
        let rows = (top..top + height).flat_map(|row| {
            let start = (row * self.width + left) * self.channels;
            &self.pixels[start..start + width * self.channels]
        });
        assert!(left + width <= self.width, "{left} + {width} columns of {}", self.width);
        Self { width, height, channels: self.channels, pixels: rows.copied().collect() }
    }

    /// The picture on a `fill`ed ground of `width` x `height`, its top left corner at column `left`, row `top`.
    ///
    /// # Panics
    /// A ground that does not hold the picture.
    #[must_use]
    pub fn on_ground(&self, width: usize, height: usize, left: usize, top: usize, fill: u8) -> Self {
        assert!(left + self.width <= width && top + self.height <= height, "the ground holds the picture");
        let mut pixels = vec![fill; width * height * self.channels];
        let len = self.width * self.channels;
        for (row, samples) in self.pixels.chunks_exact(len).enumerate() {
            let start = ((top + row) * width + left) * self.channels;
            pixels[start..start + len].copy_from_slice(samples);
        }
        Self { width, height, channels: self.channels, pixels }
    }

    /// Resized to `width` x `height`, bilinear, with a filter as wide as the reduction asks for so that
    /// nothing aliases: Pillow's `BILINEAR`, torchvision's `resize(antialias=True)`.
    ///
    /// # Panics
    /// A side of length 0.
    #[must_use]
    pub fn resize(&self, width: usize, height: usize) -> Self {
        assert!(width > 0 && height > 0, "a picture has at least one pixel");
        let mut pixels = Vec::new();
        let columns = Taps::new(self.width, width);
        let samples: &[u8] = if self.width == width {
            &self.pixels
        } else {
            pixels.reserve_exact(width * self.height * self.channels);
            for row in self.pixels.chunks_exact(self.width * self.channels) {
                for (start, weights) in columns.iter() {
                    for channel in 0..self.channels {
                        let samples = row[start * self.channels + channel..].iter().step_by(self.channels);
                        pixels.push(weighted(weights, samples));
                    }
                }
            }
            &pixels
        };
        let row_len = width * self.channels;
        if self.height == height {
            return Self { width, height, channels: self.channels, pixels: samples.to_vec() };
        }
        let mut resized = Vec::with_capacity(height * row_len);
        let mut sums = vec![0f32; row_len];
        for (start, weights) in Taps::new(self.height, height).iter() {
            sums.fill(0.0);
            for (&weight, row) in weights.iter().zip(samples[start * row_len..].chunks_exact(row_len)) {
                for (sum, &sample) in sums.iter_mut().zip(row) {
                    *sum += weight * f32::from(sample);
                }
            }
            resized.extend(sums.iter().map(|&sum| to_byte(sum)));
        }
        Self { width, height, channels: self.channels, pixels: resized }
    }
}

/// ITU-R BT.601 in 16-bit fixed point, rounded.
fn luma(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
    ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8
}

/// Whether a picture of `colors` channels and an opacity is drawn with light ink on a transparent ground.
fn has_light_ink(samples: &[u8], colors: usize) -> bool {
    let (mut visible, mut light) = (0, 0);
    for pixel in samples.chunks_exact(colors + 1) {
        let opacity = u64::from(pixel[colors]);
        visible += opacity;
        light += opacity * u64::from(if colors == 1 { pixel[0] } else { luma(pixel) });
    }
    let all = (samples.len() / (colors + 1)) as u64 * 255;
    (all - visible) * FEW_TRANSPARENT >= all && visible > 0 && light >= LIGHT_INK * visible
}

fn weighted<'a>(weights: &[f32], samples: impl Iterator<Item = &'a u8>) -> u8 {
    to_byte(weights.iter().zip(samples).map(|(weight, &sample)| weight * f32::from(sample)).sum())
}

fn to_byte(value: f32) -> u8 {
    // Saturates.
    (value + 0.5) as u8
}

/// Which samples each output is a mean of, and their weights: a triangle as wide as the reduction.
struct Taps {
    starts: Vec<usize>,
    /// Where the weights of each output begin; one more than outputs.
    offsets: Vec<usize>,
    weights: Vec<f32>,
}

impl Taps {
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        let mut taps = Self { starts: Vec::with_capacity(to), offsets: vec![0], weights: Vec::new() };
        for output in 0..to {
            let center = (output as f64 + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let triangle = |x: usize| (1.0 - ((x as f64 + 0.5 - center) / support).abs()).max(0.0);
            let sum: f64 = (start..end).map(triangle).sum();
            taps.starts.push(start);
            taps.weights.extend((start..end).map(|x| (triangle(x) / sum) as f32));
            taps.offsets.push(taps.weights.len());
        }
        taps
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let ranges = self.offsets.windows(2).map(|ends| &self.weights[ends[0]..ends[1]]);
        self.starts.iter().copied().zip(ranges)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Fit;

    fn grey(width: usize, height: usize, pixels: &[u8]) -> Picture {
        Picture::new(width, height, 1, pixels.to_vec()).unwrap()
    }

    #[test]
    fn grey_and_rgb() {
        let red = Picture::new(1, 1, 3, vec![255, 0, 0]).unwrap();
        assert_eq!(red.clone().with_channels(1).unwrap().pixels(), [76]);
        assert_eq!(grey(1, 1, &[9]).with_channels(3).unwrap().pixels(), [9, 9, 9]);
        let two = Picture::new(2, 1, 3, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(two.planes(), [1, 4, 2, 5, 3, 6]);
        assert_eq!(Picture::from_planes(InputShape::new(3, 1, 2), &two.planes()).unwrap(), two);
        assert!(Picture::from_planes(InputShape::new(3, 1, 2), &[0; 5]).is_err());
        assert!(red.with_channels(4).is_err());
    }

    #[test]
    fn impossible_pictures_are_refused() {
        assert!(matches!(Picture::new(0, 1, 1, vec![]), Err(PictureError::Empty { .. })));
        assert!(matches!(Picture::new(1, 1, 2, vec![0; 2]), Err(PictureError::Channels { channels: 2 })));
        assert!(matches!(
            Picture::new(usize::MAX, 2, 3, vec![0]),
            Err(PictureError::Length { expected: usize::MAX, .. })
        ));
    }

    // from PIL import Image
    // Image.frombytes("L", (4, 2), bytes([0, 50, 100, 255, 255, 100, 50, 0])).resize((2, 3), Image.BILINEAR)
    #[test]
    fn resizing_equals_pillow() {
        let picture = grey(4, 2, &[0, 50, 100, 255, 255, 100, 50, 0]);
        // [0, 50, 100] by triangle weights 3, 3, 1 over 7 = 35.7; [50, 100, 255] by 1, 3, 3 = 159.3
        assert_eq!(picture.resize(2, 2).pixels(), [36, 159, 159, 36]);
        assert_eq!(picture.resize(2, 3).pixels(), [36, 159, 98, 98, 159, 36]);
        assert_eq!(picture.resize(4, 2), picture);
    }

    #[test]
    fn a_flat_picture_stays_flat_at_every_size() {
        for (w, h) in [(1, 1), (2, 5), (17, 3), (64, 64)] {
            for (to_w, to_h) in [(1, 1), (3, 2), (28, 28), (40, 7)] {
                let resized = grey(w, h, &vec![137; w * h]).resize(to_w, to_h);
                assert!(resized.pixels().iter().all(|&value| value == 137), "{w}x{h} to {to_w}x{to_h}");
            }
        }
    }

    #[test]
    fn each_fit_gives_the_size_asked_for() {
        let input = InputShape::new(3, 10, 12);
        for fit in [Fit::Letterbox, Fit::Stretch, Fit::Crop { resize: 0 }, Fit::Crop { resize: 16 }] {
            for (w, h) in [(1, 1), (3, 100), (100, 3), (12, 10), (11, 40), (13, 11)] {
                let fitted = grey(w, h, &vec![200; w * h]).fitted(input, fit).unwrap();
                assert_eq!((fitted.width(), fitted.height(), fitted.channels()), (12, 10, 3));
                if fit != Fit::Letterbox {
                    assert!(fitted.pixels().iter().all(|&value| value == 200), "{fit:?} {w}x{h}");
                }
            }
        }
    }

    #[test]
    fn a_letterbox_is_centred_on_black() {
        let fitted = grey(2, 1, &[255, 255]).fitted(InputShape::new(1, 4, 4), Fit::Letterbox).unwrap();
        let (black, white) = ([0; 4], [255; 4]);
        assert_eq!(fitted.pixels(), [black, white, white, black].concat());
    }

    #[test]
    fn a_line_of_pixels_is_not_blown_up() {
        let error = grey(100_000, 1, &vec![0; 100_000])
            .fitted(InputShape::new(1, 224, 224), Fit::Crop { resize: 256 })
            .unwrap_err();
        assert!(matches!(error, PictureError::TooThin { .. }), "{error}");
    }

    #[test]
    fn the_recipe_form_of_a_fit() {
        #[derive(Deserialize)]
        struct Row {
            fit: Fit,
        }
        let read = |text: &str| toml::from_str::<Row>(text).map(|row| row.fit);
        assert_eq!(read("fit = \"letterbox\"").unwrap(), Fit::Letterbox);
        assert_eq!(read("fit = { crop = { resize = 256 } }").unwrap(), Fit::Crop { resize: 256 });
        assert!(read("fit = { crop = { size = 256 } }").is_err());
    }
}
