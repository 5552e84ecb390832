//! Training, evaluation and the run folder.
//!
//! The way through: [`arguments`] become a checked [`config::TrainConfig`]; [`mod@fit`] loads the
//! data, builds the network and hands both to burn-train's learner, whose epochs [`strategy`] counts;
//! [`checkpoint`] makes each stop a place to go on from; [`mod@evaluate`] looks at the test split
//! once; [`run_folder`] writes every file.

#![recursion_limit = "256"]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod arguments;
pub mod checkpoint;
pub mod command;
pub mod confidence;
pub mod config;
pub mod device;
pub mod evaluate;
pub mod files;
pub mod fit;
pub mod interrupt;
pub mod metrics;
pub mod metrics_log;
pub mod model_io;
pub mod optimizer;
pub mod progress;
pub mod report;
pub mod run_folder;
pub mod schedule;
pub mod step;
pub mod strategy;
pub mod tensorboard;
