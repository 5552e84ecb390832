//! Plain Rust on four lanes, which the compiler maps to SSE2, NEON or wasm's SIMD.

use super::vector::{Kernel, Simd};

#[derive(Clone, Copy)]
pub(super) struct Portable;

const LANES: usize = 4;

impl Simd for Portable {
    const LANES: usize = LANES;
    const FUSES: bool = false;
    const BLOCK: usize = 4;
    type Vector = [f32; LANES];
    type Mask = [bool; LANES];
    type Codes = [u8; LANES];

    #[inline(never)]
    unsafe fn outline<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: no processor feature is needed; the kernel's pointers are the caller's promise.
        unsafe { kernel.run::<Self>() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::Vector {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Vector {
        // SAFETY: the caller promises LANES readable values.
        unsafe { from.cast::<[f32; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Self::Vector) {
        // SAFETY: the caller promises LANES writable values.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self::Vector {
        // SAFETY: the caller promises `count` readable values; no other lane is read.
        std::array::from_fn(|lane| if lane < count { unsafe { *from.add(lane) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_partial(to: *mut f32, value: Self::Vector, count: usize) {
        for (lane, value) in value.into_iter().enumerate().take(count) {
            // SAFETY: the caller promises `count` writable values.
            unsafe { *to.add(lane) = value };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] - b[lane])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }
    // Not `f32::mul_add`, which is a call into the C library where the target has no such instruction.
    #[inline(always)]
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }
    #[inline(always)]
    unsafe fn beats(a: Self::Vector, b: Self::Vector) -> Self::Mask {
        std::array::from_fn(|lane| a[lane] > b[lane] || a[lane].is_nan())
    }
    #[inline(always)]
    unsafe fn alive(a: Self::Vector) -> Self::Mask {
        std::array::from_fn(|lane| a[lane] > 0.0 || a[lane].is_nan())
    }
    #[inline(always)]
    unsafe fn select(mask: Self::Mask, yes: Self::Vector, no: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| if mask[lane] { yes[lane] } else { no[lane] })
    }
    #[inline(always)]
    unsafe fn splat_code(code: u8) -> Self::Codes {
        [code; LANES]
    }
    #[inline(always)]
    unsafe fn select_code(mask: Self::Mask, yes: Self::Codes, no: Self::Codes) -> Self::Codes {
        std::array::from_fn(|lane| if mask[lane] { yes[lane] } else { no[lane] })
    }
    #[inline(always)]
    unsafe fn load_codes(from: *const u8) -> Self::Codes {
        // SAFETY: the caller promises LANES readable bytes.
        unsafe { from.cast::<[u8; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_codes(to: *mut u8, codes: Self::Codes) {
        // SAFETY: the caller promises LANES writable bytes.
        unsafe { to.cast::<[u8; LANES]>().write_unaligned(codes) }
    }
    #[inline(always)]
    unsafe fn same_code(a: Self::Codes, b: Self::Codes) -> Self::Mask {
        std::array::from_fn(|lane| a[lane] == b[lane])
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller promises a block of four rows and columns at both strides.
        unsafe {
            let rows: [[f32; 4]; 4] = std::array::from_fn(|row| Self::load(from.add(row * from_stride)));
            let columns: [[f32; 4]; 4] =
                std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]));
            for (column, values) in columns.into_iter().enumerate() {
                Self::store(to.add(column * to_stride), values);
            }
        }
    }
}
