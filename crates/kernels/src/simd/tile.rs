//! The inner product at the heart of forward passes: some positions times some vectors of outputs,
//! held in registers.

use super::vector::{Kernel, Simd};

/// `out[p][o] = init[p][o] + sum over (r, k) of x[offset[p] + r * row_stride + k] * w[r * run +
/// k][o]`: a convolution over channels-last images, or a matrix product with `rows = 1`.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub(crate) x: *const f32,
    /// Where each position starts in `x`.
    pub(crate) offsets: *const u32,
    pub(crate) weight: *const f32,
    /// Distance between rows of the weight.
    pub(crate) weight_stride: usize,
    pub(crate) rows: usize,
    pub(crate) row_stride: usize,
    pub(crate) run: usize,
    pub(crate) init: *const f32,
    /// Distance between the initial values of two positions; 0 for a bias.
    pub(crate) init_stride: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
}

struct Tile<'a, const P: usize, const V: usize>(&'a Product);

impl<const P: usize, const V: usize> Kernel for Tile<'_, P, V> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // Never chosen: `positions_per_tile`. Said here so that nothing is compiled for it.
        if P * V > most_sums::<S>() {
            return;
        }
        let Product { weight_stride, rows, row_stride, run, .. } = *self.0;
        // SAFETY: `product` passes ranges that its caller promises.
        unsafe {
            let starts: [*const f32; P] =
                std::array::from_fn(|p| self.0.x.add(*self.0.offsets.add(p) as usize));
            let mut sums: [[S::Vector; V]; P] = std::array::from_fn(|p| {
                std::array::from_fn(|v| S::load(self.0.init.add(p * self.0.init_stride + v * S::LANES)))
            });
            let mut weight = self.0.weight;
            for row in 0..rows {
                let base = row * row_stride;
                for k in base..base + run {
                    let w: [S::Vector; V] = std::array::from_fn(|v| S::load(weight.add(v * S::LANES)));
                    for p in 0..P {
                        let x = S::splat(*starts[p].add(k));
                        for v in 0..V {
                            sums[p][v] = S::mul_add(x, w[v], sums[p][v]);
                        }
                    }
                    weight = weight.add(weight_stride);
                }
            }
            // By reference: an iterator by value copies the sums through memory first.
            for (p, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    S::store(self.0.out.add(p * self.0.out_stride + v * S::LANES), *sum);
                }
            }
        }
    }
}

/// Sums that the registers hold beside the operands: 32 registers with AVX-512, else 16.
pub(crate) const fn most_sums<S: Simd>() -> usize {
    if S::LANES == 16 { 24 } else { 12 }
}

/// Positions per tile that the registers hold beside `vectors` weights.
pub(crate) fn positions_per_tile<S: Simd>(vectors: usize) -> usize {
    (most_sums::<S>() / vectors).clamp(1, 12)
}

/// Vectors of outputs of a tile with a single position.
const VECTORS_OF_ONE: usize = 8;

/// Vectors of outputs per tile.
pub(crate) fn vectors_per_tile<S: Simd>() -> usize {
    if S::LANES == 16 { 4 } else { 3 }
}

/// Splits `total` into the fewest parts of at most `most`, as even as can be: calls `part(start,
/// len)`.
#[inline(always)]
pub(crate) fn split_evenly(total: usize, most: usize, mut part: impl FnMut(usize, usize)) {
    let parts = total.div_ceil(most);
    let mut start = 0;
    for index in 0..parts {
        let len = (total - start).div_ceil(parts - index);
        part(start, len);
        start += len;
    }
}

/// Runs the product over `positions` and `vectors` vectors of outputs.
///
/// # Safety
/// The processor supports `S`. For every position and row, `run` values of `x` are readable; the
/// weight has `rows * run` rows of `vectors` whole vectors; `init` and `out` hold `vectors` whole
/// vectors per position.
#[inline(always)]
pub(crate) unsafe fn product<S: Simd>(all: &Product, positions: usize, vectors: usize) {
    // A single position reads its weight once, so in whole rows.
    let most = if positions == 1 { VECTORS_OF_ONE } else { vectors_per_tile::<S>() };
    split_evenly(vectors, most, |first_vector, vectors| {
        let skip = first_vector * S::LANES;
        split_evenly(positions, positions_per_tile::<S>(vectors), |first, count| {
            // SAFETY: the parts stay within the ranges that the caller promises.
            unsafe {
                let part = Product {
                    offsets: all.offsets.add(first),
                    weight: all.weight.add(skip),
                    init: all.init.add(first * all.init_stride + skip),
                    out: all.out.add(first * all.out_stride + skip),
                    ..*all
                };
                tile::<S>(&part, count, vectors);
            }
        });
    });
}

/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn tile<S: Simd>(part: &Product, positions: usize, vectors: usize) {
    macro_rules! choose {
        ($($vectors:literal: $($positions:literal)*;)*) => {
            // SAFETY: as the caller promises.
            unsafe {
                match (vectors, positions) {
                    $($(($vectors, $positions) => S::outline(Tile::<$positions, $vectors>(part)),)*)*
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
        5: 1;
        6: 1;
        7: 1;
        8: 1;
    }
}
