//! The operators that a small convolutional network spends its time in, made fast on a CPU.
//!
//! Every function takes slices in row-major order, with their sizes as a plain struct, and knows no framework: `model`'s
//! `ops` puts them behind Burn's tensors and gradients. Each runs on a [`Path`], the code for one instruction set, and on
//! the threads of rayon's pool, whose number changes no bit. `KILN_KERNELS` forces a path.

#![expect(
    unsafe_code,
    reason = "processor intrinsics on raw pointers; the one crate of the workspace that has any"
)]
#![expect(
    clippy::inline_always,
    reason = "a kernel is one function compiled for one instruction set; see `simd`"
)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod buffer;
pub mod conv;
pub mod dense;
mod gather;
pub mod loss;
mod memory;
pub mod norm;
pub mod optim;
mod path;
pub mod pointwise;
pub mod pool;
mod simd;
#[cfg(test)]
mod testing;

pub use gather::gather_normalize;
pub use memory::{give_back_freed_memory, keep_freed_memory};
pub use path::{KernelsError, Path, VARIABLE, path, path_by_default, set_path};
pub use simd::lanes;
