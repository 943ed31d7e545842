//! Arrow IPC *files*: written uncompressed and 64-byte aligned, read memory-mapped without a copy.
//!
//! Used for shards, for the document table, and for the token store of preparation.

mod decode;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::read_footer_length;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{self as fb, MetadataVersion, root_as_footer};
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};

use crate::atomic::{AtomicFile, Written};
use crate::{Error, Result};

/// Writes one Arrow IPC file, atomically.
pub struct IpcFileWriter {
    writer: FileWriter<AtomicFile>,
}

impl IpcFileWriter {
    /// Begins `path` with `schema`.
    pub fn create(path: &Path, schema: &Schema) -> Result<Self> {
        Self::begin(path, schema, AtomicFile::create(path)?)
    }

    /// As [`IpcFileWriter::create`], without a digest: see [`AtomicFile::undigested`].
    pub fn undigested(path: &Path, schema: &Schema) -> Result<Self> {
        Self::begin(path, schema, AtomicFile::undigested(path)?)
    }

    fn begin(path: &Path, schema: &Schema, file: AtomicFile) -> Result<Self> {
        let options = IpcWriteOptions::try_new(64, false, MetadataVersion::V5)
            .map_err(|e| arrow(path, &e))?;
        let writer =
            FileWriter::try_new_with_options(file, schema, options).map_err(|e| arrow(path, &e))?;
        Ok(Self { writer })
    }

    /// Appends a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let path = self.writer.get_ref().path().to_path_buf();
        self.writer.write(batch).map_err(|e| arrow(&path, &e))
    }

    /// Writes the footer and gives the file its name.
    pub fn finish(mut self) -> Result<Written> {
        let path = self.writer.get_ref().path().to_path_buf();
        self.writer.finish().map_err(|e| arrow(&path, &e))?;
        let mut file = self.writer.into_inner().map_err(|e| arrow(&path, &e))?;
        file.flush().map_err(Error::io(&path))?;
        file.commit()
    }
}

/// Maps `path` and decodes its batches; their buffers are slices of the map.
///
/// Everything that Arrow can validate is validated here (schema, offsets, alignment, nulls), so that
/// later access cannot fail. The schema must equal `expected`, field for field.
pub fn map_batches(path: &Path, expected: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let bad = |why: String| Error::Shard {
        path: path.into(),
        why,
    };
    let file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    if length < 18 {
        return Err(bad(format!(
            "{length} bytes are too few for an Arrow file: it is cut short"
        )));
    }
    // SAFETY: files of a dataset and of a token store are immutable once they have their name (they
    // appear by rename and are never opened for writing again); another process that truncates one
    // under us breaks the contract that docs/format.md states.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path))?;
    let buffer = Buffer::from(bytes::Bytes::from_owner(map));

    let tail = buffer.len() - 10;
    let mut trailer = [0u8; 10];
    trailer.copy_from_slice(&buffer.as_slice()[tail..]);
    let footer_length = read_footer_length(trailer).map_err(|e| {
        bad(format!(
            "not a whole Arrow file ({e}): it is cut short, or something else"
        ))
    })?;
    let footer_start = tail
        .checked_sub(footer_length)
        .ok_or_else(|| bad("its Arrow footer is longer than the file".to_owned()))?;
    let footer = root_as_footer(&buffer.as_slice()[footer_start..tail])
        .map_err(|e| bad(format!("its Arrow footer is damaged: {e}")))?;
    let schema = footer
        .schema()
        .ok_or_else(|| bad("its Arrow footer holds no schema".to_owned()))?;
    let found: Vec<_> = schema.fields().into_iter().flatten().collect();
    let fields = expected.fields();
    let same = |(found, field): (&fb::Field<'_>, &Arc<Field>)| decode::same_field(*found, field);
    if found.len() != fields.len() || !found.iter().zip(fields).all(same) {
        return Err(bad(format!(
            "its columns are [{}], expected [{}]",
            names(&found),
            columns(expected)
        )));
    }
    let blocks = footer
        .recordBatches()
        .ok_or_else(|| bad("its Arrow footer lists no batches".to_owned()))?;
    let mut batches = Vec::new();
    let mut before = 0;
    for (number, block) in blocks.iter().enumerate() {
        let damaged = |why: String| bad(format!("record batch {number}: {why}"));
        let whole = i64::from(block.metaDataLength()).checked_add(block.bodyLength());
        let range = usize::try_from(block.offset())
            .ok()
            .zip(whole.and_then(|n| usize::try_from(n).ok()));
        let (offset, whole) = range
            .filter(|(offset, n)| {
                offset
                    .checked_add(*n)
                    .is_some_and(|end| end <= footer_start)
            })
            .ok_or_else(|| damaged("its place lies outside the file".to_owned()))?;
        // Else a small file could hold any number of rows.
        if offset < before {
            return Err(damaged(
                "it begins before the one before it ends".to_owned(),
            ));
        }
        before = offset + whole;
        let block_bytes = buffer.slice_with_length(offset, whole);
        let metadata = usize::try_from(block.metaDataLength()).unwrap_or(usize::MAX);
        let batch = decode::record_batch(&block_bytes, metadata, expected).map_err(damaged)?;
        batches.push(batch);
    }
    Ok(batches)
}

/// What a file calls its columns; a stranger's may be many, and long.
fn names(fields: &[fb::Field<'_>]) -> String {
    let show = |f: &fb::Field<'_>| {
        let name = f.name().unwrap_or("?");
        name.chars().take(40).collect::<String>()
    };
    let mut shown: Vec<String> = fields.iter().take(20).map(show).collect();
    if fields.len() > shown.len() {
        shown.push("…".into());
    }
    shown.join(", ")
}

fn columns(schema: &Schema) -> String {
    let show = |f: &Arc<arrow_schema::Field>| {
        format!(
            "{}: {}{}",
            f.name(),
            f.data_type(),
            if f.is_nullable() { "?" } else { "" }
        )
    };
    schema
        .fields()
        .iter()
        .map(show)
        .collect::<Vec<_>>()
        .join(", ")
}

/// An Arrow error at `path`, with I/O errors kept as such.
pub(crate) fn arrow(path: &Path, error: &ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, source) => {
            let source = match source.raw_os_error() {
                Some(code) => std::io::Error::from_raw_os_error(code),
                None => std::io::Error::new(source.kind(), source.to_string()),
            };
            Error::Io {
                path: path.into(),
                source,
            }
        }
        other => Error::Shard {
            path: path.into(),
            why: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use arrow_array::types::UInt16Type;
    use arrow_array::{
        ArrayRef, FixedSizeBinaryArray, Int8Array, ListArray, StringArray, UInt64Array,
    };
    use arrow_schema::DataType;

    use super::*;
    use crate::schema::list_of;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("ids", list_of(DataType::UInt16), false),
            Field::new("label", DataType::Int8, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("doc", DataType::UInt64, false),
            Field::new("recipe", DataType::FixedSizeBinary(3), false),
        ]))
    }

    /// Two batches of every type that our files use, with nulls where they may be.
    fn write(path: &Path) -> Vec<RecordBatch> {
        let item = Arc::new(Field::new("item", DataType::UInt16, false));
        let batches: Vec<RecordBatch> = [5u64, 2]
            .into_iter()
            .map(|n| {
                let lists = (0..n).map(|i| Some((0..i as u16).map(Some).collect::<Vec<_>>()));
                let list = ListArray::from_iter_primitive::<UInt16Type, _, _>(lists);
                let (_, offsets, values, _) = list.into_parts();
                let odd = |i: u64| (i % 2 == 1).then_some(i);
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(ListArray::new(Arc::clone(&item), offsets, values, None)),
                    Arc::new(
                        (0..n)
                            .map(|i| odd(i).map(|i| i as i8))
                            .collect::<Int8Array>(),
                    ),
                    Arc::new(
                        (0..n)
                            .map(|i| odd(i).map(|i| format!("é{i}")))
                            .collect::<StringArray>(),
                    ),
                    Arc::new(UInt64Array::from_iter_values(0..n)),
                    Arc::new(
                        FixedSizeBinaryArray::try_from_iter((0..n).map(|i| [i as u8; 3])).unwrap(),
                    ),
                ];
                RecordBatch::try_new(schema(), columns).unwrap()
            })
            .collect();
        let mut writer = IpcFileWriter::create(path, &schema()).unwrap();
        batches.iter().for_each(|b| writer.write(b).unwrap());
        writer.finish().unwrap();
        batches
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.arrow");
        assert_eq!(write(&path), map_batches(&path, &schema()).unwrap());
    }

    /// Whatever happens to a file, reading it gives an error or some values, and never panics.
    #[test]
    fn damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.arrow");
        write(&path);
        let whole = fs::read(&path).unwrap();
        let mut refused = 0;
        let mut open = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            match map_batches(&path, &schema()) {
                Ok(batches) => drop(format!("{batches:?}")),
                Err(_) => refused += 1,
            }
        };
        for at in 0..whole.len() {
            for change in [0x01, 0x80, 0xFF, whole[at], whole[at] ^ 0x7F] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                open(&bytes);
            }
        }
        for length in (0..whole.len()).step_by(5) {
            open(&whole[..length]);
        }
        assert!(refused > whole.len() / 2, "{refused} of {}", whole.len());
    }

    #[test]
    fn another_schema_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.arrow");
        write(&path);
        let change = |at: usize, field: Field| {
            let mut fields: Vec<Field> = schema()
                .fields()
                .iter()
                .map(|f| f.as_ref().clone())
                .collect();
            fields[at] = field;
            map_batches(&path, &Arc::new(Schema::new(fields)))
                .unwrap_err()
                .to_string()
        };
        for (at, field) in [
            (0, Field::new("ids", list_of(DataType::UInt32), false)),
            (0, Field::new("other", list_of(DataType::UInt16), false)),
            (1, Field::new("label", DataType::Int8, false)),
            (3, Field::new("doc", DataType::Int64, false)),
            (4, Field::new("recipe", DataType::FixedSizeBinary(4), false)),
        ] {
            let why = change(at, field);
            assert!(why.contains("its columns are"), "{why}");
        }
    }
}
