//! The weights of a network by name, as records and as an average of several.

pub(crate) mod average;
pub(crate) mod record;
