//! The block against its definition in double precision; `model` compares it with Burn's operators.

use proptest::prelude::*;

use super::{ConvBlock, Geometry, Inputs, Wanted, backward, forward, reference};
use crate::{
    Path, lanes,
    pointwise::Activation,
    pool::Pool,
    testing::{Numbers, assert_threads_do_not_matter, check, difference, pair, paths},
};

const MAX: Pool = Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
const AVERAGE: Pool = Pool::Average { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
const ALL: Wanted = Wanted { images: true, weight: true };

#[derive(Clone, Debug)]
struct Case {
    images: [usize; 4],
    weight: [usize; 4],
    block: ConvBlock,
    seed: u64,
}

/// A block by its shape.
fn named(images: [usize; 4], features: usize, kernel: usize, padding: usize, pool: Pool) -> Case {
    let average = matches!(pool, Pool::Average { .. });
    let activation = if average { Activation::Tanh } else { Activation::Relu };
    let block = ConvBlock { stride: [1, 1], padding: [padding; 2], groups: 1, activation, pool };
    Case { images, weight: [features, images[1], kernel, kernel], block, seed: 11 }
}

/// Shapes that reach every way of the code.
fn named_cases() -> [Case; 10] {
    [
        named([5, 1, 28, 28], 32, 3, 0, MAX),
        named([5, 32, 13, 13], 64, 3, 0, MAX),
        named([5, 1, 28, 28], 6, 5, 2, AVERAGE),
        named([3, 3, 32, 32], 16, 3, 1, Pool::None),
        named([2, 67, 12, 14], 30, 3, 0, Pool::None),
        named([3, 20, 5, 4], 40, 1, 0, Pool::None),
        named([3, 16, 5, 5], 120, 5, 0, Pool::None),
        named([3, 32, 13, 12], 64, 3, 1, Pool::None),
        named([2, 48, 8, 11], 48, 3, 1, MAX),
        named([2, 32, 20, 30], 32, 3, 2, Pool::None),
    ]
}

impl Case {
    fn geometry(&self) -> Option<Geometry> {
        Geometry::new(self.images, self.weight, &self.block)
    }

    /// Random values of images, weight and bias.
    fn values(&self) -> [Vec<f32>; 3] {
        let mut numbers = Numbers(self.seed);
        [
            numbers.values(self.images.iter().product()),
            numbers.values(self.weight.iter().product()),
            numbers.values(self.weight[0]),
        ]
    }

    fn upstream(&self, len: usize) -> Vec<f32> {
        Numbers(self.seed ^ 1).integers(len)
    }

    /// Output and the gradients of images, weight and bias; what nobody asks for is empty.
    fn run(&self, path: Path, geometry: &Geometry, values: &[Vec<f32>; 3], wanted: Wanted) -> [Vec<f32>; 4] {
        let [images, weight, bias] = values;
        let (output, saved) = forward(path, geometry, images, weight, bias, true);
        let inputs = Inputs {
            images,
            weight,
            output: geometry.keeps_output(lanes(path)).then_some(&output[..]),
            gradient: &self.upstream(output.len()),
            gradient_last: geometry.has_output_last(),
        };
        let found = backward(&saved, inputs, wanted);
        let weight = if wanted.weight { found.weight } else { Vec::new() };
        [output, found.images.unwrap_or_default(), weight, found.bias]
    }
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
        Just(MAX),
        window().prop_map(|(kernel, stride, padding)| Pool::Max { kernel, stride, padding }),
        window().prop_map(|(kernel, stride, padding)| Pool::Average { kernel, stride, padding }),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (1_usize..=3, 1_usize..=70, 1_usize..=70, pair(1..=13), pair(1..=7), 1_usize..=3);
    // Stride 1 has code of its own.
    let strides = prop_oneof![Just([1, 1]), pair(1..=3)];
    let activations =
        prop_oneof![2 => Just(Activation::None), 3 => Just(Activation::Relu), 1 => Just(Activation::Tanh)];
    (sizes, strides, pair(0..=6), activations, pools(), any::<u64>()).prop_filter_map(
        "the kernel must fit into the image, and the case into the time",
        |((count, channels, features, size, kernel, groups), stride, padding, activation, pool, seed)| {
            let padding = std::array::from_fn(|axis| padding[axis].min(kernel[axis] - 1));
            let case = Case {
                images: [count, channels * groups, size[0], size[1]],
                weight: [features * groups, channels, kernel[0], kernel[1]],
                block: ConvBlock { stride, padding, groups, activation, pool },
                seed,
            };
            let work = case.images.iter().product::<usize>() * case.weight.iter().product::<usize>();
            (work < 30_000_000 && case.geometry().is_some()).then_some(case)
        },
    )
}

#[test]
fn blocks_agree_with_a_reference_in_double_precision() {
    check(32, &cases(), |case| {
        let values = case.values();
        let mut expected = None;
        for path in paths() {
            let Some(geometry) = case.geometry().filter(|geometry| geometry.is_fused(lanes(path))) else {
                continue;
            };
            let found = case.run(path, &geometry, &values, ALL);
            let upstream = case.upstream(found[0].len());
            let expected = expected.get_or_insert_with(|| {
                let [images, weight, bias] = &values;
                let found = reference::conv_block(
                    (images, case.images),
                    (weight, case.weight),
                    bias,
                    &case.block,
                    |index| upstream[index],
                );
                [found.output, found.images, found.weight, found.bias]
                    .map(|values| values.into_iter().map(|value| value as f32).collect::<Vec<_>>())
            });
            for (index, (found, expected)) in found.iter().zip(expected.iter()).enumerate() {
                prop_assert!(difference(found, expected) < 5e-6, "{path:?}: {index}");
            }
        }
        Ok(())
    });
}

/// `[N, C, H, W]` as `[N, H, W, C]`.
fn channels_last(values: &[f32], [count, channels, height, width]: [usize; 4]) -> Vec<f32> {
    let plane = height * width;
    (0..count * plane * channels)
        .map(|at| {
            let (image, position, channel) = (at / channels / plane, at / channels % plane, at % channels);
            values[(image * channels + channel) * plane + position]
        })
        .collect()
}

/// Where images and output lie channels last, the values are the same ones.
#[test]
fn blocks_agree_however_their_tensors_lie() {
    let mut seen = 0;
    for (pool, kernel) in [(MAX, 3), (Pool::None, 3), (Pool::None, 1), (AVERAGE, 3)] {
        let mut case = named([3, 32, 9, 8], 32, kernel, 0, pool);
        case.block.activation = Activation::Relu;
        for path in paths() {
            let lanes = lanes(path);
            let plain = case.geometry().unwrap();
            let mut values = case.values();
            let expected = case.run(path, &plain, &values, ALL);
            let next = Geometry::new(plain.output_shape(), [32, 32, 3, 3], &ConvBlock::default()).unwrap();
            let turned = plain.with_images_last(plain.reads_last(lanes)).before(Some(&next), lanes);
            if !turned.has_images_last() || !turned.has_output_last() {
                continue;
            }
            seen += 1;
            values[0] = channels_last(&values[0], case.images);
            let [images, weight, bias] = &values;
            let (output, saved) = forward(path, &turned, images, weight, bias, true);
            let gradient = channels_last(&case.upstream(output.len()), turned.output_shape());
            let inputs = Inputs { images, weight, output: None, gradient: &gradient, gradient_last: true };
            let found = backward(&saved, inputs, ALL).images.unwrap();
            assert_eq!(output, channels_last(&expected[0], plain.output_shape()), "{path:?} {pool:?}");
            assert!(
                difference(&found, &channels_last(&expected[1], case.images)) < 1e-6,
                "{path:?} {pool:?}: gradient of the images"
            );
        }
    }
    assert!(seen >= 3, "{seen} cases");
}

#[test]
fn gradients_that_nobody_asks_for_change_no_other() {
    for case in named_cases() {
        let (geometry, values) = (case.geometry().unwrap(), case.values());
        for path in paths().filter(|&path| geometry.is_fused(lanes(path))) {
            let run = |images, weight| case.run(path, &geometry, &values, Wanted { images, weight });
            let [output, images, weight, bias] = run(true, true);
            let only_images = run(true, false);
            assert_eq!(only_images[0], output);
            assert!(difference(&only_images[1], &images) < 1e-6, "{path:?} {case:?}");
            assert!(
                only_images[2].is_empty() && difference(&only_images[3], &bias) < 1e-6,
                "{path:?} {case:?}"
            );
            let only_weight = run(false, true);
            assert!(only_weight[1].is_empty(), "{path:?} {case:?}");
            assert!(difference(&only_weight[2], &weight) < 1e-6, "{path:?} {case:?}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for mut case in named_cases() {
        case.images[0] = 37;
        let (geometry, values) = (case.geometry().unwrap(), case.values());
        for path in paths().filter(|&path| geometry.is_fused(lanes(path))) {
            let name = format!("{path:?} {case:?}");
            assert_threads_do_not_matter(&name, || case.run(path, &geometry, &values, ALL));
        }
    }
}

#[test]
fn finite_differences_confirm_the_gradients() {
    for case in [
        named([2, 4, 8, 8], 6, 3, 1, MAX),
        named([2, 4, 8, 8], 6, 3, 1, Pool::None),
        named([2, 4, 8, 8], 6, 3, 0, AVERAGE),
    ] {
        let geometry = case.geometry().unwrap();
        // Values of which no step crosses a kink.
        let mut values = Case { seed: 5, ..case.clone() }.values();
        for path in paths().filter(|&path| geometry.is_fused(lanes(path))) {
            let gradients = case.run(path, &geometry, &values, ALL);
            let upstream = case.upstream(gradients[0].len());
            let loss = |values: &[Vec<f32>; 3]| -> f64 {
                let (output, _) = forward(path, &geometry, &values[0], &values[1], &values[2], false);
                output.iter().zip(&upstream).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let step = 1e-3_f32;
            for input in 0..3 {
                for index in (0..values[input].len()).step_by(values[input].len().div_ceil(5)) {
                    let before = values[input][index];
                    values[input][index] = before + step;
                    let above = loss(&values);
                    values[input][index] = before - step;
                    let below = loss(&values);
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
fn shapes_without_a_fast_path_have_no_geometry() {
    let depthwise = ConvBlock { groups: 6, ..ConvBlock::default() };
    assert!(Geometry::new([1, 6, 8, 8], [6, 1, 3, 3], &depthwise).is_none());
    assert!(
        Geometry::new([1, 6, 8, 8], [6, 5, 3, 3], &ConvBlock::default()).is_none(),
        "channels that differ"
    );
    assert!(Geometry::new([1, 6, 2, 8], [6, 6, 3, 3], &ConvBlock::default()).is_none(), "too small");
}

#[test]
#[should_panic(expected = "length of codes")]
fn a_forward_pass_that_saved_nothing_has_no_backward_pass() {
    let case = named([2, 32, 8, 8], 32, 3, 1, MAX);
    let (geometry, [images, weight, bias]) = (case.geometry().unwrap(), case.values());
    let (output, saved) = forward(Path::Portable, &geometry, &images, &weight, &bias, false);
    let inputs =
        Inputs { images: &images, weight: &weight, output: None, gradient: &output, gradient_last: false };
    backward(&saved, inputs, ALL);
}
