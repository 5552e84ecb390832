//! Against double precision.

use super::*;
use crate::testing::paths;

const FUNCTIONS: [Pointwise; 5] =
    [Pointwise::LeakyRelu, Pointwise::Sigmoid, Pointwise::Silu, Pointwise::Gelu, Pointwise::Tanh];

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
