//! Which rows of a step's batch are whose.
//!
//! The rows of a step are chosen as for one process, and are cut into one contiguous span a rank. So a step is the same step for any number of
//! processes, and what a checkpoint says about where the feed goes on knows nothing of ranks: a run may go on with more or fewer of them.
//!
//! The losses are means over the whole batch: a rank's gradient is that of its rows' losses over the [`Counts`] of the whole, so the sum
//! over the ranks is the gradient of the step.

use std::borrow::Cow;
use std::ops::Range;

use crate::batch::{Counts, MaskedBatch};
use crate::engine::Whole;

/// A run of rows of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The rows.
    pub rows: Range<usize>,
    /// Tokens of the batch before the first.
    pub first_token: usize,
    /// Tokens of the rows.
    pub tokens: usize,
}

/// What one rank does of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Share {
    /// Its rows; there may be none.
    pub batch: MaskedBatch,
    /// Tokens of the whole batch before its first row: what is dropped is keyed by the place in the whole.
    pub first_token: usize,
    /// Of the whole batch.
    pub counts: Counts,
    /// Tokens of the whole batch.
    pub tokens: usize,
    /// Rows of the whole batch.
    pub rows: usize,
}

impl Share {
    /// The part of `whole` that is `rank`'s.
    #[must_use]
    pub fn of(whole: &MaskedBatch, rank: usize, world_size: usize) -> Self {
        let lengths: Vec<u32> = whole.spans().map(|(_, n)| n as u32).collect();
        let span = share(&lengths, world_size).swap_remove(rank);
        Self {
            batch: whole.slice(span.rows),
            first_token: span.first_token,
            counts: whole.counts(),
            tokens: whole.tokens(),
            rows: whole.rows(),
        }
    }

    /// Its rows in passes of at most `most` tokens each, or of one row that is longer; 0 for all at once. There is at least one pass.
    ///
    /// `weights` multiply the losses of both heads. The gradients of all passes add up to that of the whole.
    #[must_use]
    pub fn passes(&self, most: usize, weights: [f64; 2]) -> Vec<(Cow<'_, MaskedBatch>, Whole)> {
        let whole = |before: usize| Whole {
            masked: self.counts.masked,
            labelled: self.counts.labelled,
            first_token: (self.first_token + before) as u32,
            weights,
        };
        if most == 0 || self.batch.tokens() <= most {
            return vec![(Cow::Borrowed(&self.batch), whole(0))];
        }
        let mut passes = Vec::new();
        let (mut first, mut tokens) = (0, 0);
        let mut cut = |first: usize, end: usize| {
            let before = self.batch.cu_seqlens[first] as usize;
            passes.push((Cow::Owned(self.batch.slice(first..end)), whole(before)));
        };
        for (row, (_, length)) in self.batch.spans().enumerate() {
            if row > first && tokens + length > most {
                cut(first, row);
                (first, tokens) = (row, 0);
            }
            tokens += length;
        }
        cut(first, self.batch.rows());
        passes
    }
}

/// Cuts rows of `lengths` tokens into `world_size` contiguous spans, so that the largest has as few tokens as can be.
///
/// Every span has a row where there are enough; otherwise the last are empty.
///
/// # Panics
/// Where `world_size` is 0: a mistake in the program, never in data.
#[must_use]
pub fn share(lengths: &[u32], world_size: usize) -> Vec<Span> {
    assert!(world_size > 0, "a world of no processes");
    let largest = smallest_largest(lengths, world_size);
    let mut spans = Vec::with_capacity(world_size);
    let (mut row, mut token) = (0, 0);
    for rank in 0..world_size {
        // A row is left to each rank that follows, as far as there are enough.
        let end = (lengths.len() + rank + 1).saturating_sub(world_size);
        let (first, first_token) = (row, token);
        while row < lengths.len() {
            let tokens = token - first_token + lengths[row] as usize;
            let first_of_span = row == first;
            if !first_of_span && (row >= end || tokens > largest) {
                break;
            }
            token += lengths[row] as usize;
            row += 1;
        }
        spans.push(Span {
            rows: first..row,
            first_token,
            tokens: token - first_token,
        });
    }
    spans
}

/// The least number of tokens such that `world_size` spans of at most so many hold all rows.
fn smallest_largest(lengths: &[u32], world_size: usize) -> usize {
    let lengths = || lengths.iter().map(|&n| n as usize);
    if world_size == 1 {
        return lengths().sum();
    }
    let spans_of = |most: usize| {
        let (mut spans, mut tokens) = (1, 0);
        for n in lengths() {
            if tokens + n > most {
                spans += 1;
                tokens = 0;
            }
            tokens += n;
        }
        spans
    };
    let mut low = lengths().max().unwrap_or(0);
    let mut high = lengths().sum();
    while low < high {
        let middle = low + (high - low) / 2;
        if spans_of(middle) <= world_size {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloze_shard::NextSentenceLabel;
    use proptest::prelude::*;

    /// Tries every first span: the least largest sum of `parts` contiguous spans, none empty while there are rows enough.
    fn oracle(lengths: &[u32], parts: usize) -> usize {
        if parts == 1 || lengths.len() <= 1 {
            return lengths.iter().map(|&n| n as usize).sum();
        }
        let most = lengths.len().saturating_sub(parts - 1).max(1);
        (1..=most)
            .map(|n| {
                let first: u32 = lengths[..n].iter().sum();
                oracle(&lengths[n..], parts - 1).max(first as usize)
            })
            .min()
            .unwrap()
    }

    fn batches() -> impl Strategy<Value = MaskedBatch> {
        let label = prop_oneof![
            Just(None),
            Just(Some(NextSentenceLabel::IsNext)),
            Just(Some(NextSentenceLabel::NotNext))
        ];
        let row = (
            prop::collection::vec(0u32..50, 1..20),
            label,
            any::<u16>(),
            any::<u32>(),
        );
        prop::collection::vec(row, 0..12).prop_map(|rows| {
            let mut batch = MaskedBatch::new();
            for (ids, label, cut, masks) in rows {
                let positions: Vec<u16> = (0..ids.len() as u16)
                    .filter(|p| masks >> p & 1 == 1)
                    .collect();
                let labels: Vec<u32> = positions.iter().map(|&p| 100 + u32::from(p)).collect();
                let b_start = usize::from(cut) % (ids.len() + 1);
                batch.push(&ids, b_start, label, &positions, &labels);
            }
            batch
        })
    }

    /// Puts batches one after another.
    fn joined(parts: &[MaskedBatch]) -> MaskedBatch {
        let mut whole = MaskedBatch::new();
        for part in parts {
            let start = whole.tokens() as u32;
            whole.input_ids.extend(&part.input_ids);
            whole.token_type_ids.extend(&part.token_type_ids);
            whole
                .cu_seqlens
                .extend(part.cu_seqlens[1..].iter().map(|p| p + start));
            whole
                .masked_positions
                .extend(part.masked_positions.iter().map(|p| p + start));
            whole.masked_labels.extend(&part.masked_labels);
            whole
                .next_sentence_labels
                .extend(&part.next_sentence_labels);
        }
        whole
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn the_largest_span_is_as_small_as_can_be(
            lengths in prop::collection::vec(prop_oneof![1u32..6, 1u32..600, Just(512)], 0..11),
            world_size in 1usize..7,
        ) {
            let spans = share(&lengths, world_size);
            prop_assert_eq!(spans.len(), world_size);
            let (mut row, mut token) = (0, 0);
            for span in &spans {
                prop_assert_eq!((span.rows.start, span.first_token), (row, token));
                let tokens: u32 = lengths[span.rows.clone()].iter().sum();
                prop_assert_eq!(span.tokens, tokens as usize);
                row = span.rows.end;
                token += span.tokens;
                if lengths.len() >= world_size {
                    prop_assert!(!span.rows.is_empty());
                }
            }
            prop_assert_eq!(row, lengths.len());
            let largest = spans.iter().map(|s| s.tokens).max().unwrap();
            prop_assert_eq!(largest, oracle(&lengths, world_size));
        }

        #[test]
        fn shares_are_the_whole(whole in batches(), world_size in 1usize..9) {
            let shares: Vec<Share> = (0..world_size).map(|r| Share::of(&whole, r, world_size)).collect();
            let parts: Vec<MaskedBatch> = shares.iter().map(|s| s.batch.clone()).collect();
            prop_assert_eq!(&joined(&parts), &whole);
            let mut counts = Counts::default();
            let mut first_token = 0;
            for share in &shares {
                counts += share.batch.counts();
                prop_assert_eq!(share.first_token, first_token);
                first_token += share.batch.tokens();
                prop_assert_eq!(share.counts, whole.counts());
                prop_assert_eq!((share.rows, share.tokens), (whole.rows(), whole.tokens()));
                // What an engine takes for granted.
                prop_assert_eq!(share.batch.cu_seqlens[0], 0);
                prop_assert_eq!(*share.batch.cu_seqlens.last().unwrap() as usize, share.batch.tokens());
                prop_assert_eq!(share.batch.cu_seqlens.len(), share.batch.rows() + 1);
            }
            prop_assert_eq!(counts, whole.counts());
        }

        #[test]
        fn a_slice_is_its_rows(whole in batches(), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
            let (a, b) = (a.index(whole.rows() + 1), b.index(whole.rows() + 1));
            let rows = a.min(b)..a.max(b);
            let mut pushed = MaskedBatch::new();
            for row in rows.clone() {
                let (start, len) = whole.spans().nth(row).unwrap();
                let masked: Vec<usize> = (0..whole.masked_positions.len())
                    .filter(|&i| (start..start + len).contains(&(whole.masked_positions[i] as usize)))
                    .collect();
                let positions: Vec<u16> = masked.iter().map(|&i| (whole.masked_positions[i] as usize - start) as u16).collect();
                let labels: Vec<u32> = masked.iter().map(|&i| whole.masked_labels[i]).collect();
                let types = &whole.token_type_ids[start..start + len];
                let b_start = types.iter().position(|&t| t == 1).unwrap_or(len);
                pushed.push(&whole.input_ids[start..start + len], b_start, whole.next_sentence_labels[row], &positions, &labels);
            }
            prop_assert_eq!(whole.slice(rows), pushed);
        }
    }
}
