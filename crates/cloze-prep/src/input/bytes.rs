//! The bytes of a source: counted and digested as they lie on disk, decompressed, and as UTF-8.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read, Write};
use std::rc::Rc;

use super::InputError;
use super::decode::{self, Encoding};
use super::members::{Members, Other};
use super::resolve::{Compression, Source};
use crate::disk::{self, megabytes};
use crate::{Progress, Silent};

const BUFFER: usize = 256 * 1024;

/// What decompression may give before it is looked at how much that is, and how often what was read it may be then.
const FREE: u64 = 1 << 30;
const RATIO: u64 = 200;

/// What gives the bytes of a source, where it is neither its file nor its object.
pub type From<'a> = Option<Box<dyn Read + 'a>>;

/// The bytes of a file as they lie on disk.
#[derive(Default)]
struct Raw {
    hasher: blake3::Hasher,
    bytes: u64,
    ended: bool,
    /// Why they could not be read, whatever those who read them make of that.
    failed: Option<InputError>,
}

struct RawReader<'a> {
    source: &'a Source,
    from: Box<dyn Read + 'a>,
    raw: Rc<RefCell<Raw>>,
    progress: &'a dyn Progress,
}

impl<'a> RawReader<'a> {
    fn open(
        source: &'a Source,
        progress: &'a dyn Progress,
        from: From<'a>,
    ) -> Result<Self, InputError> {
        let io = |e| InputError::Io {
            path: source.path.clone(),
            source: e,
        };
        let from: Box<dyn Read + 'a> = match (from, &source.object) {
            (Some(from), _) => from,
            (None, Some(object)) => object.open(progress),
            (None, None) if source.is_stdin() => Box::new(std::io::stdin()),
            (None, None) => Box::new(File::open(&source.path).map_err(io)?),
        };
        Ok(Self {
            source,
            from,
            raw: Rc::default(),
            progress,
        })
    }

    /// Keeps why it failed.
    fn failed(&self, error: std::io::Error) -> std::io::Error {
        let kind = error.kind();
        if kind == ErrorKind::Interrupted {
            return error;
        }
        let io = |source| InputError::Io {
            path: self.source.path.clone(),
            source,
        };
        self.raw.borrow_mut().failed = Some(error.downcast().unwrap_or_else(io));
        kind.into()
    }
}

impl Read for RawReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buffer).map_err(|e| self.failed(e))?;
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
    let reader = RawReader::open(source, progress, from)?;
    let raw = reader.raw.clone();
    let reader = BufReader::with_capacity(BUFFER, reader);
    // An empty file is empty, whatever its name.
    let empty = source.bytes == 0 && !source.is_stream();
    let compression = match empty {
        true => Compression::None,
        false => source.compression,
    };
    let known = Known {
        raw: raw.clone(),
        compression,
        encoding: Rc::default(),
    };
    if compression == Compression::None {
        let reader: Box<dyn BufRead + 'a> = Box::new(reader);
        let reader = decode::open(reader, encoding, source.format, &known);
        let reader = reader.map_err(|e| known.error(source, 0, e))?;
        return Ok((reader, known));
    }
    let guard = Guard {
        from: Members::new(compression, reader),
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
        if let Some(failed) = self.raw.borrow_mut().failed.take() {
            return failed;
        }
        let path = source.path.clone();
        if self.compression == Compression::None {
            return InputError::Io {
                path,
                source: error,
            };
        }
        let name = self.compression.name();
        let file = path.display();
        let inner = error.get_ref();
        let (why, hint) = match inner.and_then(|e| e.downcast_ref::<Other>()) {
            _ if inner.is_some_and(|e| e.is::<Grows>()) => (
                error.to_string(),
                "if that is meant, decompress it and give what comes out; if not, leave it out"
                    .into(),
            ),
            Some(Other::All) => (
                format!("it is no {name} data, though its name says so"),
                format!("give it a name that says what it is: `file {file}` may know"),
            ),
            Some(Other::Behind(byte)) => (
                format!(
                    "its {name} data is whole and ends after byte {byte}, and something else follows it"
                ),
                format!(
                    "if that is not to be read, `head -c {byte} {file}` gives the file without it; if it is, the files were put together wrongly"
                ),
            ),
            None if error.kind() == ErrorKind::UnexpectedEof => (
                format!("the {name} data ends too early: the file is cut short"),
                "copy or compress the file again".into(),
            ),
            None => (
                format!("the {name} data is damaged ({error})"),
                "copy or compress the file again".into(),
            ),
        };
        InputError::Compressed {
            path,
            line,
            why,
            hint,
        }
    }

    /// What was read so far, and its blake3, where that was from the beginning on and the end was not met: there, what ended the last document is what comes next.
    pub fn read_up_to(&self, source: &Source) -> Option<(u64, String)> {
        let raw = self.raw.borrow();
        let tells = !raw.ended && raw.bytes > 0 && source.object.is_none() && !source.is_stream();
        tells.then(|| (raw.bytes, raw.hasher.finalize().to_hex().to_string()))
    }

    /// Size and blake3 of the whole file as it lies on disk; what was not read yet is read.
    pub fn digest(&self, source: &Source) -> Result<(u64, String), InputError> {
        let raw = self.raw.borrow();
        if raw.ended || source.is_stream() {
            return Ok((raw.bytes, raw.hasher.finalize().to_hex().to_string()));
        }
        digest(source)
    }
}

/// Size and blake3 of a file, an object or standard input, which is read for it.
pub fn digest(source: &Source) -> Result<(u64, String), InputError> {
    if source.object.is_some() || source.is_stdin() {
        let (_, known) = copy(source, &mut std::io::sink(), &Silent)?;
        return known.digest(source);
    }
    match cloze_shard::atomic::digest(&source.path) {
        Ok(written) => Ok((written.bytes, written.blake3)),
        Err(cloze_shard::Error::Io { path, source }) => Err(InputError::Io { path, source }),
        Err(other) => Err(InputError::Io {
            path: source.path.clone(),
            source: std::io::Error::other(other),
        }),
    }
}

/// Reads all of `source`, as it lies, into `to`.
fn copy<W: Write>(
    source: &Source,
    mut to: W,
    progress: &dyn Progress,
) -> Result<(W, Known), InputError> {
    let mut reader = RawReader::open(source, progress, None)?;
    let known = Known {
        raw: reader.raw.clone(),
        compression: Compression::None,
        encoding: Rc::default(),
    };
    // What can fail beside reading is writing.
    let fail = |e| match known.raw.borrow_mut().failed.take() {
        Some(failed) => failed,
        None => InputError::Io {
            path: std::env::temp_dir(),
            source: e,
        },
    };
    std::io::copy(&mut reader, &mut to).map_err(fail)?;
    Ok((to, known))
}

/// A copy of an object in an unnamed temporary file, for what cannot be read from its beginning to its end.
pub fn spool(source: &Source, progress: &dyn Progress) -> Result<(File, Known), InputError> {
    let folder = std::env::temp_dir();
    if let Some(free) = disk::free(&folder).filter(|&free| free < source.bytes) {
        return Err(InputError::Remote {
            path: source.path.clone(),
            byte: None,
            why: format!(
                "it is copied to {} before it is read: {} are needed there, {} are free",
                folder.display(),
                megabytes(source.bytes),
                megabytes(free)
            ),
            hint: "let TMPDIR name a folder with more room".into(),
        });
    }
    let file = tempfile::tempfile_in(&folder).map_err(|e| InputError::Io {
        path: folder,
        source: e,
    })?;
    copy(source, file, progress)
}

/// Fails, once.
struct Fails(Option<std::io::Error>);

impl Read for Fails {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// Up to `most` bytes of `reader`, and a reader that gives them again. Where some were read, a failure comes after them.
pub fn peek<'a>(
    mut reader: Box<dyn BufRead + 'a>,
    most: usize,
) -> std::io::Result<(Vec<u8>, Box<dyn BufRead + 'a>)> {
    let mut first = Vec::new();
    let failed = match reader.by_ref().take(most as u64).read_to_end(&mut first) {
        Err(e) if first.is_empty() => return Err(e),
        read => read.err(),
    };
    let reader = match failed {
        None => reader,
        failed => Box::new(BufReader::with_capacity(1, Fails(failed))),
    };
    let again = Cursor::new(first.clone()).chain(reader);
    Ok((first, Box::new(again)))
}
