//! Rows for a person: their tokens as the model sees them, what is hidden, and what a model says is there.

use cloze_shard::{NextSentenceLabel, Vocabulary};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::batch::MaskedBatch;
use crate::engine::Engine;

/// A row with its masks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskedRow {
    /// Its tokens as the model sees them.
    pub tokens: Vec<String>,
    /// What it has to predict, by position.
    pub masked: Vec<MaskedToken>,
    /// Whether its second segment follows the first in the text, where it has a label.
    pub is_next: Option<bool>,
}

/// A token that is to be predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskedToken {
    /// Its place in the row, from 0.
    pub position: usize,
    /// What is right.
    pub token: String,
    /// What a model says, the most probable first, with its probability; nothing where none was asked.
    pub predictions: Vec<(String, f64)>,
}

impl MaskedToken {
    /// Whether the most probable prediction is right; `None` where there is none.
    #[must_use]
    pub fn is_right(&self) -> Option<bool> {
        Some(self.predictions.first()?.0 == self.token)
    }
}

/// The rows of a batch whose masks are drawn.
#[must_use]
pub fn rows_of(batch: &MaskedBatch, vocabulary: &Vocabulary) -> Vec<MaskedRow> {
    let name = |id: u32| vocabulary.token(id).unwrap_or("<outside the vocabulary>");
    let labels = batch.masked_positions.iter().zip(&batch.masked_labels);
    let mut labels = labels.peekable();
    let mut rows = Vec::with_capacity(batch.rows());
    for ((start, length), label) in batch.spans().zip(&batch.next_sentence_labels) {
        let ids = &batch.input_ids[start..start + length];
        let mut masked = Vec::new();
        while let Some((&place, &id)) = labels.next_if(|(p, _)| (**p as usize) < start + length) {
            masked.push(MaskedToken {
                position: place as usize - start,
                token: name(id).into(),
                predictions: Vec::new(),
            });
        }
        rows.push(MaskedRow {
            tokens: ids.iter().map(|&id| name(id).into()).collect(),
            masked,
            is_next: label.map(|l| l == NextSentenceLabel::IsNext),
        });
    }
    rows
}

/// The rows of a batch with the `top` most probable predictions of what is hidden.
pub fn predicted(
    engine: &mut dyn Engine,
    batch: &MaskedBatch,
    vocabulary: &Vocabulary,
    top: usize,
) -> Result<Vec<MaskedRow>> {
    let mut settled = batch.clone();
    settled.settle();
    let mut rows = rows_of(&settled, vocabulary);
    let all = engine.log_probabilities(&settled)?;
    let width = all.len() / settled.masked().max(1);
    let each = all.chunks(width.max(1));
    let tokens = rows.iter_mut().flat_map(|row| &mut row.masked);
    for (token, log_probabilities) in tokens.zip(each) {
        token.predictions = most_probable(log_probabilities, top)
            .into_iter()
            .map(|id| {
                let name = vocabulary.token(id as u32);
                let name = name.unwrap_or("<outside the vocabulary>").to_owned();
                (name, f64::from(log_probabilities[id]).exp())
            })
            .collect();
    }
    Ok(rows)
}

/// The places of the `top` largest values, the largest first; of equal ones the first.
fn most_probable(values: &[f32], top: usize) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(top + 1);
    for (id, value) in values.iter().enumerate() {
        let place = best.partition_point(|&b| values[b] >= *value);
        if place < top {
            best.insert(place, id);
            best.truncate(top);
        }
    }
    best
}

impl MaskedRow {
    /// One line: pieces of words are joined, what is hidden stands in `[ ]`: what is right, and after `←` what the model says where that is
    /// something else, with its probability.
    #[must_use]
    pub fn text(&self) -> String {
        let mut masked = self.masked.iter().peekable();
        let mut text = String::new();
        for (position, token) in self.tokens.iter().enumerate() {
            let hidden = masked.next_if(|m| m.position == position);
            let piece = |token: &str| token.strip_prefix("##").map(str::to_owned);
            let shown = match hidden {
                None => piece(token).unwrap_or_else(|| format!(" {token}")),
                Some(hidden) => {
                    let bare = piece(&hidden.token);
                    let space = if bare.is_some() { "" } else { " " };
                    let right = bare.as_deref().unwrap_or(&hidden.token);
                    match (hidden.predictions.first(), hidden.is_right()) {
                        (Some((_, p)), Some(true)) => format!("{space}[{right} {}]", percent(*p)),
                        (Some((said, p)), _) => {
                            format!("{space}[{right} ← {said} {}]", percent(*p))
                        }
                        (None, _) => format!("{space}[{right}]"),
                    }
                }
            };
            text.push_str(&shown);
        }
        text.trim_start().to_owned()
    }
}

fn percent(p: f64) -> String {
    format!("{:.0} %", 100.0 * p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_come_first_and_of_equals_the_first() {
        let values = [0.1, 0.5, 0.3, 0.5, f32::NEG_INFINITY, 0.4];
        assert_eq!(most_probable(&values, 3), [1, 3, 5]);
        assert_eq!(most_probable(&values, 9), [1, 3, 5, 2, 0, 4]);
        assert!(most_probable(&values, 0).is_empty() && most_probable(&[], 2).is_empty());
    }

    #[test]
    fn a_row_reads_like_a_sentence() {
        let token = |position, token: &str, predictions: &[(&str, f64)]| MaskedToken {
            position,
            token: token.into(),
            predictions: predictions
                .iter()
                .map(|(t, p)| ((*t).to_owned(), *p))
                .collect(),
        };
        let row = MaskedRow {
            tokens: ["[CLS]", "a", "[MASK]", "[MASK]", "##s", "other", "[SEP]"]
                .map(str::to_owned)
                .into(),
            masked: vec![
                token(2, "play", &[("play", 0.814)]),
                token(3, "##er", &[("##ing", 0.5), ("##er", 0.25)]),
                token(5, "win", &[]),
            ],
            is_next: None,
        };
        assert_eq!(
            row.text(),
            "[CLS] a [play 81 %][er ← ##ing 50 %]s [win] [SEP]"
        );
        let right: Vec<_> = row.masked.iter().map(MaskedToken::is_right).collect();
        assert_eq!(right, [Some(true), Some(false), None]);
    }
}
