//! Masks of words and spans, fast: the same as [`Masker::mask`] makes by `words.rs` and `spans.rs`, which are the definition.
//!
//! Words are found without a branch, in memory that is used again. Of words, only those of the smallest draws are put in order: more of them than the budget
//! holds, mostly; where these leave something of it, the others come after them.

use super::spans::{Lengths, Span, pick};
use super::tokens::is_one_of;
use super::words::Pieces;
use super::{FATES, FIRST_SPAN, MaskKey, Masker, Scratch as All};
use crate::random::Begun;
use crate::row::Id;

/// Memory to choose units in.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    /// First and last position (exclusive) of each word.
    starts: Vec<u32>,
    ends: Vec<u32>,
    /// Draws of words, each above its number.
    order: Vec<u64>,
    /// Numbers of words that are predicted, or that may begin a span.
    words: Vec<u32>,
    spans: Vec<Span>,
}

impl Scratch {
    /// Finds the words of a row, as [`Pieces::words`] does.
    fn find<T: Id>(&mut self, pieces: &Pieces, ids: &[T], special: &[T; 5]) {
        let room = ids.len() + 1;
        self.starts.resize(room, 0);
        self.ends.resize(room, 0);
        let (mut begun, mut ended, mut inside) = (0, 0, false);
        // Written in any case, and kept where it counts.
        for (position, &id) in (0u32..).zip(ids) {
            let is_special = is_one_of(special, id);
            let goes_on = inside & !is_special & pieces.contains(id.id());
            self.ends[ended] = position;
            ended += usize::from(inside & !goes_on);
            self.starts[begun] = position;
            begun += usize::from(!is_special & !goes_on);
            inside = !is_special;
        }
        self.ends[ended] = ids.len() as u32;
        self.starts.truncate(begun);
        self.ends.truncate(begun);
    }

    fn len(&self, word: u32) -> usize {
        (self.ends[word as usize] - self.starts[word as usize]) as usize
    }

    /// Chooses words as [`super::words::choose_words`] does, by the draws of all positions.
    fn choose(&mut self, budget: usize, draws: &[u32]) {
        self.words.clear();
        let count = self.starts.len();
        let wanted = budget + budget / 4 + 8;
        let bound = match wanted < count {
            true => ((wanted as u64) << 32) / count as u64,
            false => 1 << 32,
        };
        let (mut left, mut first) = (budget, None);
        for (from, to) in [(0, bound), (bound, 1 << 32)] {
            self.order.resize(count, 0);
            let mut found = 0;
            for (number, &start) in (0u64..).zip(&self.starts) {
                let draw = u64::from(draws[start as usize]);
                self.order[found] = draw << 32 | number;
                found += usize::from((from..to).contains(&draw));
            }
            self.order.truncate(found);
            self.order.sort_unstable();
            for i in 0..found {
                let word = self.order[i] as u32;
                first = first.or(Some(word));
                if let Some(rest) = left.checked_sub(self.len(word)) {
                    left = rest;
                    self.words.push(word);
                }
                if left == 0 {
                    break;
                }
            }
            if left == 0 {
                break;
            }
        }
        if self.words.is_empty() {
            self.words.extend(first);
        }
        self.words.sort_unstable();
    }

    /// Chooses spans as [`super::spans::choose_spans`] does.
    fn choose_spans(&mut self, budget: usize, lengths: &Lengths, draw: impl Fn(u32) -> [u32; 4]) {
        self.spans.clear();
        let mut left = budget;
        let mut open = std::mem::take(&mut self.words);
        open.clear();
        let mut longest = 0;
        for word in 0..self.starts.len() as u32 {
            let len = self.len(word);
            if len <= left {
                open.push(word);
                longest = longest.max(len);
            }
        }
        let of = |word: u32| self.starts[word as usize]..self.ends[word as usize];
        if open.is_empty() && !self.starts.is_empty() {
            let word = pick(self.starts.len(), draw(0)[1]) as u32;
            let (tokens, number) = (of(word), 0);
            self.spans.push(Span { tokens, number });
        }
        let mut number = 0;
        while !open.is_empty() {
            let [length, start, ..] = draw(number);
            let first = pick(open.len(), start);
            let mut tokens = of(open[first]);
            let mut end = first + 1;
            let length = lengths.of(length);
            while end - first < length
                && let Some(next) = open.get(end).map(|&word| of(word))
                && next.start == tokens.end
                && (next.end - tokens.start) as usize <= left
            {
                tokens.end = next.end;
                end += 1;
            }
            left -= tokens.len();
            self.spans.push(Span { tokens, number });
            open.drain(first..end);
            if left < longest {
                open.retain(|&word| self.len(word) <= left);
                longest = left;
            }
            number += 1;
        }
        self.words = open;
        self.spans.sort_unstable_by_key(|span| span.tokens.start);
    }
}

impl Masker {
    /// Draws for a row, and chooses the tokens of words.
    pub(super) fn words_in<T: Id>(
        &self,
        scratch: &mut All,
        pieces: &Pieces,
        begun: &Begun,
        ids: &[T],
    ) {
        let maskable = self.find(scratch, ids);
        let All {
            draws,
            chosen,
            units,
            ..
        } = scratch;
        begun.fill(ids.len(), draws);
        units.find(pieces, ids, &self.five());
        units.choose(self.rule.count(maskable), draws);
        chosen.clear();
        for &word in &units.words {
            chosen.extend(units.starts[word as usize]..units.ends[word as usize]);
        }
    }

    /// As [`Masker::mask_in`], by spans.
    pub(super) fn spans_in<T: Id>(
        &self,
        scratch: &mut All,
        (pieces, lengths): (&Pieces, &Lengths),
        (key, row): (MaskKey, u64),
        (start, ids): (u32, &mut [T]),
        places: &mut Vec<u32>,
        labels: &mut Vec<T>,
    ) {
        let maskable = self.find(scratch, ids);
        let units = &mut scratch.units;
        units.find(pieces, ids, &self.five());
        let block = |block: u32| key.key.block(row, key.epoch, block);
        let of_span = |number: u32| block(FIRST_SPAN + number);
        units.choose_spans(self.rule.count(maskable), lengths, of_span);
        for span in &units.spans {
            let action = u64::from(of_span(span.number)[2]);
            for position in span.tokens.clone() {
                let id = &mut ids[position as usize];
                places.push(start + position);
                labels.push(*id);
                if action < self.mask_below {
                    *id = T::of(self.mask_id);
                } else if action < self.random_below {
                    *id = T::of(self.replacement(block(FATES + position)[1]));
                }
            }
        }
    }
}
