//! Stage 2b where the tokens do not fit into memory: segments are taken from the token store in the order in which they lie there, and appended to the
//! bucket of their row; then each bucket is loaded, and its rows are written.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cloze_clean::sort::Sorter;
use cloze_shard::manifest::ShardRecord;
use cloze_shard::schema::IdType;
use cloze_shard::{NextSentenceLabel, ROWS_PER_BATCH, Row, ShardWriter};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::buckets::{self, BucketWriter, Buckets, Content, SEGMENT_BYTES, Segment};
use crate::pairing::{Cursor, Span};
use crate::plan::{Planned, Sorting, decode, each};
use crate::shards::{Drawn, Kept, Part, RowMaker};
use crate::{Config, Error, ObjectiveKind, Progress, Result, key};

/// Places of segments in a row: the parts of the first by number, and the second, by its label.
const SECOND_NEXT: u64 = 0xFFFE;
const SECOND_OTHER: u64 = 0xFFFF;
const PLACE_BITS: u32 = 16;
/// Rows that progress is told of at a time.
const ROWS_TOLD: u64 = 1_024;

/// The rows of a split, which are to be gathered and written.
pub struct Gather<'a> {
    pub config: &'a Config,
    pub id_type: IdType,
    /// Shards, in order; no two have a place in common.
    pub parts: Vec<Part>,
    /// Recipes, by bin.
    pub recipes: &'a [PathBuf],
    pub planned: &'a Planned,
    pub documents: u64,
    pub sorting: Sorting<'a>,
    /// The split's name.
    pub name: &'static str,
    pub kept: &'a Kept<'a>,
    pub out: &'a Path,
    pub progress: &'a dyn Progress,
}

/// Rows that are in the buckets.
pub struct Gathered {
    units: Vec<Unit>,
    buckets: Buckets,
    writers: usize,
}

/// What a thread writes at a time: whole shards, in buckets that are loaded one after another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unit {
    /// Numbers of the shards.
    shards: Range<usize>,
    /// Places of the rows in the split.
    rows: Range<u64>,
    buckets: Range<usize>,
}

/// What buckets hold that are whole.
#[derive(Serialize, Deserialize)]
struct Note {
    units: Vec<Unit>,
    contents: Vec<Content>,
}

impl Unit {
    fn bucket(&self, place: u64) -> usize {
        let rows = u128::from(self.rows.end - self.rows.start);
        let at = u128::from(place - self.rows.start) * self.buckets.len() as u128 / rows;
        self.buckets.start + at as usize
    }
}

impl Gather<'_> {
    fn note(&self) -> PathBuf {
        self.sorting
            .folder
            .join(format!("{}.buckets.json", self.name))
    }

    fn folder(&self) -> PathBuf {
        self.sorting.folder.join(format!("{}.buckets", self.name))
    }

    /// Bytes in buckets of a row of so many tokens.
    fn row_bytes(&self, tokens: u64) -> u64 {
        let segments = match self.config.objective {
            ObjectiveKind::FullSentences => {
                let documents = self.documents * u64::from(self.config.dupe_factor);
                2 + tokens * documents / self.planned.tokens.max(1)
            }
            _ => 2,
        };
        tokens * self.id_type.bytes() as u64 + segments * SEGMENT_BYTES
    }

    /// Shards by units, so that no bucket holds more than `load` bytes.
    fn units(&self, load: u64) -> Vec<Unit> {
        let edges = self.config.bins();
        let mut units: Vec<Unit> = Vec::new();
        let mut held = 0;
        for (number, part) in self.parts.iter().enumerate() {
            let rows = part.range.end - part.range.start;
            let bytes = rows * self.row_bytes(u64::from(edges[part.bin]));
            let rows = part.before + part.range.start..part.before + part.range.end;
            match units.last_mut().filter(|_| held + bytes <= load) {
                Some(unit) => {
                    unit.shards.end = number + 1;
                    unit.rows.end = rows.end;
                    held += bytes;
                }
                None => {
                    let first = units.last().map_or(0, |unit| unit.buckets.end);
                    let count = bytes.div_ceil(load.max(1)).clamp(1, rows.end - rows.start);
                    units.push(Unit {
                        shards: number..number + 1,
                        rows,
                        buckets: first..first + count as usize,
                    });
                    held = bytes;
                }
            }
        }
        units
    }

    /// Brings all segments into buckets, unless they are there.
    pub fn gather(&self, cursor: &mut impl Cursor) -> Result<Gathered> {
        let batch = ROWS_PER_BATCH as u64 * self.row_bytes(u64::from(self.config.seq_len));
        let threads = rayon::current_num_threads();
        // Rows on their way to a batch, the batch, and the batch as it is in its file.
        let (writers, load) = self.sorting.memory.writers(threads, 3 * batch);
        let units = self.units(load);
        let note = key::read_or_lost::<Note>(&self.note(), |said| self.progress.say(said))?;
        if let Some(note) = note.filter(|note| note.units == units) {
            let buckets = Buckets::of(&self.folder(), self.id_type, note.contents);
            let mut there = true;
            for unit in &units {
                there &= unit.buckets.clone().all(|b| buckets.is_there(b))
                    || self.kept(unit)?.iter().all(Option::is_some);
            }
            if there {
                return Ok(Gathered {
                    units,
                    buckets,
                    writers,
                });
            }
        }
        let buckets = self.fill(&units, cursor)?;
        let note = Note {
            units,
            contents: buckets.contents.clone(),
        };
        key::write(&self.note(), &note, None)?;
        Ok(Gathered {
            units: note.units,
            buckets,
            writers,
        })
    }

    fn fill(&self, units: &[Unit], cursor: &mut impl Cursor) -> Result<Buckets> {
        let Sorting { memory, folder } = self.sorting;
        let mut segments = Sorter::<3>::new(folder, memory.sort());
        for (bin, path) in self.recipes.iter().enumerate() {
            let Some(part) = self.parts.iter().find(|part| part.bin == bin) else {
                continue;
            };
            each(path, |number, bytes| {
                let recipe = decode(bytes);
                let key = (part.before + part.order.at(number)) << PLACE_BITS;
                segments.push(record(recipe.a, key))?;
                if let Some((b, other)) = recipe.b {
                    let second = if other { SECOND_OTHER } else { SECOND_NEXT };
                    segments.push(record(b, key | second))?;
                }
                Ok(())
            })?;
        }
        let count = units.last().map_or(0, |unit| unit.buckets.end);
        let mut buckets =
            BucketWriter::create(&self.folder(), count, self.id_type, memory.gather())?;
        let mut segments = segments.finish()?;
        let mut next = segments.next()?;
        // What goes on in the document after: of one document, and then of the one after it.
        let mut rest: VecDeque<[u64; 3]> = VecDeque::new();
        let mut rows = 0;
        loop {
            let goes_on = rest
                .front()
                .is_some_and(|r| next.is_none_or(|n| r[0] <= n[0]));
            let segment = match goes_on {
                true => rest.pop_front(),
                false => std::mem::replace(&mut next, segments.next()?),
            };
            let Some([index, span, key]) = segment else {
                break;
            };
            let (start, len) = ((span >> 32) as usize, span as u32 as usize);
            let document = cursor.get(index)?;
            let ids = document.input_ids.slice(start, start + len);
            let sentence = document.sentence_of(start as u32) as u32;
            let place = key >> PLACE_BITS;
            let unit = &units[units.partition_point(|unit| unit.rows.end <= place)];
            buckets.push(unit.bucket(place), key, document.doc, sentence, ids)?;
            if ids.len() < len {
                rest.push_back([index + 1, (len - ids.len()) as u64, key + 1]);
            }
            rows += u64::from(key.trailing_zeros() >= PLACE_BITS);
            if rows == ROWS_TOLD {
                self.progress.advance(std::mem::take(&mut rows));
            }
        }
        self.progress.advance(rows);
        buckets.finish()
    }

    /// What is known of the shards of a unit.
    fn kept(&self, unit: &Unit) -> Result<Vec<Option<ShardRecord>>> {
        let parts = self.parts[unit.shards.clone()].iter();
        parts
            .map(|part| self.kept.get(self.out, &part.file))
            .collect()
    }

    /// Writes the shards, in parallel.
    pub fn write(&self, gathered: &Gathered, maker: &RowMaker<'_, ()>) -> Result<Vec<ShardRecord>> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(gathered.writers)
            .build()
            .map_err(|e| Error::Threads(e.to_string()))?;
        let units = gathered.units.par_iter();
        let records: Vec<Vec<ShardRecord>> = pool.install(|| {
            units
                .map(|unit| self.write_unit(unit, &gathered.buckets, maker))
                .collect::<Result<_>>()
        })?;
        buckets::forget(&self.folder())?;
        Ok(records.into_iter().flatten().collect())
    }

    fn write_unit(
        &self,
        unit: &Unit,
        buckets: &Buckets,
        maker: &RowMaker<'_, ()>,
    ) -> Result<Vec<ShardRecord>> {
        let kept = self.kept(unit)?;
        if kept.iter().all(Option::is_some) {
            let records: Vec<ShardRecord> = kept.into_iter().flatten().collect();
            self.progress.advance(records.iter().map(|r| r.rows).sum());
            return Ok(records);
        }
        let mut shards = Shards {
            gather: self,
            maker,
            left: self.parts[unit.shards.clone()].iter().zip(kept),
            open: None,
            records: Vec::new(),
            at: unit.rows.start,
            told: 0,
            row: Row::default(),
            drawn: Drawn::default(),
        };
        for bucket in unit.buckets.clone() {
            let loaded = buckets.load(bucket).inspect_err(|_| {
                // So that the next run gathers again.
                let _ = std::fs::remove_file(self.note());
            })?;
            let mut row: Vec<Segment<'_>> = Vec::new();
            for segment in loaded.segments() {
                let is_of = |first: &Segment<'_>| (first.key ^ segment.key) >> PLACE_BITS == 0;
                if !row.first().is_none_or(is_of) {
                    shards.push(&row)?;
                    row.clear();
                }
                row.push(segment);
            }
            if !row.is_empty() {
                shards.push(&row)?;
            }
        }
        let records = shards.finish(unit)?;
        for bucket in unit.buckets.clone() {
            buckets.remove(bucket)?;
        }
        Ok(records)
    }

    fn damaged(&self, place: u64) -> Error {
        Error::Damaged {
            path: self.folder(),
            why: format!("row {place} is not where it was put"),
        }
    }
}

fn record(span: Span, key: u64) -> [u64; 3] {
    let place = u64::from(span.start) << 32 | u64::from(span.len);
    [span.document, place, key]
}

/// The shards of a unit, as their rows come.
struct Shards<'a, I> {
    gather: &'a Gather<'a>,
    maker: &'a RowMaker<'a, ()>,
    /// Shards that were not begun, and what is known of them.
    left: I,
    open: Option<(&'a Part, Shard)>,
    records: Vec<ShardRecord>,
    /// The place of the next row.
    at: u64,
    /// Rows that progress was not told of.
    told: u64,
    row: Row,
    drawn: Drawn,
}

enum Shard {
    Kept(ShardRecord),
    New(Box<ShardWriter>),
}

impl<'a, I: Iterator<Item = (&'a Part, Option<ShardRecord>)>> Shards<'a, I> {
    /// Appends the row of these segments.
    fn push(&mut self, segments: &[Segment<'_>]) -> Result<()> {
        let gather = self.gather;
        if segments[0].key != self.at << PLACE_BITS {
            return Err(gather.damaged(self.at));
        }
        let (part, shard) = match &mut self.open {
            Some(open) => open,
            none => {
                let Some((part, kept)) = self.left.next() else {
                    return Err(gather.damaged(self.at));
                };
                let shard = match kept {
                    Some(record) => Shard::Kept(record),
                    None => {
                        let path = gather.out.join(&part.file);
                        let rules = self.maker.rules(gather.config);
                        let masks = self.maker.has_masks();
                        let writer = ShardWriter::create(&path, gather.id_type, masks, rules)?;
                        Shard::New(Box::new(writer))
                    }
                };
                none.insert((part, shard))
            }
        };
        let place = self.at - part.before;
        if let Shard::New(writer) = shard {
            assemble(self.maker, segments, &mut self.row);
            let number = part.before + part.order.inverse(place);
            self.maker.mask(number, &mut self.row, &mut self.drawn);
            writer.push(&self.row.view())?;
        }
        self.at += 1;
        self.told += 1;
        let last = place + 1 == part.range.end;
        if last || self.told == ROWS_TOLD {
            gather.progress.advance(std::mem::take(&mut self.told));
        }
        if last && let Some((part, shard)) = self.open.take() {
            self.records.push(match shard {
                Shard::Kept(record) => record,
                Shard::New(writer) => {
                    let record = writer.finish(&part.file)?;
                    gather.progress.count(0, record.tokens);
                    gather.kept.put(&record)?;
                    record
                }
            });
        }
        Ok(())
    }

    fn finish(mut self, unit: &Unit) -> Result<Vec<ShardRecord>> {
        if self.at != unit.rows.end || self.open.is_some() || self.left.next().is_some() {
            return Err(self.gather.damaged(self.at));
        }
        Ok(self.records)
    }
}

/// The row of these segments, without masks, into `row`.
fn assemble(maker: &RowMaker<'_, ()>, segments: &[Segment<'_>], row: &mut Row) {
    let special = maker.vocabulary.special();
    row.input_ids.clear();
    row.input_ids.push(special.cls);
    row.next_sentence_label = None;
    row.b_start = 0;
    for segment in segments {
        let place = segment.key & ((1 << PLACE_BITS) - 1);
        if place == 0 {
            (row.doc_a, row.sentence_a) = (segment.doc, segment.sentence);
        } else {
            row.input_ids.push(special.sep);
        }
        (row.doc_b, row.sentence_b) = (segment.doc, segment.sentence);
        if place >= SECOND_NEXT {
            // Rows are bounded by the sequence length, a u16.
            row.b_start = row.input_ids.len() as u16;
            row.next_sentence_label = Some(match place {
                SECOND_OTHER => NextSentenceLabel::NotNext,
                _ => NextSentenceLabel::IsNext,
            });
        }
        segment.extend_into(&mut row.input_ids);
    }
    row.input_ids.push(special.sep);
    if row.b_start == 0 {
        row.b_start = row.input_ids.len() as u16;
    }
}
