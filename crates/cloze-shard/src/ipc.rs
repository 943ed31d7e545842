//! Arrow IPC *files*: written uncompressed and 64-byte aligned, read memory-mapped without a copy.
//!
//! Used for shards, for the document table, and for the token store of preparation.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{MetadataVersion, root_as_footer};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use crate::atomic::{AtomicFile, Written};
use crate::{Error, Result};

/// Writes one Arrow IPC file, atomically.
pub struct IpcFileWriter {
    writer: FileWriter<AtomicFile>,
}

impl IpcFileWriter {
    /// Begins `path` with `schema`.
    pub fn create(path: &Path, schema: &Schema) -> Result<Self> {
        let options = IpcWriteOptions::try_new(64, false, MetadataVersion::V5)
            .map_err(|e| arrow(path, &e))?;
        let file = AtomicFile::create(path)?;
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
    let schema: SchemaRef = Arc::new(fb_to_schema(schema));
    if schema.fields() != expected.fields() {
        return Err(bad(format!(
            "its columns are [{}], expected [{}]",
            columns(&schema),
            columns(expected)
        )));
    }
    let decoder = FileDecoder::new(schema, footer.version()).with_require_alignment(true);
    let blocks = footer
        .recordBatches()
        .ok_or_else(|| bad("its Arrow footer lists no batches".to_owned()))?;
    let mut batches = Vec::with_capacity(blocks.len());
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
        let batch = decoder
            .read_record_batch(block, &buffer.slice_with_length(offset, whole))
            .map_err(|e| damaged(e.to_string()))?
            .ok_or_else(|| damaged("it is empty".to_owned()))?;
        batches.push(batch);
    }
    Ok(batches)
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
