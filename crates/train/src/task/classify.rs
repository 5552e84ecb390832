//! One class a picture: the softmax of all logits, and the cross-entropy of the class that it is.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use data::{Batch, Labels};
use model::{TaskName, argmax};

use crate::config::TrainConfig;
use crate::task::error::TaskError;
use crate::task::kind::Task;

/// One class a picture.
#[derive(Clone, Copy, Debug)]
pub struct Classify;

impl Task for Classify {
    fn name(&self) -> TaskName {
        TaskName::Classify
    }

    fn check(&self, _: &TrainConfig) -> Result<(), TaskError> {
        Ok(())
    }

    fn loss(
        &self,
        logits: Tensor<2>,
        batch: &Batch,
        class_weights: Option<Tensor<1>>,
        label_smoothing: f32,
    ) -> Tensor<1> {
        match batch.probabilities.clone() {
            None => model::ops::cross_entropy(logits, batch.targets.clone(), class_weights, label_smoothing),
            Some(probabilities) => soft_cross_entropy(logits, probabilities, class_weights, label_smoothing),
        }
    }

    /// Rows with their largest value at the label.
    fn right(&self, logits: &[f32], classes: usize, labels: &Labels) -> usize {
        let rows = logits.chunks_exact(classes).zip(labels.iter());
        rows.filter(|(row, label)| **label == [argmax(row) as u32]).count()
    }

    fn has_average_precision(&self) -> bool {
        false
    }

    fn mean_average_precision(&self, _: &[f32], _: usize, _: &Labels) -> Option<f64> {
        None
    }
}

/// The mean cross-entropy between `probabilities` `[N, K]` and the softmax of `logits` `[N, K]`, as `CrossEntropyLoss`
/// of `PyTorch` has it for probabilities: each class's term is multiplied by its weight `[K]`, and the sum is divided by
/// `N`, not by the weights; `label_smoothing` of each target is spread over all classes. Gives `[1]`.
fn soft_cross_entropy(
    logits: Tensor<2>,
    probabilities: Tensor<2>,
    class_weights: Option<Tensor<1>>,
    label_smoothing: f32,
) -> Tensor<1> {
    let [samples, classes] = logits.dims();
    let targets =
        probabilities.mul_scalar(1.0 - label_smoothing).add_scalar(label_smoothing / classes as f32);
    let targets = match class_weights {
        Some(weights) => targets * weights.unsqueeze(),
        None => targets,
    };
    (targets * log_softmax(logits, 1)).sum().mul_scalar(-1.0 / samples as f64)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    // import torch
    // logits = torch.tensor([[1.0, 2.0, -0.5], [0.0, -1.0, 3.0]], requires_grad=True)
    // p = torch.tensor([[0.7, 0.3, 0.0], [0.1, 0.2, 0.7]])
    // loss = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]), label_smoothing=0.1)(logits, p)
    // loss.backward(); print(loss, logits.grad)
    #[test]
    fn soft_targets_as_pytorch() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_data([[1.0, 2.0, -0.5], [0.0, -1.0, 3.0]], &device).require_grad();
        let probabilities = Tensor::<2>::from_data([[0.7, 0.3, 0.0], [0.1, 0.2, 0.7]], &device);
        let weights = Tensor::<1>::from_data([1.0, 2.0, 0.5], &device);
        let loss = soft_cross_entropy(logits.clone(), probabilities, Some(weights), 0.1);
        let gradients = loss.backward();
        let loss = loss.into_scalar::<f32>();
        assert!((loss - 1.658_900_6).abs() < 1e-6, "{loss}");
        let gradient: Vec<f32> = logits.grad(&gradients).unwrap().into_data().iter::<f32>().collect();
        for (found, expected) in gradient.iter().zip([
            -0.168_442_6,
            0.140_355_7,
            0.028_086_9,
            -0.041_118_3,
            -0.205_774,
            0.246_892_3,
        ]) {
            assert!((found - expected).abs() < 1e-6, "{gradient:?}");
        }
    }

    /// With one class certain in every row, and no weights, it is the loss of hard targets.
    #[test]
    fn certain_targets_are_hard_ones() {
        let device = Device::flex();
        let logits = || Tensor::<2>::from_data([[1.0, 2.0, -0.5], [0.0, -1.0, 3.0]], &device);
        let certain = Tensor::<2>::from_data([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], &device);
        let targets = Tensor::from_data(TensorData::new(vec![1, 0], [2]), &device);
        for smoothing in [0.0, 0.2] {
            let soft = soft_cross_entropy(logits(), certain.clone(), None, smoothing).into_scalar::<f32>();
            let hard = model::ops::cross_entropy(logits(), Tensor::clone(&targets), None, smoothing);
            let hard = hard.into_scalar::<f32>();
            assert!((soft - hard).abs() < 1e-6, "{soft}, {hard}");
        }
    }
}
