//! The multi-layer perceptron: dense layers over the flattened image.

use serde::{Deserialize, Serialize};

use super::architecture::{Architecture, Catalogue, DIGITS};
use crate::{Activation, Graph, GraphBuilder, Initialization, InputShape, ShapeError};

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

impl Architecture for MlpConfig {
    fn initialization(&self) -> Initialization {
        self.initialization
    }

    fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError> {
        let mut net = GraphBuilder::new("Mlp", input, classes)?;
        let mut x = net.flatten("flatten", net.image())?;
        for (index, &outputs) in self.hidden.iter().enumerate() {
            let name = format!("blocks.{index}");
            x = net.dense(&name, x, outputs)?;
            x = net.activation(&format!("{name}.activation"), x, self.activation)?;
            x = net.shared_dropout(&format!("{name}.dropout"), x, self.dropout)?;
        }
        net.finish(x)
    }

    fn catalogue() -> Catalogue<Self> {
        vec![("mlp", Self::default(), &[], DIGITS, "dense layers only")]
    }
}
