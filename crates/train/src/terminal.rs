//! What goes to the terminal: results on standard output, everything else on standard error, and how a program ends.

use std::io::Write;
use std::process::ExitCode;

use data::text::{visible, visible_json};
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

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

/// The flags of this program; says what is wrong with them, ends it, and lets no name among them act on the terminal.
pub fn parsed<P: clap::Parser>() -> P {
    let matches = negative_numbers(P::command()).try_get_matches();
    matches.and_then(|matches| P::from_arg_matches(&matches)).unwrap_or_else(|error| {
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

/// `--epochs -1` is a wrong value of `--epochs`, and no unknown flag `-1`.
fn negative_numbers(command: clap::Command) -> clap::Command {
    let values = |argument: clap::Arg| {
        let takes = argument.get_action().takes_values() && !argument.is_positional();
        if takes { argument.allow_negative_numbers(true) } else { argument }
    };
    command.mut_args(values).mut_subcommands(negative_numbers)
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

/// Standard error for the log, where it can be written to. `tracing` would panic when the other end is closed.
#[derive(Clone, Copy, Debug)]
pub struct StderrWriter;

impl Write for StderrWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        drop(std::io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        drop(std::io::stderr().flush());
        Ok(())
    }
}

/// What is heard where nobody asks for something else.
const ALL: &str =
    "error,train=info,evaluation=info,tune=info,data=info,model=info,finetune=info,kiln=info,kernels=info";
/// The same without what only tells how far it is.
const WARNINGS: &str =
    "error,train=warn,evaluation=warn,tune=warn,data=warn,model=warn,finetune=warn,kiln=warn,kernels=warn";

/// Messages go to standard error; `KILN_LOG` takes `tracing`'s directives.
pub fn log_to_stderr(quiet: bool) {
    log(if quiet { "error" } else { ALL });
}

/// As [`log_to_stderr`], for a command that is to show no progress: what a person has to know stays.
pub fn log_warnings_to_stderr() {
    log(WARNINGS);
}

fn log(default: &str) {
    let asked = std::env::var("KILN_LOG").ok().filter(|directives| !directives.is_empty());
    let filter = asked.and_then(|directives| EnvFilter::try_new(directives).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default));
    // A second call (tests in one process) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| StderrWriter)
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

/// Prints lines on standard error, if anyone listens, with what a terminal would act on made visible.
pub fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{}", visible(text)));
}
