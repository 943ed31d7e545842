//! Blocks of a stream, many at a time.

use super::Key;

/// Blocks that are computed at a time, at most.
pub(crate) const LANES: usize = 16;
/// Words of them.
const WORDS: usize = 4 * LANES;

pub(super) const M0: u64 = 0xD251_1F53;
pub(super) const M1: u64 = 0xCD9E_8D57;
const LOW: u64 = 0xFFFF_FFFF;

/// A stream, as far as it is the same for all its blocks. They differ in the last word of the counter, which reaches the others one by one: two words are the
/// same after the second round, too, and one after the third.
#[derive(Clone)]
pub(crate) struct Begun {
    /// What is added to word 0 and word 2 in each round from the fourth on.
    pub keys: [[u64; 2]; 7],
    /// Word 2 after the first round is this and the last word of the counter.
    pub first: u64,
    /// Word 0 after the second round is this and half a product.
    pub second: u64,
    /// Words 0, 1 and 2 after the third: the first and last are this and what is different.
    pub third: [u64; 3],
}

impl Key {
    /// The stream at coordinates (`a`, `b`), to be asked for many words at once.
    #[inline]
    pub(crate) fn begin(self, a: u64, b: u32) -> Begun {
        Begun::new([a as u32, (a >> 32) as u32, b], self.0)
    }
}

impl Begun {
    /// The first `n` words of the stream, as [`super::Stream::next_u32`] gives them one by one; what `out` holds after them means nothing.
    pub(crate) fn fill(&self, n: usize, out: &mut Vec<u32>) {
        let rounded = n.next_multiple_of(WORDS);
        if out.len() < rounded {
            out.resize(rounded, 0);
        }
        let out = &mut out[..rounded];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has these instructions.
                return unsafe { super::x86::fill_avx512(self, out) };
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: as above.
                return unsafe { super::x86::fill_avx2(self, out) };
            }
        }
        fill(self, out);
    }

    /// The words of eight blocks from block `first` on, which is a multiple of eight.
    pub(super) fn eight(&self, first: u32, out: &mut [u32; 4 * EIGHT]) {
        let begun = Self {
            first: self.first ^ u64::from(first),
            ..self.clone()
        };
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has these instructions.
            return unsafe { super::x86::fill_avx2(&begun, out) };
        }
        fill(&begun, out);
    }

    /// The first three words of each of the first `n` blocks; what is after them, up to a multiple of [`LANES`] and beyond, means nothing.
    pub(crate) fn blocks(&self, n: usize, [first, second, third]: &mut [Vec<u32>; 3]) {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                let n = n.next_multiple_of(LANES);
                let out = [room(first, n), room(second, n), room(third, n)];
                // SAFETY: the processor has these instructions.
                return unsafe { super::x86::blocks_avx512(self, out) };
            }
            if is_x86_feature_detected!("avx2") {
                let n = n.next_multiple_of(EIGHT);
                let out = [room(first, n), room(second, n), room(third, n)];
                // SAFETY: as above.
                return unsafe { super::x86::blocks_avx2(self, out) };
            }
        }
        blocks(self, [room(first, n), room(second, n), room(third, n)]);
    }

    /// The first two words of each of the blocks `base | number`; what is after them, up to a multiple of [`LANES`] and beyond, means nothing. `base` is a power of two, above all `numbers`.
    pub(crate) fn pairs(&self, base: u32, numbers: &[u32], [first, second]: [&mut Vec<u32>; 2]) {
        let begun = Self {
            first: self.first ^ u64::from(base),
            ..self.clone()
        };
        let n = numbers.len().next_multiple_of(EIGHT);
        let out = [room(first, n), room(second, n)];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has these instructions.
            return unsafe { super::x86::pairs_avx2(&begun, numbers, out) };
        }
        pairs(&begun, numbers, out);
    }

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

    /// The words of block `block`.
    #[inline]
    pub(super) fn block(&self, block: u32) -> [u32; 4] {
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
        words.map(|word| word as u32)
    }
}

/// Blocks that AVX2 makes at a time, and numbers that [`Begun::pairs`] takes.
pub(super) const EIGHT: usize = 8;

/// Room for `n` words, of what is a multiple of [`LANES`] in all.
#[inline]
fn room(words: &mut Vec<u32>, n: usize) -> &mut [u32] {
    if words.len() < n {
        words.resize(n.next_multiple_of(LANES), 0);
    }
    &mut words[..n]
}

/// [`Begun::blocks`], block by block.
fn blocks(begun: &Begun, [first, second, third]: [&mut [u32]; 3]) {
    let words = first.iter_mut().zip(second).zip(third);
    for (block, ((first, second), third)) in (0u32..).zip(words) {
        [*first, *second, *third, _] = begun.block(block);
    }
}

/// [`Begun::fill`], block by block.
fn fill(begun: &Begun, out: &mut [u32]) {
    for (block, words) in (0u32..).zip(out.as_chunks_mut::<4>().0) {
        *words = begun.block(block);
    }
}

/// [`Begun::pairs`], block by block.
fn pairs(begun: &Begun, numbers: &[u32], [first, second]: [&mut [u32]; 2]) {
    for ((&number, first), second) in numbers.iter().zip(first).zip(second) {
        [*first, *second, ..] = begun.block(number);
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
        fn words_at_a_time_are_words_one_by_one(seed: u64, a: u64, b: u32, n in 0usize..600) {
            let key = Key::new(seed, Stage::DynamicMask);
            let begun = key.begin(a, b);
            let mut best = Vec::new();
            key.begin(!a, !b).fill(300, &mut best);
            begun.fill(n, &mut best);
            let with = |fill: &dyn Fn(&mut [u32])| {
                let mut words = vec![7; n.next_multiple_of(WORDS)];
                fill(&mut words);
                words
            };
            let mut all = vec![best, with(&|words| fill(&begun, words))];
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has these instructions.
                    all.push(with(&|words| unsafe { super::super::x86::fill_avx2(&begun, words) }));
                }
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: as above.
                    all.push(with(&|words| unsafe { super::super::x86::fill_avx512(&begun, words) }));
                }
            }
            let mut eight = [7; 4 * EIGHT];
            begun.eight(64, &mut eight);
            prop_assert_eq!(eight[5], key.block(a, b, 65)[1]);
            let mut stream = key.stream(a, b);
            for i in 0..n {
                let expected = key.block(a, b, i as u32 / 4)[i % 4];
                prop_assert_eq!(stream.next_u32(), expected, "word {}", i);
                for words in &all {
                    prop_assert_eq!(words[i], expected, "word {}", i);
                }
            }
        }

        #[test]
        fn pairs_are_of_their_blocks(seed: u64, a: u64, b: u32, numbers in prop::collection::vec(0u32..65_536, 0..60)) {
            let key = Key::new(seed, Stage::DynamicMask);
            let begun = key.begin(a, b);
            let mut out = [vec![5; 31], vec![]];
            begun.pairs(65_536, &numbers, out.each_mut());
            let mut plain = [(); 2].map(|()| vec![7; numbers.len()]);
            let of_base = Begun { first: begun.first ^ 65_536, ..begun };
            pairs(&of_base, &numbers, plain.each_mut().map(Vec::as_mut_slice));
            for (i, &number) in numbers.iter().enumerate() {
                let block = key.block(a, b, 65_536 + number);
                prop_assert_eq!([out[0][i], out[1][i]], [block[0], block[1]]);
                prop_assert_eq!([plain[0][i], plain[1][i]], [block[0], block[1]]);
            }
        }

        #[test]
        fn blocks_are_those_of_the_stream(seed: u64, a: u64, b: u32, n in 0usize..100) {
            let key = Key::new(seed, Stage::StaticMask);
            let begun = key.begin(a, b);
            let mut out = [vec![5; 31], vec![], vec![6]];
            begun.blocks(n, &mut out);
            let mut plain = [(); 3].map(|()| vec![7; n]);
            blocks(&begun, plain.each_mut().map(Vec::as_mut_slice));
            let mut all = vec![out, plain];
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                let mut words = [(); 3].map(|()| vec![7; n.next_multiple_of(EIGHT)]);
                // SAFETY: the processor has these instructions.
                unsafe { super::super::x86::blocks_avx2(&begun, words.each_mut().map(Vec::as_mut_slice)) };
                all.push(words);
            }
            for i in 0..n {
                let [first, second, third, _] = key.block(a, b, i as u32);
                for words in &all {
                    prop_assert_eq!([words[0][i], words[1][i], words[2][i]], [first, second, third]);
                }
            }
        }
    }
}
