//! The operators that a network spends its time in, on Burn's tensors.
//!
//! On Flex and `NdArray`, which hold plain memory, each runs the code of `kernels` with a hand-written backward pass; on
//! every other backend, and for shapes without a fast path, it composes Burn's own operators. The caller never sees the
//! difference, so a network is written once. `KILN_KERNELS` forces one path, see [`Path`].
//!
//! Nothing here loops over values: that is compiled in `kernels`.

mod autodiff;
mod compose;
mod conv;
mod dense;
mod extension;
mod flex;
mod host;
mod loss;
#[cfg(feature = "ndarray")]
mod ndarray;
mod norm;
mod optim;
mod pointwise;
mod pool;
#[cfg(test)]
mod tests;

pub use conv::{conv_block, conv_block_before};
pub use dense::linear;
pub use kernels::{
    KernelsError, Path, VARIABLE,
    conv::ConvBlock,
    gather_normalize, give_back_freed_memory, keep_freed_memory,
    optim::AdamStep,
    path, path_by_default,
    pointwise::{Activation, Pointwise},
    pool::Pool,
    set_path,
};
pub use loss::cross_entropy;
pub use norm::{BatchNormTrain, batch_norm, batch_norm_train};
pub use optim::adam_step;
pub use pointwise::pointwise;
pub use pool::pool;
