//! One trial of a sweep, and how it ended.

use train::config::TrainConfig;
use train::series::Spread;

use super::space::Values;

/// A trial with the configuration of its full length.
#[derive(Clone, Debug)]
pub struct Trial {
    /// From 1.
    pub number: usize,
    /// What distinguishes it.
    pub values: Values,
    /// Checked; reads no test split.
    pub config: TrainConfig,
    /// Trainable parameters of its network.
    pub parameters: usize,
}

/// The outcome of one trial in one round.
pub(super) enum Score {
    Finished { accuracy: Spread, loss: Spread, seconds: f64, epochs: usize, best_epoch: usize },
    Diverged(String),
    Interrupted,
}

/// `key=value, key=value`
pub fn in_words(values: &Values) -> String {
    values.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}
