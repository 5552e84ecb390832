//! Softmax cross-entropy.

/// The mean softmax cross-entropy, as `CrossEntropyLoss` of `PyTorch`, and its gradient for the logits `[N, K]`:
/// `targets` are `N` class indices, `class_weights` `[K]`, `label_smoothing` in `[0, 1)`.
///
/// The mean is weighted by the weight of each target; where all of them are 0 the loss is 0, and so are its gradients
/// (`PyTorch` divides zero by zero).
///
/// # Panics
/// No target, or one outside `0..K`; sizes that do not fit.
pub fn cross_entropy(
    logits: &[f32],
    targets: &[usize],
    class_weights: &[f32],
    label_smoothing: f32,
) -> (f32, Vec<f32>) {
    let samples = targets.len();
    let classes = logits.len() / samples;
    assert_eq!(logits.len(), samples * classes, "cross_entropy: length of logits");
    assert_eq!(class_weights.len(), classes, "cross_entropy: length of class_weights");
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

#[cfg(test)]
mod tests;
