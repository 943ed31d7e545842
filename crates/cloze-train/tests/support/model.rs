//! A small model far from its first weights, and batches without pattern.

use cloze_shard::NextSentenceLabel;
use cloze_shard::random::{Key, Stage, Stream};
use cloze_train::BertConfig;
use cloze_train::batch::MaskedBatch;
use cloze_train::checkpoint::initial_parameters;

pub const VOCAB: usize = 61;

pub fn config(hidden: usize, heads: usize, inner: usize, layers: usize, act: &str) -> BertConfig {
    let json = serde_json::json!({
        "model_type": "bert", "vocab_size": VOCAB, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": inner, "max_position_embeddings": 160, "hidden_act": act
    });
    BertConfig::parse(&json.to_string()).unwrap()
}

/// Parameters far enough from their first values that every part matters.
pub fn weights(config: &BertConfig) -> Vec<f32> {
    let mut stream = Key::new(5, Stage::Sample).stream(0, 0);
    let mut weights = initial_parameters(config, 3);
    weights
        .iter_mut()
        .for_each(|w| *w += (stream.normal() * 0.06) as f32);
    weights
}

pub fn batch(lengths: &[usize], masks: usize, labels: &[Option<NextSentenceLabel>]) -> MaskedBatch {
    let mut stream = Key::new(lengths.len() as u64, Stage::Sample).stream(7, 7);
    let word = |s: &mut Stream| s.below(VOCAB as u64) as u32;
    let mut batch = MaskedBatch::new();
    for (i, &n) in lengths.iter().enumerate() {
        let ids: Vec<u32> = (0..n).map(|_| word(&mut stream)).collect();
        let positions: Vec<u16> = (0..n as u16)
            .filter(|p| (usize::from(*p) + i) % 5 < masks)
            .collect();
        let wanted: Vec<u32> = positions.iter().map(|_| word(&mut stream)).collect();
        batch.push(
            &ids,
            n.div_ceil(2),
            labels[i % labels.len()],
            &positions,
            &wanted,
        );
    }
    batch
}

pub fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m, v| m.max(v.abs()))
}
pub const NEXT: Option<NextSentenceLabel> = Some(NextSentenceLabel::IsNext);
pub const RANDOM: Option<NextSentenceLabel> = Some(NextSentenceLabel::NotNext);
