//! Texts to embed, one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Error, Result};

/// A text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What the file calls it, where it does.
    pub id: Option<String>,
    /// The text.
    pub text: String,
}

/// Reads texts: an object a line where the name ends in `.jsonl`, `.ndjson` or `.json`, or where standard input begins with one, else a text a line.
#[allow(missing_debug_implementations)]
pub struct Texts {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    number: u64,
    /// Fields of text and id; `None` for plain lines.
    fields: Option<(String, String)>,
    /// Of the first object.
    names: Vec<String>,
}

impl Texts {
    /// Opens `path`; `-` is standard input. A file whose name says that it holds no lines of text is refused: its bytes would be embedded as if they were.
    pub fn open(path: &Path, text_field: &str, id_field: &str) -> Result<Self> {
        let io = || cloze_shard::Error::io(path);
        let ending = path.extension().and_then(|e| e.to_str());
        let ending = ending.unwrap_or_default().to_ascii_lowercase();
        if OTHERS.contains(&ending.as_str()) {
            return Err(Error::Data {
                path: path.into(),
                place: String::new(),
                why: format!("is a .{ending} file, expected JSONL or a text a line"),
                hint: "convert it, or send its texts through standard input: a text or an object a line"
                    .into(),
            });
        }
        let mut objects = ["jsonl", "ndjson", "json"].contains(&ending.as_str());
        let lines: Box<dyn BufRead> = if path == Path::new("-") {
            let mut input = BufReader::with_capacity(1 << 20, std::io::stdin().lock());
            objects = begins_with_object(input.fill_buf().map_err(io())?, text_field);
            Box::new(input)
        } else {
            let file = File::open(path).map_err(io())?;
            Box::new(BufReader::with_capacity(1 << 20, file))
        };
        Ok(Self {
            path: path.into(),
            lines,
            number: 0,
            fields: objects.then(|| (text_field.into(), id_field.into())),
            names: Vec::new(),
        })
    }

    /// Whether texts are objects, which have fields.
    #[must_use]
    pub fn has_fields(&self) -> bool {
        self.fields.is_some()
    }

    /// The first fields of the first object, where one was read.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The next of at most `most` texts; fewer at the end only.
    pub fn window(&mut self, most: usize) -> Result<Vec<Text>> {
        Iterator::take(self, most).collect()
    }

    fn wrong(&self, why: String, hint: &str) -> Error {
        Error::Data {
            path: self.path.clone(),
            place: format!("line {}: ", self.number),
            why,
            hint: hint.into(),
        }
    }

    fn object(&mut self, line: &str) -> Result<Text> {
        let Some((text, id)) = &self.fields else {
            let text = line.into();
            return Ok(Text { id: None, text });
        };
        let value: Value = serde_json::from_str(line)
            .map_err(|e| self.wrong(format!("broken JSON: {e}"), "give one object a line"))?;
        if let Some(object) = value.as_object().filter(|_| self.names.is_empty()) {
            let short = |name: &String| name.chars().take(40).collect();
            self.names = object.keys().take(8).map(short).collect();
        }
        let id = match &value[id.as_str()] {
            Value::Null => None,
            Value::String(id) => Some(id.clone()),
            other => Some(other.to_string()),
        };
        let text = value[text.as_str()].as_str().ok_or_else(|| {
            let why = format!("has no text in {text:?}");
            self.wrong(why, "name the field by --text-field")
        })?;
        let text = text.into();
        Ok(Text { id, text })
    }
}

/// Names of files that hold something else than lines.
const OTHERS: [&str; 8] = ["csv", "tsv", "parquet", "arrow", "gz", "zst", "xz", "bz2"];

/// Whether what there is of a first line is an object with the field, or may be the beginning of one.
fn begins_with_object(bytes: &[u8], text_field: &str) -> bool {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    match serde_json::from_slice::<Value>(line) {
        Ok(value) => value.get(text_field).is_some_and(Value::is_string),
        Err(e) => e.is_eof() && line.len() == bytes.len() && line.starts_with(b"{"),
    }
}

impl Iterator for Texts {
    type Item = Result<Text>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut line = Vec::new();
            self.number += 1;
            match self.lines.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(e) => return Some(Err(cloze_shard::Error::io(&self.path)(e).into())),
            }
            let end = line.strip_suffix(b"\n").unwrap_or(&line);
            let end = end.strip_suffix(b"\r").unwrap_or(end);
            let start = match self.number {
                1 => end.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(end),
                _ => end,
            };
            let line = match std::str::from_utf8(start) {
                Ok(line) => line,
                Err(e) => {
                    let why = format!("is no UTF-8 text ({e})");
                    return Some(Err(self.wrong(why, "convert the file to UTF-8")));
                }
            };
            // An empty line is a text of its own where lines are texts.
            if self.fields.is_some() && line.trim().is_empty() {
                continue;
            }
            return Some(self.object(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_from_texts() {
        let told = |text: &str| begins_with_object(text.as_bytes(), "text");
        assert!(told("{\"text\": \"a\"}\n"));
        assert!(told("\u{feff}{\"text\": \"a\", \"id\": 1}\nmore"));
        assert!(told("{\"text\": \"the rest has not come yet"));
        for plain in [
            "",
            "a\n",
            "{\"body\": \"a\"}\n",
            "{\"text\": 5}\n",
            "{ is a brace\n",
            "[1]\n",
        ] {
            assert!(!told(plain), "{plain:?}");
        }
    }

    #[test]
    fn files_that_hold_no_lines_are_refused() {
        for name in ["a.csv", "a.CSV", "a.jsonl.gz", "a.parquet"] {
            let error = Texts::open(Path::new(name), "text", "id").err().unwrap();
            assert!(error.to_string().contains("expected JSONL"), "{error}");
        }
    }
}
