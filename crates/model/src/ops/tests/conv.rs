use std::cmp::Ordering;

use burn::tensor::{Device, Tensor};
use kernels::conv::Geometry;
use proptest::prelude::*;

use super::{Numbers, check, devices, difference, pair, paths, pools, tensor, vector};
use crate::ops::{
    Activation, ConvBlock, Path, Pool, compose,
    conv::{conv_block_on, fused},
    extension,
};

#[derive(Clone, Debug)]
struct Case {
    images: [usize; 4],
    weight: [usize; 4],
    bias: bool,
    block: ConvBlock,
    seed: u64,
}

impl Case {
    /// Output and the gradients of images, weight and bias.
    fn run(
        &self,
        device: &Device,
        values: [&[f32]; 3],
        operator: impl Fn(Tensor<4>, Tensor<4>, Option<Tensor<1>>) -> Tensor<4>,
    ) -> [Vec<f32>; 4] {
        let images = tensor(values[0], self.images, device).require_grad();
        let weight = tensor(values[1], self.weight, device).require_grad();
        let bias = tensor(values[2], [self.weight[0]], device).require_grad();
        let output = operator(images.clone(), weight.clone(), self.bias.then(|| bias.clone()));
        let upstream = Numbers(self.seed ^ 1).integers(output.shape().num_elements());
        let upstream = tensor(&upstream, output.dims(), device);
        let gradients = (output.clone() * upstream).sum().backward();
        [
            vector(output),
            vector(images.grad(&gradients).unwrap()),
            vector(weight.grad(&gradients).unwrap()),
            bias.grad(&gradients).map(vector).unwrap_or_default(),
        ]
    }

    fn integers(&self) -> [Vec<f32>; 3] {
        let mut numbers = Numbers(self.seed);
        [
            numbers.integers(self.images.iter().product()),
            numbers.integers(self.weight.iter().product()),
            numbers.integers(self.weight[0]),
        ]
    }
}

fn activations() -> impl Strategy<Value = Activation> {
    prop_oneof![2 => Just(Activation::None), 3 => Just(Activation::Relu), 1 => Just(Activation::Tanh)]
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (1_usize..=9, 1_usize..=70, 1_usize..=70, pair(1..=40), pair(1..=7), 1_usize..=3);
    // Stride 1 has code of its own.
    let strides = prop_oneof![Just([1, 1]), pair(1..=3)];
    let block = (strides, pair(0..=6), activations(), pools());
    (sizes, block, any::<bool>(), any::<u64>()).prop_filter_map(
        "the kernel must fit into the image, and the case into the time",
        |(sizes, (stride, padding, activation, pool), bias, seed)| {
            let (count, channels, features, size, kernel, groups) = sizes;
            let padding = std::array::from_fn(|axis| padding[axis].min(kernel[axis] - 1));
            let block = ConvBlock { stride, padding, groups, activation, pool };
            let images = [count, channels * groups, size[0], size[1]];
            let weight = [features * groups, channels, kernel[0], kernel[1]];
            let work = images.iter().product::<usize>() * weight.iter().product::<usize>();
            (work < 60_000_000 && Geometry::new(images, weight, &block).is_some()).then_some(Case {
                images,
                weight,
                bias,
                block,
                seed,
            })
        },
    )
}

#[test]
fn blocks_agree_with_stock_operators() {
    check(48, &cases(), |case| {
        let [images, weight, bias] = case.integers();
        let values = [&images[..], &weight, &bias];
        let flex = Device::flex().autodiff();
        let expected = case.run(&flex, values, |x, w, b| compose::conv_block(x, w, b, &case.block));
        // A ninth is no binary fraction, and a tangent is approximated; sums of thousands of such values are rounded
        // in another order.
        let is_exact =
            !matches!(case.block.pool, Pool::Average { .. }) && case.block.activation != Activation::Tanh;
        let tolerance = if is_exact { 0.0 } else { 2e-6 };
        for device in devices() {
            for path in paths() {
                let found = case.run(&device, values, |x, w, b| conv_block_on(path, x, w, b, &case.block));
                let names = ["output", "images", "weight", "bias"];
                for ((name, found), expected) in names.iter().zip(&found).zip(&expected) {
                    let difference = difference(found, expected);
                    prop_assert!(difference <= tolerance, "{path:?}: {name} {difference:e}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_block_before_another_agrees_with_stock_operators() {
    let sizes = (1_usize..=3, 1_usize..=3, pair(8..=17), any::<bool>(), 0_usize..=1, any::<u64>());
    let cases = (sizes, pools(), pools(), prop_oneof![Just(1_usize), Just(3)]);
    check(32, &cases, |((count, channels, size, relu, padding, seed), mut pool, next_pool, kernel)| {
        // Of thirds a sum may be zero in one order and alive in another: means of halves and quarters.
        if let Pool::Average { kernel, padding, .. } = &mut pool {
            (*kernel, *padding) = (kernel.map(|len| len.min(2)), [0, 0]);
        }
        let activation = if relu { Activation::Relu } else { Activation::None };
        let block = ConvBlock { activation, pool, ..ConvBlock::default() };
        let next = ConvBlock { padding: [padding.min(kernel - 1); 2], pool: next_pool, ..block };
        let shapes = ([count, channels, size[0], size[1]], [32, channels, 3, 3], [64, 32, kernel, kernel]);
        let outer = Geometry::new(shapes.0, shapes.1, &block).map(|first| first.output_shape());
        prop_assume!(outer.is_some_and(|shape| Geometry::new(shape, shapes.2, &next).is_some()));
        let run = |path, device: &Device| {
            let mut numbers = Numbers(seed);
            let mut integers = |len| numbers.integers(len);
            let images = tensor(&integers(shapes.0.iter().product()), shapes.0, device).require_grad();
            let first = tensor(&integers(shapes.1.iter().product()), shapes.1, device).require_grad();
            let second = tensor(&integers(shapes.2.iter().product()), shapes.2, device).require_grad();
            let between = fused(path, images.clone(), first.clone(), None, &block, Some((shapes.2, &next)));
            let output = conv_block_on(path, between.clone(), second.clone(), None, &next);
            let upstream = tensor(&integers(output.shape().num_elements()), output.dims(), device);
            let gradients = (output.clone() * upstream).sum().backward();
            [
                // Another operator sees the same values.
                vector(between),
                vector(output),
                vector(images.grad(&gradients).unwrap()),
                vector(first.grad(&gradients).unwrap()),
                vector(second.grad(&gradients).unwrap()),
            ]
        };
        let expected = run(Path::Stock, &Device::flex().autodiff());
        for device in devices() {
            for path in paths() {
                for (index, (found, expected)) in run(path, &device).iter().zip(&expected).enumerate() {
                    let difference = difference(found, expected);
                    prop_assert!(difference < 1e-6, "{path:?}: {index} differs by {difference}");
                }
            }
        }
        Ok(())
    });
}

/// A block on random values, as a named shape.
fn named(images: [usize; 4], features: usize, kernel: usize, padding: usize, pool: Pool) -> Case {
    let average = matches!(pool, Pool::Average { .. });
    let activation = if average { Activation::Tanh } else { Activation::Relu };
    let block = ConvBlock { stride: [1, 1], padding: [padding; 2], groups: 1, activation, pool };
    Case { images, weight: [features, images[1], kernel, kernel], bias: true, block, seed: 11 }
}

/// The shapes of the nets that the crate is for.
fn named_cases() -> [Case; 13] {
    let max = Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
    let average = Pool::Average { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
    [
        named([5, 1, 28, 28], 32, 3, 0, max),
        named([5, 32, 13, 13], 64, 3, 0, max),
        named([5, 1, 28, 28], 6, 5, 2, average),
        named([5, 6, 14, 14], 16, 5, 0, average),
        named([3, 3, 32, 32], 16, 3, 1, Pool::None),
        named([3, 16, 32, 32], 64, 3, 1, Pool::None),
        named([2, 67, 20, 28], 30, 3, 0, Pool::None),
        named([3, 20, 5, 4], 40, 1, 0, Pool::None),
        named([3, 16, 5, 5], 120, 5, 0, Pool::None),
        named([3, 32, 13, 12], 64, 3, 1, Pool::None),
        named([2, 64, 9, 7], 32, 3, 1, average),
        named([2, 48, 8, 11], 48, 3, 1, max),
        named([2, 32, 40, 30], 32, 3, 2, Pool::None),
    ]
}

#[test]
fn blocks_agree_on_real_values() {
    let flex = Device::flex().autodiff();
    for case in named_cases() {
        let mut numbers = Numbers(case.seed);
        let images = numbers.values(case.images.iter().product());
        let weight = numbers.values(case.weight.iter().product());
        let bias = numbers.values(case.weight[0]);
        let values = [&images[..], &weight, &bias];
        let expected = case.run(&flex, values, |x, w, b| compose::conv_block(x, w, b, &case.block));
        for path in paths() {
            let found = case.run(&flex, values, |x, w, b| conv_block_on(path, x, w, b, &case.block));
            for (found, expected) in found.iter().zip(&expected) {
                assert!(difference(found, expected) < 5e-6, "{path:?} {case:?}");
            }
        }
    }
}

#[test]
fn not_a_number_and_infinity_pass_through() {
    let flex = Device::flex().autodiff();
    let max = Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
    let average = Pool::Average { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
    for (pool, special) in [max, average, Pool::None]
        .into_iter()
        .flat_map(|pool| [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(|special| (pool, special)))
    {
        for (channels, features) in [(1, 20), (20, 20), (32, 32)] {
            let mut case = named([2, channels, 12, 12], features, 3, 0, pool);
            case.block.activation = Activation::Relu;
            let [mut images, weight, bias] = case.integers();
            images[40] = special;
            let values = [&images[..], &weight, &bias];
            let expected = case.run(&flex, values, |x, w, b| compose::conv_block(x, w, b, &case.block));
            assert!(expected[0].iter().any(|value| !value.is_finite()));
            for path in paths() {
                let found = case.run(&flex, values, |x, w, b| conv_block_on(path, x, w, b, &case.block));
                for (index, (found, expected)) in found[0].iter().zip(&expected[0]).enumerate() {
                    let same = found.partial_cmp(expected) == Some(Ordering::Equal)
                        || (found.is_nan() && expected.is_nan());
                    assert!(same, "{path:?} {pool:?} {special} at {index}: {found}, stock {expected}");
                }
                // Stock also multiplies it with the zero gradients of positions that lost the maximum.
                let is_lost = |values: &[f32]| values.iter().all(|value| value.is_finite());
                assert_eq!(is_lost(&found[2]), is_lost(&expected[2]), "{path:?} {pool:?} {special}");
            }
        }
    }
}

/// Sums of the transformed values would overflow, or turn an infinity into a NaN.
#[test]
fn minimal_filtering_leaves_large_values_alone() {
    let flex = Device::flex().autodiff();
    for large in [3e38, f32::INFINITY, f32::NAN] {
        for of_weight in [false, true] {
            let case = named([2, 32, 8, 8], 32, 3, 1, Pool::None);
            let [mut images, mut weight, bias] = case.integers();
            for value in &mut weight {
                *value *= 0.125;
            }
            if of_weight {
                images.fill(0.25);
                weight[100] = large;
            } else {
                weight.fill(0.125);
                images[100] = large;
                images[101] = large;
            }
            let values = [&images[..], &weight, &bias];
            let expected = case.run(&flex, values, |x, w, b| compose::conv_block(x, w, b, &case.block));
            for path in paths() {
                let found = case.run(&flex, values, |x, w, b| conv_block_on(path, x, w, b, &case.block));
                for (index, (found, expected)) in found[0].iter().zip(&expected[0]).enumerate() {
                    let same = (found - expected).abs() <= 1e-6 * expected.abs()
                        || found.partial_cmp(expected) == Some(Ordering::Equal)
                        || (found.is_nan() && expected.is_nan());
                    assert!(same, "{path:?} {large} at {index}: {found}, stock {expected}");
                }
            }
        }
    }
}

/// Where no gradient is asked for, none is made; the others are the same.
#[test]
fn frozen_weights_and_images_get_no_gradient() {
    let device = Device::flex().autodiff();
    for case in named_cases() {
        let [images, weight, bias] = case.integers();
        for path in paths() {
            let run = |wants: [bool; 2]| {
                let images = tensor(&images, case.images, &device).set_require_grad(wants[0]);
                let weight = tensor(&weight, case.weight, &device).set_require_grad(wants[1]);
                let bias = tensor(&bias, [case.weight[0]], &device).require_grad();
                let block =
                    conv_block_on(path, images.clone(), weight.clone(), Some(bias.clone()), &case.block);
                let gradients = block.powi_scalar(2).sum().backward();
                [
                    images.grad(&gradients).map(vector),
                    weight.grad(&gradients).map(vector),
                    bias.grad(&gradients).map(vector),
                ]
            };
            let [all_images, all_weight, all_bias] = run([true, true]);
            assert!(all_images.is_some() && all_weight.is_some());
            assert_eq!(run([true, false]), [all_images, None, all_bias.clone()], "{path:?} {case:?}");
            assert_eq!(run([false, true]), [None, all_weight, all_bias], "{path:?} {case:?}");
        }
    }
}

/// Sizes without a fast path, and sizes that only the composition can refuse, go to the composition.
#[test]
fn other_shapes_are_composed() {
    let block = ConvBlock { groups: 6, ..ConvBlock::default() };
    assert!(Geometry::new([1, 6, 8, 8], [6, 1, 3, 3], &block).is_none(), "depthwise");
    let device = Device::flex();
    let values = Numbers(3).integers(6 * 64 + 54);
    let images = tensor(&values[..384], [1, 6, 8, 8], &device);
    let weight = tensor(&values[384..], [6, 1, 3, 3], &device);
    let found = conv_block_on(Path::Portable, images.clone(), weight.clone(), None, &block);
    assert_eq!(vector(found), vector(compose::conv_block(images, weight, None, &block)));
    assert!(!extension::serves(Path::Stock, &Tensor::<1>::zeros([1], &device)));
}
