//! Pooling.

mod maximum;
#[cfg(test)]
mod tests;
mod window;

pub use maximum::{Sizes, backward, forward};
pub use window::{Pool, Window};
