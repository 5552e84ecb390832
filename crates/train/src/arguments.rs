//! The flags that `train` and `finetune` share, and how they become a configuration.

use std::path::PathBuf;

use clap::Args;
use data::Search;

use crate::config::{CheckpointEvery, ConfigError, ConfigLayers, OptimizerName, TrainConfig};
use crate::device::Backend;
use crate::progress::ProgressMode;

/// What to train on, how, and where to put it.
#[derive(Args, Clone, Debug, Default)]
pub struct CommonArguments {
    /// Where tensors live [default: flex]
    #[arg(long, value_enum)]
    pub backend: Option<Backend>,
    /// mnist, fashion-mnist, mnist-sample, or a folder with IDX files
    #[arg(long, value_name = "NAME|FOLDER")]
    pub dataset: Option<String>,
    /// Look for data files here first
    #[arg(long, value_name = "FOLDER", env = "KILN_DATA")]
    pub data_dir: Option<PathBuf>,
    /// A TOML file with any part of the configuration (see configs/)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Passes over the training images
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Images per step
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Base learning rate
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Update rule
    #[arg(long, value_enum)]
    pub optimizer: Option<OptimizerName>,
    /// Seed of everything random
    #[arg(long)]
    pub seed: Option<u64>,
    /// Share of the labelled images held back for validation
    #[arg(long, value_name = "SHARE")]
    pub valid_fraction: Option<f64>,
    /// Use only this many labelled images (stratified), validation included
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Use only this many labelled images of each class, validation included
    #[arg(long, value_name = "N")]
    pub limit_per_class: Option<usize>,
    /// Cross-validation: K runs, each with another K-th of the labelled images held back; the test split is not read
    #[arg(long, value_name = "K")]
    pub folds: Option<usize>,
    /// Besides every epoch: `500` or `500steps`, or `10m` for minutes
    #[arg(long, value_name = "STEPS|MINUTES")]
    pub checkpoint_every: Option<CheckpointEvery>,
    /// Any key of the configuration, for example `optimizer.weight_decay=0.01`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder of runs
    #[arg(long, value_name = "FOLDER", default_value = "artifacts")]
    pub out: PathBuf,
    /// Name of the run's folder [default: from command, data and date]
    #[arg(long)]
    pub name: Option<String>,
    /// Go on with an unfinished run; without a folder, the newest one
    #[arg(long, value_name = "RUN-FOLDER", num_args = 0..=1)]
    pub resume: Option<Option<PathBuf>>,
    /// CPU threads [default: all]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// What to show [default: bar on a terminal, plain elsewhere]
    #[arg(long, value_enum)]
    pub progress: Option<ProgressMode>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The flags of `train`.
#[derive(Args, Clone, Debug, Default)]
pub struct TrainArguments {
    /// Shared flags.
    #[command(flatten)]
    pub common: CommonArguments,
    /// Network: cnn
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
}

impl CommonArguments {
    /// File, then flags, then `--set`.
    ///
    /// # Errors
    /// As [`ConfigLayers`].
    pub fn layers(&self) -> Result<ConfigLayers, ConfigError> {
        let mut layers = match &self.config {
            Some(path) => ConfigLayers::from_file(path)?,
            None => ConfigLayers::default(),
        };
        let integer = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        if let Some(backend) = self.backend {
            layers.set("backend", backend.to_string());
        }
        if let Some(dataset) = &self.dataset {
            layers.set("data.dataset", dataset.clone());
        }
        for (key, value) in [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("data.limit", self.limit),
            ("data.limit_per_class", self.limit_per_class),
            ("data.folds", self.folds),
        ] {
            if let Some(value) = value {
                layers.set(key, integer(value));
            }
        }
        for (key, value) in
            [("optimizer.learning_rate", self.learning_rate), ("data.valid_fraction", self.valid_fraction)]
        {
            if let Some(value) = value {
                layers.set(key, value);
            }
        }
        if let Some(optimizer) = self.optimizer {
            let name = clap::ValueEnum::to_possible_value(&optimizer);
            layers.set("optimizer.name", name.map_or_else(String::new, |name| name.get_name().to_owned()));
        }
        if let Some(seed) = self.seed {
            layers.set(
                "seed",
                i64::try_from(seed).map_err(|_| ConfigError::Range {
                    key: "seed",
                    found: seed.to_string(),
                    expected: "0 to 9223372036854775807",
                })?,
            );
        }
        if let Some(every) = self.checkpoint_every {
            layers.set("checkpoint.every", every.to_string());
        }
        for expression in &self.set {
            layers.set_expression(expression)?;
        }
        Ok(layers)
    }

    /// The first flag that would change a run that is being resumed.
    pub fn changes_a_resumed_run(&self) -> Option<&'static str> {
        [
            ("--backend", self.backend.is_some()),
            ("--dataset", self.dataset.is_some()),
            ("--config", self.config.is_some()),
            ("--epochs", self.epochs.is_some()),
            ("--batch-size", self.batch_size.is_some()),
            ("--learning-rate", self.learning_rate.is_some()),
            ("--optimizer", self.optimizer.is_some()),
            ("--seed", self.seed.is_some()),
            ("--valid-fraction", self.valid_fraction.is_some()),
            ("--limit", self.limit.is_some()),
            ("--limit-per-class", self.limit_per_class.is_some()),
            ("--folds", self.folds.is_some()),
            ("--checkpoint-every", self.checkpoint_every.is_some()),
            ("--set", !self.set.is_empty()),
            ("--name", self.name.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }

    /// Where data is looked for.
    pub fn search(&self) -> Search {
        Search {
            data_dir: self.data_dir.clone(),
            progress: self.progress != Some(ProgressMode::None),
            ..Search::default()
        }
    }
}

impl TrainArguments {
    /// The checked configuration of a new run.
    ///
    /// # Errors
    /// As [`ConfigLayers`].
    pub fn config(&self) -> Result<TrainConfig, ConfigError> {
        let mut layers = self.common.layers()?;
        if let Some(model) = &self.model {
            layers.set("network.name", model.clone());
        }
        layers.resolve()
    }
}
