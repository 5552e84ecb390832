//! The convolutional network: blocks of convolution, activation and pooling, then dense layers.

use serde::{Deserialize, Serialize};

use super::architecture::{Architecture, Catalogue, DIGITS};
use crate::{
    Activation, Convolution, Graph, GraphBuilder, Initialization, InputShape, NodeId, PoolConfig, ShapeError,
};

/// A convolutional network. The default is the tutorials' net, 34,826 parameters on 28x28 grey
/// images and 10 classes; with `dense = [128]` it has 225,034.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CnnConfig {
    /// The convolutions, from the image on.
    pub blocks: Vec<ConvBlockConfig>,
    /// Outputs of the dense layers between the last block and the head.
    pub dense: Vec<usize>,
    /// After every convolution and every dense layer but the head.
    pub activation: Activation,
    /// How weights are drawn.
    pub initialization: Initialization,
    /// Dropout after the activation of every dense layer, or on the flattened features where there
    /// is no dense layer: what the head sees is always covered. Probability in `[0, 1)`.
    pub dropout: f64,
    /// Batch normalisation between every convolution and its activation; the convolution then has
    /// no bias of its own.
    pub batch_norm: bool,
}

impl Default for CnnConfig {
    fn default() -> Self {
        let block = |channels| ConvBlockConfig {
            pool: Some(PoolConfig::default()),
            ..ConvBlockConfig::new(channels)
        };
        Self {
            blocks: vec![block(32), block(64)],
            dense: vec![],
            activation: Activation::default(),
            initialization: Initialization::default(),
            dropout: 0.0,
            batch_norm: false,
        }
    }
}

/// One convolution with what follows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvBlockConfig {
    /// Filters.
    pub channels: usize,
    /// Side of the square kernel.
    #[serde(default = "three")]
    pub kernel: usize,
    /// Step of the kernel.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros added on every side.
    #[serde(default)]
    pub padding: usize,
    /// Pooling after the activation, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolConfig>,
    /// Dropout at the end of the block, probability in `[0, 1)`.
    #[serde(default)]
    pub dropout: f64,
}

impl ConvBlockConfig {
    /// A 3x3 convolution with stride 1, no padding, no pooling, no dropout.
    pub fn new(channels: usize) -> Self {
        Self { channels, kernel: three(), stride: one(), padding: 0, pool: None, dropout: 0.0 }
    }
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

impl Architecture for CnnConfig {
    fn initialization(&self) -> Initialization {
        self.initialization
    }

    fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError> {
        let dense = self.dense.len();
        let layout = Layout {
            blocks: self.blocks.clone(),
            conv_bias: !self.batch_norm,
            batch_norm: self.batch_norm,
            grid: None,
            dense: self.dense.clone(),
            dropout: self.dropout,
            dropped: (0..=dense).map(|index| index > 0 || dense == 0).collect(),
            activation: self.activation,
        };
        layout.graph(input, classes)
    }

    fn catalogue() -> Catalogue<Self> {
        vec![("cnn", Self::default(), &[], DIGITS, "two convolutions and a dense layer")]
    }
}

/// Convolutions in a row, then dense layers: what published architectures of this form come down to.
pub(super) struct Layout {
    /// The convolutions, from the image on.
    pub(super) blocks: Vec<ConvBlockConfig>,
    /// Whether convolutions have a bias.
    pub(super) conv_bias: bool,
    /// Batch normalisation between every convolution and its activation.
    pub(super) batch_norm: bool,
    /// Rows and columns to which the output of the last block is averaged, whatever its size.
    pub(super) grid: Option<usize>,
    /// Outputs of the dense layers before the head.
    pub(super) dense: Vec<usize>,
    /// Probability in `[0, 1)`.
    pub(super) dropout: f64,
    /// Whether dropout acts on the input of each dense layer, the head last.
    pub(super) dropped: Vec<bool>,
    /// After every convolution and every dense layer but the head.
    pub(super) activation: Activation,
}

impl Layout {
    pub(super) fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError> {
        let mut net = GraphBuilder::new("Cnn", input, classes)?;
        let mut x = net.image();
        for (index, block) in self.blocks.iter().enumerate() {
            let form = BlockForm {
                bias: self.conv_bias,
                batch_norm: self.batch_norm,
                activation: Some(self.activation),
            };
            let (maps, output) = net.conv_block(&format!("blocks.{index}"), x, block, form)?;
            net.stage(maps);
            net.signature(output);
            x = output;
        }
        if let Some(side) = self.grid {
            x = net.average("grid", x, side)?;
        }
        x = net.flatten("flatten", x)?;
        let dropout = |index: usize| if self.dropped[index] { self.dropout } else { 0.0 };
        x = net.shared_dropout("dropout", x, dropout(0))?;
        for (index, &outputs) in self.dense.iter().enumerate() {
            let name = format!("dense.{index}");
            x = net.dense(&name, x, outputs)?;
            x = net.activation(&format!("{name}.activation"), x, self.activation)?;
            x = net.shared_dropout(&format!("{name}.dropout"), x, dropout(index + 1))?;
        }
        net.finish(x)
    }
}

/// What stands beside the convolution of a block.
#[derive(Clone, Copy)]
pub(super) struct BlockForm {
    /// Whether the convolution has a bias.
    pub(super) bias: bool,
    /// Whether batch normalisation follows it.
    pub(super) batch_norm: bool,
    /// None is the identity.
    pub(super) activation: Option<Activation>,
}

impl BlockForm {
    /// Batch normalisation instead of a bias.
    pub(super) fn normalised(activation: Option<Activation>) -> Self {
        Self { bias: false, batch_norm: true, activation }
    }
}

impl GraphBuilder {
    /// Adds a convolution with what follows it. Gives the maps before the pooling, and the output.
    pub(super) fn conv_block(
        &mut self,
        prefix: &str,
        x: NodeId,
        block: &ConvBlockConfig,
        form: BlockForm,
    ) -> Result<(NodeId, NodeId), ShapeError> {
        let ConvBlockConfig { channels, kernel, stride, padding, pool, dropout } = *block;
        let convolution = Convolution::square(channels, kernel, stride, padding, form.bias);
        let maps = self.convolved(prefix, x, convolution, form)?;
        let mut output = maps;
        if let Some(pool) = pool {
            output = self.pool(&format!("{prefix}.pool"), output, pool)?;
        }
        output = self.dropout(&format!("{prefix}.dropout"), output, dropout)?;
        Ok((maps, output))
    }

    /// Adds a convolution with its normalisation and activation.
    pub(super) fn convolved(
        &mut self,
        prefix: &str,
        x: NodeId,
        convolution: Convolution,
        form: BlockForm,
    ) -> Result<NodeId, ShapeError> {
        let mut x = self.convolution(&format!("{prefix}.conv"), x, convolution)?;
        if form.batch_norm {
            x = self.batch_norm(&format!("{prefix}.norm"), x)?;
        }
        match form.activation {
            Some(activation) => self.activation(&format!("{prefix}.activation"), x, activation),
            None => Ok(x),
        }
    }
}
