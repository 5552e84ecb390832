//! What `train` and `finetune` do between their flags and their exit status.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use data::text::{visible, visible_json};
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::config::TrainConfig;
use crate::config::arguments::{CommonArguments, TrainArguments};
use crate::engine::interrupt::{INTERRUPTED, stop_flag};
use crate::fit::{Finished, FitError, Outcome, Start, Surroundings, fit};
use crate::progress::ProgressMode;
use crate::run::folder::RunFolder;
use crate::start::{StartError, configure, configure_foreign};
use crate::task::judged::JudgeError;

/// Exit status for a fault of the command line or the configuration, as clap has it.
const USAGE: u8 = 2;

/// Exit status when whoever read the output has gone, as a shell reports it of programs that SIGPIPE ends.
const NO_READER: u8 = 141;

/// A fault with its exit status.
#[derive(Debug)]
pub struct Failure {
    /// The message, complete; empty where there is nothing to say.
    pub message: String,
    /// 1 failed, 2 usage, 141 nobody reads the output any more.
    pub status: u8,
}

impl Failure {
    /// A fault of what was asked for.
    pub fn usage(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), status: USAGE }
    }

    /// Anything else.
    pub fn failed(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), status: 1 }
    }

    /// Standard output that takes no more. Nothing is wrong when its reader has what it wanted, as in `| head`.
    pub fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self { message: String::new(), status: NO_READER };
        }
        Self::failed(format!("standard output: {error}"))
    }
}

impl From<FitError> for Failure {
    fn from(error: FitError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::failed(error) }
    }
}

impl From<JudgeError> for Failure {
    fn from(error: JudgeError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::failed(error) }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::failed(error) }
    }
}

impl From<kernels::KernelsError> for Failure {
    fn from(error: kernels::KernelsError) -> Self {
        Self::usage(error)
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<crate::run::folder::RunFolderError> for Failure {
    fn from(error: crate::run::folder::RunFolderError) -> Self {
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

/// The flags of this program; says what is wrong with them, ends it, and lets no name among them act on the terminal.
pub fn parsed<P: clap::Parser>() -> P {
    P::try_parse().unwrap_or_else(|error| {
        let odd = |argument: std::ffi::OsString| {
            let text = argument.to_string_lossy();
            visible(&text) != text
        };
        if !std::env::args_os().any(odd) {
            error.exit();
        }
        say(error.render().to_string().trim_end());
        std::process::exit(error.exit_code())
    })
}

/// Ends a program: prints the failure, and gives the status.
pub fn exit(result: Result<ExitCode, Failure>) -> ExitCode {
    result.unwrap_or_else(|failure| {
        if !failure.message.is_empty() {
            say(&format!("error: {}", failure.message));
        }
        ExitCode::from(failure.status)
    })
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
    kernels::path_by_default()?;
    kernels::keep_freed_memory();
    log_to_stderr(common.progress == Some(ProgressMode::None));
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

/// Standard error for the log. The log panics where it cannot write; that nobody listens is no reason to stop.
#[derive(Clone, Copy, Debug)]
pub struct Unheard;

impl Write for Unheard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        drop(std::io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        drop(std::io::stderr().flush());
        Ok(())
    }
}

/// Messages go to standard error; `KILN_LOG` takes `tracing`'s directives.
pub fn log_to_stderr(quiet: bool) {
    let default = if quiet {
        "error"
    } else {
        "error,train=info,evaluation=info,tune=info,data=info,model=info,finetune=info,kiln=info,kernels=info"
    };
    let filter = EnvFilter::try_from_env("KILN_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // A second call (tests in one process) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Unheard)
        .fmt_fields(visible_fields())
        .without_time()
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
}

/// Fields of a message for a log that people read, with what a terminal would act on made visible.
pub fn visible_fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    let write = |writer: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug| {
        let value = visible(&format!("{value:?}"));
        match field.name() {
            "message" => write!(writer, "{value}"),
            name => write!(writer, "{name}={value}"),
        }
    };
    debug_fn(write).delimited(" ")
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
        None => RunFolder::open_newest_unfinished(&common.out, |line| tracing::warn!("{line}"))?,
    };
    match crate::run::folder::read_record(run.path()) {
        Ok(record) if record.status == crate::run::folder::RunStatus::Finished => {
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
        return crate::series::folds::run(command, config, start, common);
    }
    let (status, finished) = run_silently(command, config, start, common)?;
    if let Some(finished) = finished {
        report(&finished, common.json)?;
    }
    Ok(status)
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
    let suits_pictures = common.leaves_budget_open();
    let surroundings = Surroundings { suits_pictures, ..surroundings(command, common)? };
    match fit(config, &surroundings, start)? {
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
pub fn surroundings(command: &'static str, common: &CommonArguments) -> Result<Surroundings, Failure> {
    Ok(Surroundings {
        command,
        artifacts: common.out.clone(),
        name: common.name.clone(),
        search: common.search(),
        dataset: common.dataset.clone().filter(|_| common.resume.is_some()),
        accept_changed_data: common.accept_changed_data,
        progress: ProgressMode::resolve(common.progress),
        stop: stop_flag().map_err(Failure::failed)?,
        suits_pictures: false,
    })
}

/// How a person starts this command: through cargo in a checkout, by its name when installed.
pub(crate) fn how_to_call(command: &str) -> String {
    let program = std::env::args().next().unwrap_or_default();
    let installed = Path::new(&program).file_stem().is_some_and(|stem| stem == "kiln");
    if installed { format!("kiln {command}") } else { format!("cargo run -p {command} --") }
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
    print(&format!(
        "{test}  (best epoch {} of {}, validation accuracy {:.2}%)\n\
         {} parameters, {:.1} s of training, {:.0} images/s\n\
         model   {}\nreport  {}/report/index.html",
        result.best_epoch,
        result.epochs,
        result.valid_accuracy * 100.0,
        result.parameters,
        result.seconds,
        result.train_samples_per_second,
        result.model,
        result.run,
    ))
}

/// Prints one JSON object on standard output; what a terminal would act on stands as an escape in it.
///
/// # Errors
/// When standard output is closed.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print_line(&visible_json(&serde_json::to_string(value).map_err(Failure::failed)?))
}

/// Prints lines on standard output, with what a terminal would act on made visible.
///
/// # Errors
/// When standard output is closed.
pub fn print(text: &str) -> Result<(), Failure> {
    print_line(&visible(text))
}

fn print_line(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| Failure::output(&error))
}

/// Writes a result to a file, whole or not at all.
///
/// # Errors
/// When the system refuses.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    crate::run::files::write_atomically(path, bytes)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

/// Prints lines on standard error, if anyone listens, with what a terminal would act on made visible.
pub fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{}", visible(text)));
}
