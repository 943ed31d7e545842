//! Rows that are masked, checked and written: see `cloze_bench`. Rows are made up: two segments of 107 tokens together, a quarter of them pieces of words.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use cloze_bench::Bench;
use cloze_shard::masking::{MaskKey, MaskUnit, Masker, MaskingRule, Scratch};
use cloze_shard::random::{Key, Stage};
use cloze_shard::row::Masks;
use cloze_shard::rules::RowRules;
use cloze_shard::schema::IdType;
use cloze_shard::{NextSentenceLabel, Row, ShardWriter, Vocabulary};

const ROWS: usize = 16_384;
const TOKENS: usize = 107;
const ENTRIES: usize = 30_522;

fn vocabulary() -> Vocabulary {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let word = |i: usize| match i % 4 {
        0 => format!("##p{i}"),
        _ => format!("w{i}"),
    };
    let entries = special.into_iter().chain((5..ENTRIES).map(word));
    Vocabulary::new(entries, None).unwrap()
}

fn rows() -> Vec<Row<u16>> {
    let mut draws = Key::new(1, Stage::Sample).stream(0, 0);
    let row = |_| {
        let mut ids: Vec<u16> = (0..TOKENS)
            .map(|_| draws.between(5, ENTRIES as u64 - 1) as u16)
            .collect();
        (ids[0], ids[50], ids[TOKENS - 1]) = (2, 3, 3);
        Row {
            input_ids: ids,
            b_start: 51,
            next_sentence_label: Some(NextSentenceLabel::NotNext),
            doc_b: 1,
            ..Row::default()
        }
    };
    (0..ROWS).map(row).collect()
}

/// Masks a row as preparation does.
fn mask(
    masker: &Masker,
    key: MaskKey,
    number: usize,
    row: &mut Row<u16>,
    places: &mut Vec<u32>,
    scratch: &mut Scratch,
) {
    let masks = row.masks.get_or_insert_with(Masks::default);
    places.clear();
    masks.labels.clear();
    masker.mask_in(
        scratch,
        key,
        number as u64,
        0,
        &mut row.input_ids,
        places,
        &mut masks.labels,
    );
    masks.positions.clear();
    masks.positions.extend(places.iter().map(|&p| p as u16));
}

fn main() {
    let bench = Bench::new();
    let (vocabulary, rows) = (vocabulary(), rows());
    let tokens = (ROWS * TOKENS) as f64;
    let key = MaskKey::new(1, Stage::StaticMask, 0);
    let (mut scratch, mut places) = (Scratch::default(), Vec::new());
    let mut masked = Vec::new();
    for unit in [MaskUnit::Word, MaskUnit::SPAN, MaskUnit::Token] {
        let rule = MaskingRule {
            unit,
            ..MaskingRule::default()
        };
        let masker = Masker::of(rule, &vocabulary).unwrap();
        let mut row = Row::default();
        bench.time(
            &format!("masks, by {}", unit.name()),
            tokens,
            "tokens",
            || {
                for (number, unmasked) in rows.iter().enumerate() {
                    row.input_ids.clone_from(&unmasked.input_ids);
                    mask(&masker, key, number, &mut row, &mut places, &mut scratch);
                }
            },
        );
        masked.clone_from(&rows);
        for (number, row) in masked.iter_mut().enumerate() {
            mask(&masker, key, number, row, &mut places, &mut scratch);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, rows, has_masks) in [("dynamic", &rows, false), ("static", &masked, true)] {
        let rules = RowRules::new(ENTRIES, vocabulary.special(), 128, has_masks);
        bench.time(
            &format!("rules of rows, {name} masks"),
            tokens,
            "tokens",
            || {
                rows.iter()
                    .filter(|row| rules.check(&row.view()).is_ok())
                    .count()
            },
        );
        let path = folder.path().join(name);
        bench.time(
            &format!("rows into a shard, {name} masks"),
            tokens,
            "tokens",
            || {
                let mut writer =
                    ShardWriter::create(&path, IdType::UInt16, has_masks, rules.clone()).unwrap();
                rows.iter()
                    .for_each(|row| writer.push(&row.view()).unwrap());
                writer.finish(name).unwrap()
            },
        );
    }
}
