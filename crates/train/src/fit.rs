//! From a checked configuration to a tested model file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};
use burn_train::logger::InMemoryMetricLogger;
use burn_train::metric::{AccuracyMetric, LearningRateMetric, LossMetric};
use burn_train::{Learner, SupervisedTraining, TrainingStrategy};
use data::text::one_line;
use data::{
    BatchLoader, ClassAgreement, ClassMap, Dataset, DatasetPair, LoaderConfig, Sampler, Search, listed,
};
use evaluation::chance::Chance;
use evaluation::confidence::{Calibration, Scored, coverage, fit_confidence};
use evaluation::metrics::{Evaluation, Prediction};
use evaluation::report::{Answer, ReportImage, ReportInput, overfitting_notice, without_samples_notice};
use model::{
    Confidence, Description, Fit, Head, InputShape, LoadReport, Loading, MOST_SEEN, Network, Policy, Seen,
    WeightAverage,
};
use serde_json::json;

use crate::config::{ClassWeighting, ClassWeights, ConfigError, KeepHead, TrainConfig};
use crate::device::DeviceError;
use crate::engine::epoch_loop::{EVALUATION_BATCH, Ending, EpochLoop, LoopResult, LossOf};
use crate::engine::evaluate::{EvaluateError, evaluate};
use crate::engine::freeze::FreezeError;
use crate::engine::optimizer::{learning_rates, optimizer};
use crate::engine::schedule::{PlateauFactor, Schedule};
use crate::engine::step::{Objective, Trainable};
use crate::engine::terminal::Dashboard;
use crate::progress::{Lines, Observer, ProgressMode, Recorder, Silent, quiet::QuietRenderer};
use crate::run::checkpoint::{AlwaysSave, CheckpointError, Committer, Snapshot, TrainingState};
use crate::run::data_record::{self, DataRecord, DataRecordError};
use crate::run::files::sha256_hex;
use crate::run::folder::{RunFolder, RunFolderError, RunRecord, RunResult, RunStatus, now};
use crate::run::history::{self, Computed};
use crate::start::weights::{ForeignWeights, WeightsError};
use crate::start::{StartError, recorded_start};
use crate::task::budget::Budget;
use crate::task::division::{Parts, divide};

/// Updates in a run below which a user hears of it: the default batch leaves a small folder of pictures a dozen.
const FEW_UPDATES: usize = 100;

/// What a run needs besides its configuration; none of it changes the numbers but `suits_pictures`, which changes the
/// configuration first.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// `train` or `finetune`, for `run.json`.
    pub command: &'static str,
    /// The folder of runs.
    pub artifacts: PathBuf,
    /// The run's name, when one was given.
    pub name: Option<String>,
    /// Where data is looked for.
    pub search: Search,
    /// Where the data of a run that goes on lies now, when it was named anew.
    pub dataset: Option<String>,
    /// Whether a run may go on with data that changed since it began.
    pub accept_changed_data: bool,
    /// What is shown.
    pub progress: ProgressMode,
    /// Set by a signal.
    pub stop: Arc<AtomicBool>,
    /// Whether batch size and epochs follow the number of pictures, for folders and lists of them: the user set
    /// neither.
    pub suits_pictures: bool,
}

/// Where training starts. The order is the precedence.
pub enum Start {
    /// From the newest valid checkpoint of a run; where it has none, from where the run began.
    Resume(RunFolder),
    /// From a trained model.
    Weights(Box<model::Model>),
    /// From weights that another program trained.
    Foreign(ForeignWeights),
    /// From freshly drawn weights.
    Scratch,
}

/// How a run that did not fail ended.
#[derive(Debug)]
pub enum Outcome {
    /// Tested and saved.
    Finished(Box<Finished>),
    /// Stopped by a signal, with a checkpoint.
    Interrupted {
        /// The run folder.
        run: PathBuf,
        /// Batches done.
        step: usize,
    },
}

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    /// Its figures.
    pub result: RunResult,
    /// The test; of a run that is not tested, its predictions on the validation split.
    pub evaluation: Evaluation,
    /// What was taken from the starting model.
    pub loaded: Option<LoadReport>,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The network does not fit the images.
    #[error("the network does not fit: {0}")]
    Shape(#[from] model::ShapeError),
    /// `freeze`.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// The backend.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The kernels' path.
    #[error(transparent)]
    Kernels(#[from] kernels::KernelsError),
    /// The data.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// The data of a run that is to go on.
    #[error(transparent)]
    DataRecord(#[from] DataRecordError),
    /// The run folder.
    #[error(transparent)]
    Run(#[from] RunFolderError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint of another configuration.
    #[error(
        "{0} was changed since the run began: its checkpoints belong to another configuration; restore it, or start a new run with --config {0}"
    )]
    ConfigChanged(PathBuf),
    /// The folder of a cross-validation was handed to a single run.
    #[error(
        "data.folds = {0} stands for {0} runs: this takes a single one; set data.fold to 1 to {0}, or data.folds = 0"
    )]
    Folds(usize),
    /// Where it starts.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The starting model.
    #[error("the starting model does not fit: {0}")]
    Weights(#[from] model::RecordError),
    /// A head to keep that knows none of the data's classes.
    #[error(
        "the head cannot be kept: the data has the classes {found}, the starting model knows {known}, and classes are \
         matched by their names; leave --keep-head out for a new head, or give the classes of the data the model's names"
    )]
    NoSharedClass {
        /// Classes of the data.
        found: String,
        /// Classes of the model.
        known: String,
    },
    /// A head to keep that has another form than the network's.
    #[error(
        "the head cannot be kept: the starting model's takes other features than the network's; leave --keep-head out"
    )]
    HeadForm,
    /// Weights of another program.
    #[error(transparent)]
    Foreign(#[from] WeightsError),
    /// Images that cannot get the channels asked for.
    #[error("data.channels: {0}")]
    Channels(model::PictureError),
    /// A record that is whole but does not fit.
    #[error("the checkpoint does not fit the network: {0}")]
    Record(String),
    /// The weight average.
    #[error(transparent)]
    Average(#[from] model::AverageError),
    /// Too few images for a split.
    #[error("{dataset}: {reason}")]
    TooFew {
        /// The data set.
        dataset: String,
        /// What there is too little of, why, and what would help.
        reason: String,
    },
    /// One weight per class is needed.
    #[error("regularization.class_weights has {found} weights, the data has {expected} classes")]
    ClassWeights {
        /// Weights given.
        found: usize,
        /// Classes.
        expected: usize,
    },
    /// Training blew up.
    #[error(
        "training diverged: the {split} is {loss} at step {step} (epoch {epoch}) with learning rate {learning_rate:e}.\n{advice}"
    )]
    Diverged {
        /// Which loss.
        split: LossOf,
        /// The loss.
        loss: f64,
        /// Batch in the whole run, from 1.
        step: usize,
        /// Epoch, from 1.
        epoch: usize,
        /// The rate of that step.
        learning_rate: f64,
        /// The last good checkpoint and what to do.
        advice: String,
    },
    /// burn-train stopped.
    #[error("training stopped: {0}")]
    Training(String),
    /// The test.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The device, after training.
    #[error(transparent)]
    Classify(#[from] model::ClassifyError),
    /// The model file.
    #[error(transparent)]
    ModelFile(#[from] model::ModelFileError),
    /// The report.
    #[error(transparent)]
    Report(#[from] evaluation::report::ReportError),
    /// `metrics.jsonl` or TensorBoard's file.
    #[error("cannot write {0}: {1}")]
    Metrics(PathBuf, std::io::Error),
}

impl FitError {
    /// Whether the command line or the configuration is at fault (exit status 2).
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Shape(_)
                | Self::Freeze(_)
                | Self::Kernels(_)
                | Self::ClassWeights { .. }
                | Self::Folds(_)
                | Self::Run(RunFolderError::Exists(_) | RunFolderError::Name(_))
        ) || matches!(self, Self::Start(error) if error.is_usage())
    }
}

/// Trains, tests and saves.
///
/// # Errors
/// Everything in [`FitError`]; the run folder, once it exists, keeps what was done.
pub fn fit(config: &TrainConfig, surroundings: &Surroundings, start: Start) -> Result<Outcome, FitError> {
    fit_member(config, surroundings, start, None)
}

/// As [`fit`], for a run of the series in the folder `series`: all of them see the same images in the same size, which
/// the first one settles where the configuration leaves it open.
///
/// # Errors
/// As [`fit`], and when the images are not those of the runs that are there.
pub(crate) fn fit_member(
    config: &TrainConfig,
    surroundings: &Surroundings,
    start: Start,
    series: Option<&Path>,
) -> Result<Outcome, FitError> {
    // Faults that need no data come first.
    if config.data.is_cross_validation() {
        return Err(FitError::Folds(config.data.folds));
    }
    if let Some(known) = data::catalog::find(&config.data.dataset) {
        let own = (known.preprocessing)().input;
        let mut input = config.data.input.map_or(own, |request| request.shape(own.channels));
        if config.data.channels > 0 {
            input.channels = config.data.channels;
        }
        config.network.summary(input, known.class_names.len())?;
    }
    if !matches!(start, Start::Resume(_)) {
        config.kernels.apply()?;
    }
    config.backend.device()?;
    let place = match &start {
        Start::Resume(run) => {
            data_record::place(run.path(), surroundings.dataset.as_deref(), &config.data.dataset)?
        }
        _ => surroundings.dataset.clone().unwrap_or_else(|| config.data.dataset.clone()),
    };
    let own = if let Start::Resume(run) = &start { Some(run.path()) } else { None };
    let records: Vec<&Path> = own.into_iter().chain(series).collect();
    let mut pair = load_pair_at(&data_record::with_input(&records, config), &place, &surroundings.search)?;
    if let Some(series) = series
        && own.is_none()
    {
        data_record::join_series(series, &place, &mut pair)?;
    }
    fit_pair(config, surroundings, start, pair, &place)
}

/// The images that the configuration names, in the size and with the channels it asks for.
pub(crate) fn load_pair(config: &TrainConfig, search: &Search) -> Result<DatasetPair, FitError> {
    load_pair_at(config, &config.data.dataset, search)
}

/// As [`Splits::load`] finds them, from where the data lies now.
///
/// # Errors
/// When they cannot be read, or cannot get the channels asked for.
pub fn load_pair_at(config: &TrainConfig, place: &str, search: &Search) -> Result<DatasetPair, FitError> {
    let pair = data::load_with(place, search, &config.data.images())?;
    match config.data.channels {
        0 => Ok(pair),
        channels => pair.with_channels(channels).map_err(FitError::Channels),
    }
}

/// As [`fit`], on images that are in memory already; `config.data.dataset` is only their name.
///
/// # Errors
/// Everything in [`FitError`].
pub fn fit_on(
    config: &TrainConfig,
    surroundings: &Surroundings,
    start: Start,
    pair: DatasetPair,
) -> Result<Outcome, FitError> {
    fit_pair(config, surroundings, start, pair, &config.data.dataset)
}

/// Trains on `pair`, which was found at `place`.
fn fit_pair(
    config: &TrainConfig,
    surroundings: &Surroundings,
    start: Start,
    mut pair: DatasetPair,
    place: &str,
) -> Result<Outcome, FitError> {
    let device = config.backend.device()?;
    let remembered = match &start {
        Start::Resume(run) => data_record::resume(run, place, &mut pair, surroundings.accept_changed_data)?,
        _ => None,
    };
    let data_now = DataRecord::new(place, &pair);
    // Only pictures have names to remember.
    let mut listing = if pair.pictures.is_some() { pair.entries(|_| None) } else { Vec::new() };
    let data = Splits::new(config, pair)?;
    for (part, indices) in [(data::Part::Train, &data.train), (data::Part::Valid, &data.valid)] {
        for &index in indices.iter() {
            if let Some(entry) = listing.get_mut(index as usize) {
                entry.part = Some(part);
            }
        }
    }
    let summary = config.network.summary(data.pair.preprocessing.input, data.classes())?;
    let suited = surroundings.suits_pictures.then(|| suited(config, &data, &summary));
    let config = suited.as_ref().unwrap_or(config);
    let mut experiment = Experiment::build(config, &data, &device, start, surroundings)?;
    tracing::info!("\n{summary}");

    let run = experiment.run.clone();
    let mut record = RunRecord {
        name: run.name(),
        command: surroundings.command.to_owned(),
        status: RunStatus::Running,
        started: crate::run::folder::read_record(run.path()).map_or_else(|_| now(), |record| record.started),
        seed: config.seed,
        dataset: config.data.dataset.clone(),
        data_sha256: data.pair.sha256.clone(),
        data: Some(data_now),
        changed_data: Vec::new(),
        head: experiment.head.take(),
        backend: config.backend.to_string(),
        adapter: config.backend.adapter().cloned(),
        kernels: experiment.history.last().map_or_else(String::new, |computed| computed.kernels.clone()),
        history: experiment.history.clone(),
        threads: rayon::current_num_threads(),
        versions: BTreeMap::from([
            ("kiln".to_owned(), history::VERSION.to_owned()),
            ("burn".to_owned(), "0.22.1".to_owned()),
        ]),
        network: network_in_words(&summary),
        parameters: summary.parameters(),
        images: BTreeMap::from([
            ("train".to_owned(), data.train.len()),
            ("valid".to_owned(), data.valid.len()),
            ("test".to_owned(), data.pair.test.len()),
        ]),
        skipped_images: data.pair.pictures.as_ref().map_or_else(Vec::new, |report| report.bad.clone()),
        from_weights_sha256: config.finetune.as_ref().map(|finetune| finetune.from_weights_sha256.clone()),
        error: None,
        diverged: false,
        result: None,
        earlier: earlier(&run, config),
    };
    let step = experiment.snapshot.as_ref().map_or(0, |snapshot| snapshot.state.step);
    let is_new = remembered.is_none_or(|remembered| remembered.put_into(&mut record, step));
    if is_new {
        // Computed from other data.
        run.checkpoints().forget_after(step)?;
    }
    // In this order: a finished run that is prolonged never stands there as finished with the new configuration.
    run.write_record(&record)?;
    run.write("config.toml", experiment.config_text.as_bytes())?;
    data_record::write_listing(&run, &record, &listing, is_new)?;

    let ended = experiment
        .train(&data, surroundings, record.started)
        .and_then(|(looped, last)| experiment.conclude(&data, &looped, &last, &record));
    match ended {
        Ok(Outcome::Finished(finished)) => {
            record.status = RunStatus::Finished;
            record.result = Some(finished.result.clone());
            run.write_record(&record)?;
            Ok(Outcome::Finished(finished))
        }
        Ok(Outcome::Interrupted { run: path, step }) => {
            record.status = RunStatus::Interrupted;
            run.write_record(&record)?;
            Ok(Outcome::Interrupted { run: path, step })
        }
        Err(error) => {
            record.status = RunStatus::Failed;
            record.diverged = matches!(error, FitError::Diverged { .. });
            record.error = Some(error.to_string());
            if let Err(second) = run.write_record(&record) {
                tracing::warn!("{second}");
            }
            Err(error)
        }
    }
}

/// What a run had finished with before it was prolonged to the epochs of `config`, by the epochs that it was to train then.
fn earlier(run: &RunFolder, config: &TrainConfig) -> BTreeMap<usize, RunResult> {
    let Ok(before) = crate::run::folder::read_record(run.path()) else { return BTreeMap::new() };
    let mut earlier = before.earlier;
    let text = run.config_text().unwrap_or_default();
    if let (Some(result), Ok(finished)) = (before.result, TrainConfig::from_toml(&text, run.path())) {
        earlier.insert(finished.epochs, result);
    }
    earlier.retain(|epochs, _| *epochs < config.epochs);
    earlier
}

/// The configuration with batch size and epochs that suit the number of training images, if those are pictures.
fn suited(config: &TrainConfig, data: &Splits, summary: &model::Summary) -> TrainConfig {
    if data.pair.pictures.is_none() {
        return config.clone();
    }
    let budget = Budget::fitting(config, data.train.len(), summary.macs());
    tracing::info!("{budget}");
    TrainConfig { batch_size: budget.batch_size, epochs: budget.epochs, ..config.clone() }
}

/// The same before there is a run: for several with one configuration.
pub(crate) fn suited_before(config: &TrainConfig, search: &Search) -> Result<TrainConfig, FitError> {
    let data = Splits::load(config, search)?;
    let summary = config.network.summary(data.pair.preprocessing.input, data.classes())?;
    Ok(suited(config, &data, &summary))
}

/// The data set and who gets which image.
pub struct Splits {
    /// The data set; its training images are moved to `training`.
    pub pair: DatasetPair,
    /// The images that are trained and validated on.
    pub training: Arc<Dataset>,
    /// Positions in `training` of what is learned from.
    pub train: Arc<[u32]>,
    /// Positions in `training` of what is validated on.
    pub valid: Arc<[u32]>,
}

impl Splits {
    /// Finds the images and divides them.
    ///
    /// # Errors
    /// When they cannot be read, or are too few for the splits.
    pub fn load(config: &TrainConfig, search: &Search) -> Result<Self, FitError> {
        Self::new(config, load_pair(config, search)?)
    }

    fn new(config: &TrainConfig, mut pair: DatasetPair) -> Result<Self, FitError> {
        let Parts { train, valid } = divide(config, &pair)?;
        // Taken out rather than copied: 47 MB for MNIST.
        let empty = pair.test.emptied();
        if !config.test {
            pair.test = empty.clone();
        } else if pair.test.is_empty() {
            tracing::warn!(
                "{}: there is no image to test on, so the figures of this run are those of validation; add images, or \
                 raise data.test_fraction",
                pair.train.name
            );
        }
        let training = std::mem::replace(&mut pair.train, empty);
        let labels = &training.labels;
        let classes = training.class_names.len();
        let counts = data::balance::class_counts(
            &train.iter().map(|index| labels[*index as usize]).collect::<Vec<_>>(),
            classes,
        );
        tracing::info!("images to train on, by class: {}", in_words(&training.class_names, &counts));
        if let Some(skew) = data::balance::Skew::of(&counts, &training.class_names)
            && config.data.sampler == Sampler::Once
            && config.regularization.class_weights == ClassWeights::Equal
        {
            tracing::warn!("{skew}");
        }
        tracing::info!(
            "{}: {} images to train on, {} to validate, {} to test; from {}",
            training.name,
            train.len(),
            valid.len(),
            pair.test.len(),
            pair.origin
        );
        Ok(Self { pair, training: Arc::new(training), train: train.into(), valid: valid.into() })
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.training.class_names.len()
    }

    /// The batches to learn from.
    ///
    /// # Errors
    /// When the loader refuses its settings.
    pub fn training_loader(&self, config: &TrainConfig, device: &Device) -> Result<BatchLoader, FitError> {
        let augment = &config.data.augment;
        let loading = LoaderConfig {
            batch_size: config.batch_size,
            shuffle: Some(config.seed),
            sampler: config.data.sampler,
            augment: (!augment.is_off()).then_some((*augment, config.seed)),
            workers: config.data.workers,
        };
        let (images, indices) = (Arc::clone(&self.training), Arc::clone(&self.train));
        Ok(BatchLoader::new(images, indices, self.pair.preprocessing.clone(), loading, device.clone())?)
    }

    /// Whether there is something to test on: runs that are chosen from have nothing, and few pictures may have none.
    fn is_tested(&self) -> bool {
        !self.pair.test.is_empty()
    }

    /// What a finished run is evaluated on: name, data set and positions in it.
    fn held_out(&self) -> (&'static str, &Dataset, Vec<u32>) {
        if self.is_tested() {
            ("test", &self.pair.test, (0..self.pair.test.len() as u32).collect())
        } else {
            ("validation", &self.training, self.valid.to_vec())
        }
    }

    /// The pictures that a model of this data has seen; `None` for known data sets, and where they are too many.
    fn seen(&self) -> Option<Seen> {
        if self.training.is_fixed() {
            return None;
        }
        let content = |indices: &[u32]| {
            indices.iter().map(|&index| *self.training.content[index as usize].bytes()).collect::<Vec<_>>()
        };
        let seen = Seen::new(&content(&self.train), &content(&self.valid));
        if seen.is_none() {
            tracing::warn!(
                "more than {MOST_SEEN} images: the model does not record them, so evaluating on them will not be noticed"
            );
        }
        seen
    }
}

/// Everything that is ready before the first step.
struct Experiment {
    config: TrainConfig,
    config_text: String,
    device: Device,
    run: RunFolder,
    network: Network,
    objective: Objective,
    snapshot: Option<Snapshot>,
    /// Which code computes it.
    history: Vec<Computed>,
    loaded: Option<LoadReport>,
    head: Option<KeptHead>,
}

impl Experiment {
    fn build(
        config: &TrainConfig,
        data: &Splits,
        device: &Device,
        start: Start,
        surroundings: &Surroundings,
    ) -> Result<Self, FitError> {
        let input = data.pair.preprocessing.input;
        let class_weights = class_weights(&config.regularization.class_weights, data)?;
        let network = config.network.init(input, data.classes(), config.seed, device)?;
        let objective =
            Objective::new(&config.regularization, class_weights, config.finetune.as_ref(), &network)?;
        let mut config_text = config.to_toml()?;
        let label = format!("{}-{}", surroundings.command, short_name(&config.data.dataset));
        let (run, snapshot, start) = match start {
            Start::Resume(run) => match recover(&run, config, &mut config_text)? {
                Some(snapshot) => (Some(run), Some(snapshot), Start::Scratch),
                None => {
                    tracing::warn!("{} has no whole checkpoint: it begins again", run.path().display());
                    (Some(run), None, recorded_start(config, &surroundings.search)?)
                }
            },
            start => (None, None, start),
        };
        let started = begin(network, start, config, data)?;
        let run = match run {
            Some(run) => run,
            None => RunFolder::create(&surroundings.artifacts, surroundings.name.as_deref(), &label)?,
        };
        let (before, step) = snapshot
            .as_ref()
            .map_or_else(Default::default, |snapshot| (snapshot.state.history.clone(), snapshot.state.step));
        let history = history::go_on(before, step, config.kernels)?;
        let config = config.clone();
        let device = device.clone();
        let Started { network, report: loaded, head } = started;
        Ok(Self { config, config_text, device, run, network, objective, snapshot, history, loaded, head })
    }

    /// Runs the loop; gives its result and the network after the last update.
    fn train(
        &mut self,
        data: &Splits,
        surroundings: &Surroundings,
        started: u64,
    ) -> Result<(LoopResult, Network), FitError> {
        let config = &self.config;
        let training_device = self.device.clone().autodiff();
        let preprocessing = &data.pair.preprocessing;
        let loader = Arc::new(data.training_loader(config, &training_device)?);
        let valid = Arc::new(BatchLoader::new(
            Arc::clone(&data.training),
            Arc::clone(&data.valid),
            preprocessing.clone(),
            LoaderConfig {
                batch_size: EVALUATION_BATCH,
                shuffle: None,
                sampler: Sampler::Once,
                augment: None,
                workers: config.data.workers.min(1),
            },
            self.device.clone(),
        )?);

        let plateau = PlateauFactor::default();
        let updates = loader.batches().div_ceil(config.regularization.accumulate);
        let all = updates * config.epochs;
        if all < FEW_UPDATES {
            tracing::warn!(
                "{all} updates in all (batches of {} images, {} epochs) are few to learn from; --batch-size 16 or \
                 more --epochs makes more of them",
                config.batch_size,
                config.epochs
            );
        }
        let schedule = |base| Schedule::new(&config.schedule, base, updates, config.epochs, plateau.clone());
        let model =
            Trainable::new(self.network.clone(), self.objective.clone()).train().fork(&training_device);
        let learner = Learner::new(
            model,
            optimizer(config),
            learning_rates(config, &self.network.layer_groups(), schedule),
        );

        let snapshot = self.snapshot.take();
        let mut start = snapshot.as_ref().map_or_else(
            || TrainingState {
                epoch: 1,
                config_sha256: sha256_hex(self.config_text.as_bytes()),
                ..TrainingState::default()
            },
            |snapshot| snapshot.state.clone(),
        );
        start.history.clone_from(&self.history);
        let resumed = snapshot.is_some().then_some(start.step);
        let average = snapshot.as_ref().and_then(|snapshot| snapshot.average.clone());
        if let Err((path, error)) = self.run.write_metrics(started, &start.epochs) {
            return Err(FitError::Metrics(path, error));
        }
        let committer = Committer::new(self.run.clone(), config.checkpoint.keep, snapshot);
        let (face_model, face_optimizer, face_schedule) = committer.faces();
        let inner: Box<dyn Observer> = match surroundings.progress {
            ProgressMode::Bar => Box::new(Lines::new(true, config.backend)),
            ProgressMode::Plain => Box::new(Lines::new(false, config.backend)),
            ProgressMode::Tui | ProgressMode::None => Box::new(Silent),
        };
        let failure = Arc::new(Mutex::new(None));
        let observer = Recorder { inner, run: self.run.clone(), started, failure: Arc::clone(&failure) };
        let dashboard = surroundings.progress == ProgressMode::Tui;
        let result = Arc::new(Mutex::new(None));
        let epoch_loop = EpochLoop {
            config: config.clone(),
            device: training_device,
            loader: Arc::clone(&loader),
            start,
            average,
            plateau: plateau.clone(),
            committer,
            observer: Arc::new(Mutex::new(observer)),
            stop: Arc::clone(&surroundings.stop),
            events: dashboard,
            result: Arc::clone(&result),
        };

        // burn-train reads metrics back from its folder, so every process of a run gets a fresh one;
        // with the logger in memory nothing is written there.
        let mut training = SupervisedTraining::new(self.run.path(), loader, valid)
            .with_metric_logger(InMemoryMetricLogger::new())
            .with_application_logger(None)
            .with_custom_checkpointers(face_model, face_optimizer, face_schedule)
            .with_checkpointing_strategy(AlwaysSave)
            .with_training_strategy(TrainingStrategy::Custom(Arc::new(epoch_loop)))
            .num_epochs(config.epochs);
        if let Some(step) = resumed {
            training = training.checkpoint(step);
        }
        training = if dashboard {
            training
                .metrics((AccuracyMetric::new(), LossMetric::new()))
                .metric_train_numeric(LearningRateMetric::new())
        } else {
            training.renderer(Box::new(QuietRenderer))
        };
        // Before what holds the dashboard, to be dropped after it.
        let _terminal = dashboard.then(|| {
            let (terminal, signals) = Dashboard::begin();
            if let Err(error) = signals {
                tracing::warn!("Ctrl-C does not end this run: {error}; press q instead");
            }
            terminal
        });
        let learned = training.launch(learner);
        if let Some(error) = learned.error {
            return Err(FitError::Training(error.to_string()));
        }
        if let Some((path, error)) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(FitError::Metrics(path, error));
        }
        let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        let result = result.ok_or_else(|| FitError::Training("the loop left no result".to_owned()))?;
        Ok((result, learned.model.network))
    }

    /// Loads the best epoch's weights, tests them once, and writes model file and report.
    fn conclude(
        &mut self,
        data: &Splits,
        looped: &LoopResult,
        last_network: &Network,
        record: &RunRecord,
    ) -> Result<Outcome, FitError> {
        let store = self.run.checkpoints();
        match looped.ending {
            Ending::Finished => {}
            Ending::EarlyStopped(epoch) => {
                tracing::info!("validation has stopped improving: early stop after epoch {epoch}");
            }
            Ending::Interrupted(step) => {
                return Ok(Outcome::Interrupted { run: self.run.path().to_owned(), step });
            }
            Ending::Diverged { split, epoch, step, loss, learning_rate } => {
                let advice = match store.newest() {
                    Some(snapshot) => format!(
                        "The last good checkpoint is {} (epoch {}). Start again with a lower --learning-rate, with \
                         --set regularization.clip_norm=1, or with a warm-up.",
                        store.path(snapshot.state.step).display(),
                        snapshot.state.epoch
                    ),
                    None => "There is no checkpoint yet. Start again with a lower --learning-rate, with \
                               --set regularization.clip_norm=1, or with a warm-up."
                        .to_owned(),
                };
                return Err(FitError::Diverged { split, loss, step, epoch, learning_rate, advice });
            }
            Ending::Failed => return Err(FitError::Training("the loop ended early".to_owned())),
        }
        let state = &looped.state;
        let best =
            state.best.clone().ok_or_else(|| FitError::Training("no epoch was validated".to_owned()))?;
        let network = self.weights_of(&store.read(best.step)?)?;
        let optimizer_sha256 = optimizer_sha256(&store.read(state.step)?.optimizer)?;

        // The one look at the test split, for a run that is not one of several to choose from.
        let config = &self.config;
        let class_names = &data.training.class_names;
        let (subset, images, indices) = data.held_out();
        let preprocessing = &data.pair.preprocessing;
        let evaluation = evaluate(&network, preprocessing, class_names, images, &indices, &self.device)?;
        let chance = Chance::of(&evaluation.confusion);
        let updates = state.step.div_ceil(config.regularization.accumulate);
        let train_accuracy = state.epochs.iter().find(|epoch| epoch.epoch == best.epoch);
        let train_accuracy = train_accuracy.map_or(0.0, |epoch| epoch.train_accuracy);
        let notice = chance.as_ref().and_then(|chance| chance.notice(subset, updates, train_accuracy));
        if let Some(notice) = &notice {
            tracing::warn!("{notice}");
        }
        let tested = |figure: f64| data.is_tested().then_some(figure);
        let test_accuracy = tested(evaluation.accuracy());
        let test_macro_f1 = evaluation.confusion.macro_average().f1.filter(|_| data.is_tested());
        if let Some(notice) = without_samples_notice(&evaluation, subset) {
            tracing::warn!("{notice}");
        }

        let score = |dataset: &Dataset, indices: &[u32]| {
            Scored::of(&network, preprocessing, dataset, indices, &self.device)
        };
        let valid = score(&data.training, &data.valid)?;
        let confidence =
            fit_confidence(&network, preprocessing, &data.training, &data.train, &valid, &self.device)?;
        let judged = score(images, &indices)?;
        let calibration = data.is_tested().then(|| Calibration::measure(&confidence, &valid, &judged));
        let answers = believed(&confidence, preprocessing.fit, &judged);

        let weights_sha256 = model::weights_sha256(&network);
        let provenance = BTreeMap::from([
            ("run".to_owned(), json!(self.run.name())),
            ("command".to_owned(), json!(record.command)),
            ("dataset".to_owned(), json!(config.data.dataset)),
            ("data_sha256".to_owned(), json!(record.data_sha256)),
            ("content_sha256".to_owned(), json!(record.data.as_ref().map(|data| &data.content_sha256))),
            ("changed_data".to_owned(), json!(record.changed_data)),
            ("backend".to_owned(), json!(config.backend.to_string())),
            ("seed".to_owned(), json!(config.seed)),
            ("epochs".to_owned(), json!(state.epochs.len())),
            ("best_epoch".to_owned(), json!(best.epoch)),
            ("seconds".to_owned(), json!(state.seconds)),
            ("train_samples_per_second".to_owned(), json!(median_rate(state))),
            ("valid_accuracy".to_owned(), json!(best.valid_accuracy)),
            ("test_accuracy".to_owned(), json!(test_accuracy)),
            ("test_macro_f1".to_owned(), json!(test_macro_f1)),
            ("config".to_owned(), json!(self.config_text)),
        ]);
        let description = Description {
            network: config.network.clone(),
            preprocessing: preprocessing.clone(),
            classes: class_names.clone(),
            provenance,
            confidence: Some(confidence),
            seen: data.seen(),
        };
        let bytes = model::encode(&network, description)?;
        self.run.write(crate::run::folder::MODEL_FILE, &bytes)?;

        let result = RunResult {
            run: self.run.path().display().to_string(),
            model: self.run.model_path().display().to_string(),
            dataset: config.data.dataset.clone(),
            backend: config.backend.to_string(),
            seed: config.seed,
            epochs: state.epochs.len(),
            best_epoch: best.epoch,
            parameters: record.parameters,
            valid_accuracy: best.valid_accuracy,
            valid_loss: best.valid_loss,
            test_accuracy,
            test_loss: tested(evaluation.mean_loss),
            test_macro_f1,
            classes_without_images: evaluation.without_samples(),
            train_samples_per_second: median_rate(state),
            seconds: state.seconds,
            model_bytes: bytes.len() as u64,
            weights_sha256,
            last_weights_sha256: model::weights_sha256(last_network),
            optimizer_sha256,
            calibration,
            baseline_accuracy: chance.as_ref().map(|chance| chance.baseline),
            no_better_than_chance: notice.is_some(),
        };
        let notices: Vec<String> = notice.into_iter().collect();
        self.write_report(data, state, (subset, images, &evaluation), (&answers, &notices), &result, record)?;
        let loaded = self.loaded.take();
        Ok(Outcome::Finished(Box::new(Finished { result, evaluation, loaded })))
    }

    /// The network of a checkpoint, as validation saw it.
    fn weights_of(&self, snapshot: &Snapshot) -> Result<Network, FitError> {
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(snapshot.model.clone()))
            .map_err(|error| FitError::Record(error.to_string()))?;
        let network = Trainable::new(self.network.clone(), self.objective.clone())
            .try_load_record(record)
            .map_err(|error| FitError::Record(error.to_string()))?
            .network;
        match &snapshot.average {
            Some(bytes) => Ok(WeightAverage::from_bytes(bytes)?.into_network(network)?),
            None => Ok(network),
        }
    }

    fn write_report(
        &self,
        data: &Splits,
        state: &TrainingState,
        (subset, images, evaluation): (&str, &Dataset, &Evaluation),
        (answers, notices): (&[Answer], &[String]),
        result: &RunResult,
        record: &RunRecord,
    ) -> Result<(), FitError> {
        let test_figures = result.test_accuracy.zip(result.test_macro_f1);
        let calibration = result.calibration.as_ref().map_or_else(String::new, |calibration| {
            format!(
                "temperature {:.3}; expected calibration error on test {:.2} %, {:.2} % without it",
                calibration.temperature,
                calibration.test_error * 100.0,
                calibration.test_error_before * 100.0
            )
        });
        let facts = [
            ("Command", record.command.clone()),
            ("Data set", format!("{} (from {})", result.dataset, data.pair.origin)),
            (
                "Images",
                format!(
                    "{} train, {} valid, {} test",
                    data.train.len(),
                    data.valid.len(),
                    data.pair.test.len()
                ),
            ),
            ("Network", record.network.clone()),
            ("Parameters", result.parameters.to_string()),
            (
                "Backend",
                match &record.adapter {
                    Some(adapter) => format!("{} on {adapter}", result.backend),
                    None => {
                        format!(
                            "{} (kernels: {}, {} threads)",
                            result.backend, record.kernels, record.threads
                        )
                    }
                },
            ),
            ("Seed", result.seed.to_string()),
            ("Epochs", format!("{} (best: {})", result.epochs, result.best_epoch)),
            ("Validation accuracy", format!("{:.2} %", result.valid_accuracy * 100.0)),
            (
                "Test",
                test_figures.map_or_else(
                    || {
                        let reason = if self.config.test {
                            "there is no image to test on"
                        } else {
                            "not read: this run is one of several to choose from"
                        };
                        reason.to_owned()
                    },
                    |(accuracy, f1)| format!("accuracy {:.2} %, macro F1 {f1:.4}", accuracy * 100.0),
                ),
            ),
            ("Calibration", calibration),
            ("Training", format!("{:.0} s, {:.0} images/s", result.seconds, result.train_samples_per_second)),
            ("Weights SHA-256", result.weights_sha256.clone()),
        ];
        let right = evaluation.predictions.iter().map(Prediction::is_correct);
        let answered: Vec<(f32, bool)> = answers.iter().map(|answer| answer.probability).zip(right).collect();
        let facts: Vec<(String, String)> =
            facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let files = evaluation::report::render(&ReportInput {
            title: &self.run.name(),
            facts: &facts,
            notices,
            epochs: &state.epochs,
            best_epoch: Some(result.best_epoch),
            subset,
            evaluation,
            coverage: &coverage(&answered),
            answers,
            name: &|index| images.name_of(index as usize),
            image: &|index| picture(images, index),
        })?;
        if let Some(notice) = overfitting_notice(&state.epochs) {
            tracing::warn!("{notice}");
        }
        self.run.write_report(&files)?;
        Ok(())
    }
}

/// How far the answers to `judged` are to be believed: as `predict` has it when nothing else is asked for.
fn believed(confidence: &Confidence, fit: Fit, judged: &Scored) -> Vec<Answer> {
    let keep = Policy::default().keep;
    let answers = judged.answers(confidence.temperature).into_iter().zip(&judged.scores);
    answers
        .map(|((probability, _), scores)| Answer {
            probability,
            rejected: model::is_strange(Some(confidence), fit, scores, keep),
        })
        .collect()
}

fn picture(dataset: &Dataset, index: u32) -> Option<ReportImage<'_>> {
    let InputShape { channels, height, width } = dataset.shape;
    let known = (index as usize) < dataset.len();
    known.then(|| ReportImage { channels, height, width, pixels: dataset.image(index as usize).into() })
}

/// Whether `config` is that of a run with nothing changed but more epochs, and the learning rates of its epochs would have
/// been the same: then it can go on from any of its checkpoints.
fn prolongs(config: &TrainConfig, snapshot: &Snapshot) -> Result<bool, ConfigError> {
    for epochs in (1..config.epochs).filter(|&epochs| config.schedule.ignores_later_epochs(epochs)) {
        let before = TrainConfig { epochs, ..config.clone() };
        if snapshot.state.config_sha256 == sha256_hex(before.to_toml()?.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A network with weights from elsewhere.
pub struct Started {
    /// The network.
    pub network: Network,
    /// What was taken; nothing of a start from scratch.
    pub report: Option<LoadReport>,
    /// What became of the classes of a head that was kept.
    pub head: Option<KeptHead>,
}

/// A classification head that was kept, in `run.json`: classes are matched by their names.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeptHead {
    /// Classes that go on with what the starting model knows of them.
    pub kept: Vec<String>,
    /// Classes of the data that the starting model did not know: they begin anew.
    pub new: Vec<String>,
    /// Classes of the starting model that the data does not have.
    pub dropped: Vec<String>,
}

/// The checkpoint that a run goes on from, of this configuration or of the same with fewer epochs; `None` when it has
/// to begin again.
///
/// A `config.toml` that means the same in other words becomes `config_text`: its hash is that of the checkpoints.
fn recover(
    run: &RunFolder,
    config: &TrainConfig,
    config_text: &mut String,
) -> Result<Option<Snapshot>, FitError> {
    let Some(mut snapshot) = run.checkpoints().recover()? else { return Ok(None) };
    let config_sha256 = sha256_hex(config_text.as_bytes());
    if snapshot.state.config_sha256 != config_sha256 {
        if is_as_written(run, config, &snapshot) {
            *config_text = run.config_text()?;
        } else if prolongs(config, &snapshot)? {
            snapshot.state.config_sha256 = config_sha256;
        } else {
            return Err(FitError::ConfigChanged(run.path().join("config.toml")));
        }
    }
    if snapshot.state.history.is_empty()
        && let Ok(record) = crate::run::folder::read_record(run.path())
    {
        // A checkpoint of the first version: the record says what computed it.
        let kiln = record.versions.get("kiln").cloned().unwrap_or_default();
        snapshot.state.history = vec![Computed { from_step: 0, kernels: record.kernels, kiln }];
    }
    tracing::info!(
        "going on with {} after step {} (epoch {})",
        run.path().display(),
        snapshot.state.step,
        snapshot.state.epoch
    );
    Ok(Some(snapshot))
}

/// Whether the checkpoint belongs to the run's `config.toml` as it stands there, which means `config`: another version
/// of Kiln may have written it in other words.
fn is_as_written(run: &RunFolder, config: &TrainConfig, snapshot: &Snapshot) -> bool {
    run.config_text().is_ok_and(|text| {
        sha256_hex(text.as_bytes()) == snapshot.state.config_sha256
            && TrainConfig::from_toml(&text, run.path()).is_ok_and(|written| written == *config)
    })
}

/// The network with the weights that it starts from.
///
/// # Errors
/// When the weights do not fit the network, its images or its classes.
pub fn begin(
    network: Network,
    start: Start,
    config: &TrainConfig,
    data: &Splits,
) -> Result<Started, FitError> {
    let started = match start {
        Start::Weights(model) => start_weights(network, &model, config, data)?,
        Start::Foreign(weights) => foreign_weights(network, &weights, config, data)?,
        Start::Scratch | Start::Resume(_) => return Ok(Started { network, report: None, head: None }),
    };
    started.report.iter().for_each(say_loaded);
    Ok(started)
}

/// The starting model's tensors in the new network: all but the head, and of the head, when it is kept, the classes
/// that the data has too.
fn start_weights(
    network: Network,
    model: &model::Model,
    config: &TrainConfig,
    data: &Splits,
) -> Result<Started, FitError> {
    let (expected, input) = (model.metadata.preprocessing.input, data.pair.preprocessing.input);
    if expected != input {
        return Err(EvaluateError::Shape {
            dataset: config.data.dataset.clone(),
            found: input.to_string(),
            expected: expected.to_string(),
        }
        .into());
    }
    let classes = keeps_head(config, &model.metadata.classes, data).then_some(&model.metadata.classes[..]);
    taken_from(network, &model.network, classes, &data.training)
}

/// The tensors of `donor` but for its head; of that, where its classes are given, those that the data has too.
fn taken_from(
    network: Network,
    donor: &Network,
    classes: Option<&[String]>,
    data: &Dataset,
) -> Result<Started, FitError> {
    let is_head = |name: &str| name.starts_with("head.");
    let loading = |name: &str| if is_head(name) { Loading::Skip } else { Loading::Required };
    let (network, mut report) = model::load_partial(network, &model::named_tensors(donor), loading)?;
    let Some(classes) = classes else { return Ok(Started { network, report: Some(report), head: None }) };
    let map = ClassMap::new(&data.class_names, classes);
    let ClassAgreement { mapped: kept, absent: dropped, unknown: new } = map.agreement().clone();
    if kept.is_empty() {
        return Err(FitError::NoSharedClass { found: listed(&data.class_names), known: listed(classes) });
    }
    let from: Vec<Option<usize>> = map.numbers().iter().map(|number| number.map(usize::from)).collect();
    let heads = Head::of(&network).zip(Head::of(donor));
    let head = heads.and_then(|(own, donor)| own.with_classes_of(&donor, &from)).ok_or(FitError::HeadForm)?;
    let network = head.put_on(network)?;
    let (taken, skipped) = std::mem::take(&mut report.skipped).into_iter().partition(|name| is_head(name));
    report.skipped = skipped;
    report.loaded.extend::<Vec<String>>(taken);
    report.loaded.sort();
    if data.class_names != classes {
        let named = |what: &str, names: &[String]| match names {
            [] => String::new(),
            names => format!("; {what}: {}", listed(names)),
        };
        tracing::info!(
            "the head is kept class by class: {}{}{}",
            listed(&kept),
            named("new, they begin anew", &new),
            named("left out, since the data does not have them", &dropped)
        );
    }
    Ok(Started { network, report: Some(report), head: Some(KeptHead { kept, new, dropped }) })
}

/// A network with the weights that another program trained.
fn foreign_weights(
    network: Network,
    weights: &ForeignWeights,
    config: &TrainConfig,
    data: &Splits,
) -> Result<Started, FitError> {
    let input = data.pair.preprocessing.input;
    let lenient = config.finetune.as_ref().is_some_and(|finetune| finetune.allow_mismatch);
    let required = if lenient { Loading::Optional } else { Loading::Required };
    // A file that names its classes is one of ours in another form.
    if let Some(classes) = weights.class_names()
        && keeps_head(config, &classes, data)
    {
        let donor = config.network.init(input, classes.len(), config.seed, &Device::flex())?;
        let loading = |name: &str| if name.starts_with("head.") { Loading::Required } else { required };
        let (donor, report) = weights.load(donor, &config.network, input, classes.len(), loading)?;
        let started = taken_from(network, &donor, Some(&classes), &data.training)?;
        return Ok(Started { report: Some(report), ..started });
    }
    let loading = |name: &str| match keep_head(config) {
        _ if !name.starts_with("head.") => required,
        KeepHead::Yes => required,
        KeepHead::Fitting => Loading::Optional,
        KeepHead::No => Loading::Skip,
    };
    let (network, report) = weights.load(network, &config.network, input, data.classes(), loading)?;
    if report.loaded.iter().any(|name| name.starts_with("head.")) {
        tracing::warn!(
            "the file does not name its classes: they are taken to be those of the data in this order: {}",
            listed(&data.training.class_names)
        );
    }
    Ok(Started { network, report: Some(report), head: None })
}

fn keep_head(config: &TrainConfig) -> KeepHead {
    config.finetune.as_ref().map_or(KeepHead::No, |finetune| finetune.keep_head)
}

/// Whether a head of these classes is taken over.
fn keeps_head(config: &TrainConfig, classes: &[String], data: &Splits) -> bool {
    match keep_head(config) {
        KeepHead::No => false,
        KeepHead::Yes => true,
        KeepHead::Fitting => data.training.class_names.iter().any(|name| classes.contains(name)),
    }
}

/// What was taken and what is new.
fn say_loaded(report: &LoadReport) {
    let mismatched = report.mismatched.iter().map(|mismatch| &mismatch.name);
    let new: Vec<&str> =
        report.skipped.iter().chain(&report.missing).chain(mismatched).map(String::as_str).collect();
    let taken = report.loaded.len();
    if new.is_empty() {
        tracing::info!("{taken} tensors taken from the starting model, all there are");
    } else {
        tracing::info!(
            "{taken} tensors taken from the starting model, {} new ({})",
            new.len(),
            new.join(", ")
        );
    }
}

/// The weight of each class in the loss; `None` where all are equal.
///
/// # Errors
/// When the configuration gives another number of weights than there are classes.
pub fn class_weights(weights: &ClassWeights, data: &Splits) -> Result<Option<Vec<f32>>, FitError> {
    match weights {
        ClassWeights::Equal | ClassWeights::Named(ClassWeighting::None) => Ok(None),
        ClassWeights::Named(ClassWeighting::Balanced) => {
            let labels: Vec<u8> =
                data.train.iter().map(|index| data.training.labels[*index as usize]).collect();
            let counts = data::balance::class_counts(&labels, data.classes());
            Ok(Some(data::balance::balanced_weights(&counts)))
        }
        ClassWeights::Given(weights) if weights.len() == data.classes() => Ok(Some(weights.clone())),
        ClassWeights::Given(weights) => {
            Err(FitError::ClassWeights { found: weights.len(), expected: data.classes() })
        }
    }
}

/// Digest of the optimiser's state; reading sorts by name, so the order of a hash map has no part in it.
fn optimizer_sha256(bytes: &[u8]) -> Result<String, FitError> {
    let canonical = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(bytes.to_vec()))
        .and_then(OptimizerRecord::into_bytes)
        .map_err(|error| FitError::Record(error.to_string()))?;
    Ok(sha256_hex(&canonical))
}

fn median_rate(state: &TrainingState) -> f64 {
    let mut rates: Vec<f64> = state.epochs.iter().map(|epoch| epoch.samples_per_second).collect();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// `cat 12, dog 9`, cut short after many classes.
fn in_words(names: &[String], counts: &[usize]) -> String {
    const SHOWN: usize = 25;
    let shown =
        names.iter().zip(counts).take(SHOWN).map(|(name, count)| format!("{} {count}", one_line(name)));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more classes", names.len() - SHOWN));
    }
    text
}

fn network_in_words(summary: &model::Summary) -> String {
    summary.layers.iter().map(|layer| layer.kind.clone()).collect::<Vec<_>>().join(" - ")
}

/// The last part of a path, for the name of a run.
pub fn short_name(dataset: &str) -> String {
    let name = std::path::Path::new(dataset)
        .file_name()
        .map_or_else(|| "data".to_owned(), |name| name.to_string_lossy().into_owned());
    name.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}
