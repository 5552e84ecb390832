//! One update of Adam over one parameter.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::{
    Path,
    simd::{self, Kernel, Simd},
};

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
pub struct Factors {
    /// `learning_rate / (1 - beta_1^step)`.
    pub rate: f32,
    /// `1 / sqrt(1 - beta_2^step)`.
    pub inverse_root_correction_2: f32,
    /// `1 - learning_rate * weight_decay`; 1 without decoupled decay.
    pub shrink: f32,
}

impl AdamStep {
    /// The factors of this update, found in double precision.
    pub fn factors(&self) -> Factors {
        let step = self.step.max(1) as f64;
        let correction_1 = 1.0 - f64::from(self.beta_1).powf(step);
        let correction_2 = 1.0 - f64::from(self.beta_2).powf(step);
        let decay = if self.decoupled { f64::from(self.weight_decay) } else { 0.0 };
        Factors {
            rate: (self.learning_rate / correction_1) as f32,
            inverse_root_correction_2: (1.0 / correction_2.sqrt()) as f32,
            shrink: (1.0 - self.learning_rate * decay) as f32,
        }
    }
}

/// Values that one task updates.
const VALUES_PER_TASK: usize = 16 * 1024;

/// The updated parameter; the moments are updated in place. The parameter has other holders in training (the
/// model is cloned for every update), so that writing it in place would mean a copy first.
///
/// # Panics
/// Slices of different lengths, or a processor without the path's instructions.
pub fn adam_step(
    path: Path,
    config: &AdamStep,
    parameter: &[f32],
    gradient: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
) -> Vec<f32> {
    let len = parameter.len();
    assert!(gradient.len() == len && moment_1.len() == len && moment_2.len() == len, "lengths");
    let factors = config.factors();
    let mut updated = Vec::with_capacity(len);
    let task = |((((updated, parameter), gradient), moment_1), moment_2): Part| {
        let kernel = Update { config, factors, updated, parameter, gradient, moment_1, moment_2 };
        // SAFETY: the kernel holds slices only.
        unsafe { simd::dispatch(path, kernel) };
    };
    let room = &mut updated.spare_capacity_mut()[..len];
    if len <= VALUES_PER_TASK {
        task(((((room, parameter), gradient), moment_1), moment_2));
    } else {
        room.par_chunks_mut(VALUES_PER_TASK)
            .zip(parameter.par_chunks(VALUES_PER_TASK))
            .zip(gradient.par_chunks(VALUES_PER_TASK))
            .zip(moment_1.par_chunks_mut(VALUES_PER_TASK))
            .zip(moment_2.par_chunks_mut(VALUES_PER_TASK))
            .for_each(task);
    }
    // SAFETY: the tasks have written all of them.
    unsafe { updated.set_len(len) };
    updated
}

/// A range of the room for the updated parameter, the parameter, its gradient and both moments, as zipped
/// iterators give it.
type Part<'a> = ((((&'a mut [MaybeUninit<f32>], &'a [f32]), &'a [f32]), &'a mut [f32]), &'a mut [f32]);

/// Zero instead of a subnormal number. The moments of a weight whose gradient stays zero decay into that
/// range and never leave it, and a processor takes a hundred times as long for each of them.
#[inline(always)]
fn flushed(value: f32) -> f32 {
    // A NaN passes.
    if value.abs() < f32::MIN_POSITIVE { 0.0 } else { value }
}

struct Update<'a> {
    config: &'a AdamStep,
    factors: Factors,
    updated: &'a mut [MaybeUninit<f32>],
    parameter: &'a [f32],
    gradient: &'a [f32],
    moment_1: &'a mut [f32],
    moment_2: &'a mut [f32],
}

impl Kernel for Update<'_> {
    type Output = ();

    // The compiler makes vectors of this loop, on each instruction set.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let AdamStep { beta_1, beta_2, epsilon, weight_decay, decoupled, .. } = *self.config;
        let Factors { rate, inverse_root_correction_2, shrink } = self.factors;
        let added_decay = if decoupled { 0.0 } else { weight_decay };
        let len = self.updated.len();
        let parameter = &self.parameter[..len];
        let (gradient, moment_1) = (&self.gradient[..len], &mut self.moment_1[..len]);
        let moment_2 = &mut self.moment_2[..len];
        for index in 0..len {
            let before = parameter[index] * shrink;
            let gradient = gradient[index] + added_decay * before;
            let first = beta_1 * moment_1[index] + (1.0 - beta_1) * gradient;
            let second = beta_2 * moment_2[index] + (1.0 - beta_2) * (gradient * gradient);
            let (first, second) = (flushed(first), flushed(second));
            moment_1[index] = first;
            moment_2[index] = second;
            let denominator = second.sqrt() * inverse_root_correction_2 + epsilon;
            self.updated[index].write(before - rate * (first / denominator));
        }
    }
}
