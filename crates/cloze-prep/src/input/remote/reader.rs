//! The bytes of an object, one after another, for those who wait for them.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc::{Receiver, channel};

use super::Object;
use super::fetch::{Piece, What};
use super::store::Engine;
use super::why::Why;
use crate::Progress;

/// Breaks of one object that are told of.
const TOLD: u32 = 5;

impl Object {
    /// What it is called: its address, without what may be secret.
    pub fn path(&self) -> &Path {
        &self.what.path
    }

    /// Its address, as it was given.
    pub fn given(&self) -> &str {
        self.what.address.given()
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.what.bytes
    }

    /// What the server calls these bytes.
    pub fn etag(&self) -> Option<&str> {
        self.what.etag.as_deref()
    }

    /// Nanoseconds since 1970; 0 where the server does not say.
    pub fn modified(&self) -> u64 {
        self.what.modified
    }

    /// Whether the server says that it is a page.
    pub fn is_page(&self) -> bool {
        self.what.page
    }

    /// Its bytes, which are fetched a little ahead.
    pub fn open<'a>(&self, progress: &'a dyn Progress) -> Box<dyn Read + 'a> {
        let (to, pieces) = channel(self.what.manner.queue);
        if self.what.bytes > 0 {
            self.engine.start(self.what.clone().send(to));
        }
        Box::new(Reader::of(self, pieces, progress))
    }
}

/// Reads an object.
pub struct Reader<'a> {
    what: Arc<What>,
    _engine: Arc<Engine>,
    pieces: Receiver<Piece>,
    piece: Bytes,
    /// Bytes that were given on.
    given: u64,
    /// Why it ended before its end.
    failed: Option<(Why, u64)>,
    told: u32,
    progress: &'a dyn Progress,
}

impl<'a> Reader<'a> {
    /// Of what arrives.
    pub fn of(object: &Object, pieces: Receiver<Piece>, progress: &'a dyn Progress) -> Self {
        Self {
            what: object.what.clone(),
            _engine: object.engine.clone(),
            pieces,
            piece: Bytes::new(),
            given: 0,
            failed: None,
            told: 0,
            progress,
        }
    }

    fn tell(&mut self, why: &Why, byte: u64) {
        self.told += 1;
        let more = match self.told {
            ..TOLD => "",
            TOLD => " (it is not said again)",
            _ => return,
        };
        let path = self.what.path.display();
        self.progress.say(&format!(
            "{path}: after byte {byte}: {}; going on from there{more}",
            why.why
        ));
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some((why, byte)) = &self.failed {
                let error = why.clone().error(&self.what.address, Some(*byte));
                return Err(std::io::Error::other(error));
            }
            if self.piece.has_remaining() || buffer.is_empty() {
                let n = buffer.len().min(self.piece.len());
                self.piece.copy_to_slice(&mut buffer[..n]);
                self.given += n as u64;
                return Ok(n);
            }
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.piece = bytes,
                Some(Piece::Broke(why, byte)) => self.tell(&why, byte),
                Some(Piece::Failed(why, byte)) => self.failed = Some((why, byte)),
                None if self.given == self.what.bytes => return Ok(0),
                // Who fetches says why it ends; an end by itself is never taken for that of the object.
                None => {
                    let why = Why::passing("nothing more arrives");
                    self.failed = Some((why, self.given));
                }
            }
        }
    }
}
