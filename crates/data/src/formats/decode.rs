//! Bytes of an image file to a [`Picture`], within limits that hold before anything is allocated.
//!
//! Longer than other files: half of it are tests of files of every format, with their opacity, turning and damage.

use std::cell::Cell;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::Once;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use model::Picture;

use super::decoded::{DecodeError, DecodeLimits, Decoded, Probe, is_turned};
use super::raster::upright;
use super::{foreign_format, jpeg, png, tiff};

/// Decodes an image file: turned upright as its EXIF orientation says, 8 bits, grey where the file is grey and RGB
/// elsewhere.
///
/// - What is transparent becomes white paper, or black where the ink is light ([`Picture::from_transparent`]).
/// - Of an animation the first picture is taken, of a TIFF file the first page.
/// - A file of 16 bits whose values have 8, 10 or 12 is read as one of so many bits: as PNG's `sBIT` or TIFF's
///   `MaxSampleValue` says, else by the largest value. Numbers of 32 bits and floats are black to white from 0 to 1,
///   255, 1023, 4095 or 65535, whichever holds them all, else from the smallest to the largest.
/// - A PNG, JPEG or TIFF file too large for `limits.memory` is made smaller by a whole number.
///
/// The first bytes decide the format, not the name of the file.
///
/// # Errors
/// [`DecodeError`]; never a panic, never an allocation beyond `limits`. A file that ends early is an error, whatever
/// of it could be shown.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Picture, DecodeError> {
    decode_with_notes(bytes, limits).map(|decoded| decoded.picture)
}

/// As [`decode`], with what was done to the picture.
///
/// # Errors
/// As [`decode`].
pub fn decode_with_notes(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() as u64 > limits.bytes {
        return Err(DecodeError::TooLong { found: bytes.len() as u64, limit: limits.bytes });
    }
    let format = format(bytes)?;
    let decoded = guarded(|| match format {
        ImageFormat::Jpeg => jpeg::decode(bytes, limits),
        ImageFormat::Png => png::decode(bytes, limits),
        ImageFormat::Tiff => tiff::decode(bytes, limits),
        other => decode_whole(bytes, other, limits),
    });
    decoded.unwrap_or_else(|| Err(DecodeError::damaged(name(format), GAVE_UP)))
}

/// What is said of a decoder that panicked.
const GAVE_UP: &str = "the decoder gave up on it; save it anew with another program";

/// Runs a decoder, and gives `None` where it panics, without a word on the terminal: the picture is at fault, not us.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    thread_local!(static GUARDED: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                before(panic);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    result.ok()
}

/// The format by the first bytes.
pub(crate) fn format(bytes: &[u8]) -> Result<ImageFormat, DecodeError> {
    let known = match bytes {
        [0xFF, 0xD8, 0xFF, ..] => Some(ImageFormat::Jpeg),
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some(ImageFormat::Png),
        [b'G', b'I', b'F', b'8', ..] => Some(ImageFormat::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::WebP),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(ImageFormat::Tiff),
        [b'B', b'M', ..] => Some(ImageFormat::Bmp),
        _ => None,
    };
    if let Some(format) = known {
        return Ok(format);
    }
    if let Some((name, advice)) = foreign_format::recognised(bytes) {
        return Err(DecodeError::Foreign { name, advice });
    }
    let found = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    Err(DecodeError::Format { found })
}

/// As messages have it.
fn name(format: ImageFormat) -> String {
    format!("{format:?}").to_uppercase()
}

/// GIF, BMP and WebP: the whole picture at once.
fn decode_whole(bytes: &[u8], format: ImageFormat, limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    let damaged = |reason: &dyn ToString| DecodeError::damaged(name(format), reason.to_string());
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowance = Limits::no_limits();
    allowance.max_alloc = Some(limits.memory);
    reader.limits(allowance);
    let mut decoder = reader.into_decoder().map_err(|error| damaged(&error))?;
    let (width, height) = decoder.dimensions();
    limits.check_side(width, height)?;
    // What these decoders hold beside the picture, bytes a pixel: a frame with its opacity, or one of fewer colours.
    let photo = format == ImageFormat::WebP
        && bytes.get(12..16) != Some(b"VP8L")
        && !decoder.color_type().has_alpha();
    let beside = match format {
        ImageFormat::Bmp => 0,
        _ if photo => 2,
        _ => 4,
    };
    let frame = beside * u64::from(width) * u64::from(height);
    // A picture whose orientation cannot be read is upright.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let copies = if is_turned(orientation) { 2 } else { 1 };
    limits.check_memory(
        width,
        height,
        frame.max(decoder.total_bytes() * (copies - 1)) + decoder.total_bytes(),
    )?;
    let image = DynamicImage::from_decoder(decoder).map_err(|error| damaged(&error))?;
    let picture = to_picture(image).and_then(|picture| upright(picture, orientation));
    Ok(Decoded { picture: picture.map_err(|error| damaged(&error))?, bits: None, reduced_by: 1 })
}

fn to_picture(image: DynamicImage) -> Result<Picture, model::PictureError> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let color = image.color();
    match (color.has_color(), color.has_alpha()) {
        (false, false) => Picture::new(width, height, 1, image.into_luma8().into_raw()),
        (true, false) => Picture::new(width, height, 3, image.into_rgb8().into_raw()),
        (false, true) => Picture::from_transparent(width, height, 2, image.into_luma_alpha8().into_raw()),
        (true, true) => Picture::from_transparent(width, height, 4, image.into_rgba8().into_raw()),
    }
}

/// Reads the header of an image file only; `None` where that cannot be done. A picture that is made smaller when it is
/// decoded has its own size here.
pub(crate) fn probe(path: &Path, limits: &DecodeLimits) -> Option<Probe> {
    guarded(|| {
        let reader = ImageReader::open(path).ok()?.with_guessed_format().ok()?;
        if reader.format() == Some(ImageFormat::Tiff) {
            drop(reader);
            return tiff::probe(&std::fs::read(path).ok()?, limits).ok();
        }
        probe_header(reader, limits).ok()
    })?
}

fn probe_header<R: std::io::BufRead + std::io::Seek>(
    mut reader: ImageReader<R>,
    limits: &DecodeLimits,
) -> Result<Probe, ImageError> {
    let mut allowance = Limits::no_limits();
    allowance.max_alloc = Some(limits.memory);
    reader.limits(allowance);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let color = decoder.color_type().has_color();
    let turned = decoder.orientation().is_ok_and(is_turned);
    Ok(if turned { Probe { width: height, height: width, color } } else { Probe { width, height, color } })
}

#[cfg(test)]
mod tests {
    use ::png;
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

    /// A stroke with soft edges on a transparent ground.
    fn stroke(ink: u8, clear: u8) -> image::RgbaImage {
        image::ImageBuffer::from_fn(9, 6, |x, _| match x {
            3 => Rgba([ink, ink, ink, 128]),
            4 | 5 => Rgba([ink, ink, ink, 255]),
            _ => Rgba([clear, clear, clear, 0]),
        })
    }

    #[test]
    fn ink_shows_on_a_transparent_ground_whatever_its_colour() {
        let limits = DecodeLimits::default();
        for (ink, ground, edge) in [(255, 0, 128), (0, 255, 127), (220, 0, 110), (60, 255, 157)] {
            for clear in [0, 255] {
                let rgba = stroke(ink, clear);
                let row = [ground, ground, ground, edge, ink, ink, ground, ground, ground];
                let color: Vec<u8> = row.iter().flat_map(|&value| [value; 3]).collect();
                let grey = DynamicImage::ImageLumaA8(DynamicImage::ImageRgba8(rgba.clone()).to_luma_alpha8());
                let wide = DynamicImage::ImageRgba16(DynamicImage::ImageRgba8(rgba.clone()).to_rgba16());
                let rgba = DynamicImage::ImageRgba8(rgba);
                for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
                    let picture = decode(&file(&rgba, format), &limits).unwrap();
                    assert_eq!(picture.pixels()[..27], color, "{format:?}, ink {ink}");
                }
                for (image, format) in
                    [(&grey, ImageFormat::Png), (&wide, ImageFormat::Png), (&wide, ImageFormat::Tiff)]
                {
                    let picture = decode(&file(image, format), &limits).unwrap();
                    let expected = if picture.channels() == 1 { &row[..] } else { &color };
                    assert_eq!(picture.pixels()[..expected.len()], *expected, "{format:?}, ink {ink}");
                }
            }
        }
    }

    /// A PNG file of a palette with a transparent entry, or of grey with a transparent value.
    fn keyed(color: png::ColorType, ink: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 4, 1);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        let clear = 99;
        let pixels = if color == png::ColorType::Indexed {
            encoder.set_palette(vec![clear, clear, clear, ink, ink, ink]);
            encoder.set_trns(vec![0]);
            [0, 1, 1, 0]
        } else {
            encoder.set_trns(vec![0, clear]);
            [clear, ink, ink, clear]
        };
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        bytes
    }

    #[test]
    fn a_transparent_colour_is_ground_as_well() {
        for color in [png::ColorType::Indexed, png::ColorType::Grayscale] {
            for (ink, ground) in [(255, 0), (0, 255)] {
                let picture = decode(&keyed(color, ink), &DecodeLimits::default()).unwrap();
                let step = picture.channels();
                let row: Vec<u8> = picture.pixels().iter().step_by(step).copied().collect();
                assert_eq!(row, [ground, ink, ink, ground], "{color:?}");
            }
        }
        // GIF has a transparent index.
        for (ink, ground) in [(255, 0), (0, 255)] {
            let gif = file(&DynamicImage::ImageRgba8(stroke(ink, 0)), ImageFormat::Gif);
            let picture = decode(&gif, &DecodeLimits::default()).unwrap();
            assert_eq!((picture.pixels()[0], picture.pixels()[13]), (ground, ink));
        }
    }

    #[test]
    fn samples_of_few_bits_are_unpacked_as_the_format_asks_for() {
        let byte = |x: usize, y: usize| (x * 89 + y * 151 + x * y * 7) as u8;
        let depths = [
            (1, png::BitDepth::One),
            (2, png::BitDepth::Two),
            (4, png::BitDepth::Four),
            (8, png::BitDepth::Eight),
        ];
        for (bits, depth) in depths {
            for width in 1..=17 {
                // Of a palette some indices lie beyond its end, and some have no opacity of their own.
                let palette: Vec<u8> = (0..3 * ((1 << bits) - 1)).map(|at| (at * 41 + 13) as u8).collect();
                let kinds = [
                    (png::ColorType::Grayscale, None),
                    (png::ColorType::Grayscale, Some(vec![0, 1])),
                    (png::ColorType::Indexed, None),
                    (png::ColorType::Indexed, Some(vec![77])),
                    (png::ColorType::Indexed, Some(vec![5; 20])),
                ];
                for (color, clear) in kinds {
                    let mut bytes = Vec::new();
                    let mut encoder = png::Encoder::new(&mut bytes, width, 3);
                    encoder.set_color(color);
                    encoder.set_depth(depth);
                    if color == png::ColorType::Indexed {
                        encoder.set_palette(palette.clone());
                    }
                    if let Some(clear) = &clear {
                        encoder.set_trns(clear.clone());
                    }
                    let line = (width as usize * bits).div_ceil(8);
                    let packed: Vec<u8> = (0..line * 3).map(|at| byte(at % line, at / line)).collect();
                    encoder.write_header().unwrap().write_image_data(&packed).unwrap();
                    let expected = to_picture(image::load_from_memory(&bytes).unwrap()).unwrap();
                    let found = decode(&bytes, &DecodeLimits::default()).unwrap();
                    assert_eq!(found, expected, "{bits} bits, {width} columns, {color:?}, {clear:?}");
                }
            }
        }
    }

    #[test]
    fn a_few_transparent_pixels_stay_white() {
        let mut light = image::RgbaImage::from_pixel(10, 10, Rgba([240, 240, 240, 255]));
        light.put_pixel(0, 0, Rgba([0, 0, 0, 0]));
        let picture =
            decode(&file(&DynamicImage::ImageRgba8(light), ImageFormat::Png), &DecodeLimits::default());
        assert_eq!(picture.unwrap().pixels()[..4], [255, 255, 255, 240]);
    }

    fn words(most: u16, format: ImageFormat, color: bool) -> Vec<u8> {
        let value = |x: u32| (u32::from(most) * x / 3) as u16;
        file(
            &if color {
                DynamicImage::ImageRgb16(image::ImageBuffer::from_fn(4, 2, |x, _| Rgb([value(x); 3])))
            } else {
                DynamicImage::ImageLuma16(image::ImageBuffer::from_fn(4, 2, |x, _| Luma([value(x)])))
            },
            format,
        )
    }

    #[test]
    fn values_of_few_bits_in_a_file_of_16_are_stretched() {
        for format in [ImageFormat::Png, ImageFormat::Tiff] {
            for color in [false, true] {
                for (most, bits) in
                    [(255, Some(8)), (1023, Some(10)), (4095, Some(12)), (65535, None), (5000, None)]
                {
                    let decoded =
                        decode_with_notes(&words(most, format, color), &DecodeLimits::default()).unwrap();
                    assert_eq!(decoded.bits, bits, "{format:?} up to {most}");
                    let step = decoded.picture.channels();
                    let row: Vec<u8> =
                        decoded.picture.pixels().iter().step_by(step).take(4).copied().collect();
                    let expected = if most == 5000 { [0, 6, 13, 19] } else { [0, 85, 170, 255] };
                    assert_eq!(row, expected, "{format:?} up to {most}");
                }
            }
            // A picture that is black has no range.
            assert_eq!(
                decode_with_notes(&words(0, format, false), &DecodeLimits::default()).unwrap().bits,
                None
            );
        }
    }

    #[test]
    fn what_a_png_says_of_its_bits_decides() {
        let with = |bits: u8, most: u16| {
            let mut bytes = Vec::new();
            let mut info = png::Info::with_size(2, 1);
            info.color_type = png::ColorType::Grayscale;
            info.bit_depth = png::BitDepth::Sixteen;
            let encoder = png::Encoder::with_info(&mut bytes, info).unwrap();
            let mut writer = encoder.write_header().unwrap();
            writer.write_chunk(png::chunk::sBIT, &[bits]).unwrap();
            let [high, low] = most.to_be_bytes();
            writer.write_image_data(&[0, 0, high, low]).unwrap();
            drop(writer);
            let decoded = decode_with_notes(&bytes, &DecodeLimits::default()).unwrap();
            (decoded.bits, decoded.picture.pixels()[1])
        };
        assert_eq!(with(12, 800), (Some(12), 50), "a dark picture of 12 bits");
        assert_eq!(with(16, 800), (None, 3), "a dark picture of 16 bits");
        assert_eq!(with(10, 65535), (None, 255), "scaled to 16 bits, as the format asks for");
    }

    #[test]
    fn what_is_too_large_is_made_smaller_or_refused_with_the_limit() {
        let image = image::RgbaImage::from_fn(300, 200, |x, y| Rgba([x as u8 & 0xF0, y as u8, 77, 255]));
        let image = DynamicImage::ImageRgba8(image);
        let rgb = DynamicImage::ImageRgb8(image.to_rgb8());
        let limits = DecodeLimits { memory: 170_000, ..DecodeLimits::default() };
        for (image, format) in
            [(&rgb, ImageFormat::Png), (&image, ImageFormat::Png), (&rgb, ImageFormat::Tiff)]
        {
            let bytes = file(image, format);
            let whole = decode_with_notes(&bytes, &DecodeLimits::default()).unwrap();
            let reduced = decode_with_notes(&bytes, &limits).unwrap();
            assert_eq!((whole.reduced_by, reduced.reduced_by), (1, 2), "{format:?}");
            assert_eq!((reduced.picture.width(), reduced.picture.height()), (150, 100));
            let mean = |x: usize, y: usize, channel: usize| {
                let at = |x: usize, y: usize| f64::from(whole.picture.pixels()[(y * 300 + x) * 3 + channel]);
                (at(x, y) + at(x + 1, y) + at(x, y + 1) + at(x + 1, y + 1)) / 4.0
            };
            for (index, &value) in reduced.picture.pixels().iter().enumerate() {
                let (x, y) = (index / 3 % 150 * 2, index / 450 * 2);
                assert!((f64::from(value) - mean(x, y, index % 3)).abs() <= 0.5);
            }
        }
        for format in [ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Gif] {
            let error = decode(&file(&image, format), &limits).unwrap_err();
            assert!(
                matches!(error, DecodeError::Memory { width: 300, height: 200, limit: 170_000, .. }),
                "{error}"
            );
        }
        // However small the memory, something comes or a limit is named.
        for memory in [0, 1, 10, 1000, 10_000] {
            let limits = DecodeLimits { memory, ..DecodeLimits::default() };
            let _ = decode(&file(&rgb, ImageFormat::Png), &limits);
            let _ = decode(&file(&rgb, ImageFormat::Tiff), &limits);
        }
    }

    #[test]
    fn a_panic_of_a_decoder_is_an_error_and_prints_nothing() {
        // The hook of the test harness would print; ours does not reach it.
        assert_eq!(guarded(|| -> u8 { panic!("as a decoder might") }), None);
        assert_eq!(guarded(|| guarded(|| -> u8 { panic!("within another") }).unwrap_or(7)), Some(7));
        assert_eq!(guarded(|| 8), Some(8));
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
        assert!(
            message(b"\0\0\0\x20ftypheic")
                .contains("an HEIC image, which is not read: save it as JPEG or PNG")
        );
    }

    #[test]
    fn truncated_and_flipped_files_never_panic() {
        for format in
            [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP]
        {
            let whole = file(&small(), format);
            for end in 0..whole.len() {
                let cut = decode(&whole[..end], &DecodeLimits::default());
                // All but a PNG without its last chunk, a BMP without padding, a WebP with its tail: nothing is missing there.
                assert!(
                    end * 10 > whole.len() * 8 || cut.is_err(),
                    "{format:?} cut at {end} of {}",
                    whole.len()
                );
            }
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let _ = decode(&bytes, &DecodeLimits::default());
            }
        }
    }
}
