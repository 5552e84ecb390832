//! TIFF files (TIFF 6.0, its supplements, and `BigTIFF`), as scanners, microscopes and cameras write them.
//!
//! The decoder of `image` 0.25 panics on tiles in planes, holds a picture several times, and refuses palettes, fax
//! codes of Group 3, JPEG in `YCbCr` and numbers of 32 bits. Here a file is read row by row through the crates that
//! decompress, and nothing is reserved that the file or the limits do not hold.

mod chunks;
mod directory;
mod layout;
mod line;
mod tag;

use std::cell::Cell;
use std::io::Read;

use chunks::Chunks;
use directory::{Directory, ENDS, Fault};
use layout::{Color, Layout, Opacity};
use line::Line;

use super::decoded::{DecodeError, DecodeLimits, Decoded, Probe, is_turned};
use super::raster::{Depth, Row, Rows, bits_of_words};

/// What the header says.
pub(crate) fn probe(bytes: &[u8], limits: &DecodeLimits) -> Result<Probe, DecodeError> {
    let directory = Directory::read(bytes)?;
    let layout = Layout::read(&directory, limits)?;
    let color = layout.color.channels() > 1;
    let (width, height) = (layout.width, layout.height);
    Ok(if is_turned(layout.orientation) {
        Probe { width: height, height: width, color }
    } else {
        Probe { width, height, color }
    })
}

/// Decodes the first page.
pub(crate) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    Ok(decode_first(bytes, limits)?)
}

fn decode_first(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, Fault> {
    let directory = Directory::read(bytes)?;
    let layout = Layout::read(&directory, limits)?;
    let (width, height) = (layout.width, layout.height);
    let depth = layout.depth();
    let channels = layout.color.channels() + usize::from(layout.opacity != Opacity::None);
    // Whole chunks are decompressed, whatever of them is in the picture.
    let planes = if layout.planar { layout.samples } else { 1 };
    let line = layout.row_len() * width.div_ceil(layout.chunk[0]) * planes;
    limits.check_work(width as u32, height as u32, line as u64)?;
    let chunks = Chunks { directory: &directory, layout: &layout, limits, work: Cell::new(0) };
    limits.check_memory(width as u32, height as u32, chunks.held())?;
    let memory = limits.memory - chunks.held();
    let mut rows = Rows::new(width, height, channels, depth, is_turned(layout.orientation), memory);
    let palette = palette(&directory, &layout)?;
    let across = width.div_ceil(layout.chunk[0]);
    let sources_of_row = across * planes;
    let plain = matches!(layout.color, Color::Grey { inverted: false } | Color::Rgb | Color::YCbCr);
    let as_stored = depth == Depth::Bytes
        && (layout.bits, sources_of_row) == (8, 1)
        && plain
        && (layout.color != Color::YCbCr || layout.compression == 7)
        && layout.samples == layout.color.samples()
        && layout.chunk[0] == width;
    let mut coded = vec![0; layout.row_len()];
    let mut line = vec![0.0; width * layout.samples];
    let mut out = Line::new(depth);
    for band in 0..height.div_ceil(layout.chunk[1]) {
        let mut sources = Vec::with_capacity(across * planes);
        for plane in 0..planes {
            for column in 0..across {
                sources.push(chunks.open(plane, band, column)?);
            }
        }
        let band_rows = layout.chunk[1].min(height - band * layout.chunk[1]);
        for _ in 0..band_rows {
            for (at, source) in sources.iter_mut().enumerate() {
                source.read_exact(&mut coded).map_err(|error| match error.kind() {
                    std::io::ErrorKind::UnexpectedEof => Fault::from(ENDS),
                    _ => error.to_string().into(),
                })?;
                layout.unpredict(&mut coded, directory.little_endian);
                if as_stored {
                    break;
                }
                let (plane, column) = (at / across, at % across);
                let first = column * layout.chunk[0];
                let columns = layout.chunk[0].min(width - first);
                let samples = layout.chunk_samples();
                for index in 0..columns * samples {
                    let value = layout.sample(&coded, index, directory.little_endian);
                    let place = (first + index / samples) * layout.samples + plane + index % samples;
                    line[place] = value;
                }
            }
            if as_stored {
                rows.push(Row::Bytes(&coded));
            } else {
                out.fill(&line, &layout, &palette);
                rows.push(out.row());
            }
        }
        // A checksum comes after the last row of a strip.
        if matches!(layout.compression, 8 | 32946) && (layout.tiled || band_rows == layout.chunk[1]) {
            for source in &mut sources {
                let _beyond = source.read(&mut [0]).map_err(|error| error.to_string())?;
            }
        }
    }
    let reduced_by = rows.factor();
    let (raster, largest) = rows.finish().ok_or(ENDS)?;
    let said = directory.value(tag::LARGEST_SAMPLE, 0).filter(|&largest| largest > 0);
    let said = said.map(|largest| (64 - largest.leading_zeros()) as u8);
    let exact =
        layout.bits < 16 || layout.color != (Color::Grey { inverted: false }) && layout.color != Color::Rgb;
    let bits = if depth == Depth::Words && !exact { bits_of_words(largest, said) } else { 16 };
    let picture = raster.picture(bits, layout.orientation).map_err(|error| error.to_string())?;
    Ok(Decoded { picture, bits: (bits < 16).then_some(bits), reduced_by })
}

/// Red, green and blue of each index, of 8 bits.
fn palette(directory: &Directory, layout: &Layout) -> Result<Vec<[u8; 3]>, Fault> {
    if layout.color != Color::Palette {
        return Ok(Vec::new());
    }
    let len = 1 << layout.bits;
    if directory.count(tag::COLOR_MAP) < 3 * len {
        return Err("its palette is missing or too short".into());
    }
    let entry = |index: usize| directory.value(tag::COLOR_MAP, index).unwrap_or(0) as u16;
    // Some programs write 8 bits where 16 are meant (as libtiff knows).
    let narrow = (0..3 * len).all(|index| entry(index) < 256);
    let byte = |index: usize| if narrow { entry(index) as u8 } else { (entry(index) >> 8) as u8 };
    Ok((0..len).map(|index| [byte(index), byte(len + index), byte(2 * len + index)]).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A little-endian directory of one entry.
    fn file(tag: u16, kind: u16, count: u32, place: u32) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0\x01\0".to_vec();
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(place.to_le_bytes());
        bytes.extend([0; 100]);
        bytes
    }

    /// Grey, without compression, in one strip, with more entries.
    fn plain(width: u32, height: u32, bits: u32, pixels: &[u8], more: &[(u16, u32)]) -> Vec<u8> {
        let mut entries = vec![(256, width), (257, height), (258, bits), (262, 1), (273, 8)];
        entries.retain(|(tag, _)| more.iter().all(|(other, _)| other != tag));
        entries.extend(more);
        let mut bytes = b"II*\0".to_vec();
        bytes.extend((8 + pixels.len() as u32).to_le_bytes());
        bytes.extend(pixels);
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, value) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend([4, 0, 1, 0, 0, 0]);
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend([0; 4]);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Decoded, String> {
        crate::decode_with_notes(bytes, &DecodeLimits::default()).map_err(|error| error.to_string())
    }

    fn pixels(bytes: &[u8]) -> Vec<u8> {
        read(bytes).unwrap().picture.pixels().to_vec()
    }

    #[test]
    fn what_scanners_and_microscopes_write_is_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/decode");
        let mut compared = 0;
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "tif") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let found = read(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let expected = std::fs::read(path.with_extension("png")).unwrap();
            let expected = read(&expected).unwrap().picture;
            let name = path.file_name().unwrap().to_str().unwrap();
            let found = found.picture.with_channels(expected.channels()).unwrap();
            assert_eq!((found.width(), found.height()), (expected.width(), expected.height()), "{name}");
            let differences =
                || found.pixels().iter().zip(expected.pixels()).map(|(a, b)| u64::from(a.abs_diff(*b)));
            if name == "ycbcr-jpeg.tif" {
                // Programs enlarge the chroma differently.
                assert!(differences().sum::<u64>() < 3 * found.pixels().len() as u64, "{name}");
            } else {
                // Half precision is rounded.
                assert!(
                    differences().all(|difference| difference <= u64::from(name == "half.tif")),
                    "{name}"
                );
            }
            // Cut anywhere, and with any bit changed, it is read or refused.
            for end in (0..bytes.len()).step_by(31) {
                let _ = read(&bytes[..end]);
            }
            for bit in (0..bytes.len() * 8).step_by(101) {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let _ = read(&bytes);
            }
            compared += 1;
        }
        assert_eq!(compared, 16);
    }

    #[test]
    fn numbers_of_any_size_become_bytes() {
        assert_eq!(pixels(&plain(2, 1, 8, &[0, 200], &[])), [0, 200]);
        assert_eq!(pixels(&plain(2, 1, 8, &[0, 200], &[(262, 0)])), [255, 55]);
        assert_eq!(pixels(&plain(3, 1, 4, &[0x0F, 0x80], &[])), [0, 255, 136]);
        assert_eq!(pixels(&plain(4, 1, 2, &[0b0001_1011], &[])), [0, 85, 170, 255]);
        assert_eq!(pixels(&plain(2, 1, 12, &[0x00, 0x0F, 0xFF], &[])), [0, 255]);
        assert_eq!(pixels(&plain(2, 1, 1, &[0b0100_0000], &[(266, 1)])), [0, 255]);
        assert_eq!(pixels(&plain(2, 1, 1, &[0b0000_0010], &[(266, 2)])), [0, 255]);
        let words = |values: [u32; 3]| values.map(u32::to_le_bytes).concat();
        assert_eq!(pixels(&plain(3, 1, 32, &words([0, 100, 255]), &[])), [0, 100, 255]);
        assert_eq!(pixels(&plain(3, 1, 32, &words([0, 35000, 70000]), &[])), [0, 128, 255]);
        let signed = [-50i32, 0, 50].map(i32::cast_unsigned);
        assert_eq!(pixels(&plain(3, 1, 32, &words(signed), &[(339, 2)])), [0, 128, 255]);
        let floats = |values: [f32; 3]| values.map(f32::to_bits);
        assert_eq!(pixels(&plain(3, 1, 32, &words(floats([0.0, 0.5, 1.0])), &[(339, 3)])), [0, 128, 255]);
        assert_eq!(pixels(&plain(3, 1, 32, &words(floats([f32::NAN, 0.2, 0.4])), &[(339, 3)])), [0, 51, 102]);
        assert_eq!(pixels(&plain(3, 1, 32, &words(floats([0.0, 9.0, 255.0])), &[(339, 3)])), [0, 9, 255]);
    }

    #[test]
    fn a_jpeg_without_tables_has_the_standard_ones() {
        let whole = crate::formats::jpeg::tests::own().remove(1);
        let frame = crate::formats::jpeg::tests::without_tables(&whole, false);
        let strip = |bytes: &[u8]| plain(40, 30, 8, bytes, &[(259, 7), (279, bytes.len() as u32)]);
        assert_eq!(pixels(&strip(&frame)), pixels(&strip(&whole)));
        assert!(read(&strip(&frame[..frame.len() / 2])).is_err());
    }

    #[test]
    fn the_largest_sample_a_file_names_decides_on_its_bits() {
        let dark = [0u16, 800].map(u16::to_le_bytes).concat();
        let bits = |more: &[(u16, u32)]| read(&plain(2, 1, 16, &dark, more)).unwrap().bits;
        assert_eq!(bits(&[]), Some(10));
        assert_eq!(bits(&[(281, 4095)]), Some(12));
        assert_eq!(bits(&[(281, 65535)]), None);
        assert_eq!(bits(&[(281, 255)]), None, "it is wrong");
    }

    #[test]
    fn what_is_not_read_is_named_with_what_to_do() {
        let refused = |more: &[(u16, u32)], words: &str| {
            let error = read(&plain(2, 1, 8, &[0, 200], more)).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        refused(&[(50706, 1)], "a DNG raw photo, which is not read: develop it");
        refused(&[(262, 32803)], "raw photo");
        refused(&[(254, 1), (330, 8)], "raw photo");
        refused(&[(262, 8)], "save it with RGB colours");
        refused(&[(259, 50000)], "Zstandard (number 50000); save it with LZW or Deflate");
        refused(&[(259, 6)], "JPEG of the old kind");
        refused(&[(257, 2), (279, 2)], "it ends early");
        refused(&[(257, 0)], "2x0 pixels");
        refused(&[(322, 1 << 30), (323, 16), (324, 8)], "tiles or strips of");
        refused(&[(258, 8), (277, 99)], "99 samples");
    }

    #[test]
    fn a_claim_beyond_the_file_is_refused() {
        let fault = |bytes: &[u8]| match Directory::read(bytes) {
            Err(Fault::Reason(reason)) => reason,
            _ => String::new(),
        };
        assert_eq!(
            fault(&file(273, 4, 26, 22)),
            "tag 273 claims 26 values at byte 22 of a file of 122 bytes"
        );
        // One value lies in the entry itself, whatever its bytes would mean as a place.
        assert_eq!(fault(&file(256, 4, 1, u32::MAX)), "");
        assert_eq!(fault(&file(273, 4, 10, 22)[..15]), ENDS);
        let mut big = b"MM\0+\0\x08\0\0".to_vec();
        big.extend(16_u64.to_be_bytes());
        big.extend(1_u64.to_be_bytes());
        big.extend(273_u16.to_be_bytes());
        big.extend(16_u16.to_be_bytes());
        big.extend(6_u64.to_be_bytes());
        big.extend(44_u64.to_be_bytes());
        big.extend([0; 47]);
        let length = big.len();
        assert_eq!(fault(&big), format!("tag 273 claims 6 values at byte 44 of a file of {length} bytes"));
    }
}
