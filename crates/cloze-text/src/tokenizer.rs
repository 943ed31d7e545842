//! BERT tokenization: exactly the ids of Hugging Face's `tokenizers`.

mod words;

use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use cloze_wordpiece::{NotCovered, Scratch, WordPiece};
use serde_json::{Value, json};

use crate::{Error, Result};

/// How BERT's tokenizer treats text before WordPiece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Lowercase.
    pub lowercase: bool,
    /// Strip accents; `None` strips them exactly when lowercasing.
    pub strip_accents: Option<bool>,
    /// Make every CJK ideograph a word of its own.
    pub tokenize_chinese_chars: bool,
}

impl Default for Settings {
    /// Those of `bert-base-uncased`.
    fn default() -> Self {
        Self {
            lowercase: true,
            strip_accents: None,
            tokenize_chinese_chars: true,
        }
    }
}

/// Text to token ids.
///
/// Ids equal those of `tokenizers` for the same files with truncation and padding off (files often carry both, which would
/// silently drop text) and with `encode_special_tokens` on: a `[SEP]` that stands in a text is text, so no special token
/// ever comes out of it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
    files: Vec<(String, Vec<u8>)>,
    fast: Result<WordPiece, NotCovered>,
}

/// A thread's way to the ids of a [`Tokenizer`]: the fast one where it covers the tokenizer, which is decided when that is opened, or else the library's.
#[allow(missing_debug_implementations)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    fast: Option<(&'a WordPiece, Scratch)>,
}

impl Encoder<'_> {
    /// Appends the ids of `text`, without special tokens, to `out`.
    pub fn encode_into(&mut self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        match &mut self.fast {
            Some((fast, scratch)) => {
                fast.encode_into(scratch, text, out);
                Ok(())
            }
            None => self.tokenizer.encode_into(text, out),
        }
    }

    /// As [`Encoder::encode_into`] for each of `parts` of a text, which come in order, one after another; how many ids `out` holds after each is appended to `counts`.
    pub fn encode_parts_into(
        &mut self,
        text: &str,
        parts: &[Range<usize>],
        out: &mut Vec<u32>,
        counts: &mut Vec<u32>,
    ) -> Result<()> {
        if let Some((fast, scratch)) = &mut self.fast {
            fast.encode_parts_into(scratch, text, parts, out, counts);
            return Ok(());
        }
        for part in parts {
            self.tokenizer.encode_into(&text[part.clone()], out)?;
            counts.push(out.len() as u32);
        }
        Ok(())
    }
}

/// Bytes of a tokenizer's file: one of half a million entries has half as many.
const LONGEST: u64 = 32 << 20;

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

impl Tokenizer {
    /// Opens a Hugging Face folder (`tokenizer.json`, else `vocab.txt` with `tokenizer_config.json`), or one of the first
    /// two files.
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |path: &Path, why: String| Error::Tokenizer {
            path: path.into(),
            why,
        };
        let (file, folder) = if path.is_dir() {
            let found = ["tokenizer.json", "vocab.txt"]
                .iter()
                .map(|n| path.join(n))
                .find(|f| f.exists());
            let file = found
                .ok_or_else(|| fail(path, "holds neither tokenizer.json nor vocab.txt".into()))?;
            (file, Some(path))
        } else {
            (path.to_path_buf(), None)
        };
        let bytes = read(&file)?;
        let beside = |name: &str| -> Result<Option<Vec<u8>>> {
            let path = folder.map(|f| f.join(name)).filter(|p| p.exists());
            path.map(|p| read(&p)).transpose()
        };
        let config = beside("tokenizer_config.json")?;
        let json = if file.extension().is_some_and(|e| e == "json") {
            bytes
        } else {
            let text = String::from_utf8(bytes)
                .map_err(|e| fail(&file, format!("not UTF-8 text: {e}")))?;
            let tokens: Vec<&str> = text.lines().collect();
            let settings = match &config {
                Some(config) => settings(config)
                    .map_err(|why| fail(&path.join("tokenizer_config.json"), why))?,
                None => Settings::default(),
            };
            tokenizer_json(&tokens, settings).map_err(|why| fail(&file, why))?
        };
        let special_map = beside("special_tokens_map.json")?;
        Self::new(json, config, special_map).map_err(|why| fail(&file, why))
    }

    /// The tokenizer of `tokens`, by id.
    pub fn from_tokens(tokens: &[&str], settings: Settings) -> Result<Self> {
        tokenizer_json(tokens, settings)
            .and_then(|json| Self::new(json, None, None))
            .map_err(|why| Error::Tokenizer {
                path: PathBuf::from("vocabulary"),
                why,
            })
    }

    fn new(
        json: Vec<u8>,
        config: Option<Vec<u8>>,
        special_map: Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let value: Value =
            serde_json::from_slice(&json).map_err(|e| format!("not a tokenizer.json: {e}"))?;
        let kind = value["model"]["type"].as_str().unwrap_or("WordPiece");
        if kind != "WordPiece" {
            return Err(format!("its model is {kind}; BERT needs WordPiece"));
        }
        let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(&json))
            .map_err(|e| format!("not a tokenizer.json: {e}"))?;
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(true);
        if let Some(missing) = SPECIAL.iter().find(|t| inner.token_to_id(t).is_none()) {
            return Err(format!("has no {missing} token"));
        }
        let lowercase = value["normalizer"]["lowercase"].as_bool().unwrap_or(true);
        let mut entries: Vec<(String, u32)> = inner.get_vocab(true).into_iter().collect();
        entries.sort_unstable_by(|(a, i), (b, j)| (i, a).cmp(&(j, b)));
        let vocab_size = entries.last().map_or(0, |(_, id)| *id as usize + 1);
        let files = files(&entries, json, config, special_map, lowercase);
        let fast = WordPiece::from_json(&value);
        Ok(Self {
            inner,
            vocab_size,
            files,
            fast,
        })
    }

    /// What a thread encodes with.
    #[must_use]
    pub fn encoder(&self) -> Encoder<'_> {
        let fast = self.fast.as_ref().ok();
        Encoder {
            tokenizer: self,
            fast: fast.map(|fast| (fast, fast.scratch())),
        }
    }

    /// Why text is encoded by the library, which is slower, where it is.
    #[must_use]
    pub fn slow_because(&self) -> Option<&NotCovered> {
        self.fast.as_ref().err()
    }

    /// Appends the ids of `text`, without special tokens, to `out`, by the library.
    pub fn encode_into(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        let encoding =
            guarded(|| self.inner.encode_fast(text, false)).map_err(|why| Error::Encode {
                text: text.chars().take(80).collect(),
                why,
            })?;
        out.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// One more than the largest id.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The files of a Hugging Face tokenizer folder, by name: as they were read, those that were missing made.
    #[must_use]
    pub fn files(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }

    /// Writes [`Tokenizer::files`] into `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        for (name, bytes) in &self.files {
            let path = folder.join(name);
            fs::write(&path, bytes).map_err(|source| Error::Io { path, source })?;
        }
        Ok(())
    }
}

/// A file of a tokenizer, which may be a stranger's: what may be read without end is refused.
fn read(path: &Path) -> Result<Vec<u8>> {
    let io = |source| Error::Io {
        path: path.into(),
        source,
    };
    let found = fs::metadata(path).map_err(io)?;
    if found.is_dir() || (found.is_file() && found.len() <= LONGEST) {
        return fs::read(path).map_err(io);
    }
    let why = match found.is_file() {
        true => format!("has {} bytes, at most {LONGEST} are read", found.len()),
        false => "is no regular file".into(),
    };
    Err(Error::Tokenizer {
        path: path.into(),
        why,
    })
}

/// What the library gives, which panics on some broken files.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(_) => Err("it is broken".into()),
    }
}

/// The files of a tokenizer whose `entries` are in order of their ids.
fn files(
    entries: &[(String, u32)],
    json: Vec<u8>,
    config: Option<Vec<u8>>,
    special_map: Option<Vec<u8>>,
    lowercase: bool,
) -> Vec<(String, Vec<u8>)> {
    let mut tokens = Vec::new();
    for (token, _) in entries {
        tokens.extend_from_slice(token.as_bytes());
        tokens.push(b'\n');
    }
    let pretty = |value: Value| format!("{value:#}\n").into_bytes();
    let config = config.unwrap_or_else(|| {
        pretty(json!({
            "tokenizer_class": "BertTokenizer", "do_lower_case": lowercase, "model_max_length": 512,
            "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
        }))
    });
    let special_map = special_map.unwrap_or_else(|| {
        pretty(json!({
            "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
        }))
    });
    vec![
        ("special_tokens_map.json".into(), special_map),
        ("tokenizer.json".into(), json),
        ("tokenizer_config.json".into(), config),
        ("vocab.txt".into(), tokens),
    ]
}

fn settings(config: &[u8]) -> Result<Settings, String> {
    let value: Value = serde_json::from_slice(config).map_err(|e| format!("broken JSON: {e}"))?;
    let default = Settings::default();
    Ok(Settings {
        lowercase: value["do_lower_case"]
            .as_bool()
            .unwrap_or(default.lowercase),
        strip_accents: value["strip_accents"].as_bool(),
        tokenize_chinese_chars: value["tokenize_chinese_chars"].as_bool().unwrap_or(true),
    })
}

/// The `tokenizer.json` of a BERT tokenizer.
fn tokenizer_json(tokens: &[&str], settings: Settings) -> Result<Vec<u8>, String> {
    let id = |name: &str| {
        tokens
            .iter()
            .position(|t| *t == name)
            .ok_or_else(|| format!("has no {name} token"))
    };
    let added = SPECIAL
        .iter()
        .map(|name| {
            Ok(json!({
                "id": id(name)?, "content": name, "special": true,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            }))
        })
        .collect::<Result<Vec<_>, String>>()?;
    let special =
        |name: &str, type_id: u32| json!({"SpecialToken": {"id": name, "type_id": type_id}});
    let sequence = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    let described =
        |name: &str| Ok::<_, String>(json!({"id": name, "ids": [id(name)?], "tokens": [name]}));
    let vocab: serde_json::Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(i, t)| ((*t).to_owned(), i.into()))
        .collect();
    if vocab.len() != tokens.len() {
        return Err(format!(
            "{} of its {} entries are duplicates",
            tokens.len() - vocab.len(),
            tokens.len()
        ));
    }
    let value = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": settings.tokenize_chinese_chars,
            "strip_accents": settings.strip_accents, "lowercase": settings.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
            "pair": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0), sequence("B", 1), special("[SEP]", 1)],
            "special_tokens": {"[CLS]": described("[CLS]")?, "[SEP]": described("[SEP]")?},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    });
    Ok(format!("{value:#}\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [&str; 9] = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "[", "]",
    ];

    fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        let mut out = vec![];
        tokenizer.encode_into(text, &mut out).unwrap();
        out
    }

    #[test]
    fn special_tokens_in_text_are_text() {
        let t = Tokenizer::from_tokens(&TOKENS, Settings::default()).unwrap();
        assert_eq!(ids(&t, "Playing [SEP] play"), [5, 6, 7, 1, 8, 5]);
    }

    #[test]
    fn truncation_and_padding_in_the_file_are_off() {
        let json = tokenizer_json(&TOKENS, Settings::default()).unwrap();
        let mut value: Value = serde_json::from_slice(&json).unwrap();
        value["truncation"] =
            json!({"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
        value["padding"] = json!({"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.json");
        fs::write(&file, value.to_string()).unwrap();
        let t = Tokenizer::open(&file).unwrap();
        assert_eq!(ids(&t, "play play play play play").len(), 5);
        let given = t
            .files()
            .iter()
            .find(|(name, _)| name == "tokenizer.json")
            .unwrap();
        assert_eq!(
            given.1,
            fs::read(&file).unwrap(),
            "the file goes on as it came"
        );
    }

    #[test]
    fn a_written_folder_opens_as_the_same_tokenizer() {
        for lowercase in [true, false] {
            let settings = Settings {
                lowercase,
                ..Settings::default()
            };
            let t = Tokenizer::from_tokens(&TOKENS, settings).unwrap();
            let folder = tempfile::tempdir().unwrap();
            t.write(folder.path()).unwrap();
            let text = "Playing playing PLAY [x]";
            let from_json = Tokenizer::open(folder.path()).unwrap();
            fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
            let from_vocab = Tokenizer::open(folder.path()).unwrap();
            assert_eq!(ids(&from_json, text), ids(&t, text));
            assert_eq!(ids(&from_vocab, text), ids(&t, text));
            assert_eq!(from_vocab.vocab_size(), 9);
        }
    }

    #[test]
    fn bad_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, content: &str| {
            let file = folder.path().join(name);
            fs::write(&file, content).unwrap();
            let message = Tokenizer::open(&file)
                .err()
                .expect("a bad file")
                .to_string();
            assert!(message.contains(name), "{message}");
            message
        };
        assert!(open("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nplay\n").contains("[MASK]"));
        assert!(
            open("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n").contains("duplicates")
        );
        assert!(open("tokenizer.json", "{\"model\": ").contains("not a tokenizer.json"));
        assert!(
            open(
                "tokenizer.json",
                r#"{"model": {"type": "BPE", "vocab": {}}}"#
            )
            .contains("BPE")
        );
        assert!(
            Tokenizer::open(&folder.path().join("absent"))
                .err()
                .unwrap()
                .hint()
                .is_some()
        );
    }
}
