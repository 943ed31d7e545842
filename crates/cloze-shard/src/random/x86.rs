//! Blocks of a stream in vectors of x86-64: what [`super::lanes::plain`] makes, which the tests compare.
//!
//! A word lies in the lower half of a 64-bit lane whose upper half may hold anything: that is what a widening product takes and gives.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_mul_epu32,
    _mm256_set_epi64x, _mm256_set1_epi64x, _mm256_shuffle_ps, _mm256_srli_epi64,
    _mm256_storeu_si256, _mm256_xor_si256, _mm512_cvtepi64_epi32, _mm512_mul_epu32,
    _mm512_set_epi64, _mm512_set1_epi64, _mm512_srli_epi64, _mm512_xor_si512,
};

use super::lanes::{Begun, LANES, M0, M1};

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
            fn blocks(&self, block: [$vector; 2]) -> [[$vector; 2]; 3] {
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
                [[low[0], high[0]], [low[1], high[1]], [low[2], high[2]]]
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
pub(super) unsafe fn avx2(begun: &Begun, [first, second, third]: [&mut [u32]; 3]) {
    let same = Same256::new(begun);
    // So that the lower halves of both, put together, are in order.
    let order = [_mm256_set_epi64x(5, 4, 1, 0), _mm256_set_epi64x(7, 6, 3, 2)];
    let words = first.as_chunks_mut::<8>().0.iter_mut();
    let words = words
        .zip(second.as_chunks_mut::<8>().0)
        .zip(third.as_chunks_mut::<8>().0);
    for (at, ((first, second), third)) in words.enumerate() {
        // Numbers of blocks are multiples of 8 and what is below.
        let at = _mm256_set1_epi64x(8 * at as i64);
        let blocks = [
            _mm256_xor_si256(order[0], at),
            _mm256_xor_si256(order[1], at),
        ];
        let made = same.blocks(blocks);
        for (to, [low, high]) in [first, second, third].into_iter().zip(made) {
            let (low, high) = (_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
            let both = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
            // SAFETY: a chunk is 32 bytes.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), both) };
        }
    }
}

/// # Safety
/// The processor has AVX-512 F and VL.
#[target_feature(enable = "avx512f,avx512vl,avx2")]
pub(super) unsafe fn avx512(begun: &Begun, [first, second, third]: [&mut [u32]; 3]) {
    let same = Same512::new(begun);
    let order = [
        _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0),
        _mm512_set_epi64(15, 14, 13, 12, 11, 10, 9, 8),
    ];
    let words = first.as_chunks_mut::<LANES>().0.iter_mut();
    let words = words.zip(second.as_chunks_mut::<LANES>().0);
    let words = words.zip(third.as_chunks_mut::<LANES>().0);
    for (at, ((first, second), third)) in words.enumerate() {
        let at = _mm512_set1_epi64((LANES * at) as i64);
        let blocks = [
            _mm512_xor_si512(order[0], at),
            _mm512_xor_si512(order[1], at),
        ];
        let made = same.blocks(blocks);
        for (to, halves) in [first, second, third].into_iter().zip(made) {
            for (to, half) in to.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
                // SAFETY: half a chunk is 32 bytes.
                unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtepi64_epi32(half)) };
            }
        }
    }
}
