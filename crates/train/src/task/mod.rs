//! Which images are learned from, validated on and tested on, and how long.

pub mod budget;
pub mod division;
pub mod judged;
