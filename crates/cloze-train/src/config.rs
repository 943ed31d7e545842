//! A BERT's `config.json`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::checkpoint::Family;
use crate::{Error, Result};

/// The activation of the feed-forward layers and of the MLM head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `gelu`: x · Φ(x), by the error function.
    GeluErf,
    /// `gelu_new`, `gelu_pytorch_tanh`: the tanh form (Hendrycks and Gimpel 2016).
    GeluTanh,
}

/// Bytes of the JSON files of a model, which may be a stranger's.
pub(crate) const LONGEST_JSON: u64 = 32 << 20;

/// What a checkpoint of ours says its heads were trained for.
pub const OBJECTIVE: &str = "pretraining_objective";

/// Whether the MLM decoder's weight is the word embeddings.
const TIED: &str = "tie_word_embeddings";

/// The shape of a BERT, named as in Hugging Face's `config.json`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct BertConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub max_position_embeddings: usize,
    pub type_vocab_size: usize,
    pub hidden_act: Activation,
    pub hidden_dropout_prob: f64,
    pub attention_probs_dropout_prob: f64,
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    /// The whole file, as BERT has it, written back with a checkpoint.
    pub raw: Map<String, Value>,
    /// Whose names the weights beside the file go by.
    pub family: Family,
    /// Parameters of other heads than those of pre-training, by name and shape: engines keep and optimise them, whoever computes the heads adds their gradients.
    pub heads: Vec<(String, Vec<usize>)>,
}

impl BertConfig {
    /// Reads `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = cloze_shard::read_small(path, LONGEST_JSON)?;
        Self::parse(&text).map_err(|why| Error::ModelConfig {
            path: path.into(),
            why,
        })
    }

    /// Parses the text of a `config.json`. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut raw: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| format!("broken JSON: {e}"))?;
        let family = Family::of(&mut raw)?;
        let position = raw.get("position_embedding_type");
        if let Some(kind) = position.filter(|v| !v.is_null() && v.as_str() != Some("absolute")) {
            return Err(format!(
                "position_embedding_type is {kind}, only \"absolute\" can be trained"
            ));
        }
        // With these, transformers computes another function of the same weights.
        for name in ["is_decoder", "add_cross_attention"] {
            if raw.get(name).and_then(Value::as_bool) == Some(true) {
                return Err(format!("{name} is true, only an encoder can be trained"));
            }
        }
        let size = |name: &str| match raw.get(name) {
            None => Err(format!("has no {name}")),
            Some(v) => match v.as_u64() {
                Some(n) if (1..=1 << 31).contains(&n) => Ok(n as usize),
                _ => Err(format!(
                    "{name} is {v}, must be an integer from 1 to 2147483648"
                )),
            },
        };
        let number = |name: &str, default: f64| match raw.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => v
                .as_f64()
                .filter(|x| *x >= 0.0)
                .ok_or_else(|| format!("{name} is {v}, must be a number from 0")),
        };
        if let (Some(pad), Ok(entries)) = (
            raw.get("pad_token_id").and_then(Value::as_u64),
            size("vocab_size"),
        ) && pad >= entries as u64
        {
            return Err(format!(
                "pad_token_id is {pad}, but there are {entries} entries"
            ));
        }
        let config = Self {
            vocab_size: size("vocab_size")?,
            hidden_size: size("hidden_size")?,
            num_hidden_layers: size("num_hidden_layers")?,
            num_attention_heads: size("num_attention_heads")?,
            intermediate_size: size("intermediate_size")?,
            max_position_embeddings: size("max_position_embeddings")?,
            type_vocab_size: if raw.contains_key("type_vocab_size") {
                size("type_vocab_size")?
            } else {
                2
            },
            hidden_act: match raw.get("hidden_act") {
                None | Some(Value::Null) => Activation::GeluErf,
                Some(kind) => match kind.as_str() {
                    Some("gelu") => Activation::GeluErf,
                    Some("gelu_new" | "gelu_pytorch_tanh") => Activation::GeluTanh,
                    _ => {
                        return Err(format!(
                            "hidden_act is {kind}; \"gelu\", \"gelu_new\" and \"gelu_pytorch_tanh\" can be trained"
                        ));
                    }
                },
            },
            hidden_dropout_prob: number("hidden_dropout_prob", 0.1)?,
            attention_probs_dropout_prob: number("attention_probs_dropout_prob", 0.1)?,
            initializer_range: number("initializer_range", 0.02)?,
            layer_norm_eps: number("layer_norm_eps", 1e-12)?,
            raw,
            family,
            heads: Vec::new(),
        };
        if !config
            .hidden_size
            .is_multiple_of(config.num_attention_heads)
        {
            return Err(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                config.hidden_size, config.num_attention_heads
            ));
        }
        if config.num_hidden_layers > Self::MOST_LAYERS {
            return Err(format!(
                "num_hidden_layers is {}, at most {} are possible",
                config.num_hidden_layers,
                Self::MOST_LAYERS
            ));
        }
        let parameters = config.parameters();
        if parameters > Self::MOST_PARAMETERS {
            return Err(format!(
                "asks for {parameters} parameters, at most {} are possible",
                Self::MOST_PARAMETERS
            ));
        }
        if config.type_vocab_size < 2 {
            return Err(format!(
                "type_vocab_size is {}, two segments need 2",
                config.type_vocab_size
            ));
        }
        for (name, p) in [
            ("hidden_dropout_prob", config.hidden_dropout_prob),
            (
                "attention_probs_dropout_prob",
                config.attention_probs_dropout_prob,
            ),
        ] {
            if p >= 1.0 {
                return Err(format!("{name} is {p}, must be under 1"));
            }
        }
        Ok(config)
    }

    const MOST_PARAMETERS: u128 = 1 << 34;
    const MOST_LAYERS: usize = 1 << 12;

    /// Roughly how many parameters the configuration asks for, to refuse what no memory holds.
    fn parameters(&self) -> u128 {
        let [v, t, h, p, f, l] = [
            self.vocab_size,
            self.type_vocab_size,
            self.hidden_size,
            self.max_position_embeddings,
            self.intermediate_size,
            self.num_hidden_layers,
        ]
        .map(|n| n as u128);
        (v + t + p + 2 * h) * h + l * (4 * h * h + 2 * h * f)
    }

    /// Whether the head on the pooler, where there is one, was ever trained.
    #[must_use]
    pub fn has_pairs(&self) -> bool {
        self.raw.get(OBJECTIVE).and_then(Value::as_str) != Some("mlm")
    }

    /// Says that the head on the pooler is as it was drawn, and will be.
    pub fn without_pairs(&mut self) {
        self.raw.insert(OBJECTIVE.into(), "mlm".into());
    }

    /// Whether the head on the pooler says which of two segments is the first.
    #[must_use]
    pub fn pretrained_for_order(&self) -> bool {
        let objective = self.raw.get(OBJECTIVE).and_then(Value::as_str);
        objective == Some("mlm+sop")
    }

    /// The file of a trained checkpoint: as it was read, with the architecture and number type of what is written.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut raw = self.raw.clone();
        raw.insert(
            "architectures".into(),
            serde_json::json!(["BertForPreTraining"]),
        );
        raw.insert("model_type".into(), "bert".into());
        // What is written has no decoder of its own: whoever reads it must tie it, or would draw one at random.
        raw.insert(TIED.into(), true.into());
        for name in ["torch_dtype", "dtype"] {
            if let Some(dtype) = raw.get_mut(name) {
                *dtype = "float32".into();
            }
        }
        format!("{:#}\n", Value::Object(raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl Fn(&mut Value)) -> Result<BertConfig, String> {
        let mut value = serde_json::json!({
            "model_type": "bert", "vocab_size": 100, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
            "intermediate_size": 40, "max_position_embeddings": 32, "some_key": [1]
        });
        change(&mut value);
        BertConfig::parse(&value.to_string())
    }

    #[test]
    fn what_is_written_says_that_the_decoder_is_tied() {
        for untied in [Value::Bool(false), Value::Null, Value::Bool(true)] {
            let config = parse(|v| v[TIED] = untied.clone()).unwrap();
            let written: Value = serde_json::from_str(&config.to_json()).unwrap();
            assert_eq!(written[TIED], true);
        }
        let written: Value = serde_json::from_str(&parse(|_| ()).unwrap().to_json()).unwrap();
        assert_eq!(written[TIED], true);
    }

    #[test]
    fn what_cannot_be_trained_is_refused_by_name() {
        assert!(parse(|_| ()).unwrap().to_json().contains("some_key"));
        let cases: [(&str, Value, &str); 18] = [
            ("model_type", "gpt2".into(), "model_type"),
            (
                "position_embedding_type",
                "relative_key".into(),
                "position_embedding_type",
            ),
            ("vocab_size", 0.into(), "vocab_size"),
            ("vocab_size", "many".into(), "vocab_size"),
            ("vocab_size", u64::MAX.into(), "vocab_size"),
            ("hidden_size", 25.into(), "hidden_size"),
            ("hidden_act", "relu".into(), "hidden_act"),
            ("hidden_act", 5.into(), "hidden_act"),
            ("hidden_act", vec!["gelu"].into(), "hidden_act"),
            ("is_decoder", true.into(), "is_decoder"),
            ("pad_token_id", 100.into(), "pad_token_id"),
            ("add_cross_attention", true.into(), "add_cross_attention"),
            ("type_vocab_size", 1.into(), "type_vocab_size"),
            ("type_vocab_size", (1u64 << 30).into(), "parameters"),
            ("intermediate_size", (1u64 << 31).into(), "parameters"),
            ("num_hidden_layers", 1_000_000.into(), "num_hidden_layers"),
            ("hidden_dropout_prob", 1.0.into(), "hidden_dropout_prob"),
            ("layer_norm_eps", (-1).into(), "layer_norm_eps"),
        ];
        for (name, bad, says) in cases {
            let why = parse(|v| v[name] = bad.clone()).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
        assert!(
            parse(|v| drop(v.as_object_mut().unwrap().remove("vocab_size")))
                .unwrap_err()
                .contains("vocab_size")
        );
    }
}
