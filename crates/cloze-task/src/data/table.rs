//! CSV (RFC 4180) and TSV (IANA text/tab-separated-values: nothing is quoted), both with a header.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use cloze_text::quotes::{self, Quotes};
use csv::{ErrorKind, ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

use super::{Table, wrong};
use crate::{Error, Result};

pub fn read(path: &Path, delimiter: u8) -> Result<Table> {
    let is_quoted = delimiter == b',';
    let file = File::open(path).map_err(cloze_shard::Error::io(path))?;
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(is_quoted)
        .from_reader(Quotes::new(file, is_quoted.then_some(delimiter)));
    let header = reader.headers().map_err(|e| broken(path, e, 0))?.clone();
    let names: Vec<&str> = (header.iter())
        .map(|name| name.trim_start_matches('\u{feff}'))
        .collect();
    if let Some(twice) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
        let why = format!("its header has {:?} twice", names[twice]);
        return Err(wrong(path, "line", 1, why, "name each column once"));
    }
    // A line's end of two bytes is counted with the line after it.
    let behind = u64::from(ends_with_two_bytes(path)?);
    let mut rows = Vec::new();
    let mut record = StringRecord::new();
    loop {
        let is_there = reader.read_record(&mut record);
        let end = reader.position().byte();
        if let Some(bad) = reader.get_mut().found_before(end) {
            return Err(wrong(path, "line", bad.line, bad.to_string(), quotes::HINT));
        }
        if !is_there.map_err(|e| broken(path, e, behind))? {
            break;
        }
        let number = record.position().map_or(0, csv::Position::line) + behind;
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

/// Whether the first line ends with a carriage return before its line feed.
fn ends_with_two_bytes(path: &Path) -> Result<bool> {
    let io = |e| Error::from(cloze_shard::Error::io(path)(e));
    let mut line = Vec::new();
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    file.read_until(b'\n', &mut line).map_err(io)?;
    Ok(line.ends_with(b"\r\n"))
}

fn broken(path: &Path, error: csv::Error, behind: u64) -> Error {
    let number = error.position().map_or(1, |p| p.line() + behind);
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
