//! What a network is trained for ([`Task`], a file for each), which images are learned from, validated on and tested on,
//! and how long.

pub mod budget;
pub mod classify;
mod division;
mod error;
pub mod evaluation_set;
mod kind;
pub mod multi_label;
mod splits;
mod tasks;

pub use division::dealt;
pub use error::TaskError;
pub use kind::Task;
pub use splits::{Splits, class_weights, load_pair_at};
pub use tasks::of;
