//! `kiln evaluate`: a model file or run folder on labelled images.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::Device;
use clap::Args;
use data::text::counted;
use data::{ClassAgreement, Search};
use evaluation::metrics::{ClassMetrics, Evaluation};
use evaluation::multi_label::{SetClassMetrics, SetEvaluation, SetFigures};
use evaluation::report::{sets_without_samples_notice, without_samples_notice};
use model::{Metadata, Model, TaskName};
use serde::Serialize;
use serde_json::Value;
use train::command::{Failure, figure, log_to_stderr, print, print_json};
use train::config::arguments::OnBadImageArgument;
use train::device::{Backend, Kernels};
use train::engine::evaluate::{evaluate, evaluate_sets};
use train::start::model_io::{load, model_path};
use train::task::evaluation_set::{EvaluationRequest, EvaluationSet, Part, UnknownClasses};

use crate::commands::rejection::{Rejection, foreign, measure};
use crate::pictures::check_drawing;
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
    /// What a picture that cannot be decoded means [default: what it meant when the model was trained]
    #[arg(long, value_enum)]
    on_bad_image: Option<OnBadImageArgument>,
    /// Which part of it [default: the test part that the data names; without one, of the model's own data what was set
    /// aside for the test, of other data all]
    #[arg(long, value_enum)]
    split: Option<Part>,
    /// What images of classes mean that the model does not know; classes are matched by their names
    #[arg(long, value_enum, default_value = "reject")]
    unknown_classes: UnknownClasses,
    /// Look for data files here first [default: the variable `KILN_DATA`]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Where tensors live
    #[arg(long, value_enum, default_value = "flex")]
    backend: Backend,
    /// Code of the CPU operators [default: the variable `KILN_KERNELS`, else the fastest that the processor can run]
    #[arg(long, value_enum, default_value = "auto", hide_default_value = true)]
    kernels: Kernels,
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

/// What `--json` prints first, whatever the task. What only training knows comes from the model file and may be null.
#[derive(Serialize)]
struct Question {
    run: Value,
    model: String,
    dataset: String,
    split: &'static str,
    /// Why this part.
    split_because: String,
    /// Labelled images in all parts together.
    labelled_images: usize,
    /// How many of the images the model was trained on, as far as that is remembered.
    trained_on: Option<usize>,
    classes: Classes,
    warnings: Vec<String>,
    backend: String,
    seed: Value,
    epochs: Value,
    parameters: usize,
}

impl Question {
    fn new(
        arguments: &EvaluateArguments,
        metadata: &Metadata,
        judged: EvaluationSet,
        without_images: Vec<String>,
        warnings: Vec<String>,
    ) -> Self {
        Self {
            run: origin(metadata, "run"),
            model: model_path(&arguments.model).display().to_string(),
            split: judged.part.name(),
            split_because: judged.why,
            labelled_images: judged.labelled,
            trained_on: judged.trained_on,
            classes: Classes { agreement: judged.classes, unknown_images: judged.left_out, without_images },
            warnings,
            dataset: judged.dataset,
            backend: arguments.backend.to_string(),
            seed: origin(metadata, "seed"),
            epochs: origin(metadata, "epochs"),
            parameters: metadata.parameters,
        }
    }
}

/// What training has left in the model file.
fn origin(metadata: &Metadata, key: &str) -> Value {
    metadata.provenance.get(key).cloned().unwrap_or(Value::Null)
}

/// What `--json` prints.
#[derive(Serialize)]
struct EvaluationResult {
    #[serde(flatten)]
    question: Question,
    valid_accuracy: Value,
    test_accuracy: f64,
    test_loss: f64,
    test_macro_f1: Option<f64>,
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

/// How the classes of the data stand to those of the model.
#[derive(Serialize)]
struct Classes {
    #[serde(flatten)]
    agreement: ClassAgreement,
    /// Images of unknown classes, which are left out.
    unknown_images: usize,
    /// Classes of the model of which no image was evaluated: they have no figures, and no part in the averages.
    without_images: Vec<String>,
}

#[derive(Serialize)]
struct ClassResult {
    class: String,
    #[serde(flatten)]
    metrics: ClassMetrics,
}

/// What `--json` prints of a multi-label model.
#[derive(Serialize)]
struct SetEvaluationResult {
    task: TaskName,
    #[serde(flatten)]
    question: Question,
    #[serde(flatten)]
    figures: SetFigures,
    loss: f64,
    seconds: f64,
    weights_sha256: String,
    images: usize,
    per_class: Vec<SetClassMetrics>,
}

pub(crate) fn run(arguments: &EvaluateArguments) -> Result<ExitCode, Failure> {
    log_to_stderr(arguments.json);
    train::command::join_threads(arguments.threads);
    if let Some(picture) = &arguments.picture {
        check_drawing(
            picture,
            arguments.dataset.as_deref().into_iter().chain(arguments.rejection.as_deref()),
        )?;
    }
    arguments.kernels.apply()?;
    let device = arguments.backend.device().map_err(Failure::failed)?;
    let model = load(&arguments.model, &device).map_err(Failure::failed)?;
    let metadata = &model.metadata;
    let search =
        Search { data_dir: arguments.data_dir.clone(), progress: !arguments.json, ..Search::default() };
    let question = EvaluationRequest {
        dataset: arguments.dataset.as_deref(),
        part: arguments.split,
        unknown: arguments.unknown_classes,
        on_bad_image: arguments.on_bad_image.map(Into::into),
        search: &search,
    };
    if let (TaskName::MultiLabel, Some(_)) = (metadata.task.name(), &arguments.rejection) {
        return Err(Failure::usage(
            "--rejection has no meaning for a multi-label model: it cannot tell how far out of distribution a picture is",
        ));
    }
    let judged = EvaluationSet::load(&arguments.model, metadata, &question)?;
    if metadata.task.name() == TaskName::MultiLabel {
        return run_sets(arguments, &model, judged, &device);
    }
    let (images, split) = (&judged.images, judged.part.name());
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    let started = Instant::now();
    let evaluation =
        evaluate(&model.network, &metadata.preprocessing, &metadata.classes, images, &indices, &device)
            .map_err(Failure::failed)?;
    let seconds = started.elapsed().as_secs_f64();
    let mut warnings = judged.warnings.clone();
    warnings.extend(without_samples_notice(&evaluation, split));
    let rejection = match &arguments.rejection {
        Some(name) => {
            let foreign = foreign(
                name,
                arguments.split,
                arguments.on_bad_image.map(Into::into),
                &metadata.classes,
                &search,
            )?;
            warnings.extend(foreign.warning);
            Some(measure(&model, images, &foreign.images, &device)?)
        }
        None => None,
    };
    if let Some((rejection, path)) = rejection.as_ref().zip(arguments.picture.as_ref()) {
        rejection.draw(&judged.dataset, path)?;
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if arguments.json {
        let confusion = &evaluation.confusion;
        let images = images.len();
        print_json(&EvaluationResult {
            question: Question::new(arguments, metadata, judged, evaluation.without_samples(), warnings),
            valid_accuracy: origin(metadata, "valid_accuracy"),
            test_accuracy: evaluation.accuracy(),
            test_loss: evaluation.mean_loss,
            test_macro_f1: confusion.macro_average().f1,
            train_samples_per_second: origin(metadata, "train_samples_per_second"),
            seconds,
            weights_sha256: metadata.weights_sha256.clone(),
            images,
            confusion: confusion.clone().into(),
            per_class: per_class(&evaluation),
            macro_average: confusion.macro_average(),
            weighted_average: confusion.weighted_average(),
            rejection,
        })?;
    } else {
        print(&in_words(&evaluation, &judged, seconds))?;
        if let Some(rejection) = rejection {
            print(&format!("\n{}", rejection.in_words()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Judges a multi-label model.
fn run_sets(
    arguments: &EvaluateArguments,
    model: &Model,
    judged: EvaluationSet,
    device: &Device,
) -> Result<ExitCode, Failure> {
    let metadata = &model.metadata;
    let indices: Vec<u32> = (0..judged.images.len() as u32).collect();
    let started = Instant::now();
    let evaluation = evaluate_sets(
        &model.network,
        &metadata.preprocessing,
        &metadata.classes,
        (&metadata.task, metadata.temperature()),
        &judged.images,
        &indices,
        device,
    )
    .map_err(Failure::failed)?;
    let seconds = started.elapsed().as_secs_f64();
    let mut warnings = judged.warnings.clone();
    warnings.extend(sets_without_samples_notice(&evaluation, judged.part.name()));
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if !arguments.json {
        print(&sets_in_words(&evaluation, &judged, seconds))?;
        return Ok(ExitCode::SUCCESS);
    }
    print_json(&SetEvaluationResult {
        task: TaskName::MultiLabel,
        question: Question::new(arguments, metadata, judged, evaluation.without_samples(), warnings),
        figures: evaluation.figures(),
        loss: evaluation.mean_loss,
        seconds,
        weights_sha256: metadata.weights_sha256.clone(),
        images: evaluation.predictions.len(),
        per_class: evaluation.per_class(),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn sets_in_words(evaluation: &SetEvaluation, judged: &EvaluationSet, seconds: f64) -> String {
    let header = ["class", "average precision", "precision", "recall", "F1", "threshold", "images"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(evaluation.per_class().into_iter().map(|class| {
        vec![
            class.class,
            figure(class.average_precision),
            figure(class.precision),
            figure(class.recall),
            figure(class.f1),
            format!("{:.3}", class.threshold),
            class.support.to_string(),
        ]
    }));
    let SetFigures { micro_f1, macro_f1, mean_average_precision, subset_accuracy } = evaluation.figures();
    let images = evaluation.predictions.len();
    format!(
        "{}mAP {}  micro F1 {micro_f1:.4}  macro F1 {}  all labels right {:.2}%  loss {:.4}  {} in \
         {seconds:.2} s\n{images} of {} ({})\n\n{}",
        match judged.part {
            Part::All => String::new(),
            part => format!("{} ", part.name()),
        },
        figure(mean_average_precision),
        figure(macro_f1),
        subset_accuracy * 100.0,
        evaluation.mean_loss,
        counted(images, "image"),
        counted(judged.labelled, "labelled image"),
        judged.why,
        table(&rows)
    )
}

fn per_class(evaluation: &Evaluation) -> Vec<ClassResult> {
    let metrics = evaluation.confusion.per_class();
    let names = evaluation.class_names.iter().cloned();
    names.zip(metrics).map(|(class, metrics)| ClassResult { class, metrics }).collect()
}

fn in_words(evaluation: &Evaluation, judged: &EvaluationSet, seconds: f64) -> String {
    let confusion = &evaluation.confusion;
    let mut rows = vec![["class", "precision", "recall", "F1", "images"].map(str::to_owned).to_vec()];
    let line = |name: String, metrics: &ClassMetrics| {
        vec![
            name,
            figure(metrics.precision),
            figure(metrics.recall),
            figure(metrics.f1),
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
        "{}accuracy {:.2}%  loss {:.4}  {} in {seconds:.2} s\n{} of {} ({})\n\n{}\n\n{}",
        match judged.part {
            Part::All => String::new(),
            part => format!("{} ", part.name()),
        },
        evaluation.accuracy() * 100.0,
        evaluation.mean_loss,
        counted(evaluation.predictions.len(), "image"),
        evaluation.predictions.len(),
        counted(judged.labelled, "labelled image"),
        judged.why,
        table(&rows),
        table(&matrix)
    )
}
