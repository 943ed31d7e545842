//! `documents.arrow`: one row a document that rows were made from, so that a row's origin can be named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type, UInt64Type};
use arrow_array::{Array, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::atomic::Written;
use crate::ipc::{self, IpcFileWriter};
use crate::manifest::Manifest;
use crate::{Error, Result};

/// The file's name in the dataset.
pub const FILE_NAME: &str = "documents.arrow";
const BATCH: usize = 65_536;
/// Bytes of text after which a batch is written, too: bounds memory.
const BATCH_TEXT: usize = 16 << 20;

/// A document of the corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentRecord {
    /// Its hash id, as rows name it. Not unique: documents of equal text share it.
    pub doc: i64,
    /// Index into the manifest's `sources`.
    pub source: u32,
    /// Its number in the source, from 0.
    pub index: u64,
    /// The id that the corpus gives it, where it does.
    pub id: Option<String>,
    /// What else the corpus says of it and was kept: a JSON object.
    pub meta: Option<String>,
    /// Sentences.
    pub sentences: u32,
    /// Tokens.
    pub tokens: u32,
}

/// The schema of `documents.arrow`, where the manifest names `metadata` and where it does not.
#[must_use]
pub fn schema(metadata: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new("doc", DataType::Int64, false),
        Field::new("source", DataType::UInt32, false),
        Field::new("index", DataType::UInt64, false),
        Field::new("id", DataType::Utf8, true),
        Field::new("sentences", DataType::UInt32, false),
        Field::new("tokens", DataType::UInt32, false),
    ];
    if metadata {
        fields.push(Field::new("meta", DataType::Utf8, true));
    }
    Arc::new(Schema::new(fields))
}

/// Writes `records`, in order, to `path`.
pub fn write(
    path: &Path,
    metadata: bool,
    records: impl IntoIterator<Item = DocumentRecord>,
) -> Result<Written> {
    let mut writer = DocumentsWriter::create(path, metadata)?;
    records.into_iter().try_for_each(|r| writer.push(r))?;
    writer.finish()
}

/// Writes the table, record by record.
pub struct DocumentsWriter {
    path: PathBuf,
    metadata: bool,
    file: IpcFileWriter,
    held: Vec<DocumentRecord>,
    /// Bytes of text in `held`.
    text: usize,
}

impl DocumentsWriter {
    /// Begins the table at `path`.
    pub fn create(path: &Path, metadata: bool) -> Result<Self> {
        Ok(Self {
            path: path.into(),
            metadata,
            file: IpcFileWriter::create(path, &schema(metadata))?,
            held: Vec::new(),
            text: 0,
        })
    }

    /// Appends a record.
    pub fn push(&mut self, record: DocumentRecord) -> Result<()> {
        let texts = [&record.id, &record.meta].into_iter().flatten();
        self.text += texts.map(String::len).sum::<usize>();
        self.held.push(record);
        if self.held.len() == BATCH || self.text >= BATCH_TEXT {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.held);
        self.text = 0;
        let column = |f: fn(&DocumentRecord) -> u32| {
            Arc::new(UInt32Array::from_iter_values(batch.iter().map(f)))
        };
        let texts = |f: fn(&DocumentRecord) -> Option<&str>| {
            Arc::new(batch.iter().map(f).collect::<StringArray>())
        };
        let mut columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(Int64Array::from_iter_values(batch.iter().map(|r| r.doc))),
            column(|r| r.source),
            Arc::new(UInt64Array::from_iter_values(batch.iter().map(|r| r.index))),
            texts(|r| r.id.as_deref()),
            column(|r| r.sentences),
            column(|r| r.tokens),
        ];
        if self.metadata {
            columns.push(texts(|r| r.meta.as_deref()));
        }
        let batch = RecordBatch::try_new(schema(self.metadata), columns)
            .map_err(|e| ipc::arrow(&self.path, &e))?;
        self.file.write(&batch)
    }

    /// Makes the table durable under its name.
    pub fn finish(mut self) -> Result<Written> {
        if !self.held.is_empty() {
            self.flush()?;
        }
        self.file.finish()
    }
}

/// What a table of documents comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows.
    pub documents: u64,
    /// Sentences of all.
    pub sentences: u64,
    /// Tokens of all.
    pub tokens: u64,
    /// Documents by source, in the manifest's order.
    pub by_source: Vec<u64>,
    /// The first rows, from 0, that cannot be, and why.
    pub wrong: Vec<(u64, String)>,
}

impl Tally {
    /// Rows that cannot be and are kept.
    const KEPT: usize = 20;

    fn wrong(&mut self, why: String) {
        if self.wrong.len() < Self::KEPT {
            self.wrong.push((self.documents, why));
        }
    }

    /// Counts a document of a source; what is wrong with its place, if anything.
    fn place(
        &mut self,
        (source, index): (u32, u64),
        before: Option<(u32, u64)>,
        manifest: &Manifest,
    ) -> std::result::Result<(), String> {
        let Some(count) = self.by_source.get_mut(source as usize) else {
            let sources = manifest.sources.len();
            return Err(format!(
                "source is {source}, the manifest names {sources} sources"
            ));
        };
        *count += 1;
        if before.is_some_and(|before| before >= (source, index)) {
            return Err(format!(
                "document {index} of source {source} stands after one that comes later"
            ));
        }
        Ok(())
    }
}

/// Whether `meta` is a JSON object of fields that `names` has.
fn only_known(meta: &str, names: &[String]) -> std::result::Result<(), String> {
    let fields: BTreeMap<String, serde::de::IgnoredAny> =
        serde_json::from_str(meta).map_err(|e| format!("meta is no JSON object: {e}"))?;
    match fields.keys().find(|name| !names.contains(name)) {
        Some(name) => Err(format!(
            "meta holds {name:?}, the manifest's metadata is {names:?}"
        )),
        None => Ok(()),
    }
}

/// The mapped table.
#[derive(Debug)]
pub struct Documents {
    batches: Vec<RecordBatch>,
}

impl Documents {
    /// Maps `path`, which has a column of metadata or has none.
    pub fn open(path: &Path, metadata: bool) -> Result<Self> {
        let batches = ipc::map_batches(path, &schema(metadata))?;
        if let Some(batch) = batches.iter().find(|b| {
            b.columns()
                .iter()
                .enumerate()
                .any(|(i, c)| !may_be_null(i) && c.null_count() > 0)
        }) {
            let why = format!("{} nulls where none may be", batch.num_rows());
            return Err(Error::Shard {
                path: path.into(),
                why,
            });
        }
        Ok(Self { batches })
    }

    /// The number of documents.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Whether there is no document.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds up what it holds, and looks for rows that cannot be of `manifest`: a column at a time, so that no record is made.
    #[must_use]
    pub fn tally(&self, manifest: &Manifest) -> Tally {
        let mut tally = Tally {
            by_source: vec![0; manifest.sources.len()],
            ..Tally::default()
        };
        // Source and number of the document before.
        let mut before: Option<(u32, u64)> = None;
        for batch in &self.batches {
            let source = batch.column(1).as_primitive::<UInt32Type>().values();
            let index = batch.column(2).as_primitive::<UInt64Type>().values();
            let count = |i: usize| batch.column(i).as_primitive::<UInt32Type>().values();
            let (sentences, tokens) = (count(4), count(5));
            let meta = (batch.num_columns() > 6).then(|| batch.column(6).as_string::<i32>());
            for i in 0..batch.num_rows() {
                let here = (source[i], index[i]);
                if let Err(why) = tally.place(here, before, manifest) {
                    tally.wrong(why);
                }
                if tokens[i] < sentences[i] || sentences[i] == 0 {
                    let (tokens, sentences) = (tokens[i], sentences[i]);
                    tally.wrong(format!("{tokens} tokens in {sentences} sentences"));
                }
                if let Some(meta) = meta
                    && meta.is_valid(i)
                    && let Err(why) = only_known(meta.value(i), &manifest.metadata)
                {
                    tally.wrong(why);
                }
                before = Some(here);
                tally.documents += 1;
                tally.sentences += u64::from(sentences[i]);
                tally.tokens += u64::from(tokens[i]);
            }
        }
        tally
    }

    /// All records, in order.
    pub fn iter(&self) -> impl Iterator<Item = DocumentRecord> + '_ {
        self.batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(move |i| record(batch, i)))
    }

    /// The hash ids, in order (a scan of one column).
    pub fn hashes(&self) -> impl Iterator<Item = i64> + '_ {
        self.batches.iter().flat_map(|batch| {
            let docs = batch.column(0).as_primitive::<Int64Type>().values();
            docs.iter().copied()
        })
    }

    /// What the corpus calls each document, in order, where it does (a scan of one column).
    pub fn ids(&self) -> impl Iterator<Item = Option<&str>> {
        self.batches
            .iter()
            .flat_map(|batch| batch.column(3).as_string::<i32>())
    }

    /// The record at `ordinal`, from 0.
    #[must_use]
    pub fn get(&self, ordinal: u64) -> Option<DocumentRecord> {
        let mut left = ordinal;
        for batch in &self.batches {
            let rows = batch.num_rows() as u64;
            if left < rows {
                return Some(record(batch, left as usize));
            }
            left -= rows;
        }
        None
    }

    /// The places, from 0, of the records whose `id`, as the corpus gives it, is this one (a scan of one column).
    #[must_use]
    pub fn find_id(&self, id: &str) -> Vec<u64> {
        let mut found = Vec::new();
        let mut first = 0;
        for batch in &self.batches {
            let ids = batch.column(3).as_string::<i32>();
            let here = ids.iter().enumerate().filter(|(_, i)| *i == Some(id));
            found.extend(here.map(|(i, _)| first + i as u64));
            first += batch.num_rows() as u64;
        }
        found
    }

    /// The records with this hash id (a scan of one column).
    #[must_use]
    pub fn find(&self, doc: i64) -> Vec<DocumentRecord> {
        let mut found = Vec::new();
        for batch in &self.batches {
            let docs = batch.column(0).as_primitive::<Int64Type>().values();
            found.extend(
                docs.iter()
                    .enumerate()
                    .filter(|&(_, &d)| d == doc)
                    .map(|(i, _)| record(batch, i)),
            );
        }
        found
    }
}

/// Whether a column of the table may hold nulls, by its place.
#[must_use]
pub fn may_be_null(column: usize) -> bool {
    column == 3 || column == 6
}

/// A row of the table, whose columns are those of [`schema`].
#[must_use]
pub fn record(batch: &RecordBatch, i: usize) -> DocumentRecord {
    let text = |column: usize| {
        let texts = batch.columns().get(column)?.as_string::<i32>();
        texts.is_valid(i).then(|| texts.value(i).to_owned())
    };
    DocumentRecord {
        doc: batch.column(0).as_primitive::<Int64Type>().value(i),
        source: batch.column(1).as_primitive::<UInt32Type>().value(i),
        index: batch.column(2).as_primitive::<UInt64Type>().value(i),
        id: text(3),
        meta: text(6),
        sentences: batch.column(4).as_primitive::<UInt32Type>().value(i),
        tokens: batch.column(5).as_primitive::<UInt32Type>().value(i),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let records: Vec<DocumentRecord> = (0..70_000i64)
            .map(|i| DocumentRecord {
                doc: i % 69_999 - 5,
                source: i as u32 / 7,
                index: i as u64,
                id: (i % 3 == 0).then(|| format!("id-{i}")),
                meta: (i % 5 == 0).then(|| format!("{{\"n\":{i}}}")),
                sentences: 1,
                tokens: i as u32,
            })
            .collect();
        let plain = || {
            records
                .iter()
                .cloned()
                .map(|r| DocumentRecord { meta: None, ..r })
        };
        write(&path, false, records.iter().cloned()).unwrap();
        assert!(Documents::open(&path, true).is_err());
        assert!(Documents::open(&path, false).unwrap().iter().eq(plain()));
        write(&path, true, records.iter().cloned()).unwrap();
        assert!(Documents::open(&path, false).is_err());
        let documents = Documents::open(&path, true).unwrap();
        assert!(documents.iter().eq(records.iter().cloned()));
        assert_eq!(documents.len(), 70_000);
        assert_eq!(
            documents
                .find(-5)
                .iter()
                .map(|r| r.index)
                .collect::<Vec<_>>(),
            [0, 69_999]
        );
        assert!(
            documents
                .hashes()
                .eq(records.iter().map(|record| record.doc))
        );
        for ordinal in [0, 65_535, 65_536, 69_999] {
            let expected = records.get(ordinal).cloned();
            assert_eq!(documents.get(ordinal as u64), expected);
        }
        assert_eq!(documents.get(70_000), None);
        assert_eq!(documents.find_id("id-69999"), [69_999]);
        assert!(documents.find_id("id-1").is_empty());
    }
}
