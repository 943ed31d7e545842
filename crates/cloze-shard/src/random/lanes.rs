//! Consecutive blocks of a stream, many at a time.

use super::Key;

const LANES: usize = 16;

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
    #[inline(always)]
    pub(crate) fn fill(self, a: u64, b: u32, n: usize, out: &mut Blocks) {
        let rounded = n.next_multiple_of(LANES);
        for words in &mut out.words {
            if words.len() < rounded {
                words.resize(rounded, 0);
            }
        }
        let [first, second, third] = &mut out.words;
        let chunks = first[..rounded]
            .as_chunks_mut()
            .0
            .iter_mut()
            .zip(second[..rounded].as_chunks_mut().0)
            .zip(third[..rounded].as_chunks_mut().0);
        let begun = Begun::new([a as u32, (a >> 32) as u32, b], self.0);
        for (i, ((first, second), third)) in chunks.enumerate() {
            philox_lanes(&begun, (i * LANES) as u32, [first, second, third]);
        }
    }
}

const M0: u64 = 0xD251_1F53;
const M1: u64 = 0xCD9E_8D57;
const LOW: u64 = 0xFFFF_FFFF;

/// What is the same for all blocks of a stream. The last word of the counter, in which they differ, reaches the others one by one: two of the words are the same after
/// the first round, and after the second, and one after the third.
struct Begun {
    /// Keys of each round.
    keys: [[u64; 2]; 10],
    /// After the first round: words 0, 1 and 3, and what word 2 is with nothing in the last word of the counter.
    words: [u64; 4],
}

impl Begun {
    #[inline(always)]
    fn new(counter: [u32; 3], key: [u32; 2]) -> Self {
        let mut round = key;
        let keys = std::array::from_fn(|_| {
            let this = round.map(u64::from);
            round = [
                round[0].wrapping_add(0x9E37_79B9),
                round[1].wrapping_add(0xBB67_AE85),
            ];
            this
        });
        let [c0, c1, c2] = counter.map(u64::from);
        let (p0, p1) = (M0 * c0, M1 * c2);
        let [k0, k1] = keys[0];
        let words = [(p1 >> 32) ^ c1 ^ k0, p1 & LOW, (p0 >> 32) ^ k1, p0 & LOW];
        Self { keys, words }
    }
}

/// [`super::philox`] of counters whose last words are `first`, `first + 1`, …; its first three words.
///
/// A word is kept in a 64-bit lane whose upper half may hold anything: that is what a widening product takes and gives.
#[inline(always)]
fn philox_lanes(begun: &Begun, first: u32, out: [&mut [u32; LANES]; 3]) {
    let Begun { keys, words } = begun;
    // The second round: words 2 and 3 are the same in all lanes.
    let p0 = M0 * words[0];
    let [k0, k1] = keys[1];
    let same = [(p0 >> 32) ^ words[3] ^ k1, p0 & LOW];
    let (mut c0, mut c1) = ([0; LANES], [0; LANES]);
    for i in 0..LANES {
        let p1 = M1 * (words[2] ^ u64::from(first.wrapping_add(i as u32)));
        c0[i] = (p1 >> 32) ^ words[1] ^ k0;
        c1[i] = p1;
    }
    // The third: word 1 is.
    let p1 = M1 * same[0];
    let [k0, k1] = keys[2];
    let (mut c2, mut c3) = ([0; LANES], [0; LANES]);
    for i in 0..LANES {
        let p0 = M0 * (c0[i] & LOW);
        c0[i] = (p1 >> 32) ^ c1[i] ^ k0;
        c1[i] = p1;
        c2[i] = (p0 >> 32) ^ same[1] ^ k1;
        c3[i] = p0;
    }
    for [k0, k1] in &keys[3..] {
        for i in 0..LANES {
            let p0 = M0 * (c0[i] & LOW);
            let p1 = M1 * (c2[i] & LOW);
            c0[i] = (p1 >> 32) ^ c1[i] ^ k0;
            c1[i] = p1;
            c2[i] = (p0 >> 32) ^ c3[i] ^ k1;
            c3[i] = p0;
        }
    }
    for i in 0..LANES {
        out[0][i] = c0[i] as u32;
        out[1][i] = c1[i] as u32;
        out[2][i] = c2[i] as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stage;
    use proptest::prelude::*;

    crate::wide::wide! {
        fn fill(key: Key, a: u64, b: u32, n: usize, out: &mut Blocks) {
            key.fill(a, b, n, out);
        }
    }

    proptest! {
        /// With each set of instructions that the processor has, and in memory that held something else.
        #[test]
        fn blocks_at_a_time_are_blocks_one_by_one(seed: u64, a: u64, b: u32, n in 0usize..600) {
            let key = Key::new(seed, Stage::DynamicMask);
            let (mut plain, mut best) = (Blocks::default(), Blocks::default());
            key.fill(!a, !b, 300, &mut best);
            key.fill(a, b, n, &mut plain);
            fill(key, a, b, n, &mut best);
            for i in 0..n {
                let block = key.block(a, b, i as u32);
                for (word, &expected) in block.iter().enumerate().take(3) {
                    prop_assert_eq!(plain.words(word)[i], expected);
                    prop_assert_eq!(best.words(word)[i], expected);
                }
            }
        }
    }
}
