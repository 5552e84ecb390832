//! The training loop, and what a step of it needs.

pub(crate) mod dashboard;
pub mod ending;
pub mod epoch_loop;
pub mod evaluate;
pub mod freeze;
pub mod interrupt;
mod losses;
pub mod observer;
pub mod optimizer;
pub mod schedule;
pub mod step;
