//! The multi-layer perceptron: dense layers over the flattened image.

use burn::{
    module::Module,
    nn::{Dropout, Linear},
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{
    Activation, Initialization, InputShape, ShapeError, Summary,
    cnn::{dense_layer, linear},
    initialization::Builder,
    shape::ShapeTrace,
};

/// A multi-layer perceptron. It sees pixels without their places: permuting all images the same way
/// changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Outputs of the hidden layers.
    pub hidden: Vec<usize>,
    /// After every hidden layer.
    pub activation: Activation,
    /// How weights are drawn.
    pub initialization: Initialization,
    /// Dropout after every hidden layer, probability in `[0, 1)`.
    pub dropout: f64,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self {
            hidden: vec![512, 256],
            activation: Activation::default(),
            initialization: Initialization::default(),
            dropout: 0.0,
        }
    }
}

impl MlpConfig {
    /// See [`crate::NetworkConfig::summary`].
    pub(crate) fn summary(&self, input: InputShape, classes: usize) -> Result<Summary, ShapeError> {
        self.initialization.validate()?;
        let mut trace = ShapeTrace::new(input, classes)?;
        trace.flatten("flatten")?;
        for (index, &outputs) in self.hidden.iter().enumerate() {
            let name = format!("blocks.{index}");
            trace.linear(&name, outputs)?;
            trace.activation(&format!("{name}.activation"), self.activation)?;
            trace.dropout(&format!("{name}.dropout"), self.dropout)?;
        }
        trace.linear("head", classes)?;
        trace.finish()
    }

    /// Builds the network; without a seed all weights are zero.
    pub(crate) fn init(
        &self,
        input: InputShape,
        classes: usize,
        seed: Option<u64>,
        device: &Device,
    ) -> Result<Mlp, ShapeError> {
        self.summary(input, classes)?;
        let mut builder = Builder::new(self.initialization, seed, device);
        let mut inputs = input.len();
        let mut blocks = Vec::with_capacity(self.hidden.len());
        for &outputs in &self.hidden {
            blocks.push(builder.linear(inputs, outputs));
            inputs = outputs;
        }
        let head = builder.linear(inputs, classes);
        Ok(Mlp { blocks, head, dropout: builder.dropout(self.dropout), activation: self.activation })
    }
}

/// A multi-layer perceptron, see [`MlpConfig`].
#[derive(Module, Debug)]
pub struct Mlp {
    /// The hidden layers.
    pub blocks: Vec<Linear>,
    /// The classifier: one output for each class.
    pub head: Linear,
    /// After every hidden layer.
    pub dropout: Option<Dropout>,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    /// Images `[N, C, H, W]` to logits `[N, K]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        linear(&self.head, self.features(images), kernels::Activation::None) // [N, K]
    }

    /// Images `[N, C, H, W]` to what the head sees, `[N, features]`.
    pub(crate) fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = images.flatten(1, 3); // [N, C * H * W]
        for block in &self.blocks {
            x = dense_layer(block, x, self.activation); // [N, features]
            if let Some(dropout) = &self.dropout {
                x = dropout.forward(x);
            }
        }
        x
    }
}
