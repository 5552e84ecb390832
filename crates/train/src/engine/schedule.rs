//! Learning-rate schedules as pure functions of the update's index.
//!
//! The whole state is the index and, for `plateau`, a factor, so a resumed run takes up exactly
//! where it stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::optim::LearningRate;
use burn::optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};

use crate::config::{ScheduleConfig, ScheduleName};

/// One-cycle starts at this share of the base rate (PyTorch's `OneCycleLR`, `div_factor` 25).
const ONE_CYCLE_START: f64 = 1.0 / 25.0;

/// A factor that the end of an epoch may lower; shared with the schedules of all parameter groups.
#[derive(Clone, Debug)]
pub struct PlateauFactor(Arc<AtomicU64>);

impl Default for PlateauFactor {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(1f64.to_bits())))
    }
}

impl PlateauFactor {
    /// The factor, from 1 down.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Replaces the factor.
    pub fn set(&self, factor: f64) {
        self.0.store(factor.to_bits(), Ordering::Relaxed);
    }
}

/// The rate of every update of a run.
#[derive(Clone, Debug)]
pub struct Schedule {
    config: ScheduleConfig,
    base: f64,
    updates_per_epoch: usize,
    total_updates: usize,
    next: usize,
    plateau: PlateauFactor,
}

impl Schedule {
    /// A schedule over `epochs` of `updates_per_epoch` each, starting from the first update.
    pub fn new(
        config: &ScheduleConfig,
        base: f64,
        updates_per_epoch: usize,
        epochs: usize,
        plateau: PlateauFactor,
    ) -> Self {
        Self {
            config: config.clone(),
            base,
            updates_per_epoch: updates_per_epoch.max(1),
            total_updates: updates_per_epoch.max(1) * epochs,
            next: 0,
            plateau,
        }
    }

    /// The rate of update `index` (from 0).
    pub fn rate(&self, index: usize) -> f64 {
        let config = &self.config;
        let warmup = (config.warmup_epochs * self.updates_per_epoch as f64).min(self.total_updates as f64);
        let index = index as f64;
        if index < warmup {
            let start = if config.name == ScheduleName::OneCycle { ONE_CYCLE_START } else { 0.0 };
            // The first update already moves: (index + 1) / warmup reaches 1 with the last warm-up update.
            return self.base * (start + (1.0 - start) * (index + 1.0) / warmup);
        }
        let rest = (self.total_updates as f64 - warmup - 1.0).max(1.0);
        let progress = ((index - warmup) / rest).clamp(0.0, 1.0);
        let last = config.final_factor;
        self.base
            * match config.name {
                ScheduleName::Constant => 1.0,
                ScheduleName::Step => {
                    let steps = index as usize / self.updates_per_epoch / config.step_epochs;
                    config.gamma.powi(i32::try_from(steps).unwrap_or(i32::MAX))
                }
                ScheduleName::Cosine | ScheduleName::OneCycle => {
                    last + (1.0 - last) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
                }
                ScheduleName::Linear => 1.0 - (1.0 - last) * progress,
                ScheduleName::Plateau => self.plateau.get(),
            }
    }
}

impl LrScheduler for Schedule {
    fn step(&mut self) -> LearningRate {
        let rate = self.rate(self.next);
        self.next += 1;
        rate
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new()
            .with_scalar("next", self.next as u64)
            .with_scalar("plateau", self.plateau.get())
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        // A record without these keys is not ours; the checkpoint's manifest has vouched for it.
        if let (Some(next), Some(plateau)) = (record.scalar::<u64>("next"), record.scalar::<f64>("plateau")) {
            self.next = next as usize;
            self.plateau.set(plateau);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(name: ScheduleName, warmup: f64) -> Schedule {
        let config = ScheduleConfig { name, warmup_epochs: warmup, final_factor: 0.1, ..Default::default() };
        Schedule::new(&config, 2.0, 10, 10, PlateauFactor::default())
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "expected {expected}, found {found}");
    }

    #[test]
    fn constant_step_and_linear_take_their_hand_computed_values() {
        close(schedule(ScheduleName::Constant, 0.0).rate(57), 2.0);
        let step = schedule(ScheduleName::Step, 0.0);
        close(step.rate(29), 2.0);
        close(step.rate(30), 0.2);
        close(step.rate(60), 0.02);
        let linear = schedule(ScheduleName::Linear, 0.0);
        close(linear.rate(0), 2.0);
        close(linear.rate(99), 0.2);
        close(linear.rate(33), 2.0 * (1.0 - 0.9 / 3.0));
    }

    #[test]
    fn cosine_starts_at_the_base_and_ends_at_the_final_factor() {
        let cosine = schedule(ScheduleName::Cosine, 0.0);
        close(cosine.rate(0), 2.0);
        close(cosine.rate(99), 0.2);
        close(cosine.rate(33), 2.0 * (0.1 + 0.9 * 0.75));
    }

    #[test]
    fn one_cycle_rises_from_a_25th_and_falls_to_the_final_factor() {
        let one_cycle = schedule(ScheduleName::OneCycle, 3.0);
        close(one_cycle.rate(0), 2.0 * (0.04 + 0.96 / 30.0));
        close(one_cycle.rate(29), 2.0);
        close(one_cycle.rate(99), 0.2);
        let peak = (0..100).map(|index| one_cycle.rate(index)).fold(0.0, f64::max);
        close(peak, 2.0);
    }

    #[test]
    fn a_record_brings_back_index_and_plateau() {
        let mut first = schedule(ScheduleName::Plateau, 0.0);
        first.step();
        first.plateau.set(0.25);
        let mut second = schedule(ScheduleName::Plateau, 0.0);
        second.load_record(first.to_record());
        close(second.step(), 0.5);
        assert_eq!(second.next, 2);
    }
}
