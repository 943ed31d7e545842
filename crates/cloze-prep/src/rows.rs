//! Rows without the files that they go through: what is written, in the order in which it is planned.

use cloze_shard::rules::RowRules;
use cloze_shard::{Row, Vocabulary};

use crate::pairing::{Documents, PairingCounts, Recipe, Totals};
use crate::plan::Planner;
use crate::shards::{Drawn, RowMaker};
use crate::split::token_kinds;
use crate::{Config, Result};

/// Tells `each` the rows of a split's `documents`, before they are shuffled, with the recipe of each, the number of its duplicate, and what rows must keep to.
///
/// `totals` are those of the documents, `config` is one that [`Config::check`] accepts.
pub fn rows(
    documents: &impl Documents,
    totals: Totals,
    vocabulary: &Vocabulary,
    config: &Config,
    each: &mut impl FnMut(u32, &Recipe, &Row, &RowRules),
) -> Result<PairingCounts> {
    let kinds = token_kinds(vocabulary);
    let planner = Planner::new(config, totals, &kinds, &[], None);
    let maker = RowMaker::new(documents, vocabulary, config, 0)?;
    let rules = maker.rules(config);
    let (mut row, mut drawn, mut number) = (Row::default(), Drawn::default(), 0);
    let mut counts = PairingCounts::default();
    for duplicate in 0..config.dupe_factor {
        for chunk in 0..planner.chunks() {
            counts += planner.chunk(|| documents, chunk, duplicate, &mut |draft, len| {
                maker.fill(number, &draft.recipe, &mut row, &mut drawn);
                debug_assert_eq!(len, row.input_ids.len());
                each(duplicate, &draft.recipe, &row, &rules);
                number += 1;
                Ok(())
            })?;
        }
    }
    Ok(counts)
}
