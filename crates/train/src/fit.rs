//! From a checked configuration to a tested model file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};
use burn_train::logger::InMemoryMetricLogger;
use burn_train::metric::{AccuracyMetric, LearningRateMetric, LossMetric};
use burn_train::{Learner, SupervisedTraining, TrainingStrategy};
use data::{BatchLoader, Dataset, DatasetPair, LoaderConfig, Search};
use model::{Description, InputShape, LoadReport, Loading, Network, WeightAverage};
use serde_json::json;

use crate::checkpoint::{AlwaysSave, CheckpointError, Committer, Snapshot, TrainingState};
use crate::config::{ClassWeighting, ClassWeights, ConfigError, TrainConfig};
use crate::device::DeviceError;
use crate::evaluate::{EvaluateError, evaluate};
use crate::files::sha256_hex;
use crate::metrics::Evaluation;
use crate::optimizer::{learning_rates, optimizer};
use crate::progress::{Lines, Observer, ProgressMode, Recorder, Silent, quiet::QuietRenderer};
use crate::report::{ReportImage, ReportInput, overfitting_notice};
use crate::run_folder::{RunFolder, RunFolderError, RunRecord, RunResult, RunStatus, now};
use crate::schedule::{PlateauFactor, Schedule};
use crate::step::{FreezePatternError, Objective, Trainable};
use crate::strategy::{EVALUATION_BATCH, Ending, EpochLoop, LoopResult, mix};

/// What a run needs besides its configuration; none of it changes the numbers.
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
    /// What is shown.
    pub progress: ProgressMode,
    /// Set by a signal.
    pub stop: Arc<AtomicBool>,
}

/// Where training starts. The order is the precedence.
pub enum Start {
    /// From the newest valid checkpoint of a run.
    Resume(RunFolder),
    /// From a trained model.
    Weights(Box<model::Model>),
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
    /// The test.
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
    Freeze(#[from] FreezePatternError),
    /// The backend.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The kernels' path.
    #[error(transparent)]
    Kernels(#[from] kernels::KernelsError),
    /// The data.
    #[error(transparent)]
    Data(#[from] data::DataError),
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
    /// The starting model.
    #[error("the starting model does not fit: {0}")]
    Weights(#[from] model::RecordError),
    /// A record that is whole but does not fit.
    #[error("the checkpoint does not fit the network: {0}")]
    Record(String),
    /// The weight average.
    #[error(transparent)]
    Average(#[from] model::AverageError),
    /// Too few images for a split.
    #[error(
        "{images} labelled images leave {train} for training and {valid} for validation: expected at least one of each class in both; raise --limit or change --valid-fraction"
    )]
    TooFew {
        /// Labelled images.
        images: usize,
        /// Training images.
        train: usize,
        /// Validation images.
        valid: usize,
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
        "training diverged: the loss is {loss} at step {step} (epoch {epoch}) with learning rate {learning_rate:e}.\n{advice}"
    )]
    Diverged {
        /// The loss.
        loss: f32,
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
    /// The model file.
    #[error(transparent)]
    ModelFile(#[from] model::ModelFileError),
    /// The report.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
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
                | Self::Run(RunFolderError::Exists(_) | RunFolderError::Name(_))
        )
    }
}

/// Trains, tests and saves.
///
/// # Errors
/// Everything in [`FitError`]; the run folder, once it exists, keeps what was done.
pub fn fit(config: &TrainConfig, surroundings: &Surroundings, start: Start) -> Result<Outcome, FitError> {
    // Faults that need no data come first.
    if let Some(known) = data::catalog::find(&config.data.dataset) {
        config.network.summary((known.preprocessing)().input, known.class_names.len())?;
    }
    kernels::path()?;
    config.backend.device()?;
    fit_on(config, surroundings, start, data::load(&config.data.dataset, &surroundings.search)?)
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
    let kernels = format!("{:?}", kernels::path()?).to_lowercase();
    let device = config.backend.device()?;
    let data = Splits::new(config, pair)?;
    let summary = config.network.summary(data.pair.preprocessing.input, data.classes())?;
    let mut experiment = Experiment::build(config, &data, &device, start, surroundings)?;
    tracing::info!("\n{summary}");

    let run = experiment.run.clone();
    let mut record = RunRecord {
        name: run.name(),
        command: surroundings.command.to_owned(),
        status: RunStatus::Running,
        started: crate::run_folder::read_record(run.path()).map_or_else(|_| now(), |record| record.started),
        seed: config.seed,
        dataset: config.data.dataset.clone(),
        data_sha256: data.pair.sha256.clone(),
        backend: config.backend.to_string(),
        kernels,
        threads: rayon::current_num_threads(),
        versions: BTreeMap::from([
            ("kiln".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("burn".to_owned(), "0.22.1".to_owned()),
        ]),
        network: network_in_words(&summary),
        parameters: summary.parameters(),
        images: BTreeMap::from([
            ("train".to_owned(), data.train.len()),
            ("valid".to_owned(), data.valid.len()),
            ("test".to_owned(), data.pair.test.len()),
        ]),
        error: None,
        result: None,
    };
    run.write("config.toml", experiment.config_text.as_bytes())?;
    run.write_record(&record)?;

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
            record.error = Some(error.to_string());
            if let Err(second) = run.write_record(&record) {
                tracing::warn!("{second}");
            }
            Err(error)
        }
    }
}

/// The data set and who gets which image.
struct Splits {
    pair: DatasetPair,
    training: Arc<Dataset>,
    train: Arc<[u32]>,
    valid: Arc<[u32]>,
}

impl Splits {
    fn new(config: &TrainConfig, mut pair: DatasetPair) -> Result<Self, FitError> {
        // Taken out rather than copied: 47 MB for MNIST.
        let empty = Dataset { pixels: Vec::new(), labels: Vec::new(), ..pair.test.clone() };
        let training = std::mem::replace(&mut pair.train, empty);
        let labels = &training.labels;
        let everything: Vec<u32> = (0..labels.len() as u32).collect();
        let labelled = match config.data.limit {
            0 => everything,
            limit => data::split::stratified_subset(labels, &everything, limit, config.seed),
        };
        let held_back = (labelled.len() as f64 * config.data.valid_fraction).round() as usize;
        let valid = data::split::stratified_subset(labels, &labelled, held_back, mix(&[config.seed, 1]));
        let is_valid: std::collections::HashSet<u32> = valid.iter().copied().collect();
        let train: Vec<u32> = labelled.iter().copied().filter(|index| !is_valid.contains(index)).collect();
        let classes = training.class_names.len();
        if train.len() < classes || valid.len() < classes {
            return Err(FitError::TooFew { images: labelled.len(), train: train.len(), valid: valid.len() });
        }
        let counts = data::balance::class_counts(
            &train.iter().map(|index| labels[*index as usize]).collect::<Vec<_>>(),
            classes,
        );
        if let Some(skew) = data::balance::Skew::of(&counts, &training.class_names) {
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

    fn classes(&self) -> usize {
        self.training.class_names.len()
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
    loaded: Option<LoadReport>,
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
        let objective = Objective::new(&config.regularization, class_weights, config.finetune.as_ref())?;
        let network = config.network.init(input, data.classes(), config.seed, device)?;
        let config_text = config.to_toml()?;
        let label = format!("{}-{}", surroundings.command, short_name(&config.data.dataset));
        let (run, network, snapshot, loaded) = match start {
            Start::Resume(run) => {
                let store = run.checkpoints();
                store.clean()?;
                let snapshot = store.newest()?;
                if snapshot.state.config_sha256 != sha256_hex(config_text.as_bytes()) {
                    return Err(FitError::ConfigChanged(run.path().join("config.toml")));
                }
                tracing::info!(
                    "going on with {} after step {} (epoch {})",
                    run.path().display(),
                    snapshot.state.step,
                    snapshot.state.epoch
                );
                (run, network, Some(snapshot), None)
            }
            Start::Weights(model) => {
                let (network, report) = start_weights(network, &model, config, input)?;
                let run = RunFolder::create(&surroundings.artifacts, surroundings.name.as_deref(), &label)?;
                (run, network, None, Some(report))
            }
            Start::Scratch => {
                let run = RunFolder::create(&surroundings.artifacts, surroundings.name.as_deref(), &label)?;
                (run, network, None, None)
            }
        };
        let config = config.clone();
        let device = device.clone();
        Ok(Self { config, config_text, device, run, network, objective, snapshot, loaded })
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
        let augment = &config.data.augment;
        let loader = Arc::new(BatchLoader::new(
            Arc::clone(&data.training),
            Arc::clone(&data.train),
            preprocessing.clone(),
            LoaderConfig {
                batch_size: config.batch_size,
                shuffle: Some(config.seed),
                augment: (!augment.is_off()).then_some((*augment, config.seed)),
                workers: config.data.workers,
            },
            training_device.clone(),
        )?);
        let valid = Arc::new(BatchLoader::new(
            Arc::clone(&data.training),
            Arc::clone(&data.valid),
            preprocessing.clone(),
            LoaderConfig {
                batch_size: EVALUATION_BATCH,
                shuffle: None,
                augment: None,
                workers: config.data.workers.min(1),
            },
            self.device.clone(),
        )?);

        let plateau = PlateauFactor::default();
        let updates = loader.batches().div_ceil(config.regularization.accumulate);
        let schedule = |base| Schedule::new(&config.schedule, base, updates, config.epochs, plateau.clone());
        let model =
            Trainable::new(self.network.clone(), self.objective.clone()).train().fork(&training_device);
        let learner = Learner::new(model, optimizer(config), learning_rates(config, schedule));

        let snapshot = self.snapshot.take();
        let start = snapshot.as_ref().map_or_else(
            || TrainingState {
                epoch: 1,
                config_sha256: sha256_hex(self.config_text.as_bytes()),
                ..TrainingState::default()
            },
            |snapshot| snapshot.state.clone(),
        );
        let resumed = snapshot.is_some().then_some(start.step);
        let average = snapshot.as_ref().and_then(|snapshot| snapshot.average.clone());
        if let Err((path, error)) = self.run.write_metrics(started, &start.epochs) {
            return Err(FitError::Metrics(path, error));
        }
        let committer = Committer::new(self.run.checkpoints(), config.checkpoint.keep, snapshot);
        let (face_model, face_optimizer, face_schedule) = committer.faces();
        let inner: Box<dyn Observer> = match surroundings.progress {
            ProgressMode::Bar => Box::new(Lines::new(true)),
            ProgressMode::Plain => Box::new(Lines::new(false)),
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
            Ending::Diverged { epoch, step, loss, learning_rate } => {
                let advice = match store.newest() {
                    Ok(snapshot) => format!(
                        "The last good checkpoint is {} (epoch {}). Start again with a lower --learning-rate, with \
                         --set regularization.clip_norm=1, or with a warm-up.",
                        store.path(snapshot.state.step).display(),
                        snapshot.state.epoch
                    ),
                    Err(_) => "There is no checkpoint yet. Start again with a lower --learning-rate, with \
                               --set regularization.clip_norm=1, or with a warm-up."
                        .to_owned(),
                };
                return Err(FitError::Diverged { loss, step, epoch, learning_rate, advice });
            }
            Ending::Failed => return Err(FitError::Training("the loop ended early".to_owned())),
        }
        let state = &looped.state;
        let best =
            state.best.clone().ok_or_else(|| FitError::Training("no epoch was validated".to_owned()))?;
        let network = self.weights_of(&store.read(best.step)?)?;
        let optimizer_sha256 = optimizer_sha256(&store.newest()?.optimizer)?;

        // The one look at the test split.
        let class_names = &data.training.class_names;
        let test = &data.pair.test;
        let indices: Vec<u32> = (0..test.len() as u32).collect();
        let preprocessing = &data.pair.preprocessing;
        let evaluation = evaluate(&network, preprocessing, class_names, test, &indices, &self.device)?;

        let config = &self.config;
        let weights_sha256 = model::weights_sha256(&network);
        let provenance = BTreeMap::from([
            ("run".to_owned(), json!(self.run.name())),
            ("command".to_owned(), json!(record.command)),
            ("dataset".to_owned(), json!(config.data.dataset)),
            ("data_sha256".to_owned(), json!(data.pair.sha256)),
            ("backend".to_owned(), json!(config.backend.to_string())),
            ("seed".to_owned(), json!(config.seed)),
            ("epochs".to_owned(), json!(state.epochs.len())),
            ("best_epoch".to_owned(), json!(best.epoch)),
            ("seconds".to_owned(), json!(state.seconds)),
            ("train_samples_per_second".to_owned(), json!(median_rate(state))),
            ("valid_accuracy".to_owned(), json!(best.valid_accuracy)),
            ("test_accuracy".to_owned(), json!(evaluation.accuracy())),
            ("test_macro_f1".to_owned(), json!(evaluation.confusion.macro_average().f1)),
            ("config".to_owned(), json!(self.config_text)),
        ]);
        let description = Description {
            network: config.network.clone(),
            preprocessing: preprocessing.clone(),
            classes: class_names.clone(),
            provenance,
        };
        let bytes = model::encode(&network, description)?;
        self.run.write(crate::run_folder::MODEL_FILE, &bytes)?;

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
            test_accuracy: evaluation.accuracy(),
            test_loss: evaluation.mean_loss,
            test_macro_f1: evaluation.confusion.macro_average().f1,
            train_samples_per_second: median_rate(state),
            seconds: state.seconds,
            model_bytes: bytes.len() as u64,
            weights_sha256,
            last_weights_sha256: model::weights_sha256(last_network),
            optimizer_sha256,
        };
        self.write_report(data, state, &evaluation, &result, record)?;
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
        evaluation: &Evaluation,
        result: &RunResult,
        record: &RunRecord,
    ) -> Result<(), FitError> {
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
                format!("{} (kernels: {}, {} threads)", result.backend, record.kernels, record.threads),
            ),
            ("Seed", result.seed.to_string()),
            ("Epochs", format!("{} (best: {})", result.epochs, result.best_epoch)),
            ("Validation accuracy", format!("{:.2} %", result.valid_accuracy * 100.0)),
            ("Test accuracy", format!("{:.2} %", result.test_accuracy * 100.0)),
            ("Test macro F1", format!("{:.4}", result.test_macro_f1)),
            ("Training", format!("{:.0} s, {:.0} images/s", result.seconds, result.train_samples_per_second)),
            ("Weights SHA-256", result.weights_sha256.clone()),
        ];
        let facts: Vec<(String, String)> =
            facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let test = &data.pair.test;
        let files = crate::report::render(&ReportInput {
            title: &self.run.name(),
            facts: &facts,
            epochs: &state.epochs,
            best_epoch: Some(result.best_epoch),
            subset: "test",
            evaluation,
            image: &|index| picture(test, index),
        })?;
        if let Some(notice) = overfitting_notice(&state.epochs) {
            tracing::warn!("{notice}");
        }
        self.run.write_report(&files)?;
        Ok(())
    }
}

fn picture(dataset: &Dataset, index: u32) -> Option<ReportImage<'_>> {
    let InputShape { channels, height, width } = dataset.shape;
    let known = (index as usize) < dataset.len();
    known.then(|| ReportImage { channels, height, width, pixels: dataset.image(index as usize).into() })
}

/// The starting model's tensors in the new network: all of them when the classes stay and the head is
/// kept, all but the head otherwise.
fn start_weights(
    network: Network,
    model: &model::Model,
    config: &TrainConfig,
    input: InputShape,
) -> Result<(Network, LoadReport), FitError> {
    let expected = model.metadata.preprocessing.input;
    if expected != input {
        return Err(EvaluateError::Shape {
            dataset: config.data.dataset.clone(),
            found: input.to_string(),
            expected: expected.to_string(),
        }
        .into());
    }
    let keep_head = config.finetune.as_ref().is_some_and(|finetune| finetune.keep_head);
    let record = model::named_tensors(&model.network);
    let loading = |name: &str| {
        if name.starts_with("head.") && !keep_head { Loading::Skip } else { Loading::Required }
    };
    let (network, report) = model::load_partial(network, &record, loading)?;
    tracing::info!(
        "{} tensors taken from the starting model, {} new ({})",
        report.loaded.len(),
        report.skipped.len(),
        report.skipped.join(", ")
    );
    Ok((network, report))
}

fn class_weights(weights: &ClassWeights, data: &Splits) -> Result<Option<Vec<f32>>, FitError> {
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

fn network_in_words(summary: &model::Summary) -> String {
    summary.layers.iter().map(|layer| layer.kind.clone()).collect::<Vec<_>>().join(" - ")
}

/// The last part of a path, for the name of a run.
fn short_name(dataset: &str) -> String {
    let name = std::path::Path::new(dataset)
        .file_name()
        .map_or_else(|| "data".to_owned(), |name| name.to_string_lossy().into_owned());
    name.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}
