use burn::tensor::Device;
use proptest::prelude::*;

use super::{Numbers, check, devices, paths, tensor, vector};
use crate::ops::{Activation, Path, dense};

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
