use burn::tensor::Device;
use proptest::prelude::*;

use super::{Numbers, check, devices, difference, paths, tensor, vector};
use crate::ops::{Activation, Path, norm};

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
