//! Convolution, bias, activation and pooling as one operator.

mod backward;
mod forward;
mod geometry;
mod pack;
mod partial;
mod planar;
mod planes;
mod pool;
#[cfg(test)]
mod reference;
mod sparse;
#[cfg(test)]
mod tests;
mod winograd;

pub use backward::{Inputs, backward};
pub use forward::{Saved, forward};
pub use geometry::{ConvBlock, Geometry};
pub use partial::{Gradients, Wanted};
