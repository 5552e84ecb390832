//! Whether a JPEG file is whole, and its means of eight by eight pixels.
//!
//! Longer than other files: the walk over all kinds of scans is one machine with one state.
//!
//! Decoders paint what is missing grey and say nothing, so a cut file looks like a picture. Here every Huffman code of
//! the file is read (ITU-T T.81, annexes F and G) and the blocks are counted; no pixel is computed. The first
//! coefficient of a block is its mean, so the same walk gives a picture an eighth as wide and high at no further cost.

use std::borrow::Cow;

use crate::{Picture, PictureError};

/// Bytes that belong to nothing and may stand before a marker; encoders that write in words pad with a few.
const PADDING: usize = 3;

/// Longest padding of zeros or ones alone.
const PLAIN_PADDING: usize = 32;

/// How often scans may go over a picture: encoders write about ten, and a block is in some of them.
const PASSES: usize = 64;

/// Blocks that all scans of one file may go over together, where the picture has fewer: about two seconds.
const MOST_VISITED: usize = 1 << 28;

/// Why a JPEG file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JpegError {
    /// The file, or what it says of the picture, ends too soon.
    #[error("it ends early: {found} of {expected} blocks of 8x8 pixels are there; get a complete copy")]
    Early {
        /// Blocks that are whole.
        found: usize,
        /// Blocks that the header announces.
        expected: usize,
    },
    /// The file ends before its pixels begin.
    #[error("it ends before its pixels begin; get a complete copy")]
    NoPixels,
    /// All pixels are there, but not the mark of the end: whoever cut the file may have cut other data with it.
    #[error("its mark of the end is missing; get a complete copy")]
    NoEnd,
    /// What no encoder writes.
    #[error("{0}; get a sound copy")]
    Damaged(&'static str),
    /// Sound, but of a kind that hardly anything reads.
    #[error("{0} are not read; save it as a baseline or progressive JPEG of 8 bits")]
    Unsupported(&'static str),
    /// No picture of the reduced size.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// What the header of a JPEG file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JpegHeader {
    /// Columns, before it is turned as its EXIF data say.
    pub width: usize,
    /// Rows, likewise.
    pub height: usize,
    /// 1 for grey, 3 for `YCbCr` or RGB, 4 for CMYK.
    pub components: usize,
    /// Whether it is sent in several passes, so that a decoder holds all coefficients.
    pub progressive: bool,
    /// Coefficients of all components, 64 a block.
    pub coefficients: usize,
}

/// Whether the bytes begin as a JPEG file does.
pub fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xFF, 0xD8, 0xFF])
}

/// Reads the header alone.
///
/// # Errors
/// [`JpegError`]; nothing is said of the pixels.
pub fn header(bytes: &[u8]) -> Result<JpegHeader, JpegError> {
    let mut walk = Walk::new(bytes, false);
    while walk.frame.is_none() {
        walk.segment()?;
    }
    walk.header()
}

/// Reads the file to the mark of its end; whatever follows is not looked at, for cameras append more pictures. What
/// Pillow refuses as truncated is refused, and so is what ends with zeros or with another file's data.
///
/// Gives the file as a decoder wants it: a frame of Motion-JPEG, as cameras on USB send them, has no Huffman tables, and
/// gets the standard ones.
///
/// # Errors
/// [`JpegError`] where blocks are missing or left over, or codes mean nothing.
pub fn check(bytes: &[u8]) -> Result<Cow<'_, [u8]>, JpegError> {
    let mut walk = Walk::new(bytes, false);
    walk.run()?;
    Ok(match walk.without_tables {
        Some(at) => {
            let length = (STANDARD_TABLES.len() as u16 + 2).to_be_bytes();
            Cow::Owned([&bytes[..at], &[0xFF, 0xC4], &length, &STANDARD_TABLES, &bytes[at..]].concat())
        }
        None => Cow::Borrowed(bytes),
    })
}

/// Checks the file, and gives the picture with the mean of every 8x8 pixels for a pixel: an eighth as wide and high,
/// rounded up. Grey files give one channel, `YCbCr` and RGB files three.
///
/// # Errors
/// As [`check`]; four components.
pub fn eighth(bytes: &[u8]) -> Result<Picture, JpegError> {
    let mut walk = Walk::new(bytes, true);
    walk.run()?;
    walk.picture()
}

struct Component {
    id: u8,
    /// Horizontal and vertical sampling factors.
    sampling: [usize; 2],
    quantization: usize,
    /// Columns and rows of blocks that hold pixels, and columns with those that fill up an MCU.
    blocks: [usize; 2],
    stride: usize,
    /// By block: which coefficients are not zero so far. Progressive files only.
    nonzero: Vec<u64>,
    /// By block: the first coefficient, where it is wanted.
    first: Vec<i16>,
    /// By coefficient: bits that are still to come; `None` before the first scan.
    missing_bits: [Option<u8>; 64],
}

struct Frame {
    width: usize,
    height: usize,
    progressive: bool,
    /// Columns and rows of MCUs of several components.
    units: [usize; 2],
    components: Vec<Component>,
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    keep_first: bool,
    frame: Option<Frame>,
    tables: [[Option<Box<Codes>>; 4]; 2],
    /// Where the first scan begins, if no tables came before it.
    without_tables: Option<usize>,
    /// First entry of each quantization table.
    quantization: [u16; 4],
    restart_interval: usize,
    /// The colour transform that an Adobe segment names.
    adobe_transform: Option<u8>,
    /// Blocks that scans have gone over.
    visited: usize,
    ended: bool,
}

/// A component of a scan.
struct Part {
    component: usize,
    dc: usize,
    ac: usize,
}

/// Coefficients and bits that a scan brings.
#[derive(Clone, Copy)]
struct Band {
    start: usize,
    end: usize,
    refines: bool,
    low_bit: u8,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], keep_first: bool) -> Self {
        Self {
            bytes,
            at: 2,
            keep_first,
            frame: None,
            tables: Default::default(),
            without_tables: None,
            quantization: [1; 4],
            restart_interval: 0,
            adobe_transform: None,
            visited: 0,
            ended: false,
        }
    }

    fn header(&self) -> Result<JpegHeader, JpegError> {
        let frame = self.frame.as_ref().ok_or(JpegError::NoPixels)?;
        Ok(JpegHeader {
            width: frame.width,
            height: frame.height,
            components: frame.components.len(),
            progressive: frame.progressive,
            coefficients: frame.blocks() * 64,
        })
    }

    fn run(&mut self) -> Result<(), JpegError> {
        while !self.ended {
            if self.at >= self.bytes.len() {
                let whole =
                    |component: &Component| component.missing_bits.iter().all(|bits| *bits == Some(0));
                return Err(match &self.frame {
                    Some(frame) if frame.components.iter().all(whole) => JpegError::NoEnd,
                    Some(frame) => frame.early(0),
                    None => JpegError::NoPixels,
                });
            }
            self.segment()?;
        }
        let frame = self.frame.as_ref().ok_or(JpegError::NoPixels)?;
        if frame.components.iter().any(|component| component.missing_bits[0].is_none()) {
            return Err(frame.early(0));
        }
        Ok(())
    }

    /// The end of the file, as an error.
    fn early(&self) -> JpegError {
        self.frame.as_ref().map_or(JpegError::NoPixels, |frame| frame.early(0))
    }

    /// Reads one marker and what belongs to it.
    fn segment(&mut self) -> Result<(), JpegError> {
        // Whatever stands between segments is skipped, as libjpeg does.
        let mut last = 0;
        let marker = loop {
            let Some(&byte) = self.bytes.get(self.at) else {
                // `run` decides what is missing.
                return if self.frame.is_some() { Ok(()) } else { Err(self.early()) };
            };
            self.at += 1;
            if last == 0xFF && byte != 0xFF && byte != 0 {
                break byte;
            }
            last = byte;
        };
        match marker {
            // TEM, restart markers out of place, and the beginning once more.
            0x01 | 0xD0..=0xD8 => return Ok(()),
            0xD9 => {
                self.ended = true;
                return Ok(());
            }
            _ => {}
        }
        let length = match self.bytes.get(self.at..self.at + 2) {
            Some(length) => usize::from(length[0]) << 8 | usize::from(length[1]),
            None => return Err(self.early()),
        };
        if length < 2 {
            return Err(JpegError::Damaged("a segment is shorter than its own length"));
        }
        let Some(body) = self.bytes.get(self.at + 2..self.at + length) else {
            return Err(self.early());
        };
        self.at += length;
        match marker {
            0xC0..=0xC2 => self.frame(body, marker == 0xC2)?,
            0xC3 => return Err(JpegError::Unsupported("lossless JPEG files")),
            0xC4 => self.huffman_tables(body)?,
            0xC5..=0xC7 | 0xDE => return Err(JpegError::Unsupported("hierarchical JPEG files")),
            0xC9..=0xCF => return Err(JpegError::Unsupported("JPEG files with arithmetic coding")),
            0xF7 => return Err(JpegError::Unsupported("JPEG-LS files")),
            0xDB => self.quantization_tables(body),
            0xDA => self.scan(body)?,
            0xDD if body.len() >= 2 => {
                self.restart_interval = usize::from(body[0]) << 8 | usize::from(body[1]);
            }
            0xEE if body.starts_with(b"Adobe") => self.adobe_transform = body.get(11).copied(),
            _ => {}
        }
        Ok(())
    }

    fn frame(&mut self, body: &[u8], progressive: bool) -> Result<(), JpegError> {
        const BROKEN: JpegError = JpegError::Damaged("its frame header contradicts itself");
        if self.frame.is_some() {
            return Err(JpegError::Damaged("it has two frame headers"));
        }
        let [precision, h1, h0, w1, w0, count, components @ ..] = body else {
            return Err(BROKEN);
        };
        if *precision != 8 {
            return Err(JpegError::Unsupported("JPEG files of 12 bits"));
        }
        let (height, width) =
            (usize::from(*h1) << 8 | usize::from(*h0), usize::from(*w1) << 8 | usize::from(*w0));
        let count = usize::from(*count);
        if width == 0 || height == 0 {
            return Err(JpegError::Damaged("its header announces no pixels"));
        }
        if ![1, 3, 4].contains(&count) || components.len() < 3 * count {
            return Err(BROKEN);
        }
        let fields: Vec<&[u8]> = components.chunks_exact(3).take(count).collect();
        let factors = |field: &[u8]| [usize::from(field[1] >> 4), usize::from(field[1] & 15)];
        if fields.iter().any(|field| factors(field).iter().any(|factor| !(1..=4).contains(factor))) {
            return Err(BROKEN);
        }
        let largest = |side: usize| fields.iter().map(|field| factors(field)[side]).max().unwrap_or(1);
        let largest = [largest(0), largest(1)];
        let units = [width.div_ceil(8 * largest[0]), height.div_ceil(8 * largest[1])];
        let components = fields.iter().map(|field| {
            let sampling = factors(field);
            let blocks = [
                (width * sampling[0]).div_ceil(8 * largest[0]),
                (height * sampling[1]).div_ceil(8 * largest[1]),
            ];
            let stride = units[0] * sampling[0];
            Component {
                id: field[0],
                sampling,
                quantization: usize::from(field[2] & 3),
                blocks,
                stride,
                nonzero: Vec::new(),
                first: Vec::new(),
                missing_bits: [None; 64],
            }
        });
        self.frame = Some(Frame { width, height, progressive, units, components: components.collect() });
        Ok(())
    }

    fn huffman_tables(&mut self, mut body: &[u8]) -> Result<(), JpegError> {
        while let [place, rest @ ..] = body {
            let (class, number) = (usize::from(place >> 4), usize::from(place & 15));
            let Some((counts, rest)) = rest.split_first_chunk::<16>() else {
                return Err(Codes::BROKEN);
            };
            let values: usize = counts.iter().map(|&count| usize::from(count)).sum();
            if class > 1 || number > 3 || values > rest.len() {
                return Err(Codes::BROKEN);
            }
            self.tables[class][number] = Some(Box::new(Codes::new(counts, &rest[..values])?));
            body = &rest[values..];
        }
        Ok(())
    }

    fn quantization_tables(&mut self, mut body: &[u8]) {
        while let [place, rest @ ..] = body {
            let wide = place >> 4 > 0;
            let first = match (wide, rest) {
                (false, [low, ..]) => u16::from(*low),
                (true, [high, low, ..]) => u16::from(*high) << 8 | u16::from(*low),
                _ => return,
            };
            self.quantization[usize::from(place & 3)] = first;
            body = rest.get(if wide { 128 } else { 64 }..).unwrap_or_default();
        }
    }

    /// Reads the header of a scan and all codes of the scan.
    fn scan(&mut self, body: &[u8]) -> Result<(), JpegError> {
        const BROKEN: JpegError = JpegError::Damaged("the header of a scan contradicts itself");
        let Some(frame) = self.frame.as_mut() else {
            return Err(JpegError::Damaged("a scan comes before the frame header"));
        };
        let Some((&count, rest)) = body.split_first() else { return Err(BROKEN) };
        let count = usize::from(count);
        let (Some(fields), Some(&[start, end, bits])) =
            (rest.get(..2 * count), rest.get(2 * count..2 * count + 3))
        else {
            return Err(BROKEN);
        };
        let mut parts = Vec::with_capacity(count);
        for field in fields.chunks_exact(2) {
            let component = frame.components.iter().position(|component| component.id == field[0]);
            let component = component.ok_or(BROKEN)?;
            let part = Part { component, dc: usize::from(field[1] >> 4 & 3), ac: usize::from(field[1] & 3) };
            if parts.iter().any(|earlier: &Part| earlier.component == component) {
                return Err(BROKEN);
            }
            parts.push(part);
        }
        let band = if frame.progressive {
            let (start, end) = (usize::from(start), usize::from(end));
            Band { start, end, refines: bits >> 4 > 0, low_bit: bits & 15 }
        } else {
            Band { start: 0, end: 63, refines: false, low_bit: 0 }
        };
        let dc_only = band.start == 0 && band.end == 0;
        let sound = !frame.progressive || dc_only || (1..=band.end).contains(&band.start) && count == 1;
        if parts.is_empty() || !sound || band.end > 63 || band.low_bit > 13 {
            return Err(BROKEN);
        }
        let first = self.visited == 0;
        // Whole scans of nothing take a few bytes of the file.
        let blocks = |part: &Part| frame.components[part.component].blocks.iter().product::<usize>();
        self.visited += parts.iter().map(blocks).sum::<usize>();
        if self.visited > (PASSES * frame.blocks()).min(MOST_VISITED.max(frame.blocks())) {
            return Err(JpegError::Damaged("it has more scans than any encoder writes"));
        }
        if first && !frame.progressive && self.tables.iter().flatten().all(Option::is_none) {
            // Of the scan's header there are a marker and a length before the body.
            self.without_tables = Some(self.at - body.len() - 4);
            self.huffman_tables(&STANDARD_TABLES)?;
        }
        let Some(frame) = self.frame.as_mut() else { return Err(BROKEN) };
        let mut scan = Scan {
            bits: Bits::new(self.bytes, self.at),
            tables: &self.tables,
            frame,
            band,
            keep_first: self.keep_first,
            predictions: [0; 4],
            run_of_ends: 0,
        };
        self.at = scan.read(&parts, self.restart_interval)?;
        for part in &parts {
            for bits in &mut scan.frame.components[part.component].missing_bits[band.start..=band.end] {
                *bits = Some(band.low_bit);
            }
        }
        Ok(())
    }

    /// The means as a picture.
    fn picture(self) -> Result<Picture, JpegError> {
        let Some(frame) = self.frame else { return Err(JpegError::NoPixels) };
        let channels = match frame.components.len() {
            4 => return Err(JpegError::Unsupported("means of CMYK files")),
            count => count,
        };
        let [width, height] = [frame.width.div_ceil(8), frame.height.div_ceil(8)];
        let largest = |side: usize| frame.components.iter().map(|c| c.sampling[side]).max().unwrap_or(1);
        let largest = [largest(0), largest(1)];
        // The first coefficient is eight times the mean, without the 128 that encoders subtract.
        let mean = |component: &Component, x: usize, y: usize| {
            let [h, v] = component.sampling;
            let first = component.first.get(y * v / largest[1] * component.stride + x * h / largest[0]);
            let quantization = i32::from(self.quantization[component.quantization]);
            let eightfold = i32::from(first.copied().unwrap_or(0)) * quantization;
            eightfold as f32 / 8.0 + 128.0
        };
        let byte = |value: f32| (value + 0.5) as u8;
        let is_rgb = match self.adobe_transform {
            Some(transform) => transform == 0,
            None => frame.components.iter().map(|component| component.id).eq(*b"RGB"),
        };
        let mut pixels = Vec::with_capacity(width * height * channels);
        for y in 0..height {
            for x in 0..width {
                match &frame.components[..] {
                    [luma, blue, red] if !is_rgb => {
                        // ITU-T T.871, section 7.
                        let [luma, blue, red] = [luma, blue, red].map(|component| mean(component, x, y));
                        let (blue, red) = (blue - 128.0, red - 128.0);
                        pixels.push(byte(luma + 1.402 * red));
                        pixels.push(byte(luma - 0.344_136 * blue - 0.714_136 * red));
                        pixels.push(byte(luma + 1.772 * blue));
                    }
                    components => {
                        pixels.extend(components.iter().map(|component| byte(mean(component, x, y))));
                    }
                }
            }
        }
        Ok(Picture::new(width, height, channels, pixels)?)
    }
}

impl Frame {
    /// Blocks that hold pixels, of all components.
    fn blocks(&self) -> usize {
        self.components.iter().map(|component| component.blocks[0] * component.blocks[1]).sum()
    }

    /// Too few blocks, with `found` of a scan that was not finished.
    fn early(&self, found: usize) -> JpegError {
        let read = |component: &&Component| component.missing_bits.iter().all(|bits| *bits == Some(0));
        let whole =
            self.components.iter().filter(read).map(|component| component.blocks[0] * component.blocks[1]);
        let expected = self.blocks();
        // Passes that refine count no block twice.
        JpegError::Early { found: (whole.sum::<usize>() + found).min(expected - 1), expected }
    }
}

/// One scan while it is read.
struct Scan<'a, 'f> {
    bits: Bits<'a>,
    tables: &'f [[Option<Box<Codes>>; 4]; 2],
    frame: &'f mut Frame,
    band: Band,
    keep_first: bool,
    predictions: [i32; 4],
    /// Blocks that bring nothing but corrections.
    run_of_ends: usize,
}

/// What stops a scan.
enum Stop {
    /// A marker or the end of the file, where a code was expected.
    Early,
    /// A code that means nothing.
    Damaged(&'static str),
}

impl Scan<'_, '_> {
    /// Reads all blocks, and gives the position behind them.
    fn read(&mut self, parts: &[Part], restart_interval: usize) -> Result<usize, JpegError> {
        let alone = parts.len() == 1;
        let [columns, rows] =
            if alone { self.frame.components[parts[0].component].blocks } else { self.frame.units };
        for part in parts {
            let rows = self.frame.units[1];
            let component = &mut self.frame.components[part.component];
            let blocks = component.stride * rows * component.sampling[1];
            if self.frame.progressive && component.nonzero.is_empty() {
                component.nonzero = vec![0; blocks];
            }
            if self.keep_first && component.first.is_empty() {
                component.first = vec![0; blocks];
            }
        }
        let units = columns * rows;
        let blocks_of_unit: usize = if alone {
            1
        } else {
            parts
                .iter()
                .map(|part| self.frame.components[part.component].sampling.iter().product::<usize>())
                .sum()
        };
        let mut restarts = 0;
        for unit in 0..units {
            if unit > 0 && unit.is_multiple_of(restart_interval) {
                if !self.bits.restart(restarts) {
                    return Err(self.stopped(Stop::Early, unit * blocks_of_unit));
                }
                restarts = (restarts + 1) % 8;
                self.predictions = [0; 4];
                self.run_of_ends = 0;
            }
            let (x, y) = (unit % columns, unit / columns);
            for (place, part) in parts.iter().enumerate() {
                let [h, v] = if alone { [1, 1] } else { self.frame.components[part.component].sampling };
                for row in 0..v {
                    for column in 0..h {
                        let block =
                            (y * v + row) * self.frame.components[part.component].stride + x * h + column;
                        self.block(part, place, block)
                            .map_err(|stop| self.stopped(stop, unit * blocks_of_unit))?;
                    }
                }
            }
        }
        self.bits.finish().ok_or(JpegError::Damaged("bytes are left over behind the last block"))
    }

    fn stopped(&self, stop: Stop, blocks: usize) -> JpegError {
        match stop {
            Stop::Early => self.frame.early(blocks),
            Stop::Damaged(reason) => JpegError::Damaged(reason),
        }
    }

    fn block(&mut self, part: &Part, place: usize, block: usize) -> Result<(), Stop> {
        let tables = self.tables;
        let codes = |class: usize, number: usize| {
            tables[class][number].as_deref().ok_or(Stop::Damaged("a Huffman table is missing"))
        };
        if self.band.start == 0 {
            if self.band.refines {
                let bit = self.bits.take(1)?;
                if let Some(first) = self.frame.components[part.component].first.get_mut(block) {
                    *first |= (bit << self.band.low_bit) as i16;
                }
            } else {
                let size = u32::from(codes(0, part.dc)?.read(&mut self.bits)?);
                if size > 15 {
                    return Err(Stop::Damaged("a difference of more than 15 bits"));
                }
                let bits = self.bits.take(size)? as i32;
                // T.81, F.2.2.1, `EXTEND`.
                let difference =
                    if size > 0 && bits >> (size - 1) == 0 { bits - (1 << size) + 1 } else { bits };
                self.predictions[place] = self.predictions[place].wrapping_add(difference);
                if let Some(first) = self.frame.components[part.component].first.get_mut(block) {
                    *first = (self.predictions[place] << self.band.low_bit) as i16;
                }
            }
        }
        if self.band.end == 0 {
            return Ok(());
        }
        let codes = codes(1, part.ac)?;
        if !self.frame.progressive {
            return self.coefficients(codes);
        }
        let mut nonzero = self.frame.components[part.component].nonzero[block];
        if self.band.refines {
            self.refine(codes, &mut nonzero)?;
        } else {
            self.begin(codes, &mut nonzero)?;
        }
        self.frame.components[part.component].nonzero[block] = nonzero;
        Ok(())
    }

    /// T.81, F.2.2.2.
    fn coefficients(&mut self, codes: &Codes) -> Result<(), Stop> {
        let mut at = 1;
        while at < 64 {
            let code = codes.read(&mut self.bits)?;
            let (zeros, size) = (usize::from(code >> 4), u32::from(code & 15));
            if size == 0 {
                if zeros < 15 {
                    break;
                }
                at += 16;
            } else {
                at += zeros;
                if at > 63 {
                    return Err(BEYOND);
                }
                self.bits.skip(size)?;
                at += 1;
            }
        }
        Ok(())
    }

    /// The first pass over a band: T.81, G.1.2.2.
    fn begin(&mut self, codes: &Codes, nonzero: &mut u64) -> Result<(), Stop> {
        if self.run_of_ends > 0 {
            self.run_of_ends -= 1;
            return Ok(());
        }
        let mut at = self.band.start;
        while at <= self.band.end {
            let code = codes.read(&mut self.bits)?;
            let (zeros, size) = (usize::from(code >> 4), u32::from(code & 15));
            if size == 0 {
                if zeros < 15 {
                    self.run_of_ends = (1 << zeros) - 1 + self.bits.take(zeros as u32)? as usize;
                    break;
                }
                at += 16;
            } else {
                at += zeros;
                if at > self.band.end {
                    return Err(BEYOND);
                }
                self.bits.skip(size)?;
                *nonzero |= 1 << at;
                at += 1;
            }
        }
        Ok(())
    }

    /// A later pass over a band: T.81, G.1.2.3.
    fn refine(&mut self, codes: &Codes, nonzero: &mut u64) -> Result<(), Stop> {
        let mut at = self.band.start;
        if self.run_of_ends == 0 {
            while at <= self.band.end {
                let code = codes.read(&mut self.bits)?;
                let (mut zeros, size) = (usize::from(code >> 4), code & 15);
                match (size, zeros) {
                    (0, 0..15) => {
                        self.run_of_ends = (1 << zeros) + self.bits.take(zeros as u32)? as usize;
                        break;
                    }
                    (0, _) => {}
                    (1, _) => self.bits.skip(1)?,
                    _ => return Err(Stop::Damaged("a correction of more than one bit")),
                }
                while at <= self.band.end {
                    if *nonzero >> at & 1 == 1 {
                        self.bits.skip(1)?;
                    } else if zeros == 0 {
                        break;
                    } else {
                        zeros -= 1;
                    }
                    at += 1;
                }
                if size > 0 {
                    if at > self.band.end {
                        return Err(BEYOND);
                    }
                    *nonzero |= 1 << at;
                }
                at += 1;
            }
        }
        if self.run_of_ends > 0 {
            self.run_of_ends -= 1;
            if at <= self.band.end {
                let band = *nonzero >> at << (63 - self.band.end + at);
                self.bits.skip(band.count_ones())?;
            }
        }
        Ok(())
    }
}

const BEYOND: Stop = Stop::Damaged("a coefficient lies beyond its block");

/// Bits of a scan, up to the next marker.
struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte that is not in `held`.
    at: usize,
    /// Bits not yet taken, from the top.
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, held: 0, count: 0 }
    }

    /// Holds 32 bits or more, unless a marker or the end comes first.
    #[inline]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(four) = self.bytes.get(self.at..self.at + 4)
            && !four.contains(&0xFF)
        {
            let word = four.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
            self.held |= word << (32 - self.count);
            self.count += 32;
            self.at += 4;
            return;
        }
        while self.count <= 56 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            if byte == 0xFF {
                if self.bytes.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline]
    fn drop(&mut self, count: u32) -> Result<(), Stop> {
        if count > self.count {
            return Err(Stop::Early);
        }
        // `count` is below 64.
        self.held <<= count;
        self.count -= count;
        Ok(())
    }

    /// At most 16 bits.
    #[inline]
    fn take(&mut self, count: u32) -> Result<u32, Stop> {
        if count == 0 {
            return Ok(0);
        }
        self.fill();
        let bits = (self.held >> (64 - count)) as u32;
        self.drop(count).map(|()| bits)
    }

    /// Any number of bits.
    #[inline]
    fn skip(&mut self, mut count: u32) -> Result<(), Stop> {
        while count > 0 {
            self.fill();
            let step = count.min(32);
            self.drop(step)?;
            count -= step;
        }
        Ok(())
    }

    /// The position of the next marker's 0xFF, or the end; `None` where more than padding comes first.
    fn next_marker(&self) -> Option<usize> {
        let held = (self.held >> (64 - self.count.max(1))).to_be_bytes();
        let held = &held[8 - self.count as usize / 8..];
        let rest = &self.bytes[self.at..];
        let end = (0..rest.len()).find(|&at| rest[at] == 0xFF && !matches!(rest.get(at + 1), Some(0)));
        let end = end.unwrap_or(rest.len());
        let skipped = held.len() + end;
        let padding = || held.iter().chain(&rest[..end]);
        let plain = |filler: u8| skipped <= PLAIN_PADDING && padding().all(|&byte| byte == filler);
        (skipped <= PADDING || plain(0) || plain(0xFF)).then_some(self.at + end)
    }

    /// Goes behind the restart marker of that number, if it is next.
    fn restart(&mut self, number: u8) -> bool {
        let Some(mut at) = self.next_marker() else { return false };
        while self.bytes.get(at) == Some(&0xFF) {
            at += 1;
        }
        *self = Self::new(self.bytes, at + 1);
        self.bytes.get(at) == Some(&(0xD0 + number))
    }

    /// The position behind the scan.
    fn finish(&self) -> Option<usize> {
        self.next_marker()
    }
}

/// Bits that are looked up at once.
const LOOKUP: u32 = 9;

/// A Huffman table: T.81, annex C.
struct Codes {
    /// By the next bits: length of the code and its value; 0 for longer codes.
    short: [u16; 1 << LOOKUP],
    /// By length: the first code that is too large for it, aligned to 16 bits.
    beyond: [u32; 17],
    /// By length: what is added to a code to find its value.
    offsets: [i32; 17],
    values: Vec<u8>,
}

impl Codes {
    const BROKEN: JpegError = JpegError::Damaged("a Huffman table contradicts itself");

    fn new(counts: &[u8; 16], values: &[u8]) -> Result<Self, JpegError> {
        let mut codes =
            Self { short: [0; 1 << LOOKUP], beyond: [0; 17], offsets: [0; 17], values: values.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for (length, &count) in (1..).zip(counts) {
            codes.offsets[length as usize] = index as i32 - code as i32;
            for &value in &values[index..index + usize::from(count)] {
                if code >> length > 0 {
                    return Err(Self::BROKEN);
                }
                if length <= LOOKUP {
                    let first = (code << (LOOKUP - length)) as usize;
                    codes.short[first..first + (1 << (LOOKUP - length))]
                        .fill((length as u16) << 8 | u16::from(value));
                }
                code += 1;
            }
            index += usize::from(count);
            codes.beyond[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Ok(codes)
    }

    #[inline]
    fn read(&self, bits: &mut Bits) -> Result<u8, Stop> {
        bits.fill();
        let entry = self.short[(bits.held >> (64 - LOOKUP)) as usize];
        if entry > 0 {
            return bits.drop(u32::from(entry >> 8)).map(|()| entry as u8);
        }
        let next = (bits.held >> 48) as u32;
        for length in LOOKUP + 1..=16 {
            if next < self.beyond[length as usize] {
                bits.drop(length)?;
                let index = (next >> (16 - length)) as i32 + self.offsets[length as usize];
                return self.values.get(index as usize).copied().ok_or(NO_CODE);
            }
        }
        Err(if bits.count < 16 { Stop::Early } else { NO_CODE })
    }
}

/// The tables of ITU-T T.81, K.3.3, as a segment has them: K.3 and K.5 for luma, K.4 and K.6 for chroma. Each is its
/// class and number, how many codes there are of 1 to 16 bits, and their values.
#[rustfmt::skip]
const STANDARD_TABLES: [u8; 416] = [
    0x00,
    0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0,
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B,
    0x01,
    0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0,
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B,
    0x10,
    0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125,
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
    0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72,
    0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3,
    0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
    0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2,
    0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
    0x11,
    0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119,
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
    0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0, 0x15, 0x62, 0x72, 0xD1,
    0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A,
    0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA,
    0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
    0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
];

const NO_CODE: Stop = Stop::Damaged("bits that are no code");
