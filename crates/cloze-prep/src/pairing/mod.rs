//! From documents to pairs of segments: which tokens go into which row, and with which label.
//!
//! Pairing copies no text. It yields [`Recipe`]s, each naming where A and B lie in the token store.

pub mod bert;
pub mod cloze;
pub mod labels;
pub mod packed;

use cloze_shard::Ids;
use cloze_shard::random::Stream;
use serde::{Deserialize, Serialize};

/// What pairing sees of a document.
#[derive(Clone, Copy, Debug)]
pub struct DocumentView<'a> {
    /// Hash id: documents of equal id are one document to the label audit.
    pub doc: i64,
    /// Its tokens, at least one.
    pub input_ids: Ids<'a>,
    /// Exclusive end of each sentence, strictly ascending; the last is the number of tokens.
    pub sentence_ends: &'a [u32],
}

/// The documents of a split, by number.
pub trait Documents: Sync {
    /// How many there are.
    fn len(&self) -> u64;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Document `i`, below [`Documents::len`].
    fn get(&self, i: u64) -> DocumentView<'_>;

    /// The document and its sentence that hold the `n`-th sentence of the split, `n` below
    /// [`Documents::sentences`].
    fn nth_sentence(&self, n: u64) -> (u64, usize);

    /// Sentences in all documents.
    fn sentences(&self) -> u64;

    /// Whether a token continues a word (`##…`).
    fn is_continuation(&self, id: u32) -> bool;

    /// Whether a token ends a clause: a comma, a semicolon, a colon, a dash, a closing bracket.
    fn is_clause_end(&self, id: u32) -> bool;
}

/// Contiguous tokens of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The document's number in its split.
    pub document: u64,
    /// First token.
    pub start: u32,
    /// Number of tokens.
    pub len: u32,
}

impl Span {
    /// One past the last token.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.start + self.len
    }
}

/// What goes into one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// The first segment. One that is longer than what is left of its document goes on into the next, see [`packed`].
    pub a: Span,
    /// The second segment and whether its label is 1 (random text, or what stood before A); `None` for a single-segment row.
    pub b: Option<(Span, bool)>,
}

/// What pairing of one or more documents came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingCounts {
    /// Tokens cut off because a pair was too long: in no row through this cut.
    pub truncated_tokens: u64,
    /// Pairs labelled "next" because no other document was there to draw a random B from.
    pub random_unavailable: u64,
    /// Pairs labelled "random" though B comes from a document with A's id (`bert` only).
    pub random_from_own_document: u64,
    /// Sentences longer than half a row of a pair, or a row without pairs: cut after a clause, or at a word start (not `bert`).
    pub sentences_cut: u64,
}

impl std::ops::AddAssign for PairingCounts {
    fn add_assign(&mut self, other: Self) {
        self.truncated_tokens += other.truncated_tokens;
        self.random_unavailable += other.random_unavailable;
        self.random_from_own_document += other.random_from_own_document;
        self.sentences_cut += other.sentences_cut;
    }
}

/// How long pairs are, and how many are random.
#[derive(Clone, Copy, Debug)]
pub struct PairingRule {
    /// Tokens of text that a row holds at most: the sequence length less `[CLS]` and a `[SEP]` a segment.
    pub max_tokens: usize,
    /// Share of rows whose target length is drawn uniformly from `2..=max_tokens`.
    pub short_seq_prob: f64,
    /// Share of pairs whose B is random.
    pub random_next_ratio: f64,
}

impl PairingRule {
    /// Draws a target length.
    fn target(&self, draws: &mut impl Draws) -> usize {
        if draws.unit() < self.short_seq_prob {
            draws.between(2, self.max_tokens)
        } else {
            self.max_tokens
        }
    }
}

/// Where pairing's random decisions come from: a keyed stream, or a script in a test.
pub trait Draws {
    /// Uniform in `[0, 1)`.
    fn unit(&mut self) -> f64;
    /// Uniform in `low..=high`.
    fn between(&mut self, low: usize, high: usize) -> usize;
}

impl Draws for Stream {
    fn unit(&mut self) -> f64 {
        Stream::unit(self)
    }

    fn between(&mut self, low: usize, high: usize) -> usize {
        Stream::between(self, low as u64, high as u64) as usize
    }
}

/// Start of sentence `i`.
pub(crate) fn sentence_start(ends: &[u32], i: usize) -> u32 {
    if i == 0 { 0 } else { ends[i - 1] }
}

/// Where [`sentence_of`] begins to search: there, were all sentences of one length.
pub(crate) fn likely_sentence(ends: &[u32], position: u32) -> usize {
    let Some(&last) = ends.last() else { return 0 };
    let share = f64::from(position) / f64::from(last.max(1));
    ((ends.len() as f64 * share) as usize).min(ends.len() - 1)
}

/// The sentence that token `position` belongs to. The search goes outwards from the likely one, in steps that double: the middle of a long document
/// lies elsewhere in memory.
pub(crate) fn sentence_of(ends: &[u32], position: u32) -> usize {
    let (mut low, mut high) = (likely_sentence(ends, position), ends.len());
    let mut step = 1;
    // All before `low` end at or before `position`, all from `high` on after it.
    if ends.get(low).is_some_and(|&end| end <= position) {
        while let Some(next) = low.checked_add(step).filter(|&next| next < high) {
            if ends[next] > position {
                high = next;
                break;
            }
            low = next;
            step *= 2;
        }
    } else {
        high = low;
        while low > 0 {
            low = high.saturating_sub(step);
            if ends[low] <= position {
                break;
            }
            high = low;
            step *= 2;
        }
    }
    low + ends[low..high].partition_point(|&end| end <= position)
}

/// Documents in memory, for tests.
#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    pub struct InMemory {
        docs: Vec<(i64, Vec<u32>, Vec<u32>)>,
        cumulative: Vec<u64>,
        clause_end: Option<u32>,
    }

    impl InMemory {
        /// Documents of sentences of these lengths; ids count up, every seventh continues a word.
        pub fn new(lengths: &[Vec<u32>]) -> Self {
            let mut cumulative = vec![0];
            let mut docs = Vec::new();
            for (i, sentences) in lengths.iter().enumerate() {
                let ends: Vec<u32> = sentences
                    .iter()
                    .scan(0, |end, n| {
                        *end += n;
                        Some(*end)
                    })
                    .collect();
                let total = *ends.last().unwrap();
                docs.push((i as i64, (0..total).collect(), ends));
                cumulative.push(cumulative[i] + sentences.len() as u64);
            }
            Self {
                docs,
                cumulative,
                clause_end: None,
            }
        }

        /// Makes the token `id` end clauses.
        pub fn with_clause_end(mut self, id: u32) -> Self {
            self.clause_end = Some(id);
            self
        }

        /// Gives document `i` the hash id `doc`.
        pub fn with_doc(mut self, i: usize, doc: i64) -> Self {
            self.docs[i].0 = doc;
            self
        }
    }

    impl Documents for InMemory {
        fn len(&self) -> u64 {
            self.docs.len() as u64
        }

        fn get(&self, i: u64) -> DocumentView<'_> {
            let (doc, ids, ends) = &self.docs[i as usize];
            DocumentView {
                doc: *doc,
                input_ids: Ids::U32(ids),
                sentence_ends: ends,
            }
        }

        fn nth_sentence(&self, n: u64) -> (u64, usize) {
            let document = self.cumulative.partition_point(|&c| c <= n) - 1;
            (document as u64, (n - self.cumulative[document]) as usize)
        }

        fn sentences(&self) -> u64 {
            *self.cumulative.last().unwrap()
        }

        fn is_continuation(&self, id: u32) -> bool {
            id % 7 == 3
        }

        fn is_clause_end(&self, id: u32) -> bool {
            Some(id) == self.clause_end
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Also where sentences are empty, very uneven, or there are none, and past the last.
        #[test]
        fn sentences_are_found(
            lengths in prop::collection::vec(prop_oneof![0u32..3, 1u32..60, Just(5_000)], 0..300),
            past in 0u32..3,
        ) {
            let mut ends = lengths;
            let mut sum = 0;
            ends.iter_mut().for_each(|n| { sum += *n; *n = sum; });
            for position in (0..sum + past).step_by(1 + sum as usize / 400).chain([sum.saturating_sub(1)]) {
                prop_assert_eq!(sentence_of(&ends, position), ends.partition_point(|&end| end <= position));
            }
        }
    }
}
