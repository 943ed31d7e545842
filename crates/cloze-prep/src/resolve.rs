//! Text from elsewhere for the rows of a split, looked up in the order of its places: documents are gone through, not jumped about in.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::PathBuf;

use cloze_clean::sort::{Record, Sorter};

use crate::pairing::{Cursor, Draft, PairingCounts, Recipe, Setting, Span, Wanted, elsewhere};
use crate::plan::Sorting;
use crate::{Error, Pairing, Progress, Result};

/// A row in the file of drafts, little-endian: its first segment, and its second or what keys that.
type Held = [u64; 6];
const HELD_BYTES: usize = size_of::<Held>();
/// What a second segment is.
const NONE: u64 = 0;
const NEXT: u64 = 1;
const OTHER: u64 = 2;
const WANTED: u64 = 3;
/// Rows that progress is told of at a time.
const ROWS_TOLD: u64 = 1 << 16;
const BUFFER: usize = 1 << 20;

/// Rows in order, and what they want.
pub struct Later {
    folder: PathBuf,
    memory: usize,
    /// Rows, as they are [`held`].
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
        if let Some(wanted) = &draft.wanted {
            self.wanted.push(request(self.rows, wanted))?;
        }
        self.rows += 1;
        let mut bytes = [0; HELD_BYTES];
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(held(draft)) {
            *to = word.to_le_bytes();
        }
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
        // Row, and segment.
        let mut answers = Sorter::<4>::new(folder, memory);
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
                    Some(b) => {
                        let [document, place, sentence] = packed(b);
                        answers.push([row, document, place, sentence])?;
                    }
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
            let mut bytes = [0; HELD_BYTES];
            drafts.read_exact(&mut bytes).map_err(io())?;
            let words = bytes.as_chunks().0;
            let (mut recipe, key) = of_held(std::array::from_fn(|i| u64::from_le_bytes(words[i])));
            if let Some(key) = key {
                let Some([_, segment @ ..]) = answers.next()?.filter(|a| a[0] == row) else {
                    return Err(Error::Damaged {
                        path: folder.into(),
                        why: format!("nothing was found for row {row}"),
                    });
                };
                let b = span(segment);
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

/// A segment: its document, its place there, and the sentence, with one bit more where that is known.
fn packed(span: Span) -> [u64; 3] {
    let place = u64::from(span.start) << 32 | u64::from(span.len);
    let sentence = span
        .sentence
        .map_or(0, |sentence| 1 << 32 | u64::from(sentence));
    [span.document, place, sentence]
}

/// The segment that was [`packed`]. Higher bits of its last word mean nothing to it.
fn span([document, place, sentence]: [u64; 3]) -> Span {
    Span {
        document,
        start: (place >> 32) as u32,
        len: place as u32,
        sentence: (sentence >> 32 & 1 == 1).then_some(sentence as u32),
    }
}

/// A draft, with what its second segment is above the first.
fn held(draft: &Draft) -> Held {
    let (second, kind) = match (&draft.wanted, draft.recipe.b) {
        (Some(wanted), _) => ([wanted.seed, 0, 0], WANTED),
        (None, None) => ([0; 3], NONE),
        (None, Some((b, false))) => (packed(b), NEXT),
        (None, Some((b, true))) => (packed(b), OTHER),
    };
    let ([a, b, c], [d, e, f]) = (packed(draft.recipe.a), second);
    [a, b, c | kind << 33, d, e, f]
}

/// The row of a draft that was [`held`], and the key of a second segment that is wanted.
fn of_held([a, b, c, d, e, f]: Held) -> (Recipe, Option<u64>) {
    let kind = c >> 33;
    let there = kind == NEXT || kind == OTHER;
    let recipe = Recipe {
        a: span([a, b, c]),
        b: there.then(|| (span([d, e, f]), kind == OTHER)),
    };
    (recipe, (kind == WANTED).then_some(d))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spans() -> impl Strategy<Value = Span> {
        // Longer than any row, too: nothing is cut yet.
        let place = (any::<u64>(), any::<[u32; 2]>(), any::<Option<u32>>());
        place.prop_map(|(document, [start, len], sentence)| Span {
            document,
            start,
            len,
            sentence,
        })
    }

    proptest! {
        #[test]
        fn drafts_survive_being_held(a in spans(), b in spans(), kind in 0u8..4, seed: u64) {
            let b = match kind {
                1 | 2 => Some((b, kind == 2)),
                _ => None,
            };
            let recipe = Recipe { a, b };
            let wanted = (kind == 3).then_some(Wanted { place: 1, own: 2, seed, budget: 3, longest: 4 });
            let held = held(&Draft { recipe, wanted });
            prop_assert_eq!(of_held(held), (recipe, wanted.map(|_| seed)));
        }
    }
}
