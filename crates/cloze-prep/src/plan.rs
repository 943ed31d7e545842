//! Stage 2a: pairing over the whole token store, into a spill file of fixed-size recipes.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{FixedSizeBinaryArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use cloze_shard::ipc::{IpcFileWriter, map_batches};
use cloze_shard::random::{Key, Stage};
use rayon::prelude::*;

use crate::pairing::labels::PermutedBlocks;
use crate::pairing::{Documents, PairingCounts, PairingRule, Recipe, Span, bert, cloze};
use crate::{Config, Pairing, Progress, Result};

/// Documents whose labels are balanced together. Part of what a seed means.
const CHUNK: u64 = 1_024;
const RECIPE_BYTES: usize = 33;
const RECIPES_PER_BATCH: usize = 65_536;
/// Chunks that are paired before their recipes are written: bounds memory.
const CHUNKS_AT_ONCE: u64 = 64;

/// The recipes of a split, mapped.
pub struct Plan {
    batches: Vec<FixedSizeBinaryArray>,
    rows: u64,
}

/// Pairs every document of a split, `dupe_factor` times, and writes the recipes to `path`.
pub fn plan(
    documents: &impl Documents,
    config: &Config,
    path: &Path,
    progress: &dyn Progress,
) -> Result<PairingCounts> {
    let rule = PairingRule {
        max_tokens: config.max_tokens(),
        short_seq_prob: config.short_seq_prob,
        random_next_ratio: config.random_next_ratio,
    };
    let mut spill = Spill::create(path)?;
    let mut counts = PairingCounts::default();
    let chunks = documents.len().div_ceil(CHUNK);
    for duplicate in 0..config.dupe_factor {
        for begin in (0..chunks).step_by(CHUNKS_AT_ONCE as usize) {
            let end = (begin + CHUNKS_AT_ONCE).min(chunks);
            let paired: Vec<(Vec<Recipe>, PairingCounts)> = (begin..end)
                .into_par_iter()
                .map(|chunk| pair_chunk(documents, config, &rule, chunk, duplicate, progress))
                .collect();
            for (recipes, chunk_counts) in paired {
                counts += chunk_counts;
                recipes.iter().try_for_each(|r| spill.push(r))?;
            }
        }
    }
    spill.finish()?;
    Ok(counts)
}

fn pair_chunk(
    documents: &impl Documents,
    config: &Config,
    rule: &PairingRule,
    chunk: u64,
    duplicate: u32,
    progress: &dyn Progress,
) -> (Vec<Recipe>, PairingCounts) {
    let (mut recipes, mut counts) = (Vec::new(), PairingCounts::default());
    let labels = Key::new(config.seed, Stage::Label).stream(chunk, duplicate);
    let mut labels = PermutedBlocks::new(rule.random_next_ratio, labels);
    let end = ((chunk + 1) * CHUNK).min(documents.len());
    for index in chunk * CHUNK..end {
        let mut draws = Key::new(config.seed, Stage::Pairing).stream(index, duplicate);
        let mut emit = |recipe| recipes.push(recipe);
        match config.pairing {
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
            Pairing::Bert => bert::pair(documents, index, rule, &mut draws, &mut counts, &mut emit),
        }
    }
    progress.advance(end - chunk * CHUNK);
    (recipes, counts)
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
        let writer = IpcFileWriter::create(path, &schema())?;
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

    /// Recipe `i`, below [`Plan::rows`].
    pub fn recipe(&self, i: u64) -> Recipe {
        let batch = &self.batches[(i / RECIPES_PER_BATCH as u64) as usize];
        decode(batch.value((i % RECIPES_PER_BATCH as u64) as usize))
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

    #[test]
    fn plans_do_not_depend_on_threads() {
        let lengths: Vec<Vec<u32>> = (0..5_000u32)
            .map(|i| (0..1 + i % 9).map(|j| 5 + (i * 7 + j) % 60).collect())
            .collect();
        let documents = InMemory::new(&lengths);
        let folder = tempfile::tempdir().unwrap();
        for pairing in [Pairing::Cloze, Pairing::Bert] {
            let config = Config {
                pairing,
                dupe_factor: 3,
                ..Config::default()
            };
            let bytes: Vec<Vec<u8>> = [1, 2, 5]
                .iter()
                .map(|&jobs| {
                    let path = folder.path().join(format!("{jobs}"));
                    let pool = rayon::ThreadPoolBuilder::new()
                        .num_threads(jobs)
                        .build()
                        .unwrap();
                    pool.install(|| plan(&documents, &config, &path, &Silent))
                        .unwrap();
                    std::fs::read(path).unwrap()
                })
                .collect();
            assert!(bytes[0] == bytes[1] && bytes[1] == bytes[2]);
        }
        let plan = Plan::open(&folder.path().join("1")).unwrap();
        assert!(plan.rows() > 3 * 5_000);
        assert_eq!(plan.recipe(0).a.document, 0);
        assert_eq!(plan.recipe(plan.rows() - 1).a.document, 4_999);
    }
}
