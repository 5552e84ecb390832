//! What a model got right, and how that is shown.
//!
//! Answers become figures ([`metrics`], [`multi_label`], [`confidence`], [`baseline`], [`paired_test`]); figures are kept
//! ([`metrics_log`], [`predictions`]) and drawn ([`report`]). How a model is trained is not known here.

#![recursion_limit = "256"]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod baseline;
pub mod confidence;
pub mod metrics;
pub mod metrics_log;
pub mod multi_label;
pub mod paired_test;
pub mod predictions;
pub mod report;
