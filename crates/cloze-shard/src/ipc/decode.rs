//! Decodes record batches of a known schema out of untrusted bytes.
//!
//! The schema is the one that the caller expects, so nothing has to be derived from the file: every node and buffer that its
//! metadata names is checked against it before it is used, and damage is an error, whatever it is.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_ipc::{self as fb, root_as_message};
use arrow_schema::{DataType, Field, SchemaRef};

type Decoded<T> = Result<T, String>;

/// Whether a file's field is `expected`, in name, nullability and type.
pub fn same_field(found: fb::Field<'_>, expected: &Field) -> bool {
    found.name() == Some(expected.name())
        && found.nullable() == expected.is_nullable()
        && found.dictionary().is_none()
        && same_type(found, expected.data_type())
}

fn same_type(found: fb::Field<'_>, expected: &DataType) -> bool {
    let integer = |bits: i32, signed: bool| {
        found
            .type_as_int()
            .is_some_and(|t| t.bitWidth() == bits && t.is_signed() == signed)
    };
    let child = |item: &Field| {
        found
            .children()
            .is_some_and(|c| c.len() == 1 && same_field(c.get(0), item))
    };
    match expected {
        DataType::Int8 => integer(8, true),
        DataType::Int64 => integer(64, true),
        DataType::UInt16 => integer(16, false),
        DataType::UInt32 => integer(32, false),
        DataType::UInt64 => integer(64, false),
        DataType::Utf8 => found.type_as_utf_8().is_some(),
        DataType::List(item) => found.type_as_list().is_some() && child(item),
        DataType::FixedSizeBinary(size) => found
            .type_as_fixed_size_binary()
            .is_some_and(|t| t.byteWidth() == *size),
        _ => false,
    }
}

/// Decodes the message in `block`, whose first `metadata` bytes describe the rest; arrays are slices of `block`.
pub fn record_batch(block: &Buffer, metadata: usize, schema: &SchemaRef) -> Decoded<RecordBatch> {
    let head = block
        .get(..metadata)
        .ok_or("its description is cut short")?;
    let batch = described(head)?;
    if batch.compression().is_some() {
        return Err("it is compressed, and shards never are".into());
    }
    let rows = count(batch.length())?;
    let mut parts = Parts {
        body: block.slice(metadata),
        nodes: batch.nodes().into_iter().flatten().copied().collect(),
        buffers: batch.buffers().into_iter().flatten().copied().collect(),
        next_node: 0,
        next_buffer: 0,
    };
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let data = parts
            .array(field)
            .map_err(|why| format!("column {}: {why}", field.name()))?;
        if data.len() != rows {
            return Err(format!(
                "column {} has {} rows of {rows}",
                field.name(),
                data.len()
            ));
        }
        columns.push(make_array(data));
    }
    if parts.next_node != parts.nodes.len() || parts.next_buffer != parts.buffers.len() {
        return Err("it describes more than its columns".into());
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|e| e.to_string())
}

/// The rows of the batch that `head` describes.
pub fn rows(head: &[u8]) -> Decoded<usize> {
    count(described(head)?.length())
}

fn described(head: &[u8]) -> Decoded<fb::RecordBatch<'_>> {
    let message = match head.get(..4) {
        Some([0xFF, 0xFF, 0xFF, 0xFF]) => head.get(8..),
        _ => head.get(4..),
    };
    let message = message.ok_or("its description is cut short")?;
    let message =
        root_as_message(message).map_err(|e| format!("its description is damaged: {e}"))?;
    let batch = message.header_as_record_batch();
    batch.ok_or_else(|| "it is not a record batch".into())
}

fn count(n: i64) -> Decoded<usize> {
    usize::try_from(n).map_err(|_| format!("it claims {n} elements"))
}

/// The nodes and buffers of a batch, taken in order.
struct Parts {
    body: Buffer,
    nodes: Vec<fb::FieldNode>,
    buffers: Vec<fb::Buffer>,
    next_node: usize,
    next_buffer: usize,
}

impl Parts {
    fn array(&mut self, field: &Field) -> Decoded<ArrayData> {
        let node = self.nodes.get(self.next_node).ok_or("is missing")?;
        self.next_node += 1;
        let (len, nulls) = (count(node.length())?, count(node.null_count())?);
        let validity = self.buffer(1, 0)?;
        if nulls > 0 && !field.is_nullable() {
            return Err(format!("holds {nulls} nulls"));
        }
        let validity = (nulls > 0).then_some(validity);
        let data_type = field.data_type().clone();
        let (buffers, children) = match &data_type {
            DataType::Utf8 => (vec![self.offsets(len)?, self.buffer(1, 0)?], Vec::new()),
            DataType::List(item) => (vec![self.offsets(len)?], vec![self.array(item)?]),
            DataType::FixedSizeBinary(size) => {
                let bytes = len.checked_mul(count(i64::from(*size))?);
                (
                    vec![self.buffer(1, bytes.ok_or("is too long")?)?],
                    Vec::new(),
                )
            }
            other => {
                let width = other
                    .primitive_width()
                    .ok_or_else(|| format!("has the type {other}, which shards do not use"))?;
                let bytes = len.checked_mul(width).ok_or("is too long")?;
                (
                    vec![self.buffer(width, bytes)?.slice_with_length(0, bytes)],
                    Vec::new(),
                )
            }
        };
        ArrayData::try_new(data_type, len, validity, 0, buffers, children)
            .map_err(|e| e.to_string())
    }

    /// `len + 1` offsets; an empty array may leave its only one out.
    fn offsets(&mut self, len: usize) -> Decoded<Buffer> {
        let found = self.buffer(4, 0)?;
        let needed = len.checked_add(1).and_then(|n| n.checked_mul(4));
        match needed {
            Some(needed) if found.len() >= needed => Ok(found.slice_with_length(0, needed)),
            _ if len == 0 => Ok(Buffer::from(vec![0u8; 4])),
            _ => Err("has too few offsets".into()),
        }
    }

    /// The next buffer, of at least `least` bytes and aligned to `width`.
    fn buffer(&mut self, width: usize, least: usize) -> Decoded<Buffer> {
        let place = self.buffers.get(self.next_buffer).ok_or("lacks a buffer")?;
        self.next_buffer += 1;
        let (offset, len) = (count(place.offset())?, count(place.length())?);
        let inside = offset
            .checked_add(len)
            .is_some_and(|end| end <= self.body.len());
        if !inside {
            return Err("a buffer lies outside the batch".into());
        }
        if len < least {
            return Err(format!("a buffer has {len} bytes of {least}"));
        }
        let buffer = self.body.slice_with_length(offset, len);
        if len > 0 && buffer.as_ptr().align_offset(width) != 0 {
            return Err(format!("a buffer is not aligned to {width} bytes"));
        }
        Ok(buffer)
    }
}
