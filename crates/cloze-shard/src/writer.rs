//! Writing a shard.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{
    Int8Builder, Int64Builder, ListBuilder, PrimitiveBuilder, UInt16Builder, UInt32Builder,
};
use arrow_array::types::{ArrowPrimitiveType, UInt16Type, UInt32Type};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, SchemaRef};

use crate::ipc::{self, IpcFileWriter};
use crate::manifest::{FileRecord, LabelCounts, ShardRecord};
use crate::row::{Ids, NextSentenceLabel, RowRef};
use crate::rules::RowRules;
use crate::schema::{IdType, shard_schema};
use crate::{Error, Result};

/// Rows in every record batch of a shard but the last. Part of the format: a reader finds row *i* by division.
pub const ROWS_PER_BATCH: usize = 8_192;

/// Writes one shard: rows are checked, batched and digested on their way to disk.
pub struct ShardWriter {
    path: PathBuf,
    file: IpcFileWriter,
    rules: RowRules,
    schema: SchemaRef,
    columns: Columns,
    rows: u64,
    tokens: u64,
    labels: LabelCounts,
    lengths: BTreeMap<u16, u64>,
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
            rules,
            schema,
            columns: Columns::new(id_type, static_masks),
            rows: 0,
            tokens: 0,
            labels: LabelCounts::default(),
            lengths: BTreeMap::new(),
        })
    }

    /// Appends a row. A row that breaks a rule is refused.
    pub fn push(&mut self, row: &RowRef<'_>) -> Result<()> {
        self.rules.check(row).map_err(|why| Error::Row {
            path: self.path.clone(),
            row: self.rows,
            why,
        })?;
        self.columns.push(row);
        self.rows += 1;
        self.tokens += row.len() as u64;
        *match row.next_sentence_label {
            Some(NextSentenceLabel::IsNext) => &mut self.labels.is_next,
            Some(NextSentenceLabel::NotNext) => &mut self.labels.not_next,
            None => &mut self.labels.none,
        } += 1;
        // The rules bound a row by max_seq_length, a u16.
        *self.lengths.entry(row.len() as u16).or_default() += 1;
        if self.rows.is_multiple_of(ROWS_PER_BATCH as u64) {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let batch = RecordBatch::try_new(self.schema.clone(), self.columns.finish())
            .map_err(|e| ipc::arrow(&self.path, &e))?;
        self.file.write(&batch)
    }

    /// Makes the shard durable under its name. `name` is its path in the dataset, for the manifest.
    pub fn finish(mut self, name: &str) -> Result<ShardRecord> {
        if !self.rows.is_multiple_of(ROWS_PER_BATCH as u64) {
            self.flush()?;
        }
        let written = self.file.finish()?;
        Ok(ShardRecord {
            file: FileRecord {
                path: name.into(),
                bytes: written.bytes,
                blake3: written.blake3,
            },
            rows: self.rows,
            tokens: self.tokens,
            labels: self.labels,
            lengths: self.lengths,
        })
    }
}

enum IdLists {
    /// With memory for ids on their way.
    U16(ListBuilder<UInt16Builder>, Vec<u16>),
    U32(ListBuilder<UInt32Builder>),
}

impl IdLists {
    fn new(id_type: IdType) -> Self {
        match id_type {
            IdType::UInt16 => Self::U16(list_builder::<UInt16Type>(DataType::UInt16), Vec::new()),
            IdType::UInt32 => Self::U32(list_builder::<UInt32Type>(DataType::UInt32)),
        }
    }

    fn push(&mut self, ids: Ids<'_>) {
        match (self, ids) {
            (Self::U16(list, _), Ids::U16(ids)) => {
                list.values().append_slice(ids);
                list.append(true);
            }
            (Self::U16(list, narrow), Ids::U32(ids)) => {
                // The rules bound ids by the vocabulary, which chose this type.
                narrow.clear();
                narrow.extend(ids.iter().map(|&id| id as u16));
                list.values().append_slice(narrow);
                list.append(true);
            }
            (Self::U32(list), Ids::U32(ids)) => {
                list.values().append_slice(ids);
                list.append(true);
            }
            (Self::U32(list), Ids::U16(ids)) => {
                ids.iter()
                    .for_each(|&id| list.values().append_value(u32::from(id)));
                list.append(true);
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::U16(list, _) => Arc::new(list.finish()),
            Self::U32(list) => Arc::new(list.finish()),
        }
    }
}

fn list_builder<T: ArrowPrimitiveType>(item: DataType) -> ListBuilder<PrimitiveBuilder<T>> {
    ListBuilder::new(PrimitiveBuilder::new()).with_field(Arc::new(Field::new("item", item, false)))
}

struct Columns {
    input_ids: IdLists,
    b_start: UInt16Builder,
    label: Int8Builder,
    docs: [Int64Builder; 2],
    sentences: [UInt32Builder; 2],
    masks: Option<(ListBuilder<UInt16Builder>, IdLists)>,
}

impl Columns {
    fn new(id_type: IdType, static_masks: bool) -> Self {
        Self {
            input_ids: IdLists::new(id_type),
            b_start: UInt16Builder::new(),
            label: Int8Builder::new(),
            docs: [Int64Builder::new(), Int64Builder::new()],
            sentences: [UInt32Builder::new(), UInt32Builder::new()],
            masks: static_masks.then(|| {
                (
                    list_builder::<UInt16Type>(DataType::UInt16),
                    IdLists::new(id_type),
                )
            }),
        }
    }

    fn push(&mut self, row: &RowRef<'_>) {
        self.input_ids.push(row.input_ids);
        self.b_start.append_value(row.b_start);
        self.label
            .append_option(row.next_sentence_label.map(|l| l as i8));
        self.docs[0].append_value(row.doc_a);
        self.docs[1].append_value(row.doc_b);
        self.sentences[0].append_value(row.sentence_a);
        self.sentences[1].append_value(row.sentence_b);
        if let (Some((positions, labels)), Some(masks)) = (&mut self.masks, row.masks) {
            positions.values().append_slice(masks.positions);
            positions.append(true);
            labels.push(masks.labels);
        }
    }

    fn finish(&mut self) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![
            self.input_ids.finish(),
            Arc::new(self.b_start.finish()),
            Arc::new(self.label.finish()),
        ];
        columns.extend(
            self.docs
                .iter_mut()
                .map(|d| Arc::new(d.finish()) as ArrayRef),
        );
        columns.extend(
            self.sentences
                .iter_mut()
                .map(|s| Arc::new(s.finish()) as ArrayRef),
        );
        if let Some((positions, labels)) = &mut self.masks {
            columns.push(Arc::new(positions.finish()));
            columns.push(labels.finish());
        }
        columns
    }
}
