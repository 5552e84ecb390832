//! A network's layers in groups, from the input to the head: the units that fine-tuning freezes and gives rates of
//! their own.

use super::{Graph, Network, Operator};

/// The groups as prefixes of tensor names: `blocks.0` holds `blocks.0.conv.weight` and all else that begins with
/// `blocks.0.`. Every tensor of a network is in just one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerGroups {
    /// What turns an image into features, from the input on; what `freeze = "features"` freezes.
    pub features: Vec<String>,
    /// What turns features into classes, the head last.
    pub classifier: Vec<String>,
}

impl LayerGroups {
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

impl Graph {
    /// The layers in groups by their names, in the order of a visit. The dense layers behind everything else classify;
    /// where there is nothing but dense layers, as in a perceptron, the last alone.
    pub fn layer_groups(&self) -> LayerGroups {
        // Names of groups, and whether they are of dense layers alone.
        let mut groups: Vec<(&str, bool)> = Vec::new();
        for node in &self.nodes {
            let is_dense = matches!(node.operator, Operator::Dense { .. });
            for group in node.tensors.iter().map(|tensor| group_of(&tensor.name)) {
                match groups.iter_mut().find(|(known, _)| *known == group) {
                    Some((_, only_dense)) => *only_dense &= is_dense,
                    None => groups.push((group, is_dense)),
                }
            }
        }
        let first_of_classifier = groups
            .iter()
            .rposition(|(_, only_dense)| !only_dense)
            .map_or_else(|| groups.len().saturating_sub(1), |last_of_features| last_of_features + 1);
        let mut features: Vec<String> = groups.into_iter().map(|(group, _)| group.to_owned()).collect();
        let classifier = features.split_off(first_of_classifier);
        LayerGroups { features, classifier }
    }
}

impl Network {
    /// The layers in groups, see [`Graph::layer_groups`].
    pub fn layer_groups(&self) -> LayerGroups {
        self.graph().layer_groups()
    }
}

#[cfg(test)]
mod tests {
    use crate::{CnnConfig, ConvBlockConfig, InputShape, NetworkConfig};

    fn groups(config: &NetworkConfig, input: InputShape) -> [Vec<String>; 2] {
        let groups = config.graph(input, 10).unwrap().layer_groups();
        assert_eq!(groups.iter().next_back(), Some("head"));
        [groups.features, groups.classifier]
    }

    #[test]
    fn dense_layers_behind_everything_else_classify() {
        let config = CnnConfig {
            blocks: vec![ConvBlockConfig::new(4), ConvBlockConfig::new(4)],
            dense: vec![8, 8],
            batch_norm: true,
            ..CnnConfig::default()
        };
        let input = InputShape::new(1, 8, 8);
        let [features, classifier] = groups(&NetworkConfig::Cnn(config), input);
        assert_eq!(features, ["blocks.0", "blocks.1"]);
        assert_eq!(classifier, ["dense.0", "dense.1", "head"]);
        let flat = CnnConfig { blocks: vec![], dense: vec![5], ..CnnConfig::default() };
        assert_eq!(groups(&NetworkConfig::Cnn(flat), input), [vec!["dense.0"], vec!["head"]]);
    }

    #[test]
    fn groups_go_from_the_image_to_the_head() {
        let of = |name: &str| {
            let entry = NetworkConfig::named(name).unwrap();
            groups(&entry.config, entry.input)
        };
        let [features, classifier] = of("lenet5");
        assert_eq!(features, ["blocks.0", "blocks.1", "blocks.2"]);
        assert_eq!(classifier, ["dense.0", "head"]);
        let [features, classifier] = of("resnet20");
        assert_eq!(
            (features[..3].to_vec(), features.len()),
            (vec!["stem".into(), "blocks.0".into(), "blocks.1".into()], 10)
        );
        assert_eq!(classifier, ["head"]);
        let vit = ["embedding", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "norm"];
        assert_eq!(of("vit-tiny"), [vit.map(String::from).to_vec(), vec!["head".into()]]);
        assert_eq!(of("rnn"), [vec!["blocks.0"], vec!["head"]]);
        assert_eq!(of("mlp"), [vec!["blocks.0", "blocks.1"], vec!["head"]]);
        assert_eq!(of("inception"), [vec!["stem", "blocks.0", "blocks.1"], vec!["head"]]);
    }
}
