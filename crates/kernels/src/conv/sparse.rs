//! The backward pass where max-pooling sends each gradient to a single position: sums over the live
//! positions only, for weight and image together.

use super::geometry::{DEAD, Geometry};
use crate::simd::{Kernel, Simd, tile::split_evenly};

/// Where the gradients of one image go. Tables are made once, the lists refilled for each feature.
pub(crate) struct Routes {
    /// Output positions in the order of the lists.
    order: Vec<u32>,
    /// Offset in the padded image of the window of each position of `order`.
    origins: Vec<i32>,
    /// Offset in the padded image that a code adds.
    shifts: [i32; 256],
    offsets: Vec<i32>,
    gradients: Vec<f32>,
}

impl Routes {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        let window = &geometry.window;
        let row = (geometry.stride[0] * geometry.row()) as i32;
        let column = (geometry.stride[1] * geometry.channels) as i32;
        let [rows, columns] = geometry.output;
        let mut order = Vec::with_capacity(rows * columns);
        let mut origins = Vec::with_capacity(rows * columns);
        for y in 0..rows {
            // Neighbouring windows send gradients to overlapping patches; taking every other one
            // first keeps a sum from waiting for the one stored just before.
            for x in (0..columns).step_by(2).chain((1..columns).step_by(2)) {
                order.push((y * columns + x) as u32);
                let top = (y * window.stride[0]) as i32 - window.padding[0] as i32;
                let left = (x * window.stride[1]) as i32 - window.padding[1] as i32;
                origins.push(top * row + left * column);
            }
        }
        let mut shifts = [0; 256];
        for (code, shift) in shifts.iter_mut().enumerate().take(window.area()) {
            let (y, x) = (code / window.kernel[1], code % window.kernel[1]);
            *shift = y as i32 * row + x as i32 * column;
        }
        let len = order.len() + 1;
        Self { order, origins, shifts, offsets: vec![0; len], gradients: vec![0.0; len] }
    }

    /// Lists the live gradients of one feature, which lie `gradient_stride` and `stride` apart; gives
    /// their number and their sum.
    fn list(
        &mut self,
        gradient: &[f32],
        gradient_stride: usize,
        codes: &[u8],
        stride: usize,
    ) -> (usize, f32) {
        let mut live = 0;
        for (&position, &origin) in self.order.iter().zip(&self.origins) {
            let code = codes[position as usize * stride];
            self.offsets[live] = origin + self.shifts[usize::from(code)];
            self.gradients[live] = gradient[position as usize * gradient_stride];
            live += usize::from(code != DEAD);
        }
        // In eight chains, since an addition waits for the one before.
        let mut sums = [0.0_f32; 8];
        let (whole, rest) = self.gradients[..live].as_chunks::<8>();
        for values in whole {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += value;
            }
        }
        (live, sums.iter().chain(rest).sum())
    }
}

/// What one image of one group adds to.
pub(crate) struct Sums {
    /// The padded image, channels last.
    pub(crate) x: *const f32,
    /// `[feature][kernel row][run]`, runs padded to whole vectors.
    pub(crate) weight: *const f32,
    /// Of the same layout as the weight.
    pub(crate) weight_gradient: *mut f32,
    /// The gradient of the padded image, or null.
    pub(crate) image_gradient: *mut f32,
}

/// Adds one image. `gradient` is `[feature][position]`, or the other way round with `gradient_last`;
/// `codes` start at the first feature.
///
/// # Safety
/// The processor supports `S`; the pointers hold what [`Sums`] says for `geometry`, and the codes are
/// those of the forward pass.
#[inline(always)]
pub(crate) unsafe fn backward<S: Simd>(
    geometry: &Geometry,
    routes: &mut Routes,
    gradient: &[f32],
    gradient_last: bool,
    codes: &[u8],
    sums: &Sums,
    bias_gradient: &mut [f32],
) {
    let run = geometry.run();
    let padded_run = run.next_multiple_of(S::LANES);
    let features = geometry.features_padded(S::LANES);
    let plane = geometry.output_plane();
    for feature in 0..geometry.features {
        let (start, stride) = if gradient_last { (feature, geometry.features) } else { (feature * plane, 1) };
        let (count, sum) = routes.list(&gradient[start..], stride, &codes[feature..], features);
        bias_gradient[feature] += sum;
        for row in 0..geometry.kernel[0] {
            let start = (feature * geometry.kernel[0] + row) * padded_run;
            let shift = row * geometry.row();
            let part = |first: usize| {
                // SAFETY: `first < run`, so the pointers stay within the row.
                unsafe {
                    Row {
                        x: sums.x.add(shift + first),
                        offsets: routes.offsets.as_ptr(),
                        gradients: routes.gradients.as_ptr(),
                        count,
                        weight: sums.weight.add(start + first),
                        weight_gradient: sums.weight_gradient.add(start + first),
                        image_gradient: if sums.image_gradient.is_null() {
                            sums.image_gradient
                        } else {
                            sums.image_gradient.add(shift + first)
                        },
                        tail: run % S::LANES,
                    }
                }
            };
            let most = if S::LANES == 16 { 8 } else { 4 };
            split_evenly(run / S::LANES, most, |first, vectors| {
                // SAFETY: whole vectors within the run.
                unsafe { blocks::<S>(&part(first * S::LANES), vectors) };
            });
            if !run.is_multiple_of(S::LANES) {
                let part = part(run - run % S::LANES);
                // SAFETY: the tail touches only the lanes of the run.
                unsafe {
                    if part.image_gradient.is_null() {
                        S::outline(Block::<1, false, true>(&part));
                    } else {
                        S::outline(Block::<1, true, true>(&part));
                    }
                }
            }
        }
    }
}

/// One row of the kernel of one feature, from some vector on.
struct Row {
    x: *const f32,
    offsets: *const i32,
    gradients: *const f32,
    count: usize,
    weight: *const f32,
    weight_gradient: *mut f32,
    image_gradient: *mut f32,
    /// Lanes of the last, partial vector.
    tail: usize,
}

/// `V` vectors of a row; `IMAGE` for the gradient of the image too; `TAIL` for a partial vector.
struct Block<'a, const V: usize, const IMAGE: bool, const TAIL: bool>(&'a Row);

impl<const V: usize, const IMAGE: bool, const TAIL: bool> Kernel for Block<'_, V, IMAGE, TAIL> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let row = self.0;
        // SAFETY: `backward` passes ranges that its caller promises.
        unsafe {
            let zero = S::splat(0.0);
            let mut sums = [zero; V];
            let mut weights = [zero; V];
            for (v, (sum, weight)) in sums.iter_mut().zip(&mut weights).enumerate() {
                *sum = S::load(row.weight_gradient.add(v * S::LANES));
                *weight = S::load(row.weight.add(v * S::LANES));
            }
            for index in 0..row.count {
                let offset = *row.offsets.add(index) as isize;
                let gradient = S::splat(*row.gradients.add(index));
                for v in 0..V {
                    let from = row.x.offset(offset).add(v * S::LANES);
                    let x = if TAIL { S::load_partial(from, row.tail) } else { S::load(from) };
                    sums[v] = S::mul_add(gradient, x, sums[v]);
                    if IMAGE {
                        let to = row.image_gradient.offset(offset).add(v * S::LANES);
                        if TAIL {
                            let before = S::load_partial(to, row.tail);
                            S::store_partial(to, S::mul_add(gradient, weights[v], before), row.tail);
                        } else {
                            S::store(to, S::mul_add(gradient, weights[v], S::load(to)));
                        }
                    }
                }
            }
            for (v, sum) in sums.into_iter().enumerate() {
                S::store(row.weight_gradient.add(v * S::LANES), sum);
            }
        }
    }
}

/// # Safety
/// As [`backward`], for `vectors` whole vectors.
#[inline(always)]
unsafe fn blocks<S: Simd>(row: &Row, vectors: usize) {
    macro_rules! choose {
        ($($vectors:literal)*) => {
            // SAFETY: as the caller promises.
            unsafe {
                match (row.image_gradient.is_null(), vectors) {
                    $((true, $vectors) => S::outline(Block::<$vectors, false, false>(row)),)*
                    $((false, $vectors) => S::outline(Block::<$vectors, true, false>(row)),)*
                    _ => unreachable!("split_evenly keeps to eight vectors"),
                }
            }
        };
    }
    choose!(1 2 3 4 5 6 7 8);
}
