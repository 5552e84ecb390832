//! The sizes of layers: what recipes state and what graphs hold.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The function after a convolution or a dense layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`
    #[default]
    Relu,
    /// `x` where positive, `0.01 x` elsewhere
    LeakyRelu,
    /// `x Φ(x)` with the exact normal distribution function (Hendrycks & Gimpel 2016)
    Gelu,
    /// `x sigmoid(x)`
    Silu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// Hyperbolic tangent
    Tanh,
}

/// A convolution. Sizes are of rows, then of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Filters.
    pub channels: usize,
    /// Sides of the kernel.
    pub kernel: [usize; 2],
    /// Steps of the kernel.
    pub stride: [usize; 2],
    /// Zeros added at the top, the left, the bottom and the right.
    pub padding: [usize; 4],
    /// Distance between the places under the kernel.
    pub dilation: [usize; 2],
    /// Parts that the channels are divided into; a filter sees the channels of its part.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Convolution {
    /// One with a square kernel, the same padding on all sides, and all channels under every filter.
    pub fn square(channels: usize, kernel: usize, stride: usize, padding: usize, bias: bool) -> Self {
        Self {
            channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 4],
            dilation: [1; 2],
            groups: 1,
            bias,
        }
    }

    /// What differs from the usual, for a summary.
    pub(crate) fn kind(&self) -> String {
        let mut kind = format!("conv {}x{}", self.kernel[0], self.kernel[1]);
        for (what, sizes, usual) in [
            (", stride ", &self.stride[..], 1),
            (", padding ", &self.padding, 0),
            (", dilation ", &self.dilation, 1),
            (", groups ", &[self.groups], 1),
        ] {
            if sizes.iter().any(|&size| size != usual) {
                let _ = write!(kind, "{what}{}", sides(sizes));
            }
        }
        kind
    }
}

/// Sizes of several sides, as one number where all are the same.
pub(crate) fn sides(sizes: &[usize]) -> String {
    match sizes {
        [first, rest @ ..] if rest.iter().all(|size| size == first) => first.to_string(),
        _ => sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
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

    pub(crate) fn kind_in_words(&self) -> String {
        let name = match self.kind {
            PoolKind::Max => "max pool",
            PoolKind::Average => "average pool",
        };
        let mut kind = format!("{name} {0}x{0}", self.kernel);
        for (what, size, usual) in
            [(", stride ", self.stride(), self.kernel), (", padding ", self.padding, 0)]
        {
            if size != usual {
                let _ = write!(kind, "{what}{size}");
            }
        }
        kind
    }
}

/// The recurrent cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cell {
    /// Hochreiter & Schmidhuber 1997 with the forget gate of Gers, Schmidhuber & Cummins 2000, no
    /// peepholes.
    #[default]
    Lstm,
    /// Cho et al. 2014, with the reset gate after the product with the hidden weights, as in `PyTorch`
    /// and cuDNN.
    Gru,
}

impl Cell {
    /// Products of the hidden state that one step needs.
    pub(crate) fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lstm => "LSTM",
            Self::Gru => "GRU",
        }
    }
}
