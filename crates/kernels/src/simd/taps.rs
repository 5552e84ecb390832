//! The sum of outer products at the heart of weight gradients: some taps times some vectors of
//! outputs, held in registers.

use super::{
    tile::{most_sums, split_evenly},
    vector::{Kernel, Simd},
};

/// `sum[b][t][o] += sum over (row, column) of x[row * x_row + column * x_pixel + b * x_base + t] *
/// gradient[row * gradient_row + column * gradient_pixel + o]`: taps are runs of neighbours, one run
/// for each base.
#[derive(Clone, Copy)]
pub(crate) struct OuterSum {
    pub(crate) x: *const f32,
    pub(crate) x_row: usize,
    pub(crate) x_pixel: usize,
    pub(crate) bases: usize,
    pub(crate) x_base: usize,
    pub(crate) run: usize,
    pub(crate) gradient: *const f32,
    pub(crate) gradient_row: usize,
    pub(crate) gradient_pixel: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) sum: *mut f32,
    pub(crate) sum_base: usize,
    pub(crate) sum_tap: usize,
}

/// `B` bases of `T` taps of `V` vectors.
struct Tile<'a, const B: usize, const T: usize, const V: usize>(&'a OuterSum);

impl<const B: usize, const T: usize, const V: usize> Kernel for Tile<'_, B, T, V> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // Never chosen: `taps_per_tile`. Said here so that nothing is compiled for it.
        if B * T * V > most_sums::<S>() {
            return;
        }
        let all = *self.0;
        // SAFETY: `outer_sum` passes ranges that its caller promises.
        unsafe {
            let place = |b: usize, t: usize| all.sum.add(b * all.sum_base + t * all.sum_tap);
            let mut sums = [[[S::splat(0.0); V]; T]; B];
            for (b, sums) in sums.iter_mut().enumerate() {
                for (t, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = S::load(place(b, t).add(v * S::LANES));
                    }
                }
            }
            for row in 0..all.rows {
                let mut x: [*const f32; B] =
                    std::array::from_fn(|b| all.x.add(row * all.x_row + b * all.x_base));
                let mut gradient = all.gradient.add(row * all.gradient_row);
                for _ in 0..all.columns {
                    let g: [S::Vector; V] = std::array::from_fn(|v| S::load(gradient.add(v * S::LANES)));
                    for b in 0..B {
                        for (t, sums) in sums[b].iter_mut().enumerate() {
                            let x = S::splat(*x[b].add(t));
                            for v in 0..V {
                                sums[v] = S::mul_add(x, g[v], sums[v]);
                            }
                        }
                        x[b] = x[b].wrapping_add(all.x_pixel);
                    }
                    gradient = gradient.wrapping_add(all.gradient_pixel);
                }
            }
            for (b, sums) in sums.iter().enumerate() {
                for (t, sums) in sums.iter().enumerate() {
                    for (v, sum) in sums.iter().enumerate() {
                        S::store(place(b, t).add(v * S::LANES), *sum);
                    }
                }
            }
        }
    }
}

/// Bytes of gradient that are read again and again for all taps: half a first-level cache.
const STRIP_BYTES: usize = 24 * 1024;

/// Rows of `columns` positions, of `vectors` vectors each, that stay in cache.
pub(crate) fn rows_per_strip<S: Simd>(columns: usize, vectors: usize) -> usize {
    (STRIP_BYTES / (columns * vectors * S::LANES * size_of::<f32>()).max(1)).max(1)
}

/// The most bases and taps of a tile.
const MOST_BASES: usize = 6;
const MOST_TAPS: usize = 12;

/// Adds the outer products over `vectors` vectors of outputs.
///
/// # Safety
/// The processor supports `S`. All positions and taps lie within `x`; `gradient` and `sum` hold
/// `vectors` whole vectors per position and tap.
#[inline(always)]
pub(crate) unsafe fn outer_sum<S: Simd>(all: &OuterSum, vectors: usize) {
    split_evenly(vectors, 2, |first_vector, vectors| {
        let skip = first_vector * S::LANES;
        let most = most_sums::<S>() / vectors;
        split_evenly(all.run, most.min(MOST_TAPS), |first_tap, taps| {
            split_evenly(all.bases, (most / taps).min(MOST_BASES), |first_base, bases| {
                // SAFETY: the parts stay within the ranges that the caller promises.
                unsafe {
                    let part = OuterSum {
                        x: all.x.add(first_base * all.x_base + first_tap),
                        gradient: all.gradient.add(skip),
                        sum: all.sum.add(first_base * all.sum_base + first_tap * all.sum_tap + skip),
                        ..*all
                    };
                    tile::<S>(&part, bases, taps, vectors);
                }
            });
        });
    });
}

/// # Safety
/// As [`outer_sum`].
#[inline(always)]
unsafe fn tile<S: Simd>(part: &OuterSum, bases: usize, taps: usize, vectors: usize) {
    macro_rules! choose {
        ($($bases:literal: $($taps:literal)*;)*) => {
            // SAFETY: as the caller promises.
            unsafe {
                match (bases, taps, vectors) {
                    $($(
                        ($bases, $taps, 1) => S::outline(Tile::<$bases, $taps, 1>(part)),
                        ($bases, $taps, 2) => S::outline(Tile::<$bases, $taps, 2>(part)),
                    )*)*
                    _ => unreachable!("`outer_sum` keeps to the sums that the registers hold"),
                }
            }
        };
    }
    choose! {
        1: 1 2 3 4 5 6 7 8 9 10 11 12;
        2: 1 2 3 4 5 6 7 8 9 10 11 12;
        3: 1 2 3 4 5 6 7 8;
        4: 1 2 3 4 5 6;
        5: 1 2 3 4;
        6: 1 2 3 4;
    }
}
