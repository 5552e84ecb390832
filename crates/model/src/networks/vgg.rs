//! VGG: Simonyan & Zisserman 2015, "Very deep convolutional networks for large-scale image
//! recognition", table 1, columns A, B, D and E, with torchvision's batch normalisation.

use serde::{Deserialize, Serialize};

use super::{
    architecture::{Architecture, Catalogue, LARGE, part_in_pytorch},
    cnn::{ConvBlockConfig, Layout},
};
use crate::{Activation, Graph, Initialization, InputShape, PoolConfig, ShapeError};

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

    fn blocks(&self) -> Result<Vec<ConvBlockConfig>, ShapeError> {
        let mut blocks = Vec::new();
        for (channels, convolutions) in CHANNELS.into_iter().zip(self.stages()?) {
            for index in 1..=convolutions {
                let pool = (index == convolutions).then(PoolConfig::default);
                blocks.push(ConvBlockConfig { padding: 1, pool, ..ConvBlockConfig::new(channels) });
            }
        }
        Ok(blocks)
    }

    /// The place of a block's convolution in torchvision's `features`, where every convolution, batch
    /// normalisation, ReLU and pooling takes one.
    fn torchvision_index(&self, block: usize) -> Option<usize> {
        let blocks = self.blocks().ok()?;
        let sizes =
            blocks.iter().map(|block| 2 + usize::from(self.batch_norm) + usize::from(block.pool.is_some()));
        (block < blocks.len()).then(|| sizes.take(block).sum())
    }
}

impl Architecture for VggConfig {
    fn initialization(&self) -> Initialization {
        self.initialization
    }

    fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError> {
        let dense = self.dense.len();
        let layout = Layout {
            blocks: self.blocks()?,
            conv_bias: true,
            batch_norm: self.batch_norm,
            grid: Some(self.grid),
            dense: self.dense.clone(),
            dropout: self.dropout,
            dropped: (0..=dense).map(|index| index > 0 || dense == 0).collect(),
            activation: Activation::Relu,
        };
        layout.graph(input, classes)
    }

    fn catalogue() -> Catalogue<Self> {
        let names = [
            (11, "vgg11", "vgg11-bn"),
            (13, "vgg13", "vgg13-bn"),
            (16, "vgg16", "vgg16-bn"),
            (19, "vgg19", "vgg19-bn"),
        ];
        let entry = |name, depth, batch_norm| {
            let config = Self { depth, batch_norm, ..Self::default() };
            (name, config, &["depth", "batch_norm"][..], LARGE, "Simonyan & Zisserman 2015")
        };
        names
            .into_iter()
            .flat_map(|(depth, plain, normalised)| {
                [entry(plain, depth, false), entry(normalised, depth, true)]
            })
            .collect()
    }

    /// Torchvision's.
    fn published_names(&self, ours: &str) -> Vec<String> {
        let parts: Vec<&str> = ours.split('.').collect();
        let index = |position: usize| parts.get(position).and_then(|part| part.parse::<usize>().ok());
        let layer = match (parts[0], index(1)) {
            ("blocks", Some(block)) => self.torchvision_index(block).map(|conv| {
                let norm = usize::from(parts.get(2) == Some(&"norm"));
                format!("features.{}", conv + norm)
            }),
            // Dense, ReLU, dropout.
            ("dense", Some(index)) => Some(format!("classifier.{}", 3 * index)),
            ("head", _) => Some(format!("classifier.{}", 3 * self.dense.len())),
            _ => None,
        };
        let part = part_in_pytorch(parts[parts.len() - 1]);
        layer.map(|layer| format!("{layer}.{part}")).into_iter().collect()
    }
}
