//! The end of a run: its best weights tested once, the model file and the report.

use std::collections::BTreeMap;

use burn::optim::OptimizerRecord;
use burn::tensor::Bytes;
use data::Dataset;
use evaluation::confidence::coverage;
use evaluation::metrics::Prediction;
use evaluation::report::{
    ReportImage, ReportInput, SetReportInput, Subject, overfitting_notice, render, render_sets,
};
use model::{Description, InputShape, Network};
use serde_json::json;

use crate::engine::ending::{Ending, LoopResult};
use crate::fit::context::{Finished, Outcome};
use crate::fit::error::FitError;
use crate::fit::experiment::Experiment;
use crate::fit::verdict::{Judged, Verdict};
use crate::run::checkpoint::TrainingState;
use crate::run::files::sha256_hex;
use crate::run::folder::MODEL_FILE;
use crate::run::record::{RunRecord, RunResult};
use crate::task::Splits;

impl Experiment {
    /// Loads the best epoch's weights, tests them once, and writes model file and report.
    pub(super) fn conclude(
        &mut self,
        data: &Splits,
        looped: &LoopResult,
        last_network: &Network,
        record: &RunRecord,
    ) -> Result<Outcome, FitError> {
        let store = self.run.checkpoints();
        match looped.ending {
            Ending::Finished => {}
            Ending::EarlyStopped(epoch) => {
                tracing::info!("validation has stopped improving: early stop after epoch {epoch}");
            }
            Ending::Interrupted(step) => {
                return Ok(Outcome::Interrupted { run: self.run.path().to_owned(), step });
            }
            Ending::Diverged { split, epoch, step, loss, learning_rate } => {
                let advice = match store.newest() {
                    Some(snapshot) => format!(
                        "The last good checkpoint is {} (epoch {}). Start again with a lower --learning-rate, with \
                         --set regularization.clip_norm=1, or with a warm-up.",
                        store.path(snapshot.state.step).display(),
                        snapshot.state.epoch
                    ),
                    None => "There is no checkpoint yet. Start again with a lower --learning-rate, with \
                               --set regularization.clip_norm=1, or with a warm-up."
                        .to_owned(),
                };
                return Err(FitError::Diverged { split, loss, step, epoch, learning_rate, advice });
            }
            Ending::Failed => return Err(FitError::Training("the loop ended early".to_owned())),
        }
        let state = &looped.state;
        let best =
            state.best.clone().ok_or_else(|| FitError::Training("no epoch was validated".to_owned()))?;
        let network = self.weights_of(&store.read(best.step)?)?;
        let optimizer_sha256 = optimizer_sha256(&store.read(state.step)?.optimizer)?;

        let config = &self.config;
        let class_names = &data.training.class_names;
        let (subset, images, _) = data.held_out();
        let preprocessing = &data.pair.preprocessing;
        let Verdict {
            confidence,
            task,
            calibration,
            accuracy,
            macro_f1,
            mean_loss,
            without_samples,
            baseline,
            multi_label,
            judged,
        } = Verdict::of(&network, data, &best, &self.device)?;
        let updates = state.step.div_ceil(config.regularization.accumulate);
        let train_accuracy = state.epochs.iter().find(|epoch| epoch.epoch == best.epoch);
        let train_accuracy = train_accuracy.map_or(0.0, |epoch| epoch.train_accuracy);
        let notice = baseline.as_ref().and_then(|baseline| baseline.notice(subset, updates, train_accuracy));
        if let Some(notice) = &notice {
            tracing::warn!("{notice}");
        }
        let tested = |figure: f64| data.is_tested().then_some(figure);
        let test_accuracy = tested(accuracy);
        let test_macro_f1 = macro_f1.filter(|_| data.is_tested());

        let weights_sha256 = model::weights_sha256(&network);
        let mut provenance = BTreeMap::from([
            ("run".to_owned(), json!(self.run.name())),
            ("command".to_owned(), json!(record.command)),
            ("dataset".to_owned(), json!(config.data.dataset)),
            ("data_sha256".to_owned(), json!(record.data_sha256)),
            ("content_sha256".to_owned(), json!(record.data.as_ref().map(|data| &data.content_sha256))),
            ("changed_data".to_owned(), json!(record.changed_data)),
            ("backend".to_owned(), json!(config.backend.to_string())),
            ("seed".to_owned(), json!(config.seed)),
            ("epochs".to_owned(), json!(state.epochs.len())),
            ("best_epoch".to_owned(), json!(best.epoch)),
            ("seconds".to_owned(), json!(state.seconds)),
            ("train_samples_per_second".to_owned(), json!(median_rate(state))),
            ("valid_accuracy".to_owned(), json!(best.valid_accuracy)),
            ("test_accuracy".to_owned(), json!(test_accuracy)),
            ("test_macro_f1".to_owned(), json!(test_macro_f1)),
            ("config".to_owned(), json!(self.config_text)),
        ]);
        if let Some(multi_label) = &multi_label {
            let figures = json!({
                "valid_mean_average_precision": multi_label.valid_mean_average_precision,
                "subset": multi_label.subset,
                "mean_average_precision": multi_label.figures.mean_average_precision,
                "micro_f1": multi_label.figures.micro_f1,
                "macro_f1": multi_label.figures.macro_f1,
            });
            provenance.insert("multi_label".to_owned(), figures);
        }
        let description = Description {
            network: config.network.clone(),
            preprocessing: preprocessing.clone(),
            classes: class_names.clone(),
            task,
            provenance,
            confidence: Some(confidence),
            seen: data.seen(self.seen_before.as_ref()),
        };
        let bytes = model::encode(&network, description)?;
        self.run.write(MODEL_FILE, &bytes)?;

        let result = RunResult {
            run: self.run.path().display().to_string(),
            model: self.run.model_path().display().to_string(),
            dataset: config.data.dataset.clone(),
            backend: config.backend.to_string(),
            seed: config.seed,
            epochs: state.epochs.len(),
            best_epoch: best.epoch,
            parameters: record.parameters,
            valid_accuracy: best.valid_accuracy,
            valid_loss: best.valid_loss,
            test_accuracy,
            test_loss: tested(mean_loss),
            test_macro_f1,
            multi_label,
            classes_without_images: without_samples,
            train_samples_per_second: median_rate(state),
            seconds: state.seconds,
            model_bytes: bytes.len() as u64,
            weights_sha256,
            last_weights_sha256: model::weights_sha256(last_network),
            optimizer_sha256,
            calibration,
            baseline_accuracy: baseline.as_ref().map(|baseline| baseline.share),
            no_better_than_chance: notice.is_some(),
        };
        let notices: Vec<String> = notice.into_iter().collect();
        self.write_report(data, state, (subset, images, &judged), &notices, &result, record)?;
        let loaded = self.loaded.take();
        Ok(Outcome::Finished(Box::new(Finished { result, loaded })))
    }

    fn write_report(
        &self,
        data: &Splits,
        state: &TrainingState,
        (subset, images, judged): (&str, &Dataset, &Judged),
        notices: &[String],
        result: &RunResult,
        record: &RunRecord,
    ) -> Result<(), FitError> {
        let test_figures = result.test_accuracy.zip(result.test_macro_f1);
        let calibration = result.calibration.as_ref().map_or_else(String::new, |calibration| {
            format!(
                "temperature {:.3}; expected calibration error on test {:.2} %, {:.2} % without it",
                calibration.temperature,
                calibration.test_error * 100.0,
                calibration.test_error_before * 100.0
            )
        });
        let map = result.multi_label.as_ref().and_then(|found| found.valid_mean_average_precision);
        let what = match map {
            Some(map) => ("Validation, all labels right", format!(", mAP {map:.4}")),
            None => ("Validation accuracy", String::new()),
        };
        let facts = [
            ("Command", record.command.clone()),
            ("Data set", format!("{} (from {})", result.dataset, data.pair.origin)),
            (
                "Images",
                format!(
                    "{} train, {} valid, {} test",
                    data.train.len(),
                    data.valid.len(),
                    data.pair.test.len()
                ),
            ),
            ("Network", record.network.clone()),
            ("Parameters", result.parameters.to_string()),
            (
                "Backend",
                match &record.adapter {
                    Some(adapter) => format!("{} on {adapter}", result.backend),
                    None => {
                        format!(
                            "{} (kernels: {}, {} threads)",
                            result.backend, record.kernels, record.threads
                        )
                    }
                },
            ),
            ("Seed", result.seed.to_string()),
            ("Epochs", format!("{} (best: {})", result.epochs, result.best_epoch)),
            (what.0, format!("{:.2} %{}", result.valid_accuracy * 100.0, what.1)),
            (
                "Test",
                test_figures.map_or_else(
                    || {
                        let reason = if self.config.test {
                            "there is no image to test on"
                        } else {
                            "not read: this run is one of several to choose from"
                        };
                        reason.to_owned()
                    },
                    |(accuracy, f1)| format!("accuracy {:.2} %, macro F1 {f1:.4}", accuracy * 100.0),
                ),
            ),
            ("Calibration", calibration),
            ("Training", format!("{:.0} s, {:.0} images/s", result.seconds, result.train_samples_per_second)),
            ("Weights SHA-256", result.weights_sha256.clone()),
        ];
        let facts: Vec<(String, String)> =
            facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let subject = Subject {
            title: &self.run.name(),
            facts: &facts,
            notices,
            epochs: &state.epochs,
            best_epoch: Some(result.best_epoch),
            subset,
            name: &|index| images.name_of(index as usize),
            image: &|index| picture(images, index),
        };
        let files = match judged {
            Judged::Classes(evaluation, answers) => {
                let right = evaluation.predictions.iter().map(Prediction::is_correct);
                let answered: Vec<(f32, bool)> =
                    answers.iter().map(|answer| answer.probability).zip(right).collect();
                render(&ReportInput { subject, evaluation, coverage: &coverage(&answered), answers })?
            }
            Judged::Sets(evaluation) => render_sets(&SetReportInput { subject, evaluation })?,
        };
        if let Some(notice) = overfitting_notice(&state.epochs) {
            tracing::warn!("{notice}");
        }
        self.run.write_report(&files)?;
        Ok(())
    }
}

fn picture(dataset: &Dataset, index: u32) -> Option<ReportImage<'_>> {
    let InputShape { channels, height, width } = dataset.shape;
    let known = (index as usize) < dataset.len();
    known.then(|| ReportImage { channels, height, width, pixels: dataset.image(index as usize).into() })
}

/// Digest of the optimiser's state; reading sorts by name, so the order of a hash map has no part in it.
fn optimizer_sha256(bytes: &[u8]) -> Result<String, FitError> {
    let canonical = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(bytes.to_vec()))
        .and_then(OptimizerRecord::into_bytes)
        .map_err(|error| FitError::Record(error.to_string()))?;
    Ok(sha256_hex(&canonical))
}

fn median_rate(state: &TrainingState) -> f64 {
    let mut rates: Vec<f64> = state.epochs.iter().map(|epoch| epoch.samples_per_second).collect();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}
