//! Strips and tiles, decompressed row by row.

use std::cell::Cell;
use std::io::Read;

use flate2::read::ZlibDecoder;
use weezl::{BitOrder, LzwStatus};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::directory::{Directory, ENDS, Fault};
use super::layout::{Color, Layout};
use super::tag;
use crate::formats::decoded::DecodeLimits;
use crate::formats::fax::{self, Coding};

/// Strips or tiles.
pub(super) struct Chunks<'a> {
    pub(super) directory: &'a Directory<'a>,
    pub(super) layout: &'a Layout,
    pub(super) limits: &'a DecodeLimits,
    /// Bytes that JPEG chunks have cost so far: each may be higher than its chunk, and repeats the tables.
    pub(super) work: Cell<u64>,
}

impl<'a> Chunks<'a> {
    /// Bytes that are held for chunks at once, beside the rows.
    pub(super) fn held(&self) -> u64 {
        let Layout { width, chunk, planar, samples, compression, .. } = *self.layout;
        let across = width.div_ceil(chunk[0]) as u64;
        let area = (chunk[0] * chunk[1]) as u64 * across;
        match compression {
            // Packed bits, and the bits of the row above.
            2..=4 => area / 8,
            7 => area * samples as u64,
            // Windows of decompression.
            _ => across * (if planar { samples as u64 } else { 1 }) * (64 << 10),
        }
    }

    /// The rows of a chunk, one after the other.
    pub(super) fn open(&self, plane: usize, band: usize, column: usize) -> Result<Box<dyn Read + 'a>, Fault> {
        let Layout { width, height, chunk, compression, .. } = *self.layout;
        let (across, down) = (width.div_ceil(chunk[0]), height.div_ceil(chunk[1]));
        let index = (plane * down + band) * across + column;
        let bytes = self.bytes(index)?;
        let rows = if self.layout.tiled { chunk[1] } else { chunk[1].min(height - band * chunk[1]) };
        let reversed = self.directory.first(tag::FILL_ORDER, 1) == 2;
        let reversed = reversed && (compression <= 4 || compression == 32773);
        let fax = |coding: Coding| {
            let strip = bytes.iter().map(|&byte| if reversed { byte.reverse_bits() } else { byte });
            let packed = fax::decode(strip, coding, chunk[0], rows);
            packed.ok_or_else(|| Fault::from("its fax codes end early or mean nothing; get a complete copy"))
        };
        Ok(match compression {
            1 if reversed => Box::new(Reversed(bytes)),
            1 => Box::new(bytes),
            2 => Box::new(std::io::Cursor::new(fax(Coding::Runs)?)),
            3 => {
                let two_dimensional = self.directory.first(tag::GROUP3_OPTIONS, 0) & 1 == 1;
                Box::new(std::io::Cursor::new(fax(Coding::Group3 { two_dimensional })?))
            }
            4 => Box::new(std::io::Cursor::new(fax(Coding::Group4)?)),
            5 => Box::new(Lzw::new(bytes)),
            7 => Box::new(std::io::Cursor::new(self.jpeg(bytes, rows)?)),
            8 | 32946 => Box::new(ZlibDecoder::new(bytes)),
            32773 if reversed => {
                return Err("packed bits in reversed order; save it with the bits in the usual order".into());
            }
            32773 => Box::new(PackBits { bytes, literal: 0, repeated: None }),
            other => {
                let name = match other {
                    6 => "JPEG of the old kind",
                    32809 => "ThunderScan",
                    34676 | 34677 => "LogLuv",
                    34712 => "JPEG 2000",
                    34887 => "LERC",
                    34925 => "LZMA",
                    50000 => "Zstandard",
                    50001 => "WebP",
                    50002 | 52546 => "JPEG XL",
                    _ => "an unknown method",
                };
                return Err(
                    format!("compressed by {name} (number {other}); save it with LZW or Deflate").into()
                );
            }
        })
    }

    /// The bytes of a chunk in the file.
    pub(super) fn bytes(&self, index: usize) -> Result<&'a [u8], Fault> {
        let (offsets, lengths) = if self.layout.tiled {
            (tag::TILE_OFFSETS, tag::TILE_BYTES)
        } else {
            (tag::STRIP_OFFSETS, tag::STRIP_BYTES)
        };
        let offset = self.directory.value(offsets, index).ok_or_else(|| {
            let (found, kind) =
                (self.directory.count(offsets), if self.layout.tiled { "tiles" } else { "strips" });
            Fault::from(format!("{found} {kind}; expected at least {}", index + 1))
        })?;
        let rest =
            usize::try_from(offset).ok().and_then(|offset| self.directory.bytes.get(offset..)).ok_or(ENDS)?;
        // Old programs leave the length out, or write 0.
        match self.directory.value(lengths, index).filter(|&length| length > 0) {
            Some(length) => {
                Ok(usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or(ENDS)?)
            }
            None => Ok(rest),
        }
    }

    /// The samples of a chunk that is a JPEG file without its tables: technical note 2 of TIFF 6.0.
    pub(super) fn jpeg(&self, bytes: &[u8], rows: usize) -> Result<Vec<u8>, Fault> {
        let Layout { chunk, color, bits, .. } = *self.layout;
        if bits != 8 {
            return Err("JPEG of other than 8 bits".into());
        }
        let tables = self.directory.content(tag::JPEG_TABLES);
        let tables = tables.strip_suffix(&[0xFF, 0xD9]).unwrap_or(tables);
        let file = if tables.is_empty() {
            bytes.to_vec()
        } else {
            [tables, bytes.strip_prefix(&[0xFF, 0xD8]).unwrap_or(bytes)].concat()
        };
        let header = model::jpeg::header(&file).map_err(|error| error.to_string())?;
        let samples = self.layout.chunk_samples();
        if header.width < chunk[0]
            || header.height < rows
            || header.components != samples
            || header.width > chunk[0] + 64
            || header.height > chunk[1] + 64
        {
            let (width, height, components) = (header.width, header.height, header.components);
            return Err(format!(
                "a JPEG of {width}x{height} with {components} samples; expected {}x{rows} with {samples}",
                chunk[0]
            )
            .into());
        }
        let (width, height) = (self.layout.width as u32, self.layout.height as u32);
        let work = self.work.get() + (header.width * header.height * samples + file.len()) as u64;
        self.work.set(work);
        self.limits.check_work(width, height, work.div_ceil(u64::from(height)))?;
        // A progressive file is held as coefficients until its last scan.
        let coefficients = header.coefficients as u64;
        let beside = if header.progressive { 2 * coefficients + coefficients / 8 } else { 0 };
        self.limits.check_memory(width, height, self.held() + beside)?;
        let file = model::jpeg::check(&file).map_err(|error| error.to_string())?;
        let mut decoder = JpegDecoder::new(ZCursor::new(&file));
        let fault = |error: zune_jpeg::errors::DecodeErrors| Fault::from(error.to_string());
        decoder.decode_headers().map_err(fault)?;
        // Anything but YCbCr is stored as it is.
        let wanted = if color == Color::YCbCr && samples == 3 {
            ColorSpace::RGB
        } else {
            decoder.input_colorspace().unwrap_or(ColorSpace::Luma)
        };
        decoder.set_options(DecoderOptions::default().jpeg_set_out_colorspace(wanted));
        let decoded = decoder.decode().map_err(fault)?;
        if decoded.len() != header.width * header.height * samples {
            return Err("a JPEG that decodes to another size".into());
        }
        if header.width == chunk[0] {
            return Ok(decoded);
        }
        let lines = decoded.chunks_exact(header.width * samples);
        Ok(lines.take(rows).flat_map(|line| &line[..chunk[0] * samples]).copied().collect())
    }
}

/// Bits of each byte from the last to the first.
pub(super) struct Reversed<'a>(&'a [u8]);

impl Read for Reversed<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(out)?;
        out[..count].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
        Ok(count)
    }
}

/// TIFF 6.0, section 13.
pub(super) struct Lzw<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) decoder: weezl::decode::Decoder,
}

impl<'a> Lzw<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, decoder: weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8) }
    }
}

impl Read for Lzw<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let step = self.decoder.decode_bytes(self.bytes, out);
            self.bytes = &self.bytes[step.consumed_in..];
            if step.consumed_out > 0 || out.is_empty() {
                return Ok(step.consumed_out);
            }
            match step.status {
                Ok(LzwStatus::Ok) if step.consumed_in > 0 => {}
                Ok(_) => return Ok(0),
                Err(error) => return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, error)),
            }
        }
    }
}

/// TIFF 6.0, section 9.
pub(super) struct PackBits<'a> {
    pub(super) bytes: &'a [u8],
    /// Bytes that are still to be copied.
    pub(super) literal: usize,
    /// A byte, and how often it is still to be repeated.
    pub(super) repeated: Option<(u8, usize)>,
}

impl Read for PackBits<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let mut written = 0;
        while written < out.len() {
            if let Some((byte, count)) = self.repeated {
                let step = count.min(out.len() - written);
                out[written..written + step].fill(byte);
                written += step;
                self.repeated = (count > step).then_some((byte, count - step));
            } else if self.literal > 0 {
                let step = self.literal.min(out.len() - written).min(self.bytes.len());
                if step == 0 {
                    break;
                }
                out[written..written + step].copy_from_slice(&self.bytes[..step]);
                self.bytes = &self.bytes[step..];
                written += step;
                self.literal -= step;
            } else {
                match self.bytes {
                    [0x80, rest @ ..] => self.bytes = rest,
                    [control @ 0..0x80, rest @ ..] => {
                        self.literal = usize::from(*control) + 1;
                        self.bytes = rest;
                    }
                    [control, byte, rest @ ..] => {
                        self.repeated = Some((*byte, 257 - usize::from(*control)));
                        self.bytes = rest;
                    }
                    _ => break,
                }
            }
        }
        Ok(written)
    }
}
