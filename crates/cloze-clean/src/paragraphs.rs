//! Files of what is known of documents in order: their paragraphs, and how they begin.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::ledger::{Duplicate, EXAMPLES, Repeated};
use crate::sort::{Sorted, Sorter};
use crate::{Error, Result};

/// A nameless file that is written, and then read.
struct Scratch {
    out: BufWriter<File>,
    folder: PathBuf,
}

impl Scratch {
    fn create(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(Error::io(folder))?;
        Ok(Self {
            out: BufWriter::new(file),
            folder: folder.into(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::io(&self.folder))
    }

    fn read_again(self) -> Result<(BufReader<File>, PathBuf)> {
        let folder = self.folder;
        let mut file = self
            .out
            .into_inner()
            .map_err(|e| Error::io(&folder)(e.into_error()))?;
        file.rewind().map_err(Error::io(&folder))?;
        Ok((BufReader::new(file), folder))
    }
}

/// Paragraphs of documents, in order.
pub(crate) struct Spill {
    scratch: Scratch,
    documents: u64,
}

impl Spill {
    pub fn create(folder: &Path) -> Result<Self> {
        Ok(Self {
            scratch: Scratch::create(folder)?,
            documents: 0,
        })
    }

    pub fn push(&mut self, paragraphs: impl ExactSizeIterator<Item = (u128, u32)>) -> Result<()> {
        self.documents += 1;
        let count = paragraphs.len() as u64;
        self.scratch.write(&count.to_le_bytes())?;
        for (key, weight) in paragraphs {
            self.scratch.write(&key.to_le_bytes())?;
            self.scratch.write(&weight.to_le_bytes())?;
        }
        Ok(())
    }
}

/// Reads what a [`Spill`] wrote.
pub(crate) struct Reader {
    file: BufReader<File>,
    folder: PathBuf,
}

impl Reader {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file
            .read_exact(&mut bytes)
            .map_err(Error::io(&self.folder))?;
        Ok(bytes)
    }

    /// The next document: how many paragraphs it has.
    pub fn begin(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// Its next paragraph: key and weight.
    pub fn paragraph(&mut self) -> Result<(u128, u32)> {
        Ok((
            u128::from_le_bytes(self.bytes()?),
            u32::from_le_bytes(self.bytes()?),
        ))
    }
}

pub(crate) struct Found {
    pub reader: Reader,
    /// Numbers of the paragraphs that go.
    pub removed: Sorted,
    pub most: Vec<Repeated>,
}

/// Finds the paragraphs that stood before in documents that are not dropped.
pub(crate) fn resolve(
    spill: Spill,
    folder: &Path,
    memory: usize,
    dropped: impl Fn(u64) -> bool,
) -> Result<Found> {
    let documents = spill.documents;
    let (file, path) = spill.scratch.read_again()?;
    let mut reader = Reader { file, folder: path };
    let mut keys = Sorter::new(folder, memory);
    let mut number = 0;
    for document in 0..documents {
        for _ in 0..reader.begin()? {
            let (key, _) = reader.paragraph()?;
            if key != 0 && !dropped(document) {
                keys.push([(key >> 64) as u64, key as u64, number])?;
            }
            number += 1;
        }
    }
    let mut keys = keys.finish()?;
    let mut removed = Sorter::new(folder, memory);
    let mut most = Most::default();
    let mut open = None;
    while let Some([high, low, number]) = keys.next()? {
        if open == Some([high, low]) {
            removed.push([number, 0, 0])?;
            most.again();
        } else {
            open = Some([high, low]);
            most.begin(number);
        }
    }
    reader.file.rewind().map_err(Error::io(folder))?;
    Ok(Found {
        reader,
        removed: removed.finish()?,
        most: most.finish(),
    })
}

/// The paragraphs that occur most often; of those that do equally, the first.
#[derive(Default)]
struct Most {
    best: Vec<Repeated>,
    open: Option<Repeated>,
}

impl Most {
    fn begin(&mut self, first: u64) {
        let next = Some(Repeated { first, times: 1 });
        if let Some(done) = std::mem::replace(&mut self.open, next).filter(|r| r.times > 1) {
            self.best.push(done);
            self.best.sort_by_key(|r| (u64::MAX - r.times, r.first));
            self.best.truncate(EXAMPLES);
        }
    }

    fn again(&mut self) {
        if let Some(open) = &mut self.open {
            open.times += 1;
        }
    }

    fn finish(mut self) -> Vec<Repeated> {
        self.begin(0);
        self.best
    }
}

/// How documents begin, in order.
pub(crate) struct Heads(Scratch);

impl Heads {
    pub fn create(folder: &Path) -> Result<Self> {
        Ok(Self(Scratch::create(folder)?))
    }

    pub fn push(&mut self, head: &str) -> Result<()> {
        let head = crate::report::head(head);
        self.0.write(&(head.len() as u32).to_le_bytes())?;
        self.0.write(head.as_bytes())
    }

    /// Fills in the heads of the examples, which are few, by going through all.
    pub fn look_up(self, examples: &mut [Duplicate]) -> Result<()> {
        let wanted = examples.iter().map(|e| e.document.max(e.of)).max();
        let (file, folder) = self.0.read_again()?;
        let mut reader = Reader { file, folder };
        let mut head = Vec::new();
        for document in 0..wanted.map_or(0, |last| last + 1) {
            let length = u32::from_le_bytes(reader.bytes()?);
            head.resize(length as usize, 0);
            let Reader { file, folder } = &mut reader;
            file.read_exact(&mut head).map_err(Error::io(folder))?;
            for example in &mut *examples {
                for (number, text) in [example.document, example.of]
                    .iter()
                    .zip(&mut example.heads)
                {
                    if *number == document {
                        *text = String::from_utf8_lossy(&head).into_owned();
                    }
                }
            }
        }
        Ok(())
    }
}
