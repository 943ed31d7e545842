//! Rows that keep the rules, recognised fast. What is wrong with others, [`RowRules::check`] says.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::RowRules;
use crate::row::{Id, Ids, MasksRef, RowRef};
use crate::wide::wide;

/// What is seen of ids at one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// Whether there is one over the last that may be.
    over: bool,
    /// How many are frame tokens.
    frames: u32,
}

wide! {
    /// Of less than 65,536 ids, of which none may be over `last`.
    fn look<T: Id>(ids: &[T], frame: [T; 4], last: T) -> Seen {
        let (mut most, mut frames) = (T::default(), 0);
        for &id in ids {
            most = id.max(most);
            frames += u32::from((id == frame[0]) | (id == frame[1]) | (id == frame[2]) | (id == frame[3]));
        }
        Seen { over: most > last, frames }
    }
}

/// [`look`], of ids of 16 bits.
fn look_u16(ids: &[u16], frame: [u16; 4], last: u16) -> Seen {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            // SAFETY: the processor has these instructions.
            return unsafe { x86::look_avx512(ids, frame, last) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { x86::look_avx2(ids, frame, last) };
        }
    }
    look(ids, frame, last)
}

/// Whether positions ascend, and none is that of a separator.
fn are_apart(positions: &[u16], separator: u16) -> bool {
    #[cfg(target_arch = "x86_64")]
    if x86::has_avx512() {
        // SAFETY: the processor has these instructions.
        return unsafe { x86::are_apart(positions, separator) };
    }
    are_apart_plainly(positions, separator)
}

/// [`are_apart`], position by position.
fn are_apart_plainly(positions: &[u16], separator: u16) -> bool {
    let ascending = positions
        .array_windows()
        .fold(true, |all, [p, q]| all & (p < q));
    let apart = positions
        .iter()
        .fold(true, |all, &p| all & (p != separator));
    ascending & apart
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
        let Some(seen) = self.look(&row.input_ids) else {
            return false;
        };
        // What stands in place of text, mostly [MASK], is no frame; and what stands in place of a frame would be counted as text.
        let Some(hidden) = row.masks.map_or(Some(0), |masks| self.hidden(row, &masks)) else {
            return false;
        };
        // Segments of a row without B, after the first.
        let more = match self.crossing && !has_b && seen.frames > 2 + hidden {
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
        let special = &self.special;
        let at = |i: usize| row.input_ids.get(i);
        segments
            && !seen.over
            && seen.frames == 2 + u32::from(has_b) + more + hidden
            && at(0) == Some(special.cls)
            && at(n - 1) == Some(special.sep)
            && (!has_b || at(b_start - 1) == Some(special.sep))
    }

    /// What there is in ids; `None` where frame tokens are wider than these are.
    fn look(&self, ids: &Ids<'_>) -> Option<Seen> {
        let special = &self.special;
        let frame = [special.pad, special.cls, special.sep, special.mask];
        let last = self.vocab_size.checked_sub(1)?;
        match ids {
            Ids::U16(ids) => {
                let narrow = frame.map(|id| id as u16);
                let last = u16::try_from(last).unwrap_or(u16::MAX);
                (narrow.map(u32::from) == frame).then(|| look_u16(ids, narrow, last))
            }
            Ids::U32(ids) => Some(look(ids, frame, last)),
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

    /// Masked positions that hold `[MASK]` now; `None` where masks break a rule, or where one is a place of the frame: no mask makes one, and it could be taken for
    /// what it is not. Another frame token at one of them is one too many in its row.
    fn hidden(&self, row: &RowRef<'_>, masks: &MasksRef<'_>) -> Option<u32> {
        let positions = masks.positions;
        if positions.len() != masks.labels.len() {
            return None;
        }
        let (Some(&first), Some(&last)) = (positions.first(), positions.last()) else {
            return Some(0);
        };
        let labels = self.look(&masks.labels)?;
        let apart = are_apart(positions, row.b_start.wrapping_sub(1));
        let inside = first > 0 && usize::from(last) < row.len() - 1;
        if !(inside && apart && labels.frames == 0 && !labels.over) {
            return None;
        }
        match row.input_ids {
            Ids::U16(ids) => self.masks_at(ids, positions),
            Ids::U32(ids) => self.masks_at(ids, positions),
        }
    }

    /// How many of the positions hold `[MASK]`; `None` where one holds a `[SEP]` that may be a place of the frame.
    fn masks_at<T: Id>(&self, ids: &[T], positions: &[u16]) -> Option<u32> {
        let [mask, separator] = [self.special.mask, self.special.sep].map(T::of);
        let at = |position: &u16| ids.get(usize::from(*position)).copied();
        if self.crossing && positions.iter().any(|p| at(p) == Some(separator)) {
            return None;
        }
        let masks = positions.iter().map(|p| u32::from(at(p) == Some(mask)));
        Some(masks.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Masks, Row};
    use crate::{NextSentenceLabel, SpecialTokens};
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

    proptest! {
        #[test]
        fn ids_of_16_bits_are_seen_as_others(
            ids in prop::collection::vec(prop_oneof![0u16..6, any::<u16>()], 0..100),
            frame: [u16; 4],
            last: u16,
        ) {
            let many: Vec<u16> = ids.iter().copied().cycle().take(if ids.is_empty() { 0 } else { 65_535 }).collect();
            let most = ids.iter().copied().max().unwrap_or(0);
            for ids in [&ids, &many] {
                for (frame, last) in [(frame, last), ([0, 2, 3, 4], most), (frame, most.saturating_sub(1))] {
                    let seen = look(ids, frame, last);
                    prop_assert_eq!(seen.over, most > last);
                    prop_assert_eq!(look_u16(ids, frame, last), seen);
                    #[cfg(target_arch = "x86_64")]
                    if is_x86_feature_detected!("avx2") {
                        // SAFETY: the processor has these instructions.
                        prop_assert_eq!(unsafe { x86::look_avx2(ids, frame, last) }, seen);
                    }
                }
            }
        }

        /// Positions that ascend but for one change or none.
        #[test]
        fn positions_are_seen_to_be_apart(
            positions in prop::collection::btree_set(0u16..400, 0..90),
            change: Option<(prop::sample::Index, u16)>,
            separator: prop::sample::Index,
        ) {
            let mut positions: Vec<u16> = positions.into_iter().collect();
            if let (Some((place, to)), false) = (change, positions.is_empty()) {
                let place = place.index(positions.len());
                positions[place] = to % 400;
            }
            for separator in [separator.index(400) as u16, positions.get(separator.index(90)).copied().unwrap_or(0)] {
                let sorted = positions.is_sorted_by(|a, b| a < b);
                let expected = sorted && !positions.contains(&separator);
                prop_assert_eq!(are_apart(&positions, separator), expected);
                prop_assert_eq!(are_apart_plainly(&positions, separator), expected);
            }
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
