//! The convolutional network: blocks of convolution, activation and pooling, then dense layers.

use burn::{
    module::{Module, RunningState},
    nn::{BatchNorm, Dropout, Linear, conv::Conv2d},
    tensor::{
        Device, Tensor,
        module::{avg_pool2d, max_pool2d},
        ops::{AvgPoolOptions, MaxPoolOptions},
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    Activation, Initialization, InputShape, ShapeError, Summary, initialization::Builder,
    shape::ShapeTrace,
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
        Self {
            channels,
            kernel: three(),
            stride: one(),
            padding: 0,
            pool: None,
            dropout: 0.0,
        }
    }
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

/// Which value stands for a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// The largest.
    #[default]
    Max,
    /// The mean; zeros of the padding count.
    Average,
}

/// A pooling with a square window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolConfig {
    /// Maximum or mean.
    pub kind: PoolKind,
    /// Side of the window.
    pub kernel: usize,
    /// Step of the window; the side of the window when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Padding on every side, at most half of the window.
    pub padding: usize,
}

impl Default for PoolConfig {
    /// Maximum over 2x2.
    fn default() -> Self {
        Self {
            kind: PoolKind::Max,
            kernel: 2,
            stride: None,
            padding: 0,
        }
    }
}

impl PoolConfig {
    /// Step of the window with its default applied.
    pub fn stride(&self) -> usize {
        self.stride.unwrap_or(self.kernel)
    }

    /// The pooling as the fused operators take it.
    fn fused(&self) -> kernels::Pool {
        let (kernel, stride, padding) = ([self.kernel; 2], [self.stride(); 2], [self.padding; 2]);
        match self.kind {
            PoolKind::Max => kernels::Pool::Max {
                kernel,
                stride,
                padding,
            },
            PoolKind::Average => kernels::Pool::Average {
                kernel,
                stride,
                padding,
            },
        }
    }

    /// `[N, C, H, W] -> [N, C, H', W']`
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (kernel, stride, padding) = ([self.kernel; 2], [self.stride(); 2], [self.padding; 2]);
        match self.kind {
            PoolKind::Max => {
                let options = MaxPoolOptions::new(kernel)
                    .with_stride(stride)
                    .with_padding(padding);
                max_pool2d(x, options)
            }
            PoolKind::Average => {
                let options = AvgPoolOptions::new(kernel)
                    .with_stride(stride)
                    .with_padding(padding)
                    .with_count_include_pad(true);
                avg_pool2d(x, options)
            }
        }
    }
}

/// What `init` needs beyond the configuration: sizes that follow from the input.
struct Plan {
    /// Inputs of each dense layer, the head last.
    dense_inputs: Vec<usize>,
    summary: Summary,
}

impl CnnConfig {
    /// See [`crate::NetworkConfig::summary`].
    pub(crate) fn summary(&self, input: InputShape, classes: usize) -> Result<Summary, ShapeError> {
        Ok(self.plan(input, classes)?.summary)
    }

    /// Follows the input's shape through all layers.
    fn plan(&self, input: InputShape, classes: usize) -> Result<Plan, ShapeError> {
        self.initialization.validate()?;
        if classes < 2 {
            return Err(ShapeError::Classes { classes });
        }
        let mut trace = ShapeTrace::new(input)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let name = |part: &str| format!("blocks.{index}.{part}");
            let ConvBlockConfig {
                channels,
                kernel,
                stride,
                padding,
                ref pool,
                dropout,
            } = *block;
            trace.conv(
                &name("conv"),
                channels,
                kernel,
                stride,
                padding,
                !self.batch_norm,
            )?;
            if self.batch_norm {
                trace.batch_norm(&name("norm"))?;
            }
            trace.activation(&name("activation"), self.activation)?;
            if let Some(pool) = pool {
                trace.pool(&name("pool"), pool)?;
            }
            trace.dropout(&name("dropout"), dropout)?;
        }

        let mut dense_inputs = Vec::with_capacity(self.dense.len() + 1);
        trace.flatten("flatten")?;
        if self.dense.is_empty() {
            trace.dropout("dropout", self.dropout)?;
        }
        for (index, &outputs) in self.dense.iter().enumerate() {
            let name = format!("dense.{index}");
            dense_inputs.push(trace.linear(&name, outputs)?);
            trace.activation(&format!("{name}.activation"), self.activation)?;
            trace.dropout(&format!("{name}.dropout"), self.dropout)?;
        }
        dense_inputs.push(trace.linear("head", classes)?);
        Ok(Plan {
            dense_inputs,
            summary: trace.finish(),
        })
    }

    /// Builds the network; without a seed all weights are zero.
    pub(crate) fn init(
        &self,
        input: InputShape,
        classes: usize,
        seed: Option<u64>,
        device: &Device,
    ) -> Result<Cnn, ShapeError> {
        let plan = self.plan(input, classes)?;
        let mut builder = Builder::new(self.initialization, seed, device);

        let mut inputs = input.channels;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let ConvBlockConfig {
                channels,
                kernel,
                stride,
                padding,
                pool,
                dropout,
            } = *block;
            blocks.push(ConvBlock {
                conv: builder.conv(
                    [inputs, channels],
                    kernel,
                    stride,
                    padding,
                    !self.batch_norm,
                ),
                norm: self.batch_norm.then(|| builder.batch_norm(channels)),
                dropout: builder.dropout(dropout),
                activation: self.activation,
                pool,
            });
            inputs = channels;
        }
        let outputs = self.dense.iter().copied().chain([classes]);
        let mut dense: Vec<Linear> = plan
            .dense_inputs
            .iter()
            .zip(outputs)
            .map(|(&inputs, outputs)| builder.linear(inputs, outputs))
            .collect();
        // The plan always ends with the head.
        let head = dense.remove(self.dense.len());
        Ok(Cnn {
            blocks,
            dense,
            head,
            dropout: builder.dropout(self.dropout),
            activation: self.activation,
        })
    }
}

/// One convolution with what follows it, see [`ConvBlockConfig`].
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// The convolution, weights `[O, I, K, K]`.
    pub conv: Conv2d,
    /// Batch normalisation before the activation.
    pub norm: Option<BatchNorm>,
    /// Dropout at the end of the block.
    pub dropout: Option<Dropout>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    pool: Option<PoolConfig>,
}

impl ConvBlock {
    /// `[N, C, H, W] -> [N, O, H', W']`. Activation and pooling run inside the convolution's
    /// operator as far as nothing stands between them.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (fused, rest) = match self.norm {
            Some(_) => (kernels::Activation::None, Some(self.activation)),
            None => self.activation.split(),
        };
        let pool = self.pool.filter(|_| rest.is_none());
        let options = kernels::ConvBlock {
            stride: self.conv.stride,
            padding: self.padding(),
            groups: self.conv.groups,
            activation: fused,
            pool: pool.map_or(kernels::Pool::None, |pool| pool.fused()),
        };
        let bias = self.conv.bias.as_ref().map(burn::module::Param::val);
        let mut x = kernels::conv_block(x, self.conv.weight.val(), bias, &options);

        if let Some(norm) = &self.norm {
            x = norm.forward(x);
        }
        if let Some(activation) = rest {
            x = activation.forward(x);
            if let Some(pool) = self.pool {
                x = pool.forward(x);
            }
        }
        match &self.dropout {
            Some(dropout) => dropout.forward(x),
            None => x,
        }
    }

    fn padding(&self) -> [usize; 2] {
        match self.conv.padding {
            burn::nn::PaddingConfig2d::Explicit(top, left, _, _) => [top, left],
            // The builder makes explicit padding only.
            _ => [0, 0],
        }
    }
}

/// A convolutional network, see [`CnnConfig`].
#[derive(Module, Debug)]
pub struct Cnn {
    /// The convolutions, from the image on.
    pub blocks: Vec<ConvBlock>,
    /// Dense layers between the last block and the head.
    pub dense: Vec<Linear>,
    /// The classifier: one output for each class.
    pub head: Linear,
    /// After every dense layer, or on the features where there is none.
    pub dropout: Option<Dropout>,
    #[module(skip)]
    activation: Activation,
}

impl Cnn {
    /// Images `[N, C, H, W]` to logits `[N, K]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = images; // [N, C, H, W]
        for block in &self.blocks {
            x = block.forward(x); // [N, O, H', W']
        }
        let mut x = x.flatten(1, 3); // [N, O * H' * W']
        if self.dense.is_empty() {
            x = self.drop(x);
        }
        for dense in &self.dense {
            let (fused, rest) = self.activation.split();
            x = linear(dense, x, fused); // [N, features]
            if let Some(activation) = rest {
                x = activation.forward(x);
            }
            x = self.drop(x);
        }
        linear(&self.head, x, kernels::Activation::None) // [N, K]
    }

    fn drop(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.dropout {
            Some(dropout) => dropout.forward(x),
            None => x,
        }
    }

    /// Merges what the training threads have added to the running statistics, and separates them
    /// from those of clones, which share them.
    pub(crate) fn with_own_statistics(mut self) -> Self {
        for norm in self
            .blocks
            .iter_mut()
            .filter_map(|block| block.norm.as_mut())
        {
            norm.running_mean = own(&norm.running_mean);
            norm.running_var = own(&norm.running_var);
        }
        self
    }
}

/// `[N, I] -> [N, O]`
fn linear(layer: &Linear, x: Tensor<2>, activation: kernels::Activation) -> Tensor<2> {
    let bias = layer.bias.as_ref().map(burn::module::Param::val);
    kernels::linear(x, layer.weight.val(), bias, activation)
}

fn own(statistic: &RunningState<Tensor<1>>) -> RunningState<Tensor<1>> {
    // `valid` merges and copies; `train` only puts the copy back on the device it came from.
    let copy = statistic.valid();
    if statistic.value().device().is_autodiff() {
        copy.train()
    } else {
        copy
    }
}
