//! The documents of a split: a view of the token store that pairing sees.

use cloze_shard::Vocabulary;
use cloze_shard::random::{Key, Stage};

use crate::TokenStore;
use crate::pairing::{DocumentView, Documents};

/// Store numbers of the documents of each split, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    pub train: Vec<u64>,
    pub validation: Vec<u64>,
}

/// Assigns documents to splits by a keyed draw of their hash id: documents of one id stay together, and a document
/// stays where it is when others come or go.
///
/// Where the draw leaves validation empty although a share was asked for and two ids are there, the id with the smallest
/// draw goes there: a model must be measurable on a small corpus too.
pub fn assign(docs: impl Iterator<Item = i64>, seed: u64, validation_fraction: f64) -> Assignment {
    let key = Key::new(seed, Stage::Split);
    let draw = |doc: i64| key.stream(doc as u64, 0).unit();
    let mut assignment = Assignment::default();
    let mut smallest: Option<(f64, i64)> = None;
    let mut all = Vec::new();
    for (i, doc) in docs.enumerate() {
        let u = draw(doc);
        let side = if u < validation_fraction {
            &mut assignment.validation
        } else {
            &mut assignment.train
        };
        side.push(i as u64);
        all.push(doc);
        if smallest.is_none_or(|(least, _)| u < least) {
            smallest = Some((u, doc));
        }
    }
    if validation_fraction > 0.0
        && assignment.validation.is_empty()
        && let Some((_, chosen)) = smallest
        && all.iter().any(|&doc| doc != chosen)
    {
        let is_chosen = |i: &u64| all[*i as usize] == chosen;
        (assignment.validation, assignment.train) =
            assignment.train.iter().partition(|i| is_chosen(i));
    }
    assignment
}

/// A split's documents in the token store.
pub struct SplitDocuments<'a> {
    store: &'a TokenStore,
    numbers: &'a [u64],
    /// Sentences before each document, then the total.
    sentences: Vec<u64>,
    continuation: Vec<bool>,
}

impl<'a> SplitDocuments<'a> {
    /// The documents `numbers` of `store`.
    pub fn new(store: &'a TokenStore, numbers: &'a [u64], vocabulary: &Vocabulary) -> Self {
        let mut total = 0;
        let mut sentences = Vec::with_capacity(numbers.len() + 1);
        sentences.push(0);
        for &number in numbers {
            total += store.document(number).sentence_ends.len() as u64;
            sentences.push(total);
        }
        let continuation = (0..vocabulary.len() as u32)
            .map(|id| vocabulary.is_continuation(id))
            .collect();
        Self {
            store,
            numbers,
            sentences,
            continuation,
        }
    }
}

impl Documents for SplitDocuments<'_> {
    fn len(&self) -> u64 {
        self.numbers.len() as u64
    }

    fn get(&self, i: u64) -> DocumentView<'_> {
        let document = self.store.document(self.numbers[i as usize]);
        DocumentView {
            doc: document.doc,
            input_ids: document.input_ids,
            sentence_ends: document.sentence_ends,
        }
    }

    fn nth_sentence(&self, n: u64) -> (u64, usize) {
        let document = self.sentences.partition_point(|&start| start <= n) - 1;
        (document as u64, (n - self.sentences[document]) as usize)
    }

    fn sentences(&self) -> u64 {
        self.sentences.last().copied().unwrap_or(0)
    }

    fn is_continuation(&self, id: u32) -> bool {
        self.continuation.get(id as usize).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ids_stay_together_and_the_share_is_met() {
        let docs: Vec<i64> = (0..20_000).map(|i| i / 2 * 77).collect();
        let a = assign(docs.iter().copied(), 4, 0.1);
        assert_eq!(a.train.len() + a.validation.len(), docs.len());
        let share = a.validation.len() as f64 / docs.len() as f64;
        assert!((share - 0.1).abs() < 0.012, "{share}");
        assert!(
            a.validation
                .chunks(2)
                .all(|pair| pair[0] + 1 == pair[1] && pair[0] % 2 == 0)
        );
        let fewer = assign(docs[..10_000].iter().copied(), 4, 0.1);
        assert!(
            a.validation.starts_with(&fewer.validation),
            "others coming changes nothing"
        );
        assert!(assign(docs.iter().copied(), 4, 0.0).validation.is_empty());
    }

    #[test]
    fn a_small_corpus_has_a_validation_document() {
        let a = assign([5, 6, 7].into_iter(), 0, 1e-9);
        assert_eq!((a.train.len(), a.validation.len()), (2, 1));
        let same = assign([5, 5].into_iter(), 0, 1e-9);
        assert_eq!((same.train.len(), same.validation.len()), (2, 0));
    }
}
