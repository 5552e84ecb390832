//! How a picture of any size is made as large as the network's input.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{digit, picture::MAX_PIXELS};
use crate::{InputShape, Picture, PictureError};

/// How a picture of another size becomes the network's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fit {
    /// The whole picture with its aspect kept, centred between black bars.
    #[default]
    Letterbox,
    /// Both sides resized, the aspect is lost.
    Stretch,
    /// The shortest side resized, then the centre cut out.
    Crop {
        /// Length of the shortest side before the cut; 0: as short as the cut allows.
        #[serde(default)]
        resize: usize,
    },
    /// One handwritten digit, found in the picture and put into the geometry of MNIST: light on dark,
    /// the longer side 20 of 28 pixels, the centre of mass in the centre.
    Digit,
    /// Letterbox of an object on a plain ground, light on dark: a picture with a light border is
    /// negated, as Fashion-MNIST's photos were (Xiao, Rasul & Vollgraf 2017, section 2).
    LightOnDark,
}

impl Picture {
    /// The picture as an image of the network's size, with its channels.
    ///
    /// # Errors
    /// Channels other than 1 or 3, or a picture too thin to be resized.
    pub fn fitted(&self, input: InputShape, fit: Fit) -> Result<Self, PictureError> {
        if fit == Fit::Digit {
            return match input.channels {
                1 | 3 => Ok(digit::fitted(self, input)),
                channels => Err(PictureError::Channels { channels }),
            };
        }
        // A photo is large: no copy of it that is not needed.
        let mut picture = if self.channels() == input.channels {
            Cow::Borrowed(self)
        } else {
            Cow::Owned(self.clone().with_channels(input.channels)?)
        };
        let (width, height) = (input.width, input.height);
        if fit == Fit::LightOnDark && self.has_light_border() {
            picture = Cow::Owned(picture.into_owned().map(|value| 255 - value));
        }
        Ok(match fit {
            Fit::Stretch => picture.resize(width, height),
            Fit::Letterbox | Fit::LightOnDark | Fit::Digit => {
                let scale = (width as f64 / self.width() as f64).min(height as f64 / self.height() as f64);
                let side = |length: usize, limit| ((length as f64 * scale).round() as usize).clamp(1, limit);
                let (w, h) = (side(self.width(), width), side(self.height(), height));
                picture.resize(w, h).on_ground(width, height, (width - w) / 2, (height - h) / 2, 0)
            }
            Fit::Crop { resize } => {
                let (w, h) = self.shortest_side(input, resize)?;
                // torchvision's CenterCrop rounds halves to even.
                let middle =
                    |length: usize, cut: usize| ((length - cut) as f64 / 2.0).round_ties_even() as usize;
                picture.resize(w, h).crop(middle(w, width), middle(h, height), width, height)
            }
        })
    }

    /// Whether more than half of the outermost pixels are light.
    fn has_light_border(&self) -> bool {
        let (mut light, mut all) = (0, 0);
        for (at, pixel) in self.pixels().chunks_exact(self.channels()).enumerate() {
            let (x, y) = (at % self.width(), at / self.width());
            if x == 0 || y == 0 || x + 1 == self.width() || y + 1 == self.height() {
                all += 1;
                light +=
                    usize::from(pixel.iter().map(|&v| usize::from(v)).sum::<usize>() > 127 * self.channels());
            }
        }
        2 * light > all
    }

    /// Width and height after the shortest side has been resized, as torchvision's `Resize(int)`
    /// truncates the other one; both at least as long as the cut.
    fn shortest_side(&self, input: InputShape, resize: usize) -> Result<(usize, usize), PictureError> {
        let (short, long) = (self.width().min(self.height()), self.width().max(self.height()));
        let (across, along) = if self.width() <= self.height() {
            (input.width, input.height)
        } else {
            (input.height, input.width)
        };
        let mut shortest = resize.max(across);
        // A long side shorter than the cut: enlarged until it fits.
        if shortest.saturating_mul(long) / short < along {
            shortest = along.saturating_mul(short).div_ceil(long);
        }
        let longest = shortest.saturating_mul(long) / short;
        let pixels = shortest.saturating_mul(longest);
        if pixels > MAX_PIXELS {
            return Err(PictureError::TooThin {
                width: self.width(),
                height: self.height(),
                shortest,
                pixels,
            });
        }
        Ok(if self.width() <= self.height() { (shortest, longest) } else { (longest, shortest) })
    }
}
