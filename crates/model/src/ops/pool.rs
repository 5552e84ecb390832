//! Pooling with nothing fused before it, as after a normalisation.

use burn::tensor::Tensor;
use kernels::{
    Path,
    pool::{Pool, Sizes, Window},
};

use super::{compose, extension};

/// Pools `x` `[N, C, H, W]` to `[N, C, H', W']`, `H' = (H + 2 * padding - kernel) / stride + 1`. A NaN beats every
/// number; of equal values the first in row-major order gets the gradient.
///
/// # Panics
/// Where Burn's operators would: a window larger than the padded image.
pub fn pool(x: Tensor<4>, pool: Pool) -> Tensor<4> {
    pool_on(extension::path(), x, pool)
}

/// [`pool()`] on a given path.
pub(crate) fn pool_on(path: Path, x: Tensor<4>, pool: Pool) -> Tensor<4> {
    let Pool::Max { kernel, stride, padding } = pool else {
        return compose::pool(x, pool);
    };
    let window = Window { kernel, stride, padding };
    let [images, channels, height, width] = x.dims();
    match Sizes::new(images * channels, [height, width], window) {
        Some(sizes) if extension::serves(path, &x) && extension::all_f32(&x, &x, None::<&Tensor<4>>) => {
            extension::max_pool(path, x, sizes)
        }
        _ => compose::pool(x, pool),
    }
}
