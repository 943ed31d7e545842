//! Recipes of both splits: written, or found as they were written.

use cloze_shard::atomic;
use serde::{Deserialize, Serialize};

use super::Preparation;
use crate::pairing::Cursor;
use crate::plan::{Drafted, Planned, Planner, RECIPE_BYTES, Sorting, draft};
use crate::progress::Stage;
use crate::split::{SplitIndex, token_kinds};
use crate::{Result, key};

/// What shards were made of, beside the key.
#[derive(PartialEq, Serialize, Deserialize)]
struct PlanNote {
    /// Digest of what was counted of the tokens, sources included.
    tokens: String,
    /// Of a recipe: a program that wrote others says another number, or none.
    #[serde(default)]
    recipe_bytes: usize,
    planned: [Planned; 2],
    /// Of each file of recipes, by split, hexadecimal: of a recipe nobody could tell what it was.
    blake3: [Vec<String>; 2],
}

impl Preparation<'_> {
    /// Whether the recipes of both splits are there as they were written; otherwise they are made anew.
    fn has_recipes(&self, blake3: &[Vec<String>; 2]) -> Result<bool> {
        for (split, digests) in blake3.iter().enumerate() {
            let paths = self.recipes(split);
            if paths.len() != digests.len() {
                return Ok(false);
            }
            for (path, digest) in paths.iter().zip(digests) {
                if !path.exists() || atomic::digest(path)?.blake3 != *digest {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Writes the recipes of both splits, unless they are there; `cursor` goes through the documents of one.
    pub(super) fn plan<C: Cursor>(
        &self,
        indexes: &[SplitIndex; 2],
        tokens: String,
        sorting: Option<Sorting<'_>>,
        cursor: impl Fn(usize) -> C + Sync,
    ) -> Result<[Planned; 2]> {
        let path = self.at("plan.json");
        let there = key::read_or_lost::<PlanNote>(&path, |said| self.progress.say(said))?;
        let is_ours = |note: &PlanNote| note.tokens == tokens && note.recipe_bytes == RECIPE_BYTES;
        let there = there.filter(is_ours);
        let planned = match there {
            Some(note) if self.has_recipes(&note.blake3)? => note.planned,
            _ => {
                self.forget_shards()?;
                let kinds = token_kinds(&self.vocabulary);
                let (config, progress) = (&self.config, self.progress);
                let paths = [self.recipes(0), self.recipes(1)];
                let planner = |split: usize| {
                    let totals = indexes[split].totals;
                    Planner::new(config, totals, &kinds, &paths[split], sorting)
                };
                let planners = [planner(0), planner(1)];
                let all: u64 = indexes.iter().map(|index| index.totals.documents).sum();
                progress.begin(Stage::Pair, all * u64::from(config.dupe_factor));
                let drafted = draft(&planners, &self.postponed, &cursor, progress)?;
                progress.end();
                let left = drafted.iter().map(Drafted::left).sum();
                if left > 0 {
                    progress.begin(Stage::Find, left);
                }
                let (mut planned, mut blake3) = <([Planned; 2], [Vec<String>; 2])>::default();
                for (split, drafted) in drafted.into_iter().enumerate() {
                    (planned[split], blake3[split]) =
                        planners[split].finish(drafted, cursor(split), progress)?;
                }
                if left > 0 {
                    progress.end();
                }
                let note = PlanNote {
                    tokens,
                    recipe_bytes: RECIPE_BYTES,
                    planned,
                    blake3,
                };
                key::write(&path, &note, Some(&self.postponed))?;
                planned
            }
        };
        self.room_for_shards(&planned, sorting.is_some())?;
        Ok(planned)
    }
}
