//! Parquet: text, numbers, booleans, and lists of them; snappy, gzip, zstd or no compression. Other columns are passed over.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::basic::ConvertedType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::Table;
use crate::{Error, Result};

/// What is shown of a message, which may hold the bytes that it is about.
const MESSAGE: usize = 160;

pub fn read(path: &Path) -> Result<Table> {
    // Before the library looks: some footers take all memory or all of the stack.
    cloze_shard::parquet_footer::check(path)?;
    let file = File::open(path).map_err(cloze_shard::Error::io(path))?;
    let fail = |place: String, why: String| {
        Error::Data {
        path: path.into(),
        place,
        why,
        hint: "write the file again, with text (UTF-8), numbers, and lists of them, compressed by snappy, gzip, zstd or not at all"
            .into(),
    }
    };
    let broken = |e: ParquetError| fail(String::new(), message(&e));
    // The library panics on some broken files.
    let rows = catch_unwind(AssertUnwindSafe(|| {
        let reader = SerializedFileReader::new(file).map_err(broken)?;
        let schema = reader.metadata().file_metadata().schema();
        let known = |column: &&std::sync::Arc<Type>| {
            let kind = column.get_basic_info().converted_type();
            column.is_primitive() || kind == ConvertedType::LIST
        };
        let columns = schema.get_fields().iter().filter(known).cloned().collect();
        let projection = Type::group_type_builder(schema.name()).with_fields(columns);
        let projection = projection.build().map_err(broken)?;
        let rows = reader.get_row_iter(Some(projection)).map_err(broken)?;
        rows.zip(1..)
            .map(|(row, number)| {
                let at = |e: ParquetError| fail(format!("row {number}: "), message(&e));
                let columns = row.map_err(at)?.into_columns();
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

fn message(error: &ParquetError) -> String {
    error.to_string().chars().take(MESSAGE).collect()
}

/// What there is no use for becomes an object that says what it is.
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
        Field::Float(x) => x.to_string().parse::<f64>().unwrap_or(f64::NAN).into(),
        Field::Float16(x) => f64::from(x.to_f32()).into(),
        Field::Double(x) => x.into(),
        Field::Str(x) => x.into(),
        Field::Bytes(x) => match std::str::from_utf8(x.data()) {
            Ok(text) => text.into(),
            Err(_) => serde_json::json!({"bytes": x.len()}),
        },
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        other => serde_json::json!({"other": other.to_string()}),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use std::sync::Arc;

    use parquet::data_type::{
        BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int64Type,
    };
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use serde_json::json;

    use super::*;

    /// Two rows with a column of each kind.
    fn file() -> Vec<u8> {
        let schema = "message m {
            optional binary text (STRING);
            required int64 label;
            required double x;
            required float y;
            required boolean b;
            required binary raw;
            required group words (LIST) { repeated group list { optional binary element (STRING); } }
            required group none { required int64 of_this; }
        }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder()
            .set_compression(parquet::basic::Compression::SNAPPY)
            .build();
        let mut writer =
            SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let text = |values: &[&str]| {
            values
                .iter()
                .map(|v| ByteArray::from(*v))
                .collect::<Vec<_>>()
        };
        let mut number = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            match number {
                0 => {
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&text(&["é"]), Some(&[1, 0]), None)
                }
                1 | 7 => column
                    .typed::<Int64Type>()
                    .write_batch(&[1, -2], None, None),
                2 => column
                    .typed::<DoubleType>()
                    .write_batch(&[0.5, f64::NAN], None, None),
                3 => column
                    .typed::<FloatType>()
                    .write_batch(&[0.1, 2.0], None, None),
                4 => column
                    .typed::<BoolType>()
                    .write_batch(&[true, false], None, None),
                5 => {
                    let bytes = [ByteArray::from("ab"), ByteArray::from(vec![0xFFu8])];
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&bytes, None, None)
                }
                // Two words, and none.
                _ => column.typed::<ByteArrayType>().write_batch(
                    &text(&["a", "b"]),
                    Some(&[2, 2, 0]),
                    Some(&[0, 1, 0]),
                ),
            }
            .unwrap();
            column.close().unwrap();
            number += 1;
        }
        group.close().unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn columns_are_as_they_were_written_and_broken_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let whole = file();
        std::fs::write(&path, &whole).unwrap();
        let table = read(&path).unwrap();
        let rows: Vec<Value> = table.rows.into_iter().map(|(_, row)| row.into()).collect();
        let first = json!({"text": "é", "label": 1, "x": 0.5, "y": 0.1, "b": true, "raw": "ab", "words": ["a", "b"]});
        let second = json!({"text": null, "label": -2, "x": null, "y": 2.0, "b": false, "raw": {"bytes": 1}, "words": []});
        assert_eq!(rows, [first, second]);
        let mut refused = 0;
        for cut in (0..whole.len()).step_by(9) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&path).is_err(), "{cut}");
        }
        for at in (0..whole.len()).step_by(7) {
            let mut other = whole.clone();
            other[at] ^= 0x15;
            std::fs::write(&path, &other).unwrap();
            refused += usize::from(read(&path).is_err());
        }
        assert!(refused > 10, "{refused}");
    }
}
