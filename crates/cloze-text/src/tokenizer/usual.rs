//! A `tokenizer.json` as BERT's are: read in a tenth of the time that the library takes, which is not asked then before somebody wants what it alone does.
//!
//! Everything in the file is looked at. What the library would refuse, or might understand in another way, is no such file: it is left to the library.

use std::borrow::Cow;
use std::fmt;

use cloze_wordpiece::WordPiece;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Value, json};
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PaddingParams, PostProcessorWrapper, PreTokenizerWrapper,
    TruncationParams,
};

use super::SPECIAL;

/// What is in such a file.
pub struct Usual {
    /// The entries in order of their ids, which leave none out, a line each.
    pub vocab_txt: Vec<u8>,
    pub vocab_size: usize,
    pub lowercase: bool,
    pub fast: WordPiece,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    version: String,
    /// Neither is done, but the library must understand them.
    #[serde(rename = "truncation")]
    _truncation: Option<TruncationParams>,
    #[serde(rename = "padding")]
    _padding: Option<PaddingParams>,
    added_tokens: Vec<Added>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    #[serde(rename = "decoder")]
    _decoder: Option<DecoderWrapper>,
    #[serde(borrow)]
    model: Model<'a>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Model<'a> {
    #[serde(rename = "type")]
    kind: String,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: u64,
    #[serde(borrow)]
    vocab: Entries<'a>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "their types are what counts")]
struct Added {
    id: u32,
    content: String,
    special: bool,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
}

/// Entries and their ids, as they stand in the file.
struct Entries<'a>(Vec<(Cow<'a, str>, u32)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of;

        impl<'de> Visitor<'de> for Of {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("entries with their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some((Text(token), id)) = map.next_entry::<Text<'de>, u32>()? {
                    all.push((token, id));
                }
                Ok(Entries(all))
            }
        }

        deserializer.deserialize_map(Of)
    }
}

/// Text that is borrowed where nothing in it is escaped.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Usual {
    /// What is in `json`; `None` where the library is to read it.
    pub fn read(json: &[u8]) -> Option<Self> {
        // As a whole, so that texts in it are not looked at one by one.
        let json = std::str::from_utf8(json).ok()?;
        Self::of(serde_json::from_str(json).ok()?).ok()
    }

    fn of(file: File<'_>) -> Result<Self, serde_json::Error> {
        let otherwise = || serde_json::Error::custom("the library reads it");
        let File { model, .. } = &file;
        let mut tokens: Vec<(&str, u32)> =
            model.vocab.0.iter().map(|(t, id)| (&**t, *id)).collect();
        tokens.sort_by_key(|&(_, id)| id);
        let mut vocab_txt = Vec::with_capacity(tokens.iter().map(|(t, _)| t.len() + 1).sum());
        for &(token, _) in &tokens {
            vocab_txt.extend_from_slice(token.as_bytes());
            vocab_txt.push(b'\n');
        }
        let in_order = (0..).zip(&tokens).all(|(number, (_, id))| number == *id);
        if !in_order || vocab_txt.iter().filter(|byte| **byte == b'\n').count() != tokens.len() {
            return Err(otherwise());
        }
        let is = |token: &str, id: u32| tokens.get(id as usize).is_some_and(|&(t, _)| t == token);
        let added = file.added_tokens.iter();
        let special = added.map(|t| t.special && is(&t.content, t.id));
        if file.version != "1.0"
            || model.kind != "WordPiece"
            || !special.fold(true, |all, is| all & is)
        {
            return Err(otherwise());
        }
        if SPECIAL
            .iter()
            .any(|name| !tokens.iter().any(|(t, _)| t == name))
        {
            return Err(otherwise());
        }
        // That the library takes them.
        NormalizerWrapper::deserialize(&file.normalizer)?;
        PreTokenizerWrapper::deserialize(&file.pre_tokenizer)?;
        Option::<PostProcessorWrapper>::deserialize(&file.post_processor)?;
        let lowercase = file.normalizer["lowercase"]
            .as_bool()
            .ok_or_else(otherwise)?;
        let rest = json!({
            "normalizer": file.normalizer, "pre_tokenizer": file.pre_tokenizer, "post_processor": file.post_processor,
            "model": {
                "unk_token": model.unk_token, "continuing_subword_prefix": model.continuing_subword_prefix,
                "max_input_chars_per_word": model.max_input_chars_per_word,
            },
        });
        Ok(Self {
            vocab_size: tokens.len(),
            fast: WordPiece::of_entries(&rest, &tokens).map_err(|_| otherwise())?,
            vocab_txt,
            lowercase,
        })
    }
}
