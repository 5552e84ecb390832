//! The convolutional network: blocks of convolution, activation and pooling, then dense layers.

use burn::{
    module::{Module, Param, RunningState},
    nn::{BatchNorm, Dropout, Linear, conv::Conv2d},
    tensor::{Device, Tensor, module::adaptive_avg_pool2d},
};
use serde::{Deserialize, Serialize};

use crate::{
    Activation, Initialization, InputShape, ShapeError, Summary, initialization::Builder, norm,
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
        Self { channels, kernel: three(), stride: one(), padding: 0, pool: None, dropout: 0.0 }
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
        Self { kind: PoolKind::Max, kernel: 2, stride: None, padding: 0 }
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
            PoolKind::Max => kernels::Pool::Max { kernel, stride, padding },
            PoolKind::Average => kernels::Pool::Average { kernel, stride, padding },
        }
    }

    /// `[N, C, H, W] -> [N, C, H', W']`
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        kernels::pool(x, self.fused())
    }
}

impl CnnConfig {
    /// The layers that this configuration stands for.
    pub(crate) fn layout(&self) -> Layout {
        let dense = self.dense.len();
        Layout {
            blocks: self.blocks.clone(),
            conv_bias: !self.batch_norm,
            batch_norm: self.batch_norm,
            grid: None,
            dense: self.dense.clone(),
            dropout: self.dropout,
            dropped: (0..=dense).map(|index| index > 0 || dense == 0).collect(),
            activation: self.activation,
            initialization: self.initialization,
        }
    }
}

/// The layers of a [`Cnn`]. Published architectures of the same form are configurations of their own
/// that come down to this.
pub(crate) struct Layout {
    /// The convolutions, from the image on.
    pub(crate) blocks: Vec<ConvBlockConfig>,
    /// Whether convolutions have a bias.
    pub(crate) conv_bias: bool,
    /// Batch normalisation between every convolution and its activation.
    pub(crate) batch_norm: bool,
    /// Rows and columns to which the output of the last block is averaged, whatever its size
    /// (`PyTorch`'s `AdaptiveAvgPool2d`).
    pub(crate) grid: Option<usize>,
    /// Outputs of the dense layers before the head.
    pub(crate) dense: Vec<usize>,
    /// Probability in `[0, 1)`.
    pub(crate) dropout: f64,
    /// Whether dropout acts on the input of each dense layer, the head last.
    pub(crate) dropped: Vec<bool>,
    /// After every convolution and every dense layer but the head.
    pub(crate) activation: Activation,
    /// How weights are drawn.
    pub(crate) initialization: Initialization,
}

/// What `init` needs beyond the layout: sizes that follow from the input.
struct Plan {
    /// Inputs of each dense layer, the head last.
    dense_inputs: Vec<usize>,
    summary: Summary,
}

impl Layout {
    /// See [`crate::NetworkConfig::summary`].
    pub(crate) fn summary(&self, input: InputShape, classes: usize) -> Result<Summary, ShapeError> {
        Ok(self.plan(input, classes)?.summary)
    }

    /// Follows the input's shape through all layers.
    fn plan(&self, input: InputShape, classes: usize) -> Result<Plan, ShapeError> {
        self.initialization.validate()?;
        let mut trace = ShapeTrace::new(input, classes)?;
        for (index, block) in self.blocks.iter().enumerate() {
            trace.conv_block(
                &format!("blocks.{index}"),
                block,
                self.conv_bias,
                self.batch_norm,
                Some(self.activation),
            )?;
        }
        if let Some(side) = self.grid {
            trace.grid("grid", side)?;
        }

        let mut dense_inputs = Vec::with_capacity(self.dense.len() + 1);
        trace.flatten("flatten")?;
        let dropout = |index: usize| if self.dropped[index] { self.dropout } else { 0.0 };
        trace.dropout("dropout", dropout(0))?;
        for (index, &outputs) in self.dense.iter().enumerate() {
            let name = format!("dense.{index}");
            dense_inputs.push(trace.linear(&name, outputs)?);
            trace.activation(&format!("{name}.activation"), self.activation)?;
            trace.dropout(&format!("{name}.dropout"), dropout(index + 1))?;
        }
        dense_inputs.push(trace.linear("head", classes)?);
        Ok(Plan { dense_inputs, summary: trace.finish()? })
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
            blocks.push(builder.conv_block(
                inputs,
                block,
                self.conv_bias,
                self.batch_norm,
                Some(self.activation),
            ));
            inputs = block.channels;
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
            dropped: self.dropped.clone(),
            grid: self.grid,
            activation: self.activation,
        })
    }
}

impl ShapeTrace {
    /// Adds a convolution with what follows it; `activation` none is the identity.
    pub(crate) fn conv_block(
        &mut self,
        prefix: &str,
        block: &ConvBlockConfig,
        bias: bool,
        batch_norm: bool,
        activation: Option<Activation>,
    ) -> Result<(), ShapeError> {
        let name = |part: &str| format!("{prefix}.{part}");
        let ConvBlockConfig { channels, kernel, stride, padding, ref pool, dropout } = *block;
        self.conv(&name("conv"), channels, kernel, stride, padding, bias)?;
        if batch_norm {
            self.batch_norm(&name("norm"))?;
        }
        if let Some(activation) = activation {
            self.activation(&name("activation"), activation)?;
        }
        if let Some(pool) = pool {
            self.pool(&name("pool"), pool)?;
        }
        self.dropout(&name("dropout"), dropout)
    }
}

impl Builder<'_> {
    /// A convolution of `inputs` channels with what follows it.
    pub(crate) fn conv_block(
        &mut self,
        inputs: usize,
        block: &ConvBlockConfig,
        bias: bool,
        batch_norm: bool,
        activation: Option<Activation>,
    ) -> ConvBlock {
        let ConvBlockConfig { channels, kernel, stride, padding, pool, dropout } = *block;
        ConvBlock {
            conv: self.conv([inputs, channels], kernel, stride, padding, bias),
            norm: batch_norm.then(|| self.batch_norm(channels)),
            dropout: self.dropout(dropout),
            activation,
            pool,
        }
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
    activation: Option<Activation>,
    #[module(skip)]
    pool: Option<PoolConfig>,
}

impl ConvBlock {
    /// `[N, C, H, W] -> [N, O, H', W']`. Activation and pooling run inside the convolution's
    /// operator as far as nothing stands between them.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_before(x, None)
    }

    /// [`Self::forward`], for a block whose output goes to `next`.
    fn forward_before(&self, x: Tensor<4>, next: Option<&Self>) -> Tensor<4> {
        let Some(whole) = self.whole() else {
            return self.finish(self.maps(x));
        };
        match next {
            Some(next) if self.dropout.is_none() => {
                let reader = next.whole().unwrap_or_else(|| next.operator(kernels::Pool::None));
                let weight = self.conv.weight.val();
                let next_weight = next.conv.weight.val().dims();
                kernels::conv_block_before(x, weight, self.bias(), &whole, next_weight, &reader)
            }
            _ => self.drop(kernels::conv_block(x, self.conv.weight.val(), self.bias(), &whole)),
        }
    }

    /// All but the dropout as one operator, where it is one.
    fn whole(&self) -> Option<kernels::ConvBlock> {
        let (_, rest) = self.fused();
        let pool = self.pool.map_or(kernels::Pool::None, |pool| pool.fused());
        (self.norm.is_none() && rest.is_none()).then(|| self.operator(pool))
    }

    /// `[N, C, H, W] -> [N, O, H', W']`: convolution, normalisation and activation, before the pooling.
    pub(crate) fn maps(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.convolve(x);
        let (fused, rest) = self.activation.map_or((kernels::Activation::None, None), Activation::split);
        let x = match &self.norm {
            Some(norm) => norm::forward(norm, x, None, fused),
            None => x,
        };
        match rest {
            Some(activation) => activation.forward(x),
            None => x,
        }
    }

    /// `relu(normalised convolution of x + shortcut)`, the end of a residual block, in one operator.
    pub(crate) fn joined(&self, x: Tensor<4>, shortcut: Tensor<4>) -> Tensor<4> {
        let x = self.convolve(x);
        match &self.norm {
            Some(norm) => norm::forward(norm, x, Some(shortcut), kernels::Activation::Relu),
            None => Activation::Relu.forward(x + shortcut),
        }
    }

    /// From [`Self::maps`] to the block's output.
    pub(crate) fn finish(&self, maps: Tensor<4>) -> Tensor<4> {
        self.drop(match self.pool {
            Some(pool) => pool.forward(maps),
            None => maps,
        })
    }

    /// The activation inside the convolution's operator, and the one that is left to do after it.
    fn fused(&self) -> (kernels::Activation, Option<Activation>) {
        match (&self.norm, self.activation) {
            (None, Some(activation)) => activation.split(),
            (_, activation) => (kernels::Activation::None, activation),
        }
    }

    fn operator(&self, pool: kernels::Pool) -> kernels::ConvBlock {
        kernels::ConvBlock {
            stride: self.conv.stride,
            padding: self.padding(),
            groups: self.conv.groups,
            activation: self.fused().0,
            pool,
        }
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.conv.bias.as_ref().map(Param::val)
    }

    /// The convolution, with its activation if nothing comes before that.
    fn convolve(&self, x: Tensor<4>) -> Tensor<4> {
        let operator = self.operator(kernels::Pool::None);
        kernels::conv_block(x, self.conv.weight.val(), self.bias(), &operator)
    }

    fn drop(&self, x: Tensor<4>) -> Tensor<4> {
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

    /// See [`crate::Network::folded`]: `gamma (w * x + b - mean) / sqrt(variance + epsilon) + beta` is a convolution
    /// with other weights and another bias.
    pub(crate) fn folded(mut self) -> Self {
        let Some(norm) = self.norm.take() else { return self };
        let factor = norm.gamma.val() / (norm.running_var.value() + norm.epsilon).sqrt(); // [O]
        let mean = norm.running_mean.value();
        let centred = match self.bias() {
            Some(bias) => bias - mean,
            None => -mean,
        };
        let bias = centred * factor.clone() + norm.beta.val();
        let outputs = factor.dims()[0];
        let weight = self.conv.weight.val() * factor.reshape([outputs, 1, 1, 1]);
        self.conv.weight = Param::from_tensor(weight);
        self.conv.bias = Some(Param::from_tensor(bias));
        self
    }

    /// See [`crate::Network::with_own_statistics`].
    pub(crate) fn with_own_statistics(mut self) -> Self {
        if let Some(norm) = &mut self.norm {
            norm.running_mean = own(&norm.running_mean);
            norm.running_var = own(&norm.running_var);
        }
        self
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
    /// Before some of the dense layers and the head.
    pub dropout: Option<Dropout>,
    #[module(skip)]
    dropped: Vec<bool>,
    #[module(skip)]
    grid: Option<usize>,
    #[module(skip)]
    activation: Activation,
}

impl Cnn {
    /// Images `[N, C, H, W]` to logits `[N, K]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let features = self.flat_features(self.trunk(images)); // [N, features]
        linear(&self.head, features, kernels::Activation::None) // [N, K]
    }

    /// All blocks: `[N, C, H, W] -> [N, O, H', W']`.
    pub(crate) fn trunk(&self, images: Tensor<4>) -> Tensor<4> {
        let mut x = images;
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward_before(x, self.blocks.get(index + 1));
        }
        x
    }

    /// From the last block's output `[N, O, H', W']` to what the head sees, `[N, features]`.
    pub(crate) fn flat_features(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = average_to(x, self.grid).flatten(1, 3); // [N, O * H' * W']
        for (index, dense) in self.dense.iter().enumerate() {
            x = dense_layer(dense, self.drop(x, index), self.activation); // [N, features]
        }
        self.drop(x, self.dense.len())
    }

    fn drop(&self, x: Tensor<2>, index: usize) -> Tensor<2> {
        match &self.dropout {
            Some(dropout) if self.dropped[index] => dropout.forward(x),
            _ => x,
        }
    }

    /// See [`crate::Network::folded`].
    pub(crate) fn folded(mut self) -> Self {
        self.blocks = self.blocks.into_iter().map(ConvBlock::folded).collect();
        self
    }

    /// Merges what the training threads have added to the running statistics, and separates them
    /// from those of clones, which share them.
    pub(crate) fn with_own_statistics(mut self) -> Self {
        self.blocks = self.blocks.into_iter().map(ConvBlock::with_own_statistics).collect();
        self
    }
}

/// Averages `[N, C, H, W]` to `[N, C, side, side]`; the identity where that is its size, or where no
/// side is asked for.
fn average_to(x: Tensor<4>, side: Option<usize>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    match side {
        Some(side) if [height, width] != [side; 2] => adaptive_avg_pool2d(x, [side; 2]),
        _ => x,
    }
}

/// A dense layer with its activation: `[N, I] -> [N, O]`
pub(crate) fn dense_layer(layer: &Linear, x: Tensor<2>, activation: Activation) -> Tensor<2> {
    let (fused, rest) = activation.split();
    let x = linear(layer, x, fused);
    match rest {
        Some(activation) => activation.forward(x),
        None => x,
    }
}

/// `[N, I] -> [N, O]`
pub(crate) fn linear(layer: &Linear, x: Tensor<2>, activation: kernels::Activation) -> Tensor<2> {
    let bias = layer.bias.as_ref().map(Param::val);
    kernels::linear(x, layer.weight.val(), bias, activation)
}

fn own(statistic: &RunningState<Tensor<1>>) -> RunningState<Tensor<1>> {
    // `valid` merges and copies; `train` only puts the copy back on the device it came from.
    let copy = statistic.valid();
    if statistic.value().device().is_autodiff() { copy.train() } else { copy }
}

#[cfg(test)]
mod tests {
    use burn::{
        module::{Flag, ModuleVisitor},
        optim::{AdamConfig, GradientsParams},
        tensor::{Int, TensorData},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{Network, NetworkConfig, named_tensors};

    const MNIST: InputShape = InputShape::new(1, 28, 28);

    impl CnnConfig {
        fn summary(&self, input: InputShape, classes: usize) -> Result<Summary, ShapeError> {
            self.layout().summary(input, classes)
        }

        fn init(
            &self,
            input: InputShape,
            classes: usize,
            seed: Option<u64>,
            device: &Device,
        ) -> Result<Cnn, ShapeError> {
            self.layout().init(input, classes, seed, device)
        }
    }

    fn block(channels: usize) -> ConvBlockConfig {
        ConvBlockConfig::new(channels)
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is the value of a field")]
    fn max_pool() -> Option<PoolConfig> {
        Some(PoolConfig::default())
    }

    /// Reproducible values between -1 and 1.
    fn noise(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn images(n: usize, input: InputShape, seed: u64, device: &Device) -> Tensor<4> {
        let shape = [n, input.channels, input.height, input.width];
        Tensor::from_data(TensorData::new(noise(n * input.len(), seed), shape), device)
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn the_default_net_is_the_tutorials_net() {
        let summary = CnnConfig::default().summary(MNIST, 10).unwrap();
        assert_eq!(summary.parameters(), 34_826);
        let rows: Vec<_> = summary.layers.iter().map(|l| (l.name.as_str(), &l.output[..], l.macs)).collect();
        let expected: [(&str, &[usize], u64); 9] = [
            ("input", &[1, 28, 28], 0),
            ("blocks.0.conv", &[32, 26, 26], 32 * 26 * 26 * 9),
            ("blocks.0.activation", &[32, 26, 26], 0),
            ("blocks.0.pool", &[32, 13, 13], 0),
            ("blocks.1.conv", &[64, 11, 11], 64 * 11 * 11 * 32 * 9),
            ("blocks.1.activation", &[64, 11, 11], 0),
            ("blocks.1.pool", &[64, 5, 5], 0),
            ("flatten", &[1600], 0),
            ("head", &[10], 1600 * 10),
        ];
        assert_eq!(rows, expected);
        assert_eq!(summary.macs(), 2_440_960);

        let dense = CnnConfig { dense: vec![128], ..CnnConfig::default() };
        let summary = dense.summary(MNIST, 10).unwrap();
        assert_eq!(summary.parameters(), 225_034);
        // 194,688 + 2,230,272 + 1600 * 128 + 128 * 10
        assert_eq!(summary.macs(), 2_631_040);
    }

    #[test]
    fn macs_and_parameters_with_stride_padding_and_batch_norm() {
        let config = CnnConfig {
            blocks: vec![ConvBlockConfig { kernel: 5, stride: 2, padding: 2, ..block(6) }],
            batch_norm: true,
            ..CnnConfig::default()
        };
        // Rows: (9 + 4 - 5) / 2 + 1 = 5; columns: (12 + 4 - 5) / 2 + 1 = 6.
        let summary = config.summary(InputShape::new(3, 9, 12), 4).unwrap();
        let [_, conv, norm, ..] = &summary.layers[..] else { panic!("too few layers") };
        assert_eq!((&conv.output[..], conv.parameters), (&[6, 5, 6][..], 6 * 3 * 25));
        assert_eq!(conv.macs, 6 * 5 * 6 * 3 * 25);
        // Scale and shift are trained, the running mean and variance are not.
        assert_eq!((norm.parameters, norm.tensors.len()), (12, 4));
        assert_eq!(summary.parameters(), 450 + 12 + (180 * 4 + 4));
        assert_eq!(summary.macs(), 13_500 + 720);
    }

    #[test]
    fn impossible_nets_name_the_layer_and_the_sizes() {
        let net = |blocks| CnnConfig { blocks, ..CnnConfig::default() };
        let pooled = |channels| ConvBlockConfig { pool: max_pool(), ..block(channels) };
        let cases = [
            (
                net(vec![pooled(4), pooled(4), pooled(4), pooled(4)]),
                "blocks.3.conv: a 3x3 kernel does not fit into its 1x1 input with padding 0",
            ),
            (
                net(vec![pooled(4), pooled(4), ConvBlockConfig { kernel: 5, ..pooled(4) }]),
                "blocks.2.pool: a 2x2 kernel does not fit into its 1x1 input",
            ),
            (net(vec![block(0)]), "blocks.0.conv: `channels` is 0"),
            (net(vec![ConvBlockConfig { kernel: 0, ..block(1) }]), "blocks.0.conv: `kernel` is 0"),
            (net(vec![ConvBlockConfig { stride: 0, ..block(1) }]), "blocks.0.conv: `stride` is 0"),
            (
                net(vec![ConvBlockConfig {
                    pool: Some(PoolConfig { kernel: 0, ..PoolConfig::default() }),
                    ..block(1)
                }]),
                "blocks.0.pool: `kernel` is 0",
            ),
            (
                net(vec![ConvBlockConfig {
                    pool: Some(PoolConfig { stride: Some(0), ..PoolConfig::default() }),
                    ..block(1)
                }]),
                "blocks.0.pool: `stride` is 0",
            ),
            (
                net(vec![ConvBlockConfig {
                    pool: Some(PoolConfig { padding: 2, ..PoolConfig::default() }),
                    ..block(1)
                }]),
                "blocks.0.pool: padding 2 is more than half of the kernel 2, so that a window could hold padding only; use at most 1",
            ),
            (net(vec![ConvBlockConfig { dropout: 1.0, ..block(1) }]), "blocks.0.dropout: `dropout` is 1;"),
            (CnnConfig { dropout: f64::NAN, ..CnnConfig::default() }, "dropout: `dropout` is NaN"),
            (CnnConfig { dense: vec![8, 0], ..CnnConfig::default() }, "dense.1: `outputs` is 0"),
            (
                CnnConfig { dense: vec![usize::MAX], ..CnnConfig::default() },
                "dense.0: output values for one image exceed the limit of 16777216",
            ),
            (
                CnnConfig { dense: vec![1 << 24, 1 << 24], ..CnnConfig::default() },
                "dense.0: the parameters so far exceed the limit of 2147483648",
            ),
            (net(vec![block(usize::MAX)]), "blocks.0.conv: output values for one image exceed"),
            (
                net(vec![ConvBlockConfig { padding: usize::MAX, ..block(1) }]),
                "blocks.0.conv: values of the padded input exceed the limit of 16777216",
            ),
            (
                net(vec![ConvBlockConfig { kernel: 1, stride: 9999, padding: 9999, ..block(1) }]),
                "blocks.0.conv: values of the padded input exceed",
            ),
            (
                net(vec![ConvBlockConfig { kernel: 100, padding: 1000, ..block(1) }]),
                "blocks.0.conv: the values under all kernel positions exceed",
            ),
            (
                CnnConfig { initialization: Initialization::Normal { std: 0.0 }, ..CnnConfig::default() },
                "initialization: `std` is 0; it must be positive and finite",
            ),
        ];
        let device = Device::flex();
        for (config, message) in cases {
            let error = config.summary(MNIST, 10).unwrap_err();
            assert!(error.to_string().contains(message), "{error}\nexpected {message}");
            let init = config.init(MNIST, 10, Some(1), &device).unwrap_err();
            assert_eq!(error.to_string(), init.to_string());
        }
        let default = CnnConfig::default();
        let message = |input, classes| default.summary(input, classes).unwrap_err().to_string();
        assert_eq!(message(MNIST, 1), "head: 1 classes; a classifier needs at least 2");
        assert!(message(InputShape::new(0, 28, 28), 10).starts_with("input: `channels` is 0"));
        assert!(message(InputShape::new(1, usize::MAX, 2), 10).starts_with("input: output values"));
        assert!(
            message(InputShape::new(1, 28, 2), 10)
                .starts_with("blocks.0.conv: a 3x3 kernel does not fit into its 28x2 input")
        );
    }

    #[test]
    fn without_blocks_it_is_a_dense_net() {
        let config = CnnConfig { blocks: vec![], dense: vec![30], ..CnnConfig::default() };
        assert_eq!(config.summary(MNIST, 10).unwrap().parameters(), 785 * 30 + 310);
        let net = config.init(MNIST, 10, Some(1), &Device::flex()).unwrap();
        assert_eq!(net.forward(images(3, MNIST, 1, &Device::flex())).dims(), [3, 10]);
    }

    /// Worked example of the tutorials: the frameworks' convolution is a cross-correlation.
    #[test]
    fn the_worked_example_gives_the_known_result() {
        let config =
            CnnConfig { blocks: vec![ConvBlockConfig { kernel: 2, ..block(1) }], ..CnnConfig::default() };
        let device = Device::flex();
        let net = config.init(InputShape::new(1, 3, 3), 2, None, &device).unwrap();
        let mut block = net.blocks[0].clone();
        block.conv.weight = Param::from_data([[[[1.0, 0.0], [0.0, 1.0]]]], &device);
        let x = Tensor::<4>::from_floats([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]], &device);
        assert_eq!(values(block.forward(x)), [6.0, 8.0, 12.0, 14.0]);
    }

    /// Pooling straight from its definition; padding never wins a maximum and counts as zero in a
    /// mean.
    fn naive_pool(x: &[f32], [n, h, w]: [usize; 3], pool: &PoolConfig) -> Vec<f32> {
        let (kernel, stride, padding) = (pool.kernel, pool.stride(), pool.padding);
        let mut out = vec![];
        for plane in x.chunks_exact(h * w).take(n) {
            for top in (0..=h + 2 * padding - kernel).step_by(stride) {
                for left in (0..=w + 2 * padding - kernel).step_by(stride) {
                    let mut window = vec![];
                    for row in top..top + kernel {
                        for column in left..left + kernel {
                            if (padding..h + padding).contains(&row)
                                && (padding..w + padding).contains(&column)
                            {
                                window.push(plane[(row - padding) * w + column - padding]);
                            }
                        }
                    }
                    out.push(match pool.kind {
                        PoolKind::Max => window.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                        PoolKind::Average => window.iter().sum::<f32>() / (kernel * kernel) as f32,
                    });
                }
            }
        }
        out
    }

    /// Convolution straight from its definition, for one image.
    fn naive_conv(
        x: &[f32],
        input: InputShape,
        weight: &[f32],
        bias: &[f32],
        config: &ConvBlockConfig,
    ) -> Vec<f32> {
        let InputShape { channels, height, width } = input;
        let ConvBlockConfig { kernel, stride, padding, .. } = *config;
        let mut out = vec![];
        for (o, bias) in bias.iter().enumerate() {
            for top in (0..=height + 2 * padding - kernel).step_by(stride) {
                for left in (0..=width + 2 * padding - kernel).step_by(stride) {
                    let mut sum = f64::from(*bias);
                    for c in 0..channels {
                        for k in 0..kernel {
                            for l in 0..kernel {
                                let (row, column) = (top + k, left + l);
                                if row < padding || column < padding {
                                    continue;
                                }
                                let (row, column) = (row - padding, column - padding);
                                if row < height && column < width {
                                    let w = weight[((o * channels + c) * kernel + k) * kernel + l];
                                    sum += f64::from(w) * f64::from(x[(c * height + row) * width + column]);
                                }
                            }
                        }
                    }
                    out.push(sum as f32);
                }
            }
        }
        out
    }

    fn assert_close(found: &[f32], expected: &[f32]) -> Result<(), TestCaseError> {
        prop_assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            prop_assert!(
                (found - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                "{index}: {found}, expected {expected}"
            );
        }
        Ok(())
    }

    prop_compose! {
        fn any_pool()(kernel in 1usize..5)
            (kind in prop_oneof![Just(PoolKind::Max), Just(PoolKind::Average)], kernel in Just(kernel),
             stride in proptest::option::of(1usize..4), padding in 0..=kernel / 2) -> PoolConfig {
            PoolConfig { kind, kernel, stride, padding }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Both ways to a pooling, Burn's operator and the fused one behind a 1x1 identity.
        #[test]
        fn pooling_equals_its_definition(pool in any_pool(), n in 1usize..4, h in 4usize..14, w in 4usize..14, seed: u64) {
            let device = Device::flex();
            let x = images(n, InputShape::new(1, h, w), seed, &device);
            let expected = naive_pool(&values(x.clone()), [n, h, w], &pool);
            assert_close(&values(pool.forward(x.clone())), &expected)?;
            let identity = Tensor::<4>::ones([1, 1, 1, 1], &device);
            let options = kernels::ConvBlock {
                stride: [1, 1], padding: [0, 0], groups: 1, activation: kernels::Activation::None, pool: pool.fused(),
            };
            assert_close(&values(kernels::conv_block(x, identity, None, &options)), &expected)?;
        }

        /// A whole block with every activation, fused and not, against the definitions.
        #[test]
        fn a_block_equals_its_definition(
            activation in prop_oneof![Just(Activation::Relu), Just(Activation::Tanh), Just(Activation::Gelu)],
            pool in proptest::option::of(any_pool()),
            channels in 1usize..4, kernel in 1usize..4, stride in 1usize..3, padding in 0usize..3,
            inputs in 1usize..3, h in 9usize..13, w in 9usize..13, seed: u64,
        ) {
            let config = CnnConfig {
                blocks: vec![ConvBlockConfig { channels, kernel, stride, padding, pool, dropout: 0.0 }],
                activation,
                initialization: Initialization::FanInUniform,
                ..CnnConfig::default()
            };
            let (device, input) = (Device::flex(), InputShape::new(inputs, h, w));
            let net = config.init(input, 2, Some(seed), &device).unwrap();
            let block = &net.blocks[0];
            let x = images(1, input, seed, &device);
            let weight = values(block.conv.weight.val());
            let bias = values(block.conv.bias.as_ref().unwrap().val());
            let conv = naive_conv(&values(x.clone()), input, &weight, &bias, &config.blocks[0]);
            let summary = config.summary(input, 2).unwrap();
            let [_, h, w] = summary.layers[1].output[..] else { panic!("a convolution puts out [C, H, W]") };
            let shape = [channels, h, w];
            let conv = Tensor::<3>::from_data(TensorData::new(conv, shape), &device);
            let mut expected = values(activation.forward(conv));
            if let Some(pool) = pool {
                expected = naive_pool(&expected, shape, &pool);
            }
            assert_close(&values(block.forward(x)), &expected)?;
        }

        /// What the summary promises, the network does: shape of the output, names and shapes of
        /// all tensors in the order of a visit.
        #[test]
        fn network_and_summary_agree(
            blocks in proptest::collection::vec(
                (1usize..5, 1usize..4, 1usize..3, 0usize..2, proptest::option::of(any_pool()), prop_oneof![Just(0.0), Just(0.3)]), 0..4),
            dense in proptest::collection::vec(1usize..9, 0..3),
            dropout in prop_oneof![Just(0.0), Just(0.5)],
            batch_norm: bool,
            classes in 2usize..5,
            h in 1usize..16,
            w in 1usize..16,
        ) {
            let blocks = blocks.into_iter().map(|(channels, kernel, stride, padding, pool, dropout)| {
                ConvBlockConfig { channels, kernel, stride, padding, pool, dropout }
            }).collect();
            let config = CnnConfig { blocks, dense, dropout, batch_norm, ..CnnConfig::default() };
            let (device, input) = (Device::flex(), InputShape::new(2, h, w));
            let Ok(summary) = config.summary(input, classes) else {
                prop_assert!(config.init(input, classes, Some(1), &device).is_err());
                return Ok(());
            };
            let network = Network::Cnn(config.init(input, classes, Some(1), &device).unwrap());
            let found: Vec<_> = crate::record::tensors_in_order(&network)
                .into_iter().map(|(name, data)| (name, data.shape().to_vec())).collect();
            let expected: Vec<_> = summary.tensors().map(|t| (t.name.clone(), t.shape.clone())).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(network.forward(images(2, input, 1, &device)).dims(), [2, classes]);
        }
    }

    /// Ids of all parameters, running statistics and flags in the order of a visit.
    #[derive(Default)]
    struct Ids(Vec<u64>);

    impl ModuleVisitor for Ids {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.id.val());
        }

        fn visit_flag(&mut self, flag: &Param<Flag>) {
            self.0.push(flag.id.val());
        }
    }

    #[test]
    fn parameter_ids_count_from_one_in_the_order_of_a_visit() {
        let config = CnnConfig {
            blocks: vec![ConvBlockConfig { dropout: 0.1, ..block(2) }, block(3)],
            dense: vec![5],
            dropout: 0.5,
            batch_norm: true,
            ..CnnConfig::default()
        };
        let net = config.init(MNIST, 10, Some(1), &Device::flex().autodiff()).unwrap();
        let mut ids = Ids::default();
        net.visit(&mut ids);
        assert_eq!(ids.0, (1..=18).collect::<Vec<_>>());
    }

    #[test]
    fn weights_depend_on_the_seed_alone() {
        let config = NetworkConfig::default();
        let init = |seed, device: &Device| named_tensors(&config.init(MNIST, 10, seed, device).unwrap());
        let device = Device::flex();
        let first = init(1, &device);
        device.seed(99);
        assert_eq!(first, init(1, &device));
        assert_eq!(first, init(1, &device.clone().autodiff()));
        assert_ne!(first, init(2, &device));
        // Another head leaves the other weights as they were.
        let other = named_tensors(&config.init(MNIST, 7, 1, &device).unwrap());
        assert_eq!(first[..4], other[..4]);
        assert_eq!(first[3].0, "blocks.1.conv.weight");
    }

    #[test]
    fn every_weight_is_trained_on_an_autodiff_device() {
        let config = CnnConfig { dense: vec![6], batch_norm: true, ..CnnConfig::default() };
        let device = Device::flex().autodiff();
        let net = config.init(MNIST, 10, Some(1), &device).unwrap();
        let loss =
            kernels::cross_entropy(net.forward(images(4, MNIST, 1, &device)), targets(4, &device), None, 0.0);
        let gradients = GradientsParams::from_grads(loss.backward(), &net);
        // Two convolutions without bias, two norms of two, two dense layers of two.
        assert_eq!(gradients.len(), 2 + 4 + 4);
    }

    fn targets(n: usize, device: &Device) -> Tensor<1, Int> {
        let classes: Vec<i32> = (0..n as i32).map(|i| i % 10).collect();
        Tensor::from_data(TensorData::new(classes, [n]), device)
    }

    #[test]
    fn dropout_acts_in_training_only() {
        let config = CnnConfig {
            blocks: vec![ConvBlockConfig { dropout: 0.5, pool: max_pool(), ..block(4) }],
            dense: vec![16],
            dropout: 0.5,
            ..CnnConfig::default()
        };
        let device = Device::flex().autodiff();
        let net = config.init(MNIST, 10, Some(1), &device).unwrap();
        let x = images(2, MNIST, 1, &device);
        device.seed(1);
        let first = values(net.forward(x.clone()));
        assert_ne!(first, values(net.forward(x.clone())));
        device.seed(1);
        assert_eq!(first, values(net.forward(x.clone())));

        let evaluated = net.valid();
        let x = images(2, MNIST, 1, &Device::flex());
        let logits = values(evaluated.forward(x.clone()));
        assert_eq!(logits, values(evaluated.forward(x.clone())));
        let without = CnnConfig {
            dropout: 0.0,
            blocks: vec![ConvBlockConfig { pool: max_pool(), ..block(4) }],
            ..config
        };
        // Flags take ids, so the streams differ: move the weights over instead of drawing them.
        let without = Network::Cnn(without.init(MNIST, 10, None, &Device::flex()).unwrap());
        let without = crate::load(without, &named_tensors(&Network::Cnn(evaluated))).unwrap();
        assert_eq!(logits, values(without.forward(x)));
    }

    #[test]
    fn batch_norm_uses_the_batch_in_training_and_its_statistics_in_evaluation() {
        let config = CnnConfig { blocks: vec![block(3)], batch_norm: true, ..CnnConfig::default() };
        let device = Device::flex().autodiff();
        let net = config.init(MNIST, 10, Some(1), &device).unwrap();
        let x = images(8, MNIST, 1, &device);
        let before = values(net.valid().forward(x.clone().inner()));
        for _ in 0..200 {
            net.forward(x.clone());
        }
        let after = values(net.valid().forward(x.clone().inner()));
        assert_ne!(before, after);
        // After 200 times the same batch the statistics are the batch's, but for the correction of
        // the variance by n / (n - 1) with n = 8 * 26 * 26.
        for (after, trained) in after.iter().zip(values(net.forward(x))) {
            assert!((after - trained).abs() < 2e-3, "{after}, in training {trained}");
        }
    }

    #[test]
    fn one_batch_is_learned_by_heart() {
        for (batch_norm, activation) in [(false, Activation::Relu), (true, Activation::Silu)] {
            let config = CnnConfig {
                blocks: vec![
                    ConvBlockConfig { pool: max_pool(), ..block(6) },
                    ConvBlockConfig { pool: max_pool(), ..block(8) },
                ],
                dense: vec![16],
                activation,
                batch_norm,
                ..CnnConfig::default()
            };
            let device = Device::flex().autodiff();
            let input = InputShape::new(1, 14, 14);
            let mut net = Network::Cnn(config.init(input, 10, Some(1), &device).unwrap());
            let mut optimizer = AdamConfig::new().init();
            let (x, y) = (images(20, input, 3, &device), targets(20, &device));
            let mut losses = vec![];
            for _ in 0..80 {
                let loss = kernels::cross_entropy(net.forward(x.clone()), y.clone(), None, 0.0);
                losses.push(values(loss.clone())[0]);
                let gradients = GradientsParams::from_grads(loss.backward(), &net);
                net = optimizer.step(1e-2, net, gradients);
            }
            let last = losses[losses.len() - 1];
            assert!(losses[0] > 1.5 && last < 0.02, "from {} to {last}", losses[0]);
        }
    }
}
