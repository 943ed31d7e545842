//! Comparing by 64-bit hashes: which rows and documents are there twice, or in two datasets.
//!
//! Hashes are sorted, 8 bytes each. Of more rows than [`AT_ONCE`] only a range of hashes is held at a time, and the rows are gone through once for each range.
//! Two different rows have the same hash with a probability of 2⁻⁶⁴: among 100 million, one pair in 3,700 such datasets.

use cloze_shard::documents::Documents;
use cloze_shard::{RowRef, Split, Vocabulary};
use rayon::prelude::*;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::scan::{appended, scan};

/// Rows whose hashes are held at a time: 512 MiB.
pub const AT_ONCE: u64 = 64 << 20;

/// Hashes rows by what their tokens are called, so that rows of different vocabularies can be compared.
pub struct RowHasher {
    tokens: Vec<u64>,
}

impl RowHasher {
    pub fn new(vocabulary: &Vocabulary) -> Self {
        let tokens = (0..vocabulary.len() as u32)
            .map(|id| match vocabulary.token(id) {
                Some(token) if !token.is_empty() => xxh3_64(token.as_bytes()),
                _ => nameless(id),
            })
            .collect();
        Self { tokens }
    }

    /// The hash of a row's tokens without masks, of where B begins, and of its label.
    pub fn hash(&self, row: &RowRef<'_>) -> u64 {
        let mut hasher = Xxh3::new();
        let mut buffer = [0u8; 8 * 64];
        let mut used = 0;
        let mut add = |id: u32| {
            let token = self.tokens.get(id as usize).copied();
            let token = token.unwrap_or_else(|| nameless(id));
            buffer[used..used + 8].copy_from_slice(&token.to_le_bytes());
            used += 8;
            if used == buffer.len() {
                hasher.update(&buffer);
                used = 0;
            }
        };
        if row.masks.is_some() {
            row.original_ids().into_iter().for_each(&mut add);
        } else {
            row.input_ids.iter().for_each(&mut add);
        }
        hasher.update(&buffer[..used]);
        let label = row.next_sentence_label.map_or(-1, |l| l as i8);
        hasher.update(&row.b_start.to_le_bytes());
        hasher.update(&label.to_le_bytes());
        hasher.digest()
    }
}

/// Of a number that no entry has.
fn nameless(id: u32) -> u64 {
    xxh3_64(&[&[0xff][..], &id.to_le_bytes()].concat())
}

/// What two collections have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Common {
    /// How many there are in A, and in B.
    pub a: u64,
    pub b: u64,
    /// The same, each once.
    pub distinct_a: u64,
    pub distinct_b: u64,
    /// In both, each once.
    pub both: u64,
    /// How many of A's are in B, and of B's in A.
    pub of_a: u64,
    pub of_b: u64,
}

impl Common {
    pub fn only_a(&self) -> u64 {
        self.distinct_a - self.both
    }

    pub fn only_b(&self) -> u64 {
        self.distinct_b - self.both
    }
}

impl std::ops::AddAssign for Common {
    fn add_assign(&mut self, other: Self) {
        self.a += other.a;
        self.b += other.b;
        self.distinct_a += other.distinct_a;
        self.distinct_b += other.distinct_b;
        self.both += other.both;
        self.of_a += other.of_a;
        self.of_b += other.of_b;
    }
}

/// Compares sorted hashes.
pub fn common(a: Vec<u64>, b: Vec<u64>) -> Common {
    let mut result = Common {
        a: a.len() as u64,
        b: b.len() as u64,
        ..Common::default()
    };
    let (mut left, mut right) = (runs(&a).peekable(), runs(&b).peekable());
    loop {
        match (left.peek().copied(), right.peek().copied()) {
            (None, None) => return result,
            (Some((l, n)), Some((r, m))) if l == r => {
                result.both += 1;
                result.of_a += n;
                result.of_b += m;
                result.distinct_a += 1;
                result.distinct_b += 1;
                left.next();
                right.next();
            }
            (Some((l, _)), other) if other.is_none_or(|(r, _)| l < r) => {
                result.distinct_a += 1;
                left.next();
            }
            _ => {
                result.distinct_b += 1;
                right.next();
            }
        }
    }
}

/// Every value of a sorted slice once, with how often it is there.
pub fn runs(sorted: &[u64]) -> impl Iterator<Item = (u64, u64)> + '_ {
    sorted
        .chunk_by(|a, b| a == b)
        .map(|run| (run[0], run.len() as u64))
}

/// The documents' hashes, sorted.
pub fn documents(table: &Documents) -> Vec<u64> {
    let mut all: Vec<u64> = table.hashes().map(|doc| doc as u64).collect();
    all.par_sort_unstable();
    all
}

/// Compares the rows of two splits.
pub fn rows(splits: [&Split; 2], hashers: &[RowHasher; 2]) -> Common {
    rows_in_ranges(splits, hashers, AT_ONCE)
}

fn rows_in_ranges(splits: [&Split; 2], hashers: &[RowHasher; 2], at_once: u64) -> Common {
    let all = splits[0].rows() + splits[1].rows();
    let ranges = all.div_ceil(at_once.max(1)).max(1);
    let mut result = Common::default();
    for range in 0..ranges {
        let [a, b] = [0, 1].map(|i| sorted(splits[i], &hashers[i], (range, ranges)));
        result += common(a, b);
    }
    result
}

/// The hashes of the rows that are in a range of so many, sorted.
pub fn sorted(split: &Split, hasher: &RowHasher, range: (u64, u64)) -> Vec<u64> {
    let mut hashes = scan(
        split,
        Vec::new,
        |hashes, _, row| {
            let hash = hasher.hash(row);
            if range_of(hash, range.1) == range.0 {
                hashes.push(hash);
            }
        },
        appended,
    );
    hashes.par_sort_unstable();
    hashes
}

/// Which of so many equal ranges a hash is in.
pub fn range_of(hash: u64, ranges: u64) -> u64 {
    ((u128::from(hash) * u128::from(ranges)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::inspect::testing;

    /// A few values, many of them several times.
    fn values(seed: u64, count: u64) -> Vec<u64> {
        let value = |i: u64| xxh3_64(&(seed * 1_000 + i * i % 37).to_le_bytes()) % 50;
        let mut all: Vec<u64> = (0..count).map(value).collect();
        all.sort_unstable();
        all
    }

    fn counted(values: &[u64]) -> BTreeMap<u64, u64> {
        let mut counts = BTreeMap::new();
        for &value in values {
            *counts.entry(value).or_default() += 1;
        }
        counts
    }

    #[test]
    fn what_is_common_is_counted() {
        for (seed, sizes) in
            (0..).zip([(0, 0), (0, 9), (9, 0), (40, 7), (30, 30), (1, 1), (200, 90)])
        {
            let (a, b) = (values(seed, sizes.0), values(seed + 1, sizes.1));
            let (in_a, in_b) = (counted(&a), counted(&b));
            let both = || in_a.iter().filter(|(v, _)| in_b.contains_key(v));
            let expected = Common {
                a: sizes.0,
                b: sizes.1,
                distinct_a: in_a.len() as u64,
                distinct_b: in_b.len() as u64,
                both: both().count() as u64,
                of_a: both().map(|(_, n)| n).sum(),
                of_b: both().map(|(v, _)| in_b[v]).sum(),
            };
            assert_eq!(common(a, b), expected);
        }
    }

    #[test]
    fn ranges_hold_every_hash_once_and_keep_the_order() {
        for ranges in [1, 2, 3, 7, 1_000] {
            let hashes = [0, 1, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX];
            let of: Vec<u64> = hashes.map(|h| range_of(h, ranges)).into();
            assert!(of.is_sorted() && of[5] == ranges - 1 && of[0] == 0);
        }
        assert_eq!(range_of(u64::MAX / 2 + 1, 2), 1);
    }

    fn row(ids: &[u32], b_start: u16, label: Option<i8>) -> cloze_shard::Row {
        cloze_shard::Row {
            input_ids: ids.to_vec(),
            b_start,
            next_sentence_label: label.and_then(cloze_shard::NextSentenceLabel::from_i8),
            ..cloze_shard::Row::default()
        }
    }

    #[test]
    fn rows_are_equal_by_what_they_say() {
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let vocabulary = |more: &[&str]| {
            let all = special.iter().chain(more);
            Vocabulary::new(all, None).unwrap()
        };
        let one = RowHasher::new(&vocabulary(&["a", "b", ""]));
        let other = RowHasher::new(&vocabulary(&["", "b", "a"]));
        let ids = [2, 5, 3, 6, 3];
        let hash = one.hash(&row(&ids, 3, Some(0)).view());
        assert_eq!(other.hash(&row(&[2, 7, 3, 6, 3], 3, Some(0)).view()), hash);
        let mut masked = row(&[2, 4, 3, 6, 3], 3, Some(0));
        masked.masks = Some(cloze_shard::row::Masks {
            positions: vec![1],
            labels: vec![5],
        });
        assert_eq!(one.hash(&masked.view()), hash);
        for different in [
            row(&ids, 3, Some(1)),
            row(&ids, 3, None),
            row(&ids, 4, Some(0)),
            row(&[2, 6, 3, 5, 3], 3, Some(0)),
            row(&[2, 5, 3, 7, 3], 3, Some(0)),
            row(&[2, 5, 3, 999, 3], 3, Some(0)),
        ] {
            assert_ne!(one.hash(&different.view()), hash);
        }
        // Nameless numbers differ among each other, and long rows are hashed to their ends.
        let long = |last| row(&[&[5; 200][..], &[last]].concat(), 3, None);
        assert_ne!(one.hash(&long(7).view()), one.hash(&long(998).view()));
        assert_ne!(one.hash(&long(5).view()), one.hash(&long(6).view()));
    }

    /// However many are held at a time, and however many threads there are.
    #[test]
    fn rows_are_compared_in_ranges() {
        let (one, two) = (
            testing::dataset(|_| {}),
            testing::dataset(|c| c.short_seq_prob = Some(0.5)),
        );
        let split = |d: &'static str, o: &crate::inspect::Opened| o.split(d).unwrap().rows();
        let splits = [one.opened(), two.opened()];
        let [a, b] = [&splits[0], &splits[1]];
        let hashers = [a, b].map(|o| RowHasher::new(&o.vocabulary));
        let pair = [a.split("train").unwrap(), b.split("train").unwrap()];
        let whole = rows_in_ranges(pair, &hashers, u64::MAX);
        assert_eq!((whole.a, whole.b), (split("train", a), split("train", b)));
        assert!(whole.both > 0 && whole.only_a() > 0 && whole.only_b() > 0);
        for at_once in [1, 7, 100] {
            assert_eq!(rows_in_ranges(pair, &hashers, at_once), whole);
        }
        let alone = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        assert_eq!(alone.install(|| rows(pair, &hashers)), whole);
    }
}
