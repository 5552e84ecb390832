//! Pooling and the rectifier on channels-last values, forward; and the way back of their gradient.

use super::geometry::{DEAD, Geometry, Reduction};
use crate::{pool::Window, simd::Simd};

/// Channels-last planes: the convolution's inner values or their gradient.
#[derive(Clone, Copy)]
pub(crate) struct Planes {
    pub(crate) values: *mut f32,
    /// Distance between rows.
    pub(crate) row: usize,
    /// Distance between neighbours in a row.
    pub(crate) pixel: usize,
}

impl Planes {
    /// # Safety
    /// The position lies within the planes.
    #[inline(always)]
    unsafe fn at(&self, row: usize, column: usize, channel: usize) -> *mut f32 {
        // SAFETY: the caller promises the position.
        unsafe { self.values.add(row * self.row + column * self.pixel + channel) }
    }
}

/// Reduces the windows of output rows `rows` to `pooled [position][channel]` and, unless null,
/// `codes` of the same layout.
///
/// # Safety
/// The processor supports `S`; `inner`, `pooled` and `codes` hold `geometry`'s values with whole
/// vectors of channels.
#[inline(always)]
pub(crate) unsafe fn max_forward<S: Simd>(
    geometry: &Geometry,
    inner: Planes,
    rows: std::ops::Range<usize>,
    pooled: *mut f32,
    codes: *mut u8,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let window = &geometry.window;
        if window.padding != [0, 0] {
            max_rows::<S, 0, 0>(geometry, inner, rows, pooled, codes);
        } else if window.kernel == [1, 1] {
            max_rows::<S, 1, 1>(geometry, inner, rows, pooled, codes);
        } else if window.kernel == [2, 2] {
            max_rows::<S, 2, 2>(geometry, inner, rows, pooled, codes);
        } else {
            max_rows::<S, 0, 0>(geometry, inner, rows, pooled, codes);
        }
    }
}

/// `H` and `W` are the window's size without padding, or 0 for any window.
///
/// # Safety
/// As [`max_forward`].
#[inline(always)]
unsafe fn max_rows<S: Simd, const H: usize, const W: usize>(
    geometry: &Geometry,
    inner: Planes,
    rows: std::ops::Range<usize>,
    pooled: *mut f32,
    codes: *mut u8,
) {
    let window = &geometry.window;
    let columns = geometry.output[1];
    let features = geometry.features_padded(S::LANES);
    // SAFETY: windows are cut to the inner values; the rest as the caller promises.
    unsafe {
        let dead = S::splat_code(DEAD);
        let zero = S::splat(0.0);
        for row in rows {
            let (top, bottom, above) = window.range(0, row, geometry.inner[0]);
            for column in 0..columns {
                let (left, right, before) = window.range(1, column, geometry.inner[1]);
                let height = if H > 0 { H } else { bottom - top };
                let width = if W > 0 { W } else { right - left };
                let position = (row * columns + column) * features;
                for channel in (0..features).step_by(S::LANES) {
                    let mut largest = zero;
                    let mut code = dead;
                    for y in 0..height {
                        for x in 0..width {
                            let value = S::load(inner.at(top + y, left + x, channel));
                            // A constant where the size of the window is one.
                            let here =
                                if W > 0 { y * W + x } else { (above + y) * window.kernel[1] + before + x };
                            let here = S::splat_code(here as u8);
                            if y == 0 && x == 0 {
                                largest = value;
                                code = here;
                            } else {
                                let mask = S::beats(value, largest);
                                largest = S::select(mask, value, largest);
                                code = S::select_code(mask, here, code);
                            }
                        }
                    }
                    if geometry.is_rectified() {
                        let alive = S::alive(largest);
                        largest = S::select(alive, largest, zero);
                        code = S::select_code(alive, code, dead);
                    }
                    S::store(pooled.add(position + channel), largest);
                    if !codes.is_null() {
                        S::store_codes(codes.add(position + channel), code);
                    }
                }
            }
        }
    }
}

/// Rectifies inner values in place and notes which stay alive.
///
/// # Safety
/// As [`max_forward`]; `codes` is null or holds one code per inner value.
#[inline(always)]
pub(crate) unsafe fn rectify<S: Simd>(geometry: &Geometry, inner: Planes, codes: *mut u8) {
    let features = geometry.features_padded(S::LANES);
    // SAFETY: as the caller promises.
    unsafe {
        for row in 0..geometry.inner[0] {
            for column in 0..geometry.inner[1] {
                let position = (row * geometry.inner[1] + column) * features;
                for channel in (0..features).step_by(S::LANES) {
                    let at = inner.at(row, column, channel);
                    let value = S::load(at);
                    let alive = S::alive(value);
                    S::store(at, S::select(alive, value, S::splat(0.0)));
                    if !codes.is_null() {
                        let code = S::select_code(alive, S::splat_code(0), S::splat_code(DEAD));
                        S::store_codes(codes.add(position + channel), code);
                    }
                }
            }
        }
    }
}

/// Means of the windows, padding counted as zeros.
///
/// # Safety
/// As [`max_forward`].
#[inline(always)]
pub(crate) unsafe fn average_forward<S: Simd>(geometry: &Geometry, inner: Planes, pooled: *mut f32) {
    let window = &geometry.window;
    let features = geometry.features_padded(S::LANES);
    // SAFETY: windows are cut to the inner values; the rest as the caller promises.
    unsafe {
        let share = S::splat(1.0 / window.area() as f32);
        for row in 0..geometry.output[0] {
            let (top, bottom, _) = window.range(0, row, geometry.inner[0]);
            for column in 0..geometry.output[1] {
                let (left, right, _) = window.range(1, column, geometry.inner[1]);
                let position = (row * geometry.output[1] + column) * features;
                for channel in (0..features).step_by(S::LANES) {
                    let mut sum = S::splat(0.0);
                    for y in top..bottom {
                        for x in left..right {
                            sum = S::add(sum, S::load(inner.at(y, x, channel)));
                        }
                    }
                    S::store(pooled.add(position + channel), S::mul(sum, share));
                }
            }
        }
    }
}

/// Sends the gradient of the output, `[position][channel]`, back to the inner values.
///
/// # Safety
/// As [`max_forward`]; `codes` belongs to the forward pass of the same image.
#[inline(always)]
pub(crate) unsafe fn backward<S: Simd>(
    geometry: &Geometry,
    gradient: *const f32,
    codes: *const u8,
    inner: Planes,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let window = &geometry.window;
        match geometry.reduction {
            Reduction::Copy => {}
            Reduction::Max if window.padding == [0, 0] && window.kernel == [1, 1] => {
                backward_rows::<S, true, 1>(geometry, gradient, codes, inner);
            }
            Reduction::Max if window.padding == [0, 0] && window.kernel == [2, 2] => {
                backward_rows::<S, true, 2>(geometry, gradient, codes, inner);
            }
            Reduction::Max => backward_rows::<S, true, 0>(geometry, gradient, codes, inner),
            Reduction::Average => backward_rows::<S, false, 0>(geometry, gradient, codes, inner),
        }
    }
}

/// `K` is the size of a square window without padding, or 0 for any window.
///
/// # Safety
/// As [`backward`].
#[inline(always)]
unsafe fn backward_rows<S: Simd, const MAX: bool, const K: usize>(
    geometry: &Geometry,
    gradient: *const f32,
    codes: *const u8,
    inner: Planes,
) {
    let window = &geometry.window;
    let features = geometry.features_padded(S::LANES);
    let [rows, columns] = geometry.inner;
    // Where windows cover each value once, every value is written; else they add up from zero.
    let adds = !(window.is_disjoint() && window.stride == window.kernel);
    // SAFETY: windows are cut to the inner values; the rest as the caller promises.
    unsafe {
        let zero = S::splat(0.0);
        if adds {
            for row in 0..rows {
                for column in 0..columns {
                    for channel in (0..features).step_by(S::LANES) {
                        S::store(inner.at(row, column, channel), zero);
                    }
                }
            }
        }
        let share = S::splat(1.0 / window.area() as f32);
        for row in 0..geometry.output[0] {
            let (top, bottom, above) = window.range(0, row, rows);
            for column in 0..geometry.output[1] {
                let (left, right, before) = window.range(1, column, columns);
                let height = if K > 0 { K } else { bottom - top };
                let width = if K > 0 { K } else { right - left };
                let position = (row * geometry.output[1] + column) * features;
                for channel in (0..features).step_by(S::LANES) {
                    let value = S::load(gradient.add(position + channel));
                    let code =
                        if MAX { S::load_codes(codes.add(position + channel)) } else { S::splat_code(0) };
                    for y in 0..height {
                        for x in 0..width {
                            let part = if MAX {
                                let here = if K > 0 {
                                    y * K + x
                                } else {
                                    (above + y) * window.kernel[1] + before + x
                                };
                                S::select(S::same_code(code, S::splat_code(here as u8)), value, zero)
                            } else if geometry.is_rectified() {
                                let index = ((top + y) * columns + left + x) * features + channel;
                                let alive = S::same_code(S::load_codes(codes.add(index)), S::splat_code(0));
                                S::select(alive, S::mul(value, share), zero)
                            } else {
                                S::mul(value, share)
                            };
                            let to = inner.at(top + y, left + x, channel);
                            S::store(to, if adds { S::add(S::load(to), part) } else { part });
                        }
                    }
                }
            }
        }
    }
}

impl Window {
    /// How many output rows to reduce at a time, so that the inner rows stay in the first-level
    /// cache; all of them where windows overlap.
    pub(crate) fn rows_per_strip(&self, geometry: &Geometry, features: usize) -> usize {
        if self.stride[0] < self.kernel[0] || self.padding[0] > 0 {
            return geometry.output[0];
        }
        let bytes = self.stride[0] * geometry.inner[1] * features * size_of::<f32>();
        (16 * 1024 / bytes.max(1)).clamp(1, geometry.output[0])
    }
}
