//! Encodings: UTF-8, what a byte order mark says, what was asked for, or what the bytes look like.

use std::io::{BufRead, BufReader, Read};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Decoder, DecoderResult, UTF_8, UTF_16BE, UTF_16LE};

use super::bytes::{Known, peek};
use super::resolve::Format;

/// Bytes that a guess is made of.
const LOOKED_AT: usize = 1 << 20;
/// Bytes of a page in which it may say what it is encoded in (HTML, section 13.2.3.2).
const PAGE_HEAD: usize = 1_024;

/// How bytes are text. A byte order mark has the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As this one says; a page may say otherwise in its head.
    Named(&'static encoding_rs::Encoding),
    /// As they look like, source by source.
    Detect,
}

impl Encoding {
    /// `detect`, or a label of the WHATWG Encoding Standard such as `utf-8`, `latin1`, `shift_jis`.
    #[must_use]
    pub fn of(label: &str) -> Option<Self> {
        match label {
            "detect" => Some(Self::Detect),
            // It gives one character for any text.
            "replacement" => None,
            label => {
                encoding_rs::Encoding::for_label_no_replacement(label.as_bytes()).map(Self::Named)
            }
        }
    }
}

/// `reader` as UTF-8, without a byte order mark.
pub fn open<'a>(
    reader: Box<dyn BufRead + 'a>,
    encoding: Encoding,
    format: Format,
    known: &Known,
) -> std::io::Result<Box<dyn BufRead + 'a>> {
    if format == Format::Parquet {
        return Ok(reader);
    }
    let looks = match (encoding, format) {
        (Encoding::Detect, _) => LOOKED_AT,
        (Encoding::Named(_), Format::Html) => PAGE_HEAD,
        (Encoding::Named(_), _) => 3,
    };
    let (first, mut reader) = peek(reader, looks)?;
    let (encoding, mark) = match encoding_rs::Encoding::for_bom(&first) {
        Some(marked) => marked,
        None => (without_mark(encoding, format, &first), 0),
    };
    reader
        .by_ref()
        .take(mark as u64)
        .read_to_end(&mut Vec::new())?;
    if encoding == UTF_8 {
        return Ok(reader);
    }
    known.encoding.set(Some(encoding.name()));
    let decoded = Decoded {
        reader,
        decoder: encoding.new_decoder_without_bom_handling(),
        ended: false,
        text: Vec::new(),
        given: 0,
    };
    Ok(Box::new(BufReader::with_capacity(64 * 1024, decoded)))
}

fn without_mark(
    encoding: Encoding,
    format: Format,
    first: &[u8],
) -> &'static encoding_rs::Encoding {
    if let Some(said) = (format == Format::Html)
        .then(|| said_by_page(first))
        .flatten()
    {
        return said;
    }
    match encoding {
        Encoding::Named(encoding) => encoding,
        // A character may be cut by the end of what is looked at.
        Encoding::Detect if is_utf8(first) => UTF_8,
        Encoding::Detect => {
            let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
            detector.feed(first, first.len() < LOOKED_AT);
            detector.guess(None, Utf8Detection::Allow)
        }
    }
}

fn is_utf8(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none() && bytes.len() == LOOKED_AT,
    }
}

/// What a page says of itself: `charset=` in its head.
fn said_by_page(first: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let head = first[..first.len().min(PAGE_HEAD)].to_ascii_lowercase();
    let at = head.windows(8).position(|w| w == b"charset=")? + 8;
    let rest = head[at..].trim_ascii_start();
    let rest = rest
        .strip_prefix(b"\"")
        .or(rest.strip_prefix(b"'"))
        .unwrap_or(rest);
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_:.".contains(b);
    let label = &rest[..rest.iter().position(|b| !plain(b)).unwrap_or(rest.len())];
    let said = encoding_rs::Encoding::for_label_no_replacement(label)?;
    // It was read as bytes of one unit each, so it cannot be one of two.
    Some(if said == UTF_16LE || said == UTF_16BE {
        UTF_8
    } else {
        said
    })
}

/// Decodes; what is wrong becomes 0xFF, which is wrong in UTF-8.
struct Decoded<'a> {
    reader: Box<dyn BufRead + 'a>,
    decoder: Decoder,
    ended: bool,
    text: Vec<u8>,
    given: usize,
}

impl Decoded<'_> {
    fn fill(&mut self) -> std::io::Result<()> {
        self.given = 0;
        self.text.clear();
        while self.text.is_empty() && !self.ended {
            let input = self.reader.fill_buf()?;
            let last = input.is_empty();
            let input = &input[..input.len().min(64 * 1024)];
            let most = self
                .decoder
                .max_utf8_buffer_length_without_replacement(input.len());
            self.text.resize(most.unwrap_or(1 << 18).max(64), 0);
            let (result, read, written) =
                self.decoder
                    .decode_to_utf8_without_replacement(input, &mut self.text, last);
            self.text.truncate(written);
            self.reader.consume(read);
            match result {
                DecoderResult::Malformed(_, _) => self.text.push(0xFF),
                DecoderResult::InputEmpty => self.ended = last,
                DecoderResult::OutputFull => {}
            }
        }
        Ok(())
    }
}

impl Read for Decoded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.given == self.text.len() {
            self.fill()?;
        }
        let n = buffer.len().min(self.text.len() - self.given);
        buffer[..n].copy_from_slice(&self.text[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }
}
