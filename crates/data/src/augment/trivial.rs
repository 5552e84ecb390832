//! `TrivialAugment` with the wide space (Müller and Hutter, "`TrivialAugment`: Tuning-free Yet State-of-the-Art Data
//! Augmentation", ICCV 2021, table 1): one operation and its strength, both drawn uniformly.

use model::Picture;

use super::pixels::{brightness, contrast, map, saturation, with_pixels};
use crate::rng::Stream;

/// Strengths go from 0 to this.
const STEPS: u64 = 30;

/// Number of operations.
const OPERATIONS: u64 = 14;

/// One random operation of a random strength.
pub(super) fn one_operation(stream: &mut Stream, picture: Picture) -> Picture {
    let operation = stream.below(OPERATIONS);
    let strength = stream.below(STEPS + 1) as f32 / STEPS as f32;
    let sign = if stream.chance(0.5) { -1.0 } else { 1.0 };
    apply(operation, strength, sign, picture)
}

/// `strength` from 0 to 1; `sign` turns the operations around that have two directions.
fn apply(operation: u64, strength: f32, sign: f32, picture: Picture) -> Picture {
    let factor = 1.0 + sign * 0.99 * strength;
    // 32 of 224 pixels, as far as a seventh of the side.
    let shift = |side: usize| sign * strength * side as f32 / 7.0;
    match operation {
        0 => picture,
        1 => affine(&picture, [[1.0, sign * 0.99 * strength], [0.0, 1.0]], [0.0; 2]),
        2 => affine(&picture, [[1.0, 0.0], [sign * 0.99 * strength, 1.0]], [0.0; 2]),
        3 => affine(&picture, [[1.0, 0.0], [0.0, 1.0]], [shift(picture.width()), 0.0]),
        4 => affine(&picture, [[1.0, 0.0], [0.0, 1.0]], [0.0, shift(picture.height())]),
        5 => {
            let (sin, cos) = (sign * 135.0 * strength).to_radians().sin_cos();
            affine(&picture, [[cos, -sin], [sin, cos]], [0.0; 2])
        }
        6 => brightness(picture, factor),
        7 => saturation(picture, factor),
        8 => contrast(picture, factor),
        9 => sharpness(&picture, factor),
        10 => posterize(picture, 8 - (6.0 * strength).round() as u32),
        11 => {
            let threshold = 255.0 - 255.0 * strength;
            map(picture, |value| if value >= threshold { 255.0 - value } else { value })
        }
        12 => autocontrast(&picture),
        _ => equalize(&picture),
    }
}

/// Resamples about the centre: pixel `p` shows the source at `matrix (p - centre) + centre + shift`, black outside.
fn affine(picture: &Picture, matrix: [[f32; 2]; 2], shift: [f32; 2]) -> Picture {
    let (width, height, channels) = (picture.width(), picture.height(), picture.channels());
    let centre = [(width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0];
    let source = picture.pixels();
    let sample = |x: f32, y: f32, channel: usize| {
        let inside = x >= 0.0 && y >= 0.0 && x < width as f32 && y < height as f32;
        if inside { f32::from(source[(y as usize * width + x as usize) * channels + channel]) } else { 0.0 }
    };
    let mut pixels = Vec::with_capacity(source.len());
    for row in 0..height {
        for column in 0..width {
            let [dx, dy] = [column as f32 - centre[0], row as f32 - centre[1]];
            let x = matrix[0][0] * dx + matrix[0][1] * dy + centre[0] + shift[0];
            let y = matrix[1][0] * dx + matrix[1][1] * dy + centre[1] + shift[1];
            let (left, top) = (x.floor(), y.floor());
            let (right, down) = (x - left, y - top);
            for channel in 0..channels {
                let above =
                    (1.0 - right) * sample(left, top, channel) + right * sample(left + 1.0, top, channel);
                let below = (1.0 - right) * sample(left, top + 1.0, channel)
                    + right * sample(left + 1.0, top + 1.0, channel);
                pixels.push((above + down * (below - above) + 0.5) as u8);
            }
        }
    }
    with_pixels(picture, pixels)
}

/// Away from a smoothed picture (3 x 3, centre 5, others 1, over 13) by `factor`; the border stays.
fn sharpness(picture: &Picture, factor: f32) -> Picture {
    let (width, height, channels) = (picture.width(), picture.height(), picture.channels());
    let source = picture.pixels();
    let mut pixels = source.to_vec();
    for row in 1..height.saturating_sub(1) {
        for column in 1..width.saturating_sub(1) {
            for channel in 0..channels {
                let at = |x: usize, y: usize| f32::from(source[(y * width + x) * channels + channel]);
                let own = at(column, row);
                let around = (0..9).map(|i| at(column + i % 3 - 1, row + i / 3 - 1)).sum::<f32>();
                let smooth = (around + 4.0 * own) / 13.0;
                pixels[(row * width + column) * channels + channel] =
                    (smooth + factor * (own - smooth) + 0.5) as u8;
            }
        }
    }
    with_pixels(picture, pixels)
}

/// Keeps the `bits` highest bits of each sample.
fn posterize(picture: Picture, bits: u32) -> Picture {
    let mask = !(0xff_u32 >> bits) as u8;
    map(picture, |value| f32::from(value as u8 & mask))
}

/// A function of the sample for each channel, made from that channel's histogram.
fn by_channel(picture: &Picture, table: impl Fn(&[usize; 256]) -> [u8; 256]) -> Picture {
    let channels = picture.channels();
    let mut pixels = picture.pixels().to_vec();
    for channel in 0..channels {
        let mut histogram = [0; 256];
        for &value in pixels.iter().skip(channel).step_by(channels) {
            histogram[usize::from(value)] += 1;
        }
        let table = table(&histogram);
        for value in pixels.iter_mut().skip(channel).step_by(channels) {
            *value = table[usize::from(*value)];
        }
    }
    with_pixels(picture, pixels)
}

/// Darkest to 0, brightest to 255, in each channel.
fn autocontrast(picture: &Picture) -> Picture {
    by_channel(picture, |histogram| {
        let low = histogram.iter().position(|&count| count > 0).unwrap_or(0);
        let high = histogram.iter().rposition(|&count| count > 0).unwrap_or(255);
        let scale = 255.0 / (high.max(low + 1) - low) as f32;
        let flat = high == low;
        std::array::from_fn(|value| {
            if flat { value as u8 } else { ((value as f32 - low as f32) * scale + 0.5) as u8 }
        })
    })
}

/// Every level about equally often, in each channel, as Pillow's `ImageOps.equalize` has it.
fn equalize(picture: &Picture) -> Picture {
    by_channel(picture, |histogram| {
        let total: usize = histogram.iter().sum();
        let last = histogram.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
        let step = (total - last) / 255;
        let mut before = step / 2;
        std::array::from_fn(|value| {
            if step == 0 {
                return value as u8;
            }
            let level = (before / step).min(255) as u8;
            before += histogram[value];
            level
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    fn grey(width: usize, height: usize, pixels: &[u8]) -> Picture {
        Picture::new(width, height, 1, pixels.to_vec()).unwrap()
    }

    #[test]
    fn without_strength_most_operations_change_nothing() {
        let picture = Picture::new(5, 4, 3, (0..60).map(|i| i * 4).collect()).unwrap();
        for operation in 0..11 {
            assert_eq!(apply(operation, 0.0, 1.0, picture.clone()), picture, "operation {operation}");
        }
    }

    #[test]
    fn shifts_and_turns_by_hand() {
        let picture = grey(3, 3, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let moved = affine(&picture, [[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0]);
        assert_eq!(moved.pixels(), [2, 3, 0, 5, 6, 0, 8, 9, 0]);
        // A quarter turn: what is shown at the right came from below.
        let turned = affine(&picture, [[0.0, -1.0], [1.0, 0.0]], [0.0, 0.0]);
        assert_eq!(turned.pixels(), [3, 6, 9, 2, 5, 8, 1, 4, 7]);
        // Half a pixel to the right is the mean of two.
        let half = affine(&picture, [[1.0, 0.0], [0.0, 1.0]], [0.5, 0.0]);
        assert_eq!(half.pixels()[..3], [2, 3, 2]);
    }

    #[test]
    fn levels_by_hand() {
        let picture = grey(4, 1, &[0b1010_1010, 255, 0, 0b0111_1111]);
        assert_eq!(apply(10, 1.0, 1.0, picture.clone()).pixels(), [0b1000_0000, 0b1100_0000, 0, 0b0100_0000]);
        assert_eq!(posterize(picture.clone(), 8), picture);
        // Threshold 127.5.
        assert_eq!(apply(11, 0.5, 1.0, grey(3, 1, &[0, 127, 128])).pixels(), [0, 127, 127]);
        assert_eq!(autocontrast(&grey(3, 1, &[50, 100, 150])).pixels(), [0, 128, 255]);
        assert_eq!(autocontrast(&grey(2, 1, &[7, 7])).pixels(), [7, 7]);
        // Image.frombytes("L", (512, 1), bytes([10] * 256 + [20] * 128 + [30] * 128)); ImageOps.equalize
        let levels = [vec![10; 256], vec![20; 128], vec![30; 128]].concat();
        let equal = equalize(&grey(512, 1, &levels));
        assert_eq!([equal.pixels()[0], equal.pixels()[256], equal.pixels()[511]], [0, 255, 255]);
    }

    #[test]
    fn sharpness_by_hand() {
        let mut pixels = [0; 9];
        pixels[4] = 130;
        // Smoothed centre: 5 * 130 / 13.
        assert_eq!(sharpness(&grey(3, 3, &pixels), 0.0).pixels()[4], 50);
        assert_eq!(sharpness(&grey(3, 3, &pixels), 2.0).pixels()[4], 210);
        assert_eq!(sharpness(&grey(1, 1, &[9]), 0.0).pixels(), [9]);
    }

    #[test]
    fn every_operation_comes_and_keeps_the_size() {
        let picture = Picture::new(9, 7, 3, (0..189).map(|i| (i * 53 % 256) as u8).collect()).unwrap();
        let mut different = std::collections::BTreeSet::new();
        for number in 0..400 {
            let mut stream = Stream::new(1, Purpose::Photo, [0, number]);
            let changed = one_operation(&mut stream, picture.clone());
            assert_eq!((changed.width(), changed.height(), changed.channels()), (9, 7, 3));
            different.insert(changed.pixels().to_vec());
        }
        assert!(different.len() > 200, "{} different pictures", different.len());
    }
}
