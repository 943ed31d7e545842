//! Blocks of a stream in vectors of x86-64: what [`Begun::block`] makes one by one, which the tests compare.
//!
//! A word lies in the lower half of a 64-bit lane whose upper half may hold anything: that is what a widening product takes and gives.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_blend_epi32, _mm256_loadu_si256, _mm256_mul_epu32, _mm256_set_epi64x,
    _mm256_set1_epi64x, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_storeu_si256,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi64, _mm256_xor_si256, _mm512_mask_blend_epi32,
    _mm512_mul_epu32, _mm512_set_epi64, _mm512_set1_epi64, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_storeu_si512, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::lanes::{Begun, EIGHT, LANES, M0, M1};

/// Defines what is the same in all lanes, in vectors, and the words of two vectors of blocks after all rounds.
macro_rules! rounds {
    ($same:ident, $features:literal, $vector:ty, $splat:ident, $xor:ident, $mul:ident, $shift:ident) => {
        /// [`Begun`], in all lanes.
        struct $same {
            products: [$vector; 2],
            first: $vector,
            second: $vector,
            third: [$vector; 3],
            keys: [[$vector; 2]; 7],
        }

        impl $same {
            #[inline]
            #[target_feature(enable = $features)]
            fn new(begun: &Begun) -> Self {
                let splat = |word: u64| $splat(word.cast_signed());
                let keys = &begun.keys;
                let pair = |i: usize| [splat(keys[i][0]), splat(keys[i][1])];
                Self {
                    products: [splat(M0), splat(M1)],
                    first: splat(begun.first),
                    second: splat(begun.second),
                    third: [
                        splat(begun.third[0]),
                        splat(begun.third[1]),
                        splat(begun.third[2]),
                    ],
                    keys: [
                        pair(0),
                        pair(1),
                        pair(2),
                        pair(3),
                        pair(4),
                        pair(5),
                        pair(6),
                    ],
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn blocks(&self, block: [$vector; 2]) -> [[$vector; 4]; 2] {
                let [m0, m1] = self.products;
                let begin = |block: $vector| {
                    let p1 = $mul(m1, $xor(self.first, block));
                    let p0 = $mul(m0, $xor($shift::<32>(p1), self.second));
                    let [third, same, fourth] = self.third;
                    [$xor(third, p1), same, $xor($shift::<32>(p0), fourth), p0]
                };
                let round = |words: [$vector; 4], keys: &[$vector; 2]| {
                    let (p0, p1) = ($mul(m0, words[0]), $mul(m1, words[2]));
                    [
                        $xor($shift::<32>(p1), $xor(words[1], keys[0])),
                        p1,
                        $xor($shift::<32>(p0), $xor(words[3], keys[1])),
                        p0,
                    ]
                };
                let (mut low, mut high) = (begin(block[0]), begin(block[1]));
                let [a, b, c, d, e, f, g] = &self.keys;
                (low, high) = (round(low, a), round(high, a));
                (low, high) = (round(low, b), round(high, b));
                (low, high) = (round(low, c), round(high, c));
                (low, high) = (round(low, d), round(high, d));
                (low, high) = (round(low, e), round(high, e));
                (low, high) = (round(low, f), round(high, f));
                (low, high) = (round(low, g), round(high, g));
                [low, high]
            }
        }
    };
}

rounds!(
    Same256,
    "avx2",
    __m256i,
    _mm256_set1_epi64x,
    _mm256_xor_si256,
    _mm256_mul_epu32,
    _mm256_srli_epi64
);
rounds!(
    Same512,
    "avx512f",
    __m512i,
    _mm512_set1_epi64,
    _mm512_xor_si512,
    _mm512_mul_epu32,
    _mm512_srli_epi64
);

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn fill_avx2(begun: &Begun, out: &mut [u32]) {
    let same = Same256::new(begun);
    // So that the lower lanes of both halves of a vector hold the first two blocks, and the upper ones the others.
    let order = [_mm256_set_epi64x(3, 1, 2, 0), _mm256_set_epi64x(7, 5, 6, 4)];
    for (at, to) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        // Numbers of blocks are multiples of 8 and what is below.
        let at = _mm256_set1_epi64x(8 * at as i64);
        let made = same.blocks(order.map(|order| _mm256_xor_si256(order, at)));
        for (to, words) in to.as_chunks_mut::<16>().0.iter_mut().zip(made) {
            let [a, b, c, d] = words;
            let low = both(a, b);
            let high = both(c, d);
            let halves = [
                _mm256_unpacklo_epi64(low, high),
                _mm256_unpackhi_epi64(low, high),
            ];
            for (to, half) in to.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
                // SAFETY: half a chunk is 32 bytes.
                unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), half) };
            }
        }
    }
}

/// The words of two vectors, in turn.
#[inline]
#[target_feature(enable = "avx2")]
fn both(even: __m256i, odd: __m256i) -> __m256i {
    _mm256_blend_epi32::<0b1010_1010>(even, _mm256_slli_epi64::<32>(odd))
}

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn blocks_avx2(begun: &Begun, [first, second, third]: [&mut [u32]; 3]) {
    let same = Same256::new(begun);
    let groups = [first, second, third].map(|words| words.as_chunks_mut::<EIGHT>().0);
    let [first, second, third] = groups;
    let groups = first.iter_mut().zip(second).zip(third);
    for (at, ((first, second), third)) in groups.enumerate() {
        let at = _mm256_set1_epi64x((EIGHT * at) as i64);
        let even = _mm256_xor_si256(_mm256_set_epi64x(6, 4, 2, 0), at);
        let odd = _mm256_xor_si256(_mm256_set_epi64x(7, 5, 3, 1), at);
        let [low, high] = same.blocks([even, odd]);
        for (to, word) in [(first, 0), (second, 1), (third, 2)] {
            // SAFETY: a group is 32 bytes.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), both(low[word], high[word])) };
        }
    }
}

/// # Safety
/// The processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn blocks_avx512(begun: &Begun, [first, second, third]: [&mut [u32]; 3]) {
    let same = Same512::new(begun);
    let groups = [first, second, third].map(|words| words.as_chunks_mut::<LANES>().0);
    let [first, second, third] = groups;
    let groups = first.iter_mut().zip(second).zip(third);
    for (at, ((first, second), third)) in groups.enumerate() {
        let at = _mm512_set1_epi64((LANES * at) as i64);
        let even = _mm512_xor_si512(_mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0), at);
        let odd = _mm512_xor_si512(_mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1), at);
        let [low, high] = same.blocks([even, odd]);
        for (to, word) in [(first, 0), (second, 1), (third, 2)] {
            let words = both_512(low[word], high[word]);
            // SAFETY: a group is 64 bytes.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), words) };
        }
    }
}

/// The words of two vectors, in turn.
#[inline]
#[target_feature(enable = "avx512f")]
fn both_512(even: __m512i, odd: __m512i) -> __m512i {
    _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64::<32>(odd))
}

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn pairs_avx2(begun: &Begun, numbers: &[u32], [first, second]: [&mut [u32]; 2]) {
    let same = Same256::new(begun);
    let chunks = first.as_chunks_mut::<EIGHT>().0.iter_mut();
    let chunks = chunks.zip(second.as_chunks_mut::<EIGHT>().0);
    for (numbers, (first, second)) in numbers.chunks(EIGHT).zip(chunks) {
        let mut eight = [0; EIGHT];
        eight[..numbers.len()].copy_from_slice(numbers);
        // SAFETY: eight numbers are 32 bytes.
        let even = unsafe { _mm256_loadu_si256(eight.as_ptr().cast()) };
        let [low, high] = same.blocks([even, _mm256_srli_epi64::<32>(even)]);
        for (to, word) in [(first, 0), (second, 1)] {
            // SAFETY: a chunk is 32 bytes.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), both(low[word], high[word])) };
        }
    }
}

/// # Safety
/// The processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn fill_avx512(begun: &Begun, out: &mut [u32]) {
    let same = Same512::new(begun);
    // As above: every even lane holds one of the first four blocks, every odd one of the others.
    let order = [
        _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0),
        _mm512_set_epi64(15, 11, 14, 10, 13, 9, 12, 8),
    ];
    for (at, to) in out
        .as_chunks_mut::<{ 4 * LANES }>()
        .0
        .iter_mut()
        .enumerate()
    {
        let at = _mm512_set1_epi64((LANES * at) as i64);
        let made = same.blocks(order.map(|order| _mm512_xor_si512(order, at)));
        for (to, words) in to.as_chunks_mut::<32>().0.iter_mut().zip(made) {
            let [a, b, c, d] = words;
            let (low, high) = (both_512(a, b), both_512(c, d));
            let halves = [
                _mm512_unpacklo_epi64(low, high),
                _mm512_unpackhi_epi64(low, high),
            ];
            for (to, half) in to.as_chunks_mut::<16>().0.iter_mut().zip(halves) {
                // SAFETY: half a chunk is 64 bytes.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), half) };
            }
        }
    }
}
