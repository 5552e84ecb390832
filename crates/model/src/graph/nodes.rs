//! A network as plain data: its layers, what flows between them, and the names and shapes of its weights.
//!
//! Everything that is known of a network follows from its graph: the summary, the modules and their first weights
//! (`build.rs`), the forward pass (`plan.rs`, `forward.rs`), folding, the groups of layers, the exports. Nothing here
//! needs a device. `builder.rs` makes it.

use super::layers::{Cell, Convolution, PoolConfig};
use crate::{
    Activation, InputShape,
    graph::summary::{LayerSummary, Summary, TensorSpec},
};

/// Epsilon of every batch normalisation.
pub(crate) const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Name of the last layer of every network.
pub(crate) const HEAD: &str = "head";

/// Name of the module that all shared dropouts are.
pub(crate) const SHARED_DROPOUT: &str = "dropout";

/// What a node does. Shapes are those of one image.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// The input, `[C, H, W]`.
    Image,
    /// `[C, H, W] -> [O, H', W']`. Tensors `weight` `[O, C / groups, K, K]` and perhaps `bias` `[O]`.
    Convolution(Convolution),
    /// Over the channels of `[C, H, W]`. Tensors `gamma`, `beta`, `running_mean`, `running_var`, `[C]` each.
    BatchNorm {
        /// Added to the variance.
        epsilon: f64,
    },
    /// Over the last axis. Tensors `gamma` and `beta`.
    LayerNorm {
        /// Added to the variance.
        epsilon: f64,
    },
    /// A function of every value.
    Activation(Activation),
    /// Windows of `[C, H, W]`.
    Pool(PoolConfig),
    /// Means over a grid of cells, `[C, H, W] -> [C, side, side]`, whatever the size (`PyTorch`'s
    /// `AdaptiveAvgPool2d`); with the side 1 the global pooling.
    Average {
        /// Cells along one side.
        side: usize,
    },
    /// On the last axis. Tensors `weight` `[I, O]` and `bias` `[O]`.
    Dense {
        /// Outputs.
        outputs: usize,
    },
    /// The sum of two inputs of one shape; the first is the way through the layers, the second the shortcut.
    Add,
    /// The channels of all inputs `[C, H, W]`, one after the other.
    Concatenate,
    /// The channels of the first input `[C, H, W]` times the values of the second, `[C]` (squeeze and excite).
    Scale,
    /// Values are dropped in training with this probability.
    Dropout {
        /// In `(0, 1)`.
        probability: f64,
        /// Whether it is the one module of the network that acts in several places, visited last.
        shared: bool,
    },
    /// `[C, H, W] -> [C * H * W]`
    Flatten,
    /// The rows of the image as steps: `[C, H, W] -> [H, C * W]`.
    Rows,
    /// `[T, I] -> [T, H]`, the state after every step; zero before the first. Tensors `input.weight` `[I, gates * H]`,
    /// `input.bias`, `state.weight` `[H, gates * H]`, `state.bias`; the gates side by side in `PyTorch`'s order: input,
    /// forget, cell, output for an LSTM; reset, update, new for a GRU.
    Recurrent {
        /// LSTM or GRU.
        cell: Cell,
        /// Size of the state.
        hidden: usize,
    },
    /// `[T, H] -> [H]`
    LastStep,
    /// Patches `[D, H, W]` as tokens behind a class token, with positions added: `[H * W + 1, D]`. Tensors `class_token`
    /// `[1, 1, D]` and `positions` `[1, T, D]`.
    Tokens,
    /// Queries, keys and values side by side, `[T, 3 D]`, to the values mixed, `[T, D]`.
    Attention {
        /// They divide the width.
        heads: usize,
    },
    /// `[T, D] -> [D]`
    FirstToken,
    /// Every `stride`-th row and column, and `channels` channels of zeros, half of them before and half behind.
    Thin {
        /// Step along both sides.
        stride: usize,
        /// Channels that are added.
        channels: usize,
    },
}

impl Operator {
    /// What the layer is called in a summary.
    fn kind(&self) -> String {
        match self {
            Self::Image => "image".into(),
            Self::Convolution(convolution) => convolution.kind(),
            Self::BatchNorm { .. } => "batch norm".into(),
            Self::LayerNorm { .. } => "layer norm".into(),
            Self::Activation(activation) => match activation {
                Activation::Relu => "ReLU",
                Activation::LeakyRelu => "leaky ReLU",
                Activation::Gelu => "GELU",
                Activation::Silu => "SiLU",
                Activation::Sigmoid => "sigmoid",
                Activation::Tanh => "tanh",
            }
            .into(),
            Self::Pool(pool) => pool.kind_in_words(),
            Self::Average { side } => format!("average to {side}x{side}"),
            Self::Dense { .. } => "dense".into(),
            Self::Add => "sum".into(),
            Self::Concatenate => "concatenation".into(),
            Self::Scale => "scale".into(),
            Self::Dropout { probability, .. } => format!("dropout {probability}"),
            Self::Flatten => "flatten".into(),
            Self::Rows => "rows as steps".into(),
            Self::Recurrent { cell, .. } => cell.name().into(),
            Self::LastStep => "last step".into(),
            Self::Tokens => "class token, positions".into(),
            Self::Attention { heads } => format!("attention, {heads} heads"),
            Self::FirstToken => "first token".into(),
            Self::Thin { stride, channels } => format!("every {stride}. place, {channels} channels of zeros"),
        }
    }

    /// Whether a module stands for it: one with tensors, or with a flag for training.
    pub(crate) fn has_module(&self) -> bool {
        matches!(
            self,
            Self::Convolution(_)
                | Self::BatchNorm { .. }
                | Self::LayerNorm { .. }
                | Self::Dense { .. }
                | Self::Dropout { .. }
                | Self::Recurrent { .. }
                | Self::Tokens
        )
    }
}

/// A node's place in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// Its index in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// One layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The path of its module, and so the prefix of the names of its tensors: `blocks.0.conv`. Empty for a sum and
    /// other joints without weights, which a summary leaves out.
    pub name: String,
    /// What it does.
    pub operator: Operator,
    /// Whose outputs it takes; they come before it.
    pub inputs: Vec<NodeId>,
    /// Output for one image.
    pub output: Vec<usize>,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Its tensors in the order of a visit.
    pub tensors: Vec<TensorSpec>,
    /// Whether its output are the maps of a convolution stage, which explanations show.
    pub is_stage: bool,
}

/// A whole network.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// What the paths of its parameters begin with in Burn's records, a word with a capital letter.
    pub family: &'static str,
    /// Every node behind those that it takes from; the image first, the head last.
    pub nodes: Vec<Node>,
    /// The maps whose means over the places tell an out-of-distribution image from an ordinary one; the features where there are
    /// none.
    pub signature: Option<NodeId>,
}

impl Graph {
    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// All nodes with their places.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index), node))
    }

    /// The size of the images.
    pub fn input(&self) -> InputShape {
        match self.nodes[0].output[..] {
            [channels, height, width] => InputShape::new(channels, height, width),
            // The builder makes images only.
            _ => InputShape::new(0, 0, 0),
        }
    }

    /// The last layer, which gives the logits.
    pub fn head(&self) -> NodeId {
        NodeId(self.nodes.len() - 1)
    }

    /// What the head sees.
    pub fn features(&self) -> NodeId {
        self.nodes[self.nodes.len() - 1].inputs[0]
    }

    /// The maps of every convolution stage, from the image on.
    pub(crate) fn stages(&self) -> impl DoubleEndedIterator<Item = NodeId> {
        self.iter().filter(|(_, node)| node.is_stage).map(|(id, _)| id)
    }

    /// For every node those that take its output, in their order; twice where they take it twice.
    pub(crate) fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.iter() {
            for input in &node.inputs {
                consumers[input.0].push(id);
            }
        }
        consumers
    }

    /// The modules in the order of a visit: their paths, and a node that each stands for.
    pub(crate) fn modules(&self) -> Vec<(&str, NodeId)> {
        let is_shared = |node: &Node| matches!(node.operator, Operator::Dropout { shared: true, .. });
        let own = self.iter().filter(|(_, node)| node.operator.has_module() && !is_shared(node));
        let shared = self.iter().find(|(_, node)| is_shared(node));
        let own = own.map(|(id, node)| (node.name.as_str(), id));
        own.chain(shared.map(|(id, _)| (SHARED_DROPOUT, id))).collect()
    }

    /// The layers as a table.
    pub fn summary(&self) -> Summary {
        let named = self.nodes.iter().filter(|node| !node.name.is_empty());
        Summary {
            layers: named
                .map(|node| LayerSummary {
                    name: node.name.clone(),
                    kind: node.operator.kind(),
                    output: node.output.clone(),
                    parameters: parameters(&node.tensors).unwrap_or(usize::MAX),
                    macs: node.macs,
                    tensors: node.tensors.clone(),
                })
                .collect(),
        }
    }

    /// Whether the layers are convolutions, normalisations and dense layers in a row, so that their order says which is
    /// which.
    pub(crate) fn is_plain(&self) -> bool {
        let is_common = |node: &Node| {
            !matches!(
                node.operator,
                Operator::Recurrent { .. } | Operator::Tokens | Operator::LayerNorm { .. }
            )
        };
        self.is_sequence() && self.nodes.iter().all(is_common)
    }

    /// Whether the layers stand in a row.
    pub(crate) fn is_sequence(&self) -> bool {
        self.iter().all(|(NodeId(index), node)| match node.inputs[..] {
            [] => index == 0,
            [NodeId(input)] => input + 1 == index,
            _ => false,
        })
    }

    /// The graph without some nodes of one input each: what took from them takes from what they took from.
    pub(crate) fn without(&self, removed: &[NodeId]) -> Self {
        let mut places: Vec<NodeId> = Vec::with_capacity(self.nodes.len());
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for (id, node) in self.iter() {
            if removed.contains(&id) {
                let input = places[node.inputs[0].0];
                if node.is_stage {
                    let input: &mut Node = &mut nodes[input.0];
                    input.is_stage = true;
                }
                places.push(input);
                continue;
            }
            let inputs = node.inputs.iter().map(|input| places[input.0]).collect();
            places.push(NodeId(nodes.len()));
            nodes.push(Node { inputs, ..node.clone() });
        }
        Self { family: self.family, nodes, signature: self.signature.map(|id| places[id.0]) }
    }
}

/// Trainable values; `None` where they cannot be counted.
pub(super) fn parameters(tensors: &[TensorSpec]) -> Option<usize> {
    let trainable = tensors.iter().filter(|tensor| tensor.trainable);
    trainable.map(|tensor| product(&tensor.shape)).try_fold(0usize, |sum, values| sum.checked_add(values?))
}

pub(super) fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
}
