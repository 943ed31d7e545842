//! Which draws are below a bound, in vectors of x86-64.

use std::arch::x86_64::{
    __m256i, _mm_loadl_epi64, _mm256_add_epi32, _mm256_castsi256_ps, _mm256_cmpeq_epi32,
    _mm256_cvtepu8_epi32, _mm256_loadu_si256, _mm256_max_epu32, _mm256_movemask_ps,
    _mm256_set1_epi32, _mm256_storeu_si256,
};

/// Draws in a vector.
const EIGHT: usize = 8;

/// For each set of eight draws the places of those that are in it, one after another.
static PLACES: [[u8; EIGHT]; 256] = {
    let mut places = [[0; EIGHT]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut place, mut found) = (0, 0);
        while place < EIGHT {
            if set >> place & 1 == 1 {
                places[set][found] = place as u8;
                found += 1;
            }
            place += 1;
        }
        set += 1;
    }
    places
};

/// [`super::tokens::one_by_one`], eight draws at a time; their number is a multiple of eight.
///
/// # Safety
/// The processor has AVX2 and POPCNT.
#[target_feature(enable = "avx2,popcnt")]
pub(super) unsafe fn below(draws: &[u32], bound: u32, out: &mut Vec<u32>) {
    let bound = _mm256_set1_epi32(bound.cast_signed());
    // Eight are written in any case, and kept as many as there are.
    out.resize(draws.len() + EIGHT, 0);
    let mut found = 0;
    for (number, draws) in (0i32..).zip(draws.as_chunks::<EIGHT>().0) {
        // SAFETY: eight draws are 32 bytes.
        let draws: __m256i = unsafe { _mm256_loadu_si256(draws.as_ptr().cast()) };
        // What is not below is the larger of both.
        let others = _mm256_cmpeq_epi32(_mm256_max_epu32(draws, bound), draws);
        let set = !_mm256_movemask_ps(_mm256_castsi256_ps(others)) & 0xFF;
        let places = &PLACES[set as usize];
        // SAFETY: eight places are eight bytes.
        let places = _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(places.as_ptr().cast()) });
        let positions = _mm256_add_epi32(places, _mm256_set1_epi32(8 * number));
        let to = &mut out[found..found + EIGHT];
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), positions) };
        found += set.count_ones() as usize;
    }
    out.truncate(found);
}
