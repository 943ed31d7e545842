//! HTML: the text of a page, which is a document.

use std::io::Read;

use html2text::render::TrivialDecorator;

use super::bytes::{self, From, Known};
use super::resolve::Source;
use super::stream::utf8;
use super::{Found, InputError, InputOptions, MOST};
use crate::Progress;

/// Columns of a page that is not to be broken into lines.
const WIDE: usize = 1 << 24;

/// A page.
pub struct Page<'a> {
    source: &'a Source,
    reader: Option<Box<dyn std::io::BufRead + 'a>>,
    pub known: Known,
}

impl<'a> Page<'a> {
    pub fn open(
        source: &'a Source,
        options: &InputOptions,
        progress: &'a dyn Progress,
        from: From<'a>,
    ) -> Result<Self, InputError> {
        let (reader, known) = bytes::open(source, options.encoding, progress, from)?;
        Ok(Self {
            source,
            reader: Some(reader),
            known,
        })
    }

    pub fn next(&mut self) -> Result<Option<Found>, InputError> {
        let Some(reader) = self.reader.take() else {
            return Ok(None);
        };
        let mut page = Vec::new();
        let read = reader.take(MOST as u64 + 1).read_to_end(&mut page);
        read.map_err(|e| self.known.error(self.source, 0, e))?;
        if page.len() > MOST {
            return Err(InputError::TooLong {
                path: self.source.path.clone(),
                line: 1,
                rest: true,
            });
        }
        utf8_of_page(self.source, &self.known, &page)?;
        let text = html2text::config::with_decorator(TrivialDecorator::new())
            .allow_width_overflow()
            .no_table_borders()
            .raw_mode(true)
            .string_from_read(page.as_slice(), WIDE);
        let text = text.map_err(|e| InputError::Row {
            path: self.source.path.clone(),
            unit: "page",
            number: 1,
            why: e.to_string(),
            hint: "convert the page to text",
        })?;
        Ok(Some(Found::of(text)))
    }
}

fn utf8_of_page(source: &Source, known: &Known, page: &[u8]) -> Result<(), InputError> {
    for (line, number) in page.split_inclusive(|&b| b == b'\n').zip(1..) {
        utf8(source, known, number, line)?;
    }
    Ok(())
}
