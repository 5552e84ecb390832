//! The flags that `train` and `finetune` share, and how they become a configuration.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::{Args, ValueEnum};
use data::{FitName, InputRequest, OnBadImage, Search};
use model::TaskName;

use crate::config::error::ConfigError;
use crate::config::layers::ConfigLayers;
use crate::config::schema::{CheckpointEvery, OptimizerName, TrainConfig};
use crate::device::{Backend, Kernels};

/// What to train on, how, and where to put it.
#[derive(Args, Clone, Debug, Default)]
pub struct CommonArguments {
    /// What the file of `config` holds, read once: it may be a pipe.
    #[arg(skip)]
    pub file: OnceLock<ConfigLayers>,
    /// Where tensors live [default: flex]
    #[arg(long, value_enum)]
    pub backend: Option<Backend>,
    /// Implementation of the CPU operators; results differ between them in the last bits [default: the variable
    /// `KILN_KERNELS`, else the fastest that the processor can run]
    #[arg(long, value_enum)]
    pub kernels: Option<Kernels>,
    /// mnist, fashion-mnist, mnist-sample, cifar10, cifar100; a folder with a folder of pictures for each class, or of IDX
    /// or CIFAR files; or a CSV file `path,label` or, with several labels a picture, `path,labels` (`cat;dog`) or a column of
    /// 0 and 1 for each class. With --resume: where the run's data is now
    #[arg(long, value_name = "NAME|FOLDER|CSV")]
    pub dataset: Option<String>,
    /// What is learned: classify (one class a picture) or multi-label (any number of them) [default: what the data has]
    #[arg(long, value_name = "classify|multi-label")]
    pub task: Option<TaskName>,
    /// Size of the images: 64x64 (height x width) or 3x64x64 [default: as the data has it; 64x64 for pictures of
    /// several sizes]
    #[arg(long, value_name = "SIZE")]
    pub input: Option<InputRequest>,
    /// How pictures of another size are made to fit [default: crop]
    #[arg(long, value_enum)]
    pub fit: Option<FitArgument>,
    /// What to do with a picture that cannot be decoded [default: error]
    #[arg(long, value_enum)]
    pub on_bad_image: Option<OnBadImageArgument>,
    /// Weight of each class in the loss [default: none]
    #[arg(long, value_enum)]
    pub class_weights: Option<ClassWeightsArgument>,
    /// Folder in which data files are looked for first [default: the variable `KILN_DATA`]
    #[arg(long, value_name = "FOLDER")]
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
    #[arg(long, value_name = "N", value_parser = some_images)]
    pub limit: Option<usize>,
    /// Use only this many labelled images of each class, validation included
    #[arg(long, value_name = "N", value_parser = some_images)]
    pub limit_per_class: Option<usize>,
    /// Cross-validation: K runs, each with another K-th of the labelled images held back; the test split is not read
    #[arg(long, value_name = "K")]
    pub folds: Option<usize>,
    /// Also write a checkpoint every so many steps (`500` or `500steps`) or minutes (`10m`), besides after every epoch
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
    /// With --resume: go on although the data changed since the run began, as long as its classes are the same
    #[arg(long, requires = "resume")]
    pub accept_changed_data: bool,
    /// CPU threads [default: all]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// How progress is shown [default: bar on a terminal, plain elsewhere]
    #[arg(long, value_enum)]
    pub progress: Option<ProgressMode>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A number of images to use: in a configuration 0 stands for all, which nobody means who types it.
fn some_images(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected 1 or more; to use all images leave the flag out".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("expected a whole number, 1 or more".to_owned()),
    }
}

/// `--progress`: how much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Burn's dashboard; needs a terminal.
    Tui,
    /// A progress bar and one line an epoch.
    Bar,
    /// One line an epoch, and some between them while an epoch takes long.
    Plain,
    /// Only warnings.
    None,
}

impl ProgressMode {
    /// What was asked for, or a bar on a terminal and plain lines elsewhere.
    pub fn resolve(asked: Option<Self>) -> Self {
        asked.unwrap_or(if std::io::stderr().is_terminal() { Self::Bar } else { Self::Plain })
    }

    /// Whether Burn's dashboard is asked for but there is no terminal to draw it on.
    pub fn lacks_terminal(self) -> bool {
        self == Self::Tui && !std::io::stdout().is_terminal()
    }
}

/// `--fit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FitArgument {
    /// The shortest side resized, then the centre cut out
    Crop,
    /// The whole picture between black bars
    Letterbox,
    /// Both sides resized, the aspect is lost
    Stretch,
}

impl From<FitArgument> for FitName {
    fn from(argument: FitArgument) -> Self {
        match argument {
            FitArgument::Crop => Self::Crop,
            FitArgument::Letterbox => Self::Letterbox,
            FitArgument::Stretch => Self::Stretch,
        }
    }
}

/// `--on-bad-image`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnBadImageArgument {
    /// Stop before anything is made of the others, and list them
    Error,
    /// Go on without them, and list them
    Skip,
}

impl From<OnBadImageArgument> for OnBadImage {
    fn from(argument: OnBadImageArgument) -> Self {
        match argument {
            OnBadImageArgument::Error => Self::Error,
            OnBadImageArgument::Skip => Self::Skip,
        }
    }
}

/// `--class-weights`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClassWeightsArgument {
    /// Every class the same
    None,
    /// Inversely proportional to its number of images: n / (k * count) for n images of k classes
    Balanced,
}

/// What a published name begins with.
const PUBLISHED: &str = "torchvision:";

/// What stands behind the mark of published weights: `resnet18@sha256:...` of `torchvision:resnet18@sha256:...`; `None`
/// for the name of a file.
pub fn published_name(name: &str) -> Option<&str> {
    name.strip_prefix(PUBLISHED)
}

/// The network that a published name stands for: `resnet18` of `torchvision:resnet18`.
pub fn published_network(name: &str) -> Option<&str> {
    published_name(name).map(data::published::network)
}

/// The name of a value on the command line, which is its name in the configuration, too.
fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |name| name.get_name().to_owned())
}

/// The flags of `train`.
#[derive(Args, Clone, Debug, Default)]
pub struct TrainArguments {
    /// Shared flags.
    #[command(flatten)]
    pub common: CommonArguments,
    /// Network, for example mlp, lenet5, vgg16-bn, resnet20; `kiln models` lists them [default: cnn with a dense layer]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Start from weights of another program: a PyTorch, safetensors or burnpack file for the network named by --model, or
    /// torchvision:NAME, for example torchvision:resnet18, with @sha256:DIGITS to ask for one content. The head is new where
    /// the classes differ
    #[arg(long, value_name = "FILE|torchvision:NAME", conflicts_with = "resume")]
    pub weights: Option<String>,
    /// With --weights: take the tensors that fit, and initialise what is missing or of another shape
    // `requires` alone is waived by clap where --resume is given, which excludes --weights.
    #[arg(long, requires = "weights", conflicts_with = "resume")]
    pub allow_mismatch: bool,
}

impl CommonArguments {
    /// File, then flags, then `--set`. `model` is the name of a network, a flag of some commands.
    ///
    /// # Errors
    /// As [`ConfigLayers`].
    pub fn layers(&self, model: Option<&str>) -> Result<ConfigLayers, ConfigError> {
        let mut layers = match &self.config {
            Some(path) => match self.file.get() {
                Some(read) => read.clone(),
                None => {
                    let read = ConfigLayers::from_file(path)?;
                    self.file.get_or_init(|| read).clone()
                }
            },
            None => ConfigLayers::default(),
        };
        let integer = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        if let Some(backend) = self.backend {
            layers.set("backend", backend.to_string());
        }
        if let Some(kernels) = self.kernels {
            layers.set("kernels", kernels.to_string());
        }
        if let Some(dataset) = &self.dataset {
            layers.set("data.dataset", dataset.clone());
        }
        if let Some(task) = self.task {
            layers.set("task", task.to_string());
        }
        if let Some(input) = self.input {
            layers.set("data.input", input.to_string());
        }
        if let Some(fit) = &self.fit {
            layers.set("data.fit", name_of(fit));
        }
        if let Some(policy) = &self.on_bad_image {
            layers.set("data.on_bad_image", name_of(policy));
        }
        if let Some(weights) = &self.class_weights {
            layers.set("regularization.class_weights", name_of(weights));
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
        if let Some(optimizer) = &self.optimizer {
            layers.set("optimizer.name", name_of(optimizer));
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
        if let Some(model) = model {
            layers.set_network(model)?;
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
            ("--kernels", self.kernels.is_some()),
            ("--input", self.input.is_some()),
            ("--fit", self.fit.is_some()),
            ("--on-bad-image", self.on_bad_image.is_some()),
            ("--class-weights", self.class_weights.is_some()),
            ("--config", self.config.is_some()),
            ("--epochs", self.epochs.is_some()),
            ("--task", self.task.is_some()),
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

    /// Whether nobody set the batch size or the epochs of a new run, by a flag, `--set` or `--config`: then both may
    /// suit the number of pictures.
    pub fn leaves_budget_open(&self) -> bool {
        let sets_neither =
            |layers: ConfigLayers| ["epochs", "batch_size"].iter().all(|key| layers.get(key).is_none());
        self.resume.is_none() && self.layers(None).is_ok_and(sets_neither)
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
    /// File, then flags, then `--set`.
    ///
    /// # Errors
    /// As [`ConfigLayers`].
    pub fn layers(&self) -> Result<ConfigLayers, ConfigError> {
        let published = self.weights.as_deref().and_then(published_network);
        self.common.layers(self.model.as_deref().or(published))
    }

    /// The checked configuration of a new run; where it starts is not looked at.
    ///
    /// # Errors
    /// As [`ConfigLayers`].
    pub fn config(&self) -> Result<TrainConfig, ConfigError> {
        self.layers()?.resolve()
    }
}
