//! Stage 2b: rows from recipes and the token store, in an order that is shuffled over the whole split.
//!
//! A keyed permutation of all rows says which recipe each place takes, so each shard is a pure function of its number:
//! shards are written independently, and the shuffle is global.

use std::path::Path;

use cloze_shard::manifest::{Masking, ShardRecord};
use cloze_shard::masking::{MaskKey, Masker};
use cloze_shard::random::{Key, Permutation, Stage};
use cloze_shard::row::Masks;
use cloze_shard::rules::RowRules;
use cloze_shard::schema::IdType;
use cloze_shard::{NextSentenceLabel, Row, ShardWriter, Vocabulary};
use rayon::prelude::*;

use crate::pairing::{Documents, Recipe, Span, sentence_of};
use crate::plan::Plan;
use crate::{Config, Progress, Result};

/// What every row of a split is made with.
pub struct RowMaker<'a, D> {
    documents: &'a D,
    vocabulary: &'a Vocabulary,
    masker: Option<(Masker, MaskKey)>,
}

impl<'a, D: Documents> RowMaker<'a, D> {
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
        })
    }

    /// The row of `recipe`, into `row`. `number` is the recipe's in its split.
    fn fill(&self, number: u64, recipe: &Recipe, row: &mut Row) {
        let special = self.vocabulary.special();
        row.input_ids.clear();
        row.input_ids.push(special.cls);
        (row.doc_a, row.sentence_a) = self.append(recipe.a, &mut row.input_ids);
        row.input_ids.push(special.sep);
        // Rows are bounded by the sequence length, a u16.
        row.b_start = row.input_ids.len() as u16;
        (row.doc_b, row.sentence_b, row.next_sentence_label) = (row.doc_a, row.sentence_a, None);
        if let Some((b, random)) = recipe.b {
            (row.doc_b, row.sentence_b) = self.append(b, &mut row.input_ids);
            row.input_ids.push(special.sep);
            let label = if random {
                NextSentenceLabel::NotNext
            } else {
                NextSentenceLabel::IsNext
            };
            row.next_sentence_label = Some(label);
        }
        row.masks = self.masker.as_ref().map(|(masker, key)| {
            let mut masks = Masks::default();
            masker.mask(
                *key,
                number,
                &mut row.input_ids,
                &mut masks.positions,
                &mut masks.labels,
            );
            masks
        });
    }

    fn append(&self, span: Span, ids: &mut Vec<u32>) -> (i64, u32) {
        let document = self.documents.get(span.document);
        document
            .input_ids
            .slice(span.start as usize, span.end() as usize)
            .extend_into(ids);
        (
            document.doc,
            sentence_of(document.sentence_ends, span.start) as u32,
        )
    }
}

/// Writes the shards of a split into `folder/NAME/`, balanced to one row, in parallel.
pub fn write_split(
    maker: &RowMaker<'_, impl Documents>,
    plan: &Plan,
    name: &str,
    split: u32,
    folder: &Path,
    config: &Config,
    progress: &dyn Progress,
) -> Result<Vec<ShardRecord>> {
    let rows = plan.rows();
    let shards = rows.div_ceil(config.shard_rows);
    let order = Permutation::new(
        Key::new(config.seed, Stage::RowOrder),
        u64::from(split),
        0,
        rows,
    );
    let subfolder = folder.join(name);
    std::fs::create_dir(&subfolder).map_err(cloze_shard::Error::io(&subfolder))?;
    let id_type = IdType::for_vocab_size(maker.vocabulary.len());
    let special = maker.vocabulary.special();
    let rules = RowRules::new(
        maker.vocabulary.len(),
        special,
        config.seq_len,
        maker.masker.is_some(),
    );
    (0..shards)
        .into_par_iter()
        .map(|shard| {
            let file = format!("{name}/part-{shard:05}.arrow");
            let path = folder.join(&file);
            let mut writer =
                ShardWriter::create(&path, id_type, maker.masker.is_some(), rules.clone())?;
            let mut row = Row::default();
            let place =
                |shard: u64| (u128::from(shard) * u128::from(rows) / u128::from(shards)) as u64;
            for position in place(shard)..place(shard + 1) {
                let number = order.inverse(position);
                maker.fill(number, &plan.recipe(number), &mut row);
                writer.push(&row.view())?;
                progress.advance(1);
                progress.count(0, row.input_ids.len() as u64);
            }
            Ok(writer.finish(&file)?)
        })
        .collect()
}
