//! What published implementations call the tensors of a network.
//!
//! | network | names of |
//! |---|---|
//! | `alexnet`, `vgg`, `vit`, `resnet` 18 to 152 | torchvision |
//! | `resnet` | Hugging Face's `transformers` |
//! | `resnet` 20 to 110 | the CIFAR implementation of Y. Idelbayev (`pytorch_resnet_cifar10`) |
//! | `vit` | timm |
//! | `rnn` | a module with `rnn = nn.LSTM(...)` or `nn.GRU(...)` and `head = nn.Linear(...)` |
//! | `cnn`, `mlp`, `lenet5`, `alexnet`, `vgg` (layers in a row) | any module with as many layers in the order of their numbers, such as an `nn.Sequential` |
//! | all | a module whose attributes are called as ours |
//!
//! The names of a published implementation are in the network's file (`published_names`).
//!
//! What stands before these names is no part of them: a checkpoint's key (`state_dict.`, `net.`), the attribute of a
//! module around the network (`model.`, `backbone.`), or both, in any depth. The prefix under which most names are
//! known is taken off, and what lies elsewhere (the optimiser's state, an average of the weights) is not looked at.
//! Wrappers that only pass on to a module (`DataParallel`, `torch.compile`) are taken out wherever they stand.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{WeightLayout, WeightSource};
use crate::{
    Graph, Operator,
    networks::NetworkConfig,
    networks::architecture::{in_pytorch, part_in_pytorch},
};

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

/// The tensors of a file that belong to the network, and where they were found.
pub(super) struct Assignment {
    /// What lies under the prefix.
    pub(super) tensors: Vec<Assigned>,
    /// What stands before every name, with its dot; empty where nothing does.
    pub(super) prefix: String,
    /// Other prefixes under which as much of the network was found.
    pub(super) others: Vec<String>,
}

/// Counters that `PyTorch` keeps beside the running statistics, and that have no effect.
const COUNTER: &str = "num_batches_tracked";

/// Modules that only pass on to the one inside.
const TRANSPARENT: [&str; 4] = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// Parts of a prefix that say that what follows is an average or a copy of the weights in training.
const COPIES: [&str; 8] = ["ema", "averag", "swa", "shadow", "teacher", "target", "momentum", "encoder_k"];

/// Finds out under which prefix, and by whose names, the file holds the network, and gives every tensor under it our
/// name where there is one. The choice with the most hits wins; among equals the weights themselves before an average
/// of them, then the shortest prefix.
pub(super) fn assign<'a>(
    config: &NetworkConfig,
    graph: &Graph,
    ours: impl Iterator<Item = &'a str> + Clone,
    source: &dyn WeightSource,
) -> Assignment {
    let found = File::new(source);
    let count = ours.clone().count();
    let mut tables: Vec<BTreeMap<String, String>> = match source.layout() {
        WeightLayout::Burn => vec![],
        WeightLayout::PyTorch => vec![
            ours.clone()
                .flat_map(|name| {
                    config.published_names(name).into_iter().map(|theirs| (theirs, name.to_owned()))
                })
                .collect(),
            ours.clone().map(|name| (in_pytorch(name), name.to_owned())).collect(),
        ],
    };
    if source.layout() == WeightLayout::Burn {
        tables.push(ours.clone().map(|name| (name.to_owned(), name.to_owned())).collect());
    }
    // Hits, prefix, and the table.
    let mut choices: Vec<(usize, String, &BTreeMap<String, String>)> = Vec::new();
    for table in &tables {
        choices.extend(found.prefixes(table).into_iter().map(|(prefix, hits)| (hits, prefix, table)));
    }
    let mut by_position = Vec::new();
    if source.layout() == WeightLayout::PyTorch && graph.is_plain() {
        let ours: Vec<&str> = ours.collect();
        for prefix in found.prefixes_of(count) {
            by_position.extend(found.by_position(&prefix, &ours).map(|table| (prefix, table)));
        }
    }
    let rank = |(hits, prefix, _): &(usize, String, &BTreeMap<String, String>)| {
        (Reverse(*hits), is_copy(prefix), prefix.len(), prefix.clone())
    };
    choices.sort_by_key(rank);
    // Names say more than positions do.
    let named = choices.first().is_some_and(|(hits, _, _)| *hits == count);
    if !named {
        choices.extend(by_position.iter().map(|(prefix, table)| (count, prefix.clone(), table)));
        choices.sort_by_key(rank);
    }
    let nothing = BTreeMap::new();
    // A few names that happen to be known say nothing about where the network is.
    let (hits, prefix, table) = match choices.first() {
        Some((hits, prefix, table)) if 4 * hits >= count => (*hits, prefix.clone(), *table),
        first => (0, found.common_prefix(), first.map_or(&nothing, |(_, _, table)| *table)),
    };
    let others: BTreeSet<String> = choices
        .iter()
        .filter(|(other, at, _)| hits > 0 && *other == hits && *at != prefix)
        .map(|(_, at, _)| at.clone())
        .collect();
    let others = others.into_iter().collect();
    Assignment { tensors: found.under(&prefix, table, source.layout()), prefix, others }
}

/// Whether a prefix says that it holds a copy.
fn is_copy(prefix: &str) -> bool {
    let prefix = prefix.to_ascii_lowercase();
    COPIES.iter().any(|part| prefix.contains(part))
}

/// The tensors of a file: the name without transparent modules, the name, the shape.
struct File(Vec<(String, String, Vec<usize>)>);

impl File {
    fn new(source: &dyn WeightSource) -> Self {
        let tensors: Vec<_> =
            source.tensors().into_iter().filter(|(name, _)| !name.ends_with(COUNTER)).collect();
        let opaque = |name: &str| -> String {
            let parts: Vec<&str> = name.split('.').filter(|part| !TRANSPARENT.contains(part)).collect();
            parts.join(".")
        };
        let bare: Vec<String> = tensors.iter().map(|(name, _)| opaque(name)).collect();
        // Where both a module and what it wraps are in the file, names stay as they are.
        let distinct = bare.iter().collect::<BTreeSet<_>>().len() == bare.len();
        let named = bare.into_iter().zip(tensors);
        Self(
            named
                .map(|(bare, (name, shape))| (if distinct { bare } else { name.clone() }, name, shape))
                .collect(),
        )
    }

    /// For every prefix how many of the names behind it are known.
    fn prefixes(&self, table: &BTreeMap<String, String>) -> BTreeMap<String, usize> {
        let mut hits = BTreeMap::new();
        for (name, _, _) in &self.0 {
            for at in starts(name).filter(|&at| table.contains_key(&name[at..])) {
                *hits.entry(name[..at].to_owned()).or_insert(0) += 1;
            }
        }
        hits
    }

    /// The prefixes of exactly so many tensors; of those that stand before the same the longest.
    fn prefixes_of(&self, count: usize) -> Vec<String> {
        let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, _, _) in &self.0 {
            for at in starts(name) {
                *sizes.entry(&name[..at]).or_insert(0) += 1;
            }
        }
        let mut found: Vec<String> = Vec::new();
        // In their order a prefix comes directly before those that begin with it.
        for (prefix, _) in sizes.into_iter().filter(|&(_, size)| size == count) {
            if found.last().is_some_and(|last| prefix.starts_with(last.as_str())) {
                found.pop();
            }
            found.push(prefix.to_owned());
        }
        found
    }

    /// What every name in the file begins with, whole parts only.
    fn common_prefix(&self) -> String {
        let Some((first, _, _)) = self.0.first() else { return String::new() };
        let shared = |at: &usize| self.0.iter().all(|(name, _, _)| name.starts_with(&first[..*at]));
        starts(first).filter(shared).last().map_or_else(String::new, |at| first[..at].to_owned())
    }

    /// The tensors under a prefix with our names for them.
    fn under(&self, prefix: &str, table: &BTreeMap<String, String>, layout: WeightLayout) -> Vec<Assigned> {
        let inside = self.0.iter().filter_map(|(bare, name, shape)| {
            let ours = table.get(bare.strip_prefix(prefix)?).cloned();
            let dense = shape.len() == 2 && layout == WeightLayout::PyTorch;
            Some(Assigned {
                theirs: name.clone(),
                shape: shape.clone(),
                transposed: dense && ours.is_some(),
                ours,
            })
        });
        let mut tensors: Vec<Assigned> = inside.collect();
        // Where a transparent module stands around the network, what is beside it is outside.
        let mut leads =
            tensors.iter().filter(|t| t.ours.is_some()).map(|t| lead(&t.theirs, prefix).to_owned());
        if let Some(first) = leads.next()
            && leads.all(|other| other == first)
        {
            tensors.retain(|tensor| tensor.theirs.starts_with(&first));
        }
        tensors
    }

    /// Names under a prefix to ours by the order of their numbers; none where the layers are not of the same kinds
    /// and with the same parts.
    fn by_position(&self, prefix: &str, ours: &[&str]) -> Option<BTreeMap<String, String>> {
        let theirs = self.0.iter().filter_map(|(name, _, shape)| {
            let name = name.strip_prefix(prefix)?;
            Some((name, name.rsplit_once('.').unwrap_or(("", name)).1, Some(shape.len())))
        });
        let theirs = Layers::new(theirs)?;
        let ours = ours.iter().map(|&name| {
            let part = name.rsplit_once('.').unwrap_or(("", name)).1;
            (name, part_in_pytorch(part), None)
        });
        theirs.paired(Layers::new(ours)?)
    }
}

/// What stands before the network in a name as the file has it: the prefix with the transparent modules in and behind it.
fn lead<'a>(name: &'a str, prefix: &str) -> &'a str {
    let mut rest = prefix.split_terminator('.').peekable();
    let mut end = 0;
    for part in name.split('.') {
        if rest.next_if_eq(&part).is_none() && !TRANSPARENT.contains(&part) {
            break;
        }
        end += part.len() + 1;
    }
    &name[..end.min(name.len())]
}

/// Where a name may begin: at its start and behind its dots. No module lies as deep as the limit; it bounds the work
/// on a name that a hostile file makes of dots.
fn starts(name: &str) -> impl Iterator<Item = usize> + '_ {
    const DEEPEST: usize = 32;
    std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1)).take(DEEPEST)
}

/// Kinds of layers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Conv,
    Norm,
    Dense,
}

/// The layers of a plain network by kind and in their order: parts such as `weight` with the whole name.
struct Layers<'a>(BTreeMap<(Kind, Vec<Token<'a>>), BTreeMap<&'a str, &'a str>>);

impl<'a> Layers<'a> {
    /// From names, their parts as `PyTorch` calls them, and the rank of their tensors where our own name does not say
    /// the kind.
    fn new(names: impl Iterator<Item = (&'a str, &'a str, Option<usize>)>) -> Option<Self> {
        let mut layers: BTreeMap<&str, (BTreeMap<&str, &str>, Option<usize>)> = BTreeMap::new();
        for (name, part, rank) in names {
            let layer = name.rsplit_once('.').map_or("", |(layer, _)| layer);
            let (parts, weight) = layers.entry(layer).or_default();
            parts.insert(part, name);
            if part == "weight" {
                *weight = rank;
            }
        }
        let kinds = layers.into_iter().map(|(layer, (parts, rank))| {
            let kind = match rank {
                _ if parts.contains_key("running_mean") => Kind::Norm,
                Some(4) => Kind::Conv,
                Some(2) => Kind::Dense,
                Some(_) => return None,
                None if layer.ends_with("conv") => Kind::Conv,
                None => Kind::Dense,
            };
            Some(((kind, natural(layer)), parts))
        });
        Some(Self(kinds.collect::<Option<_>>()?))
    }

    /// These names to those, layer by layer.
    fn paired(self, others: Layers) -> Option<BTreeMap<String, String>> {
        let mut table = BTreeMap::new();
        if self.0.len() != others.0.len() {
            return None;
        }
        for (((kind, _), theirs), ((other, _), ours)) in self.0.into_iter().zip(others.0) {
            if kind != other || !theirs.keys().eq(ours.keys()) {
                return None;
            }
            table.extend(
                theirs.into_values().zip(ours.into_values()).map(|(a, b)| (a.to_owned(), b.to_owned())),
            );
        }
        Some(table)
    }
}

/// A piece of a name: numbers before words.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Token<'a> {
    Number(u64),
    Word(&'a str),
}

/// A name cut so that `conv10` comes after `conv2`.
fn natural(name: &str) -> Vec<Token<'_>> {
    let digits = name.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    let mut at = 0;
    digits
        .map(|piece| {
            let text = &name[at..at + piece.len()];
            at += piece.len();
            text.parse().map_or(Token::Word(text), Token::Number)
        })
        .collect()
}

/// What the names in a file look like, for a message when they are not those of the network.
pub(super) fn look_like(source: &dyn WeightSource) -> Option<&'static str> {
    const LOOKS: [(&str, &str); 8] = [
        (
            "embeddings.patch_embeddings.",
            "a vision transformer of Hugging Face, which keeps queries, keys and values apart; Kiln reads those of \
             torchvision and timm",
        ),
        ("embedder.embedder.convolution", "a ResNet of Hugging Face (--model resnet18 to resnet152)"),
        ("attn.qkv.", "a vision transformer of timm (--model vit-tiny and the like)"),
        ("encoder.layers.encoder_layer_", "a vision transformer of torchvision"),
        ("layer4.0.conv1.weight", "a ResNet of torchvision or timm (--model resnet18 to resnet152)"),
        ("layer3.0.conv1.weight", "a ResNet for small images (--model resnet20 to resnet110)"),
        ("stages.0.blocks.0.", "a ConvNeXt of timm, which Kiln does not have"),
        ("features.denseblock1.", "a DenseNet, which Kiln does not have"),
    ];
    let names: Vec<String> = source.tensors().into_iter().map(|(name, _)| name).collect();
    LOOKS.iter().find(|(part, _)| names.iter().any(|name| name.contains(part))).map(|(_, what)| *what)
}

/// The file's first convolution, by any of its names: channels of the images it takes.
pub(super) fn input_channels(config: &NetworkConfig, source: &dyn WeightSource) -> Option<usize> {
    let graph = config.any_graph()?;
    let is_convolution = |operator: &Operator| matches!(operator, Operator::Convolution(_));
    let ours = graph
        .nodes
        .iter()
        .find(|node| is_convolution(&node.operator))
        .map(|node| format!("{}.weight", node.name))?;
    let names: Vec<String> = config.published_names(&ours).into_iter().chain([ours]).collect();
    let file = File::new(source);
    let filters = || file.0.iter().filter(|(_, _, shape)| shape.len() == 4);
    // Blocks have a `conv1`, too: that of the network lies less deep.
    let named = filters()
        .filter(|(name, _, _)| starts(name).any(|at| names.iter().any(|known| *known == name[at..])))
        .min_by_key(|(name, _, _)| starts(name).count());
    let first = || graph.is_plain().then(|| filters().min_by_key(|(name, _, _)| natural(name))).flatten();
    named.or_else(first).map(|(_, _, shape)| shape[1])
}
