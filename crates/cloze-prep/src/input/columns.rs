//! Parquet: a column of text, and one of ids.

use std::collections::HashSet;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cloze_shard::parquet_footer;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

use super::bytes::{Known, spool};
use super::json::metadata;
use super::resolve::Source;
use super::{Found, InputError, InputOptions};
use crate::Progress;

/// What is shown of a message, which may hold the bytes that it is about.
const MESSAGE: usize = 160;

/// Rows of a file.
pub struct Columns<'a> {
    source: &'a Source,
    rows: RowIter<'static>,
    number: u64,
    all: u64,
    text: String,
    id: Option<String>,
    meta: Vec<String>,
    /// Of an object, which was read already.
    pub known: Option<Known>,
    progress: &'a dyn Progress,
    /// Bytes that progress was told of.
    told: u64,
}

impl<'a> Columns<'a> {
    pub fn open(
        source: &'a Source,
        options: &InputOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self, InputError> {
        // Parquet is read from its end.
        let (file, known) = match source.object {
            Some(_) => {
                let (file, known) = spool(source, progress)?;
                parquet_footer::check_open(&file, &source.path).map_err(|e| lies(source, e))?;
                (file, Some(known))
            }
            None => {
                let file = File::open(&source.path).map_err(|e| InputError::Io {
                    path: source.path.clone(),
                    source: e,
                })?;
                parquet_footer::check(&source.path).map_err(|e| lies(source, e))?;
                (file, None)
            }
        };
        let (text, id) = (options.text_field.clone(), options.id_field.clone());
        let opened = guarded(source, 0, || {
            let reader = SerializedFileReader::new(file)?;
            let all = reader.metadata().file_metadata().num_rows();
            let schema = reader.metadata().file_metadata().schema();
            let find = |name: &str| {
                schema
                    .get_fields()
                    .iter()
                    .find(|f| f.name() == name)
                    .cloned()
            };
            let wanted = [Some(&text), id.as_ref()].into_iter().flatten();
            let wanted = wanted.chain(&options.meta_fields);
            let found: Vec<Option<Arc<Type>>> = wanted.clone().map(|n| find(n)).collect();
            let names: Vec<String> = schema
                .get_fields()
                .iter()
                .take(8)
                .map(|f| f.name().to_owned())
                .collect();
            if let Some((name, _)) = wanted.zip(&found).find(|(_, f)| f.is_none()) {
                return Ok(Err((name.clone(), names.join(", "))));
            }
            let mut fields: Vec<Arc<Type>> = found.into_iter().flatten().collect();
            let mut seen = HashSet::new();
            fields.retain(|f| seen.insert(f.name().to_owned()));
            let projection = Type::group_type_builder(schema.name())
                .with_fields(fields)
                .build()?;
            let rows = RowIter::from_file_into(Box::new(reader)).project(Some(projection))?;
            Ok(Ok((rows, all)))
        })?;
        let (rows, all) = opened.map_err(|(name, names)| {
            let option = if name == text {
                "--text-field"
            } else if Some(&name) == id.as_ref() {
                "--id-field"
            } else {
                "--meta-field"
            };
            InputError::Header {
                path: source.path.clone(),
                why: format!("no column {name:?}; it has [{names}]"),
                hint: format!("give another {option}"),
            }
        })?;
        Ok(Self {
            source,
            rows,
            number: 0,
            all: all.max(0) as u64,
            text,
            id,
            meta: options.meta_fields.clone(),
            progress,
            told: known.as_ref().map_or(0, |_| source.bytes),
            known,
        })
    }

    pub fn next(&mut self) -> Result<Option<Found>, InputError> {
        self.number += 1;
        let (source, number, rows) = (self.source, self.number, &mut self.rows);
        let row = guarded(source, number, || rows.next().transpose())?;
        // How far it is in the file is known by rows alone.
        let done = match row {
            Some(_) => (source.bytes as f64 * (number as f64 / self.all.max(1) as f64)) as u64,
            None => source.bytes,
        };
        let done = done.min(source.bytes);
        self.progress.advance(done.saturating_sub(self.told));
        self.told = self.told.max(done);
        let Some(row) = row else {
            return Ok(None);
        };
        let wrong = |why: String, hint: &'static str| InputError::Row {
            path: source.path.clone(),
            unit: "row",
            number,
            why,
            hint,
            reason: "broken row",
        };
        let (mut text, mut id) = (None, None);
        let columns = row.into_columns();
        let kept = |name: &str| columns.iter().find(|(n, _)| n == name);
        let meta = metadata(&self.meta, |name| Some(kept(name)?.1.to_json_value()));
        for (name, field) in columns {
            if Some(&name) == self.id.as_ref() {
                let number = |n: &Field| match n {
                    Field::Byte(n) => Some(n.to_string()),
                    Field::Short(n) => Some(n.to_string()),
                    Field::Int(n) => Some(n.to_string()),
                    Field::Long(n) => Some(n.to_string()),
                    Field::UByte(n) => Some(n.to_string()),
                    Field::UShort(n) => Some(n.to_string()),
                    Field::UInt(n) => Some(n.to_string()),
                    Field::ULong(n) => Some(n.to_string()),
                    _ => None,
                };
                id = Some(as_text(&field).or_else(|| number(&field)).ok_or_else(|| {
                    let why = format!("{name:?} is neither text nor an integer");
                    wrong(why, "give another --id-field")
                })?);
            }
            if name == self.text {
                let why = || format!("{name:?} is not text");
                let field = as_text(&field);
                text = Some(field.ok_or_else(|| wrong(why(), "give another --text-field"))?);
            }
        }
        let text = text.unwrap_or_default();
        Ok(Some(Found { id, meta, text }))
    }
}

/// What a look at the footer says.
fn lies(source: &Source, error: cloze_shard::Error) -> InputError {
    match error {
        cloze_shard::Error::Io { path, source } => InputError::Io { path, source },
        cloze_shard::Error::Shard { path, why } => InputError::Damaged { path, why },
        other => InputError::Io {
            path: source.path.clone(),
            source: std::io::Error::other(other),
        },
    }
}

fn as_text(field: &Field) -> Option<String> {
    match field {
        Field::Str(text) => Some(text.clone()),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).ok().map(str::to_owned),
        _ => None,
    }
}

/// What the library says; it panics on some broken files.
fn guarded<T>(
    source: &Source,
    number: u64,
    work: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<T, InputError> {
    let done = catch_unwind(AssertUnwindSafe(work));
    let fail = |why: String| InputError::Damaged {
        path: source.path.clone(),
        why: match number {
            0 => why,
            number => format!("row {number}: {why}"),
        },
    };
    match done {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(e)) => Err(fail(e.to_string().chars().take(MESSAGE).collect())),
        Err(_) => Err(fail("is broken".into())),
    }
}
