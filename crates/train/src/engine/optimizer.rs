//! The update rules, with PyTorch's conventions.
//!
//! Burn has these too, but its state loads onto `Device::default()`, which is a GPU whenever one was
//! compiled in and fails where there is none; and Adam here is one pass over memory on the CPU. The
//! state below always loads onto the CPU and moves to the parameter's device with the next update.

use burn::optim::lr_scheduler::LrScheduler;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::optim::{LearningRate, ModuleOptimizer, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};
use model::LayerGroups;
use model::ops::AdamStep;

use crate::config::{OptimizerConfig, OptimizerName, TrainConfig};
use crate::device::processor;
use crate::engine::freeze::rate_factors;

/// Momentum, squared average or both moments of one parameter, and how many updates it has seen.
#[derive(Clone, Debug)]
pub struct Moments<const D: usize> {
    updates: usize,
    first: Option<Tensor<D>>,
    second: Option<Tensor<D>>,
}

impl<const D: usize> RecordState for Moments<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "updates", (self.updates as u64).into());
        for (name, tensor) in [("first", &self.first), ("second", &self.second)] {
            if let Some(tensor) = tensor {
                out.push_tensor(prefix, name, tensor.to_data());
            }
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, _device: &Device) -> Option<Self> {
        let updates = u64::try_from(src.take_scalar(prefix, "updates")?).ok()?;
        let mut tensor =
            |name| src.take_tensor(prefix, name).map(|data| Tensor::from_data(data, &processor()));
        Some(Self { updates: updates as usize, first: tensor("first"), second: tensor("second") })
    }
}

/// One update rule for one parameter.
#[derive(Clone, Debug)]
pub struct Rule {
    config: OptimizerConfig,
}

impl Optimizer for Rule {
    type State<const D: usize> = Moments<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Moments<D>>,
    ) -> (Tensor<D>, Option<Moments<D>>) {
        let mut state = state.unwrap_or(Moments { updates: 0, first: None, second: None });
        state.updates += 1;
        let config = &self.config;
        let parameter = match config.name {
            OptimizerName::Adam | OptimizerName::AdamW => {
                let step = AdamStep {
                    beta_1: config.beta_1 as f32,
                    beta_2: config.beta_2 as f32,
                    epsilon: config.epsilon as f32,
                    weight_decay: config.weight_decay as f32,
                    decoupled: config.name == OptimizerName::AdamW,
                    learning_rate: rate,
                    step: state.updates,
                };
                let first = state.first.take().unwrap_or_else(|| gradient.zeros_like());
                let second = state.second.take().unwrap_or_else(|| gradient.zeros_like());
                let (parameter, first, second) =
                    model::ops::adam_step(parameter, gradient, first, second, &step);
                state.first = Some(first);
                state.second = Some(second);
                parameter
            }
            // Sutskever et al. 2013 with PyTorch's form of Nesterov's momentum; no dampening.
            OptimizerName::Sgd => {
                let gradient = decayed(&parameter, gradient, config.weight_decay);
                let momentum = config.momentum();
                let step = if momentum > 0.0 {
                    let velocity = match state.first.take() {
                        Some(velocity) => velocity.mul_scalar(momentum) + gradient.clone(),
                        None => gradient.clone(),
                    };
                    state.first = Some(velocity.clone());
                    if config.nesterov { gradient + velocity.mul_scalar(momentum) } else { velocity }
                } else {
                    gradient
                };
                parameter - step.mul_scalar(rate)
            }
            OptimizerName::RmsProp => {
                let gradient = decayed(&parameter, gradient, config.weight_decay);
                let square = gradient.clone().square().mul_scalar(1.0 - config.alpha);
                let average = match state.second.take() {
                    Some(average) => average.mul_scalar(config.alpha) + square,
                    None => square,
                };
                state.second = Some(average.clone());
                let step = gradient / (average.sqrt() + config.epsilon);
                let momentum = config.momentum();
                let step = if momentum > 0.0 {
                    let velocity = match state.first.take() {
                        Some(velocity) => velocity.mul_scalar(momentum) + step,
                        None => step,
                    };
                    state.first = Some(velocity.clone());
                    velocity
                } else {
                    step
                };
                parameter - step.mul_scalar(rate)
            }
        };
        (parameter, Some(state))
    }

    fn to_device<const D: usize>(mut state: Moments<D>, device: &Device) -> Moments<D> {
        state.first = state.first.map(|tensor| tensor.to_device(device));
        state.second = state.second.map(|tensor| tensor.to_device(device));
        state
    }
}

/// L2 as part of the gradient.
fn decayed<const D: usize>(parameter: &Tensor<D>, gradient: Tensor<D>, decay: f64) -> Tensor<D> {
    if decay > 0.0 { gradient + parameter.clone().mul_scalar(decay) } else { gradient }
}

/// The optimiser of a run.
pub fn optimizer(config: &TrainConfig) -> ModuleOptimizer {
    ModuleOptimizer::from(Rule { config: config.optimizer.clone() })
}

/// The learning rates of a run: one schedule, and another for every layer group to which fine-tuning gives a rate of
/// its own.
pub fn learning_rates<S: LrScheduler + 'static>(
    config: &TrainConfig,
    groups: &LayerGroups,
    schedule: impl Fn(f64) -> S,
) -> ModuleLrScheduler {
    let base = config.optimizer.rate();
    let factors = config.finetune.as_ref().map_or_else(Vec::new, |finetune| rate_factors(finetune, groups));
    factors.into_iter().fold(ModuleLrScheduler::new(schedule(base)), |scheduler, (group, factor)| {
        scheduler.with_group(group, schedule(base * factor))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three updates with the gradients that `reference` uses, too.
    fn three_updates(config: OptimizerConfig) -> Vec<f32> {
        let device = Device::flex();
        let rule = Rule { config };
        let mut parameter = Tensor::<1>::from_floats([1.0, -2.0], &device);
        let mut state = None;
        for gradient in [[0.1, 0.2], [-0.3, 0.4], [0.5, -0.6]] {
            let gradient = Tensor::<1>::from_floats(gradient, &device);
            (parameter, state) = rule.step(0.1, parameter, gradient, state);
        }
        parameter.into_data().try_to_vec().unwrap()
    }

    fn reference(rule: impl Fn(f64, usize, &mut [f64; 2], f64) -> f64) -> Vec<f64> {
        let gradients = [[0.1, 0.2], [-0.3, 0.4], [0.5, -0.6]];
        [1.0, -2.0]
            .iter()
            .enumerate()
            .map(|(i, start)| {
                let (mut parameter, mut state) = (*start, [0.0; 2]);
                for (t, gradient) in gradients.iter().enumerate() {
                    parameter = rule(gradient[i], t + 1, &mut state, parameter);
                }
                parameter
            })
            .collect()
    }

    fn check(config: OptimizerConfig, rule: impl Fn(f64, usize, &mut [f64; 2], f64) -> f64) {
        let name = config.name;
        for (found, expected) in three_updates(config).iter().zip(reference(rule)) {
            assert!((f64::from(*found) - expected).abs() < 2e-6, "{name:?}: {found} for {expected}");
        }
    }

    #[test]
    fn every_rule_equals_its_formula_in_f64() {
        let base = OptimizerConfig { weight_decay: 0.01, ..Default::default() };
        check(
            OptimizerConfig { name: OptimizerName::Sgd, nesterov: true, ..base.clone() },
            |gradient, _, state, parameter| {
                let gradient = gradient + 0.01 * parameter;
                state[0] = 0.9 * state[0] + gradient;
                parameter - 0.1 * (gradient + 0.9 * state[0])
            },
        );
        let adam = |decoupled: bool| {
            move |gradient: f64, t: usize, state: &mut [f64; 2], parameter: f64| {
                let gradient = if decoupled { gradient } else { gradient + 0.01 * parameter };
                let parameter = if decoupled { parameter * (1.0 - 0.1 * 0.01) } else { parameter };
                state[0] = 0.9 * state[0] + 0.1 * gradient;
                state[1] = 0.999 * state[1] + 0.001 * gradient * gradient;
                let t = i32::try_from(t).unwrap();
                let first = state[0] / (1.0 - 0.9f64.powi(t));
                let second = state[1] / (1.0 - 0.999f64.powi(t));
                parameter - 0.1 * first / (second.sqrt() + 1e-8)
            }
        };
        check(OptimizerConfig { name: OptimizerName::Adam, ..base.clone() }, adam(false));
        check(OptimizerConfig { name: OptimizerName::AdamW, ..base.clone() }, adam(true));
        check(
            OptimizerConfig { name: OptimizerName::RmsProp, momentum: Some(0.5), ..base },
            |gradient, _, state, parameter| {
                let gradient = gradient + 0.01 * parameter;
                state[1] = 0.99 * state[1] + 0.01 * gradient * gradient;
                state[0] = 0.5 * state[0] + gradient / (state[1].sqrt() + 1e-8);
                parameter - 0.1 * state[0]
            },
        );
    }
}
