//! `kiln export`: a model in a format of others.

mod npz;

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::{Device, TensorData};
use clap::Args;
use data::{Dataset, Search};
use model::export::{
    ExportError, Exported, WeightTensor, burnpack, c_header, metadata_json, onnx, quantize_int8, safetensors,
};
use model::{Metadata, Model, named_tensors};
use serde::Serialize;
use train::command::{Failure, log_to_stderr, print, print_json};
use train::device::Backend;
use train::engine::evaluate::{EvaluateError, evaluate, evaluate_sets};
use train::run::files::write_atomically;
use train::start::model_io::{load, model_path};
use train::task::evaluation_set::{EvaluationRequest, EvaluationSet, UnknownClasses};

/// Flags of `kiln export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArguments {
    /// Model file or run folder [default: the reference model]
    #[arg(long, value_name = "RUN|FILE", default_value = "artifacts/reference")]
    model: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// Where to write it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Store weights in fewer bits, and measure what that costs
    #[arg(long, value_enum)]
    quantize: Option<Quantize>,
    /// Test data for --quantize [default: what the model was trained on]
    #[arg(long, value_name = "NAME|FOLDER", requires = "quantize")]
    dataset: Option<String>,
    /// Look for data files here first [default: the variable `KILN_DATA`]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// CPU threads [default: all]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For `PyTorch`: names and layouts of a module, which the file describes
    Safetensors,
    /// A graph with dynamic batch, from normalised images to logits and probabilities
    Onnx,
    /// Burn's own container, without our seal
    Burnpack,
    /// `NumPy` arrays under our names
    Npz,
    /// Weights and functions in C99, one header
    CHeader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Quantize {
    /// 8-bit integers with one scale for each output channel
    Int8,
}

/// What `--json` prints.
#[derive(Serialize)]
struct ExportResult {
    model: String,
    format: String,
    out: String,
    bytes: usize,
    weights_sha256: String,
    quantized: Option<Cost>,
}

/// What the quantisation costs, on the images that `kiln evaluate` would take.
#[derive(Serialize)]
struct Cost {
    dataset: String,
    split: &'static str,
    images: usize,
    accuracy_before: f64,
    accuracy_after: f64,
    loss_before: f64,
    loss_after: f64,
    changed_answers: usize,
}

pub(crate) fn run(arguments: &ExportArguments) -> Result<ExitCode, Failure> {
    log_to_stderr(arguments.json);
    train::command::join_threads(arguments.threads);
    let format = arguments.format;
    if arguments.quantize.is_some() && format == Format::Burnpack {
        return Err(Failure::usage(
            "--quantize int8 cannot be combined with --format burnpack: a record of Burn holds the network's floats; \
             choose safetensors, onnx, npz or c-header",
        ));
    }
    let device = Backend::Flex.device().map_err(Failure::failed)?;
    let model = load(&arguments.model, &device).map_err(Failure::failed)?;
    crate::pictures::keep(&model_path(&arguments.model), &arguments.out, "the model itself")?;
    let record = named_tensors(&model.network);
    let (model, tensors, cost) = match arguments.quantize {
        None => {
            let tensors =
                record.iter().map(|(name, data)| (name.clone(), WeightTensor::float(data))).collect();
            (model, tensors, None)
        }
        Some(Quantize::Int8) => {
            let tensors = quantize_int8(&record);
            let rounded = rounded(&model, &tensors)?;
            let cost = cost(arguments, &model, &rounded, &device)?;
            (rounded, tensors, Some(cost))
        }
    };
    let bytes = encode(format, &model, &tensors).map_err(Failure::failed)?;
    write_atomically(&arguments.out, &bytes)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", arguments.out.display())))?;
    let name =
        clap::ValueEnum::to_possible_value(&format).map_or_else(String::new, |v| v.get_name().to_owned());
    let result = ExportResult {
        model: model_path(&arguments.model).display().to_string(),
        format: name,
        out: arguments.out.display().to_string(),
        bytes: bytes.len(),
        weights_sha256: model.metadata.weights_sha256.clone(),
        quantized: cost,
    };
    if arguments.json {
        print_json(&result)?;
    } else {
        print(&in_words(&result))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn encode(format: Format, model: &Model, tensors: &[(String, WeightTensor)]) -> Result<Vec<u8>, ExportError> {
    let Model { network, metadata } = model;
    let (input, classes) = (metadata.preprocessing.input, metadata.classes.len());
    let exported = |format| Exported::new(&metadata.network, input, classes, tensors, format);
    match format {
        Format::Safetensors => safetensors(&exported("safetensors")?, metadata),
        Format::CHeader => Ok(c_header(&exported("c-header")?, &metadata.network, metadata)?.into_bytes()),
        Format::Burnpack => burnpack(&named_tensors(network), metadata),
        Format::Onnx => onnx(&exported("onnx")?, metadata),
        Format::Npz => npz::npz(tensors, &metadata_json(metadata, "npz")?),
    }
}

/// The model with the weights that the integers stand for.
fn rounded(model: &Model, tensors: &[(String, WeightTensor)]) -> Result<Model, Failure> {
    let record: Vec<(String, TensorData)> = tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), TensorData::new(tensor.to_floats(), tensor.shape().to_vec())))
        .collect();
    let network = model::load(model.network.clone(), &record).map_err(Failure::failed)?;
    Ok(Model { network, metadata: model.metadata.clone() })
}

/// Both networks on the test split.
fn cost(
    arguments: &ExportArguments,
    model: &Model,
    rounded: &Model,
    device: &Device,
) -> Result<Cost, Failure> {
    let metadata = &model.metadata;
    let search =
        Search { data_dir: arguments.data_dir.clone(), progress: !arguments.json, ..Search::default() };
    let question = EvaluationRequest {
        dataset: arguments.dataset.as_deref(),
        part: None,
        unknown: UnknownClasses::Reject,
        on_bad_image: None,
        search: &search,
    };
    let judged = EvaluationSet::load(&arguments.model, metadata, &question)?;
    for warning in &judged.warnings {
        tracing::warn!("{warning}");
    }
    let test = &judged.images;
    let indices: Vec<u32> = (0..test.len() as u32).collect();
    let look = |model: &Model| Judged::of(model, test, &indices, device).map_err(Failure::failed);
    let (before, after) = (look(model)?, look(rounded)?);
    let changed = before.answers.iter().zip(&after.answers);
    Ok(Cost {
        dataset: judged.dataset.clone(),
        split: judged.part.name(),
        images: test.len(),
        accuracy_before: before.accuracy,
        accuracy_after: after.accuracy,
        loss_before: before.loss,
        loss_after: after.loss,
        changed_answers: changed.filter(|(before, after)| before != after).count(),
    })
}

/// What a network answers.
struct Judged {
    /// Share of images that are right, with all of their labels.
    accuracy: f64,
    loss: f64,
    /// The classes told of each image.
    answers: Vec<Vec<u32>>,
}

impl Judged {
    fn of(model: &Model, images: &Dataset, indices: &[u32], device: &Device) -> Result<Self, EvaluateError> {
        let Metadata { preprocessing, classes, task, .. } = &model.metadata;
        let network = &model.network;
        if task.is_classify() {
            let found = evaluate(network, preprocessing, classes, images, indices, device)?;
            let answers = found.predictions.iter().map(|one| vec![one.predicted]).collect();
            return Ok(Self { accuracy: found.accuracy(), loss: found.mean_loss, answers });
        }
        let how = (task, model.metadata.temperature());
        let found = evaluate_sets(network, preprocessing, classes, how, images, indices, device)?;
        let answers = found.predictions.iter().map(|one| one.labels(&found.thresholds)).collect();
        Ok(Self { accuracy: found.figures().subset_accuracy, loss: found.mean_loss, answers })
    }
}

fn in_words(result: &ExportResult) -> String {
    let mut words = format!("{}  {} bytes", result.out, result.bytes);
    if let Some(cost) = &result.quantized {
        words += &format!(
            "\nint8: accuracy {:.2}% -> {:.2}%, loss {:.4} -> {:.4}, {} of {} answers changed ({}, {})",
            cost.accuracy_before * 100.0,
            cost.accuracy_after * 100.0,
            cost.loss_before,
            cost.loss_after,
            cost.changed_answers,
            cost.images,
            cost.dataset,
            cost.split,
        );
    }
    words
}
