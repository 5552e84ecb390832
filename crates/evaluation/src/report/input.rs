//! What a report is made from, and the files that come out.

use super::mistakes::ReportImage;
use crate::confidence::CoveragePoint;
use crate::metrics::Evaluation;
use crate::metrics_log::EpochRecord;
use crate::multi_label::SetEvaluation;

/// What a page says first, whatever the task, and what its images are.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Heading of the page: the name of the run or the model file.
    pub title: &'a str,
    /// What the page tells about the run, in this order: data set, backend, network, parameters, seed, ...
    pub facts: &'a [(String, String)],
    /// What a reader must not overlook, above everything else.
    pub notices: &'a [String],
    /// Ascending; empty for a model whose training is not known: then there are no curves.
    pub epochs: &'a [EpochRecord],
    /// The epoch whose weights were kept.
    pub best_epoch: Option<usize>,
    /// Which images were evaluated: `test` or `validation`.
    pub subset: &'a str,
    /// What the image at a position of the evaluated data set is called: its file, or `#` and its position.
    pub name: &'a dyn Fn(u32) -> String,
    /// Gives the image at a position of the evaluated data set; `None` leaves its mistake off the sheet.
    pub image: &'a dyn Fn(u32) -> Option<ReportImage<'a>>,
}

/// What a report is made from.
pub struct ReportInput<'a> {
    /// Whose report it is.
    pub subject: Subject<'a>,
    /// The predictions on its images.
    pub evaluation: &'a Evaluation,
    /// What is gained by refusing unsure answers, see [`crate::confidence::coverage`]; empty where it is not known.
    pub coverage: &'a [CoveragePoint],
    /// The calibrated probability of each answer, and whether it would be rejected when nothing else is asked for: one
    /// for each prediction, in their order. Empty where it is not known: then probabilities are the network's own.
    pub answers: &'a [Answer],
}

/// What the report of a multi-label model is made from.
pub struct SetReportInput<'a> {
    /// Whose report it is.
    pub subject: Subject<'a>,
    /// The predictions on its images.
    pub evaluation: &'a SetEvaluation,
}

/// How far an answer is to be believed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Probability of the predicted class, with the model's temperature.
    pub probability: f32,
    /// Whether it would be rejected when nothing else is asked for.
    pub rejected: bool,
}

/// A file of the report.
pub struct ReportFile {
    /// Without a folder.
    pub name: &'static str,
    /// Its whole content.
    pub bytes: Vec<u8>,
}
