//! JSONL: an object a line. Empty lines are passed over.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Table, kind_of, wrong};
use crate::Result;

pub fn read(path: &Path) -> Result<Table> {
    let bytes = fs::read(path).map_err(cloze_shard::Error::io(path))?;
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let mut rows = Vec::new();
    for (line, number) in bytes.split(|&b| b == b'\n').zip(1..) {
        let fail = |why: String, hint: &str| wrong(path, "line", number, why, hint);
        let text = std::str::from_utf8(line).map_err(|e| {
            fail(
                format!("is no UTF-8 text ({e})"),
                "convert the file to UTF-8",
            )
        })?;
        if text.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => rows.push((number, fields)),
            Ok(other) => {
                let why = format!("is {}, expected an object", kind_of(&other));
                let hint =
                    "give one object a line, such as {\"text\": \"...\", \"label\": \"...\"}";
                return Err(fail(why, hint));
            }
            Err(e) => {
                return Err(fail(
                    format!("broken JSON: {e}"),
                    "give one whole object a line",
                ));
            }
        }
    }
    Ok(Table {
        path: path.into(),
        unit: "line",
        typed: true,
        rows,
    })
}
