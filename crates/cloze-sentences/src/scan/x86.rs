//! The search in vectors of x86-64.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi8, _mm256_and_si256, _mm256_andnot_si256, _mm256_cmpeq_epi8,
    _mm256_loadu_si256, _mm256_max_epu8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set1_epi8, _mm512_cmpeq_epi8_mask, _mm512_cmpge_epu8_mask, _mm512_cmple_epu8_mask,
    _mm512_loadu_si512, _mm512_movepi8_mask, _mm512_set1_epi8, _mm512_sub_epi8,
};

use super::{BEYOND, BLOCK};

/// # Safety
/// AVX-512 F and BW, and [`BEYOND`] bytes more than there are blocks in `out`.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn avx512(bytes: &[u8], stop: u8, out: &mut [u64]) {
    debug_assert!(out.is_empty() || bytes.len() >= out.len() * BLOCK + BEYOND);
    for (block, word) in out.iter_mut().enumerate() {
        // SAFETY: block `block` and the bytes beyond it are there.
        let (v, n) = unsafe {
            let at = bytes.as_ptr().add(block * BLOCK);
            (
                _mm512_loadu_si512(at.cast()),
                _mm512_loadu_si512(at.add(1).cast()),
            )
        };
        let is = |x, byte: u8| _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8(byte as i8));
        let within = |x, low: u8, high: u8| {
            let from_low = _mm512_sub_epi8(x, _mm512_set1_epi8(low as i8));
            _mm512_cmple_epu8_mask(from_low, _mm512_set1_epi8((high - low) as i8))
        };
        let stops = |x| is(x, b'.') | is(x, b'!') | is(x, b'?');
        let inside = within(n, b'a', b'z') | within(n, b'0', b'9') | stops(n);
        let mut found = stops(v) & !inside;
        found |= is(v, b'\n');
        found |= within(v, b'0', b'9') & is(n, b')');
        found |= is(v, stop) & within(n, 0, b' ');
        if _mm512_movepi8_mask(v) != 0 {
            // SAFETY: as above.
            let t = unsafe { _mm512_loadu_si512(bytes.as_ptr().add(block * BLOCK + 2).cast()) };
            let late = _mm512_cmpge_epu8_mask(t, _mm512_set1_epi8(0xa2_u8 as i8));
            let general = (is(n, 0x80) & late) | is(n, 0x81) | is(n, 0x96) | is(n, 0x97);
            let wide = is(t, 0x81) | is(t, 0x8e) | is(t, 0x9f) | is(t, 0xa1);
            found |= is(v, 0xe2) & general;
            found |= is(v, 0xe3) & is(n, 0x80) & is(t, 0x82);
            found |= is(v, 0xef) & (is(n, 0xbc) | is(n, 0xbd)) & wide;
        }
        *word = found;
    }
}

/// # Safety
/// AVX2, and [`BEYOND`] bytes more than there are blocks in `out`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn avx2(bytes: &[u8], stop: u8, out: &mut [u64]) {
    debug_assert!(out.is_empty() || bytes.len() >= out.len() * BLOCK + BEYOND);
    for (block, word) in out.iter_mut().enumerate() {
        *word = 0;
        for half in 0..2 {
            let at = block * BLOCK + half * 32;
            // SAFETY: block `block` and the bytes beyond it are there.
            let (v, n, t) = unsafe {
                let at = bytes.as_ptr().add(at);
                (load(at), load(at.add(1)), load(at.add(2)))
            };
            *word |= u64::from(half_block(v, n, t, stop)) << (half * 32);
        }
    }
}

/// # Safety
/// AVX2, and 32 bytes at `at`.
#[target_feature(enable = "avx2")]
unsafe fn load(at: *const u8) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_loadu_si256(at.cast()) }
}

#[target_feature(enable = "avx2")]
fn half_block(v: __m256i, n: __m256i, t: __m256i, stop: u8) -> u32 {
    let is = |x, byte: u8| _mm256_cmpeq_epi8(x, _mm256_set1_epi8(byte as i8));
    let or = |a, b| _mm256_or_si256(a, b);
    let and = |a, b| _mm256_and_si256(a, b);
    let within = |x, low: u8, high: u8| {
        let from_low = _mm256_add_epi8(x, _mm256_set1_epi8(low.wrapping_neg() as i8));
        let most = _mm256_min_epu8(from_low, _mm256_set1_epi8((high - low) as i8));
        _mm256_cmpeq_epi8(most, from_low)
    };
    let stops = |x| or(or(is(x, b'.'), is(x, b'!')), is(x, b'?'));
    let inside = or(or(within(n, b'a', b'z'), within(n, b'0', b'9')), stops(n));
    let mut found = _mm256_andnot_si256(inside, stops(v));
    found = or(found, is(v, b'\n'));
    found = or(found, and(within(v, b'0', b'9'), is(n, b')')));
    found = or(found, and(is(v, stop), within(n, 0, b' ')));
    if _mm256_movemask_epi8(v) != 0 {
        let bound = _mm256_set1_epi8(0xa2_u8 as i8);
        let late = _mm256_cmpeq_epi8(_mm256_max_epu8(t, bound), t);
        let general = or(
            and(is(n, 0x80), late),
            or(is(n, 0x81), or(is(n, 0x96), is(n, 0x97))),
        );
        let wide = or(or(is(t, 0x81), is(t, 0x8e)), or(is(t, 0x9f), is(t, 0xa1)));
        found = or(found, and(is(v, 0xe2), general));
        found = or(found, and(is(v, 0xe3), and(is(n, 0x80), is(t, 0x82))));
        found = or(
            found,
            and(is(v, 0xef), and(or(is(n, 0xbc), is(n, 0xbd)), wide)),
        );
    }
    _mm256_movemask_epi8(found).cast_unsigned()
}
