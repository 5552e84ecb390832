//! The forward pass: from a normalised batch in the memory of the backend to logits in the memory of the process.

use std::time::Instant;

use burn::tensor::Tensor;
use model::Network;
use train::command::Failure;

use super::plan::{Job, Latency, Measurement, Plan, Work};
use super::sample::{Images, Source};
use super::statistics::{peak_memory_mib, quantile, spread};

/// Seed of the weights; speed does not depend on them.
const SEED: u64 = 1;
/// Calls before the clock counts.
const WARM_UP_CALLS: usize = 5;

pub(super) fn measure(
    job: &Job,
    batch_size: usize,
    plan: &Plan,
    source: Source,
) -> Result<Measurement, Failure> {
    let images = Images::find(source, job.net.input)?;
    let device = job.backend.device().map_err(Failure::failed)?;
    let input = job.net.input;
    let network = job.net.network.init(input, images.classes(), SEED, &device).map_err(Failure::usage)?;
    let summary = job.net.network.summary(input, images.classes()).map_err(Failure::usage)?;
    let batch = images.preprocessing.batch(&images.pixels(batch_size), batch_size, &device);

    for _ in 0..WARM_UP_CALLS {
        call(&network, &batch)?;
    }
    calls(&network, &batch, plan.seconds / 2.0)?;
    let mut rounds = Vec::with_capacity(plan.rounds);
    let mut times = Vec::new();
    for _ in 0..plan.rounds {
        let round = calls(&network, &batch, plan.seconds)?;
        rounds.push((round.len() * batch_size) as f64 / round.iter().sum::<f64>());
        times.extend(round);
    }
    Ok(Measurement {
        net: job.net.name.clone(),
        parameters: summary.parameters(),
        backend: job.backend,
        kernels: model::ops::path().map_err(Failure::usage)?.name().to_owned(),
        threads: rayon::current_num_threads(),
        work: Work::Inference,
        batch_size,
        data: images.name().to_owned(),
        samples_per_second: quantile(&rounds, 0.5),
        spread: spread(&rounds),
        rounds,
        latency: (batch_size == 1)
            .then(|| Latency { p50_us: quantile(&times, 0.5) * 1e6, p99_us: quantile(&times, 0.99) * 1e6 }),
        peak_memory_mib: peak_memory_mib(),
    })
}

/// Seconds of each call, one after the other without a pause, for so many seconds.
fn calls(network: &Network, batch: &Tensor<4>, seconds: f64) -> Result<Vec<f64>, Failure> {
    let mut times = Vec::new();
    let start = Instant::now();
    let mut last = start;
    while (last - start).as_secs_f64() < seconds {
        call(network, batch)?;
        let now = Instant::now();
        times.push((now - last).as_secs_f64());
        last = now;
    }
    Ok(times)
}

/// Reading the logits waits for a device that computes on its own.
fn call(network: &Network, batch: &Tensor<4>) -> Result<(), Failure> {
    let logits = network.forward(batch.clone());
    logits.try_into_data().map_err(|error| Failure::failed(format!("{error}")))?;
    Ok(())
}
