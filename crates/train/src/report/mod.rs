//! The report of a run: pictures, tables and one page, as bytes. The run folder writes them.

mod canvas;
mod confusion;
mod curves;
mod mistakes;
mod overfitting;
mod page;

use std::fmt::Write;

use image::RgbImage;
use serde::Serialize;

pub use mistakes::ReportImage;
pub use overfitting::overfitting_since;

use confusion::ConfusionPicture;
use curves::Curves;
use mistakes::{Mistake, Sheet};

use crate::metrics::{ClassMetrics, ConfusionMatrix, Evaluation};
use crate::metrics_log::EpochRecord;

/// Mistakes on the sheet.
const SHEET: usize = 32;

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// plotters refused.
    #[error("cannot draw the {picture}: {reason}")]
    Draw {
        /// Which picture.
        picture: &'static str,
        /// What plotters said.
        reason: String,
    },
    /// The image provider gave something that is not an image.
    #[error(
        "image {index} has {found} bytes for {channels} channels of {height} x {width} pixels; expected \
         channels x height x width bytes, with 1 or 3 channels and no empty side"
    )]
    Image {
        /// Its position in the data set.
        index: u32,
        /// Channels claimed.
        channels: usize,
        /// Height claimed.
        height: usize,
        /// Width claimed.
        width: usize,
        /// Bytes given.
        found: usize,
    },
    /// A PNG file could not be encoded.
    #[error("cannot encode a picture as PNG: {0}")]
    Encode(image::ImageError),
    /// The figures could not be written as JSON.
    #[error("cannot write evaluation.json: {0}")]
    Json(#[from] serde_json::Error),
    /// Formatting text failed.
    #[error("cannot format the report: {0}")]
    Format(#[from] std::fmt::Error),
}

impl ReportError {
    fn draw(picture: &'static str, reason: &str) -> Self {
        Self::Draw {
            picture,
            reason: reason.to_owned(),
        }
    }
}

/// What a report is made from.
pub struct ReportInput<'a> {
    /// Heading of the page: the name of the run or the model file.
    pub title: &'a str,
    /// What the page tells about the run, in this order: data set, backend, network, parameters, seed, ...
    pub facts: &'a [(String, String)],
    /// Ascending; empty for a model whose training is not known: then there are no curves.
    pub epochs: &'a [EpochRecord],
    /// The epoch whose weights were kept.
    pub best_epoch: Option<usize>,
    /// Which images were evaluated: `test` or `validation`.
    pub subset: &'a str,
    /// The predictions on them.
    pub evaluation: &'a Evaluation,
    /// Gives the image at a position of the evaluated data set; `None` leaves its mistake off the sheet.
    pub image: &'a dyn Fn(u32) -> Option<ReportImage<'a>>,
}

/// A file of the report.
pub struct ReportFile {
    /// Without a folder.
    pub name: &'static str,
    /// Its whole content.
    pub bytes: Vec<u8>,
}

/// `evaluation.json`.
#[derive(Serialize)]
struct Figures<'a> {
    subset: &'a str,
    samples: u64,
    accuracy: f64,
    mean_loss: f64,
    macro_average: ClassMetrics,
    weighted_average: ClassMetrics,
    per_class: Vec<NamedMetrics<'a>>,
    top_confusions: Vec<NamedConfusion<'a>>,
    confusion: &'a ConfusionMatrix,
}

#[derive(Serialize)]
struct NamedMetrics<'a> {
    class: &'a str,
    #[serde(flatten)]
    metrics: ClassMetrics,
}

#[derive(Serialize)]
struct NamedConfusion<'a> {
    target: &'a str,
    predicted: &'a str,
    count: u64,
}

/// Makes all files of the report: `index.html`, `curves.svg`, `curves.png` (when there are epochs), `confusion.svg`,
/// `confusion.png`, `mistakes.png` (when there are any), `evaluation.json` and `predictions.csv`. The same input gives the same bytes.
///
/// # Errors
/// [`ReportError`], foremost for an image whose bytes do not fit its shape.
pub fn render(input: &ReportInput) -> Result<Vec<ReportFile>, ReportError> {
    let mut files = Vec::new();
    let mut file = |name, bytes| files.push(ReportFile { name, bytes });

    let matrix = ConfusionPicture::new(input.evaluation, input.subset)?;
    let matrix_svg = canvas::svg(&matrix)?;
    let mistakes = mistakes(input)?;
    file("index.html", page::html(input, &matrix_svg, &mistakes)?.into_bytes());
    if !input.epochs.is_empty() {
        let curves = Curves {
            epochs: input.epochs,
            best_epoch: input.best_epoch,
        };
        file("curves.svg", canvas::svg(&curves)?.into_bytes());
        file("curves.png", canvas::png(&curves)?);
    }
    file("confusion.svg", matrix_svg.into_bytes());
    file("confusion.png", canvas::png(&matrix)?);
    if !mistakes.is_empty() {
        file("mistakes.png", canvas::png(&Sheet { mistakes: &mistakes })?);
    }
    file("evaluation.json", figures(input)?);
    file("predictions.csv", predictions(input.evaluation)?.into_bytes());
    Ok(files)
}

/// What to tell the user when [`overfitting_since`] finds something; the page shows the same text.
pub fn overfitting_notice(epochs: &[EpochRecord]) -> Option<String> {
    overfitting_since(epochs).map(page::notice)
}

fn mistakes(input: &ReportInput) -> Result<Vec<Mistake>, ReportError> {
    let name = |class: u8| class_name(input.evaluation, class.into()).to_owned();
    let mut mistakes = Vec::new();
    for prediction in input.evaluation.worst_mistakes(SHEET) {
        let Some(image) = (input.image)(prediction.index) else {
            continue;
        };
        let image: RgbImage = image.to_rgb(prediction.index)?;
        mistakes.push(Mistake {
            prediction,
            image,
            target: name(prediction.target),
            predicted: name(prediction.predicted),
        });
    }
    Ok(mistakes)
}

fn class_name(evaluation: &Evaluation, class: usize) -> &str {
    evaluation.class_names.get(class).map_or("?", String::as_str)
}

fn figures(input: &ReportInput) -> Result<Vec<u8>, ReportError> {
    let evaluation = input.evaluation;
    let confusion = &evaluation.confusion;
    let mut json = serde_json::to_vec_pretty(&Figures {
        subset: input.subset,
        samples: confusion.total(),
        accuracy: confusion.accuracy(),
        mean_loss: evaluation.mean_loss,
        macro_average: confusion.macro_average(),
        weighted_average: confusion.weighted_average(),
        per_class: confusion
            .per_class()
            .into_iter()
            .enumerate()
            .map(|(class, metrics)| NamedMetrics {
                class: class_name(evaluation, class),
                metrics,
            })
            .collect(),
        top_confusions: confusion
            .top_confusions(page::TOP_CONFUSIONS)
            .into_iter()
            .map(|top| NamedConfusion {
                target: class_name(evaluation, top.target),
                predicted: class_name(evaluation, top.predicted),
                count: top.count,
            })
            .collect(),
        confusion,
    })?;
    json.push(b'\n');
    Ok(json)
}

/// One row per prediction; RFC 4180 without quoting, since every field is a number.
fn predictions(evaluation: &Evaluation) -> Result<String, ReportError> {
    let mut csv = String::from("index,target,predicted,probability,loss\n");
    for p in &evaluation.predictions {
        writeln!(csv, "{},{},{},{},{}", p.index, p.target, p.predicted, p.probability, p.loss)?;
    }
    Ok(csv)
}
