//! The modules of a network: what holds the weights of each layer, and how they are first drawn.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    nn::{BatchNorm, Dropout, LayerNorm, Linear, conv::Conv2d},
    tensor::{Device, Tensor},
};

use super::{
    initialization::{Builder, Initialization},
    nodes::{Graph, Node, NodeId, Operator},
};

/// Width of the distribution of positions and class token, as in the code of the paper on vision transformers.
const TOKEN_STD: f64 = 0.02;

/// One recurrent layer, see [`Operator::Recurrent`].
#[derive(Module, Debug)]
pub(crate) struct RecurrentLayer {
    /// From the step's input, `[I, gates * H]`.
    pub(crate) input: Linear,
    /// From the state of the step before, `[H, gates * H]`.
    pub(crate) state: Linear,
}

/// What makes tokens of patches, see [`Operator::Tokens`].
#[derive(Module, Debug)]
pub(crate) struct Tokens {
    /// The first token of every image, `[1, 1, D]`.
    pub(crate) class_token: Param<Tensor<3>>,
    /// Added to the tokens, `[1, T, D]`.
    pub(crate) positions: Param<Tensor<3>>,
}

/// The module of one layer.
#[derive(Clone, Debug)]
pub(crate) enum Layer {
    Convolution(Conv2d),
    BatchNorm(BatchNorm),
    LayerNorm(LayerNorm),
    Dense(Linear),
    Recurrent(RecurrentLayer),
    Tokens(Tokens),
    Dropout(Dropout),
}

/// A module under its path.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// `blocks.0.conv`
    pub(crate) path: Arc<str>,
    pub(crate) layer: Layer,
}

/// The modules of a graph in the order of a visit, and for every node the index of its module; without a seed all
/// weights are zero.
pub(crate) fn build(
    graph: &Graph,
    initialization: Initialization,
    seed: Option<u64>,
    device: &Device,
) -> (Vec<Part>, Vec<Option<usize>>) {
    let mut builder = Builder::new(initialization, seed, device);
    let mut parts = Vec::new();
    let mut places = vec![None; graph.nodes.len()];
    for (path, id) in graph.modules() {
        let node = graph.node(id);
        let Some(layer) = layer(&mut builder, graph, node) else { continue };
        place(graph, id, parts.len(), &mut places);
        parts.push(Part { path: path.into(), layer });
    }
    (parts, places)
}

/// Notes the module of a node, and of all that share it.
pub(crate) fn place(graph: &Graph, id: NodeId, part: usize, places: &mut [Option<usize>]) {
    let is_shared = |node: &Node| matches!(node.operator, Operator::Dropout { shared: true, .. });
    if !is_shared(graph.node(id)) {
        places[id.index()] = Some(part);
        return;
    }
    for (id, _) in graph.iter().filter(|(_, node)| is_shared(node)) {
        places[id.index()] = Some(part);
    }
}

fn layer(builder: &mut Builder, graph: &Graph, node: &Node) -> Option<Layer> {
    let input = &graph.node(*node.inputs.first()?).output;
    let width = *input.last()?;
    Some(match node.operator {
        Operator::Convolution(convolution) => Layer::Convolution(builder.conv(input[0], &convolution)),
        Operator::BatchNorm { epsilon } => Layer::BatchNorm(builder.batch_norm(input[0], epsilon)),
        Operator::LayerNorm { epsilon } => Layer::LayerNorm(builder.layer_norm(width, epsilon)),
        Operator::Dense { outputs } => Layer::Dense(builder.linear(width, outputs)),
        Operator::Dropout { probability, .. } => Layer::Dropout(builder.dropout(probability)),
        Operator::Recurrent { cell, hidden } => Layer::Recurrent(RecurrentLayer {
            input: builder.linear(width, hidden * cell.gates()),
            state: builder.linear(hidden, hidden * cell.gates()),
        }),
        Operator::Tokens => {
            let &[tokens, width] = &node.output[..] else { return None };
            Layer::Tokens(Tokens {
                class_token: builder.normal([1, 1, width], TOKEN_STD),
                positions: builder.normal([1, tokens, width], TOKEN_STD),
            })
        }
        _ => return None,
    })
}
