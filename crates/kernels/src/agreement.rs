//! Every path against Burn's own operators.
//!
//! Most tests draw small integers: sums and products of them are exact in `f32`, whatever the order,
//! so results must agree to the last bit, and ties of the maximum and zeros at the rectifier abound.

use std::cmp::Ordering;

use burn::tensor::{Device, Int, Tensor, TensorData};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    Activation, AdamStep, ConvBlock, Path, Pool, adam, compose,
    conv::{conv_block_on, fused, geometry::Geometry},
    dense, extension, loss, norm, pooling, reference,
};

/// Runs a property over cases that are the same in every run.
fn check<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    if let Err(error) = runner.run(strategy, property) {
        panic!("{error}");
    }
}

/// The paths that this processor has.
fn paths() -> impl Iterator<Item = Path> {
    [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.is_supported())
}

fn devices() -> Vec<Device> {
    #[cfg(feature = "ndarray")]
    #[expect(deprecated, reason = "the backend is deprecated in Burn, and users name it")]
    let devices = vec![Device::flex().autodiff(), Device::ndarray().autodiff()];
    #[cfg(not(feature = "ndarray"))]
    let devices = vec![Device::flex().autodiff()];
    devices
}

/// Numbers from a linear congruential generator (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Integers from -3 to 3.
    fn integers(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.next() % 7) as f32 - 3.0).collect()
    }

    /// Values in `[-1, 1)`.
    fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next() as f32 / (1_u64 << 30) as f32 - 1.0).collect()
    }
}

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

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn vector<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// Pairs of sizes.
fn pair(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = [usize; 2]> {
    [range.clone(), range]
}

fn pools() -> impl Strategy<Value = Pool> {
    let window = || {
        (pair(1..=3), pair(1..=3), any::<bool>(), pair(0..=1)).prop_map(|(kernel, stride, same, padding)| {
            let padding = std::array::from_fn(|axis| padding[axis].min(kernel[axis] / 2));
            (kernel, if same { kernel } else { stride }, padding)
        })
    };
    prop_oneof![
        Just(Pool::None),
        Just(Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] }),
        window().prop_map(|(kernel, stride, padding)| Pool::Max { kernel, stride, padding }),
        window().prop_map(|(kernel, stride, padding)| Pool::Average { kernel, stride, padding }),
    ]
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

/// The largest difference, as a share of the largest value.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1.0_f32, |largest, value| largest.max(value.abs()));
    found.iter().zip(expected).fold(0.0_f32, |most, (a, b)| {
        assert!(a.is_finite() && b.is_finite());
        most.max((a - b).abs() / largest)
    })
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
fn blocks_agree_with_a_reference_in_double_precision() {
    let small = cases().prop_map(|mut case| {
        case.images[0] = case.images[0].min(3);
        case.images[2] = case.images[2].min(13);
        case.images[3] = case.images[3].min(13);
        case
    });
    let device = Device::flex().autodiff();
    check(24, &small, |case| {
        prop_assume!(Geometry::new(case.images, case.weight, &case.block).is_some());
        let mut numbers = Numbers(case.seed);
        let images = numbers.values(case.images.iter().product());
        let weight = numbers.values(case.weight.iter().product());
        let mut bias = numbers.values(case.weight[0]);
        if !case.bias {
            bias.fill(0.0);
        }
        for path in paths() {
            let values = [&images[..], &weight, &bias];
            let found = case.run(&device, values, |x, w, b| conv_block_on(path, x, w, b, &case.block));
            let upstream = Numbers(case.seed ^ 1).integers(found[0].len());
            let expected = reference::conv_block(
                (&images, case.images),
                (&weight, case.weight),
                &bias,
                &case.block,
                |index| upstream[index],
            );
            let mut pairs = vec![
                (&found[0], &expected.output),
                (&found[1], &expected.images),
                (&found[2], &expected.weight),
            ];
            if case.bias {
                pairs.push((&found[3], &expected.bias));
            }
            for (found, expected) in pairs {
                let expected: Vec<f32> = expected.iter().map(|&value| value as f32).collect();
                prop_assert!(difference(found, &expected) < 5e-6, "{path:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn threads_do_not_change_a_bit() {
    let flex = Device::flex().autodiff();
    for mut case in named_cases() {
        case.images[0] = 37;
        let mut numbers = Numbers(case.seed);
        let images = numbers.values(case.images.iter().product());
        let weight = numbers.values(case.weight.iter().product());
        let bias = numbers.values(case.weight[0]);
        for path in paths() {
            let runs = [1, 2, 3].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let values = [&images[..], &weight, &bias];
                    case.run(&flex, values, |x, w, b| conv_block_on(path, x, w, b, &case.block))
                        .map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
                })
            });
            assert!(runs[0] == runs[1] && runs[0] == runs[2], "{path:?} {case:?}");
        }
    }
}

#[test]
fn finite_differences_confirm_the_gradients() {
    let flex = Device::flex().autodiff();
    let max = Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
    for case in [
        named([2, 4, 8, 8], 6, 3, 1, max),
        named([2, 4, 8, 8], 6, 3, 1, Pool::None),
        named([2, 4, 8, 8], 6, 3, 0, Pool::Average { kernel: [2, 2], stride: [2, 2], padding: [0, 0] }),
    ] {
        let mut numbers = Numbers(5);
        let mut values = [
            numbers.values(case.images.iter().product()),
            numbers.values(case.weight.iter().product()),
            numbers.values(case.weight[0]),
        ];
        for path in paths() {
            let run = |values: &[Vec<f32>; 3]| {
                let values = [&values[0][..], &values[1], &values[2]];
                case.run(&flex, values, |x, w, b| conv_block_on(path, x, w, b, &case.block))
            };
            let gradients = run(&values);
            let upstream = Numbers(case.seed ^ 1).integers(gradients[0].len());
            let loss = |output: &[f32]| -> f64 {
                output.iter().zip(&upstream).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let step = 1e-3_f32;
            for input in 0..3 {
                for index in (0..values[input].len()).step_by(values[input].len().div_ceil(5)) {
                    let before = values[input][index];
                    values[input][index] = before + step;
                    let above = loss(&run(&values)[0]);
                    values[input][index] = before - step;
                    let below = loss(&run(&values)[0]);
                    values[input][index] = before;
                    let slope = (above - below) / f64::from(2.0 * step);
                    let found = f64::from(gradients[input + 1][index]);
                    // A step may cross the kink of a maximum; the piecewise linear rest is exact up
                    // to rounding.
                    assert!(
                        (found - slope).abs() <= 0.02 * slope.abs().max(1.0),
                        "{path:?} input {input} index {index}: {found}, slope {slope}"
                    );
                }
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

/// Output, mean, variance and the gradients of x, gamma, beta and the residual.
fn normalize(
    path: Path,
    device: &Device,
    shape: [usize; 4],
    with_residual: bool,
    activation: Activation,
    seed: u64,
) -> [Vec<f32>; 7] {
    let mut numbers = Numbers(seed);
    let mut random = |shape: &[usize], scale: f32, shift: f32| -> Vec<f32> {
        numbers.values(shape.iter().product()).iter().map(|value| value * scale + shift).collect()
    };
    let x = tensor(&random(&shape, 3.0, 1.0), shape, device).require_grad();
    let gamma = tensor(&random(&shape[1..2], 1.0, 0.5), [shape[1]], device).require_grad();
    let beta = tensor(&random(&shape[1..2], 1.0, 0.0), [shape[1]], device).require_grad();
    let residual = tensor(&random(&shape, 1.0, 0.0), shape, device).require_grad();
    let upstream = tensor(&random(&shape, 1.0, 0.1), shape, device);
    let found = norm::batch_norm_train_on(
        path,
        x.clone(),
        gamma.clone(),
        beta.clone(),
        1e-5,
        with_residual.then(|| residual.clone()),
        activation,
    );
    let gradients = (found.output.clone() * upstream).sum().backward();
    [
        vector(found.output),
        vector(found.mean),
        vector(found.variance),
        vector(x.grad(&gradients).unwrap()),
        vector(gamma.grad(&gradients).unwrap()),
        vector(beta.grad(&gradients).unwrap()),
        residual.grad(&gradients).map(vector).unwrap_or_default(),
    ]
}

#[test]
fn batch_normalisation_agrees_with_stock_operators() {
    let sizes = ([2_usize..=9, 1..=20, 1..=20, 1..=20], any::<bool>(), any::<bool>(), any::<u64>());
    check(32, &sizes, |(shape, residual, relu, seed)| {
        let activation = if relu { Activation::Relu } else { Activation::None };
        let run = |path, device: &Device| normalize(path, device, shape, residual, activation, seed);
        let expected = run(Path::Stock, &Device::flex().autodiff());
        for device in devices() {
            for path in paths() {
                for (index, (found, expected)) in run(path, &device).iter().zip(&expected).enumerate() {
                    let difference = difference(found, expected);
                    prop_assert!(difference < 1e-5, "{path:?}: {index} differs by {difference}");
                }
            }
        }
        Ok(())
    });
}

/// `torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True)` on one channel of
/// four values, worked by hand: mean 2.5, biased variance 1.25.
#[test]
fn batch_normalisation_of_four_values() {
    let device = Device::flex().autodiff();
    for path in paths() {
        let x = tensor(&[1.0, 2.0, 3.0, 4.0], [2, 1, 1, 2], &device).require_grad();
        let (gamma, beta) = (tensor(&[2.0], [1], &device), tensor(&[0.5], [1], &device));
        let found = norm::batch_norm_train_on(path, x.clone(), gamma, beta, 0.0, None, Activation::None);
        assert_eq!(vector(found.mean), [2.5]);
        assert_eq!(vector(found.variance), [1.25]);
        let scale = 2.0 / 1.25_f32.sqrt();
        let expected = [-1.5, -0.5, 0.5, 1.5].map(|value| value * scale + 0.5);
        assert!(difference(&vector(found.output.clone()), &expected) < 1e-6, "{path:?}");
        // A constant added to all values, and a common factor, change nothing.
        let gradients = found.output.sum().backward();
        assert!(difference(&vector(x.grad(&gradients).unwrap()), &[0.0; 4]) < 1e-6, "{path:?}");
    }
}

#[test]
fn batch_normalisation_in_evaluation_agrees_with_stock_operators() {
    for device in devices() {
        let device = device.inner();
        let shape = [3, 5, 7, 6];
        let mut numbers = Numbers(4);
        let x = tensor(&numbers.values(630), shape, &device);
        let residual = tensor(&numbers.values(630), shape, &device);
        let [gamma, beta, mean] = [1, 2, 3].map(|_| tensor(&numbers.values(5), [5], &device));
        let variance = tensor(&[0.5, 1.0, 2.0, 0.1, 3.0], [5], &device);
        for residual in [None, Some(residual)] {
            let run = |path| {
                vector(norm::batch_norm_on(
                    path,
                    x.clone(),
                    [gamma.clone(), beta.clone()],
                    [mean.clone(), variance.clone()],
                    1e-5,
                    residual.clone(),
                    Activation::Relu,
                ))
            };
            for path in paths() {
                assert!(difference(&run(path), &run(Path::Stock)) < 1e-6, "{path:?} on {device:?}");
            }
        }
    }
}

#[test]
fn batch_normalisation_passes_what_is_no_number() {
    let device = Device::flex();
    let mut values = Numbers(8).values(2 * 3 * 20);
    values[25] = f32::NAN;
    for path in paths() {
        let x = tensor(&values, [2, 3, 4, 5], &device);
        let ones = tensor(&[1.0; 3], [3], &device);
        let found = norm::batch_norm_train_on(path, x, ones.clone(), ones, 1e-5, None, Activation::Relu);
        let output = vector(found.output);
        for (index, value) in output.iter().enumerate() {
            assert_eq!(value.is_nan(), index / 20 % 3 == 1, "{path:?} at {index}: {value}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit_of_batch_normalisation() {
    for path in paths() {
        let runs = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let device = Device::flex().autodiff();
            pool.install(|| normalize(path, &device, [9, 13, 11, 12], true, Activation::Relu, 3))
                .map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        });
        assert!(runs[0] == runs[1] && runs[0] == runs[2], "{path:?}");
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

/// Pooled values and the gradient of what is pooled; small integers, so that many values of a window are equal.
fn pooled(path: Path, device: &Device, x: &[f32], shape: [usize; 4], pool: Pool) -> [Vec<f32>; 2] {
    let x = tensor(x, shape, device).require_grad();
    let output = pooling::pool_on(path, x.clone(), pool);
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

#[test]
fn pooling_passes_what_is_no_number() {
    let x = [1.0, f32::NAN, 3.0, 2.0, f32::INFINITY, f32::MAX, f32::NEG_INFINITY, f32::NEG_INFINITY];
    let pool = Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
    for device in devices() {
        for path in paths() {
            let [found, gradient] = pooled(path, &device, &x, [1, 2, 2, 2], pool);
            assert!(found[0].is_nan() && found[1] == f32::INFINITY, "{path:?}: {found:?}");
            let live: Vec<usize> = (0..8).filter(|&index| gradient[index] != 0.0).collect();
            let upstream = Numbers(3).integers(2);
            let expected: Vec<usize> = [1, 4]
                .into_iter()
                .zip(upstream)
                .filter(|(_, value)| *value != 0.0)
                .map(|(at, _)| at)
                .collect();
            assert_eq!(live, expected, "{path:?}");
        }
    }
}

#[test]
fn dense_layers_agree_with_stock_operators() {
    let sizes = (1_usize..=70, 1_usize..=300, 1_usize..=140, any::<bool>(), any::<bool>(), any::<u64>());
    check(24, &sizes, |(samples, inputs, outputs, bias, relu, seed)| {
        let mut numbers = Numbers(seed);
        let x = numbers.integers(samples * inputs);
        let weight = numbers.integers(inputs * outputs);
        let bias_values = numbers.integers(outputs);
        let upstream = numbers.integers(samples * outputs);
        let activation = if relu { Activation::Relu } else { Activation::None };
        let run = |path: Path, device: &Device| {
            let x = tensor(&x, [samples, inputs], device).require_grad();
            let weight = tensor(&weight, [inputs, outputs], device).require_grad();
            let bias_tensor = tensor(&bias_values, [outputs], device).require_grad();
            let bias = bias.then(|| bias_tensor.clone());
            let output = dense::linear_on(path, x.clone(), weight.clone(), bias, activation);
            let upstream = tensor(&upstream, [samples, outputs], device);
            let gradients = (output.clone() * upstream).sum().backward();
            [
                vector(output),
                vector(x.grad(&gradients).unwrap()),
                vector(weight.grad(&gradients).unwrap()),
                bias_tensor.grad(&gradients).map(vector).unwrap_or_default(),
            ]
        };
        let expected = run(Path::Stock, &Device::flex().autodiff());
        for device in devices() {
            for path in paths() {
                prop_assert!(run(path, &device) == expected, "{path:?} on {device:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn the_loss_agrees_with_stock_operators() {
    let cases = (1_usize..=20, 1_usize..=12, any::<bool>(), any::<bool>(), any::<u64>());
    check(24, &cases, |(samples, classes, weighted, smooth, seed)| {
        let mut numbers = Numbers(seed);
        let logits: Vec<f32> = numbers.values(samples * classes).iter().map(|value| value * 5.0).collect();
        let targets: Vec<i64> = (0..samples).map(|_| (numbers.next() % classes as u64) as i64).collect();
        let weights: Vec<f32> = numbers.values(classes).iter().map(|value| value + 1.5).collect();
        let smoothing = if smooth { 0.1 } else { 0.0 };
        let run = |path: Path, device: &Device| {
            let logits = tensor(&logits, [samples, classes], device).require_grad();
            let targets = Tensor::<1, Int>::from_data(TensorData::new(targets.clone(), [samples]), device);
            let weights = weighted.then(|| tensor(&weights, [classes], device));
            let loss = loss::cross_entropy_on(path, logits.clone(), targets, weights, smoothing);
            let gradients = loss.clone().mul_scalar(3.0).backward();
            [vector(loss), vector(logits.grad(&gradients).unwrap())]
        };
        let expected = run(Path::Stock, &Device::flex().autodiff());
        for device in devices() {
            let found = run(Path::Portable, &device);
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!(difference(found, expected) < 1e-6, "{device:?}: {found:?}, {expected:?}");
            }
        }
        Ok(())
    });
}

/// A batch whose classes all have weight 0 teaches nothing, on every path and device; what is no number still shows.
#[test]
fn a_batch_without_weight_has_no_loss() {
    for device in devices().into_iter().chain([Device::flex().autodiff()]) {
        for path in [Path::Stock, Path::Portable] {
            for (smoothing, broken) in [(0.0, false), (0.1, false), (0.0, true)] {
                let values = [1.0, 2.0, if broken { f32::NAN } else { 0.0 }, 0.5, -1.0, 1.5];
                let logits = tensor(&values, [2, 3], &device).require_grad();
                let targets = Tensor::<1, Int>::from_data(TensorData::new(vec![1_i64, 2], [2]), &device);
                let weights = tensor(&[4.0, 0.0, 0.0], [3], &device);
                let loss = loss::cross_entropy_on(path, logits.clone(), targets, Some(weights), smoothing);
                let gradients = loss.clone().backward();
                let (loss, gradient) = (vector(loss), vector(logits.grad(&gradients).unwrap()));
                if broken {
                    assert!(loss[0].is_nan(), "{path:?} on {device:?}: {loss:?}");
                } else {
                    assert_eq!(loss, [0.0], "{path:?} on {device:?}");
                    assert_eq!(gradient, [0.0; 6], "{path:?} on {device:?}");
                }
            }
        }
    }
}

/// `torch.nn.CrossEntropyLoss(weight=torch.tensor([1., 2., .5]), label_smoothing=0.1)` on these logits,
/// worked by hand from the definition in its documentation.
#[test]
fn the_loss_of_two_samples() {
    let logits = [1.0_f32, 2.0, 0.0, 0.5, -1.0, 1.5];
    let weights = [1.0_f32, 2.0, 0.5];
    let targets = [1_usize, 2];
    let mut total = 0.0_f64;
    for (row, &target) in logits.chunks(3).zip(&targets) {
        let sum: f64 = row.iter().map(|&value| f64::from(value).exp()).sum();
        for (class, &value) in row.iter().enumerate() {
            let share = 0.1 / 3.0 + if class == target { 0.9 } else { 0.0 };
            total -= share * f64::from(weights[class]) * (f64::from(value) - sum.ln());
        }
    }
    let (found, _) = loss::loss_and_gradient(&logits, &targets, &weights, 0.1);
    assert!((f64::from(found) - total / 2.5).abs() < 1e-6, "{found}");
}

#[test]
fn the_loss_shows_a_logit_that_is_no_number() {
    let (loss, gradient) = loss::loss_and_gradient(&[0.0, f32::NAN, 1.0], &[0], &[1.0; 3], 0.0);
    assert!(loss.is_nan() && gradient.iter().all(|value| value.is_nan()));
}

#[test]
fn adam_agrees_with_stock_operators() {
    for device in devices() {
        let device = device.inner();
        for (decoupled, weight_decay, len) in [(false, 0.0, 3), (false, 0.1, 40_000), (true, 0.1, 70)] {
            for path in paths() {
                let mut numbers = Numbers(9);
                let start = tensor(&numbers.values(len), [len], &device);
                let zeros = || tensor(&vec![0.0; len], [len], &device);
                let mut found = (start.clone(), zeros(), zeros());
                let mut expected = (start, zeros(), zeros());
                for step in 1..=3 {
                    let config = AdamStep {
                        beta_1: 0.9,
                        beta_2: 0.999,
                        epsilon: 1e-8,
                        weight_decay,
                        decoupled,
                        learning_rate: 0.01,
                        step,
                    };
                    let gradient = tensor(&numbers.values(len), [len], &device);
                    let (a, b, c) = found;
                    found = adam::adam_step_on(path, a, gradient.clone(), b, c, &config);
                    let (a, b, c) = expected;
                    expected = compose::adam_step(a, gradient, b, c, &config);
                }
                assert!(difference(&vector(found.0), &vector(expected.0)) < 1e-6, "{path:?}");
                assert!(difference(&vector(found.1), &vector(expected.1)) < 1e-6, "{path:?}");
                assert!(difference(&vector(found.2), &vector(expected.2)) < 1e-6, "{path:?}");
            }
        }
    }
}

/// The first step moves each value by the learning rate, against the sign of its gradient.
#[test]
fn the_first_step_of_adam_is_the_learning_rate() {
    let device = Device::flex();
    let config = AdamStep {
        beta_1: 0.9,
        beta_2: 0.999,
        epsilon: 0.0,
        weight_decay: 0.0,
        decoupled: true,
        learning_rate: 0.25,
        step: 1,
    };
    let zeros = || tensor(&[0.0; 2], [2], &device);
    let gradient = tensor(&[3.0, -0.5], [2], &device);
    for path in paths() {
        let (parameter, ..) = adam::adam_step_on(path, zeros(), gradient.clone(), zeros(), zeros(), &config);
        assert!(difference(&vector(parameter), &[-0.25, 0.25]) < 1e-6, "{path:?}");
    }
}

/// A weight that no gradient reaches any more: its moments end at zero, not below the normal numbers, where
/// every operation takes a hundred times as long.
#[test]
fn moments_of_a_still_weight_end_at_zero() {
    for path in paths() {
        let device = Device::flex();
        let config = AdamStep {
            beta_1: 0.5,
            beta_2: 0.5,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            learning_rate: 0.1,
            step: 1000,
        };
        let mut state = (
            Tensor::<1>::from_floats([1.0, 2.0], &device),
            Tensor::<1>::from_floats([1e-30, 1.0], &device),
            Tensor::<1>::from_floats([1e-30, 1.0], &device),
        );
        for _ in 0..30 {
            let still = Tensor::<1>::from_floats([0.0, f32::NAN], &device);
            state = adam::adam_step_on(path, state.0, still, state.1, state.2, &config);
        }
        assert_eq!(vector(state.1)[0].to_bits(), 0, "{path:?}");
        assert_eq!(vector(state.2)[0].to_bits(), 0, "{path:?}");
        let parameter = vector(state.0);
        assert!((parameter[0] - 1.0).abs() < 1e-6 && parameter[1].is_nan(), "{path:?}: {parameter:?}");
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

/// The losses of two hundred steps on a small net and a fixed batch.
fn train(path: Path) -> Vec<f32> {
    let device = Device::flex();
    let mut numbers = Numbers(21);
    let images = tensor(&numbers.values(16 * 144), [16, 1, 12, 12], &device);
    let targets: Vec<i64> = (0..16).map(|index| index * 7 % 10).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [16]), &device);
    let mut weight = |len: usize, scale: f32| -> Vec<f32> {
        numbers.values(len).into_iter().map(|value| value * scale).collect()
    };
    let mut convolution = tensor(&weight(72, 0.3), [8, 1, 3, 3], &device);
    let mut dense = tensor(&weight(2000, 0.07), [200, 10], &device);
    let mut moments_4 = [convolution.zeros_like(), convolution.zeros_like()];
    let mut moments_2 = [dense.zeros_like(), dense.zeros_like()];
    let block = ConvBlock {
        activation: Activation::Relu,
        pool: Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] },
        ..ConvBlock::default()
    };
    let mut losses = Vec::new();
    for step in 1..=200 {
        let first = Tensor::from_inner(convolution).require_grad();
        let second = Tensor::from_inner(dense).require_grad();
        let x = Tensor::from_inner(images.clone());
        let x = conv_block_on(path, x, first.clone(), None, &block).flatten(1, 3);
        let logits = dense::linear_on(path, x, second.clone(), None, Activation::None);
        let loss = loss::cross_entropy_on(path, logits, Tensor::from_inner(targets.clone()), None, 0.0);
        let mut gradients = loss.clone().backward();
        losses.extend(vector(loss.inner()));
        let config = AdamStep {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            learning_rate: 2e-3,
            step,
        };
        let gradient = first.grad_remove(&mut gradients).unwrap();
        let [a, b] = moments_4;
        let updated = adam::adam_step_on(path, first.inner(), gradient, a, b, &config);
        (convolution, moments_4) = (updated.0, [updated.1, updated.2]);
        let gradient = second.grad_remove(&mut gradients).unwrap();
        let [a, b] = moments_2;
        let updated = adam::adam_step_on(path, second.inner(), gradient, a, b, &config);
        (dense, moments_2) = (updated.0, [updated.1, updated.2]);
    }
    losses
}

#[test]
fn two_hundred_steps_follow_the_stock_operators() {
    let expected = train(Path::Stock);
    assert!(expected[199] < 0.2 * expected[0], "the net learns: {expected:?}");
    for path in paths() {
        assert!(difference(&train(path), &expected) < 1e-4, "{path:?}");
    }
}
