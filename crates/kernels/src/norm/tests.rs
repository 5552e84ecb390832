use proptest::prelude::*;

use super::{Sizes, backward, normalize, statistics};
use crate::{
    Path,
    pointwise::Activation,
    testing::{Numbers, assert_threads_do_not_matter, check, difference, paths},
};

/// Output, mean, variance and the gradients of x, gamma, beta and the residual.
fn run(
    path: Path,
    shape: [usize; 4],
    with_residual: bool,
    activation: Activation,
    values: &[Vec<f32>; 5],
) -> [Vec<f32>; 7] {
    let [x, gamma, beta, residual, gradient] = values;
    let sizes = Sizes::new(shape, 1e-5, activation, with_residual);
    let found = statistics(path, sizes, x);
    let residual = with_residual.then_some(&residual[..]);
    let output = normalize(path, sizes, x, &found, gamma, beta, residual);
    let kept = sizes.is_rectified().then_some(&output[..]);
    let gradients = backward(path, sizes, x, &found, gamma, kept, gradient, with_residual);
    let residual = gradients.residual.unwrap_or_default();
    [output, found.mean, found.variance, gradients.x, gradients.gamma, gradients.beta, residual]
}

fn random(shape: [usize; 4], seed: u64) -> [Vec<f32>; 5] {
    let (len, channels) = (shape.iter().product(), shape[1]);
    let mut numbers = Numbers(seed);
    let mut random = |len: usize, scale: f32, shift: f32| -> Vec<f32> {
        numbers.values(len).iter().map(|value| value * scale + shift).collect()
    };
    [
        random(len, 3.0, 1.0),
        random(channels, 1.0, 0.5),
        random(channels, 1.0, 0.0),
        random(len, 1.0, 0.0),
        random(len, 1.0, 0.1),
    ]
}

/// The definition in double precision; the same figures as [`run`].
fn reference(
    shape: [usize; 4],
    with_residual: bool,
    activation: Activation,
    values: &[Vec<f32>; 5],
) -> [Vec<f32>; 7] {
    let [x, gamma, beta, residual, gradient] =
        values.each_ref().map(|values| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>());
    let [images, channels, height, width] = shape;
    let plane = height * width;
    let count = (images * plane) as f64;
    let mut found: [Vec<f32>; 7] = std::array::from_fn(|_| Vec::new());
    for index in [0, 3, 6] {
        found[index] = vec![0.0; x.len()];
    }
    for (channel, (&gamma, &beta)) in gamma.iter().zip(&beta).enumerate() {
        let places: Vec<usize> = (0..images)
            .flat_map(|image| (0..plane).map(move |at| (image * channels + channel) * plane + at))
            .collect();
        let mean = places.iter().map(|&at| x[at]).sum::<f64>() / count;
        let variance = places.iter().map(|&at| (x[at] - mean).powi(2)).sum::<f64>() / count;
        let inverse = 1.0 / (variance + 1e-5).sqrt();
        let normal = |at: usize| (x[at] - mean) * inverse;
        let output = |at: usize| {
            let value = normal(at) * gamma + beta;
            value + if with_residual { residual[at] } else { 0.0 }
        };
        let is_alive = |at: usize| activation == Activation::None || output(at) > 0.0;
        let live = |at: usize| if is_alive(at) { gradient[at] } else { 0.0 };
        let for_beta = places.iter().map(|&at| live(at)).sum::<f64>();
        let for_gamma = places.iter().map(|&at| live(at) * normal(at)).sum::<f64>();
        for &at in &places {
            found[0][at] = if is_alive(at) { output(at) as f32 } else { 0.0 };
            let centred = live(at) - for_beta / count - normal(at) * for_gamma / count;
            found[3][at] = (gamma * inverse * centred) as f32;
            found[6][at] = live(at) as f32;
        }
        found[1].push(mean as f32);
        found[2].push(variance as f32);
        found[4].push(for_gamma as f32);
        found[5].push(for_beta as f32);
    }
    if !with_residual {
        found[6].clear();
    }
    found
}

#[test]
fn batch_normalisation_agrees_with_double_precision() {
    let sizes = ([2_usize..=6, 1..=12, 1..=15, 1..=15], any::<bool>(), any::<bool>(), any::<u64>());
    check(24, &sizes, |(shape, residual, relu, seed)| {
        let activation = if relu { Activation::Relu } else { Activation::None };
        let values = random(shape, seed);
        let expected = reference(shape, residual, activation, &values);
        for path in paths() {
            let found = run(path, shape, residual, activation, &values);
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let difference = difference(found, expected);
                prop_assert!(difference < 1e-5, "{path:?}: {index} differs by {difference}");
            }
        }
        Ok(())
    });
}

/// `torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True)` on one channel of
/// four values, worked by hand: mean 2.5, biased variance 1.25.
#[test]
fn batch_normalisation_of_four_values() {
    let x = [1.0, 2.0, 3.0, 4.0];
    let sizes = Sizes::new([2, 1, 1, 2], 0.0, Activation::None, false);
    for path in paths() {
        let found = statistics(path, sizes, &x);
        assert_eq!((found.mean[0], found.variance[0]), (2.5, 1.25));
        let output = normalize(path, sizes, &x, &found, &[2.0], &[0.5], None);
        let scale = 2.0 / 1.25_f32.sqrt();
        let expected = [-1.5, -0.5, 0.5, 1.5].map(|value| value * scale + 0.5);
        assert!(difference(&output, &expected) < 1e-6, "{path:?}");
        // A constant added to all values, and a common factor, change nothing.
        let gradients = backward(path, sizes, &x, &found, &[2.0], None, &[1.0; 4], false);
        assert!(difference(&gradients.x, &[0.0; 4]) < 1e-6, "{path:?}");
    }
}

#[test]
fn batch_normalisation_passes_what_is_no_number() {
    let mut x = Numbers(8).values(2 * 3 * 20);
    x[25] = f32::NAN;
    let sizes = Sizes::new([2, 3, 4, 5], 1e-5, Activation::Relu, false);
    for path in paths() {
        let found = statistics(path, sizes, &x);
        let output = normalize(path, sizes, &x, &found, &[1.0; 3], &[1.0; 3], None);
        for (index, value) in output.iter().enumerate() {
            assert_eq!(value.is_nan(), index / 20 % 3 == 1, "{path:?} at {index}: {value}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit_of_batch_normalisation() {
    let shape = [9, 13, 11, 12];
    let values = random(shape, 3);
    for path in paths() {
        assert_threads_do_not_matter(path.name(), || run(path, shape, true, Activation::Relu, &values));
    }
}
