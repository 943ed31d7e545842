//! Stage 2b: rows from recipes and the token store, in an order that is shuffled over the whole split.
//!
//! A keyed permutation of all rows says which recipe each place takes, so each shard is a pure function of its number:
//! shards are written independently, and the shuffle is global.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread::{Scope, ScopedJoinHandle};

use cloze_shard::atomic::Postponed;
use cloze_shard::manifest::{Masking, ShardRecord};
use cloze_shard::masking::{MaskKey, Masker, Scratch};
use cloze_shard::random::{Key, Permutation, Stage};
use cloze_shard::rules::RowRules;
use cloze_shard::schema::IdType;
use cloze_shard::{
    Id, NextSentenceLabel, ROWS_PER_BATCH, Row, RowBatch, ShardWriter, Vocabulary, atomic,
};
use rayon::prelude::*;

use crate::ahead::Ahead;
use crate::pairing::{DocumentView, Documents, Recipe, Span, packed};
use crate::plan::Plan;
use crate::spare::Spare;
use crate::{Config, Error, ObjectiveKind, Progress, Result, key};

/// Rows that are looked up together. Shuffled rows lie far apart, in memory that no cache holds: a group waits for its loads at one time.
const GROUP: usize = 32;
/// Threads that make a shard together, at most: two batches of rows are held for each.
const WIDEST: usize = 16;
/// Threads that are few: four batches of rows may be held for each.
const FEW: usize = 8;
/// Rows that progress is told of at a time.
const ROWS_TOLD: u64 = 1_024;

/// What every row of a split is made with.
pub struct RowMaker<'a, D> {
    documents: &'a D,
    pub vocabulary: &'a Vocabulary,
    masker: Option<(Masker, MaskKey)>,
    /// Whether first segments go on into the next documents.
    crossing: bool,
}

impl<'a, D> RowMaker<'a, D> {
    /// Makes rows of `documents`; `split` keys static masks.
    pub fn new(
        documents: &'a D,
        vocabulary: &'a Vocabulary,
        config: &Config,
        split: u32,
    ) -> Result<Self> {
        let masker = match config.masking_record() {
            Masking::Dynamic => None,
            Masking::Static { rule } => Some((
                Masker::of(rule, vocabulary)?,
                MaskKey::new(config.seed, Stage::StaticMask, split),
            )),
        };
        Ok(Self {
            documents,
            vocabulary,
            masker,
            crossing: config.objective == ObjectiveKind::FullSentences,
        })
    }

    /// What rows must keep to.
    pub fn rules(&self, config: &Config) -> RowRules {
        let special = self.vocabulary.special();
        let masked = self.masker.is_some();
        let rules = RowRules::new(self.vocabulary.len(), special, config.seq_len, masked);
        rules.crossing(self.crossing)
    }

    /// Whether rows have static masks.
    pub fn has_masks(&self) -> bool {
        self.masker.is_some()
    }

    /// Draws static masks, where there are to be any, into `row`, whose number in its split is `number`.
    pub fn mask<T: Id>(&self, number: u64, row: &mut Row<T>, drawn: &mut Drawn) {
        if let Some((masker, key)) = &self.masker {
            let masks = row.masks.get_or_insert_default();
            drawn.places.clear();
            masks.labels.clear();
            let (scratch, places) = (&mut drawn.scratch, &mut drawn.places);
            masker.mask_in(
                scratch,
                *key,
                number,
                0,
                &mut row.input_ids,
                places,
                &mut masks.labels,
            );
            masks.positions.clear();
            masks
                .positions
                .extend(places.iter().map(|&place| place as u16));
        }
    }
}

impl<D: Documents> RowMaker<'_, D> {
    /// The row of `recipe`, into `row`. `number` is the recipe's in its split.
    pub fn fill<T: Id>(&self, number: u64, recipe: &Recipe, row: &mut Row<T>, drawn: &mut Drawn) {
        self.fill_from(&self.sources(recipe), number, recipe, row, drawn);
    }

    /// Has the processor fetch where the documents lie that [`RowMaker::sources`] will name.
    fn prefetch(&self, recipe: &Recipe) {
        self.documents.prefetch(recipe.a.document);
        if let Some((b, _)) = recipe.b {
            self.documents.prefetch(b.document);
        }
    }

    /// The documents that the segments of `recipe` begin in.
    fn sources(&self, recipe: &Recipe) -> Sources<'_> {
        let get = |span: Span| self.documents.get(span.document);
        (get(recipe.a), recipe.b.map(|(b, _)| get(b)))
    }

    /// As [`RowMaker::fill`], with what [`RowMaker::sources`] found.
    fn fill_from<T: Id>(
        &self,
        (document_a, document_b): &Sources<'_>,
        number: u64,
        recipe: &Recipe,
        row: &mut Row<T>,
        drawn: &mut Drawn,
    ) {
        let special = self.vocabulary.special();
        let [cls, sep] = [special.cls, special.sep].map(T::of);
        row.input_ids.clear();
        row.input_ids.push(cls);
        (row.doc_a, row.sentence_a) = append(document_a, recipe.a, &mut row.input_ids);
        (row.doc_b, row.sentence_b, row.next_sentence_label) = (row.doc_a, row.sentence_a, None);
        if self.crossing {
            for part in packed::parts(self.documents, recipe.a).skip(1) {
                row.input_ids.push(sep);
                let document = self.documents.get(part.document);
                (row.doc_b, row.sentence_b) = append(&document, part, &mut row.input_ids);
            }
        }
        row.input_ids.push(sep);
        // Rows are bounded by the sequence length, a u16.
        row.b_start = row.input_ids.len() as u16;
        if let (Some((b, other)), Some(document)) = (recipe.b, document_b) {
            (row.doc_b, row.sentence_b) = append(document, b, &mut row.input_ids);
            row.input_ids.push(sep);
            row.next_sentence_label = Some(match other {
                true => NextSentenceLabel::NotNext,
                false => NextSentenceLabel::IsNext,
            });
        }
        self.mask(number, row, drawn);
    }
}

/// The documents that the segments of a row begin in.
type Sources<'a> = (DocumentView<'a>, Option<DocumentView<'a>>);

/// Appends the tokens of `span`, which begins in `document`: the document's hash id, and the sentence.
fn append<T: Id>(document: &DocumentView<'_>, span: Span, ids: &mut Vec<T>) -> (i64, u32) {
    document
        .input_ids
        .slice(span.start as usize, span.end() as usize)
        .extend_into(ids);
    let find = || document.sentence_of(span.start) as u32;
    (document.doc, span.sentence.unwrap_or_else(find))
}

/// Memory for drawing masks, used again.
#[derive(Default)]
pub struct Drawn {
    scratch: Scratch,
    places: Vec<u32>,
}

/// A split whose shards are to be written.
pub struct Split<'a, D> {
    pub maker: RowMaker<'a, D>,
    /// Of each bin.
    pub plans: Vec<Plan>,
    pub parts: Vec<Part>,
}

impl<D: Documents> Split<'_, D> {
    /// Writes the rows of a shard, unless it is there; so many batches of them are made ahead.
    fn write(
        &self,
        shard: usize,
        ahead: usize,
        (out, config, kept): (&Path, &Config, &Kept<'_>),
        progress: &dyn Progress,
    ) -> Result<Filled> {
        let (maker, part) = (&self.maker, &self.parts[shard]);
        if let Some(record) = kept.get(out, &part.file)? {
            progress.advance(record.rows);
            return Ok(Filled::Before(record));
        }
        let shard = Shard {
            maker,
            plan: &self.plans[part.bin],
            part,
            rules: maker.rules(config),
            path: out.join(&part.file),
        };
        let writer = match IdType::for_vocab_size(maker.vocabulary.len()) {
            IdType::UInt16 => shard.write::<u16>(ahead, progress),
            IdType::UInt32 => shard.write::<u32>(ahead, progress),
        }?;
        Ok(Filled::Now(Box::new(writer), part.file.clone()))
    }
}

/// Writes the shards of the splits in parallel, into folders in `out` that are there; a thread of `threads` makes them durable. A shard that `kept` knows is not written again, and
/// one that is durable is told to it.
pub fn write_splits<'s>(
    threads: &'s Scope<'s, '_>,
    splits: &[Split<'_, impl Documents>],
    out: &'s Path,
    config: &Config,
    kept: Kept<'s>,
    progress: &dyn Progress,
) -> Result<Ending<'s>> {
    // By split and number. Splits of few shards come first: who has made theirs helps with the others'.
    let mut all: Vec<(usize, usize)> = Vec::new();
    for (number, split) in splits.iter().enumerate() {
        all.extend((0..split.parts.len()).map(|shard| (number, shard)));
    }
    all.sort_by_key(|(split, _)| splits[*split].parts.len());
    // Where there are fewer shards than threads, or such a rest when each thread has made as many as the others, several make one: no thread waits for another
    // that makes the last. Few threads make batches of every shard ahead, so that one that is done takes some over.
    let makers = rayon::current_num_threads();
    let are_few = (2..=FEW).contains(&makers);
    let alone = all.len() - all.len() % makers;
    let rest = all.split_off(if are_few { 0 } else { alone });
    let each = makers / rest.len().max(1);
    let each = each.clamp(1 + usize::from(are_few), WIDEST);
    let mut groups = [(all, 1), (rest, 2 * each)].into_iter();
    let none = splits.iter().map(|split| vec![None; split.parts.len()]);
    let mut records: Vec<Vec<Option<ShardRecord>>> = none.collect();
    let (to, written) = sync_channel::<((usize, usize), Filled)>(makers);
    // Who makes rows does not wait for the disk.
    let ending = Ending(threads.spawn(move || {
        // The names of the folders that shards are in.
        atomic::sync_folder(out)?;
        for ((split, shard), written) in written {
            records[split][shard] = Some(written.end(&kept)?);
        }
        Ok(records)
    }));
    let made = groups.try_for_each(|(shards, ahead)| {
        let shards = shards.into_par_iter().with_max_len(1);
        shards.try_for_each_with(&to, |to, (split, shard)| {
            let written = splits[split].write(shard, ahead, (out, config, &kept), progress);
            // Nobody takes it where ending another failed.
            to.send(((split, shard), written.map_err(Some)?))
                .map_err(|_| None)
        })
    });
    drop(to);
    if let Err(error) = made {
        // What failed at the disk is why nothing was taken.
        ending.joined()?;
        return Err(error.unwrap_or_else(missing));
    }
    Ok(ending)
}

/// Shards whose rows are all there, while they get to the disk: by split and number.
#[must_use = "rows are durable only when it has ended"]
pub struct Ending<'s>(ScopedJoinHandle<'s, Result<Vec<Vec<Option<ShardRecord>>>>>);

impl Ending<'_> {
    /// Waits for the disk: the records.
    pub fn end(self) -> Result<Vec<Vec<ShardRecord>>> {
        let all_of = |shards: Vec<Option<ShardRecord>>| shards.into_iter().collect();
        let records: Option<_> = self.joined()?.into_iter().map(all_of).collect();
        records.ok_or_else(missing)
    }

    fn joined(self) -> Result<Vec<Vec<Option<ShardRecord>>>> {
        let Self(ending) = self;
        ending
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn missing() -> Error {
    Error::Threads("a shard was not made".into())
}

/// A shard whose rows are all there.
enum Filled {
    /// Since an earlier run.
    Before(ShardRecord),
    /// But not on the disk yet; and its path in the dataset.
    Now(Box<ShardWriter>, String),
}

impl Filled {
    /// Makes it durable, and notes it.
    fn end(self, kept: &Kept<'_>) -> Result<ShardRecord> {
        match self {
            Self::Before(record) => Ok(record),
            Self::Now(writer, file) => {
                let record = writer.finish(&file)?;
                kept.put(&record)?;
                Ok(record)
            }
        }
    }
}

/// A shard to be written: the places of an order.
pub struct Part {
    pub bin: usize,
    pub order: Permutation,
    pub range: Range<u64>,
    /// Rows of the split in the bins before.
    pub before: u64,
    pub file: String,
}

/// The path in the dataset of shard `shard` of bin `bin`, where bins hold rows of at most so many tokens as `edges` say.
pub fn name(split: &str, edges: &[u16], bin: usize, shard: u64) -> String {
    match edges.len() {
        1 => format!("{split}/part-{shard:05}.arrow"),
        _ => format!("{split}/to-{:05}-part-{shard:05}.arrow", edges[bin]),
    }
}

/// The shards of a split whose bins have so many rows, balanced to one row in each bin.
pub fn parts(
    config: &Config,
    split: u32,
    rows: &[u64],
    names: impl Fn(usize, u64) -> String,
) -> Vec<Part> {
    let (mut all, mut before) = (Vec::new(), 0);
    for (bin, &rows) in rows.iter().enumerate() {
        let order = Key::new(config.seed, Stage::RowOrder);
        let order = Permutation::new(order, u64::from(split), bin as u32, rows);
        let shards = rows.div_ceil(config.shard_rows);
        let place = |shard: u64| (u128::from(shard) * u128::from(rows) / u128::from(shards)) as u64;
        all.extend((0..shards).map(|shard| Part {
            bin,
            order,
            range: place(shard)..place(shard + 1),
            before,
            file: names(bin, shard),
        }));
        before += rows;
    }
    all
}

/// A shard, and what its rows are made of.
struct Shard<'a, D> {
    maker: &'a RowMaker<'a, D>,
    plan: &'a Plan,
    part: &'a Part,
    rules: RowRules,
    path: PathBuf,
}

impl<D: Documents> Shard<'_, D> {
    /// Writes its rows, while so many batches of them are made ahead.
    fn write<T: Id>(self, ahead: usize, progress: &dyn Progress) -> Result<ShardWriter> {
        let id_type = IdType::for_vocab_size(self.maker.vocabulary.len());
        let has_masks = self.maker.has_masks();
        let rules = self.rules.clone();
        let mut writer = ShardWriter::create(&self.path, id_type, has_masks, rules)?;
        let (own, used) = (&self, Spare::<Making<T>>::default());
        let used = &used;
        rayon::in_place_scope_fifo(|scope| -> Result<()> {
            let mut batches = Ahead::<Result<Making<T>>>::new();
            let mut append = |making: Result<Making<T>>| -> Result<()> {
                let mut making = making?;
                writer.append(&mut making.batch)?;
                used.give(making);
                Ok(())
            };
            let end = self.part.range.end;
            for begin in self.part.range.clone().step_by(ROWS_PER_BATCH) {
                if batches.weight() == ahead
                    && let Some(making) = batches.wait()
                {
                    append(making)?;
                }
                let places = begin..end.min(begin + ROWS_PER_BATCH as u64);
                batches.begin(scope, 1, move || {
                    let new = || Making::new(RowBatch::new(id_type, has_masks, own.rules.clone()));
                    let mut making = used.take().unwrap_or_else(new);
                    making.make(own, places, progress)?;
                    Ok(making)
                });
            }
            while let Some(making) = batches.wait() {
                append(making)?;
            }
            Ok(())
        })?;
        Ok(writer)
    }
}

/// A batch of rows, as it is made, and memory that is used again.
struct Making<T> {
    batch: RowBatch,
    row: Row<T>,
    drawn: Drawn,
}

impl<T: Id> Making<T> {
    fn new(batch: RowBatch) -> Self {
        let (row, drawn) = (Row::default(), Drawn::default());
        Self { batch, row, drawn }
    }

    /// Makes the rows of some places of a shard.
    fn make(
        &mut self,
        shard: &Shard<'_, impl Documents>,
        places: Range<u64>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let Shard {
            maker, plan, part, ..
        } = shard;
        let mut numbers = [0; GROUP];
        let mut recipes = [Recipe::default(); GROUP];
        let mut sources = Vec::with_capacity(GROUP);
        let (mut at, mut rows, mut tokens) = (places.start, 0, 0);
        while at < places.end {
            let count = (places.end - at).min(GROUP as u64) as usize;
            let (numbers, recipes) = (&mut numbers[..count], &mut recipes[..count]);
            part.order.inverses(at, numbers);
            numbers.iter().for_each(|number| plan.prefetch(*number));
            for (number, recipe) in numbers.iter().zip(&mut *recipes) {
                *recipe = plan.recipe(*number);
                maker.prefetch(recipe);
            }
            sources.clear();
            sources.extend(recipes.iter().map(|recipe| maker.sources(recipe)));
            for (recipe, (a, b)) in recipes.iter().zip(&sources) {
                a.prefetch(recipe.a);
                if let (Some((span, _)), Some(b)) = (recipe.b, b) {
                    b.prefetch(span);
                }
            }
            let group = numbers.iter().zip(&*recipes).zip(&sources);
            for (((number, recipe), sources), place) in group.zip(at..) {
                let (row, drawn) = (&mut self.row, &mut self.drawn);
                maker.fill_from(sources, part.before + number, recipe, row, drawn);
                let pushed = self.batch.push(&self.row.view());
                pushed.map_err(|why| cloze_shard::Error::Row {
                    path: shard.path.clone(),
                    row: place - part.range.start,
                    why,
                })?;
                tokens += self.row.input_ids.len() as u64;
            }
            at += count as u64;
            rows += count as u64;
            if rows >= ROWS_TOLD || at == places.end {
                progress.advance(std::mem::take(&mut rows));
                progress.count(0, std::mem::take(&mut tokens));
            }
        }
        Ok(())
    }
}

/// What is known of shards that are written: their records.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    /// The folder of unfinished work, where they are.
    pub folder: &'a Path,
    /// What makes them durable, where that need not be at once.
    pub postponed: Option<&'a Postponed>,
    pub progress: &'a dyn Progress,
}

impl Kept<'_> {
    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(format!("{}.json", file.replace('/', "-")))
    }

    /// The record of a shard that is there, as it was written.
    pub fn get(&self, out: &Path, file: &str) -> Result<Option<ShardRecord>> {
        let say = |said: &str| self.progress.say(said);
        let Some(record) = key::read_or_lost::<ShardRecord>(&self.path(file), say)? else {
            return Ok(None);
        };
        let path = out.join(file);
        let length = std::fs::metadata(&path).map(|m| m.len());
        let there = length.is_ok_and(|n| n == record.file.bytes)
            && atomic::digest(&path)?.blake3 == record.file.blake3;
        Ok(there.then_some(record))
    }

    pub fn put(&self, record: &ShardRecord) -> Result<()> {
        key::write(&self.path(&record.file.path), record, self.postponed)
    }
}
