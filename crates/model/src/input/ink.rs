//! Ink on a ground: which pixels of a photo were written, whatever the light, the paper and the pen.

use crate::{InputShape, Picture};

/// Connected ink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Component {
    pub(crate) left: usize,
    pub(crate) top: usize,
    /// One past the last column.
    pub(crate) right: usize,
    /// One past the last row.
    pub(crate) bottom: usize,
    /// Pixels.
    pub(crate) area: usize,
}

impl Component {
    pub(crate) fn width(&self) -> usize {
        self.right - self.left
    }

    pub(crate) fn height(&self) -> usize {
        self.bottom - self.top
    }

    /// The longer side of its box.
    pub(crate) fn side(&self) -> usize {
        self.width().max(self.height())
    }

    /// The smallest box around both.
    pub(crate) fn union(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
            area: self.area + other.area,
        }
    }
}

/// The ink of a picture, light on dark as in MNIST.
pub(crate) struct Ink {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Pixels of the original for one of these.
    pub(crate) reduction: f64,
    /// `[H, W]`, 0 for the ground to 255 for full ink; 0 wherever `labels` is 0.
    pub(crate) values: Vec<u8>,
    /// `[H, W]`, 0 for the ground, else 1 + index of the component.
    pub(crate) labels: Vec<u32>,
    pub(crate) components: Vec<Component>,
}

/// Contrast in grey levels below which a mark is dirt or noise.
const FAINT: f32 = 12.0;

/// A pixel is surely ink above this share of the ink's contrast, and ink if it touches such a pixel and
/// is above the smaller share (Canny 1986, section VII: thresholds with hysteresis).
const SURE: f32 = 0.45;
const PERHAPS: f32 = 0.2;

impl Ink {
    /// Finds the ink of a picture, at most `longest` pixels a side. The ground is the level of the border,
    /// followed inwards as a smooth surface; ink is what differs from it, darker or lighter, whichever
    /// differs more.
    pub(crate) fn find(picture: &Picture, longest: usize) -> Self {
        let grey = grey(picture);
        let side = grey.width().max(grey.height());
        let small;
        let (grey, reduction) = if side > longest {
            let scale = longest as f64 / side as f64;
            let scaled = |length: usize| ((length as f64 * scale).round() as usize).max(1);
            small = grey.resize(scaled(grey.width()), scaled(grey.height()));
            (&small, 1.0 / scale)
        } else {
            (&grey, 1.0)
        };
        let (width, height) = (grey.width(), grey.height());
        let mut ink = Self {
            width,
            height,
            reduction,
            values: vec![0; width * height],
            labels: vec![0; width * height],
            components: Vec::new(),
        };
        let Some(difference) = differences(grey) else { return ink };
        let Differences { values: d, noise } = difference;
        let Some(contrast) = contrast(&d, 4.0 * noise) else { return ink };
        let low = (PERHAPS * contrast).max(2.5 * noise);
        let sure = (SURE * contrast).max(4.0 * noise);
        ink.label(&d, low, sure);
        // Full ink well below the darkest spot, so that a stroke is even; the edges keep their greys.
        let full = 0.9 * contrast;
        let (labels, values) = (&ink.labels, &mut ink.values);
        for ((value, &label), &d) in values.iter_mut().zip(labels).zip(&d) {
            if label > 0 {
                *value = (255.0 * ((d - 0.5 * low) / (full - 0.5 * low)).clamp(0.0, 1.0)) as u8;
            }
        }
        ink
    }

    /// Labels 8-connected ink above `low` that holds a pixel above `sure`.
    fn label(&mut self, d: &[f32], low: f32, sure: f32) {
        let (width, height) = (self.width, self.height);
        let mut stack = Vec::new();
        let mut seen = vec![false; d.len()];
        for start in 0..d.len() {
            if seen[start] || d[start] <= sure {
                continue;
            }
            let (x, y) = (start % width, start / width);
            let mut component = Component { left: x, top: y, right: x + 1, bottom: y + 1, area: 0 };
            let label = self.components.len() as u32 + 1;
            seen[start] = true;
            stack.push(start);
            while let Some(at) = stack.pop() {
                let (x, y) = (at % width, at / width);
                self.labels[at] = label;
                component.area += 1;
                component.left = component.left.min(x);
                component.right = component.right.max(x + 1);
                component.top = component.top.min(y);
                component.bottom = component.bottom.max(y + 1);
                for y in y.saturating_sub(1)..(y + 2).min(height) {
                    for x in x.saturating_sub(1)..(x + 2).min(width) {
                        let next = y * width + x;
                        if !seen[next] && d[next] > low {
                            seen[next] = true;
                            stack.push(next);
                        }
                    }
                }
            }
            self.components.push(component);
        }
    }

    /// Whether the component reaches the edge of the picture.
    pub(crate) fn at_edge(&self, component: &Component) -> bool {
        component.left == 0
            || component.top == 0
            || component.right == self.width
            || component.bottom == self.height
    }

    /// The part inside `frame` as a picture, only ink whose label `keep` accepts, with `margin` pixels of
    /// ground around it.
    pub(crate) fn cut(&self, frame: &Component, margin: usize, keep: impl Fn(u32) -> bool) -> Plane {
        let (width, height) = (frame.width() + 2 * margin, frame.height() + 2 * margin);
        let mut plane = Plane { width, height, values: vec![0; width * height] };
        for y in frame.top..frame.bottom {
            for x in frame.left..frame.right {
                let at = y * self.width + x;
                if self.labels[at] > 0 && keep(self.labels[at]) {
                    plane.values[(y - frame.top + margin) * width + x - frame.left + margin] =
                        self.values[at];
                }
            }
        }
        plane
    }
}

/// One channel of bytes.
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) values: Vec<u8>,
}

/// The picture in one channel.
pub(crate) fn grey(picture: &Picture) -> Picture {
    let shape = InputShape::new(1, picture.height(), picture.width());
    // To one channel every picture goes: it has 1 or 3.
    picture.clone().with_channels(shape.channels).unwrap_or_else(|_| picture.clone())
}

struct Differences {
    /// `[H, W]`, positive for ink.
    values: Vec<f32>,
    /// Standard deviation of the ground.
    noise: f32,
}

/// How far every pixel is from the ground, towards the ink. `None`: nothing stands out.
fn differences(grey: &Picture) -> Option<Differences> {
    let (width, height) = (grey.width(), grey.height());
    let surface = Surface::fit(grey);
    let mut d: Vec<f32> = Vec::with_capacity(width * height);
    for (y, row) in grey.pixels().chunks_exact(width).enumerate() {
        let v = position(y, height);
        d.extend(
            row.iter().enumerate().map(|(x, &value)| f32::from(value) - surface.at(position(x, width), v)),
        );
    }
    let noise = spread(&d).max(1.0);
    let limit = (4.0 * noise).max(FAINT);
    // The ink differs more than the ground does: the sign of the squares decides.
    let sum: f64 = d.iter().filter(|d| d.abs() > limit).map(|&d| f64::from(d * d.abs())).sum();
    if sum == 0.0 {
        return None;
    }
    if sum < 0.0 {
        for value in &mut d {
            *value = -*value;
        }
    }
    // What the surface could not follow: the mean of the ground around each pixel.
    let local = masked_mean(&d, width, height, |d| d.abs() <= limit, (width.min(height) / 8).max(8));
    d.iter_mut().zip(local).for_each(|(d, local)| *d -= local);
    let noise = d.iter().filter(|d| d.abs() <= limit).copied().collect::<Vec<_>>();
    let noise = spread(&noise).max(1.0);
    Some(Differences { values: d, noise })
}

/// The contrast of the ink: the upper quartile of what is above the noise.
fn contrast(d: &[f32], noise: f32) -> Option<f32> {
    let limit = noise.max(FAINT);
    let mut above: Vec<f32> = d.iter().copied().filter(|&d| d > limit).collect();
    if above.is_empty() {
        return None;
    }
    let at = above.len() * 3 / 4;
    let (_, quartile, _) = above.select_nth_unstable_by(at, f32::total_cmp);
    Some(*quartile)
}

/// Standard deviation from the median of the absolute values, for values around zero of which fewer than
/// half are something else (1.4826: the normal distribution's).
fn spread(values: &[f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let mut absolute: Vec<f32> = values.iter().map(|value| value.abs()).collect();
    let at = absolute.len() / 2;
    let (_, median, _) = absolute.select_nth_unstable_by(at, f32::total_cmp);
    1.4826 * *median
}

/// A coordinate in -1 to 1.
fn position(at: usize, length: usize) -> f32 {
    (2 * at + 1) as f32 / length as f32 - 1.0
}

/// The mean of the accepted values in a square of `2 radius + 1` around each pixel; 0 where there are none.
fn masked_mean(
    d: &[f32],
    width: usize,
    height: usize,
    accept: impl Fn(f32) -> bool,
    radius: usize,
) -> Vec<f32> {
    // Sums over all rows and columns before, one row and one column longer than the picture.
    let stride = width + 1;
    let mut sums = vec![0f64; stride * (height + 1)];
    let mut counts = vec![0u32; stride * (height + 1)];
    for y in 0..height {
        let (mut sum, mut count) = (0.0, 0);
        for x in 0..width {
            let value = d[y * width + x];
            if accept(value) {
                sum += f64::from(value);
                count += 1;
            }
            sums[(y + 1) * stride + x + 1] = sums[y * stride + x + 1] + sum;
            counts[(y + 1) * stride + x + 1] = counts[y * stride + x + 1] + count;
        }
    }
    let mut means = Vec::with_capacity(d.len());
    for y in 0..height {
        let (top, bottom) = (y.saturating_sub(radius), (y + radius + 1).min(height));
        for x in 0..width {
            let (left, right) = (x.saturating_sub(radius), (x + radius + 1).min(width));
            let corners = [(bottom, right), (top, left), (top, right), (bottom, left)];
            let [a, b, c, e] = corners.map(|(y, x)| y * stride + x);
            let count = counts[a] + counts[b] - counts[c] - counts[e];
            let sum = sums[a] + sums[b] - sums[c] - sums[e];
            means.push(if count == 0 { 0.0 } else { (sum / f64::from(count)) as f32 });
        }
    }
    means
}

/// Terms of a surface of the second degree.
const TERMS: usize = 6;

/// The level of the ground: a surface of the second degree, in coordinates of -1 to 1.
struct Surface([f64; TERMS]);

impl Surface {
    /// Fits it to what is like the border of the picture. Pixels that are not (the ink) lose their vote
    /// in each of a few rounds.
    fn fit(grey: &Picture) -> Self {
        const SIDE: usize = 64;
        let (width, height) = (grey.width(), grey.height());
        let small;
        let grey = if width.max(height) > SIDE {
            let scale = SIDE as f64 / width.max(height) as f64;
            let scaled = |length: usize| ((length as f64 * scale).round() as usize).max(1);
            small = grey.resize(scaled(width), scaled(height));
            &small
        } else {
            grey
        };
        let (width, height) = (grey.width(), grey.height());
        let pixels = grey.pixels();
        // An eighth of the picture on each side: wider than the shadow of an edge.
        let band = (width.min(height) / 8).max(1);
        let mut ring: Vec<u8> = pixels
            .iter()
            .enumerate()
            .filter(|(at, _)| {
                let (x, y) = (at % width, at / width);
                x < band || y < band || x + band >= width || y + band >= height
            })
            .map(|(_, &value)| value)
            .collect();
        ring.sort_unstable();
        let level = f64::from(ring[ring.len() / 2]);
        let mut surface = Self([level, 0.0, 0.0, 0.0, 0.0, 0.0]);
        if width < 6 || height < 6 {
            return surface;
        }
        let (low, high) = pixels.iter().fold((255, 0), |(low, high), &v| (v.min(low), v.max(high)));
        let mut tolerance = 0.4 * f32::from(high - low);
        for _ in 0..8 {
            let mut differences = Vec::with_capacity(pixels.len());
            let mut normal = [[0.0; TERMS + 1]; TERMS];
            for (at, &value) in pixels.iter().enumerate() {
                let (u, v) = (position(at % width, width), position(at / width, height));
                let difference = f32::from(value) - surface.at(u, v);
                differences.push(difference);
                if difference.abs() <= tolerance {
                    accumulate(&mut normal, u.into(), v.into(), value.into());
                }
            }
            match solve(normal) {
                Some(coefficients) => surface = Self(coefficients),
                None => return surface,
            }
            tolerance = (3.0 * spread(&differences)).clamp(6.0, tolerance.max(6.0));
        }
        surface
    }

    fn at(&self, u: f32, v: f32) -> f32 {
        let terms = terms(u.into(), v.into());
        self.0.iter().zip(terms).map(|(a, b)| a * b).sum::<f64>() as f32
    }
}

fn terms(u: f64, v: f64) -> [f64; TERMS] {
    [1.0, u, v, u * u, u * v, v * v]
}

/// Adds one point to the normal equations of a least-squares fit.
fn accumulate(normal: &mut [[f64; TERMS + 1]; TERMS], u: f64, v: f64, value: f64) {
    let terms = terms(u, v);
    for (row, &a) in normal.iter_mut().zip(&terms) {
        for (cell, &b) in row.iter_mut().zip(&terms) {
            *cell += a * b;
        }
        row[TERMS] += a * value;
    }
}

/// Solves the normal equations by elimination; `None` where too few points determine nothing.
fn solve(mut normal: [[f64; TERMS + 1]; TERMS]) -> Option<[f64; TERMS]> {
    for pivot in 0..TERMS {
        let best =
            (pivot..TERMS).max_by(|&a, &b| normal[a][pivot].abs().total_cmp(&normal[b][pivot].abs()))?;
        normal.swap(pivot, best);
        if normal[pivot][pivot].abs() < 1e-6 {
            return None;
        }
        let lead = normal[pivot];
        for (index, row) in normal.iter_mut().enumerate() {
            if index != pivot {
                let factor = row[pivot] / lead[pivot];
                row.iter_mut().zip(&lead).for_each(|(cell, lead)| *cell -= factor * lead);
            }
        }
    }
    Some(std::array::from_fn(|index| normal[index][TERMS] / normal[index][index]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picture(width: usize, height: usize, value: impl Fn(usize, usize) -> f32) -> Picture {
        let pixels = (0..width * height).map(|at| value(at % width, at / width) as u8).collect();
        Picture::new(width, height, 1, pixels).unwrap()
    }

    /// A bar of 6 columns from row 20 to 60 in 80x80.
    fn bar(x: usize, y: usize) -> bool {
        (37..43).contains(&x) && (20..60).contains(&y)
    }

    fn found(ink: &Ink) -> Vec<(usize, usize, usize, usize)> {
        ink.components.iter().map(|c| (c.left, c.top, c.right, c.bottom)).collect()
    }

    #[test]
    fn ink_is_found_dark_on_light_and_light_on_dark() {
        for (ground, level) in [(230.0, 40.0), (20.0, 200.0), (120.0, 60.0), (120.0, 180.0)] {
            let ink = Ink::find(&picture(80, 80, |x, y| if bar(x, y) { level } else { ground }), 512);
            assert_eq!(found(&ink), [(37, 20, 43, 60)], "{ground} {level}");
            assert_eq!(ink.values.iter().map(|&value| usize::from(value == 255)).sum::<usize>(), 6 * 40);
        }
    }

    #[test]
    fn uneven_light_is_no_ink() {
        // From 80 in one corner to 240 in the other, brighter in the middle; ink at 45 % of the light.
        let light = |x: usize, y: usize| {
            let (u, v) = (x as f32 / 79.0, y as f32 / 79.0);
            80.0 + 60.0 * u + 60.0 * v + 160.0 * u * (1.0 - u) * v
        };
        let ink = Ink::find(&picture(80, 80, |x, y| light(x, y) * if bar(x, y) { 0.45 } else { 1.0 }), 512);
        assert_eq!(found(&ink), [(37, 20, 43, 60)]);
        assert!(Ink::find(&picture(80, 80, light), 512).components.is_empty());
    }

    #[test]
    fn flat_and_noisy_pictures_hold_no_ink() {
        for value in [0.0, 127.0, 255.0] {
            assert!(Ink::find(&picture(50, 40, |_, _| value), 512).components.is_empty());
        }
        let hash = |x: usize, y: usize| ((x * 7919 + y * 104_729).wrapping_mul(2_654_435_761) >> 13) % 256;
        let noise = picture(64, 64, |x, y| hash(x, y) as f32);
        assert!(Ink::find(&noise, 512).components.is_empty());
        let paper = picture(64, 64, |x, y| 220.0 + hash(x, y) as f32 / 25.0);
        assert!(Ink::find(&paper, 512).components.is_empty());
    }

    #[test]
    fn a_large_picture_is_reduced() {
        let large = picture(800, 800, |x, y| if bar(x / 10, y / 10) { 30.0 } else { 220.0 });
        let ink = Ink::find(&large, 80);
        assert!((ink.reduction - 10.0).abs() < 1e-9);
        assert_eq!(found(&ink), [(37, 20, 43, 60)]);
    }

    #[test]
    fn a_plane_is_fitted_exactly() {
        let plane = picture(20, 30, |x, y| (2 * x + 3 * y + 10) as f32);
        let surface = Surface::fit(&plane);
        for (x, y) in [(0, 0), (19, 29), (7, 11)] {
            let expected = (2 * x + 3 * y + 10) as f32;
            let found = surface.at(position(x, 20), position(y, 30));
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
    }

    proptest! {
        #[test]
        fn any_picture_is_searched_without_a_panic(
            width in 1usize..40, height in 1usize..40, seed: u64, longest in 1usize..50,
        ) {
            let picture = picture(width, height, |x, y| {
                (seed.wrapping_mul((x * 31 + y * 17 + 1) as u64) >> 20 & 255) as f32
            });
            let ink = Ink::find(&picture, longest);
            prop_assert!(ink.width <= longest.max(1) && ink.height <= longest.max(1) || ink.reduction == 1.0);
            let labelled = ink.labels.iter().filter(|&&label| label > 0).count();
            prop_assert_eq!(labelled, ink.components.iter().map(|c| c.area).sum::<usize>());
        }
    }
}
