//! Fine-tuning: what differs from training is where the weights come from, what is frozen, and the
//! rate of the layers below the head. Everything else is `train`'s, the loop included.

#![recursion_limit = "256"]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod comparison;
pub mod source;

use std::process::ExitCode;

use clap::Args;
use train::command::{Failure, resumed, run, set_up};
use train::config::arguments::{CommonArguments, published_network};
use train::config::{ConfigError, ConfigLayers, TrainConfig, UnfreezeAt};
use train::start::Start;
use train::start::{configure, configure_foreign};

use crate::source::Source;

/// The committed model, for programs that must answer wherever they are called:
/// [`train::start::model_io::provide_reference`] takes it.
pub const REFERENCE_MODEL: &[u8] = include_bytes!("../../../artifacts/reference/model.kiln");

/// Data to fine-tune on when none is named.
const DEFAULT_DATASET: &str = "fashion-mnist";
/// Passes over it when their number is not given.
const DEFAULT_EPOCHS: i64 = 5;

/// In a configuration 0 stands for never, which nobody means who types it.
fn unfreeze_at(text: &str) -> Result<UnfreezeAt, String> {
    match text.parse()? {
        UnfreezeAt::All(0) => {
            Err("epochs are counted from 1; to keep everything frozen leave the flag out".to_owned())
        }
        at => Ok(at),
    }
}

/// The flags of `finetune`.
#[derive(Args, Clone, Debug, Default)]
pub struct FinetuneArguments {
    /// Shared flags.
    #[command(flatten)]
    pub common: CommonArguments,
    /// Model file or run folder to start from [default: the newest finished run on other data, else the reference model]
    #[arg(long, value_name = "RUN|FILE")]
    pub from: Option<std::path::PathBuf>,
    /// Start from weights of another program instead: a PyTorch, safetensors or burnpack file for the network named by
    /// --model, or torchvision:NAME, for example torchvision:resnet18
    #[arg(long, value_name = "FILE|torchvision:NAME", conflicts_with_all = ["from", "resume"])]
    pub weights: Option<String>,
    /// With --weights: take the tensors that fit, and initialise what is missing or of another shape
    // `requires` alone is waived by clap where a flag is given that excludes --weights.
    #[arg(long, requires = "weights", conflicts_with_all = ["from", "resume"])]
    pub allow_mismatch: bool,
    /// The network that --weights belong to, for example resnet20; `kiln models` lists them
    #[arg(long, value_name = "NAME", requires = "weights", conflicts_with_all = ["from", "resume"])]
    pub model: Option<String>,
    /// Parameters that stay as they are: features, none, or a regular expression over their paths [default: none]
    #[arg(long, value_name = "features|none|REGEX")]
    pub freeze: Option<String>,
    /// Unfreeze everything from this epoch on (counted from 1); with a list such as 2,4,6 one layer group at each of these
    /// epochs, from the head down
    #[arg(long, value_name = "EPOCH[,EPOCH...]", value_parser = unfreeze_at)]
    pub unfreeze_at: Option<UnfreezeAt>,
    /// Learning rate of the features (all below the classifier), as a factor of the base rate [default: 1]
    #[arg(long, value_name = "FACTOR")]
    pub feature_rate: Option<f64>,
    /// Learning rate of each layer group, as a factor of that of the group above it [default: 1]
    #[arg(long, value_name = "FACTOR")]
    pub layer_decay: Option<f64>,
    /// Keep the old classification head for the classes that the data has too, by their names; the weights of other classes are initialised
    #[arg(long)]
    pub keep_head: bool,
    /// Also train from scratch on the same images with the same budget, and compare
    #[arg(long, conflicts_with = "resume")]
    pub compare_scratch: bool,
}

/// The flags of the program `finetune`.
#[derive(clap::Parser, Debug)]
#[command(name = "finetune", about = "Fine-tune a trained model on other labelled images", version)]
pub struct FinetuneProgram {
    /// All of them.
    #[command(flatten)]
    pub arguments: FinetuneArguments,
}

/// Runs `finetune`.
///
/// # Errors
/// With the message to print and the exit status.
pub fn finetune(arguments: &FinetuneArguments) -> Result<ExitCode, Failure> {
    set_up(&arguments.common)?;
    if let Some((config, start)) = resumed(&arguments.common)? {
        return match arguments.own_flag() {
            Some(flag) => Err(Failure::usage(format!("{flag} cannot be combined with --resume"))),
            None => run("finetune", &config, start, &arguments.common),
        };
    }
    let (config, start) = match &arguments.weights {
        Some(weights) => arguments.foreign(weights)?,
        None => arguments.own()?,
    };
    if !arguments.compare_scratch {
        return run("finetune", &config, start, &arguments.common);
    }
    comparison::run(config, start, &arguments.common)
}

impl FinetuneArguments {
    /// A start from what `--from` or the configuration names, else from a model that is found.
    fn own(&self) -> Result<(TrainConfig, Start), Failure> {
        let mut layers = self.layers(None)?.with_absolute_paths();
        // Before anything is loaded: a wrong flag is known at once.
        let config = layers.clone().resolve()?;
        let named = config.finetune.as_ref().is_some_and(|finetune| !finetune.from.is_empty());
        if self.from.is_some() || !named {
            let source = Source::find(self.from.as_deref(), &self.common.out, &config.data.dataset)?;
            tracing::info!("starting from {source}");
            layers.set_start(&source.path().display().to_string());
        }
        Ok(configure(layers, &self.common.search())?)
    }

    /// A start from weights of another program.
    fn foreign(&self, name: &str) -> Result<(TrainConfig, Start), Failure> {
        let network = self.model.as_deref().or(published_network(name));
        let Some(network) = network else {
            return Err(Failure::usage(format!(
                "--weights {name}: a file of weights does not say which network it belongs to; name it with --model"
            )));
        };
        Ok(configure_foreign(self.layers(Some(network))?, name, &self.common.search())?)
    }

    fn own_flag(&self) -> Option<&'static str> {
        [
            ("--from", self.from.is_some()),
            ("--weights", self.weights.is_some()),
            ("--freeze", self.freeze.is_some()),
            ("--unfreeze-at", self.unfreeze_at.is_some()),
            ("--feature-rate", self.feature_rate.is_some()),
            ("--layer-decay", self.layer_decay.is_some()),
            ("--keep-head", self.keep_head),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }

    fn layers(&self, network: Option<&str>) -> Result<ConfigLayers, ConfigError> {
        let mut layers = self.common.layers(network)?;
        let keeps_network = self.common.set.iter().any(|expression| expression.starts_with("network"));
        if self.from.is_some() && layers.get("finetune.from").is_some() && !keeps_network {
            // The file is that of a run, and its network that of the model which the flag replaces.
            layers.take("network");
        }
        layers.set_default("data.dataset", DEFAULT_DATASET);
        layers.set_default("epochs", DEFAULT_EPOCHS);
        if let Some(freeze) = &self.freeze {
            layers.set("finetune.freeze", freeze.clone());
        }
        if let Some(at) = &self.unfreeze_at {
            layers.set("finetune.unfreeze_at", at.clone());
        }
        if let Some(rate) = self.feature_rate {
            layers.set("finetune.feature_rate", rate);
        }
        if let Some(decay) = self.layer_decay {
            layers.set("finetune.layer_decay", decay);
        }
        for (key, given) in
            [("finetune.keep_head", self.keep_head), ("finetune.allow_mismatch", self.allow_mismatch)]
        {
            if given {
                layers.set(key, true);
            }
        }
        Ok(layers)
    }
}
