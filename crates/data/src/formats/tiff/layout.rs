//! What the directory says of the pixels, and the samples of a row.

use image::metadata::Orientation;

use super::directory::{Directory, Fault, MOST_CHUNKS};
use super::tag;
use crate::formats::decoded::{DecodeError, DecodeLimits};
use crate::formats::raster::Depth;

/// What colours the samples are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Color {
    Grey { inverted: bool },
    Rgb,
    Palette,
    Cmyk,
    YCbCr,
}

impl Color {
    /// Samples of a pixel in the file, without extra ones.
    pub(super) fn samples(self) -> usize {
        match self {
            Self::Grey { .. } | Self::Palette => 1,
            Self::Rgb | Self::YCbCr => 3,
            Self::Cmyk => 4,
        }
    }

    /// Channels of the picture, without opacity.
    pub(super) fn channels(self) -> usize {
        if matches!(self, Self::Grey { .. }) { 1 } else { 3 }
    }
}

/// Numbers of one sample.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Unsigned,
    Signed,
    Float,
}

/// How the opacity is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opacity {
    None,
    Straight,
    /// Colours are multiplied by it.
    Associated,
}

/// What the directory says of the pixels.
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Samples of a pixel, extra ones included.
    pub(super) samples: usize,
    pub(super) bits: usize,
    pub(super) number: Number,
    pub(super) color: Color,
    pub(super) opacity: Opacity,
    pub(super) compression: u64,
    pub(super) planar: bool,
    /// Columns and rows of a tile, or of a strip.
    pub(super) chunk: [usize; 2],
    pub(super) tiled: bool,
    pub(super) predictor: u64,
    pub(super) orientation: Orientation,
}

impl Layout {
    pub(super) fn read(directory: &Directory, limits: &DecodeLimits) -> Result<Self, Fault> {
        refuse_raw(directory)?;
        let side = |tag: u16| u32::try_from(directory.first(tag, 0)).unwrap_or(u32::MAX);
        let (width, height) = (side(tag::WIDTH), side(tag::HEIGHT));
        if width == 0 || height == 0 {
            return Err(format!("a picture of {width}x{height} pixels").into());
        }
        limits.check_side(width, height)?;
        let (width, height) = (width as usize, height as usize);
        let compression = directory.first(tag::COMPRESSION, 1);
        let fax = (2..=4).contains(&compression);
        let samples = directory.first(tag::SAMPLES, 1);
        let bits = directory.first(tag::BITS, 1);
        if !(1..=32).contains(&samples) {
            return Err(format!("{samples} samples a pixel; expected 1 to 32").into());
        }
        let samples = samples as usize;
        let bits_differ = (1..directory.count(tag::BITS).min(samples))
            .any(|index| directory.value(tag::BITS, index) != Some(bits));
        if bits_differ || !matches!(bits, 1..=16 | 24 | 32 | 64) {
            return Err(format!("samples of {bits} bits; expected 1 to 16, 24, 32 or 64, all alike").into());
        }
        let number = match directory.first(tag::SAMPLE_FORMAT, 1) {
            2 => Number::Signed,
            3 if matches!(bits, 16 | 32 | 64) => Number::Float,
            1 | 4 => Number::Unsigned,
            other => return Err(format!("sample format {other} of {bits} bits").into()),
        };
        let color = match directory.first(tag::PHOTOMETRIC, u64::from(!fax)) {
            0 => Color::Grey { inverted: true },
            1 | 4 => Color::Grey { inverted: false },
            2 => Color::Rgb,
            3 => Color::Palette,
            5 => Color::Cmyk,
            6 => Color::YCbCr,
            8..=10 => return Err("CIE L*a*b* colours; save it with RGB colours".into()),
            other => return Err(format!("colours of kind {other}; save it with RGB colours").into()),
        };
        let plain = match color {
            Color::Grey { .. } | Color::Rgb => true,
            Color::Palette => bits <= 16,
            Color::Cmyk | Color::YCbCr => bits == 8 || bits == 16 && color == Color::Cmyk,
        };
        if samples < color.samples() || !plain || fax && (bits, samples) != (1, 1) {
            return Err(format!("{samples} samples of {bits} bits do not suit its colours").into());
        }
        if color == Color::YCbCr && compression != 7 {
            let subsampling = [0, 1].map(|index| directory.value(tag::SUBSAMPLING, index).unwrap_or(2));
            if subsampling != [1, 1] {
                return Err("YCbCr colours of fewer samples without JPEG; save it with RGB colours".into());
            }
        }
        let extra = directory.value(tag::EXTRA_SAMPLES, 0);
        let opacity = match extra {
            _ if samples == color.samples() => Opacity::None,
            Some(1) => Opacity::Associated,
            Some(2) => Opacity::Straight,
            // Without a word of it a fourth sample of RGB is its opacity.
            None if color == Color::Rgb && samples == 4 => Opacity::Straight,
            _ => Opacity::None,
        };
        let tiled = directory.count(tag::TILE_OFFSETS) > 0;
        let chunk = if tiled {
            [directory.first(tag::TILE_WIDTH, 0), directory.first(tag::TILE_HEIGHT, 0)]
        } else {
            [width as u64, directory.first(tag::ROWS_PER_STRIP, u64::MAX).min(height as u64)]
        };
        // A tile may be larger than its picture, but not by much.
        let most = u64::from(limits.side).max(1 << 12);
        if chunk.iter().any(|side| !(1..=most).contains(side)) {
            return Err(format!("tiles or strips of {}x{} pixels", chunk[0], chunk[1]).into());
        }
        let planes = if directory.first(tag::PLANAR, 1) == 2 { samples as u64 } else { 1 };
        let chunks = (width as u64).div_ceil(chunk[0]) * (height as u64).div_ceil(chunk[1]) * planes;
        if chunks > MOST_CHUNKS {
            return Err(format!("{chunks} tiles or strips; expected at most {MOST_CHUNKS}").into());
        }
        let orientation = Orientation::from_exif(directory.first(tag::ORIENTATION, 1).min(255) as u8);
        Ok(Self {
            width,
            height,
            samples,
            bits: bits as usize,
            number,
            color,
            opacity,
            compression,
            planar: samples > 1 && directory.first(tag::PLANAR, 1) == 2,
            chunk: chunk.map(|side| side as usize),
            tiled,
            predictor: directory.first(tag::PREDICTOR, 1),
            orientation: orientation.unwrap_or(Orientation::NoTransforms),
        })
    }

    /// What the samples become.
    pub(super) fn depth(&self) -> Depth {
        match (self.number, self.bits) {
            _ if self.color == Color::Palette => Depth::Bytes,
            (Number::Unsigned, ..=8) => Depth::Bytes,
            (Number::Unsigned, ..=16) => Depth::Words,
            _ => Depth::Floats,
        }
    }

    /// Samples of a pixel in one chunk.
    pub(super) fn chunk_samples(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }

    /// Bytes of a row of a chunk.
    pub(super) fn row_len(&self) -> usize {
        (self.chunk[0] * self.chunk_samples() * self.bits).div_ceil(8)
    }
}

/// Cameras write their raw photos as TIFF files, with a small preview as the first picture.
pub(super) fn refuse_raw(directory: &Directory) -> Result<(), Fault> {
    let raw = |name: &'static str| {
        Err(DecodeError::Foreign { name, advice: "develop it to JPEG, PNG or TIFF" }.into())
    };
    if directory.bytes.get(8..10) == Some(b"CR") {
        return raw("a Canon CR2 raw photo");
    }
    if directory.count(tag::DNG_VERSION) > 0 {
        return raw("a DNG raw photo");
    }
    let preview = directory.first(tag::SUBFILE, 0) & 1 == 1 && directory.count(tag::SUB_DIRECTORIES) > 0;
    if preview || matches!(directory.first(tag::PHOTOMETRIC, 1), 32803 | 34892) {
        return raw("a camera's raw photo (such as NEF, ARW or PEF)");
    }
    Ok(())
}

impl Layout {
    /// The sample at `index` of a row of a chunk. Whole numbers of up to 53 bits are exact.
    #[inline]
    pub(super) fn sample(&self, row: &[u8], index: usize, little_endian: bool) -> f64 {
        if !self.bits.is_multiple_of(8) {
            let (at, shift) = (index * self.bits / 8, index * self.bits % 8);
            // At most 15 bits from any bit on lie in three bytes.
            let three =
                (0..3).fold(0u32, |word, byte| word << 8 | u32::from(*row.get(at + byte).unwrap_or(&0)));
            let value = three << (8 + shift) >> (32 - self.bits);
            return match self.number {
                Number::Signed => f64::from((value << (32 - self.bits)).cast_signed() >> (32 - self.bits)),
                _ => f64::from(value),
            };
        }
        let size = self.bits / 8;
        let field = &row[index * size..(index + 1) * size];
        let push = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        let value = if little_endian { field.iter().rev().fold(0, push) } else { field.iter().fold(0, push) };
        match (self.number, self.bits) {
            (Number::Unsigned, _) => value as f64,
            (Number::Signed, bits) => ((value << (64 - bits)).cast_signed() >> (64 - bits)) as f64,
            (Number::Float, 16) => half(value as u16),
            (Number::Float, 32) => f64::from(f32::from_bits(value as u32)),
            (Number::Float, _) => f64::from_bits(value),
        }
    }

    /// Takes the differences between neighbours back: TIFF 6.0, section 14, and technical note 3.
    pub(super) fn unpredict(&self, row: &mut [u8], little_endian: bool) {
        let samples = self.chunk_samples();
        let size = self.bits / 8;
        if self.predictor == 3 && self.number == Number::Float {
            for at in samples..row.len() {
                row[at] = row[at].wrapping_add(row[at - samples]);
            }
            // All first bytes come first, from the most significant on.
            let count = row.len() / size;
            let planes = row.to_vec();
            for index in 0..count {
                for byte in 0..size {
                    let place = if little_endian { size - 1 - byte } else { byte };
                    row[index * size + place] = planes[byte * count + index];
                }
            }
        } else if self.predictor == 2 && matches!(self.bits, 8 | 16 | 32 | 64) {
            for at in (samples * size..row.len()).step_by(size) {
                let (before, here) = row.split_at_mut(at);
                let before = &before[at - samples * size..][..size];
                let here = &mut here[..size];
                let mut carry = 0;
                for byte in 0..size {
                    let byte = if little_endian { byte } else { size - 1 - byte };
                    let sum = u16::from(before[byte]) + u16::from(here[byte]) + carry;
                    here[byte] = sum as u8;
                    carry = sum >> 8;
                }
            }
        }
    }
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 => {
            if fraction == 0.0 {
                f64::INFINITY
            } else {
                f64::NAN
            }
        }
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}
