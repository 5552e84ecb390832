//! The same operators composed from Burn's: the path on every other backend, for shapes without a
//! fast one, and the reference of the tests.

use burn::tensor::{
    Int, Tensor, activation, module,
    ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions},
};
use kernels::{
    conv::ConvBlock,
    optim::AdamStep,
    pointwise::{Activation, LEAKY_SLOPE, Pointwise},
    pool::Pool,
};

pub(crate) fn conv_block(
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    block: &ConvBlock,
) -> Tensor<4> {
    let options = ConvOptions::new(block.stride, block.padding, [1, 1], block.groups);
    let features = activate(module::conv2d(images, weight, bias, options), block.activation);
    pool(features, block.pool)
}

pub(crate) fn pool(features: Tensor<4>, pool: Pool) -> Tensor<4> {
    match pool {
        Pool::None => features,
        Pool::Max { kernel, stride, padding } => {
            let options = MaxPoolOptions::new(kernel).with_stride(stride).with_padding(padding);
            module::max_pool2d(features, options)
        }
        Pool::Average { kernel, stride, padding } => {
            let options = AvgPoolOptions::new(kernel).with_stride(stride).with_padding(padding);
            module::avg_pool2d(features, options)
        }
    }
}

pub(crate) fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<2> {
    activate(module::linear(x, weight, bias), activation)
}

pub(crate) fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::None => x,
        Activation::Relu => activation::relu(x),
        Activation::Tanh => activation::tanh(x),
    }
}

pub(crate) fn pointwise<const D: usize>(function: Pointwise, x: Tensor<D>) -> Tensor<D> {
    match function {
        Pointwise::LeakyRelu => activation::leaky_relu(x, f64::from(LEAKY_SLOPE)),
        Pointwise::Sigmoid => activation::sigmoid(x),
        Pointwise::Silu => activation::silu(x),
        Pointwise::Gelu => activation::gelu(x),
        Pointwise::Tanh => activation::tanh(x),
    }
}

/// Output, mean and variance.
pub(crate) fn batch_norm_train(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    residual: Option<Tensor<4>>,
    activation: Activation,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let normalized = module::batch_norm_train(x, gamma, beta, epsilon);
    let output = activate(add(normalized.output, residual), activation);
    (output, normalized.mean, normalized.variance)
}

pub(crate) fn batch_norm(
    x: Tensor<4>,
    [gamma, beta]: [Tensor<1>; 2],
    [mean, variance]: [Tensor<1>; 2],
    epsilon: f64,
    residual: Option<Tensor<4>>,
    activation: Activation,
) -> Tensor<4> {
    activate(add(module::batch_norm(x, gamma, beta, mean, variance, epsilon), residual), activation)
}

fn add(x: Tensor<4>, residual: Option<Tensor<4>>) -> Tensor<4> {
    match residual {
        Some(residual) => x + residual,
        None => x,
    }
}

pub(crate) fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    class_weights: Option<Tensor<1>>,
    label_smoothing: f32,
) -> Tensor<1> {
    let [samples, classes] = logits.dims();
    let log_probabilities = activation::log_softmax(logits, 1);
    let picked =
        log_probabilities.clone().gather(1, targets.clone().reshape([samples, 1])).reshape([samples]);
    match class_weights {
        None => {
            let mut loss = picked.mul_scalar(label_smoothing - 1.0);
            if label_smoothing > 0.0 {
                loss = loss - log_probabilities.mean_dim(1).reshape([samples]).mul_scalar(label_smoothing);
            }
            loss.mean()
        }
        Some(weights) => {
            let target_weights = weights.clone().select(0, targets);
            let mut loss = picked * target_weights.clone().mul_scalar(label_smoothing - 1.0);
            if label_smoothing > 0.0 {
                let smooth = (log_probabilities * weights.reshape([1, classes])).mean_dim(1);
                loss = loss - smooth.reshape([samples]).mul_scalar(label_smoothing);
            }
            let total = target_weights.sum();
            // Where no target counts, the loss is 0 and not 0 / 0.
            let counts = total.clone().greater_elem(0.0).float();
            loss.sum() * counts.clone() / (total + counts.mul_scalar(-1.0).add_scalar(1.0))
        }
    }
}

pub(crate) fn adam_step<const D: usize>(
    mut parameter: Tensor<D>,
    mut gradient: Tensor<D>,
    moment_1: Tensor<D>,
    moment_2: Tensor<D>,
    config: &AdamStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let factors = config.factors();
    if config.decoupled {
        parameter = parameter.mul_scalar(factors.shrink);
    } else if config.weight_decay != 0.0 {
        gradient = gradient + parameter.clone().mul_scalar(config.weight_decay);
    }
    let moment_1 = moment_1.mul_scalar(config.beta_1) + gradient.clone().mul_scalar(1.0 - config.beta_1);
    let moment_2 =
        moment_2.mul_scalar(config.beta_2) + (gradient.clone() * gradient).mul_scalar(1.0 - config.beta_2);
    let denominator =
        moment_2.clone().sqrt().mul_scalar(factors.inverse_root_correction_2).add_scalar(config.epsilon);
    let parameter = parameter - (moment_1.clone() / denominator).mul_scalar(factors.rate);
    (parameter, moment_1, moment_2)
}
