//! LeNet-5: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document
//! recognition", section II.B.

use serde::{Deserialize, Serialize};

use super::{
    architecture::{Architecture, Catalogue, DIGITS},
    cnn::{ConvBlockConfig, Layout},
};
use crate::{Activation, Graph, Initialization, InputShape, PoolConfig, PoolKind, ShapeError};

/// Side of the image that the paper's network sees; smaller ones are padded with zeros to it.
const SIDE: usize = 32;

/// LeNet-5 as it is taught today, 61,706 parameters on grey images and 10 classes: every map of the
/// second convolution sees all maps of the first, pooling has no weights, and the head is a dense
/// layer instead of radial basis functions. Images smaller than 32x32 are padded with zeros to it;
/// larger ones make the last convolution's output, and with it the dense layer, larger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeNet5Config {
    /// After every convolution and the dense layer; `tanh` in the paper.
    pub activation: Activation,
    /// How windows of 2x2 are pooled; averages in the paper.
    pub pool: PoolKind,
    /// How weights are drawn.
    pub initialization: Initialization,
    /// Dropout before the head, probability in `[0, 1)`; none in the paper.
    pub dropout: f64,
}

impl Default for LeNet5Config {
    fn default() -> Self {
        Self {
            activation: Activation::Tanh,
            pool: PoolKind::Average,
            initialization: Initialization::XavierUniform,
            dropout: 0.0,
        }
    }
}

impl Architecture for LeNet5Config {
    fn initialization(&self) -> Initialization {
        self.initialization
    }

    fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError> {
        let pool = Some(PoolConfig { kind: self.pool, ..PoolConfig::default() });
        let padding = SIDE.saturating_sub(input.height.min(input.width)).div_ceil(2);
        let block = |channels, padding, pool| ConvBlockConfig {
            kernel: 5,
            padding,
            pool,
            ..ConvBlockConfig::new(channels)
        };
        let layout = Layout {
            blocks: vec![block(6, padding, pool), block(16, 0, pool), block(120, 0, None)],
            conv_bias: true,
            batch_norm: false,
            grid: None,
            dense: vec![84],
            dropout: self.dropout,
            dropped: vec![false, true],
            activation: self.activation,
        };
        layout.graph(input, classes)
    }

    fn catalogue() -> Catalogue<Self> {
        vec![("lenet5", Self::default(), &[], DIGITS, "LeCun et al. 1998")]
    }
}
