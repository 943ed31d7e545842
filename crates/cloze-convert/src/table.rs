//! Parquet files of our own: how they are written, and how their batches are read.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Schema, SchemaRef};
use cloze_shard::atomic::{AtomicFile, Written};
use cloze_shard::parquet_footer;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::error::parquet;
use crate::{Error, Result};

/// Rows of a group: a reader's unit of work and of memory.
pub const ROWS_PER_GROUP: usize = 65_536;
/// Rows of a batch that is read.
pub const ROWS_PER_BATCH: usize = 8_192;

/// Writes one Parquet file, atomically.
pub struct TableWriter {
    writer: ArrowWriter<AtomicFile>,
}

impl TableWriter {
    /// Begins `path`; `about` goes into the file's metadata under the key `cloze`.
    pub fn create(path: &Path, schema: &SchemaRef, about: &str) -> Result<Self> {
        let file = AtomicFile::create(path)?;
        let properties = properties(schema, about).map_err(parquet(path))?;
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties));
        Ok(Self {
            writer: writer.map_err(parquet(path))?,
        })
    }

    /// Appends a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let written = self.writer.write(batch);
        written.map_err(|e| parquet(self.writer.inner().path())(e))
    }

    /// Writes the footer and gives the file its name.
    pub fn finish(self) -> Result<Written> {
        let path = self.writer.inner().path().to_path_buf();
        let file = self.writer.into_inner().map_err(parquet(&path))?;
        Ok(file.commit()?)
    }
}

/// Numbers in lists are stored a byte of all of them after the other, which zstd makes least of; what else there is, by a dictionary where that is shorter.
fn properties(
    schema: &Schema,
    about: &str,
) -> Result<WriterProperties, parquet::errors::ParquetError> {
    let about = KeyValue::new("cloze".to_owned(), about.to_owned());
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_key_value_metadata(Some(vec![about]));
    for field in schema.fields() {
        if let DataType::List(item) = field.data_type() {
            // A setting for a path that is not there is passed over without a word, and libraries name the items differently.
            for item in [item.name().as_str(), "element"] {
                let path = ColumnPath::from(vec![
                    field.name().clone(),
                    "list".to_owned(),
                    item.to_owned(),
                ]);
                builder = builder
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::BYTE_STREAM_SPLIT)
                    .set_column_statistics_enabled(path, EnabledStatistics::None);
            }
        }
    }
    Ok(builder.build())
}

/// Hands the batches of a Parquet file with exactly the columns of `schema` to `each`, in order.
pub fn read_table(
    path: &Path,
    schema: &Schema,
    each: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    read(
        path,
        ArrowReaderOptions::new(),
        &|found| same_columns(found, schema),
        each,
    )
}

/// Hands the batches of the Parquet file `path` to `each`, in order, if `fits` has nothing to say against its columns.
pub fn read(
    path: &Path,
    options: ArrowReaderOptions,
    fits: &dyn Fn(&Schema) -> Result<(), String>,
    each: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    parquet_footer::check(path)?;
    let file = File::open(path).map_err(cloze_shard::Error::io(path))?;
    // The library panics on some broken files.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
            .map_err(parquet(path))?;
        fits(builder.schema()).map_err(|why| Error::input(path, "", why))?;
        let batches = builder.with_batch_size(ROWS_PER_BATCH).build();
        for batch in batches.map_err(parquet(path))? {
            each(batch.map_err(|e| parquet(path)(e.into()))?)?;
        }
        Ok(())
    }));
    outcome.unwrap_or_else(|_| Err(Error::input(path, "", "is broken")))
}

fn same_columns(found: &Schema, expected: &Schema) -> Result<(), String> {
    let columns = |schema: &Schema| {
        let show = |f: &std::sync::Arc<arrow_schema::Field>| {
            let null = if f.is_nullable() { "?" } else { "" };
            format!("{}: {}{null}", f.name(), f.data_type())
        };
        let all: Vec<String> = schema.fields().iter().map(show).collect();
        all.join(", ")
    };
    if found.fields() == expected.fields() {
        return Ok(());
    }
    Err(format!(
        "its columns are [{}], expected [{}]",
        columns(found),
        columns(expected)
    ))
}
