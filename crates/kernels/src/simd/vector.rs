//! What a kernel is written over.

/// A vector of `f32` lanes, a mask over them, and one small code (`0..=255`) per lane.
///
/// # Safety
/// Every method requires that the processor supports the instruction set of the implementor, which
/// [`dispatch`](super::dispatch) has checked, and that pointers are valid for the lanes that are read or written.
/// Pointers need no alignment.
pub(crate) trait Simd: Copy + 'static {
    /// Number of lanes.
    const LANES: usize;
    /// Whether a multiplication and an addition are one instruction.
    const FUSES: bool;
    /// Rows and columns of the block that [`Simd::transpose`] handles.
    const BLOCK: usize;
    /// The vector.
    type Vector: Copy;
    /// One truth value per lane.
    type Mask: Copy;
    /// One code per lane.
    type Codes: Copy;

    /// Calls the kernel in a function of its own that is compiled for the instruction set.
    unsafe fn outline<K: Kernel>(kernel: K) -> K::Output;

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, value: Self::Vector);
    /// Reads the first `count < LANES` lanes; the others are zero.
    unsafe fn load_partial(from: *const f32, count: usize) -> Self::Vector;
    /// Writes the first `count < LANES` lanes.
    unsafe fn store_partial(to: *mut f32, value: Self::Vector, count: usize);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`.
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a > b`, or `a` is NaN: where `a` replaces the maximum `b` so far.
    unsafe fn beats(a: Self::Vector, b: Self::Vector) -> Self::Mask;
    /// `a > 0`, or `a` is NaN: where the rectifier lets a value and its gradient through.
    unsafe fn alive(a: Self::Vector) -> Self::Mask;
    /// `yes` where the mask is set, else `no`.
    unsafe fn select(mask: Self::Mask, yes: Self::Vector, no: Self::Vector) -> Self::Vector;

    unsafe fn splat_code(code: u8) -> Self::Codes;
    unsafe fn select_code(mask: Self::Mask, yes: Self::Codes, no: Self::Codes) -> Self::Codes;
    /// Reads one byte per lane.
    unsafe fn load_codes(from: *const u8) -> Self::Codes;
    /// Writes one byte per lane.
    unsafe fn store_codes(to: *mut u8, codes: Self::Codes);
    unsafe fn same_code(a: Self::Codes, b: Self::Codes) -> Self::Mask;

    /// Transposes a block of `BLOCK` rows and columns: `to[c * to_stride + r] = from[r *
    /// from_stride + c]`.
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);
}

/// Work to be compiled for every instruction set.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// The processor supports `S`; the kernel's own pointers are valid.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}
