use burn::tensor::{Device, Int, Tensor, TensorData};
use proptest::prelude::*;

use super::{Numbers, check, devices, difference, tensor, vector};
use crate::ops::{Path, loss};

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
