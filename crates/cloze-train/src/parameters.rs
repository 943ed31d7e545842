//! The named parameters of a BERT with both pre-training heads, laid out in one flat arena.
//!
//! Each begins at a multiple of [`ALIGN`] elements, but that a layer's query, key and value stand side by side; what is between is padding, as
//! are the rows that make the outputs of both heads a multiple of [`ALIGN`]. Padding is zero, has a gradient of zero, and stays zero.

use std::ops::Range;

use crate::BertConfig;

/// One named parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in a Hugging Face `BertForPreTraining`.
    pub name: String,
    /// Its shape; row-major.
    pub shape: Vec<usize>,
    /// Its first element in the arena.
    pub offset: usize,
    /// Whether weight decay applies: to matrices and embeddings, not to biases and LayerNorm (as BERT was trained).
    pub decay: bool,
    /// Whether only next sentence prediction trains it: the pooler and its head.
    pub nsp_only: bool,
    /// How far it is from the heads: 0 there, 1 in the last layer, one more than the first layer in the embeddings.
    pub depth: u32,
}

impl Parameter {
    /// Elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its place in the arena.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Elements of what devices like to begin at, and multiples of which they like to multiply by.
pub const ALIGN: usize = 64;

/// All parameters, in order. The MLM decoder's weight is the word embeddings, its bias `cls.predictions.bias`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    parameters: Vec<Parameter>,
    len: usize,
    block: usize,
    /// Where each encoder layer begins, and the heads.
    layers: Vec<usize>,
    heads: usize,
    /// Of what is added next.
    depth: u32,
}

/// A part of the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Both heads and the pooler.
    Heads,
    /// An encoder layer.
    Layer(usize),
    /// The embeddings, which the MLM head adds to as well.
    Embeddings,
}

/// Gradients that are complete once some stages of the backward pass are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The stages, in order, after those of the buckets before it.
    pub stages: Vec<Stage>,
    /// The gradients, and the padding after each.
    pub range: Range<usize>,
}

/// Name of the word embeddings, to which the MLM decoder is tied.
pub const WORD_EMBEDDINGS: &str = "bert.embeddings.word_embeddings.weight";
/// Name of the position embeddings.
pub const POSITION_EMBEDDINGS: &str = "bert.embeddings.position_embeddings.weight";
/// Name of the segment embeddings.
pub const TYPE_EMBEDDINGS: &str = "bert.embeddings.token_type_embeddings.weight";
/// Name of the MLM decoder's bias.
pub const PREDICTION_BIAS: &str = "cls.predictions.bias";

impl Layout {
    /// The layout of `config`.
    #[must_use]
    pub fn new(config: &BertConfig) -> Self {
        let mut layout = Self {
            parameters: Vec::new(),
            len: 0,
            block: ALIGN,
            layers: Vec::new(),
            heads: 0,
            depth: config.num_hidden_layers as u32 + 1,
        };
        let (h, f) = (config.hidden_size, config.intermediate_size);
        layout.add(WORD_EMBEDDINGS.into(), &[config.vocab_size, h]);
        layout.len = config.vocab_size.next_multiple_of(ALIGN) * h;
        layout.add(
            POSITION_EMBEDDINGS.into(),
            &[config.max_position_embeddings, h],
        );
        layout.add(TYPE_EMBEDDINGS.into(), &[config.type_vocab_size, h]);
        layout.add_pair("bert.embeddings.LayerNorm", &[h]);
        for i in 0..config.num_hidden_layers {
            let at = |rest: &str| format!("bert.encoder.layer.{i}.{rest}");
            layout.align();
            layout.layers.push(layout.len);
            layout.depth -= 1;
            // Side by side, so that one product makes all three.
            for (kind, shape) in [("weight", &[h, h][..]), ("bias", &[h][..])] {
                layout.align();
                for name in ["query", "key", "value"] {
                    layout.push(at(&format!("attention.self.{name}.{kind}")), shape);
                }
            }
            layout.add_pair(&at("attention.output.dense"), &[h, h]);
            layout.add_pair(&at("attention.output.LayerNorm"), &[h]);
            layout.add_pair(&at("intermediate.dense"), &[f, h]);
            layout.add_pair(&at("output.dense"), &[h, f]);
            layout.add_pair(&at("output.LayerNorm"), &[h]);
        }
        layout.align();
        layout.heads = layout.len;
        layout.depth = 0;
        layout.add_pair("bert.pooler.dense", &[h, h]);
        layout.add_pair("cls.predictions.transform.dense", &[h, h]);
        layout.add_pair("cls.predictions.transform.LayerNorm", &[h]);
        layout.add(PREDICTION_BIAS.into(), &[config.vocab_size]);
        layout.add("cls.seq_relationship.weight".into(), &[2, h]);
        layout.len += (ALIGN - 2) * h;
        layout.add("cls.seq_relationship.bias".into(), &[2]);
        for (name, shape) in &config.heads {
            layout.add(name.clone(), shape);
        }
        layout.align();
        layout
    }

    fn align(&mut self) {
        self.len = self.len.next_multiple_of(ALIGN);
    }

    fn add(&mut self, name: String, shape: &[usize]) {
        self.align();
        self.push(name, shape);
    }

    /// `NAME.weight` of `shape`, and `NAME.bias` of its first dimension.
    fn add_pair(&mut self, name: &str, shape: &[usize]) {
        self.add(format!("{name}.weight"), shape);
        self.add(format!("{name}.bias"), &shape[..1]);
    }

    fn push(&mut self, name: String, shape: &[usize]) {
        let decay = !name.ends_with("bias") && !name.contains("LayerNorm");
        let nsp_only =
            name.starts_with("bert.pooler.") || name.starts_with("cls.seq_relationship.");
        let parameter = Parameter {
            name,
            shape: shape.into(),
            offset: self.len,
            decay,
            nsp_only,
            depth: self.depth,
        };
        while !self.len.is_multiple_of(self.block) {
            self.block /= 2;
        }
        self.len += parameter.len();
        self.parameters.push(parameter);
    }

    /// The parameters, in order.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Which parameter each block of elements belongs to, and how many elements a block has; padding is of the parameter before it.
    #[must_use]
    pub fn blocks(&self) -> (Vec<u32>, usize) {
        let mut owners = vec![0; self.len / self.block];
        for (number, p) in (0..).zip(&self.parameters) {
            owners[p.offset / self.block..].fill(number);
        }
        (owners, self.block)
    }

    /// The stages of the backward pass in order, in buckets of at least `bytes` of single-precision gradients each, but for the last.
    ///
    /// The arena is in the order of the forward pass, so buckets cover it from its end.
    #[must_use]
    pub fn buckets(&self, bytes: usize) -> Vec<Bucket> {
        let layers = self.layers.iter().enumerate().rev();
        let starts = std::iter::once((Stage::Heads, self.heads))
            .chain(layers.map(|(i, &start)| (Stage::Layer(i), start)))
            .chain([(Stage::Embeddings, 0)]);
        let (mut buckets, mut stages, mut end) = (Vec::new(), Vec::new(), self.len);
        for (stage, start) in starts {
            stages.push(stage);
            if (end - start) * size_of::<f32>() >= bytes || start == 0 {
                let (stages, range) = (std::mem::take(&mut stages), start..end);
                buckets.push(Bucket { stages, range });
                end = start;
            }
        }
        buckets
    }

    /// Elements of all parameters, without what is between them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.parameters.iter().map(Parameter::len).sum()
    }

    /// Elements of the arena.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no parameter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A parameter by name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|p| p.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_the_arena_from_its_end_and_each_parameter_is_with_its_stage() {
        let json = serde_json::json!({
            "model_type": "bert", "vocab_size": 101, "hidden_size": 48, "num_hidden_layers": 5, "num_attention_heads": 3, "intermediate_size": 70,
            "max_position_embeddings": 30
        });
        let layout = Layout::new(&BertConfig::parse(&json.to_string()).expect("it is whole"));
        let stage = |name: &str| match name.strip_prefix("bert.encoder.layer.") {
            Some(rest) => Stage::Layer(rest[..1].parse().expect("a number")),
            None if name.starts_with("bert.embeddings.") => Stage::Embeddings,
            None => Stage::Heads,
        };
        let stages = [Stage::Heads]
            .into_iter()
            .chain((0..5).rev().map(Stage::Layer))
            .chain([Stage::Embeddings]);
        let stages: Vec<Stage> = stages.collect();
        for bytes in [0, 1, 100_000, 200_000, usize::MAX] {
            let buckets = layout.buckets(bytes);
            let of: Vec<Stage> = buckets.iter().flat_map(|b| b.stages.clone()).collect();
            assert_eq!(of, stages);
            let mut end = layout.len();
            for (i, bucket) in buckets.iter().enumerate() {
                assert_eq!(bucket.range.end, end);
                end = bucket.range.start;
                assert!(bucket.range.len() * 4 >= bytes || i + 1 == buckets.len());
            }
            assert_eq!(end, 0);
            for p in layout.parameters() {
                let bucket = buckets.iter().find(|b| b.stages.contains(&stage(&p.name)));
                let range = &bucket.expect("all stages are there").range;
                assert!(
                    range.start <= p.offset && p.range().end <= range.end,
                    "{}",
                    p.name
                );
            }
        }
    }
}
