//! The bytes of a source: counted and digested as they lie on disk, decompressed, and as UTF-8.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read};
use std::rc::Rc;

use super::InputError;
use super::decode::{self, Encoding};
use super::resolve::{Compression, Source};
use crate::Progress;

const BUFFER: usize = 256 * 1024;

/// What decompression may give before it is looked at how much that is, and how often what was read it may be then.
const FREE: u64 = 1 << 30;
const RATIO: u64 = 200;
/// KiB that decompression of xz may take: it takes 64 MiB where nobody asked for more.
const XZ_MEMORY: u32 = 1 << 20;

/// What gives the bytes of a source, where it is not its file.
pub type From<'a> = Option<Box<dyn Read + 'a>>;

/// The bytes of a file as they lie on disk.
#[derive(Default)]
struct Raw {
    hasher: blake3::Hasher,
    bytes: u64,
    ended: bool,
}

struct RawReader<'a> {
    from: Box<dyn Read + 'a>,
    raw: Rc<RefCell<Raw>>,
    progress: &'a dyn Progress,
}

impl Read for RawReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buffer)?;
        let mut raw = self.raw.borrow_mut();
        raw.hasher.update(&buffer[..n]);
        raw.bytes += n as u64;
        raw.ended |= n == 0 && !buffer.is_empty();
        self.progress.advance(n as u64);
        Ok(n)
    }
}

/// Says that a file grows beyond all measure when it is decompressed.
#[derive(Debug, thiserror::Error)]
#[error("it grows to more than {RATIO} times its size, beyond {} MiB: stopped", FREE >> 20)]
struct Grows;

/// Stops a decompression bomb.
struct Guard<R> {
    from: R,
    raw: Rc<RefCell<Raw>>,
    given: u64,
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.given += n as u64;
        if self.given > FREE && self.given / RATIO > self.raw.borrow().bytes {
            return Err(std::io::Error::other(Grows));
        }
        Ok(n)
    }
}

/// What is known of a source's bytes once it is read.
#[derive(Clone)]
pub struct Known {
    raw: Rc<RefCell<Raw>>,
    compression: Compression,
    /// The encoding that is not UTF-8, by its name.
    pub encoding: Rc<Cell<Option<&'static str>>>,
}

/// The bytes of `source`, decompressed, as UTF-8: what is wrong in another encoding becomes a byte that is wrong in UTF-8.
///
/// They come from the file itself, or `from` elsewhere.
pub fn open<'a>(
    source: &'a Source,
    encoding: Encoding,
    progress: &'a dyn Progress,
    from: From<'a>,
) -> Result<(Box<dyn BufRead + 'a>, Known), InputError> {
    let io = |e| InputError::Io {
        path: source.path.clone(),
        source: e,
    };
    let raw = Rc::new(RefCell::new(Raw::default()));
    let from: Box<dyn Read + 'a> = match from {
        Some(from) => from,
        None if source.is_stdin() => Box::new(std::io::stdin()),
        None => Box::new(File::open(&source.path).map_err(io)?),
    };
    let reader = BufReader::with_capacity(
        BUFFER,
        RawReader {
            from,
            raw: raw.clone(),
            progress,
        },
    );
    // An empty file is empty, whatever its name.
    let empty = source.bytes == 0 && !source.is_stdin();
    let compression = match empty {
        true => Compression::None,
        false => source.compression,
    };
    let known = Known {
        raw: raw.clone(),
        compression,
        encoding: Rc::default(),
    };
    let inflated: Box<dyn Read + 'a> = match compression {
        Compression::None => {
            let reader: Box<dyn BufRead + 'a> = Box::new(reader);
            let reader = decode::open(reader, encoding, source.format, &known).map_err(io)?;
            return Ok((reader, known));
        }
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            Box::new(zstd::stream::read::Decoder::with_buffer(reader).map_err(io)?)
        }
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
    };
    let guard = Guard {
        from: inflated,
        raw,
        given: 0,
    };
    let reader = Box::new(BufReader::with_capacity(BUFFER, guard));
    let reader = decode::open(reader, encoding, source.format, &known)
        .map_err(|e| known.error(source, 0, e))?;
    Ok((reader, known))
}

impl Known {
    /// Why reading failed, after so many lines.
    pub fn error(&self, source: &Source, line: u64, error: std::io::Error) -> InputError {
        let path = source.path.clone();
        let of_the_system = error.raw_os_error().is_some() || self.compression == Compression::None;
        if of_the_system && error.kind() != ErrorKind::UnexpectedEof {
            return InputError::Io {
                path,
                source: error,
            };
        }
        let name = self.compression.name();
        let why = if error.get_ref().is_some_and(|e| e.is::<Grows>()) {
            error.to_string()
        } else if error.kind() == ErrorKind::UnexpectedEof {
            format!("the {name} data ends too early: the file is cut short")
        } else {
            format!("the {name} data is damaged, or something else follows it ({error})")
        };
        InputError::Compressed { path, line, why }
    }

    /// Size and blake3 of the whole file as it lies on disk; what was not read yet is read.
    pub fn digest(&self, source: &Source) -> Result<(u64, String), InputError> {
        let raw = self.raw.borrow();
        if raw.ended || source.is_stdin() {
            return Ok((raw.bytes, raw.hasher.finalize().to_hex().to_string()));
        }
        digest(source)
    }
}

/// Size and blake3 of a file.
pub fn digest(source: &Source) -> Result<(u64, String), InputError> {
    match cloze_shard::atomic::digest(&source.path) {
        Ok(written) => Ok((written.bytes, written.blake3)),
        Err(cloze_shard::Error::Io { path, source }) => Err(InputError::Io { path, source }),
        Err(other) => Err(InputError::Io {
            path: source.path.clone(),
            source: std::io::Error::other(other),
        }),
    }
}

/// Up to `most` bytes of `reader`, and a reader that gives them again.
pub fn peek<'a>(
    mut reader: Box<dyn BufRead + 'a>,
    most: usize,
) -> std::io::Result<(Vec<u8>, Box<dyn BufRead + 'a>)> {
    let mut first = Vec::new();
    reader.by_ref().take(most as u64).read_to_end(&mut first)?;
    let again = Cursor::new(first.clone()).chain(reader);
    Ok((first, Box::new(again)))
}
