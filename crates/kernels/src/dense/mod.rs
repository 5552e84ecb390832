//! The dense layer.

mod product;
#[cfg(test)]
mod tests;

pub use product::{Gradients, Sizes, backward, forward};
