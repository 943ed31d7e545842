//! Rows of whole sentences without a second segment: FULL-SENTENCES and DOC-SENTENCES of RoBERTa (Liu et al. 2019, section 4.2).
//!
//! - Units are sentences; one that is longer than a row is cut at word starts.
//! - A row takes units, in order, while they fit its target length. It takes one at least.
//! - *Full sentences*: a row goes on into the next document, after a `[SEP]` of its own. *Doc sentences*: it ends where its document does.
//! - From the second duplicate on, the first row's target is drawn, so that the rows after it are cut elsewhere than before.
//!
//! Every token of every document is in exactly one row of a duplicate.

use std::ops::Range;

use super::cloze::{unit_start, units};
use super::{Cursor, Documents, Draws, PairingCounts, Recipe, Setting, Span};
use crate::Result;

/// How rows are packed.
#[derive(Clone, Copy, Debug)]
pub struct Packing<'a> {
    /// Rows go on into the next document.
    pub crossing: bool,
    /// Which duplicate is made.
    pub duplicate: u32,
    /// How long rows are.
    pub setting: &'a Setting<'a>,
}

/// Makes the rows of `documents[range]` and hands each to `emit`, in order, with the places that its text takes, a `[SEP]` between documents among them.
pub fn pack(
    documents: &mut impl Cursor,
    range: Range<u64>,
    packing: Packing<'_>,
    draws: &mut impl Draws,
    counts: &mut PairingCounts,
    emit: &mut impl FnMut(Recipe, usize) -> Result<()>,
) -> Result<()> {
    let Packing {
        crossing,
        duplicate,
        setting,
    } = packing;
    let rule = &setting.rule;
    let mut row: Option<Span> = None;
    // Places that the row takes, with `[SEP]` between documents.
    let (mut places, mut first) = (0, true);
    let mut target = 0;
    for index in range {
        let document = documents.get(index)?;
        let units = units(setting.kinds, &document, rule.max_tokens, counts);
        for (i, unit) in units.iter().enumerate() {
            let start = unit_start(&units, i);
            let len = unit.end - start;
            let between = usize::from(i == 0);
            if let Some(span) = &mut row {
                if places + between + len as usize <= target {
                    span.len += len;
                    places += between + len as usize;
                    continue;
                }
                emit(Recipe { a: *span, b: None }, places)?;
            }
            row = Some(Span {
                document: index,
                start,
                len,
                sentence: Some(unit.sentence),
            });
            places = len as usize;
            target = match duplicate {
                1.. if first => draws.between(2, rule.max_tokens),
                _ => rule.target(draws),
            };
            first = false;
        }
        if !crossing && let Some(span) = row.take() {
            emit(Recipe { a: span, b: None }, places)?;
        }
    }
    match row {
        Some(span) => emit(Recipe { a: span, b: None }, places),
        None => Ok(()),
    }
}

/// The parts of a row's first segment, a document each.
pub fn parts(documents: &impl Documents, span: Span) -> impl Iterator<Item = Span> {
    let mut rest = span;
    std::iter::from_fn(move || {
        if rest.len == 0 {
            return None;
        }
        let there = documents.get(rest.document).input_ids.len() as u32 - rest.start;
        let part = Span {
            len: rest.len.min(there),
            ..rest
        };
        rest = Span {
            document: rest.document + 1,
            start: 0,
            len: rest.len - part.len,
            sentence: Some(0),
        };
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairing::PairingRule;
    use crate::pairing::tests_support::InMemory;
    use cloze_shard::random::{Key, Stage};
    use proptest::prelude::*;

    fn run(
        documents: &InMemory,
        crossing: bool,
        duplicate: u32,
        rule: &PairingRule,
    ) -> Vec<Recipe> {
        let mut draws = Key::new(3, Stage::Pairing).stream(0, duplicate);
        let (mut rows, mut counts) = (Vec::new(), PairingCounts::default());
        let all = 0..documents.len();
        let packing = Packing {
            crossing,
            duplicate,
            setting: &documents.setting(*rule),
        };
        let mut emit = |row: Recipe, places| {
            let parts = parts(documents, row.a).count();
            assert_eq!(places, row.a.len as usize + parts - 1);
            rows.push(row);
            Ok(())
        };
        pack(
            &mut &*documents,
            all,
            packing,
            &mut draws,
            &mut counts,
            &mut emit,
        )
        .unwrap();
        rows
    }

    fn rule(max_tokens: usize, short_seq_prob: f64) -> PairingRule {
        PairingRule {
            max_tokens,
            short_seq_prob,
            random_next_ratio: 0.5,
        }
    }

    #[test]
    fn sentences_are_taken_while_they_fit() {
        let documents = InMemory::new(&[vec![4, 4, 3], vec![2], vec![9, 25]]);
        let spans = |crossing| -> Vec<(u64, u32, u32)> {
            let rows = run(&documents, crossing, 0, &rule(10, 0.0));
            rows.iter()
                .map(|r| (r.a.document, r.a.start, r.a.len))
                .collect()
        };
        // 4 + 4; 3 and 2 and the place between; 9; 25 as 9, 9, 7, cut at word starts (ids 3, 10, 17, … go on with a word).
        assert_eq!(
            spans(true),
            [
                (0, 0, 8),
                (0, 8, 5),
                (2, 0, 9),
                (2, 9, 9),
                (2, 18, 8),
                (2, 26, 8)
            ]
        );
        assert_eq!(
            spans(false),
            [
                (0, 0, 8),
                (0, 8, 3),
                (1, 0, 2),
                (2, 0, 9),
                (2, 9, 9),
                (2, 18, 8),
                (2, 26, 8)
            ]
        );
        let run_on = Span {
            document: 0,
            start: 8,
            len: 5,
            sentence: Some(2),
        };
        let parts: Vec<(u64, u32, u32)> = parts(&documents, run_on)
            .map(|p| (p.document, p.start, p.len))
            .collect();
        assert_eq!(parts, [(0, 8, 3), (1, 0, 2)]);
    }

    proptest! {
        #[test]
        fn every_token_is_in_one_row(
            lengths in prop::collection::vec(prop::collection::vec(prop_oneof![8 => 1u32..30, 1 => 30u32..200], 1..9), 1..9),
            max_tokens in 6usize..100, short in 0.0f64..1.0, crossing: bool, duplicate in 0u32..3,
        ) {
            let documents = InMemory::new(&lengths);
            let rows = run(&documents, crossing, duplicate, &rule(max_tokens, short));
            let mut next = (0, 0);
            for row in &rows {
                prop_assert_eq!(row.b, None);
                let parts: Vec<Span> = parts(&documents, row.a).collect();
                prop_assert!(crossing || parts.len() == 1);
                prop_assert!(row.a.len as usize + parts.len() - 1 <= max_tokens);
                for part in parts {
                    let sentence = documents.get(part.document).sentence_of(part.start) as u32;
                    prop_assert_eq!(part.sentence, Some(sentence));
                    let document = lengths[part.document as usize].iter().sum::<u32>();
                    prop_assert_eq!((part.document, part.start), next);
                    next = if part.end() == document { (part.document + 1, 0) } else { (part.document, part.end()) };
                }
            }
            prop_assert_eq!(next, (lengths.len() as u64, 0));
        }

        /// With no short rows, no row has room for the unit after it.
        #[test]
        fn rows_are_full(lengths in prop::collection::vec(prop::collection::vec(1u32..20, 1..9), 2..9)) {
            let documents = InMemory::new(&lengths);
            let rows = run(&documents, true, 0, &rule(40, 0.0));
            for pair in rows.windows(2) {
                let next = documents.get(pair[1].a.document);
                let end = next.sentence_ends.iter().find(|&&e| e > pair[1].a.start).unwrap();
                let between = u32::from(pair[1].a.start == 0);
                let places = pair[0].a.len + parts(&documents, pair[0].a).count() as u32 - 1;
                prop_assert!(places + between + (end - pair[1].a.start) > 40);
            }
        }
    }
}
