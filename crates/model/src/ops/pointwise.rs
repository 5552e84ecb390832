//! Functions of each value by itself: the activations that are more than a comparison.

use burn::tensor::Tensor;
use kernels::{Path, pointwise::Pointwise};

use super::{compose, extension};

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
