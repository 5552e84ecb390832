//! The operators that a small convolutional network spends its time in, made fast on a CPU.
//!
//! Every function takes Burn tensors. On Flex and `NdArray`, which hold plain memory, it runs
//! hand-written code with a hand-written backward pass; on every other backend, and for shapes
//! without a fast path, it composes Burn's own operators. The caller never sees the difference, so
//! a network is written once. `KILN_KERNELS` forces one path, see [`Path`].

#![expect(
    unsafe_code,
    reason = "processor intrinsics on raw pointers; the one crate of the workspace that has any"
)]
#![expect(
    clippy::inline_always,
    reason = "a kernel is one function compiled for one instruction set; see `simd`"
)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod adam;
#[cfg(test)]
mod agreement;
mod buffer;
mod compose;
mod conv;
mod dense;
mod extension;
mod gather;
mod loss;
mod memory;
mod norm;
mod path;
mod pointwise;
mod pooling;
#[cfg(test)]
mod reference;
mod simd;
mod taps;
mod tile;
mod transpose;

pub use adam::{AdamStep, adam_step};
pub use conv::{ConvBlock, Pool, conv_block, conv_block_before};
pub use dense::linear;
pub use gather::gather_normalize;
pub use loss::cross_entropy;
pub use memory::{give_back_freed_memory, keep_freed_memory};
pub use norm::{BatchNormTrain, batch_norm, batch_norm_train};
pub use path::{KernelsError, Path, VARIABLE, path, path_by_default, set_path};
pub use pointwise::{Pointwise, pointwise};
pub use pooling::pool;

/// What follows the affine part of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// `max(x, 0)`; a NaN stays a NaN.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}
