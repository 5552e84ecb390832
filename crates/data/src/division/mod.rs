//! Which images go into which part: to train on, to validate on, to test on.

pub mod membership;
pub(crate) mod shortage;
pub mod split;
