//! JPEG files: checked to their end, then decoded; large ones from the means of their blocks.

use std::borrow::Cow;

use image::metadata::Orientation;
use model::{Picture, jpeg};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::decoded::{DecodeError, DecodeLimits, Decoded, is_turned};
use super::raster::upright;

const FORMAT: &str = "JPEG";

fn damaged(reason: impl ToString) -> DecodeError {
    DecodeError::damaged(FORMAT, reason.to_string())
}

fn options() -> DecoderOptions {
    // Sides are checked here, with an error that names them.
    DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX)
}

pub(crate) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    let header = jpeg::header(bytes).map_err(damaged)?;
    let (width, height) = (header.width as u32, header.height as u32);
    limits.check_side(width, height)?;
    // The walk remembers eight bytes for a block of a progressive file.
    let walk = if header.progressive { header.coefficients as u64 / 8 } else { 0 };
    limits.check_memory(width, height, walk)?;
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options());
    decoder.decode_headers().map_err(damaged)?;
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    let channels = if header.components == 1 { 1 } else { 3 };
    let turned = is_turned(orientation);
    let pixels = header.width as u64 * header.height as u64 * channels;
    let coefficients = if header.progressive { 2 * header.coefficients as u64 } else { 0 };
    let needed = (pixels + coefficients).max(if turned { 2 * pixels } else { 0 });
    let (picture, reduced_by) = if needed <= limits.memory {
        let file = jpeg::check(bytes).map_err(damaged)?;
        if let Cow::Owned(copy) = &file {
            limits.check_memory(width, height, needed + copy.len() as u64)?;
            decoder = JpegDecoder::new_with_options(ZCursor::new(copy), options());
            decoder.decode_headers().map_err(damaged)?;
        }
        (whole(decoder, header.width, header.height, channels as usize)?, 1)
    } else {
        drop(decoder);
        // Two bytes for the mean of a block, and what becomes of it.
        limits.check_memory(width, height, walk + header.coefficients as u64 / 32 + pixels / 32)?;
        if header.components == 4 {
            limits.check_memory(width, height, needed)?;
        }
        (jpeg::eighth(bytes).map_err(damaged)?, 8)
    };
    let picture = upright(picture, orientation).map_err(damaged)?;
    Ok(Decoded { picture, bits: None, reduced_by })
}

/// All pixels of a file whose headers are read.
fn whole(
    mut decoder: JpegDecoder<ZCursor<&[u8]>>,
    width: usize,
    height: usize,
    channels: usize,
) -> Result<Picture, DecodeError> {
    let color = if channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options().jpeg_set_out_colorspace(color));
    let mut pixels = vec![0; width * height * channels];
    if decoder.output_buffer_size() != Some(pixels.len()) {
        return Err(damaged(format!(
            "{:?} bytes decoded; expected {}",
            decoder.output_buffer_size(),
            pixels.len()
        )));
    }
    decoder.decode_into(&mut pixels).map_err(damaged)?;
    Picture::new(width, height, channels, pixels).map_err(damaged)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb};

    use super::*;

    const FILES: [&str; 8] = [
        "baseline-420",
        "baseline-422",
        "progressive-420",
        "progressive-444",
        "progressive-grey",
        "restart-420",
        "restart-progressive",
        "cmyk",
    ];

    fn golden(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/decode");
        std::fs::read(folder.join(name)).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Picture, String> {
        crate::decode(bytes, &DecodeLimits::default()).map_err(|error| error.to_string())
    }

    fn encoded(image: &DynamicImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    /// Colour and grey, with enough in them that every byte counts.
    pub(crate) fn own() -> Vec<Vec<u8>> {
        let value = |x: u32, y: u32, c: u32| (x * 37 + y * 91 + c * 53 + x * y * 11) as u8;
        let color = ImageBuffer::from_fn(40, 30, |x, y| Rgb([0, 1, 2].map(|c| value(x, y, c))));
        let grey = ImageBuffer::from_fn(40, 30, |x, y| Luma([value(x, y, 0)]));
        vec![encoded(&DynamicImage::ImageRgb8(color)), encoded(&DynamicImage::ImageLuma8(grey))]
    }

    fn all() -> Vec<Vec<u8>> {
        let files = FILES.map(|name| golden(&format!("{name}.jpg")));
        files.into_iter().chain(own()).collect()
    }

    #[test]
    fn every_kind_is_read_as_by_pillow() {
        for name in FILES {
            let found = read(&golden(&format!("{name}.jpg"))).unwrap();
            let expected = read(&golden(&format!("{name}.png"))).unwrap();
            assert_eq!((found.width(), found.channels()), (expected.width(), expected.channels()), "{name}");
            let difference = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b));
            let sum: u64 = found.pixels().iter().zip(expected.pixels()).map(difference).sum();
            assert!(sum < 3 * found.pixels().len() as u64, "{name}: {sum}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_whatever_fills_it_up() {
        for (number, whole) in all().iter().enumerate() {
            assert!(read(whole).is_ok(), "{number}");
            for end in 3..whole.len() {
                let cut = &whole[..end];
                let zeros = [cut, &vec![0; whole.len() - end + 40]].concat();
                let ones = [cut, &vec![0xFF; whole.len() - end]].concat();
                for bytes in [cut, &zeros, &ones] {
                    assert!(read(bytes).is_err(), "{number} cut at {end} of {}", whole.len());
                }
            }
        }
    }

    #[test]
    fn the_tail_of_another_file_does_not_make_a_file_whole() {
        for (a, b) in [("baseline-420", "baseline-422"), ("restart-420", "baseline-420")] {
            let [a, b] = [a, b].map(|name| golden(&format!("{name}.jpg")));
            for end in (a.len() * 6 / 10..a.len() * 9 / 10).step_by(7) {
                let spliced = [&a[..end], &b[b.len() - (a.len() - end)..]].concat();
                assert!(read(&spliced).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn what_follows_the_end_is_not_looked_at() {
        for whole in all() {
            let expected = read(&whole).unwrap();
            for tail in
                [&b"\0\0\0\0"[..], b"a camera's trailer", &[0xFF; 9], &[0; 5000], &whole, &whole[..50]]
            {
                assert_eq!(read(&[&whole, tail].concat()).as_ref(), Ok(&expected));
            }
        }
    }

    #[test]
    fn faults_say_how_much_there_is() {
        let whole = &own()[1];
        assert!(
            read(&whole[..whole.len() / 2 + 100])
                .unwrap_err()
                .contains("of 20 blocks of 8x8 pixels are there")
        );
        assert!(read(&whole[..30]).unwrap_err().contains("before its pixels begin"));
        assert!(read(&whole[..whole.len() - 2]).unwrap_err().contains("mark of the end"));
        let mut arithmetic = golden("baseline-420.jpg");
        let frame = arithmetic.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        arithmetic[frame + 1] = 0xC9;
        assert!(read(&arithmetic).unwrap_err().contains("arithmetic coding"));
    }

    /// Without the Huffman tables before the first scan, as cameras on USB send it; only the first of them is left where
    /// `keep` says so.
    pub(crate) fn without_tables(whole: &[u8], keep: bool) -> Vec<u8> {
        let (mut bytes, mut at, mut tables) = (whole[..2].to_vec(), 2, 0);
        loop {
            let (marker, length) = (whole[at + 1], u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
            let end = at + 2 + usize::from(length);
            tables += usize::from(marker == 0xC4);
            if marker != 0xC4 || keep && tables == 1 {
                bytes.extend(&whole[at..end]);
            }
            at = end;
            if marker == 0xDA {
                assert!(tables > 0);
                return [&bytes, &whole[at..]].concat();
            }
        }
    }

    #[test]
    fn a_frame_of_motion_jpeg_has_the_standard_tables() {
        let limits = DecodeLimits { memory: 1 << 10, ..DecodeLimits::default() };
        for whole in own() {
            let frame = without_tables(&whole, false);
            let mark = b"\xFF\xE0\0\x10AVI1\0\0\0\0\0\0\0\0\0\0";
            let marked = [&frame[..2], mark, &frame[2..]].concat();
            let reduced = crate::decode_with_notes(&whole, &limits).unwrap();
            assert_eq!(reduced.reduced_by, 8);
            for frame in [frame, marked] {
                assert_eq!(read(&frame), read(&whole));
                assert_eq!(crate::decode_with_notes(&frame, &limits).unwrap(), reduced);
                for end in 3..frame.len() {
                    assert!(read(&frame[..end]).is_err(), "cut at {end} of {}", frame.len());
                }
            }
            // The standard ones do not make up for a table that was lost.
            assert!(read(&without_tables(&whole, true)).unwrap_err().contains("a Huffman table is missing"));
        }
        let progressive = without_tables(&golden("progressive-420.jpg"), false);
        assert!(read(&progressive).unwrap_err().contains("a Huffman table is missing"));
    }

    #[test]
    fn scans_without_end_are_no_work() {
        let whole = golden("progressive-grey.jpg");
        let scan = whole.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
        let next =
            scan + 2 + whole[scan + 2..].windows(2).position(|pair| pair[0] == 0xFF && pair[1] != 0).unwrap();
        let many = [&whole[..scan], &whole[scan..next].repeat(100), &whole[next..]].concat();
        assert!(read(&many).unwrap_err().contains("more scans than any encoder writes"));
    }

    #[test]
    fn what_is_too_large_is_read_from_the_means_of_its_blocks() {
        for name in FILES {
            let bytes = golden(&format!("{name}.jpg"));
            let whole = read(&bytes).unwrap();
            let limits = DecodeLimits { memory: 4 << 10, ..DecodeLimits::default() };
            let reduced = crate::decode_with_notes(&bytes, &limits);
            if name == "cmyk" {
                assert!(matches!(reduced, Err(DecodeError::Memory { width: 51, height: 37, .. })));
                continue;
            }
            let reduced = reduced.unwrap();
            assert_eq!(
                (reduced.reduced_by, reduced.picture.width(), reduced.picture.height()),
                (8, 7, 5),
                "{name}"
            );
            // Chroma of 4:2:0 has one mean for 16x16 pixels, so of colours only the luma is that of the block.
            let luma = |picture: Picture| {
                if name.ends_with("444") { picture } else { picture.with_channels(1).unwrap() }
            };
            let (whole, reduced) = (luma(whole), luma(reduced.picture));
            let channels = whole.channels();
            // Blocks that lie within the picture.
            for (block, channel) in
                (0..6 * 4).flat_map(|block| (0..channels).map(move |channel| (block, channel)))
            {
                let (left, top) = (block % 6 * 8, block / 6 * 8);
                let samples = (0..64).map(|at| {
                    let (x, y) = (left + at % 8, top + at / 8);
                    f64::from(whole.pixels()[(y * 51 + x) * channels + channel])
                });
                let mean = samples.sum::<f64>() / 64.0;
                let found = f64::from(reduced.pixels()[(top / 8 * 7 + left / 8) * channels + channel]);
                assert!((mean - found).abs() <= 4.0, "{name}, block {block}: {found} for {mean}");
            }
        }
    }
}
