//! Which documents and paragraphs stood before: keys of all documents in order, and when all are there, the decisions.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::paragraphs::{self, Heads, Reader, Spill};
use crate::sort::{Sorted, Sorter};
use crate::{CleanOptions, Dedup, Error, Keys, ParagraphKind, Result};

/// Examples that are kept of each kind.
pub const EXAMPLES: usize = 5;

/// Takes the keys of documents, in order.
pub struct Ledger {
    folder: PathBuf,
    memory: usize,
    documents: u64,
    keys: Option<Sorter>,
    paragraphs: Option<Spill>,
    heads: Heads,
}

/// A document that is dropped because of one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// Its number.
    pub document: u64,
    /// The number of the one that it is a duplicate of, which is kept.
    pub of: u64,
    /// Whether their texts are equal.
    pub exact: bool,
    /// How both begin.
    pub heads: [String; 2],
}

/// A paragraph that occurs often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The number of its first occurrence among all paragraphs.
    pub first: u64,
    /// How often it occurs.
    pub times: u64,
}

/// What is to be kept, document by document.
pub struct Decisions {
    dropped: Bits,
    documents: u64,
    next: u64,
    paragraphs: Option<Paragraphs>,
    pieces: Vec<Piece>,
    /// Documents dropped because their text stood before, exactly and nearly.
    pub duplicates: [u64; 2],
    /// The first of each.
    pub examples: Vec<Duplicate>,
    /// Paragraphs that were removed, so far.
    pub removed_paragraphs: u64,
    /// Documents of which no paragraph was left, so far.
    pub emptied: u64,
    /// The paragraphs that occur most often.
    pub most: Vec<Repeated>,
}

/// A paragraph of a document, as it was given to [`Ledger::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What the caller counts of it, such as its sentences.
    pub weight: u32,
    /// Whether it stays.
    pub keep: bool,
    /// The place in [`Decisions::most`] where this is the first occurrence of one there.
    pub sample: Option<usize>,
}

/// What is decided about a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It is dropped: as a duplicate, or because no paragraph of any weight is left.
    Drop,
    /// It stays, but for paragraphs that do not; without any, it stays whole.
    Keep(&'a [Piece]),
}

impl Ledger {
    /// A ledger of what `options` ask for, with its files in `folder`, whose sorters keep `memory` bytes together; `None` where they ask for no deduplication.
    pub fn create(folder: &Path, options: &CleanOptions, memory: usize) -> Result<Option<Self>> {
        let documents = options.dedup != Dedup::None;
        let paragraphs = options.dedup_paragraphs != ParagraphKind::None;
        if !documents && !paragraphs {
            return Ok(None);
        }
        Self::with_memory(folder, documents, paragraphs, memory).map(Some)
    }

    /// A ledger whose sorters keep `memory` bytes together.
    pub fn with_memory(
        folder: &Path,
        documents: bool,
        paragraphs: bool,
        memory: usize,
    ) -> Result<Self> {
        Ok(Self {
            folder: folder.into(),
            memory,
            documents: 0,
            // Two sorters are alive at a time.
            keys: documents.then(|| Sorter::new(folder, memory / 2)),
            paragraphs: paragraphs.then(|| Spill::create(folder)).transpose()?,
            heads: Heads::create(folder)?,
        })
    }

    /// The next document: its keys, for each of its paragraphs the key (0: it stays in any case) and a weight, and how it begins.
    pub fn push(
        &mut self,
        keys: &Keys,
        paragraphs: impl ExactSizeIterator<Item = (u128, u32)>,
        head: &str,
    ) -> Result<()> {
        let document = self.documents;
        self.documents += 1;
        if let Some(sorter) = &mut self.keys {
            let halves = |key: u128, exact: u64| [(key >> 64) as u64, key as u64 & !1 | exact];
            let bands = keys.bands.iter().map(|&key| halves(key, 0));
            for [high, low] in bands.chain(keys.text.map(|key| halves(key, 1))) {
                sorter.push([high, low, document])?;
            }
            self.heads.push(head)?;
        }
        match &mut self.paragraphs {
            Some(spill) => spill.push(paragraphs),
            None => Ok(()),
        }
    }

    /// Decides.
    pub fn resolve(self) -> Result<Decisions> {
        let mut decisions = Decisions {
            dropped: Bits::new(self.documents),
            documents: self.documents,
            next: 0,
            paragraphs: None,
            pieces: Vec::new(),
            duplicates: [0; 2],
            examples: Vec::new(),
            removed_paragraphs: 0,
            emptied: 0,
            most: Vec::new(),
        };
        if let Some(keys) = self.keys {
            let half = self.memory / 2;
            let (groups, shared) = shared(keys.finish()?, Sorter::new(&self.folder, half))?;
            let mut taken = Taken::new(groups, &self.folder, half)?;
            decisions.first_stay(shared.finish()?, &mut taken)?;
            self.heads.look_up(&mut decisions.examples)?;
        }
        if let Some(spill) = self.paragraphs {
            let dropped = &decisions.dropped;
            let found =
                paragraphs::resolve(spill, &self.folder, self.memory / 2, |d| dropped.get(d))?;
            decisions.most = found.most;
            let mut removed = found.removed;
            decisions.paragraphs = Some(Paragraphs {
                next_removed: removed.next()?.map(|r| r[0]),
                reader: found.reader,
                removed,
                number: 0,
            });
        }
        Ok(decisions)
    }
}

/// The keys that several documents have, as numbered groups: how many, and (document, group, exact).
fn shared(mut keys: Sorted, mut out: Sorter) -> Result<(u64, Sorter)> {
    let mut groups = 0;
    let (mut open, mut found): (Option<[u64; 3]>, bool) = (None, false);
    while let Some(record) = keys.next()? {
        let [high, low, document] = record;
        match open {
            Some([h, l, first]) if [h, l] == [high, low] => {
                if !found {
                    found = true;
                    groups += 1;
                    out.push([first, groups - 1, low & 1])?;
                }
                out.push([document, groups - 1, low & 1])?;
            }
            _ => (open, found) = (Some(record), false),
        }
    }
    Ok((groups, out))
}

impl Decisions {
    /// Goes through the documents that share a key, in order: each takes its groups, or is dropped because one is taken.
    fn first_stay(&mut self, mut shared: Sorted, taken: &mut Taken) -> Result<()> {
        let mut next = shared.next()?;
        let mut groups = Vec::new();
        while let Some([document, ..]) = next {
            groups.clear();
            while let Some([_, group, exact]) = next.filter(|r| r[0] == document) {
                groups.push((group, exact == 1));
                next = shared.next()?;
            }
            let by = |exact: bool| {
                let of = groups.iter().filter(|g| g.1 == exact);
                of.filter_map(|g| taken.get(g.0)).min()
            };
            let (same, near) = (by(true), by(false));
            match same.or(near) {
                None => groups.iter().for_each(|g| taken.take(g.0, document)),
                Some(of) => {
                    let exact = same.is_some();
                    let count = &mut self.duplicates[usize::from(!exact)];
                    *count += 1;
                    if *count <= EXAMPLES as u64 {
                        self.examples.push(Duplicate {
                            document,
                            of,
                            exact,
                            heads: Default::default(),
                        });
                    }
                    self.dropped.set(document);
                }
            }
        }
        Ok(())
    }

    /// Whether every document stays, whole.
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        let paragraphs = self.paragraphs.as_ref();
        self.duplicates == [0; 2] && paragraphs.is_none_or(|p| p.next_removed.is_none())
    }

    /// How many documents there were.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// What is decided about the next document, in the order in which they were given; `None` after the last.
    pub fn next_decision(&mut self) -> Result<Option<Decision<'_>>> {
        if self.next == self.documents {
            return Ok(None);
        }
        let dropped = self.dropped.get(self.next);
        self.next += 1;
        self.pieces.clear();
        if let Some(paragraphs) = &mut self.paragraphs {
            paragraphs.next(&self.most, &mut self.pieces)?;
        }
        if dropped {
            return Ok(Some(Decision::Drop));
        }
        let removed = self.pieces.iter().filter(|p| !p.keep).count() as u64;
        self.removed_paragraphs += removed;
        if removed > 0 && !self.pieces.iter().any(|p| p.keep && p.weight > 0) {
            self.emptied += 1;
            return Ok(Some(Decision::Drop));
        }
        Ok(Some(Decision::Keep(&self.pieces)))
    }
}

/// The paragraphs again, and the numbers of those that go, ascending.
struct Paragraphs {
    reader: Reader,
    removed: Sorted,
    next_removed: Option<u64>,
    number: u64,
}

impl Paragraphs {
    fn next(&mut self, most: &[Repeated], out: &mut Vec<Piece>) -> Result<()> {
        for _ in 0..self.reader.begin()? {
            let (_, weight) = self.reader.paragraph()?;
            let keep = self.next_removed != Some(self.number);
            if !keep {
                self.next_removed = self.removed.next()?.map(|r| r[0]);
            }
            let sample = most.iter().position(|m| m.first == self.number);
            out.push(Piece {
                weight,
                keep,
                sample,
            });
            self.number += 1;
        }
        Ok(())
    }
}

/// A bit a document.
struct Bits(Vec<u64>);

impl Bits {
    fn new(n: u64) -> Self {
        Self(vec![0; n.div_ceil(64) as usize])
    }

    fn get(&self, i: u64) -> bool {
        self.0[(i / 64) as usize] >> (i % 64) & 1 == 1
    }

    fn set(&mut self, i: u64) {
        self.0[(i / 64) as usize] |= 1 << (i % 64);
    }
}

/// Which document took each group: its number and one, 0 for none.
enum Taken {
    Held(Vec<u64>),
    Mapped(memmap2::MmapMut),
}

impl Taken {
    fn new(groups: u64, folder: &Path, memory: usize) -> Result<Self> {
        let bytes = groups * 8;
        if bytes <= memory as u64 {
            return Ok(Self::Held(vec![0; groups as usize]));
        }
        let file: File = tempfile::tempfile_in(folder).map_err(Error::io(folder))?;
        file.set_len(bytes).map_err(Error::io(folder))?;
        // SAFETY: the file has no name, so nobody else can open it and change it or cut it short.
        let map = unsafe { memmap2::MmapMut::map_mut(&file) }.map_err(Error::io(folder))?;
        Ok(Self::Mapped(map))
    }

    fn get(&self, group: u64) -> Option<u64> {
        let group = group as usize;
        let word = match self {
            Self::Held(words) => words[group],
            Self::Mapped(map) => u64::from_le_bytes(map.as_chunks().0[group]),
        };
        word.checked_sub(1)
    }

    fn take(&mut self, group: u64, document: u64) {
        let group = group as usize;
        match self {
            Self::Held(words) => words[group] = document + 1,
            Self::Mapped(map) => {
                map.as_chunks_mut().0[group] = (document + 1).to_le_bytes();
            }
        }
    }
}
