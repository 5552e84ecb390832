//! Residual networks: He, Zhang, Ren, Sun 2016, "Deep residual learning for image recognition".

use burn::{
    module::Module,
    nn::{Dropout, Linear},
    tensor::{
        Device, Tensor,
        module::{adaptive_avg_pool2d, max_pool2d},
        ops::MaxPoolOptions,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    Activation, ConvBlock, ConvBlockConfig, Initialization, InputShape, PoolConfig, PoolKind, ShapeError,
    Summary, cnn::linear, initialization::Builder, shape::ShapeTrace,
};

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

/// A residual block before it has weights.
struct BlockPlan {
    /// The convolutions; all but the last are followed by the activation.
    convs: Vec<ConvBlockConfig>,
    inputs: usize,
    shortcut: Shortcut,
}

/// How the input of a block reaches its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortcut {
    /// As it is.
    Identity,
    /// Through a 1x1 convolution with batch normalisation.
    Convolution { stride: usize },
    /// Every `stride`-th row and column, and zeros for the channels that are missing.
    Pad { stride: usize, channels: usize },
}

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
    pub(crate) fn is_small(&self) -> bool {
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
    pub(crate) fn place(&self, mut block: usize) -> Option<(usize, usize)> {
        let (stages, _) = self.stages().ok()?;
        for (stage, blocks) in stages.into_iter().enumerate() {
            if block < blocks {
                return Some((stage, block));
            }
            block -= blocks;
        }
        None
    }

    /// All residual blocks in order.
    fn blocks(&self) -> Result<Vec<BlockPlan>, ShapeError> {
        let (stages, bottleneck) = self.stages()?;
        let mut inputs = self.stem().channels;
        let mut width = inputs;
        let mut blocks = Vec::new();
        for (stage, count) in stages.into_iter().enumerate() {
            for index in 0..count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
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
                let shortcut = match (stride == 1 && inputs == outputs, self.is_small()) {
                    (true, _) => Shortcut::Identity,
                    (false, true) => Shortcut::Pad { stride, channels: outputs - inputs },
                    (false, false) => Shortcut::Convolution { stride },
                };
                blocks.push(BlockPlan { convs, inputs, shortcut });
                inputs = outputs;
            }
            width *= 2;
        }
        Ok(blocks)
    }

    /// See [`crate::NetworkConfig::summary`].
    pub(crate) fn summary(&self, input: InputShape, classes: usize) -> Result<Summary, ShapeError> {
        self.initialization.validate()?;
        let blocks = self.blocks()?;
        let mut trace = ShapeTrace::new(input, classes)?;
        trace.conv_block("stem", &self.stem(), false, true, RELU)?;
        for (index, block) in blocks.iter().enumerate() {
            let before = trace.shape();
            for (position, conv) in block.convs.iter().enumerate() {
                let activation = RELU.filter(|_| position + 1 < block.convs.len());
                trace.conv_block(
                    &format!("blocks.{index}.convs.{position}"),
                    conv,
                    false,
                    true,
                    activation,
                )?;
            }
            if let Shortcut::Convolution { stride } = block.shortcut {
                let after = trace.shape();
                trace.branch(before);
                let conv = shortcut_conv(after[0], stride);
                trace.conv_block(&format!("blocks.{index}.shortcut"), &conv, false, true, None)?;
            }
            trace.activation(&format!("blocks.{index}.activation"), Activation::Relu)?;
        }
        trace.grid("average", 1)?;
        trace.flatten("flatten")?;
        trace.dropout("dropout", self.dropout)?;
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
    ) -> Result<ResNet, ShapeError> {
        self.summary(input, classes)?;
        let mut builder = Builder::new(self.initialization, seed, device);
        let stem_config = self.stem();
        let stem = builder.conv_block(input.channels, &stem_config, false, true, RELU);
        let mut features = stem_config.channels;
        let mut blocks = Vec::new();
        for plan in self.blocks()? {
            let mut inputs = plan.inputs;
            let mut convs = Vec::with_capacity(plan.convs.len());
            for (position, conv) in plan.convs.iter().enumerate() {
                let activation = RELU.filter(|_| position + 1 < plan.convs.len());
                convs.push(builder.conv_block(inputs, conv, false, true, activation));
                inputs = conv.channels;
            }
            features = inputs;
            let shortcut = match plan.shortcut {
                Shortcut::Convolution { stride } => {
                    let conv = shortcut_conv(features, stride);
                    Some(builder.conv_block(plan.inputs, &conv, false, true, None))
                }
                Shortcut::Identity | Shortcut::Pad { .. } => None,
            };
            blocks.push(ResidualBlock { convs, shortcut, way: plan.shortcut });
        }
        let head = builder.linear(features, classes);
        Ok(ResNet { stem, blocks, head, dropout: builder.dropout(self.dropout) })
    }
}

const RELU: Option<Activation> = Some(Activation::Relu);

fn shortcut_conv(channels: usize, stride: usize) -> ConvBlockConfig {
    ConvBlockConfig { kernel: 1, stride, ..ConvBlockConfig::new(channels) }
}

/// Convolutions whose output is added to their input.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// Two of 3x3, or 1x1, 3x3, 1x1.
    pub convs: Vec<ConvBlock>,
    /// A 1x1 convolution of the input, where it has weights.
    pub shortcut: Option<ConvBlock>,
    #[module(skip)]
    way: Shortcut,
}

impl ResidualBlock {
    /// `[N, C, H, W] -> [N, O, H', W']`
    pub(crate) fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let shortcut = match (&self.shortcut, self.way) {
            (Some(conv), _) => conv.forward(input.clone()),
            (None, Shortcut::Pad { stride, channels }) => pad_shortcut(input.clone(), stride, channels),
            (None, _) => input.clone(),
        };
        // A block has two convolutions or three.
        let Some((last, first)) = self.convs.split_last() else { return shortcut };
        let x = first.iter().fold(input, |x, conv| conv.forward(x));
        last.joined(x, shortcut)
    }
}

/// `[N, C, H, W] -> [N, C + channels, ceil(H / stride), ceil(W / stride)]`, half of the zeros before
/// the channels and half behind.
fn pad_shortcut(x: Tensor<4>, stride: usize, channels: usize) -> Tensor<4> {
    // The largest of one value is that value: a pooling that only drops rows and columns.
    let x = if stride == 1 { x } else { max_pool2d(x, MaxPoolOptions::new([1, 1]).with_stride([stride; 2])) };
    let [n, _, height, width] = x.dims();
    let zeros = |channels| Tensor::zeros([n, channels, height, width], &x.device());
    let before = channels / 2;
    Tensor::cat(vec![zeros(before), x.clone(), zeros(channels - before)], 1)
}

/// A residual network, see [`ResNetConfig`].
#[derive(Module, Debug)]
pub struct ResNet {
    /// The first convolution.
    pub stem: ConvBlock,
    /// The residual blocks of all stages.
    pub blocks: Vec<ResidualBlock>,
    /// The classifier: one output for each class.
    pub head: Linear,
    /// Before the head.
    pub dropout: Option<Dropout>,
}

impl ResNet {
    /// Images `[N, C, H, W]` to logits `[N, K]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let features = self.average(self.trunk(images)); // [N, O]
        linear(&self.head, features, kernels::Activation::None) // [N, K]
    }

    /// The stem and all blocks: `[N, C, H, W] -> [N, O, H', W']`.
    pub(crate) fn trunk(&self, images: Tensor<4>) -> Tensor<4> {
        self.blocks.iter().fold(self.stem.forward(images), |x, block| block.forward(x))
    }

    /// From the last block's output `[N, O, H', W']` to what the head sees, `[N, O]`.
    pub(crate) fn average(&self, x: Tensor<4>) -> Tensor<2> {
        let x = adaptive_avg_pool2d(x, [1, 1]).flatten(1, 3);
        match &self.dropout {
            Some(dropout) => dropout.forward(x),
            None => x,
        }
    }

    /// See [`crate::Network::folded`]. The last convolution of a block keeps its normalisation: one operator has that,
    /// the sum and the rectifier.
    pub(crate) fn folded(mut self) -> Self {
        self.stem = self.stem.folded();
        for block in &mut self.blocks {
            let last = block.convs.pop();
            block.convs =
                std::mem::take(&mut block.convs).into_iter().map(ConvBlock::folded).chain(last).collect();
            block.shortcut = block.shortcut.take().map(ConvBlock::folded);
        }
        self
    }

    /// See [`crate::Network::with_own_statistics`].
    pub(crate) fn with_own_statistics(mut self) -> Self {
        self.stem = self.stem.with_own_statistics();
        for block in &mut self.blocks {
            block.convs =
                std::mem::take(&mut block.convs).into_iter().map(ConvBlock::with_own_statistics).collect();
            block.shortcut = block.shortcut.take().map(ConvBlock::with_own_statistics);
        }
        self
    }
}
