//! What an experiment is: the TOML a user writes, the defaults under it, and the checked form that
//! reaches the training loop.
//!
//! Precedence: default < `--config` file < flags < `--set key=value`.

pub mod arguments;
mod check;
mod error;
mod layers;
mod schema;

pub use error::ConfigError;
pub use layers::{ConfigLayers, absolute};
pub use schema::{
    Best, CheckpointConfig, CheckpointEvery, ClassWeighting, ClassWeights, DataConfig, EarlyStoppingConfig,
    FinetuneConfig, KeepHead, OptimizerConfig, OptimizerName, RegularizationConfig, ScheduleConfig,
    ScheduleName, TrainConfig, UnfreezeAt,
};

#[cfg(test)]
mod tests;
