//! Softmax cross-entropy.

use burn::tensor::{Int, Tensor};

use crate::compose;

/// The mean softmax cross-entropy, as `CrossEntropyLoss` of `PyTorch`: `logits [N, K]`, `targets
/// [N]` (class indices), `class_weights [K]`, `label_smoothing` in `[0, 1)`; gives `[1]`.
///
/// With class weights the mean is weighted by the weight of each target. Gradients flow to the
/// logits only.
///
/// # Panics
/// Sizes that do not fit, or a target outside `0..K`.
pub fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    class_weights: Option<Tensor<1>>,
    label_smoothing: f32,
) -> Tensor<1> {
    compose::cross_entropy(logits, targets, class_weights, label_smoothing)
}
