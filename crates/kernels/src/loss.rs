//! Softmax cross-entropy.

use burn::tensor::{Int, Tensor};

use crate::{Path, compose, extension};

/// The mean softmax cross-entropy, as `CrossEntropyLoss` of `PyTorch`: `logits [N, K]`, `targets
/// [N]` (class indices), `class_weights [K]`, `label_smoothing` in `[0, 1)`; gives `[1]`.
///
/// With class weights the mean is weighted by the weight of each target; where all of them are 0 the loss is 0, and so
/// are its gradients (`PyTorch` divides zero by zero). Gradients flow to the logits only.
///
/// # Panics
/// Sizes that do not fit, or a target outside `0..K`.
pub fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    class_weights: Option<Tensor<1>>,
    label_smoothing: f32,
) -> Tensor<1> {
    cross_entropy_on(extension::path(), logits, targets, class_weights, label_smoothing)
}

/// [`cross_entropy`] on a given path.
pub(crate) fn cross_entropy_on(
    path: Path,
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    class_weights: Option<Tensor<1>>,
    label_smoothing: f32,
) -> Tensor<1> {
    let [samples, classes] = logits.dims();
    let fits = targets.dims() == [samples]
        && samples * classes > 0
        && class_weights.as_ref().is_none_or(|weights| weights.dims() == [classes]);
    if !fits
        || !extension::serves(path, &logits)
        || !extension::all_f32(&logits, &logits, class_weights.as_ref())
        || !extension::has_plain_indices(&targets)
    {
        return compose::cross_entropy(logits, targets, class_weights, label_smoothing);
    }
    extension::cross_entropy(logits, targets, class_weights, label_smoothing)
}

/// The loss, and its gradient for the logits `[N, K]`.
pub(crate) fn loss_and_gradient(
    logits: &[f32],
    targets: &[usize],
    class_weights: &[f32],
    label_smoothing: f32,
) -> (f32, Vec<f32>) {
    let samples = targets.len();
    let classes = logits.len() / samples;
    let mut gradient = Vec::with_capacity(logits.len());
    let mut total = 0.0_f64;
    let mut total_weight = 0.0_f64;
    let spread = label_smoothing / classes as f32;
    for (logits, &target) in logits.chunks_exact(classes).zip(targets) {
        assert!(target < classes, "cross_entropy: target {target} outside 0..{classes}");
        // A NaN must reach the loss: `f32::max` drops it, the sum below does not.
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let start = gradient.len();
        gradient.extend(logits.iter().map(|logit| (logit - largest).exp()));
        let row = &mut gradient[start..];
        let sum: f32 = row.iter().sum();
        let log_sum = sum.ln();
        let target_weight = class_weights[target];
        total_weight += f64::from(target_weight);
        let picked = log_sum - (logits[target] - largest);
        total += f64::from((1.0 - label_smoothing) * target_weight * picked);
        // Share of the weighted targets in the gradient of the log of the sum.
        let mut share = (1.0 - label_smoothing) * target_weight;
        if label_smoothing > 0.0 {
            for (class, &logit) in logits.iter().enumerate() {
                total += f64::from(spread * class_weights[class] * (log_sum - (logit - largest)));
                share += spread * class_weights[class];
            }
        }
        for (class, value) in row.iter_mut().enumerate() {
            let mut wanted = if label_smoothing > 0.0 { spread * class_weights[class] } else { 0.0 };
            if class == target {
                wanted += (1.0 - label_smoothing) * target_weight;
            }
            *value = *value / sum * share - wanted;
        }
    }
    if total_weight == 0.0 {
        // No target counts. What is no number stays none, so that training that diverged is noticed.
        for value in &mut gradient {
            *value *= 0.0;
        }
        return ((total * 0.0) as f32, gradient);
    }
    let scale = (1.0 / total_weight) as f32;
    for value in &mut gradient {
        *value *= scale;
    }
    ((total / total_weight) as f32, gradient)
}
