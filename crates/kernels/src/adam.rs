//! One update of Adam over one parameter.

use burn::tensor::Tensor;

use crate::compose;

/// The constants of one update (Kingma and Ba, 2015, algorithm 1; Loshchilov and Hutter, 2019, for
/// decoupled decay). The denominator is `sqrt(v_hat) + epsilon`, as in `PyTorch`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Strength of the weight decay; 0 for none.
    pub weight_decay: f32,
    /// Whether the decay shrinks the parameter (`AdamW`) or is added to the gradient (Adam with L2).
    pub decoupled: bool,
    /// Step size.
    pub learning_rate: f64,
    /// Number of this update, counted from 1.
    pub step: usize,
}

/// What [`AdamStep`] comes down to for one update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    /// `learning_rate / (1 - beta_1^step)`.
    pub(crate) rate: f32,
    /// `1 / sqrt(1 - beta_2^step)`.
    pub(crate) inverse_root_correction_2: f32,
    /// `1 - learning_rate * weight_decay`; 1 without decoupled decay.
    pub(crate) shrink: f32,
}

impl AdamStep {
    pub(crate) fn factors(&self) -> Factors {
        let step = self.step.max(1) as f64;
        let correction_1 = 1.0 - f64::from(self.beta_1).powf(step);
        let correction_2 = 1.0 - f64::from(self.beta_2).powf(step);
        let decay = if self.decoupled {
            f64::from(self.weight_decay)
        } else {
            0.0
        };
        Factors {
            rate: (self.learning_rate / correction_1) as f32,
            inverse_root_correction_2: (1.0 / correction_2.sqrt()) as f32,
            shrink: (1.0 - self.learning_rate * decay) as f32,
        }
    }
}

/// One update: gives the new parameter, first moment and second moment. The moments start at zero.
///
/// No gradient flows through it. Pass the only handle of the parameter and the moments and they are
/// updated in place.
pub fn adam_step<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    moment_1: Tensor<D>,
    moment_2: Tensor<D>,
    config: &AdamStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    compose::adam_step(parameter, gradient, moment_1, moment_2, config)
}
