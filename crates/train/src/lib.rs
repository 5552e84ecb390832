//! From a configuration to a trained, tested and saved model.
//!
//! The rooms, each of which uses only those before it:
//!
//! - [`terminal`]: what is printed; [`seed`], [`device`]: seeds and backends; [`config`]: what a run is told, from the flags to the checked [`config::TrainConfig`];
//! - [`run`]: the folder of a run and every file in it; [`task`]: which images are learned from;
//! - [`start`]: the weights it begins with; [`engine`]: the training loop and what a step needs;
//! - [`progress`]: what is shown meanwhile; [`mod@fit`]: one run from beginning to end. Read this first;
//! - [`series`]: several runs in one folder; [`command`]: flags to exit status.

#![recursion_limit = "256"]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod command;
pub mod config;
pub mod device;
pub mod engine;
pub mod fit;
pub mod progress;
#[cfg(test)]
mod recovery;
pub mod run;
pub mod seed;
pub mod series;
pub mod start;
pub mod task;
pub mod terminal;
