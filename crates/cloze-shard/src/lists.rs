//! Columns on their way to a file: vectors that become arrays without a copy.

use std::sync::Arc;

use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{ArrayRef, ListArray, PrimitiveArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::Field;

use crate::row::Ids;
use crate::schema::IdType;

/// A column of lists without nulls.
#[derive(Debug)]
pub struct Lists<T: ArrowPrimitiveType> {
    /// Where each list ends, after a 0.
    offsets: Vec<i32>,
    values: Vec<T::Native>,
}

impl<T: ArrowPrimitiveType> Default for Lists<T> {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            values: Vec::new(),
        }
    }
}

impl<T: ArrowPrimitiveType> Lists<T> {
    /// Appends a list. All together hold at most `i32::MAX` values.
    #[inline]
    pub fn push(&mut self, list: &[T::Native]) {
        self.values.extend_from_slice(list);
        self.offsets.push(self.values.len() as i32);
    }

    /// As [`Lists::push`], of values that are made on the way.
    #[inline]
    pub fn push_all(&mut self, list: impl IntoIterator<Item = T::Native>) {
        self.values.extend(list);
        self.offsets.push(self.values.len() as i32);
    }

    /// The lists so far. Room for as many more is kept.
    pub fn finish(&mut self) -> ArrayRef {
        let offsets = take(&mut self.offsets);
        self.offsets.push(0);
        let values: PrimitiveArray<T> = array(&mut self.values);
        let item = Arc::new(Field::new("item", T::DATA_TYPE, false));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Arc::new(ListArray::new(item, offsets, Arc::new(values), None))
    }
}

/// A column of lists of token ids.
#[derive(Debug)]
pub enum IdLists {
    /// Of vocabularies of at most 65,536 entries.
    U16(Lists<arrow_array::types::UInt16Type>),
    /// Of larger ones.
    U32(Lists<arrow_array::types::UInt32Type>),
}

impl IdLists {
    /// No lists yet, of ids as wide as `id_type`.
    #[must_use]
    pub fn new(id_type: IdType) -> Self {
        match id_type {
            IdType::UInt16 => Self::U16(Lists::default()),
            IdType::UInt32 => Self::U32(Lists::default()),
        }
    }

    /// Appends a list, whose ids the column's width holds.
    #[inline]
    pub fn push(&mut self, ids: Ids<'_>) {
        match (self, ids) {
            (Self::U16(lists), Ids::U16(ids)) => lists.push(ids),
            (Self::U16(lists), Ids::U32(ids)) => lists.push_all(ids.iter().map(|&id| id as u16)),
            (Self::U32(lists), Ids::U32(ids)) => lists.push(ids),
            (Self::U32(lists), Ids::U16(ids)) => {
                lists.push_all(ids.iter().map(|&id| u32::from(id)));
            }
        }
    }

    /// The lists so far. Room for as many more is kept.
    pub fn finish(&mut self) -> ArrayRef {
        match self {
            Self::U16(lists) => lists.finish(),
            Self::U32(lists) => lists.finish(),
        }
    }
}

/// An array of `values`, which are none then; room for as many more is kept.
pub fn array<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>) -> PrimitiveArray<T> {
    PrimitiveArray::new(ScalarBuffer::from(take(values)), None)
}

fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len() + values.len() / 16);
    std::mem::replace(values, room)
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{ListBuilder, UInt16Builder};

    use super::*;

    /// As Arrow's own builder makes them, again and again.
    #[test]
    fn lists_are_those_of_arrow() {
        let mut wide = IdLists::new(IdType::UInt32);
        let mut lists = [IdLists::new(IdType::UInt16), IdLists::new(IdType::UInt16)];
        let item = Arc::new(Field::new("item", T16, false));
        let mut builder = ListBuilder::new(UInt16Builder::new()).with_field(item);
        for count in [3u16, 0, 20] {
            for n in 0..count {
                let ids: Vec<u16> = (0..n).map(|i| i * 7 + n).collect();
                let ids_32: Vec<u32> = ids.iter().map(|&id| id.into()).collect();
                lists[0].push(Ids::U16(&ids));
                lists[1].push(Ids::U32(&ids_32));
                wide.push(if n % 2 == 0 {
                    Ids::U16(&ids)
                } else {
                    Ids::U32(&ids_32)
                });
                builder.values().append_slice(&ids);
                builder.append(true);
            }
            let expected: ArrayRef = Arc::new(builder.finish());
            assert_eq!(&lists[0].finish(), &expected);
            assert_eq!(&lists[1].finish(), &expected);
            let shown = |array: &ArrayRef| format!("{array:?}").replace("UInt16", "UInt32");
            assert_eq!(shown(&wide.finish()), shown(&expected));
        }
    }

    const T16: arrow_schema::DataType = arrow_schema::DataType::UInt16;
}
