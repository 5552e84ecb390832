//! What is measured, and what comes of it.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use train::device::{Backend, Kernels};

use super::nets::Net;

/// What a network is made to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Work {
    /// What `kiln train` does: loading, steps, metrics, checkpoints
    Training,
    /// From a batch in memory to its logits in memory
    Inference,
}

impl Work {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Inference => "inference",
        }
    }
}

/// One line of the result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measurement {
    pub(super) net: String,
    pub(super) parameters: usize,
    pub(super) backend: Backend,
    /// The path of the CPU kernels.
    pub(super) kernels: String,
    pub(super) threads: usize,
    pub(super) work: Work,
    pub(super) batch_size: usize,
    /// Name of the images.
    pub(super) data: String,
    /// Samples per second of each round.
    pub(super) rounds: Vec<f64>,
    /// Their median.
    pub(super) samples_per_second: f64,
    /// The rounds' largest minus their smallest, as a share of the median.
    pub(super) spread: f64,
    /// Microseconds from call to answer; at batch 1 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) latency: Option<Latency>,
    /// Highest resident memory of the process so far, where the system tells.
    pub(super) peak_memory_mib: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// One process.
pub(super) struct Job {
    pub(super) net: Net,
    pub(super) backend: Backend,
    pub(super) kernels: Kernels,
    pub(super) work: Work,
}

/// How long is measured.
pub(super) struct Plan {
    pub(super) rounds: usize,
    pub(super) seconds: f64,
}
