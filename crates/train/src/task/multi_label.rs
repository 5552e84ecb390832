//! Any number of classes a picture: the sigmoid of each logit, and the binary cross-entropy of each class.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;
use data::{Batch, Labels, Sampler};
use evaluation::multi_label::mean_average_precision;
use model::TaskName;

use crate::config::TrainConfig;
use crate::task::error::TaskError;
use crate::task::kind::Task;

/// Any number of classes a picture.
#[derive(Clone, Copy, Debug)]
pub struct MultiLabel;

impl Task for MultiLabel {
    fn name(&self) -> TaskName {
        TaskName::MultiLabel
    }

    fn check(&self, config: &TrainConfig) -> Result<(), TaskError> {
        let meaningless = |key, reason| Err(TaskError::Meaningless { task: self.name(), key, reason });
        if config.data.sampler != Sampler::Once {
            return meaningless(
                "data.sampler = \"balanced\"",
                "a picture has several classes, so they cannot come equally often; --class-weights balanced makes rare \
                 ones count more",
            );
        }
        if config.data.limit_per_class > 0 {
            return meaningless("data.limit_per_class", "a picture has several classes; use --limit");
        }
        Ok(())
    }

    /// The mean over images and classes, as `BCEWithLogitsLoss` of `PyTorch` with `weight` has it; a label smoothed by
    /// `s` is `1 - s / 2` where the class is on the picture and `s / 2` where it is not.
    fn loss(
        &self,
        logits: Tensor<2>,
        batch: &Batch,
        class_weights: Option<Tensor<1>>,
        label_smoothing: f32,
    ) -> Tensor<1> {
        let [images, classes] = logits.dims();
        let targets =
            batch.probabilities.clone().unwrap_or_else(|| Tensor::zeros([images, classes], &logits.device()));
        binary_cross_entropy(logits, targets, class_weights, label_smoothing)
    }

    /// Rows whose classes are all told with a probability of one half.
    fn right(&self, logits: &[f32], classes: usize, labels: &Labels) -> usize {
        let rows = logits.chunks_exact(classes).zip(labels.iter());
        let is_right = |(row, own): &(&[f32], &[u32])| {
            let said = row.iter().enumerate().filter(|(_, logit)| **logit >= 0.0);
            said.map(|(class, _)| class as u32).eq(own.iter().copied())
        };
        rows.filter(is_right).count()
    }

    fn has_average_precision(&self) -> bool {
        true
    }

    fn mean_average_precision(&self, logits: &[f32], classes: usize, labels: &Labels) -> Option<f64> {
        mean_average_precision(logits, classes, labels)
    }
}

/// The mean over all elements of the cross-entropy between `targets` `[N, K]`, from 0 to 1, and the sigmoid of `logits`
/// `[N, K]`: `-(y ln s(x) + (1 - y) ln s(-x))`, which is finite for every finite logit. Each class's terms are multiplied
/// by its weight `[K]`. Gives `[1]`.
fn binary_cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<2>,
    class_weights: Option<Tensor<1>>,
    label_smoothing: f32,
) -> Tensor<1> {
    let targets = match label_smoothing {
        0.0 => targets,
        smoothing => targets.mul_scalar(1.0 - smoothing).add_scalar(smoothing / 2.0),
    };
    let without = targets.clone().neg().add_scalar(1.0);
    let terms = targets * log_sigmoid(logits.clone()) + without * log_sigmoid(logits.neg());
    let terms = match class_weights {
        Some(weights) => terms * weights.unsqueeze(),
        None => terms,
    };
    terms.mean().neg()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    // import torch
    // logits = torch.tensor([[1.0, 2.0, -0.5], [0.0, -1.0, 3.0]], requires_grad=True)
    // y = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.25]]) * 0.9 + 0.05
    // loss = torch.nn.BCEWithLogitsLoss(weight=torch.tensor([1.0, 2.0, 0.5]))(logits, y)
    // The figures are those of the formula, computed in double precision.
    #[test]
    fn the_loss_and_its_gradient_are_those_of_the_formula() {
        let (x, y) = ([[1.0f32, 2.0, -0.5], [0.0, -1.0, 3.0]], [[1.0f32, 0.0, 1.0], [0.0, 1.0, 0.25]]);
        let weights = [1.0f64, 2.0, 0.5];
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_data(x, &device).require_grad();
        let class_weights = Tensor::<1>::from_data([1.0, 2.0, 0.5], &device);
        let loss =
            binary_cross_entropy(logits.clone(), Tensor::from_data(y, &device), Some(class_weights), 0.1);
        let gradients = loss.backward();
        let (mut sum, mut expected) = (0.0, Vec::new());
        for (x, y) in x.iter().zip(&y) {
            for class in 0..3 {
                let (x, y) = (f64::from(x[class]), f64::from(y[class]) * 0.9 + 0.05);
                let probability = 1.0 / (1.0 + (-x).exp());
                sum -= weights[class] * (y * probability.ln() + (1.0 - y) * (1.0 - probability).ln());
                expected.push(weights[class] * (probability - y) / 6.0);
            }
        }
        let loss = loss.into_scalar::<f32>();
        assert!((f64::from(loss) - sum / 6.0).abs() < 1e-6, "{loss}, expected {}", sum / 6.0);
        let gradient: Vec<f32> = logits.grad(&gradients).unwrap().into_data().iter::<f32>().collect();
        for (found, expected) in gradient.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{gradient:?}");
        }
    }

    #[test]
    fn large_logits_have_a_finite_loss_and_gradient() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_data([[90.0, -90.0, 90.0, -90.0]], &device).require_grad();
        let targets = Tensor::<2>::from_data([[1.0, 0.0, 0.0, 1.0]], &device);
        let loss = binary_cross_entropy(logits.clone(), targets, None, 0.0);
        let gradients = loss.backward();
        assert!((loss.into_scalar::<f32>() - 45.0).abs() < 1e-4);
        let gradient: Vec<f32> = logits.grad(&gradients).unwrap().into_data().iter::<f32>().collect();
        for (found, expected) in gradient.iter().zip([0.0, 0.0, 0.25, -0.25]) {
            assert!((found - expected).abs() < 1e-6, "{gradient:?}");
        }
    }

    #[test]
    fn an_image_is_right_with_all_of_its_classes() {
        let labels = Labels::Sets(vec![vec![0, 2], vec![], vec![1]]);
        let right = |logits: &[f32]| MultiLabel.right(logits, 3, &labels);
        assert_eq!(right(&[1.0, -1.0, 2.0, -1.0, -1.0, -1.0, -1.0, 1.0, -1.0]), 3);
        assert_eq!(right(&[1.0, -1.0, -2.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0]), 1);
    }

    #[test]
    fn what_has_no_meaning_is_refused_by_name() {
        let mut config = TrainConfig::default();
        assert!(MultiLabel.check(&config).is_ok());
        config.data.limit_per_class = 3;
        let error = MultiLabel.check(&config).unwrap_err().to_string();
        assert!(error.contains("data.limit_per_class") && error.contains("multi-label"), "{error}");
        config.data.sampler = Sampler::Balanced;
        let error = MultiLabel.check(&config).unwrap_err().to_string();
        assert!(error.contains("balanced") && error.contains("--class-weights"), "{error}");
    }
}
