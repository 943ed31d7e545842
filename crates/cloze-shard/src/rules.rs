//! What makes a row valid. Checked on every row that is written and by `verify` on every row that is read.

mod plain;

use crate::manifest::{Manifest, Masking, Objective};
use crate::row::{NextSentenceLabel, RowRef};
use crate::vocabulary::SpecialTokens;

/// The rules of one dataset.
#[derive(Clone, Debug)]
pub struct RowRules {
    vocab_size: u32,
    special: SpecialTokens,
    max_seq_length: usize,
    static_masks: bool,
    /// Whether a first segment may go on into the next documents, each after a `[SEP]`.
    crossing: bool,
}

impl RowRules {
    /// The rules of rows with these properties.
    #[must_use]
    pub fn new(
        vocab_size: usize,
        special: SpecialTokens,
        max_seq_length: u16,
        static_masks: bool,
    ) -> Self {
        let vocab_size = u32::try_from(vocab_size).unwrap_or(u32::MAX);
        Self {
            vocab_size,
            special,
            max_seq_length: usize::from(max_seq_length),
            static_masks,
            crossing: false,
        }
    }

    /// Whether a row without a second segment may go on into the next documents, each after a `[SEP]`.
    #[must_use]
    pub fn crossing(mut self, crossing: bool) -> Self {
        self.crossing = crossing;
        self
    }

    /// The rules of the dataset that `manifest` binds.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        Self::new(
            manifest.tokenizer.vocab_size,
            manifest.tokenizer.special_tokens,
            manifest.max_seq_length,
            matches!(manifest.masking, Masking::Static { .. }),
        )
        .crossing(manifest.objective == Objective::FullSentences)
    }

    /// Entries of the vocabulary.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// Whether rows hold static masks.
    #[must_use]
    pub fn static_masks(&self) -> bool {
        self.static_masks
    }

    /// What is wrong with `row`, if anything: frame, lengths, ids, masks. Labels are [`audit_label`]'s.
    pub fn check(&self, row: &RowRef<'_>) -> Result<(), String> {
        match self.is_plain(row) {
            true => Ok(()),
            false => self.check_all(row),
        }
    }

    /// Each rule in turn.
    fn check_all(&self, row: &RowRef<'_>) -> Result<(), String> {
        let n = row.len();
        if n < 3 {
            return Err(format!(
                "{n} tokens, at least 3 are needed: [CLS], one token, [SEP]"
            ));
        }
        if n > self.max_seq_length {
            return Err(format!(
                "{n} tokens, at most {} are allowed",
                self.max_seq_length
            ));
        }
        let b_start = usize::from(row.b_start);
        if b_start > n || (b_start < n && !(3..n - 1).contains(&b_start)) {
            return Err(format!(
                "b_start {b_start} leaves no room for both segments in {n} tokens"
            ));
        }
        if let Some((i, id)) = row
            .input_ids
            .iter()
            .enumerate()
            .find(|&(_, id)| id >= self.vocab_size)
        {
            return Err(format!(
                "input_ids[{i}] is {id}, the vocabulary has {}",
                self.vocab_size
            ));
        }
        self.check_masks(row)?;
        let ids = row.original_ids();
        let separators = if row.has_b() {
            [b_start - 1, n - 1]
        } else {
            [n - 1, n - 1]
        };
        let may_cross = self.crossing && !row.has_b();
        let mut crossed = false;
        for (i, &id) in ids.iter().enumerate() {
            if may_cross && id == self.special.sep && (2..n - 2).contains(&i) {
                if ids[i - 1] == self.special.sep {
                    return Err(format!(
                        "input_ids[{i}] is a second [SEP], with no text between"
                    ));
                }
                crossed = true;
                continue;
            }
            let expected = if i == 0 {
                Some((self.special.cls, "[CLS]"))
            } else if separators.contains(&i) {
                Some((self.special.sep, "[SEP]"))
            } else {
                None
            };
            match expected {
                Some((special, name)) if id != special => {
                    return Err(format!(
                        "input_ids[{i}] is {id}, expected {name} ({special})"
                    ));
                }
                None if self.special.is_frame(id) => {
                    return Err(format!(
                        "input_ids[{i}] is {id}, a special token inside a segment"
                    ));
                }
                _ => {}
            }
        }
        if row.has_b() {
            if row.next_sentence_label.is_none() {
                return Err("it has two segments but no next_sentence_label".into());
            }
        } else if row.next_sentence_label.is_some() {
            return Err("it has a next_sentence_label but no second segment".into());
        } else if !crossed && (row.doc_a != row.doc_b || row.sentence_a != row.sentence_b) {
            return Err("it has no second segment, yet doc_b and sentence_b differ from doc_a and sentence_a".into());
        }
        Ok(())
    }

    fn check_masks(&self, row: &RowRef<'_>) -> Result<(), String> {
        let masks = match (row.masks, self.static_masks) {
            (None, false) => return Ok(()),
            (Some(masks), true) => masks,
            (None, true) => return Err("it has no static masks".into()),
            (Some(_), false) => {
                return Err("it has static masks, the dataset's masking is dynamic".into());
            }
        };
        if masks.positions.len() != masks.labels.len() {
            return Err(format!(
                "{} masked_lm_positions, {} masked_lm_labels",
                masks.positions.len(),
                masks.labels.len()
            ));
        }
        if let Some(pair) = masks.positions.windows(2).find(|p| p[0] >= p[1]) {
            return Err(format!(
                "masked_lm_positions are not ascending: {} before {}",
                pair[0], pair[1]
            ));
        }
        if let Some(&last) = masks
            .positions
            .last()
            .filter(|&&p| usize::from(p) >= row.len())
        {
            return Err(format!(
                "masked_lm_positions hold {last}, the row has {} tokens",
                row.len()
            ));
        }
        if let Some(label) = masks
            .labels
            .iter()
            .find(|&l| l >= self.vocab_size || self.special.is_frame(l))
        {
            return Err(format!(
                "masked_lm_labels hold {label}, not a token of text"
            ));
        }
        Ok(())
    }
}

/// What is wrong with a label, from the row alone. NSP: 1 if and only if A and B come from different documents. SOP: both come from one, and 1 if and only if B
/// stood before A. Rows of whole sentences have none.
pub fn audit_label(objective: Objective, row: &RowRef<'_>) -> Result<(), String> {
    use NextSentenceLabel::{IsNext, NotNext};
    let (same, order) = (row.doc_a == row.doc_b, row.sentence_a.cmp(&row.sentence_b));
    let why = match (objective, row.next_sentence_label) {
        (Objective::FullSentences | Objective::DocSentences, Some(_)) => {
            "labelled, though rows of whole sentences have no label"
        }
        (_, None) => return Ok(()),
        (Objective::Nsp, Some(NotNext)) if same => {
            "labelled as random (1), but B comes from A's own document"
        }
        (Objective::Nsp, Some(NotNext)) => return Ok(()),
        (_, Some(IsNext)) if !same => {
            "labelled as next (0), but A and B come from different documents"
        }
        (_, Some(NotNext)) if !same => {
            "labelled as turned around (1), but A and B come from different documents"
        }
        (_, Some(IsNext)) if order.is_gt() => {
            return Err(format!(
                "labelled as next (0), but B's sentence {} precedes A's {}",
                row.sentence_b, row.sentence_a
            ));
        }
        (_, Some(NotNext)) if order.is_lt() => {
            return Err(format!(
                "labelled as turned around (1), but B's sentence {} follows A's {}",
                row.sentence_b, row.sentence_a
            ));
        }
        _ => return Ok(()),
    };
    Err(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Masks, Row};

    const SPECIAL: SpecialTokens = SpecialTokens {
        pad: 0,
        unk: 1,
        cls: 2,
        sep: 3,
        mask: 4,
    };

    fn pair() -> Row {
        Row {
            input_ids: vec![2, 10, 11, 3, 12, 3],
            b_start: 4,
            next_sentence_label: Some(NextSentenceLabel::IsNext),
            doc_a: 7,
            doc_b: 7,
            sentence_a: 0,
            sentence_b: 1,
            masks: None,
        }
    }

    fn single() -> Row {
        let mut row = pair();
        row.input_ids = vec![2, 10, 3];
        (row.b_start, row.next_sentence_label, row.sentence_b) = (3, None, 0);
        row
    }

    fn masked() -> Row {
        let mut row = pair();
        row.input_ids[1] = 4;
        row.masks = Some(Masks {
            positions: vec![1],
            labels: vec![10],
        });
        row
    }

    #[test]
    fn every_rule_has_a_row_that_breaks_it() {
        let dynamic = RowRules::new(100, SPECIAL, 6, false);
        let fixed = RowRules::new(100, SPECIAL, 6, true);
        for (rules, row) in [(&dynamic, pair()), (&dynamic, single()), (&fixed, masked())] {
            assert_eq!(rules.check(&row.view()), Ok(()));
        }
        type Case<'a> = (&'a RowRules, fn() -> Row, fn(&mut Row), &'a str);
        let broken: [Case<'_>; 20] = [
            (&dynamic, single, |r| r.input_ids.truncate(2), "at least 3"),
            (&dynamic, pair, |r| r.input_ids.insert(1, 9), "at most 6"),
            (&dynamic, pair, |r| r.b_start = 7, "no room"),
            (&dynamic, pair, |r| r.b_start = 5, "no room"),
            (&dynamic, pair, |r| r.b_start = 2, "no room"),
            (
                &dynamic,
                pair,
                |r| r.input_ids[1] = 100,
                "the vocabulary has 100",
            ),
            (&dynamic, pair, |r| r.input_ids[0] = 10, "expected [CLS]"),
            (&dynamic, pair, |r| r.input_ids[3] = 10, "expected [SEP]"),
            (&dynamic, pair, |r| r.input_ids[5] = 10, "expected [SEP]"),
            (
                &dynamic,
                pair,
                |r| r.input_ids[1] = 3,
                "special token inside",
            ),
            (
                &dynamic,
                pair,
                |r| r.input_ids[1] = 4,
                "special token inside",
            ),
            (
                &dynamic,
                pair,
                |r| r.next_sentence_label = None,
                "no next_sentence_label",
            ),
            (
                &dynamic,
                single,
                |r| r.next_sentence_label = pair().next_sentence_label,
                "no second segment",
            ),
            (&dynamic, single, |r| r.doc_b = 8, "differ"),
            (&dynamic, masked, |_| (), "is dynamic"),
            (&fixed, pair, |_| (), "no static masks"),
            (
                &fixed,
                masked,
                |r| r.masks.as_mut().unwrap().labels.clear(),
                "0 masked_lm_labels",
            ),
            (
                &fixed,
                masked,
                |r| {
                    r.masks = Some(Masks {
                        positions: vec![1, 1],
                        labels: vec![10, 10],
                    });
                },
                "ascending",
            ),
            (
                &fixed,
                masked,
                |r| r.masks.as_mut().unwrap().positions[0] = 6,
                "the row has 6",
            ),
            (
                &fixed,
                masked,
                |r| r.masks.as_mut().unwrap().labels[0] = 3,
                "not a token of text",
            ),
        ];
        for (rules, make, spoil, expected) in broken {
            let mut row = make();
            spoil(&mut row);
            let why = rules.check(&row.view()).expect_err(expected);
            assert!(why.contains(expected), "{why:?} does not say {expected:?}");
        }
    }

    /// A row of whole sentences goes on into the next document after a `[SEP]`, where that is allowed, and text stands on both sides of it.
    #[test]
    fn rows_of_whole_sentences_cross_documents() {
        let mut row = single();
        row.input_ids = vec![2, 10, 3, 11, 12, 3, 13, 3];
        (row.b_start, row.doc_b, row.sentence_b) = (8, 9, 4);
        let plain = RowRules::new(100, SPECIAL, 8, false);
        let crossing = plain.clone().crossing(true);
        assert_eq!(crossing.check(&row.view()), Ok(()));
        assert!(plain.check(&row.view()).is_err());
        for (at, id, expected) in [
            (3, 3, "second [SEP]"),
            (1, 3, "special token inside"),
            (6, 3, "special token inside"),
            (1, 4, "special token inside"),
        ] {
            let mut broken = row.clone();
            broken.input_ids[at] = id;
            let why = crossing.check(&broken.view()).expect_err(expected);
            assert!(why.contains(expected), "{why:?} does not say {expected:?}");
        }
        // Pairs are as they are everywhere, and one document is the row's both.
        assert_eq!(crossing.check(&pair().view()), Ok(()));
        let why = crossing.check(
            &Row {
                doc_b: 8,
                ..single()
            }
            .view(),
        );
        assert!(why.is_err_and(|why| why.contains("differ")));
    }

    #[test]
    fn labels_are_audited() {
        use Objective::{DocSentences, FullSentences, Nsp, Sop};
        for objective in [Nsp, Sop] {
            assert_eq!(audit_label(objective, &pair().view()), Ok(()));
            assert_eq!(audit_label(objective, &single().view()), Ok(()));
        }
        for objective in [FullSentences, DocSentences] {
            assert!(audit_label(objective, &pair().view()).is_err());
            assert_eq!(audit_label(objective, &single().view()), Ok(()));
        }
        let next_elsewhere = Row { doc_b: 8, ..pair() };
        let random_at_home = Row {
            next_sentence_label: Some(NextSentenceLabel::NotNext),
            ..pair()
        };
        let backwards = Row {
            sentence_a: 2,
            ..pair()
        };
        for row in [&next_elsewhere, &random_at_home, &backwards] {
            assert!(audit_label(Nsp, &row.view()).is_err(), "{row:?}");
        }
        let turned = Row {
            sentence_a: 2,
            ..random_at_home.clone()
        };
        assert_eq!(audit_label(Sop, &turned.view()), Ok(()));
        let turned_elsewhere = Row {
            doc_b: 8,
            ..turned.clone()
        };
        // Labelled as turned around, yet in order.
        for row in [
            &next_elsewhere,
            &backwards,
            &random_at_home,
            &turned_elsewhere,
        ] {
            assert!(audit_label(Sop, &row.view()).is_err(), "{row:?}");
        }
    }
}
