//! Writing a shard.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::{Int64Type, UInt16Type, UInt32Type};
use arrow_array::{ArrayRef, Int8Array, RecordBatch};
use arrow_buffer::NullBufferBuilder;
use arrow_schema::SchemaRef;

use crate::ipc::{self, IpcFileWriter};
use crate::lists::{IdLists, Lists, array};
use crate::manifest::{FileRecord, LabelCounts, ShardRecord};
use crate::row::{NextSentenceLabel, RowRef};
use crate::rules::RowRules;
use crate::schema::{IdType, shard_schema};
use crate::{Error, Result};

/// Rows in every record batch of a shard but the last. Part of the format: a reader finds row *i* by division.
pub const ROWS_PER_BATCH: usize = 8_192;

/// Rows on their way into a shard, at most [`ROWS_PER_BATCH`]: checked, and counted. Those of a shard can be made in any order, by several threads.
pub struct RowBatch {
    rules: RowRules,
    columns: Columns,
    counts: Counts,
}

/// What the manifest says of rows.
#[derive(Default)]
struct Counts {
    rows: u64,
    tokens: u64,
    labels: LabelCounts,
    /// Rows of each length.
    lengths: Vec<u64>,
}

impl RowBatch {
    /// No rows yet, of ids as wide as `id_type`. Every row must keep `rules`.
    #[must_use]
    pub fn new(id_type: IdType, static_masks: bool, rules: RowRules) -> Self {
        Self {
            rules,
            columns: Columns::new(id_type, static_masks),
            counts: Counts::default(),
        }
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.rows as usize
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a row. One that breaks a rule is refused, with the reason.
    pub fn push(&mut self, row: &RowRef<'_>) -> std::result::Result<(), String> {
        self.rules.check(row)?;
        self.columns.push(row);
        self.counts.add(row);
        Ok(())
    }
}

impl Counts {
    fn add(&mut self, row: &RowRef<'_>) {
        self.rows += 1;
        self.tokens += row.len() as u64;
        *match row.next_sentence_label {
            Some(NextSentenceLabel::IsNext) => &mut self.labels.is_next,
            Some(NextSentenceLabel::NotNext) => &mut self.labels.not_next,
            None => &mut self.labels.none,
        } += 1;
        if self.lengths.len() <= row.len() {
            self.lengths.resize(row.len() + 1, 0);
        }
        self.lengths[row.len()] += 1;
    }

    fn add_all(&mut self, more: &Self) {
        self.rows += more.rows;
        self.tokens += more.tokens;
        self.labels.is_next += more.labels.is_next;
        self.labels.not_next += more.labels.not_next;
        self.labels.none += more.labels.none;
        if self.lengths.len() < more.lengths.len() {
            self.lengths.resize(more.lengths.len(), 0);
        }
        for (all, more) in self.lengths.iter_mut().zip(&more.lengths) {
            *all += more;
        }
    }
}

/// Writes one shard: rows are checked, batched and digested on their way to disk.
pub struct ShardWriter {
    path: PathBuf,
    file: IpcFileWriter,
    schema: SchemaRef,
    /// Rows that were pushed one by one.
    batch: RowBatch,
    written: Counts,
}

impl ShardWriter {
    /// Begins the shard at `path`. Every row must keep `rules`.
    pub fn create(
        path: &Path,
        id_type: IdType,
        static_masks: bool,
        rules: RowRules,
    ) -> Result<Self> {
        let schema = shard_schema(id_type, static_masks);
        Ok(Self {
            path: path.into(),
            file: IpcFileWriter::create(path, &schema)?,
            schema,
            batch: RowBatch::new(id_type, static_masks, rules),
            written: Counts::default(),
        })
    }

    /// Appends a row. A row that breaks a rule is refused.
    pub fn push(&mut self, row: &RowRef<'_>) -> Result<()> {
        let number = self.written.rows + self.batch.counts.rows;
        self.batch.push(row).map_err(|why| Error::Row {
            path: self.path.clone(),
            row: number,
            why,
        })?;
        if self.batch.len() == ROWS_PER_BATCH {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        write(
            &mut self.file,
            &self.path,
            &self.schema,
            &mut self.batch,
            &mut self.written,
        )
    }

    /// Appends the rows of `batch`, which is empty then. Every batch but the last of a shard must be full, and no rows may have been pushed that fill none.
    ///
    /// # Panics
    /// If there are such rows, or the batch before was not full.
    pub fn append(&mut self, batch: &mut RowBatch) -> Result<()> {
        let whole = self.written.rows.is_multiple_of(ROWS_PER_BATCH as u64);
        assert!(
            whole && self.batch.is_empty(),
            "a batch after one that is not full"
        );
        write(
            &mut self.file,
            &self.path,
            &self.schema,
            batch,
            &mut self.written,
        )
    }

    /// Makes the shard durable under its name. `name` is its path in the dataset, for the manifest.
    pub fn finish(mut self, name: &str) -> Result<ShardRecord> {
        if !self.batch.is_empty() {
            self.flush()?;
        }
        let written = self.file.finish()?;
        Ok(ShardRecord {
            file: FileRecord {
                path: name.into(),
                bytes: written.bytes,
                blake3: written.blake3,
            },
            rows: self.written.rows,
            tokens: self.written.tokens,
            labels: self.written.labels,
            // The rules bound a row by max_seq_length, a u16.
            lengths: (0u16..)
                .zip(self.written.lengths)
                .filter(|&(_, rows)| rows > 0)
                .collect(),
        })
    }
}

fn write(
    file: &mut IpcFileWriter,
    path: &Path,
    schema: &SchemaRef,
    batch: &mut RowBatch,
    written: &mut Counts,
) -> Result<()> {
    let columns = RecordBatch::try_new(Arc::clone(schema), batch.columns.finish())
        .map_err(|e| ipc::arrow(path, &e))?;
    file.write(&columns)?;
    written.add_all(&batch.counts);
    batch.counts.rows = 0;
    batch.counts.tokens = 0;
    batch.counts.labels = LabelCounts::default();
    batch.counts.lengths.fill(0);
    Ok(())
}

struct Columns {
    input_ids: IdLists,
    b_start: Vec<u16>,
    label: (Vec<i8>, NullBufferBuilder),
    docs: [Vec<i64>; 2],
    sentences: [Vec<u32>; 2],
    masks: Option<(Lists<UInt16Type>, IdLists)>,
}

impl Columns {
    fn new(id_type: IdType, static_masks: bool) -> Self {
        Self {
            input_ids: IdLists::new(id_type),
            b_start: Vec::new(),
            label: (Vec::new(), NullBufferBuilder::new(ROWS_PER_BATCH)),
            docs: Default::default(),
            sentences: Default::default(),
            masks: static_masks.then(|| (Lists::default(), IdLists::new(id_type))),
        }
    }

    fn push(&mut self, row: &RowRef<'_>) {
        self.input_ids.push(row.input_ids);
        self.b_start.push(row.b_start);
        let label = row.next_sentence_label;
        self.label.0.push(label.map_or(0, |label| label as i8));
        self.label.1.append(label.is_some());
        self.docs[0].push(row.doc_a);
        self.docs[1].push(row.doc_b);
        self.sentences[0].push(row.sentence_a);
        self.sentences[1].push(row.sentence_b);
        if let (Some((positions, labels)), Some(masks)) = (&mut self.masks, row.masks) {
            positions.push(masks.positions);
            labels.push(masks.labels);
        }
    }

    fn finish(&mut self) -> Vec<ArrayRef> {
        let (labels, there) = &mut self.label;
        let labels = Int8Array::new(std::mem::take(labels).into(), there.finish());
        let mut columns: Vec<ArrayRef> = vec![
            self.input_ids.finish(),
            Arc::new(array::<UInt16Type>(&mut self.b_start)),
            Arc::new(labels),
        ];
        for docs in &mut self.docs {
            columns.push(Arc::new(array::<Int64Type>(docs)));
        }
        for sentences in &mut self.sentences {
            columns.push(Arc::new(array::<UInt32Type>(sentences)));
        }
        if let Some((positions, labels)) = &mut self.masks {
            columns.push(positions.finish());
            columns.push(labels.finish());
        }
        columns
    }
}
