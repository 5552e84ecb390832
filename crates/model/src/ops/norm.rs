//! Batch normalisation with what follows it: an addition and an activation.

use burn::tensor::Tensor;
use kernels::{Path, norm::Sizes, pointwise::Activation};

use super::{compose, extension};

/// What [`batch_norm_train`] gives.
#[derive(Clone, Debug)]
pub struct BatchNormTrain {
    /// `[N, C, H, W]`.
    pub output: Tensor<4>,
    /// Mean of each channel of the batch, `[C]`; no gradient flows through it.
    pub mean: Tensor<1>,
    /// Variance of each channel, `[C]`, over N * H * W values (biased), without epsilon; no gradient
    /// flows through it. This and the mean are what running statistics are fed with.
    pub variance: Tensor<1>,
}

/// `activation((x - mean) / sqrt(variance + epsilon) * gamma + beta + residual)` with the mean and
/// the biased variance of each channel of the batch (Ioffe and Szegedy, 2015, algorithm 1).
///
/// `x [N, C, H, W]`, `gamma [C]`, `beta [C]`, `residual [N, C, H, W]`. Gradients flow to all four.
///
/// # Panics
/// Where Burn's operators would: sizes that do not fit.
pub fn batch_norm_train(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    residual: Option<Tensor<4>>,
    activation: Activation,
) -> BatchNormTrain {
    batch_norm_train_on(extension::path(), x, gamma, beta, epsilon, residual, activation)
}

/// [`batch_norm_train`] on a given path.
pub(crate) fn batch_norm_train_on(
    path: Path,
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    residual: Option<Tensor<4>>,
    activation: Activation,
) -> BatchNormTrain {
    let is_fused = activation != Activation::Tanh;
    if !is_fused || !fits(path, &x, [&gamma, &beta, &gamma, &beta], residual.as_ref()) {
        let (output, mean, variance) =
            compose::batch_norm_train(x, gamma, beta, epsilon, residual, activation);
        return BatchNormTrain { output, mean, variance };
    }
    let sizes = Sizes::new(x.dims(), epsilon, activation, residual.is_some());
    let (output, mean, variance) = extension::batch_norm_train(path, x, gamma, beta, residual, sizes);
    BatchNormTrain { output, mean, variance }
}

/// `activation((x - mean) / sqrt(variance + epsilon) * gamma + beta + residual)` with given
/// statistics, as in evaluation.
///
/// `x [N, C, H, W]`; `gamma`, `beta`, `mean`, `variance [C]`; `residual [N, C, H, W]`.
///
/// # Panics
/// Where Burn's operators would: sizes that do not fit.
pub fn batch_norm(
    x: Tensor<4>,
    [gamma, beta]: [Tensor<1>; 2],
    [mean, variance]: [Tensor<1>; 2],
    epsilon: f64,
    residual: Option<Tensor<4>>,
    activation: Activation,
) -> Tensor<4> {
    batch_norm_on(extension::path(), x, [gamma, beta], [mean, variance], epsilon, residual, activation)
}

/// [`batch_norm`] on a given path.
pub(crate) fn batch_norm_on(
    path: Path,
    x: Tensor<4>,
    [gamma, beta]: [Tensor<1>; 2],
    [mean, variance]: [Tensor<1>; 2],
    epsilon: f64,
    residual: Option<Tensor<4>>,
    activation: Activation,
) -> Tensor<4> {
    // Frozen statistics in a graph are rare: Burn's operators know their gradients.
    let is_fused = activation != Activation::Tanh && !x.device().is_autodiff();
    if !is_fused || !fits(path, &x, [&gamma, &beta, &mean, &variance], residual.as_ref()) {
        return compose::batch_norm(x, [gamma, beta], [mean, variance], epsilon, residual, activation);
    }
    let sizes = Sizes::new(x.dims(), epsilon, activation, residual.is_some());
    extension::batch_norm(path, x, [gamma, beta], [mean, variance], residual, sizes)
}

/// Whether the sizes fit and the path serves them.
fn fits(path: Path, x: &Tensor<4>, of_channels: [&Tensor<1>; 4], residual: Option<&Tensor<4>>) -> bool {
    let channels = x.dims()[1];
    of_channels.iter().all(|tensor| tensor.dims() == [channels])
        && residual.is_none_or(|residual| residual.dims() == x.dims())
        && x.shape().num_elements() > 0
        && extension::serves(path, x)
        && of_channels.iter().all(|tensor| extension::all_f32(x, tensor, residual))
}
