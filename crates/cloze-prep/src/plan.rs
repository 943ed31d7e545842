//! Stage 2a: pairing over the whole token store, into a spill file of fixed-size recipes.

mod recipes;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::{Path, PathBuf};

use cloze_shard::atomic::Postponed;
use cloze_shard::random::{Key, Stage};
use serde::{Deserialize, Serialize};

use crate::ahead::Ahead;
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
/// Chunks a thread, and sentences in them all, that are paired ahead of those whose recipes are written: bounds memory.
const CHUNKS_AHEAD: usize = 3;
const SENTENCES_AHEAD: usize = 8 << 20;
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

    fn begin(&self, postponed: &Postponed) -> Result<Drafted> {
        let spills = self.paths.iter().map(|p| Spill::create(p, postponed));
        let bins = Bins {
            edges: self.config.bins(),
            spills: spills.collect::<Result<_>>()?,
            planned: Planned::default(),
        };
        let later = self.sorting.map(Later::create).transpose()?;
        Ok(Drafted { bins, later })
    }

    /// How many sentences may be paired ahead, and for how many a chunk of few counts.
    fn sentences_ahead(&self) -> (usize, usize) {
        let memory = self.sorting.map(|s| s.memory.sort() / DRAFT_BYTES);
        let most = memory.unwrap_or(SENTENCES_AHEAD).min(SENTENCES_AHEAD);
        let chunks = CHUNKS_AHEAD * rayon::current_num_threads();
        (most, most.div_ceil(chunks))
    }

    /// [`Planner::chunk`], held.
    fn hold<C: Cursor>(
        &self,
        cursors: impl Fn() -> C,
        chunk: u64,
        duplicate: u32,
        split: usize,
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
        let documents = self.documents_of(chunk);
        Ok(Chunk {
            split,
            documents: documents.end - documents.start,
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

    /// Documents of a chunk, and about how many sentences it has, which bounds its rows.
    fn size(&self, documents: &mut impl Cursor, chunk: u64) -> Result<(u64, usize)> {
        let (range, mut sentences) = (self.documents_of(chunk), 0);
        for i in range.clone() {
            let document = documents.get(i)?;
            sentences += document.sentence_ends.len() + document.input_ids.len() / 64;
        }
        Ok((range.end - range.start, sentences))
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

/// Makes rows of every document of the splits, `dupe_factor` times; `cursors` goes through the documents of one.
pub fn draft<C: Cursor>(
    planners: &[Planner<'_>],
    postponed: &Postponed,
    cursors: impl Fn(usize) -> C + Sync,
    progress: &dyn Progress,
) -> Result<Vec<Drafted>> {
    let begun = planners.iter().map(|planner| planner.begin(postponed));
    let mut drafted: Vec<Drafted> = begun.collect::<Result<_>>()?;
    let cursors = &cursors;
    rayon::in_place_scope_fifo(|scope| -> Result<()> {
        let mut ahead = Ahead::<Result<Chunk>>::new();
        for (split, planner) in planners.iter().enumerate() {
            let (most, least) = planner.sentences_ahead();
            let all = (0..planner.config.dupe_factor)
                .flat_map(|duplicate| (0..planner.chunks()).map(move |chunk| (duplicate, chunk)));
            for (duplicate, chunk) in all {
                let (documents, sentences) = planner.size(&mut cursors(split), chunk)?;
                let sentences = sentences.max(least);
                while let Some(paired) = ahead.done() {
                    paired?.write(&mut drafted, progress)?;
                }
                while ahead.weight() + sentences > most
                    && let Some(paired) = ahead.wait_lightly()
                {
                    paired?.write(&mut drafted, progress)?;
                }
                if sentences <= most {
                    ahead.begin(scope, sentences, move || {
                        planner.hold(|| cursors(split), chunk, duplicate, split)
                    });
                    continue;
                }
                // A chunk of long documents may be too much to hold.
                let Drafted { bins, later } = &mut drafted[split];
                let mut push = |draft: Draft, len: usize| match later {
                    Some(later) => later.push(&draft),
                    None => bins.push(&draft.recipe, len),
                };
                let counts = planner.chunk(|| cursors(split), chunk, duplicate, &mut push)?;
                bins.planned.counts += counts;
                progress.advance(documents);
            }
        }
        while let Some(paired) = ahead.wait() {
            paired?.write(&mut drafted, progress)?;
        }
        Ok(())
    })?;
    Ok(drafted)
}

/// The rows of a chunk: as they are written, each with its length, or those of which some want text from elsewhere.
struct Chunk {
    split: usize,
    documents: u64,
    recipes: Vec<(Encoded, usize)>,
    drafts: Vec<Draft>,
    counts: PairingCounts,
}

impl Chunk {
    fn write(self, drafted: &mut [Drafted], progress: &dyn Progress) -> Result<()> {
        let Drafted { bins, later } = &mut drafted[self.split];
        bins.planned.counts += self.counts;
        for (recipe, len) in self.recipes {
            bins.put(recipe, len)?;
        }
        if let Some(later) = later {
            self.drafts.iter().try_for_each(|draft| later.push(draft))?;
        }
        progress.advance(self.documents);
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
