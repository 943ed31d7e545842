//! Words of a row, and which of them are predicted.

use std::ops::Range;
use std::sync::Arc;

use crate::vocabulary::Vocabulary;

/// Positions of a word's tokens.
pub type Word = Range<u32>;

/// The ids that continue a word (`##…`), a bit each.
#[derive(Clone, Debug, PartialEq)]
pub struct Pieces(Arc<[u64]>);

impl Pieces {
    /// Those of `vocabulary`; `None` where it has none, so that it does not say where words begin.
    pub fn of(vocabulary: &Vocabulary) -> Option<Self> {
        let mut bits = vec![0; vocabulary.len().div_ceil(64)];
        for id in (0u32..).take(vocabulary.len()) {
            bits[id as usize / 64] |= u64::from(vocabulary.is_continuation(id)) << (id % 64);
        }
        bits.iter().any(|&b| b != 0).then(|| Self(bits.into()))
    }

    /// Whether `id` continues a word.
    pub fn contains(&self, id: u32) -> bool {
        let bits = self.0.get(id as usize / 64).copied().unwrap_or(0);
        bits >> (id % 64) & 1 == 1
    }

    /// The words of a row, in order. Special tokens are in none and end one; pieces that follow none are a word by themselves.
    pub fn words(&self, ids: &[u32], is_special: impl Fn(u32) -> bool) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::with_capacity(ids.len());
        for (position, &id) in (0u32..).zip(ids) {
            if is_special(id) {
                continue;
            }
            match words.last_mut() {
                Some(word) if word.end == position && self.contains(id) => word.end += 1,
                _ => words.push(position..position + 1),
            }
        }
        words
    }
}

/// Which of `words` are predicted, ascending: in the order of the draws of their first tokens each that fits into what is left of
/// `budget` tokens; where none fits, the first in that order.
pub fn choose_words(words: &[Word], budget: usize, draw: impl Fn(u32) -> u32) -> Vec<Word> {
    let mut order: Vec<(u32, usize)> = (0..words.len())
        .map(|i| (draw(words[i].start), i))
        .collect();
    order.sort_unstable();
    let mut left = budget;
    let mut taken = Vec::new();
    for &(_, i) in &order {
        let Some(rest) = left.checked_sub(words[i].len()) else {
            continue;
        };
        left = rest;
        taken.push(i);
        if left == 0 {
            break;
        }
    }
    if taken.is_empty() {
        taken.extend(order.first().map(|&(_, i)| i));
    }
    taken.sort_unstable();
    taken.into_iter().map(|i| words[i].clone()).collect()
}
