//! The token store: every document's ids and sentence ends, on disk, in order.
//!
//! Arrow IPC files, uncompressed and mapped when they are read: all at once ([`TokenStore`]), or, from front to back, a batch at a time ([`TokenFiles`]).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, StringArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use cloze_shard::atomic::{AtomicFile, Postponed};
use cloze_shard::ipc::{IpcFile, IpcFileWriter};
use cloze_shard::lists::{IdLists, Lists, array};
use cloze_shard::schema::{IdType, list_of};
use cloze_shard::{Id, Ids};

use crate::input::Document;
use crate::pairing::DocumentView;
use crate::{Error, Result};

/// Tokens after which a batch is written, where a document counts for some and two bytes of what else is kept of it for one.
const BATCH_TOKENS: usize = 1 << 20;
const TOKENS_A_DOCUMENT: usize = 16;
/// Arrow's list offsets are 32 bits wide and signed.
const DOCUMENT_TOKENS: usize = 1 << 30;

/// A document's tokens, before they are stored.
#[derive(Clone, Copy, Debug)]
pub struct TokenizedDocument<'a, T> {
    /// Hash id.
    pub doc: i64,
    /// Token ids of all sentences.
    pub input_ids: &'a [T],
    /// Exclusive end of each sentence.
    pub sentence_ends: &'a [u32],
}

fn schema(id_type: IdType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("doc", DataType::Int64, false),
        Field::new("source", DataType::UInt32, false),
        Field::new("index", DataType::UInt64, false),
        Field::new("id", DataType::Utf8, true),
        Field::new("meta", DataType::Utf8, true),
        Field::new("sentence_ends", list_of(DataType::UInt32), false),
        Field::new("input_ids", list_of(id_type.data_type()), false),
    ]))
}

/// Appends documents.
pub struct TokenStoreWriter {
    path: PathBuf,
    file: IpcFileWriter,
    id_type: IdType,
    columns: Columns,
    tokens: usize,
}

struct Columns {
    doc: Vec<i64>,
    source: Vec<u32>,
    index: Vec<u64>,
    id: StringBuilder,
    meta: StringBuilder,
    sentence_ends: Lists<UInt32Type>,
    ids: IdLists,
}

impl Columns {
    fn new(id_type: IdType) -> Self {
        Self {
            doc: Vec::new(),
            source: Vec::new(),
            index: Vec::new(),
            id: StringBuilder::new(),
            meta: StringBuilder::new(),
            sentence_ends: Lists::default(),
            ids: IdLists::new(id_type),
        }
    }
}

impl TokenStoreWriter {
    /// Begins the store at `path`, durable when it has its name, or by `postponed`.
    pub fn create(path: &Path, id_type: IdType, postponed: Option<&Postponed>) -> Result<Self> {
        let file = match postponed {
            Some(postponed) => AtomicFile::unfinished(path, postponed)?,
            None => AtomicFile::create(path)?,
        };
        let file = IpcFileWriter::of(file, &schema(id_type))?;
        Ok(Self {
            path: path.into(),
            file,
            id_type,
            columns: Columns::new(id_type),
            tokens: 0,
        })
    }

    /// Appends a document that has tokens.
    pub fn push<T: Id>(
        &mut self,
        document: &Document,
        tokens: TokenizedDocument<'_, T>,
    ) -> Result<()> {
        let (id, meta) = (document.id.as_deref(), document.meta.as_deref());
        self.push_of(document.source, document.index, [id, meta], tokens)
    }

    /// Appends document `index` of source `source`, with its id and what else was kept of it.
    pub fn push_of<T: Id>(
        &mut self,
        source: u32,
        index: u64,
        [id, meta]: [Option<&str>; 2],
        tokens: TokenizedDocument<'_, T>,
    ) -> Result<()> {
        let count = tokens.input_ids.len();
        if count > DOCUMENT_TOKENS {
            let (source_path, limit) = (String::new(), DOCUMENT_TOKENS);
            return Err(Error::DocumentTooLong {
                source_path,
                index,
                tokens: count,
                limit,
            });
        }
        if self.tokens + count > DOCUMENT_TOKENS {
            self.flush()?;
        }
        let columns = &mut self.columns;
        columns.doc.push(tokens.doc);
        columns.source.push(source);
        columns.index.push(index);
        columns.id.append_option(id);
        columns.meta.append_option(meta);
        columns.sentence_ends.push(tokens.sentence_ends);
        // The id type was chosen so that every id of the vocabulary fits.
        columns.ids.push(T::view(tokens.input_ids));
        let text = [id, meta].into_iter().flatten().map(str::len);
        self.tokens += count + TOKENS_A_DOCUMENT + text.sum::<usize>() / 2;
        if self.tokens >= BATCH_TOKENS {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<()> {
        let columns = &mut self.columns;
        self.tokens = 0;
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(array::<Int64Type>(&mut columns.doc)),
            Arc::new(array::<UInt32Type>(&mut columns.source)),
            Arc::new(array::<UInt64Type>(&mut columns.index)),
            Arc::new(columns.id.finish()),
            Arc::new(columns.meta.finish()),
            columns.sentence_ends.finish(),
            columns.ids.finish(),
        ];
        let batch = RecordBatch::try_new(schema(self.id_type), arrays).map_err(|e| {
            cloze_shard::Error::Shard {
                path: self.path.clone(),
                why: e.to_string(),
            }
        })?;
        Ok(self.file.write(&batch)?)
    }

    /// Makes the store durable under its name; the blake3 of its bytes.
    pub fn finish(mut self) -> Result<String> {
        if self.tokens > 0 {
            self.flush()?;
        }
        Ok(self.file.finish()?.blake3)
    }
}

/// A document in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredDocument<'a> {
    /// Hash id.
    pub doc: i64,
    /// Number of the source.
    pub source: u32,
    /// Number of the document in its source.
    pub index: u64,
    /// What the corpus calls it.
    pub id: Option<&'a str>,
    /// What else was kept of it.
    pub meta: Option<&'a str>,
    /// Token ids, at least one.
    pub input_ids: Ids<'a>,
    /// Exclusive end of each sentence; the last is the number of tokens.
    pub sentence_ends: &'a [u32],
}

/// The files of the store.
#[derive(Debug)]
pub struct TokenFiles {
    files: Vec<IpcFile>,
    /// File and number in it of each batch.
    batches: Vec<(u32, u32)>,
    /// Number of the first document of each batch, then the number of documents.
    starts: Vec<u64>,
}

impl TokenFiles {
    /// The files `parts`, one after another; ids may be of either width.
    pub fn open(parts: impl IntoIterator<Item = PathBuf>) -> Result<Self> {
        let mut all = Self {
            files: Vec::new(),
            batches: Vec::new(),
            starts: vec![0],
        };
        let mut total = 0;
        for path in parts {
            let file = match IpcFile::open(&path, &schema(IdType::UInt16)) {
                Ok(file) => file,
                Err(_) => IpcFile::open(&path, &schema(IdType::UInt32))?,
            };
            for batch in 0..file.len() {
                total += file.rows(batch)? as u64;
                all.starts.push(total);
                all.batches.push((all.files.len() as u32, batch as u32));
            }
            all.files.push(file);
        }
        Ok(all)
    }

    /// The number of documents.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Whether there is no document.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(IpcFile::bytes).sum()
    }

    /// Goes through the documents.
    #[must_use]
    pub fn cursor(&self) -> TokenCursor<'_> {
        TokenCursor {
            files: self,
            held: None,
        }
    }
}

/// A batch of the store, and then another.
#[derive(Debug)]
pub struct TokenCursor<'a> {
    files: &'a TokenFiles,
    held: Option<(Range<u64>, Batch)>,
}

impl TokenCursor<'_> {
    /// Document `i`, below [`TokenFiles::len`].
    pub fn document(&mut self, i: u64) -> Result<StoredDocument<'_>> {
        let there = |(range, _): &(Range<u64>, Batch)| range.contains(&i);
        if !self.held.as_ref().is_some_and(there) {
            // The batch before is given back before the next one is taken.
            self.held = None;
            let TokenFiles {
                files,
                batches,
                starts,
            } = self.files;
            let number = starts.partition_point(|&start| start <= i) - 1;
            let (file, batch) = batches[number];
            let batch = files[file as usize].batch(batch as usize)?;
            self.held = Some((starts[number]..starts[number + 1], Batch::new(&batch)));
        }
        let (range, batch) = self.held.as_ref().expect("the batch is held now");
        Ok(batch.document((i - range.start) as usize))
    }
}

/// The whole store, mapped.
#[derive(Debug)]
pub struct TokenStore {
    batches: Vec<Batch>,
    starts: Vec<u64>,
}

/// Where a document lies in a store: all that is needed to see it, in half a line of the processor's cache.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    doc: i64,
    batch: u32,
    ids: [u32; 2],
    ends: [u32; 2],
}

impl TokenStore {
    /// Maps `files`.
    pub fn map(files: &TokenFiles) -> Result<Self> {
        let mut batches = Vec::new();
        for file in &files.files {
            batches.extend(file.batches()?.iter().map(Batch::new));
        }
        Ok(Self {
            batches,
            starts: files.starts.clone(),
        })
    }

    /// Where document `i` lies.
    ///
    /// # Panics
    /// If `i` is not below the number of documents.
    #[must_use]
    pub fn place(&self, i: u64) -> Place {
        let number = self.starts.partition_point(|&start| start <= i) - 1;
        let i = (i - self.starts[number]) as usize;
        let batch = &self.batches[number];
        // Offsets of Arrow's lists are not negative, and 2³² batches would be more than a disk holds.
        let between = |offsets: &OffsetBuffer<i32>| [offsets[i], offsets[i + 1]].map(|o| o as u32);
        Place {
            doc: batch.doc[i],
            batch: number as u32,
            ids: between(&batch.ids.0),
            ends: between(&batch.ends.0),
        }
    }

    /// What pairing sees of the document at `place`, which is one of this store.
    #[must_use]
    pub fn at(&self, place: &Place) -> DocumentView<'_> {
        let [ids, ends] = [place.ids, place.ends].map(|[from, to]| from as usize..to as usize);
        self.batches[place.batch as usize].cut(place.doc, ids, ends)
    }
}

#[derive(Debug)]
struct Batch {
    doc: ScalarBuffer<i64>,
    source: ScalarBuffer<u32>,
    index: ScalarBuffer<u64>,
    id: StringArray,
    meta: StringArray,
    ends: (OffsetBuffer<i32>, ScalarBuffer<u32>),
    ids: (OffsetBuffer<i32>, IdValues),
}

#[derive(Debug)]
enum IdValues {
    U16(ScalarBuffer<u16>),
    U32(ScalarBuffer<u32>),
}

impl Batch {
    fn new(batch: &RecordBatch) -> Self {
        let ends: &ListArray = batch.column(5).as_list();
        let ids: &ListArray = batch.column(6).as_list();
        let values = match ids.value_type() {
            DataType::UInt16 => {
                IdValues::U16(ids.values().as_primitive::<UInt16Type>().values().clone())
            }
            _ => IdValues::U32(ids.values().as_primitive::<UInt32Type>().values().clone()),
        };
        Self {
            doc: batch.column(0).as_primitive::<Int64Type>().values().clone(),
            source: batch
                .column(1)
                .as_primitive::<UInt32Type>()
                .values()
                .clone(),
            index: batch
                .column(2)
                .as_primitive::<UInt64Type>()
                .values()
                .clone(),
            id: batch.column(3).as_string::<i32>().clone(),
            meta: batch.column(4).as_string::<i32>().clone(),
            ends: (
                ends.offsets().clone(),
                ends.values().as_primitive::<UInt32Type>().values().clone(),
            ),
            ids: (ids.offsets().clone(), values),
        }
    }

    fn document(&self, i: usize) -> StoredDocument<'_> {
        let view = self.view(i);
        StoredDocument {
            doc: view.doc,
            source: self.source[i],
            index: self.index[i],
            id: self.id.is_valid(i).then(|| self.id.value(i)),
            meta: self.meta.is_valid(i).then(|| self.meta.value(i)),
            input_ids: view.input_ids,
            sentence_ends: view.sentence_ends,
        }
    }

    #[inline]
    fn view(&self, i: usize) -> DocumentView<'_> {
        let range = |offsets: &OffsetBuffer<i32>| offsets[i] as usize..offsets[i + 1] as usize;
        self.cut(self.doc[i], range(&self.ids.0), range(&self.ends.0))
    }

    #[inline]
    fn cut(&self, doc: i64, ids: Range<usize>, ends: Range<usize>) -> DocumentView<'_> {
        DocumentView {
            doc,
            input_ids: match &self.ids.1 {
                IdValues::U16(values) => Ids::U16(&values[ids]),
                IdValues::U32(values) => Ids::U32(&values[ids]),
            },
            sentence_ends: &self.ends.1[ends],
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    /// What was pushed is seen by a cursor and by place: over several files, one of none, of either width, and several batches of a file.
    #[test]
    fn documents_are_seen_both_ways() {
        let folder = tempfile::tempdir().unwrap();
        let (mut paths, mut all) = (Vec::new(), Vec::new());
        for (id_type, count) in [
            (IdType::UInt16, 5u32),
            (IdType::UInt32, 0),
            (IdType::UInt32, 7),
            (IdType::UInt16, 1),
        ] {
            let path = folder.path().join(format!("{}.arrow", paths.len()));
            let mut writer = TokenStoreWriter::create(&path, id_type, None).unwrap();
            for i in 0..count {
                let sentence_ends: Vec<u32> = (1..=i % 3 + 1).map(|s| s * (i + 2)).collect();
                let tokens = sentence_ends[sentence_ends.len() - 1];
                let input_ids: Vec<u32> = (0..tokens).map(|t| 1_000 * i + t).collect();
                let tokenized = TokenizedDocument {
                    doc: i64::from(i) - 3,
                    input_ids: &input_ids,
                    sentence_ends: &sentence_ends,
                };
                let id = format!("document {i}");
                let kept = [(i % 2 == 0).then_some(id.as_str()), None];
                writer
                    .push_of(3, u64::from(i) + 9, kept, tokenized)
                    .unwrap();
                if i % 2 == 1 {
                    writer.flush().unwrap();
                }
                all.push((i, id, (tokenized.doc, input_ids, sentence_ends)));
            }
            writer.finish().unwrap();
            paths.push(path);
        }
        let files = TokenFiles::open(paths).unwrap();
        assert_eq!((files.len(), files.is_empty()), (13, false));
        let store = TokenStore::map(&files).unwrap();
        let mut cursor = files.cursor();
        // Not in order, so that the cursor takes batches again.
        for i in (0..13).map(|i| (i * 5) % 13) {
            let (number, id, (own_doc, own_ids, own_ends)) = &all[i as usize];
            let stored = cursor.document(i).unwrap();
            let named = stored.id.map(str::to_owned);
            assert_eq!(named, (number % 2 == 0).then(|| id.clone()));
            assert_eq!((stored.meta, stored.source), (None, 3));
            assert_eq!(stored.index, u64::from(*number) + 9);
            let seen = store.at(&store.place(i));
            for (doc, ids, ends) in [
                (stored.doc, stored.input_ids, stored.sentence_ends),
                (seen.doc, seen.input_ids, seen.sentence_ends),
            ] {
                assert_eq!(doc, *own_doc);
                assert_eq!(ids.to_vec(), *own_ids);
                assert_eq!(ends, own_ends);
            }
        }
    }
}
