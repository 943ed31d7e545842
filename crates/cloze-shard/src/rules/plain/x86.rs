//! A look at ids in vectors of x86-64.

use std::arch::x86_64::{
    __m256i, __mmask32, _mm_extract_epi16, _mm_max_epu16, _mm_minpos_epu16, _mm_set1_epi16,
    _mm_xor_si128, _mm256_and_si256, _mm256_castsi256_si128, _mm256_cmpeq_epi16,
    _mm256_extract_epi32, _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_max_epu16, _mm256_or_si256, _mm256_set1_epi16, _mm256_setzero_si256,
    _mm256_sub_epi16, _mm512_mask_cmpeq_epi16_mask, _mm512_mask_cmpgt_epu16_mask,
    _mm512_mask_cmplt_epu16_mask, _mm512_maskz_loadu_epi16, _mm512_set1_epi16,
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

/// Whether the processor has AVX-512 F and BW, and counts bits.
#[inline]
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("popcnt")
}

/// Values in a vector of AVX-512.
const WIDE: usize = 32;

/// The lanes of so many values, at most all.
fn lanes(count: usize) -> __mmask32 {
    u32::MAX
        .checked_shr((WIDE - count.min(WIDE)) as u32)
        .unwrap_or(0)
}

/// [`super::look`].
#[target_feature(enable = "avx512f,avx512bw,popcnt")]
pub(super) fn look_avx512(ids: &[u16], frame: [u16; 4], last: u16) -> Seen {
    let all = |id: u16| _mm512_set1_epi16(id.cast_signed());
    let ([a, b, c, d], last) = (frame.map(all), all(last));
    let (mut over, mut frames) = (0, 0);
    for ids in ids.chunks(WIDE) {
        let there = lanes(ids.len());
        // SAFETY: ids that the mask leaves out, which the slice may not have, are not read.
        let ids = unsafe { _mm512_maskz_loadu_epi16(there, ids.as_ptr().cast()) };
        over |= _mm512_mask_cmpgt_epu16_mask(there, ids, last);
        let first = _mm512_mask_cmpeq_epi16_mask(there, ids, a)
            | _mm512_mask_cmpeq_epi16_mask(there, ids, b);
        let second = _mm512_mask_cmpeq_epi16_mask(there, ids, c)
            | _mm512_mask_cmpeq_epi16_mask(there, ids, d);
        frames += (first | second).count_ones();
    }
    Seen {
        over: over != 0,
        frames,
    }
}

/// [`super::are_apart`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn are_apart(positions: &[u16], separator: u16) -> bool {
    let separator = _mm512_set1_epi16(separator.cast_signed());
    let mut wrong = 0;
    let mut rest = positions;
    while !rest.is_empty() {
        let (there, pairs) = (lanes(rest.len()), lanes(rest.len() - 1));
        // SAFETY: positions that the masks leave out, which the slice may not have, are not read.
        let (these, next) = unsafe {
            let next = rest.as_ptr().wrapping_add(1);
            (
                _mm512_maskz_loadu_epi16(there, rest.as_ptr().cast()),
                _mm512_maskz_loadu_epi16(pairs, next.cast()),
            )
        };
        wrong |= pairs & !_mm512_mask_cmplt_epu16_mask(pairs, these, next);
        wrong |= _mm512_mask_cmpeq_epi16_mask(there, these, separator);
        rest = &rest[rest.len().min(WIDE)..];
    }
    wrong == 0
}

/// [`super::look`].
#[target_feature(enable = "avx2")]
pub(super) fn look_avx2(ids: &[u16], frame: [u16; 4], last: u16) -> Seen {
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
        over: most.cast_unsigned() > u32::from(last),
        frames: frames.cast_unsigned(),
    }
}
