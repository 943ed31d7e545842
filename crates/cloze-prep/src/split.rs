//! The documents of a split: a view of the token store that pairing sees.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{RecordBatch, UInt64Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use cloze_shard::Vocabulary;
use cloze_shard::ipc::{IpcFileWriter, map_batches};
use cloze_shard::random::{Key, Stage};

use crate::pairing::{DocumentView, Documents};
use crate::{Result, TokenStore};

/// Assigns documents to splits by a keyed draw of their hash id: documents of one id stay together, and a document
/// stays where it is when others come or go.
///
/// Where the draw leaves validation empty although a share was asked for and two ids are there, the id with the smallest
/// draw goes there: a model must be measurable on a small corpus too.
#[derive(Clone, Debug)]
pub struct Assignment {
    key: Key,
    validation_fraction: f64,
    /// The id that is validation although its draw is not.
    chosen: Option<i64>,
}

impl Assignment {
    /// The assignment of `docs`.
    pub fn new(docs: impl Iterator<Item = i64>, seed: u64, validation_fraction: f64) -> Self {
        let mut assignment = Self {
            key: Key::new(seed, Stage::Split),
            validation_fraction,
            chosen: None,
        };
        if validation_fraction <= 0.0 {
            return assignment;
        }
        let (mut smallest, mut several, mut first) = (None::<(f64, i64)>, false, None);
        for doc in docs {
            let draw = assignment.draw(doc);
            if draw < validation_fraction {
                return assignment;
            }
            several |= *first.get_or_insert(doc) != doc;
            if smallest.is_none_or(|(least, _)| draw < least) {
                smallest = Some((draw, doc));
            }
        }
        assignment.chosen = smallest.filter(|_| several).map(|(_, doc)| doc);
        assignment
    }

    fn draw(&self, doc: i64) -> f64 {
        self.key.stream(doc as u64, 0).unit()
    }

    /// Whether the documents of this id are validation.
    pub fn is_validation(&self, doc: i64) -> bool {
        match self.chosen {
            Some(chosen) => doc == chosen,
            None => self.draw(doc) < self.validation_fraction,
        }
    }
}

/// Documents in a batch of an index.
const BATCH: usize = 65_536;

fn schema() -> SchemaRef {
    let column = |name| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![
        column("document"),
        column("sentences_before"),
    ]))
}

/// Which documents of the token store a split has, ascending, and how many sentences stand before each: a mapped file, so that memory does not grow with
/// the corpus.
#[derive(Debug)]
pub struct SplitIndex {
    batches: Vec<[ScalarBuffer<u64>; 2]>,
    documents: u64,
    sentences: u64,
}

impl SplitIndex {
    /// Writes the index of the documents of `store` that `takes` takes, and maps it.
    pub fn write(store: &TokenStore, path: &Path, takes: impl Fn(i64) -> bool) -> Result<Self> {
        let mut file = IpcFileWriter::undigested(path, &schema())?;
        let (mut numbers, mut before) = (Vec::new(), Vec::new());
        let (mut documents, mut sentences) = (0, 0);
        let mut flush = |numbers: &mut Vec<u64>, before: &mut Vec<u64>| -> Result<()> {
            let columns = [std::mem::take(numbers), std::mem::take(before)];
            let columns = columns
                .map(|c| Arc::new(UInt64Array::from(c)) as _)
                .to_vec();
            let batch =
                RecordBatch::try_new(schema(), columns).map_err(|e| cloze_shard::Error::Shard {
                    path: path.into(),
                    why: e.to_string(),
                })?;
            Ok(file.write(&batch)?)
        };
        for i in 0..store.len() {
            let document = store.document(i);
            if !takes(document.doc) {
                continue;
            }
            numbers.push(i);
            before.push(sentences);
            documents += 1;
            sentences += document.sentence_ends.len() as u64;
            if numbers.len() == BATCH {
                flush(&mut numbers, &mut before)?;
            }
        }
        if !numbers.is_empty() {
            flush(&mut numbers, &mut before)?;
        }
        file.finish()?;
        let batches = map_batches(path, &schema())?;
        let column =
            |b: &RecordBatch, i: usize| b.column(i).as_primitive::<UInt64Type>().values().clone();
        Ok(Self {
            batches: batches
                .iter()
                .map(|b| [column(b, 0), column(b, 1)])
                .collect(),
            documents,
            sentences,
        })
    }

    /// How many documents the split has.
    pub fn len(&self) -> u64 {
        self.documents
    }

    /// The number in the store of document `i`.
    fn number(&self, i: u64) -> u64 {
        self.batches[(i / BATCH as u64) as usize][0][(i % BATCH as u64) as usize]
    }

    /// The document that holds the `n`-th sentence of the split, and the number of the sentence in it.
    fn nth_sentence(&self, n: u64) -> (u64, usize) {
        let batch = self.batches.partition_point(|[_, before]| before[0] <= n) - 1;
        let before = &self.batches[batch][1];
        let document = before.partition_point(|&start| start <= n) - 1;
        let number = batch as u64 * BATCH as u64 + document as u64;
        (number, (n - before[document]) as usize)
    }
}

/// A split's documents in the token store.
pub struct SplitDocuments<'a> {
    store: &'a TokenStore,
    index: &'a SplitIndex,
    continuation: Vec<bool>,
    clause_end: Vec<bool>,
}

/// Entries that end a clause.
const CLAUSE_ENDS: [&str; 18] = [
    ",", ";", ":", ")", "]", "}", "–", "—", "―", "…", "،", "؛", "、", "，", "；", "：", "）", "」",
];

impl<'a> SplitDocuments<'a> {
    /// The documents of `store` that `index` names.
    pub fn new(store: &'a TokenStore, index: &'a SplitIndex, vocabulary: &Vocabulary) -> Self {
        let continuation = (0..vocabulary.len() as u32)
            .map(|id| vocabulary.is_continuation(id))
            .collect();
        let clause_end = (0..vocabulary.len() as u32)
            .map(|id| {
                vocabulary
                    .token(id)
                    .is_some_and(|t| CLAUSE_ENDS.contains(&t))
            })
            .collect();
        Self {
            store,
            index,
            continuation,
            clause_end,
        }
    }
}

impl Documents for SplitDocuments<'_> {
    fn len(&self) -> u64 {
        self.index.documents
    }

    fn get(&self, i: u64) -> DocumentView<'_> {
        self.store.view(self.index.number(i))
    }

    fn nth_sentence(&self, n: u64) -> (u64, usize) {
        self.index.nth_sentence(n)
    }

    fn sentences(&self) -> u64 {
        self.index.sentences
    }

    fn is_continuation(&self, id: u32) -> bool {
        self.continuation.get(id as usize).copied().unwrap_or(false)
    }

    fn is_clause_end(&self, id: u32) -> bool {
        self.clause_end.get(id as usize).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validation(docs: &[i64], seed: u64, fraction: f64) -> Vec<usize> {
        let assignment = Assignment::new(docs.iter().copied(), seed, fraction);
        let chosen = docs.iter().enumerate();
        chosen
            .filter(|(_, doc)| assignment.is_validation(**doc))
            .map(|(i, _)| i)
            .collect()
    }

    #[test]
    fn equal_ids_stay_together_and_the_share_is_met() {
        let docs: Vec<i64> = (0..20_000).map(|i| i / 2 * 77).collect();
        let chosen = validation(&docs, 4, 0.1);
        let share = chosen.len() as f64 / docs.len() as f64;
        assert!((share - 0.1).abs() < 0.012, "{share}");
        assert!(
            chosen
                .chunks(2)
                .all(|pair| pair[0] + 1 == pair[1] && pair[0] % 2 == 0)
        );
        let fewer = validation(&docs[..10_000], 4, 0.1);
        assert!(chosen.starts_with(&fewer), "others coming changes nothing");
        assert!(validation(&docs, 4, 0.0).is_empty());
    }

    #[test]
    fn a_small_corpus_has_a_validation_document() {
        assert_eq!(validation(&[5, 6, 7], 0, 1e-9).len(), 1);
        assert!(validation(&[5, 5], 0, 1e-9).is_empty());
    }
}
