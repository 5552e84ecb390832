//! Which parameters stay as they are, in which epoch, and which learning rate the others get.

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamGroupError};
use burn::tensor::Tensor;
use model::{LayerGroups, Network};

use crate::config::{FinetuneConfig, UnfreezeAt};

/// What `freeze` and `unfreeze_at` cannot mean.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// `freeze` is no regular expression.
    #[error("finetune.freeze = {pattern}: expected `features`, `none` or a regular expression: {message}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        message: String,
    },
    /// Nothing would be frozen.
    #[error(
        "finetune.freeze = {pattern} matches no parameter: expected `features`, `none` or a regular expression over \
         paths such as {example}; the layer groups are {groups}"
    )]
    Nothing {
        /// What was given.
        pattern: String,
        /// The path of a parameter.
        example: String,
        /// The network's groups.
        groups: String,
    },
    /// Everything would be frozen.
    #[error(
        "finetune.freeze = {pattern} leaves nothing to train in epoch {epoch}: every parameter is frozen; freeze fewer, \
         for example `features`, or unfreeze some in epoch 1"
    )]
    Everything {
        /// What was given.
        pattern: String,
        /// The first such epoch.
        epoch: usize,
    },
    /// More stages than groups.
    #[error("finetune.unfreeze_at has {found} epochs, but {expected} layer groups are frozen: {groups}")]
    Stages {
        /// Epochs given.
        found: usize,
        /// Groups that are frozen.
        expected: usize,
        /// Their names, from the head down.
        groups: String,
    },
}

/// What is frozen, epoch by epoch.
#[derive(Clone, Debug)]
pub struct Freezing {
    /// First epoch (from 1) of each stage and what is frozen then, ascending.
    stages: Vec<(usize, Option<ParamGroup>)>,
}

impl Freezing {
    /// What a configuration freezes of a network; `None` when that is nothing.
    ///
    /// With a list of epochs the frozen layer groups are unfrozen one after the other, from the head down (gradual
    /// unfreezing, Howard & Ruder 2018, section 3.3).
    ///
    /// # Errors
    /// When `freeze` is no regular expression, matches nothing or leaves nothing to train, and when there are more epochs than groups.
    pub fn new(finetune: &FinetuneConfig, network: &Network) -> Result<Option<Self>, FreezeError> {
        let groups = network.layer_groups();
        let pattern = match finetune.freeze.as_str() {
            "none" | "" => return Ok(None),
            "features" => any_of(groups.features.iter().map(String::as_str)),
            pattern => pattern.to_owned(),
        };
        let names = |groups: &[&str]| groups.join(", ");
        let frozen = matching(&pattern)
            .map_err(|message| FreezeError::Pattern { pattern: finetune.freeze.clone(), message })?;
        let paths = paths(network);
        let in_group = |group: &str| {
            let Ok(members) = matching(&any_of([group])) else { return false };
            paths.iter().any(|(id, path)| frozen.matches(id, Some(path)) && members.matches(id, Some(path)))
        };
        // From the head down.
        let touched: Vec<&str> = groups.iter().rev().filter(|group| in_group(group)).collect();
        if touched.is_empty() {
            return Err(FreezeError::Nothing {
                pattern: finetune.freeze.clone(),
                example: paths.first().map_or_else(String::new, |(_, path)| path.clone()),
                groups: names(&groups.iter().collect::<Vec<_>>()),
            });
        }
        let mut stages = vec![(1, Some(frozen.clone()))];
        match &finetune.unfreeze_at {
            UnfreezeAt::All(0) => {}
            UnfreezeAt::All(epoch) => stages.push((*epoch, None)),
            UnfreezeAt::Stages(epochs) if epochs.len() > touched.len() => {
                return Err(FreezeError::Stages {
                    found: epochs.len(),
                    expected: touched.len(),
                    groups: names(&touched),
                });
            }
            UnfreezeAt::Stages(epochs) => {
                for (unfrozen, epoch) in epochs.iter().enumerate() {
                    let unfrozen = &touched[..=unfrozen];
                    let rest = (unfrozen.len() < touched.len()).then(|| {
                        let unfrozen = any_of(unfrozen.iter().copied());
                        matching(&unfrozen).map(|unfrozen| frozen.clone().exclude(unfrozen))
                    });
                    let rest = rest.transpose().map_err(|message| FreezeError::Pattern {
                        pattern: finetune.freeze.clone(),
                        message,
                    })?;
                    stages.push((*epoch, rest));
                }
            }
        }
        let freezing = Self { stages };
        for (epoch, _) in &freezing.stages {
            let frozen = freezing.at(*epoch);
            if frozen.is_some_and(|group| paths.iter().all(|(id, path)| group.matches(id, Some(path)))) {
                return Err(FreezeError::Everything { pattern: finetune.freeze.clone(), epoch: *epoch });
            }
        }
        Ok(Some(freezing))
    }

    /// What is frozen in an epoch, counted from 1.
    pub fn at(&self, epoch: usize) -> Option<&ParamGroup> {
        self.stages.iter().rev().find(|(first, _)| *first <= epoch).and_then(|(_, frozen)| frozen.as_ref())
    }
}

/// The layer groups whose rate is not the base rate, with their factor: `layer_decay` to the power of a group's
/// distance from the head (Clark et al. 2020, section 3.1, call it layer-wise learning-rate decay), times
/// `feature_rate` below the classifier.
pub fn rate_factors(finetune: &FinetuneConfig, groups: &LayerGroups) -> Vec<(ParamGroup, f64)> {
    let features = groups.features.len();
    let all: Vec<&str> = groups.iter().collect();
    let mut factors = Vec::new();
    for (index, group) in all.iter().enumerate() {
        let distance = i32::try_from(all.len() - 1 - index).unwrap_or(i32::MAX);
        let below = if index < features { finetune.feature_rate } else { 1.0 };
        let factor = finetune.layer_decay.powi(distance) * below;
        #[expect(clippy::float_cmp, reason = "exactly the base rate needs no group of its own")]
        if factor != 1.0
            && let Ok(members) = matching(&any_of([*group]))
        {
            factors.push((members, factor));
        }
    }
    factors
}

fn matching(pattern: &str) -> Result<ParamGroup, String> {
    ParamGroup::from_regex(pattern).map_err(|error| match error {
        ParamGroupError::InvalidPatternError(message) => {
            message.trim_start_matches("Invalid regex pattern: ").to_owned()
        }
    })
}

/// A regular expression over parameter paths for the tensors of some groups. A path is a tensor's name behind the
/// names of the modules that hold the network: `network.Cnn.blocks.0.conv.weight`.
fn any_of<'a>(groups: impl IntoIterator<Item = &'a str>) -> String {
    let escaped: Vec<String> = groups.into_iter().map(|group| group.replace('.', r"\.")).collect();
    format!(r"^(network\.)?([A-Z][A-Za-z0-9]*\.)?({})\.", escaped.join("|"))
}

/// Id and path of every parameter, as the optimiser sees them.
fn paths(network: &Network) -> Vec<(burn::module::ParamId, String)> {
    #[derive(Default)]
    struct Paths {
        stack: Vec<String>,
        found: Vec<(burn::module::ParamId, String)>,
    }
    impl ModuleVisitor for Paths {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.stack.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.stack.pop();
        }
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            self.found.push((parameter.id, format!("network.{}", self.stack.join("."))));
        }
    }
    let mut visitor = Paths::default();
    network.visit(&mut visitor);
    visitor.found
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use model::{CnnConfig, ConvBlockConfig, InputShape, NetworkConfig};

    use super::*;

    fn network() -> Network {
        let config = CnnConfig {
            blocks: vec![ConvBlockConfig::new(2), ConvBlockConfig::new(2)],
            dense: vec![4],
            batch_norm: true,
            ..CnnConfig::default()
        };
        NetworkConfig::Cnn(config).init(InputShape::new(1, 6, 6), 3, 1, &Device::flex()).unwrap()
    }

    fn finetune(freeze: &str, unfreeze_at: UnfreezeAt) -> FinetuneConfig {
        FinetuneConfig { freeze: freeze.to_owned(), unfreeze_at, ..FinetuneConfig::default() }
    }

    /// The layer groups that a parameter group holds whole.
    fn held(group: Option<&ParamGroup>) -> Vec<String> {
        let network = network();
        let paths = paths(&network);
        let groups = network.layer_groups();
        groups
            .iter()
            .filter(|name| {
                let mut members =
                    paths.iter().filter(|(_, path)| path.contains(&format!(".{name}."))).peekable();
                members.peek().is_some()
                    && members.all(|(id, path)| group.is_some_and(|group| group.matches(id, Some(path))))
            })
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn groups_are_unfrozen_from_the_head_down() {
        let stages = UnfreezeAt::Stages(vec![2, 4]);
        let freezing = Freezing::new(&finetune("features", stages), &network()).unwrap().unwrap();
        for (epoch, expected) in [
            (1, vec!["blocks.0", "blocks.1"]),
            (2, vec!["blocks.0"]),
            (3, vec!["blocks.0"]),
            (4, vec![]),
            (9, vec![]),
        ] {
            assert_eq!(held(freezing.at(epoch)), expected, "epoch {epoch}");
        }
        // Fewer epochs than groups: the rest stays frozen. Two groups in one epoch is fine.
        let freeze = finetune("blocks|dense", UnfreezeAt::Stages(vec![2, 2]));
        let most = Freezing::new(&freeze, &network()).unwrap().unwrap();
        assert_eq!(held(most.at(1)), ["blocks.0", "blocks.1", "dense.0"]);
        assert_eq!(held(most.at(2)), ["blocks.0"]);
    }

    #[test]
    fn all_at_once_or_never() {
        let once = Freezing::new(&finetune("features", UnfreezeAt::All(3)), &network()).unwrap().unwrap();
        assert_eq!(held(once.at(2)), ["blocks.0", "blocks.1"]);
        assert!(once.at(3).is_none());
        let never = Freezing::new(&finetune("features", UnfreezeAt::All(0)), &network()).unwrap().unwrap();
        assert_eq!(held(never.at(999)), ["blocks.0", "blocks.1"]);
        assert!(Freezing::new(&finetune("none", UnfreezeAt::All(3)), &network()).unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_frozen_is_an_error() {
        let error =
            |freeze: &str, at| Freezing::new(&finetune(freeze, at), &network()).unwrap_err().to_string();
        assert!(error("(", UnfreezeAt::All(0)).contains("regular expression"));
        let nothing = error("layer4", UnfreezeAt::All(0));
        assert!(
            nothing.contains("layer4") && nothing.contains("network.Cnn.blocks.0.conv.weight"),
            "{nothing}"
        );
        for at in [UnfreezeAt::All(0), UnfreezeAt::All(3), UnfreezeAt::Stages(vec![2])] {
            for freeze in [".*", "network", "blocks|dense|head"] {
                let all = error(freeze, at.clone());
                assert!(all.contains(freeze) && all.contains("nothing to train in epoch 1"), "{all}");
            }
        }
        // The head is unfrozen at once.
        assert!(Freezing::new(&finetune(".*", UnfreezeAt::Stages(vec![1])), &network()).is_ok());
        let stages = error("features", UnfreezeAt::Stages(vec![1, 2, 3]));
        assert!(stages.contains("3 epochs") && stages.contains("blocks.1, blocks.0"), "{stages}");
    }

    #[test]
    fn rates_fall_from_the_head_down() {
        let finetune = FinetuneConfig { layer_decay: 0.5, feature_rate: 0.1, ..FinetuneConfig::default() };
        let factors = rate_factors(&finetune, &network().layer_groups());
        let found: Vec<(Vec<String>, f64)> =
            factors.iter().map(|(group, factor)| (held(Some(group)), *factor)).collect();
        for ((groups, factor), (name, expected)) in
            found.iter().zip([("blocks.0", 0.0125), ("blocks.1", 0.025), ("dense.0", 0.5)])
        {
            assert_eq!(groups, &[name]);
            assert!((factor - expected).abs() < 1e-12, "{name}: {factor}");
        }
        assert_eq!(found.len(), 3, "the head has the base rate");
        assert!(rate_factors(&FinetuneConfig::default(), &network().layer_groups()).is_empty());
    }
}
