//! Lines of a file, decompressed and checked; the file's bytes are counted and digested on their way.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::rc::Rc;

use super::InputError;
use super::resolve::{Compression, Source};
use crate::Progress;

const BUFFER: usize = 256 * 1024;

/// The bytes of a file as they lie on disk.
#[derive(Default)]
struct Raw {
    hasher: blake3::Hasher,
    bytes: u64,
    ended: bool,
}

struct RawReader<'a> {
    file: File,
    raw: Rc<RefCell<Raw>>,
    progress: &'a dyn Progress,
}

impl Read for RawReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        let mut raw = self.raw.borrow_mut();
        raw.hasher.update(&buffer[..n]);
        raw.bytes += n as u64;
        raw.ended |= n == 0 && !buffer.is_empty();
        self.progress.advance(n as u64);
        Ok(n)
    }
}

/// A source's lines.
pub struct Lines<'a> {
    source: &'a Source,
    reader: Box<dyn BufRead + 'a>,
    raw: Rc<RefCell<Raw>>,
    /// Lines read so far.
    pub line: u64,
}

impl<'a> Lines<'a> {
    pub fn open(source: &'a Source, progress: &'a dyn Progress) -> Result<Self, InputError> {
        let io = |e| InputError::Io {
            path: source.path.clone(),
            source: e,
        };
        let raw = Rc::new(RefCell::new(Raw::default()));
        let file = File::open(&source.path).map_err(io)?;
        let reader = BufReader::with_capacity(
            BUFFER,
            RawReader {
                file,
                raw: raw.clone(),
                progress,
            },
        );
        let reader: Box<dyn BufRead + 'a> = match source.compression {
            // An empty file is empty, whatever its name.
            _ if source.bytes == 0 => Box::new(reader),
            Compression::None => Box::new(reader),
            Compression::Gzip => Box::new(BufReader::with_capacity(
                BUFFER,
                flate2::bufread::MultiGzDecoder::new(reader),
            )),
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(reader).map_err(io)?;
                Box::new(BufReader::with_capacity(BUFFER, decoder))
            }
        };
        Ok(Self {
            source,
            reader,
            raw,
            line: 0,
        })
    }

    /// Reads the next line, its line end included, into `line`; false at the end.
    ///
    /// A byte order mark at the start of the file is dropped.
    pub fn next(&mut self, line: &mut Vec<u8>) -> Result<bool, InputError> {
        line.clear();
        self.reader
            .read_until(b'\n', line)
            .map_err(|e| self.error(e))?;
        if line.is_empty() {
            return Ok(false);
        }
        if self.line == 0 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        self.line += 1;
        Ok(true)
    }

    fn error(&self, error: std::io::Error) -> InputError {
        let path = self.source.path.clone();
        let (compression, line) = (self.source.compression, self.line);
        let of_the_system = error.raw_os_error().is_some() || compression == Compression::None;
        if of_the_system && error.kind() != ErrorKind::UnexpectedEof {
            return InputError::Io {
                path,
                source: error,
            };
        }
        let name = if compression == Compression::Gzip {
            "gzip"
        } else {
            "zstd"
        };
        let why = if error.kind() == ErrorKind::UnexpectedEof {
            format!("the {name} data ends too early: the file is cut short")
        } else {
            format!("the {name} data is damaged, or something else follows it ({error})")
        };
        InputError::Compressed { path, line, why }
    }

    /// Size and blake3 of the whole file as it lies on disk; what was not read yet is read.
    pub fn digest(self) -> Result<(u64, String), InputError> {
        let raw = self.raw.borrow();
        if raw.ended {
            return Ok((raw.bytes, raw.hasher.finalize().to_hex().to_string()));
        }
        match cloze_shard::atomic::digest(&self.source.path) {
            Ok(written) => Ok((written.bytes, written.blake3)),
            Err(cloze_shard::Error::Io { path, source }) => Err(InputError::Io { path, source }),
            Err(other) => Err(InputError::Io {
                path: self.source.path.clone(),
                source: std::io::Error::other(other),
            }),
        }
    }
}

/// `line` as text, or where it is not.
pub fn utf8<'l>(source: &Source, number: u64, line: &'l [u8]) -> Result<&'l str, InputError> {
    std::str::from_utf8(line).map_err(|e| InputError::Utf8 {
        path: source.path.clone(),
        line: number,
        byte: e.valid_up_to() + 1,
        value: line[e.valid_up_to()],
        looks: (number == 1).then(|| looks(line)).flatten(),
    })
}

/// What the first bytes of a file that is not UTF-8 say it is.
fn looks(first: &[u8]) -> Option<&'static str> {
    match first {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => {
            Some("it looks like UTF-16: convert it first (`iconv -f utf-16 -t utf-8 FILE`)")
        }
        [0x1F, 0x8B, ..] => Some("it looks like gzip: let its name end in .gz"),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Some("it looks like zstd: let its name end in .zst"),
        _ if first.iter().take(512).any(|&b| b == 0) => {
            Some("it looks like a binary file, not text: leave it out of the inputs")
        }
        _ => None,
    }
}
