//! Functions of each value by itself: the activations that are more than a comparison.

use rayon::prelude::*;

use crate::{
    Path,
    buffer::{Output, Part},
    simd::{self, Kernel, Simd},
};

/// What follows the affine part of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// `max(x, 0)`; a NaN stays a NaN.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

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
pub const LEAKY_SLOPE: f32 = 0.01;

impl Pointwise {
    /// Whether the derivative is a function of the output; else it is one of the input.
    pub fn keeps_output(self) -> bool {
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

/// The function of each value, within 5e-7 of the true one (relative to it; for the GELU, to `x`).
///
/// # Panics
/// The processor lacks the path's instructions.
pub fn forward(path: Path, function: Pointwise, x: &[f32]) -> Vec<f32> {
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
///
/// # Panics
/// `kept` and `gradient` of different lengths, or a processor without the path's instructions.
pub fn backward(path: Path, function: Pointwise, kept: &[f32], gradient: &[f32]) -> Vec<f32> {
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
mod tests;
