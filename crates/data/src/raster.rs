//! From rows of samples, as a file holds them, to a [`Picture`]: reduced where the whole would not fit into memory,
//! brought to 8 bits, laid on paper and turned upright.

use image::metadata::Orientation;
use model::{Picture, PictureError};

/// Samples of a picture, `[H, W, C]`; 2 and 4 channels end with the opacity.
pub(crate) struct Raster {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) channels: usize,
    pub(crate) samples: Samples,
}

/// One kind of number for a whole picture.
pub(crate) enum Samples {
    /// 0 to 255.
    Bytes(Vec<u8>),
    /// 0 to 65535.
    Words(Vec<u16>),
    /// Anything.
    Floats(Vec<f32>),
}

/// One row of a picture.
#[derive(Clone, Copy)]
pub(crate) enum Row<'a> {
    Bytes(&'a [u8]),
    Words(&'a [u16]),
    Floats(&'a [f32]),
}

/// How many bytes a sample has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Bytes,
    Words,
    Floats,
}

impl Depth {
    fn bytes(self) -> u64 {
        match self {
            Self::Bytes => 1,
            Self::Words => 2,
            Self::Floats => 4,
        }
    }
}

/// Takes a picture row by row.
pub(crate) struct Rows {
    width: usize,
    height: usize,
    channels: usize,
    /// So many columns and rows become one.
    factor: usize,
    samples: Samples,
    /// Of the rows that become one: sums of samples, weighted by opacity where there is one.
    sums: Vec<f64>,
    taken: usize,
    /// The largest sample so far, apart from opacities.
    largest: u16,
}

/// Bytes that are held at once for a picture: its samples, and what becomes of them.
pub(crate) fn cost(width: u64, height: u64, channels: u64, depth: Depth, turned: bool) -> u64 {
    let pixels = width.saturating_mul(height);
    let colors = if channels == 2 || channels == 4 { channels - 1 } else { channels };
    // Bytes are laid on paper where they are; others become bytes beside them.
    let copies = if depth == Depth::Bytes { channels } else { channels * (depth.bytes() + 1) };
    pixels.saturating_mul(copies + if turned { colors } else { 0 })
}

impl Rows {
    /// For a picture that takes at most `memory` bytes, by making it smaller by a whole number if need be.
    pub(crate) fn new(
        width: usize,
        height: usize,
        channels: usize,
        depth: Depth,
        turned: bool,
        memory: u64,
    ) -> Self {
        let side = |length: usize, factor: usize| length.div_ceil(factor) as u64;
        let fits = |factor: &usize| {
            cost(side(width, *factor), side(height, *factor), channels as u64, depth, turned) <= memory
        };
        let factor = (1..=width.max(height)).find(|factor| fits(factor)).unwrap_or(width.max(height).max(1));
        let (columns, rows) = (width.div_ceil(factor), height.div_ceil(factor));
        let len = columns * rows * channels;
        let samples = match depth {
            Depth::Bytes => Samples::Bytes(Vec::with_capacity(len)),
            Depth::Words => Samples::Words(Vec::with_capacity(len)),
            Depth::Floats => Samples::Floats(Vec::with_capacity(len)),
        };
        let sums = if factor > 1 { vec![0.0; columns * channels] } else { Vec::new() };
        Self { width, height, channels, factor, samples, sums, taken: 0, largest: 0 }
    }

    /// By what the picture is made smaller.
    pub(crate) fn factor(&self) -> usize {
        self.factor
    }

    /// Takes the next row; its length and kind are the caller's to get right.
    pub(crate) fn push(&mut self, row: Row) {
        if let Row::Words(words) = row {
            let has_opacity = self.channels.is_multiple_of(2);
            let colors =
                |pixel: &[u16]| pixel[..pixel.len() - usize::from(has_opacity)].iter().copied().max();
            let largest = words.chunks_exact(self.channels).filter_map(colors).max();
            self.largest = self.largest.max(largest.unwrap_or(0));
        }
        self.taken += 1;
        if self.factor > 1 {
            match row {
                Row::Bytes(row) if self.channels == 1 => self.add_grey(row),
                Row::Bytes(row) => self.add(row),
                Row::Words(row) => self.add(row),
                Row::Floats(row) => self.add(row),
            }
            if self.taken.is_multiple_of(self.factor) || self.taken == self.height {
                self.average();
            }
            return;
        }
        match (&mut self.samples, row) {
            (Samples::Bytes(samples), Row::Bytes(row)) => samples.extend_from_slice(row),
            (Samples::Words(samples), Row::Words(row)) => samples.extend_from_slice(row),
            (Samples::Floats(samples), Row::Floats(row)) => samples.extend_from_slice(row),
            _ => {}
        }
    }

    /// As [`Self::add`], for what large scans are.
    fn add_grey(&mut self, row: &[u8]) {
        for (columns, sum) in row.chunks(self.factor).zip(&mut self.sums) {
            *sum += f64::from(columns.iter().map(|&sample| u32::from(sample)).sum::<u32>());
        }
    }

    fn add<T: Copy + Into<f64>>(&mut self, row: &[T]) {
        let channels = self.channels;
        let has_opacity = channels.is_multiple_of(2);
        for (columns, sums) in row.chunks(self.factor * channels).zip(self.sums.chunks_exact_mut(channels)) {
            for pixel in columns.chunks_exact(channels) {
                // What is transparent has no colour.
                let weight = if has_opacity { pixel[channels - 1].into() } else { 1.0 };
                for (sum, &sample) in sums.iter_mut().zip(pixel) {
                    *sum += weight * sample.into();
                }
                if has_opacity {
                    sums[channels - 1] += weight - weight * weight;
                }
            }
        }
    }

    /// Writes a row of means.
    fn average(&mut self) {
        let channels = self.channels;
        let rows = (self.taken - 1) % self.factor + 1;
        for (at, sums) in self.sums.chunks_exact_mut(channels).enumerate() {
            let columns = self.factor.min(self.width - at * self.factor);
            let pixels = (rows * columns) as f64;
            let opacity = if channels.is_multiple_of(2) { Some(sums[channels - 1]) } else { None };
            for (channel, sum) in sums.iter_mut().enumerate() {
                let weight = opacity.filter(|_| channel + 1 < channels).unwrap_or(pixels);
                let mean = if weight == 0.0 { 0.0 } else { *sum / weight };
                match &mut self.samples {
                    Samples::Bytes(samples) => samples.push((mean + 0.5) as u8),
                    Samples::Words(samples) => samples.push((mean + 0.5) as u16),
                    Samples::Floats(samples) => samples.push(mean as f32),
                }
                *sum = 0.0;
            }
        }
    }

    /// The picture, and the largest sample of its colours where they have 16 bits. `None` when rows are missing.
    pub(crate) fn finish(self) -> Option<(Raster, u16)> {
        let (width, height) = (self.width.div_ceil(self.factor), self.height.div_ceil(self.factor));
        let raster = Raster { width, height, channels: self.channels, samples: self.samples };
        (self.taken == self.height).then_some((raster, self.largest))
    }
}

/// Bits of the values in a file of 16 bits, where they are fewer: cameras and microscopes of 10 or 12 bits (and masks
/// of 8) write them as they are, and the picture would be almost black. What the file says of its bits decides, where
/// the values agree with it; else the largest value.
pub(crate) fn bits_of_words(largest: u16, said: Option<u8>) -> u8 {
    let fits = |bits: u8| bits >= 16 || u32::from(largest) < 1 << bits;
    match said {
        _ if largest == 0 => 16,
        Some(bits) if (1..=16).contains(&bits) => {
            if fits(bits) {
                bits
            } else {
                16
            }
        }
        _ => [8, 10, 12].into_iter().find(|&bits| fits(bits)).unwrap_or(16),
    }
}

impl Raster {
    /// The picture; words have so many bits.
    pub(crate) fn picture(self, bits: u8, orientation: Orientation) -> Result<Picture, PictureError> {
        let Self { width, height, channels, samples } = self;
        let has_opacity = channels.is_multiple_of(2);
        let bytes = match samples {
            Samples::Bytes(samples) => samples,
            Samples::Words(samples) => {
                let most = (1u32 << bits) - 1;
                let byte = |at: usize, word: u16| {
                    let most = if has_opacity && at % channels == channels - 1 { 0xFFFF } else { most };
                    // Rounded, as `image` does: 16 bits are divided by 257.
                    ((u32::from(word) * 255 + most / 2) / most).min(255) as u8
                };
                samples.iter().enumerate().map(|(at, &word)| byte(at, word)).collect()
            }
            Samples::Floats(samples) => floats_to_bytes(&samples, channels),
        };
        let picture = if has_opacity {
            Picture::from_transparent(width, height, channels, bytes)?
        } else {
            Picture::new(width, height, channels, bytes)?
        };
        upright(picture, orientation)
    }
}

/// Numbers of 32 bits and more as bytes. 0 to 1, 255, 1023, 4095 or 65535 is black to white, whichever is the first
/// that holds all values (whole numbers are never 0 to 1 unless all are); values outside, as of heights or radiation,
/// are spread between the smallest and the largest. What is no number is black.
fn floats_to_bytes(samples: &[f32], channels: usize) -> Vec<u8> {
    let has_opacity = channels.is_multiple_of(2);
    let is_color = |at: usize| !has_opacity || at % channels < channels - 1;
    let colors = || {
        samples.iter().enumerate().filter(|(at, value)| is_color(*at) && value.is_finite()).map(|(_, v)| *v)
    };
    let low = colors().fold(f32::INFINITY, f32::min);
    let high = colors().fold(f32::NEG_INFINITY, f32::max);
    let named = [1.0, 255.0, 1023.0, 4095.0, 65535.0].into_iter().find(|&most| high <= most);
    let (black, white) = match named {
        Some(most) if low >= 0.0 => (0.0, most),
        _ => (low, high),
    };
    let byte = |(at, &value): (usize, &f32)| {
        let (black, white) =
            if is_color(at) { (black, white) } else { (0.0, if value <= 1.0 { 1.0 } else { 255.0 }) };
        let share = (value - black) / (white - black);
        // Saturates; what is no number is 0.
        (share * 255.0).round() as u8
    };
    samples.iter().enumerate().map(byte).collect()
}

/// The picture turned as its file says.
pub(crate) fn upright(picture: Picture, orientation: Orientation) -> Result<Picture, PictureError> {
    /// From column and row of the result, width and height of the source, to column and row of the source.
    type From = fn(usize, usize, usize, usize) -> (usize, usize);
    let (width, height, channels) = (picture.width(), picture.height(), picture.channels());
    let (turned, from): (bool, From) = match orientation {
        Orientation::NoTransforms => return Ok(picture),
        Orientation::FlipHorizontal => (false, |x, y, w, _| (w - 1 - x, y)),
        Orientation::Rotate180 => (false, |x, y, w, h| (w - 1 - x, h - 1 - y)),
        Orientation::FlipVertical => (false, |x, y, _, h| (x, h - 1 - y)),
        Orientation::Rotate90FlipH => (true, |x, y, _, _| (y, x)),
        Orientation::Rotate90 => (true, |x, y, _, h| (y, h - 1 - x)),
        Orientation::Rotate270FlipH => (true, |x, y, w, h| (w - 1 - y, h - 1 - x)),
        Orientation::Rotate270 => (true, |x, y, w, _| (w - 1 - y, x)),
    };
    let (columns, rows) = if turned { (height, width) } else { (width, height) };
    let pixels = picture.pixels();
    let mut out = Vec::with_capacity(pixels.len());
    for y in 0..rows {
        for x in 0..columns {
            let (x, y) = from(x, y, width, height);
            let at = (y * width + x) * channels;
            out.extend_from_slice(&pixels[at..at + channels]);
        }
    }
    Picture::new(columns, rows, channels, out)
}
