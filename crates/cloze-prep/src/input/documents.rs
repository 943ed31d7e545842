//! Documents of a source, one at a time.

use std::collections::BTreeMap;

use cloze_shard::manifest::SourceRecord;
use serde_json::Value;

use super::resolve::{Format, Source};
use super::stream::{Lines, utf8};
use super::{InputError, InputOptions, OnBadInput, TextForm};
use crate::Progress;

/// A document as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Number of the source.
    pub source: u32,
    /// Number of the document in the source, from 0; documents that are passed over count.
    pub index: u64,
    /// What the corpus calls it.
    pub id: Option<String>,
    /// Its text; never blank.
    pub text: String,
}

impl Document {
    /// The hash id: xxh3-64 of its id where it has one, otherwise of its text without surrounding white space.
    #[must_use]
    pub fn doc(&self) -> i64 {
        let bytes = self
            .id
            .as_deref()
            .unwrap_or_else(|| self.text.trim())
            .as_bytes();
        xxhash_rust::xxh3::xxh3_64(bytes) as i64
    }
}

/// Reads a source's documents.
pub struct SourceReader<'a> {
    source: &'a Source,
    number: u32,
    options: &'a InputOptions,
    lines: Lines<'a>,
    index: u64,
    documents: u64,
    skipped: BTreeMap<String, u64>,
    /// The first of each kind that was passed over, in words.
    first_skipped: BTreeMap<String, String>,
    buffer: Vec<u8>,
    /// What follows a form feed in the line that was read last.
    rest: Option<Vec<u8>>,
    ended: bool,
}

impl<'a> SourceReader<'a> {
    /// Opens source number `number`.
    pub fn open(
        source: &'a Source,
        number: u32,
        options: &'a InputOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self, InputError> {
        Ok(Self {
            source,
            number,
            options,
            lines: Lines::open(source, progress)?,
            index: 0,
            documents: 0,
            skipped: BTreeMap::new(),
            first_skipped: BTreeMap::new(),
            buffer: Vec::new(),
            rest: None,
            ended: false,
        })
    }

    /// The next document that holds text.
    pub fn next_document(&mut self) -> Result<Option<Document>, InputError> {
        while !self.ended {
            let found = match self.source.format {
                Format::Text => self.next_text(),
                Format::JsonLines => self.next_json(),
            };
            match found {
                Ok(None) => self.ended = true,
                Ok(Some((_, text))) if text.trim().is_empty() => {
                    self.index += 1;
                    let place = format!(
                        "{}: document {}",
                        self.source.path.display(),
                        self.index - 1
                    );
                    self.skip("empty document", place);
                }
                Ok(Some((id, text))) => {
                    self.documents += 1;
                    self.index += 1;
                    return Ok(Some(Document {
                        source: self.number,
                        index: self.index - 1,
                        id,
                        text,
                    }));
                }
                Err(error) => {
                    self.pass_over(error)?;
                    self.index += 1;
                }
            }
        }
        Ok(None)
    }

    /// Counts what cannot be read, where that was asked for; otherwise it is the caller's error.
    fn pass_over(&mut self, error: InputError) -> Result<(), InputError> {
        let skip = self.options.on_bad_input == OnBadInput::Skip;
        let Some(reason) = error.reason().filter(|_| skip) else {
            return Err(error);
        };
        self.ended |= matches!(error, InputError::Compressed { .. });
        self.skip(reason, error.to_string());
        Ok(())
    }

    fn skip(&mut self, reason: &str, place: String) {
        *self.skipped.entry(reason.into()).or_default() += 1;
        self.first_skipped.entry(reason.into()).or_insert(place);
    }

    /// The first of each kind that was passed over, in words.
    pub fn first_skipped(&self) -> &BTreeMap<String, String> {
        &self.first_skipped
    }

    fn next_json(&mut self) -> Result<Option<(Option<String>, String)>, InputError> {
        loop {
            if !self.lines.next(&mut self.buffer)? {
                return Ok(None);
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        let (path, line) = (&self.source.path, self.lines.line);
        utf8(self.source, line, &self.buffer)?;
        let mut object: Value =
            serde_json::from_slice(&self.buffer).map_err(|e| InputError::Json {
                path: path.clone(),
                line,
                why: format!(
                    "broken JSON at column {}: {}",
                    e.column(),
                    without_place(&e)
                ),
            })?;
        let field = |why: String, hint: &str| InputError::Field {
            path: path.clone(),
            line,
            why,
            hint: hint.into(),
        };
        let Value::Object(object) = &mut object else {
            return Err(InputError::Json {
                path: path.clone(),
                line,
                why: "not a JSON object".into(),
            });
        };
        let id = match &self.options.id_field {
            None => None,
            Some(name) => match object.get(name) {
                Some(Value::String(id)) => Some(id.clone()),
                Some(Value::Number(id)) if !id.is_f64() => Some(id.to_string()),
                Some(_) => {
                    return Err(field(
                        format!("{name:?} is neither text nor an integer"),
                        "give another --id-field",
                    ));
                }
                None => {
                    return Err(field(
                        format!("no field {name:?}"),
                        "give another --id-field, or none",
                    ));
                }
            },
        };
        let name = &self.options.text_field;
        match object.get_mut(name).map(Value::take) {
            Some(Value::String(text)) => Ok(Some((id, text))),
            Some(_) => Err(field(
                format!("{name:?} is not text"),
                "give another --text-field",
            )),
            None => {
                let names: Vec<&str> = object.keys().take(8).map(String::as_str).collect();
                let why = format!("no field {name:?}; it has [{}]", names.join(", "));
                Err(field(why, "give another --text-field"))
            }
        }
    }

    /// A line that cannot be read is left out of its document; what a damaged archive gave up to there is kept.
    fn next_text(&mut self) -> Result<Option<(Option<String>, String)>, InputError> {
        let mut text = String::new();
        let mut any = false;
        while !self.ended {
            match self.rest.take() {
                Some(rest) => self.buffer = rest,
                None => match self.lines.next(&mut self.buffer) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        self.pass_over(error)?;
                        break;
                    }
                },
            }
            any = true;
            let prose = self.options.text_form != TextForm::SentencePerLine;
            let stop = if prose {
                self.buffer.iter().position(|&b| b == b'\x0c')
            } else {
                None
            };
            let end = stop.unwrap_or(self.buffer.len());
            match utf8(self.source, self.lines.line, &self.buffer[..end]) {
                Ok(line) => text.push_str(line),
                Err(error) => self.pass_over(error)?,
            }
            if let Some(at) = stop {
                let rest = self.buffer[at + 1..].to_vec();
                self.rest = (!rest.is_empty()).then_some(rest);
                return Ok(Some((None, text)));
            }
            let blank = self.buffer.trim_ascii().is_empty();
            if !prose && blank && !text.trim().is_empty() {
                return Ok(Some((None, text)));
            }
        }
        // Blank lines after the last document are not a document.
        Ok((any && !(text.trim().is_empty() && self.index > 0)).then_some((None, text)))
    }

    /// What the manifest says of the source. The rest of the file is digested if it was not read.
    pub fn finish(self) -> Result<SourceRecord, InputError> {
        let (bytes, blake3) = self.lines.digest()?;
        Ok(SourceRecord {
            path: self.source.path.to_string_lossy().into_owned(),
            bytes,
            blake3,
            documents: self.documents,
            skipped: self.skipped,
        })
    }
}

/// serde_json's message without its "at line 1 column 5", which counts lines of the one line.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message
        .rsplit_once(" at line ")
        .map_or(message.clone(), |(why, _)| why.to_owned())
}
