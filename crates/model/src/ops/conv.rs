//! Convolution, bias, activation and pooling as one operator.

use burn::tensor::Tensor;
use kernels::{
    Path,
    conv::{ConvBlock, Geometry},
    lanes,
    pointwise::{Activation, Pointwise},
    pool::Pool,
};

use super::{compose, dense::linear_on, extension, pointwise::pointwise_on};

/// `pool(activation(conv2d(images, weight) + bias))`.
///
/// `images [N, C, H, W]`, `weight [O, C / groups, KH, KW]`, `bias [O]` give `[N, O, H', W']`. The
/// convolution is the cross-correlation of Burn's `conv2d`, without dilation.
///
/// # Panics
/// Where Burn's `conv2d` or pooling would: channels or groups that do not fit.
pub fn conv_block(
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    block: &ConvBlock,
) -> Tensor<4> {
    conv_block_on(extension::path(), images, weight, bias, block)
}

/// [`conv_block`] whose output goes into another, with a weight of shape `next_weight`: the same values,
/// laid out in memory as the other one reads them, which saves turning them there and back again.
///
/// # Panics
/// As [`conv_block`].
pub fn conv_block_before(
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    block: &ConvBlock,
    next_weight: [usize; 4],
    next: &ConvBlock,
) -> Tensor<4> {
    fused(extension::path(), images, weight, bias, block, Some((next_weight, next)))
}

/// [`conv_block`] on a given path.
pub(crate) fn conv_block_on(
    path: Path,
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    block: &ConvBlock,
) -> Tensor<4> {
    fused(path, images, weight, bias, block, None)
}

pub(crate) fn fused(
    path: Path,
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    block: &ConvBlock,
    next: Option<([usize; 4], &ConvBlock)>,
) -> Tensor<4> {
    if let Some(output) = as_dense(path, &images, &weight, bias.as_ref(), block) {
        return output;
    }
    let geometry = Geometry::new(images.dims(), weight.dims(), block);
    if geometry.is_some_and(|geometry| !geometry.is_fused(lanes(path))) {
        // The largest value stays the largest; a mean has to wait.
        let (before, after) = match block.pool {
            Pool::Average { .. } => (Pool::None, block.pool),
            pool => (pool, Pool::None),
        };
        let linear = ConvBlock { activation: Activation::None, pool: before, ..*block };
        let features = conv_block_on(path, images, weight, bias, &linear);
        return compose::pool(pointwise_on(path, Pointwise::Tanh, features), after);
    }
    let bias_fits = bias.as_ref().is_none_or(|bias| bias.dims()[0] == weight.dims()[0]);
    match geometry {
        Some(geometry)
            if bias_fits
                && extension::serves(path, &images)
                && extension::all_f32(&images, &weight, bias.as_ref()) =>
        {
            let next = next.and_then(|(weight, block)| Geometry::new(geometry.output_shape(), weight, block));
            let geometry = geometry.before(next.as_ref(), lanes(path));
            extension::conv_block(path, images, weight, bias, geometry)
        }
        _ => compose::conv_block(images, weight, bias, block),
    }
}

/// A kernel as large as the image sees all of it once: a dense layer.
fn as_dense(
    path: Path,
    images: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    block: &ConvBlock,
) -> Option<Tensor<4>> {
    let [count, channels, height, width] = images.dims();
    let [features, ..] = weight.dims();
    let covers = weight.dims() == [features, channels, height, width]
        && count * features * channels * height * width > 0
        && height * width > 1
        && block.padding == [0, 0]
        && block.groups == 1
        && block.pool == Pool::None;
    if !covers || !extension::serves(path, images) || !extension::all_f32(images, weight, bias) {
        return None;
    }
    let inputs = channels * height * width;
    let x = images.clone().reshape([count, inputs]);
    let weight = weight.clone().reshape([features, inputs]).transpose();
    Some(linear_on(path, x, weight, bias.cloned(), block.activation).reshape([count, features, 1, 1]))
}
