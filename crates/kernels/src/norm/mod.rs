//! Batch normalisation with what follows it: an addition and an activation.

mod planes;
#[cfg(test)]
mod tests;

pub use planes::{Gradients, Sizes, Statistics, backward, normalize, statistics};
