//! What an image shows, as a number: equal for copies under any name, different for everything else.

use std::fmt;
use std::str::FromStr;

use model::{InputShape, hexadecimal};
use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// SHA-256 of what an image shows, whatever its name, its time of change and its metadata. Written and read as 64
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Of `[H, W, C]` pixels with 1 or 3 channels. A picture whose three channels are everywhere equal shows what the
    /// one with a single channel shows.
    pub(crate) fn of_pixels(width: usize, height: usize, channels: usize, pixels: &[u8]) -> Self {
        let is_grey = channels == 3 && pixels.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]);
        let mut hash = Sha256::new();
        for number in [width, height, if is_grey { 1 } else { channels }] {
            hash.update((number as u64).to_le_bytes());
        }
        if is_grey {
            hash.update(pixels.iter().copied().step_by(3).collect::<Vec<_>>());
        } else {
            hash.update(pixels);
        }
        hash.into()
    }

    /// Of each of the images `pixels`, `[N, C, H, W]`.
    pub(crate) fn of_each(shape: InputShape, pixels: &[u8]) -> Vec<Self> {
        let InputShape { channels, height, width } = shape;
        let plane = height * width;
        if plane * channels == 0 {
            return Vec::new();
        }
        let images = pixels.par_chunks_exact(plane * channels).map(|image| {
            if channels == 1 {
                return Self::of_pixels(width, height, 1, image);
            }
            let interleaved = (0..plane).flat_map(|at| (0..channels).map(move |c| image[c * plane + at]));
            Self::of_pixels(width, height, channels, &interleaved.collect::<Vec<_>>())
        });
        images.collect()
    }

    /// Of a group of images that belong together, whatever they show.
    pub(crate) fn of_group(name: &str) -> Self {
        Sha256::new().chain_update("kiln: group").chain_update(name).into()
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<Sha256> for ContentHash {
    fn from(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("expected 64 hexadecimal digits, found `{text}`");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pixels_of_another_shape_are_another_picture_and_grey_is_grey() {
        let pixels: Vec<u8> = (0..12).collect();
        let wide = ContentHash::of_pixels(4, 3, 1, &pixels);
        assert_ne!(wide, ContentHash::of_pixels(3, 4, 1, &pixels));
        assert_ne!(wide, ContentHash::of_pixels(2, 2, 3, &pixels));
        let rgb: Vec<u8> = pixels.iter().flat_map(|&value| [value; 3]).collect();
        assert_eq!(wide, ContentHash::of_pixels(4, 3, 3, &rgb));
        // Planes and interleaved pixels of one picture.
        let planes: Vec<u8> = (0..3).flat_map(|c| (0..4).map(move |at| at * 3 + c)).collect();
        let each = ContentHash::of_each(InputShape::new(3, 2, 2), &planes);
        assert_eq!(each, [ContentHash::of_pixels(2, 2, 3, &pixels)]);
    }

    #[test]
    fn digits_are_read_back() {
        let hash = ContentHash::of_pixels(1, 1, 1, &[7]);
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(json, format!("\"{hash}\""));
        assert_eq!(serde_json::from_str::<ContentHash>(&json).unwrap(), hash);
        for bad in ["", "0", &"g".repeat(64), &format!("{hash}0"), &"é".repeat(32)] {
            assert!(bad.parse::<ContentHash>().is_err(), "{bad}");
        }
    }
}
