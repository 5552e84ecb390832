//! From rows of samples, as a file holds them, to a [`Picture`]: reduced where the whole would not fit into memory,
//! brought to 8 bits, laid on paper and turned upright.

use std::ops::AddAssign;

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

/// Of the rows that become one: by column and channel, sums of samples, weighted by opacity where there is one. Whole
/// numbers are exact.
enum Sums {
    /// Of [`MOST_ROWS`] rows at most.
    Bytes(Vec<u32>),
    Wide(Vec<f64>),
}

/// Rows of products of two bytes that a `u32` holds.
const MOST_ROWS: usize = (u32::MAX / (255 * 255)) as usize;

/// Takes a picture row by row.
pub(crate) struct Rows {
    width: usize,
    height: usize,
    channels: usize,
    /// So many columns and rows become one.
    factor: usize,
    samples: Samples,
    sums: Sums,
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
        let factor = factor.min(MOST_ROWS);
        let (columns, rows) = (width.div_ceil(factor), height.div_ceil(factor));
        let len = columns * rows * channels;
        let samples = match depth {
            Depth::Bytes => Samples::Bytes(Vec::with_capacity(len)),
            Depth::Words => Samples::Words(Vec::with_capacity(len)),
            Depth::Floats => Samples::Floats(Vec::with_capacity(len)),
        };
        let len = if factor > 1 { width * channels } else { 0 };
        let sums = match depth {
            Depth::Bytes => Sums::Bytes(vec![0; len]),
            Depth::Words | Depth::Floats => Sums::Wide(vec![0.0; len]),
        };
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
            let largest = if has_opacity {
                words.chunks_exact(self.channels).filter_map(colors).max()
            } else {
                words.iter().copied().max()
            };
            self.largest = self.largest.max(largest.unwrap_or(0));
        }
        self.taken += 1;
        if self.factor > 1 {
            match (&mut self.sums, row) {
                (Sums::Bytes(sums), Row::Bytes(row)) => add(sums, row, self.channels),
                (Sums::Wide(sums), Row::Words(row)) => add(sums, row, self.channels),
                (Sums::Wide(sums), Row::Floats(row)) => add(sums, row, self.channels),
                _ => {}
            }
            if self.taken.is_multiple_of(self.factor) || self.taken == self.height {
                let rows = (self.taken - 1) % self.factor + 1;
                let shape = (self.channels, self.factor, rows);
                match (&mut self.sums, &mut self.samples) {
                    (Sums::Bytes(sums), Samples::Bytes(samples)) => {
                        take_means(sums, samples, shape, |mean| (mean + 0.5) as u8);
                    }
                    (Sums::Wide(sums), Samples::Words(samples)) => {
                        take_means(sums, samples, shape, |mean| (mean + 0.5) as u16);
                    }
                    (Sums::Wide(sums), Samples::Floats(samples)) => {
                        take_means(sums, samples, shape, |mean| mean as f32);
                    }
                    _ => {}
                }
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

    /// The picture, and the largest sample of its colours where they have 16 bits. `None` when rows are missing.
    pub(crate) fn finish(self) -> Option<(Raster, u16)> {
        let (width, height) = (self.width.div_ceil(self.factor), self.height.div_ceil(self.factor));
        let raster = Raster { width, height, channels: self.channels, samples: self.samples };
        (self.taken == self.height).then_some((raster, self.largest))
    }
}

/// A sample, and what holds sums of its products. Products are made in the narrowest type, which a processor multiplies
/// most of at once.
trait Sample: Copy {
    type Sum: Copy + Default + AddAssign + Into<f64>;

    const ONE: Self;

    fn weighted(self, weight: Self) -> Self::Sum;

    fn wide(self) -> Self::Sum;
}

impl Sample for u8 {
    type Sum = u32;

    const ONE: Self = 1;

    fn weighted(self, weight: Self) -> u32 {
        (u16::from(self) * u16::from(weight)).into()
    }

    fn wide(self) -> u32 {
        self.into()
    }
}

impl Sample for u16 {
    type Sum = f64;

    const ONE: Self = 1;

    fn weighted(self, weight: Self) -> f64 {
        f64::from(self) * f64::from(weight)
    }

    fn wide(self) -> f64 {
        self.into()
    }
}

impl Sample for f32 {
    type Sum = f64;

    const ONE: Self = 1.0;

    fn weighted(self, weight: Self) -> f64 {
        f64::from(self) * f64::from(weight)
    }

    fn wide(self) -> f64 {
        self.into()
    }
}

/// Adds a row column by column, which the compiler does for several at once.
fn add<T: Sample>(sums: &mut [T::Sum], row: &[T], channels: usize) {
    match channels {
        2 => add_weighted::<T, 2>(sums, row),
        4 => add_weighted::<T, 4>(sums, row),
        _ => {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum += sample.wide();
            }
        }
    }
}

/// What is transparent has no colour.
fn add_weighted<T: Sample, const C: usize>(sums: &mut [T::Sum], row: &[T]) {
    // A weight beside every sample, 1 beside the opacity itself: then all columns and channels are one loop.
    const BLOCK: usize = 256;
    let mut weights = [T::ONE; BLOCK];
    for (sums, row) in sums.chunks_mut(BLOCK).zip(row.chunks(BLOCK)) {
        for (weights, pixel) in weights.as_chunks_mut::<C>().0.iter_mut().zip(row.as_chunks::<C>().0) {
            weights[..C - 1].fill(pixel[C - 1]);
        }
        for ((sum, &sample), &weight) in sums.iter_mut().zip(row).zip(&weights) {
            *sum += sample.weighted(weight);
        }
    }
}

/// Appends the means of so many rows, after which the sums begin anew.
fn take_means<S: Copy + Default + Into<f64>, T: Copy + Default>(
    sums: &mut [S],
    means: &mut Vec<T>,
    shape: (usize, usize, usize),
    sample: impl Fn(f64) -> T,
) {
    let (channels, factor, rows) = shape;
    let begin = means.len();
    means.resize(begin + (sums.len() / channels).div_ceil(factor) * channels, T::default());
    let means = &mut means[begin..];
    match channels {
        1 => means_of::<S, T, 1>(sums, means, factor, rows, sample),
        2 => means_of::<S, T, 2>(sums, means, factor, rows, sample),
        3 => means_of::<S, T, 3>(sums, means, factor, rows, sample),
        _ => means_of::<S, T, 4>(sums, means, factor, rows, sample),
    }
    sums.fill(S::default());
}

fn means_of<S: Copy + Into<f64>, T, const C: usize>(
    sums: &[S],
    means: &mut [T],
    factor: usize,
    rows: usize,
    sample: impl Fn(f64) -> T,
) {
    let has_opacity = C.is_multiple_of(2);
    let bins = sums.as_chunks::<C>().0.chunks(factor);
    for (columns, means) in bins.zip(means.as_chunks_mut::<C>().0) {
        let mut totals = [0.0; C];
        for column in columns {
            for (total, &sum) in totals.iter_mut().zip(column) {
                *total += sum.into();
            }
        }
        let pixels = (rows * columns.len()) as f64;
        let weight = if has_opacity { totals[C - 1] } else { pixels };
        // Nothing that is seen is 0 / 1.
        let weight = if weight == 0.0 { 1.0 } else { weight };
        for (channel, (total, mean)) in totals.into_iter().zip(means).enumerate() {
            let weight = if has_opacity && channel == C - 1 { pixels } else { weight };
            *mean = sample(total / weight);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_that_become_one_are_averaged_by_their_opacity() {
        const WIDTH: usize = 11;
        const HEIGHT: usize = 8;
        for (channels, depth) in (1..=4)
            .flat_map(|channels| [Depth::Bytes, Depth::Words, Depth::Floats].map(|depth| (channels, depth)))
        {
            let most = if depth == Depth::Bytes { 255 } else { 65535 };
            let sample = |x: usize, y: usize, channel: usize| {
                let noise = x * 7919 + y * 104_729 + channel * 1299 + x * y * 31;
                // Here and there nothing, and everything.
                if noise.is_multiple_of(5) { 0 } else { (noise * 97 % (most + 90)).min(most) }
            };
            for sides in [[6, 4], [4, 3], [1, 1]] {
                let memory = cost(sides[0], sides[1], channels as u64, depth, false);
                let mut rows = Rows::new(WIDTH, HEIGHT, channels, depth, false, memory);
                for y in 0..HEIGHT {
                    let row = (0..WIDTH * channels).map(|at| sample(at / channels, y, at % channels));
                    let row: Vec<usize> = row.collect();
                    let bytes: Vec<u8> = row.iter().map(|&value| value as u8).collect();
                    let words: Vec<u16> = row.iter().map(|&value| value as u16).collect();
                    let floats: Vec<f32> = row.iter().map(|&value| value as f32).collect();
                    rows.push(match depth {
                        Depth::Bytes => Row::Bytes(&bytes),
                        Depth::Words => Row::Words(&words),
                        Depth::Floats => Row::Floats(&floats),
                    });
                }
                let factor = rows.factor();
                let (raster, largest) = rows.finish().unwrap();
                assert_eq!([raster.width as u64, raster.height as u64], sides);
                let colors = channels - usize::from(channels.is_multiple_of(2));
                let all = (0..WIDTH * HEIGHT * colors)
                    .map(|at| sample(at / colors % WIDTH, at / colors / WIDTH, at % colors));
                let expected = if depth == Depth::Words { all.max().unwrap() } else { 0 };
                assert_eq!(usize::from(largest), expected);
                for at in 0..raster.width * raster.height * channels {
                    let (x, y) = (at / channels % raster.width, at / channels / raster.width);
                    let channel = at % channels;
                    let (mut sum, mut weights) = (0, 0);
                    for y in (y * factor..HEIGHT).take(factor) {
                        for x in (x * factor..WIDTH).take(factor) {
                            let weight = if channel < colors && colors < channels {
                                sample(x, y, channels - 1)
                            } else {
                                1
                            };
                            sum += weight * sample(x, y, channel);
                            weights += weight;
                        }
                    }
                    let mean = if weights == 0 { 0.0 } else { sum as f64 / weights as f64 };
                    let (found, expected) = match &raster.samples {
                        Samples::Bytes(samples) => (f64::from(samples[at]), (mean + 0.5).floor()),
                        Samples::Words(samples) => (f64::from(samples[at]), (mean + 0.5).floor()),
                        Samples::Floats(samples) => (f64::from(samples[at]), f64::from(mean as f32)),
                    };
                    assert_eq!(found, expected, "{channels} channels of {depth:?} by {factor}: {at}");
                }
            }
        }
    }
}
