//! `kiln explain`: why a network answers as it does, as a picture.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use data::text::one_line;
use evaluation::report::explanation_png;
use model::{Classifier, Picture, Policy, Prepared};
use serde_json::json;
use train::command::{Failure, log_to_stderr, print, print_json, say};
use train::device::Backend;
use train::start::model_io::load;

use crate::pictures::{Source, outputs, sources, write};

/// Flags of `kiln explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    /// Pictures, folders of them, or `-` for one picture on standard input
    #[arg(value_name = "IMAGE|FOLDER|-", required = true)]
    images: Vec<PathBuf>,
    /// Model file or run folder [default: the reference model]
    #[arg(long, value_name = "RUN|FILE", default_value = "artifacts/reference")]
    model: PathBuf,
    /// Where the sheet goes: one PNG file, or a folder for several pictures
    #[arg(long, value_name = "FILE.png|FOLDER", default_value = "explanation.png")]
    out: PathBuf,
    /// Explain this class instead of the answer
    #[arg(long, value_name = "LABEL")]
    class: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Where tensors live
    #[arg(long, value_enum, default_value = "flex")]
    backend: Backend,
    /// CPU threads [default: all]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

pub(crate) fn run(arguments: &ExplainArguments) -> Result<ExitCode, Failure> {
    log_to_stderr(arguments.json);
    train::command::join_threads(arguments.threads);
    let sources = sources(&arguments.images)?;
    let outputs = outputs(&arguments.out, &sources)?;
    let device = arguments.backend.device().map_err(Failure::failed)?;
    let classifier = Classifier::new(load(&arguments.model, &device).map_err(Failure::failed)?, device);
    let classes = &classifier.metadata().classes;
    let class = match &arguments.class {
        None => None,
        Some(label) => match classes.iter().position(|class| class == label) {
            Some(class) => Some(class),
            None => {
                return Err(Failure::usage(format!(
                    "--class {label}: the model knows {}",
                    classes.join(", ")
                )));
            }
        },
    };
    let mut bad = 0;
    for (source, path) in sources.iter().zip(&outputs) {
        match explain(&classifier, source, class) {
            Ok((bytes, line)) => {
                write(path, &bytes)?;
                let out = path.display().to_string();
                if arguments.json {
                    print_json(&json!({
                        "path": source.name(),
                        "out": out,
                        "label": line.label,
                        "probability": line.probability,
                        "rejected": line.rejected,
                    }))?;
                } else {
                    let rejected = if line.rejected { "  (rejected)" } else { "" };
                    print(&format!(
                        "{}: {} {:.2}%{rejected}  {}",
                        one_line(&source.name()),
                        one_line(&line.label),
                        line.probability * 100.0,
                        one_line(&out)
                    ))?;
                }
            }
            Err(message) => {
                bad += 1;
                say(&format!("error: {}: {message}", one_line(&source.name())));
            }
        }
    }
    Ok(if bad > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What is printed about a sheet.
struct Line {
    label: String,
    probability: f32,
    rejected: bool,
}

fn explain(
    classifier: &Classifier,
    source: &Source,
    class: Option<usize>,
) -> Result<(Vec<u8>, Line), String> {
    let message = |error: &dyn std::fmt::Display| error.to_string();
    let Prepared { image, several } = classifier.examine(&source.read()?).map_err(|error| message(&error))?;
    let explanation = classifier.explain(&image, class).map_err(|error| message(&error))?;
    let label = classifier.metadata().classes[explanation.class].clone();
    let scores = classifier.scores(&image).map_err(|error| message(&error))?;
    let rejected =
        several || scores.first().is_none_or(|s| classifier.prediction(s, &Policy::default()).rejected);
    let input = classifier.input();
    let seen = Picture::from_planes(input, &image).map_err(|error| message(&error))?;
    let bytes = explanation_png(&seen, &explanation, &label).map_err(|error| message(&error))?;
    Ok((bytes, Line { label, probability: explanation.probability, rejected }))
}
