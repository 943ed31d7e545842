//! CSV (RFC 4180) and TSV (IANA text/tab-separated-values: nothing is quoted), both with a header.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::rc::Rc;

use cloze_text::quotes::{self, Quotes};
use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::bytes::{self, From, Known};
use super::json::metadata;
use super::resolve::Source;
use super::stream::utf8;
use super::{Found, InputError, InputOptions, MOST};
use crate::Progress;

/// Bytes that a cell takes beside its own: a row of nothing but commas takes memory, too.
const CELL: u64 = 16;

/// Fails where a row takes more than [`MOST`] bytes.
struct Capped<'a> {
    reader: Box<dyn BufRead + 'a>,
    delimiter: u8,
    since: Rc<Cell<u64>>,
}

impl Read for Capped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.since.get() > MOST as u64 {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let n = self.reader.read(buffer)?;
        let read = &buffer[..n];
        let cells = read.iter().filter(|&&b| b == self.delimiter).count() as u64;
        self.since.set(self.since.get() + n as u64 + CELL * cells);
        Ok(n)
    }
}

/// Rows of a table.
pub struct Table<'a> {
    source: &'a Source,
    reader: Reader<Quotes<Capped<'a>>>,
    pub known: Known,
    since: Rc<Cell<u64>>,
    text: usize,
    id: Option<usize>,
    meta: Vec<(String, usize)>,
    record: ByteRecord,
    name: &'static str,
    /// Whether a text stood between quotation marks that are part of it.
    is_quoted: bool,
}

impl<'a> Table<'a> {
    pub fn open(
        source: &'a Source,
        delimiter: u8,
        options: &InputOptions,
        progress: &'a dyn Progress,
        from: From<'a>,
    ) -> Result<Self, InputError> {
        let (reader, known) = bytes::open(source, options.encoding, progress, from)?;
        let since = Rc::new(Cell::new(0));
        let capped = Capped {
            reader,
            delimiter,
            since: since.clone(),
        };
        let is_quoted = delimiter == b',';
        let reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .quoting(is_quoted)
            .from_reader(Quotes::new(capped, is_quoted.then_some(delimiter)));
        let mut table = Self {
            source,
            reader,
            known,
            since,
            text: 0,
            id: None,
            meta: Vec::new(),
            record: ByteRecord::new(),
            name: if delimiter == b',' { "CSV" } else { "TSV" },
            is_quoted: false,
        };
        let header = table.reader.byte_headers().cloned();
        let header = header.map_err(|e| table.broken(e))?;
        let column = |name: &str, option: &str| {
            let mut places = (0..).zip(&header).filter(|(_, n)| *n == name.as_bytes());
            match (places.next(), places.next()) {
                (Some((place, _)), None) => Ok(place),
                (Some(_), Some(_)) => Err(table.no_column(format!("two columns {name:?}"), option)),
                (None, _) => {
                    let names = header.iter().take(8).map(String::from_utf8_lossy);
                    let names = names.collect::<Vec<_>>().join(", ");
                    let why = format!("no column {name:?}; it has [{names}]");
                    Err(match other_delimiter(&header, name) {
                        Some(other) => table.other_delimiter(why, other),
                        None => table.no_column(why, option),
                    })
                }
            }
        };
        // A file without a line has no header either.
        if !header.is_empty() {
            let id = options.id_field.as_deref();
            let id = id.map(|name| column(name, "--id-field")).transpose()?;
            let meta = options.meta_fields.iter();
            let meta = meta.map(|n| Ok((n.clone(), column(n, "--meta-field")?)));
            let meta = meta.collect::<Result<_, _>>()?;
            let text = column(&options.text_field, "--text-field")?;
            (table.text, table.id, table.meta) = (text, id, meta);
        }
        Ok(table)
    }

    fn no_column(&self, why: String, option: &str) -> InputError {
        InputError::Header {
            path: self.source.path.clone(),
            why,
            hint: format!("give another {option}; the first line names the columns"),
        }
    }

    /// Of a table whose cells another character separates.
    fn other_delimiter(&self, why: String, other: char) -> InputError {
        let (said, hint) = match other {
            '\t' => (
                "tabs",
                "--input-format tsv reads it (nothing is quoted there)",
            ),
            ',' => ("commas", "--input-format csv reads it"),
            _ => (
                "semicolons",
                "write it with commas: python3 -c 'import csv, sys; csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, delimiter=\";\"))' < OLD.csv > NEW.csv",
            ),
        };
        InputError::Header {
            path: self.source.path.clone(),
            why: format!(
                "{why}: {said} are between its cells, and not what {} has there",
                self.name
            ),
            hint: hint.into(),
        }
    }

    pub fn next(&mut self) -> Result<Option<Found>, InputError> {
        self.since.set(0);
        let is_there = self.reader.read_byte_record(&mut self.record);
        let end = self.reader.position().byte();
        if let Some(bad) = self.reader.get_mut().found_before(end) {
            return Err(InputError::Row {
                path: self.source.path.clone(),
                unit: "line",
                number: bad.line,
                why: format!(
                    "{bad}; what is read as one row ends in line {}",
                    self.reader.position().line()
                ),
                hint: quotes::HINT,
                reason: match bad.is_open {
                    true => "quote not closed, rest lost",
                    false => "rows joined by a quote",
                },
            });
        }
        match is_there {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(e) => return Err(self.broken(e)),
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let cell = |place: usize| {
            let cell = self.record.get(place).unwrap_or_default();
            utf8(self.source, &self.known, line, cell).map(str::to_owned)
        };
        let id = self.id.map(cell).transpose()?;
        let cells = self
            .meta
            .iter()
            .map(|(name, place)| Ok((name.as_str(), cell(*place)?)));
        let cells: HashMap<&str, String> = cells.collect::<Result<_, _>>()?;
        let names: Vec<String> = self.meta.iter().map(|(name, _)| name.clone()).collect();
        let meta = metadata(&names, |name| cells.get(name).map(|c| c.as_str().into()));
        let text = cell(self.text)?;
        self.is_quoted |=
            self.name == "TSV" && text.len() > 1 && text.starts_with('"') && text.ends_with('"');
        Ok(Some(Found { id, meta, text }))
    }

    /// What is to be said where texts have quotation marks around them that may be those of another format.
    pub fn quoted(&self) -> Option<&'static str> {
        self.is_quoted.then_some(
            "has texts between double quotation marks, which TSV takes for a part of them: if they are not, write it as CSV (with commas), as JSONL or as Parquet",
        )
    }

    fn broken(&self, error: csv::Error) -> InputError {
        let path = self.source.path.clone();
        let line = error.position().map_or(1, csv::Position::line);
        let row = |why: String, hint: &'static str| InputError::Row {
            path: path.clone(),
            unit: "line",
            number: line,
            why,
            hint,
            reason: "broken row",
        };
        match error.into_kind() {
            ErrorKind::Io(e) if e.kind() == std::io::ErrorKind::FileTooLarge => {
                let line = self.reader.position().line();
                InputError::TooLong {
                    path,
                    line,
                    rest: true,
                }
            }
            ErrorKind::Io(e) => self.known.error(self.source, line, e),
            ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => row(
                format!("has {len} cells, the header has {expected_len}"),
                "put cells that hold the delimiter or a line break between double quotes (CSV), or give JSONL",
            ),
            kind => row(format!("broken {}: {kind:?}", self.name), "give JSONL"),
        }
    }
}

/// Another character that separates the names of `header`, which was read as one cell; `name` is one of them.
fn other_delimiter(header: &ByteRecord, name: &str) -> Option<char> {
    let cell = header.get(0).filter(|_| header.len() == 1)?;
    let has = |delimiter: &char| {
        let mut names = cell.split(|&b| b == *delimiter as u8);
        names.any(|n| {
            let n = n.trim_ascii();
            let n = n.strip_prefix(b"\"").unwrap_or(n);
            n.strip_suffix(b"\"").unwrap_or(n) == name.as_bytes()
        })
    };
    [';', '\t', ','].into_iter().find(has)
}
