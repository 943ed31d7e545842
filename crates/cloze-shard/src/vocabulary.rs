//! What a dataset and a model must agree on about a tokenizer: its entries, their ids, its special tokens.
//!
//! Read straight from the tokenizer's own files, so that neither side needs a tokenizer to check.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::reader::read_small;
use crate::{Error, Result};

/// Bytes of a tokenizer's file: one of half a million entries has half as many.
const LONGEST: u64 = 32 << 20;

/// Ids of BERT's special tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialTokens {
    /// `[PAD]`
    pub pad: u32,
    /// `[UNK]`
    pub unk: u32,
    /// `[CLS]`
    pub cls: u32,
    /// `[SEP]`
    pub sep: u32,
    /// `[MASK]`
    pub mask: u32,
}

impl SpecialTokens {
    /// The five ids, ascending.
    #[must_use]
    pub fn sorted(&self) -> Vec<u32> {
        let mut ids = vec![self.pad, self.unk, self.cls, self.sep, self.mask];
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether `id` frames a row and so may not occur inside a segment of unmasked text.
    #[must_use]
    pub fn is_frame(&self, id: u32) -> bool {
        id == self.pad || id == self.cls || id == self.sep || id == self.mask
    }
}

/// The entries of a tokenizer by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// All entries, one after another, and where each ends.
    text: String,
    ends: Vec<usize>,
    special: SpecialTokens,
    lowercase: Option<bool>,
}

impl Vocabulary {
    /// Reads a Hugging Face tokenizer folder (`tokenizer.json`, else `vocab.txt`) or one of these files.
    pub fn read(path: &Path) -> Result<Self> {
        let file = Self::find(path)?;
        let is_json = file.extension().is_some_and(|e| e == "json");
        let text = read_small(&file, LONGEST)?;
        if is_json {
            let read = from_json(&text);
            let read = read.and_then(|(tokens, lowercase)| Self::new(tokens, lowercase));
            return read.map_err(|why| Error::Vocabulary { path: file, why });
        }
        let mut lowercase = None;
        // The tokenizer_config.json beside it says what vocab.txt cannot.
        let config = file.with_file_name("tokenizer_config.json");
        if file.extension().is_some_and(|e| e == "txt") && config.exists() {
            let text = read_small(&config, LONGEST)?;
            let value: serde_json::Value =
                serde_json::from_str(&text).map_err(|e| Error::Vocabulary {
                    path: config.clone(),
                    why: format!("broken JSON: {e}"),
                })?;
            lowercase = value
                .get("do_lower_case")
                .and_then(serde_json::Value::as_bool);
        }
        Self::new(text.lines(), lowercase).map_err(|why| Error::Vocabulary { path: file, why })
    }

    /// The tokenizer file that [`Vocabulary::read`] takes for `path`.
    pub fn find(path: &Path) -> Result<PathBuf> {
        if !path.is_dir() {
            return Ok(path.into());
        }
        ["tokenizer.json", "vocab.txt"]
            .iter()
            .map(|name| path.join(name))
            .find(|f| f.exists())
            .ok_or_else(|| Error::Vocabulary {
                path: path.into(),
                why: "holds neither tokenizer.json nor vocab.txt".into(),
            })
    }

    /// A vocabulary of `tokens` by id. The error says what is missing.
    pub fn new(
        tokens: impl IntoIterator<Item = impl AsRef<str>>,
        lowercase: Option<bool>,
    ) -> std::result::Result<Self, String> {
        const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let (mut text, mut ends) = (String::new(), Vec::new());
        // Of those that are there twice the first counts.
        let mut found = [None; SPECIAL.len()];
        for token in tokens {
            let token = token.as_ref();
            if token.starts_with('[')
                && let Some(which) = SPECIAL.iter().position(|name| *name == token)
                && let Ok(id) = u32::try_from(ends.len())
            {
                found[which].get_or_insert(id);
            }
            text.push_str(token);
            ends.push(text.len());
        }
        let find =
            |which: usize| found[which].ok_or_else(|| format!("has no {} token", SPECIAL[which]));
        let special = SpecialTokens {
            pad: find(0)?,
            unk: find(1)?,
            cls: find(2)?,
            sep: find(3)?,
            mask: find(4)?,
        };
        Ok(Self {
            text,
            ends,
            special,
            lowercase,
        })
    }

    /// The same, where it is known otherwise whether text is lowercased.
    #[must_use]
    pub fn or_lowercase(mut self, lowercase: Option<bool>) -> Self {
        self.lowercase = self.lowercase.or(lowercase);
        self
    }

    /// The number of ids, special tokens included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Ids of the special tokens.
    #[must_use]
    pub fn special(&self) -> SpecialTokens {
        self.special
    }

    /// Whether the tokenizer lowercases, where its files say so.
    #[must_use]
    pub fn lowercase(&self) -> Option<bool> {
        self.lowercase
    }

    /// The entry with this id.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<&str> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.text[start..end])
    }

    /// Whether the entry continues a word (`##…`).
    #[must_use]
    pub fn is_continuation(&self, id: u32) -> bool {
        self.token(id)
            .is_some_and(|t| t.len() > 2 && t.starts_with("##"))
    }

    /// Text for a person: tokens joined by spaces, `##` continuations without. Not the original text.
    #[must_use]
    pub fn decode(&self, ids: impl IntoIterator<Item = u32>) -> String {
        let mut text = String::new();
        for id in ids {
            let token = self.token(id).unwrap_or("<outside the vocabulary>");
            if self.is_continuation(id) && !text.is_empty() {
                text.push_str(&token[2..]);
            } else {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(token);
            }
        }
        text
    }

    /// blake3, in hexadecimal, of the entries in order of id, each as its length (u32, little endian)
    /// and its UTF-8 bytes. Two tokenizer files of the same entries have the same digest.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut bytes = Vec::with_capacity(self.text.len() + 4 * self.ends.len());
        let mut start = 0;
        for &end in &self.ends {
            bytes.extend_from_slice(&((end - start) as u32).to_le_bytes());
            bytes.extend_from_slice(&self.text.as_bytes()[start..end]);
            start = end;
        }
        blake3::hash(&bytes).to_hex().to_string()
    }
}

#[derive(Deserialize)]
struct TokenizerJson {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: Entries,
}

/// Tokens with their ids, in the order of the file; `None` where it has something else there.
#[derive(Default)]
struct Entries(Option<Vec<(String, serde_json::Value)>>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens with their ids")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Entries, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Entries(Some(all)))
            }

            // As other models have it.
            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> std::result::Result<Entries, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Entries(None))
            }
        }

        deserializer.deserialize_any(Table)
    }
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

fn from_json(text: &str) -> std::result::Result<(Vec<String>, Option<bool>), String> {
    let json: TokenizerJson =
        serde_json::from_str(text).map_err(|e| format!("not a tokenizer.json: {e}"))?;
    let kind = json.model.kind.as_deref().unwrap_or("WordPiece");
    let Some(vocab) = json.model.vocab.0 else {
        return Err(format!(
            "its model is {kind}, without a token-to-id table; a WordPiece model is needed"
        ));
    };
    let mut entries: Vec<(u32, String)> = Vec::with_capacity(vocab.len());
    for (token, id) in vocab {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| format!("{token:?} has no id"))?;
        entries.push((id, token));
    }
    let last: HashMap<&str, u32> = entries.iter().map(|(id, t)| (t.as_str(), *id)).collect();
    if last.len() < entries.len() {
        // Of what is there twice the last counts, as everywhere in JSON.
        let keep: Vec<bool> = entries
            .iter()
            .map(|(id, t)| last[t.as_str()] == *id)
            .collect();
        let mut keep = keep.into_iter();
        entries.retain(|_| keep.next().unwrap_or(true));
    }
    // Mostly they are in order already.
    entries.sort_by_key(|(id, _)| *id);
    entries.dedup();
    if let Some([(id, other), (_, token)]) = entries.array_windows().find(|[a, b]| a.0 == b.0) {
        return Err(format!("id {id} belongs to both {other:?} and {token:?}"));
    }
    let added: BTreeMap<u32, String> = json
        .added_tokens
        .into_iter()
        .map(|added| (added.id, added.content))
        .collect();
    let is_new = |id: &&u32| entries.binary_search_by_key(*id, |(id, _)| *id).is_err();
    let taken = entries.len() + added.keys().filter(is_new).count();
    let last = entries
        .last()
        .map(|(id, _)| *id)
        .max(added.keys().next_back().copied());
    let size = last.map_or(0, |id| id as usize + 1);
    if size > taken + 65_536 {
        return Err(format!(
            "its ids go up to {} but only {taken} are taken",
            size - 1
        ));
    }
    let mut tokens = vec![String::new(); size];
    for (id, token) in entries.into_iter().chain(added) {
        tokens[id as usize] = token;
    }
    let lowercase = json
        .normalizer
        .as_ref()
        .and_then(|n| n.get("lowercase"))
        .and_then(serde_json::Value::as_bool);
    Ok((tokens, lowercase))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ENTRIES: [&str; 8] = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "##",
    ];

    fn json(entries: &[&str]) -> String {
        let vocab: serde_json::Map<_, _> = entries
            .iter()
            .enumerate()
            .map(|(i, t)| (t.to_string(), i.into()))
            .collect();
        serde_json::json!({
            "added_tokens": [{"id": 0, "content": "[PAD]"}],
            "normalizer": {"type": "BertNormalizer", "lowercase": true},
            "model": {"type": "WordPiece", "vocab": vocab}
        })
        .to_string()
    }

    #[test]
    fn both_kinds_of_file_give_one_digest() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("vocab.txt"), ENTRIES.join("\n") + "\n").unwrap();
        let from_text = Vocabulary::read(folder.path()).unwrap();
        fs::write(folder.path().join("tokenizer.json"), json(&ENTRIES)).unwrap();
        let from_json = Vocabulary::read(folder.path()).unwrap();
        assert_eq!(from_text.digest(), from_json.digest());
        assert_eq!(
            (from_text.lowercase(), from_json.lowercase()),
            (None, Some(true))
        );
        assert_eq!(from_json.special().mask, 4);
        assert_eq!(
            from_json.decode([2, 5, 6, 3, 9]),
            "[CLS] playing [SEP] <outside the vocabulary>"
        );
        assert!(from_json.is_continuation(6) && !from_json.is_continuation(7));
        let mut swapped = ENTRIES;
        swapped.swap(5, 6);
        fs::write(folder.path().join("tokenizer.json"), json(&swapped)).unwrap();
        assert_ne!(
            Vocabulary::read(folder.path()).unwrap().digest(),
            from_text.digest()
        );
    }

    #[test]
    fn of_entries_that_are_there_twice_the_last_counts() {
        let once = json(&ENTRIES);
        let twice = once.replace(r#""play":5"#, r#""play":77,"play":5"#);
        assert_ne!(once, twice);
        assert_eq!(from_json(&once), from_json(&twice));
        let same = once.replace(r#""play":5"#, r#""play":5,"play":5"#);
        assert_eq!(from_json(&once), from_json(&same));
        let of = |vocab: &str| from_json(&format!(r#"{{"model": {{"vocab": {vocab}}}}}"#));
        assert!(of(r#"{"a": 1, "b": 1}"#).unwrap_err().contains("both"));
        assert!(of(r#"{"a": -1}"#).unwrap_err().contains("no id"));
        assert!(of(r#"[["a", 1.5]]"#).unwrap_err().contains("table"));
    }

    #[test]
    fn says_which_special_token_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("vocab.txt");
        fs::write(&file, "[PAD]\n[UNK]\n[CLS]\n[SEP]\nplay\n").unwrap();
        let message = Vocabulary::read(&file).unwrap_err().to_string();
        assert!(
            message.contains("vocab.txt") && message.contains("[MASK]"),
            "{message}"
        );
        fs::write(
            folder.path().join("tokenizer.json"),
            "{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}",
        )
        .unwrap();
        let message = Vocabulary::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("Unigram"), "{message}");
    }
}
