//! Which ids of 16 bits are not special, in vectors of x86-64: what `tokens.rs` finds one by one, which its tests compare.

use std::arch::x86_64::{
    __m256i, _mm256_cmpeq_epi16, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_packs_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi16, _mm512_mask_cmpneq_epi16_mask,
    _mm512_maskz_loadu_epi16, _mm512_set1_epi16,
};

use super::tokens::BITS;

/// Ids in a vector.
const LANES: usize = BITS / 2;

/// # Safety
/// The processor has AVX-512 F and BW, and counts bits.
#[target_feature(enable = "avx512f,avx512bw,popcnt")]
pub(super) unsafe fn maskable_avx512(ids: &[u16], special: [u16; 5], bits: &mut [u64]) -> usize {
    let special = special.map(|id| _mm512_set1_epi16(id.cast_signed()));
    let mut count = 0;
    for (bits, ids) in bits.iter_mut().zip(ids.chunks(BITS)) {
        let half = |ids: &[u16]| {
            let there = u32::MAX
                .checked_shr((LANES - ids.len()) as u32)
                .unwrap_or(0);
            // SAFETY: ids that the mask leaves out, which the slice may not have, are not read.
            let ids = unsafe { _mm512_maskz_loadu_epi16(there, ids.as_ptr().cast()) };
            let plain = special.iter().fold(there, |plain, &one| {
                _mm512_mask_cmpneq_epi16_mask(plain, ids, one)
            });
            u64::from(plain)
        };
        let (low, high) = ids.split_at(ids.len().min(LANES));
        *bits = half(low) | half(high) << LANES;
        count += bits.count_ones() as usize;
    }
    count
}

/// # Safety
/// The processor has AVX2, and counts bits.
#[target_feature(enable = "avx2,popcnt")]
pub(super) unsafe fn maskable_avx2(ids: &[u16], special: [u16; 5], bits: &mut [u64]) -> usize {
    let vectors = special.map(|id| _mm256_set1_epi16(id.cast_signed()));
    let mut count = 0;
    for (bits, ids) in bits.iter_mut().zip(ids.chunks(BITS)) {
        // Behind the last id there are special ones.
        let mut last = [special[0]; BITS];
        let ids = ids.as_array::<BITS>().unwrap_or_else(|| {
            last[..ids.len()].copy_from_slice(ids);
            &last
        });
        let is_special = |ids: &[u16; LANES / 2]| {
            // SAFETY: sixteen ids are 32 bytes.
            let ids = unsafe { _mm256_loadu_si256(ids.as_ptr().cast::<__m256i>()) };
            let [a, b, c, d, e] = vectors.map(|one| _mm256_cmpeq_epi16(ids, one));
            let (first, second) = (_mm256_or_si256(a, b), _mm256_or_si256(c, d));
            _mm256_or_si256(_mm256_or_si256(first, second), e)
        };
        let half = |pair: &[[u16; LANES / 2]]| {
            let packed = _mm256_packs_epi16(is_special(&pair[0]), is_special(&pair[1]));
            // Halves of both vectors alternate.
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            u64::from(!_mm256_movemask_epi8(packed).cast_unsigned())
        };
        let quarters = ids.as_chunks().0;
        *bits = half(&quarters[..2]) | half(&quarters[2..]) << LANES;
        count += bits.count_ones() as usize;
    }
    count
}
