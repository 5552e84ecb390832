//! AVX2 and FMA: eight lanes.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_GT_OQ, _CMP_NLE_UQ, _CMP_UNORD_Q, _mm_loadu_si64, _mm_packus_epi16,
    _mm_packus_epi32, _mm_storeu_si64, _mm256_add_ps, _mm256_blendv_epi8, _mm256_blendv_ps,
    _mm256_castps_si256, _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cmpeq_epi32,
    _mm256_cmpgt_epi32, _mm256_cvtepu8_epi32, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_mul_ps, _mm256_or_ps, _mm256_permute2f128_ps,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_shuffle_ps,
    _mm256_storeu_ps, _mm256_sub_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::vector::{Kernel, Simd};

#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// All bits set in the first `count` lanes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn first_lanes(count: usize) -> __m256i {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
}

/// The eight by eight transpose that AVX-512 shares.
///
/// # Safety
/// Eight rows of eight values are readable at `from` and writable at `to`, at their strides.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn transpose_8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller promises the block; the shuffles touch registers only.
    unsafe {
        let row = |index: usize| _mm256_loadu_ps(from.add(index * from_stride));
        let pairs = |a: __m256, b: __m256| (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (t0, t1) = pairs(row(0), row(1));
        let (t2, t3) = pairs(row(2), row(3));
        let (t4, t5) = pairs(row(4), row(5));
        let (t6, t7) = pairs(row(6), row(7));
        let low = |a: __m256, b: __m256| _mm256_shuffle_ps::<0x44>(a, b);
        let high = |a: __m256, b: __m256| _mm256_shuffle_ps::<0xEE>(a, b);
        let upper = [low(t0, t2), high(t0, t2), low(t1, t3), high(t1, t3)];
        let lower = [low(t4, t6), high(t4, t6), low(t5, t7), high(t5, t7)];
        for index in 0..4 {
            let first = _mm256_permute2f128_ps::<0x20>(upper[index], lower[index]);
            let second = _mm256_permute2f128_ps::<0x31>(upper[index], lower[index]);
            _mm256_storeu_ps(to.add(index * to_stride), first);
            _mm256_storeu_ps(to.add((index + 4) * to_stride), second);
        }
    }
}

// SAFETY of every block below: the caller of a `Simd` method promises AVX2 and FMA, and the lanes
// behind its pointers.
impl Simd for Avx2 {
    const LANES: usize = 8;
    const FUSES: bool = true;
    const BLOCK: usize = 8;
    type Vector = __m256;
    type Mask = __m256;
    type Codes = __m256i;

    #[inline(always)]
    unsafe fn outline<K: Kernel>(kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn inner<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: this function requires what `Avx2` requires.
            unsafe { kernel.run::<Avx2>() }
        }
        // SAFETY: the caller promises AVX2 and FMA.
        unsafe { inner(kernel) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> __m256 {
        // SAFETY: see above; lanes outside the mask are not accessed.
        unsafe { _mm256_maskload_ps(from, first_lanes(count)) }
    }
    #[inline(always)]
    unsafe fn store_partial(to: *mut f32, value: __m256, count: usize) {
        // SAFETY: see above; lanes outside the mask are not accessed.
        unsafe { _mm256_maskstore_ps(to, first_lanes(count), value) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn beats(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let greater = _mm256_cmp_ps::<_CMP_GT_OQ>(a, b);
            _mm256_or_ps(greater, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a))
        }
    }
    #[inline(always)]
    unsafe fn alive(a: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cmp_ps::<_CMP_NLE_UQ>(a, _mm256_setzero_ps()) }
    }
    #[inline(always)]
    unsafe fn select(mask: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_blendv_ps(no, yes, mask) }
    }
    #[inline(always)]
    unsafe fn splat_code(code: u8) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_set1_epi32(i32::from(code)) }
    }
    #[inline(always)]
    unsafe fn select_code(mask: __m256, yes: __m256i, no: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_blendv_epi8(no, yes, _mm256_castps_si256(mask)) }
    }
    #[inline(always)]
    unsafe fn load_codes(from: *const u8) -> __m256i {
        // SAFETY: see above; the load reads eight bytes.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadu_si64(from)) }
    }
    #[inline(always)]
    unsafe fn store_codes(to: *mut u8, codes: __m256i) {
        // SAFETY: see above; the store writes eight bytes.
        unsafe {
            let low = _mm256_castsi256_si128(codes);
            let words = _mm_packus_epi32(low, _mm256_extracti128_si256::<1>(codes));
            _mm_storeu_si64(to, _mm_packus_epi16(words, words));
        }
    }
    #[inline(always)]
    unsafe fn same_code(a: __m256i, b: __m256i) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b)) }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: see above.
        unsafe { transpose_8(from, from_stride, to, to_stride) }
    }
}
