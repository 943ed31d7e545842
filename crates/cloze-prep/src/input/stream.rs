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
    /// Bytes of the line that was lent: they are passed over when more is asked for.
    lent: usize,
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
            lent: 0,
            failed: None,
        })
    }

    /// As [`Lines::first`]; that there is none to be had is said by whoever reads on.
    pub fn ahead(&mut self, most: usize) -> Vec<u8> {
        self.take_back();
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
        self.take_back();
        let reader = std::mem::replace(&mut self.reader, Box::new(std::io::empty()));
        let (first, reader) =
            bytes::peek(reader, most).map_err(|e| self.known.error(self.source, self.line, e))?;
        self.reader = reader;
        Ok(first)
    }

    /// The next line, its end included, or the first `most` bytes of it: where it lies if it is whole there, else in `line`. `None` at the end.
    pub fn lend<'l>(
        &'l mut self,
        line: &'l mut Vec<u8>,
        most: usize,
    ) -> Result<Option<Lent<'l>>, InputError> {
        self.take_back();
        let there = match self.failed {
            // `next` says so.
            Some(_) => &[],
            None => match self.reader.fill_buf() {
                Ok(there) => &there[..there.len().min(most)],
                Err(error) => {
                    self.failed = (error.kind() != ErrorKind::Interrupted).then_some(error);
                    &[]
                }
            },
        };
        if let Some(end) = memchr(b'\n', there) {
            self.line += u64::from(!self.goes_on);
            (self.lent, self.goes_on) = (end + 1, false);
            // What is there is not read again.
            let there = self.reader.fill_buf();
            let there = there.map_err(|e| self.known.error(self.source, self.line, e))?;
            return Ok(Some(Lent {
                bytes: &there[..self.lent],
                number: self.line,
                known: &self.known,
                goes_on: false,
            }));
        }
        line.clear();
        Ok(self.next(line, most)?.then_some(Lent {
            bytes: line,
            number: self.line,
            known: &self.known,
            goes_on: self.goes_on,
        }))
    }

    fn take_back(&mut self) {
        self.reader.consume(std::mem::take(&mut self.lent));
    }

    /// Reads on into `line`, up to the end of the line, which is included, or until it holds `most` bytes; false at the end.
    pub fn next(&mut self, line: &mut Vec<u8>, most: usize) -> Result<bool, InputError> {
        self.take_back();
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

/// A line that was lent.
pub struct Lent<'l> {
    pub bytes: &'l [u8],
    /// Its number, from 1.
    pub number: u64,
    pub known: &'l Known,
    /// Whether it goes on, or the source ends in it.
    pub goes_on: bool,
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

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use proptest::prelude::*;

    use super::super::InputPlan;
    use super::*;
    use crate::{Config, Silent};

    /// Bytes that come a few at a time, with interruptions, and an error after them where one is asked for.
    struct Slow<'d> {
        bytes: &'d [u8],
        calls: usize,
        fails: bool,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(3) {
                return Err(ErrorKind::Interrupted.into());
            }
            if self.bytes.is_empty() && std::mem::take(&mut self.fails) {
                return Err(std::io::Error::other("the disk is gone"));
            }
            self.bytes.read(buffer)
        }
    }

    /// A line, its number, and whether it goes on; or why there is none.
    type Shown = Result<(Vec<u8>, u64, bool), String>;

    proptest! {
        /// Whatever the reader holds at a time.
        #[test]
        fn lines_are_lent_as_they_are_read(
            text in "([a-z]{0,30}\n|\n|[a-z]{30,90}\n){0,12}[a-z]{0,9}",
            capacity in 1usize..80,
            most in 1usize..70,
            fails: bool,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.jsonl");
            std::fs::write(&path, "{}\n").unwrap();
            let options = InputOptions::of(&Config::default());
            let plan = InputPlan::resolve(&[path], &options).unwrap();
            let open = || {
                let mut lines = Lines::open(&plan.sources[0], &options, &Silent, None).unwrap();
                let slow = Slow { bytes: text.as_bytes(), calls: 0, fails };
                lines.reader = Box::new(BufReader::with_capacity(capacity, slow));
                lines
            };
            let (mut read, mut lent) = (open(), open());
            let mut by_reading: Vec<Shown> = Vec::new();
            let mut line = Vec::new();
            loop {
                line.clear();
                match read.next(&mut line, most) {
                    Ok(false) => break,
                    Ok(true) => by_reading.push(Ok((line.clone(), read.line, read.goes_on()))),
                    // What was read of the line is lost with it, however it came.
                    Err(error) => by_reading.push(Err(error.to_string())),
                }
            }
            let mut by_lending: Vec<Shown> = Vec::new();
            loop {
                match lent.lend(&mut line, most) {
                    Ok(None) => break,
                    Ok(Some(line)) => by_lending.push(Ok((line.bytes.to_vec(), line.number, line.goes_on))),
                    Err(error) => by_lending.push(Err(error.to_string())),
                }
            }
            prop_assert_eq!(by_lending, by_reading);
        }
    }
}
