//! A network with its weights, for formats of other programs.

use std::collections::BTreeMap;

use super::{ExportError, WeightTensor};
use crate::{Graph, InputShape, Node, NodeId, Operator, networks::NetworkConfig};

/// The layers of a network with their weights. Dropout is left out: an exported network does not train.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// From the normalised image to the logits.
    pub graph: Graph,
    tensors: BTreeMap<String, WeightTensor>,
}

impl Exported {
    /// The layers of a configuration with the weights of a record (see [`crate::named_tensors`]).
    ///
    /// # Errors
    /// A record that does not belong to the configuration.
    pub fn new(
        config: &NetworkConfig,
        input: InputShape,
        classes: usize,
        tensors: &[(String, WeightTensor)],
        format: &'static str,
    ) -> Result<Self, ExportError> {
        let refused = |reason: String| ExportError::unsupported(config, format, reason);
        let graph = config.graph(input, classes).map_err(|error| refused(error.to_string()))?;
        let mut left: BTreeMap<&str, &WeightTensor> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        for spec in graph.nodes.iter().flat_map(|node| &node.tensors) {
            let name = &spec.name;
            let tensor = left.remove(name.as_str());
            let tensor = tensor.ok_or_else(|| refused(format!("its tensor `{name}` is missing")))?;
            if tensor.shape() != spec.shape {
                let (found, expected) = (tensor.shape(), &spec.shape);
                return Err(refused(format!("its tensor `{name}` is {found:?}, expected {expected:?}")));
            }
        }
        if let Some(name) = left.keys().next() {
            return Err(refused(format!("nothing uses its tensor `{name}`")));
        }
        let is_dropout = |node: &Node| matches!(node.operator, Operator::Dropout { .. });
        let dropouts: Vec<NodeId> =
            graph.iter().filter(|(_, node)| is_dropout(node)).map(|(id, _)| id).collect();
        Ok(Self { graph: graph.without(&dropouts), tensors: tensors.iter().cloned().collect() })
    }

    /// A tensor of a layer, such as `weight`. (Those that the layer has are all there.)
    pub(super) fn tensor(&self, node: &Node, part: &str) -> Option<&WeightTensor> {
        self.tensors.get(&format!("{}.{part}", node.name))
    }

    /// A tensor of a layer as floats; empty where the layer has none.
    pub(super) fn floats(&self, node: &Node, part: &str) -> Vec<f32> {
        self.tensor(node, part).map(WeightTensor::to_floats).unwrap_or_default()
    }

    /// What flows into a layer.
    pub(super) fn input_of(&self, node: &Node) -> &[usize] {
        node.inputs.first().map_or(&[], |&input| &self.graph.node(input).output)
    }
}

/// Sizes of `[C, H, W]`; what has fewer axes, with ones behind.
pub(super) fn maps(shape: &[usize]) -> [usize; 3] {
    let size = |axis: usize| shape.get(axis).copied().unwrap_or(1);
    [size(0), size(1), size(2)]
}

/// Steps and features of `[T, F]`; of `[F]` one step.
pub(super) fn steps(shape: &[usize]) -> [usize; 2] {
    match *shape {
        [steps, features] => [steps, features],
        _ => [1, shape.iter().product()],
    }
}

/// The first and the last place but one that a cell of an average covers, along an axis of `length` places divided into
/// `side` cells, as in `PyTorch`'s `AdaptiveAvgPool2d`.
pub(super) fn cell(index: usize, length: usize, side: usize) -> (usize, usize) {
    (index * length / side, ((index + 1) * length).div_ceil(side))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, module::adaptive_avg_pool2d};

    use super::*;

    /// Cells that hold several places, that overlap, and that repeat a place.
    #[test]
    fn cells_are_those_of_the_average() {
        for length in 1..9 {
            let values: Vec<f32> = (0..length).map(|value| (value * value) as f32).collect();
            let x = Tensor::<1>::from_floats(&values[..], &Device::flex()).reshape([1, 1, length, 1]);
            for side in 1..7 {
                let means =
                    adaptive_avg_pool2d(x.clone(), [side, 1]).into_data().try_to_vec::<f32>().unwrap();
                for (index, mean) in means.into_iter().enumerate() {
                    let (start, end) = cell(index, length, side);
                    let expected = values[start..end].iter().sum::<f32>() / (end - start) as f32;
                    assert!(
                        (mean - expected).abs() < 1e-5,
                        "{length} in {side}, cell {index}: {mean} {expected}"
                    );
                }
            }
        }
    }
}
