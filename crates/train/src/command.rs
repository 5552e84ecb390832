//! What `train` and `finetune` do between their flags and their exit status.

use std::path::Path;
use std::process::ExitCode;

use crate::config::arguments::{CommonArguments, ProgressMode, TrainArguments};
use crate::config::{ConfigError, TrainConfig};
use crate::engine::interrupt::{INTERRUPTED, stop_flag};
use crate::fit::{Finished, FitError, Outcome, RunContext, adapted_to_the_data, fit};
use crate::run::RunFolderError;
use crate::run::files::write_atomically;
use crate::run::folder::{RunFolder, short_name};
use crate::run::record::{RunStatus, read_record};
use crate::series::folds::{FoldsResult, cross_validate};
use crate::series::open_newest_unfinished;
use crate::start::{Start, StartError, configure, configure_foreign};
use crate::task::evaluation_set::EvaluationSetError;

pub use crate::terminal::{
    Failure, StderrWriter, exit, log_to_stderr, log_warnings_to_stderr, parsed, print, print_json, say,
    visible_fields,
};

impl From<FitError> for Failure {
    fn from(error: FitError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::failed(error) }
    }
}

impl From<EvaluationSetError> for Failure {
    fn from(error: EvaluationSetError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::failed(error) }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::failed(error) }
    }
}

impl From<model::ops::KernelsError> for Failure {
    fn from(error: model::ops::KernelsError) -> Self {
        Self::usage(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<RunFolderError> for Failure {
    fn from(error: RunFolderError) -> Self {
        Self::from(FitError::from(error))
    }
}

/// The flags of a program whose flags are those of one command.
#[derive(clap::Parser, Debug)]
#[command(name = "train", about = "Train an image classifier from scratch, or go on with a run", version)]
pub struct TrainProgram {
    /// All of them.
    #[command(flatten)]
    pub arguments: TrainArguments,
}

/// Runs `train`.
///
/// # Errors
/// With the message to print and the exit status.
pub fn train(arguments: &TrainArguments) -> Result<ExitCode, Failure> {
    set_up(&arguments.common)?;
    let (config, start) = match resumed(&arguments.common)? {
        Some(_) if arguments.model.is_some() => return Err(cannot_change("--model")),
        Some(resumed) => resumed,
        None => configured(arguments)?,
    };
    run("train", &config, start, &arguments.common)
}

/// The checked configuration of a new run, and where it starts.
///
/// # Errors
/// As [`configure`].
pub fn configured(arguments: &TrainArguments) -> Result<(TrainConfig, Start), Failure> {
    let mut layers = arguments.layers()?;
    let search = arguments.common.search();
    match &arguments.weights {
        Some(weights) => {
            layers.set_default("finetune.keep_head", "fitting");
            if arguments.allow_mismatch {
                layers.set("finetune.allow_mismatch", true);
            }
            Ok(configure_foreign(layers, weights, &search)?)
        }
        None => Ok(configure(layers, &search)?),
    }
}

/// Logging, threads, and what the progress mode needs.
///
/// # Errors
/// When the dashboard has no terminal, or `KILN_KERNELS` names no path that can run here.
pub fn set_up(common: &CommonArguments) -> Result<(), Failure> {
    model::ops::path_by_default()?;
    model::ops::keep_freed_memory();
    if common.progress == Some(ProgressMode::None) {
        log_warnings_to_stderr();
    } else {
        log_to_stderr(false);
    }
    if common.progress.is_some_and(ProgressMode::lacks_terminal) {
        return Err(Failure::usage(
            "--progress tui needs a terminal on standard output; use bar, plain or none",
        ));
    }
    join_threads(common.threads);
    Ok(())
}

/// Sizes the pool that all CPU work of the process shares and makes the calling thread, which does the work that is
/// not shared, one of its members: an operator then begins at once instead of waking a thread and waiting for it.
/// Call it before any work.
pub fn join_threads(threads: Option<u16>) {
    let wanted = threads.map(usize::from).or_else(|| std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok());
    let count = wanted.filter(|&count| count > 0);
    let count = count.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    // The only member of a pool must not wait for another thread's work, which would need that member.
    build_pool(count, count > 1);
}

/// Sizes the pool that all CPU work of the process shares, for a process whose first thread only waits; call it before
/// any work.
pub fn limit_threads(threads: Option<u16>) {
    if let Some(threads) = threads {
        build_pool(threads.into(), false);
    }
}

fn build_pool(threads: usize, joins: bool) {
    let mut pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    if joins {
        pool = pool.use_current_thread();
    }
    if let Err(error) = pool.build_global() {
        tracing::warn!("{threads} threads came too late: {error}");
    }
}

fn cannot_change(flag: &str) -> Failure {
    Failure::usage(format!(
        "{flag} cannot be combined with --resume: a resumed run keeps its configuration (only --out, --dataset for \
         data that moved, --data-dir, --threads, --progress and --json may be given)"
    ))
}

/// The configuration and start of `--resume`, if it was given.
///
/// # Errors
/// When there is nothing to resume, or another flag would change the run.
pub fn resumed(common: &CommonArguments) -> Result<Option<(TrainConfig, Start)>, Failure> {
    let Some(folder) = &common.resume else { return Ok(None) };
    if let Some(flag) = common.changes_a_resumed_run() {
        return Err(cannot_change(flag));
    }
    let run = match folder {
        Some(folder) => RunFolder::open(folder)?,
        None => open_newest_unfinished(&common.out, |line| tracing::warn!("{line}"))?,
    };
    match read_record(run.path()) {
        Ok(record) if record.status == RunStatus::Finished => {
            let path = run.path().display();
            return Err(Failure::usage(format!("{path} is finished; there is nothing to resume")));
        }
        Ok(record) if record.has_diverged() => {
            tracing::warn!(
                "{} diverged, and will again: nothing random is left in a run",
                run.path().display()
            );
        }
        _ => {}
    }
    let config = TrainConfig::from_toml(&run.config_text()?, &run.path().join("config.toml"))?;
    Ok(Some((config, Start::Resume(run))))
}

/// Trains and prints what came out.
///
/// # Errors
/// As [`fit`].
pub fn run(
    command: &'static str,
    config: &TrainConfig,
    start: Start,
    common: &CommonArguments,
) -> Result<ExitCode, Failure> {
    if config.data.is_cross_validation() {
        return run_folds(command, config, start, common);
    }
    let (status, finished) = run_silently(command, config, start, common)?;
    if let Some(finished) = finished {
        report(&finished, common.json)?;
    }
    Ok(status)
}

/// Cross-validates and prints what came out; `start` is the folder of a cross-validation to go on with, or anything
/// else for a new one.
fn run_folds(
    command: &'static str,
    config: &TrainConfig,
    start: Start,
    common: &CommonArguments,
) -> Result<ExitCode, Failure> {
    let context = run_context(command, common)?;
    if !matches!(start, Start::Resume(_)) {
        RunFolder::check_free(&common.out, common.name.as_deref())?;
    }
    let adapted = common.leaves_budget_open().then(|| {
        // All folds are of one size, but for an image.
        let mut first = config.clone();
        first.data.fold = 1;
        let adapted = adapted_to_the_data(&first, &context.search)?;
        Ok::<_, FitError>(TrainConfig {
            batch_size: adapted.batch_size,
            epochs: adapted.epochs,
            ..config.clone()
        })
    });
    let adapted = adapted.transpose()?;
    let config = adapted.as_ref().unwrap_or(config);
    if !matches!(start, Start::Resume(_)) {
        config.check_unfreezing()?;
    }
    let folder = match start {
        Start::Resume(folder) => folder,
        // Each fold opens the file anew.
        Start::Foreign(_) | Start::Weights(_) | Start::Scratch => {
            let label = format!("{command}-folds-{}", short_name(&config.data.dataset));
            RunFolder::create(&common.out, common.name.as_deref(), &label)?
        }
    };
    let Some(result) = cross_validate(config, &folder, folder.path(), &context)? else {
        say(&format!(
            "stopped; what is done is saved. Go on with:\n  {} --resume {}",
            how_to_call(command),
            folder.path().display()
        ));
        return Ok(ExitCode::from(INTERRUPTED as u8));
    };
    if common.json {
        print_json(&result)?;
    } else {
        print(&folds_in_words(&result))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn folds_in_words(result: &FoldsResult) -> String {
    let mut text = String::new();
    let is_sets = result.runs.iter().any(|run| run.multi_label.is_some());
    let what = if is_sets { "mAP" } else { "accuracy" };
    for (index, run) in result.runs.iter().enumerate() {
        text.push_str(&format!(
            "fold {}  validation {what} {:.2}%  loss {:.4}  (best epoch {} of {})\n",
            index + 1,
            run.valid_score() * 100.0,
            run.valid_loss,
            run.best_epoch,
            run.epochs,
        ));
    }
    format!(
        "{text}validation {what} {:.2}% +- {:.2}% (mean and standard deviation of {} folds; the test split was not \
         read)\nruns    {}",
        result.valid_accuracy.mean * 100.0,
        result.valid_accuracy.deviation * 100.0,
        result.folds,
        result.run
    )
}

/// Trains; prints only how to go on when a signal stopped it.
///
/// # Errors
/// As [`fit`].
pub fn run_silently(
    command: &'static str,
    config: &TrainConfig,
    start: Start,
    common: &CommonArguments,
) -> Result<(ExitCode, Option<Box<Finished>>), Failure> {
    let adapts_budget = common.leaves_budget_open();
    if !adapts_budget && !matches!(start, Start::Resume(_)) {
        config.check_unfreezing()?;
    }
    let context = RunContext { adapts_budget, ..run_context(command, common)? };
    match fit(config, &context, start)? {
        Outcome::Finished(finished) => Ok((ExitCode::SUCCESS, Some(finished))),
        Outcome::Interrupted { run, step } => {
            say(&format!(
                "stopped after step {step}; a checkpoint is saved. Go on with:\n  {} --resume {}",
                how_to_call(command),
                run.display()
            ));
            Ok((ExitCode::from(INTERRUPTED as u8), None))
        }
    }
}

/// What a run needs besides its configuration, as the flags have it; a signal stops it from here on.
///
/// # Errors
/// When the system refuses a signal handler.
pub fn run_context(command: &'static str, common: &CommonArguments) -> Result<RunContext, Failure> {
    Ok(RunContext {
        command,
        artifacts: common.out.clone(),
        name: common.name.clone(),
        search: common.search(),
        dataset: common.dataset.clone().filter(|_| common.resume.is_some()),
        accept_changed_data: common.accept_changed_data,
        progress: ProgressMode::resolve(common.progress),
        stop: stop_flag().map_err(Failure::failed)?,
        adapts_budget: false,
    })
}

/// How a person starts this command: through cargo in a checkout, by its name when installed.
pub(crate) fn how_to_call(command: &str) -> String {
    let program = std::env::args().next().unwrap_or_default();
    let installed = Path::new(&program).file_stem().is_some_and(|stem| stem == "kiln");
    if installed { format!("kiln {command}") } else { format!("cargo run -p {command} --") }
}

/// A figure that there may not be: four decimals, or a dash.
pub fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

fn report(finished: &Finished, json: bool) -> Result<(), Failure> {
    let result = &finished.result;
    if json {
        return print_json(result);
    }
    let test = match result.test_accuracy.zip(result.test_macro_f1) {
        Some((accuracy, f1)) => format!("test accuracy {:.2}%  macro F1 {f1:.4}", accuracy * 100.0),
        None => "not tested (figures of the validation split)".to_owned(),
    };
    let test = match &result.multi_label {
        Some(found) => format!(
            "{} mAP {}  micro F1 {:.4}  macro F1 {}  all labels right {:.2}%",
            found.subset,
            figure(found.figures.mean_average_precision),
            found.figures.micro_f1,
            figure(found.figures.macro_f1),
            found.figures.subset_accuracy * 100.0,
        ),
        None => test,
    };
    let what = if result.multi_label.is_some() { "mAP" } else { "accuracy" };
    print(&format!(
        "{test}  (best epoch {} of {}, validation {what} {:.2}%)\n\
         {} parameters, {:.1} s of training, {:.0} images/s\n\
         model   {}\nreport  {}/report/index.html",
        result.best_epoch,
        result.epochs,
        result.valid_score() * 100.0,
        result.parameters,
        result.seconds,
        result.train_samples_per_second,
        result.model,
        result.run,
    ))
}

/// Writes a result to a file, whole or not at all.
///
/// # Errors
/// When the system refuses.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_atomically(path, bytes)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}
