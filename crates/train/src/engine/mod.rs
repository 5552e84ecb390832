//! The training loop, and what a step of it needs.

pub mod epoch_loop;
pub mod evaluate;
pub mod freeze;
pub mod interrupt;
pub mod optimizer;
pub mod schedule;
pub mod step;
pub(crate) mod terminal;
