//! Stage 2a: pairing over the whole token store, into a spill file of fixed-size recipes.

mod recipes;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::{Path, PathBuf};

use cloze_shard::random::{Key, Stage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::memory::Memory;
use crate::pairing::labels::PermutedBlocks;
use crate::pairing::packed::Packing;
use crate::pairing::{
    Cursor, Draft, PairingCounts, PairingRule, Recipe, Setting, TokenKinds, Totals, bert, cloze,
    elsewhere, packed,
};
use crate::resolve::Later;
use crate::{Config, ObjectiveKind, Pairing, Progress, Result};

use self::recipes::{Encoded, Spill, encode};
pub use self::recipes::{Plan, RECIPE_BYTES, decode, each, rows};

/// Documents whose labels are balanced together. Part of what a seed means.
const CHUNK: u64 = 1_024;
/// Chunks a thread, and sentences in them all, that are paired at a time, while the recipes of those before are written: bounds memory.
const CHUNKS_AT_ONCE: u64 = 2;
const SENTENCES_AT_ONCE: usize = 4 << 20;
/// Bytes of a row that is held.
const DRAFT_BYTES: usize = size_of::<Draft>();

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
        let chunks = self.chunks();
        // Those that are paired, and not written yet.
        let mut before: Vec<Chunk> = Vec::new();
        for duplicate in 0..self.config.dupe_factor {
            let mut begin = 0;
            while begin < chunks {
                let end = self.wave(&mut cursors(), begin, chunks)?;
                // A chunk of long documents alone may be too much to hold.
                let is_held = end > begin + 1;
                let mut paired: Result<Vec<Chunk>> = Ok(Vec::new());
                let hold = |chunk| self.hold(&cursors, chunk, duplicate);
                let written = rayon::in_place_scope(|scope| {
                    if is_held {
                        scope.spawn(|_| {
                            paired = (begin..end).into_par_iter().map(hold).collect();
                        });
                    }
                    before
                        .drain(..)
                        .try_for_each(|chunk| chunk.write(&mut bins, &mut later))
                });
                written?;
                before = paired?;
                if !is_held {
                    let mut push = |draft: Draft, len: usize| match &mut later {
                        Some(later) => later.push(&draft),
                        None => bins.push(&draft.recipe, len),
                    };
                    let counts = self.chunk(&cursors, begin, duplicate, &mut push)?;
                    bins.planned.counts += counts;
                }
                for chunk in begin..end {
                    let documents = self.documents_of(chunk);
                    progress.advance(documents.end - documents.start);
                }
                begin = end;
            }
        }
        for chunk in before {
            chunk.write(&mut bins, &mut later)?;
        }
        Ok(Drafted { bins, later })
    }

    /// [`Planner::chunk`], held.
    fn hold<C: Cursor>(
        &self,
        cursors: impl Fn() -> C,
        chunk: u64,
        duplicate: u32,
    ) -> Result<Chunk> {
        let (mut drafts, mut recipes) = (Vec::new(), Vec::new());
        let is_later = self.sorting.is_some();
        let mut hold = |draft: Draft, len| {
            match is_later {
                true => drafts.push(draft),
                false => recipes.push((encode(&draft.recipe), len)),
            }
            Ok(())
        };
        let counts = self.chunk(cursors, chunk, duplicate, &mut hold)?;
        Ok(Chunk {
            drafts,
            recipes,
            counts,
        })
    }

    /// Finds what drafts still want, and writes the recipes; the blake3 of each file of them.
    pub fn finish(
        &self,
        drafted: Drafted,
        mut cursor: impl Cursor,
        progress: &dyn Progress,
    ) -> Result<(Planned, Vec<String>)> {
        let Drafted { mut bins, later } = drafted;
        if let Some(later) = later {
            let (pairing, setting) = (self.config.pairing, &self.setting);
            let mut emit = |recipe: &Recipe| bins.push(recipe, pair_tokens(recipe));
            let counts = later.resolve(pairing, setting, &mut cursor, &mut emit, progress)?;
            bins.planned.counts += counts;
        }
        let files = bins.spills.into_iter().map(Spill::finish);
        Ok((bins.planned, files.collect::<Result<_>>()?))
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
        // Two waves are held.
        let memory = self.sorting.map(|s| s.memory.sort() / DRAFT_BYTES / 2);
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

/// The rows of a chunk: as they are written, each with its length, or those of which some want text from elsewhere.
struct Chunk {
    recipes: Vec<(Encoded, usize)>,
    drafts: Vec<Draft>,
    counts: PairingCounts,
}

impl Chunk {
    fn write(self, bins: &mut Bins, later: &mut Option<Later>) -> Result<()> {
        bins.planned.counts += self.counts;
        for (recipe, len) in self.recipes {
            bins.put(recipe, len)?;
        }
        if let Some(later) = later {
            self.drafts.iter().try_for_each(|draft| later.push(draft))?;
        }
        Ok(())
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
        self.put(encode(recipe), len)
    }

    fn put(&mut self, recipe: Encoded, len: usize) -> Result<()> {
        let bin = self.edges.partition_point(|&edge| usize::from(edge) < len);
        self.planned.rows += 1;
        self.planned.tokens += len as u64;
        self.spills[bin.min(self.edges.len() - 1)].push(recipe)
    }
}
