//! Documents of a source, one at a time.

use std::collections::BTreeMap;

use cloze_shard::manifest::SourceRecord;
use serde_json::Value;

use super::bytes::{self, Known};
use super::columns::Columns;
use super::html::Page;
use super::resolve::{Format, Source};
use super::stream::{Lines, utf8};
use super::table::Table;
use super::{Found, InputError, InputOptions, LONGEST_TEXT, MOST, OnBadInput, TextForm};
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
    /// What else was kept of it: a JSON object.
    pub meta: Option<String>,
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
    progress: &'a dyn Progress,
    /// Once it is read.
    body: Option<Body<'a>>,
    index: u64,
    documents: u64,
    skipped: BTreeMap<String, u64>,
    /// The first of each kind that was passed over, in words.
    first_skipped: BTreeMap<String, String>,
    cut: u64,
    ended: bool,
}

/// What a source is read by.
enum Body<'a> {
    Text(Text<'a>),
    Json(Lines<'a>, Vec<u8>),
    Table(Table<'a>),
    Columns(Columns<'a>),
    Page(Page<'a>),
}

/// Plain text, on its way.
struct Text<'a> {
    lines: Lines<'a>,
    /// What was read last and is not part of a document yet.
    buffer: Vec<u8>,
}

impl<'a> SourceReader<'a> {
    /// Reads source number `number`, from the first document that is asked for on.
    #[must_use]
    pub fn open(
        source: &'a Source,
        number: u32,
        options: &'a InputOptions,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            source,
            number,
            options,
            progress,
            body: None,
            index: 0,
            documents: 0,
            skipped: BTreeMap::new(),
            first_skipped: BTreeMap::new(),
            cut: 0,
            ended: false,
        }
    }

    fn body(&self) -> Result<Body<'a>, InputError> {
        let (source, options, progress) = (self.source, self.options, self.progress);
        // A file without bytes holds no table either.
        let format = match source.bytes {
            0 if !source.is_stdin() => Format::Text,
            _ => source.format,
        };
        let lines = || Lines::open(source, options, progress);
        let table = |delimiter| Table::open(source, delimiter, options, progress);
        Ok(match format {
            Format::Text => Body::Text(Text {
                lines: lines()?,
                buffer: Vec::new(),
            }),
            Format::JsonLines => Body::Json(lines()?, Vec::new()),
            Format::Csv => Body::Table(table(b',')?),
            Format::Tsv => Body::Table(table(b'\t')?),
            Format::Parquet => Body::Columns(Columns::open(source, options, progress)?),
            Format::Html => Body::Page(Page::open(source, options, progress)?),
        })
    }

    /// The next document that holds text.
    pub fn next_document(&mut self) -> Result<Option<Document>, InputError> {
        while !self.ended {
            let found = match &mut self.body {
                None => match self.body() {
                    Ok(body) => {
                        self.body = Some(body);
                        continue;
                    }
                    Err(error) => {
                        self.ended = true;
                        Err(error)
                    }
                },
                Some(Body::Text(_)) => self.next_text(),
                Some(Body::Json(lines, buffer)) => {
                    next_json(self.source, self.options, lines, buffer)
                }
                Some(Body::Table(table)) => table.next(),
                Some(Body::Columns(columns)) => columns.next(),
                Some(Body::Page(page)) => page.next(),
            };
            match found {
                Ok(None) => self.ended = true,
                Ok(Some(found)) if found.text.trim().is_empty() => {
                    self.index += 1;
                    let place = format!(
                        "{}: document {}",
                        self.source.path.display(),
                        self.index - 1
                    );
                    self.skip("empty document", place);
                }
                Ok(Some(Found { id, meta, text })) => {
                    self.documents += 1;
                    self.index += 1;
                    return Ok(Some(Document {
                        source: self.number,
                        index: self.index - 1,
                        id,
                        meta,
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
        self.ended |= error.ends_source();
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

    /// A line that cannot be read is left out of its document; what a damaged archive gave up to there is kept.
    ///
    /// A document that grows too long is ended after a line, or in one that is as long by itself after a word.
    fn next_text(&mut self) -> Result<Option<Found>, InputError> {
        let mut text = String::new();
        let mut any = false;
        let prose = self.options.text_form != TextForm::SentencePerLine;
        while !self.ended {
            let Some(Body::Text(Text { lines, buffer })) = &mut self.body else {
                break;
            };
            // What was left of a line is a line of its own where the rest of it is there already.
            let whole = buffer.last() == Some(&b'\n') || (!buffer.is_empty() && !lines.goes_on());
            if !whole {
                let left = buffer.len();
                match lines.next(buffer, LONGEST_TEXT) {
                    Ok(true) => {}
                    Ok(false) if left > 0 => {}
                    Ok(false) => break,
                    Err(error) => {
                        buffer.clear();
                        self.pass_over(error)?;
                        break;
                    }
                }
            }
            any = true;
            let line = lines.line;
            let stop = if prose {
                buffer.iter().position(|&b| b == b'\x0c')
            } else {
                None
            };
            let ends = lines.goes_on() && buffer.len() >= LONGEST_TEXT && stop.is_none();
            let end = match stop {
                Some(at) => at,
                None if ends => word_end(buffer),
                None => buffer.len(),
            };
            let rest = buffer.split_off((end + usize::from(stop.is_some())).min(buffer.len()));
            let piece = std::mem::replace(buffer, rest);
            let piece = &piece[..end];
            match utf8(self.source, &lines.known, line, piece) {
                Ok(line) => text.push_str(line),
                Err(error) => self.pass_over(error)?,
            }
            if stop.is_some() {
                return Ok(Some(Found::of(text)));
            }
            if ends || (prose && text.len() >= LONGEST_TEXT) {
                self.cut += 1;
                return Ok(Some(Found::of(text)));
            }
            let blank = piece.trim_ascii().is_empty();
            if !prose && blank && !text.trim().is_empty() {
                return Ok(Some(Found::of(text)));
            }
        }
        // Blank lines after the last document are not a document.
        Ok((any && !(text.trim().is_empty() && self.index > 0)).then(|| Found::of(text)))
    }

    /// Documents that were cut because they are too long.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// The encoding that the source is in, where that is not UTF-8.
    pub fn encoding(&self) -> Option<&'static str> {
        self.known().and_then(|known| known.encoding.get())
    }

    fn known(&self) -> Option<&Known> {
        match self.body.as_ref()? {
            Body::Text(Text { lines, .. }) | Body::Json(lines, _) => Some(&lines.known),
            Body::Table(table) => Some(&table.known),
            Body::Page(page) => Some(&page.known),
            Body::Columns(columns) => columns.known.as_ref(),
        }
    }

    /// What the manifest says of the source. The rest of the file is digested if it was not read.
    pub fn finish(self) -> Result<SourceRecord, InputError> {
        let (bytes, blake3) = match self.known() {
            Some(known) => known.digest(self.source)?,
            None => bytes::digest(self.source)?,
        };
        Ok(SourceRecord {
            path: self.source.path.to_string_lossy().into_owned(),
            bytes,
            blake3,
            documents: self.documents,
            skipped: self.skipped,
        })
    }
}

/// The document of the next line that is not blank.
fn next_json(
    source: &Source,
    options: &InputOptions,
    lines: &mut Lines<'_>,
    buffer: &mut Vec<u8>,
) -> Result<Option<Found>, InputError> {
    loop {
        buffer.clear();
        if !lines.next(buffer, MOST)? {
            return Ok(None);
        }
        if lines.goes_on() && buffer.len() >= MOST {
            buffer.clear();
            buffer.shrink_to(1 << 20);
            lines.pass_over()?;
            return Err(InputError::TooLong {
                path: source.path.clone(),
                line: lines.line,
                rest: false,
            });
        }
        if !buffer.trim_ascii().is_empty() {
            break;
        }
    }
    let (path, line) = (&source.path, lines.line);
    utf8(source, &lines.known, line, buffer)?;
    let mut object: Value = serde_json::from_slice(buffer).map_err(|e| InputError::Json {
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
    let id = match &options.id_field {
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
    let meta = metadata(&options.meta_fields, |name| object.get(name).cloned());
    let name = &options.text_field;
    match object.get_mut(name).map(Value::take) {
        Some(Value::String(text)) => Ok(Some(Found { id, meta, text })),
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

impl Found {
    /// A text alone.
    pub(super) fn of(text: String) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }
}

/// The fields that there are, as one JSON object.
pub(super) fn metadata(
    names: &[String],
    mut value: impl FnMut(&str) -> Option<Value>,
) -> Option<String> {
    let kept = names.iter().filter_map(|n| Some((n.clone(), value(n)?)));
    let kept: serde_json::Map<String, Value> = kept.collect();
    (!kept.is_empty()).then(|| Value::Object(kept).to_string())
}

/// Where `text` is cut that goes on: after the last white space, else between characters.
fn word_end(text: &[u8]) -> usize {
    let space = text.iter().rposition(u8::is_ascii_whitespace);
    let character = || {
        let tail = text.len().saturating_sub(3);
        let begins = |&i: &usize| text[i] < 0x80 || text[i] >= 0xC0;
        (tail..text.len()).rev().find(begins).filter(|&i| i > 0)
    };
    space
        .map(|i| i + 1)
        .or_else(character)
        .unwrap_or(text.len())
}

/// serde_json's message without its "at line 1 column 5", which counts lines of the one line.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message
        .rsplit_once(" at line ")
        .map_or(message.clone(), |(why, _)| why.to_owned())
}
