//! TIFF files (TIFF 6.0, its supplements, and `BigTIFF`), as scanners, microscopes and cameras write them.
//!
//! The decoder of `image` 0.25 panics on tiles in planes, holds a picture several times, and refuses palettes, fax
//! codes of Group 3, JPEG in `YCbCr` and numbers of 32 bits. Here a file is read row by row through the crates that
//! decompress, and nothing is reserved that the file or the limits do not hold.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::ZlibDecoder;
use image::metadata::Orientation;
use weezl::{BitOrder, LzwStatus};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::decoded::{DecodeError, DecodeLimits, Decoded, Probe, is_turned};
use super::fax::{self, Coding};
use super::raster::{Depth, Row, Rows, bits_of_words};

/// Why a file is refused; for [`DecodeError::Damaged`], unless it is a limit.
enum Fault {
    Reason(String),
    Limit(DecodeError),
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Reason(reason.to_owned())
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Limit(error)
    }
}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Reason(reason) => Self::damaged("TIFF", reason),
            Fault::Limit(error) => error,
        }
    }
}

mod tag {
    pub(super) const SUBFILE: u16 = 254;
    pub(super) const WIDTH: u16 = 256;
    pub(super) const HEIGHT: u16 = 257;
    pub(super) const BITS: u16 = 258;
    pub(super) const COMPRESSION: u16 = 259;
    pub(super) const PHOTOMETRIC: u16 = 262;
    pub(super) const FILL_ORDER: u16 = 266;
    pub(super) const STRIP_OFFSETS: u16 = 273;
    pub(super) const ORIENTATION: u16 = 274;
    pub(super) const SAMPLES: u16 = 277;
    pub(super) const ROWS_PER_STRIP: u16 = 278;
    pub(super) const STRIP_BYTES: u16 = 279;
    pub(super) const LARGEST_SAMPLE: u16 = 281;
    pub(super) const PLANAR: u16 = 284;
    pub(super) const GROUP3_OPTIONS: u16 = 292;
    pub(super) const PREDICTOR: u16 = 317;
    pub(super) const COLOR_MAP: u16 = 320;
    pub(super) const TILE_WIDTH: u16 = 322;
    pub(super) const TILE_HEIGHT: u16 = 323;
    pub(super) const TILE_OFFSETS: u16 = 324;
    pub(super) const TILE_BYTES: u16 = 325;
    pub(super) const SUB_DIRECTORIES: u16 = 330;
    pub(super) const EXTRA_SAMPLES: u16 = 338;
    pub(super) const SAMPLE_FORMAT: u16 = 339;
    pub(super) const JPEG_TABLES: u16 = 347;
    pub(super) const SUBSAMPLING: u16 = 530;
    pub(super) const DNG_VERSION: u16 = 50706;
}

/// An entry of the directory: where its values are in the file.
struct Entry {
    kind: u64,
    count: usize,
    place: usize,
}

/// The first directory of a file.
struct Directory<'a> {
    bytes: &'a [u8],
    little_endian: bool,
    entries: BTreeMap<u16, Entry>,
}

/// Tiles and strips of a picture: those of 64x64 pixels in the largest one, twice.
const MOST_CHUNKS: u64 = 1 << 17;

/// Bytes of one value, by the number of its type; one for types that nobody has defined.
fn size_of_value(kind: u64) -> usize {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}

impl<'a> Directory<'a> {
    /// Reads where everything is. Values that would lie outside the file are an error.
    fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let little_endian = bytes.starts_with(b"II");
        let mut directory = Self { bytes, little_endian, entries: BTreeMap::new() };
        let big = directory.number(2, 2)? == 43;
        // Of `BigTIFF` the size of an offset, which is always eight, and a zero come first.
        let word = if big { 8 } else { 4 };
        let start = directory.number(if big { 8 } else { 4 }, word)? as usize;
        let count_len = if big { 8 } else { 2 };
        let count = directory.number(start, count_len)?;
        let entry_len = 4 + 2 * word;
        for index in 0..count {
            let at = index.checked_mul(entry_len as u64).and_then(|at| usize::try_from(at).ok());
            let at = at.and_then(|at| at.checked_add(start)?.checked_add(count_len)).ok_or(ENDS)?;
            let tag = directory.number(at, 2)? as u16;
            let kind = directory.number(at.saturating_add(2), 2)?;
            let count = directory.number(at.saturating_add(4), word)?;
            let size = count.saturating_mul(size_of_value(kind) as u64);
            let inside = at.saturating_add(4 + word);
            let place = if size <= word as u64 { inside as u64 } else { directory.number(inside, word)? };
            if place.saturating_add(size) > bytes.len() as u64 {
                let length = bytes.len();
                return Err(format!(
                    "tag {tag} claims {count} values at byte {place} of a file of {length} bytes"
                )
                .into());
            }
            let entry = Entry { kind, count: count as usize, place: place as usize };
            directory.entries.entry(tag).or_insert(entry);
        }
        Ok(directory)
    }

    fn number(&self, at: usize, len: usize) -> Result<u64, Fault> {
        let field = at.checked_add(len).and_then(|end| self.bytes.get(at..end)).ok_or(ENDS)?;
        let push = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Ok(if self.little_endian { field.iter().rev().fold(0, push) } else { field.iter().fold(0, push) })
    }

    /// The value at `index` of a tag of whole numbers.
    fn value(&self, tag: u16, index: usize) -> Option<u64> {
        let entry = self.entries.get(&tag).filter(|entry| index < entry.count)?;
        let size = size_of_value(entry.kind);
        self.number(entry.place + index * size, size).ok()
    }

    fn first(&self, tag: u16, default: u64) -> u64 {
        self.value(tag, 0).unwrap_or(default)
    }

    fn count(&self, tag: u16) -> usize {
        self.entries.get(&tag).map_or(0, |entry| entry.count)
    }

    fn content(&self, tag: u16) -> &'a [u8] {
        let range = |entry: &Entry| {
            self.bytes.get(entry.place..entry.place + entry.count * size_of_value(entry.kind))
        };
        self.entries.get(&tag).and_then(range).unwrap_or_default()
    }
}

/// Why reading stops at the end of the file.
const ENDS: &str = "it ends early; get a complete copy";

/// What colours the samples are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Color {
    Grey { inverted: bool },
    Rgb,
    Palette,
    Cmyk,
    YCbCr,
}

impl Color {
    /// Samples of a pixel in the file, without extra ones.
    fn samples(self) -> usize {
        match self {
            Self::Grey { .. } | Self::Palette => 1,
            Self::Rgb | Self::YCbCr => 3,
            Self::Cmyk => 4,
        }
    }

    /// Channels of the picture, without opacity.
    fn channels(self) -> usize {
        if matches!(self, Self::Grey { .. }) { 1 } else { 3 }
    }
}

/// Numbers of one sample.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Number {
    Unsigned,
    Signed,
    Float,
}

/// How the opacity is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opacity {
    None,
    Straight,
    /// Colours are multiplied by it.
    Associated,
}

/// What the directory says of the pixels.
struct Layout {
    width: usize,
    height: usize,
    /// Samples of a pixel, extra ones included.
    samples: usize,
    bits: usize,
    number: Number,
    color: Color,
    opacity: Opacity,
    compression: u64,
    planar: bool,
    /// Columns and rows of a tile, or of a strip.
    chunk: [usize; 2],
    tiled: bool,
    predictor: u64,
    orientation: Orientation,
}

impl Layout {
    fn read(directory: &Directory, limits: &DecodeLimits) -> Result<Self, Fault> {
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
    fn depth(&self) -> Depth {
        match (self.number, self.bits) {
            _ if self.color == Color::Palette => Depth::Bytes,
            (Number::Unsigned, ..=8) => Depth::Bytes,
            (Number::Unsigned, ..=16) => Depth::Words,
            _ => Depth::Floats,
        }
    }

    /// Samples of a pixel in one chunk.
    fn chunk_samples(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }

    /// Bytes of a row of a chunk.
    fn row_len(&self) -> usize {
        (self.chunk[0] * self.chunk_samples() * self.bits).div_ceil(8)
    }
}

/// Cameras write their raw photos as TIFF files, with a small preview as the first picture.
fn refuse_raw(directory: &Directory) -> Result<(), Fault> {
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

impl Layout {
    /// The sample at `index` of a row of a chunk. Whole numbers of up to 53 bits are exact.
    fn sample(&self, row: &[u8], index: usize, little_endian: bool) -> f64 {
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
    fn unpredict(&self, row: &mut [u8], little_endian: bool) {
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

/// A row as the picture has it.
struct Line {
    depth: Depth,
    bytes: Vec<u8>,
    words: Vec<u16>,
    floats: Vec<f32>,
}

impl Line {
    fn new(depth: Depth) -> Self {
        Self { depth, bytes: Vec::new(), words: Vec::new(), floats: Vec::new() }
    }

    fn row(&self) -> Row<'_> {
        match self.depth {
            Depth::Bytes => Row::Bytes(&self.bytes),
            Depth::Words => Row::Words(&self.words),
            Depth::Floats => Row::Floats(&self.floats),
        }
    }

    /// From samples as the file has them to colours and opacity.
    fn fill(&mut self, line: &[f64], layout: &Layout, palette: &[[u8; 3]]) {
        self.bytes.clear();
        self.words.clear();
        self.floats.clear();
        let colors = layout.color.samples();
        // Whole numbers of other than 8 or 16 bits are stretched to them.
        let (most, full) = match self.depth {
            Depth::Bytes if layout.color == Color::Palette => (1.0, 1.0),
            Depth::Bytes => (((1u64 << layout.bits) - 1) as f64, 255.0),
            Depth::Words => (((1u64 << layout.bits) - 1) as f64, 65535.0),
            Depth::Floats => (1.0, 1.0),
        };
        let stretched = |value: f64| if most == full { value } else { (value * full / most).round() };
        for pixel in line.chunks_exact(layout.samples) {
            let opacity = (layout.opacity != Opacity::None).then(|| stretched(pixel[colors]));
            let straight = |value: f64| match (layout.opacity, opacity) {
                (Opacity::Associated, Some(opacity)) if opacity > 0.0 => {
                    let whole = if self.depth == Depth::Floats { 1.0 } else { full };
                    (value * whole / opacity).min(whole)
                }
                _ => value,
            };
            let mut rgb = [0.0; 3];
            let shown: &[f64] = match layout.color {
                Color::Grey { inverted } => {
                    let value = stretched(pixel[0]);
                    rgb[0] = match (inverted, self.depth) {
                        (true, Depth::Floats) => -value,
                        (true, _) => full - value,
                        (false, _) => value,
                    };
                    &rgb[..1]
                }
                Color::Rgb => {
                    rgb = [0, 1, 2].map(|channel| stretched(pixel[channel]));
                    &rgb
                }
                Color::Palette => {
                    let entry = palette.get(pixel[0] as usize).copied().unwrap_or_default();
                    rgb = entry.map(f64::from);
                    &rgb
                }
                Color::Cmyk => {
                    // In single precision and cut off, as `image` does.
                    let full = full as f32;
                    let light = 1.0 - pixel[3] as f32 / full;
                    rgb =
                        [0, 1, 2].map(|channel| f64::from(((full - pixel[channel] as f32) * light).floor()));
                    &rgb
                }
                Color::YCbCr if layout.compression == 7 && !layout.planar => {
                    // The JPEG decoder has given RGB.
                    rgb = [0, 1, 2].map(|channel| pixel[channel]);
                    &rgb
                }
                Color::YCbCr => {
                    let (luma, blue, red) = (pixel[0], pixel[1] - 128.0, pixel[2] - 128.0);
                    rgb =
                        [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue];
                    rgb = rgb.map(|value| value.round().clamp(0.0, 255.0));
                    &rgb
                }
            };
            for value in shown.iter().map(|&value| straight(value)).chain(opacity) {
                match self.depth {
                    Depth::Bytes => self.bytes.push((value + 0.5) as u8),
                    Depth::Words => self.words.push((value + 0.5) as u16),
                    Depth::Floats => self.floats.push(value as f32),
                }
            }
        }
    }
}

/// Strips or tiles.
struct Chunks<'a> {
    directory: &'a Directory<'a>,
    layout: &'a Layout,
    limits: &'a DecodeLimits,
    /// Bytes that JPEG chunks have cost so far: each may be higher than its chunk, and repeats the tables.
    work: Cell<u64>,
}

impl<'a> Chunks<'a> {
    /// Bytes that are held for chunks at once, beside the rows.
    fn held(&self) -> u64 {
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
    fn open(&self, plane: usize, band: usize, column: usize) -> Result<Box<dyn Read + 'a>, Fault> {
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
    fn bytes(&self, index: usize) -> Result<&'a [u8], Fault> {
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
    fn jpeg(&self, bytes: &[u8], rows: usize) -> Result<Vec<u8>, Fault> {
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
struct Reversed<'a>(&'a [u8]);

impl Read for Reversed<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(out)?;
        out[..count].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
        Ok(count)
    }
}

/// TIFF 6.0, section 13.
struct Lzw<'a> {
    bytes: &'a [u8],
    decoder: weezl::decode::Decoder,
}

impl<'a> Lzw<'a> {
    fn new(bytes: &'a [u8]) -> Self {
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
struct PackBits<'a> {
    bytes: &'a [u8],
    /// Bytes that are still to be copied.
    literal: usize,
    /// A byte, and how often it is still to be repeated.
    repeated: Option<(u8, usize)>,
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
