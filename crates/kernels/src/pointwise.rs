//! Functions of each value by itself: the activations that are more than a comparison.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::{
    Path,
    buffer::{Output, Part},
    compose, extension,
    simd::{self, Kernel, Simd},
};

/// A function of each value by itself. A NaN stays a NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pointwise {
    /// `x` where positive, `0.01 x` elsewhere: the slope that the common frameworks have by default.
    LeakyRelu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x sigmoid(x)`
    Silu,
    /// `x Φ(x)` with the exact normal distribution function (Hendrycks & Gimpel 2016)
    Gelu,
    /// The hyperbolic tangent
    Tanh,
}

/// Slope of [`Pointwise::LeakyRelu`] below zero.
pub(crate) const LEAKY_SLOPE: f32 = 0.01;

/// The function of each value, within 5e-7 of the true one (relative to it; for the GELU, to `x`).
pub fn pointwise<const D: usize>(function: Pointwise, x: Tensor<D>) -> Tensor<D> {
    pointwise_on(extension::path(), function, x)
}

/// [`pointwise()`] on a given path.
pub(crate) fn pointwise_on<const D: usize>(path: Path, function: Pointwise, x: Tensor<D>) -> Tensor<D> {
    if !extension::serves(path, &x) || !extension::all_f32(&x, &x, None::<&Tensor<D>>) {
        return compose::pointwise(function, x);
    }
    extension::pointwise(path, function, x)
}

impl Pointwise {
    /// Whether the derivative is a function of the output; else it is one of the input.
    pub(crate) fn keeps_output(self) -> bool {
        matches!(self, Self::Tanh | Self::Sigmoid)
    }
}

/// From here on the nearest `f32` of the hyperbolic tangent is one.
const TANH_LIMIT: f32 = 9.02;

/// Coefficients of even powers, of a rational function `x P(x^2) / Q(x^2)`: the least largest relative
/// error on `-LIMIT..LIMIT`, found by reweighted least squares (Lawson's iteration), 6e-8 before rounding.
const TANH_P: [f32; 6] =
    [0.999_999_94, 0.129_180_28, 0.002_919_471_4, 9.255_671e-6, -1.274_541_8e-8, 1.816_646e-11];
const TANH_Q: [f32; 4] = [1.0, 0.462_513_12, 0.023_757_884, 0.000_227_921_98];

/// From here on the share of the standard normal distribution within `-x..x` is one.
const NORMAL_LIMIT: f32 = 5.6;

/// That share, `erf(x / sqrt(2))`, in the same form and found in the same way.
const NORMAL_P: [f32; 7] = [
    0.797_884_5,
    0.071_934_82,
    0.009_022_573,
    0.000_339_684_78,
    6.384_692e-6,
    -4.306_520_3e-8,
    2.154_791_8e-10,
];
const NORMAL_Q: [f32; 5] = [1.0, 0.256_822_65, 0.029_114_364, 0.001_831_195_6, 6.173_594e-5];

// Plain arithmetic, which the compiler makes vectors of; `fused` where multiply-add is one instruction.

/// `a * b + c`.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32, fused: bool) -> f32 {
    if fused { a.mul_add(b, c) } else { a * b + c }
}

/// Comparisons that a NaN passes unchanged.
#[inline(always)]
fn clamp(x: f32, limit: f32) -> f32 {
    let x = if x > limit { limit } else { x };
    if x < -limit { -limit } else { x }
}

#[inline(always)]
fn polynomial<const N: usize>(x: f32, factors: [f32; N], fused: bool) -> f32 {
    factors.into_iter().rev().fold(0.0, |sum, factor| multiply_add(sum, x, factor, fused))
}

#[inline(always)]
fn tanh(x: f32, fused: bool) -> f32 {
    let x = clamp(x, TANH_LIMIT);
    let square = x * x;
    clamp(x * polynomial(square, TANH_P, fused) / polynomial(square, TANH_Q, fused), 1.0)
}

/// `Φ(x)`, the normal distribution function.
#[inline(always)]
fn normal(x: f32, fused: bool) -> f32 {
    let x = clamp(x, NORMAL_LIMIT);
    let square = x * x;
    let within = clamp(x * polynomial(square, NORMAL_P, fused) / polynomial(square, NORMAL_Q, fused), 1.0);
    multiply_add(within, 0.5, 0.5, fused)
}

/// `exp(x)`, which beyond 87 on either side stays what it is there.
#[inline(always)]
fn exp(x: f32, fused: bool) -> f32 {
    /// Adding it to a small number leaves the nearest integer in the lowest bits.
    const ROUNDER: f32 = 12_582_912.0;
    /// `ln(2)` in two parts, the first of so few bits that its multiples are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// The series of `exp` to the sixth power, on half of `ln(2)` exact to the last bit but one.
    const SERIES: [f32; 7] = [1.0, 1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0];
    let x = clamp(x, 87.0);
    let rounded = multiply_add(x, std::f32::consts::LOG2_E, ROUNDER, fused);
    let whole = rounded - ROUNDER;
    let rest = multiply_add(whole, -LN_2[1], multiply_add(whole, -LN_2[0], x, fused), fused);
    let power_of_2 = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    polynomial(rest, SERIES, fused) * power_of_2
}

#[inline(always)]
fn sigmoid(x: f32, fused: bool) -> f32 {
    1.0 / (1.0 + exp(-x, fused))
}

/// The hyperbolic tangent in place, inside a kernel.
#[inline(always)]
pub(crate) fn apply_tanh<S: Simd>(values: &mut [f32]) {
    for x in values {
        *x = tanh(*x, S::FUSES);
    }
}

/// Values that one task takes.
const VALUES_PER_TASK: usize = 16 * 1024;

/// The function of each value.
pub(crate) fn forward(path: Path, function: Pointwise, x: &[f32]) -> Vec<f32> {
    match function {
        Pointwise::LeakyRelu => each(path, x, x, |x, _, _| if x < 0.0 { LEAKY_SLOPE * x } else { x }),
        Pointwise::Sigmoid => each(path, x, x, |x, _, fused| sigmoid(x, fused)),
        Pointwise::Silu => each(path, x, x, |x, _, fused| x * sigmoid(x, fused)),
        Pointwise::Gelu => each(path, x, x, |x, _, fused| x * normal(x, fused)),
        Pointwise::Tanh => each(path, x, x, |x, _, fused| tanh(x, fused)),
    }
}

/// The gradient for the input; `kept` is the output where the function [`Pointwise::keeps_output`], else the
/// input.
pub(crate) fn backward(path: Path, function: Pointwise, kept: &[f32], gradient: &[f32]) -> Vec<f32> {
    /// Density of the standard normal distribution at zero.
    const DENSITY: f32 = 0.398_942_3;
    assert_eq!(kept.len(), gradient.len(), "length of gradient");
    match function {
        Pointwise::LeakyRelu => {
            each(
                path,
                kept,
                gradient,
                |x, gradient, _| {
                    if x < 0.0 { LEAKY_SLOPE * gradient } else { gradient }
                },
            )
        }
        Pointwise::Sigmoid => each(path, kept, gradient, |y, gradient, _| gradient * y * (1.0 - y)),
        Pointwise::Silu => each(path, kept, gradient, |x, gradient, fused| {
            let share = sigmoid(x, fused);
            gradient * share * multiply_add(x, 1.0 - share, 1.0, fused)
        }),
        Pointwise::Gelu => each(path, kept, gradient, |x, gradient, fused| {
            let density = DENSITY * exp(-0.5 * x * x, fused);
            gradient * multiply_add(x, density, normal(x, fused), fused)
        }),
        Pointwise::Tanh => each(path, kept, gradient, |y, gradient, _| gradient * (1.0 - y * y)),
    }
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

    const FUNCTIONS: [Pointwise; 5] =
        [Pointwise::LeakyRelu, Pointwise::Sigmoid, Pointwise::Silu, Pointwise::Gelu, Pointwise::Tanh];

    fn paths() -> impl Iterator<Item = Path> {
        [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.is_supported())
    }

    /// The normal distribution function: the series of its definition around zero, the continued fraction
    /// of its tail (Abramowitz & Stegun 1964, 26.2.10 and 26.2.14).
    fn normal_in_f64(x: f64) -> f64 {
        let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        if x.abs() > 3.0 {
            let fraction = (1..200).rev().fold(x.abs(), |rest, k| x.abs() + f64::from(k) / rest);
            return if x > 0.0 { 1.0 - density / fraction } else { density / fraction };
        }
        let (mut term, mut sum) = (x, x);
        for k in 1..100 {
            term *= x * x / f64::from(2 * k + 1);
            sum += term;
        }
        0.5 + density * sum
    }

    fn in_f64(function: Pointwise, x: f64) -> f64 {
        match function {
            Pointwise::LeakyRelu => x.max(0.0) + f64::from(LEAKY_SLOPE) * x.min(0.0),
            Pointwise::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Pointwise::Silu => x / (1.0 + (-x).exp()),
            Pointwise::Gelu => x * normal_in_f64(x),
            Pointwise::Tanh => x.tanh(),
        }
    }

    #[test]
    fn values_are_those_of_double_precision() {
        let x: Vec<f32> = (-120_000..=120_000).map(|step| step as f32 * 1e-4).collect();
        for (path, function) in paths().flat_map(|path| FUNCTIONS.map(|function| (path, function))) {
            for (x, y) in x.iter().zip(forward(path, function, &x)) {
                let expected = in_f64(function, f64::from(*x));
                let scale = if function == Pointwise::Gelu { f64::from(*x) } else { expected };
                assert!(
                    (f64::from(y) - expected).abs() <= 5e-7 * scale.abs(),
                    "{path:?}: {function:?}({x}) = {y}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn gradients_are_the_slopes() {
        let step = 1e-5;
        let x: Vec<f32> = (-2_000..2_000).map(|step| step as f32 * 5e-3 + 1e-3).collect();
        for (path, function) in paths().flat_map(|path| FUNCTIONS.map(|function| (path, function))) {
            let y = forward(path, function, &x);
            let kept = if function.keeps_output() { &y } else { &x };
            let gradient = backward(path, function, kept, &vec![2.0; x.len()]);
            for (x, slope) in x.iter().zip(gradient) {
                let x = f64::from(*x);
                let expected = (in_f64(function, x + step) - in_f64(function, x - step)) / step;
                assert!(
                    (f64::from(slope) - expected).abs() <= 2e-6,
                    "{path:?}: {function:?}'({x}) = {slope}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn odd_values_keep_their_meaning() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX, 1e-40];
        for path in paths() {
            for function in FUNCTIONS {
                let y = forward(path, function, &odd);
                assert!(y[0].is_nan(), "{function:?}");
                let gradient = backward(path, function, &odd[..1], &[1.0]);
                assert!(gradient[0].is_nan() || function == Pointwise::LeakyRelu, "{function:?}");
            }
            let y = forward(path, Pointwise::Tanh, &odd);
            assert_eq!(y[1..6], [1.0, -1.0, 0.0, 0.0, 1.0]);
            assert!(y[6] <= 1e-39);
            let y = forward(path, Pointwise::Sigmoid, &odd);
            assert_eq!((y[1], y[3]), (1.0, 0.5));
            assert!(y[2] < 1e-37, "{}", y[2]);
        }
    }
}
