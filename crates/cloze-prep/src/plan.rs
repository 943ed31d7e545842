//! Stage 2a: pairing over the whole token store, into a spill file of fixed-size recipes.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{FixedSizeBinaryArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use cloze_shard::ipc::{IpcFileWriter, map_batches};
use cloze_shard::prefetch;
use cloze_shard::random::{Key, Stage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::pairing::labels::PermutedBlocks;
use crate::pairing::packed::Packing;
use crate::pairing::{Documents, PairingCounts, PairingRule, Recipe, Span, bert, cloze, packed};
use crate::{Config, ObjectiveKind, Pairing, Progress, Result};

/// Documents whose labels are balanced together. Part of what a seed means.
const CHUNK: u64 = 1_024;
const RECIPE_BYTES: usize = 33;
const RECIPES_PER_BATCH: usize = 65_536;
/// Chunks, and sentences in them, that are paired before their recipes are written: bounds memory.
const CHUNKS_AT_ONCE: u64 = 64;
const SENTENCES_AT_ONCE: usize = 8 << 20;

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

/// Makes rows of every document of a split, `dupe_factor` times, and writes the recipes to `paths`, one for each bin of `config`.
pub fn plan(
    documents: &impl Documents,
    config: &Config,
    paths: &[PathBuf],
    progress: &dyn Progress,
) -> Result<Planned> {
    let pairer = Pairer::new(documents, config);
    let mut bins = Bins {
        edges: config.bins(),
        spills: paths
            .iter()
            .map(|p| Spill::create(p))
            .collect::<Result<_>>()?,
        planned: Planned::default(),
    };
    let chunks = pairer.chunks();
    for duplicate in 0..config.dupe_factor {
        let mut begin = 0;
        while begin < chunks {
            let end = pairer.wave(begin, chunks);
            if end == begin + 1 {
                // A chunk of long documents alone may be too much to hold.
                let mut failed = Ok(());
                let mut emit = |recipe: Recipe, len| {
                    if failed.is_ok() {
                        failed = bins.push(&recipe, len);
                    }
                };
                let counts = pairer.chunk(begin, duplicate, &mut emit);
                failed?;
                bins.planned.counts += counts;
            } else {
                let paired: Vec<(Vec<(Recipe, usize)>, PairingCounts)> = (begin..end)
                    .into_par_iter()
                    .map(|chunk| {
                        let mut recipes = Vec::new();
                        let counts =
                            pairer.chunk(chunk, duplicate, &mut |r, len| recipes.push((r, len)));
                        (recipes, counts)
                    })
                    .collect();
                for (recipes, counts) in paired {
                    bins.planned.counts += counts;
                    recipes.iter().try_for_each(|(r, len)| bins.push(r, *len))?;
                }
            }
            for chunk in begin..end {
                progress.advance(pairer.documents_of(chunk).count() as u64);
            }
            begin = end;
        }
    }
    bins.spills.into_iter().try_for_each(Spill::finish)?;
    Ok(bins.planned)
}

/// Makes rows of documents.
pub struct Pairer<'a, D> {
    documents: &'a D,
    config: &'a Config,
    rule: PairingRule,
}

impl<'a, D: Documents> Pairer<'a, D> {
    /// As `config` has it.
    pub fn new(documents: &'a D, config: &'a Config) -> Self {
        Self {
            documents,
            config,
            rule: PairingRule {
                max_tokens: config.max_tokens(),
                short_seq_prob: config.short_seq_prob(),
                random_next_ratio: match config.objective {
                    ObjectiveKind::Nsp => config.random_next_ratio,
                    _ => 0.0,
                },
            },
        }
    }

    /// The number of chunks of documents.
    pub fn chunks(&self) -> u64 {
        self.documents.len().div_ceil(CHUNK)
    }

    fn documents_of(&self, chunk: u64) -> Range<u64> {
        chunk * CHUNK..((chunk + 1) * CHUNK).min(self.documents.len())
    }

    /// The end of the chunks from `begin` that are paired before their recipes are written.
    fn wave(&self, begin: u64, chunks: u64) -> u64 {
        let mut sentences = 0;
        let most = (begin + CHUNKS_AT_ONCE).min(chunks);
        let end = (begin..most).find(|&chunk| {
            let of = self.documents_of(chunk).map(|i| self.documents.get(i));
            sentences += of
                .map(|d| d.sentence_ends.len() + d.input_ids.len() / 64)
                .sum::<usize>();
            sentences > SENTENCES_AT_ONCE
        });
        end.unwrap_or(most).max(begin + 1)
    }

    /// The recipes of a chunk, each with the length of its row.
    pub fn chunk(
        &self,
        chunk: u64,
        duplicate: u32,
        emit: &mut impl FnMut(Recipe, usize),
    ) -> PairingCounts {
        let mut counts = PairingCounts::default();
        let range = self.documents_of(chunk);
        let draws = |index| Key::new(self.config.seed, Stage::Pairing).stream(index, duplicate);
        let labels = Key::new(self.config.seed, Stage::Label).stream(chunk, duplicate);
        let rule = &self.rule;
        let crossing = match self.config.objective {
            ObjectiveKind::Nsp | ObjectiveKind::Sop => None,
            ObjectiveKind::FullSentences => Some(true),
            ObjectiveKind::DocSentences => Some(false),
        };
        if let Some(crossing) = crossing {
            let mut draws = draws(range.start);
            let mut emit = |recipe: Recipe| {
                let parts = match crossing {
                    true => packed::parts(self.documents, recipe.a).count(),
                    false => 1,
                };
                emit(recipe, recipe.a.len as usize + 1 + parts);
            };
            let documents = self.documents;
            let packing = Packing {
                crossing,
                duplicate,
                rule,
            };
            packed::pack(
                documents,
                range,
                packing,
                &mut draws,
                &mut counts,
                &mut emit,
            );
            return counts;
        }
        let is_sop = self.config.objective == ObjectiveKind::Sop;
        let mut swaps = PermutedBlocks::new(0.5, labels.clone());
        let mut emit = |mut recipe: Recipe| {
            if let Some((b, false)) = recipe.b
                && is_sop
                && swaps.draw()
            {
                (recipe.a, recipe.b) = (b, Some((recipe.a, true)));
            }
            let b = recipe.b.map_or(0, |(b, _)| b.len as usize + 1);
            emit(recipe, recipe.a.len as usize + 2 + b);
        };
        let mut labels = PermutedBlocks::new(rule.random_next_ratio, labels);
        for index in range {
            let mut draws = draws(index);
            let documents = self.documents;
            match self.config.pairing {
                Pairing::Cloze => {
                    cloze::pair(
                        documents,
                        index,
                        rule,
                        &mut labels,
                        &mut draws,
                        &mut counts,
                        &mut emit,
                    );
                }
                Pairing::Bert => {
                    bert::pair(documents, index, rule, &mut draws, &mut counts, &mut emit);
                }
            }
        }
        counts
    }
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
        self.spills[bin.min(self.edges.len() - 1)].push(recipe)
    }
}

fn schema() -> SchemaRef {
    let recipe = DataType::FixedSizeBinary(RECIPE_BYTES as i32);
    Arc::new(Schema::new(vec![Field::new("recipe", recipe, false)]))
}

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

    fn push(&mut self, recipe: &Recipe) -> Result<()> {
        self.batch
            .append_value(encode(recipe))
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

fn encode(recipe: &Recipe) -> [u8; RECIPE_BYTES] {
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

fn decode(bytes: &[u8]) -> Recipe {
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

    #[test]
    fn plans_do_not_depend_on_threads() {
        let documents = documents();
        let folder = tempfile::tempdir().unwrap();
        for (number, config) in configs().iter().enumerate() {
            let with = |jobs: usize| {
                let name = |i| folder.path().join(format!("{number}-{jobs}-{i}"));
                let paths: Vec<PathBuf> = (0..config.bins().len()).map(name).collect();
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(jobs)
                    .build()
                    .unwrap();
                let planned = pool
                    .install(|| plan(&documents, config, &paths, &Silent))
                    .unwrap();
                let bytes: Vec<Vec<u8>> = paths.iter().map(|p| std::fs::read(p).unwrap()).collect();
                (planned, bytes)
            };
            let one = with(1);
            assert!(one == with(2) && one == with(5));
        }
        let plan = Plan::open(&folder.path().join("0-1-0")).unwrap();
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
            let planned = plan(&documents, &config, &paths, &Silent).unwrap();
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
        plan(&documents, &config, std::slice::from_ref(&path), &Silent).unwrap();
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
