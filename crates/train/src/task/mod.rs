//! Which images are learned from, validated on and tested on, and how long.

pub mod budget;
mod division;
mod error;
pub mod evaluation_set;
mod splits;

pub use division::dealt;
pub use error::TaskError;
pub use splits::{Splits, class_weights, load_pair_at};
