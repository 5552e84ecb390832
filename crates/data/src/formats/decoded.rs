//! What decoding a picture may cost, what comes of it, and why it fails.

use image::metadata::Orientation;
use model::Picture;

/// What an image file may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes of the file.
    pub bytes: u64,
    /// Pixels of its longer side.
    pub side: u32,
    /// Bytes that decoding may hold at once, beside the file. PNG, JPEG and TIFF pictures that would take more are
    /// made smaller by a whole number while they are read; others are refused.
    pub memory: u64,
}

/// Bytes of samples that a file may bring, whatever is kept of them: about two seconds of work. Of a palette, and of
/// samples of few bits, a byte a pixel counts, and three where its colours have opacities.
const MOST_WORK: u64 = 512 << 20;

impl Default for DecodeLimits {
    /// 64 MiB, 16,384 pixels, 144 MiB: a photo of 50 megapixels is decoded whole, and file, picture and program
    /// together stay below 256 MB.
    fn default() -> Self {
        Self { bytes: 64 << 20, side: 16_384, memory: 144 << 20 }
    }
}

impl DecodeLimits {
    pub(crate) fn check_side(&self, width: u32, height: u32) -> Result<(), DecodeError> {
        if width.max(height) > self.side {
            return Err(DecodeError::TooLarge { width, height, limit: self.side });
        }
        Ok(())
    }

    /// Whether `needed` bytes may be held at once.
    pub(crate) fn check_memory(&self, width: u32, height: u32, needed: u64) -> Result<(), DecodeError> {
        if needed > self.memory {
            return Err(DecodeError::Memory { width, height, needed, limit: self.memory });
        }
        Ok(())
    }

    /// Whether so many lines of `line` bytes may be decoded, one after the other.
    pub(crate) fn check_work(&self, width: u32, height: u32, line: u64) -> Result<(), DecodeError> {
        let needed = line.saturating_mul(height.into());
        if needed > MOST_WORK.max(self.memory) {
            return Err(DecodeError::Memory { width, height, needed, limit: MOST_WORK.max(self.memory) });
        }
        Ok(())
    }
}

/// Why an image file cannot be used. The caller adds the path.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// More bytes than the limit.
    #[error("the file has {found} bytes; expected at most {limit}")]
    TooLong {
        /// Bytes of the file.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// Not one of the formats.
    #[error("not a PNG, JPEG, WebP, GIF, BMP or TIFF image: it begins with {found}")]
    Format {
        /// The first bytes in hexadecimal.
        found: String,
    },
    /// A format that is known, but not read.
    #[error("{name}, which is not read: {advice}")]
    Foreign {
        /// What it is.
        name: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// More pixels than the limit.
    #[error("the image is {width}x{height} pixels; expected at most {limit} a side")]
    TooLarge {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit.
        limit: u32,
    },
    /// More memory than the limit.
    #[error(
        "the image of {width}x{height} pixels takes {} MiB decoded; expected at most {} MiB: make it smaller, or save \
         it as a PNG that is not interlaced or as a JPEG of grey or RGB colours, which are read in parts",
        needed.div_ceil(1 << 20),
        limit >> 20
    )]
    Memory {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes needed.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// The decoder refused.
    #[error("damaged or unsupported {format} image: {reason}")]
    Damaged {
        /// What the first bytes say it is.
        format: String,
        /// What the decoder said.
        reason: String,
    },
}

impl DecodeError {
    pub(crate) fn damaged(format: impl ToString, reason: impl ToString) -> Self {
        // Some decoders say it in several lines.
        let reason = reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self::Damaged { format: format.to_string(), reason }
    }
}

/// A picture, and what was done to it that its owner may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The picture.
    pub picture: Picture,
    /// Bits of its values, where a file of 16 bits a sample uses fewer: black to white is that range.
    pub bits: Option<u8>,
    /// By what the sides were divided to stay within the limits; 1 for most.
    pub reduced_by: usize,
}

/// Whether columns become rows.
pub(crate) fn is_turned(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// What the header of an image file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Columns of the upright picture.
    pub(crate) width: usize,
    /// Rows of the upright picture.
    pub(crate) height: usize,
    /// Whether it is more than grey.
    pub(crate) color: bool,
}
