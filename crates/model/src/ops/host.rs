//! What the kernels need from a backend whose tensors are plain memory, and the operators on it.

use burn::backend::{
    Backend, TensorMetadata,
    tensor::{FloatTensor, IntTensor},
};
use kernels::{
    Path,
    conv::{self, Geometry, Inputs, Saved, Wanted},
    dense::{self, Sizes},
    lanes, loss,
    norm::{self, Statistics},
    optim::{self, AdamStep},
    pointwise::{self, Activation, Pointwise},
    pool,
};

/// A backend with tensors in plain memory.
pub(crate) trait Host: Backend {
    /// The same values in row-major order; no copy where they already are.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The values of a contiguous `f32` tensor; in the order of the memory for one whose
    /// [`Self::is_channels_last`].
    fn values(tensor: &FloatTensor<Self>) -> &[f32];

    /// Whether `[N, C, H, W]` lies in memory as `[N, H, W, C]`, without gaps.
    fn is_channels_last(tensor: &FloatTensor<Self>) -> bool;

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

/// Images as the code for these sizes reads them, and the geometry with the way they lie.
pub(crate) fn images<B: Host>(
    images: FloatTensor<B>,
    path: Path,
    geometry: Geometry,
) -> (FloatTensor<B>, Geometry) {
    let is_last = geometry.reads_last(lanes(path)) && B::is_channels_last(&images);
    let images = if is_last { images } else { B::contiguous(images) };
    (images, geometry.with_images_last(is_last))
}

/// A tensor `[N, C, H, W]` of values that lie so, or channels last.
fn from_planes<B: Host>(values: Vec<f32>, shape: [usize; 4], is_last: bool) -> FloatTensor<B> {
    let [n, c, h, w] = shape;
    if is_last {
        B::float_permute(B::from_values(values, &[n, h, w, c]), &[0, 3, 1, 2])
    } else {
        B::from_values(values, &shape)
    }
}

/// Whether these are the strides of `[N, C, H, W]` that lies as `[N, H, W, C]`.
pub(crate) fn are_channels_last(shape: &[usize], strides: &[isize]) -> bool {
    let &[_, c, h, w] = shape else {
        return false;
    };
    let (row, pixel) = ((w * c) as isize, c as isize);
    strides == [h as isize * row, 1, row, pixel]
}

/// The output, and the codes for the backward pass with `save`. `images` is as [`images()`] gives it, the
/// weight is contiguous.
pub(crate) fn conv_block<B: Host>(
    images: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    bias: FloatTensor<B>,
    path: Path,
    geometry: &Geometry,
    save: bool,
) -> (FloatTensor<B>, Saved) {
    let bias = B::contiguous(bias);
    let (output, saved) =
        conv::forward(path, geometry, B::values(images), B::values(weight), B::values(&bias), save);
    let output = from_planes::<B>(output, geometry.output_shape(), geometry.has_output_last());
    (output, saved)
}

/// What the backward pass of a block is given: what the forward pass had.
pub(crate) struct ConvState<B: Backend> {
    pub(crate) images: FloatTensor<B>,
    pub(crate) weight: FloatTensor<B>,
    /// Kept where the backward pass reads the activation from it.
    pub(crate) output: Option<FloatTensor<B>>,
    pub(crate) saved: Saved,
}

/// Gradients of images (if asked for), weight and bias.
pub(crate) fn conv_block_backward<B: Host>(
    state: &ConvState<B>,
    gradient: FloatTensor<B>,
    wanted: Wanted,
) -> (Option<FloatTensor<B>>, FloatTensor<B>, FloatTensor<B>) {
    let geometry = state.saved.geometry();
    let gradient_last = geometry.writes_last(lanes(state.saved.path())) && B::is_channels_last(&gradient);
    let gradient = if gradient_last { gradient } else { B::contiguous(gradient) };
    let inputs = Inputs {
        images: B::values(&state.images),
        weight: B::values(&state.weight),
        output: state.output.as_ref().map(B::values),
        gradient: B::values(&gradient),
        gradient_last,
    };
    let gradients = conv::backward(&state.saved, inputs, wanted);
    let features = gradients.bias.len();
    (
        gradients
            .images
            .map(|values| from_planes::<B>(values, geometry.images_shape(), geometry.has_images_last())),
        B::from_values(gradients.weight, &state.weight.shape()[..]),
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
    let values = dense::forward(path, sizes, B::values(x), B::values(weight), B::values(&bias));
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
    let gradients = dense::backward(
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

/// The statistics of the batch, and the normalised output.
pub(crate) fn batch_norm_train<B: Host>(
    x: &FloatTensor<B>,
    gamma: &FloatTensor<B>,
    beta: FloatTensor<B>,
    residual: FloatTensor<B>,
    path: Path,
    sizes: norm::Sizes,
) -> (FloatTensor<B>, Statistics) {
    let (beta, residual) = (B::contiguous(beta), B::contiguous(residual));
    let statistics = norm::statistics(path, sizes, B::values(x));
    let residual = sizes.has_residual().then(|| B::values(&residual));
    let (gamma, beta) = (B::values(gamma), B::values(&beta));
    let output = norm::normalize(path, sizes, B::values(x), &statistics, gamma, beta, residual);
    (B::from_values(output, &x.shape()[..]), statistics)
}

/// Mean and variance, `[C]`.
pub(crate) fn statistics<B: Host>(found: Statistics) -> [FloatTensor<B>; 2] {
    [found.mean, found.variance].map(|values| {
        let channels = values.len();
        B::from_values(values, &[channels])
    })
}

/// What the backward pass of a normalisation is given. All tensors are contiguous.
pub(crate) struct NormState<B: Backend> {
    pub(crate) x: FloatTensor<B>,
    pub(crate) gamma: FloatTensor<B>,
    /// Kept for the rectifier.
    pub(crate) output: Option<FloatTensor<B>>,
    pub(crate) statistics: Statistics,
    pub(crate) path: Path,
    pub(crate) sizes: norm::Sizes,
}

/// Gradients of x, gamma, beta and (if asked for) the residual.
pub(crate) fn batch_norm_backward<B: Host>(
    state: &NormState<B>,
    gradient: FloatTensor<B>,
    wants_residual: bool,
) -> ([FloatTensor<B>; 3], Option<FloatTensor<B>>) {
    let gradient = B::contiguous(gradient);
    let gradients = norm::backward(
        state.path,
        state.sizes,
        B::values(&state.x),
        &state.statistics,
        B::values(&state.gamma),
        state.output.as_ref().map(B::values),
        B::values(&gradient),
        wants_residual,
    );
    let shape = state.x.shape();
    let channels = gradients.gamma.len();
    (
        [
            B::from_values(gradients.x, &shape[..]),
            B::from_values(gradients.gamma, &[channels]),
            B::from_values(gradients.beta, &[channels]),
        ],
        gradients.residual.map(|values| B::from_values(values, &shape[..])),
    )
}

/// The output for given statistics.
pub(crate) fn batch_norm<B: Host>(
    [x, gamma, beta, mean, variance, residual]: [FloatTensor<B>; 6],
    path: Path,
    sizes: norm::Sizes,
) -> FloatTensor<B> {
    let [x, gamma, beta, mean, variance, residual] =
        [x, gamma, beta, mean, variance, residual].map(B::contiguous);
    let statistics = Statistics { mean: B::values(&mean).to_vec(), variance: B::values(&variance).to_vec() };
    let residual = sizes.has_residual().then(|| B::values(&residual));
    let (gamma, beta) = (B::values(&gamma), B::values(&beta));
    let output = norm::normalize(path, sizes, B::values(&x), &statistics, gamma, beta, residual);
    B::from_values(output, &x.shape()[..])
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
    let (loss, gradient) = loss::cross_entropy(
        B::values(&logits),
        &B::indices(targets),
        B::values(&class_weights),
        label_smoothing,
    );
    (B::from_values(vec![loss], &[1]), gradient)
}

/// `x` is contiguous.
pub(crate) fn pointwise<B: Host>(x: &FloatTensor<B>, path: Path, function: Pointwise) -> FloatTensor<B> {
    B::from_values(pointwise::forward(path, function, B::values(x)), &x.shape()[..])
}

/// `kept`, as [`pointwise::backward`] has it, is contiguous.
pub(crate) fn pointwise_backward<B: Host>(
    kept: &FloatTensor<B>,
    gradient: FloatTensor<B>,
    path: Path,
    function: Pointwise,
) -> FloatTensor<B> {
    let gradient = B::contiguous(gradient);
    let values = pointwise::backward(path, function, B::values(kept), B::values(&gradient));
    B::from_values(values, &kept.shape()[..])
}

/// The pooled planes and the codes for the way back. `x` is contiguous.
pub(crate) fn max_pool<B: Host>(
    x: &FloatTensor<B>,
    path: Path,
    sizes: pool::Sizes,
) -> (FloatTensor<B>, Vec<u8>) {
    let (values, codes) = pool::forward(path, sizes, B::values(x));
    let (shape, [rows, columns]) = (x.shape(), sizes.output());
    (B::from_values(values, &[shape[0], shape[1], rows, columns]), codes)
}

/// `shape` is that of the planes.
pub(crate) fn max_pool_backward<B: Host>(
    codes: &[u8],
    gradient: FloatTensor<B>,
    path: Path,
    sizes: pool::Sizes,
    shape: [usize; 4],
) -> FloatTensor<B> {
    let gradient = B::contiguous(gradient);
    B::from_values(pool::backward(path, sizes, codes, B::values(&gradient)), &shape)
}

pub(crate) fn adam_step<B: Host>(
    parameter: FloatTensor<B>,
    gradient: FloatTensor<B>,
    moment_1: FloatTensor<B>,
    moment_2: FloatTensor<B>,
    path: Path,
    config: &AdamStep,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let parameter = B::contiguous(parameter);
    let gradient = B::contiguous(gradient);
    let mut moment_1 = B::contiguous(moment_1);
    let mut moment_2 = B::contiguous(moment_2);
    let updated = optim::adam_step(
        path,
        config,
        B::values(&parameter),
        B::values(&gradient),
        B::values_mut(&mut moment_1),
        B::values_mut(&mut moment_2),
    );
    (B::from_values(updated, &parameter.shape()[..]), moment_1, moment_2)
}

/// Implements the operators of a host backend.
macro_rules! host_operators {
    ($backend:ty) => {
        impl $crate::ops::extension::KernelOps for $backend {
            fn kernel_conv_block(
                images: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                path: kernels::Path,
                geometry: kernels::conv::Geometry,
            ) -> FloatTensor<Self> {
                let (images, geometry) = host::images::<Self>(images, path, geometry);
                let weight = Self::contiguous(weight);
                host::conv_block::<Self>(&images, &weight, bias, path, &geometry, false).0
            }

            fn kernel_linear(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                path: kernels::Path,
                activation: kernels::pointwise::Activation,
            ) -> FloatTensor<Self> {
                let (x, weight) = (Self::contiguous(x), Self::contiguous(weight));
                let sizes = host::sizes::<Self>(&x, &weight, activation);
                host::linear::<Self>(&x, &weight, bias, path, sizes)
            }

            fn kernel_batch_norm_train(
                x: FloatTensor<Self>,
                gamma: FloatTensor<Self>,
                beta: FloatTensor<Self>,
                residual: FloatTensor<Self>,
                path: kernels::Path,
                sizes: kernels::norm::Sizes,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                let (x, gamma) = (Self::contiguous(x), Self::contiguous(gamma));
                let (output, statistics) =
                    host::batch_norm_train::<Self>(&x, &gamma, beta, residual, path, sizes);
                let [mean, variance] = host::statistics::<Self>(statistics);
                (output, mean, variance)
            }

            fn kernel_batch_norm(
                x: FloatTensor<Self>,
                gamma: FloatTensor<Self>,
                beta: FloatTensor<Self>,
                mean: FloatTensor<Self>,
                variance: FloatTensor<Self>,
                residual: FloatTensor<Self>,
                path: kernels::Path,
                sizes: kernels::norm::Sizes,
            ) -> FloatTensor<Self> {
                host::batch_norm::<Self>([x, gamma, beta, mean, variance, residual], path, sizes)
            }

            fn kernel_cross_entropy(
                logits: FloatTensor<Self>,
                targets: IntTensor<Self>,
                class_weights: FloatTensor<Self>,
                label_smoothing: f32,
            ) -> FloatTensor<Self> {
                host::cross_entropy::<Self>(logits, targets, class_weights, label_smoothing).0
            }

            fn kernel_pointwise(
                x: FloatTensor<Self>,
                path: kernels::Path,
                function: kernels::pointwise::Pointwise,
            ) -> FloatTensor<Self> {
                host::pointwise::<Self>(&Self::contiguous(x), path, function)
            }

            fn kernel_max_pool(
                x: FloatTensor<Self>,
                path: kernels::Path,
                sizes: kernels::pool::Sizes,
            ) -> FloatTensor<Self> {
                host::max_pool::<Self>(&Self::contiguous(x), path, sizes).0
            }

            fn kernel_adam_step(
                parameter: FloatTensor<Self>,
                gradient: FloatTensor<Self>,
                moment_1: FloatTensor<Self>,
                moment_2: FloatTensor<Self>,
                path: kernels::Path,
                config: kernels::optim::AdamStep,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                host::adam_step::<Self>(parameter, gradient, moment_1, moment_2, path, &config)
            }
        }
    };
}
pub(crate) use host_operators;
