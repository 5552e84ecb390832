//! PNG files, row by row, so that a large one is made smaller while it is read.

use std::io::Cursor;

use image::metadata::Orientation;
use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};

use crate::decode::{DecodeError, DecodeLimits, Decoded};
use crate::raster::{Depth, Row, Rows, bits_of_words, cost};

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
    // To 8 or 16 bits, to RGB from a palette, and to an opacity from a transparent colour.
    decoder.set_transformations(Transformations::EXPAND);
    let info = decoder.read_header_info().map_err(|error| damaged(&error))?;
    let (width, height) = info.size();
    limits.check_side(width, height)?;
    let mut reader = decoder.read_info().map_err(|error| damaged(&error))?;
    let info = reader.info();
    let orientation = info.exif_metadata.as_deref().and_then(Orientation::from_exif_chunk);
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    // Of several channels the one with the most bits.
    let said = info.sbit.as_ref().and_then(|bits| bits.iter().copied().max());
    let interlaced = info.interlaced;
    let (color, bits) = reader.output_color_type();
    let channels = color.samples();
    if color == ColorType::Indexed || !matches!(bits, BitDepth::Eight | BitDepth::Sixteen) {
        return Err(DecodeError::damaged(FORMAT, format!("samples of {bits:?} bits that were not expanded")));
    }
    let depth = if bits == BitDepth::Sixteen { Depth::Words } else { Depth::Bytes };
    let turned = crate::decode::is_turned(orientation);
    limits.check_work(width, height, reader.output_line_size(width).map_or(u64::MAX, |line| line as u64))?;
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
            push(&mut rows, row.data());
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
