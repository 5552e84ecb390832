//! One vector of `f32` on each instruction set, the choice between them at run time, and the loops that several
//! operators share.
//!
//! A [`Kernel`] is written once over [`Simd`]. Its `run` is always inlined into a function that
//! carries the processor's features ([`Simd::outline`]), so that the intrinsics become single
//! instructions.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
pub(crate) mod taps;
pub(crate) mod tile;
pub(crate) mod transpose;
mod vector;

use crate::Path;
pub(crate) use vector::{Kernel, Simd};

/// Runs a kernel on a path. [`Path::Stock`] has no kernels and is served by the portable code.
///
/// # Safety
/// The kernel's own pointers are valid.
///
/// # Panics
/// The processor lacks the path's instructions.
pub(crate) unsafe fn dispatch<K: Kernel>(path: Path, kernel: K) -> K::Output {
    assert!(path.is_supported(), "{path:?} on a processor without it");
    match path {
        // SAFETY: the processor supports the path.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => unsafe { avx512::Avx512::outline(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { avx2::Avx2::outline(kernel) },
        // SAFETY: the portable code needs no instruction beyond the target's.
        _ => unsafe { portable::Portable::outline(kernel) },
    }
}

/// Values in a vector of a path.
pub fn lanes(path: Path) -> usize {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => avx512::Avx512::LANES,
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => avx2::Avx2::LANES,
        _ => portable::Portable::LANES,
    }
}
