//! Arrow IPC *files*: written uncompressed and 64-byte aligned, read memory-mapped without a copy.
//!
//! Used for shards, for the document table, and for the token store of preparation.

mod decode;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
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
        Self::of(AtomicFile::create(path)?, schema)
    }

    /// Begins `file` with `schema`.
    pub fn of(file: AtomicFile, schema: &Schema) -> Result<Self> {
        let path = file.path().to_path_buf();
        let options = IpcWriteOptions::try_new(64, false, MetadataVersion::V5)
            .map_err(|e| arrow(&path, &e))?;
        let writer = FileWriter::try_new_with_options(file, schema, options)
            .map_err(|e| arrow(&path, &e))?;
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
    IpcFile::open(path, expected)?.batches()
}

/// A file whose batches are mapped one by one, when they are asked for: what it takes of memory is what is held.
#[derive(Debug)]
pub struct IpcFile {
    path: PathBuf,
    schema: SchemaRef,
    length: usize,
    blocks: Vec<Block>,
}

/// Where a batch lies in its file: a description, and what is described.
#[derive(Clone, Copy, Debug)]
struct Block {
    offset: usize,
    description: usize,
    bytes: usize,
}

impl IpcFile {
    /// Reads which batches `path` has. The schema must equal `expected`, field for field.
    pub fn open(path: &Path, expected: &SchemaRef) -> Result<Self> {
        let bad = |why: String| Error::Shard {
            path: path.into(),
            why,
        };
        let mut file = File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        let length = usize::try_from(length).map_err(|e| bad(e.to_string()))?;
        if length < 18 {
            return Err(bad(format!(
                "{length} bytes are too few for an Arrow file: it is cut short"
            )));
        }
        let tail = length - 10;
        let mut trailer = [0u8; 10];
        file.seek(SeekFrom::Start(tail as u64))
            .and_then(|_| file.read_exact(&mut trailer))
            .map_err(Error::io(path))?;
        let footer_length = read_footer_length(trailer).map_err(|e| {
            bad(format!(
                "not a whole Arrow file ({e}): it is cut short, or something else"
            ))
        })?;
        let footer_start = tail
            .checked_sub(footer_length)
            .ok_or_else(|| bad("its Arrow footer is longer than the file".to_owned()))?;
        let mut footer = vec![0; footer_length];
        file.seek(SeekFrom::Start(footer_start as u64))
            .and_then(|_| file.read_exact(&mut footer))
            .map_err(Error::io(path))?;
        let footer = root_as_footer(&footer)
            .map_err(|e| bad(format!("its Arrow footer is damaged: {e}")))?;
        let schema = footer
            .schema()
            .ok_or_else(|| bad("its Arrow footer holds no schema".to_owned()))?;
        let found: Vec<_> = schema.fields().into_iter().flatten().collect();
        let fields = expected.fields();
        let same =
            |(found, field): (&fb::Field<'_>, &Arc<Field>)| decode::same_field(*found, field);
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
        let mut before = 0;
        let place = |(number, block): (usize, &fb::Block)| {
            let bytes = i64::from(block.metaDataLength()).checked_add(block.bodyLength());
            let bytes = bytes.and_then(|n| usize::try_from(n).ok());
            let offset = usize::try_from(block.offset()).ok();
            let inside = |&(offset, bytes): &(usize, usize)| {
                offset
                    .checked_add(bytes)
                    .is_some_and(|end| end <= footer_start)
            };
            let (offset, bytes) = offset.zip(bytes).filter(inside).ok_or_else(|| {
                bad(format!(
                    "record batch {number}: its place lies outside the file"
                ))
            })?;
            // Else a small file could hold any number of rows.
            if offset < before {
                return Err(bad(format!(
                    "record batch {number}: it begins before the one before it ends"
                )));
            }
            before = offset + bytes;
            Ok(Block {
                offset,
                description: usize::try_from(block.metaDataLength()).unwrap_or(usize::MAX),
                bytes,
            })
        };
        Ok(Self {
            path: path.into(),
            schema: Arc::clone(expected),
            length,
            blocks: blocks
                .iter()
                .enumerate()
                .map(place)
                .collect::<Result<_>>()?,
        })
    }

    /// The number of batches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are no batches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.length as u64
    }

    /// All batches, as [`map_batches`] has them.
    pub fn batches(&self) -> Result<Vec<RecordBatch>> {
        let whole = self.map(0, self.length)?;
        let batch = |(number, block): (usize, &Block)| {
            self.decode(number, &whole.slice_with_length(block.offset, block.bytes))
        };
        self.blocks.iter().enumerate().map(batch).collect()
    }

    /// Maps and decodes batch `number`, below [`IpcFile::len`], with all checks of [`map_batches`].
    pub fn batch(&self, number: usize) -> Result<RecordBatch> {
        let block = &self.blocks[number];
        self.decode(number, &self.map(block.offset, block.bytes)?)
    }

    /// The number of rows of batch `number`, below [`IpcFile::len`], by its description.
    pub fn rows(&self, number: usize) -> Result<usize> {
        let block = &self.blocks[number];
        let description = self.map(block.offset, block.description.min(block.bytes))?;
        decode::rows(&description).map_err(|why| self.damaged(number, &why))
    }

    fn decode(&self, number: usize, block: &Buffer) -> Result<RecordBatch> {
        let description = self.blocks[number].description;
        decode::record_batch(block, description, &self.schema)
            .map_err(|why| self.damaged(number, &why))
    }

    fn damaged(&self, number: usize, why: &str) -> Error {
        Error::Shard {
            path: self.path.clone(),
            why: format!("record batch {number}: {why}"),
        }
    }

    fn map(&self, offset: usize, bytes: usize) -> Result<Buffer> {
        if bytes == 0 {
            return Ok(Buffer::from(Vec::<u8>::new()));
        }
        let file = File::open(&self.path).map_err(Error::io(&self.path))?;
        let mut options = memmap2::MmapOptions::new();
        options.offset(offset as u64).len(bytes);
        // SAFETY: files of a dataset and of a token store are immutable once they have their name (they
        // appear by rename and are never opened for writing again); another process that truncates one
        // under us breaks the contract that docs/format.md states.
        let map = unsafe { options.map(&file) }.map_err(Error::io(&self.path))?;
        Ok(Buffer::from(bytes::Bytes::from_owner(map)))
    }
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
        let written = write(&path);
        assert_eq!(written, map_batches(&path, &schema()).unwrap());
        let file = IpcFile::open(&path, &schema()).unwrap();
        assert_eq!(
            (file.len(), file.bytes()),
            (2, fs::metadata(&path).unwrap().len())
        );
        for (number, batch) in written.iter().enumerate() {
            assert_eq!(file.rows(number).unwrap(), batch.num_rows());
            assert_eq!(file.batch(number).unwrap(), *batch);
        }
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
            let one_by_one = IpcFile::open(&path, &schema())
                .and_then(|f| (0..f.len()).map(|i| f.batch(i)).collect::<Result<Vec<_>>>());
            match map_batches(&path, &schema()) {
                Ok(batches) => {
                    assert_eq!(format!("{batches:?}"), format!("{:?}", one_by_one.unwrap()));
                }
                Err(_) => {
                    assert!(one_by_one.is_err());
                    refused += 1;
                }
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
