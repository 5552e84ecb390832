//! Training as `kiln train` does it, with its loader, loop, metrics, run folder and checkpoints.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data::augment::AugmentConfig;
use train::command::Failure;
use train::config::arguments::ProgressMode;
use train::config::{
    DataConfig, OptimizerConfig, RegularizationConfig, ScheduleConfig, ScheduleName, TrainConfig,
};
use train::engine::interrupt::{INTERRUPTED, stop_flag};
use train::fit::{Outcome, RunContext, fit_on};
use train::start::Start;

use super::plan::{Job, Measurement, Plan, Work};
use super::sample::{Images, Source};
use super::statistics::{peak_memory_mib, quantile, spread};

/// Batches of the two epochs that tell how many make a round.
const FIRST_BATCHES: usize = 4;
/// Images that are held back, since a run validates every epoch; not counted.
const VALID_PER_CLASS: usize = 10;

/// A round is an epoch, timed as `metrics.jsonl` has it: everything but the validation.
pub(super) fn measure(
    job: &Job,
    batch_size: usize,
    plan: &Plan,
    source: Source,
) -> Result<Measurement, Failure> {
    let stop = stop_flag().map_err(Failure::failed)?;
    let guess = epochs(job, batch_size, FIRST_BATCHES, 2, source, &stop)?;
    let wanted = guess.rates[1] * plan.seconds / batch_size as f64;
    let most = (Images::most(job.net.input) / batch_size).max(1);
    let batches = (wanted.round() as usize).clamp(1, most);
    let mut found = epochs(job, batch_size, batches, plan.rounds + 1, source, &stop)?;
    found.rates.remove(0); // the warm-up
    Ok(Measurement {
        net: job.net.name.clone(),
        parameters: found.parameters,
        backend: job.backend,
        kernels: found.kernels,
        threads: found.threads,
        work: Work::Training,
        batch_size,
        data: found.data,
        samples_per_second: quantile(&found.rates, 0.5),
        spread: spread(&found.rates),
        rounds: found.rates,
        latency: None,
        peak_memory_mib: peak_memory_mib(),
    })
}

struct Epochs {
    rates: Vec<f64>,
    data: String,
    parameters: usize,
    kernels: String,
    threads: usize,
}

/// Samples per second of each epoch of a whole run in a temporary folder.
fn epochs(
    job: &Job,
    batch_size: usize,
    batches: usize,
    epochs: usize,
    source: Source,
    stop: &Arc<AtomicBool>,
) -> Result<Epochs, Failure> {
    let images = Images::find(source, job.net.input)?;
    let name = images.name().to_owned();
    let valid_images = VALID_PER_CLASS * images.classes();
    let all_images = batches * batch_size + valid_images;
    let config = TrainConfig {
        epochs,
        batch_size,
        backend: job.backend,
        kernels: job.kernels,
        data: DataConfig {
            dataset: name.clone(),
            valid_fraction: valid_images as f64 / all_images as f64,
            augment: AugmentConfig::default(),
            ..DataConfig::default()
        },
        network: job.net.network.clone(),
        optimizer: OptimizerConfig { learning_rate: Some(1e-3), ..OptimizerConfig::default() },
        schedule: ScheduleConfig {
            name: ScheduleName::Constant,
            warmup_epochs: 0.0,
            ..ScheduleConfig::default()
        },
        regularization: RegularizationConfig { ema_decay: 0.0, ..RegularizationConfig::default() },
        ..TrainConfig::default()
    };
    let folder = tempfile::tempdir().map_err(Failure::failed)?;
    let context = RunContext {
        command: "train",
        artifacts: folder.path().to_owned(),
        name: Some("bench".to_owned()),
        search: data::Search::default(),
        dataset: None,
        accept_changed_data: false,
        progress: ProgressMode::None,
        stop: Arc::clone(stop),
        adapts_budget: false,
    };
    if let Outcome::Interrupted { .. } =
        fit_on(&config, &context, Start::Scratch, images.into_pair(all_images))?
    {
        return Err(Failure { message: "stopped".to_owned(), status: INTERRUPTED as u8 });
    }
    let run = folder.path().join("bench");
    let record = train::run::record::read_record(&run)?;
    let log = std::fs::read(run.join("metrics.jsonl")).map_err(Failure::failed)?;
    let log = evaluation::metrics_log::parse(&log).map_err(Failure::failed)?;
    let rates: Vec<f64> = log.records.iter().map(|epoch| epoch.samples_per_second).collect();
    if rates.len() != epochs {
        return Err(Failure::failed(format!("expected {epochs} epochs, the run recorded {}", rates.len())));
    }
    Ok(Epochs {
        rates,
        data: name,
        parameters: record.parameters,
        kernels: record.kernels,
        threads: record.threads,
    })
}
