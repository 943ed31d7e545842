//! Files of vectors, written as they come; each appears whole, under its name, or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::{Error, Result};

/// Where vectors go.
#[allow(missing_debug_implementations)]
pub struct Sink {
    files: Partial,
    kind: Kind,
    dimension: usize,
    count: u64,
}

/// What is written until all is there, and its name then. What has no name yet when it is dropped is removed.
struct Partial(Vec<(PathBuf, PathBuf)>);

impl Drop for Partial {
    fn drop(&mut self) {
        for (partial, _) in &self.0 {
            // The error that led here is the one to show.
            let _ = fs::remove_file(partial);
        }
    }
}

enum Kind {
    /// NumPy's format, version 1.0; ids are lines of JSON beside it, from the first that is there.
    Npy {
        file: BufWriter<File>,
        ids: Option<BufWriter<File>>,
        ids_path: PathBuf,
    },
    /// Columns `id` and `embedding`.
    Parquet(Box<SerializedFileWriter<BufWriter<File>>>),
    /// The same columns in an Arrow IPC file; vectors are lists of a fixed size, so that they lie one after another.
    Arrow(Box<FileWriter<BufWriter<File>>>),
}

/// Bytes of the header of a `.npy` file, as long as any number of rows needs.
const HEADER: usize = 128;

impl Sink {
    /// What is there of the files of `path` until they are whole: the vectors, and the ids beside them.
    #[must_use]
    pub fn partials(path: &Path) -> [PathBuf; 2] {
        let ids = beside(path, ".ids.jsonl");
        [beside(path, ".partial"), beside(&ids, ".partial")]
    }

    /// Makes `path`, of the kind that its name ends in: `.npy`, `.parquet` or `.arrow`. What is there already is only replaced if `force`.
    pub fn create(path: &Path, dimension: usize, force: bool) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::Option {
                option: "--out",
                why: format!(
                    "is {}, a folder: give the name of a file in it, which ends in .npy, .parquet or .arrow",
                    path.display()
                ),
            });
        }
        if path.exists() && !force {
            return Err(Error::Data {
                path: path.into(),
                place: String::new(),
                why: "exists already".into(),
                hint: "give another --out, or --force to replace it".into(),
            });
        }
        let [partial, _] = Self::partials(path);
        let kind = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        let create = || -> Result<BufWriter<File>> {
            let file = File::create(&partial).map_err(cloze_shard::Error::io(&partial))?;
            Ok(BufWriter::with_capacity(1 << 20, file))
        };
        let kind = match kind {
            "npy" => {
                let mut file = create()?;
                file.write_all(&[0; HEADER])
                    .map_err(cloze_shard::Error::io(&partial))?;
                Kind::Npy {
                    file,
                    ids: None,
                    ids_path: beside(path, ".ids.jsonl"),
                }
            }
            "parquet" => {
                let schema = parse_message_type(SCHEMA).map_err(|e| failed(path, &e))?;
                let properties = WriterProperties::builder()
                    .set_compression(parquet::basic::Compression::UNCOMPRESSED)
                    .build();
                let file = create()?;
                let writer =
                    SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
                Kind::Parquet(Box::new(writer.map_err(|e| failed(path, &e))?))
            }
            "arrow" => {
                let writer = FileWriter::try_new(create()?, &columns(dimension));
                Kind::Arrow(Box::new(writer.map_err(|e| failed(path, &e))?))
            }
            other => {
                return Err(Error::Option {
                    option: "--out",
                    why: format!("ends in {other:?}, expected .npy, .parquet or .arrow"),
                });
            }
        };
        Ok(Self {
            files: Partial(vec![(partial, path.into())]),
            kind,
            dimension,
            count: 0,
        })
    }

    /// Appends vectors with their ids.
    pub fn write(&mut self, ids: &[Option<&str>], vectors: &[Vec<f32>]) -> Result<()> {
        let path = self.files.0[0].0.clone();
        match &mut self.kind {
            Kind::Npy {
                file,
                ids: lines,
                ids_path,
            } => {
                let io = cloze_shard::Error::io(&path);
                let bytes: Vec<u8> = vectors
                    .iter()
                    .flatten()
                    .flat_map(|x| x.to_le_bytes())
                    .collect();
                file.write_all(&bytes).map_err(io)?;
                if lines.is_none() && ids.iter().any(Option::is_some) {
                    let [_, partial] = Self::partials(&self.files.0[0].1);
                    let made = File::create(&partial).map_err(cloze_shard::Error::io(&partial))?;
                    let mut made = BufWriter::new(made);
                    // Those before had none.
                    for _ in 0..self.count {
                        writeln!(made, "null").map_err(cloze_shard::Error::io(&partial))?;
                    }
                    self.files.0.push((partial, ids_path.clone()));
                    *lines = Some(made);
                }
                if let Some(lines) = lines {
                    for id in ids {
                        let id = serde_json::Value::from(*id);
                        writeln!(lines, "{id}").map_err(cloze_shard::Error::io(ids_path))?;
                    }
                }
            }
            Kind::Parquet(writer) => {
                rows(writer, ids, vectors, self.dimension).map_err(|e| failed(&path, &e))?;
            }
            Kind::Arrow(writer) => {
                let batch = record_batch(ids, vectors, self.dimension);
                let written = batch.and_then(|batch| writer.write(&batch));
                written.map_err(|e| failed(&path, &e))?;
            }
        }
        self.count += vectors.len() as u64;
        Ok(())
    }

    /// Ends the files, and gives them their names; how many vectors there are.
    pub fn finish(mut self) -> Result<u64> {
        let path = &self.files.0[0].0;
        let io = |e| Error::from(cloze_shard::Error::io(path)(e));
        match self.kind {
            Kind::Npy {
                file,
                ids,
                ids_path,
            } => {
                let mut file = file.into_inner().map_err(|e| io(e.into_error()))?;
                file.seek(SeekFrom::Start(0)).map_err(io)?;
                file.write_all(&header(self.count, self.dimension))
                    .map_err(io)?;
                file.sync_all().map_err(io)?;
                if let Some(ids) = ids {
                    let ids = ids.into_inner().map_err(|e| io(e.into_error()))?;
                    ids.sync_all().map_err(cloze_shard::Error::io(&ids_path))?;
                } else if ids_path.exists() {
                    // Of the file that is replaced.
                    fs::remove_file(&ids_path).map_err(cloze_shard::Error::io(&ids_path))?;
                }
            }
            Kind::Parquet(writer) => {
                let file = writer.into_inner().map_err(|e| failed(path, &e))?;
                let file = file.into_inner().map_err(|e| io(e.into_error()))?;
                file.sync_all().map_err(io)?;
            }
            Kind::Arrow(writer) => {
                let file = writer.into_inner().map_err(|e| failed(path, &e))?;
                let file = file.into_inner().map_err(|e| io(e.into_error()))?;
                file.sync_all().map_err(io)?;
            }
        }
        while let Some((partial, path)) = self.files.0.last() {
            fs::rename(partial, path).map_err(cloze_shard::Error::io(path))?;
            self.files.0.pop();
        }
        Ok(self.count)
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

fn failed(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::Data {
        path: path.into(),
        place: String::new(),
        why: error.to_string(),
        hint: "see that there is room on the disk".into(),
    }
}

/// The header of `[count, dimension]` single-precision numbers, rows one after another.
fn header(count: u64, dimension: usize) -> [u8; HEADER] {
    let what =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {dimension}), }}");
    let mut bytes = [b' '; HEADER];
    bytes[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    bytes[8..10].copy_from_slice(&(HEADER as u16 - 10).to_le_bytes());
    bytes[10..10 + what.len()].copy_from_slice(what.as_bytes());
    bytes[HEADER - 1] = b'\n';
    bytes
}

fn item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Float32, false))
}

fn columns(dimension: usize) -> Schema {
    let vector = DataType::FixedSizeList(item(), dimension as i32);
    Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("embedding", vector, false),
    ])
}

fn record_batch(
    ids: &[Option<&str>],
    vectors: &[Vec<f32>],
    dimension: usize,
) -> Result<RecordBatch, ArrowError> {
    let values: Float32Array = vectors.iter().flatten().copied().collect();
    let ids: StringArray = ids.iter().copied().collect();
    let vectors = FixedSizeListArray::try_new(item(), dimension as i32, Arc::new(values), None)?;
    let arrays: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(vectors)];
    RecordBatch::try_new(Arc::new(columns(dimension)), arrays)
}

const SCHEMA: &str = "message embeddings {
    optional binary id (UTF8);
    required group embedding (LIST) { repeated group list { required float element; } }
}";

/// A group of rows.
fn rows(
    writer: &mut SerializedFileWriter<BufWriter<File>>,
    ids: &[Option<&str>],
    vectors: &[Vec<f32>],
    dimension: usize,
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    if let Some(mut column) = group.next_column()? {
        let values: Vec<ByteArray> = ids
            .iter()
            .flatten()
            .map(|&id| ByteArray::from(id))
            .collect();
        let there: Vec<i16> = ids.iter().map(|id| i16::from(id.is_some())).collect();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, Some(&there), None)?;
        column.close()?;
    }
    if let Some(mut column) = group.next_column()? {
        let values: Vec<f32> = vectors.iter().flatten().copied().collect();
        let there = vec![1i16; values.len()];
        let goes_on: Vec<i16> = (0..values.len())
            .map(|i| i16::from(i % dimension > 0))
            .collect();
        column
            .typed::<FloatType>()
            .write_batch(&values, Some(&there), Some(&goes_on))?;
        column.close()?;
    }
    group.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_numpy() {
        let bytes = header(3, 384);
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
        let text = std::str::from_utf8(&bytes[10..]).expect("it is text");
        assert_eq!(
            text.trim_end(),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 384), }"
        );
        assert!(text.ends_with('\n') && bytes.len().is_multiple_of(64));
        // There is room for any number.
        header(u64::MAX, 1 << 20);
    }
}
