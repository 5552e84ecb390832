//! Bytes of an image file to a [`Picture`], within limits that hold before anything is allocated.

use std::io::{BufRead, Cursor, Seek};
use std::path::Path;

use image::error::{DecodingError, ImageFormatHint};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use model::Picture;

use crate::tiff;

/// What an image file may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes of the file.
    pub bytes: u64,
    /// Pixels of its longer side.
    pub side: u32,
    /// Bytes that decoding may allocate.
    pub memory: u64,
}

impl Default for DecodeLimits {
    /// 64 MiB, 16,384 pixels, 512 MiB: above any camera's, below what hurts a small machine.
    fn default() -> Self {
        Self { bytes: 64 << 20, side: 16_384, memory: 512 << 20 }
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
    /// The decoder refused.
    #[error("damaged or unsupported {format} image: {reason}")]
    Damaged {
        /// What the first bytes say it is.
        format: String,
        /// What the decoder said.
        reason: String,
    },
}

/// Decodes an image file: turned upright as its EXIF orientation says, 8 bits, grey where the file is
/// grey and RGB elsewhere. What is transparent is laid on white, as paper is. Of an animation the
/// first picture is taken.
///
/// The first bytes decide the format, not the name of the file.
///
/// # Errors
/// [`DecodeError`]; never a panic, never an allocation beyond `limits`.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Picture, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() as u64 > limits.bytes {
        return Err(DecodeError::TooLong { found: bytes.len() as u64, limit: limits.bytes });
    }
    let found = || bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|_| DecodeError::Format { found: found() })?;
    let Some(format) = reader.format().filter(ImageFormat::reading_enabled) else {
        return Err(DecodeError::Format { found: found() });
    };
    let format = format!("{format:?}").to_uppercase();
    let damaged =
        |reason: ImageError| DecodeError::Damaged { format: format.clone(), reason: reason.to_string() };
    let mut decoder = decoder(reader, limits.memory).map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if width.max(height) > limits.side {
        return Err(DecodeError::TooLarge { width, height, limit: limits.side });
    }
    if decoder.total_bytes() > limits.memory {
        let reason = format!("{} bytes decoded; expected at most {}", decoder.total_bytes(), limits.memory);
        return Err(DecodeError::Damaged { format, reason });
    }
    // A picture whose orientation cannot be read is upright.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    let picture = to_picture(&image);
    picture.map_err(|error| DecodeError::Damaged { format, reason: error.to_string() })
}

/// A decoder that may allocate `memory` bytes. Sides are the caller's to check, with an error that names them.
fn decoder<'a, R: BufRead + Seek + 'a>(
    mut reader: ImageReader<R>,
    memory: u64,
) -> Result<impl ImageDecoder + 'a, ImageError> {
    if reader.format() == Some(ImageFormat::Tiff) {
        let mut file = reader.into_inner();
        tiff::check_directory(&mut file, memory).map_err(|error| {
            ImageError::Decoding(DecodingError::new(ImageFormatHint::Exact(ImageFormat::Tiff), error))
        })?;
        reader = ImageReader::with_format(file, ImageFormat::Tiff);
    }
    let mut allowance = Limits::no_limits();
    allowance.max_alloc = Some(memory);
    reader.limits(allowance);
    reader.into_decoder()
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

/// Reads the header of an image file only.
pub(crate) fn probe(path: &Path, limits: &DecodeLimits) -> Result<Probe, ImageError> {
    use image::metadata::Orientation;

    let mut decoder = decoder(ImageReader::open(path)?.with_guessed_format()?, limits.memory)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let color = decoder.color_type().has_color();
    let turned = matches!(
        decoder.orientation(),
        Ok(Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH)
    );
    Ok(if turned { Probe { width: height, height: width, color } } else { Probe { width, height, color } })
}

fn to_picture(image: &DynamicImage) -> Result<Picture, model::PictureError> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let color = image.color();
    if !color.has_color() && !color.has_alpha() {
        return Picture::new(width, height, 1, image.to_luma8().into_raw());
    }
    if !color.has_alpha() {
        return Picture::new(width, height, 3, image.to_rgb8().into_raw());
    }
    let on_white = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    if color.has_color() {
        let pixels = image.to_rgba8();
        let pixels = pixels.pixels().flat_map(|p| [0, 1, 2].map(|channel| on_white(p[channel], p[3])));
        return Picture::new(width, height, 3, pixels.collect());
    }
    let pixels = image.to_luma_alpha8();
    Picture::new(width, height, 1, pixels.pixels().map(|p| on_white(p[0], p[1])).collect())
}

#[cfg(test)]
mod tests {
    use image::{Luma, LumaA, Rgb, Rgba};

    use super::*;

    fn file(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn small() -> DynamicImage {
        DynamicImage::ImageRgb8(image::ImageBuffer::from_fn(5, 3, |x, y| {
            Rgb([(x * 40) as u8, (y * 80) as u8, 200])
        }))
    }

    #[test]
    fn lossless_formats_give_the_pixels_back() {
        for format in
            [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Gif, ImageFormat::WebP]
        {
            let image = if format == ImageFormat::Gif {
                DynamicImage::ImageRgba8(small().to_rgba8())
            } else {
                small()
            };
            let picture = decode(&file(&image, format), &DecodeLimits::default()).unwrap();
            assert_eq!((picture.width(), picture.height(), picture.channels()), (5, 3, 3), "{format:?}");
            assert_eq!(picture.pixels(), small().to_rgb8().as_raw().as_slice(), "{format:?}");
        }
    }

    #[test]
    fn a_grey_jpeg_stays_grey() {
        let grey = DynamicImage::ImageLuma8(image::ImageBuffer::from_pixel(16, 8, Luma([77])));
        let picture = decode(&file(&grey, ImageFormat::Jpeg), &DecodeLimits::default()).unwrap();
        assert_eq!((picture.width(), picture.height(), picture.channels()), (16, 8, 1));
        assert!(picture.pixels().iter().all(|value| value.abs_diff(77) <= 2));
    }

    #[test]
    fn transparency_is_white_paper() {
        let clear = DynamicImage::ImageRgba8(image::ImageBuffer::from_pixel(1, 1, Rgba([9, 9, 9, 0])));
        let picture = decode(&file(&clear, ImageFormat::Png), &DecodeLimits::default()).unwrap();
        assert_eq!(picture.pixels(), [255, 255, 255]);
        let half = DynamicImage::ImageLumaA8(image::ImageBuffer::from_pixel(1, 1, LumaA([0, 128])));
        let picture = decode(&file(&half, ImageFormat::Png), &DecodeLimits::default()).unwrap();
        assert_eq!(picture.pixels(), [127]);
    }

    #[test]
    fn exif_turns_the_picture_upright() {
        // A big-endian TIFF block with one tag: orientation (0x0112), short, 1 value, 6 (turn right).
        let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let jpeg = file(&small(), ImageFormat::Jpeg);
        let mut turned = jpeg[..2].to_vec();
        turned.extend([0xff, 0xe1]);
        turned.extend((exif.len() as u16 + 2).to_be_bytes());
        turned.extend(exif);
        turned.extend(&jpeg[2..]);
        let picture = decode(&turned, &DecodeLimits::default()).unwrap();
        assert_eq!((picture.width(), picture.height()), (3, 5));
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, &turned).unwrap();
        assert_eq!(
            probe(path.path(), &DecodeLimits::default()).unwrap(),
            Probe { width: 3, height: 5, color: true }
        );
    }

    /// Made by `tests/golden/resize.py`: a photograph resized by Pillow, with torchvision as second witness.
    #[test]
    fn a_photograph_is_resized_as_by_pillow() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/resize");
        let read = |name: &str| {
            let bytes = std::fs::read(folder.join(name)).unwrap();
            decode(&bytes, &DecodeLimits::default()).unwrap()
        };
        let worst = |found: &Picture, expected: &Picture| {
            assert_eq!(found.pixels().len(), expected.pixels().len());
            let differences = found.pixels().iter().zip(expected.pixels()).map(|(a, b)| a.abs_diff(*b));
            differences.max().unwrap()
        };
        let cat = read("cat.png");
        let grey = cat.clone().with_channels(1).unwrap();
        let mut compared = 0;
        for entry in folder.read_dir().unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let expected = read(&name);
            let source = match name.split('-').next().unwrap() {
                "rgb" => &cat,
                "l" => &grey,
                _ => continue,
            };
            let resized = source.resize(expected.width(), expected.height());
            // The issue allows 1 of 255.
            assert!(worst(&resized, &expected) <= 1, "{name}: {}", worst(&resized, &expected));
            compared += 1;
        }
        assert!(compared >= 12, "{compared} pictures");
        let input = model::InputShape::new(3, 40, 44);
        let fitted = cat.fitted(input, model::Fit::Crop { resize: 48 }).unwrap();
        assert!(worst(&fitted, &read("crop-44x40.png")) <= 1);
    }

    #[test]
    fn faults_are_named() {
        let limits = DecodeLimits { bytes: 1000, side: 4, memory: 1 << 20 };
        let message = |bytes: &[u8]| decode(bytes, &limits).unwrap_err().to_string();
        assert_eq!(message(&[]), "the file is empty");
        assert_eq!(message(&[0; 1001]), "the file has 1001 bytes; expected at most 1000");
        assert!(message(b"hello").contains("begins with 68 65 6c 6c 6f"));
        let png = file(&small(), ImageFormat::Png);
        assert_eq!(message(&png), "the image is 5x3 pixels; expected at most 4 a side");
        let limits = DecodeLimits { memory: 10, ..DecodeLimits::default() };
        assert!(decode(&png, &limits).is_err());
    }

    #[test]
    fn truncated_and_flipped_files_never_panic() {
        for format in
            [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP]
        {
            let whole = file(&small(), format);
            for end in 0..whole.len() {
                let _ = decode(&whole[..end], &DecodeLimits::default());
            }
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let _ = decode(&bytes, &DecodeLimits::default());
            }
        }
    }
}
