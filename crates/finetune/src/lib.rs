//! Fine-tuning: what differs from training is where the weights come from, what is frozen, and the
//! rate of the layers below the head. Everything else is `train`'s, the loop included.

#![recursion_limit = "256"]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod comparison;
pub mod source;

use std::process::ExitCode;

use clap::Args;
use model::Model;
use train::arguments::CommonArguments;
use train::command::{Failure, resumed, run, set_up};
use train::config::{ConfigError, ConfigLayers, TrainConfig, UnfreezeAt};
use train::fit::Start;

use crate::source::Source;

/// Data to fine-tune on when none is named.
const DEFAULT_DATASET: &str = "fashion-mnist";
/// Passes over it when their number is not given.
const DEFAULT_EPOCHS: i64 = 5;

/// The flags of `finetune`.
#[derive(Args, Clone, Debug, Default)]
pub struct FinetuneArguments {
    /// Shared flags.
    #[command(flatten)]
    pub common: CommonArguments,
    /// Model file or run folder to start from [default: the newest finished run on other data, else the reference model]
    #[arg(long, value_name = "RUN|FILE")]
    pub from: Option<std::path::PathBuf>,
    /// Parameters that stay as they are: features, none, or a regular expression over their paths [default: none]
    #[arg(long, value_name = "features|none|REGEX")]
    pub freeze: Option<String>,
    /// From this epoch on (counted from 1) nothing is frozen; with a list such as 2,4,6 the frozen layer groups thaw one
    /// after the other, from the head down
    #[arg(long, value_name = "EPOCH[,EPOCH...]")]
    pub unfreeze_at: Option<UnfreezeAt>,
    /// Learning rate of the features (all below the classifier), as a factor of the base rate [default: 1]
    #[arg(long, value_name = "FACTOR")]
    pub feature_rate: Option<f64>,
    /// Learning rate of each layer group, as a factor of that of the group above it [default: 1]
    #[arg(long, value_name = "FACTOR")]
    pub layer_decay: Option<f64>,
    /// Keep the old classification head; the class counts must agree
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
    // Before anything is loaded: a wrong flag is known at once.
    let dataset = arguments.layers()?.resolve()?.data.dataset;
    let source = Source::find(arguments.from.as_deref(), &arguments.common.out, &dataset)?;
    tracing::info!("starting from {source}");
    let model = source.load()?;
    let config = arguments.config(&source, &model)?;

    let start = Start::Weights(Box::new(model));
    if !arguments.compare_scratch {
        return run("finetune", &config, start, &arguments.common);
    }
    comparison::run(config, start, &arguments.common)
}

impl FinetuneArguments {
    fn own_flag(&self) -> Option<&'static str> {
        [
            ("--from", self.from.is_some()),
            ("--freeze", self.freeze.is_some()),
            ("--unfreeze-at", self.unfreeze_at.is_some()),
            ("--feature-rate", self.feature_rate.is_some()),
            ("--layer-decay", self.layer_decay.is_some()),
            ("--keep-head", self.keep_head),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }

    fn layers(&self) -> Result<ConfigLayers, ConfigError> {
        let mut layers = self.common.layers()?;
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
        if self.keep_head {
            layers.set("finetune.keep_head", true);
        }
        Ok(layers)
    }

    /// The checked configuration: the network is the starting model's.
    fn config(&self, source: &Source, model: &Model) -> Result<TrainConfig, ConfigError> {
        let mut layers = self.layers()?;
        layers.set("finetune.from", source.path().display().to_string());
        layers.set("finetune.from_weights_sha256", model.metadata.weights_sha256.clone());
        let mut config = layers.resolve()?;
        config.network = model.metadata.network.clone();
        Ok(config)
    }
}
