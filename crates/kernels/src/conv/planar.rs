//! The block on planes, forward and backward: convolutions with stride 1 that no maximum follows.

use super::{
    geometry::{Geometry, Reduction},
    partial::Partial,
    planes::{Plan, convolve, map_row, zip_row},
};
use crate::{
    buffer::{Part, Scratch},
    pointwise::{Activation, apply_tanh},
    simd::{
        Kernel, Simd,
        taps::{OuterSum, outer_sum, rows_per_strip},
        tile::split_evenly,
        transpose::transpose,
    },
};

/// Weights of one group for the forward pass.
pub(crate) fn pack(geometry: &Geometry, plan: &Plan, weight: &[f32]) -> Scratch {
    let area = geometry.kernel[0] * geometry.kernel[1];
    plan.pack(weight, |feature, channel, tap| (feature * geometry.channels + channel) * area + tap)
}

/// Weights of one group for the gradient of the image: the kernel turned by 180 degrees.
pub(crate) fn pack_turned(geometry: &Geometry, plan: &Plan, weight: &[f32]) -> Scratch {
    let area = geometry.kernel[0] * geometry.kernel[1];
    plan.pack(weight, |channel, feature, tap| (feature * geometry.channels + channel) * area + area - 1 - tap)
}

/// The forward pass of some images.
pub(crate) struct Forward<'a> {
    pub(crate) geometry: &'a Geometry,
    pub(crate) plan: &'a Plan,
    pub(crate) images: &'a [f32],
    /// One per group.
    pub(crate) weights: &'a [Scratch],
    pub(crate) bias: &'a [f32],
    pub(crate) range: std::ops::Range<usize>,
    pub(crate) output: Part<f32>,
    /// Where the activated values before an average pooling are kept, if they are.
    pub(crate) inner: Option<Part<f32>>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { geometry, plan, .. } = self;
        let mut padded = Scratch::new(plan.padded_len());
        let mut spare = Scratch::new(plan.spare_len());
        let [rows, columns] = geometry.inner;
        let inner_len = rows * columns * geometry.features;
        let averages = geometry.reduction == Reduction::Average;
        let mut own = Scratch::new(if averages && self.inner.is_none() { inner_len } else { 0 });
        for image in self.range {
            for group in 0..geometry.groups {
                let index = image * geometry.groups + group;
                // SAFETY: the caller has checked the lengths of all slices, and scratch is sized above.
                unsafe {
                    let from = self.images.as_ptr().add(index * geometry.image_len());
                    plan.load::<S>(from, padded.pointer_mut());
                    let output = self.output.at(index * geometry.output_len());
                    let inner = match self.inner {
                        _ if !averages => output,
                        Some(inner) => inner.at(index * inner_len),
                        None => own.pointer_mut(),
                    };
                    convolve::<S>(
                        plan,
                        padded.pointer(),
                        self.weights[group].pointer(),
                        self.bias.as_ptr().add(group * geometry.features),
                        geometry.is_rectified(),
                        spare.pointer_mut(),
                        inner,
                    );
                    if geometry.activation == Activation::Tanh {
                        apply_tanh::<S>(std::slice::from_raw_parts_mut(inner, inner_len));
                    }
                    if averages {
                        average::<S>(geometry, inner, output);
                    }
                }
            }
        }
    }
}

/// Means of the windows of all planes of one image, padding counted as zeros.
///
/// # Safety
/// The processor supports `S`; `inner` and `output` hold the planes of `geometry`, of one group.
#[inline(always)]
unsafe fn average<S: Simd>(geometry: &Geometry, inner: *const f32, output: *mut f32) {
    let window = &geometry.window;
    let [rows, columns] = geometry.inner;
    let [height, width] = geometry.output;
    let share = 1.0 / window.area() as f32;
    let mut sums = vec![0.0_f32; height * columns];
    for feature in 0..geometry.features {
        // SAFETY: the rows lie within the planes of this feature.
        unsafe {
            let from = inner.add(feature * rows * columns);
            let to = std::slice::from_raw_parts_mut(output.add(feature * height * width), height * width);
            for (y, sums) in sums.chunks_exact_mut(columns).enumerate() {
                let (top, bottom, _) = window.range(0, y, rows);
                let sums = sums.as_mut_ptr();
                if window.is_two() {
                    let above = from.add(top * columns);
                    zip_row::<S>(above, above.add(columns), sums, columns, |a, b| S::add(a, b));
                    continue;
                }
                map_row::<S>(from.add(top * columns), sums, columns, |value| value);
                for row in top + 1..bottom {
                    zip_row::<S>(from.add(row * columns), sums, sums, columns, |a, b| S::add(a, b));
                }
            }
            if window.is_two() {
                // Rows are cut to what the windows see, so that pairs follow one another across them.
                for (to, pair) in to.iter_mut().zip(sums.chunks_exact(2)) {
                    *to = (pair[0] + pair[1]) * share;
                }
                continue;
            }
            for (to, sums) in to.chunks_exact_mut(width).zip(sums.chunks_exact(columns)) {
                for (x, to) in to.iter_mut().enumerate() {
                    let (left, right, _) = window.range(1, x, columns);
                    *to = sums[left..right].iter().sum::<f32>() * share;
                }
            }
        }
    }
}

/// The backward pass of some images.
pub(crate) struct Backward<'a> {
    pub(crate) geometry: &'a Geometry,
    pub(crate) plan: &'a Plan,
    /// The convolution that gives the gradient of the image, and its weights, where that is wanted.
    pub(crate) turned: Option<(&'a Plan, &'a [Scratch], Part<f32>)>,
    pub(crate) images: &'a [f32],
    /// Activated values of the convolution, with an activation.
    pub(crate) inner: &'a [f32],
    pub(crate) gradient: &'a [f32],
    pub(crate) range: std::ops::Range<usize>,
    pub(crate) wants_weight: bool,
}

impl Kernel for Backward<'_> {
    type Output = Partial;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Partial {
        let Self { geometry, plan, .. } = self;
        let features = geometry.features_padded(S::LANES);
        let [rows, columns] = geometry.inner;
        let tight;
        let masked_plan = match self.turned {
            Some((turned, ..)) => turned,
            None => {
                tight = Plan::new(geometry.gradient_sizes(), S::LANES);
                &tight
            }
        };
        let mut partial = Partial {
            weight: (0..geometry.groups).map(|_| Scratch::new(geometry.taps() * features)).collect(),
            bias: vec![0.0; geometry.groups * features],
        };
        let mut padded = Scratch::new(plan.padded_len());
        // Planes of zeros fill the last block of the transpose.
        let planes = geometry.features.next_multiple_of(S::BLOCK);
        let mut masked = Scratch::new(planes * masked_plan.plane);
        // Rows lie as far apart as those of the planes, with zeros between them.
        let width = masked_plan.padded[1];
        let positions = (rows - 1) * width + columns;
        let mut last = Scratch::new(positions * features);
        let mut spare = Scratch::new(self.turned.map_or(0, |(turned, ..)| turned.spare_len()));
        let no_bias = Scratch::new(geometry.channels);
        for image in self.range.clone() {
            for group in 0..geometry.groups {
                let index = image * geometry.groups + group;
                // SAFETY: the caller has checked the lengths of all slices, and scratch is sized above.
                unsafe {
                    self.mask::<S>(masked_plan, index, masked.pointer_mut());
                    transpose::<S>(
                        masked_plan.row(masked.pointer_mut(), 0, 0),
                        masked_plan.plane,
                        last.pointer_mut(),
                        features,
                        planes,
                        positions,
                    );
                    let bias = partial.bias.as_mut_ptr().add(group * features);
                    sum_positions::<S>(last.pointer(), positions, features, bias);
                    if self.wants_weight {
                        let from = self.images.as_ptr().add(index * geometry.image_len());
                        plan.load::<S>(from, padded.pointer_mut());
                        let sum = partial.weight[group].pointer_mut();
                        add_outer::<S>(geometry, plan, padded.pointer(), last.pointer(), width, sum);
                    }
                    if let Some((turned, weights, to)) = self.turned {
                        convolve::<S>(
                            turned,
                            masked.pointer(),
                            weights[group].pointer(),
                            no_bias.pointer(),
                            false,
                            spare.pointer_mut(),
                            to.at(index * geometry.image_len()),
                        );
                    }
                }
            }
        }
        partial
    }
}

impl Backward<'_> {
    /// Writes the gradient of the convolution: what pooling and activation let through.
    ///
    /// # Safety
    /// The processor supports `S`; `index` is below the number of images and groups, `to` has room
    /// for the planes of `plan`.
    #[inline(always)]
    unsafe fn mask<S: Simd>(&self, plan: &Plan, index: usize, to: *mut f32) {
        let geometry = self.geometry;
        let [rows, columns] = geometry.inner;
        let [height, width] = geometry.output;
        let window = &geometry.window;
        let averages = geometry.reduction == Reduction::Average;
        let share = 1.0 / window.area() as f32;
        let mut spread = vec![0.0_f32; if averages { rows * columns } else { 0 }];
        // Two rows of windows of two by two have the same gradient.
        let rows_apart = if averages && window.is_two() { 2 } else { 1 };
        for feature in 0..geometry.features {
            let start = index * geometry.output_len() + feature * height * width;
            let mut gradient = &self.gradient[start..start + height * width];
            if averages {
                spread_average(geometry, gradient, share, &mut spread);
                gradient = &spread;
            }
            for row in 0..rows {
                let from = gradient[row / rows_apart * columns..][..columns].as_ptr();
                // SAFETY: the rows lie within the planes; the inner values are those of all features.
                unsafe {
                    let to = plan.row(to, feature, row);
                    let inner = || {
                        let start = ((index * geometry.features + feature) * rows + row) * columns;
                        self.inner[start..start + columns].as_ptr()
                    };
                    match geometry.activation {
                        Activation::None => map_row::<S>(from, to, columns, |gradient| gradient),
                        Activation::Relu => {
                            let zero = S::splat(0.0);
                            zip_row::<S>(from, inner(), to, columns, |gradient, value| {
                                S::select(S::alive(value), gradient, zero)
                            });
                        }
                        Activation::Tanh => {
                            let minus = S::splat(-1.0);
                            zip_row::<S>(from, inner(), to, columns, |gradient, value| {
                                S::mul_add(S::mul(gradient, value), S::mul(value, minus), gradient)
                            });
                        }
                    }
                }
            }
        }
    }
}

/// Sends each gradient of a plane back to all values of its window; of windows of two by two one row
/// for both.
#[inline(always)]
fn spread_average(geometry: &Geometry, gradient: &[f32], share: f32, to: &mut [f32]) {
    let window = &geometry.window;
    let [rows, columns] = geometry.inner;
    let width = geometry.output[1];
    if window.is_two() {
        for (value, pair) in gradient.iter().zip(to.chunks_exact_mut(2)) {
            let value = value * share;
            pair[0] = value;
            pair[1] = value;
        }
        return;
    }
    to.fill(0.0);
    for (y, from) in gradient.chunks_exact(width).enumerate() {
        let (top, bottom, _) = window.range(0, y, rows);
        for (x, value) in from.iter().enumerate() {
            let (left, right, _) = window.range(1, x, columns);
            for row in top..bottom {
                for to in &mut to[row * columns + left..row * columns + right] {
                    *to += value * share;
                }
            }
        }
    }
}

/// `sums[feature] += sum over positions of values[position][feature]`.
///
/// # Safety
/// The processor supports `S`; `values` holds the positions, `sums` `features` values.
#[inline(always)]
unsafe fn sum_positions<S: Simd>(values: *const f32, positions: usize, features: usize, sums: *mut f32) {
    // SAFETY: the indices stay below `positions` and `features`.
    unsafe {
        for feature in (0..features).step_by(S::LANES) {
            // Four chains, since an addition waits for the one before.
            let mut parts = [S::splat(0.0); 4];
            for first in (0..positions - positions % 4).step_by(4) {
                for (at, part) in parts.iter_mut().enumerate() {
                    *part = S::add(*part, S::load(values.add((first + at) * features + feature)));
                }
            }
            for position in positions - positions % 4..positions {
                parts[0] = S::add(parts[0], S::load(values.add(position * features + feature)));
            }
            let sum = S::add(S::add(parts[0], parts[1]), S::add(parts[2], parts[3]));
            S::store(sums.add(feature), S::add(S::load(sums.add(feature)), sum));
        }
    }
}

/// Adds the gradient of the weight, `[channel][row][column][feature]`, of one image.
///
/// # Safety
/// The processor supports `S`; `x` holds the padded planes, `last` the gradient of the convolution
/// channels last in rows of `last_width` positions, `sum` the sums.
#[inline(always)]
unsafe fn add_outer<S: Simd>(
    geometry: &Geometry,
    plan: &Plan,
    x: *const f32,
    last: *const f32,
    last_width: usize,
    sum: *mut f32,
) {
    let features = geometry.features_padded(S::LANES);
    let vectors = features / S::LANES;
    let [rows, columns] = geometry.inner;
    let [height, width] = geometry.kernel;
    // A tile takes several channels, or several rows of the kernel where there is but one channel.
    let one = geometry.channels == 1;
    let (bases, x_base, sum_base) = if one {
        (height, plan.padded[1], width * features)
    } else {
        (geometry.channels, plan.plane, height * width * features)
    };
    split_evenly(rows, rows_per_strip::<S>(columns, vectors), |first, count| {
        for row in 0..if one { 1 } else { height } {
            // SAFETY: the rows lie within the padded planes.
            unsafe {
                let all = OuterSum {
                    x: x.add((first + row) * plan.padded[1]),
                    x_row: plan.padded[1],
                    x_pixel: 1,
                    bases,
                    x_base,
                    run: width,
                    gradient: last.add(first * last_width * features),
                    gradient_row: last_width * features,
                    gradient_pixel: features,
                    rows: count,
                    columns,
                    sum: sum.add(row * width * features),
                    sum_base,
                    sum_tap: features,
                };
                outer_sum::<S>(&all, vectors);
            }
        }
    });
}
