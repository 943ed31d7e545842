//! Masks of tokens, fast: the same as [`Masker::mask`] makes, which is the definition. Words and spans are left to it.
//!
//! All draws of a row are made at once. They are uniform, so where the `k` smallest of them end is found in a few guesses, each of which counts
//! the draws below a bound; where two equal draws stand in the way, they are sorted.

use super::{MaskKey, Masker};
use crate::random::{Blocks, Key};
use crate::wide::wide;

/// Memory to mask in.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    draws: Blocks,
    chosen: Vec<u32>,
    positions: Vec<u16>,
}

wide! {
    /// Draws for the positions of `ids`; the first word of those of special tokens, and of what is there after them, is the largest there is. How many
    /// tokens are not special.
    fn draw(key: Key, row: u64, epoch: u32, ids: &[u32], special: &[u32; 5], draws: &mut Blocks) -> usize {
        key.fill(row, epoch, ids.len(), draws);
        let (first, rest) = draws.words_mut(0).split_at_mut(ids.len());
        let mut held = 0;
        for (draw, &id) in first.iter_mut().zip(ids) {
            let is_special = special.iter().fold(false, |is, &s| is | (s == id));
            *draw |= if is_special { u32::MAX } else { 0 };
            held += u32::from(is_special);
        }
        rest.fill(u32::MAX);
        ids.len() - held as usize
    }
}

wide! {
    /// A bound below which there are exactly `count` of `draws`, of which `n` are uniform and the others the largest there is; `None` where equal
    /// draws leave no such bound.
    ///
    /// The bound is sought between one that is too low and one that is too high, where it is to be expected among what lies between them.
    fn bound(draws: &[u32], count: usize, n: usize) -> Option<u32> {
        let (mut low, mut below_low) = (0u32, 0);
        let (mut high, mut below_high) = (u32::MAX, n);
        while high - low > 1 {
            let share = ((count - below_low) as f64 + 0.5) / ((below_high - below_low) as f64 + 1.0);
            let guess = low + (f64::from(high - low) * share) as u32;
            let bound = guess.clamp(low + 1, high - 1);
            let below: u32 = draws.iter().map(|&draw| u32::from(draw < bound)).sum();
            let below = below as usize;
            if below == count {
                return Some(bound);
            }
            if below < count {
                (low, below_low) = (bound, below);
            } else {
                (high, below_high) = (bound, below);
            }
        }
        None
    }
}

impl Masker {
    /// As [`Masker::mask`], for a row that begins at `start` of a batch: what it appends are places in the batch.
    ///
    /// `ids` must hold at most 65,536 tokens.
    #[allow(clippy::too_many_arguments)]
    pub fn mask_in(
        &self,
        scratch: &mut Scratch,
        key: MaskKey,
        row: u64,
        start: u32,
        ids: &mut [u32],
        places: &mut Vec<u32>,
        labels: &mut Vec<u32>,
    ) {
        let Scratch {
            draws,
            chosen,
            positions,
        } = scratch;
        if !self.rule.unit.is_token() {
            positions.clear();
            self.mask(key, row, ids, positions, labels);
            places.extend(positions.iter().map(|&p| start + u32::from(p)));
            return;
        }
        // Repeated, so that there are five.
        let special = std::array::from_fn(|i| {
            let last = self.special.len().saturating_sub(1);
            self.special.get(i.min(last)).copied().unwrap_or(u32::MAX)
        });
        let maskable = draw(key.key, row, key.epoch, ids, &special, draws);
        let count = self.rule.count(maskable);
        if count == 0 {
            return;
        }
        let padded = ids.len().next_multiple_of(Blocks::LANES);
        let bound = match count < maskable {
            true => bound(&draws.words(0)[..padded], count, maskable),
            false => None,
        };
        match bound {
            Some(bound) => below(&draws.words(0)[..ids.len()], bound, chosen),
            None => self.sorted(draws.words(0), ids, count, chosen),
        }
        places.extend(chosen.iter().map(|&position| start + position));
        labels.extend(chosen.iter().map(|&position| ids[position as usize]));
        for &position in &*chosen {
            let at = position as usize;
            let action = u64::from(draws.words(1)[at]);
            // Both are there before it is known which is needed: chance cannot be predicted.
            let replacement = self.replacement(draws.words(2)[at]);
            let id = ids[at];
            let other = if action < self.random_below {
                replacement
            } else {
                id
            };
            ids[at] = if action < self.mask_below {
                self.mask_id
            } else {
                other
            };
        }
    }

    /// The positions of the `count` smallest draws, ascending; of equal ones the first.
    fn sorted(&self, draws: &[u32], ids: &[u32], count: usize, out: &mut Vec<u32>) {
        let mut all: Vec<(u32, u32)> = (0u32..)
            .zip(ids)
            .zip(draws)
            .filter(|((_, id), _)| !self.is_special(**id))
            .map(|((position, _), &draw)| (draw, position))
            .collect();
        all.sort_unstable();
        out.clear();
        out.extend(all.iter().take(count).map(|&(_, position)| position));
        out.sort_unstable();
    }
}

/// The positions of the draws that are below `bound`, in order.
fn below(draws: &[u32], bound: u32, out: &mut Vec<u32>) {
    out.resize(draws.len(), 0);
    let mut found = 0;
    for (position, &draw) in (0u32..).zip(draws) {
        // Written in any case, and kept where it counts: no branch that is taken at random.
        out[found] = position;
        found += usize::from(draw < bound);
    }
    out.truncate(found);
}

#[cfg(test)]
mod tests {
    use super::super::{MaskUnit, MaskingRule};
    use super::*;
    use crate::random::Stage;
    use crate::{SpecialTokens, Vocabulary};
    use proptest::prelude::*;

    const SPECIAL: SpecialTokens = SpecialTokens {
        pad: 0,
        unk: 100,
        cls: 101,
        sep: 102,
        mask: 103,
    };

    fn rows() -> impl Strategy<Value = Vec<u32>> {
        let id = prop_oneof![4 => 0u32..1_000, 1 => 100u32..104];
        let special = prop_oneof![Just(0u32), 100u32..104];
        prop_oneof![
            4 => prop::collection::vec(id, 0..600),
            1 => prop::collection::vec(special, 0..40),
            1 => prop::collection::vec(104u32..1_000, 1..9),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Rows of any length and any share of special tokens, low and high rates, in memory that held other rows before.
        #[test]
        fn agrees_with_mask(
            rows in prop::collection::vec(rows(), 1..4),
            (seed, row, epoch) in any::<(u64, u64, u32)>(),
            rate in prop_oneof![Just(0.15), 1e-4f64..1.0, Just(1.0)],
            start in 0u32..1_000_000,
        ) {
            let rule = MaskingRule { rate, ..MaskingRule::default() };
            let masker = Masker::new(rule, &SPECIAL, 1_000).unwrap();
            let key = MaskKey::new(seed, Stage::DynamicMask, epoch);
            let mut scratch = Scratch::default();
            for (i, ids) in (0u64..).zip(&rows) {
                let row = row.wrapping_add(i);
                let (mut expected, mut positions, mut kept) = (ids.clone(), vec![], vec![]);
                masker.mask(key, row, &mut expected, &mut positions, &mut kept);
                let (mut masked, mut places, mut labels) = (ids.clone(), vec![7], vec![9]);
                masker.mask_in(&mut scratch, key, row, start, &mut masked, &mut places, &mut labels);
                prop_assert_eq!(masked, expected);
                let positions: Vec<u32> = positions.iter().map(|&p| start + u32::from(p)).collect();
                prop_assert_eq!(&places[1..], &positions[..]);
                prop_assert_eq!(&labels[1..], &kept[..]);
            }
        }
    }

    #[test]
    fn words_are_masked_as_by_mask() {
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
        let pieces = (5..40).map(|i| {
            if i % 3 == 0 {
                format!("##{i}")
            } else {
                format!("w{i}")
            }
        });
        let vocabulary =
            Vocabulary::new(special.into_iter().chain(pieces).collect(), None).unwrap();
        let mut scratch = Scratch::default();
        for unit in [MaskUnit::Word, MaskUnit::SPAN, MaskUnit::Token] {
            let rule = MaskingRule {
                unit,
                ..MaskingRule::default()
            };
            let masker = Masker::of(rule, &vocabulary).unwrap();
            let key = MaskKey::new(3, Stage::DynamicMask, 1);
            for row in 0..50 {
                let ids: Vec<u32> = (0..60).map(|i| 2 + (i * 11 + row as u32) % 38).collect();
                let (mut expected, mut positions, mut kept) = (ids.clone(), vec![], vec![]);
                masker.mask(key, row, &mut expected, &mut positions, &mut kept);
                let (mut masked, mut places, mut labels) = (ids, vec![], vec![]);
                masker.mask_in(
                    &mut scratch,
                    key,
                    row,
                    50,
                    &mut masked,
                    &mut places,
                    &mut labels,
                );
                let positions: Vec<u32> = positions.iter().map(|&p| 50 + u32::from(p)).collect();
                assert_eq!(
                    (masked, places, labels),
                    (expected, positions, kept),
                    "{unit:?}"
                );
            }
        }
    }

    /// The bound is one, wherever there is one, and is soon found.
    #[test]
    fn bounds_are_where_they_are_to_be() {
        let from = |draws: &[u32], count, n| bound(draws, count, n);
        assert!(matches!(from(&[5, 9, 7, u32::MAX], 2, 3), Some(8..=9)));
        assert!(matches!(from(&[0, 1, u32::MAX], 1, 2), Some(1)));
        assert_eq!(from(&[7, 7, 7, 9], 2, 4), None);
        assert_eq!(from(&[u32::MAX - 1, u32::MAX - 1], 1, 2), None);
        assert!(matches!(from(&[3, u32::MAX, u32::MAX], 1, 2), Some(4..)));
        let mut out = vec![8; 9];
        below(&[9, 5, 7, 6, 7], 7, &mut out);
        assert_eq!(out, [1, 3]);
    }

    /// Equal draws: those of the first positions are chosen, as the definition has it.
    #[test]
    fn equal_draws_are_chosen_in_order() {
        let masker = Masker::new(MaskingRule::default(), &SPECIAL, 1_000).unwrap();
        let mut out = vec![1, 2, 3];
        masker.sorted(
            &[4, 9, 4, 4, 1, 4, 8],
            &[500, 500, 101, 500, 500, 500, 500],
            3,
            &mut out,
        );
        assert_eq!(out, [0, 3, 4]);
    }
}
