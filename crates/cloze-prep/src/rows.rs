//! Rows without the files that they go through: what is written, in the order in which it is planned.

use cloze_shard::rules::RowRules;
use cloze_shard::{Row, Vocabulary};

use crate::pairing::{Documents, PairingCounts, Recipe};
use crate::plan::Pairer;
use crate::shards::{Drawn, RowMaker};
use crate::{Config, Result};

/// Tells `each` the rows of a split's `documents`, before they are shuffled, with the recipe of each, the number of its duplicate, and what rows must keep to.
///
/// `config` is one that [`Config::check`] accepts.
pub fn rows(
    documents: &impl Documents,
    vocabulary: &Vocabulary,
    config: &Config,
    each: &mut impl FnMut(u32, &Recipe, &Row, &RowRules),
) -> Result<PairingCounts> {
    let (pairer, mut counts) = (Pairer::new(documents, config), PairingCounts::default());
    let maker = RowMaker::new(documents, vocabulary, config, 0)?;
    let rules = maker.rules(config);
    let (mut row, mut drawn, mut number) = (Row::default(), Drawn::default(), 0);
    for duplicate in 0..config.dupe_factor {
        for chunk in 0..pairer.chunks() {
            counts += pairer.chunk(chunk, duplicate, &mut |recipe, len| {
                maker.fill(number, &recipe, &mut row, &mut drawn);
                debug_assert_eq!(len, row.input_ids.len());
                each(duplicate, &recipe, &row, &rules);
                number += 1;
            });
        }
    }
    Ok(counts)
}
