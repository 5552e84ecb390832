//! How weights are drawn.

use burn::{
    module::{Flag, Param, ParamId, RunningState},
    nn::{BatchNorm, Dropout, LayerNorm, LayerNormConfig, Linear, PaddingConfig2d, conv::Conv2d},
    tensor::{Device, Tensor, TensorData},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::{Deserialize, Serialize};

use crate::{Convolution, ShapeError};

/// Distribution of freshly drawn weights. `fan_in` is the number of inputs of one output value,
/// `fan_out` the number of output values that one input reaches (stride left aside). Biases start at
/// zero except where stated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Initialization {
    /// Normal with variance `2 / fan_in` (He et al. 2015, "Delving Deep into Rectifiers", eq. 10).
    HeNormal,
    /// Uniform with the same variance: bound `sqrt(6 / fan_in)`.
    #[default]
    HeUniform,
    /// Normal with variance `2 / (fan_in + fan_out)` (Glorot & Bengio 2010, eq. 12 and 16).
    XavierNormal,
    /// Uniform with the same variance: bound `sqrt(6 / (fan_in + fan_out))` (eq. 16).
    XavierUniform,
    /// Weights and biases uniform with bound `1 / sqrt(fan_in)`, variance `1 / (3 fan_in)`: what
    /// `PyTorch`'s `Conv2d` and `Linear` do by default (`kaiming_uniform_(a=sqrt(5))`).
    FanInUniform,
    /// Plain: uniform between `-limit` and `limit`, whatever the layer.
    Uniform {
        /// Bound on both sides of zero.
        limit: f64,
    },
    /// Plain: normal around zero, whatever the layer.
    Normal {
        /// Standard deviation.
        std: f64,
    },
}

/// A distribution around zero.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Distribution {
    Zero,
    Uniform { limit: f64 },
    Normal { std: f64 },
}

impl Initialization {
    /// Checks that a plain distribution has a positive, finite width.
    pub(crate) fn validate(self) -> Result<(), ShapeError> {
        let (field, value) = match self {
            Self::Uniform { limit } => ("limit", limit),
            Self::Normal { std } => ("std", std),
            _ => return Ok(()),
        };
        if value.is_finite() && value > 0.0 {
            return Ok(());
        }
        Err(ShapeError::Initialization { field, value })
    }

    fn weights(self, fan_in: usize, fan_out: usize) -> Distribution {
        let (fan_in, both) = (fan_in as f64, (fan_in + fan_out) as f64);
        match self {
            Self::HeNormal => Distribution::Normal { std: (2.0 / fan_in).sqrt() },
            Self::HeUniform => Distribution::Uniform { limit: (6.0 / fan_in).sqrt() },
            Self::XavierNormal => Distribution::Normal { std: (2.0 / both).sqrt() },
            Self::XavierUniform => Distribution::Uniform { limit: (6.0 / both).sqrt() },
            Self::FanInUniform => Distribution::Uniform { limit: fan_in.sqrt().recip() },
            Self::Uniform { limit } => Distribution::Uniform { limit },
            Self::Normal { std } => Distribution::Normal { std },
        }
    }

    fn biases(self, fan_in: usize) -> Distribution {
        match self {
            Self::FanInUniform => Distribution::Uniform { limit: (fan_in as f64).sqrt().recip() },
            _ => Distribution::Zero,
        }
    }
}

/// Makes modules in the order of a visit: parameter ids count 1, 2, 3 ..., and every tensor draws
/// from its own stream of the seed, so that one tensor's size does not change another's values.
pub(crate) struct Builder<'a> {
    initialization: Initialization,
    /// `None` leaves all weights zero.
    seed: Option<u64>,
    device: &'a Device,
    next_id: u64,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(initialization: Initialization, seed: Option<u64>, device: &'a Device) -> Self {
        Self { initialization, seed, device, next_id: 1 }
    }

    /// A convolution of so many channels, weights `[O, I / groups, K, K]`.
    pub(crate) fn conv(&mut self, inputs: usize, convolution: &Convolution) -> Conv2d {
        let Convolution { channels: outputs, kernel, stride, padding, dilation, groups, bias } = *convolution;
        let inputs = inputs / groups;
        let area = kernel[0] * kernel[1];
        let (fan_in, fan_out) = (inputs * area, outputs / groups * area);
        let weights = self.initialization.weights(fan_in, fan_out);
        let biases = self.initialization.biases(fan_in);
        let [top, left, bottom, right] = padding;
        Conv2d {
            weight: self.drawn([outputs, inputs, kernel[0], kernel[1]], weights),
            bias: bias.then(|| self.drawn([outputs], biases)),
            stride,
            kernel_size: kernel,
            dilation,
            groups,
            padding: PaddingConfig2d::Explicit(top, left, bottom, right),
        }
    }

    /// A dense layer, weights `[I, O]`.
    pub(crate) fn linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        let weights = self.initialization.weights(inputs, outputs);
        let biases = self.initialization.biases(inputs);
        Linear { weight: self.drawn([inputs, outputs], weights), bias: Some(self.drawn([outputs], biases)) }
    }

    /// Batch normalisation with the usual momentum, 0.1 of the new batch.
    pub(crate) fn batch_norm(&mut self, channels: usize, epsilon: f64) -> BatchNorm {
        let filled = |value: f32| TensorData::new(vec![value; channels], [channels]);
        BatchNorm {
            gamma: self.parameter(filled(1.0)),
            beta: self.parameter(filled(0.0)),
            training: self.flag(),
            running_mean: RunningState::with_id(self.id(), Tensor::from_data(filled(0.0), self.device)),
            running_var: RunningState::with_id(self.id(), Tensor::from_data(filled(1.0), self.device)),
            momentum: 0.1,
            epsilon,
        }
    }

    /// Layer normalisation over the last axis.
    pub(crate) fn layer_norm(&mut self, features: usize, epsilon: f64) -> LayerNorm {
        let filled = |value: f32| TensorData::new(vec![value; features], [features]);
        let mut norm = LayerNormConfig::new(features).with_epsilon(epsilon).init(self.device);
        norm.gamma = self.parameter(filled(1.0));
        norm.beta = Some(self.parameter(filled(0.0)));
        norm
    }

    /// A tensor that belongs to no layer, drawn from a normal distribution.
    pub(crate) fn normal<const D: usize>(&mut self, shape: [usize; D], std: f64) -> Param<Tensor<D>> {
        self.drawn(shape, Distribution::Normal { std })
    }

    /// Dropout.
    pub(crate) fn dropout(&mut self, probability: f64) -> Dropout {
        Dropout { prob: probability, training: self.flag() }
    }

    fn id(&mut self) -> ParamId {
        let id = ParamId::from(self.next_id);
        self.next_id += 1;
        id
    }

    fn flag(&mut self) -> Param<Flag> {
        Param::initialized(self.id(), Flag::new(true))
    }

    fn drawn<const D: usize>(&mut self, shape: [usize; D], distribution: Distribution) -> Param<Tensor<D>> {
        let len = shape.iter().product();
        let values = match self.seed {
            Some(seed) => draw(distribution, len, seed, self.next_id),
            None => vec![0.0; len],
        };
        self.parameter(TensorData::new(values, shape))
    }

    fn parameter<const D: usize>(&mut self, data: TensorData) -> Param<Tensor<D>> {
        let mut parameter = Param::from_data(data, self.device);
        parameter.id = self.id();
        parameter
    }
}

/// `len` values of a stream of the seed. Uses integer arithmetic, products and square roots (exact
/// on every machine) for uniform values; the logarithm and the cosine of normal values may differ in
/// the last bit from one maths library to another.
fn draw(distribution: Distribution, len: usize, seed: u64, stream: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    // 53 random bits, shifted by half a step: never 0, never 1.
    let mut unit = || ((rng.next_u64() >> 11) as f64 + 0.5) * 2f64.powi(-53);
    let mut next = || match distribution {
        Distribution::Zero => 0.0,
        Distribution::Uniform { limit } => (2.0 * unit() - 1.0) * limit,
        // Box & Muller 1958; the sine is left unused for the sake of a shorter function.
        Distribution::Normal { std } => {
            (-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos() * std
        }
    };
    (0..len).map(|_| next() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance.
    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance)
    }

    #[test]
    fn variances_are_those_of_the_papers() {
        // A 3x3 convolution from 32 to 64 channels and a dense layer from 400 to 100.
        let (fan_in, fan_out) = (32.0 * 9.0, 64.0 * 9.0);
        let cases = [
            (Initialization::HeNormal, 2.0 / fan_in, 2.0 / 400.0),
            (Initialization::HeUniform, 2.0 / fan_in, 2.0 / 400.0),
            (Initialization::XavierNormal, 2.0 / (fan_in + fan_out), 2.0 / 500.0),
            (Initialization::XavierUniform, 2.0 / (fan_in + fan_out), 2.0 / 500.0),
            (Initialization::FanInUniform, 1.0 / (3.0 * fan_in), 1.0 / 1200.0),
            (Initialization::Uniform { limit: 0.3 }, 0.09 / 3.0, 0.09 / 3.0),
            (Initialization::Normal { std: 0.05 }, 0.0025, 0.0025),
        ];
        let device = Device::flex();
        for (initialization, conv_variance, dense_variance) in cases {
            let mut builder = Builder::new(initialization, Some(7), &device);
            let conv = builder.conv(32, &Convolution::square(64, 3, 1, 0, true));
            let dense = builder.linear(400, 100);
            let weights = [
                (conv.weight.val().into_data(), conv_variance),
                (dense.weight.val().into_data(), dense_variance),
            ];
            for (data, expected) in weights {
                let (mean, variance) = moments(data.as_slice::<f32>().unwrap());
                assert!(
                    (variance / expected - 1.0).abs() < 0.05,
                    "{initialization:?}: variance {variance}, formula {expected}"
                );
                // Four standard errors of the mean.
                let standard_error = (expected / data.num_elements() as f64).sqrt();
                assert!(mean.abs() < 4.0 * standard_error, "{initialization:?}: mean {mean}");
            }
        }
    }

    #[test]
    fn uniform_values_stay_inside_and_fill_their_bounds() {
        let values = draw(Distribution::Uniform { limit: 0.25 }, 20_000, 3, 1);
        let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        assert!(largest <= 0.25 && largest > 0.249, "{largest}");
    }

    #[test]
    fn normal_values_have_normal_tails() {
        let values = draw(Distribution::Normal { std: 1.0 }, 50_000, 3, 1);
        let share = |limit: f32| values.iter().filter(|v| v.abs() < limit).count() as f64 / 50_000.0;
        assert!((share(1.0) - 0.6827).abs() < 0.01, "{}", share(1.0));
        assert!((share(2.0) - 0.9545).abs() < 0.005, "{}", share(2.0));
    }

    #[test]
    fn biases_are_zero_unless_pytorch_draws_them() {
        let device = Device::flex();
        let biases = |initialization| {
            let mut builder = Builder::new(initialization, Some(1), &device);
            builder.linear(100, 1000).bias.unwrap().val().into_data().try_to_vec::<f32>().unwrap()
        };
        assert!(biases(Initialization::HeUniform).iter().all(|&bias| bias == 0.0));
        let (_, variance) = moments(&biases(Initialization::FanInUniform));
        assert!((variance * 300.0 - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn streams_and_seeds_differ_and_repeat() {
        let uniform = Distribution::Uniform { limit: 1.0 };
        assert_eq!(draw(uniform, 8, 1, 1), draw(uniform, 8, 1, 1));
        assert_eq!(draw(uniform, 8, 1, 1)[..], draw(uniform, 9, 1, 1)[..8]);
        assert_ne!(draw(uniform, 8, 1, 1), draw(uniform, 8, 1, 2));
        assert_ne!(draw(uniform, 8, 1, 1), draw(uniform, 8, 2, 1));
    }

    #[test]
    fn plain_widths_must_be_positive() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Initialization::Uniform { limit: value }.validate().is_err());
            assert!(Initialization::Normal { std: value }.validate().is_err());
        }
        assert!(Initialization::HeUniform.validate().is_ok());
        assert!(Initialization::Normal { std: 0.1 }.validate().is_ok());
    }
}
