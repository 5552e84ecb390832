//! What a network is made of, as a recipe states it.

use std::fmt;

use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::{CnnConfig, Network, ShapeError, Summary};

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
        Self {
            channels,
            height,
            width,
        }
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

/// Slope of [`Activation::LeakyRelu`] below zero, the default of the common frameworks.
const LEAKY_SLOPE: f64 = 0.01;

impl Activation {
    /// Applies the function to every value; the shape stays.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Relu => activation::relu(x),
            Self::LeakyRelu => activation::leaky_relu(x, LEAKY_SLOPE),
            Self::Gelu => activation::gelu(x),
            Self::Silu => activation::silu(x),
            Self::Sigmoid => activation::sigmoid(x),
            Self::Tanh => activation::tanh(x),
        }
    }

    /// The activation that the fused operators compute on the way, and what is left to do after
    /// them.
    pub(crate) fn split(self) -> (kernels::Activation, Option<Self>) {
        match self {
            Self::Relu => (kernels::Activation::Relu, None),
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
        match self {
            Self::Cnn(config) => Ok(Network::Cnn(config.init(
                input,
                classes,
                Some(seed),
                device,
            )?)),
        }
    }

    /// The same network with all weights zero, for one whose weights come from elsewhere.
    pub(crate) fn init_empty(
        &self,
        input: InputShape,
        classes: usize,
        device: &Device,
    ) -> Result<Network, ShapeError> {
        match self {
            Self::Cnn(config) => Ok(Network::Cnn(config.init(input, classes, None, device)?)),
        }
    }

    /// Every layer with its output shape, parameters and multiply-accumulates; needs no device.
    ///
    /// # Errors
    /// A layer that does not fit its input, a size of zero or beyond all measure, a probability
    /// outside `[0, 1)`. The message names the layer and the sizes.
    pub fn summary(&self, input: InputShape, classes: usize) -> Result<Summary, ShapeError> {
        match self {
            Self::Cnn(config) => config.summary(input, classes),
        }
    }
}
