//! Keyed, counter-based randomness: every draw is a pure function of what it is for.
//!
//! There is no generator state to save, share or order: a draw depends on the seed, the [`Stage`]
//! that asks, and the coordinates of the thing it is for (a document, a row, an epoch). Output is
//! therefore the same for any number of threads, and resuming needs nothing but a position.
//!
//! The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: *Parallel Random Numbers: As Easy as
//! 1, 2, 3*, SC 2011), which a GPU computes as cheaply as a CPU.

mod lanes;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use lanes::{Begun, LANES};

use crate::wide::wide;
use lanes::EIGHT;

/// Words that a stream holds.
const HELD: usize = 4 * EIGHT;

/// What a random draw is for. Different stages never share a stream.
///
/// The numbers are part of the format: changing one changes what a seed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// Train or validation, by document.
    Split = 1,
    /// Building instances from a document.
    Pairing = 2,
    /// Where a row goes in the dataset.
    RowOrder = 3,
    /// Masks written into shards.
    StaticMask = 4,
    /// Masks drawn while training.
    DynamicMask = 5,
    /// The order of rows in an epoch.
    EpochOrder = 6,
    /// Dropout.
    Dropout = 7,
    /// Initial weights.
    Init = 8,
    /// Rows shown to a person.
    Sample = 9,
    /// Which label each instance of a chunk of documents gets.
    Label = 10,
    /// Which dataset of a mixture a row comes from.
    Mixture = 11,
    /// The order of batches whose rows are of similar length.
    LengthGroups = 12,
    /// Which rows have their segments in the other order.
    SentenceOrder = 13,
    /// Text from elsewhere for a pair, keyed by a draw of [`Stage::Pairing`] in place of the seed.
    Elsewhere = 14,
}

/// One Philox4x32-10 block: four 32-bit words from a 128-bit counter and a 64-bit key.
#[inline]
#[must_use]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const M0: u64 = 0xD251_1F53;
    const M1: u64 = 0xCD9E_8D57;
    for _ in 0..10 {
        let p0 = M0 * u64::from(counter[0]);
        let p1 = M1 * u64::from(counter[2]);
        counter = [
            (p1 >> 32) as u32 ^ counter[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ counter[3] ^ key[1],
            p0 as u32,
        ];
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    counter
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection that mixes all 64 bits.
#[inline]
#[must_use]
pub fn mix64(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A seed bound to a stage: the key of a family of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u32; 2]);

impl Key {
    /// The key of `stage` under `seed`; different stages of a seed never share one.
    #[must_use]
    pub fn new(seed: u64, stage: Stage) -> Self {
        let mixed = mix64(seed).wrapping_add((stage as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let key = mix64(mixed);
        Self([key as u32, (key >> 32) as u32])
    }

    /// The key itself, for a device that computes the same blocks.
    #[must_use]
    pub fn words(self) -> [u32; 2] {
        self.0
    }

    /// Block number `block` of the stream at coordinates (`a`, `b`).
    #[inline]
    #[must_use]
    pub fn block(self, a: u64, b: u32, block: u32) -> [u32; 4] {
        philox([a as u32, (a >> 32) as u32, b, block], self.0)
    }

    /// The stream at coordinates (`a`, `b`): for instance (document, duplicate) or (row, epoch).
    #[must_use]
    pub fn stream(self, a: u64, b: u32) -> Stream {
        Stream {
            key: self,
            a,
            b,
            next_block: 0,
            words: [0; HELD],
            used: 0,
            held: 0,
        }
    }
}

/// A sequence of draws at fixed coordinates.
#[derive(Clone, Debug)]
pub struct Stream {
    key: Key,
    a: u64,
    b: u32,
    next_block: u32,
    words: [u32; HELD],
    used: usize,
    held: usize,
}

impl Stream {
    /// 32 uniform bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if self.used == self.held {
            self.refill();
        }
        self.used += 1;
        self.words[(self.used - 1) % HELD]
    }

    /// The first block alone, because many streams need no more, and then many at a time.
    #[inline(never)]
    fn refill(&mut self) {
        if self.next_block == 0 && self.held != HELD {
            let block = self.key.block(self.a, self.b, 0);
            self.words[..4].copy_from_slice(&block);
            (self.used, self.held, self.next_block) = (0, 4, 1);
            return;
        }
        // The first block is there again.
        let (first, used) = match self.next_block {
            1 => (0, 4),
            next => (next, 0),
        };
        self.key.begin(self.a, self.b).eight(first, &mut self.words);
        (self.used, self.held) = (used, HELD);
        self.next_block = first.wrapping_add(EIGHT as u32);
    }

    /// 64 uniform bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | u64::from(self.next_u32()) << 32
    }

    /// Uniform in `0..n`, without bias (Lemire 2019, with rejection). `below(0)` is 0.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            let low = product as u64;
            // Reject the few low products that would favour some results: those under 2^64 mod n.
            if low >= n || low >= n.wrapping_neg() % n {
                return (product >> 64) as u64;
            }
        }
    }

    /// Uniform in `low..=high`.
    #[inline]
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Uniform in `[0, 1)` with 53 bits.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// True with probability `p`.
    #[inline]
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// A standard normal draw (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// A keyed pseudo-random permutation of `0..n`, computable at any position and invertible.
///
/// A Feistel network over the smallest even number of halves that holds `n`, walked until it lands
/// inside (*cycle walking*: Black and Rogaway, CT-RSA 2002). Memory is constant, so the order of an
/// epoch of any size needs no table.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    n: u64,
    left_bits: u32,
    right_bits: u32,
    round_keys: [u64; Self::ROUNDS],
}

impl Permutation {
    const ROUNDS: usize = 6;

    /// The permutation of `0..n` at coordinates (`a`, `b`) of `key`.
    #[must_use]
    pub fn new(key: Key, a: u64, b: u32, n: u64) -> Self {
        let bits = (64 - n.saturating_sub(1).leading_zeros()).max(2);
        let mut stream = key.stream(a, b);
        let round_keys = std::array::from_fn(|_| stream.next_u64());
        Self {
            n,
            left_bits: bits / 2,
            right_bits: bits - bits / 2,
            round_keys,
        }
    }

    /// The number of positions.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.n
    }

    /// Whether there are no positions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Where position `i` goes. `i` must be below `n`; other positions are returned unchanged.
    #[must_use]
    pub fn at(&self, i: u64) -> u64 {
        self.walk(i, Self::forward)
    }

    /// The position that goes to `j`: `inverse(at(i)) == i`.
    #[must_use]
    pub fn inverse(&self, j: u64) -> u64 {
        self.walk(j, |permutation, x| permutation.backward([x])[0])
    }

    /// [`Permutation::inverse`] of `first` and of those after it, as many as `out` takes.
    pub fn inverses(&self, first: u64, out: &mut [u64]) {
        for (to, j) in out.iter_mut().zip(first..) {
            *to = j;
        }
        let inside = self.n.saturating_sub(first).min(out.len() as u64);
        let out = &mut out[..inside as usize];
        backward_all(self, out);
        for to in out {
            // The walk goes on where it has not landed inside.
            while *to >= self.n {
                [*to] = self.backward([*to]);
            }
        }
    }

    fn walk(&self, start: u64, step: impl Fn(&Self, u64) -> u64) -> u64 {
        if start >= self.n {
            return start;
        }
        let mut x = start;
        loop {
            x = step(self, x);
            if x < self.n {
                return x;
            }
        }
    }

    fn forward(&self, x: u64) -> u64 {
        let (mut l_bits, mut r_bits) = (self.left_bits, self.right_bits);
        let (mut l, mut r) = (x >> r_bits, x & ones(r_bits));
        for key in self.round_keys {
            (l, r) = (r, l ^ (mix64(r ^ key) & ones(l_bits)));
            (l_bits, r_bits) = (r_bits, l_bits);
        }
        l << r_bits | r
    }

    #[inline(always)]
    fn backward<const N: usize>(&self, x: [u64; N]) -> [u64; N] {
        // An even number of rounds leaves the widths as they began.
        let (mut l_bits, mut r_bits) = (self.left_bits, self.right_bits);
        let right = r_bits;
        let (mut l, mut r) = (x.map(|x| x >> right), x.map(|x| x & ones(right)));
        for key in self.round_keys.iter().rev() {
            (l_bits, r_bits) = (r_bits, l_bits);
            for (l, r) in l.iter_mut().zip(&mut r) {
                (*l, *r) = (*r ^ (mix64(*l ^ key) & ones(l_bits)), *l);
            }
        }
        std::array::from_fn(|i| l[i] << r_bits | r[i])
    }
}

wide! {
    /// A step backward of each.
    fn backward_all(permutation: &Permutation, all: &mut [u64]) {
        let (groups, rest) = all.as_chunks_mut::<8>();
        for group in groups {
            *group = permutation.backward(*group);
        }
        for x in rest {
            [*x] = permutation.backward([*x]);
        }
    }
}

fn ones(bits: u32) -> u64 {
    (1u64 << bits) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The known answers that Random123 publishes for Philox4x32-10.
    #[test]
    fn philox_gives_the_published_answers() {
        let ff = u32::MAX;
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([ff; 4], [ff; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn stages_and_coordinates_do_not_share_streams() {
        let mut seen = std::collections::HashSet::new();
        for stage in [Stage::Split, Stage::Pairing, Stage::DynamicMask] {
            for a in 0..8 {
                for b in 0..8 {
                    assert!(seen.insert(Key::new(7, stage).stream(a, b).next_u64()));
                }
            }
        }
    }

    #[test]
    fn below_is_uniform() {
        let mut stream = Key::new(3, Stage::Sample).stream(0, 0);
        let mut counts = [0f64; 7];
        let draws = 70_000;
        for _ in 0..draws {
            counts[stream.below(7) as usize] += 1.0;
        }
        let expected = f64::from(draws) / 7.0;
        let chi2: f64 = counts
            .iter()
            .map(|c| (c - expected).powi(2) / expected)
            .sum();
        assert!(
            chi2 < 22.46,
            "chi-square {chi2} with 6 degrees of freedom is over its 0.999 quantile"
        );
    }

    proptest! {
        #[test]
        fn permutation_is_a_bijection_and_inverts(n in 1u64..400, seed: u64, a: u64) {
            let p = Permutation::new(Key::new(seed, Stage::EpochOrder), a, 0, n);
            let mut seen = vec![false; n as usize];
            for i in 0..n {
                let j = p.at(i);
                prop_assert!(j < n && !seen[j as usize]);
                seen[j as usize] = true;
                prop_assert_eq!(p.inverse(j), i);
            }
            // Past the last, too.
            for (first, count) in [(0, n + 3), (n / 2, 11), (n, 9)] {
                let mut all = vec![7; count as usize];
                p.inverses(first, &mut all);
                let expected: Vec<u64> = (first..first + count).map(|j| p.inverse(j)).collect();
                prop_assert_eq!(all, expected);
            }
        }

        #[test]
        fn permutation_inverts_at_any_size(n in 1u64..(1 << 40), i: u64, seed: u64) {
            let p = Permutation::new(Key::new(seed, Stage::EpochOrder), 1, 2, n);
            let i = i % n;
            prop_assert!(p.at(i) < n);
            prop_assert_eq!(p.inverse(p.at(i)), i);
        }
    }

    /// Spearman's rank correlation of input and output order stays within 4 standard errors of zero.
    #[test]
    fn permutation_leaves_no_order() {
        let n = 20_000u64;
        for seed in 0..8 {
            let p = Permutation::new(Key::new(seed, Stage::RowOrder), 0, 0, n);
            let mean = (n - 1) as f64 / 2.0;
            let variance = (n as f64 * n as f64 - 1.0) / 12.0;
            let covariance: f64 = (0..n)
                .map(|i| (i as f64 - mean) * (p.at(i) as f64 - mean))
                .sum::<f64>()
                / n as f64;
            let rho = covariance / variance;
            assert!(rho.abs() < 4.0 / (n as f64).sqrt(), "seed {seed}: {rho}");
        }
    }
}
