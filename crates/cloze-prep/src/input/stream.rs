//! Lines of a source.

use std::io::{BufRead, ErrorKind};

use memchr::memchr;

use super::bytes::{self, From, Known};
use super::kinds;
use super::resolve::Source;
use super::{InputError, InputOptions};
use crate::Progress;

/// A source's lines.
pub struct Lines<'a> {
    source: &'a Source,
    reader: Box<dyn BufRead + 'a>,
    pub known: Known,
    /// Lines begun so far.
    pub line: u64,
    /// Whether the line that was read last goes on.
    goes_on: bool,
    /// What came of looking ahead instead of bytes.
    failed: Option<std::io::Error>,
}

impl<'a> Lines<'a> {
    pub fn open(
        source: &'a Source,
        options: &InputOptions,
        progress: &'a dyn Progress,
        from: From<'a>,
    ) -> Result<Self, InputError> {
        let (reader, known) = bytes::open(source, options.encoding, progress, from)?;
        Ok(Self {
            source,
            reader,
            known,
            line: 0,
            goes_on: false,
            failed: None,
        })
    }

    /// As [`Lines::first`]; that there is none to be had is said by whoever reads on.
    pub fn ahead(&mut self, most: usize) -> Vec<u8> {
        let reader = std::mem::replace(&mut self.reader, Box::new(std::io::empty()));
        match bytes::peek(reader, most) {
            Ok((first, reader)) => {
                self.reader = reader;
                first
            }
            Err(e) => {
                self.failed = Some(e);
                Vec::new()
            }
        }
    }

    /// Up to `most` of the first bytes, which are read again.
    pub fn first(&mut self, most: usize) -> Result<Vec<u8>, InputError> {
        let reader = std::mem::replace(&mut self.reader, Box::new(std::io::empty()));
        let (first, reader) =
            bytes::peek(reader, most).map_err(|e| self.known.error(self.source, self.line, e))?;
        self.reader = reader;
        Ok(first)
    }

    /// Reads on into `line`, up to the end of the line, which is included, or until it holds `most` bytes; false at the end.
    pub fn next(&mut self, line: &mut Vec<u8>, most: usize) -> Result<bool, InputError> {
        let before = line.len();
        let left = most.saturating_sub(before).max(1);
        let read = match self.failed.take() {
            Some(failed) => Err(failed),
            None => read_line(&mut *self.reader, line, left),
        };
        read.map_err(|e| self.known.error(self.source, self.line, e))?;
        if line.len() == before {
            return Ok(false);
        }
        self.line += u64::from(!self.goes_on);
        self.goes_on = line.last() != Some(&b'\n');
        Ok(true)
    }

    /// Whether what was read last is no whole line: it goes on, or the source ends in it.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Passes over the rest of the line.
    pub fn pass_over(&mut self) -> Result<(), InputError> {
        let mut part = Vec::new();
        while self.goes_on {
            part.clear();
            if !self.next(&mut part, 1 << 20)? {
                self.goes_on = false;
            }
        }
        Ok(())
    }
}

/// Appends up to the end of a line, which is included, and no more than `left` bytes.
fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>, mut left: usize) -> std::io::Result<()> {
    while left > 0 {
        let there = match reader.fill_buf() {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            there => there?,
        };
        let there = &there[..there.len().min(left)];
        let end = memchr(b'\n', there);
        let taken = end.map_or(there.len(), |end| end + 1);
        line.extend_from_slice(&there[..taken]);
        reader.consume(taken);
        left -= taken;
        if end.is_some() || taken == 0 {
            break;
        }
    }
    Ok(())
}

/// `line` as text, or where it is not.
pub fn utf8<'l>(
    source: &Source,
    known: &Known,
    number: u64,
    line: &'l [u8],
) -> Result<&'l str, InputError> {
    simdutf8::compat::from_utf8(line).map_err(|e| {
        let at = e.valid_up_to();
        let why = match known.encoding.get() {
            Some(name) => format!("not {name}"),
            None => format!(
                "byte {} of the line: not UTF-8 (byte 0x{:02x})",
                at + 1,
                line[at]
            ),
        };
        InputError::Utf8 {
            path: source.path.clone(),
            line: number,
            why,
            looks: (number == 1)
                .then(|| kinds::looks(line, source.is_stream()))
                .flatten(),
        }
    })
}
