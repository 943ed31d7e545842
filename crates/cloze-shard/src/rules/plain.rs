//! Rows that keep the rules, recognised fast. What is wrong with others, [`RowRules::check`] says.

use super::RowRules;
use crate::row::{Id, Ids, MasksRef, RowRef};
use crate::vocabulary::SpecialTokens;
use crate::wide::wide;

/// What is special in a row, as wide as its ids are.
struct Frame<T> {
    most: T,
    frames: u32,
}

wide! {
    /// Of ids whose number is a multiple of 16.
    fn look_u16(ids: &[u16], frame: [u16; 4]) -> Frame<u16> {
        let (mut most, mut frames) = ([0; 16], [0u16; 16]);
        for ids in ids.as_chunks::<16>().0 {
            for ((&id, most), frames) in ids.iter().zip(&mut most).zip(&mut frames) {
                *most = id.max(*most);
                // A row has less than 65,536 tokens.
                *frames += u16::from((id == frame[0]) | (id == frame[1]) | (id == frame[2]) | (id == frame[3]));
            }
        }
        Frame {
            most: most.iter().fold(0, |most, &id| id.max(most)),
            frames: frames.iter().map(|&n| u32::from(n)).sum(),
        }
    }
}

wide! {
    fn look_u32(ids: &[u32], frame: [u32; 4]) -> Frame<u32> {
        let (mut most, mut frames) = (0, 0);
        for &id in ids {
            most = most.max(id);
            frames += u32::from((id == frame[0]) | (id == frame[1]) | (id == frame[2]) | (id == frame[3]));
        }
        Frame { most, frames }
    }
}

impl RowRules {
    /// Whether `row` keeps all rules, for certain: some that do are not recognised.
    pub(super) fn is_plain(&self, row: &RowRef<'_>) -> bool {
        let (n, b_start) = (row.len(), usize::from(row.b_start));
        if self.static_masks != row.masks.is_some()
            || n < 3
            || n > self.max_seq_length.min(usize::from(u16::MAX))
        {
            return false;
        }
        let has_b = b_start < n;
        let special = &self.special;
        let Some((most, frames)) = self.look(&row.input_ids) else {
            return false;
        };
        let at = |i: usize| row.input_ids.get(i);
        // What stands in place of text, mostly [MASK], is no frame; and what stands in place of a frame would be counted as text.
        let Some(hidden) = row
            .masks
            .map_or(Some(0), |masks| self.hidden(&row.input_ids, &masks, n))
        else {
            return false;
        };
        // Segments of a row without B, after the first.
        let more = match self.crossing && !has_b && frames > 2 + hidden {
            true => match self.crossings(&row.input_ids) {
                Some(more) => more,
                None => return false,
            },
            false => 0,
        };
        let segments = if has_b {
            (3..n - 1).contains(&b_start) && row.next_sentence_label.is_some()
        } else {
            b_start == n
                && row.next_sentence_label.is_none()
                && (more > 0 || (row.doc_a == row.doc_b && row.sentence_a == row.sentence_b))
        };
        segments
            && most < self.vocab_size
            && frames == 2 + u32::from(has_b) + more + hidden
            && at(0) == Some(special.cls)
            && at(n - 1) == Some(special.sep)
            && (!has_b || at(b_start - 1) == Some(special.sep))
    }

    /// The largest of `ids`, and how many are frame tokens; `None` where these are wider than ids are.
    fn look(&self, ids: &Ids<'_>) -> Option<(u32, u32)> {
        let special = &self.special;
        let frame = [special.pad, special.cls, special.sep, special.mask];
        match ids {
            Ids::U16(ids) => {
                let narrow = frame.map(|id| id as u16);
                if narrow.map(u32::from) != frame {
                    return None;
                }
                let (whole, rest) = ids.split_at(ids.len() / 16 * 16);
                let seen = look_u16(whole, narrow);
                // What is left, and ids of text that are not over what there is.
                let mut last = [self.low; 16];
                last[..rest.len()].copy_from_slice(rest);
                let seen_last = look_u16(&last, narrow);
                let most = seen.most.max(seen_last.most);
                Some((most.into(), seen.frames + seen_last.frames))
            }
            Ids::U32(ids) => {
                let seen = look_u32(ids, frame);
                Some((seen.most, seen.frames))
            }
        }
    }

    /// `[SEP]`s where a segment may go on into the next document; `None` where there is no text between two.
    fn crossings(&self, ids: &Ids<'_>) -> Option<u32> {
        let mut found = 0;
        let mut before = false;
        for (i, id) in ids.iter().enumerate() {
            let here = id == self.special.sep;
            if (2..ids.len() - 2).contains(&i) {
                if here && before {
                    return None;
                }
                found += u32::from(here);
            }
            before = here;
        }
        Some(found)
    }

    /// Masked positions that hold `[MASK]` now; `None` where masks break a rule, or where one holds another frame token: no mask makes one, and it could be taken
    /// for what it is not.
    fn hidden(&self, ids: &Ids<'_>, masks: &MasksRef<'_>, n: usize) -> Option<u32> {
        let positions = masks.positions;
        let ascending = || {
            let later = positions.get(1..).unwrap_or_default();
            positions
                .iter()
                .zip(later)
                .fold(true, |all, (p, q)| all & (p < q))
        };
        let last = positions.last().map_or(0, |p| usize::from(*p));
        let good = positions.len() == masks.labels.len()
            && last < n
            && ascending()
            && matches!(self.look(&masks.labels), Some((most, 0)) if most < self.vocab_size);
        if !good {
            return None;
        }
        let (masks, others) = match ids {
            Ids::U16(ids) => self.frames_at(ids, positions),
            Ids::U32(ids) => self.frames_at(ids, positions),
        };
        (others == 0).then_some(masks)
    }

    /// How many of the positions hold `[MASK]`, and how many another frame token or lie outside.
    fn frames_at<T: Id>(&self, ids: &[T], positions: &[u16]) -> (u32, u32) {
        let SpecialTokens {
            pad,
            cls,
            sep,
            mask,
            ..
        } = self.special;
        let (mut masks, mut others) = (0, 0);
        for position in positions {
            let id = ids.get(usize::from(*position)).map_or(pad, |id| id.id());
            masks += u32::from(id == mask);
            others += u32::from((id == pad) | (id == cls) | (id == sep));
        }
        (masks, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NextSentenceLabel;
    use crate::row::{Masks, Row};
    use proptest::prelude::*;

    const SPECIAL: SpecialTokens = SpecialTokens {
        pad: 0,
        unk: 1,
        cls: 2,
        sep: 3,
        mask: 4,
    };

    /// A good row of segments of `a` and `b` tokens (none where `b` is 0).
    fn good(a: usize, b: usize) -> Row {
        let word = |i| 5 + (i * 31) as u32 % 35;
        let mut input_ids = vec![2];
        input_ids.extend((0..a).map(word));
        input_ids.push(3);
        let b_start = input_ids.len() as u16;
        if b > 0 {
            input_ids.extend((0..b).map(word));
            input_ids.push(3);
        }
        Row {
            input_ids,
            b_start,
            next_sentence_label: (b > 0).then_some(NextSentenceLabel::IsNext),
            doc_a: 7,
            doc_b: 7,
            ..Row::default()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Rows that are good but for one change or none, in both widths, with masks and without: what is recognised keeps the rules, and what keeps them is
        /// recognised.
        #[test]
        fn agrees_with_the_rules(
            (a, b) in (0usize..70, 0usize..70),
            masked in prop::option::of(prop::collection::btree_map(0u16..140, (prop_oneof![Just(4u32), 5u32..40], 5u32..40), 0..9)),
            rules_masked: bool,
            change in 0u8..12,
            place in any::<prop::sample::Index>(),
            id in prop_oneof![0u32..6, 30u32..50],
        ) {
            let rules = RowRules::new(40, SPECIAL, 128, masked.is_some() == rules_masked || masked.is_some());
            let mut row = good(a, b);
            row.masks = masked.map(|masked| {
                let mut masks = Masks::default();
                for (position, (now, label)) in masked {
                    // Mostly places of text, and at times one of the frame, or outside.
                    let Some(there) = row.input_ids.get_mut(usize::from(position)) else { continue };
                    if SPECIAL.is_frame(*there) && position % 5 > 0 {
                        continue;
                    }
                    *there = now;
                    masks.positions.push(position);
                    masks.labels.push(label);
                }
                masks
            });
            let at = place.index(row.input_ids.len());
            let n = row.input_ids.len() as u16;
            let masks = row.masks.as_mut().filter(|m| !m.positions.is_empty());
            match (change, masks) {
                (0..3, _) => row.input_ids[at] = id,
                (3, _) => row.b_start = at as u16,
                (4, _) => row.doc_b = 8,
                (5, _) => row.next_sentence_label = None,
                (6, _) => row.sentence_b = 1,
                (7, Some(masks)) => masks.labels[0] = id,
                (8, Some(masks)) => { masks.labels.pop(); }
                (9, Some(masks)) => masks.positions.push(n + (id % 2) as u16 - 1),
                (10, Some(masks)) => masks.positions.reverse(),
                _ => {}
            }
            let narrow = |ids: &[u32]| -> Vec<u16> { ids.iter().map(|&id| id as u16).collect() };
            let (ids, labels) = (narrow(&row.input_ids), row.masks.as_ref().map(|m| narrow(&m.labels)));
            let slow = rules.check_all(&row.view()).is_ok();
            // A frame token that is no mask, where a mask is said to be, is not recognised.
            let odd = |p: &u16| row.input_ids.get(usize::from(*p)).is_some_and(|id| SPECIAL.is_frame(*id) && *id != SPECIAL.mask);
            let odd = row.masks.as_ref().is_some_and(|m| m.positions.iter().any(odd));
            let expected = slow && !odd;
            prop_assert_eq!(rules.is_plain(&row.view()), expected);
            let view = row.view();
            let masks = view.masks.map(|m| MasksRef { labels: Ids::U16(labels.as_deref().unwrap_or(&[])), ..m });
            let view = RowRef { input_ids: Ids::U16(&ids), masks, ..view };
            prop_assert_eq!(rules.is_plain(&view), expected);
            prop_assert_eq!(rules.check(&view), rules.check_all(&view));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Rows that go on into other documents: those that keep the rules are recognised, unless masks hide a frame, and no others.
        #[test]
        fn agrees_with_the_rules_of_whole_sentences(
            mut ids in prop::collection::vec(prop_oneof![6 => 5u32..40, 2 => Just(3u32), 1 => 0u32..6], 1..30),
            flags: [bool; 3],
            masked in prop::option::of((any::<prop::sample::Index>(), prop_oneof![Just(4u32), Just(3), 5u32..40], 3u32..40)),
        ) {
            let [crossing, has_b, elsewhere] = flags;
            let rules = RowRules::new(40, SPECIAL, 128, masked.is_some()).crossing(crossing);
            ids.insert(0, 2);
            ids.push(3);
            let mut row: Row = Row { b_start: ids.len() as u16, input_ids: ids, doc_b: i64::from(elsewhere), ..Row::default() };
            if has_b {
                row.input_ids.extend([7, 3]);
                row.next_sentence_label = Some(NextSentenceLabel::NotNext);
            }
            if let Some((place, now, label)) = masked {
                let at = place.index(row.input_ids.len());
                row.input_ids[at] = now;
                row.masks = Some(Masks { positions: vec![at as u16], labels: vec![label] });
            }
            let slow = rules.check_all(&row.view()).is_ok();
            let fast = rules.is_plain(&row.view());
            let hidden = masked.is_some_and(|(_, now, _)| now == 3);
            prop_assert!(fast == slow || (slow && hidden), "{:?}", row);
        }
    }

    #[test]
    fn rows_are_of_their_dataset() {
        let row = good(3, 3);
        assert!(RowRules::new(40, SPECIAL, 128, false).is_plain(&row.view()));
        assert!(!RowRules::new(40, SPECIAL, 128, true).is_plain(&row.view()));
        assert!(!RowRules::new(40, SPECIAL, 8, false).is_plain(&row.view()));
    }
}
