//! Training, evaluation and the run folder.
//!
//! The way through: [`arguments`] become a checked [`config::TrainConfig`]; [`mod@fit`] loads the
//! data, builds the network and hands both to burn-train's learner, whose epochs [`strategy`] counts;
//! [`checkpoint`] makes each stop a place to go on from; [`mod@evaluate`] looks at the test split
//! once; [`run_folder`] writes every file.

#![recursion_limit = "256"]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod arguments;
pub mod budget;
pub mod chance;
pub mod checkpoint;
pub mod command;
pub mod confidence;
pub mod config;
mod container;
pub mod data_record;
pub mod device;
mod division;
pub mod evaluate;
pub mod federated;
pub mod files;
pub mod fit;
pub mod folds;
mod foreign_file;
pub mod freeze;
pub mod history;
pub mod interrupt;
pub mod judged;
pub mod lock;
pub mod lr_find;
pub mod metrics;
pub mod metrics_log;
pub mod model_io;
pub mod optimizer;
pub mod paired_test;
pub mod predictions;
pub mod progress;
#[cfg(test)]
mod recovery;
pub mod report;
pub mod run_folder;
pub mod schedule;
pub mod series;
pub mod start;
pub mod step;
pub mod strategy;
pub mod sweep;
pub mod tensorboard;
pub mod weights;
