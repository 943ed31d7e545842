//! Documents of a source, one at a time.

use std::collections::BTreeMap;
use std::io::Read;

use cloze_shard::manifest::SourceRecord;

use super::bytes::{self, From, Known};
use super::columns::Columns;
use super::html::Page;
use super::json::{self, next_json};
use super::kinds;
use super::resolve::{Format, Source};
use super::stream::{Lines, utf8};
use super::table::Table;
use super::{Found, InputError, InputOptions, LONGEST_TEXT, OnBadInput, TextForm};
use crate::Progress;

/// Bytes of standard input that say what it is.
const PEEK: usize = 64 << 10;
/// Bytes of a text that say whether it is one.
const HEAD: usize = 4 << 10;

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
    from: From<'a>,
    /// Once it is read.
    body: Option<Body<'a>>,
    index: u64,
    documents: u64,
    skipped: BTreeMap<String, u64>,
    /// The first of each kind that was passed over, in words.
    first_skipped: BTreeMap<String, String>,
    cut: u64,
    /// What plain text in truth seems to be.
    misread: Option<String>,
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
            from: None,
            body: None,
            index: 0,
            documents: 0,
            skipped: BTreeMap::new(),
            first_skipped: BTreeMap::new(),
            cut: 0,
            misread: None,
            ended: false,
        }
    }

    /// As [`SourceReader::open`], where `from` gives the bytes of the source; of Parquet it is the file that does.
    #[must_use]
    pub fn of(
        source: &'a Source,
        number: u32,
        options: &'a InputOptions,
        progress: &'a dyn Progress,
        from: Box<dyn Read + 'a>,
    ) -> Self {
        Self {
            from: Some(from),
            ..Self::open(source, number, options, progress)
        }
    }

    fn body(&mut self) -> Result<Body<'a>, InputError> {
        let (source, options, progress) = (self.source, self.options, self.progress);
        // A file without bytes holds no table either.
        let format = match source.bytes {
            0 if !source.is_stream() => Format::Text,
            _ => source.format,
        };
        let from = self.from.take();
        let table = |from, delimiter| Table::open(source, delimiter, options, progress, from);
        Ok(match format {
            Format::Text => {
                let mut lines = Lines::open(source, options, progress, from)?;
                // What has no name can only be looked at.
                if source.has_no_kind(options) {
                    let first = lines.first(PEEK)?;
                    let what = match source.is_stdin() {
                        true => "standard input".to_owned(),
                        false => source.path.display().to_string(),
                    };
                    if let Some(names) = json::begins(&first) {
                        progress.say(&format!(
                            "{what} begins with a JSON object of [{}]: read as JSONL; --input-format text reads it as text",
                            names.join(", ")
                        ));
                        return Ok(Body::Json(lines, Vec::new()));
                    }
                    if json::is_pretty(&first) {
                        return Err(InputError::Header {
                            path: source.path.clone(),
                            why: "it begins as JSON over several lines".into(),
                            hint: "give an object a line: `jq -c . FILE` makes one of an object, `jq -c '.[]' FILE` of an array; --input-format text reads it as text".into(),
                        });
                    }
                }
                let first = lines.ahead(HEAD);
                kinds::refuse(source, options, &first)?;
                self.misread = kinds::misread(options, &first);
                let buffer = Vec::new();
                Body::Text(Text { lines, buffer })
            }
            Format::JsonLines => {
                Body::Json(Lines::open(source, options, progress, from)?, Vec::new())
            }
            Format::Csv => Body::Table(table(from, b',')?),
            Format::Tsv => Body::Table(table(from, b'\t')?),
            Format::Parquet => Body::Columns(Columns::open(source, options, progress)?),
            Format::Html => Body::Page(Page::open(source, options, progress, from)?),
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
                        // An empty one is none: all that have it would be one document.
                        id: id.filter(|id| !id.is_empty()),
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
            if ends || text.len() >= LONGEST_TEXT {
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

    /// Where it is read as plain text and begins as something else does: what is to be said of it. Known once the first document was asked for.
    pub fn misread(&self) -> Option<String> {
        let quoted = match &self.body {
            Some(Body::Table(table)) => table.quoted(),
            _ => None,
        };
        let misread = self.misread.as_deref().or(quoted)?;
        Some(format!("{} {misread}", self.source.path.display()))
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

    /// What was read of the source as it lies, and its blake3: all documents up to here were in it, and what stands behind it changes none of them. `None` where that
    /// is not so, or cannot be told.
    pub fn read_up_to(&self) -> Option<(u64, String)> {
        self.known().and_then(|known| known.read_up_to(self.source))
    }

    /// What the manifest says of the source. The rest of the file is digested if it was not read.
    pub fn finish(self) -> Result<SourceRecord, InputError> {
        let (bytes, blake3) = match self.known() {
            Some(known) => known.digest(self.source)?,
            // Nothing is known of what came through a pipe up to there, and it does not come again.
            None if self.source.is_stream() => (0, blake3::hash(&[]).to_hex().to_string()),
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

impl Found {
    /// A text alone.
    pub(super) fn of(text: String) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }
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
