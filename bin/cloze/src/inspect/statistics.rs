//! What rows are made of, in one pass over the shards by all threads.

use std::cmp::Reverse;

use cloze_shard::{RowRef, Split};

use super::Opened;
use super::hashes::{AT_ONCE, RowHasher, documents, range_of, runs, sorted};
use super::scan::{appended, scan};

/// Rows with the most unknown tokens that are remembered.
const WORST: usize = 3;

/// What a split is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// How often each id is in segments, masks undone; special tokens that frame a row are not counted.
    pub tokens: Vec<u64>,
    /// Of each source of the manifest: tokens in rows, and unknown ones among them. The last entry is for documents that the table does not hold.
    pub sources: Vec<SourceTokens>,
    /// Rows with an unknown token.
    pub rows_unknown: u64,
    /// The rows with the most unknown tokens: how many, and which.
    pub worst: Vec<(u64, u64)>,
    pub rows: Repeated,
}

/// Tokens of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceTokens {
    pub tokens: u64,
    pub unknown: u64,
}

/// How many things are there more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeated {
    pub all: u64,
    /// Each once.
    pub distinct: u64,
    /// The most that any is there.
    pub most: u64,
    /// Of those that are there as often, the smallest hash, where that is more than once.
    pub example: Option<u64>,
}

impl Repeated {
    /// Of sorted hashes.
    fn of(sorted: &[u64]) -> Self {
        let one = |(hash, n)| Self {
            all: n,
            distinct: 1,
            most: n,
            example: (n > 1).then_some(hash),
        };
        runs(sorted).map(one).fold(Self::default(), Self::and)
    }

    /// Those that are the same as another before them.
    pub fn again(&self) -> u64 {
        self.all - self.distinct
    }

    pub fn share(&self) -> f64 {
        self.again() as f64 / self.all.max(1) as f64
    }

    /// The same of two ranges, the lower one first.
    fn and(self, other: Self) -> Self {
        let example = if other.most > self.most {
            other.example
        } else {
            self.example
        };
        Self {
            example,
            all: self.all + other.all,
            distinct: self.distinct + other.distinct,
            most: self.most.max(other.most),
        }
    }
}

/// Documents of the table that share their hash with another.
pub fn repeated_documents(opened: &Opened) -> Repeated {
    Repeated::of(&documents(&opened.documents))
}

/// Where documents come from, by their hashes.
pub struct Sources {
    sorted: Vec<(i64, u32)>,
    count: usize,
}

impl Sources {
    /// Takes 16 bytes of memory a document, where there are several sources. Of documents of one hash the first counts.
    pub fn new(opened: &Opened) -> Self {
        let count = opened.dataset.manifest().sources.len();
        let mut sorted: Vec<(i64, u32)> = opened
            .documents
            .iter()
            .map(|record| (record.doc, record.source))
            .collect();
        // Stable: the first in the table stays the first.
        sorted.sort_by_key(|&(doc, _)| doc);
        sorted.dedup_by_key(|&mut (doc, _)| doc);
        Self { sorted, count }
    }

    /// The place of a document's source in [`Statistics::sources`].
    fn of(&self, doc: i64) -> usize {
        let found = self.sorted.binary_search_by_key(&doc, |&(d, _)| d);
        found.map_or(self.count, |i| (self.sorted[i].1 as usize).min(self.count))
    }
}

/// What one thread has seen.
struct Seen {
    statistics: Statistics,
    hashes: Vec<u64>,
}

/// Goes through the rows of a split.
pub fn gather(opened: &Opened, split: &Split, sources: &Sources) -> Statistics {
    gather_at_once(opened, split, sources, AT_ONCE)
}

fn gather_at_once(opened: &Opened, split: &Split, sources: &Sources, at_once: u64) -> Statistics {
    let hasher = RowHasher::new(&opened.vocabulary);
    let ranges = split.rows().div_ceil(at_once.max(1)).max(1);
    let special = opened.vocabulary.special();
    let make = || Seen {
        statistics: Statistics {
            tokens: vec![0; opened.vocabulary.len()],
            sources: vec![SourceTokens::default(); sources.count + 1],
            ..Statistics::default()
        },
        hashes: Vec::new(),
    };
    let row = |seen: &mut Seen, number: u64, row: &RowRef<'_>| {
        let statistics = &mut seen.statistics;
        let ids = row.original_ids();
        let b_start = usize::from(row.b_start).min(ids.len());
        let (a, b) = ids.split_at(b_start);
        let mut unknown = 0;
        for (ids, doc) in [(a, row.doc_a), (b, row.doc_b)] {
            if ids.is_empty() {
                continue;
            }
            let mut of = SourceTokens::default();
            for &id in ids.iter().filter(|&&id| !special.is_frame(id)) {
                if let Some(count) = statistics.tokens.get_mut(id as usize) {
                    *count += 1;
                }
                of.tokens += 1;
                of.unknown += u64::from(id == special.unk);
            }
            let source = &mut statistics.sources[sources.of(doc)];
            source.tokens += of.tokens;
            source.unknown += of.unknown;
            unknown += of.unknown;
        }
        if unknown > 0 {
            statistics.rows_unknown += 1;
            remember(&mut statistics.worst, (unknown, number));
        }
        let hash = hasher.hash(row);
        if range_of(hash, ranges) == 0 {
            seen.hashes.push(hash);
        }
    };
    let merge = |first: Seen, second: Seen| Seen {
        statistics: merged(first.statistics, second.statistics),
        hashes: appended(first.hashes, second.hashes),
    };
    let Seen {
        mut statistics,
        mut hashes,
    } = scan(split, make, row, merge);
    hashes.sort_unstable();
    statistics.rows = Repeated::of(&hashes);
    for range in 1..ranges {
        let hashes = sorted(split, &hasher, (range, ranges));
        statistics.rows = statistics.rows.and(Repeated::of(&hashes));
    }
    statistics
}

/// Keeps the rows with the most unknown tokens, of equal ones the first.
fn remember(worst: &mut Vec<(u64, u64)>, row: (u64, u64)) {
    let place =
        worst.partition_point(|&(n, number)| (Reverse(n), number) < (Reverse(row.0), row.1));
    if place < WORST {
        worst.insert(place, row);
        worst.truncate(WORST);
    }
}

fn merged(mut first: Statistics, second: Statistics) -> Statistics {
    let add = |a: &mut u64, b: u64| *a += b;
    for (a, b) in first.tokens.iter_mut().zip(second.tokens) {
        add(a, b);
    }
    for (a, b) in first.sources.iter_mut().zip(second.sources) {
        add(&mut a.tokens, b.tokens);
        add(&mut a.unknown, b.unknown);
    }
    first.rows_unknown += second.rows_unknown;
    for row in second.worst {
        remember(&mut first.worst, row);
    }
    first
}

impl Statistics {
    /// Tokens of text.
    pub fn text_tokens(&self) -> u64 {
        self.sources.iter().map(|s| s.tokens).sum()
    }

    /// The `most` most frequent ids with their counts; of equal ones the smaller id first.
    pub fn most_frequent(&self, most: usize) -> Vec<(u32, u64)> {
        let mut all: Vec<(u32, u64)> = (0..).zip(self.tokens.iter().copied()).collect();
        all.retain(|&(_, n)| n > 0);
        all.sort_by_key(|&(id, n)| (Reverse(n), id));
        all.truncate(most);
        all
    }

    /// Adds what another split is made of; rows stay those of the first.
    pub fn with_tokens_of(self, other: &Self) -> Self {
        let (rows, worst) = (self.rows, self.worst.clone());
        Self {
            rows,
            worst,
            ..merged(self, other.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use cloze_prep::MaskingKind;

    use super::*;
    use crate::inspect::testing;

    /// Counted row by row, with maps.
    fn naive(opened: &Opened, split: &Split) -> Statistics {
        let mut tokens = vec![0; opened.vocabulary.len()];
        let mut sources = vec![SourceTokens::default(); 3];
        let (mut unknown_rows, mut worst) = (0, Vec::new());
        let mut rows = BTreeMap::<_, (u64, u64)>::new();
        let hasher = RowHasher::new(&opened.vocabulary);
        for (number, row) in (0..).zip(split.iter()) {
            let ids = row.original_ids();
            let mut unknown = 0;
            for (i, &id) in ids.iter().enumerate() {
                if [0, 2, 3, 4].contains(&id) {
                    continue;
                }
                let doc = if i < usize::from(row.b_start) {
                    row.doc_a
                } else {
                    row.doc_b
                };
                let source = &mut sources[opened.documents.find(doc)[0].source as usize];
                source.tokens += 1;
                source.unknown += u64::from(id == 1);
                unknown += u64::from(id == 1);
                tokens[id as usize] += 1;
            }
            if unknown > 0 {
                unknown_rows += 1;
                worst.push((Reverse(unknown), number));
            }
            let label = row.next_sentence_label.map(|l| l as i8);
            let entry = rows.entry((ids, row.b_start, label)).or_default();
            *entry = (entry.0 + 1, hasher.hash(&row));
        }
        worst.sort();
        let most = rows.values().map(|r| r.0).max().unwrap_or(0);
        let often = rows.values().filter(|r| r.0 == most && most > 1);
        let example = often.map(|r| r.1).min();
        Statistics {
            tokens,
            sources,
            rows_unknown: unknown_rows,
            worst: worst
                .into_iter()
                .take(WORST)
                .map(|(Reverse(n), r)| (n, r))
                .collect(),
            rows: Repeated {
                all: split.rows(),
                distinct: rows.len() as u64,
                most,
                example,
            },
        }
    }

    /// In any ranges of hashes, by any number of threads.
    #[test]
    fn one_pass_counts_what_going_row_by_row_counts() {
        for masking in [MaskingKind::Dynamic, MaskingKind::Static] {
            let made = testing::dataset(|c| {
                c.masking = masking;
                c.seq_len = 10;
                c.dupe_factor = 3;
            });
            let opened = made.opened();
            let sources = Sources::new(&opened);
            for name in ["train", "validation"] {
                let split = opened.split(name).unwrap();
                let expected = naive(&opened, split);
                assert_eq!(gather(&opened, split, &sources), expected);
                assert_eq!(gather_at_once(&opened, split, &sources, 50), expected);
                let alone = rayon::ThreadPoolBuilder::new()
                    .num_threads(1)
                    .build()
                    .unwrap();
                assert_eq!(alone.install(|| gather(&opened, split, &sources)), expected);
            }
            let train = naive(&opened, opened.split("train").unwrap());
            assert!(
                train.rows.again() > 0 && train.rows_unknown > 3,
                "{:?}",
                train.rows
            );
            assert!(train.sources[0].unknown > 0 && train.sources[1].tokens > 0);
            assert_eq!(train.sources[2], SourceTokens::default());
        }
    }

    #[test]
    fn documents_of_one_text_are_counted() {
        let made = testing::dataset(|c| c.id_field = None);
        let opened = made.opened();
        let all: Vec<i64> = opened.documents.hashes().collect();
        let distinct = all.iter().collect::<BTreeSet<_>>().len() as u64;
        let twice = |doc: &&i64| all.iter().filter(|d| d == doc).count() == 2;
        let example = all.iter().filter(twice).map(|&doc| doc as u64).min();
        assert!(example.is_some());
        let expected = Repeated {
            all: 80,
            distinct,
            most: 2,
            example,
        };
        assert_eq!(repeated_documents(&opened), expected);
        assert!(distinct < 80);
    }

    #[test]
    fn the_most_frequent_come_first() {
        let statistics = Statistics {
            tokens: vec![0, 3, 9, 3, 1],
            ..Statistics::default()
        };
        assert_eq!(statistics.most_frequent(3), [(2, 9), (1, 3), (3, 3)]);
        assert_eq!(statistics.most_frequent(9).len(), 4);
        let mut worst = Vec::new();
        for row in [(1, 5), (2, 9), (2, 3), (1, 4), (7, 8)] {
            remember(&mut worst, row);
        }
        assert_eq!(worst, [(7, 8), (2, 3), (2, 9)]);
    }
}
