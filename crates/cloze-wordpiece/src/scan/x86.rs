//! With AVX2 and AVX-512.

use core::arch::x86_64::*;

use super::{CHUNK, KEPT, Marks, Places, append, engine};
use crate::words::{Ids, Set, Words};

#[inline]
#[target_feature(enable = "avx2")]
fn masks_avx2(bytes: &[u8], copy: &mut [u8; 64], lowercase: bool) -> (u64, u64) {
    let mut padded = [b' '; 64];
    let whole = match bytes.first_chunk::<64>() {
        Some(whole) => whole,
        None => {
            padded[..bytes.len()].copy_from_slice(bytes);
            &padded
        }
    };
    let mut half = |at: usize| -> (u64, u64) {
        // SAFETY: both halves of the block are 32 bytes of it.
        let v = unsafe { _mm256_loadu_si256(whole.as_ptr().add(at).cast()) };
        let set = |b: u8| _mm256_set1_epi8(b as i8);
        // Unsigned `v - low <= width`, as a comparison with a minimum.
        let within = |v: __m256i, low: u8, width: u8| {
            let from = _mm256_sub_epi8(v, set(low));
            _mm256_cmpeq_epi8(_mm256_min_epu8(from, set(width)), from)
        };
        let raised = _mm256_or_si256(v, set(0x20));
        let letter = within(raised, b'a', 25);
        let alnum = _mm256_or_si256(letter, within(v, b'0', 9));
        let alone = _mm256_andnot_si256(alnum, within(v, 0x21, 0x7E - 0x21));
        let space = _mm256_or_si256(
            _mm256_or_si256(
                _mm256_cmpeq_epi8(v, set(b' ')),
                _mm256_cmpeq_epi8(v, set(b'\r')),
            ),
            within(v, b'\t', 1),
        );
        let lower = match lowercase {
            true => _mm256_blendv_epi8(v, raised, letter),
            false => v,
        };
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(copy.as_mut_ptr().add(at).cast(), lower) };
        let bits = |m: __m256i| u64::from(_mm256_movemask_epi8(m) as u32);
        (
            bits(_mm256_or_si256(alone, space)) ^ 0xFFFF_FFFF,
            bits(alone),
        )
    };
    let ((a, b), (c, d)) = (half(0), half(32));
    (a | c << 32, b | d << 32)
}

/// [`super::plain::ask`], a key at once.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn ask(marks: &mut Marks, words: &Words, first: usize, end: usize) {
    let Marks {
        text,
        starts,
        lasts,
        keys,
        slots,
        ..
    } = marks;
    let runs = starts[first..end].iter().zip(&lasts[first..end]);
    for ((&start, &last), (key, slot)) in runs.zip(keys.iter_mut().zip(slots)) {
        let start = usize::from(start) & (CHUNK - 1);
        let length = usize::from(last).wrapping_sub(start).min(16);
        // SAFETY: behind any place of a chunk there are 64 bytes more of `text`; the tables' rows are 16 bytes at addresses that are multiples of 16; so many is a key.
        let made = unsafe {
            let text = _mm_loadu_si128(text.as_ptr().add(start).cast());
            let kept = _mm_load_si128(KEPT.0[length].as_ptr().cast());
            let made = _mm_and_si128(text, kept);
            _mm_storeu_si128(key.as_mut_ptr().cast(), made);
            made
        };
        let halves = [_mm_cvtsi128_si64(made), _mm_extract_epi64::<1>(made)];
        *slot = Words::slot(halves.map(i64::cast_unsigned));
        words.prefetch(*slot);
    }
}

/// Bits of the numbers of four bits, two for each way's two halves of a key, that say that one of the ways is it.
const HITS: u32 = 0b1111_1000_1000_1000;

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn find<'a>(set: &'a Set, key: &[u64; 2]) -> Option<&'a Ids> {
    // SAFETY: two keys are 32 bytes, at an address that is a multiple of 64, and one is 16.
    let (keys, key) = unsafe {
        let key = _mm_loadu_si128(key.as_ptr().cast());
        (_mm256_load_si256(set.keys.as_ptr().cast()), key)
    };
    let same = _mm256_cmpeq_epi64(keys, _mm256_broadcastsi128_si256(key));
    let same = _mm256_movemask_pd(_mm256_castsi256_pd(same)) as u32;
    // The second way is it where both of its bits are set.
    (HITS >> same & 1 == 1).then(|| &set.ids[((same + 4) >> 4) as usize & 1])
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,bmi2")]
fn masks_avx512(bytes: &[u8], copy: &mut [u8; 64], lowercase: bool) -> (u64, u64) {
    let set = |b: u8| _mm512_set1_epi8(b as i8);
    let there = !0u64 >> (64 - bytes.len().clamp(1, 64));
    // SAFETY: bytes that the mask leaves out, which the slice may not have, are not read.
    let v = unsafe { _mm512_mask_loadu_epi8(set(b' '), there, bytes.as_ptr().cast()) };
    let within = |v: __m512i, low: u8, width: u8| {
        _mm512_cmple_epu8_mask(_mm512_sub_epi8(v, set(low)), set(width))
    };
    let raised = _mm512_or_si512(v, set(0x20));
    let letter = within(raised, b'a', 25);
    let alone = within(v, 0x21, 0x7E - 0x21) & !(letter | within(v, b'0', 9));
    let space = _mm512_cmpeq_epi8_mask(v, set(b' '))
        | _mm512_cmpeq_epi8_mask(v, set(b'\r'))
        | within(v, b'\t', 1);
    let lower = _mm512_mask_mov_epi8(v, if lowercase { letter } else { 0 }, raised);
    // SAFETY: the block is 64 bytes.
    unsafe { _mm512_storeu_si512(copy.as_mut_ptr().cast(), lower) };
    (!(alone | space), alone)
}

/// [`append`] by one compression.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,popcnt")]
fn append_avx512(places: &mut Places, count: usize, bits: u64, base: u16) -> usize {
    const ALL: [u8; 64] = {
        let mut all = [0; 64];
        let mut i = 0;
        while i < 64 {
            all[i] = i as u8;
            i += 1;
        }
        all
    };
    // SAFETY: all 64 bytes are read. `Places` has room for 64 more, of 16 bits each, after any of a chunk.
    unsafe {
        let all = _mm512_loadu_si512(ALL.as_ptr().cast());
        let set = _mm512_maskz_compress_epi8(bits, all);
        let base = _mm512_set1_epi16(base as i16);
        let low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(set));
        let high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(set));
        let to = places
            .as_mut_ptr()
            .add(count & (CHUNK - 1))
            .cast::<__m512i>();
        _mm512_storeu_si512(to.cast(), _mm512_add_epi16(low, base));
        _mm512_storeu_si512(to.add(1).cast(), _mm512_add_epi16(high, base));
    }
    count + bits.count_ones() as usize
}

engine!(
    /// # Safety
    /// The processor has what [`super::Isa::Avx2`] is.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    { pub(crate) unsafe fn avx2 }, masks_avx2, append, ask, find
);

engine!(
    /// # Safety
    /// The processor has what [`super::Isa::Avx512`] is.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    { pub(crate) unsafe fn avx512 }, masks_avx512, append_avx512, ask, find
);
