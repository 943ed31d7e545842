//! From documents to pairs of segments: which tokens go into which row, and with which label.
//!
//! Pairing copies no text. It yields [`Recipe`]s, each naming where A and B lie in the token store.

pub mod bert;
pub mod cloze;
pub mod elsewhere;
pub mod labels;
pub mod packed;

use std::ops::Range;

use cloze_shard::random::Stream;
use cloze_shard::{Ids, prefetch};
use serde::{Deserialize, Serialize};

use crate::Result;

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

impl DocumentView<'_> {
    /// The sentence that token `position` belongs to.
    pub(crate) fn sentence_of(&self, position: u32) -> usize {
        sentence_of(self.sentence_ends, self.input_ids.len(), position)
    }

    /// Has the processor fetch the tokens of `span`, which begins here, and what [`DocumentView::sentence_of`] its first will read, if it has to.
    pub(crate) fn prefetch(&self, span: Span) {
        let (start, end) = (span.start as usize, span.end() as usize);
        self.input_ids.slice(start, end).prefetch();
        if span.sentence.is_none() {
            let ends = self.sentence_ends;
            let likely = likely_sentence(ends.len(), self.input_ids.len(), span.start);
            prefetch(&ends[near(ends, likely)]);
        }
    }
}

/// The documents of a split, by number, in any order.
pub trait Documents: Sync {
    /// Document `i`, below the number of documents.
    fn get(&self, i: u64) -> DocumentView<'_>;

    /// Has the processor fetch what [`Documents::get`] will read of document `i`, where that is worth it.
    fn prefetch(&self, _i: u64) {}

    /// The document and its sentence that hold the `n`-th sentence of the split, `n` below the number of sentences.
    fn nth_sentence(&self, n: u64) -> (u64, usize);
}

/// The documents of a split, by number: cheap where they are asked for from the first to the last.
pub trait Cursor {
    /// As [`Documents::get`].
    fn get(&mut self, i: u64) -> Result<DocumentView<'_>>;

    /// As [`Documents::nth_sentence`].
    fn nth_sentence(&mut self, n: u64) -> Result<(u64, usize)>;
}

impl<D: Documents> Cursor for &D {
    fn get(&mut self, i: u64) -> Result<DocumentView<'_>> {
        Ok(Documents::get(*self, i))
    }

    fn nth_sentence(&mut self, n: u64) -> Result<(u64, usize)> {
        Ok(Documents::nth_sentence(*self, n))
    }
}

/// What is known of a split without looking at its documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many documents there are.
    pub documents: u64,
    /// Sentences in all of them.
    pub sentences: u64,
    /// The hash id of the first document.
    pub first: i64,
    /// The number of the first sentence that is in a document of another id than the first; `None` where all have one id.
    pub other: Option<u64>,
}

impl Totals {
    /// Counts the next document.
    pub fn add(&mut self, doc: i64, sentences: u64) {
        if self.documents == 0 {
            self.first = doc;
        } else if self.other.is_none() && doc != self.first {
            self.other = Some(self.sentences);
        }
        self.documents += 1;
        self.sentences += sentences;
    }
}

/// Which entries of the vocabulary go on with a word, and which end a clause.
#[derive(Clone, Debug, Default)]
pub struct TokenKinds {
    continuation: Vec<bool>,
    clause_end: Vec<bool>,
}

impl TokenKinds {
    /// Those of the entries below `vocab_size`.
    pub fn new(
        vocab_size: u32,
        is_continuation: impl Fn(u32) -> bool,
        is_clause_end: impl Fn(u32) -> bool,
    ) -> Self {
        Self {
            continuation: (0..vocab_size).map(is_continuation).collect(),
            clause_end: (0..vocab_size).map(is_clause_end).collect(),
        }
    }

    /// Whether a token continues a word (`##…`).
    #[must_use]
    pub fn is_continuation(&self, id: u32) -> bool {
        self.continuation.get(id as usize).copied().unwrap_or(false)
    }

    /// Whether a token ends a clause: a comma, a semicolon, a colon, a dash, a closing bracket.
    #[must_use]
    pub fn is_clause_end(&self, id: u32) -> bool {
        self.clause_end.get(id as usize).copied().unwrap_or(false)
    }
}

/// What pairing goes by, the same for all documents of a split.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// How long pairs are, and how many are random.
    pub rule: PairingRule,
    /// The split.
    pub totals: Totals,
    /// The vocabulary.
    pub kinds: &'a TokenKinds,
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
    /// The sentence of the document that the first token belongs to; `None` where nobody knows without a search.
    pub sentence: Option<u32>,
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

/// A row, as far as its own document decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The row; where text from elsewhere is wanted, without a second segment.
    pub recipe: Recipe,
    /// What the second segment is to be.
    pub wanted: Option<Wanted>,
}

impl From<Recipe> for Draft {
    fn from(recipe: Recipe) -> Self {
        let wanted = None;
        Self { recipe, wanted }
    }
}

/// Text from elsewhere that is to be the second segment of a pair. Nothing else of the document that asks depends on what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is looked for: the number of a sentence of the split (`cloze`), or of a document (`bert`).
    pub place: u64,
    /// The hash id of A's document.
    pub own: i64,
    /// Keys everything that is still to be drawn for it.
    pub seed: u64,
    /// Tokens that it is to have: at most (`cloze`), or at least (`bert`), where sentences allow.
    pub budget: u16,
    /// Tokens that the row has room for.
    pub longest: u16,
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
    /// A key for draws elsewhere.
    fn seed(&mut self) -> u64;
}

impl Draws for Stream {
    fn unit(&mut self) -> f64 {
        Stream::unit(self)
    }

    fn between(&mut self, low: usize, high: usize) -> usize {
        Stream::between(self, low as u64, high as u64) as usize
    }

    fn seed(&mut self) -> u64 {
        self.next_u64()
    }
}

/// Start of sentence `i`.
pub(crate) fn sentence_start(ends: &[u32], i: usize) -> u32 {
    if i == 0 { 0 } else { ends[i - 1] }
}

/// Where [`sentence_of`] begins to search: there, were all sentences of one length.
fn likely_sentence(sentences: usize, tokens: usize, position: u32) -> usize {
    let share = f64::from(position) / tokens.max(1) as f64;
    ((sentences as f64 * share) as usize).min(sentences.saturating_sub(1))
}

/// The sentences around the likely one that are looked at together.
fn near(ends: &[u32], likely: usize) -> Range<usize> {
    likely.saturating_sub(16)..ends.len().min(likely + 16)
}

/// The sentence that token `position` of `tokens` belongs to, which is mostly near the likely one: there, all that end before are counted, without a branch.
fn sentence_of(ends: &[u32], tokens: usize, position: u32) -> usize {
    let likely = likely_sentence(ends.len(), tokens, position);
    let near = near(ends, likely);
    let begins_before = near.start == 0 || ends[near.start] <= position;
    let ends_behind = near.end == ends.len() || ends[near.end - 1] > position;
    if begins_before && ends_behind {
        let before = ends[near.clone()]
            .iter()
            .map(|&end| u32::from(end <= position));
        return near.start + before.sum::<u32>() as usize;
    }
    sentence_from(ends, likely, position)
}

/// [`sentence_of`], sought outwards from the likely one, in steps that double: the middle of a long document lies elsewhere in memory, and so does its end.
#[cold]
fn sentence_from(ends: &[u32], likely: usize, position: u32) -> usize {
    let (mut low, mut high) = (likely, ends.len());
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
        kinds: TokenKinds,
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
                docs.push((i as i64, (0..total).collect::<Vec<u32>>(), ends));
                cumulative.push(cumulative[i] + sentences.len() as u64);
            }
            let longest = docs.iter().map(|d| d.1.len()).max().unwrap_or(0);
            Self {
                docs,
                cumulative,
                kinds: TokenKinds::new(longest as u32, |id| id % 7 == 3, |_| false),
            }
        }

        /// Makes the token `clause_end` end clauses.
        pub fn with_clause_end(mut self, clause_end: u32) -> Self {
            let longest = self.kinds.continuation.len() as u32;
            self.kinds = TokenKinds::new(longest, |id| id % 7 == 3, |id| id == clause_end);
            self
        }

        /// Gives document `i` the hash id `doc`.
        pub fn with_doc(mut self, i: usize, doc: i64) -> Self {
            self.docs[i].0 = doc;
            self
        }

        pub fn len(&self) -> u64 {
            self.docs.len() as u64
        }

        pub fn kinds(&self) -> &TokenKinds {
            &self.kinds
        }

        pub fn totals(&self) -> Totals {
            let mut totals = Totals::default();
            for (doc, _, ends) in &self.docs {
                totals.add(*doc, ends.len() as u64);
            }
            totals
        }

        pub fn setting(&self, rule: PairingRule) -> Setting<'_> {
            Setting {
                rule,
                totals: self.totals(),
                kinds: &self.kinds,
            }
        }
    }

    impl Documents for InMemory {
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
                // A number of tokens that is not true costs time alone.
                for tokens in [sum as usize, 0, 7, 3 * sum as usize] {
                    prop_assert_eq!(sentence_of(&ends, tokens, position), ends.partition_point(|&end| end <= position));
                }
            }
        }
    }
}
