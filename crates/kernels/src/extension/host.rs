//! What the kernels need from a backend whose tensors are plain memory, and the operators on it.

use burn::backend::{
    Backend, TensorMetadata,
    tensor::{FloatTensor, IntTensor},
};

use crate::{
    Activation, AdamStep, Path, adam,
    conv::{backward, forward, geometry::Geometry},
    dense::product::{self, Sizes},
    loss,
};

/// A backend with tensors in plain memory.
pub(crate) trait Host: Backend {
    /// The same values in row-major order; no copy where they already are.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The values of a contiguous `f32` tensor.
    fn values(tensor: &FloatTensor<Self>) -> &[f32];

    /// A tensor of these values, without a copy.
    fn from_values(values: Vec<f32>, shape: &[usize]) -> FloatTensor<Self>;

    /// The values of a contiguous `f32` tensor for writing; copied first where others hold it.
    fn values_mut(tensor: &mut FloatTensor<Self>) -> &mut [f32];

    /// Class indices.
    fn indices(tensor: IntTensor<Self>) -> Vec<usize>;
}

/// Indices of any integer type; a negative one becomes too large for any class and is refused there.
pub(crate) fn to_indices<T: Copy + TryInto<usize>>(values: impl IntoIterator<Item = T>) -> Vec<usize> {
    values.into_iter().map(|value| value.try_into().unwrap_or(usize::MAX)).collect()
}

/// The output, and the codes for the backward pass with `save`. All tensors are contiguous.
pub(crate) fn conv_block<B: Host>(
    images: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    bias: FloatTensor<B>,
    path: Path,
    geometry: &Geometry,
    save: bool,
) -> (FloatTensor<B>, forward::Codes) {
    let bias = B::contiguous(bias);
    let (output, codes) =
        forward::forward(path, geometry, B::values(images), B::values(weight), B::values(&bias), save);
    (B::from_values(output, &geometry.output_shape()), codes)
}

/// Gradients of images (if asked for), weight and bias. All tensors are contiguous.
pub(crate) fn conv_block_backward<B: Host>(
    images: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    codes: &[u8],
    gradient: FloatTensor<B>,
    path: Path,
    geometry: &Geometry,
    needs_images: bool,
) -> (Option<FloatTensor<B>>, FloatTensor<B>, FloatTensor<B>) {
    let gradient = B::contiguous(gradient);
    let gradients = backward::backward(
        path,
        geometry,
        B::values(images),
        B::values(weight),
        codes,
        B::values(&gradient),
        needs_images,
    );
    let features = gradients.bias.len();
    (
        gradients.images.map(|values| B::from_values(values, &images.shape()[..])),
        B::from_values(gradients.weight, &weight.shape()[..]),
        B::from_values(gradients.bias, &[features]),
    )
}

pub(crate) fn sizes<B: Host>(x: &FloatTensor<B>, weight: &FloatTensor<B>, activation: Activation) -> Sizes {
    let (x, weight) = (x.shape(), weight.shape());
    Sizes { samples: x[0], inputs: x[1], outputs: weight[1], relu: activation == Activation::Relu }
}

/// All tensors are contiguous.
pub(crate) fn linear<B: Host>(
    x: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    bias: FloatTensor<B>,
    path: Path,
    sizes: Sizes,
) -> FloatTensor<B> {
    let bias = B::contiguous(bias);
    let values = product::forward(path, sizes, B::values(x), B::values(weight), B::values(&bias));
    B::from_values(values, &[sizes.samples, sizes.outputs])
}

/// Gradients of `x` (if asked for), weight and bias. All tensors are contiguous.
pub(crate) fn linear_backward<B: Host>(
    x: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    output: Option<&FloatTensor<B>>,
    gradient: FloatTensor<B>,
    path: Path,
    sizes: Sizes,
    needs_x: bool,
) -> (Option<FloatTensor<B>>, FloatTensor<B>, FloatTensor<B>) {
    let gradient = B::contiguous(gradient);
    let gradients = product::backward(
        path,
        sizes,
        B::values(x),
        B::values(weight),
        output.map(B::values),
        B::values(&gradient),
        needs_x,
    );
    (
        gradients.x.map(|values| B::from_values(values, &[sizes.samples, sizes.inputs])),
        B::from_values(gradients.weight, &[sizes.inputs, sizes.outputs]),
        B::from_values(gradients.bias, &[sizes.outputs]),
    )
}

/// The loss, and its gradient for the logits.
pub(crate) fn cross_entropy<B: Host>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    class_weights: FloatTensor<B>,
    label_smoothing: f32,
) -> (FloatTensor<B>, Vec<f32>) {
    let logits = B::contiguous(logits);
    let class_weights = B::contiguous(class_weights);
    let (loss, gradient) = loss::loss_and_gradient(
        B::values(&logits),
        &B::indices(targets),
        B::values(&class_weights),
        label_smoothing,
    );
    (B::from_values(vec![loss], &[1]), gradient)
}

pub(crate) fn adam_step<B: Host>(
    parameter: FloatTensor<B>,
    gradient: FloatTensor<B>,
    moment_1: FloatTensor<B>,
    moment_2: FloatTensor<B>,
    path: Path,
    config: &AdamStep,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let mut parameter = B::contiguous(parameter);
    let gradient = B::contiguous(gradient);
    let mut moment_1 = B::contiguous(moment_1);
    let mut moment_2 = B::contiguous(moment_2);
    adam::update(
        path,
        config,
        B::values_mut(&mut parameter),
        B::values(&gradient),
        B::values_mut(&mut moment_1),
        B::values_mut(&mut moment_2),
    );
    (parameter, moment_1, moment_2)
}

/// Implements the operators of a host backend.
macro_rules! host_operators {
    ($backend:ty) => {
        impl $crate::extension::KernelOps for $backend {
            fn kernel_conv_block(
                images: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                path: $crate::Path,
                geometry: $crate::conv::geometry::Geometry,
            ) -> FloatTensor<Self> {
                let (images, weight) = (Self::contiguous(images), Self::contiguous(weight));
                host::conv_block::<Self>(&images, &weight, bias, path, &geometry, false).0
            }

            fn kernel_linear(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                path: $crate::Path,
                activation: $crate::Activation,
            ) -> FloatTensor<Self> {
                let (x, weight) = (Self::contiguous(x), Self::contiguous(weight));
                let sizes = host::sizes::<Self>(&x, &weight, activation);
                host::linear::<Self>(&x, &weight, bias, path, sizes)
            }

            fn kernel_cross_entropy(
                logits: FloatTensor<Self>,
                targets: IntTensor<Self>,
                class_weights: FloatTensor<Self>,
                label_smoothing: f32,
            ) -> FloatTensor<Self> {
                host::cross_entropy::<Self>(logits, targets, class_weights, label_smoothing).0
            }

            fn kernel_adam_step(
                parameter: FloatTensor<Self>,
                gradient: FloatTensor<Self>,
                moment_1: FloatTensor<Self>,
                moment_2: FloatTensor<Self>,
                path: $crate::Path,
                config: $crate::AdamStep,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                host::adam_step::<Self>(parameter, gradient, moment_1, moment_2, path, &config)
            }
        }
    };
}
pub(crate) use host_operators;
