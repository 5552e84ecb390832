//! Updates of parameters.

mod adam;
#[cfg(test)]
mod tests;

pub use adam::{AdamStep, Factors, adam_step};
