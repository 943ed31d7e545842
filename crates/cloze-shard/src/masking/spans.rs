//! Spans of words (Joshi et al., SpanBERT, TACL 2020, section 3.1).

use std::sync::Arc;

use super::words::Word;

/// How many words a span has: `p · (1 − p)^(ℓ − 1)` for ℓ from 1 to the longest, scaled so that these are all.
///
/// That is what SpanBERT's "clipped" means, whose mean of 3.8 words is this one's: longer spans are not drawn, and none is
/// shortened to the longest, which would make the mean 4.5.
#[derive(Clone, Debug, PartialEq)]
pub struct Lengths {
    /// Draws from the n-th of these on have more than n + 1 words; ascending.
    bounds: Arc<[u64]>,
}

impl Lengths {
    /// Made by products and sums alone, which are the same on every machine.
    pub fn new(p: f64, longest: u16) -> Self {
        let mut weight = 1.0;
        let sums: Vec<f64> = (0..longest)
            .scan(0.0, |sum, _| {
                *sum += weight;
                weight *= 1.0 - p;
                Some(*sum)
            })
            .collect();
        let all = sums.last().copied().unwrap_or(1.0);
        let within = &sums[..sums.len().saturating_sub(1)];
        let bound = |sum: &f64| (sum / all * (1u64 << 32) as f64).round() as u64;
        Self {
            bounds: within.iter().map(bound).collect(),
        }
    }

    /// The length that `draw` means.
    pub fn of(&self, draw: u32) -> usize {
        1 + self.bounds.partition_point(|&b| b <= u64::from(draw))
    }
}

/// Words that are predicted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Positions of their tokens.
    pub tokens: Word,
    /// The draw that made it, from 0.
    pub number: u32,
}

/// The one of so many that `draw` means.
pub fn pick(among: usize, draw: u32) -> usize {
    ((u64::from(draw) * among as u64) >> 32) as usize
}

/// Which spans of `words` are predicted, ascending, none overlapping another.
///
/// `draw` number t = 0, 1, … gives the length (first word) and the start (second word) of a span, uniformly among the words that may
/// begin one: those that are in no span yet and fit into what is left of `budget` tokens. The span is made of words from there on, and ends early
/// before one that is in a span, that does not fit, or that does not follow at once (a special token lies between). This goes on as long as
/// any word may begin a span. Where none may from the first, all may, and the one that is drawn is the only one.
pub fn choose_spans(
    words: &[Word],
    budget: usize,
    lengths: &Lengths,
    draw: impl Fn(u32) -> [u32; 4],
) -> Vec<Span> {
    let mut left = budget;
    let mut open: Vec<usize> = (0..words.len())
        .filter(|&i| words[i].len() <= left)
        .collect();
    // Nothing that is open has more tokens.
    let mut longest = open.iter().map(|&i| words[i].len()).max().unwrap_or(0);
    let mut spans = Vec::new();
    if open.is_empty() && !words.is_empty() {
        let tokens = words[pick(words.len(), draw(0)[1])].clone();
        spans.push(Span { tokens, number: 0 });
    }
    let mut number = 0;
    while !open.is_empty() {
        let [length, start, ..] = draw(number);
        let first = pick(open.len(), start);
        let mut tokens = words[open[first]].clone();
        let mut end = first + 1;
        let length = lengths.of(length);
        // A word that may not begin a span is missing here and leaves a gap, as a special token does.
        while end - first < length
            && let Some(&next) = open.get(end)
            && words[next].start == tokens.end
            && words[next].end as usize - tokens.start as usize <= left
        {
            tokens.end = words[next].end;
            end += 1;
        }
        left -= tokens.len();
        spans.push(Span { tokens, number });
        open.drain(first..end);
        if left < longest {
            open.retain(|&i| words[i].len() <= left);
            longest = left;
        }
        number += 1;
    }
    spans.sort_unstable_by_key(|span| span.tokens.start);
    spans
}
