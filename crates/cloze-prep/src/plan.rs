//! Stage 2a: pairing over the whole token store, into a spill file of fixed-size recipes.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, FixedSizeBinaryArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use cloze_shard::ipc::{IpcFile, IpcFileWriter, map_batches};
use cloze_shard::prefetch;
use cloze_shard::random::{Key, Stage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::memory::Memory;
use crate::pairing::labels::PermutedBlocks;
use crate::pairing::packed::Packing;
use crate::pairing::{
    Cursor, Draft, PairingCounts, PairingRule, Recipe, Setting, Span, TokenKinds, Totals, bert,
    cloze, elsewhere, packed,
};
use crate::resolve::Later;
use crate::{Config, ObjectiveKind, Pairing, Progress, Result};

/// Documents whose labels are balanced together. Part of what a seed means.
const CHUNK: u64 = 1_024;
const RECIPE_BYTES: usize = 33;
/// A recipe in a file.
pub type Encoded = [u8; RECIPE_BYTES];
const RECIPES_PER_BATCH: usize = 65_536;
/// Chunks a thread, and sentences in them all, that are paired before their recipes are written: bounds memory.
const CHUNKS_AT_ONCE: u64 = 4;
const SENTENCES_AT_ONCE: usize = 8 << 20;
/// Bytes of a row that is held, with its length.
const DRAFT_BYTES: usize = size_of::<(Draft, usize)>();

/// The recipes of the rows of a bin of a split, mapped.
pub struct Plan {
    batches: Vec<FixedSizeBinaryArray>,
    rows: u64,
}

/// What pairing a split came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub counts: PairingCounts,
    /// Rows that will be.
    pub rows: u64,
    /// Their tokens, special ones too.
    pub tokens: u64,
}

/// What recipes are made by.
pub struct Planner<'a> {
    pub config: &'a Config,
    pub setting: Setting<'a>,
    /// Where recipes go, a file for each bin.
    pub paths: &'a [PathBuf],
    /// Where text from elsewhere is not looked up at once but in the order of its places.
    pub sorting: Option<Sorting<'a>>,
}

/// How much may be sorted in memory, and the folder for what is more.
#[derive(Clone, Copy, Debug)]
pub struct Sorting<'a> {
    pub memory: Memory,
    pub folder: &'a Path,
}

impl<'a> Planner<'a> {
    /// A planner for the split of `totals`.
    pub fn new(
        config: &'a Config,
        totals: Totals,
        kinds: &'a TokenKinds,
        paths: &'a [PathBuf],
        sorting: Option<Sorting<'a>>,
    ) -> Self {
        let rule = PairingRule {
            max_tokens: config.max_tokens(),
            short_seq_prob: config.short_seq_prob(),
            random_next_ratio: match config.objective {
                ObjectiveKind::Nsp => config.random_next_ratio,
                _ => 0.0,
            },
        };
        Self {
            config,
            setting: Setting {
                rule,
                totals,
                kinds,
            },
            paths,
            // Other objectives want nothing from elsewhere.
            sorting: sorting.filter(|_| config.objective == ObjectiveKind::Nsp),
        }
    }

    /// Makes rows of every document of the split, `dupe_factor` times; `cursors` goes through the documents.
    pub fn draft<C: Cursor>(
        &self,
        cursors: impl Fn() -> C + Sync,
        progress: &dyn Progress,
    ) -> Result<Drafted> {
        let spills = self.paths.iter().map(|p| Spill::create(p));
        let mut bins = Bins {
            edges: self.config.bins(),
            spills: spills.collect::<Result<_>>()?,
            planned: Planned::default(),
        };
        let mut later = self.sorting.map(Later::create).transpose()?;
        let mut push = |draft: Draft, len: usize| match &mut later {
            Some(later) => later.push(&draft),
            None => bins.push(&draft.recipe, len),
        };
        let chunks = self.chunks();
        let mut counts = PairingCounts::default();
        for duplicate in 0..self.config.dupe_factor {
            let mut begin = 0;
            while begin < chunks {
                let end = self.wave(&mut cursors(), begin, chunks)?;
                if end == begin + 1 {
                    // A chunk of long documents alone may be too much to hold.
                    counts += self.chunk(&cursors, begin, duplicate, &mut push)?;
                } else {
                    let chunk = |chunk| {
                        let mut drafts = Vec::new();
                        let mut hold = |draft, len| {
                            drafts.push((draft, len));
                            Ok(())
                        };
                        let counts = self.chunk(&cursors, chunk, duplicate, &mut hold)?;
                        Ok((drafts, counts))
                    };
                    let paired: Vec<(Vec<(Draft, usize)>, PairingCounts)> = (begin..end)
                        .into_par_iter()
                        .map(chunk)
                        .collect::<Result<_>>()?;
                    for (drafts, more) in paired {
                        counts += more;
                        drafts.into_iter().try_for_each(|(d, len)| push(d, len))?;
                    }
                }
                for chunk in begin..end {
                    let documents = self.documents_of(chunk);
                    progress.advance(documents.end - documents.start);
                }
                begin = end;
            }
        }
        bins.planned.counts = counts;
        Ok(Drafted { bins, later })
    }

    /// Finds what drafts still want, and writes the recipes.
    pub fn finish(
        &self,
        drafted: Drafted,
        mut cursor: impl Cursor,
        progress: &dyn Progress,
    ) -> Result<Planned> {
        let Drafted { mut bins, later } = drafted;
        if let Some(later) = later {
            let (pairing, setting) = (self.config.pairing, &self.setting);
            let mut emit = |recipe: &Recipe| bins.push(recipe, pair_tokens(recipe));
            let counts = later.resolve(pairing, setting, &mut cursor, &mut emit, progress)?;
            bins.planned.counts += counts;
        }
        bins.spills.into_iter().try_for_each(Spill::finish)?;
        Ok(bins.planned)
    }

    /// The number of chunks of documents.
    pub fn chunks(&self) -> u64 {
        self.setting.totals.documents.div_ceil(CHUNK)
    }

    fn documents_of(&self, chunk: u64) -> Range<u64> {
        chunk * CHUNK..((chunk + 1) * CHUNK).min(self.setting.totals.documents)
    }

    /// The end of the chunks from `begin` that are paired before their recipes are written.
    fn wave(&self, documents: &mut impl Cursor, begin: u64, chunks: u64) -> Result<u64> {
        let most = begin + CHUNKS_AT_ONCE * rayon::current_num_threads() as u64;
        let most = most.min(chunks);
        let memory = self.sorting.map(|s| s.memory.sort() / DRAFT_BYTES);
        let most_sentences = memory.unwrap_or(SENTENCES_AT_ONCE).min(SENTENCES_AT_ONCE);
        let mut sentences = 0;
        for chunk in begin..most {
            for i in self.documents_of(chunk) {
                let document = documents.get(i)?;
                sentences += document.sentence_ends.len() + document.input_ids.len() / 64;
            }
            if sentences > most_sentences {
                return Ok(chunk.max(begin + 1));
            }
        }
        Ok(most)
    }

    /// The rows of a chunk, each with its length, if that is known.
    pub fn chunk<C: Cursor>(
        &self,
        cursors: impl Fn() -> C,
        chunk: u64,
        duplicate: u32,
        emit: &mut impl FnMut(Draft, usize) -> Result<()>,
    ) -> Result<PairingCounts> {
        let mut counts = PairingCounts::default();
        let mut documents = cursors();
        let range = self.documents_of(chunk);
        let draws = |index| Key::new(self.config.seed, Stage::Pairing).stream(index, duplicate);
        let labels = Key::new(self.config.seed, Stage::Label).stream(chunk, duplicate);
        let setting = &self.setting;
        let crossing = match self.config.objective {
            ObjectiveKind::Nsp | ObjectiveKind::Sop => None,
            ObjectiveKind::FullSentences => Some(true),
            ObjectiveKind::DocSentences => Some(false),
        };
        if let Some(crossing) = crossing {
            let mut draws = draws(range.start);
            let packing = Packing {
                crossing,
                duplicate,
                setting,
            };
            packed::pack(
                &mut documents,
                range,
                packing,
                &mut draws,
                &mut counts,
                &mut |recipe: Recipe, places| emit(recipe.into(), places + 2),
            )?;
            return Ok(counts);
        }
        let (pairing, is_sop) = (
            self.config.pairing,
            self.config.objective == ObjectiveKind::Sop,
        );
        let mut swaps = PermutedBlocks::new(0.5, labels.clone());
        let mut elsewhere = cursors();
        let mut found = PairingCounts::default();
        let mut together = elsewhere::Together::default();
        let mut hold = |mut draft: Draft| {
            let recipe = &mut draft.recipe;
            if let Some((b, false)) = recipe.b
                && is_sop
                && swaps.draw()
            {
                (recipe.a, recipe.b) = (b, Some((recipe.a, true)));
            }
            if self.sorting.is_some() {
                return emit(draft, pair_tokens(&draft.recipe));
            }
            if together.hold(draft) {
                let mut emit = |recipe: Recipe| emit(recipe.into(), pair_tokens(&recipe));
                together.look_up(pairing, setting, &mut elsewhere, &mut found, &mut emit)?;
            }
            Ok(())
        };
        let mut labels = PermutedBlocks::new(setting.rule.random_next_ratio, labels);
        for index in range {
            let mut draws = draws(index);
            let document = documents.get(index)?;
            match pairing {
                Pairing::Cloze => cloze::pair(
                    &document,
                    index,
                    setting,
                    &mut labels,
                    &mut draws,
                    &mut counts,
                    &mut hold,
                ),
                Pairing::Bert => bert::pair(
                    &document,
                    index,
                    setting,
                    &mut draws,
                    &mut counts,
                    &mut hold,
                ),
            }?;
        }
        let mut emit = |recipe: Recipe| emit(recipe.into(), pair_tokens(&recipe));
        together.look_up(pairing, setting, &mut elsewhere, &mut found, &mut emit)?;
        counts += found;
        Ok(counts)
    }
}

/// Rows of a split, of which some may want text from elsewhere.
pub struct Drafted {
    bins: Bins,
    later: Option<Later>,
}

impl Drafted {
    /// How many rows are not finished.
    pub fn left(&self) -> u64 {
        self.later.as_ref().map_or(0, Later::rows)
    }
}

/// Tokens of a row of one segment or a pair, special ones too.
fn pair_tokens(recipe: &Recipe) -> usize {
    let b = recipe.b.map_or(0, |(b, _)| b.len as usize + 1);
    recipe.a.len as usize + 2 + b
}

/// The recipes of a split, as they are written: by the length of their rows.
struct Bins {
    /// Most tokens of a row of each bin, ascending.
    edges: Vec<u16>,
    spills: Vec<Spill>,
    planned: Planned,
}

impl Bins {
    fn push(&mut self, recipe: &Recipe, len: usize) -> Result<()> {
        let bin = self.edges.partition_point(|&edge| usize::from(edge) < len);
        self.planned.rows += 1;
        self.planned.tokens += len as u64;
        self.spills[bin.min(self.edges.len() - 1)].push(encode(recipe))
    }
}

fn schema() -> SchemaRef {
    let recipe = DataType::FixedSizeBinary(RECIPE_BYTES as i32);
    Arc::new(Schema::new(vec![Field::new("recipe", recipe, false)]))
}

/// A file of recipes, as it is written.
struct Spill {
    writer: IpcFileWriter,
    batch: FixedSizeBinaryBuilder,
    held: usize,
}

impl Spill {
    fn create(path: &Path) -> Result<Self> {
        let writer = IpcFileWriter::undigested(path, &schema())?;
        Ok(Self {
            writer,
            batch: FixedSizeBinaryBuilder::new(RECIPE_BYTES as i32),
            held: 0,
        })
    }

    fn push(&mut self, recipe: Encoded) -> Result<()> {
        self.batch
            .append_value(recipe)
            .expect("the encoding has the column's width");
        self.held += 1;
        if self.held == RECIPES_PER_BATCH {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.held = 0;
        let column = Arc::new(self.batch.finish());
        let batch =
            RecordBatch::try_new(schema(), vec![column]).expect("the column has the schema's type");
        Ok(self.writer.write(&batch)?)
    }

    fn finish(mut self) -> Result<()> {
        if self.held > 0 {
            self.flush()?;
        }
        self.writer.finish()?;
        Ok(())
    }
}

/// Goes through a file of recipes, a batch at a time.
pub fn each(path: &Path, mut take: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let file = IpcFile::open(path, &schema())?;
    let mut number = 0;
    for batch in 0..file.len() {
        let batch = file.batch(batch)?;
        let recipes = batch.column(0).as_fixed_size_binary();
        for i in 0..recipes.len() {
            take(number, recipes.value(i))?;
            number += 1;
        }
    }
    Ok(())
}

impl Plan {
    /// Maps the recipes that [`plan`] wrote.
    pub fn open(path: &Path) -> Result<Self> {
        let batches = map_batches(path, &schema())?;
        let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
        let batches = batches
            .iter()
            .map(|b| b.column(0).as_fixed_size_binary().clone())
            .collect();
        Ok(Self { batches, rows })
    }

    /// The number of rows that will be.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn bytes(&self, i: u64) -> &[u8] {
        let batch = &self.batches[(i / RECIPES_PER_BATCH as u64) as usize];
        batch.value((i % RECIPES_PER_BATCH as u64) as usize)
    }

    /// Has the processor fetch what [`Plan::recipe`] will read.
    pub fn prefetch(&self, i: u64) {
        prefetch(self.bytes(i));
    }

    /// Recipe `i`, below [`Plan::rows`].
    pub fn recipe(&self, i: u64) -> Recipe {
        decode(self.bytes(i))
    }
}

/// The number of recipes in a file.
pub fn rows(path: &Path) -> Result<u64> {
    let file = IpcFile::open(path, &schema())?;
    let rows = (0..file.len()).map(|batch| Ok(file.rows(batch)? as u64));
    rows.sum()
}

/// A recipe as it is in files.
pub fn encode(recipe: &Recipe) -> Encoded {
    let (b, kind) = match recipe.b {
        None => (Span::default(), 0),
        Some((b, false)) => (b, 1),
        Some((b, true)) => (b, 2),
    };
    let mut bytes = [0; RECIPE_BYTES];
    for (place, span) in [(0, recipe.a), (16, b)] {
        bytes[place..place + 8].copy_from_slice(&span.document.to_le_bytes());
        bytes[place + 8..place + 12].copy_from_slice(&span.start.to_le_bytes());
        bytes[place + 12..place + 16].copy_from_slice(&span.len.to_le_bytes());
    }
    bytes[32] = kind;
    bytes
}

/// The recipe that was [encoded](encode).
pub fn decode(bytes: &[u8]) -> Recipe {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let span = |at: usize| Span {
        document: u64::from(word(at)) | u64::from(word(at + 4)) << 32,
        start: word(at + 8),
        len: word(at + 12),
    };
    let b = match bytes[32] {
        0 => None,
        kind => Some((span(16), kind == 2)),
    };
    Recipe { a: span(0), b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;
    use crate::pairing::tests_support::InMemory;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn recipes_survive_encoding(a: (u64, u32, u32), b: (u64, u32, u32), kind in 0u8..3) {
            let span = |(document, start, len)| Span { document, start, len };
            let b = (kind > 0).then_some((span(b), kind == 2));
            let recipe = Recipe { a: span(a), b };
            prop_assert_eq!(decode(&encode(&recipe)), recipe);
        }
    }

    fn documents() -> InMemory {
        let lengths: Vec<Vec<u32>> = (0..5_000u32)
            .map(|i| (0..1 + i % 9).map(|j| 5 + (i * 7 + j) % 60).collect())
            .collect();
        InMemory::new(&lengths)
    }

    fn configs() -> Vec<Config> {
        use ObjectiveKind::*;
        let of = |objective, pairing, bins: &[u16]| Config {
            objective,
            pairing,
            bins: bins.to_vec(),
            dupe_factor: 3,
            ..Config::default()
        };
        vec![
            of(Nsp, Pairing::Cloze, &[]),
            of(Nsp, Pairing::Bert, &[32, 64]),
            of(Sop, Pairing::Cloze, &[]),
            of(FullSentences, Pairing::Cloze, &[40]),
            of(DocSentences, Pairing::Cloze, &[]),
        ]
    }

    fn planned(
        documents: &InMemory,
        config: &Config,
        paths: &[PathBuf],
        sorting: Option<Sorting<'_>>,
    ) -> Planned {
        let (totals, kinds) = (documents.totals(), documents.kinds());
        let planner = Planner::new(config, totals, kinds, paths, sorting);
        let drafted = planner.draft(|| documents, &Silent).unwrap();
        planner.finish(drafted, documents, &Silent).unwrap()
    }

    /// Neither on threads nor on whether what is wanted from elsewhere is sorted; also where most ask again, or nothing else is there.
    #[test]
    fn plans_do_not_depend_on_how_they_are_made() {
        let twins = |n: usize| {
            let twins = InMemory::new(&vec![vec![9, 4, 20, 3]; n]);
            (2..n).fold(twins, |twins, i| twins.with_doc(i, 1))
        };
        let folder = tempfile::tempdir().unwrap();
        for (which, documents) in [documents(), twins(700), twins(1)].iter().enumerate() {
            for (number, config) in configs().iter().enumerate() {
                let with = |jobs: usize, memory: Option<u64>| {
                    let name = |i| folder.path().join(format!("{which}-{number}-{jobs}-{i}"));
                    let paths: Vec<PathBuf> = (0..config.bins().len()).map(name).collect();
                    let pool = rayon::ThreadPoolBuilder::new()
                        .num_threads(jobs)
                        .build()
                        .unwrap();
                    let sorting = memory.map(|memory| Sorting {
                        memory: Memory::new(Some(memory)),
                        folder: folder.path(),
                    });
                    let planned = pool.install(|| planned(documents, config, &paths, sorting));
                    let bytes: Vec<Vec<u8>> =
                        paths.iter().map(|p| std::fs::read(p).unwrap()).collect();
                    (planned, bytes)
                };
                let one = with(1, None);
                assert!(one.0.rows > 0);
                for (jobs, memory) in [(2, None), (5, None), (1, Some(1 << 14)), (3, Some(1 << 30))]
                {
                    assert!(
                        one == with(jobs, memory),
                        "{which} {number} {jobs} {memory:?}"
                    );
                }
            }
        }
        let plan = Plan::open(&folder.path().join("0-0-1-0")).unwrap();
        assert!(plan.rows() > 3 * 5_000);
        assert_eq!(plan.recipe(0).a.document, 0);
        assert_eq!(plan.recipe(plan.rows() - 1).a.document, 4_999);
    }

    /// Bins take the rows apart by length, and lose none.
    #[test]
    fn bins_are_by_length() {
        let (documents, folder) = (documents(), tempfile::tempdir().unwrap());
        let rows = |bins: &[u16]| -> Vec<Vec<Recipe>> {
            let config = Config {
                bins: bins.to_vec(),
                ..Config::default()
            };
            let paths: Vec<PathBuf> = (0..config.bins().len())
                .map(|i| folder.path().join(format!("{}-{i}", bins.len())))
                .collect();
            let planned = planned(&documents, &config, &paths, None);
            let plans: Vec<Plan> = paths.iter().map(|p| Plan::open(p).unwrap()).collect();
            assert_eq!(planned.rows, plans.iter().map(Plan::rows).sum::<u64>());
            plans
                .iter()
                .map(|p| (0..p.rows()).map(|i| p.recipe(i)).collect())
                .collect()
        };
        let (all, binned) = (&rows(&[])[0], rows(&[32, 100]));
        let len = |r: &Recipe| 2 + r.a.len + r.b.map_or(0, |(b, _)| b.len + 1);
        for (bin, (low, high)) in binned.iter().zip([(0, 32), (32, 100), (100, 128)]) {
            let wanted: Vec<Recipe> = all
                .iter()
                .filter(|r| (low + 1..=high).contains(&len(r)))
                .copied()
                .collect();
            assert!(wanted.len() > 50 && *bin == wanted);
        }
    }

    /// Half of the pairs of sentence order prediction are turned around, and nothing else is another than in order.
    #[test]
    fn sop_turns_half_around() {
        let (documents, folder) = (documents(), tempfile::tempdir().unwrap());
        let config = Config {
            objective: ObjectiveKind::Sop,
            ..Config::default()
        };
        let path = folder.path().join("sop");
        planned(&documents, &config, std::slice::from_ref(&path), None);
        let plan = Plan::open(&path).unwrap();
        let mut turned = 0;
        let mut pairs = 0;
        for i in 0..plan.rows() {
            let recipe = plan.recipe(i);
            let Some((b, swapped)) = recipe.b else {
                continue;
            };
            let (first, second) = if swapped {
                (b, recipe.a)
            } else {
                (recipe.a, b)
            };
            assert_eq!(
                (first.document, first.end()),
                (second.document, second.start)
            );
            turned += u64::from(swapped);
            pairs += 1;
        }
        // Exact in every 16 of a chunk; there are five chunks.
        assert!(
            pairs > 5_000 && turned.abs_diff(pairs - turned) <= 5 * 16,
            "{turned} of {pairs}"
        );
    }
}
