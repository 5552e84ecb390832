use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{Numbers, difference, paths, tensor, vector};
use crate::ops::{Activation, AdamStep, ConvBlock, Path, Pool, conv::conv_block_on, dense, loss, optim};

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
        let updated = optim::adam_step_on(path, first.inner(), gradient, a, b, &config);
        (convolution, moments_4) = (updated.0, [updated.1, updated.2]);
        let gradient = second.grad_remove(&mut gradients).unwrap();
        let [a, b] = moments_2;
        let updated = optim::adam_step_on(path, second.inner(), gradient, a, b, &config);
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
