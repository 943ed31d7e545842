//! MinHash (Broder 1997): signatures that agree in as many places as two sets of shingles have in common, and bands of
//! them that are equal only where they agree in many.

use xxhash_rust::xxh3::xxh3_128;

use crate::words;

/// Words in a shingle.
pub const SHINGLE: usize = 5;
/// Hash functions, and so places of a signature.
pub const PLACES: usize = 128;

/// A signature: for each hash function, the least hash of all shingles.
pub type Signature = [u32; PLACES];

/// Appends the shingles of a text of these words to `out`: all runs of [`SHINGLE`] words, or the whole of a shorter text.
pub fn shingles(words: &[u64], out: &mut Vec<u64>) {
    match words.len() {
        0 => {}
        n => words::runs(words, n.min(SHINGLE), out),
    }
}

/// How a signature is cut: a band is a run of `rows` places, and texts are similar if a band is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bands {
    /// How many.
    pub bands: usize,
    /// Places in each.
    pub rows: usize,
}

impl Bands {
    /// The bands whose [curve](Bands::found) is nearest to a step at similarity `threshold`: the area over it below the threshold and under it
    /// above are least together. Made of products alone, so that it is the same everywhere.
    #[must_use]
    pub fn of(threshold: f64) -> Self {
        const STEPS: usize = 500;
        let mut best = (f64::INFINITY, Self { bands: 1, rows: 1 });
        for bands in 1..=PLACES {
            for rows in 1..=PLACES / bands {
                let cut = Self { bands, rows };
                let wrong: f64 = (0..STEPS)
                    .map(|i| {
                        let s = (i as f64 + 0.5) / STEPS as f64;
                        let found = cut.found(s);
                        if s < threshold { found } else { 1.0 - found }
                    })
                    .sum();
                if wrong < best.0 {
                    best = (wrong, cut);
                }
            }
        }
        best.1
    }

    /// The chance that two texts of Jaccard similarity `s` have an equal band: 1 − (1 − sʳ)ᵇ.
    #[must_use]
    pub fn found(self, s: f64) -> f64 {
        let power = |base: f64, n: usize| (0..n).fold(1.0, |p, _| p * base);
        1.0 - power(1.0 - power(s, self.rows), self.bands)
    }

    /// The keys of the bands of a signature, appended to `out`. Equal keys are equal bands of one number.
    pub fn keys(self, signature: &Signature, out: &mut Vec<u128>) {
        let mut bytes = Vec::with_capacity(4 * self.rows + 8);
        for band in 0..self.bands {
            bytes.clear();
            bytes.extend_from_slice(&(band as u64).to_le_bytes());
            for place in &signature[band * self.rows..][..self.rows] {
                bytes.extend_from_slice(&place.to_le_bytes());
            }
            out.push(xxh3_128(&bytes));
        }
    }
}

/// The hash functions.
///
/// Function k of a shingle x is (x ⊕ aₖ) · mₖ modulo 2³², with mₖ odd, of its upper 32 bits: a permutation, whose order has nothing to do with that of the
/// shingles or of another k. Sums instead of products would be cheaper still, but they only turn the circle of all hashes: what comes
/// after a large gap is then the least under many k (seen as a variance 1.4 times that of independent functions).
#[derive(Clone, Debug)]
pub struct MinHasher {
    flip: [u32; PLACES],
    times: [u32; PLACES],
}

impl Default for MinHasher {
    /// The functions are always the same: which texts are similar does not depend on a seed.
    fn default() -> Self {
        let of = |half: u64| {
            std::array::from_fn(|k| (words::run(&[half, k as u64]) >> 32) as u32 | half as u32)
        };
        Self {
            flip: of(0),
            times: of(1),
        }
    }
}

impl MinHasher {
    /// The signature of a set of shingles; `None` of none.
    #[must_use]
    pub fn signature(&self, shingles: &[u64]) -> Option<Signature> {
        if shingles.is_empty() {
            return None;
        }
        let mut signature = [0; PLACES];
        sign(shingles, self, &mut signature);
        Some(signature)
    }

    /// The hash of one shingle under function `k`, by definition.
    #[must_use]
    pub fn hash(&self, k: usize, shingle: u64) -> u32 {
        value((shingle >> 32) as u32, self.flip[k], self.times[k])
    }
}

#[inline(always)]
fn value(x: u32, flip: u32, times: u32) -> u32 {
    (x ^ flip).wrapping_mul(times)
}

/// Functions whose minima are kept in registers while all shingles go by.
const LANES: usize = 32;

#[inline(always)]
fn sign_body(shingles: &[u64], hasher: &MinHasher, signature: &mut Signature) {
    let flip = hasher.flip.as_chunks::<LANES>().0.iter();
    let lanes = flip.zip(hasher.times.as_chunks::<LANES>().0);
    for ((flip, times), out) in lanes.zip(signature.as_chunks_mut::<LANES>().0) {
        let mut least = [u32::MAX; LANES];
        for &x in shingles {
            let x = (x >> 32) as u32;
            for lane in 0..LANES {
                least[lane] = least[lane].min(value(x, flip[lane], times[lane]));
            }
        }
        *out = least;
    }
}

/// Plain code, compiled for wider vectors too; the best that the processor has is called. Results are the same.
fn sign(shingles: &[u64], hasher: &MinHasher, signature: &mut Signature) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(shingles: &[u64], hasher: &MinHasher, signature: &mut Signature) {
            sign_body(shingles, hasher, signature);
        }
        #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
        fn avx512(shingles: &[u64], hasher: &MinHasher, signature: &mut Signature) {
            sign_body(shingles, hasher, signature);
        }
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor has these instructions.
            return unsafe { avx512(shingles, hasher, signature) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { avx2(shingles, hasher, signature) };
        }
    }
    sign_body(shingles, hasher, signature);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn signatures_are_by_definition(shingles in proptest::collection::vec(any::<u64>(), 1..50)) {
            let hasher = MinHasher::default();
            let signature = hasher.signature(&shingles).unwrap();
            let mut plain = [0; PLACES];
            sign_body(&shingles, &hasher, &mut plain);
            prop_assert_eq!(signature, plain);
            for (k, &place) in signature.iter().enumerate() {
                let least = shingles.iter().map(|&x| hasher.hash(k, x)).min().unwrap();
                prop_assert_eq!(place, least);
            }
            // A set has no order and nothing in it twice.
            let mut turned = shingles.clone();
            turned.reverse();
            turned.extend_from_slice(&shingles);
            prop_assert_eq!(hasher.signature(&turned).unwrap(), signature);
        }
    }

    /// Over many pairs of sets of Jaccard similarity s, places agree as independent draws of chance s would: mean and variance.
    #[test]
    fn places_agree_as_often_as_sets_do_and_independently() {
        let hasher = MinHasher::default();
        let mut next = 0u64;
        let mut fresh = |n: usize| -> Vec<u64> {
            (0..n)
                .map(|_| {
                    next += 1;
                    words::run(&[next])
                })
                .collect()
        };
        for (common, apart) in [(50, 25), (90, 5), (20, 40)] {
            let s = common as f64 / (common + 2 * apart) as f64;
            let rounds = 4000;
            let (mut sum, mut squares) = (0.0, 0.0);
            for _ in 0..rounds {
                let both = fresh(common);
                let a = [both.clone(), fresh(apart)].concat();
                let b = [both, fresh(apart)].concat();
                let [a, b] = [a, b].map(|x| hasher.signature(&x).unwrap());
                let agree = a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64;
                sum += agree;
                squares += agree * agree;
            }
            let mean = sum / f64::from(rounds);
            let variance = squares / f64::from(rounds) - mean * mean;
            let (places, per) = (PLACES as f64, s * (1.0 - s));
            let off = (mean - places * s) / (places * per / f64::from(rounds)).sqrt();
            assert!(off.abs() < 4.0, "{s}: mean off by {off} deviations");
            let ratio = variance / (places * per);
            assert!(
                (0.9..1.11).contains(&ratio),
                "{s}: variance {ratio} times binomial"
            );
        }
    }

    #[test]
    fn bands_of_thresholds() {
        let of = |t| {
            let Bands { bands, rows } = Bands::of(t);
            (bands, rows)
        };
        // What datasketch gives for 128 permutations and equal weights.
        assert_eq!([of(0.8), of(0.5)], [(9, 13), (25, 5)]);
        for t in [0.3, 0.6, 0.7, 0.9, 0.99] {
            let cut = Bands::of(t);
            assert!(cut.bands * cut.rows <= PLACES);
            assert!(cut.found(t - 0.25) < 0.2 && cut.found((t + 0.25).min(1.0)) > 0.8);
            assert!((cut.found(1.0) - 1.0).abs() < 1e-12 && cut.found(0.0) == 0.0);
        }
    }

    #[test]
    fn keys_are_equal_where_bands_are() {
        let cut = Bands { bands: 9, rows: 13 };
        let mut one = [7; PLACES];
        let keys = |s: &Signature| {
            let mut out = Vec::new();
            cut.keys(s, &mut out);
            out
        };
        let before = keys(&one);
        // Equal bands of different numbers have different keys.
        assert_eq!(before.iter().collect::<HashSet<_>>().len(), 9);
        one[13 * 3 + 12] = 8;
        let differ: Vec<usize> = keys(&one)
            .iter()
            .zip(&before)
            .enumerate()
            .filter(|(_, (a, b))| a != b)
            .map(|(i, _)| i)
            .collect();
        assert_eq!(differ, [3]);
        one[13 * 9] = 1;
        assert_eq!(
            keys(&one)[4..],
            before[4..],
            "places beyond the bands do not count"
        );
    }
}
