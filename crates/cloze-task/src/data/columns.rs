//! Parquet: text, numbers, booleans, and lists of them; snappy, gzip, zstd or no compression.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Map, Value};

use super::Table;
use crate::{Error, Result};

pub fn read(path: &Path) -> Result<Table> {
    let file = File::open(path).map_err(cloze_shard::Error::io(path))?;
    let fail = |place: String, why: String| {
        Error::Data {
        path: path.into(),
        place,
        why,
        hint: "write the file again, with text, numbers, and lists of them, compressed by snappy, gzip, zstd or not at all"
            .into(),
    }
    };
    // The library panics on some broken files.
    let rows = catch_unwind(AssertUnwindSafe(|| {
        let reader =
            SerializedFileReader::new(file).map_err(|e| fail(String::new(), e.to_string()))?;
        let rows = reader
            .get_row_iter(None)
            .map_err(|e| fail(String::new(), e.to_string()))?;
        rows.zip(1..)
            .map(|(row, number)| {
                let at = |why: String| fail(format!("row {number}: "), why);
                let columns = row.map_err(|e| at(e.to_string()))?.into_columns();
                let fields = columns
                    .into_iter()
                    .map(|(name, field)| (name, value(field)));
                Ok((number, fields.collect::<Map<_, _>>()))
            })
            .collect::<Result<Vec<_>>>()
    }));
    Ok(Table {
        path: path.into(),
        unit: "row",
        typed: true,
        rows: rows.map_err(|_| fail(String::new(), "is broken".into()))??,
    })
}

/// What there is no use for becomes text that says what it is.
fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(x) => x.into(),
        Field::Byte(x) => x.into(),
        Field::Short(x) => x.into(),
        Field::Int(x) => x.into(),
        Field::Long(x) => x.into(),
        Field::UByte(x) => x.into(),
        Field::UShort(x) => x.into(),
        Field::UInt(x) => x.into(),
        Field::ULong(x) => x.into(),
        // As it is written, not as single precision widens it.
        Field::Float(x) => x.to_string().parse::<f64>().unwrap_or_default().into(),
        Field::Float16(x) => f64::from(x.to_f32()).into(),
        Field::Double(x) => x.into(),
        Field::Str(x) => x.into(),
        Field::Bytes(x) => String::from_utf8_lossy(x.data()).into(),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        other => other.to_string().into(),
    }
}
