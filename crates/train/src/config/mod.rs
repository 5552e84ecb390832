//! What an experiment is: the TOML a user writes, the defaults under it, and the checked form that
//! reaches the training loop.
//!
//! Precedence: default < `--config` file < flags < `--set key=value`.

pub mod arguments;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use data::augment::AugmentConfig;
use data::{FitName, ImageOptions, InputRequest, OnBadImage, Sampler};
use model::{CnnConfig, NetworkConfig};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::device::{Backend, Kernels, is_auto};
use crate::start::absolute;

/// Runs of a cross-validation at most.
const MOST_FOLDS: usize = 100;

/// Everything that decides the numbers of a run. Saved as `config.toml` in the run folder, and enough
/// to repeat the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of initialisation, order, augmentation, dropout and split.
    pub seed: u64,
    /// Passes over the training split.
    pub epochs: usize,
    /// Images per forward pass.
    pub batch_size: usize,
    /// Where the tensors live.
    pub backend: Backend,
    /// Which code the operators of the CPU run; it decides the last bits of every figure. A run keeps what it began
    /// with, see `history` in `run.json`.
    #[serde(skip_serializing_if = "is_auto")]
    pub kernels: Kernels,
    /// Whether the finished run reads the test split. Runs that are chosen from do not: they are reported on
    /// their validation images.
    #[serde(skip_serializing_if = "is_true")]
    pub test: bool,
    /// The data set, its split and its augmentation.
    pub data: DataConfig,
    /// The network.
    pub network: NetworkConfig,
    /// How gradients become updates.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes over the steps.
    pub schedule: ScheduleConfig,
    /// What keeps the network from over-fitting, besides augmentation and dropout.
    pub regularization: RegularizationConfig,
    /// When to stop before the last epoch.
    pub early_stopping: EarlyStoppingConfig,
    /// When to write a checkpoint, and how many to keep.
    pub checkpoint: CheckpointConfig,
    /// Set when the run starts from a trained model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finetune: Option<FinetuneConfig>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            epochs: 10,
            batch_size: 128,
            backend: Backend::Flex,
            kernels: Kernels::Auto,
            test: true,
            data: DataConfig::default(),
            network: NetworkConfig::Cnn(CnnConfig { dense: vec![128], ..CnnConfig::default() }),
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
            regularization: RegularizationConfig::default(),
            early_stopping: EarlyStoppingConfig::default(),
            checkpoint: CheckpointConfig::default(),
            finetune: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_true(value: &bool) -> bool {
    *value
}

/// The images and what is done to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// `mnist`, `fashion-mnist`, `mnist-sample`, `cifar10`, `cifar100`; a folder of IDX or CIFAR files or with a folder
    /// of pictures for each class; or a CSV file that lists pictures.
    pub dataset: String,
    /// Channels of the images: 1 makes RGB images grey by their luma, 3 makes grey images RGB by repetition, 0 leaves
    /// them as they are. Weights of another program set it to what their network takes.
    pub channels: usize,
    /// Size of the images: `64x64` (height x width) or `3x64x64`. When absent: as the data has it; for pictures
    /// their size when they all have one of at most 64 pixels a side, else 64 x 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<InputRequest>,
    /// How pictures of another size are made to fit: `crop`, `letterbox` or `stretch`. When absent: `crop` for
    /// pictures, `letterbox` for images of one size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitName>,
    /// With `fit = "crop"`: length of the shortest side before the crop; 0: as short as the crop allows.
    pub resize: usize,
    /// What a picture that cannot be decoded means: `error` or `skip`.
    pub on_bad_image: OnBadImage,
    /// Memory that the decoded images may take, in MiB.
    pub memory_mib: u64,
    /// Share of the labelled images that is set aside for the test when the data names none, each by what it shows.
    pub test_fraction: f64,
    /// `once`: every image once an epoch; `balanced`: every class equally often.
    pub sampler: Sampler,
    /// Share of the labelled images that is held back for validation; 1/12 is 5,000 of 60,000.
    pub valid_fraction: f64,
    /// Use only this many labelled images (stratified), validation included. 0: all of them.
    pub limit: usize,
    /// Use only this many labelled images of each class, validation included. 0: all of them.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit_per_class: usize,
    /// Cross-validation: the labelled images are dealt into this many folds, and each is held back in turn. 0: off,
    /// and `valid_fraction` says what is held back.
    #[serde(skip_serializing_if = "is_zero")]
    pub folds: usize,
    /// The fold that this run holds back, from 1. 0 with `folds`: all of them, one run after the other.
    #[serde(skip_serializing_if = "is_zero")]
    pub fold: usize,
    /// Threads that prepare batches ahead; 0 prepares them in the training thread.
    pub workers: usize,
    /// Random changes to the training images; all zero and false is off. By default up to one pixel and five degrees.
    pub augment: AugmentConfig,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            dataset: "mnist".to_owned(),
            channels: 0,
            input: None,
            fit: None,
            resize: 0,
            on_bad_image: OnBadImage::default(),
            memory_mib: data::MEMORY_LIMIT >> 20,
            test_fraction: data::TEST_FRACTION,
            sampler: Sampler::default(),
            valid_fraction: 1.0 / 12.0,
            limit: 0,
            limit_per_class: 0,
            folds: 0,
            fold: 0,
            workers: 1,
            augment: AugmentConfig { shift: 1.0, rotate: 5.0, ..AugmentConfig::default() },
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

impl DataConfig {
    /// How images are loaded.
    pub fn images(&self) -> ImageOptions {
        ImageOptions {
            input: self.input,
            fit: self.fit.map(|fit| fit.fit(self.resize)),
            on_bad_image: self.on_bad_image,
            test_fraction: self.test_fraction,
            memory_limit: self.memory_mib.saturating_mul(1 << 20),
            ..ImageOptions::default()
        }
    }

    /// Whether the configuration stands for several runs, one for each fold.
    pub fn is_cross_validation(&self) -> bool {
        self.folds > 0 && self.fold == 0
    }
}

/// The update rules on offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerName {
    /// Stochastic gradient descent, with momentum and Nesterov's form on request.
    Sgd,
    /// Kingma & Ba 2015, algorithm 1.
    #[default]
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).
    #[value(name = "adamw")]
    #[serde(rename = "adamw")]
    AdamW,
    /// Hinton's lecture 6e of 2012, with optional momentum, as PyTorch has it.
    #[value(name = "rmsprop")]
    #[serde(rename = "rmsprop")]
    RmsProp,
}

/// The optimiser and its constants. A constant the chosen rule has no use for is ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The update rule.
    pub name: OptimizerName,
    /// Base rate, which the schedule multiplies. When absent: 0.003 for `adam` and `adamw`, 0.05 for `sgd`, 0.001 for
    /// `rmsprop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// `sgd` and `rmsprop`: momentum. When absent: 0.9 for `sgd`, 0 for `rmsprop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// `sgd`: Nesterov's form of momentum.
    pub nesterov: bool,
    /// `adam`, `adamw`: decay of the first moment.
    pub beta_1: f64,
    /// `adam`, `adamw`: decay of the second moment.
    pub beta_2: f64,
    /// `rmsprop`: decay of the squared gradient.
    pub alpha: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// L2 penalty on every parameter (in the gradient; decoupled for `adamw`).
    pub weight_decay: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            name: OptimizerName::default(),
            learning_rate: None,
            momentum: None,
            nesterov: false,
            beta_1: 0.9,
            beta_2: 0.999,
            alpha: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

impl OptimizerConfig {
    /// The base rate, with the rule's default filled in.
    pub fn rate(&self) -> f64 {
        self.learning_rate.unwrap_or(match self.name {
            OptimizerName::Sgd => 0.05,
            OptimizerName::Adam | OptimizerName::AdamW => 3e-3,
            OptimizerName::RmsProp => 1e-3,
        })
    }

    /// The momentum, with the rule's default filled in.
    pub fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(match self.name {
            OptimizerName::Sgd => 0.9,
            _ => 0.0,
        })
    }
}

/// The courses a learning rate can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleName {
    /// Always the base rate.
    Constant,
    /// Times `gamma` after every `step_epochs`.
    Step,
    /// Half a cosine from the base rate to `final_factor` of it (Loshchilov & Hutter 2017, eq. 5).
    Cosine,
    /// A straight line from the base rate to `final_factor` of it.
    Linear,
    /// Up for `warmup_epochs` from a 25th of the base rate, then half a cosine down (Smith & Topin 2018).
    #[default]
    OneCycle,
    /// Times `gamma` when the validation loss has not improved for `patience` epochs.
    Plateau,
}

/// The schedule and its constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The course.
    pub name: ScheduleName,
    /// Epochs (a fraction is fine) over which the rate rises linearly to the base rate first.
    pub warmup_epochs: f64,
    /// `step`: epochs between two steps.
    pub step_epochs: usize,
    /// `step`, `plateau`: the factor.
    pub gamma: f64,
    /// `cosine`, `linear`, `one-cycle`: share of the base rate at the end.
    pub final_factor: f64,
    /// `plateau`: epochs without improvement before the rate falls.
    pub patience: usize,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            name: ScheduleName::default(),
            warmup_epochs: 2.0,
            step_epochs: 3,
            gamma: 0.1,
            final_factor: 0.001,
            patience: 2,
        }
    }
}

impl ScheduleConfig {
    /// Whether the rates of the first `epochs` epochs are the same however many follow.
    pub fn ignores_later_epochs(&self, epochs: usize) -> bool {
        match self.name {
            // A warm-up that is longer than the run is cut at its end.
            ScheduleName::Constant | ScheduleName::Step | ScheduleName::Plateau => {
                self.warmup_epochs <= epochs as f64
            }
            ScheduleName::Cosine | ScheduleName::Linear | ScheduleName::OneCycle => false,
        }
    }
}

/// How much each class counts in the loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// `"none"` or `"balanced"` (n / (k * count), as scikit-learn has it).
    Named(ClassWeighting),
    /// One weight per class.
    Given(Vec<f32>),
    #[default]
    #[serde(skip)]
    /// All classes count the same.
    Equal,
}

/// The named forms of [`ClassWeights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeighting {
    /// All classes count the same.
    None,
    /// Rare classes count more.
    Balanced,
}

/// Penalties, averages and clipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegularizationConfig {
    /// L1 penalty on the weights (not on biases and norms).
    pub l1: f64,
    /// Share of the target that is spread over all classes (Szegedy et al. 2016, section 7).
    pub label_smoothing: f32,
    /// `"none"`, `"balanced"`, or a list of one weight per class.
    #[serde(skip_serializing_if = "is_equal_weights")]
    pub class_weights: ClassWeights,
    /// Longest allowed global gradient norm; 0 is off (Pascanu et al. 2013, algorithm 1).
    pub clip_norm: f64,
    /// Batches whose gradients are averaged into one update.
    pub accumulate: usize,
    /// Decay of the exponential moving average of the weights, which is what is validated and
    /// saved; 0 is off.
    pub ema_decay: f64,
}

fn is_equal_weights(weights: &ClassWeights) -> bool {
    *weights == ClassWeights::Equal
}

impl Default for RegularizationConfig {
    fn default() -> Self {
        Self {
            l1: 0.0,
            label_smoothing: 0.0,
            class_weights: ClassWeights::Equal,
            clip_norm: 0.0,
            accumulate: 1,
            ema_decay: 0.998,
        }
    }
}

/// When validation has stopped getting better.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStoppingConfig {
    /// Epochs without improvement before training stops; 0 is off.
    pub patience: usize,
    /// Smallest fall of the validation loss that counts as improvement.
    pub min_delta: f64,
}

/// When a checkpoint is due besides the end of every epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum CheckpointEvery {
    /// At the end of an epoch only.
    #[default]
    Epoch,
    /// Also after so many updates.
    Steps(usize),
    /// Also after so many minutes.
    Minutes(f64),
}

impl fmt::Display for CheckpointEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Epoch => f.write_str("epoch"),
            Self::Steps(n) => write!(f, "{n} steps"),
            Self::Minutes(n) => write!(f, "{n} minutes"),
        }
    }
}

impl FromStr for CheckpointEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "epoch" {
            return Ok(Self::Epoch);
        }
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let bad = || format!("`{text}` is none of `epoch`, `500 steps`, `10 minutes`");
        match unit.trim() {
            "" | "step" | "steps" => match number.parse() {
                Ok(n) if n > 0 => Ok(Self::Steps(n)),
                _ => Err(bad()),
            },
            "m" | "min" | "minute" | "minutes" => match number.parse::<f64>() {
                Ok(n) if n > 0.0 && n.is_finite() => Ok(Self::Minutes(n)),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }
}

impl Serialize for CheckpointEvery {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CheckpointEvery {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What makes an epoch the best, on the validation split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Best {
    /// The highest accuracy; of equal ones the lowest loss.
    #[default]
    Accuracy,
    /// The lowest loss, which a few images move less.
    Loss,
}

impl Best {
    /// Whether a validation `(loss, accuracy)` is better than the best so far.
    pub fn is_better(self, (loss, accuracy): (f64, f64), best: (f64, f64)) -> bool {
        match self {
            Self::Accuracy => (accuracy, -loss) > (best.1, -best.0),
            Self::Loss => (-loss, accuracy) > (-best.0, best.1),
        }
    }
}

/// Checkpoints of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// `epoch`, `500 steps` or `10 minutes`.
    pub every: CheckpointEvery,
    /// How many of the newest to keep, besides the best.
    pub keep: usize,
    /// What makes an epoch the best, whose weights are saved and tested: `accuracy` or `loss`.
    pub best: Best,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: CheckpointEvery::Epoch, keep: 2, best: Best::default() }
    }
}

/// What differs when a run starts from a trained model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// The model file or run folder that the weights come from, or a file of weights that another program wrote. Empty
    /// only with `kiln finetune`, which looks for one.
    pub from: String,
    /// SHA-256 of those weights (see `model::weights_sha256`), or of the file where another program wrote it.
    pub from_weights_sha256: String,
    /// `features`, `none`, or a regular expression over parameter paths.
    pub freeze: String,
    /// First epoch (counted from 1) in which nothing is frozen any more; 0: never. Or a list of epochs, ascending: at
    /// each the next frozen layer group thaws, from the head down.
    pub unfreeze_at: UnfreezeAt,
    /// The rate of the features (the layers below the classifier), as a factor of the base rate.
    pub feature_rate: f64,
    /// The rate of each layer group, as a factor of the rate of the group above it; the head has the base rate.
    #[serde(skip_serializing_if = "is_one")]
    pub layer_decay: f64,
    /// Whether the old classification head is kept: `true`, `false`, or `"fitting"`, where it fits.
    pub keep_head: KeepHead,
    /// Whether tensors of another program's file that are missing, unexpected or of another shape are passed over.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_mismatch: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            from: String::new(),
            from_weights_sha256: String::new(),
            freeze: "none".to_owned(),
            unfreeze_at: UnfreezeAt::default(),
            feature_rate: 1.0,
            layer_decay: 1.0,
            keep_head: KeepHead::default(),
            allow_mismatch: false,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    clippy::float_cmp,
    reason = "serde's signature; exactly the default"
)]
fn is_one(value: &f64) -> bool {
    *value == 1.0
}

/// What becomes of the head of the starting weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepHead {
    /// It is new.
    #[default]
    No,
    /// It must fit.
    Yes,
    /// It is kept where it fits, and new where it does not.
    Fitting,
}

impl Serialize for KeepHead {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::No => serializer.serialize_bool(false),
            Self::Yes => serializer.serialize_bool(true),
            Self::Fitting => serializer.serialize_str("fitting"),
        }
    }
}

impl<'de> Deserialize<'de> for KeepHead {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected true, false or \"fitting\"")]
        enum Written {
            Flag(bool),
            Word(Fitting),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Fitting {
            Fitting,
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Flag(false) => Self::No,
            Written::Flag(true) => Self::Yes,
            Written::Word(Fitting::Fitting) => Self::Fitting,
        })
    }
}

/// When what is frozen thaws; epochs count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected an epoch, or a list of epochs such as [2, 4, 6]")]
pub enum UnfreezeAt {
    /// Everything at once; 0: never.
    All(usize),
    /// One layer group after the other, from the head down.
    Stages(Vec<usize>),
}

impl Default for UnfreezeAt {
    fn default() -> Self {
        Self::All(0)
    }
}

impl FromStr for UnfreezeAt {
    type Err = String;

    /// `4`, or `2,4,6`.
    fn from_str(text: &str) -> Result<Self, String> {
        let epoch = |part: &str| {
            part.trim()
                .parse()
                .map_err(|_| format!("`{text}` is no epoch and no list of epochs such as 2,4,6"))
        };
        if text.contains(',') {
            text.split(',').map(epoch).collect::<Result<_, _>>().map(Self::Stages)
        } else {
            epoch(text).map(Self::All)
        }
    }
}

impl From<UnfreezeAt> for Value {
    fn from(at: UnfreezeAt) -> Self {
        let integer = |epoch: usize| Self::Integer(i64::try_from(epoch).unwrap_or(i64::MAX));
        match at {
            UnfreezeAt::All(epoch) => integer(epoch),
            UnfreezeAt::Stages(epochs) => Self::Array(epochs.into_iter().map(integer).collect()),
        }
    }
}

pub use model::FEATURES_PATTERN;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not TOML, a key is unknown or a value has the wrong type.
    #[error("{origin}: {message}")]
    Parse {
        /// The file, or the flag.
        origin: String,
        /// The parser's words, which name key and line.
        message: String,
    },
    /// No network of that name.
    #[error("--model {name}: no such network; expected one of {}", .known.join(", "))]
    Network {
        /// The name given.
        name: String,
        /// The names on offer.
        known: Vec<&'static str>,
    },
    /// `--set` needs `key=value`.
    #[error("--set {0}: expected key=value, for example --set optimizer.weight_decay=0.01")]
    Set(String),
    /// The augmentation's settings.
    #[error(transparent)]
    Augment(#[from] data::DataError),
    /// A value is outside its range.
    #[error("{key} = {found}: expected {expected}")]
    Range {
        /// Dotted key.
        key: &'static str,
        /// The value.
        found: String,
        /// The allowed range.
        expected: &'static str,
    },
}

/// The layers of a configuration, merged key by key in order of precedence.
#[derive(Clone, Debug, Default)]
pub struct ConfigLayers {
    table: Table,
    origin: Option<PathBuf>,
}

impl From<Table> for ConfigLayers {
    fn from(table: Table) -> Self {
        Self { table, origin: None }
    }
}

impl ConfigLayers {
    /// Starts from a TOML file.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let table = text.parse::<Table>().map_err(|error| ConfigError::Parse {
            origin: path.display().to_string(),
            message: error.to_string().trim().to_owned(),
        })?;
        Ok(Self { table, origin: Some(path.to_owned()) })
    }

    /// These layers over others.
    #[must_use]
    pub fn over(self, mut under: Self) -> Self {
        merge(&mut under.table, self.table);
        Self { origin: self.origin, ..under }
    }

    /// All keys that were given.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Takes out a top-level key.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.table.remove(key)
    }

    /// The value of a dotted key, if it was given.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut found = self.table.get(key.split('.').next().unwrap_or_default());
        for part in key.split('.').skip(1) {
            found = found.and_then(|value| value.get(part));
        }
        found
    }

    /// Sets one dotted key, over what was there.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let mut table = &mut self.table;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                table.insert(part.to_owned(), value.into());
                return;
            }
            let entry = table.entry(part.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            let Value::Table(next) = entry else { return };
            table = next;
        }
    }

    /// Names the weights to start from; the digest of others is none of theirs.
    pub fn set_start(&mut self, from: &str) {
        self.set("finetune.from", from);
        if let Some(Value::Table(finetune)) = self.table.get_mut("finetune") {
            finetune.remove("from_weights_sha256");
        }
    }

    /// The same with paths that mean the same in any folder: the data's, where that is no known name, and that of the
    /// weights to start from.
    #[must_use]
    pub fn with_absolute_paths(mut self) -> Self {
        for key in ["data.dataset", "finetune.from"] {
            let Some(name) = self.get(key).and_then(Value::as_str) else { continue };
            if !data::known_names().contains(&name) && Path::new(name).exists() {
                let path = absolute(Path::new(name));
                self.set(key, path);
            }
        }
        self
    }

    /// Chooses a network by its name, such as `vgg16-bn`. What a lower layer says about the same family
    /// of networks stays, as far as it does not make another network of it; what it says about another
    /// family goes.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn set_network(&mut self, name: &str) -> Result<(), ConfigError> {
        let entry = NetworkConfig::named(name).ok_or_else(|| ConfigError::Network {
            name: name.to_owned(),
            known: model::catalog().iter().map(|entry| entry.name).collect(),
        })?;
        let table = Table::try_from(&entry.config).map_err(|error| ConfigError::Parse {
            origin: format!("--model {name}"),
            message: error.to_string(),
        })?;
        let before = self.table.get("network").and_then(Value::as_table);
        if before.is_none_or(|before| family(before) != family(&table)) {
            self.table.remove("network");
        }
        for (key, value) in table {
            let dotted = format!("network.{key}");
            if key == "name" || entry.keys.contains(&key.as_str()) {
                self.set(&dotted, value);
            } else {
                // All of it: the network under these layers may be another of the family.
                self.set_default(&dotted, value);
            }
        }
        Ok(())
    }

    /// Sets one dotted key unless a layer has it.
    pub fn set_default(&mut self, key: &str, value: impl Into<Value>) {
        if self.get(key).is_none() {
            self.set(key, value);
        }
    }

    /// Applies one `--set key=value`; the value is TOML, or a bare string.
    ///
    /// # Errors
    /// When there is no `=` or no key.
    pub fn set_expression(&mut self, expression: &str) -> Result<(), ConfigError> {
        let (key, text) =
            expression.split_once('=').ok_or_else(|| ConfigError::Set(expression.to_owned()))?;
        let key = key.trim();
        if key.is_empty() || key.split('.').any(str::is_empty) {
            return Err(ConfigError::Set(expression.to_owned()));
        }
        let value = format!("v = {text}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| Value::String(text.trim().to_owned()));
        match value.as_str() {
            Some(from) if key == "finetune.from" => self.set_start(from),
            _ => self.set(key, value),
        }
        Ok(())
    }

    /// The configuration, with defaults under it, checked. The defaults are those of [`TrainConfig`], down to every
    /// single key: a table that is given in part leaves the rest of it as it is without that table.
    ///
    /// # Errors
    /// On unknown keys, wrong types and values out of range.
    pub fn resolve(self) -> Result<TrainConfig, ConfigError> {
        let origin =
            self.origin.map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
        let fault = |message: String| ConfigError::Parse { origin: origin.clone(), message };
        let mut table = Table::try_from(TrainConfig::default()).map_err(|error| fault(error.to_string()))?;
        merge(&mut table, self.table);
        // Through text, so that the message shows the offending line.
        let mut config: TrainConfig =
            toml::from_str(&table.to_string()).map_err(|error| fault(error.to_string().trim().to_owned()))?;
        config.optimizer.learning_rate = Some(config.optimizer.rate());
        config.optimizer.momentum = Some(config.optimizer.momentum());
        // Fine-tuning that starts nowhere and changes nothing is none, and so are weights that are all the same.
        config.finetune = config.finetune.filter(|finetune| *finetune != FinetuneConfig::default());
        if config.regularization.class_weights == ClassWeights::Named(ClassWeighting::None) {
            config.regularization.class_weights = ClassWeights::Equal;
        }
        config.check()?;
        Ok(config)
    }
}

/// Puts `over` into `under`, key by key.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) if is_part(&key, under, &over) => {
                merge(under, over);
            }
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Whether a table speaks of some keys of the one under it, rather than replacing it: a network of another family has
/// other keys, and the distribution of initial weights is a single value.
fn is_part(key: &str, under: &Table, over: &Table) -> bool {
    match key {
        "network" => over.get("name").is_none_or(|name| name.as_str() == Some(family(under))),
        "initialization" => false,
        _ => true,
    }
}

/// The family of networks that a table `network` describes; without a name it is the convolutional one.
fn family(network: &Table) -> &str {
    network.get("name").and_then(Value::as_str).unwrap_or("cnn")
}

impl TrainConfig {
    /// Reads a resolved configuration, for example from a run folder.
    ///
    /// # Errors
    /// As [`ConfigLayers::resolve`].
    pub fn from_toml(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        let table = text.parse::<Table>().map_err(|error| ConfigError::Parse {
            origin: origin.display().to_string(),
            message: error.to_string().trim().to_owned(),
        })?;
        ConfigLayers { table, origin: Some(origin.to_owned()) }.resolve()
    }

    /// The text that [`TrainConfig::from_toml`] reads back to the same value.
    ///
    /// # Errors
    /// Never for a checked configuration; the serializer's message otherwise.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Parse {
            origin: "configuration".to_owned(),
            message: error.to_string(),
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        fn range(
            good: bool,
            key: &'static str,
            found: impl fmt::Display,
            expected: &'static str,
        ) -> Result<(), ConfigError> {
            if good {
                return Ok(());
            }
            Err(ConfigError::Range { key, found: found.to_string(), expected })
        }
        let unit = |value: f64| (0.0..1.0).contains(&value);
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let not_negative = |value: f64| value >= 0.0 && value.is_finite();

        let optimizer = &self.optimizer;
        let schedule = &self.schedule;
        let regularization = &self.regularization;
        range(self.epochs >= 1, "epochs", self.epochs, "1 or more")?;
        range((1..=1_000_000).contains(&self.batch_size), "batch_size", self.batch_size, "1 to 1,000,000")?;
        let fraction = self.data.valid_fraction;
        range(
            fraction > 0.0 && fraction < 1.0,
            "data.valid_fraction",
            fraction,
            "between 0 and 1, both excluded: the best epoch is chosen on the validation split",
        )?;
        range(
            matches!(self.data.channels, 0 | 1 | 3),
            "data.channels",
            self.data.channels,
            "1 (grey), 3 (RGB) or 0 (as the data has it)",
        )?;
        let test = self.data.test_fraction;
        range(test > 0.0 && test < 1.0, "data.test_fraction", test, "between 0 and 1, both excluded")?;
        range(
            self.data.resize <= InputRequest::MAX_SIDE,
            "data.resize",
            self.data.resize,
            "0 to 4096, the length of a side",
        )?;
        range(
            self.data.resize == 0 || self.data.fit == Some(FitName::Crop),
            "data.resize",
            self.data.resize,
            "0 without data.fit = \"crop\", which it belongs to",
        )?;
        range(self.data.memory_mib >= 1, "data.memory_mib", self.data.memory_mib, "1 or more")?;
        let DataConfig { folds, fold, limit, limit_per_class, .. } = self.data;
        range(folds == 0 || (2..=MOST_FOLDS).contains(&folds), "data.folds", folds, "2 to 100, or 0: off")?;
        range(fold <= folds, "data.fold", fold, "1 to data.folds")?;
        range(
            limit == 0 || limit_per_class == 0,
            "data.limit_per_class",
            limit_per_class,
            "only one of data.limit and data.limit_per_class",
        )?;
        range(self.data.workers <= 64, "data.workers", self.data.workers, "0 to 64")?;
        self.data.augment.validate()?;
        range(positive(optimizer.rate()), "optimizer.learning_rate", optimizer.rate(), "above 0")?;
        range(unit(optimizer.momentum()), "optimizer.momentum", optimizer.momentum(), "0 up to 1")?;
        range(
            !optimizer.nesterov || optimizer.momentum() > 0.0,
            "optimizer.nesterov",
            "true",
            "a momentum above 0 with it",
        )?;
        range(unit(optimizer.beta_1), "optimizer.beta_1", optimizer.beta_1, "0 up to 1")?;
        range(unit(optimizer.beta_2), "optimizer.beta_2", optimizer.beta_2, "0 up to 1")?;
        range(unit(optimizer.alpha), "optimizer.alpha", optimizer.alpha, "0 up to 1")?;
        range(positive(optimizer.epsilon), "optimizer.epsilon", optimizer.epsilon, "above 0")?;
        let decay = optimizer.weight_decay;
        range(not_negative(decay), "optimizer.weight_decay", decay, "0 or more")?;
        let warmup = schedule.warmup_epochs;
        range(not_negative(warmup), "schedule.warmup_epochs", warmup, "0 or more")?;
        range(schedule.step_epochs >= 1, "schedule.step_epochs", schedule.step_epochs, "1 or more")?;
        let gamma = schedule.gamma;
        range(gamma > 0.0 && gamma <= 1.0, "schedule.gamma", gamma, "above 0, at most 1")?;
        let factor = schedule.final_factor;
        range((0.0..=1.0).contains(&factor), "schedule.final_factor", factor, "0 to 1")?;
        range(not_negative(regularization.l1), "regularization.l1", regularization.l1, "0 or more")?;
        let smoothing = regularization.label_smoothing;
        range(unit(f64::from(smoothing)), "regularization.label_smoothing", smoothing, "0 up to 1")?;
        let norm = regularization.clip_norm;
        range(not_negative(norm), "regularization.clip_norm", norm, "0 (off) or more")?;
        let accumulate = regularization.accumulate;
        range(accumulate >= 1, "regularization.accumulate", accumulate, "1 or more")?;
        let ema = regularization.ema_decay;
        range(unit(ema), "regularization.ema_decay", ema, "0 (off) up to 1")?;
        if let ClassWeights::Given(weights) = &regularization.class_weights {
            range(
                weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0)
                    && weights.iter().sum::<f32>() > 0.0,
                "regularization.class_weights",
                format!("{weights:?}"),
                "weights of 0 or more, not all 0",
            )?;
        }
        let delta = self.early_stopping.min_delta;
        range(not_negative(delta), "early_stopping.min_delta", delta, "0 or more")?;
        range(self.checkpoint.keep >= 1, "checkpoint.keep", self.checkpoint.keep, "1 or more")?;
        if let Some(finetune) = &self.finetune {
            let rate = finetune.feature_rate;
            range(not_negative(rate), "finetune.feature_rate", rate, "0 or more")?;
            let decay = finetune.layer_decay;
            range(decay > 0.0 && decay <= 1.0, "finetune.layer_decay", decay, "above 0, at most 1")?;
            if let UnfreezeAt::Stages(epochs) = &finetune.unfreeze_at {
                range(
                    !epochs.is_empty() && epochs[0] >= 1 && epochs.is_sorted(),
                    "finetune.unfreeze_at",
                    format!("{epochs:?}"),
                    "one epoch, or a list of epochs from 1 on that does not fall",
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_epoch_is_that_of_the_chosen_figure() {
        // More images right, but less sure of them.
        let (found, best) = ((0.03, 0.994), (0.02, 0.993));
        assert!(Best::Accuracy.is_better(found, best) && !Best::Loss.is_better(found, best));
        assert!(Best::Loss.is_better(best, found) && !Best::Accuracy.is_better(best, found));
        for by in [Best::Accuracy, Best::Loss] {
            assert!(!by.is_better(best, best));
            assert!(by.is_better((0.01, 0.994), best));
        }
    }

    #[test]
    fn a_resolved_configuration_reads_back_to_itself() {
        let mut layers = ConfigLayers::default();
        layers.set("checkpoint.every", "10 minutes");
        layers.set_expression("regularization.class_weights=\"balanced\"").unwrap();
        let config = layers.resolve().unwrap();
        let text = config.to_toml().unwrap();
        assert_eq!(TrainConfig::from_toml(&text, Path::new("x")).unwrap(), config);
    }

    #[test]
    fn later_layers_win_and_a_bare_word_is_a_string() {
        let mut layers = ConfigLayers::default();
        layers.set("optimizer.name", "sgd");
        layers.set_expression("optimizer.name=adamw").unwrap();
        layers.set_expression("epochs = 3").unwrap();
        let config = layers.resolve().unwrap();
        assert_eq!(config.optimizer.name, OptimizerName::AdamW);
        assert_eq!(config.epochs, 3);
    }

    #[test]
    fn a_network_without_a_name_is_the_convolutional_one() {
        let mut layers = ConfigLayers::default();
        layers.set_expression("network.dense=[128]").unwrap();
        layers.set_default("network.dense", Value::Array(Vec::new()));
        layers.set_default("epochs", 7);
        let config = layers.resolve().unwrap();
        let summary = config.network.summary(model::Preprocessing::mnist().input, 10).unwrap();
        assert_eq!((summary.parameters(), config.epochs), (225_034, 7));
    }

    /// Every key of the schema below `table`, as the error for an unknown one lists them, with the tables in it.
    fn keys_of(base: &[&str], table: &str) -> Vec<String> {
        let unknown = if table.is_empty() { "zzz=1".to_owned() } else { format!("{table}.zzz=1") };
        let error = resolved(base, &[&unknown]).unwrap_err().to_string();
        let listed = error.split_once("unknown field `zzz`, expected ").expect("a list of keys").1;
        let names = listed.lines().next().unwrap().split('`').skip(1).step_by(2);
        let dotted = |name: &str| if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
        let tables = ["data", "data.augment", "network", "optimizer", "schedule", "regularization"];
        let tables = [&tables[..], &["early_stopping", "checkpoint", "finetune"]].concat();
        // The tag is no key of the struct behind it.
        let tag = (table == "network").then_some("name");
        names
            .chain(tag)
            .map(dotted)
            .flat_map(|key| if tables.contains(&key.as_str()) { keys_of(base, &key) } else { vec![key] })
            .collect()
    }

    fn resolved(base: &[&str], set: &[&str]) -> Result<TrainConfig, ConfigError> {
        let mut layers = ConfigLayers::default();
        for expression in base.iter().chain(set) {
            layers.set_expression(expression)?;
        }
        layers.resolve()
    }

    /// The dotted keys of a configuration with their values; a list and the initialisation are values.
    fn flat(config: &TrainConfig) -> std::collections::BTreeMap<String, Value> {
        fn walk(prefix: &str, table: Table, found: &mut std::collections::BTreeMap<String, Value>) {
            for (key, value) in table {
                let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                match value {
                    Value::Table(table) if !key.ends_with("initialization") => walk(&key, table, found),
                    value => drop(found.insert(key, value)),
                }
            }
        }
        let mut found = std::collections::BTreeMap::new();
        walk("", Table::try_from(config).unwrap(), &mut found);
        found
    }

    /// Another value than the default, as `--set` takes it.
    fn other(key: &str, value: Option<&Value>) -> String {
        let word = match key {
            "backend" => "ndarray",
            "kernels" => "portable",
            "test" => "false",
            "data.dataset" => "mnist-sample",
            "data.input" => "3x32x32",
            "data.fit" => "stretch",
            "data.on_bad_image" => "skip",
            "data.sampler" => "balanced",
            "data.valid_fraction" => "0.2",
            "data.limit_per_class" | "data.limit" => "50",
            "data.folds" => "5",
            "data.fold" => "2",
            "finetune.feature_rate" | "finetune.layer_decay" => "0.5",
            "data.channels" => "3",
            "optimizer.name" => "sgd",
            "optimizer.nesterov" | "finetune.allow_mismatch" => "true",
            "schedule.name" => "cosine",
            "regularization.class_weights" => "[1.0, 2.0]",
            "checkpoint.every" => "500 steps",
            "checkpoint.best" => "loss",
            "finetune.from" => "other.kiln",
            "finetune.from_weights_sha256" => "abc",
            "finetune.freeze" => "features",
            "finetune.unfreeze_at" => "[2, 4]",
            "finetune.keep_head" => "fitting",
            "network.activation" => "sigmoid",
            "network.initialization" => "{ normal = { std = 0.05 } }",
            "network.pool" => "max",
            "network.cell" => "gru",
            "network.blocks" => "[{ channels = 8 }]",
            "network.dense" | "network.hidden" if !matches!(value, Some(Value::Integer(_))) => "[7]",
            _ => "",
        };
        match value {
            _ if !word.is_empty() => word.to_owned(),
            Some(Value::Boolean(value)) => (!value).to_string(),
            Some(Value::Integer(value)) => (value + 1).to_string(),
            Some(Value::Float(value)) => format!("{:?}", if *value > 0.0 { value / 2.0 } else { 0.25 }),
            value => panic!("{key} = {value:?}: give this test another value"),
        }
    }

    /// For every network: a key that is set to its default changes nothing, and to another value only itself.
    #[test]
    fn a_key_means_itself_alone() {
        for network in ["cnn", "mlp", "rnn", "lenet5", "alexnet", "vgg", "resnet", "vit"] {
            let name = format!("network.name={network}");
            // With the default of `optimizer.name`, not through it; and where `elastic_alpha` and `fold` have a meaning.
            let mut base = vec![
                "data.folds=4",
                "data.augment.elastic_sigma=3.0",
                "data.fit=crop",
                "optimizer.momentum=0.5",
            ];
            base.push(&name);
            let whole = resolved(&base, &[]).unwrap();
            let before = flat(&whole);
            let keys = keys_of(&base, "");
            assert!(keys.len() > 60, "{keys:?}");
            assert!(before.keys().all(|key| keys.contains(key)), "{network}: {keys:?}");
            for key in &keys {
                let default = before.get(key);
                if let Some(value) = default {
                    let mut layers = ConfigLayers::default();
                    layers.set(key, value.clone());
                    let mut under = ConfigLayers::default();
                    for expression in &base {
                        under.set_expression(expression).unwrap();
                    }
                    assert_eq!(layers.over(under).resolve().unwrap(), whole, "{network}: {key} = {value}");
                }
                if key == "network.name" {
                    continue;
                }
                let expression = format!("{key}={}", other(key, default));
                let after = flat(&resolved(&base, &[&expression]).unwrap());
                let changed: Vec<&String> = before
                    .keys()
                    .chain(after.keys().filter(|key| !before.contains_key(*key)))
                    .filter(|key| before.get(*key) != after.get(*key))
                    // The table comes with its defaults; the rate that is not given is that of the rule.
                    .filter(|changed| !key.starts_with("finetune.") || *changed == key)
                    .filter(|changed| key != "optimizer.name" || *changed == key)
                    .collect();
                assert_eq!(changed, [key], "{network}: {expression}");
            }
        }
    }

    #[test]
    fn a_table_given_in_part_keeps_the_defaults_that_hold_without_it() {
        let default = TrainConfig::default();
        let config = resolved(&[], &["network.dropout=0.1"]).unwrap();
        let summary = config.network.summary(model::Preprocessing::mnist().input, 10).unwrap();
        assert_eq!(summary.parameters(), 225_034);
        let config = resolved(&[], &["data.augment.flip=true"]).unwrap();
        assert_eq!(config.data.augment, AugmentConfig { flip: true, ..default.data.augment });
        let text = "[network]\nname = \"cnn\"\n[data]\nlimit = 5\n[data.augment]\nshift = 1.0";
        let config = TrainConfig::from_toml(text, Path::new("x")).unwrap();
        assert_eq!(config.network, default.network);
        assert_eq!(config.data, DataConfig { limit: 5, ..default.data.clone() });
        // Settings that say what holds anyway are none.
        for nothing in
            ["finetune.freeze=none", "finetune.keep_head=false", "regularization.class_weights=none"]
        {
            assert_eq!(resolved(&[], &[nothing]).unwrap(), resolved(&[], &[]).unwrap(), "{nothing}");
        }
    }

    /// Layers over layers: another family of networks and another distribution replace what is under them.
    #[test]
    fn what_is_no_part_replaces() {
        let layers = |text: &str| ConfigLayers { table: text.parse().unwrap(), origin: None };
        let over = |under: &str, over: &str| layers(over).over(layers(under)).resolve().unwrap().network;
        let NetworkConfig::Mlp(mlp) =
            over("[network]\ndense = [7]\ndropout = 0.5", "[network]\nname = \"mlp\"\nhidden = [9]")
        else {
            panic!("a perceptron")
        };
        assert_eq!((mlp.hidden, mlp.dropout), (vec![9], 0.0));
        let NetworkConfig::Mlp(mlp) =
            over("[network]\nname = \"mlp\"\nhidden = [9]", "[network]\ndropout = 0.5")
        else {
            panic!("a perceptron")
        };
        assert_eq!((mlp.hidden, mlp.dropout), (vec![9], 0.5));
        let uniform = "[network]\ninitialization = { uniform = { limit = 0.1 } }";
        let normal = "[network]\ninitialization = { normal = { std = 0.2 } }";
        let NetworkConfig::Cnn(cnn) = over(uniform, normal) else { panic!("a CNN") };
        assert_eq!(cnn.initialization, model::Initialization::Normal { std: 0.2 });
        assert_eq!(cnn.dense, [128]);
    }

    #[test]
    fn a_named_network_replaces_another_family_and_keeps_its_own() {
        let named = |text: &str, model: &str, set: &[&str]| {
            let mut layers = ConfigLayers { table: text.parse().unwrap(), origin: None };
            layers.set_network(model).unwrap();
            for expression in set {
                layers.set_expression(expression).unwrap();
            }
            layers.resolve().unwrap().network
        };
        let other = "[network]\nname = \"cnn\"\ndense = [128]";
        assert_eq!(named(other, "vgg16_bn", &[]), NetworkConfig::named("vgg16-bn").unwrap().config);
        let own = "[network]\nname = \"vgg\"\ndepth = 11\ndense = [64]";
        let NetworkConfig::Vgg(vgg) = named(own, "vgg19", &["network.grid=1"]) else { panic!("a VGG") };
        assert_eq!((vgg.depth, vgg.dense, vgg.grid, vgg.batch_norm), (19, vec![64], 1, false));
        let NetworkConfig::Cnn(cnn) = named("[network]\ndense = [7]", "cnn", &[]) else { panic!("a CNN") };
        assert_eq!(cnn.dense, [7]);
        let error = ConfigLayers::default().set_network("vgg17").unwrap_err().to_string();
        assert!(error.contains("vgg17") && error.contains("vgg16-bn"), "{error}");
    }

    #[test]
    fn every_named_network_can_be_saved_and_read() {
        for entry in model::catalog() {
            let mut layers = ConfigLayers::default();
            layers.set_network(entry.name).unwrap();
            let config = layers.resolve().unwrap();
            assert_eq!(config.network, entry.config, "{}", entry.name);
            assert_eq!(TrainConfig::from_toml(&config.to_toml().unwrap(), Path::new("x")).unwrap(), config);
        }
    }

    #[test]
    fn every_range_is_checked() {
        for (expression, key) in [
            ("epochs=0", "epochs"),
            ("batch_size=0", "batch_size"),
            ("data.channels=2", "data.channels"),
            ("data.valid_fraction=0.0", "data.valid_fraction"),
            ("data.valid_fraction=1.0", "data.valid_fraction"),
            ("data.test_fraction=1.0", "data.test_fraction"),
            ("data.resize=72", "data.resize"),
            ("data.memory_mib=0", "data.memory_mib"),
            ("data.input=64y", "64x64"),
            ("data.fit=squeeze", "squeeze"),
            ("data.sampler=often", "often"),
            ("data.augment.crop=2.0", "crop"),
            ("optimizer.learning_rate=0.0", "optimizer.learning_rate"),
            ("optimizer.learning_rate=nan", "optimizer.learning_rate"),
            ("optimizer.momentum=1.0", "optimizer.momentum"),
            ("optimizer.epsilon=0.0", "optimizer.epsilon"),
            ("schedule.gamma=0.0", "schedule.gamma"),
            ("regularization.ema_decay=1.0", "regularization.ema_decay"),
            ("regularization.accumulate=0", "regularization.accumulate"),
            ("regularization.class_weights=[0.0, 0.0]", "regularization.class_weights"),
            ("checkpoint.keep=0", "checkpoint.keep"),
        ] {
            let mut layers = ConfigLayers::default();
            layers.set_expression(expression).unwrap();
            let error = layers.resolve().unwrap_err().to_string();
            assert!(error.contains(key), "{expression}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_is_named() {
        let mut layers = ConfigLayers::default();
        layers.set_expression("optimizer.learning_rat=1").unwrap();
        let error = layers.resolve().unwrap_err().to_string();
        assert!(error.contains("learning_rat"), "{error}");
        assert!(ConfigLayers::default().set_expression("novalue").is_err());
        assert!(ConfigLayers::default().set_expression("=1").is_err());
    }

    #[test]
    fn checkpoint_intervals_are_read_with_their_units() {
        assert_eq!("epoch".parse(), Ok(CheckpointEvery::Epoch));
        assert_eq!("500".parse(), Ok(CheckpointEvery::Steps(500)));
        assert_eq!("500 steps".parse(), Ok(CheckpointEvery::Steps(500)));
        assert_eq!("1.5m".parse(), Ok(CheckpointEvery::Minutes(1.5)));
        for bad in ["", "0", "0 minutes", "-1", "5 hours", "1.5 steps"] {
            assert!(bad.parse::<CheckpointEvery>().is_err(), "{bad}");
        }
    }
}
