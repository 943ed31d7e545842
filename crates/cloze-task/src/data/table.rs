//! CSV (RFC 4180) and TSV (IANA text/tab-separated-values: nothing is quoted), both with a header.

use std::path::Path;

use csv::{ErrorKind, ReaderBuilder};
use serde_json::{Map, Value};

use super::{Table, wrong};
use crate::{Error, Result};

pub fn read(path: &Path, delimiter: u8) -> Result<Table> {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(delimiter == b',')
        .from_path(path)
        .map_err(|e| broken(path, e))?;
    let header = reader.headers().map_err(|e| broken(path, e))?.clone();
    let names: Vec<&str> = (header.iter())
        .map(|name| name.trim_start_matches('\u{feff}'))
        .collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| broken(path, e))?;
        let number = record.position().map_or(0, csv::Position::line);
        let cells = record.iter().map(|cell| Value::String(cell.into()));
        let fields: Map<String, Value> =
            (names.iter().map(|n| (*n).to_owned())).zip(cells).collect();
        rows.push((number, fields));
    }
    Ok(Table {
        path: path.into(),
        unit: "line",
        typed: false,
        rows,
    })
}

fn broken(path: &Path, error: csv::Error) -> Error {
    let number = error.position().map_or(1, csv::Position::line);
    match error.into_kind() {
        ErrorKind::Io(source) => cloze_shard::Error::io(path)(source).into(),
        ErrorKind::Utf8 { err, .. } => {
            let why = format!("is no UTF-8 text ({err})");
            wrong(path, "line", number, why, "convert the file to UTF-8")
        }
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => wrong(
            path,
            "line",
            number,
            format!("has {len} cells, the header has {expected_len}"),
            "put cells that hold the delimiter or a line break between double quotes (CSV), or give JSONL",
        ),
        kind => wrong(path, "line", number, format!("{kind:?}"), "give JSONL"),
    }
}
