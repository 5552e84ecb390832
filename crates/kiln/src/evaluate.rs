//! `kiln evaluate`: a model file or run folder on labelled images.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use data::{ImageOptions, Search};
use serde::Serialize;
use serde_json::Value;
use train::arguments::OnBadImageArgument;
use train::command::{Failure, log_to_stderr, print, print_json};
use train::config::TrainConfig;
use train::device::Backend;
use train::evaluate::evaluate;
use train::fit::FitError;
use train::metrics::{ClassMetrics, Evaluation};
use train::model_io::{load, model_path};

use crate::rejection::{Rejection, measure};
use crate::table::table;

/// Flags of `kiln evaluate`.
#[derive(Args, Debug)]
pub(crate) struct EvaluateArguments {
    /// Model file or run folder [default: the reference model]
    #[arg(long, value_name = "RUN|FILE", default_value = "artifacts/reference")]
    model: PathBuf,
    /// mnist, fashion-mnist, mnist-sample, cifar10, cifar100; a folder of class folders, of IDX or CIFAR files; or a CSV
    /// file; fitted to the model's input [default: what the model was trained on]
    #[arg(long, value_name = "NAME|FOLDER|CSV")]
    dataset: Option<String>,
    /// What a picture that cannot be decoded means
    #[arg(long, value_enum, default_value = "error")]
    on_bad_image: OnBadImageArgument,
    /// Which part of it
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    /// Look for data files here first
    #[arg(long, value_name = "FOLDER", env = "KILN_DATA")]
    data_dir: Option<PathBuf>,
    /// Where tensors live
    #[arg(long, value_enum, default_value = "flex")]
    backend: Backend,
    /// CPU threads [default: all]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Also measure how well images of this other data set are refused
    #[arg(long, value_name = "NAME|FOLDER")]
    rejection: Option<String>,
    /// Draw what is kept against what is refused
    #[arg(long, value_name = "FILE.png", requires = "rejection")]
    picture: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Split {
    /// The images that no choice has seen
    Test,
    /// All labelled training images, the validation split included
    Train,
}

/// What `--json` prints. What only training knows comes from the model file and may be null.
#[derive(Serialize)]
struct EvaluationResult {
    run: Value,
    model: String,
    dataset: String,
    split: &'static str,
    backend: String,
    seed: Value,
    epochs: Value,
    parameters: usize,
    valid_accuracy: Value,
    test_accuracy: f64,
    test_loss: f64,
    test_macro_f1: f64,
    train_samples_per_second: Value,
    seconds: f64,
    weights_sha256: String,
    images: usize,
    confusion: Vec<Vec<u64>>,
    per_class: Vec<ClassResult>,
    macro_average: ClassMetrics,
    weighted_average: ClassMetrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejection: Option<Rejection>,
}

#[derive(Serialize)]
struct ClassResult {
    class: String,
    #[serde(flatten)]
    metrics: ClassMetrics,
}

pub(crate) fn run(arguments: &EvaluateArguments) -> Result<ExitCode, Failure> {
    log_to_stderr(arguments.json);
    train::command::join_threads(arguments.threads);
    let device = arguments.backend.device().map_err(Failure::failed)?;
    let model = load(&arguments.model, &device).map_err(Failure::failed)?;
    let metadata = &model.metadata;
    let origin = |key: &str| metadata.provenance.get(key).cloned().unwrap_or(Value::Null);
    let dataset = match (&arguments.dataset, origin("dataset").as_str()) {
        (Some(dataset), _) => dataset.clone(),
        (None, Some(dataset)) => dataset.to_owned(),
        (None, None) => {
            return Err(Failure::usage(
                "the model does not say what it was trained on: name data with --dataset",
            ));
        }
    };
    let search =
        Search { data_dir: arguments.data_dir.clone(), progress: !arguments.json, ..Search::default() };
    let preprocessing = &metadata.preprocessing;
    let options = ImageOptions {
        input: Some(preprocessing.input.into()),
        fit: Some(preprocessing.fit),
        on_bad_image: arguments.on_bad_image.into(),
        ..trained_with(metadata)
    };
    let pair =
        data::load_with(&dataset, &search, &options).map_err(|error| Failure::from(FitError::from(error)))?;
    if pair.train.class_names.len() == metadata.classes.len() && pair.train.class_names != metadata.classes {
        tracing::warn!(
            "the classes of the data have other names than the model's: {} and {}",
            pair.train.class_names.join(", "),
            metadata.classes.join(", ")
        );
    }
    let (images, split) = match arguments.split {
        Split::Test => (&pair.test, "test"),
        Split::Train => (&pair.train, "train"),
    };
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    let started = Instant::now();
    let evaluation =
        evaluate(&model.network, &metadata.preprocessing, &metadata.classes, images, &indices, &device)
            .map_err(Failure::failed)?;
    let seconds = started.elapsed().as_secs_f64();
    let rejection = match &arguments.rejection {
        Some(name) => {
            let other = data::load(name, &search).map_err(|error| Failure::from(FitError::from(error)))?;
            let foreign = match arguments.split {
                Split::Test => &other.test,
                Split::Train => &other.train,
            };
            Some(measure(&model, images, foreign, &device)?)
        }
        None => None,
    };
    if let Some((rejection, path)) = rejection.as_ref().zip(arguments.picture.as_ref()) {
        rejection.draw(&dataset, path)?;
    }
    if arguments.json {
        let confusion = &evaluation.confusion;
        print_json(&EvaluationResult {
            run: origin("run"),
            model: model_path(&arguments.model).display().to_string(),
            dataset,
            split,
            backend: arguments.backend.to_string(),
            seed: origin("seed"),
            epochs: origin("epochs"),
            parameters: metadata.parameters,
            valid_accuracy: origin("valid_accuracy"),
            test_accuracy: evaluation.accuracy(),
            test_loss: evaluation.mean_loss,
            test_macro_f1: confusion.macro_average().f1,
            train_samples_per_second: origin("train_samples_per_second"),
            seconds,
            weights_sha256: metadata.weights_sha256.clone(),
            images: images.len(),
            confusion: confusion.clone().into(),
            per_class: per_class(&evaluation),
            macro_average: confusion.macro_average(),
            weighted_average: confusion.weighted_average(),
            rejection,
        })?;
    } else {
        print(&in_words(&evaluation, split, seconds))?;
        if let Some(rejection) = rejection {
            print(&format!("\n{}", rejection.in_words()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How the model's own run loaded its images: what it set aside for the test is what is tested on here.
fn trained_with(metadata: &model::Metadata) -> ImageOptions {
    let text = metadata.provenance.get("config").and_then(Value::as_str);
    let config =
        text.and_then(|text| TrainConfig::from_toml(text, "the model's configuration".as_ref()).ok());
    config.map_or_else(ImageOptions::default, |config| config.data.images())
}

fn per_class(evaluation: &Evaluation) -> Vec<ClassResult> {
    let metrics = evaluation.confusion.per_class();
    let names = evaluation.class_names.iter().cloned();
    names.zip(metrics).map(|(class, metrics)| ClassResult { class, metrics }).collect()
}

fn in_words(evaluation: &Evaluation, split: &str, seconds: f64) -> String {
    let confusion = &evaluation.confusion;
    let mut rows = vec![["class", "precision", "recall", "F1", "images"].map(str::to_owned).to_vec()];
    let line = |name: String, metrics: &ClassMetrics| {
        vec![
            name,
            format!("{:.4}", metrics.precision),
            format!("{:.4}", metrics.recall),
            format!("{:.4}", metrics.f1),
            metrics.support.to_string(),
        ]
    };
    rows.extend(per_class(evaluation).into_iter().map(|class| line(class.class, &class.metrics)));
    rows.push(line("macro average".to_owned(), &confusion.macro_average()));
    rows.push(line("weighted average".to_owned(), &confusion.weighted_average()));
    let mut matrix = vec![
        std::iter::once("true \\ predicted".to_owned())
            .chain(evaluation.class_names.iter().cloned())
            .collect::<Vec<_>>(),
    ];
    for (target, name) in evaluation.class_names.iter().enumerate() {
        let counts = (0..confusion.classes()).map(|predicted| confusion.count(target, predicted).to_string());
        matrix.push(std::iter::once(name.clone()).chain(counts).collect());
    }
    format!(
        "{split} accuracy {:.2}%  loss {:.4}  {} images in {seconds:.2} s\n\n{}\n\n{}",
        evaluation.accuracy() * 100.0,
        evaluation.mean_loss,
        evaluation.predictions.len(),
        table(&rows),
        table(&matrix)
    )
}
