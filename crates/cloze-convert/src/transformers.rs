//! Parquet files of the columns that `BertForPreTraining` takes, by the names that it has for them.

use std::sync::Arc;

use arrow_array::builder::{Int8Builder, Int32Builder, ListBuilder, PrimitiveBuilder};
use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use cloze_shard::RowRef;
use cloze_shard::schema::{INPUT_IDS, NEXT_SENTENCE_LABEL, list_of};

use crate::error::parquet;
use crate::output::Output;
use crate::parquet_files::{about, file, parquet_name};
use crate::rows::Rows;
use crate::source::Source;
use crate::table::TableWriter;
use crate::{Container, FilesFormat, Report, Result, by_shard};

/// The label of what is not predicted: PyTorch's cross-entropy passes it over.
const IGNORED: i8 = -100;

/// The columns: 32-bit ids, which every reader and framework has.
pub fn schema(static_masks: bool) -> SchemaRef {
    let (ids, flags) = (list_of(DataType::Int32), list_of(DataType::Int8));
    let mut fields = vec![
        Field::new(INPUT_IDS, ids.clone(), false),
        Field::new("token_type_ids", flags.clone(), false),
        Field::new("attention_mask", flags, false),
        Field::new(NEXT_SENTENCE_LABEL, DataType::Int8, false),
    ];
    if static_masks {
        fields.push(Field::new("labels", ids, false));
    }
    Arc::new(Schema::new(fields))
}

/// Writes the folder; with `pad`, every row has the longest length that the dataset allows.
pub fn write(
    source: &Source<'_>,
    output: &Output,
    pad: bool,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report> {
    let manifest = &source.manifest;
    let padded_to = pad.then_some(manifest.max_seq_length);
    let (about, id_type) = (about(manifest), manifest.tokenizer.id_type);
    let schema = schema(source.static_masks());
    let pad_id = manifest.tokenizer.special_tokens.pad;
    let files = by_shard(source, |shard| {
        let name = parquet_name(&shard.file.path);
        let path = output.place(&name)?;
        let mut writer = TableWriter::create(&path, &schema, &about)?;
        source.batches(shard, &mut |batch| {
            let rows = Rows::new(&batch, id_type)
                .map_err(|why| source.other_than_manifest(&shard.file, &why))?;
            let mut columns = Columns::new(source.static_masks());
            rows.iter()
                .for_each(|row| columns.push(&row, padded_to.map(usize::from), pad_id));
            let made = columns.finish(&schema);
            writer.write(&made.map_err(|e| parquet(&path)(e.into()))?)?;
            progress(rows.len() as u64);
            Ok(())
        })?;
        file(&shard.file.path, name, writer)
    })?;
    let bytes_after = files.iter().map(|f| f.file.bytes).sum();
    let container = Container::new(
        FilesFormat::Transformers,
        padded_to,
        files,
        manifest.clone(),
    );
    container.write(output.folder())?;
    Ok(Report {
        bytes_after,
        ..Report::default()
    })
}

struct Columns {
    input_ids: ListBuilder<Int32Builder>,
    token_type_ids: ListBuilder<Int8Builder>,
    attention_mask: ListBuilder<Int8Builder>,
    next_sentence_label: Int8Builder,
    labels: Option<ListBuilder<Int32Builder>>,
}

fn list<T: ArrowPrimitiveType>() -> ListBuilder<PrimitiveBuilder<T>> {
    ListBuilder::new(PrimitiveBuilder::new()).with_field(Field::new("item", T::DATA_TYPE, false))
}

impl Columns {
    fn new(static_masks: bool) -> Self {
        Self {
            input_ids: list(),
            token_type_ids: list(),
            attention_mask: list(),
            next_sentence_label: Int8Builder::new(),
            labels: static_masks.then(list),
        }
    }

    fn push(&mut self, row: &RowRef<'_>, padded_to: Option<usize>, pad: u32) {
        let (n, b_start) = (row.len(), usize::from(row.b_start));
        let length = padded_to.unwrap_or(n).max(n);
        // Ids are below the size of a vocabulary, which is far below 2³¹.
        let ids = row.input_ids.iter().map(|id| id as i32);
        (self.input_ids.values()).extend(ids.chain((n..length).map(|_| pad as i32)).map(Some));
        self.input_ids.append(true);
        let b = (0..length).map(|i| Some(i8::from((b_start..n).contains(&i))));
        self.token_type_ids.values().extend(b);
        self.token_type_ids.append(true);
        let there = (0..length).map(|i| Some(i8::from(i < n)));
        self.attention_mask.values().extend(there);
        self.attention_mask.append(true);
        self.next_sentence_label
            .append_value(row.next_sentence_label.map_or(IGNORED, |l| l as i8));
        if let (Some(labels), Some(masks)) = (&mut self.labels, row.masks) {
            let mut all = vec![Some(i32::from(IGNORED)); length];
            for (&position, id) in masks.positions.iter().zip(masks.labels.iter()) {
                if let Some(label) = all.get_mut(usize::from(position)) {
                    *label = Some(id as i32);
                }
            }
            labels.values().extend(all);
            labels.append(true);
        }
    }

    fn finish(mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.input_ids.finish()),
            Arc::new(self.token_type_ids.finish()),
            Arc::new(self.attention_mask.finish()),
            Arc::new(self.next_sentence_label.finish()),
        ];
        if let Some(mut labels) = self.labels {
            columns.push(Arc::new(labels.finish()));
        }
        RecordBatch::try_new(schema.clone(), columns)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int8Type, Int32Type};
    use cloze_shard::row::Masks;
    use cloze_shard::{NextSentenceLabel, Row};

    use super::*;

    /// Two rows by hand: a pair with masks, and one segment without any.
    #[test]
    fn columns_are_those_of_the_definition() {
        let pair: Row = Row {
            input_ids: vec![2, 9, 4, 3, 8, 3],
            b_start: 4,
            next_sentence_label: Some(NextSentenceLabel::NotNext),
            masks: Some(Masks {
                positions: vec![2, 4],
                labels: vec![70_000, 8],
            }),
            ..Row::default()
        };
        let single: Row = Row {
            input_ids: vec![2, 9, 3],
            b_start: 3,
            masks: Some(Masks::default()),
            ..Row::default()
        };
        let ids = |batch: &RecordBatch, c: usize, i: usize| -> Vec<i32> {
            let list = batch.column(c).as_list::<i32>().value(i);
            list.as_primitive::<Int32Type>().values().to_vec()
        };
        let flags = |batch: &RecordBatch, c: usize, i: usize| -> Vec<i8> {
            let list = batch.column(c).as_list::<i32>().value(i);
            list.as_primitive::<Int8Type>().values().to_vec()
        };
        for padded_to in [None, Some(8)] {
            let mut columns = Columns::new(true);
            columns.push(&pair.view(), padded_to, 7);
            columns.push(&single.view(), padded_to, 7);
            let batch = columns.finish(&schema(true)).unwrap();
            let cut = |whole: &[i32], n: usize| whole[..padded_to.unwrap_or(n)].to_vec();
            let cut8 = |whole: &[i8], n: usize| whole[..padded_to.unwrap_or(n)].to_vec();
            assert_eq!(ids(&batch, 0, 0), cut(&[2, 9, 4, 3, 8, 3, 7, 7], 6));
            assert_eq!(ids(&batch, 0, 1), cut(&[2, 9, 3, 7, 7, 7, 7, 7], 3));
            assert_eq!(flags(&batch, 1, 0), cut8(&[0, 0, 0, 0, 1, 1, 0, 0], 6));
            assert_eq!(flags(&batch, 1, 1), cut8(&[0; 8], 3));
            assert_eq!(flags(&batch, 2, 0), cut8(&[1, 1, 1, 1, 1, 1, 0, 0], 6));
            assert_eq!(flags(&batch, 2, 1), cut8(&[1, 1, 1, 0, 0, 0, 0, 0], 3));
            let labels = batch.column(3).as_primitive::<Int8Type>();
            assert_eq!(labels.values().to_vec(), [1, -100]);
            let none = [-100, -100, 70_000, -100, 8, -100, -100, -100];
            assert_eq!(ids(&batch, 4, 0), cut(&none, 6));
            assert_eq!(ids(&batch, 4, 1), cut(&[-100; 8], 3));
        }
    }
}
