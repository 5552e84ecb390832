//! Batch normalisation through the fused operators, with Burn's own module as the keeper of weights and
//! running statistics.

use burn::{nn::BatchNorm, tensor::Tensor};

use crate::ops::{self, Activation};

/// `activation(norm(x) + residual)`, `[N, C, H, W]`: what `norm.forward` gives, and the same update of
/// the running statistics in training.
pub(crate) fn forward(
    norm: &BatchNorm,
    x: Tensor<4>,
    residual: Option<Tensor<4>>,
    activation: Activation,
) -> Tensor<4> {
    let device = x.device();
    let (gamma, beta) = (norm.gamma.val(), norm.beta.val());
    if !(device.is_autodiff() && norm.training.is_enabled()) {
        let [mean, variance] =
            [&norm.running_mean, &norm.running_var].map(|state| state.value().to_device(&device));
        return ops::batch_norm(x, [gamma, beta], [mean, variance], norm.epsilon, residual, activation);
    }
    let found = ops::batch_norm_train(x, gamma, beta, norm.epsilon, residual, activation);
    for (state, batch) in [(&norm.running_mean, found.mean), (&norm.running_var, found.variance)] {
        let kept = state.value_sync().to_device(&device).mul_scalar(1.0 - norm.momentum);
        state.update((kept + batch.detach().mul_scalar(norm.momentum)).detach());
    }
    found.output
}

#[cfg(test)]
mod tests {
    use burn::{
        module::Module,
        nn::BatchNormConfig,
        tensor::{Device, TensorData, activation::relu},
    };

    use super::*;

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// Output and running statistics over some steps of training, and the output in evaluation.
    fn run(forward: impl Fn(&BatchNorm, Tensor<4>) -> Tensor<4>) -> Vec<Vec<f32>> {
        let norm = BatchNormConfig::new(3).init(&Device::flex().autodiff());
        let batch = |step: usize, device: &Device| {
            let pixels: Vec<f32> =
                (0..4 * 3 * 35).map(|i| ((i * 37 + step) % 101) as f32 / 20.0 - 2.0).collect();
            Tensor::from_data(TensorData::new(pixels, [4, 3, 5, 7]), device)
        };
        let mut found: Vec<_> =
            (0..5).map(|step| values(forward(&norm, batch(step, &Device::flex().autodiff())))).collect();
        found.push(values(norm.running_mean.value_sync()));
        found.push(values(norm.running_var.value_sync()));
        found.push(values(forward(&norm.valid(), batch(9, &Device::flex()))));
        found
    }

    #[test]
    fn it_does_what_burns_module_does() {
        let expected = run(|norm, x| relu(norm.forward(x.clone()) + x));
        let found = run(|norm, x| forward(norm, x.clone(), Some(x), Activation::Relu));
        for (found, expected) in found.iter().zip(&expected) {
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found}, from Burn {expected}");
            }
        }
    }
}
