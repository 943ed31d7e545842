//! Quotes of CSV (RFC 4180), looked at as they go by: the crate `csv` takes the end of a file for the end of a quoted cell, and text behind a closing
//! quote for a part of the cell. Either way rows that nobody meant to join become one cell, and nothing is said.

use std::collections::VecDeque;
use std::io::{Read, Result};

use memchr::{memchr, memchr3};

/// Where a cell's quotes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misquoted {
    /// The line that the cell begins in, from 1.
    pub line: u64,
    /// The byte after which it is known, from 0.
    pub byte: u64,
    /// Whether the quote is never closed; else, more text follows the closing one.
    pub is_open: bool,
}

impl std::fmt::Display for Misquoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.is_open {
            true => "has a cell whose quote is not closed before the end of the file",
            false => "has a cell that goes on behind its closing quote",
        })
    }
}

/// What to do about a [`Misquoted`] cell.
pub const HINT: &str = "close the quote, and write a quote within a quoted cell twice (\"\"); tab-separated text (.tsv) has no quotes";

/// Passes bytes on, and knows of each cell whether its quotes are right.
#[derive(Debug)]
pub struct Quotes<R> {
    reader: R,
    /// Between cells; `None` where nothing is quoted.
    delimiter: Option<u8>,
    place: Place,
    /// The line at hand, from 1, and bytes before what is read next.
    line: u64,
    byte: u64,
    /// Where the last quoted cell begins.
    opened: u64,
    found: VecDeque<Misquoted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before a cell.
    Start,
    /// In a cell without quotes around it.
    Plain,
    /// In a quoted cell.
    Quoted,
    /// Behind a quote in a quoted cell.
    Behind,
    /// Behind all.
    End,
}

/// The byte order mark of UTF-8.
const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

impl<R: Read> Quotes<R> {
    /// Looks at what `reader` gives, whose cells are parted by `delimiter`; with `None`, at nothing.
    pub fn new(reader: R, delimiter: Option<u8>) -> Self {
        Self {
            reader,
            delimiter,
            place: Place::Start,
            line: 1,
            byte: 0,
            opened: 1,
            found: VecDeque::new(),
        }
    }

    /// The first misquoted cell before `byte`, if there is one that was not told yet.
    pub fn found_before(&mut self, byte: u64) -> Option<Misquoted> {
        let known = self.found.partition_point(|m| m.byte < byte);
        self.found.drain(..known).next()
    }

    fn look(&mut self, bytes: &[u8]) {
        let Some(delimiter) = self.delimiter else {
            return;
        };
        let mut at = 0;
        while let Some(&next) = bytes.get(at) {
            let rest = &bytes[at..];
            let is_end = next == delimiter || next == b'\n' || next == b'\r';
            // How many bytes are of one kind.
            let n = match self.place {
                Place::Quoted => memchr(b'"', rest).unwrap_or(rest.len()),
                Place::Plain => memchr3(delimiter, b'\n', b'\r', rest).unwrap_or(rest.len()),
                _ => 0,
            };
            if n > 0 {
                self.pass(&rest[..n]);
                at += n;
                continue;
            }
            self.place = match self.place {
                Place::Quoted => Place::Behind,
                Place::Behind if next == b'"' => Place::Quoted,
                Place::Start if next == b'"' => {
                    self.opened = self.line;
                    Place::Quoted
                }
                Place::Start if MARK.get(self.byte as usize) == Some(&next) => Place::Start,
                _ if is_end => Place::Start,
                Place::Behind => {
                    self.found.push_back(Misquoted {
                        line: self.opened,
                        byte: self.byte,
                        is_open: false,
                    });
                    Place::Plain
                }
                _ => Place::Plain,
            };
            self.pass(&rest[..1]);
            at += 1;
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.byte += bytes.len() as u64;
        self.line += bytes.iter().filter(|&&b| b == b'\n').count() as u64;
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.reader.read(buffer)?;
        self.look(&buffer[..n]);
        if n == 0 && !buffer.is_empty() {
            if self.place == Place::Quoted {
                self.found.push_back(Misquoted {
                    line: self.opened,
                    // The last byte is of that cell.
                    byte: self.byte.saturating_sub(1),
                    is_open: true,
                });
            }
            self.place = Place::End;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads `text` by pieces of `step` bytes; the lines of cells that are misquoted, and whether each is open.
    fn found(text: &[u8], step: usize) -> Vec<(u64, bool)> {
        let mut quotes = Quotes::new(text, Some(b','));
        let mut buffer = vec![0; step];
        while quotes.read(&mut buffer).unwrap() > 0 {}
        assert_eq!(quotes.read(&mut buffer).unwrap(), 0, "at the end again");
        let all = quotes.found.iter();
        all.map(|m| (m.line, m.is_open)).collect()
    }

    #[test]
    fn what_is_wrong_is_found_by_its_line() {
        for (text, expected) in [
            ("a,b\n1,2\n", &[][..]),
            ("\"a\",b\r\n\"1\n2\",\"x\"\"y\"\r\n", &[]),
            ("\u{feff}\"a,b\",c\n1,2\n", &[]),
            // A quote within is one like others.
            ("a,b\n5\" pipe,x\n", &[]),
            ("a,b\n1,\"\"\n\"\"\n", &[]),
            ("a,b\n1,\"2\n3,4\n", &[(2, true)]),
            ("a,b\n1,\"", &[(2, true)]),
            ("a,b\n\n\"1\" ,2\n", &[(3, false)]),
            // Quote opens in the second line and closes where another was to open.
            ("a,b\n\"1,2\n3,\"4\",5\n6,\"7", &[(2, false), (4, true)]),
        ] {
            for step in [1, 2, 3, 7, 1000] {
                assert_eq!(found(text.as_bytes(), step), expected, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn where_nothing_is_quoted_nothing_is_wrong() {
        let mut quotes = Quotes::new(&b"a\t\"b"[..], None);
        let mut text = Vec::new();
        quotes.read_to_end(&mut text).unwrap();
        assert_eq!(
            (text.as_slice(), quotes.found_before(u64::MAX)),
            (&b"a\t\"b"[..], None)
        );
    }

    #[test]
    fn it_is_told_with_the_record_that_it_is_in() {
        let text = "a,b\n1,2\n\"x\"y,3\n4,\"5\n6,7\n";
        let mut reader = csv::Reader::from_reader(Quotes::new(text.as_bytes(), Some(b',')));
        let mut record = csv::ByteRecord::new();
        let mut told = Vec::new();
        while reader.read_byte_record(&mut record).unwrap() {
            let end = reader.position().byte();
            told.push(
                reader
                    .get_mut()
                    .found_before(end)
                    .map(|m| (m.line, m.is_open)),
            );
        }
        assert_eq!(told, [None, Some((3, false)), Some((4, true))]);
    }

    proptest! {
        /// What a writer of CSV writes has nothing wrong, whatever is in the cells.
        #[test]
        fn what_is_written_well_is_well(rows in prop::collection::vec(prop::collection::vec("[a\",\r\n é]{0,5}", 3), 1..9), step in 1usize..40) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let text = writer.into_inner().unwrap();
            prop_assert_eq!(found(&text, step), []);
        }
    }
}
