//! The hyperbolic tangent, which `LeNet-5` has after every layer.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::{
    Activation, Path,
    buffer::{Output, Part},
    compose, extension,
    simd::{self, Kernel, Simd},
};

/// `tanh(x)` of each value; within 4e-7 of the true one, and a NaN stays a NaN.
pub fn tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    tanh_on(extension::path(), x)
}

/// [`tanh`] on a given path.
pub(crate) fn tanh_on<const D: usize>(path: Path, x: Tensor<D>) -> Tensor<D> {
    if !extension::serves(path, &x) || !extension::all_f32(&x, &x, None::<&Tensor<D>>) {
        return compose::activate(x, Activation::Tanh);
    }
    extension::tanh(path, x)
}

/// From here on the nearest `f32` is one.
const LIMIT: f32 = 9.02;

/// Coefficients of even powers, of a rational function `x P(x^2) / Q(x^2)`: the least largest relative
/// error on `-LIMIT..LIMIT`, found by reweighted least squares (Lawson's iteration), 6e-8 before rounding.
const P: [f32; 6] =
    [0.999_999_94, 0.129_180_28, 0.002_919_471_4, 9.255_671e-6, -1.274_541_8e-8, 1.816_646e-11];
const Q: [f32; 4] = [1.0, 0.462_513_12, 0.023_757_884, 0.000_227_921_98];

/// Plain arithmetic, which the compiler makes vectors of; `fused` where multiply-add is one instruction.
#[inline(always)]
fn value(x: f32, fused: bool) -> f32 {
    // Comparisons that a NaN passes unchanged.
    let x = if x > LIMIT { LIMIT } else { x };
    let x = if x < -LIMIT { -LIMIT } else { x };
    let square = x * x;
    let (mut top, mut bottom) = (0.0, 0.0);
    for factor in P.into_iter().rev() {
        top = multiply_add(top, square, factor, fused);
    }
    for factor in Q.into_iter().rev() {
        bottom = multiply_add(bottom, square, factor, fused);
    }
    let y = x * top / bottom;
    let y = if y > 1.0 { 1.0 } else { y };
    if y < -1.0 { -1.0 } else { y }
}

/// `a * b + c`.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32, fused: bool) -> f32 {
    if fused { a.mul_add(b, c) } else { a * b + c }
}

/// In place, inside a kernel.
#[inline(always)]
pub(crate) fn apply<S: Simd>(values: &mut [f32]) {
    for x in values {
        *x = value(*x, S::FUSES);
    }
}

/// Values that one task takes.
const VALUES_PER_TASK: usize = 16 * 1024;

/// `tanh` of each value.
pub(crate) fn forward(path: Path, x: &[f32]) -> Vec<f32> {
    each(path, x, x, |x, _, fused| value(x, fused))
}

/// `gradient * (1 - y * y)` for the output `y`.
pub(crate) fn backward(path: Path, y: &[f32], gradient: &[f32]) -> Vec<f32> {
    assert_eq!(y.len(), gradient.len(), "length of gradient");
    each(path, y, gradient, |y, gradient, _| gradient * (1.0 - y * y))
}

fn each(path: Path, a: &[f32], b: &[f32], change: impl Fn(f32, f32, bool) -> f32 + Copy + Sync) -> Vec<f32> {
    let mut output = Output::new(a.len());
    let to = output.part();
    let task = |(task, (a, b)): (usize, (&[f32], &[f32]))| {
        let kernel = Each { a, b, first: task * VALUES_PER_TASK, to, change };
        // SAFETY: both inputs have as many values as the output, and every task writes its own.
        unsafe { simd::dispatch(path, kernel) };
    };
    if a.len() <= VALUES_PER_TASK {
        task((0, (a, b)));
    } else {
        a.par_chunks(VALUES_PER_TASK).zip(b.par_chunks(VALUES_PER_TASK)).enumerate().for_each(task);
    }
    // SAFETY: the tasks cover all values.
    unsafe { output.finish() }
}

struct Each<'a, F> {
    a: &'a [f32],
    b: &'a [f32],
    first: usize,
    to: Part<f32>,
    change: F,
}

impl<F: Fn(f32, f32, bool) -> f32> Kernel for Each<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (index, (&a, &b)) in self.a.iter().zip(self.b).enumerate() {
            // SAFETY: the index lies within the part of this task.
            unsafe { *self.to.at(self.first + index) = (self.change)(a, b, S::FUSES) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_standard_library() {
        let x: Vec<f32> = (-120_000..=120_000).map(|step| step as f32 * 1e-4).collect();
        for path in [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.is_supported())
        {
            for (x, y) in x.iter().zip(forward(path, &x)) {
                let expected = f64::from(*x).tanh();
                assert!(
                    (f64::from(y) - expected).abs() <= 4e-7 * expected.abs(),
                    "{path:?}: tanh({x}) = {y}"
                );
            }
            let odd =
                forward(path, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX, 1e-40]);
            assert!(odd[0].is_nan());
            assert_eq!(odd[1..6], [1.0, -1.0, 0.0, 0.0, 1.0]);
            assert!(odd[6] <= 1e-39);
        }
    }
}
