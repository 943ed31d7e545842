//! Documents of bytes that are all there, by the definitions of the formats.

use cloze_prep::input::{Document, Encoding, Format, InputOptions, OnBadInput, TextForm};
use serde_json::{Map, Value};

/// The documents, and whether an error follows them. `None` where this does not know: pages, guessed encodings, and what is wrong in an encoding.
pub fn read(bytes: &[u8], format: Format, options: &InputOptions) -> Option<(Vec<Document>, bool)> {
    let mut reading = Reading {
        options,
        documents: Vec::new(),
        index: 0,
    };
    if bytes.is_empty() {
        return Some((reading.documents, false));
    }
    let Encoding::Named(named) = options.encoding else {
        return None;
    };
    let (encoding, mark) = encoding_rs::Encoding::for_bom(bytes).unwrap_or((named, 0));
    let bytes = &bytes[mark..];
    let decoded;
    let bytes = match encoding == encoding_rs::UTF_8 {
        true => bytes,
        false => {
            decoded = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
            decoded.as_bytes()
        }
    };
    let whole = match format {
        Format::Text => reading.text(bytes),
        Format::JsonLines => reading.json(bytes),
        Format::Tsv => reading.tsv(bytes),
        // What becomes of rows that were joined is not told here.
        Format::Csv if is_misquoted(bytes) => return None,
        Format::Csv => reading.csv(bytes),
        Format::Html | Format::Parquet => return None,
    };
    Some((reading.documents, whole.is_none()))
}

/// An id, metadata and a text, or what cannot be read.
type Found = Option<(Option<String>, Option<String>, String)>;

/// Whether a quoted cell is not closed, or goes on behind its closing quote.
fn is_misquoted(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let find = |rest: &[u8], any: &[u8]| rest.iter().position(|b| any.contains(b));
    while !rest.is_empty() {
        if let [b'"', inside @ ..] = rest {
            rest = inside;
            loop {
                let Some(quote) = find(rest, b"\"") else {
                    return true;
                };
                rest = &rest[quote + 1..];
                match rest {
                    [b'"', more @ ..] => rest = more,
                    [] | [b',' | b'\r' | b'\n', ..] => break,
                    _ => return true,
                }
            }
        }
        let end = find(rest, b",\r\n").map_or(rest.len(), |end| end + 1);
        rest = &rest[end..];
    }
    false
}

struct Reading<'a> {
    options: &'a InputOptions,
    documents: Vec<Document>,
    index: u64,
}

impl Reading<'_> {
    fn skips(&self) -> bool {
        self.options.on_bad_input == OnBadInput::Skip
    }

    /// Notes a document; nothing where reading ends with it.
    fn tell(&mut self, found: Found) -> Option<()> {
        let index = self.index;
        match found {
            Some((id, meta, text)) if !text.trim().is_empty() => {
                self.documents.push(Document {
                    source: 3,
                    index,
                    id: id.filter(|id| !id.is_empty()),
                    meta,
                    text,
                });
            }
            Some(_) => {}
            None if self.skips() => {}
            None => return None,
        }
        self.index += 1;
        Some(())
    }

    fn text(&mut self, bytes: &[u8]) -> Option<()> {
        let by_line = self.options.text_form == TextForm::SentencePerLine;
        let (mut text, mut any) = (String::new(), false);
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            let mut pieces = line.split(|&b| b == b'\x0c' && !by_line).peekable();
            while let Some(piece) = pieces.next() {
                let last = pieces.peek().is_none();
                if last && piece.is_empty() {
                    break;
                }
                any = true;
                match std::str::from_utf8(piece) {
                    Ok(piece) => text.push_str(piece),
                    Err(_) if self.skips() => {}
                    Err(_) => return None,
                }
                let blank = piece.trim_ascii().is_empty() && !text.trim().is_empty();
                if !last || (by_line && blank) {
                    self.tell(Some((None, None, std::mem::take(&mut text))))?;
                    any = false;
                }
            }
        }
        match any && (!text.trim().is_empty() || self.index == 0) {
            true => self.tell(Some((None, None, text))),
            false => Some(()),
        }
    }

    fn json(&mut self, bytes: &[u8]) -> Option<()> {
        for line in bytes.split(|&b| b == b'\n') {
            if !line.trim_ascii().is_empty() {
                let found = self.object(line);
                self.tell(found)?;
            }
        }
        Some(())
    }

    fn object(&self, line: &[u8]) -> Found {
        let text = std::str::from_utf8(line).ok()?;
        let Ok(Value::Object(object)) = serde_json::from_str(text) else {
            return None;
        };
        let id = match &self.options.id_field {
            None => None,
            Some(name) => match object.get(name)? {
                Value::String(id) => Some(id.clone()),
                Value::Number(n) if n.is_i64() || n.is_u64() => Some(n.to_string()),
                _ => return None,
            },
        };
        let meta = self.meta(|name| object.get(name).cloned());
        let text = object.get("text")?.as_str()?.to_owned();
        Some((id, meta, text))
    }

    fn meta(&self, value: impl Fn(&str) -> Option<Value>) -> Option<String> {
        let names = self.options.meta_fields.iter();
        let kept: Map<String, Value> = names.filter_map(|n| Some((n.clone(), value(n)?))).collect();
        (!kept.is_empty()).then(|| Value::Object(kept).to_string())
    }

    /// Lines end with a line feed, a carriage return or both, and blank ones are none.
    fn tsv(&mut self, bytes: &[u8]) -> Option<()> {
        let lines = bytes
            .split(|&b| b == b'\n' || b == b'\r')
            .filter(|line| !line.is_empty());
        let mut rows = lines.map(|line| Some(line.split(|&b| b == b'\t').collect::<Vec<_>>()));
        let header = rows.next().flatten();
        self.table(header, rows)
    }

    /// By the library, whole.
    fn csv(&mut self, bytes: &[u8]) -> Option<()> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(bytes);
        let rows: Vec<csv::ByteRecord> = reader.byte_records().filter_map(Result::ok).collect();
        let mut rows = rows.iter().map(|row| Some(row.iter().collect()));
        let header = rows.next().flatten();
        self.table(header, rows)
    }

    fn table<'b>(
        &mut self,
        header: Option<Vec<&[u8]>>,
        rows: impl Iterator<Item = Option<Vec<&'b [u8]>>>,
    ) -> Option<()> {
        let Some(header) = header else {
            return Some(());
        };
        let column = |name: &str| {
            let mut places = (0..header.len()).filter(|&i| header[i] == name.as_bytes());
            places.next().filter(|_| places.next().is_none())
        };
        let text = column("text")?;
        let id = match &self.options.id_field {
            Some(name) => Some(column(name)?),
            None => None,
        };
        for name in &self.options.meta_fields {
            column(name)?;
        }
        for row in rows {
            let found = (|| {
                let row = row.filter(|row| row.len() == header.len())?;
                let cell = |place: usize| std::str::from_utf8(row[place]).ok().map(str::to_owned);
                let id = match id {
                    Some(place) => Some(cell(place)?),
                    None => None,
                };
                for name in &self.options.meta_fields {
                    cell(column(name)?)?;
                }
                let meta = self.meta(|name| Some(cell(column(name)?)?.into()));
                Some((id, meta, cell(text)?))
            })();
            self.tell(found)?;
        }
        Some(())
    }
}
