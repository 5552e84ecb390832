//! The size of images, and how a recipe states a network.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Size of one input image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputShape {
    /// Colour channels: 1 for grey, 3 for RGB.
    pub channels: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
}

impl InputShape {
    /// A shape of `channels` x `height` x `width`.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    /// Values in one image.
    pub const fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether an image of this shape holds nothing.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for InputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_1_SQRT_2, PI};

    use burn::tensor::{Device, Tensor};

    use crate::{
        Activation, CnnConfig, ConvBlockConfig, Initialization, NetworkConfig, PoolConfig, PoolKind,
    };

    /// Error function by its Taylor series, exact to f64 for the arguments used here.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        2.0 / PI.sqrt() * sum
    }

    fn reference(activation: Activation, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match activation {
            Activation::Relu => x.max(0.0),
            Activation::LeakyRelu => {
                if x > 0.0 {
                    x
                } else {
                    0.01 * x
                }
            }
            Activation::Gelu => x * 0.5 * (1.0 + erf(x * FRAC_1_SQRT_2)),
            Activation::Silu => x * sigmoid(x),
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
        }
    }

    #[test]
    fn activations_and_their_gradients() {
        // Away from zero, where ReLU has no derivative.
        let points: Vec<f32> = (-30..30).map(|i| i as f32 / 10.0 + 0.05).collect();
        let device = Device::flex().autodiff();
        let mut faults = vec![];
        for activation in [
            Activation::Relu,
            Activation::LeakyRelu,
            Activation::Gelu,
            Activation::Silu,
            Activation::Sigmoid,
            Activation::Tanh,
        ] {
            let x = Tensor::<1>::from_floats(&points[..], &device).require_grad();
            let y = activation.forward(x.clone());
            let gradients = y.clone().sum().backward();
            let slopes = x.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();
            let values = y.into_data().try_to_vec::<f32>().unwrap();
            for ((&x, value), slope) in points.iter().zip(values).zip(slopes) {
                let f = |x| reference(activation, x);
                let (x, h) = (f64::from(x), 1e-5);
                let finite_difference = (f(x + h) - f(x - h)) / (2.0 * h);
                if (f64::from(value) - f(x)).abs() > 1e-6 * f(x).abs().max(1.0) {
                    faults.push(format!("{activation:?}({x}) = {value}, expected {}", f(x)));
                }
                if (f64::from(slope) - finite_difference).abs() > 2e-6 {
                    faults.push(format!("{activation:?}'({x}) = {slope}, expected {finite_difference}"));
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn a_recipe_reads_as_written() {
        let config: NetworkConfig = toml::from_str(
            r#"
            name = "cnn"
            dense = [128]
            activation = "leaky-relu"
            initialization = { normal = { std = 0.05 } }
            dropout = 0.5
            batch_norm = true
            blocks = [
                { channels = 8 },
                { channels = 16, kernel = 5, stride = 2, padding = 1, dropout = 0.1, pool = { kind = "average", kernel = 3, stride = 2, padding = 1 } },
                { channels = 16, pool = {} },
            ]
            "#,
        )
        .unwrap();
        let average = PoolConfig { kind: PoolKind::Average, kernel: 3, stride: Some(2), padding: 1 };
        let expected = CnnConfig {
            blocks: vec![
                ConvBlockConfig::new(8),
                ConvBlockConfig {
                    channels: 16,
                    kernel: 5,
                    stride: 2,
                    padding: 1,
                    dropout: 0.1,
                    pool: Some(average),
                },
                ConvBlockConfig { pool: Some(PoolConfig::default()), ..ConvBlockConfig::new(16) },
            ],
            dense: vec![128],
            activation: Activation::LeakyRelu,
            initialization: Initialization::Normal { std: 0.05 },
            dropout: 0.5,
            batch_norm: true,
        };
        assert_eq!(config, NetworkConfig::Cnn(expected));
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let all = [
            Initialization::HeNormal,
            Initialization::HeUniform,
            Initialization::XavierNormal,
            Initialization::XavierUniform,
            Initialization::FanInUniform,
            Initialization::Uniform { limit: 0.1 },
            Initialization::Normal { std: 0.1 },
        ];
        for initialization in all {
            let config = NetworkConfig::Cnn(CnnConfig { initialization, ..CnnConfig::default() });
            assert_eq!(toml::from_str::<NetworkConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<NetworkConfig>(&json).unwrap(), config);
        }
    }

    #[test]
    fn only_the_name_is_needed_and_unknown_keys_are_refused() {
        let read = toml::from_str::<NetworkConfig>;
        assert_eq!(read("name = \"cnn\"").unwrap(), NetworkConfig::default());
        for (text, complaint) in [
            ("name = \"cnn\"\nlayers = 3", "layers"),
            ("name = \"cnn\"\nblocks = [{ channels = 3, size = 2 }]", "size"),
            ("name = \"cnn\"\nblocks = [{ channels = 3, pool = { side = 2 } }]", "side"),
            ("name = \"cnn\"\nblocks = [{ kernel = 3 }]", "channels"),
            ("name = \"cnn\"\ninitialization = { normal = { std = 1.0, mean = 0.0 } }", "mean"),
            ("name = \"cnn\"\nactivation = \"softplus\"", "softplus"),
            ("name = \"rbf\"", "rbf"),
            ("dense = [1]", "name"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
