//! Record batches of a shard as rows.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int64Type, UInt16Type, UInt32Type};
use arrow_array::{Array, Int8Array, ListArray, RecordBatch};
use cloze_shard::row::MasksRef;
use cloze_shard::schema::IdType;
use cloze_shard::{Ids, NextSentenceLabel, RowRef};

/// A batch whose columns are those of a shard.
pub struct Rows<'a> {
    batch: &'a RecordBatch,
    id_type: IdType,
    labels: &'a Int8Array,
}

impl<'a> Rows<'a> {
    /// `batch` has the schema of a shard whose ids are `id_type`; what is wrong with what it holds, if anything.
    pub fn new(batch: &'a RecordBatch, id_type: IdType) -> Result<Self, String> {
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let items = column.as_list_opt::<i32>().map(|list| list.values());
            let inner = items.map_or(0, |values| values.null_count());
            if inner > 0 || (!field.is_nullable() && column.null_count() > 0) {
                return Err(format!("column {} holds nulls", field.name()));
            }
        }
        let labels = batch.column(2).as_primitive::<Int8Type>();
        let known = |label: i8| NextSentenceLabel::from_i8(label).is_some();
        if let Some(label) = labels.iter().flatten().find(|&l| !known(l)) {
            return Err(format!(
                "next_sentence_label is {label}, must be 0, 1 or null"
            ));
        }
        Ok(Self {
            batch,
            id_type,
            labels,
        })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// The rows.
    pub fn iter(&self) -> impl Iterator<Item = RowRef<'a>> + '_ {
        (0..self.len()).map(|i| self.row(i))
    }

    fn row(&self, i: usize) -> RowRef<'a> {
        let u16s = |c: usize| self.batch.column(c).as_primitive::<UInt16Type>();
        let u32s = |c: usize| self.batch.column(c).as_primitive::<UInt32Type>();
        let i64s = |c: usize| self.batch.column(c).as_primitive::<Int64Type>();
        let masks = (self.batch.num_columns() > 7).then(|| {
            let positions = self.list(7);
            let values = positions.values().as_primitive::<UInt16Type>().values();
            MasksRef {
                positions: &values[range(positions, i)],
                labels: self.ids(8, i),
            }
        });
        RowRef {
            input_ids: self.ids(0, i),
            b_start: u16s(1).value(i),
            next_sentence_label: (self.labels.is_valid(i))
                .then(|| self.labels.value(i))
                .and_then(NextSentenceLabel::from_i8),
            doc_a: i64s(3).value(i),
            doc_b: i64s(4).value(i),
            sentence_a: u32s(5).value(i),
            sentence_b: u32s(6).value(i),
            masks,
        }
    }

    fn list(&self, column: usize) -> &'a ListArray {
        self.batch.column(column).as_list::<i32>()
    }

    fn ids(&self, column: usize, i: usize) -> Ids<'a> {
        let list = self.list(column);
        let range = range(list, i);
        match self.id_type {
            IdType::UInt16 => Ids::U16(&list.values().as_primitive::<UInt16Type>().values()[range]),
            IdType::UInt32 => Ids::U32(&list.values().as_primitive::<UInt32Type>().values()[range]),
        }
    }
}

fn range(list: &ListArray, i: usize) -> std::ops::Range<usize> {
    let offsets = list.value_offsets();
    offsets[i] as usize..offsets[i + 1] as usize
}
