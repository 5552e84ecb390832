//! A network as a graph of layers: what the layers are, the graph and its shapes, and what follows from it: the summary, the
//! modules with their weights, the plan of fused steps, the forward pass and the groups of layers.

mod build;
mod builder;
mod forward;
mod groups;
mod initialization;
mod layers;
mod module;
mod nodes;
mod norm;
pub(crate) mod plan;
mod shape;
mod summary;

pub use builder::GraphBuilder;
pub use groups::LayerGroups;
pub use initialization::Initialization;
pub use layers::{Activation, Cell, Convolution, PoolConfig, PoolKind};
pub use module::Network;
pub use nodes::{Graph, Node, NodeId, Operator};
pub use shape::ShapeError;
pub use summary::{LayerSummary, Summary, TensorSpec, thousands};
