//! From a checked configuration to a tested model file.

mod conclude;
mod context;
mod error;
mod experiment;
mod recover;
mod verdict;

use std::collections::BTreeMap;
use std::path::Path;

use data::{DatasetPair, Search};

use crate::config::TrainConfig;
use crate::run::data_record;
use crate::run::folder::RunFolder;
use crate::run::folder::now;
use crate::run::history;
use crate::run::record::{DataRecord, RunRecord, RunResult, RunStatus, read_record};
use crate::start::Start;
use crate::task::budget::Budget;
use crate::task::{Splits, load_pair_at};

pub use context::{Finished, Outcome, RunContext};
pub use error::FitError;

use experiment::Experiment;

/// Trains, tests and saves.
///
/// # Errors
/// Everything in [`FitError`]; the run folder, once it exists, keeps what was done.
///
/// # Examples
/// ```
/// use train::config::arguments::ProgressMode;
/// use train::fit::{Outcome, RunContext, fit};
/// use train::start::Start;
///
/// let mut layers = train::config::ConfigLayers::default();
/// for assignment in ["data.dataset=mnist-sample", "data.limit=200", "data.valid_fraction=0.2", "epochs=1"] {
///     layers.set_expression(assignment)?;
/// }
/// let folder = tempfile::tempdir()?;
/// let context = RunContext {
///     command: "train",
///     artifacts: folder.path().to_owned(),
///     name: Some("first".to_owned()),
///     search: data::Search::default(),
///     dataset: None,
///     accept_changed_data: false,
///     progress: ProgressMode::None,
///     stop: Default::default(),
///     adapts_budget: false,
/// };
/// let Outcome::Finished(finished) = fit(&layers.resolve()?, &context, Start::Scratch)? else { panic!("interrupted") };
/// assert!(folder.path().join("first/model.kiln").exists() && finished.result.test_accuracy.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn fit(config: &TrainConfig, context: &RunContext, start: Start) -> Result<Outcome, FitError> {
    fit_member(config, context, start, None)
}

/// As [`fit`], for a run of the series in the folder `series`: all of them see the same images in the same size, which
/// the first one settles where the configuration leaves it open.
///
/// # Errors
/// As [`fit`], and when the images are not those of the runs that are there.
pub(crate) fn fit_member(
    config: &TrainConfig,
    context: &RunContext,
    start: Start,
    series: Option<&Path>,
) -> Result<Outcome, FitError> {
    // Faults that need no data come first.
    if !matches!(start, Start::Resume(_)) {
        RunFolder::check_free(&context.artifacts, context.name.as_deref())?;
    }
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
            data_record::place(run.path(), context.dataset.as_deref(), &config.data.dataset)?
        }
        _ => context.dataset.clone().unwrap_or_else(|| config.data.dataset.clone()),
    };
    let own = if let Start::Resume(run) = &start { Some(run.path()) } else { None };
    let records: Vec<&Path> = own.into_iter().chain(series).collect();
    let mut pair = load_pair_at(&data_record::with_input(&records, config), &place, &context.search)?;
    if let Some(series) = series
        && own.is_none()
    {
        data_record::join_series(series, &place, &mut pair)?;
    }
    fit_pair(config, context, start, pair, &place)
}

/// As [`fit`], on images that are in memory already; `config.data.dataset` is only their name.
///
/// # Errors
/// Everything in [`FitError`].
pub fn fit_on(
    config: &TrainConfig,
    context: &RunContext,
    start: Start,
    pair: DatasetPair,
) -> Result<Outcome, FitError> {
    fit_pair(config, context, start, pair, &config.data.dataset)
}

/// Trains on `pair`, which was found at `place`.
fn fit_pair(
    config: &TrainConfig,
    context: &RunContext,
    start: Start,
    mut pair: DatasetPair,
    place: &str,
) -> Result<Outcome, FitError> {
    let device = config.backend.device()?;
    let remembered = match &start {
        Start::Resume(run) => data_record::resume(run, place, &mut pair, context.accept_changed_data)?,
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
    let adapted = context.adapts_budget.then(|| with_adapted_budget(config, &data, &summary));
    let config = adapted.as_ref().unwrap_or(config);
    if adapted.is_some() {
        config.check_unfreezing()?;
    }
    let mut experiment = Experiment::build(config, &data, &device, start, context)?;
    tracing::info!("\n{summary}");

    let run = experiment.run.clone();
    let mut record = RunRecord {
        name: run.name(),
        command: context.command.to_owned(),
        status: RunStatus::Running,
        started: read_record(run.path()).map_or_else(|_| now(), |record| record.started),
        seed: config.seed,
        task: data.task(),
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
        .train(&data, context, record.started)
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
    let Ok(before) = read_record(run.path()) else { return BTreeMap::new() };
    let mut earlier = before.earlier;
    let text = run.config_text().unwrap_or_default();
    if let (Some(result), Ok(finished)) = (before.result, TrainConfig::from_toml(&text, run.path())) {
        earlier.insert(finished.epochs, result);
    }
    earlier.retain(|epochs, _| *epochs < config.epochs);
    earlier
}

/// The configuration with batch size and epochs that suit the number of training images, if those are pictures.
fn with_adapted_budget(config: &TrainConfig, data: &Splits, summary: &model::Summary) -> TrainConfig {
    if data.pair.pictures.is_none() {
        return config.clone();
    }
    let budget = Budget::fitting(config, data.train.len(), summary.macs());
    tracing::info!("{budget}");
    TrainConfig { batch_size: budget.batch_size, epochs: budget.epochs, ..config.clone() }
}

/// The same before there is a run: for several with one configuration.
pub(crate) fn adapted_to_the_data(config: &TrainConfig, search: &Search) -> Result<TrainConfig, FitError> {
    let data = Splits::load(config, search)?;
    let summary = config.network.summary(data.pair.preprocessing.input, data.classes())?;
    Ok(with_adapted_budget(config, &data, &summary))
}

fn network_in_words(summary: &model::Summary) -> String {
    summary.layers.iter().map(|layer| layer.kind.clone()).collect::<Vec<_>>().join(" - ")
}
