//! What is to be done with images of any size on their way into memory.

use std::fmt;
use std::str::FromStr;

use model::{Fit, InputShape, TaskName};
use serde::{Deserialize, Serialize};

use crate::formats::decoded::DecodeLimits;

/// Share of the labelled images that is set aside for the test when the data names none.
pub const TEST_FRACTION: f64 = 0.15;

/// Memory that the decoded images may take, in bytes.
pub const MEMORY_LIMIT: u64 = 4 << 30;

/// How [`load_with`](crate::load_with) turns files into images of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageOptions {
    /// Size of the images in memory. Without it: that of the pictures when they all have one of at most 64
    /// pixels a side, else 64 x 64; grey when all are grey, else RGB.
    pub input: Option<InputRequest>,
    /// How a picture of another size is made to fit. Without it: [`Fit::Crop`] for pictures,
    /// [`Fit::Letterbox`] for data sets whose images have one size.
    pub fit: Option<Fit>,
    /// What a picture that cannot be decoded means.
    pub on_bad_image: OnBadImage,
    /// Share of the labelled images set aside for the test when the data names none, each by what it shows.
    pub test_fraction: f64,
    /// What the images are for.
    pub purpose: Purpose,
    /// Whether an image has one class or a set of them. Without it: what the data shows, see
    /// [`load_with`](crate::load_with).
    pub task: Option<TaskName>,
    /// Memory that the decoded images may take, in bytes.
    pub memory_limit: u64,
    /// What one file may cost.
    pub decode: DecodeLimits,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            input: None,
            fit: None,
            on_bad_image: OnBadImage::default(),
            test_fraction: TEST_FRACTION,
            purpose: Purpose::default(),
            task: None,
            memory_limit: MEMORY_LIMIT,
            decode: DecodeLimits::default(),
        }
    }
}

/// What images are loaded for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// To learn from: there are two classes or more, each with pictures for training.
    #[default]
    Training,
    /// To judge a model by: any part and any class will do, and there may be none for training.
    Evaluation,
}

/// What a picture that cannot be decoded means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadImage {
    /// Nothing is loaded; the error lists the pictures.
    #[default]
    Error,
    /// The others are loaded; the bad ones are counted and listed.
    Skip,
}

/// How a picture is made to fit, by name; see [`Fit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FitName {
    /// The shortest side resized, then the centre cut out.
    Crop,
    /// The whole picture between black bars.
    Letterbox,
    /// Both sides resized, the aspect is lost.
    Stretch,
}

impl FitName {
    /// With the length of the shortest side before a crop; 0: as short as the crop allows.
    pub fn fit(self, resize: usize) -> Fit {
        match self {
            Self::Crop => Fit::Crop { resize },
            Self::Letterbox => Fit::Letterbox,
            Self::Stretch => Fit::Stretch,
        }
    }
}

/// A size asked for: `64x64` (height x width, channels as the pictures have them) or `3x64x64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputRequest {
    /// 1 or 3; `None`: as the pictures have them.
    pub channels: Option<usize>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl InputRequest {
    /// Longest side that may be asked for.
    pub const MAX_SIDE: usize = 4096;

    /// With the channels asked for, else those given.
    pub fn shape(self, channels: usize) -> InputShape {
        InputShape::new(self.channels.unwrap_or(channels), self.height, self.width)
    }
}

impl From<InputShape> for InputRequest {
    fn from(shape: InputShape) -> Self {
        Self { channels: Some(shape.channels), height: shape.height, width: shape.width }
    }
}

impl fmt::Display for InputRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(channels) = self.channels {
            write!(f, "{channels}x")?;
        }
        write!(f, "{}x{}", self.height, self.width)
    }
}

impl FromStr for InputRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{text}` is no image size: expected HEIGHTxWIDTH such as 64x64, or CHANNELSxHEIGHTxWIDTH such as \
                 3x64x64, with 1 or 3 channels and sides of 1 to {}",
                Self::MAX_SIDE
            )
        };
        let numbers: Result<Vec<usize>, _> = text.trim().split('x').map(str::parse).collect();
        let (channels, height, width) = match numbers.map_err(|_| bad())?[..] {
            [height, width] => (None, height, width),
            [channels @ (1 | 3), height, width] => (Some(channels), height, width),
            _ => return Err(bad()),
        };
        let sides = 1..=Self::MAX_SIDE;
        if !sides.contains(&height) || !sides.contains(&width) {
            return Err(bad());
        }
        Ok(Self { channels, height, width })
    }
}

impl Serialize for InputRequest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InputRequest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_write() {
        let read = |text: &str| text.parse::<InputRequest>();
        assert_eq!(read("48x64"), Ok(InputRequest { channels: None, height: 48, width: 64 }));
        assert_eq!(read(" 3x48x64"), Ok(InputRequest { channels: Some(3), height: 48, width: 64 }));
        assert_eq!(read("48x64").unwrap().to_string(), "48x64");
        assert_eq!(read("48x64").unwrap().shape(1), InputShape::new(1, 48, 64));
        assert_eq!(InputRequest::from(InputShape::new(3, 2, 1)).to_string(), "3x2x1");
        for bad in [
            "",
            "64",
            "2x64x64",
            "0x64",
            "64x5000",
            "1x1x1x1",
            "-1x3",
            "64x",
            "64X64",
            "99999999999999999999x1",
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains("64x64") && error.contains(bad), "{error}");
        }
    }
}
