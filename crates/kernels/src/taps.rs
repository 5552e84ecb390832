//! The sum of outer products at the heart of weight gradients: some taps times some vectors of
//! outputs, held in registers.

use crate::{
    simd::{Kernel, Simd},
    tile::{most_sums, positions_per_tile, split_evenly, vectors_per_tile},
};

/// `sum[t][o] += sum over (row, column) of x[row * x_row + column * x_pixel + taps[t]] *
/// gradient[row * gradient_row + column * gradient_pixel + o]`.
#[derive(Clone, Copy)]
pub(crate) struct OuterSum {
    pub(crate) x: *const f32,
    pub(crate) x_row: usize,
    pub(crate) x_pixel: usize,
    /// Where each tap lies relative to a position.
    pub(crate) taps: *const u32,
    pub(crate) gradient: *const f32,
    pub(crate) gradient_row: usize,
    pub(crate) gradient_pixel: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) sum: *mut f32,
    pub(crate) sum_stride: usize,
}

struct Tile<'a, const T: usize, const V: usize>(&'a OuterSum);

impl<const T: usize, const V: usize> Kernel for Tile<'_, T, V> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // Never chosen: `positions_per_tile`. Said here so that nothing is compiled for it.
        if T * V > most_sums::<S>() {
            return;
        }
        let all = self.0;
        // SAFETY: `outer_sum` passes ranges that its caller promises.
        unsafe {
            let starts: [*const f32; T] = std::array::from_fn(|t| all.x.add(*all.taps.add(t) as usize));
            let mut sums: [[S::Vector; V]; T] = std::array::from_fn(|t| {
                std::array::from_fn(|v| S::load(all.sum.add(t * all.sum_stride + v * S::LANES)))
            });
            for row in 0..all.rows {
                let mut at = row * all.x_row;
                let mut gradient = all.gradient.add(row * all.gradient_row);
                for _ in 0..all.columns {
                    let g: [S::Vector; V] = std::array::from_fn(|v| S::load(gradient.add(v * S::LANES)));
                    for t in 0..T {
                        let x = S::splat(*starts[t].add(at));
                        for v in 0..V {
                            sums[t][v] = S::mul_add(x, g[v], sums[t][v]);
                        }
                    }
                    at += all.x_pixel;
                    gradient = gradient.add(all.gradient_pixel);
                }
            }
            for (t, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    S::store(all.sum.add(t * all.sum_stride + v * S::LANES), sum);
                }
            }
        }
    }
}

/// Bytes of gradient that are read again and again for all taps: half a first-level cache.
const STRIP_BYTES: usize = 24 * 1024;

/// Adds the outer products over `taps` taps and `vectors` vectors of outputs.
///
/// # Safety
/// The processor supports `S`. All positions and taps lie within `x`; `gradient` and `sum` hold
/// `vectors` whole vectors per position and tap.
#[inline(always)]
pub(crate) unsafe fn outer_sum<S: Simd>(all: &OuterSum, taps: usize, vectors: usize) {
    let row_bytes = all.columns * vectors * S::LANES * size_of::<f32>();
    let strip = (STRIP_BYTES / row_bytes.max(1)).max(1);
    split_evenly(all.rows, strip, |first_row, rows| {
        split_evenly(vectors, vectors_per_tile::<S>(), |first_vector, vectors| {
            let skip = first_vector * S::LANES;
            split_evenly(taps, positions_per_tile::<S>(vectors), |first, count| {
                // SAFETY: the parts stay within the ranges that the caller promises.
                unsafe {
                    let part = OuterSum {
                        x: all.x.add(first_row * all.x_row),
                        taps: all.taps.add(first),
                        gradient: all.gradient.add(first_row * all.gradient_row + skip),
                        rows,
                        sum: all.sum.add(first * all.sum_stride + skip),
                        ..*all
                    };
                    tile::<S>(&part, count, vectors);
                }
            });
        });
    });
}

/// # Safety
/// As [`outer_sum`].
#[inline(always)]
unsafe fn tile<S: Simd>(part: &OuterSum, taps: usize, vectors: usize) {
    macro_rules! choose {
        ($($vectors:literal: $($taps:literal)*;)*) => {
            // SAFETY: as the caller promises.
            unsafe {
                match (vectors, taps) {
                    $($(($vectors, $taps) => S::outline(Tile::<$taps, $vectors>(part)),)*)*
                    _ => unreachable!("split_evenly keeps to positions_per_tile"),
                }
            }
        };
    }
    choose! {
        1: 1 2 3 4 5 6 7 8 9 10 11 12;
        2: 1 2 3 4 5 6 7 8 9 10 11 12;
        3: 1 2 3 4 5 6 7 8;
        4: 1 2 3 4 5 6;
    }
}
