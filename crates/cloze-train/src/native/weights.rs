//! Where the parameters, or their gradients, of each part of the network lie.

use cloze_kernels::View;

use crate::BertConfig;
use crate::parameters::{ALIGN, Layout, PREDICTION_BIAS, WORD_EMBEDDINGS};

/// A weight and its bias.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub weight: View,
    pub bias: View,
}

#[derive(Clone, Copy, Debug)]
pub struct LayerWeights {
    /// `[3 H, H]` and `[3 H]`: query, key and value are neighbours in the layout.
    pub qkv: Pair,
    pub attention_output: Pair,
    pub norm1: Pair,
    pub intermediate: Pair,
    pub output: Pair,
    pub norm2: Pair,
}

/// Views into an arena that is laid out as parameters are.
#[derive(Clone, Debug)]
pub struct Weights {
    /// `[V', H]`, padded as the layout says, as is all of the heads' last layers.
    pub words: View,
    pub positions: View,
    pub types: View,
    pub norm0: Pair,
    pub layers: Vec<LayerWeights>,
    pub pooler: Pair,
    pub transform: Pair,
    pub transform_norm: Pair,
    pub prediction_bias: View,
    pub relationship: Pair,
}

impl Weights {
    pub fn new(config: &BertConfig, layout: &Layout, arena: View) -> Self {
        // Names come from this file and the layout of the same configuration.
        let find = |name: &str| {
            layout
                .find(name)
                .unwrap_or_else(|| unreachable!("no parameter {name}"))
        };
        let view = |name: &str| arena.part(find(name).offset, find(name).len());
        let padded = |name: &str| {
            let (rows, width) = (find(name).shape[0], find(name).len() / find(name).shape[0]);
            arena.part(find(name).offset, rows.next_multiple_of(ALIGN) * width)
        };
        let pair = |name: &str| Pair {
            weight: view(&format!("{name}.weight")),
            bias: view(&format!("{name}.bias")),
        };
        let table = |name: &str| view(&format!("bert.embeddings.{name}_embeddings.weight"));
        let layer = |i: usize| {
            let at = |rest: &str| format!("bert.encoder.layer.{i}.{rest}");
            let three = |kind: &str, len: usize| {
                let first = find(&at(&format!("attention.self.query.{kind}")));
                arena.part(first.offset, 3 * len)
            };
            let h = config.hidden_size;
            LayerWeights {
                qkv: Pair {
                    weight: three("weight", h * h),
                    bias: three("bias", h),
                },
                attention_output: pair(&at("attention.output.dense")),
                norm1: pair(&at("attention.output.LayerNorm")),
                intermediate: pair(&at("intermediate.dense")),
                output: pair(&at("output.dense")),
                norm2: pair(&at("output.LayerNorm")),
            }
        };
        Self {
            words: padded(WORD_EMBEDDINGS),
            positions: table("position"),
            types: table("token_type"),
            norm0: pair("bert.embeddings.LayerNorm"),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            pooler: pair("bert.pooler.dense"),
            transform: pair("cls.predictions.transform.dense"),
            transform_norm: pair("cls.predictions.transform.LayerNorm"),
            prediction_bias: padded(PREDICTION_BIAS),
            relationship: Pair {
                weight: padded("cls.seq_relationship.weight"),
                bias: padded("cls.seq_relationship.bias"),
            },
        }
    }
}
