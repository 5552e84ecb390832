//! The steps of a plan on any backend.

use burn::{
    module::Param,
    nn::{BatchNorm, Linear, conv::Conv2d},
    tensor::{
        Tensor, activation,
        module::{adaptive_avg_pool2d, conv2d, max_pool2d},
        ops::{ConvOptions, MaxPoolOptions},
    },
};

use super::{
    Activation, Cell, Convolution, PoolConfig, PoolKind,
    build::{RecurrentLayer, Tokens},
    norm,
};
use crate::ops::{self, Pointwise, pointwise};

/// What flows between layers, for a batch.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// `[N, C, H, W]`
    Maps(Tensor<4>),
    /// `[N, T, D]`
    Tokens(Tensor<3>),
    /// Every step `[N, F]`.
    Steps(Vec<Tensor<2>>),
    /// `[N, F]`
    Features(Tensor<2>),
}

impl Value {
    /// `[N, C, H, W]`; what has other axes, with ones behind them. (The builder of graphs sees to it that layers get
    /// what they take.)
    pub(crate) fn maps(self) -> Tensor<4> {
        match self {
            Self::Maps(x) => x,
            Self::Tokens(x) => x.unsqueeze_dim(3),
            other => other.features().unsqueeze_dims(&[2, 3]),
        }
    }

    /// `[N, F]`
    pub(crate) fn features(self) -> Tensor<2> {
        match self {
            Self::Features(x) => x,
            Self::Maps(x) => x.flatten(1, 3),
            Self::Tokens(x) => x.flatten(1, 2),
            Self::Steps(steps) => Tensor::cat(steps, 1),
        }
    }

    /// `[N, T, D]`
    pub(crate) fn tokens(self) -> Tensor<3> {
        match self {
            Self::Tokens(x) => x,
            Self::Steps(steps) => Tensor::stack(steps, 1),
            Self::Maps(x) => x.flatten(2, 3),
            Self::Features(x) => x.unsqueeze_dim(1),
        }
    }

    /// Every step `[N, F]`.
    pub(crate) fn steps(self) -> Vec<Tensor<2>> {
        match self {
            Self::Steps(steps) => steps,
            Self::Features(x) => vec![x],
            other => {
                let x = other.tokens();
                let [_, steps, _] = x.dims();
                (0..steps).map(|step| x.clone().narrow(1, step, 1).squeeze_dim(1)).collect()
            }
        }
    }

    /// A function of every value.
    pub(crate) fn each(self, function: impl ForEach) -> Self {
        match self {
            Self::Maps(x) => Self::Maps(function.of(x)),
            Self::Tokens(x) => Self::Tokens(function.of(x)),
            Self::Features(x) => Self::Features(function.of(x)),
            Self::Steps(steps) => Self::Steps(steps.into_iter().map(|x| function.of(x)).collect()),
        }
    }
}

/// A function that takes tensors of any rank.
pub(crate) trait ForEach {
    /// Its value; the shape stays.
    fn of<const D: usize>(&self, x: Tensor<D>) -> Tensor<D>;
}

impl ForEach for Activation {
    fn of<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward(x)
    }
}

impl ForEach for &burn::nn::Dropout {
    fn of<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward(x)
    }
}

impl ForEach for &burn::nn::LayerNorm {
    fn of<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward(x)
    }
}

impl Activation {
    /// Applies the function to every value; the shape stays.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Relu => activation::relu(x),
            Self::LeakyRelu => pointwise(Pointwise::LeakyRelu, x),
            Self::Gelu => pointwise(Pointwise::Gelu, x),
            Self::Silu => pointwise(Pointwise::Silu, x),
            Self::Sigmoid => pointwise(Pointwise::Sigmoid, x),
            Self::Tanh => pointwise(Pointwise::Tanh, x),
        }
    }

    /// The activation that the fused operators compute on the way, and what is left to do after
    /// them.
    fn split(self) -> (ops::Activation, Option<Self>) {
        match self {
            Self::Relu => (ops::Activation::Relu, None),
            Self::Tanh => (ops::Activation::Tanh, None),
            other => (ops::Activation::None, Some(other)),
        }
    }
}

/// [`Activation::split`] of what may be the identity.
fn split(activation: Option<Activation>) -> (ops::Activation, Option<Activation>) {
    activation.map_or((ops::Activation::None, None), Activation::split)
}

fn activate<const D: usize>(x: Tensor<D>, activation: Option<Activation>) -> Tensor<D> {
    match activation {
        Some(activation) => activation.forward(x),
        None => x,
    }
}

impl PoolConfig {
    /// The pooling as the fused operators take it.
    pub(crate) fn fused(&self) -> ops::Pool {
        let (kernel, stride, padding) = ([self.kernel; 2], [self.stride(); 2], [self.padding; 2]);
        match self.kind {
            PoolKind::Max => ops::Pool::Max { kernel, stride, padding },
            PoolKind::Average => ops::Pool::Average { kernel, stride, padding },
        }
    }

    /// `[N, C, H, W] -> [N, C, H', W']`
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ops::pool(x, self.fused())
    }
}

/// A convolution with what follows it, and the weights of both.
pub(crate) struct Block<'a> {
    pub(crate) convolution: Convolution,
    pub(crate) conv: &'a Conv2d,
    pub(crate) norm: Option<&'a BatchNorm>,
    /// Whether a shortcut is added before the activation.
    pub(crate) is_joined: bool,
    pub(crate) activation: Option<Activation>,
    pub(crate) pool: Option<PoolConfig>,
}

impl Block<'_> {
    /// `[N, C, H, W] -> [N, O, H', W']`. Activation and pooling run inside the convolution's operator as far as nothing
    /// stands between them. `next` takes the output.
    pub(crate) fn forward(
        &self,
        x: Tensor<4>,
        shortcut: Option<Tensor<4>>,
        next: Option<&Self>,
    ) -> Tensor<4> {
        let Some(whole) = self.whole() else {
            return self.in_parts(x, shortcut);
        };
        match next.and_then(|next| Some((next, next.reader()?))) {
            Some((next, reader)) => {
                let next_weight = next.conv.weight.val().dims();
                let weight = self.conv.weight.val();
                ops::conv_block_before(x, weight, self.bias(), &whole, next_weight, &reader)
            }
            None => ops::conv_block(x, self.conv.weight.val(), self.bias(), &whole),
        }
    }

    /// Convolution, normalisation, sum, activation and pooling, of which the operators do as much at once as they can.
    fn in_parts(&self, x: Tensor<4>, shortcut: Option<Tensor<4>>) -> Tensor<4> {
        let x = self.convolve(x);
        let x = match (self.norm, shortcut) {
            (Some(norm), shortcut) => normalised(norm, x, shortcut, self.activation),
            (None, Some(shortcut)) => activate(x + shortcut, self.activation),
            (None, None) => activate(x, self.fused().1),
        };
        match self.pool {
            Some(pool) => pool.forward(x),
            None => x,
        }
    }

    /// The block as one operator, where it is one.
    fn whole(&self) -> Option<ops::ConvBlock> {
        let (_, rest) = self.fused();
        let pool = self.pool.map_or(ops::Pool::None, |pool| pool.fused());
        let operator = self.operator(pool)?;
        (self.norm.is_none() && !self.is_joined && rest.is_none()).then_some(operator)
    }

    /// The operator that reads the block's input.
    fn reader(&self) -> Option<ops::ConvBlock> {
        self.whole().or_else(|| self.operator(ops::Pool::None))
    }

    /// The activation inside the convolution's operator, and the one that is left to do after it.
    fn fused(&self) -> (ops::Activation, Option<Activation>) {
        if self.norm.is_some() || self.is_joined {
            return (ops::Activation::None, self.activation);
        }
        split(self.activation)
    }

    /// The fused operator; it knows neither dilation nor a padding that differs from side to side.
    fn operator(&self, pool: ops::Pool) -> Option<ops::ConvBlock> {
        let Convolution { stride, padding: [top, left, bottom, right], dilation, groups, .. } =
            self.convolution;
        let activation = self.fused().0;
        (dilation == [1; 2] && [top, left] == [bottom, right]).then_some(ops::ConvBlock {
            stride,
            padding: [top, left],
            groups,
            activation,
            pool,
        })
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.conv.bias.as_ref().map(Param::val)
    }

    /// The convolution, with its activation if nothing comes before that.
    fn convolve(&self, x: Tensor<4>) -> Tensor<4> {
        if let Some(operator) = self.operator(ops::Pool::None) {
            return ops::conv_block(x, self.conv.weight.val(), self.bias(), &operator);
        }
        let Convolution { stride, padding: [top, left, bottom, right], dilation, groups, .. } =
            self.convolution;
        let (x, padding) = if [top, left] == [bottom, right] {
            (x, [top, left])
        } else {
            (x.pad([(top, bottom), (left, right)], 0.0), [0, 0])
        };
        let options = ConvOptions::new(stride, padding, dilation, groups);
        let x = conv2d(x, self.conv.weight.val(), self.bias(), options);
        match self.fused().0 {
            ops::Activation::None => x,
            ops::Activation::Relu => Activation::Relu.forward(x),
            ops::Activation::Tanh => Activation::Tanh.forward(x),
        }
    }
}

/// `activation(norm(x) + shortcut)`, `[N, C, H, W]`.
pub(crate) fn normalised(
    norm: &BatchNorm,
    x: Tensor<4>,
    shortcut: Option<Tensor<4>>,
    activation: Option<Activation>,
) -> Tensor<4> {
    let (fused, rest) = split(activation);
    activate(norm::forward(norm, x, shortcut, fused), rest)
}

/// A dense layer with its activation on the last axis: `[N, I] -> [N, O]`, and each token or step alike.
pub(crate) fn dense(layer: &Linear, x: Value, activation: Option<Activation>) -> Value {
    let (fused, rest) = split(activation);
    let dense = |x| activate(linear(layer, x, fused), rest);
    match x {
        Value::Tokens(x) => {
            let [n, tokens, width] = x.dims();
            let y = dense(x.reshape([n * tokens, width]));
            let [_, outputs] = y.dims();
            Value::Tokens(y.reshape([n, tokens, outputs]))
        }
        Value::Steps(steps) => Value::Steps(steps.into_iter().map(dense).collect()),
        x => Value::Features(dense(x.features())),
    }
}

/// `[N, I] -> [N, O]`
pub(crate) fn linear(layer: &Linear, x: Tensor<2>, activation: ops::Activation) -> Tensor<2> {
    let bias = layer.bias.as_ref().map(Param::val);
    ops::linear(x, layer.weight.val(), bias, activation)
}

/// Averages `[N, C, H, W]` to `[N, C, side, side]`; the identity where that is its size.
pub(crate) fn average(x: Tensor<4>, side: usize) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    if [height, width] == [side; 2] { x } else { adaptive_avg_pool2d(x, [side; 2]) }
}

/// See [`super::Operator::Thin`].
pub(crate) fn thin(x: Tensor<4>, stride: usize, channels: usize) -> Tensor<4> {
    // The largest of one value is that value: a pooling that only drops rows and columns.
    let x = if stride == 1 { x } else { max_pool2d(x, MaxPoolOptions::new([1, 1]).with_stride([stride; 2])) };
    let [n, _, height, width] = x.dims();
    let zeros = |channels| Tensor::zeros([n, channels, height, width], &x.device());
    let before = channels / 2;
    Tensor::cat(vec![zeros(before), x.clone(), zeros(channels - before)], 1)
}

/// The rows of `[N, C, H, W]`, each `[N, C * W]`.
pub(crate) fn rows(images: &Tensor<4>) -> Vec<Tensor<2>> {
    let [n, channels, height, width] = images.dims();
    (0..height).map(|row| images.clone().narrow(2, row, 1).reshape([n, channels * width])).collect()
}

/// Every channel of `[N, C, H, W]` times a factor of `[N, C]`.
pub(crate) fn scale(x: Tensor<4>, factors: Tensor<2>) -> Tensor<4> {
    x * factors.unsqueeze_dims(&[2, 3])
}

impl Tokens {
    /// `[N, D, H, W] -> [N, T, D]`
    pub(crate) fn forward(&self, patches: Tensor<4>) -> Tensor<3> {
        let patches = patches.flatten::<3>(2, 3).swap_dims(1, 2); // [N, T - 1, D]
        let [n, _, width] = patches.dims();
        let class_token = self.class_token.val().expand([n, 1, width]);
        Tensor::cat(vec![class_token, patches], 1) + self.positions.val()
    }
}

/// Queries, keys and values side by side, `[N, T, 3 D]`, to mixed values `[N, T, D]`.
pub(crate) fn attention(x: Tensor<3>, heads: usize) -> Tensor<3> {
    let [n, tokens, all] = x.dims();
    let width = all / 3;
    let features = width / heads;
    let all = x.reshape([n, tokens, 3 * heads, features]).swap_dims(1, 2); // [N, 3 * heads, T, F]
    let part = |index: usize| all.clone().narrow(1, index * heads, heads);
    let (queries, keys, values) = (part(0), part(1), part(2)); // [N, heads, T, F]
    let scores = queries.matmul(keys.swap_dims(2, 3)).div_scalar((features as f64).sqrt());
    let mixed = activation::softmax(scores, 3).matmul(values); // [N, heads, T, F]
    mixed.swap_dims(1, 2).reshape([n, tokens, width])
}

impl RecurrentLayer {
    /// The inputs of all steps, each `[N, I]`, to the states after them, each `[N, H]`; the state
    /// before the first is zero.
    pub(crate) fn forward(&self, cell: Cell, steps: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
        let [hidden, _] = self.state.weight.dims();
        let mut states: Vec<Tensor<2>> = Vec::with_capacity(steps.len());
        let mut memory = None;
        for step in steps {
            let zeros = || Tensor::zeros([step.dims()[0], hidden], &step.device());
            let mut state = states.last().cloned().unwrap_or_else(zeros);
            let from_state = linear(&self.state, state.clone(), ops::Activation::None);
            let from_input = linear(&self.input, step.clone(), ops::Activation::None); // [N, gates * H]
            match cell {
                Cell::Lstm => {
                    let gates = from_input + from_state;
                    let gate = |index| gates.clone().narrow(1, index * hidden, hidden);
                    let input = pointwise(Pointwise::Sigmoid, gate(0));
                    let forget = pointwise(Pointwise::Sigmoid, gate(1));
                    let cell = pointwise(Pointwise::Tanh, gate(2));
                    let output = pointwise(Pointwise::Sigmoid, gate(3));
                    let next = forget * memory.take().unwrap_or_else(zeros) + input * cell;
                    state = output * pointwise(Pointwise::Tanh, next.clone());
                    memory = Some(next);
                }
                Cell::Gru => {
                    let gate = |x: &Tensor<2>, index| x.clone().narrow(1, index * hidden, hidden);
                    let reset = pointwise(Pointwise::Sigmoid, gate(&from_input, 0) + gate(&from_state, 0));
                    let update = pointwise(Pointwise::Sigmoid, gate(&from_input, 1) + gate(&from_state, 1));
                    let new = pointwise(Pointwise::Tanh, gate(&from_input, 2) + reset * gate(&from_state, 2));
                    state = new.clone() + update * (state - new);
                }
            }
            states.push(state);
        }
        states
    }
}
