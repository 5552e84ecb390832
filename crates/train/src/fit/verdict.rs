//! What a trained network is worth on the images that were held out, by its task.

use burn::tensor::Device;
use evaluation::baseline::MajorityBaseline;
use evaluation::confidence::{Calibration, Scored, fit_confidence};
use evaluation::metrics::Evaluation;
use evaluation::multi_label::{self, SetEvaluation};
use evaluation::report::{Answer, sets_without_samples_notice, without_samples_notice};
use model::{Confidence, Fit, Network, Policy, TaskName};

use crate::engine::evaluate::{evaluate, evaluate_sets};
use crate::fit::error::FitError;
use crate::run::checkpoint::BestEpoch;
use crate::run::record::MultiLabelResult;
use crate::task::Splits;

/// The one look at the test split, for a run that is not one of several to choose from; of others their validation
/// images. What is fitted is fitted to those.
pub(super) struct Verdict {
    /// What calibrates the answers.
    pub(super) confidence: Confidence,
    /// What the logits mean.
    pub(super) task: model::Task,
    pub(super) calibration: Option<Calibration>,
    /// Share of images that are right, 0 to 1.
    pub(super) accuracy: f64,
    pub(super) macro_f1: Option<f64>,
    pub(super) mean_loss: f64,
    pub(super) without_samples: Vec<String>,
    pub(super) baseline: Option<MajorityBaseline>,
    pub(super) multi_label: Option<MultiLabelResult>,
    pub(super) judged: Judged,
}

/// Every single answer.
pub(super) enum Judged {
    /// One class a picture, with calibrated probabilities, and whether `predict` would reject them by default.
    Classes(Evaluation, Vec<Answer>),
    /// Any number of classes a picture.
    Sets(SetEvaluation),
}

impl Verdict {
    /// Judges the network of the epoch `best`.
    pub(super) fn of(
        network: &Network,
        data: &Splits,
        best: &BestEpoch,
        device: &Device,
    ) -> Result<Self, FitError> {
        match data.task() {
            TaskName::Classify => Self::of_classes(network, data, device),
            TaskName::MultiLabel => Self::of_sets(network, data, best, device),
        }
    }

    fn of_classes(network: &Network, data: &Splits, device: &Device) -> Result<Self, FitError> {
        let (subset, images, indices) = data.held_out();
        let (preprocessing, class_names) = (&data.pair.preprocessing, &data.training.class_names);
        let evaluation = evaluate(network, preprocessing, class_names, images, &indices, device)?;
        if let Some(notice) = without_samples_notice(&evaluation, subset) {
            tracing::warn!("{notice}");
        }
        let valid = Scored::of(network, preprocessing, &data.training, &data.valid, device)?;
        let confidence = fit_confidence(network, preprocessing, &data.training, &data.train, &valid, device)?;
        let judged = Scored::of(network, preprocessing, images, &indices, device)?;
        let calibration = data.is_tested().then(|| Calibration::measure(&confidence, &valid, &judged));
        let answers = calibrated_answers(&confidence, preprocessing.fit, &judged);
        Ok(Self {
            confidence,
            task: model::Task::Classify,
            calibration,
            accuracy: evaluation.accuracy(),
            macro_f1: evaluation.confusion.macro_average().f1,
            mean_loss: evaluation.mean_loss,
            without_samples: evaluation.without_samples(),
            baseline: MajorityBaseline::of(&evaluation.confusion),
            multi_label: None,
            judged: Judged::Classes(evaluation, answers),
        })
    }

    fn of_sets(
        network: &Network,
        data: &Splits,
        best: &BestEpoch,
        device: &Device,
    ) -> Result<Self, FitError> {
        let (subset, images, indices) = data.held_out();
        let preprocessing = &data.pair.preprocessing;
        let valid = Scored::scores_of(network, preprocessing, &data.training, &data.valid, device)?;
        let logits: Vec<&[f32]> = valid.iter().map(|scores| &scores.logits[..]).collect();
        let (temperature, thresholds) = multi_label::fit(&logits, &data.training.labels.subset(&data.valid));
        let confidence = Confidence { temperature, novelty: None };
        let task = model::Task::MultiLabel { thresholds };
        let evaluation = evaluate_sets(
            network,
            preprocessing,
            &data.training.class_names,
            (&task, temperature),
            images,
            &indices,
            device,
        )?;
        if let Some(notice) = sets_without_samples_notice(&evaluation, subset) {
            tracing::warn!("{notice}");
        }
        let figures = evaluation.figures();
        Ok(Self {
            confidence,
            task,
            calibration: None,
            accuracy: figures.subset_accuracy,
            macro_f1: figures.macro_f1,
            mean_loss: evaluation.mean_loss,
            without_samples: evaluation.without_samples(),
            baseline: None,
            multi_label: Some(MultiLabelResult {
                valid_mean_average_precision: best.valid_mean_average_precision,
                subset: subset.to_owned(),
                figures,
                per_class: evaluation.per_class(),
            }),
            judged: Judged::Sets(evaluation),
        })
    }
}

/// The answers to `judged` with calibrated probabilities, and whether `predict` would reject them by default.
fn calibrated_answers(confidence: &Confidence, fit: Fit, judged: &Scored) -> Vec<Answer> {
    let keep = Policy::default().keep;
    let answers = judged.answers(confidence.temperature).into_iter().zip(&judged.scores);
    answers
        .map(|((probability, _), scores)| Answer {
            probability,
            rejected: model::is_out_of_distribution(Some(confidence), fit, scores, keep),
        })
        .collect()
}
