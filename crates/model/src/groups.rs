//! A network's layers in groups, from the input to the head: the units that fine-tuning freezes and gives rates of
//! their own.

use crate::{Network, record::tensors_in_order};

/// The groups as prefixes of tensor names: `blocks.0` holds `blocks.0.conv.weight` and all else that begins with
/// `blocks.0.`. Every tensor of a network is in just one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerGroups {
    /// What turns an image into features, from the input on; what `freeze = "features"` freezes.
    pub features: Vec<String>,
    /// What turns features into classes, the head last.
    pub classifier: Vec<String>,
}

/// First parts of the names of layers that classify, in our networks and in torchvision's.
const CLASSIFIER: [&str; 4] = ["dense", "head", "fc", "classifier"];

impl LayerGroups {
    /// Groups by name, in the order of the names: `blocks.0.conv.weight` and `layer1.0.bn1.bias` are in the groups
    /// `blocks.0` and `layer1.0`, `head.weight` is in `head`. Where nothing but a classifier is left, as in a
    /// perceptron, all its groups but the last count as features.
    pub fn by_name<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut groups: Vec<String> = Vec::new();
        for name in names {
            let group = group_of(name);
            if groups.last().is_none_or(|last| last != group) && !groups.iter().any(|known| known == group) {
                groups.push(group.to_owned());
            }
        }
        let first_of_classifier = groups
            .iter()
            .rposition(|group| !CLASSIFIER.contains(&group.split('.').next().unwrap_or_default()))
            .map_or_else(|| groups.len().saturating_sub(1), |last_of_features| last_of_features + 1);
        let classifier = groups.split_off(first_of_classifier);
        Self { features: groups, classifier }
    }

    /// All groups, from the input to the head.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.features.iter().chain(&self.classifier).map(String::as_str)
    }
}

/// The part of a tensor's name that names its group: the first part, with a number that follows.
fn group_of(name: &str) -> &str {
    let mut ends = name.match_indices('.').map(|(end, _)| end);
    let Some(first) = ends.next() else { return name };
    match ends.next() {
        Some(second) if name[first + 1..second].bytes().all(|byte| byte.is_ascii_digit()) => &name[..second],
        _ => &name[..first],
    }
}

impl Network {
    /// The layers in groups, see [`LayerGroups::by_name`]. A network whose names do not tell its layers apart gets
    /// an arm of its own here.
    pub fn layer_groups(&self) -> LayerGroups {
        let tensors = tensors_in_order(self);
        LayerGroups::by_name(tensors.iter().map(|(name, _)| name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{CnnConfig, ConvBlockConfig, InputShape, NetworkConfig};

    #[test]
    fn the_convolutional_network_has_blocks_dense_layers_and_a_head() {
        let config = CnnConfig {
            blocks: vec![ConvBlockConfig::new(4), ConvBlockConfig::new(4)],
            dense: vec![8, 8],
            batch_norm: true,
            ..CnnConfig::default()
        };
        let input = InputShape::new(1, 8, 8);
        let groups = NetworkConfig::Cnn(config).init(input, 10, 1, &Device::flex()).unwrap().layer_groups();
        assert_eq!(groups.features, ["blocks.0", "blocks.1"]);
        assert_eq!(groups.classifier, ["dense.0", "dense.1", "head"]);
        assert_eq!(groups.iter().next_back(), Some("head"));
    }

    #[test]
    fn names_of_other_networks_are_grouped_too() {
        let names = [
            "conv1.weight",
            "bn1.weight",
            "bn1.bias",
            "layer1.0.conv1.weight",
            "layer1.1.conv1.weight",
            "fc.bias",
        ];
        let groups = LayerGroups::by_name(names);
        assert_eq!(groups.features, ["conv1", "bn1", "layer1.0", "layer1.1"]);
        assert_eq!(groups.classifier, ["fc"]);
        let perceptron =
            LayerGroups::by_name(["dense.0.weight", "dense.0.bias", "dense.1.weight", "head.weight"]);
        assert_eq!(perceptron.features, ["dense.0", "dense.1"]);
        assert_eq!(perceptron.classifier, ["head"]);
        let empty = LayerGroups::by_name([]);
        assert!(empty.features.is_empty() && empty.classifier.is_empty());
    }
}
