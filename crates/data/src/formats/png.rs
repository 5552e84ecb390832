//! PNG files, row by row, so that a large one is made smaller while it is read. Palettes, and samples of fewer than
//! 8 bits, are unpacked here, those of a byte at once.

use std::io::Cursor;

use image::metadata::Orientation;
use png::{BitDepth, ColorType, Decoder, DecodingError, Info, Limits, Transformations};

use super::decoded::{DecodeError, DecodeLimits, Decoded, is_turned};
use super::raster::{Depth, Row, Rows, bits_of_words, cost};

const FORMAT: &str = "PNG";

fn damaged(error: &DecodingError) -> DecodeError {
    let reason = match error {
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "it ends early; get a complete copy".to_owned()
        }
        other => other.to_string(),
    };
    DecodeError::damaged(FORMAT, reason)
}

pub(crate) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    let memory = usize::try_from(limits.memory).unwrap_or(usize::MAX);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: memory });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let info = decoder.read_header_info().map_err(|error| damaged(&error))?;
    let (width, height) = info.size();
    limits.check_side(width, height)?;
    // A byte of the file stands for whole pixels: a table says for which.
    let packed = !info.interlaced
        && match info.bit_depth {
            BitDepth::Sixteen => false,
            BitDepth::Eight => matches!(info.color_type, ColorType::Indexed | ColorType::Grayscale),
            _ => true,
        };
    if !packed {
        // To 8 or 16 bits, to RGB from a palette, and to an opacity from a transparent colour.
        decoder.set_transformations(Transformations::EXPAND);
    }
    let mut reader = decoder.read_info().map_err(|error| damaged(&error))?;
    let info = reader.info();
    let orientation = info.exif_metadata.as_deref().and_then(Orientation::from_exif_chunk);
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    // Of several channels the one with the most bits.
    let said = info.sbit.as_ref().and_then(|bits| bits.iter().copied().max());
    let interlaced = info.interlaced;
    let plain =
        info.bit_depth == BitDepth::Eight && info.color_type == ColorType::Grayscale && info.trns.is_none();
    let mut unpacking = if packed && !plain { Some(Unpacking::new(info)?) } else { None };
    let (color, bits) = reader.output_color_type();
    let channels = unpacking.as_ref().map_or(color.samples(), |unpacking| unpacking.channels);
    if !packed && (color == ColorType::Indexed || !matches!(bits, BitDepth::Eight | BitDepth::Sixteen)) {
        return Err(DecodeError::damaged(FORMAT, format!("samples of {bits:?} bits that were not expanded")));
    }
    let depth = if bits == BitDepth::Sixteen { Depth::Words } else { Depth::Bytes };
    let turned = is_turned(orientation);
    // Of a palette, and of few bits, a byte a pixel at most is decompressed; weighting colours by their opacity takes as long
    // as two more.
    let weighted = if channels == 4 { 3 } else { 1 };
    let line = if packed { Some(width as usize * weighted) } else { reader.output_line_size(width) };
    limits.check_work(width, height, line.map_or(u64::MAX, |line| line as u64))?;
    let (columns, lines) = (width as usize, height as usize);
    let mut rows = Rows::new(columns, lines, channels, depth, turned, limits.memory);
    let mut words = Vec::new();
    let mut push = |rows: &mut Rows, line: &[u8]| match depth {
        Depth::Words => {
            words.clear();
            words.extend(line.chunks_exact(2).map(|word| u16::from_be_bytes([word[0], word[1]])));
            rows.push(Row::Words(&words));
        }
        _ => rows.push(Row::Bytes(line)),
    };
    if interlaced {
        // Its rows come in no order: the whole picture is needed at once, beside what becomes of it.
        let needed = cost(width.into(), height.into(), channels as u64, depth, turned);
        let whole = reader.output_buffer_size().unwrap_or(usize::MAX);
        limits.check_memory(width, height, needed.saturating_add(whole as u64))?;
        let mut frame = vec![0; whole];
        reader.next_frame(&mut frame).map_err(|error| damaged(&error))?;
        frame.chunks_exact(whole / lines).for_each(|line| push(&mut rows, line));
    } else {
        while let Some(row) = reader.next_row().map_err(|error| damaged(&error))? {
            match &mut unpacking {
                Some(unpacking) => rows.push(Row::Bytes(unpacking.row(row.data(), columns))),
                None => push(&mut rows, row.data()),
            }
        }
    }
    let reduced_by = rows.factor();
    let Some((raster, largest)) = rows.finish() else {
        return Err(DecodeError::damaged(FORMAT, "rows are missing; get a complete copy".to_owned()));
    };
    let bits = if depth == Depth::Words { bits_of_words(largest, said) } else { 16 };
    let picture =
        raster.picture(bits, orientation).map_err(|error| DecodeError::damaged(FORMAT, error.to_string()))?;
    Ok(Decoded { picture, bits: (bits < 16).then_some(bits), reduced_by })
}

/// Bytes that a byte of the file becomes at most: eight pixels of colours and opacity.
const WIDEST: usize = 32;

/// Bytes of a pixel at most.
const PIXEL: usize = 4;

/// Samples of 1, 2, 4 or 8 bits.
struct Unpacking {
    /// Of a pixel.
    channels: usize,
    /// Bytes that a byte of the file becomes.
    width: usize,
    /// What each byte of the file becomes.
    bytes: Vec<[u8; WIDEST]>,
    row: Vec<u8>,
}

impl Unpacking {
    fn new(info: &Info) -> Result<Self, DecodeError> {
        let bits = info.bit_depth as usize;
        let most = (1 << bits) - 1;
        let clear = info.trns.as_deref();
        let (channels, pixel): (usize, Box<dyn Fn(usize) -> [u8; PIXEL]>) = if info.color_type
            == ColorType::Indexed
        {
            let Some(palette) = info.palette.as_deref() else {
                return Err(DecodeError::damaged(FORMAT, "its palette is missing; get a complete copy"));
            };
            // More opacities than colours are none, and an index beyond the palette is black.
            let opacities = clear.filter(|clear| clear.len() <= palette.len() / 3).unwrap_or_default();
            let channels = if clear.is_some() { 4 } else { 3 };
            let entry = move |index: usize| {
                let [red, green, blue] = palette.as_chunks::<3>().0.get(index).copied().unwrap_or_default();
                [red, green, blue, opacities.get(index).copied().unwrap_or(255)]
            };
            (channels, Box::new(entry))
        } else {
            let clear = clear.and_then(|clear| clear.first()).map(|&value| usize::from(value));
            let entry = move |value: usize| {
                [(value * 255 / most) as u8, if clear == Some(value) { 0 } else { 255 }, 0, 0]
            };
            (if clear.is_some() { 2 } else { 1 }, Box::new(entry))
        };
        let unpacked = |byte: usize| {
            let mut out = [0; WIDEST];
            for (at, out) in out.chunks_exact_mut(channels).take(8 / bits).enumerate() {
                out.copy_from_slice(&pixel(byte >> (8 - bits - at * bits) & most)[..channels]);
            }
            out
        };
        let bytes = (0..256).map(unpacked).collect();
        Ok(Self { channels, width: 8 / bits * channels, bytes, row: Vec::new() })
    }

    /// A row of so many pixels.
    fn row(&mut self, packed: &[u8], columns: usize) -> &[u8] {
        // As many bytes as there may be are copied at once; those that are too many are written over.
        self.row.resize(packed.len() * self.width + WIDEST, 0);
        if self.width <= PIXEL {
            for (at, &byte) in packed.iter().enumerate() {
                let bytes = &self.bytes[usize::from(byte)][..PIXEL];
                self.row[at * self.width..][..PIXEL].copy_from_slice(bytes);
            }
        } else {
            for (at, &byte) in packed.iter().enumerate() {
                self.row[at * self.width..][..WIDEST].copy_from_slice(&self.bytes[usize::from(byte)]);
            }
        }
        &self.row[..columns * self.channels]
    }
}
