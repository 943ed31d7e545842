//! Masks of tokens, fast: the same as [`Masker::mask`] makes, which is the definition. Words and spans: `units.rs`.
//!
//! All draws of a row are made at once. They are uniform, so where the `k` smallest of them end is found in a few guesses, each of which counts
//! the draws below a bound; where two equal draws stand in the way, they are sorted. What becomes of tokens is drawn for those alone that are chosen.

use super::{FATES, MaskKey, Masker, Unit};
use crate::random::Begun;
use crate::row::Id;
use crate::wide::wide;

/// Draws that are looked at together.
pub(super) const LANES: usize = 16;

/// Memory to mask in.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    pub(super) draws: Vec<u32>,
    pub(super) chosen: Vec<u32>,
    /// For each token that is chosen, what becomes of it, and which random token it would be.
    fates: [Vec<u32>; 2],
    pub(super) units: super::units::Scratch,
}

wide! {
    /// Makes the draws of special tokens, and of what is there after the last token, the largest there is. How many tokens are not special.
    fn hide<T: Id>(ids: &[T], special: &[T; 5], draws: &mut [u32]) -> usize {
        let (first, rest) = draws.split_at_mut(ids.len());
        rest.fill(u32::MAX);
        let mut held = [0u16; LANES];
        let hide = |draw: &mut u32, id: T, held: &mut u16| {
            let is_special = is_one_of(special, id);
            // The larger of both, not a choice: of that, stores under a mask are made, which some processors are slow at.
            *draw = (*draw).max(u32::from(is_special).wrapping_neg());
            // A row has at most 65,536 tokens.
            *held += u16::from(is_special);
        };
        let (draws, last_draws) = first.as_chunks_mut::<LANES>();
        let (ids, last_ids) = ids.as_chunks::<LANES>();
        for (draws, ids) in draws.iter_mut().zip(ids) {
            for ((draw, &id), held) in draws.iter_mut().zip(ids).zip(&mut held) {
                hide(draw, id, held);
            }
        }
        for ((draw, &id), held) in last_draws.iter_mut().zip(last_ids).zip(&mut held) {
            hide(draw, id, held);
        }
        first.len() - held.iter().map(|&held| usize::from(held)).sum::<usize>()
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

/// Draws for the positions of `ids`, up to a multiple of [`LANES`], and how many tokens are not special; see [`hide`].
pub(super) fn draw<'a, T: Id>(
    begun: &Begun,
    ids: &[T],
    special: &[T; 5],
    draws: &'a mut Vec<u32>,
) -> (&'a [u32], usize) {
    begun.fill(ids.len(), draws);
    let draws = &mut draws[..ids.len().next_multiple_of(LANES)];
    let maskable = hide(ids, special, draws);
    (draws, maskable)
}

/// Whether `id` is one of `special`, without a branch.
#[inline(always)]
pub(super) fn is_one_of<T: Id>(special: &[T; 5], id: T) -> bool {
    special.iter().fold(false, |is, &s| is | (s == id))
}

impl Masker {
    /// Special tokens, some repeated so that there are five.
    pub(super) fn five<T: Id>(&self) -> [T; 5] {
        let last = self.special.len().saturating_sub(1);
        let at = |i: usize| self.special.get(i.min(last)).copied();
        std::array::from_fn(|i| T::of(at(i).unwrap_or(u32::MAX)))
    }

    /// As [`Masker::mask`], for a row that begins at `start` of a batch: what it appends are places in the batch.
    ///
    /// `ids` must hold at most 65,536 tokens.
    #[allow(clippy::too_many_arguments)]
    pub fn mask_in<T: Id>(
        &self,
        scratch: &mut Scratch,
        key: MaskKey,
        row: u64,
        start: u32,
        ids: &mut [T],
        places: &mut Vec<u32>,
        labels: &mut Vec<T>,
    ) {
        let begun = key.key.begin(row, key.epoch);
        match &self.unit {
            Unit::Token => self.tokens_in(scratch, &begun, ids),
            Unit::Word(pieces) => self.words_in(scratch, pieces, &begun, ids),
            Unit::Span(pieces, lengths) => {
                return self.spans_in(
                    scratch,
                    (pieces, lengths),
                    (key, row),
                    (start, ids),
                    places,
                    labels,
                );
            }
        }
        let Scratch { chosen, fates, .. } = scratch;
        begun.pairs(FATES, chosen, fates);
        places.extend(chosen.iter().map(|&position| start + position));
        let [actions, replacements] = fates;
        let fates = actions.iter().zip(&*replacements);
        labels.extend(
            chosen
                .iter()
                .zip(fates)
                .map(|(&position, (&action, &draw))| {
                    let action = u64::from(action);
                    // Both are there before it is known which is needed: chance cannot be predicted.
                    let replacement = self.replacement(draw);
                    let at = &mut ids[position as usize];
                    let id = *at;
                    let other = if action < self.random_below {
                        T::of(replacement)
                    } else {
                        id
                    };
                    *at = if action < self.mask_below {
                        T::of(self.mask_id)
                    } else {
                        other
                    };
                    id
                }),
        );
    }

    /// Draws for a row, and chooses the tokens of the smallest.
    fn tokens_in<T: Id>(&self, scratch: &mut Scratch, begun: &Begun, ids: &[T]) {
        let Scratch { draws, chosen, .. } = scratch;
        chosen.clear();
        let (draws, maskable) = draw(begun, ids, &self.five(), draws);
        let count = self.rule.count(maskable);
        if count == 0 {
            return;
        }
        let bound = match count < maskable {
            true => bound(draws, count, maskable),
            false => None,
        };
        match bound {
            Some(bound) => below(draws, bound, chosen),
            None => self.sorted(draws, ids, count, chosen),
        }
    }

    /// The positions of the `count` smallest draws, ascending; of equal ones the first.
    fn sorted<T: Id>(&self, draws: &[u32], ids: &[T], count: usize, out: &mut Vec<u32>) {
        let mut all: Vec<(u32, u32)> = (0u32..)
            .zip(ids)
            .zip(draws)
            .filter(|((_, id), _)| !self.is_special(id.id()))
            .map(|((position, _), &draw)| (draw, position))
            .collect();
        all.sort_unstable();
        out.clear();
        out.extend(all.iter().take(count).map(|&(_, position)| position));
        out.sort_unstable();
    }
}

/// The positions of the draws that are below `bound`, in order. There is a multiple of [`LANES`] of draws.
fn below(draws: &[u32], bound: u32, out: &mut Vec<u32>) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has these instructions.
        return unsafe { super::x86::below(draws, bound, out) };
    }
    one_by_one(draws, bound, out);
}

/// As [`below`].
fn one_by_one(draws: &[u32], bound: u32, out: &mut Vec<u32>) {
    let positions = (0u32..).zip(draws).filter(|&(_, &draw)| draw < bound);
    out.extend(positions.map(|(position, _)| position));
}

#[cfg(test)]
mod tests {
    use super::super::MaskingRule;
    use super::*;
    use crate::SpecialTokens;

    const SPECIAL: SpecialTokens = SpecialTokens {
        pad: 0,
        unk: 100,
        cls: 101,
        sep: 102,
        mask: 103,
    };

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
        let mut draws = [9; 48];
        [5, 7, 6, 6]
            .iter()
            .zip([1, 2, 16, 47])
            .for_each(|(&draw, at)| draws[at] = draw);
        draws[47] = u32::MAX;
        draws[46] = 0;
        below(&draws, 7, &mut out);
        assert_eq!(out, [1, 16, 46]);
        draws
            .iter_mut()
            .for_each(|draw| *draw = draw.wrapping_mul(0x9E37_79B9));
        for bound in [0, 1, 1 << 31, u32::MAX] {
            let mut plain = vec![];
            one_by_one(&draws, bound, &mut plain);
            below(&draws, bound, &mut out);
            assert_eq!(out, plain, "{bound}");
        }
    }

    /// Equal draws: those of the first positions are chosen, as the definition has it.
    #[test]
    fn equal_draws_are_chosen_in_order() {
        let masker = Masker::new(MaskingRule::default(), &SPECIAL, 1_000).unwrap();
        let mut out = vec![1, 2, 3];
        masker.sorted(
            &[4, 9, 4, 4, 1, 4, 8],
            &[500u32, 500, 101, 500, 500, 500, 500],
            3,
            &mut out,
        );
        assert_eq!(out, [0, 3, 4]);
    }
}
