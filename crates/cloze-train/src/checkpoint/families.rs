//! Models that are a BERT up to names: their configuration and tensors as BERT has them.
//!
//! DistilBERT (Sanh et al. 2019) has no segments and no pooler: segment embeddings of zero give the same function. RoBERTa (Liu et al. 2019) counts positions from
//! `pad_token_id + 1` and has one segment: rows of the position table before that are left out, the second segment begins as the first.

use serde_json::{Map, Value};

use crate::parameters::{
    POSITION_EMBEDDINGS, PREDICTION_BIAS, Parameter, TYPE_EMBEDDINGS, WORD_EMBEDDINGS,
};

/// Whose names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// BERT's own.
    #[default]
    Bert,
    /// DistilBERT's.
    DistilBert,
    /// RoBERTa's, CamemBERT's and XLM-RoBERTa's.
    Roberta {
        /// Where positions begin in the table.
        first_position: usize,
    },
}

/// What DistilBERT's `config.json` calls it, and BERT's.
const DISTILBERT_KEYS: [(&str, &str); 7] = [
    ("dim", "hidden_size"),
    ("n_layers", "num_hidden_layers"),
    ("n_heads", "num_attention_heads"),
    ("hidden_dim", "intermediate_size"),
    ("activation", "hidden_act"),
    ("dropout", "hidden_dropout_prob"),
    ("attention_dropout", "attention_probs_dropout_prob"),
];

/// What they call the parts of a layer and of the MLM head, and BERT; without `.weight` and `.bias`.
const DISTILBERT_NAMES: [(&str, &str); 8] = [
    ("attention.q_lin", "attention.self.query"),
    ("attention.k_lin", "attention.self.key"),
    ("attention.v_lin", "attention.self.value"),
    ("attention.out_lin", "attention.output.dense"),
    ("sa_layer_norm", "attention.output.LayerNorm"),
    ("ffn.lin1", "intermediate.dense"),
    ("ffn.lin2", "output.dense"),
    ("output_layer_norm", "output.LayerNorm"),
];
const HEAD_NAMES: [(&str, &str); 8] = [
    ("vocab_transform.", "cls.predictions.transform.dense."),
    ("vocab_layer_norm.", "cls.predictions.transform.LayerNorm."),
    ("vocab_projector.weight", "cls.predictions.decoder.weight"),
    ("vocab_projector.bias", "cls.predictions.bias"),
    ("lm_head.dense.", "cls.predictions.transform.dense."),
    (
        "lm_head.layer_norm.",
        "cls.predictions.transform.LayerNorm.",
    ),
    ("lm_head.decoder.", "cls.predictions.decoder."),
    ("lm_head.bias", "cls.predictions.bias"),
];

impl Family {
    /// The family of a `config.json`, which becomes BERT's; an error says what is wrong.
    pub fn of(raw: &mut Map<String, Value>) -> Result<Self, String> {
        let kind = match raw.get("model_type") {
            None => return Ok(Self::Bert),
            Some(kind) => kind.as_str().unwrap_or_default().to_owned(),
        };
        let family = match kind.as_str() {
            "bert" => return Ok(Self::Bert),
            "distilbert" => {
                for (theirs, ours) in DISTILBERT_KEYS {
                    if let Some(value) = raw.remove(theirs) {
                        raw.insert(ours.into(), value);
                    }
                }
                Self::DistilBert
            }
            "roberta" | "camembert" | "xlm-roberta" => {
                let number = |name: &str| raw.get(name).and_then(Value::as_u64);
                let first = number("pad_token_id").unwrap_or(1).saturating_add(1);
                let all = number("max_position_embeddings").unwrap_or(0);
                let left = all.checked_sub(first).filter(|&n| n > 0).ok_or_else(|| {
                    format!("max_position_embeddings is {all}, positions begin at {first}")
                })?;
                raw.insert("max_position_embeddings".into(), left.into());
                Self::Roberta {
                    first_position: first as usize,
                }
            }
            _ => {
                return Err(format!(
                    "model_type is {kind:?}; bert, and distilbert, roberta, camembert and xlm-roberta as a bert, can be trained"
                ));
            }
        };
        raw.insert("model_type".into(), "bert".into());
        raw.insert("type_vocab_size".into(), 2.into());
        Ok(family)
    }

    /// A tensor's name as `BertForPreTraining` has it.
    pub fn canonical(self, name: &str) -> String {
        let mut name = name.to_owned();
        for (old, new) in [(".gamma", ".weight"), (".beta", ".bias")] {
            if let Some(stem) = name.strip_suffix(old) {
                name = format!("{stem}{new}");
            }
        }
        if self != Self::Bert {
            for (theirs, ours) in HEAD_NAMES {
                if let Some(rest) = name.strip_prefix(theirs) {
                    return format!("{ours}{rest}");
                }
            }
        }
        for prefix in ["distilbert.", "roberta."] {
            if let Some(rest) = name.strip_prefix(prefix) {
                name = rest.to_owned();
            }
        }
        if let (Self::DistilBert, Some(rest)) = (self, name.strip_prefix("transformer.layer.")) {
            name = format!("encoder.layer.{rest}");
            let parts = || name.strip_prefix("encoder.layer.")?.split_once('.');
            if let Some((number, part)) = parts() {
                for (theirs, ours) in DISTILBERT_NAMES {
                    if let Some(kind) = part.strip_prefix(theirs).filter(|k| k.starts_with('.')) {
                        return format!("bert.encoder.layer.{number}.{ours}{kind}");
                    }
                }
            }
        }
        let bare = ["embeddings.", "encoder.", "pooler."]
            .iter()
            .any(|p| name.starts_with(p));
        if bare { format!("bert.{name}") } else { name }
    }

    /// Which rows of a tensor of `shape` are those of `parameter`, and how often they are repeated; `None` where they cannot be.
    pub fn rows(self, parameter: &Parameter, shape: &[usize]) -> Option<Rows> {
        let (&rows, &wanted) = (shape.first()?, parameter.shape.first()?);
        if shape[1..] != parameter.shape[1..] {
            return None;
        }
        let exact = Rows {
            first: 0,
            count: wanted,
            times: 1,
        };
        match (self, parameter.name.as_str()) {
            (Self::Roberta { first_position }, POSITION_EMBEDDINGS) => {
                (rows == first_position + wanted).then_some(Rows {
                    first: first_position,
                    ..exact
                })
            }
            (Self::Roberta { .. }, TYPE_EMBEDDINGS) if rows == 1 => Some(Rows {
                count: 1,
                times: wanted,
                ..exact
            }),
            // Vocabularies are padded to sizes that devices like.
            (_, WORD_EMBEDDINGS | PREDICTION_BIAS) if rows > wanted => Some(exact),
            _ => (rows == wanted).then_some(exact),
        }
    }
}

/// Rows of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    pub first: usize,
    pub count: usize,
    pub times: usize,
}

impl Rows {
    /// Those rows of `values`, which have `width` each.
    pub fn of(self, values: &[f32], width: usize) -> Vec<f32> {
        values[self.first * width..(self.first + self.count) * width].repeat(self.times)
    }
}
