//! Which draws are below a bound, as bits, in vectors of x86-64.

use std::arch::x86_64::{
    __m256i, _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_loadu_si256, _mm256_max_epu32,
    _mm256_movemask_ps, _mm256_set1_epi32,
};

use super::tokens::collect;

/// [`super::tokens::collect`] of the draws that are below `bound`.
///
/// # Safety
/// The processor has AVX2 and BMI1.
#[target_feature(enable = "avx2,bmi1")]
pub(super) unsafe fn below(draws: &[[u32; 16]], bound: u32, out: &mut Vec<u32>) {
    // SAFETY: the processor has AVX2.
    collect(draws, |draws| unsafe { bits(draws, bound) }, out);
}

/// [`super::tokens::bits`] of 16 draws.
///
/// # Safety
/// The processor has AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn bits(draws: &[u32; 16], bound: u32) -> u32 {
    let bound = _mm256_set1_epi32(bound.cast_signed());
    let others = |at: usize| {
        // SAFETY: eight draws are 32 bytes.
        let draws: __m256i = unsafe { _mm256_loadu_si256(draws.as_ptr().add(at).cast()) };
        // What is not below is the larger of both.
        let same = _mm256_cmpeq_epi32(_mm256_max_epu32(draws, bound), draws);
        _mm256_movemask_ps(_mm256_castsi256_ps(same)).cast_unsigned()
    };
    !(others(0) | others(8) << 8) & 0xFFFF
}
