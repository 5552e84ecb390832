//! VGG: Simonyan & Zisserman 2015, "Very deep convolutional networks for large-scale image
//! recognition", table 1, columns A, B, D and E, with torchvision's batch normalisation.

use serde::{Deserialize, Serialize};

use crate::{Activation, ConvBlockConfig, Initialization, PoolConfig, ShapeError, cnn::Layout};

/// Depths on offer: weight layers.
const DEPTHS: &[usize] = &[11, 13, 16, 19];

/// Channels of the five stages; each ends with a 2x2 max pooling.
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

/// VGG as torchvision has it: `depth = 16` has 138,357,544 parameters on 3x224x224 images and 1000
/// classes. The smallest image is 32x32. Whatever the size, features are averaged to `grid` x `grid`
/// cells before the dense layers, as torchvision does: at 224 they are 7x7 already, at 32 the one
/// cell is repeated. For small images `grid = 1` and smaller `dense` layers lose nothing and save
/// 100 million parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VggConfig {
    /// 11, 13, 16 or 19 weight layers.
    pub depth: usize,
    /// Batch normalisation between every convolution and its activation; the convolutions keep their
    /// biases.
    pub batch_norm: bool,
    /// Outputs of the dense layers before the head.
    pub dense: Vec<usize>,
    /// Cells along one side of the features that the dense layers see.
    pub grid: usize,
    /// Dropout after every dense layer but the head, probability in `[0, 1)`.
    pub dropout: f64,
    /// How weights are drawn.
    pub initialization: Initialization,
}

impl Default for VggConfig {
    fn default() -> Self {
        Self {
            depth: 16,
            batch_norm: false,
            dense: vec![4096, 4096],
            grid: 7,
            dropout: 0.5,
            initialization: Initialization::default(),
        }
    }
}

impl VggConfig {
    /// Convolutions in each stage.
    fn stages(&self) -> Result<[usize; 5], ShapeError> {
        match self.depth {
            11 => Ok([1, 1, 2, 2, 2]),
            13 => Ok([2, 2, 2, 2, 2]),
            16 => Ok([2, 2, 3, 3, 3]),
            19 => Ok([2, 2, 4, 4, 4]),
            depth => Err(ShapeError::Depth { network: "vgg", depth, known: DEPTHS }),
        }
    }

    /// The place of a block's convolution in torchvision's `features`, where every convolution, batch
    /// normalisation, ReLU and pooling takes one.
    pub(crate) fn torchvision_index(&self, block: usize) -> Option<usize> {
        let layout = self.layout().ok()?;
        let sizes = layout
            .blocks
            .iter()
            .map(|block| 2 + usize::from(self.batch_norm) + usize::from(block.pool.is_some()));
        (block < layout.blocks.len()).then(|| sizes.take(block).sum())
    }

    pub(crate) fn layout(&self) -> Result<Layout, ShapeError> {
        let mut blocks = Vec::new();
        for (channels, convolutions) in CHANNELS.into_iter().zip(self.stages()?) {
            for index in 1..=convolutions {
                let pool = (index == convolutions).then(PoolConfig::default);
                blocks.push(ConvBlockConfig { padding: 1, pool, ..ConvBlockConfig::new(channels) });
            }
        }
        let dense = self.dense.len();
        Ok(Layout {
            blocks,
            conv_bias: true,
            batch_norm: self.batch_norm,
            grid: Some(self.grid),
            dense: self.dense.clone(),
            dropout: self.dropout,
            dropped: (0..=dense).map(|index| index > 0 || dense == 0).collect(),
            activation: Activation::Relu,
            initialization: self.initialization,
        })
    }
}
