//! A look at ids in vectors of x86-64.

use std::arch::x86_64::{
    __m256i, _mm_extract_epi16, _mm_max_epu16, _mm_minpos_epu16, _mm_set1_epi16, _mm_xor_si128,
    _mm256_and_si256, _mm256_castsi256_si128, _mm256_cmpeq_epi16, _mm256_extract_epi32,
    _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_max_epu16, _mm256_or_si256, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_sub_epi16,
};

use super::Seen;

/// Ids in a vector.
const LANES: usize = 16;

/// The last of so many lanes.
static LAST: [[i16; LANES]; LANES] = {
    let mut last = [[0; LANES]; LANES];
    let mut count = 0;
    while count < LANES {
        let mut lane = LANES - count;
        while lane < LANES {
            last[count][lane] = -1;
            lane += 1;
        }
        count += 1;
    }
    last
};

/// [`super::look`].
#[target_feature(enable = "avx2")]
pub(super) fn look(ids: &[u16], frame: [u16; 4]) -> Seen {
    // SAFETY: sixteen ids are 32 bytes.
    let load = |ids: &[u16; LANES]| unsafe { _mm256_loadu_si256(ids.as_ptr().cast::<__m256i>()) };
    let [a, b, c, d] = frame.map(|id| _mm256_set1_epi16(id.cast_signed()));
    let is_frame = |ids: __m256i| {
        let first = _mm256_or_si256(_mm256_cmpeq_epi16(ids, a), _mm256_cmpeq_epi16(ids, b));
        let second = _mm256_or_si256(_mm256_cmpeq_epi16(ids, c), _mm256_cmpeq_epi16(ids, d));
        _mm256_or_si256(first, second)
    };
    let (mut most, mut frames) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    let (whole, rest) = ids.as_chunks();
    for ids in whole {
        let ids = load(ids);
        most = _mm256_max_epu16(most, ids);
        frames = _mm256_sub_epi16(frames, is_frame(ids));
    }
    if !rest.is_empty() {
        let mut few = [0; LANES];
        // Those before them were looked at.
        let last = ids.last_chunk().unwrap_or_else(|| {
            few[LANES - rest.len()..].copy_from_slice(rest);
            &few
        });
        let ids = load(last);
        most = _mm256_max_epu16(most, ids);
        // SAFETY: as above.
        let counted = unsafe { _mm256_loadu_si256(LAST[rest.len()].as_ptr().cast::<__m256i>()) };
        frames = _mm256_sub_epi16(frames, _mm256_and_si256(is_frame(ids), counted));
    }
    let all = _mm_set1_epi16(-1);
    let most = _mm_max_epu16(
        _mm256_castsi256_si128(most),
        _mm256_extracti128_si256::<1>(most),
    );
    // What is the largest of all is the smallest of what is over it.
    let most = !_mm_extract_epi16::<0>(_mm_minpos_epu16(_mm_xor_si128(most, all))) & 0xFFFF;
    // At most 4,096 in a lane.
    let sums = _mm256_madd_epi16(frames, _mm256_set1_epi16(1));
    let sums = _mm256_hadd_epi32(sums, sums);
    let sums = _mm256_hadd_epi32(sums, sums);
    let frames = _mm256_extract_epi32::<0>(sums) + _mm256_extract_epi32::<4>(sums);
    Seen {
        most: most.cast_unsigned(),
        frames: frames.cast_unsigned(),
    }
}
