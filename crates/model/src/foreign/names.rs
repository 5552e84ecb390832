//! What published implementations call the tensors of a network.
//!
//! | network | names of |
//! |---|---|
//! | `alexnet`, `vgg`, `vit`, `resnet` 18 to 152 | torchvision |
//! | `resnet` 20 to 110 | the CIFAR implementation of Y. Idelbayev (`pytorch_resnet_cifar10`) |
//! | `rnn` | a module with `rnn = nn.LSTM(...)` or `nn.GRU(...)` and `head = nn.Linear(...)` |
//! | all | a module whose attributes are called as ours |
//!
//! What a checkpoint wraps around the names is taken off: `state_dict.`, `model_state_dict.`, `model.`
//! (tensors outside of it are another matter, such as the optimiser's, and are not looked at), and the
//! `module.` of `DataParallel`.

use std::collections::BTreeMap;

use super::{WeightLayout, WeightSource};
use crate::{NetworkConfig, tensor_name};

/// A tensor of the file and what it is to us.
pub(super) struct Assigned {
    /// Its name in the file.
    pub(super) theirs: String,
    /// Its shape in the file.
    pub(super) shape: Vec<usize>,
    /// Our name for it; none when the network has no such tensor.
    pub(super) ours: Option<String>,
    /// Whether rows are our columns.
    pub(super) transposed: bool,
}

impl Assigned {
    /// The shape in our layout.
    pub(super) fn shape_of_ours(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.transposed {
            shape.reverse();
        }
        shape
    }
}

/// What a checkpoint may keep the weights under.
const CONTAINERS: [&str; 5] = ["", "state_dict.", "model_state_dict.", "model.", "network."];

/// Counters that `PyTorch` keeps beside the running statistics, and that have no effect.
const COUNTER: &str = "num_batches_tracked";

/// Finds out under which container, and by whose names, the file holds the network, and gives every
/// tensor in it our name where there is one. The choice with the most hits wins.
pub(super) fn assign<'a>(
    config: &NetworkConfig,
    ours: impl Iterator<Item = &'a str> + Clone,
    source: &dyn WeightSource,
) -> Vec<Assigned> {
    let found = source.tensors();
    let tables: Vec<BTreeMap<String, String>> = match source.layout() {
        WeightLayout::Burn => vec![ours.map(|name| (name.to_owned(), name.to_owned())).collect()],
        WeightLayout::PyTorch => vec![
            ours.clone()
                .flat_map(|name| published(config, name).into_iter().map(|theirs| (theirs, name.to_owned())))
                .collect(),
            ours.map(|name| (in_pytorch(name), name.to_owned())).collect(),
        ],
    };
    let mut best: (usize, Vec<Assigned>) = (0, Vec::new());
    for container in CONTAINERS {
        for table in &tables {
            let assigned: Vec<Assigned> = found
                .iter()
                .filter(|(name, _)| !name.ends_with(COUNTER))
                .filter_map(|(theirs, shape)| {
                    let ours = table.get(bare(theirs, container)?).cloned();
                    let dense = shape.len() == 2 && source.layout() == WeightLayout::PyTorch;
                    Some(Assigned {
                        theirs: theirs.clone(),
                        shape: shape.clone(),
                        transposed: dense && ours.is_some(),
                        ours,
                    })
                })
                .collect();
            let hits = assigned.iter().filter(|tensor| tensor.ours.is_some()).count();
            if hits > best.0 || best.1.is_empty() {
                best = (hits, assigned);
            }
        }
    }
    best.1
}

/// A name without its container and the prefixes of wrappers; none where it lies elsewhere.
fn bare<'a>(name: &'a str, container: &str) -> Option<&'a str> {
    let name = name.strip_prefix(container)?;
    Some(tensor_name(name.strip_prefix("module.").unwrap_or(name)))
}

/// Our name with the last part as `PyTorch` has it.
fn in_pytorch(ours: &str) -> String {
    let (layer, part) = ours.rsplit_once('.').unwrap_or(("", ours));
    format!("{layer}.{}", part_in_pytorch(part))
}

fn part_in_pytorch(part: &str) -> &str {
    match part {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    }
}

/// The names of the published implementation; more than one where its versions differ.
fn published(config: &NetworkConfig, ours: &str) -> Vec<String> {
    let parts: Vec<&str> = ours.split('.').collect();
    let index = |position: usize| parts.get(position).and_then(|part| part.parse::<usize>().ok());
    let (layer, part) = ours.rsplit_once('.').unwrap_or(("", ours));
    let part = part_in_pytorch(part);
    let named = |layer: String| vec![format!("{layer}.{part}")];
    match config {
        NetworkConfig::AlexNet(config) => match (parts[0], index(1)) {
            ("blocks", Some(block)) => {
                [0, 3, 6, 8, 10].get(block).map_or_else(Vec::new, |layer| named(format!("features.{layer}")))
            }
            // Dropout, dense, ReLU; the head has no dropout before it.
            ("dense", Some(index)) => named(format!("classifier.{}", 3 * index + 1)),
            ("head", _) => named(format!("classifier.{}", 3 * config.dense.len())),
            _ => vec![],
        },
        NetworkConfig::Vgg(config) => match (parts[0], index(1)) {
            ("blocks", Some(block)) => config.torchvision_index(block).map_or_else(Vec::new, |conv| {
                let norm = usize::from(parts[2] == "norm");
                named(format!("features.{}", conv + norm))
            }),
            // Dense, ReLU, dropout.
            ("dense", Some(index)) => named(format!("classifier.{}", 3 * index)),
            ("head", _) => named(format!("classifier.{}", 3 * config.dense.len())),
            _ => vec![],
        },
        NetworkConfig::ResNet(config) => match (parts[0], index(1)) {
            ("stem", _) => named(if parts[1] == "conv" { "conv1".into() } else { "bn1".into() }),
            ("blocks", Some(block)) => {
                let Some((stage, block)) = config.place(block) else { return vec![] };
                let place = format!("layer{}.{block}", stage + 1);
                match (parts[2], index(3), parts.get(4)) {
                    ("convs", Some(position), Some(&"conv")) => {
                        named(format!("{place}.conv{}", position + 1))
                    }
                    ("convs", Some(position), _) => named(format!("{place}.bn{}", position + 1)),
                    _ => {
                        let norm = usize::from(parts[3] == "norm");
                        named(format!("{place}.downsample.{norm}"))
                    }
                }
            }
            ("head", _) if config.is_small() => named("linear".into()),
            ("head", _) => named("fc".into()),
            _ => vec![],
        },
        NetworkConfig::Vit(_) => match (parts[0], index(1)) {
            ("embedding", _) => match parts[1] {
                "patches" => named("conv_proj".into()),
                "class_token" => vec!["class_token".into()],
                _ => vec!["encoder.pos_embedding".into()],
            },
            ("blocks", Some(block)) => {
                let place = format!("encoder.layers.encoder_layer_{block}");
                match layer.splitn(3, '.').nth(2) {
                    Some("attention_norm") => named(format!("{place}.ln_1")),
                    Some("attention.inputs") => vec![format!("{place}.self_attention.in_proj_{part}")],
                    Some("attention.output") => named(format!("{place}.self_attention.out_proj")),
                    Some("mlp_norm") => named(format!("{place}.ln_2")),
                    Some("widen") => {
                        vec![format!("{place}.mlp.0.{part}"), format!("{place}.mlp.linear_1.{part}")]
                    }
                    Some("narrow") => {
                        vec![format!("{place}.mlp.3.{part}"), format!("{place}.mlp.linear_2.{part}")]
                    }
                    _ => vec![],
                }
            }
            ("norm", _) => named("encoder.ln".into()),
            ("head", _) => named("heads.head".into()),
            _ => vec![],
        },
        NetworkConfig::Rnn(_) => match (parts[0], index(1)) {
            ("blocks", Some(layer)) => {
                let side = if parts[2] == "input" { "ih" } else { "hh" };
                vec![format!("rnn.{part}_{side}_l{layer}")]
            }
            _ => named(layer.to_owned()),
        },
        NetworkConfig::Cnn(_) | NetworkConfig::Mlp(_) | NetworkConfig::LeNet5(_) => vec![],
    }
}

/// The file's first convolution, by any of its names: channels of the images it takes.
pub(super) fn input_channels(config: &NetworkConfig, source: &dyn WeightSource) -> Option<usize> {
    let first = ["stem.conv.weight", "blocks.0.conv.weight", "embedding.patches.conv.weight"];
    let names: Vec<String> = first
        .iter()
        .flat_map(|ours| published(config, ours).into_iter().chain([(*ours).to_owned()]))
        .collect();
    source.tensors().into_iter().find_map(|(theirs, shape)| {
        let known = CONTAINERS
            .iter()
            .any(|container| bare(&theirs, container).is_some_and(|name| names.iter().any(|n| n == name)));
        match shape[..] {
            [_, channels, _, _] if known => Some(channels),
            _ => None,
        }
    })
}
