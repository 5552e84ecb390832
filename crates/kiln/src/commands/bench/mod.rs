//! `kiln bench`: how fast this machine trains and predicts, and how much memory that takes.
//!
//! Every pair of network and backend is measured in a process of its own, training apart from inference: so the
//! peak memory is that of one job, and a driver that crashes ends one job.

mod inference;
mod nets;
mod plan;
mod sample;
mod statistics;
mod training;

use std::process::{Command, ExitCode, Stdio};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use model::InputShape;
use serde::{Deserialize, Serialize};
use train::command::{Failure, log_to_stderr, print, print_json};
use train::device::{Backend, Kernels};

use self::plan::{Job, Measurement, Plan, Work};
use crate::table::table;

/// The largest image, so that a data set of them fits into memory.
const MOST_PIXELS: usize = 1 << 20;
/// The most values in a batch: 512 MiB.
const MOST_VALUES: usize = 1 << 27;

/// Flags of `kiln bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArguments {
    /// cnn, cnn-dense, lenet5, stack, or a name that `kiln models` lists; may be repeated [default: these four]
    #[arg(long, value_name = "NAME")]
    net: Vec<String>,
    /// Images [default: those that the network was published for]
    #[arg(long, value_name = "CxHxW")]
    input: Option<Input>,
    /// Where tensors live; may be repeated [default: every backend that works here]
    #[arg(long, value_enum)]
    backend: Vec<Backend>,
    /// Code of the CPU operators [default: the variable `KILN_KERNELS`, else the fastest that the processor can run]
    #[arg(long, value_enum, default_value = "auto", hide_default_value = true)]
    kernels: Kernels,
    /// What is measured [default: both]
    #[arg(long, value_enum)]
    work: Option<Work>,
    /// Images per step; may be repeated [default: 128 for training; 1, 128 and 1024 for inference]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch_size: Vec<u32>,
    /// CPU threads [default: all]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Measurements of each kind, after a warm-up; the result is their median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Length of a round
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Images of 1x28x28; other inputs are always synthetic
    #[arg(long, value_enum, default_value = "auto")]
    data: sample::Source,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// `3x32x32`.
#[derive(Clone, Copy, Debug)]
struct Input(InputShape);

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sides: Option<Vec<usize>> = text.split('x').map(|side| side.parse().ok()).collect();
        let shape = match sides.as_deref() {
            Some(&[channels, height, width]) => InputShape::new(channels, height, width),
            _ => return Err("expected channels, height and width, for example 3x32x32".to_owned()),
        };
        let pixels = [shape.height, shape.width].into_iter().try_fold(shape.channels, usize::checked_mul);
        if pixels.is_some_and(|pixels| (1..=MOST_PIXELS).contains(&pixels)) {
            Ok(Self(shape))
        } else {
            Err(format!("an image holds 1 to {MOST_PIXELS} values, for example 3x224x224"))
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if (0.01..=600.0).contains(&seconds) { Ok(seconds) } else { Err("expected 0.01 to 600".to_owned()) }
}

/// What `--json` prints.
#[derive(Serialize, Deserialize)]
struct Report {
    version: String,
    measurements: Vec<Measurement>,
}

pub(crate) fn run(arguments: &BenchArguments) -> Result<ExitCode, Failure> {
    let jobs = jobs(arguments)?;
    log_to_stderr(arguments.json || jobs.len() == 1);
    arguments.kernels.apply()?;
    let mut measurements = Vec::new();
    if let [job] = &jobs[..] {
        model::ops::keep_freed_memory();
        train::command::join_threads(arguments.threads);
        measurements = measure(job, arguments)?;
    } else {
        for job in &jobs {
            tracing::info!("{} on {}: {}", job.net.name, job.backend, job.work.name());
            match apart(job, arguments) {
                Ok(found) => measurements.extend(found),
                // A backend that was named must work; one that was not is passed over.
                Err(failure) if arguments.backend.is_empty() && !job.backend.is_cpu() => {
                    tracing::info!("{}: left out", failure.message);
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    if arguments.json {
        print_json(&Report { version: env!("CARGO_PKG_VERSION").to_owned(), measurements })?;
    } else {
        print(&in_words(&measurements))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn jobs(arguments: &BenchArguments) -> Result<Vec<Job>, Failure> {
    let names: Vec<&str> = if arguments.net.is_empty() {
        nets::NAMES.to_vec()
    } else {
        arguments.net.iter().map(String::as_str).collect()
    };
    let backends = if arguments.backend.is_empty() { Backend::value_variants() } else { &arguments.backend };
    let works = arguments.work.map_or_else(|| vec![Work::Training, Work::Inference], |work| vec![work]);
    let mut jobs = Vec::new();
    for name in names {
        let net = nets::find(name, arguments.input.map(|input| input.0))?;
        arguments.data.check(name, net.input)?;
        if let Some(size) =
            arguments.batch_size.iter().find(|size| **size as usize * net.input.len() > MOST_VALUES)
        {
            return Err(Failure::usage(format!(
                "--batch-size {size} with images of {}: expected at most {} images",
                net.input,
                MOST_VALUES / net.input.len()
            )));
        }
        for &backend in backends {
            let kernels = arguments.kernels;
            jobs.extend(works.iter().map(|&work| Job { net: net.clone(), backend, kernels, work }));
        }
    }
    Ok(jobs)
}

fn measure(job: &Job, arguments: &BenchArguments) -> Result<Vec<Measurement>, Failure> {
    let sizes = match (job.work, &arguments.batch_size[..]) {
        (Work::Training, []) => &[128][..],
        (Work::Inference, []) => &[1, 128, 1024],
        (_, sizes) => sizes,
    };
    let plan = Plan { rounds: arguments.rounds.into(), seconds: arguments.seconds };
    sizes
        .iter()
        .map(|&size| match job.work {
            Work::Training => training::measure(job, size as usize, &plan, arguments.data),
            Work::Inference => inference::measure(job, size as usize, &plan, arguments.data),
        })
        .collect()
}

/// Runs one job in a process of its own.
fn apart(job: &Job, arguments: &BenchArguments) -> Result<Vec<Measurement>, Failure> {
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let mut command = Command::new(program);
    command.args(["bench", "--json", "--net", &job.net.name, "--work", job.work.name()]);
    command.args(["--backend", &job.backend.to_string(), "--kernels", &arguments.kernels.to_string()]);
    command.args(["--rounds", &arguments.rounds.to_string(), "--seconds", &arguments.seconds.to_string()]);
    command.args(["--data", arguments.data.name()]);
    if let Some(Input(InputShape { channels, height, width })) = arguments.input {
        command.args(["--input", &format!("{channels}x{height}x{width}")]);
    }
    if let Some(threads) = arguments.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    for size in &arguments.batch_size {
        command.args(["--batch-size", &size.to_string()]);
    }
    let name = format!("{} on {}, {}", job.net.name, job.backend, job.work.name());
    let output = command.stdin(Stdio::null()).output().map_err(Failure::failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("error: ");
        let message =
            if said.is_empty() { format!("it ended with {}", output.status) } else { said.to_owned() };
        let status = output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        return Err(Failure { message: format!("{name}: {message}"), status });
    }
    let report: Report = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::failed(format!("{name}: its answer cannot be read: {error}")))?;
    Ok(report.measurements)
}

fn in_words(measurements: &[Measurement]) -> String {
    let header = ["net", "backend", "work", "batch", "samples/s", "spread", "p50 us", "p99 us", "peak MiB"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
    for found in measurements {
        rows.push(vec![
            found.net.clone(),
            found.backend.to_string(),
            found.work.name().to_owned(),
            found.batch_size.to_string(),
            format!("{:.0}", found.samples_per_second),
            format!("{:.0}%", found.spread * 100.0),
            or_dash(found.latency.map(|latency| latency.p50_us)),
            or_dash(found.latency.map(|latency| latency.p99_us)),
            or_dash(found.peak_memory_mib),
        ]);
    }
    let mut text = table(&rows);
    if let Some(found) = measurements.first() {
        text += &format!(
            "\n\n{} threads, kernels {}, images: {}; medians of {} rounds",
            found.threads,
            found.kernels,
            found.data,
            found.rounds.len()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_three_positive_sides() {
        let Input(shape) = "3x32x16".parse().expect("three sides");
        assert_eq!(shape, InputShape::new(3, 32, 16));
        for bad in [
            "",
            "3",
            "3x32",
            "3x32x32x1",
            "0x28x28",
            "1x-28x28",
            "1xx28",
            "3x32x99999",
            "axbxc",
            "1x28x28x",
            "3x99999999999x99999999999",
        ] {
            assert!(bad.parse::<Input>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_round_has_a_length() {
        assert_eq!(seconds("0.5"), Ok(0.5));
        for bad in ["0", "-1", "nan", "inf", "1e9", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
