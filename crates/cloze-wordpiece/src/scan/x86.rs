//! With AVX2 and AVX-512.

use core::arch::x86_64::*;

use super::engine;

/// The two halves of a key.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(v: __m128i) -> u128 {
    let (low, high) = (
        _mm_cvtsi128_si64(v) as u64,
        _mm_extract_epi64::<1>(v) as u64,
    );
    u128::from(low) | u128::from(high) << 64
}

#[inline]
#[target_feature(enable = "avx2")]
fn masks_avx2(block: &[u8; 64]) -> (u64, u64) {
    let half = |at: usize| -> (u64, u64) {
        // SAFETY: both halves of the block are 32 bytes of it.
        let v = unsafe { _mm256_loadu_si256(block.as_ptr().add(at).cast()) };
        let set = |b: u8| _mm256_set1_epi8(b as i8);
        // Unsigned `v - low <= width`, as a comparison with a minimum.
        let within = |v: __m256i, low: u8, width: u8| {
            let from = _mm256_sub_epi8(v, set(low));
            _mm256_cmpeq_epi8(_mm256_min_epu8(from, set(width)), from)
        };
        let letter = within(_mm256_or_si256(v, set(0x20)), b'a', 25);
        let alnum = _mm256_or_si256(letter, within(v, b'0', 9));
        let alone = _mm256_andnot_si256(alnum, within(v, 0x21, 0x7E - 0x21));
        let space = _mm256_or_si256(
            _mm256_or_si256(
                _mm256_cmpeq_epi8(v, set(b' ')),
                _mm256_cmpeq_epi8(v, set(b'\r')),
            ),
            within(v, b'\t', 1),
        );
        let ends = _mm256_or_si256(alone, space);
        let bits = |m: __m256i| u64::from(_mm256_movemask_epi8(m) as u32);
        (!bits(ends) & 0xFFFF_FFFF, bits(alone))
    };
    let ((a, b), (c, d)) = (half(0), half(32));
    (a | c << 32, b | d << 32)
}

/// Ones, then zeros: the mask of the first `n` bytes begins at `16 - n`.
static FIRST: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 16 {
        bytes[i] = 0xFF;
        i += 1;
    }
    bytes
};

#[inline]
#[target_feature(enable = "avx2")]
fn key_avx2(bytes: &[u8], start: usize, len: usize, lowercase: bool) -> (u128, bool) {
    // SAFETY: 16 bytes are read where the text has them, else of a copy; of `FIRST` 16 of 32, for len is 1 to 16.
    let (v, first) = unsafe {
        let v = if start + 16 <= bytes.len() {
            _mm_loadu_si128(bytes.as_ptr().add(start).cast())
        } else {
            let mut padded = [0u8; 16];
            padded[..len].copy_from_slice(&bytes[start..start + len]);
            _mm_loadu_si128(padded.as_ptr().cast())
        };
        (v, _mm_loadu_si128(FIRST.as_ptr().add(16 - len).cast()))
    };
    let v = _mm_and_si128(v, first);
    let set = |b: u8| _mm_set1_epi8(b as i8);
    // Signed: bytes from 0x80 on are negative.
    let strange = _mm_or_si128(_mm_cmplt_epi8(v, set(0x21)), _mm_cmpeq_epi8(v, set(0x7F)));
    let plain = _mm_testz_si128(strange, first) == 1;
    let upper = _mm_and_si128(
        _mm_cmpgt_epi8(v, set(b'A' - 1)),
        _mm_cmplt_epi8(v, set(b'Z' + 1)),
    );
    let lower = _mm_or_si128(v, _mm_and_si128(upper, set(0x20)));
    (halves(if lowercase { lower } else { v }), plain)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
fn masks_avx512(block: &[u8; 64]) -> (u64, u64) {
    // SAFETY: the block is 64 bytes.
    let v = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    let set = |b: u8| _mm512_set1_epi8(b as i8);
    let within = |v: __m512i, low: u8, width: u8| {
        _mm512_cmple_epu8_mask(_mm512_sub_epi8(v, set(low)), set(width))
    };
    let letter = within(_mm512_or_si512(v, set(0x20)), b'a', 25);
    let alnum = letter | within(v, b'0', 9);
    let alone = within(v, 0x21, 0x7E - 0x21) & !alnum;
    let space = _mm512_cmpeq_epi8_mask(v, set(b' '))
        | _mm512_cmpeq_epi8_mask(v, set(b'\r'))
        | within(v, b'\t', 1);
    (!(alone | space), alone)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
fn key_avx512(bytes: &[u8], start: usize, len: usize, lowercase: bool) -> (u128, bool) {
    let first = (0xFFFFu32 >> (16 - len)) as u16;
    // SAFETY: bytes that the mask leaves out, of which the text may have none, are not read.
    let v = unsafe { _mm_maskz_loadu_epi8(first, bytes.as_ptr().add(start).cast()) };
    let set = |b: u8| _mm_set1_epi8(b as i8);
    let strange = _mm_mask_cmplt_epi8_mask(first, v, set(0x21)) | _mm_cmpeq_epi8_mask(v, set(0x7F));
    let upper = _mm_cmple_epu8_mask(_mm_sub_epi8(v, set(b'A')), set(25));
    let lower = _mm_mask_add_epi8(v, if lowercase { upper } else { 0 }, v, set(0x20));
    (halves(lower), strange == 0)
}

engine!(
    /// # Safety
    /// The processor has AVX2.
    #[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
    { pub(crate) unsafe fn avx2 }, masks_avx2, key_avx2
);

engine!(
    /// # Safety
    /// The processor has AVX-512BW and AVX-512VL.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,bmi1,lzcnt,popcnt")]
    { pub(crate) unsafe fn avx512 }, masks_avx512, key_avx512
);
