//! The dense layer.

use burn::tensor::Tensor;
use kernels::{
    Path,
    pointwise::{Activation, Pointwise},
};

use super::{compose, extension, pointwise::pointwise_on};

/// `activation(x @ weight + bias)`: `x [N, I]`, `weight [I, O]` (the layout of Burn's `Linear`),
/// `bias [O]` give `[N, O]`.
///
/// # Panics
/// Where Burn's `linear` would: sizes that do not fit.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, activation: Activation) -> Tensor<2> {
    linear_on(extension::path(), x, weight, bias, activation)
}

/// [`linear`] on a given path.
pub(crate) fn linear_on(
    path: Path,
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<2> {
    let [samples, inputs] = x.dims();
    let [rows, outputs] = weight.dims();
    let fits = inputs == rows
        && samples * inputs * outputs > 0
        && bias.as_ref().is_none_or(|bias| bias.dims() == [outputs]);
    if !fits || !extension::serves(path, &x) || !extension::all_f32(&x, &weight, bias.as_ref()) {
        return compose::linear(x, weight, bias, activation);
    }
    let is_smooth = activation == Activation::Tanh;
    let fused = if is_smooth { Activation::None } else { activation };
    let output = extension::linear(path, x, weight, bias, fused);
    if is_smooth { pointwise_on(path, Pointwise::Tanh, output) } else { output }
}
