//! Compressed data: members, frames or streams, one after another up to the end of the file.

use std::io::{BufRead, Error, ErrorKind, Read, Result};

use super::resolve::Compression;

/// KiB that decompression of xz may take: it takes 64 MiB where nobody asked for more.
const XZ_MEMORY: u32 = 1 << 20;

/// Two to this power is the largest window of zstd, in bytes: what `--long=31` makes, the most there is. Less is taken where nobody asked for more.
const ZSTD_WINDOW: u32 = 31;

/// What is there instead of compressed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Other {
    /// From the beginning.
    #[error("not compressed so")]
    All,
    /// Behind the first so many bytes, which are whole.
    #[error("something else behind byte {0}")]
    Behind(u64),
}

/// Counts what is taken of it.
struct Counted<R> {
    from: R,
    taken: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.from.read(buffer)?;
        self.taken += n as u64;
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.taken += n as u64;
        self.from.consume(n);
    }
}

/// One of the members, on its way.
enum Member<R: BufRead> {
    Gzip(Box<flate2::bufread::GzDecoder<R>>),
    Zstd(zstd::stream::read::Decoder<'static, R>),
    Xz(Box<lzma_rust2::XzReader<R>>),
    Bzip2(bzip2::bufread::BzDecoder<R>),
}

impl<R: BufRead> Member<R> {
    fn begin(compression: Compression, from: R) -> Result<Self> {
        Ok(match compression {
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::GzDecoder::new(from))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(from)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW)?;
                Self::Zstd(decoder)
            }
            Compression::Xz => {
                let reader = lzma_rust2::XzReader::new_mem_limit(from, false, XZ_MEMORY);
                Self::Xz(Box::new(reader))
            }
            Compression::Bzip2 => Self::Bzip2(bzip2::bufread::BzDecoder::new(from)),
            Compression::None => return Err(ErrorKind::Unsupported.into()),
        })
    }

    fn end(self) -> R {
        match self {
            Self::Gzip(member) => member.into_inner(),
            Self::Zstd(member) => member.finish(),
            Self::Xz(member) => member.into_inner(),
            Self::Bzip2(member) => member.into_inner(),
        }
    }
}

impl<R: BufRead> Read for Member<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Gzip(member) => member.read(buffer),
            Self::Zstd(member) => member.read(buffer),
            Self::Xz(member) => member.read(buffer),
            Self::Bzip2(member) => member.read(buffer),
        }
    }
}

enum State<R: BufRead> {
    Between(Counted<R>),
    In(Member<Counted<R>>),
    Ended,
}

/// What is in all members. Zero bytes behind one are passed over, as tapes and programs that write whole blocks leave them; anything else is an error.
pub struct Members<R: BufRead> {
    compression: Compression,
    state: State<R>,
    /// Bytes of the members that ended.
    whole: u64,
    /// Whether the member that was begun gave anything.
    gave: bool,
    /// Whether nothing but a member begins as it did.
    surely: bool,
}

impl<R: BufRead> Members<R> {
    pub fn new(compression: Compression, from: R) -> Self {
        Self {
            compression,
            state: State::Between(Counted { from, taken: 0 }),
            whole: 0,
            gave: false,
            surely: false,
        }
    }

    /// Begins the next member, if there is one.
    fn begin(&mut self, mut from: Counted<R>) -> Result<State<R>> {
        loop {
            let there = match from.fill_buf() {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                there => there?,
            };
            let Some(zeros) = there.iter().position(|&b| b != 0) else {
                match there.len() {
                    0 => return Ok(State::Ended),
                    _ if self.whole == 0 => return Err(Error::other(Other::All)),
                    n => from.consume(n),
                }
                continue;
            };
            let there = &there[zeros..];
            if !begins(self.compression, there) || (self.whole == 0 && zeros > 0) {
                return Err(self.other());
            }
            self.surely = surely_begins(self.compression, there);
            from.consume(zeros);
            self.gave = false;
            return Ok(State::In(Member::begin(self.compression, from)?));
        }
    }

    fn other(&self) -> Error {
        Error::other(match self.whole {
            0 => Other::All,
            whole => Other::Behind(whole),
        })
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Ok(0),
                State::Between(from) => self.begin(from)?,
                State::In(mut member) => match member.read(buffer) {
                    Ok(0) => {
                        let from = member.end();
                        self.whole = from.taken;
                        State::Between(from)
                    }
                    Ok(n) => {
                        self.gave = true;
                        self.state = State::In(member);
                        return Ok(n);
                    }
                    Err(e) if e.kind() == ErrorKind::Interrupted => {
                        self.state = State::In(member);
                        return Err(e);
                    }
                    // What only begins as a member does.
                    Err(e) if self.whole > 0 && !self.gave && !self.surely && !is_end(&e) => {
                        return Err(self.other());
                    }
                    Err(e) => return Err(e),
                },
            };
        }
    }
}

fn is_end(error: &Error) -> bool {
    error.kind() == ErrorKind::UnexpectedEof
}

/// Whether `there` begins as hardly anything but a member does: one that gives nothing then is damaged.
fn surely_begins(compression: Compression, there: &[u8]) -> bool {
    match compression {
        // Deflate, and no flag that does not exist.
        Compression::Gzip => matches!(there, [0x1F, 0x8B, 8, flags, ..] if flags & 0xE0 == 0),
        Compression::Zstd => there.len() >= 4,
        Compression::Xz => there.len() >= 6,
        // The block's magic, which are digits of π.
        Compression::Bzip2 => there.get(4..10) == Some(b"\x31\x41\x59\x26\x53\x59"),
        Compression::None => false,
    }
}

/// Whether `there` begins as a member does, as far as it goes.
fn begins(compression: Compression, there: &[u8]) -> bool {
    let has = |magic: &[u8]| there.iter().zip(magic).all(|(a, b)| a == b);
    match compression {
        Compression::Gzip => has(b"\x1F\x8B"),
        // Frames, those of older versions, and those that are to be skipped.
        Compression::Zstd => match there {
            [0x1E | 0x22..=0x28, rest @ ..] => {
                rest.iter().zip(b"\xB5\x2F\xFD").all(|(a, b)| a == b)
            }
            [0x50..=0x5F, rest @ ..] => rest.iter().zip(b"\x2A\x4D\x18").all(|(a, b)| a == b),
            _ => false,
        },
        Compression::Xz => has(b"\xFD7zXZ\x00"),
        Compression::Bzip2 => has(b"BZh"),
        Compression::None => true,
    }
}
