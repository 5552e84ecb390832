//! Maximum pooling with nothing fused before it, as after a normalisation: plane by plane, in row-major order.

use rayon::prelude::*;

use super::window::Window;
use crate::{
    Path,
    buffer::{Output, Part},
    simd::{self, Kernel, Simd},
};

/// Planes that one task takes.
const PLANES_PER_TASK: usize = 16;

/// The sizes of a pooling.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    planes: usize,
    /// `[height, width]` of a plane.
    size: [usize; 2],
    /// `[height, width]` of a pooled plane.
    output: [usize; 2],
    window: Window,
}

impl Sizes {
    /// Of `planes` planes of `size`. `None` where every window cannot hold a value, or its places do not fit into a
    /// code.
    pub fn new(planes: usize, size: [usize; 2], window: Window) -> Option<Self> {
        let Window { kernel, stride, padding } = window;
        let fits = planes > 0
            && u8::try_from(window.area()).is_ok()
            && (0..2).all(|axis| {
                stride[axis] > 0 && padding[axis] < kernel[axis] && size[axis] + padding[axis] >= kernel[axis]
            });
        let output = |axis: usize| {
            (size[axis] + 2 * padding[axis]).checked_sub(kernel[axis]).map(|room| room / stride[axis] + 1)
        };
        let output = fits.then(|| Some([output(0)?, output(1)?]))??;
        // The last window, too, begins within the plane.
        let holds = (0..2).all(|axis| (output[axis] - 1) * stride[axis] < size[axis] + padding[axis]);
        holds.then_some(Self { planes, size, output, window })
    }

    /// `[height, width]` of a pooled plane, `H' = (H + 2 * padding - kernel) / stride + 1`.
    pub fn output(&self) -> [usize; 2] {
        self.output
    }

    fn plane(&self) -> usize {
        self.size[0] * self.size[1]
    }

    fn pooled(&self) -> usize {
        self.output[0] * self.output[1]
    }
}

/// The pooled values, and for each the place of the largest within its window. A NaN beats every number; of equal
/// values the first in row-major order is taken.
///
/// # Panics
/// `x` of another length than `sizes`, or a processor without the path's instructions.
pub fn forward(path: Path, sizes: Sizes, x: &[f32]) -> (Vec<f32>, Vec<u8>) {
    assert_eq!(x.len(), sizes.planes * sizes.plane(), "length of x");
    let mut output = Output::new(sizes.planes * sizes.pooled());
    let mut codes = Output::new(sizes.planes * sizes.pooled());
    let (output_part, codes_part) = (output.part(), codes.part());
    for_each_task(sizes, |planes| {
        let kernel = Forward { sizes, x, planes, output: output_part, codes: codes_part };
        // SAFETY: the length is checked above and every task writes its own planes.
        unsafe { simd::dispatch(path, kernel) };
    });
    // SAFETY: the tasks cover all planes, and each writes all values of its own.
    unsafe { (output.finish(), codes.finish()) }
}

/// The gradient of the planes, with the codes of the forward pass.
///
/// # Panics
/// Slices of other lengths than `sizes`, codes of another pooling, or a processor without the path's instructions.
pub fn backward(path: Path, sizes: Sizes, codes: &[u8], gradient: &[f32]) -> Vec<f32> {
    assert_eq!(codes.len(), sizes.planes * sizes.pooled(), "length of codes");
    assert_eq!(gradient.len(), codes.len(), "length of gradient");
    let mut images = Output::new(sizes.planes * sizes.plane());
    let part = images.part();
    for_each_task(sizes, |planes| {
        let kernel = Backward { sizes, codes, gradient, planes, images: part };
        // SAFETY: the lengths are checked above and every task writes its own planes.
        unsafe { simd::dispatch(path, kernel) };
    });
    // SAFETY: as in `forward`.
    unsafe { images.finish() }
}

fn for_each_task(sizes: Sizes, task: impl Fn(std::ops::Range<usize>) + Sync + Send) {
    if sizes.planes <= PLANES_PER_TASK {
        return task(0..sizes.planes);
    }
    (0..sizes.planes.div_ceil(PLANES_PER_TASK)).into_par_iter().for_each(|number| {
        let first = number * PLANES_PER_TASK;
        task(first..(first + PLANES_PER_TASK).min(sizes.planes));
    });
}

struct Forward<'a> {
    sizes: Sizes,
    x: &'a [f32],
    planes: std::ops::Range<usize>,
    output: Part<f32>,
    codes: Part<u8>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Sizes { size: [height, width], output: [rows, columns], window, .. } = self.sizes;
        for plane in self.planes {
            let x = &self.x[plane * self.sizes.plane()..][..self.sizes.plane()];
            for row in 0..rows {
                let start = plane * self.sizes.pooled() + row * columns;
                // SAFETY: the row lies within the planes of this task, and `forward` has room for all.
                let (to, codes) = unsafe {
                    let to = std::slice::from_raw_parts_mut(self.output.at(start), columns);
                    (to, std::slice::from_raw_parts_mut(self.codes.at(start), columns))
                };
                if window.is_two() {
                    let upper = &x[2 * row * width..][..width];
                    two_by_two(upper, &x[(2 * row + 1) * width..][..width], to, codes);
                } else {
                    let (top, bottom, above) = window.range(0, row, height);
                    for (column, (to, code)) in to.iter_mut().zip(codes).enumerate() {
                        let (left, right, before) = window.range(1, column, width);
                        let mut largest = x[top * width + left];
                        let mut place = above * window.kernel[1] + before;
                        for y in top..bottom {
                            for at in left..right {
                                let value = x[y * width + at];
                                if beats(value, largest) {
                                    largest = value;
                                    place = (above + y - top) * window.kernel[1] + before + at - left;
                                }
                            }
                        }
                        *to = largest;
                        *code = place as u8;
                    }
                }
            }
        }
    }
}

/// `a > b`, or `a` is NaN.
#[inline(always)]
fn beats(a: f32, b: f32) -> bool {
    a > b || a.is_nan()
}

/// A row of windows that lie side by side.
#[inline(always)]
fn two_by_two(upper: &[f32], lower: &[f32], to: &mut [f32], codes: &mut [u8]) {
    let windows = upper.chunks_exact(2).zip(lower.chunks_exact(2));
    for ((to, code), (upper, lower)) in to.iter_mut().zip(codes).zip(windows) {
        let (a, right) = if beats(upper[1], upper[0]) { (upper[1], 1) } else { (upper[0], 0) };
        let (b, lower_right) = if beats(lower[1], lower[0]) { (lower[1], 3) } else { (lower[0], 2) };
        let is_lower = beats(b, a);
        *to = if is_lower { b } else { a };
        *code = if is_lower { lower_right } else { right };
    }
}

struct Backward<'a> {
    sizes: Sizes,
    codes: &'a [u8],
    gradient: &'a [f32],
    planes: std::ops::Range<usize>,
    images: Part<f32>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Sizes { output: [rows, columns], size: [_, width], window, .. } = self.sizes;
        for plane in self.planes {
            let len = self.sizes.plane();
            // SAFETY: the plane is of this task, and `backward` has room for all; zeros are written before the
            // slice is made.
            let to = unsafe {
                let to = self.images.at(plane * len);
                std::ptr::write_bytes(to, 0, len);
                std::slice::from_raw_parts_mut(to, len)
            };
            for row in 0..rows {
                let start = plane * self.sizes.pooled() + row * columns;
                let pairs = self.gradient[start..][..columns].iter().zip(&self.codes[start..][..columns]);
                if window.is_two() {
                    let (upper, lower) = to[2 * row * width..][..2 * width].split_at_mut(width);
                    let windows = upper.chunks_exact_mut(2).zip(lower.chunks_exact_mut(2));
                    for ((&gradient, &code), (upper, lower)) in pairs.zip(windows) {
                        let of = |place: u8| if code == place { gradient } else { 0.0 };
                        (upper[0], upper[1]) = (of(0), of(1));
                        (lower[0], lower[1]) = (of(2), of(3));
                    }
                } else {
                    for (column, (&gradient, &code)) in pairs.enumerate() {
                        let (y, x) =
                            (usize::from(code) / window.kernel[1], usize::from(code) % window.kernel[1]);
                        let y = row * window.stride[0] + y - window.padding[0];
                        let x = column * window.stride[1] + x - window.padding[1];
                        to[y * width + x] += gradient;
                    }
                }
            }
        }
    }
}
