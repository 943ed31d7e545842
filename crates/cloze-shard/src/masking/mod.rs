//! Choosing what to predict: BERT's masking (Devlin et al. 2019, section 3.1 and appendix A.1), keyed.
//!
//! A row has a budget: of its `n` maskable tokens, which are all but the special ones, `k = max(1, round(rate · n))`. What it is spent on
//! depends on the [`MaskUnit`].
//!
//! - **Token**: exactly `k`, by Floyd's sampling (Bentley and Floyd, "A sample of brilliance", CACM 30(9), 1987). Draw number t = 0, 1, … of a row, which is block
//!   t, picks by its first word one of the first `n − k + t + 1` maskable tokens; where that is predicted already, the last of these is.
//! - **Word**: a token and the `##` pieces that follow it at once. Words are gone through by the draws of their first tokens, and each
//!   is taken whose tokens fit into what is left of the budget; one that does not is passed over, as BERT's own code does. The draw of the token at position
//!   p is of block `p / 4` the word `p mod 4`.
//! - **Span**: a run of words that no special token interrupts, after SpanBERT (Joshi et al. 2020, section 3.1). `spans::choose_spans` is the
//!   definition. Draw number t of a row is block 131,072 + t.
//!
//! With words and spans the budget is met exactly, unless every word that is left over is longer than what is left of it; then less is
//! predicted. More is only where no word fits from the first: then one word is predicted, whatever its length.
//!
//! Of what is predicted, 80 % becomes `[MASK]`, 10 % random tokens that are not special, and 10 % stays. One word of the stream decides which, and another what random
//! token it is. By tokens these are, for the i-th of those that are predicted, the second and third word of block i; in words the first and second word of block
//! 65,536 + position, for each token by itself, as in BERT; in spans the third word of a span's draw for all its tokens alike, as in SpanBERT, and for each the second word
//! of block 65,536 + position.
//!
//! Every draw is a function of (seed, stage, row, epoch, position or number) alone, so a row's masks can be computed anywhere, in
//! any order, on any device.

mod rule;
mod spans;
mod tokens;
mod units;
mod words;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod unit_statistics;
#[cfg(test)]
mod unit_tests;

use crate::random::{Key, Stage};
use crate::vocabulary::{SpecialTokens, Vocabulary};
use crate::{Error, Result};

pub use rule::{MaskUnit, MaskingRule};
use spans::{Lengths, choose_spans, pick};
pub use tokens::Scratch;
use words::{Pieces, choose_words};

/// The block that says what becomes of the token at position 0 in a word or a span, and those of the others after it.
const FATES: u32 = 1 << 16;
/// The block of a row's first span.
const FIRST_SPAN: u32 = 1 << 17;

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

    /// Masks of `epoch` under `seed`. Static masks use [`Stage::StaticMask`] and in the epoch's place their split's number.
    #[must_use]
    pub fn new(seed: u64, stage: Stage, epoch: u32) -> Self {
        Self {
            key: Key::new(seed, stage),
            epoch,
        }
    }
}

/// What a device needs to mask as a [`Masker`] by tokens does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Replacing {
    /// The id of `[MASK]`.
    pub mask_id: u32,
    /// Tokens that are not special.
    pub replacements: u32,
    /// The `i`-th token that is predicted becomes `[MASK]` where the second word of block `i` is below this.
    pub mask_below: u64,
    /// Others below this become the token that the third word picks.
    pub random_below: u64,
}

/// What is chosen at a time, and what it takes to tell.
#[derive(Clone, Debug, PartialEq)]
enum Unit {
    Token,
    Word(Pieces),
    Span(Pieces, Lengths),
}

/// Masks rows for one vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct Masker {
    rule: MaskingRule,
    unit: Unit,
    special: Vec<u32>,
    /// The same, the last repeated so that there are five.
    five: [u32; 5],
    /// The same, and after them ids that no token has.
    ascending: [u32; 5],
    mask_id: u32,
    replacements: u64,
    mask_below: u64,
    random_below: u64,
}

impl Masker {
    /// A masker by tokens, for a vocabulary of `vocab_size` entries. Other units need to know the entries: [`Masker::of`].
    pub fn new(rule: MaskingRule, special: &SpecialTokens, vocab_size: usize) -> Result<Self> {
        rule.check()?;
        let config = |name, why: &str| {
            Err(Error::Config {
                name,
                why: why.to_owned(),
            })
        };
        if !rule.unit.is_token() {
            return config(
                "--mask-unit",
                "words and spans need the vocabulary's entries",
            );
        }
        let shares = rule.mask_share + rule.random_share;
        let special_ids = special.sorted();
        let replacements = vocab_size.saturating_sub(special_ids.len()) as u64;
        if replacements == 0 {
            return config("vocabulary", "holds nothing but special tokens");
        }
        let scale = (1u64 << 32) as f64;
        Ok(Self {
            rule,
            unit: Unit::Token,
            five: std::array::from_fn(|i| {
                let last = special_ids.len().saturating_sub(1);
                special_ids.get(i.min(last)).copied().unwrap_or(u32::MAX)
            }),
            ascending: std::array::from_fn(|i| special_ids.get(i).copied().unwrap_or(u32::MAX)),
            special: special_ids,
            mask_id: special.mask,
            replacements,
            mask_below: (rule.mask_share * scale).ceil() as u64,
            random_below: (shares * scale).ceil() as u64,
        })
    }

    /// A masker by any unit.
    pub fn of(rule: MaskingRule, vocabulary: &Vocabulary) -> Result<Self> {
        rule.check()?;
        let pieces = || {
            Pieces::of(vocabulary).ok_or(Error::NoPieces {
                unit: rule.unit.name(),
            })
        };
        let unit = match rule.unit {
            MaskUnit::Token => Unit::Token,
            MaskUnit::Word => Unit::Word(pieces()?),
            MaskUnit::Span { p, longest } => Unit::Span(pieces()?, Lengths::new(p, longest)),
        };
        let by_token = MaskingRule {
            unit: MaskUnit::Token,
            ..rule
        };
        let masker = Self::new(by_token, &vocabulary.special(), vocabulary.len())?;
        Ok(Self {
            rule,
            unit,
            ..masker
        })
    }

    /// The same, at another rate in `(0, 1]`.
    #[must_use]
    pub fn at_rate(&self, rate: f64) -> Self {
        let mut other = self.clone();
        other.rule.rate = rate;
        other
    }

    /// What is chosen how.
    #[must_use]
    pub fn rule(&self) -> &MaskingRule {
        &self.rule
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

    /// How many of `ids` (one row) [`Masker::mask`] predicts. By tokens, nothing is drawn for that.
    #[must_use]
    pub fn count(&self, key: MaskKey, row: u64, ids: &[u32]) -> usize {
        let tokens = match self.unit {
            Unit::Token => return self.rule.count(self.maskable(ids)),
            Unit::Word(_) | Unit::Span(..) => self.chosen(key, row, ids),
        };
        tokens.iter().map(|chosen| chosen.tokens.len()).sum()
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
        let draw = |block: u32| key.key.block(row, key.epoch, block);
        let mut number = 0;
        for chosen in self.chosen(key, row, ids) {
            for position in chosen.tokens {
                let id = &mut ids[position as usize];
                // A row has at most 65,536 tokens.
                positions.push(position as u16);
                labels.push(*id);
                let [own, replacement] = match self.unit {
                    Unit::Token => [draw(number)[1], draw(number)[2]],
                    Unit::Word(_) | Unit::Span(..) => {
                        let [own, replacement, ..] = draw(FATES + position);
                        [own, replacement]
                    }
                };
                number += 1;
                let action = u64::from(chosen.action.unwrap_or(own));
                if action < self.mask_below {
                    *id = self.mask_id;
                } else if action < self.random_below {
                    *id = self.replacement(replacement);
                }
            }
        }
    }

    fn maskable(&self, ids: &[u32]) -> usize {
        ids.iter().filter(|&&id| !self.is_special(id)).count()
    }

    /// What of a row is predicted, ascending.
    fn chosen(&self, key: MaskKey, row: u64, ids: &[u32]) -> Vec<Chosen> {
        let draw = |block: u32| key.key.block(row, key.epoch, block);
        let of_position = |position: u32| draw(position / 4)[position as usize % 4];
        let each_by_itself = |tokens| Chosen {
            tokens,
            action: None,
        };
        match &self.unit {
            Unit::Token => self
                .choose_tokens(ids, |number| draw(number)[0])
                .into_iter()
                .map(|position| each_by_itself(position..position + 1))
                .collect(),
            Unit::Word(pieces) => {
                let words = pieces.words(ids, |id| self.is_special(id));
                let budget = self.rule.count(self.maskable(ids));
                let chosen = choose_words(&words, budget, of_position);
                chosen.into_iter().map(each_by_itself).collect()
            }
            Unit::Span(pieces, lengths) => {
                let words = pieces.words(ids, |id| self.is_special(id));
                let budget = self.rule.count(self.maskable(ids));
                let of_span = |number| draw(FIRST_SPAN + number);
                let alike = |span: spans::Span| Chosen {
                    tokens: span.tokens,
                    action: Some(of_span(span.number)[2]),
                };
                let spans = choose_spans(&words, budget, lengths, of_span);
                spans.into_iter().map(alike).collect()
            }
        }
    }

    /// The positions of tokens that are predicted, ascending.
    fn choose_tokens(&self, ids: &[u32], draw: impl Fn(u32) -> u32) -> Vec<u32> {
        let maskable = (0u32..).zip(ids).filter(|&(_, &id)| !self.is_special(id));
        let maskable: Vec<u32> = maskable.map(|(position, _)| position).collect();
        let (n, k) = (maskable.len(), self.rule.count(maskable.len()));
        let mut taken = vec![false; n];
        for (number, last) in (0u32..).zip(n - k..n) {
            let at = pick(last + 1, draw(number));
            let at = if taken[at] { last } else { at };
            taken[at] = true;
        }
        let taken = maskable.into_iter().zip(taken);
        taken
            .filter_map(|(position, taken)| taken.then_some(position))
            .collect()
    }

    /// The `draw`-th token that is not special; uniform to within `vocab_size / 2^32`.
    #[inline(always)]
    fn replacement(&self, draw: u32) -> u32 {
        // Vocabularies have less than 2³² entries.
        let among = u64::from(self.replacements as u32);
        let mut id = ((u64::from(draw) * among) >> 32) as u32;
        for special in self.ascending {
            id += u32::from(special <= id);
        }
        id
    }
}

/// Tokens that are predicted together.
struct Chosen {
    tokens: words::Word,
    /// What decides what becomes of them all; `None` where each has its own draw.
    action: Option<u32>,
}
