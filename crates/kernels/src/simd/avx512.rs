//! AVX-512: sixteen lanes and mask registers.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _CMP_GT_OQ, _CMP_NLE_UQ, _CMP_UNORD_Q, _mm_loadu_epi8, _mm_storeu_epi8,
    _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_cmpeq_epi32_mask, _mm512_cvtepi32_epi8, _mm512_cvtepu8_epi32,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_epi32, _mm512_mask_blend_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps, _mm512_sub_ps,
};

use super::{
    avx2,
    vector::{Kernel, Simd},
};

#[derive(Clone, Copy)]
pub(super) struct Avx512;

fn first_lanes(count: usize) -> __mmask16 {
    (1_u16 << count) - 1
}

// SAFETY of every block below: the caller of a `Simd` method promises AVX-512 F, BW, DQ, VL (and
// with them AVX2 and FMA), and the lanes behind its pointers.
impl Simd for Avx512 {
    const LANES: usize = 16;
    const FUSES: bool = true;
    const BLOCK: usize = 8;
    type Vector = __m512;
    type Mask = __mmask16;
    type Codes = __m512i;

    #[inline(always)]
    unsafe fn outline<K: Kernel>(kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn inner<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: this function requires what `Avx512` requires.
            unsafe { kernel.run::<Avx512>() }
        }
        // SAFETY: the caller promises the features.
        unsafe { inner(kernel) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> __m512 {
        // SAFETY: see above; lanes outside the mask are not accessed.
        unsafe { _mm512_maskz_loadu_ps(first_lanes(count), from) }
    }
    #[inline(always)]
    unsafe fn store_partial(to: *mut f32, value: __m512, count: usize) {
        // SAFETY: see above; lanes outside the mask are not accessed.
        unsafe { _mm512_mask_storeu_ps(to, first_lanes(count), value) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn beats(a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a) }
    }
    #[inline(always)]
    unsafe fn alive(a: __m512) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(a, _mm512_setzero_ps()) }
    }
    #[inline(always)]
    unsafe fn select(mask: __mmask16, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mask_blend_ps(mask, no, yes) }
    }
    #[inline(always)]
    unsafe fn splat_code(code: u8) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi32(i32::from(code)) }
    }
    #[inline(always)]
    unsafe fn select_code(mask: __mmask16, yes: __m512i, no: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_mask_blend_epi32(mask, no, yes) }
    }
    #[inline(always)]
    unsafe fn load_codes(from: *const u8) -> __m512i {
        // SAFETY: see above; the load reads sixteen bytes.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_epi8(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store_codes(to: *mut u8, codes: __m512i) {
        // SAFETY: see above; the store writes sixteen bytes.
        unsafe { _mm_storeu_epi8(to.cast(), _mm512_cvtepi32_epi8(codes)) }
    }
    #[inline(always)]
    unsafe fn same_code(a: __m512i, b: __m512i) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmpeq_epi32_mask(a, b) }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: see above; AVX2 and FMA are part of the path.
        unsafe { avx2::transpose_8(from, from_stride, to, to_stride) }
    }
}
