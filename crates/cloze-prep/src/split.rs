//! The documents of a split: a view of the token store that pairing sees.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{RecordBatch, UInt64Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use cloze_shard::atomic::{AtomicFile, Postponed};
use cloze_shard::ipc::{IpcFile, IpcFileWriter};
use cloze_shard::random::{Key, Stage};
use cloze_shard::{Vocabulary, prefetch};

use crate::pairing::{Cursor, DocumentView, Documents, TokenKinds, Totals};
use crate::token_store::{Place, TokenCursor, TokenFiles};
use crate::{Result, StoredDocument, TokenStore};

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
    pub fn new(
        docs: impl Iterator<Item = Result<i64>>,
        seed: u64,
        validation_fraction: f64,
    ) -> Result<Self> {
        let mut assignment = Self {
            key: Key::new(seed, Stage::Split),
            validation_fraction,
            chosen: None,
        };
        if validation_fraction <= 0.0 {
            return Ok(assignment);
        }
        let (mut smallest, mut several, mut first) = (None::<(f64, i64)>, false, None);
        for doc in docs {
            let doc = doc?;
            let draw = assignment.draw(doc);
            if draw < validation_fraction {
                return Ok(assignment);
            }
            several |= *first.get_or_insert(doc) != doc;
            if smallest.is_none_or(|(least, _)| draw < least) {
                smallest = Some((draw, doc));
            }
        }
        assignment.chosen = smallest.filter(|_| several).map(|(_, doc)| doc);
        Ok(assignment)
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
const BATCH: u64 = 65_536;

fn schema() -> SchemaRef {
    let column = |name| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![
        column("document"),
        column("sentences_before"),
    ]))
}

/// Which documents of the token store a split has, ascending, and how many sentences stand before each: on disk.
#[derive(Debug)]
pub struct SplitIndex {
    file: IpcFile,
    /// Sentences before each batch.
    firsts: Vec<u64>,
    /// What the split has in all.
    pub totals: Totals,
}

/// A batch of an index.
type Columns = [ScalarBuffer<u64>; 2];

impl SplitIndex {
    fn batch(&self, number: usize) -> Result<Columns> {
        let batch = self.file.batch(number)?;
        let column = |i: usize| {
            batch
                .column(i)
                .as_primitive::<UInt64Type>()
                .values()
                .clone()
        };
        Ok([column(0), column(1)])
    }

    /// The batch that has the `n`-th sentence of the split.
    fn batch_of_sentence(&self, n: u64) -> usize {
        self.firsts.partition_point(|&first| first <= n) - 1
    }
}

/// The document of batch `number` that holds the `n`-th sentence of the split, and the number of the sentence in it.
fn sentence_in(number: usize, [_, before]: &Columns, n: u64) -> (u64, usize) {
    let document = before.partition_point(|&start| start <= n) - 1;
    let index = number as u64 * BATCH + document as u64;
    (index, (n - before[document]) as usize)
}

/// Writes an index.
pub struct IndexWriter {
    path: PathBuf,
    file: IpcFileWriter,
    numbers: Vec<u64>,
    before: Vec<u64>,
    firsts: Vec<u64>,
    totals: Totals,
}

impl IndexWriter {
    /// Begins the index at `path`.
    pub fn create(path: &Path, postponed: &Postponed) -> Result<Self> {
        let file = AtomicFile::unfinished(path, postponed)?.undigested();
        Ok(Self {
            path: path.into(),
            file: IpcFileWriter::of(file, &schema())?,
            numbers: Vec::new(),
            before: Vec::new(),
            firsts: Vec::new(),
            totals: Totals::default(),
        })
    }

    /// Appends document `number` of the store.
    pub fn push(&mut self, number: u64, document: &StoredDocument<'_>) -> Result<()> {
        if self.numbers.is_empty() {
            self.firsts.push(self.totals.sentences);
        }
        self.numbers.push(number);
        self.before.push(self.totals.sentences);
        let sentences = document.sentence_ends.len() as u64;
        self.totals.add(document.doc, sentences);
        if self.totals.documents.is_multiple_of(BATCH) {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let columns = [&mut self.numbers, &mut self.before].map(std::mem::take);
        let columns = columns.map(|c| Arc::new(UInt64Array::from(c)) as _);
        let batch = RecordBatch::try_new(schema(), columns.to_vec()).map_err(|e| {
            cloze_shard::Error::Shard {
                path: self.path.clone(),
                why: e.to_string(),
            }
        })?;
        Ok(self.file.write(&batch)?)
    }

    /// Gives the index its name.
    pub fn finish(mut self) -> Result<SplitIndex> {
        if !self.numbers.is_empty() {
            self.flush()?;
        }
        self.file.finish()?;
        Ok(SplitIndex {
            file: IpcFile::open(&self.path, &schema())?,
            firsts: self.firsts,
            totals: self.totals,
        })
    }
}

/// A split's documents in the token store, mapped.
pub struct SplitDocuments<'a> {
    store: &'a TokenStore,
    index: &'a SplitIndex,
    batches: Vec<Columns>,
    steps: Steps,
    /// Where each document lies: who asks for documents in no order waits for one line of the cache, not for five.
    places: Vec<Place>,
}

/// Sentences between two whose documents are noted.
const STEP: u64 = 64;

/// The document of every [`STEP`]-th sentence, so that those between are soon found.
struct Steps(Vec<u32>);

impl Steps {
    /// The steps of documents, of which each has at least one sentence, by how many sentences stand before each.
    fn of(befores: impl Iterator<Item = u64>) -> Self {
        let mut steps = Vec::new();
        // What no number stands for is searched for in another way.
        for (document, before) in (0u32..=u32::MAX).zip(befores) {
            // Those up to this document's first sentence belong to the one before it.
            while (steps.len() as u64) * STEP < before {
                steps.push(document - 1);
            }
        }
        Self(steps)
    }

    /// The document of the `n`-th sentence, if it lies between two steps; `before` says how many sentences stand before a document.
    fn document_of(&self, n: u64, before: impl Fn(u64) -> u64) -> Option<u64> {
        let &[low, high] = self.0.get((n / STEP) as usize..)?.first_chunk()?;
        let (mut low, mut high) = (u64::from(low), u64::from(high));
        // The last that begins at or before `n`.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match before(middle) <= n {
                true => low = middle,
                false => high = middle - 1,
            }
        }
        Some(low)
    }
}

impl<'a> SplitDocuments<'a> {
    /// The documents of `store` that `index` names.
    pub fn map(store: &'a TokenStore, index: &'a SplitIndex) -> Result<Self> {
        let batches = (0..index.file.len()).map(|number| index.batch(number));
        let batches = batches.collect::<Result<Vec<Columns>>>()?;
        let befores = batches.iter().flat_map(|[_, before]| before.iter());
        let steps = Steps::of(befores.copied());
        let numbers = batches.iter().flat_map(|[numbers, _]| numbers.iter());
        let places = numbers.map(|&number| store.place(number)).collect();
        Ok(Self {
            store,
            index,
            batches,
            steps,
            places,
        })
    }

    /// Sentences before document `i`.
    fn before(&self, i: u64) -> u64 {
        let [_, before] = &self.batches[(i / BATCH) as usize];
        before[(i % BATCH) as usize]
    }
}

impl Documents for SplitDocuments<'_> {
    #[inline]
    fn get(&self, i: u64) -> DocumentView<'_> {
        self.store.at(&self.places[i as usize])
    }

    fn prefetch(&self, i: u64) {
        prefetch(&self.places[i as usize..][..1]);
    }

    fn nth_sentence(&self, n: u64) -> (u64, usize) {
        if let Some(document) = self.steps.document_of(n, |i| self.before(i)) {
            return (document, (n - self.before(document)) as usize);
        }
        let batch = self.index.batch_of_sentence(n);
        sentence_in(batch, &self.batches[batch], n)
    }
}

/// A split's documents in the token store, from the first to the last.
pub struct SplitCursor<'a> {
    index: &'a SplitIndex,
    held: Option<(usize, Columns)>,
    tokens: TokenCursor<'a>,
}

impl<'a> SplitCursor<'a> {
    /// The documents of `files` that `index` names.
    pub fn new(files: &'a TokenFiles, index: &'a SplitIndex) -> Self {
        Self {
            index,
            held: None,
            tokens: files.cursor(),
        }
    }

    fn batch(&mut self, number: usize) -> Result<&Columns> {
        let columns = match self.held.take() {
            Some((there, columns)) if there == number => columns,
            _ => self.index.batch(number)?,
        };
        Ok(&self.held.insert((number, columns)).1)
    }
}

impl Cursor for SplitCursor<'_> {
    fn get(&mut self, i: u64) -> Result<DocumentView<'_>> {
        let [numbers, _] = self.batch((i / BATCH) as usize)?;
        let number = numbers[(i % BATCH) as usize];
        Ok(self.tokens.document(number)?.into())
    }

    fn nth_sentence(&mut self, n: u64) -> Result<(u64, usize)> {
        let batch = self.index.batch_of_sentence(n);
        Ok(sentence_in(batch, self.batch(batch)?, n))
    }
}

impl<'a> From<StoredDocument<'a>> for DocumentView<'a> {
    fn from(document: StoredDocument<'a>) -> Self {
        Self {
            doc: document.doc,
            input_ids: document.input_ids,
            sentence_ends: document.sentence_ends,
        }
    }
}

/// Entries that end a clause.
const CLAUSE_ENDS: [&str; 18] = [
    ",", ";", ":", ")", "]", "}", "–", "—", "―", "…", "،", "؛", "、", "，", "；", "：", "）", "」",
];

/// What pairing goes by of a vocabulary.
pub fn token_kinds(vocabulary: &Vocabulary) -> TokenKinds {
    let ends_clause = |id| {
        let token = vocabulary.token(id);
        token.is_some_and(|t| CLAUSE_ENDS.contains(&t))
    };
    TokenKinds::new(
        vocabulary.len() as u32,
        |id| vocabulary.is_continuation(id),
        ends_clause,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validation(docs: &[i64], seed: u64, fraction: f64) -> Vec<usize> {
        let docs_in_order = docs.iter().map(|&doc| Ok(doc));
        let assignment = Assignment::new(docs_in_order, seed, fraction).unwrap();
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
    fn sentences_are_found_by_steps() {
        let key = Key::new(5, Stage::Split);
        for most in [1, 3, 40, 700] {
            let mut befores = vec![0];
            for i in 0..300 {
                befores.push(befores[i] + 1 + key.stream(i as u64, most as u32).below(most));
            }
            let all = befores.pop().unwrap();
            let steps = Steps::of(befores.iter().copied());
            let mut found = 0;
            for n in 0..all {
                let document = befores.partition_point(|&before| before <= n) as u64 - 1;
                if let Some(by_steps) = steps.document_of(n, |i| befores[i as usize]) {
                    assert_eq!(by_steps, document, "{n} of {befores:?}");
                    found += 1;
                }
            }
            // Not those of the last document, and of the step that it begins in.
            assert!(found + 2 * STEP + most >= all, "{found} of {all}");
        }
    }

    #[test]
    fn a_small_corpus_has_a_validation_document() {
        assert_eq!(validation(&[5, 6, 7], 0, 1e-9).len(), 1);
        assert!(validation(&[5, 5], 0, 1e-9).is_empty());
    }
}
