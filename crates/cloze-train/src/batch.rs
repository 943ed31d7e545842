//! A batch: rows concatenated without padding, masked, ready for an engine.

use std::ops::Range;
use std::sync::Arc;

use cloze_shard::masking::{MaskKey, Masker};
use cloze_shard::{Ids, NextSentenceLabel};

/// Masks that are drawn where the batch is computed: until then `input_ids` are as they were, and nothing is predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// What draws them.
    pub masker: Arc<Masker>,
    /// What they are drawn by.
    pub key: MaskKey,
    /// `[B]`: each row's number in its split.
    pub numbers: Vec<u64>,
    /// `[B + 1]`: where each row's predicted tokens will begin, then how many there will be.
    pub starts: Vec<u32>,
}

/// Rows concatenated to `T` tokens, of which `M` are predicted; `B` rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MaskedBatch {
    /// `[T]`: token ids as the model sees them.
    pub input_ids: Vec<u32>,
    /// `[T]`: 0 in `[CLS] A [SEP]`, 1 in `B [SEP]`.
    pub token_type_ids: Vec<u32>,
    /// `[B + 1]`: where each row begins, then `T`.
    pub cu_seqlens: Vec<u32>,
    /// `[M]`: indices into `input_ids` that are predicted, ascending.
    pub masked_positions: Vec<u32>,
    /// `[M]`: the original ids there.
    pub masked_labels: Vec<u32>,
    /// `[B]`: `None` for rows of one segment.
    pub next_sentence_labels: Vec<Option<NextSentenceLabel>>,
    /// Masks that are not drawn yet.
    pub pending: Option<Pending>,
}

/// How many terms the means of a batch's losses have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens that are predicted.
    pub masked: u64,
    /// Rows that have a `next_sentence_label`.
    pub labelled: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.masked += other.masked;
        self.labelled += other.labelled;
    }
}

/// Makes `[CLS] B [SEP] A [SEP]` of `[CLS] A [SEP] B [SEP]`; where the second segment begins now.
pub fn swap_segments(ids: &mut [u32], b_start: usize) -> usize {
    ids[1..].rotate_left(b_start - 1);
    ids.len() - b_start + 1
}

impl MaskedBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cu_seqlens: vec![0],
            ..Self::default()
        }
    }

    /// Takes all rows out; their memory stays for others.
    pub fn clear(&mut self) {
        self.input_ids.clear();
        self.token_type_ids.clear();
        self.cu_seqlens.clear();
        self.cu_seqlens.push(0);
        self.masked_positions.clear();
        self.masked_labels.clear();
        self.next_sentence_labels.clear();
        self.pending = None;
    }

    /// Rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.next_sentence_labels.len()
    }

    /// Tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// Tokens that are predicted, or will be.
    #[must_use]
    pub fn masked(&self) -> usize {
        let pending = self.pending.as_ref().and_then(|p| p.starts.last());
        pending.map_or(self.masked_positions.len(), |&n| n as usize)
    }

    /// Draws the masks that are not drawn yet.
    pub fn settle(&mut self) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        let (mut positions, mut labels) = (Vec::new(), Vec::new());
        for (row, &number) in pending.numbers.iter().enumerate() {
            let (first, end) = (self.cu_seqlens[row], self.cu_seqlens[row + 1]);
            let ids = &mut self.input_ids[first as usize..end as usize];
            positions.clear();
            labels.clear();
            pending
                .masker
                .mask(pending.key, number, ids, &mut positions, &mut labels);
            let places = positions.iter().map(|&p| first + u32::from(p));
            self.masked_positions.extend(places);
            self.masked_labels.append(&mut labels);
        }
    }

    /// Rows that have a `next_sentence_label`.
    #[must_use]
    pub fn labelled_rows(&self) -> usize {
        self.next_sentence_labels.iter().flatten().count()
    }

    /// What the means of the losses are taken over.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            masked: self.masked() as u64,
            labelled: self.labelled_rows() as u64,
        }
    }

    /// Appends the rows of another batch whose masks are drawn.
    pub fn append(&mut self, other: &Self) {
        let base = self.tokens() as u32;
        let moved = |places: &[u32]| places.iter().map(|p| p + base).collect::<Vec<_>>();
        self.input_ids.extend(&other.input_ids);
        self.token_type_ids.extend(&other.token_type_ids);
        self.cu_seqlens.extend(moved(&other.cu_seqlens[1..]));
        self.masked_positions.extend(moved(&other.masked_positions));
        self.masked_labels.extend(&other.masked_labels);
        self.next_sentence_labels
            .extend(&other.next_sentence_labels);
    }

    /// Its tokens and rows alone: nothing is predicted, nothing has a label.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self {
            input_ids: self.input_ids.clone(),
            token_type_ids: self.token_type_ids.clone(),
            cu_seqlens: self.cu_seqlens.clone(),
            next_sentence_labels: vec![None; self.rows()],
            ..Self::default()
        }
    }

    /// `rows` alone, as a batch of their own.
    ///
    /// # Panics
    /// Where they do not lie within: a mistake in the program, never in data.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let bounds = &self.cu_seqlens[rows.start..=rows.end];
        let (first, end) = (bounds[0], bounds[rows.len()]);
        let tokens = first as usize..end as usize;
        let before = |token: u32| self.masked_positions.partition_point(|&p| p < token);
        let masked = before(first)..before(end);
        let rebased = |places: &[u32]| places.iter().map(|&p| p - first).collect();
        Self {
            input_ids: self.input_ids[tokens.clone()].to_vec(),
            token_type_ids: self.token_type_ids[tokens].to_vec(),
            cu_seqlens: rebased(bounds),
            masked_positions: rebased(&self.masked_positions[masked.clone()]),
            masked_labels: self.masked_labels[masked].to_vec(),
            next_sentence_labels: self.next_sentence_labels[rows.clone()].to_vec(),
            pending: self.pending.as_ref().map(|p| Pending {
                masker: p.masker.clone(),
                key: p.key,
                numbers: p.numbers[rows.clone()].to_vec(),
                starts: p.starts[rows.start..=rows.end]
                    .iter()
                    .map(|n| n - p.starts[rows.start])
                    .collect(),
            }),
        }
    }

    /// Appends a row: its ids as the model sees them, where B starts, its label, its masks.
    pub fn push(
        &mut self,
        ids: &[u32],
        b_start: usize,
        label: Option<NextSentenceLabel>,
        positions: &[u16],
        labels: &[u32],
    ) {
        let start = self.input_ids.len() as u32;
        self.input_ids.extend_from_slice(ids);
        self.token_type_ids
            .extend((0..ids.len()).map(|i| u32::from(i >= b_start)));
        self.cu_seqlens.push(self.input_ids.len() as u32);
        self.masked_positions
            .extend(positions.iter().map(|&p| start + u32::from(p)));
        self.masked_labels.extend_from_slice(labels);
        self.next_sentence_labels.push(label);
    }

    /// Appends a row without masks; where it begins.
    pub fn begin_row(
        &mut self,
        ids: Ids<'_>,
        b_start: usize,
        label: Option<NextSentenceLabel>,
    ) -> usize {
        let start = self.input_ids.len();
        ids.extend_into(&mut self.input_ids);
        let end = self.input_ids.len();
        self.token_type_ids.resize(end.min(start + b_start), 0);
        self.token_type_ids.resize(end, 1);
        self.cu_seqlens.push(end as u32);
        self.next_sentence_labels.push(label);
        start
    }

    /// Puts the segments of the last row, which has two and no masks yet, into the other order.
    pub fn swap_last_row(&mut self, b_start: usize) {
        let start = self.cu_seqlens[self.rows() - 1] as usize;
        let b_start = swap_segments(&mut self.input_ids[start..], b_start);
        let types = &mut self.token_type_ids[start..];
        types[..b_start].fill(0);
        types[b_start..].fill(1);
    }

    /// `(start, length)` of each row.
    pub fn spans(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.cu_seqlens
            .windows(2)
            .map(|w| (w[0] as usize, (w[1] - w[0]) as usize))
    }
}
