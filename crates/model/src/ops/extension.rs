//! The way into Burn: an extension of its CPU backends, whose tensors are plain memory.
#![cfg_attr(
    feature = "ndarray",
    expect(deprecated, reason = "`NdArray` is deprecated in Burn, and users name it")
)]

use burn::{
    backend::{
        Backend, Dispatch, DispatchDevice, backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Int, Tensor},
};
use kernels::{
    Path,
    conv::Geometry,
    norm::Sizes,
    optim::AdamStep,
    pointwise::{Activation, Pointwise},
    pool,
};

/// The operators on primitives. Shapes and types have been checked. (The attribute knows no optional
/// tensors: a missing bias is zeros, missing class weights are ones.)
#[backend_extension(Autodiff, Flex, NdArray: cfg(feature = "ndarray"))]
pub(crate) trait KernelOps: Backend {
    fn kernel_conv_block(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        path: Path,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    fn kernel_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        path: Path,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// Output, mean and variance. Without a residual its place is taken by anything.
    fn kernel_batch_norm_train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        path: Path,
        sizes: Sizes,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    #[allow(clippy::too_many_arguments, reason = "the attribute takes tensors one by one, and copies this")]
    fn kernel_batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        path: Path,
        sizes: Sizes,
    ) -> FloatTensor<Self>;

    fn kernel_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        class_weights: FloatTensor<Self>,
        label_smoothing: f32,
    ) -> FloatTensor<Self>;

    fn kernel_pointwise(x: FloatTensor<Self>, path: Path, function: Pointwise) -> FloatTensor<Self>;

    fn kernel_max_pool(x: FloatTensor<Self>, path: Path, sizes: pool::Sizes) -> FloatTensor<Self>;

    fn kernel_adam_step(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        path: Path,
        config: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// The path in use; the composition where the choice is an error, which [`kernels::path()`] reports.
pub(crate) fn path() -> Path {
    kernels::path().unwrap_or(Path::Stock)
}

/// Whether the tensor lives on a backend of the extension; calling it on another would panic.
pub(crate) fn serves<const D: usize>(path: Path, tensor: &Tensor<D>) -> bool {
    fn is_listed(device: &DispatchDevice) -> bool {
        match device {
            DispatchDevice::Flex(_) => true,
            #[cfg(feature = "ndarray")]
            DispatchDevice::NdArray(_) => true,
            DispatchDevice::Autodiff(device) => is_listed(device),
            // Which others exist depends on the features of the whole build.
            #[expect(clippy::allow_attributes, reason = "unreachable in some builds only")]
            #[allow(unreachable_patterns, reason = "reachable with more backends compiled in")]
            _ => false,
        }
    }
    path != Path::Stock && is_listed(tensor.device().as_dispatch())
}

/// Whether all tensors hold `f32`, the one type of the kernels.
pub(crate) fn all_f32<const A: usize, const B: usize, const C: usize>(
    a: &Tensor<A>,
    b: &Tensor<B>,
    c: Option<&Tensor<C>>,
) -> bool {
    a.dtype() == DType::F32 && b.dtype() == DType::F32 && c.is_none_or(|tensor| tensor.dtype() == DType::F32)
}

/// Whether the class indices have a type that the loss reads.
pub(crate) fn has_plain_indices(targets: &Tensor<1, Int>) -> bool {
    matches!(targets.dtype(), DType::I64 | DType::I32 | DType::U8)
}

pub(crate) fn conv_block(
    path: Path,
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    geometry: Geometry,
) -> Tensor<4> {
    let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[0]], &weight.device()));
    Tensor::from_dispatch(Dispatch::kernel_conv_block(
        images.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        path,
        geometry,
    ))
}

pub(crate) fn linear(
    path: Path,
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<2> {
    let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[1]], &weight.device()));
    Tensor::from_dispatch(Dispatch::kernel_linear(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        path,
        activation,
    ))
}

/// Output, mean and variance.
pub(crate) fn batch_norm_train(
    path: Path,
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    residual: Option<Tensor<4>>,
    sizes: Sizes,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let residual = residual.map_or_else(|| beta.clone().detach().into_dispatch(), Tensor::into_dispatch);
    let (output, mean, variance) = Dispatch::kernel_batch_norm_train(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        residual,
        path,
        sizes,
    );
    (Tensor::from_dispatch(output), Tensor::from_dispatch(mean), Tensor::from_dispatch(variance))
}

pub(crate) fn batch_norm(
    path: Path,
    x: Tensor<4>,
    [gamma, beta]: [Tensor<1>; 2],
    [mean, variance]: [Tensor<1>; 2],
    residual: Option<Tensor<4>>,
    sizes: Sizes,
) -> Tensor<4> {
    let residual = residual.map_or_else(|| beta.clone().into_dispatch(), Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::kernel_batch_norm(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        mean.into_dispatch(),
        variance.into_dispatch(),
        residual,
        path,
        sizes,
    ))
}

pub(crate) fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    class_weights: Option<Tensor<1>>,
    label_smoothing: f32,
) -> Tensor<1> {
    let class_weights = class_weights.unwrap_or_else(|| Tensor::ones([logits.dims()[1]], &logits.device()));
    Tensor::from_dispatch(Dispatch::kernel_cross_entropy(
        logits.into_dispatch(),
        targets.into_dispatch(),
        class_weights.into_dispatch(),
        label_smoothing,
    ))
}

pub(crate) fn pointwise<const D: usize>(path: Path, function: Pointwise, x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::kernel_pointwise(x.into_dispatch(), path, function))
}

pub(crate) fn max_pool(path: Path, x: Tensor<4>, sizes: pool::Sizes) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::kernel_max_pool(x.into_dispatch(), path, sizes))
}

pub(crate) fn adam_step<const D: usize>(
    path: Path,
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    moment_1: Tensor<D>,
    moment_2: Tensor<D>,
    config: AdamStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let (parameter, moment_1, moment_2) = Dispatch::kernel_adam_step(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        moment_1.into_dispatch(),
        moment_2.into_dispatch(),
        path,
        config,
    );
    (Tensor::from_dispatch(parameter), Tensor::from_dispatch(moment_1), Tensor::from_dispatch(moment_2))
}
