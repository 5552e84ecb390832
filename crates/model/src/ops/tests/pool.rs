use burn::tensor::Device;
use proptest::prelude::*;

use super::{Numbers, check, devices, pair, paths, pools, tensor, vector};
use crate::ops::{Path, Pool, pool::pool_on};

/// Pooled values and the gradient of what is pooled; small integers, so that many values of a window are equal.
fn pooled(path: Path, device: &Device, x: &[f32], shape: [usize; 4], pool: Pool) -> [Vec<f32>; 2] {
    let x = tensor(x, shape, device).require_grad();
    let output = pool_on(path, x.clone(), pool);
    let upstream = Numbers(3).integers(output.shape().num_elements());
    let gradients = (output.clone() * tensor(&upstream, output.dims(), device)).sum().backward();
    [vector(output), vector(x.grad(&gradients).unwrap())]
}

#[test]
fn pooling_agrees_with_stock_operators() {
    let cases = (1_usize..=3, 1_usize..=20, pair(1..=40), pools(), any::<u64>());
    check(200, &cases, |(images, channels, size, pool, seed)| {
        let shape = [images, channels, size[0], size[1]];
        let (kernel, padding) = match pool {
            Pool::None => ([1, 1], [0, 0]),
            Pool::Max { kernel, padding, .. } | Pool::Average { kernel, padding, .. } => (kernel, padding),
        };
        if (0..2).any(|axis| size[axis] + 2 * padding[axis] < kernel[axis]) {
            return Ok(());
        }
        let x = Numbers(seed).integers(shape.iter().product());
        let expected = pooled(Path::Stock, &Device::flex().autodiff(), &x, shape, pool);
        for device in devices() {
            for path in paths() {
                let found = pooled(path, &device, &x, shape, pool);
                prop_assert!(found == expected, "{path:?} {pool:?} {shape:?}");
            }
        }
        Ok(())
    });
}
