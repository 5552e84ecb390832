//! One image after the other: photograph, distortions with the normalisation, holes. The formulas of the distortions are
//! those of the room's introduction.

use std::cell::RefCell;

use model::{Picture, Preprocessing};
use rayon::prelude::*;

use super::config::AugmentConfig;
use super::photo;
use super::pick::Pick;
use super::smoothing::{add, add_pair, gaussian};
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::rng::{Purpose, Stream};

/// Distorts and normalises images of one data set.
#[derive(Clone, Debug)]
pub struct Augmenter {
    config: AugmentConfig,
    seed: u64,
    preprocessing: Preprocessing,
    /// Gaussian weights from the centre outwards, the full kernel having the sum `elastic_alpha`. Empty: not
    /// elastic.
    kernel: Vec<f32>,
    /// Normalised value of each byte, for each channel.
    tables: Vec<[f32; 256]>,
}

/// Buffers of one thread, kept from image to image.
#[derive(Default)]
struct Scratch {
    /// A channel as `f32`, with a border of background.
    source: Vec<f32>,
    /// Horizontal and vertical values in turn: a row of `W` pixels is `2 W` numbers long.
    noise: Vec<f32>,
    /// One row of `noise` after vertical smoothing, with zeros around it.
    row: Vec<f32>,
    displacement: Vec<f32>,
    /// Source position of each output pixel: offset of its upper left neighbour, and the fractions.
    offsets: Vec<u32>,
    fractions: Vec<[f32; 2]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Images that a thread takes at once: large enough that handing them out costs nothing.
const GRAIN: usize = 8;

impl Augmenter {
    /// Checks the settings and prepares what all images share.
    ///
    /// # Errors
    /// [`DataError::Setting`] when `config` is not possible.
    pub fn new(config: AugmentConfig, seed: u64, preprocessing: Preprocessing) -> Result<Self, DataError> {
        config.validate()?;
        let elastic = config.elastic_alpha > 0.0;
        let kernel = if elastic { gaussian(config.elastic_sigma, config.elastic_alpha) } else { Vec::new() };
        let normalized = preprocessing.mean.iter().zip(&preprocessing.std);
        let tables = normalized
            .map(|(mean, std)| std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std))
            .collect();
        Ok(Self { config, seed, preprocessing, kernel, tables })
    }

    /// The images `picks` of `dataset` as they look in `epoch`, normalised, `[N, C, H, W]`; not yet mixed. In parallel;
    /// the result does not depend on the number of threads.
    ///
    /// # Panics
    /// When `out` has not the length of the images, or an index is out of range.
    pub fn batch_into(&self, dataset: &Dataset, picks: &[Pick], epoch: usize, out: &mut [f32]) {
        let length = dataset.image_len();
        assert_eq!(out.len(), picks.len() * length, "length of the output");
        out.par_chunks_exact_mut(length).zip(picks).with_min_len(GRAIN).for_each(|(out, &pick)| {
            self.image_into(dataset.image(pick.index as usize), epoch, pick, out);
        });
    }

    /// The image `pick`, whose pixels are `image` (`[C, H, W]`), as it looks in `epoch`: changed and normalised.
    ///
    /// # Panics
    /// When `image` or `out` has not the size of the preprocessing's input, or that is neither grey nor RGB and
    /// photographs are to be changed.
    pub(crate) fn image_into(&self, image: &[u8], epoch: usize, pick: impl Into<Pick>, out: &mut [f32]) {
        let input = self.preprocessing.input;
        assert_eq!(image.len(), input.len(), "length of the image");
        assert_eq!(out.len(), image.len(), "length of the output");
        let path = [epoch as u64, pick.into().key()];
        let mut photo = Stream::new(self.seed, Purpose::Photo, path);
        let (mut before, mut after) = (photo.fork(), photo.fork());
        let changed = self.config.changes_photo().then(|| match Picture::from_planes(input, image) {
            Ok(picture) => photo::change(&self.config, &mut before, picture).planes(),
            Err(error) => panic!("{error}"),
        });
        let image = changed.as_deref().unwrap_or(image);
        if self.config.distorts() {
            SCRATCH.with_borrow_mut(|scratch| self.warp(scratch, image, path, out));
        } else {
            let plane = input.height * input.width;
            let channels = image.chunks_exact(plane).zip(out.chunks_exact_mut(plane));
            for ((image, out), table) in channels.zip(&self.tables) {
                for (&value, out) in image.iter().zip(out) {
                    *out = table[usize::from(value)];
                }
            }
        }
        if self.config.makes_holes() {
            photo::make_holes(&self.config, &mut after, input, out);
        }
    }

    fn warp(&self, scratch: &mut Scratch, image: &[u8], path: [u64; 2], out: &mut [f32]) {
        let (height, width) = (self.preprocessing.input.height, self.preprocessing.input.width);
        let mut stream = Stream::new(self.seed, Purpose::Augment, path);
        let affine = self.draw_affine(&mut stream, height, width);
        if !self.kernel.is_empty() {
            self.draw_displacement(&mut stream, scratch, height, width);
        }
        // Two columns and rows of background: positions are limited to -1 (all background) and to the size.
        let stride = width + 3;
        let positions = Positions { affine, height, width, stride };
        if self.kernel.is_empty() {
            positions.fill(|_| [0.0; 2], scratch);
        } else {
            let displacement = std::mem::take(&mut scratch.displacement);
            let (pairs, _) = displacement.as_chunks::<2>();
            positions.fill(|pixel| pairs[pixel], scratch);
            scratch.displacement = displacement;
        }
        let plane = height * width;
        let channels = image.chunks_exact(plane).zip(out.chunks_exact_mut(plane));
        for ((image, out), (mean, std)) in
            channels.zip(self.preprocessing.mean.iter().zip(&self.preprocessing.std))
        {
            scratch.source.clear();
            scratch.source.resize(stride * (height + 3), 0.0);
            for (row, bordered) in
                image.chunks_exact(width).zip(scratch.source.chunks_exact_mut(stride).skip(1))
            {
                for (pixel, value) in row.iter().zip(&mut bordered[1..]) {
                    *value = f32::from(*pixel);
                }
            }
            for ((out, &offset), &[right, down]) in
                out.iter_mut().zip(&scratch.offsets).zip(&scratch.fractions)
            {
                let corner = &scratch.source[offset as usize..][..stride + 2];
                let above = corner[0] + right * (corner[1] - corner[0]);
                let below = corner[stride] + right * (corner[stride + 1] - corner[stride]);
                let value = above + down * (below - above);
                *out = (value / 255.0 - mean) / std;
            }
        }
    }

    /// The map from output to source positions, `[[a, b, c], [d, e, f]]`:
    /// `x = a X + b Y + c` and `y = d X + e Y + f`.
    fn draw_affine(&self, stream: &mut Stream, height: usize, width: usize) -> [[f32; 3]; 2] {
        let config = &self.config;
        let shift = [stream.symmetric(config.shift), stream.symmetric(config.shift)];
        let angle = stream.symmetric(config.rotate).to_radians();
        let scale = 1.0 + stream.symmetric(config.scale);
        let shear = stream.symmetric(config.shear).to_radians().tan();
        // An object is scaled, sheared, rotated, then shifted; the inverse is what a resampling needs.
        let (sin, cos) = angle.sin_cos();
        let [a, b] = [(cos + shear * sin) / scale, (sin - shear * cos) / scale];
        let [d, e] = [-sin / scale, cos / scale];
        let centre = [(width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0];
        let [x, y] = [centre[0] + shift[0], centre[1] + shift[1]];
        [[a, b, centre[0] - a * x - b * y], [d, e, centre[1] - d * x - e * y]]
    }

    /// Fills `scratch.displacement` with the smoothed noise. Beyond the border the noise is 0.
    fn draw_displacement(&self, stream: &mut Stream, scratch: &mut Scratch, height: usize, width: usize) {
        let row_len = 2 * width;
        scratch.noise.clear();
        while scratch.noise.len() < height * row_len {
            let bits = stream.next_u64();
            scratch.noise.extend([0, 16, 32, 48].map(|shift| f32::from((bits >> shift) as i16) / 32768.0));
        }
        scratch.noise.truncate(height * row_len);
        scratch.displacement.clear();
        scratch.displacement.resize(height * row_len, 0.0);
        // The two directions lie side by side, so both smoothings add whole rows to whole rows.
        let reach = 2 * (self.kernel.len() - 1);
        scratch.row.clear();
        scratch.row.resize(row_len + 2 * reach, 0.0);
        for (y, out) in scratch.displacement.chunks_exact_mut(row_len).enumerate() {
            let smoothed = &mut scratch.row[reach..][..row_len];
            smoothed.fill(0.0);
            let noise = |y: usize| &scratch.noise[y * row_len..][..row_len];
            for (distance, &weight) in self.kernel.iter().enumerate() {
                match (y.checked_sub(distance), Some(y + distance).filter(|&y| y < height)) {
                    _ if distance == 0 => add(smoothed, noise(y), weight),
                    (Some(above), Some(below)) => add_pair(smoothed, noise(above), noise(below), weight),
                    (Some(only), None) | (None, Some(only)) => add(smoothed, noise(only), weight),
                    (None, None) => break,
                }
            }
            let row = &scratch.row;
            add(out, &row[reach..][..row_len], self.kernel[0]);
            for (distance, &weight) in self.kernel.iter().enumerate().skip(1) {
                let (left, right) =
                    (&row[reach - 2 * distance..][..row_len], &row[reach + 2 * distance..][..row_len]);
                add_pair(out, left, right, weight);
            }
        }
    }
}

/// Where every output pixel finds its source.
struct Positions {
    affine: [[f32; 3]; 2],
    height: usize,
    width: usize,
    stride: usize,
}

impl Positions {
    #[inline]
    fn fill(&self, displacement: impl Fn(usize) -> [f32; 2], scratch: &mut Scratch) {
        let pixels = self.height * self.width;
        scratch.offsets.resize(pixels, 0);
        scratch.fractions.resize(pixels, [0.0; 2]);
        let [[a, b, c], [d, e, f]] = self.affine;
        let [right, bottom] = [self.width as f32, self.height as f32];
        let stride = self.stride as u32;
        let rows =
            scratch.offsets.chunks_exact_mut(self.width).zip(scratch.fractions.chunks_exact_mut(self.width));
        for (row, (offsets, fractions)) in rows.enumerate() {
            let (start_x, start_y) = (b * row as f32 + c, e * row as f32 + f);
            for (column, (offset, fraction)) in offsets.iter_mut().zip(fractions).enumerate() {
                let [dx, dy] = displacement(row * self.width + column);
                // Counted from the border's corner, so that positions are positive and rounding down is
                // truncation.
                let x = (start_x + a * column as f32 + dx).clamp(-1.0, right) + 1.0;
                let y = (start_y + d * column as f32 + dy).clamp(-1.0, bottom) + 1.0;
                let (left, top) = (x as i32, y as i32);
                *offset = top as u32 * stride + left as u32;
                *fraction = [x - left as f32, y - top as f32];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Fit, InputShape};

    const SIDE: usize = 28;

    /// Leaves pixels as they are, so that tests can read them.
    fn plain(channels: usize, height: usize, width: usize) -> Preprocessing {
        let input = InputShape { channels, height, width };
        Preprocessing {
            input,
            mean: vec![0.0; channels],
            std: vec![1.0 / 255.0; channels],
            fit: Fit::default(),
        }
    }

    fn augmenter(config: AugmentConfig) -> Augmenter {
        Augmenter::new(config, 1, plain(1, SIDE, SIDE)).unwrap()
    }

    fn warp(augmenter: &Augmenter, image: &[u8], index: u32) -> Vec<f32> {
        let mut out = vec![f32::NAN; image.len()];
        augmenter.image_into(image, 0, index, &mut out);
        out
    }

    /// A soft spot; its centre of mass is `centre`.
    fn spot(centre: [f32; 2]) -> Vec<u8> {
        let pixel = |i: usize| {
            let (x, y) = ((i % SIDE) as f32 - centre[0], (i / SIDE) as f32 - centre[1]);
            (250.0 * (-(x * x + y * y) / 8.0).exp()) as u8
        };
        (0..SIDE * SIDE).map(pixel).collect()
    }

    fn mass_centre(image: &[f32]) -> [f32; 2] {
        let mass: f32 = image.iter().sum();
        let moment = |of: fn(usize) -> usize| {
            image.iter().enumerate().map(|(i, v)| of(i) as f32 * v).sum::<f32>() / mass
        };
        [moment(|i| i % SIDE), moment(|i| i / SIDE)]
    }

    fn close(found: [f32; 2], expected: [f32; 2], tolerance: f32) {
        let distance = (found[0] - expected[0]).hypot(found[1] - expected[1]);
        assert!(distance < tolerance, "{found:?}, expected {expected:?}");
    }

    /// Parameters in the order in which an image draws them.
    fn drawn(index: u32, config: AugmentConfig) -> ([f32; 2], f32, f32, f32) {
        let mut stream = Stream::new(1, Purpose::Augment, [0, u64::from(index)]);
        let shift = [stream.symmetric(config.shift), stream.symmetric(config.shift)];
        let angle = stream.symmetric(config.rotate);
        (shift, angle, stream.symmetric(config.scale), stream.symmetric(config.shear))
    }

    #[test]
    fn nothing_on_is_normalisation_alone() {
        let image: Vec<u8> = (0..3 * 5 * 7).map(|i| (i * 97 % 256) as u8).collect();
        let input = InputShape { channels: 3, height: 5, width: 7 };
        let preprocessing =
            Preprocessing { input, mean: vec![0.1, 0.2, 0.3], std: vec![0.4, 0.5, 0.6], fit: Fit::default() };
        let augmenter = Augmenter::new(AugmentConfig::default(), 0, preprocessing).unwrap();
        let out = warp(&augmenter, &image, 3);
        for (i, (found, pixel)) in out.iter().zip(&image).enumerate() {
            let channel = (i / 35) as f32;
            let expected = (f32::from(*pixel) / 255.0 - 0.1 * (1.0 + channel)) / (0.1 * (4.0 + channel));
            assert!((found - expected).abs() < 1e-5, "{i}: {found}, expected {expected}");
        }
    }

    #[test]
    fn shift_moves_the_object() {
        let config = AugmentConfig { shift: 4.0, ..Default::default() };
        for index in 0..20 {
            let (shift, ..) = drawn(index, config);
            let out = warp(&augmenter(config), &spot([13.0, 15.0]), index);
            close(mass_centre(&out), [13.0 + shift[0], 15.0 + shift[1]], 0.01);
        }
    }

    #[test]
    fn rotation_scale_and_shear_turn_about_the_centre() {
        let offset = [5.0, -2.0];
        let image = spot([13.5 + offset[0], 13.5 + offset[1]]);
        for index in 0..20 {
            let config = AugmentConfig { rotate: 30.0, ..Default::default() };
            let (_, angle, ..) = drawn(index, config);
            let (sin, cos) = angle.to_radians().sin_cos();
            let turned = [cos * offset[0] - sin * offset[1], sin * offset[0] + cos * offset[1]];
            close(mass_centre(&warp(&augmenter(config), &image, index)), turned.map(|v| 13.5 + v), 0.02);

            let config = AugmentConfig { scale: 0.3, ..Default::default() };
            let (_, _, scale, _) = drawn(index, config);
            let scaled = offset.map(|v| 13.5 + v * (1.0 + scale));
            close(mass_centre(&warp(&augmenter(config), &image, index)), scaled, 0.05);

            let config = AugmentConfig { shear: 20.0, ..Default::default() };
            let (.., shear) = drawn(index, config);
            let sheared = [13.5 + offset[0] + shear.to_radians().tan() * offset[1], 13.5 + offset[1]];
            close(mass_centre(&warp(&augmenter(config), &image, index)), sheared, 0.02);
        }
    }

    #[test]
    fn far_shift_leaves_background() {
        let config = AugmentConfig { shift: 1e4, ..Default::default() };
        let (shift, ..) = drawn(0, config);
        assert!(shift[0].abs() > 100.0);
        assert_eq!(warp(&augmenter(config), &[255; SIDE * SIDE], 0), [0.0; SIDE * SIDE]);
    }

    /// Simard's displacement, computed directly: the two-dimensional Gaussian at every pixel.
    #[test]
    fn elastic_displacement_equals_the_definition() {
        let (height, width) = (9, 12);
        let (alpha, sigma) = (34.0f64, 2.0f64);
        let config =
            AugmentConfig { elastic_alpha: alpha as f32, elastic_sigma: sigma as f32, ..Default::default() };
        let augmenter = Augmenter::new(config, 5, plain(1, height, width)).unwrap();
        let mut scratch = Scratch::default();
        augmenter.draw_displacement(
            &mut Stream::new(5, Purpose::Augment, [0, 0]),
            &mut scratch,
            height,
            width,
        );
        let radius = 6;
        let weight = |d: i64| (-0.5 * (d as f64 / sigma).powi(2)).exp();
        let sum: f64 = (-radius..=radius).map(weight).sum();
        for y in 0..height as i64 {
            for x in 0..width as i64 {
                for direction in 0..2 {
                    let mut expected = 0.0;
                    for (v, u) in (-radius..=radius).flat_map(|v| (-radius..=radius).map(move |u| (v, u))) {
                        if (0..height as i64).contains(&(y + v)) && (0..width as i64).contains(&(x + u)) {
                            let noise =
                                scratch.noise[2 * ((y + v) as usize * width + (x + u) as usize) + direction];
                            expected += alpha * weight(v) * weight(u) / (sum * sum) * f64::from(noise);
                        }
                    }
                    let found =
                        f64::from(scratch.displacement[2 * (y as usize * width + x as usize) + direction]);
                    assert!((found - expected).abs() < 1e-4, "({x}, {y}): {found}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn elastic_displacement_has_the_documented_size() {
        let config = AugmentConfig { elastic_alpha: 34.0, elastic_sigma: 4.0, ..Default::default() };
        let side = 200;
        let augmenter = Augmenter::new(config, 5, plain(1, side, side)).unwrap();
        let mut scratch = Scratch::default();
        augmenter.draw_displacement(&mut Stream::new(5, Purpose::Augment, [0, 0]), &mut scratch, side, side);
        let square: f32 = scratch.displacement.iter().map(|d| d * d).sum();
        let deviation = (square / scratch.displacement.len() as f32).sqrt();
        let expected = 34.0 / (4.0 * (12.0 * std::f32::consts::PI).sqrt());
        assert!((deviation / expected - 1.0).abs() < 0.1, "{deviation}, expected {expected}");
    }

    fn digits(count: usize) -> Dataset {
        let pixels = (0..count * SIDE * SIDE).map(|i| (i * i % 253) as u8).collect();
        Dataset::new("noise", pixels, vec![0; count], InputShape::new(1, SIDE, SIDE), vec!["0".into()])
    }

    #[test]
    fn thread_count_and_batch_neighbours_change_nothing() {
        let config = AugmentConfig {
            shift: 2.0,
            rotate: 10.0,
            scale: 0.1,
            shear: 5.0,
            elastic_alpha: 34.0,
            elastic_sigma: 4.0,
            flip: true,
            crop: 0.3,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            trivial: true,
            cutout: 5,
            erase: 0.5,
            mixup: 0.0,
            cutmix: 0.0,
        };
        let dataset = digits(50);
        let picks: Vec<Pick> = (0..50).rev().map(Pick::from).collect();
        let run = |threads: usize, picks: &[Pick]| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; picks.len() * SIDE * SIDE];
            pool.install(|| augmenter(config).batch_into(&dataset, picks, 7, &mut out));
            out
        };
        let one = run(1, &picks);
        assert_eq!(one, run(3, &picks));
        assert_eq!(one[..784], run(2, &[49.into()]));
        let mut other = vec![0.0; 784];
        augmenter(config).image_into(dataset.image(49), 8, 49, &mut other);
        assert_ne!(one[..784], other, "the next epoch");
        augmenter(config).image_into(dataset.image(49), 7, Pick { index: 49, repetition: 1 }, &mut other);
        assert_ne!(one[..784], other, "the same image again in one epoch");
    }

    #[test]
    fn impossible_settings_are_named() {
        let error = |config: AugmentConfig| config.validate().unwrap_err().to_string();
        let off = AugmentConfig::default();
        assert_eq!(
            error(AugmentConfig { scale: 1.0, ..off }),
            "scale = 1 is not possible: 0 to 0.9 of the size"
        );
        assert!(error(AugmentConfig { rotate: f32::NAN, ..off }).contains("rotate = NaN"));
        assert!(error(AugmentConfig { shift: -1.0, ..off }).contains("shift = -1"));
        assert!(error(AugmentConfig { elastic_alpha: 34.0, ..off }).contains("elastic_sigma = 0"));
        assert!(error(AugmentConfig { crop: 1.5, ..off }).contains("crop = 1.5"));
        assert!(error(AugmentConfig { mixup: f32::INFINITY, ..off }).contains("mixup = inf"));
        assert!(off.validate().is_ok() && off.is_off());
        let each = [
            AugmentConfig { flip: true, ..off },
            AugmentConfig { crop: 0.1, ..off },
            AugmentConfig { brightness: 0.1, ..off },
            AugmentConfig { contrast: 0.1, ..off },
            AugmentConfig { saturation: 0.1, ..off },
            AugmentConfig { trivial: true, ..off },
            AugmentConfig { cutout: 1, ..off },
            AugmentConfig { erase: 0.1, ..off },
            AugmentConfig { mixup: 0.1, ..off },
            AugmentConfig { cutmix: 0.1, ..off },
        ];
        assert!(each.iter().all(|config| !config.is_off() && config.validate().is_ok()));
    }
}
