//! Everything that is ready before the first step, and the loop itself.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};
use burn_train::logger::InMemoryMetricLogger;
use burn_train::metric::{AccuracyMetric, LearningRateMetric, LossMetric};
use burn_train::{Learner, SupervisedTraining, TrainingStrategy};
use data::text::counted;
use data::{BatchLoader, LoaderConfig, Sampler};
use model::{LoadReport, Network, Seen, TaskName, WeightAverage};

use crate::config::TrainConfig;
use crate::config::arguments::ProgressMode;
use crate::engine::dashboard::Dashboard;
use crate::engine::ending::LoopResult;
use crate::engine::epoch_loop::EpochLoop;
use crate::engine::evaluate::EVALUATION_BATCH;
use crate::engine::observer::{Observer, Silent};
use crate::engine::optimizer::{learning_rates, optimizer};
use crate::engine::schedule::{PlateauFactor, Schedule};
use crate::engine::step::{Objective, Trainable};
use crate::fit::context::RunContext;
use crate::fit::error::FitError;
use crate::fit::recover::recover;
use crate::progress::{Lines, Recorder, quiet::QuietRenderer};
use crate::run::checkpoint::{Snapshot, TrainingState};
use crate::run::committer::{AlwaysSave, Committer};
use crate::run::files::sha256_hex;
use crate::run::folder::{RunFolder, short_name};
use crate::run::history::{self, CodeVersion};
use crate::run::record::KeptHead;
use crate::start::model_io::load_metadata;
use crate::start::{InitialWeights, Start, initial_weights, recorded_start};
use crate::task::{self, Splits, class_weights};

/// Updates in a run below which a user hears of it: the default batch leaves a small folder of pictures a dozen.
const FEW_UPDATES: usize = 100;

/// Batches of so many images are small: that of the advice.
const SMALL_BATCH: usize = 16;

/// The file of a run with the pictures that its starting model has seen: that model may be gone when the run goes on.
const SEEN_BEFORE: &str = "seen-before.json";

/// Everything that is ready before the first step.
pub(super) struct Experiment {
    pub(super) config: TrainConfig,
    pub(super) config_text: String,
    pub(super) device: Device,
    pub(super) run: RunFolder,
    pub(super) network: Network,
    pub(super) objective: Objective,
    pub(super) snapshot: Option<Snapshot>,
    /// Which code computes it.
    pub(super) history: Vec<CodeVersion>,
    pub(super) loaded: Option<LoadReport>,
    pub(super) head: Option<KeptHead>,
    /// The pictures that the starting model has seen.
    pub(super) seen_before: Option<Seen>,
}

impl Experiment {
    pub(super) fn build(
        config: &TrainConfig,
        data: &Splits,
        device: &Device,
        start: Start,
        context: &RunContext,
    ) -> Result<Self, FitError> {
        let input = data.pair.preprocessing.input;
        let class_weights = class_weights(&config.regularization.class_weights, data)?;
        let network = config.network.init(input, data.classes(), config.seed, device)?;
        let objective = Objective::new(
            data.task(),
            &config.regularization,
            class_weights,
            config.finetune.as_ref(),
            &network,
        )?;
        let mut config_text = config.to_toml()?;
        let label = format!("{}-{}", context.command, short_name(&config.data.dataset));
        let (run, snapshot, start) = match start {
            Start::Resume(run) => match recover(&run, config, &mut config_text)? {
                Some(snapshot) => (Some(run), Some(snapshot), Start::Scratch),
                None => {
                    tracing::warn!("{} has no whole checkpoint: it begins again", run.path().display());
                    (Some(run), None, recorded_start(config, &context.search)?)
                }
            },
            start => (None, None, start),
        };
        let seen_before = match (&run, &snapshot) {
            (Some(run), Some(_)) => seen_before(run, config),
            _ => start.seen(),
        };
        let initial = initial_weights(network, start, config, data)?;
        let run = match run {
            Some(run) => run,
            None => RunFolder::create(&context.artifacts, context.name.as_deref(), &label)?,
        };
        let (before, step) = snapshot
            .as_ref()
            .map_or_else(Default::default, |snapshot| (snapshot.state.history.clone(), snapshot.state.step));
        if let Some(seen) = &seen_before {
            run.write(
                SEEN_BEFORE,
                &serde_json::to_vec(seen).map_err(|error| FitError::Record(error.to_string()))?,
            )?;
        }
        let history = history::go_on(before, step, config.kernels)?;
        let config = config.clone();
        let device = device.clone();
        let InitialWeights { network, report: loaded, head } = initial;
        Ok(Self {
            config,
            config_text,
            device,
            run,
            network,
            objective,
            snapshot,
            history,
            loaded,
            head,
            seen_before,
        })
    }

    /// Runs the loop; gives its result and the network after the last update.
    pub(super) fn train(
        &mut self,
        data: &Splits,
        context: &RunContext,
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
            let smaller = if config.batch_size > SMALL_BATCH {
                format!("--batch-size {SMALL_BATCH} or ")
            } else {
                String::new()
            };
            tracing::warn!(
                "{} in all (batches of {}, {}): few to learn from; {smaller}more --epochs makes more of them",
                counted(all, "update"),
                counted(config.batch_size, "image"),
                counted(config.epochs, "epoch")
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
        let (model_sink, optimizer_sink, schedule_sink) = committer.sinks();
        let inner: Box<dyn Observer> = match context.progress {
            ProgressMode::Bar => Box::new(Lines::new(true, config.backend)),
            ProgressMode::Plain => Box::new(Lines::new(false, config.backend)),
            ProgressMode::Tui | ProgressMode::None => Box::new(Silent),
        };
        let failure = Arc::new(Mutex::new(None));
        let observer = Recorder { inner, run: self.run.clone(), started, failure: Arc::clone(&failure) };
        let dashboard = context.progress == ProgressMode::Tui;
        let result = Arc::new(Mutex::new(None));
        let epoch_loop = EpochLoop {
            config: config.clone(),
            task: task::of(data.task()),
            device: training_device,
            loader: Arc::clone(&loader),
            start,
            average,
            plateau: plateau.clone(),
            committer,
            observer: Arc::new(Mutex::new(observer)),
            stop: Arc::clone(&context.stop),
            events: dashboard,
            result: Arc::clone(&result),
        };

        // burn-train reads metrics back from its folder, so every process of a run gets a fresh one;
        // with the logger in memory nothing is written there.
        let mut training = SupervisedTraining::new(self.run.path(), loader, valid)
            .with_metric_logger(InMemoryMetricLogger::new())
            .with_application_logger(None)
            .with_custom_checkpointers(model_sink, optimizer_sink, schedule_sink)
            .with_checkpointing_strategy(AlwaysSave)
            .with_training_strategy(TrainingStrategy::Custom(Arc::new(epoch_loop)))
            .num_epochs(config.epochs);
        if let Some(step) = resumed {
            training = training.checkpoint(step);
        }
        training = if dashboard {
            let training = match data.task() {
                TaskName::Classify => training.metrics((AccuracyMetric::new(), LossMetric::new())),
                // The accuracy of burn-train is that of single classes.
                TaskName::MultiLabel => training.metrics((LossMetric::new(),)),
            };
            training.metric_train_numeric(LearningRateMetric::new())
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

    /// The network of a checkpoint, as validation saw it.
    pub(super) fn weights_of(&self, snapshot: &Snapshot) -> Result<Network, FitError> {
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(snapshot.model.clone()))
            .map_err(|error| FitError::Record(error.to_string()))?;
        let network = Trainable::new(self.network.clone(), self.objective.clone())
            .try_load_record(record)
            .map_err(|error| FitError::Record(error.to_string()))?
            .network;
        match &snapshot.average {
            Some(bytes) => Ok(WeightAverage::from_bytes(bytes, &self.device)?.into_network(network)?),
            None => Ok(network),
        }
    }
}

/// The pictures that the starting model of a run that goes on has seen: from the run's own file, and where an earlier
/// version has left none, from that model if it is still there.
fn seen_before(run: &RunFolder, config: &TrainConfig) -> Option<Seen> {
    let finetune = config.finetune.as_ref()?;
    let kept = std::fs::read(run.path().join(SEEN_BEFORE)).ok();
    kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).or_else(|| {
        let metadata = load_metadata(Path::new(&finetune.from)).ok()?;
        metadata.seen.filter(|_| metadata.weights_sha256 == finetune.from_weights_sha256)
    })
}
