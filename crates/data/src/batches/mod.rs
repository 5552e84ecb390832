//! What a step learns from: which images an epoch consists of, in which order, and as tensors.

pub mod balance;
pub(crate) mod epoch;
pub(crate) mod loader;
pub(crate) mod sampler;
