//! One pass of a network over labelled images.

use burn::tensor::Device;
use data::{Dataset, listed};
use evaluation::metrics::{Evaluation, MetricsError, Prediction};
use evaluation::multi_label::{SetEvaluation, SetPrediction};
use model::{Network, Preprocessing, Task, argmax};

/// Images per forward pass when nothing is learned.
pub(crate) const EVALUATION_BATCH: usize = 256;

/// Why an evaluation is refused.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// Images of another size than the network was trained on.
    #[error("{dataset} has images of {found}, the model takes {expected}")]
    Shape {
        /// The data set.
        dataset: String,
        /// Its images.
        found: String,
        /// The model's input.
        expected: String,
    },
    /// Other classes than the network was trained on, or in another order.
    #[error("{dataset} has the classes {found}; the model has {expected}, and counts them in this order")]
    Classes {
        /// The data set.
        dataset: String,
        /// Its classes.
        found: String,
        /// The model's.
        expected: String,
    },
    /// Images with several labels for a model that gives one, or the other way round.
    #[error("{dataset} has {found}, and the model answers with {expected}")]
    Task {
        /// The data set.
        dataset: String,
        /// What its labels are.
        found: &'static str,
        /// What the model's answers are.
        expected: &'static str,
    },
    /// Nothing to count.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The device could not be read.
    #[error("the backend did not give its result: {0}")]
    Device(String),
}

/// Classifies the images `indices` of a data set, in that order.
///
/// `network` must be on `device`, without autodiff; `class_names` are the model's, and the data set's too: data with
/// other classes goes through a [`data::ClassMap`] first.
///
/// # Errors
/// When the data does not fit the model, or there is none.
pub fn evaluate(
    network: &Network,
    preprocessing: &Preprocessing,
    class_names: &[String],
    dataset: &Dataset,
    indices: &[u32],
    device: &Device,
) -> Result<Evaluation, EvaluateError> {
    let mut predictions = Vec::with_capacity(indices.len());
    check(preprocessing, class_names, dataset, false)?;
    each_logits(network, preprocessing, dataset, indices, device, |index, logits| {
        predictions.push(predict(logits, index, dataset.labels[index as usize]));
    })?;
    Ok(Evaluation::new(class_names.to_vec(), predictions)?)
}

/// As [`evaluate`], for images with any number of classes: `task` and temperature are the model's.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_sets(
    network: &Network,
    preprocessing: &Preprocessing,
    class_names: &[String],
    (task, temperature): (&Task, f32),
    dataset: &Dataset,
    indices: &[u32],
    device: &Device,
) -> Result<SetEvaluation, EvaluateError> {
    let mut predictions = Vec::with_capacity(indices.len());
    check(preprocessing, class_names, dataset, true)?;
    each_logits(network, preprocessing, dataset, indices, device, |index, logits| {
        let targets = dataset.labels.of(index as usize);
        predictions.push(SetPrediction::new(index, targets, logits, temperature));
    })?;
    let thresholds = task.thresholds().unwrap_or_default().to_vec();
    Ok(SetEvaluation::new(class_names.to_vec(), thresholds, predictions)?)
}

fn check(
    preprocessing: &Preprocessing,
    class_names: &[String],
    dataset: &Dataset,
    is_sets: bool,
) -> Result<(), EvaluateError> {
    if dataset.labels.is_sets() != is_sets {
        let kind = |is_sets: bool| {
            if is_sets { "several labels a picture (multi-label)" } else { "one class a picture (classify)" }
        };
        return Err(EvaluateError::Task {
            dataset: dataset.name.clone(),
            found: kind(!is_sets),
            expected: kind(is_sets),
        });
    }
    if dataset.shape != preprocessing.input {
        return Err(EvaluateError::Shape {
            dataset: dataset.name.clone(),
            found: dataset.shape.to_string(),
            expected: preprocessing.input.to_string(),
        });
    }
    if dataset.class_names != class_names {
        return Err(EvaluateError::Classes {
            dataset: dataset.name.clone(),
            found: listed(&dataset.class_names),
            expected: listed(class_names),
        });
    }
    Ok(())
}

/// Tells the logits `[K]` of every image `indices`, in that order.
fn each_logits(
    network: &Network,
    preprocessing: &Preprocessing,
    dataset: &Dataset,
    indices: &[u32],
    device: &Device,
    mut tell: impl FnMut(u32, &[f32]),
) -> Result<(), EvaluateError> {
    let mut pixels = Vec::with_capacity(EVALUATION_BATCH * dataset.image_len());
    for chunk in indices.chunks(EVALUATION_BATCH) {
        pixels.clear();
        for index in chunk {
            pixels.extend_from_slice(dataset.image(*index as usize));
        }
        let logits = network.forward(preprocessing.batch(&pixels, chunk.len(), device));
        let classes = logits.dims()[1];
        let logits: Vec<f32> = logits
            .try_into_data()
            .map_err(|error| EvaluateError::Device(error.to_string()))?
            .iter::<f32>()
            .collect();
        for (row, index) in logits.chunks_exact(classes).zip(chunk) {
            tell(*index, row);
        }
    }
    Ok(())
}

/// Softmax and cross-entropy of one row of logits `[K]`, in `f64`.
fn predict(logits: &[f32], index: u32, target: u32) -> Prediction {
    let predicted = argmax(logits);
    let largest = f64::from(logits[predicted]);
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
    let log_probability = |class: usize| f64::from(logits[class]) - largest - sum.ln();
    Prediction {
        index,
        target,
        predicted: predicted as u32,
        probability: log_probability(predicted).exp() as f32,
        loss: -log_probability(target as usize) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probability_and_loss_of_hand_computed_logits() {
        // softmax of [0, ln 3] is [1/4, 3/4]
        let prediction = predict(&[0.0, 3f32.ln()], 7, 0);
        assert_eq!((prediction.index, prediction.target, prediction.predicted), (7, 0, 1));
        assert!((prediction.probability - 0.75).abs() < 1e-6);
        assert!((prediction.loss - 4f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let prediction = predict(&[1e4, -1e4], 0, 0);
        assert!(prediction.probability > 0.999 && prediction.loss.abs() < 1e-6);
    }
}
