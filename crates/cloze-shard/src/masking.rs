//! Choosing what to predict: BERT's masking (Devlin et al. 2019, section 3.1 and appendix A.1), keyed.
//!
//! Of a row's `n` maskable tokens exactly `k = max(1, round(rate · n))` are predicted: those with the
//! smallest keyed 32-bit draws (ties go to the lower position). Of these, 80 % become `[MASK]`, 10 % a
//! random token that is not special, and 10 % stay. Special tokens are never chosen. Every draw is a
//! function of (seed, stage, row, epoch, position) alone, so a row's masks can be computed anywhere, in
//! any order, on any device.

mod tokens;

use serde::{Deserialize, Serialize};

use crate::random::{Key, Stage};
use crate::vocabulary::SpecialTokens;
use crate::{Error, Result};

pub use tokens::Scratch;

/// How much to mask, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskingRule {
    /// Share of a row's maskable tokens that are predicted; in `(0, 1]`.
    pub rate: f64,
    /// Share of the predicted tokens that become `[MASK]`.
    pub mask_share: f64,
    /// Share of the predicted tokens that become a random token; the rest stay as they are.
    pub random_share: f64,
}

impl Default for MaskingRule {
    /// BERT's: 15 %, of which 80 % `[MASK]`, 10 % random, 10 % kept.
    fn default() -> Self {
        Self {
            rate: 0.15,
            mask_share: 0.8,
            random_share: 0.1,
        }
    }
}

impl MaskingRule {
    /// How many of `maskable` tokens are predicted: at least one where there is one.
    #[must_use]
    pub fn count(&self, maskable: usize) -> usize {
        let rounded = (self.rate * maskable as f64 + 0.5).floor() as usize;
        rounded.max(1).min(maskable)
    }
}

/// What a row's masks are drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskKey {
    key: Key,
    epoch: u32,
}

impl MaskKey {
    /// The key and the epoch, for a device that draws the same.
    #[must_use]
    pub fn words(self) -> ([u32; 2], u32) {
        (self.key.words(), self.epoch)
    }

    /// Masks of `epoch` under `seed`. Static masks use [`Stage::StaticMask`] and epoch 0.
    #[must_use]
    pub fn new(seed: u64, stage: Stage, epoch: u32) -> Self {
        Self {
            key: Key::new(seed, stage),
            epoch,
        }
    }
}

/// What a device needs to mask as a [`Masker`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Replacing {
    /// The id of `[MASK]`.
    pub mask_id: u32,
    /// Tokens that are not special.
    pub replacements: u32,
    /// Second words of draws below this become `[MASK]`.
    pub mask_below: u64,
    /// Others below this become the token that the third word picks.
    pub random_below: u64,
}

/// Masks rows for one vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct Masker {
    rule: MaskingRule,
    special: Vec<u32>,
    mask_id: u32,
    replacements: u64,
    mask_below: u64,
    random_below: u64,
}

impl Masker {
    /// A masker for a vocabulary of `vocab_size` entries.
    pub fn new(rule: MaskingRule, special: &SpecialTokens, vocab_size: usize) -> Result<Self> {
        let config = |name, why: &str| {
            Err(Error::Config {
                name,
                why: why.to_owned(),
            })
        };
        if !(rule.rate > 0.0 && rule.rate <= 1.0) {
            return config("mask rate", "must be over 0 and at most 1");
        }
        let shares = rule.mask_share + rule.random_share;
        if !(rule.mask_share >= 0.0 && rule.random_share >= 0.0 && shares <= 1.0 + 1e-9) {
            return config(
                "mask shares",
                "must not be negative, and together at most 1",
            );
        }
        let special_ids = special.sorted();
        let replacements = vocab_size.saturating_sub(special_ids.len()) as u64;
        if replacements == 0 {
            return config("vocabulary", "holds nothing but special tokens");
        }
        let scale = (1u64 << 32) as f64;
        Ok(Self {
            rule,
            special: special_ids,
            mask_id: special.mask,
            replacements,
            mask_below: (rule.mask_share * scale).ceil() as u64,
            random_below: (shares * scale).ceil() as u64,
        })
    }

    /// What becomes of tokens that are predicted.
    #[must_use]
    pub fn replacing(&self) -> Replacing {
        Replacing {
            mask_id: self.mask_id,
            replacements: self.replacements as u32,
            mask_below: self.mask_below,
            random_below: self.random_below,
        }
    }

    /// Ids that are never masked, ascending.
    #[must_use]
    pub fn special(&self) -> &[u32] {
        &self.special
    }

    /// How many of `ids` are predicted.
    #[must_use]
    pub fn count(&self, ids: impl Iterator<Item = u32>) -> usize {
        self.rule
            .count(ids.filter(|&id| !self.is_special(id)).count())
    }

    /// Whether `id` is a special token, which is never masked.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.special.binary_search(&id).is_ok()
    }

    /// Masks `ids` (one row) in place; appends the positions, ascending, and the original ids there.
    ///
    /// `positions` are indices into `ids`, which must hold at most 65,536 tokens.
    pub fn mask(
        &self,
        key: MaskKey,
        row: u64,
        ids: &mut [u32],
        positions: &mut Vec<u16>,
        labels: &mut Vec<u32>,
    ) {
        let draw = |position: u16| key.key.block(row, key.epoch, u32::from(position));
        let mut ranked: Vec<(u32, u16)> = (0u16..=u16::MAX)
            .zip(ids.iter())
            .filter(|&(_, &id)| !self.is_special(id))
            .map(|(position, _)| (draw(position)[0], position))
            .collect();
        let count = self.rule.count(ranked.len());
        if count == 0 {
            return;
        }
        if count < ranked.len() {
            ranked.select_nth_unstable(count - 1);
            ranked.truncate(count);
        }
        ranked.sort_unstable_by_key(|&(_, position)| position);
        for (_, position) in ranked {
            let id = &mut ids[usize::from(position)];
            positions.push(position);
            labels.push(*id);
            let [_, action, replacement, _] = draw(position);
            let action = u64::from(action);
            if action < self.mask_below {
                *id = self.mask_id;
            } else if action < self.random_below {
                *id = self.replacement(replacement);
            }
        }
    }

    /// The `draw`-th token that is not special; uniform to within `vocab_size / 2^32`.
    fn replacement(&self, draw: u32) -> u32 {
        let mut id = ((u64::from(draw) * self.replacements) >> 32) as u32;
        for &special in &self.special {
            if special <= id {
                id += 1;
            }
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPECIAL: SpecialTokens = SpecialTokens {
        pad: 0,
        unk: 100,
        cls: 101,
        sep: 102,
        mask: 103,
    };

    fn masker(rule: MaskingRule) -> Masker {
        Masker::new(rule, &SPECIAL, 1_000).unwrap()
    }

    /// Straight from the definition: sort every maskable position by its draw, take the first k.
    fn oracle(
        m: &Masker,
        seed: u64,
        epoch: u32,
        row: u64,
        ids: &[u32],
    ) -> (Vec<u32>, Vec<u16>, Vec<u32>) {
        let key = Key::new(seed, Stage::DynamicMask);
        let ordinary: Vec<u32> = (0..1_000)
            .filter(|id| ![0, 100, 101, 102, 103].contains(id))
            .collect();
        let mut order: Vec<usize> = (0..ids.len())
            .filter(|&p| ![0, 100, 101, 102, 103].contains(&ids[p]))
            .collect();
        let maskable = order.len();
        order.sort_by_key(|&p| (key.block(row, epoch, p as u32)[0], p));
        let k = ((m.rule.rate * maskable as f64).round() as usize)
            .max(1)
            .min(maskable);
        order.truncate(k);
        order.sort();
        let mut masked = ids.to_vec();
        for &p in &order {
            let words = key.block(row, epoch, p as u32);
            let share = f64::from(words[1]) / 4_294_967_296.0;
            if share < m.rule.mask_share {
                masked[p] = 103;
            } else if share < m.rule.mask_share + m.rule.random_share {
                masked[p] = ordinary
                    [(f64::from(words[2]) / 4_294_967_296.0 * ordinary.len() as f64) as usize];
            }
        }
        (
            masked,
            order.iter().map(|&p| p as u16).collect(),
            order.iter().map(|&p| ids[p]).collect(),
        )
    }

    fn rows() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(prop_oneof![4 => 0u32..1_000, 1 => 100u32..104], 0..600)
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(ids in rows(), seed: u64, epoch: u32, row: u64, rate in 0.01f64..1.0) {
            let m = masker(MaskingRule { rate, ..MaskingRule::default() });
            let (mut masked, mut positions, mut labels) = (ids.clone(), vec![], vec![]);
            m.mask(MaskKey::new(seed, Stage::DynamicMask, epoch), row, &mut masked, &mut positions, &mut labels);
            prop_assert_eq!((masked, positions, labels), oracle(&m, seed, epoch, row, &ids));
        }

        #[test]
        fn never_touches_or_makes_a_special_token(ids in rows(), seed: u64) {
            let m = masker(MaskingRule { rate: 1.0, mask_share: 0.0, random_share: 1.0 });
            let (mut masked, mut positions, mut labels) = (ids.clone(), vec![], vec![]);
            m.mask(MaskKey::new(seed, Stage::DynamicMask, 0), 0, &mut masked, &mut positions, &mut labels);
            for (before, after) in ids.iter().zip(&masked) {
                if m.is_special(*before) {
                    prop_assert_eq!(before, after);
                } else {
                    prop_assert!(!m.is_special(*after) && *after < 1_000);
                }
            }
        }
    }

    /// Shares of a million draws lie within 4 standard errors of 80/10/10, each position is chosen
    /// equally often, and replacements are uniform.
    #[test]
    fn shares_are_as_asked() {
        let m = masker(MaskingRule::default());
        let key = MaskKey::new(11, Stage::DynamicMask, 3);
        let ids: Vec<u32> = (0..100).map(|i| 200 + i).collect();
        let (mut to_mask, mut kept, mut total) = (0f64, 0f64, 0f64);
        let mut per_position = [0f64; 100];
        for row in 0..20_000 {
            let (mut masked, mut positions, mut labels) = (ids.clone(), vec![], vec![]);
            m.mask(key, row, &mut masked, &mut positions, &mut labels);
            assert_eq!(positions.len(), 15);
            for &p in &positions {
                total += 1.0;
                per_position[usize::from(p)] += 1.0;
                let now = masked[usize::from(p)];
                to_mask += f64::from(u8::from(now == 103));
                kept += f64::from(u8::from(now == ids[usize::from(p)]));
            }
        }
        let close =
            |seen: f64, p: f64| (seen / total - p).abs() < 4.0 * (p * (1.0 - p) / total).sqrt();
        assert!(close(to_mask, 0.8), "{}", to_mask / total);
        assert!(close(kept, 0.1 + 0.1 / 995.0), "{}", kept / total);
        let expected = total / 100.0;
        // Without replacement within a row: the variance of a count is n·p·(1-p) for n rows.
        let z = |c: f64| (c - expected) / (20_000.0f64 * 0.15 * 0.85).sqrt();
        assert!(
            per_position.iter().all(|&c| z(c).abs() < 4.5),
            "{per_position:?}"
        );
    }

    #[test]
    fn refuses_what_cannot_be() {
        for rate in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(
                Masker::new(
                    MaskingRule {
                        rate,
                        ..MaskingRule::default()
                    },
                    &SPECIAL,
                    1_000
                )
                .is_err()
            );
        }
        let rule = MaskingRule {
            mask_share: 0.9,
            random_share: 0.2,
            rate: 0.15,
        };
        assert!(Masker::new(rule, &SPECIAL, 1_000).is_err());
        assert!(Masker::new(MaskingRule::default(), &SPECIAL, 5).is_err());
    }
}
