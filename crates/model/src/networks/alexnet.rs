//! `AlexNet` in one column: Krizhevsky 2014, "One weird trick for parallelizing convolutional neural
//! networks", with torchvision's sizes.

use serde::{Deserialize, Serialize};

use super::{
    architecture::{Architecture, Catalogue, LARGE, part_in_pytorch},
    cnn::{ConvBlockConfig, Layout},
};
use crate::{Activation, Graph, Initialization, InputShape, PoolConfig, PoolKind, ShapeError};

/// `AlexNet` as torchvision has it: 61,100,840 parameters on 3x224x224 images and 1000 classes. The
/// smallest image is 63x63. Whatever the size, features are averaged to `grid` x `grid` cells before
/// the dense layers (at 224 they are 6x6 already).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlexNetConfig {
    /// Outputs of the dense layers before the head.
    pub dense: Vec<usize>,
    /// Cells along one side of the features that the dense layers see.
    pub grid: usize,
    /// Dropout before every dense layer but the head, probability in `[0, 1)`.
    pub dropout: f64,
    /// How weights are drawn.
    pub initialization: Initialization,
}

impl Default for AlexNetConfig {
    fn default() -> Self {
        Self { dense: vec![4096, 4096], grid: 6, dropout: 0.5, initialization: Initialization::default() }
    }
}

impl Architecture for AlexNetConfig {
    fn initialization(&self) -> Initialization {
        self.initialization
    }

    fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError> {
        let pool = Some(PoolConfig { kind: PoolKind::Max, kernel: 3, stride: Some(2), padding: 0 });
        let block = |channels, kernel, stride, padding, pool| ConvBlockConfig {
            kernel,
            stride,
            padding,
            pool,
            ..ConvBlockConfig::new(channels)
        };
        let dense = self.dense.len();
        let layout = Layout {
            blocks: vec![
                block(64, 11, 4, 2, pool),
                block(192, 5, 1, 2, pool),
                block(384, 3, 1, 1, None),
                block(256, 3, 1, 1, None),
                block(256, 3, 1, 1, pool),
            ],
            conv_bias: true,
            batch_norm: false,
            grid: Some(self.grid),
            dense: self.dense.clone(),
            dropout: self.dropout,
            dropped: (0..=dense).map(|index| index < dense.max(1)).collect(),
            activation: Activation::Relu,
        };
        layout.graph(input, classes)
    }

    fn catalogue() -> Catalogue<Self> {
        vec![("alexnet", Self::default(), &[], LARGE, "Krizhevsky 2014")]
    }

    /// Torchvision's.
    fn published_names(&self, ours: &str) -> Vec<String> {
        let parts: Vec<&str> = ours.split('.').collect();
        let index = |position: usize| parts.get(position).and_then(|part| part.parse::<usize>().ok());
        let layer = match (parts[0], index(1)) {
            ("blocks", Some(block)) => [0, 3, 6, 8, 10].get(block).map(|layer| format!("features.{layer}")),
            // Dropout, dense, ReLU; the head has no dropout before it.
            ("dense", Some(index)) => Some(format!("classifier.{}", 3 * index + 1)),
            ("head", _) => Some(format!("classifier.{}", 3 * self.dense.len())),
            _ => None,
        };
        let part = part_in_pytorch(parts[parts.len() - 1]);
        layer.map(|layer| format!("{layer}.{part}")).into_iter().collect()
    }
}
