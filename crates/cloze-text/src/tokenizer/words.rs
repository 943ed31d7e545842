//! What WordPiece is given, word by word, and entries of one's own.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::{Model, ModelWrapper, OffsetReferential, OffsetType, PreTokenizer};

use super::Tokenizer;
use crate::{Error, Result};

impl Tokenizer {
    /// Tells `each` every word of `text`, as WordPiece is given it: normalised, and cut off at white space and punctuation. Tokens that were added
    /// to the vocabulary are taken out of a text before; how many is returned.
    pub fn words(&self, text: &str, mut each: impl FnMut(&str)) -> Result<u64> {
        let library = self.library()?;
        let added = library.get_added_vocabulary();
        let mut split = added.extract_and_normalize(library.get_normalizer(), text);
        if let Some(cut) = library.get_pre_tokenizer() {
            let fail = |e: tokenizers::Error| Error::Encode {
                text: text.chars().take(80).collect(),
                why: e.to_string(),
            };
            cut.pre_tokenize(&mut split).map_err(fail)?;
        }
        let mut whole = 0;
        for (word, _, token) in split.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match token {
                Some(_) => whole += 1,
                None if word.is_empty() => {}
                None => each(word),
            }
        }
        Ok(whole)
    }

    /// Appends the ids of the pieces of a word that [`Tokenizer::words`] told.
    pub fn pieces(&self, word: &str, out: &mut Vec<u32>) -> Result<()> {
        let tokens = self.library()?.get_model().tokenize(word);
        let tokens = tokens.map_err(|e| Error::Encode {
            text: word.chars().take(80).collect(),
            why: e.to_string(),
        })?;
        out.extend(tokens.iter().map(|token| token.id));
        Ok(())
    }

    /// The token of an id.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.library().ok()?.id_to_token(id)
    }

    /// The rules that words are cut by.
    pub(crate) fn rules(&self) -> Result<Rules> {
        let library = self.library()?;
        let vocabulary = library.get_model().get_vocab().into_keys().collect();
        let (unknown, prefix, most_chars) = match library.get_model() {
            ModelWrapper::WordPiece(m) => (
                m.unk_token.clone(),
                m.continuing_subword_prefix.clone(),
                m.max_input_chars_per_word,
            ),
            // No other is opened.
            _ => ("[UNK]".into(), "##".into(), 100),
        };
        Ok(Rules {
            unknown: library.token_to_id(&unknown),
            prefix,
            most_chars,
            vocabulary,
        })
    }

    /// Whether `word` can be an entry beside those there are; an error says why not.
    pub(crate) fn can_add(&self, rules: &Rules, word: &str) -> Result<(), String> {
        let blank = |c: char| c.is_whitespace() || c.is_control();
        if word.is_empty() {
            Err("is empty".into())
        } else if word.contains(blank) {
            Err("holds white space or a control character, which no line of vocab.txt can".into())
        } else if !rules.prefix.is_empty() && word.starts_with(&rules.prefix) {
            Err(format!(
                "begins with {}, so it would be no word but the end of one",
                rules.prefix
            ))
        } else if word.chars().count() > rules.most_chars {
            let most = rules.most_chars;
            Err(format!(
                "has more than {most} characters: it is [UNK] whatever the vocabulary holds"
            ))
        } else if self.id(word).is_some() {
            Err("is in the vocabulary already".into())
        } else {
            Ok(())
        }
    }

    /// This tokenizer with `words`, as [`Tokenizer::words`] tells them, as entries after its own: ids of old entries stay, the first new one is
    /// [`Tokenizer::vocab_size`].
    pub fn extended<S: AsRef<str>>(&self, words: &[S]) -> Result<Self> {
        let fail = |why: String| Error::Extend { why };
        let (first, rules) = (self.vocab_size(), self.rules()?);
        let library = self.library()?;
        let known = library.get_vocab(true).len();
        if known != first {
            return Err(fail(format!(
                "the tokenizer has {known} tokens and ids up to {}: vocab.txt, where an entry's line is its id, cannot hold it",
                first.saturating_sub(1)
            )));
        }
        let broken = |why: &str| fail(format!("tokenizer.json: {why}"));
        let mut json: Value = serde_json::from_slice(self.file("tokenizer.json"))
            .map_err(|e| broken(&e.to_string()))?;
        let vocab = json.pointer_mut("/model/vocab");
        let vocab = vocab
            .and_then(Value::as_object_mut)
            .ok_or_else(|| broken("has no vocabulary"))?;
        for (i, word) in words.iter().enumerate() {
            let word = word.as_ref();
            self.can_add(&rules, word)
                .map_err(|why| fail(format!("{word:?} {why}")))?;
            if vocab.insert(word.into(), (first + i).into()).is_some() {
                return Err(fail(format!("{word:?} is given twice")));
            }
        }
        // `tokenizers` numbers added tokens anew as it reads them, after the entries of the vocabulary: that they keep their ids, they become entries as well.
        let mut entries: Vec<_> = library.get_vocab(true).into_iter().collect();
        entries.sort_unstable_by_key(|&(_, id)| id);
        for (token, id) in entries {
            vocab.entry(token).or_insert(id.into());
        }
        let json = format!("{json:#}\n").into_bytes();
        let beside = |name: &str| Some(self.file(name).to_vec());
        let special = beside("special_tokens_map.json");
        Self::new(json, beside("tokenizer_config.json"), special).map_err(|why| broken(&why))
    }

    pub(super) fn file(&self, name: &str) -> &[u8] {
        let found = self.files.iter().find(|(n, _)| n == name);
        found.map_or(&[], |(_, bytes)| bytes)
    }

    /// Reads words that were given by hand, a line each. They are normalised as a text is; the second number is how many there are in the vocabulary
    /// already, or were given before.
    pub fn word_list(&self, path: &Path) -> Result<(Vec<String>, usize)> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            path: path.into(),
            source,
        })?;
        let text = String::from_utf8(bytes);
        let fail = |line: usize, why: String| Error::List {
            path: PathBuf::from(path),
            line,
            why,
        };
        let text = text.map_err(|e| {
            let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = good.iter().filter(|&&b| b == b'\n').count() + 1;
            fail(line, "not UTF-8".into())
        })?;
        let (mut words, mut passed) = (Vec::new(), 0);
        let mut seen = std::collections::HashSet::new();
        let rules = self.rules()?;
        for (i, line) in text.lines().enumerate() {
            let line = line.trim_start_matches('\u{feff}').trim();
            if line.is_empty() {
                continue;
            }
            let mut found = Vec::new();
            let whole = self.words(line, |word| found.push(word.to_owned()))?;
            let word = match (whole, found.as_slice()) {
                (1, []) => {
                    passed += 1;
                    continue;
                }
                (0, [word]) => word,
                (0, []) => return Err(fail(i + 1, format!("nothing is left of {line:?}"))),
                _ => {
                    let cut = found.join(" ");
                    let why = format!(
                        "{line:?} is no single word: the tokenizer makes {cut:?} of it before it looks into the vocabulary"
                    );
                    return Err(fail(i + 1, why));
                }
            };
            if self.id(word).is_some() || !seen.insert(word.clone()) {
                passed += 1;
                continue;
            }
            self.can_add(&rules, word)
                .map_err(|why| fail(i + 1, format!("{word:?} {why}")))?;
            words.push(word.clone());
        }
        Ok((words, passed))
    }
}

/// What a word is cut by: always the longest entry that it goes on with.
pub(crate) struct Rules {
    /// The id of a word that cannot be cut.
    pub unknown: Option<u32>,
    prefix: String,
    /// Longer words are unknown.
    pub most_chars: usize,
    vocabulary: std::collections::HashSet<String>,
}

impl Rules {
    /// How many pieces a word has; `None` where it is unknown.
    pub fn pieces(&self, word: &str) -> Option<usize> {
        if word.chars().count() > self.most_chars {
            return None;
        }
        let (mut start, mut pieces) = (0, 0);
        let mut entry = String::new();
        while start < word.len() {
            entry.clear();
            entry.push_str(if start > 0 { &self.prefix } else { "" });
            let head = entry.len();
            entry.push_str(&word[start..]);
            while entry.len() > head && !self.vocabulary.contains(&entry) {
                entry.pop();
            }
            if entry.len() == head {
                return None;
            }
            start += entry.len() - head;
            pieces += 1;
        }
        Some(pieces)
    }

    /// Makes a word an entry.
    pub fn add(&mut self, word: &str) {
        self.vocabulary.insert(word.to_owned());
    }
}
