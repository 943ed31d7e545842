//! Which ids of 16 bits are not special, and where those are that are chosen, in vectors of x86-64: what `tokens.rs` finds one by one, which its tests compare.

use std::arch::x86_64::{
    __m128i, __m256i, _mm256_cmpeq_epi16, _mm256_loadu_si256, _mm256_movemask_epi8,
    _mm256_or_si256, _mm256_packs_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi16,
    _mm512_add_epi32, _mm512_cvtepu8_epi32, _mm512_extracti32x4_epi32, _mm512_loadu_si512,
    _mm512_mask_cmpneq_epi16_mask, _mm512_maskz_compress_epi8, _mm512_maskz_loadu_epi16,
    _mm512_set1_epi16, _mm512_set1_epi32, _mm512_storeu_si512, _pdep_u64,
};

use super::tokens::{BITS, numbers};

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

/// Whether the processor has what [`places`] needs.
#[inline]
pub(super) fn has_places() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
}

/// The places of those that are `taken` by their number, to the front of `chosen`, which has room for [`BITS`] more.
///
/// # Safety
/// The processor has AVX-512 F, BW and VBMI2, moves bits (BMI2), and counts them.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,bmi2,popcnt")]
pub(super) unsafe fn places(maskable: &[u64], taken: &[u64], chosen: &mut [u32]) {
    const ALL: [u8; BITS] = {
        let mut all = [0; BITS];
        let mut i = 0;
        while i < BITS {
            all[i] = i as u8;
            i += 1;
        }
        all
    };
    // SAFETY: all 64 bytes are read.
    let all = unsafe { _mm512_loadu_si512(ALL.as_ptr().cast()) };
    let (mut count, mut before) = (0, 0);
    for (begin, &places) in (0i32..).step_by(BITS).zip(maskable) {
        let bits = _pdep_u64(numbers(taken, before), places);
        let set = _mm512_maskz_compress_epi8(bits, all);
        let begin = _mm512_set1_epi32(begin);
        let to = chosen[count..].as_chunks_mut::<16>().0;
        let mut put = |group: usize, places: __m128i| {
            let places = _mm512_add_epi32(_mm512_cvtepu8_epi32(places), begin);
            // SAFETY: sixteen places are 64 bytes.
            unsafe { _mm512_storeu_si512(to[group].as_mut_ptr().cast(), places) };
        };
        let here = bits.count_ones() as usize;
        put(0, _mm512_extracti32x4_epi32::<0>(set));
        if here > 16 {
            put(1, _mm512_extracti32x4_epi32::<1>(set));
            put(2, _mm512_extracti32x4_epi32::<2>(set));
            put(3, _mm512_extracti32x4_epi32::<3>(set));
        }
        count += here;
        before += places.count_ones() as usize;
    }
}
