//! One update of Adam over one parameter.

use burn::tensor::Tensor;
use kernels::{Path, optim::AdamStep};

use super::{compose, extension};

/// One update: gives the new parameter, first moment and second moment. The moments start at zero.
///
/// No gradient flows through it. Pass the only handles of the moments and they are updated in place.
pub fn adam_step<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    moment_1: Tensor<D>,
    moment_2: Tensor<D>,
    config: &AdamStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    adam_step_on(extension::path(), parameter, gradient, moment_1, moment_2, config)
}

/// [`adam_step`] on a given path.
pub(crate) fn adam_step_on<const D: usize>(
    path: Path,
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    moment_1: Tensor<D>,
    moment_2: Tensor<D>,
    config: &AdamStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let shape = parameter.dims();
    let fits = [&gradient, &moment_1, &moment_2].iter().all(|tensor| tensor.dims() == shape)
        && shape.iter().all(|&len| len > 0);
    if !fits
        || !extension::serves(path, &parameter)
        || !extension::all_f32(&parameter, &gradient, Some(&moment_1))
        || !extension::all_f32(&moment_2, &moment_2, None::<&Tensor<D>>)
    {
        return compose::adam_step(parameter, gradient, moment_1, moment_2, config);
    }
    extension::adam_step(path, parameter, gradient, moment_1, moment_2, *config)
}
