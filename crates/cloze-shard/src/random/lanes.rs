//! Consecutive blocks of a stream, many at a time.

use super::Key;

/// Blocks that are computed at a time.
pub(super) const LANES: usize = 16;

/// The first three words of blocks 0, 1, … of a stream.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    words: [Vec<u32>; 3],
}

impl Blocks {
    /// Blocks that are computed at a time.
    pub(crate) const LANES: usize = LANES;

    /// Word `word` (0, 1 or 2) of each block.
    #[must_use]
    pub fn words(&self, word: usize) -> &[u32] {
        &self.words[word]
    }

    /// As [`Blocks::words`], to be written over.
    pub(crate) fn words_mut(&mut self, word: usize) -> &mut [u32] {
        &mut self.words[word]
    }
}

impl Key {
    /// The first `n` blocks of the stream at coordinates (`a`, `b`), as [`Key::block`] gives them one by one; `out` may hold more after them.
    pub(crate) fn fill(self, a: u64, b: u32, n: usize, out: &mut Blocks) {
        let rounded = n.next_multiple_of(LANES);
        for words in &mut out.words {
            if words.len() < rounded {
                words.resize(rounded, 0);
            }
        }
        let words = out.words.each_mut().map(|words| &mut words[..rounded]);
        let begun = Begun::new([a as u32, (a >> 32) as u32, b], self.0);
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                // SAFETY: the processor has these instructions.
                return unsafe { super::x86::avx512(&begun, words) };
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: as above.
                return unsafe { super::x86::avx2(&begun, words) };
            }
        }
        plain(&begun, words);
    }
}

pub(super) const M0: u64 = 0xD251_1F53;
pub(super) const M1: u64 = 0xCD9E_8D57;
const LOW: u64 = 0xFFFF_FFFF;

/// What is the same for all blocks of a stream. They differ in the last word of the counter, which reaches the others one by one: two words are the same after the second
/// round, too, and one after the third.
pub(super) struct Begun {
    /// What is added to word 0 and word 2 in each round from the fourth on.
    pub keys: [[u64; 2]; 7],
    /// Word 2 after the first round is this and the last word of the counter.
    pub first: u64,
    /// Word 0 after the second round is this and half a product.
    pub second: u64,
    /// Words 0, 1 and 2 after the third: the first and last are this and what is different.
    pub third: [u64; 3],
}

impl Begun {
    #[inline]
    pub(super) fn new(counter: [u32; 3], key: [u32; 2]) -> Self {
        let [k0, k1] = key.map(u64::from);
        // Numbers of the key's own schedule, see `philox`.
        let round = |i: u32| {
            [
                u64::from(key[0].wrapping_add(0x9E37_79B9u32.wrapping_mul(i))),
                u64::from(key[1].wrapping_add(0xBB67_AE85u32.wrapping_mul(i))),
            ]
        };
        let [c0, c1, c2] = counter.map(u64::from);
        let (p0, p1) = (M0 * c0, M1 * c2);
        let words = [(p1 >> 32) ^ c1 ^ k0, p1 & LOW, (p0 >> 32) ^ k1, p0 & LOW];
        let (p0, [k0, k1]) = (M0 * words[0], round(1));
        let same = [(p0 >> 32) ^ words[3] ^ k1, p0 & LOW];
        let (p1, [l0, l1]) = (M1 * same[0], round(2));
        Self {
            keys: std::array::from_fn(|i| round(3 + i as u32)),
            first: words[2],
            second: words[1] ^ k0,
            third: [(p1 >> 32) ^ l0, p1 & LOW, same[1] ^ l1],
        }
    }

    /// The first three words of block `block`.
    #[inline]
    pub(super) fn block(&self, block: u32) -> [u32; 3] {
        let p1 = M1 * (self.first ^ u64::from(block));
        let p0 = M0 * ((p1 >> 32) ^ self.second);
        let mut words = [
            self.third[0] ^ (p1 & LOW),
            self.third[1],
            (p0 >> 32) ^ self.third[2],
            p0 & LOW,
        ];
        for [k0, k1] in self.keys {
            let (p0, p1) = (M0 * words[0], M1 * words[2]);
            words = [
                (p1 >> 32) ^ words[1] ^ k0,
                p1 & LOW,
                (p0 >> 32) ^ words[3] ^ k1,
                p0 & LOW,
            ];
        }
        [words[0] as u32, words[1] as u32, words[2] as u32]
    }
}

/// The first three words of blocks 0, 1, …, one by one.
pub(super) fn plain(begun: &Begun, [first, second, third]: [&mut [u32]; 3]) {
    for (block, ((first, second), third)) in (0u32..).zip(first.iter_mut().zip(second).zip(third)) {
        [*first, *second, *third] = begun.block(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stage;
    use proptest::prelude::*;

    proptest! {
        /// With each set of instructions that the processor has, and in memory that held something else.
        #[test]
        fn blocks_at_a_time_are_blocks_one_by_one(seed: u64, a: u64, b: u32, n in 0usize..600) {
            let key = Key::new(seed, Stage::DynamicMask);
            let mut best = Blocks::default();
            key.fill(!a, !b, 300, &mut best);
            key.fill(a, b, n, &mut best);
            let begun = Begun::new([a as u32, (a >> 32) as u32, b], key.0);
            let with = |fill: &dyn Fn([&mut [u32]; 3])| {
                let mut words = [(); 3].map(|()| vec![7; n.next_multiple_of(LANES)]);
                fill(words.each_mut().map(Vec::as_mut_slice));
                Blocks { words }
            };
            let mut all = vec![best, with(&|words| plain(&begun, words))];
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has these instructions.
                    all.push(with(&|words| unsafe { super::super::x86::avx2(&begun, words) }));
                }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                    // SAFETY: as above.
                    all.push(with(&|words| unsafe { super::super::x86::avx512(&begun, words) }));
                }
            }
            for i in 0..n {
                let block = key.block(a, b, i as u32);
                for blocks in &all {
                    for (word, &expected) in block.iter().enumerate().take(3) {
                        prop_assert_eq!(blocks.words(word)[i], expected);
                    }
                }
            }
        }
    }
}
