//! What a network is made of, as a recipe states it.

use std::fmt;

use burn::tensor::{Device, Tensor, activation};
use kernels::{Pointwise, pointwise};
use serde::{Deserialize, Serialize};

use crate::{
    AlexNetConfig, CnnConfig, LeNet5Config, MlpConfig, Network, ResNetConfig, RnnConfig, ShapeError, Summary,
    VggConfig, VitConfig,
};

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

/// The function after a convolution or a dense layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`
    #[default]
    Relu,
    /// `x` where positive, `0.01 x` elsewhere
    LeakyRelu,
    /// `x Φ(x)` with the exact normal distribution function (Hendrycks & Gimpel 2016)
    Gelu,
    /// `x sigmoid(x)`
    Silu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// Hyperbolic tangent
    Tanh,
}

impl Activation {
    /// Applies the function to every value; the shape stays.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Relu => activation::relu(x),
            Self::LeakyRelu => pointwise(Pointwise::LeakyRelu, x),
            Self::Gelu => pointwise(Pointwise::Gelu, x),
            Self::Silu => pointwise(Pointwise::Silu, x),
            Self::Sigmoid => pointwise(Pointwise::Sigmoid, x),
            Self::Tanh => pointwise(Pointwise::Tanh, x),
        }
    }

    /// The activation that the fused operators compute on the way, and what is left to do after
    /// them.
    pub(crate) fn split(self) -> (kernels::Activation, Option<Self>) {
        match self {
            Self::Relu => (kernels::Activation::Relu, None),
            Self::Tanh => (kernels::Activation::Tanh, None),
            other => (kernels::Activation::None, Some(other)),
        }
    }
}

/// Which network, and its sizes. In TOML a table with the network's `name` and its own keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum NetworkConfig {
    /// A convolutional network, [`CnnConfig`].
    Cnn(CnnConfig),
    /// A multi-layer perceptron, [`MlpConfig`].
    Mlp(MlpConfig),
    /// A recurrent network over the rows, [`RnnConfig`].
    Rnn(RnnConfig),
    /// LeNet-5, [`LeNet5Config`].
    #[serde(rename = "lenet5")]
    LeNet5(LeNet5Config),
    /// AlexNet, [`AlexNetConfig`].
    #[serde(rename = "alexnet")]
    AlexNet(AlexNetConfig),
    /// VGG of any depth, [`VggConfig`].
    Vgg(VggConfig),
    /// A residual network of any depth, [`ResNetConfig`].
    #[serde(rename = "resnet")]
    ResNet(ResNetConfig),
    /// A vision transformer, [`VitConfig`].
    Vit(VitConfig),
}

impl Default for NetworkConfig {
    /// The tutorials' net: two convolutions with max pooling and one dense layer.
    fn default() -> Self {
        Self::Cnn(CnnConfig::default())
    }
}

impl NetworkConfig {
    /// Builds the network with freshly drawn weights on `device`.
    ///
    /// The weights are a function of the configuration and `seed` alone: they are the same on every
    /// backend, and no generator of the device is touched. Parameter ids are 1, 2, 3 ... in the order
    /// of a visit, so that the optimiser states of two runs can be compared.
    ///
    /// # Errors
    /// A configuration that cannot work on `input`, see [`Self::summary`].
    pub fn init(
        &self,
        input: InputShape,
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Network, ShapeError> {
        self.build(input, classes, Some(seed), device)
    }

    /// The same network with all weights zero, for one whose weights come from elsewhere.
    pub(crate) fn init_empty(
        &self,
        input: InputShape,
        classes: usize,
        device: &Device,
    ) -> Result<Network, ShapeError> {
        self.build(input, classes, None, device)
    }

    fn build(
        &self,
        input: InputShape,
        classes: usize,
        seed: Option<u64>,
        device: &Device,
    ) -> Result<Network, ShapeError> {
        Ok(match self {
            Self::Mlp(config) => Network::Mlp(config.init(input, classes, seed, device)?),
            Self::Rnn(config) => Network::Rnn(config.init(input, classes, seed, device)?),
            Self::ResNet(config) => Network::ResNet(config.init(input, classes, seed, device)?),
            Self::Vit(config) => Network::Vit(config.init(input, classes, seed, device)?),
            Self::Cnn(config) => Network::Cnn(config.layout().init(input, classes, seed, device)?),
            Self::LeNet5(config) => Network::Cnn(config.layout(input).init(input, classes, seed, device)?),
            Self::AlexNet(config) => Network::Cnn(config.layout().init(input, classes, seed, device)?),
            Self::Vgg(config) => Network::Cnn(config.layout()?.init(input, classes, seed, device)?),
        })
    }

    /// The network's `name` in a recipe.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cnn(_) => "cnn",
            Self::Mlp(_) => "mlp",
            Self::Rnn(_) => "rnn",
            Self::LeNet5(_) => "lenet5",
            Self::AlexNet(_) => "alexnet",
            Self::Vgg(_) => "vgg",
            Self::ResNet(_) => "resnet",
            Self::Vit(_) => "vit",
        }
    }

    /// Every layer with its output shape, parameters and multiply-accumulates; needs no device.
    ///
    /// # Errors
    /// A layer that does not fit its input, a size of zero or beyond all measure, a probability
    /// outside `[0, 1)`. The message names the layer and the sizes.
    pub fn summary(&self, input: InputShape, classes: usize) -> Result<Summary, ShapeError> {
        match self {
            Self::Mlp(config) => config.summary(input, classes),
            Self::Rnn(config) => config.summary(input, classes),
            Self::ResNet(config) => config.summary(input, classes),
            Self::Vit(config) => config.summary(input, classes),
            Self::Cnn(config) => config.layout().summary(input, classes),
            Self::LeNet5(config) => config.layout(input).summary(input, classes),
            Self::AlexNet(config) => config.layout().summary(input, classes),
            Self::Vgg(config) => config.layout()?.summary(input, classes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_1_SQRT_2, PI};

    use super::*;
    use crate::{ConvBlockConfig, Initialization, PoolConfig, PoolKind};

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
