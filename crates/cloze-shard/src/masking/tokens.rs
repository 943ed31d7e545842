//! Masks of tokens, fast: the same as [`Masker::mask`] makes, which is the definition.
//!
//! All draws of a row are made at once. As they are uniform, the `k` smallest of `n` lie below a bound that is a little over `k / n` of their
//! range; only those that do are looked at more closely. If it happens that they are too few, all are.

use super::{MaskKey, Masker};
use crate::random::{Blocks, Key};
use crate::wide::wide;

/// How far the bound lies over the expected place of the k-th smallest draw, in standard deviations: one row in some 500 needs a second look.
const MARGIN: f64 = 3.0;

/// Memory to mask in.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    draws: Blocks,
    /// Draws that may be among the smallest, with their positions.
    near: Vec<u64>,
    ranked: Vec<u64>,
}

wide! {
    /// Draws for `n` positions; the first word of those of special tokens is the largest there is. How many tokens are not special.
    fn draw(key: Key, row: u64, epoch: u32, ids: &[u32], special: &[u32; 5], draws: &mut Blocks) -> usize {
        key.fill(row, epoch, ids.len(), draws);
        let mut held = 0;
        for (draw, &id) in draws.words_mut(0).iter_mut().zip(ids) {
            let is_special = special.iter().fold(false, |is, &s| is | (s == id));
            *draw |= if is_special { u32::MAX } else { 0 };
            held += u32::from(is_special);
        }
        ids.len() - held as usize
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
            near,
            ranked,
        } = scratch;
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
        below(draws.words(0), ids.len(), bound(count, maskable), near);
        if near.len() < count {
            near.clear();
            let all = (0u64..).zip(ids.iter()).zip(draws.words(0));
            near.extend(
                all.filter(|((_, id), _)| !self.is_special(**id))
                    .map(|((position, _), &draw)| u64::from(draw) << 32 | position),
            );
        }
        let last = if count < near.len() {
            ranked.clear();
            ranked.extend_from_slice(near);
            *ranked.select_nth_unstable(count - 1).1
        } else {
            u64::MAX
        };
        places.reserve(count);
        labels.reserve(count);
        for position in near.iter().filter(|&&n| n <= last).map(|&n| n as u32) {
            let at = position as usize;
            places.push(start + position);
            labels.push(ids[at]);
            let action = u64::from(draws.words(1)[at]);
            if action < self.mask_below {
                ids[at] = self.mask_id;
            } else if action < self.random_below {
                ids[at] = self.replacement(draws.words(2)[at]);
            }
        }
    }
}

/// A draw that is very likely over the `count`-th smallest of `n`.
fn bound(count: usize, n: usize) -> u32 {
    let (k, n) = (count as f64, n as f64);
    let share = (k + 1.0 + MARGIN * k.sqrt()) / (n + 1.0);
    // Saturates.
    (share * 4_294_967_296.0) as u32
}

/// The first `n` draws that are below `bound`, over their positions, in order.
fn below(draws: &[u32], n: usize, bound: u32, out: &mut Vec<u64>) {
    out.resize(n, 0);
    let mut found = 0;
    for (position, &draw) in (0u64..).zip(&draws[..n]) {
        // Written in any case, and kept where it counts: no branch that is taken at random.
        out[found] = u64::from(draw) << 32 | position;
        found += usize::from(draw < bound);
    }
    out.truncate(found);
}

#[cfg(test)]
mod tests {
    use super::super::MaskingRule;
    use super::*;
    use crate::SpecialTokens;
    use crate::random::Stage;
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

    /// Rows that need the second look do come, and are right.
    #[test]
    fn a_bound_that_is_too_low_is_no_harm() {
        let masker = Masker::new(MaskingRule::default(), &SPECIAL, 1_000).unwrap();
        let key = MaskKey::new(5, Stage::DynamicMask, 2);
        let mut scratch = Scratch::default();
        let mut looked_again = 0;
        for row in 0..20_000 {
            let ids: Vec<u32> = (0..120).map(|i| 200 + (i * 7 + row as u32) % 300).collect();
            let (mut expected, mut positions, mut kept) = (ids.clone(), vec![], vec![]);
            masker.mask(key, row, &mut expected, &mut positions, &mut kept);
            let (mut masked, mut places, mut labels) = (ids, vec![], vec![]);
            masker.mask_in(
                &mut scratch,
                key,
                row,
                0,
                &mut masked,
                &mut places,
                &mut labels,
            );
            assert_eq!((masked, labels), (expected, kept));
            let draws = &scratch.draws.words(0)[..120];
            looked_again += u32::from(draws.iter().filter(|&&d| d < bound(18, 120)).count() < 18);
        }
        assert!((1..400).contains(&looked_again), "{looked_again}");
    }
}
