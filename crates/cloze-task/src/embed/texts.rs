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

/// Reads texts: an object a line where the name ends in `.jsonl` or `.json`, else a text a line.
#[allow(missing_debug_implementations)]
pub struct Texts {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    number: u64,
    /// Fields of text and id; `None` for plain lines.
    fields: Option<(String, String)>,
}

impl Texts {
    /// Opens `path`; `-` is standard input, of plain lines.
    pub fn open(path: &Path, text_field: &str, id_field: &str) -> Result<Self> {
        let lines: Box<dyn BufRead> = if path == Path::new("-") {
            Box::new(std::io::stdin().lock())
        } else {
            let file = File::open(path).map_err(cloze_shard::Error::io(path))?;
            Box::new(BufReader::with_capacity(1 << 20, file))
        };
        let named = path.extension().and_then(|e| e.to_str());
        let objects = named.is_some_and(|e| e == "jsonl" || e == "json");
        Ok(Self {
            path: path.into(),
            lines,
            number: 0,
            fields: objects.then(|| (text_field.into(), id_field.into())),
        })
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

    fn object(&self, line: &str) -> Result<Text> {
        let Some((text, id)) = &self.fields else {
            let text = line.into();
            return Ok(Text { id: None, text });
        };
        let value: Value = serde_json::from_str(line)
            .map_err(|e| self.wrong(format!("broken JSON: {e}"), "give one object a line"))?;
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
