//! The keys of a configuration with their defaults; what they may hold is in `check.rs`.
//!
//! Longer than other files, since every key has its sentence here and only here.

use std::fmt;
use std::str::FromStr;

use data::augment::AugmentConfig;
use data::{FitName, ImageOptions, InputRequest, OnBadImage, Sampler};
use model::{CnnConfig, NetworkConfig, TaskName};
use serde::{Deserialize, Serialize};
use toml::Value;

use crate::device::{Backend, Kernels, is_auto};

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
    /// `classify` (one class a picture) or `multi-label` (any number of them). When absent: what the data has, see
    /// `data.dataset`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskName>,
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
            task: None,
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
    /// of pictures for each class; or a CSV file that lists pictures, with a column `label`; with several labels a
    /// picture, a column `labels` with `;` or `|` between them, or a column of 0 and 1 for each class.
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
    /// What to do with a picture that cannot be decoded: `error` stops the run, `skip` leaves it out.
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
    /// The highest accuracy (with several labels a picture: the highest mean average precision); of equal ones the
    /// lowest loss.
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
    /// each the next frozen layer group is unfrozen, from the head down.
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

/// What is done with the classification head of the starting weights.
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

/// When frozen layers are unfrozen; epochs count from 1.
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
