//! The learning-rate range test (Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section
//! 3.3): one update after the other with a rate that grows from far too small to far too large, and what the loss
//! does. The network that comes out is thrown away.

use std::sync::atomic::Ordering;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn::optim::{GradientsAccumulator, LearningRate};
use burn_train::TrainStep;
use evaluation::report::{RangeTestPicture, render_range_test};
use serde::Serialize;
use train::config::TrainConfig;
use train::engine::optimizer::{learning_rates, optimizer};
use train::engine::step::{Objective, Trainable};
use train::fit::{FitError, RunContext};
use train::run::RunFolderError;
use train::run::folder::RunFolder;
use train::run::folder::short_name;
use train::seed::mix;
use train::start::{Start, initial_weights};
use train::task::{Splits, class_weights};

/// The test ends when the running mean of the loss is so many times its least value (fastai's rule).
const DIVERGED: f64 = 4.0;
/// Decay of that running mean: about the last ten losses.
const RUNNING_DECAY: f64 = 0.9;
/// Updates before it counts.
const SETTLING: usize = 10;
/// Width of the smoothing, as a share of all steps.
const SMOOTHING: f64 = 0.03;
/// A loss is as good as the least when it lies above it by less than this share of the whole fall.
const NEAR: f64 = 0.01;
/// How far below the rate of the least loss the suggestion lies, since there the loss no longer falls.
const SAFETY: f64 = 10.0;

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RangeTestConfig {
    /// The first rate.
    pub low: f64,
    /// The last rate, unless the loss diverges before.
    pub high: f64,
    /// Updates; each multiplies the rate by the same factor.
    pub steps: usize,
}

impl RangeTestConfig {
    /// The rate of a step, from 0.
    fn rate(&self, step: usize) -> f64 {
        self.low * (self.high / self.low).powf(step as f64 / (self.steps - 1) as f64)
    }
}

/// One update of the test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RangePoint {
    /// Learning rate.
    pub rate: f64,
    /// Loss of the batch before the update.
    pub loss: f64,
    /// The losses around it, weighted by a normal distribution.
    pub smoothed: f64,
}

/// What came out; with `--json`, what is printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RangeTest {
    /// The test's folder.
    pub run: String,
    /// Data set.
    pub dataset: String,
    /// From where to where.
    pub range: RangeTestConfig,
    /// A tenth of `least`; on a plateau `steepest`.
    pub suggestion: Option<f64>,
    /// The rate at which the smoothed loss is least, if it falls at all; on a plateau the first rate that comes near that.
    pub least: Option<f64>,
    /// Whether the loss stays near its least value while the rate grows tenfold: the data was learned before the rate
    /// was high, and where on the plateau the least value lies is chance.
    pub plateau: bool,
    /// The rate at which the smoothed loss falls fastest, per factor of the rate.
    pub steepest: Option<f64>,
    /// The rate at which the loss had become four times its least value, or no number.
    pub diverged: Option<f64>,
    /// Every update.
    pub points: Vec<RangePoint>,
}

/// Rates that grow by the same factor with every update, times the share that a layer group gets of the base rate.
#[derive(Clone)]
struct Growing {
    range: RangeTestConfig,
    share: f64,
    next: usize,
}

impl LrScheduler for Growing {
    fn step(&mut self) -> LearningRate {
        self.next += 1;
        self.share * self.range.rate(self.next - 1)
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("next", self.next as u64)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(next) = record.scalar::<u64>("next") {
            self.next = next as usize;
        }
    }
}

/// Runs the test and writes its folder; `None` when a signal stopped it.
///
/// # Errors
/// As [`train::fit::fit`], for what the two have in common.
pub fn range_test(
    config: &TrainConfig,
    range: RangeTestConfig,
    context: &RunContext,
    start: Start,
) -> Result<Option<RangeTest>, FitError> {
    RunFolder::check_free(&context.artifacts, context.name.as_deref())?;
    config.kernels.apply()?;
    let device = config.backend.device()?;
    let config = TrainConfig { test: false, ..config.clone() };
    let data = Splits::load(&config, &context.search)?;
    let Some((rates, losses, diverged)) = losses(&config, range, &data, &device, context, start)? else {
        return Ok(None);
    };
    let smoothed = smooth(&losses, (SMOOTHING * range.steps as f64).max(1.0));
    let steepest = steepest(&rates, &smoothed);
    let (least, plateau) = least(&rates, &smoothed).map_or((None, false), |(rate, flat)| (Some(rate), flat));
    let suggestion = suggested(least, plateau, steepest);

    let label = format!("{}-{}", context.command, short_name(&config.data.dataset));
    let run = RunFolder::create(&context.artifacts, context.name.as_deref(), &label)?;
    let points: Vec<RangePoint> = rates
        .iter()
        .zip(&losses)
        .zip(&smoothed)
        .map(|((rate, loss), smoothed)| RangePoint { rate: *rate, loss: *loss, smoothed: *smoothed })
        .collect();
    let test = RangeTest {
        run: run.path().display().to_string(),
        dataset: config.data.dataset.clone(),
        range,
        suggestion,
        least,
        plateau,
        steepest,
        diverged,
        points,
    };
    let picture = RangeTestPicture {
        points: test.points.iter().map(|point| [point.rate, point.loss, point.smoothed]).collect(),
        suggestion,
    };
    run.write("config.toml", config.to_toml()?.as_bytes())?;
    let text = serde_json::to_string_pretty(&test).map_err(|error| RunFolderError::Io {
        action: "serialise",
        path: run.path().join("lr-find.json"),
        source: error.into(),
    })?;
    run.write("lr-find.json", format!("{text}\n").as_bytes())?;
    run.write_report(&render_range_test(&picture)?)?;
    Ok(Some(test))
}

/// Rates and losses of the updates, and the rate of the one that diverged.
type Losses = (Vec<f64>, Vec<f64>, Option<f64>);

fn losses(
    config: &TrainConfig,
    range: RangeTestConfig,
    data: &Splits,
    device: &burn::tensor::Device,
    context: &RunContext,
    start: Start,
) -> Result<Option<Losses>, FitError> {
    let input = data.pair.preprocessing.input;
    let network = config.network.init(input, data.classes(), config.seed, device)?;
    let network = initial_weights(network, start, config, data)?.network;
    let weights = class_weights(&config.regularization.class_weights, data)?;
    let objective =
        Objective::new(data.task(), &config.regularization, weights, config.finetune.as_ref(), &network)?;
    let base = config.optimizer.rate();
    let mut rates = learning_rates(config, &network.layer_groups(), |group| Growing {
        range,
        share: group / base,
        next: 0,
    });
    let mut optimizer = optimizer(config);
    let training_device = device.clone().autodiff();
    let mut model = Trainable::new(network, objective).train().fork(&training_device);
    let loader = data.training_loader(config, &training_device)?;

    let (mut tried, mut losses) = (Vec::new(), Vec::new());
    let mut running = Running::default();
    let mut accumulator = GradientsAccumulator::new();
    let (mut accumulated, mut sum) = (0, 0.0);
    for epoch in 1.. {
        loader.seek(epoch, 0);
        for (number, batch) in loader.iter().enumerate() {
            if context.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let batch = batch.map_err(|error| FitError::Training(error.to_string()))?;
            training_device.seed(mix(&[config.seed, epoch as u64, number as u64]));
            let output = TrainStep::step(&model, batch);
            sum += f64::from(output.item.loss.clone().inner().into_scalar::<f32>());
            accumulator.accumulate(&model, output.grads);
            accumulated += 1;
            if accumulated < config.regularization.accumulate {
                continue;
            }
            let loss = sum / accumulated as f64;
            let rate = rates.step();
            if running.diverges(loss) {
                return Ok(Some((tried, losses, Some(rate.base()))));
            }
            tried.push(rate.base());
            losses.push(loss);
            if losses.len() == range.steps {
                return Ok(Some((tried, losses, None)));
            }
            model.objective().set_accumulated(accumulated);
            model = model.optimize(&mut optimizer, rate, accumulator.grads());
            (accumulated, sum) = (0, 0.0);
        }
    }
    Ok(None)
}

/// The mean of the last losses, and the least it has been.
#[derive(Default)]
struct Running {
    mean: f64,
    weight: f64,
    least: f64,
    steps: usize,
}

impl Running {
    /// Takes in a loss; whether the losses have left for good.
    fn diverges(&mut self, loss: f64) -> bool {
        if !loss.is_finite() {
            return true;
        }
        self.mean = RUNNING_DECAY * self.mean + (1.0 - RUNNING_DECAY) * loss;
        self.weight = RUNNING_DECAY * self.weight + (1.0 - RUNNING_DECAY);
        let mean = self.mean / self.weight;
        self.least = if self.steps == 0 { mean } else { self.least.min(mean) };
        self.steps += 1;
        self.steps > SETTLING && mean > DIVERGED * self.least
    }
}

/// The mean of the losses around each, weighted by a normal distribution of `width` steps, so that the curve is not
/// shifted towards larger rates as a running mean is.
fn smooth(losses: &[f64], width: f64) -> Vec<f64> {
    let reach = (3.0 * width).ceil() as usize;
    (0..losses.len())
        .map(|middle| {
            let around = middle.saturating_sub(reach)..losses.len().min(middle + reach + 1);
            let (sum, weights) = around.fold((0.0, 0.0), |(sum, weights), index| {
                let distance = (index as f64 - middle as f64) / width;
                let weight = (-0.5 * distance * distance).exp();
                (sum + weight * losses[index], weights + weight)
            });
            sum / weights
        })
        .collect()
}

/// The rate with the steepest fall of the loss before its least value; `None` when it never falls.
fn steepest(rates: &[f64], smoothed: &[f64]) -> Option<f64> {
    let least = (0..smoothed.len()).min_by(|a, b| smoothed[*a].total_cmp(&smoothed[*b]))?;
    let slope = |index: usize| smoothed[index + 1] - smoothed[index - 1];
    (1..least)
        .filter(|index| slope(*index) < 0.0)
        .min_by(|a, b| slope(*a).total_cmp(&slope(*b)))
        .map(|index| rates[index])
}

/// The rate with the least loss, and whether that lies on a plateau: then it is the first rate there. `None` when the
/// loss never falls.
fn least(rates: &[f64], smoothed: &[f64]) -> Option<(f64, bool)> {
    let least = (0..smoothed.len()).min_by(|a, b| smoothed[*a].total_cmp(&smoothed[*b]))?;
    if least == 0 {
        return None;
    }
    let highest = smoothed[..least].iter().copied().fold(smoothed[least], f64::max);
    let near = smoothed[least] + NEAR * (highest - smoothed[least]);
    // Going up and coming down again is no plateau.
    let first = (0..least).rev().take_while(|&index| smoothed[index] <= near).last().unwrap_or(least);
    let last = (least..smoothed.len()).take_while(|&index| smoothed[index] <= near).last().unwrap_or(least);
    let flat = rates[last] >= SAFETY * rates[first];
    Some((rates[if flat { first } else { least }], flat))
}

/// What is safe: well below where the loss no longer falls. On a plateau it no longer fell since nothing was left to
/// learn, whatever the rate; it was learned at the rate of the steepest fall.
fn suggested(least: Option<f64>, plateau: bool, steepest: Option<f64>) -> Option<f64> {
    let below = least.map(|rate| rate / SAFETY);
    if plateau { steepest.or(below) } else { below }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_grow_by_one_factor() {
        let range = RangeTestConfig { low: 1e-4, high: 1.0, steps: 5 };
        let mut growing = Growing { range, share: 0.5, next: 0 };
        for expected in [0.5e-4, 0.5e-3, 0.5e-2, 0.5e-1, 0.5] {
            let found = growing.step();
            assert!((found - expected).abs() < 1e-12 * expected.max(1e-3), "{found}, expected {expected}");
        }
        let mut second = Growing { range, share: 0.5, next: 0 };
        growing.next = 2;
        second.load_record(growing.to_record());
        assert_eq!(second.next, 2);
    }

    #[test]
    fn the_steepest_fall_of_a_known_curve() {
        // A logistic step down around index 60, then a rise.
        let rates: Vec<f64> = (0..100).map(|index| 1e-5 * 1.1f64.powi(index)).collect();
        let losses: Vec<f64> = (0..100)
            .map(|index| {
                let x = f64::from(index);
                2.3 - 2.0 / (1.0 + (-(x - 60.0) / 4.0).exp()) + (x - 90.0).max(0.0)
            })
            .collect();
        let smoothed = smooth(&losses, 2.0);
        let found = steepest(&rates, &smoothed).unwrap();
        assert!((found / rates[60]).ln().abs() < 1.5 * 1.1f64.ln(), "{found}, expected {}", rates[60]);
        assert_eq!(steepest(&rates[..3], &[1.0, 2.0, 3.0]), None);
        assert_eq!(steepest(&[], &[]), None);
        // The step flattens out before the rise at index 90.
        let (found, flat) = least(&rates, &smoothed).unwrap();
        assert!((rates[75]..=rates[90]).contains(&found) && !flat, "{found}");
        assert_eq!(suggested(Some(found), flat, Some(1.0)), Some(found / SAFETY));
        assert_eq!(least(&rates[..3], &[1.0, 2.0, 3.0]), None);
        assert_eq!(least(&[], &[]), None);
    }

    #[test]
    fn on_a_plateau_the_steepest_fall_is_suggested() {
        // Learned at index 60, and then nothing but noise around 0 for three decades of rates, least at the end.
        let rates: Vec<f64> = (0..140).map(|index| 1e-5 * 1.1f64.powi(index)).collect();
        let losses: Vec<f64> = (0..140)
            .map(|index| {
                let noise = 0.002 * f64::from(index * 7 % 5) - 1e-5 * f64::from(index);
                2.0 / (1.0 + ((f64::from(index) - 60.0) / 3.0).exp()) + noise
            })
            .collect();
        let smoothed = smooth(&losses, 2.0);
        let (found, flat) = least(&rates, &smoothed).unwrap();
        assert!(flat && (rates[65]..=rates[80]).contains(&found), "{found}");
        let steepest = steepest(&rates, &smoothed);
        let suggestion = suggested(Some(found), flat, steepest).unwrap();
        assert!((rates[55]..=rates[65]).contains(&suggestion), "{suggestion}");
        assert_eq!(suggested(Some(found), flat, None), Some(found / SAFETY));
    }

    #[test]
    fn smoothing_keeps_a_line_and_calms_noise() {
        let line: Vec<f64> = (0..50).map(f64::from).collect();
        let smoothed = smooth(&line, 2.0);
        assert!((smoothed[25] - 25.0).abs() < 1e-9);
        let noise: Vec<f64> = (0..50).map(|index| if index % 2 == 0 { 1.0 } else { -1.0 }).collect();
        assert!(smooth(&noise, 2.0)[25].abs() < 0.01);
    }

    #[test]
    fn divergence_is_four_times_the_least_mean_or_no_number() {
        let mut running = Running::default();
        assert!((0..20).all(|_| !running.diverges(1.0)));
        assert!(!running.diverges(20.0) && !running.diverges(8.0) && running.diverges(30.0));
        assert!(Running::default().diverges(f64::NAN));
        assert!(Running::default().diverges(f64::INFINITY));
        // The first losses may do as they like.
        let mut running = Running::default();
        assert!(!running.diverges(0.1) && !running.diverges(10.0));
    }
}
