//! A batch: rows concatenated without padding, masked, ready for an engine.

use cloze_shard::NextSentenceLabel;

/// Rows concatenated to `T` tokens, of which `M` are predicted; `B` rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// Rows that have a `next_sentence_label`.
    #[must_use]
    pub fn labelled_rows(&self) -> usize {
        self.next_sentence_labels.iter().flatten().count()
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

    /// `(start, length)` of each row.
    pub fn spans(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.cu_seqlens
            .windows(2)
            .map(|w| (w[0] as usize, (w[1] - w[0]) as usize))
    }
}
