//! The dense layer.

use burn::tensor::Tensor;

use crate::{Activation, compose};

/// `activation(x @ weight + bias)`: `x [N, I]`, `weight [I, O]` (the layout of Burn's `Linear`),
/// `bias [O]` give `[N, O]`.
///
/// # Panics
/// Where Burn's `linear` would: sizes that do not fit.
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<2> {
    compose::linear(x, weight, bias, activation)
}
