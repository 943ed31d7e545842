//! Which tokenizers are covered.

use serde_json::Value;

use crate::{Settings, Vocabulary, WordPiece};

/// Why a tokenizer is not covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCovered(pub String);

impl std::fmt::Display for NotCovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotCovered {}

impl WordPiece {
    /// The tokenizer of a `tokenizer.json`, as `tokenizers` reads it with truncation and padding off and `encode_special_tokens` on, without special tokens.
    pub fn from_json(json: &Value) -> Result<Self, NotCovered> {
        let reason = |why: &str| Err(NotCovered(why.into()));
        let Some(entries) = json["model"]["vocab"].as_object() else {
            return reason("its model has no vocabulary");
        };
        let ids = entries
            .iter()
            .map(|(token, id)| Some((token.as_str(), u32::try_from(id.as_u64()?).ok()?)));
        match ids.collect::<Option<Vec<_>>>() {
            Some(tokens) => Self::of_entries(json, &tokens),
            None => reason("its vocabulary has ids that are no numbers"),
        }
    }

    /// As [`WordPiece::from_json`], where the entries of the model's vocabulary and their ids have been read already.
    pub fn of_entries(json: &Value, tokens: &[(&str, u32)]) -> Result<Self, NotCovered> {
        let reason = |why: String| Err(NotCovered(why));
        let kind = |part: &str| json[part]["type"].as_str().unwrap_or("none").to_owned();
        for (part, wanted) in [
            ("normalizer", "BertNormalizer"),
            ("pre_tokenizer", "BertPreTokenizer"),
        ] {
            if kind(part) != wanted {
                return reason(format!("its {part} is {}, not {wanted}", kind(part)));
            }
        }
        let model = &json["model"];
        if !matches!(model["type"].as_str(), None | Some("WordPiece")) {
            return reason(format!("its model is {}, not WordPiece", kind("model")));
        }
        // Special tokens are text like any other; others are cut out before anything else is done.
        let added = json["added_tokens"].as_array().into_iter().flatten();
        let plain = added.filter(|t| t["special"] != Value::Bool(true)).count();
        if plain > 0 {
            return reason(format!("it has {plain} added tokens that are not special"));
        }
        // It puts special tokens around a text, which are not asked for; what it does to the text itself counts.
        let after = &json["post_processor"];
        let keeps_text = match after["type"].as_str() {
            None => after.is_null(),
            Some("BertProcessing" | "RobertaProcessing") => true,
            Some("TemplateProcessing") => {
                let single = after["single"].as_array().into_iter().flatten();
                let texts: Vec<&Value> = single.filter_map(|piece| piece.get("Sequence")).collect();
                matches!(texts.as_slice(), [text] if text["id"] == "A")
            }
            Some(_) => false,
        };
        if !keeps_text {
            return reason("its post_processor is none that puts tokens around a text".into());
        }
        let normalizer = &json["normalizer"];
        let flag = |name: &str| match &normalizer[name] {
            Value::Bool(on) => Ok(*on),
            other => Err(NotCovered(format!("its normalizer has {name}: {other}"))),
        };
        if !flag("clean_text")? {
            return reason("its normalizer does not clean text up".into());
        }
        let settings = Settings {
            lowercase: flag("lowercase")?,
            strip_accents: match &normalizer["strip_accents"] {
                Value::Null => None,
                Value::Bool(on) => Some(*on),
                other => return reason(format!("its normalizer has strip_accents: {other}")),
            },
            tokenize_chinese_chars: flag("handle_chinese_chars")?,
        };
        let text = |name: &str| {
            model[name]
                .as_str()
                .ok_or_else(|| NotCovered(format!("its model has no {name}")))
        };
        let most = model["max_input_chars_per_word"].as_u64();
        let Some(most_chars) = most else {
            return reason("its model has no max_input_chars_per_word".into());
        };
        let vocabulary = Vocabulary {
            tokens,
            unknown: text("unk_token")?,
            prefix: text("continuing_subword_prefix")?,
            most_chars: usize::try_from(most_chars).unwrap_or(usize::MAX),
        };
        Self::new(&vocabulary, settings)
    }
}
