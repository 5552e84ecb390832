//! `kiln predict`: what is on pictures that nobody has labelled.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use data::text::{csv_cell, one_line};
use model::{Classifier, Policy, Prediction, Prepared, ReadDigit, TaskName};
use rayon::prelude::*;
use serde::Serialize;
use train::command::{Failure, log_to_stderr, print, print_json, say};
use train::device::{Backend, Kernels};
use train::start::model_io::load;

use crate::answer::{self, Answer, Choice};
use crate::pictures::{Source, outputs, png, sources, write};
use crate::table::table;

/// Flags of `kiln predict`.
#[derive(Args, Debug)]
pub(crate) struct PredictArguments {
    /// Pictures (PNG, JPEG, WebP, GIF, BMP, TIFF), folders of them, or `-` for one picture on standard input
    #[arg(value_name = "IMAGE|FOLDER|-", required = true)]
    images: Vec<PathBuf>,
    /// Model file or run folder [default: the reference model]
    #[arg(long, value_name = "RUN|FILE", default_value = "artifacts/reference")]
    model: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// Write what the network saw: one PNG file, or a folder for several pictures
    #[arg(long, value_name = "FILE.png|FOLDER")]
    show: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
    /// Where tensors live
    #[arg(long, value_enum, default_value = "flex")]
    backend: Backend,
    /// Code of the CPU operators [default: the variable `KILN_KERNELS`, else the fastest that the processor can run]
    #[arg(long, value_enum, default_value = "auto", hide_default_value = true)]
    kernels: Kernels,
    /// CPU threads [default: all]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// Pictures that are decoded before the network sees them: bounds the memory of a large folder.
const BATCH: usize = 256;

/// What is said about one picture, with its place.
#[derive(Serialize)]
struct Line {
    path: String,
    #[serde(flatten)]
    answer: Answer,
}

pub(crate) fn run(arguments: &PredictArguments) -> Result<ExitCode, Failure> {
    log_to_stderr(arguments.json || arguments.csv);
    train::command::join_threads(arguments.threads);
    let sources = sources(&arguments.images)?;
    let shown = match &arguments.show {
        Some(target) => outputs(target, &sources)?,
        None => Vec::new(),
    };
    arguments.kernels.apply()?;
    let device = arguments.backend.device().map_err(Failure::failed)?;
    let model = load(&arguments.model, &device).map_err(Failure::failed)?;
    let classifier = Classifier::new(model, device);
    let task = classifier.metadata().task.name();
    arguments.choice.check(&classifier).map_err(Failure::usage)?;
    if classifier.metadata().confidence.is_none() {
        tracing::warn!(
            "the model cannot tell pictures that are unlike the training images (out-of-distribution): none is rejected for \
             that (train it again with this version)"
        );
    }
    let policy = arguments.choice.policy();

    let mut printer = Printer::new(arguments, task)?;
    let mut bad = 0;
    for (number, batch) in sources.chunks(BATCH).enumerate() {
        let answers = if arguments.choice.digits {
            read_digits(&classifier, batch, &policy)
        } else {
            classify(&classifier, batch, &policy)?
        };
        for (index, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok((line, image)) => {
                    if let Some(path) = shown.get(number * BATCH + index) {
                        write(path, &image.png(classifier.input())?)?;
                    }
                    printer.line(&line)?;
                }
                Err(message) => {
                    bad += 1;
                    say(&format!("error: {}: {message}", one_line(&batch[index].name())));
                }
            }
        }
    }
    printer.finish()?;
    Ok(if bad > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the network saw, `[C, H, W]` one after the other.
struct Seen(Vec<u8>);

impl Seen {
    /// All images side by side.
    fn png(&self, input: model::InputShape) -> Result<Vec<u8>, Failure> {
        let model::InputShape { channels, height, width } = input;
        let images: Vec<&[u8]> = self.0.chunks_exact(input.len()).collect();
        let count = images.len().max(1);
        let mut planes = vec![0; count * input.len()];
        for (index, image) in images.iter().enumerate() {
            for row in 0..channels * height {
                let start = (row * count + index) * width;
                planes[start..start + width].copy_from_slice(&image[row * width..(row + 1) * width]);
            }
        }
        png(&planes, count * width, height, channels)
    }
}

type Answered = Result<(Line, Seen), String>;

fn classify(classifier: &Classifier, batch: &[Source], policy: &Policy) -> Result<Vec<Answered>, Failure> {
    let prepared: Vec<Result<Prepared, String>> = batch
        .par_iter()
        .map(|source| classifier.examine(&source.read()?).map_err(|error| error.to_string()))
        .collect();
    let images: Vec<u8> = prepared.iter().flatten().flat_map(|prepared| &prepared.image).copied().collect();
    let mut scores = classifier.scores(&images).map_err(Failure::failed)?.into_iter();
    Ok(batch
        .iter()
        .zip(prepared)
        .map(|(source, prepared)| {
            let Prepared { image, several } = prepared?;
            let scores = scores.next().ok_or("the network gave no answer")?;
            let prediction = classifier.prediction(&scores, policy).of_several(several);
            Ok((Line { path: source.name(), answer: Answer { prediction, reading: None } }, Seen(image)))
        })
        .collect())
}

fn read_digits(classifier: &Classifier, batch: &[Source], policy: &Policy) -> Vec<Answered> {
    batch
        .par_iter()
        .map(|source| {
            let answer = answer::read_digits(classifier, &source.read()?, policy)
                .map_err(|error| error.to_string())?;
            let digits = answer.reading.iter().flat_map(|reading| &reading.digits);
            let seen = digits.flat_map(|digit| digit.image.iter().copied()).collect();
            Ok((Line { path: source.name(), answer }, Seen(seen)))
        })
        .collect()
}

/// Prints answers in the order in which they come.
enum Printer {
    Json,
    Csv {
        writer: Box<csv::Writer<std::io::Stdout>>,
        digits: bool,
        top: usize,
    },
    Table {
        rows: Vec<Vec<String>>,
        digits: bool,
    },
    /// One line a picture, as a list for training has it: all labels in one cell.
    CsvOfLabels(Box<csv::Writer<std::io::Stdout>>),
    TableOfLabels(Vec<Vec<String>>),
}

impl Printer {
    fn new(arguments: &PredictArguments, task: TaskName) -> Result<Self, Failure> {
        let Choice { digits, top, .. } = arguments.choice;
        if arguments.json {
            return Ok(Self::Json);
        }
        let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>();
        if task == TaskName::MultiLabel && !arguments.csv {
            return Ok(Self::TableOfLabels(vec![row(&["picture", "labels", ""])]));
        }
        if arguments.csv {
            let mut writer = csv::Writer::from_writer(std::io::stdout());
            if task == TaskName::MultiLabel {
                let header = ["path", "labels", "probabilities", "probability", "rejected"];
                writer.write_record(header).map_err(closed)?;
                return Ok(Self::CsvOfLabels(Box::new(writer)));
            }
            let top = if digits { 1 } else { usize::from(top) };
            let mut header = ["path", "label", "probability", "rejected"].map(str::to_owned).to_vec();
            for place in 2..=top {
                header.extend([format!("label_{place}"), format!("probability_{place}")]);
            }
            header.push("reason".to_owned());
            writer.write_record(&header).map_err(closed)?;
            return Ok(Self::Csv { writer: Box::new(writer), digits, top });
        }
        let header: &[&str] = if digits {
            &["picture", "text", "probability", "each digit", ""]
        } else {
            &["picture", "label", "probability", "then", ""]
        };
        Ok(Self::Table { rows: vec![row(header)], digits })
    }

    fn line(&mut self, line: &Line) -> Result<(), Failure> {
        let Line { path, answer: Answer { prediction, reading } } = line;
        let Prediction { label, probability, labels, top: classes, rejected, reason } = prediction;
        match self {
            Self::Json => print_json(line),
            Self::CsvOfLabels(writer) => {
                // In the order of the names in the cell before.
                let probability_of = |name: &str| {
                    let found = labels.iter().flatten().find(|class| class.label == name);
                    found.map_or_else(String::new, |class| class.probability.to_string())
                };
                let names = if label.is_empty() { Vec::new() } else { label.split(';').collect() };
                let probabilities: Vec<String> = names.into_iter().map(probability_of).collect();
                let record = [
                    csv_cell(path),
                    csv_cell(label),
                    probabilities.join(";"),
                    probability.to_string(),
                    rejected.to_string(),
                ];
                writer.write_record(record).map_err(closed)
            }
            Self::TableOfLabels(rows) => {
                let each = labels.iter().flatten();
                let each: Vec<String> =
                    each.map(|class| format!("{} {}", class.label, percent(class.probability))).collect();
                let text = if each.is_empty() { "none".to_owned() } else { each.join("  ") };
                let reason = reason.map_or_else(String::new, |reason| format!("rejected: {reason}"));
                rows.push(vec![path.clone(), text, reason]);
                Ok(())
            }
            Self::Csv { writer, digits, top } => {
                let mut record =
                    vec![csv_cell(path), csv_cell(label), probability.to_string(), rejected.to_string()];
                if !*digits {
                    for place in 1..*top {
                        let class = classes.get(place);
                        record.push(class.map_or_else(String::new, |class| csv_cell(&class.label)));
                        record.push(class.map_or_else(String::new, |class| class.probability.to_string()));
                    }
                }
                record.push(reason.map_or_else(String::new, |reason| reason.to_string()));
                writer.write_record(&record).map_err(closed)
            }
            Self::Table { rows, digits } => {
                let others = if *digits {
                    let each = reading.iter().flat_map(|reading| &reading.digits);
                    each.map(|ReadDigit { label, probability, .. }| {
                        format!("{label} {}", percent(*probability))
                    })
                    .collect::<Vec<_>>()
                } else {
                    let next = classes.iter().skip(1);
                    next.map(|class| format!("{} {}", class.label, percent(class.probability))).collect()
                };
                rows.push(vec![
                    path.clone(),
                    label.clone(),
                    percent(*probability),
                    others.join("  "),
                    match reason {
                        Some(reason) if *rejected => format!("rejected: {reason}"),
                        _ => String::new(),
                    },
                ]);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Json => Ok(()),
            Self::CsvOfLabels(mut writer) | Self::Csv { mut writer, .. } => {
                writer.flush().map_err(|error| Failure::output(&error))
            }
            Self::TableOfLabels(rows) | Self::Table { rows, .. } => print(&table(&rows)),
        }
    }
}

fn closed(error: csv::Error) -> Failure {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => Failure::output(&error),
        other => Failure::failed(format!("standard output: {other:?}")),
    }
}

fn percent(probability: f32) -> String {
    format!("{:.2}%", probability * 100.0)
}
