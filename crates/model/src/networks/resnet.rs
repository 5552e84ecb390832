//! Residual networks: He, Zhang, Ren, Sun 2016, "Deep residual learning for image recognition".

use serde::{Deserialize, Serialize};

use super::{
    architecture::{Architecture, Catalogue, LARGE, SMALL, part_in_pytorch},
    cnn::{BlockForm, ConvBlockConfig},
};
use crate::{Activation, Graph, GraphBuilder, Initialization, InputShape, PoolConfig, PoolKind, ShapeError};

/// Depths on offer: those of the paper's table 1 (large images), then those of section 4.2 (small
/// images).
const DEPTHS: &[usize] = &[18, 34, 50, 101, 152, 20, 32, 44, 56, 110];

/// A residual network; the depth says which of the paper's two families it is of.
///
/// 18, 34, 50, 101 and 152 are for large images (table 1), with torchvision's parameter counts, for
/// example 11,689,512 for 18 on 3x224x224 images and 1000 classes: a 7x7 convolution with stride 2
/// and a pooling, four stages, shortcuts by 1x1 convolutions where the shape changes. In 50 and
/// deeper, the 3x3 convolution of a block carries the stride, as in torchvision (the paper: the first
/// 1x1).
///
/// 20, 32, 44, 56 and 110 are for small images (section 4.2): a 3x3 convolution, three stages of 16,
/// 32 and 64 channels, and shortcuts without parameters, which drop every other row and column and
/// pad the channels with zeros (option A). 20 has 269,722 parameters on 3x32x32 images and 10 classes.
///
/// Both end with the average over all places, so that any size of image will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetConfig {
    /// Weight layers: 18, 34, 50, 101, 152 or 20, 32, 44, 56, 110.
    pub depth: usize,
    /// How weights are drawn.
    pub initialization: Initialization,
    /// Dropout before the head, probability in `[0, 1)`; none in the paper.
    pub dropout: f64,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self { depth: 18, initialization: Initialization::HeNormal, dropout: 0.0 }
    }
}

const RELU: Option<Activation> = Some(Activation::Relu);

impl ResNetConfig {
    /// The first convolution with what follows it.
    fn stem(&self) -> ConvBlockConfig {
        if self.is_small() {
            return ConvBlockConfig { padding: 1, ..ConvBlockConfig::new(16) };
        }
        let pool = PoolConfig { kind: PoolKind::Max, kernel: 3, stride: Some(2), padding: 1 };
        ConvBlockConfig { kernel: 7, stride: 2, padding: 3, pool: Some(pool), ..ConvBlockConfig::new(64) }
    }

    /// Whether it is one of section 4.2.
    fn is_small(&self) -> bool {
        matches!(self.depth, 20 | 32 | 44 | 56 | 110)
    }

    /// Blocks in each stage, and whether they have three convolutions.
    fn stages(&self) -> Result<(Vec<usize>, bool), ShapeError> {
        let depth = self.depth;
        match depth {
            18 => Ok((vec![2, 2, 2, 2], false)),
            34 => Ok((vec![3, 4, 6, 3], false)),
            50 => Ok((vec![3, 4, 6, 3], true)),
            101 => Ok((vec![3, 4, 23, 3], true)),
            152 => Ok((vec![3, 8, 36, 3], true)),
            // Section 4.2: 6 n + 2 weight layers.
            _ if self.is_small() => Ok((vec![(depth - 2) / 6; 3], false)),
            _ => Err(ShapeError::Depth { network: "resnet", depth, known: DEPTHS }),
        }
    }

    /// Stage of a block, and its place there.
    fn place(&self, mut block: usize) -> Option<(usize, usize)> {
        let (stages, _) = self.stages().ok()?;
        for (stage, blocks) in stages.into_iter().enumerate() {
            if block < blocks {
                return Some((stage, block));
            }
            block -= blocks;
        }
        None
    }
}

impl Architecture for ResNetConfig {
    fn initialization(&self) -> Initialization {
        self.initialization
    }

    fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError> {
        let (stages, bottleneck) = self.stages()?;
        let mut net = GraphBuilder::new("ResNet", input, classes)?;
        let stem = self.stem();
        let (maps, mut x) = net.conv_block("stem", net.image(), &stem, BlockForm::normalised(RELU))?;
        net.stage(maps);
        let mut inputs = stem.channels;
        let mut index = 0;
        for (stage, count) in stages.into_iter().enumerate() {
            let width = stem.channels << stage;
            for place in 0..count {
                let stride = if stage > 0 && place == 0 { 2 } else { 1 };
                let conv = |channels, kernel, stride| ConvBlockConfig {
                    kernel,
                    stride,
                    padding: kernel / 2,
                    ..ConvBlockConfig::new(channels)
                };
                let convs = if bottleneck {
                    vec![conv(width, 1, 1), conv(width, 3, stride), conv(4 * width, 1, 1)]
                } else {
                    vec![conv(width, 3, stride), conv(width, 3, 1)]
                };
                let outputs = if bottleneck { 4 * width } else { width };
                let mut y = x;
                for (position, conv) in convs.iter().enumerate() {
                    let form = BlockForm::normalised(RELU.filter(|_| position + 1 < convs.len()));
                    (_, y) = net.conv_block(&format!("blocks.{index}.convs.{position}"), y, conv, form)?;
                }
                let shortcut = match (stride == 1 && inputs == outputs, self.is_small()) {
                    (true, _) => x,
                    // Option A: without weights.
                    (false, true) => net.thin(x, stride, outputs - inputs)?,
                    (false, false) => {
                        let name = format!("blocks.{index}.shortcut");
                        net.conv_block(
                            &name,
                            x,
                            &ConvBlockConfig { padding: 0, ..conv(outputs, 1, stride) },
                            BlockForm::normalised(None),
                        )?
                        .1
                    }
                };
                y = net.add(y, shortcut)?;
                x = net.activation(&format!("blocks.{index}.activation"), y, Activation::Relu)?;
                net.stage(x);
                inputs = outputs;
                index += 1;
            }
        }
        x = net.average("average", x, 1)?;
        x = net.flatten("flatten", x)?;
        x = net.shared_dropout("dropout", x, self.dropout)?;
        net.finish(x)
    }

    fn catalogue() -> Catalogue<Self> {
        let entry = |depth, name, published, source| {
            (name, Self { depth, ..Self::default() }, &["depth"][..], published, source)
        };
        let large = |depth, name| entry(depth, name, LARGE, "He et al. 2016, table 1");
        let small = |depth, name| entry(depth, name, SMALL, "He et al. 2016, section 4.2");
        vec![
            large(18, "resnet18"),
            large(34, "resnet34"),
            large(50, "resnet50"),
            large(101, "resnet101"),
            large(152, "resnet152"),
            small(20, "resnet20"),
            small(32, "resnet32"),
            small(44, "resnet44"),
            small(56, "resnet56"),
            small(110, "resnet110"),
        ]
    }

    /// Torchvision's, Hugging Face's `transformers`, and the CIFAR implementation of Y. Idelbayev
    /// (`pytorch_resnet_cifar10`).
    fn published_names(&self, ours: &str) -> Vec<String> {
        let parts: Vec<&str> = ours.split('.').collect();
        let index = |position: usize| parts.get(position).and_then(|part| part.parse::<usize>().ok());
        let part = part_in_pytorch(parts[parts.len() - 1]);
        // The name that `transformers` gives a layer, alone and below a head.
        let hugging_face = |layer: &str| vec![format!("{layer}.{part}"), format!("resnet.{layer}.{part}")];
        match (parts[0], index(1)) {
            ("stem", _) => {
                let (own, theirs) = match parts[1] {
                    "conv" => ("conv1", "embedder.embedder.convolution"),
                    _ => ("bn1", "embedder.embedder.normalization"),
                };
                [vec![format!("{own}.{part}")], hugging_face(theirs)].concat()
            }
            ("blocks", Some(block)) => {
                let Some((stage, block)) = self.place(block) else { return vec![] };
                let place = format!("layer{}.{block}", stage + 1);
                let theirs = format!("encoder.stages.{stage}.layers.{block}");
                let (ours, theirs) = match (parts[2], index(3), parts.get(4)) {
                    ("convs", Some(position), Some(&"conv")) => (
                        vec![format!("{place}.conv{}", position + 1)],
                        format!("{theirs}.layer.{position}.convolution"),
                    ),
                    ("convs", Some(position), _) => (
                        vec![format!("{place}.bn{}", position + 1)],
                        format!("{theirs}.layer.{position}.normalization"),
                    ),
                    _ => {
                        let norm = usize::from(parts[3] == "norm");
                        let last = ["convolution", "normalization"][norm];
                        (
                            vec![format!("{place}.downsample.{norm}"), format!("{place}.shortcut.{norm}")],
                            format!("{theirs}.shortcut.{last}"),
                        )
                    }
                };
                let mut names: Vec<String> =
                    ours.into_iter().map(|layer| format!("{layer}.{part}")).collect();
                names.extend(hugging_face(&theirs));
                names
            }
            ("head", _) => ["linear", "fc", "classifier.1"].map(|layer| format!("{layer}.{part}")).into(),
            _ => vec![],
        }
    }
}
