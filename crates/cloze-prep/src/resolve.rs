//! Text from elsewhere for the rows of a split, looked up in the order of its places: documents are gone through, not jumped about in.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::PathBuf;

use cloze_clean::sort::{Record, Sorter};

use crate::pairing::{Cursor, Draft, PairingCounts, Recipe, Setting, Span, Wanted, elsewhere};
use crate::plan::{Encoded, Sorting, decode, encode};
use crate::{Error, Pairing, Progress, Result};

/// The kind of a recipe whose second segment is wanted; its key is in the place of the segment's document.
const WANTED: u8 = 3;
const KEY: std::ops::Range<usize> = 16..24;
const KIND: usize = 32;
/// Rows that progress is told of at a time.
const ROWS_TOLD: u64 = 1 << 16;
const BUFFER: usize = 1 << 20;

/// Rows in order, and what they want.
pub struct Later {
    folder: PathBuf,
    memory: usize,
    /// Encoded rows.
    drafts: BufWriter<File>,
    /// Place, row, A's id, key, budget and longest.
    wanted: Sorter<5>,
    rows: u64,
}

impl Later {
    /// None yet.
    pub fn create(sorting: Sorting<'_>) -> Result<Self> {
        let (folder, memory) = (sorting.folder, sorting.memory.sort());
        // Without a name: gone when it is not needed, or the process is not.
        let drafts = tempfile::tempfile_in(folder).map_err(cloze_shard::Error::io(folder))?;
        Ok(Self {
            folder: folder.into(),
            memory,
            drafts: BufWriter::with_capacity(BUFFER, drafts),
            wanted: Sorter::new(folder, memory),
            rows: 0,
        })
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends a row.
    pub fn push(&mut self, draft: &Draft) -> Result<()> {
        let mut bytes = encode(&draft.recipe);
        if let Some(wanted) = &draft.wanted {
            bytes[KIND] = WANTED;
            bytes[KEY].copy_from_slice(&wanted.seed.to_le_bytes());
            self.wanted.push(request(self.rows, wanted))?;
        }
        self.rows += 1;
        let written = self.drafts.write_all(&bytes);
        Ok(written.map_err(cloze_shard::Error::io(&self.folder))?)
    }

    /// Finds what is wanted and hands each row to `emit`, in order.
    pub fn resolve(
        self,
        pairing: Pairing,
        setting: &Setting<'_>,
        cursor: &mut impl Cursor,
        emit: &mut impl FnMut(&Recipe) -> Result<()>,
        progress: &dyn Progress,
    ) -> Result<PairingCounts> {
        let (folder, memory) = (self.folder.as_path(), self.memory);
        let mut counts = PairingCounts::default();
        // Row, document, start and length.
        let mut answers = Sorter::<3>::new(folder, memory);
        let (mut asked, mut tries) = (self.wanted, 0);
        loop {
            tries += 1;
            let mut in_order = asked.finish()?;
            let mut more = Sorter::new(folder, memory);
            let mut left = 0u64;
            while let Some(record) = in_order.next()? {
                let (row, mut wanted) = asked_by(record);
                let found = elsewhere::find(pairing, cursor, wanted.place)?;
                let document = cursor.get(found.0)?;
                match elsewhere::settle(pairing, setting, &wanted, found, &document, &mut counts) {
                    Some(b) => answers.push([
                        row,
                        b.document,
                        u64::from(b.start) << 32 | u64::from(b.len),
                    ])?,
                    None => {
                        wanted.place = elsewhere::again(&setting.totals, &wanted, tries);
                        more.push(request(row, &wanted))?;
                        left += 1;
                    }
                }
            }
            if left == 0 {
                break;
            }
            asked = more;
        }
        let mut answers = answers.finish()?;
        let io = || cloze_shard::Error::io(folder);
        let drafts = self.drafts.into_inner();
        let mut drafts = drafts.map_err(|e| io()(e.into_error()))?;
        drafts.rewind().map_err(io())?;
        let mut drafts = BufReader::with_capacity(BUFFER, drafts);
        for row in 0..self.rows {
            let mut bytes = [0; size_of::<Encoded>()];
            drafts.read_exact(&mut bytes).map_err(io())?;
            let mut recipe = decode(&bytes);
            if bytes[KIND] == WANTED {
                let Some([_, document, span]) = answers.next()?.filter(|a| a[0] == row) else {
                    return Err(Error::Damaged {
                        path: folder.into(),
                        why: format!("nothing was found for row {row}"),
                    });
                };
                let b = Span {
                    document,
                    start: (span >> 32) as u32,
                    len: span as u32,
                };
                let mut key = [0; 8];
                key.copy_from_slice(&bytes[KEY]);
                let key = u64::from_le_bytes(key);
                recipe = elsewhere::finish(pairing, setting, recipe, key, b, &mut counts);
            }
            emit(&recipe)?;
            if (row + 1).is_multiple_of(ROWS_TOLD) {
                progress.advance(ROWS_TOLD);
            }
        }
        progress.advance(self.rows % ROWS_TOLD);
        Ok(counts)
    }
}

fn request(row: u64, wanted: &Wanted) -> Record<5> {
    let room = u64::from(wanted.budget) << 16 | u64::from(wanted.longest);
    [wanted.place, row, wanted.own as u64, wanted.seed, room]
}

fn asked_by([place, row, own, seed, room]: Record<5>) -> (u64, Wanted) {
    let wanted = Wanted {
        place,
        own: own as i64,
        seed,
        budget: (room >> 16) as u16,
        longest: room as u16,
    };
    (row, wanted)
}
