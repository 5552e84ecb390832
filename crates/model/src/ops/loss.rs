//! Softmax cross-entropy.

use burn::tensor::{Int, Tensor};
use kernels::Path;

use super::{compose, extension};

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
