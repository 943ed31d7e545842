//! BERT tokenization: exactly the ids of Hugging Face's `tokenizers`.

mod usual;
mod words;

use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cloze_wordpiece::{Id, NotCovered, Room, Scratch, WordPiece};
use serde_json::{Value, json};

use crate::{Error, Result};
use usual::Usual;

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
    /// Opened when it is first needed, where [`Usual`] says all that is asked of it mostly.
    library: OnceLock<Result<tokenizers::Tokenizer, String>>,
    vocab_size: usize,
    /// Whether it lowercases, where its normalizer says that.
    lowercase: Option<bool>,
    /// Whether `vocab.txt` has the entries as they are: those of a usual `tokenizer.json`.
    says_all: bool,
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
    ///
    /// # Panics
    /// Where the vocabulary has ids that `T` cannot hold.
    pub fn encode_parts_into<T: Id>(
        &mut self,
        text: &str,
        parts: &[Range<usize>],
        out: &mut Vec<T>,
        counts: &mut Vec<u32>,
    ) -> Result<()> {
        if let Some((fast, scratch)) = &mut self.fast {
            fast.encode_parts_into(scratch, text, parts, out, counts);
            return Ok(());
        }
        let most = self.tokenizer.vocab_size.saturating_sub(1);
        assert!(most <= T::MOST as usize, "ids up to {most}");
        for part in parts {
            let encoding = self.tokenizer.by_library(&text[part.clone()])?;
            out.extend(encoding.get_ids().iter().map(|&id| T::of(id)));
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
    /// two files. A list of entries (`.txt`) is read with what is beside it, whether it is named or its folder.
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
            let is_list = path.extension().is_some_and(|e| e == "txt");
            (path.to_path_buf(), path.parent().filter(|_| is_list))
        };
        let bytes = read(&file)?;
        let beside = |name: &str| -> Result<Option<Vec<u8>>> {
            let path = folder.map(|f| f.join(name)).filter(|p| p.exists());
            path.map(|p| read(&p)).transpose()
        };
        let config = beside("tokenizer_config.json")?;
        let is_json = file.extension().is_some_and(|e| e == "json");
        let json = if is_json {
            bytes
        } else {
            let text = String::from_utf8(bytes)
                .map_err(|e| fail(&file, format!("not UTF-8 text: {e}")))?;
            let tokens: Vec<&str> = text.lines().collect();
            let config: Value = match &config {
                Some(config) => serde_json::from_slice(config).map_err(|e| {
                    let file = file.with_file_name("tokenizer_config.json");
                    fail(&file, format!("broken JSON: {e}"))
                })?,
                None => Value::Null,
            };
            settings(&config, &tokens)
                .and_then(|settings| tokenizer_json(&tokens, settings))
                .map_err(|why| fail(&file, why))?
        };
        let special_map = beside("special_tokens_map.json")?;
        let mut opened = Self::new(json, config, special_map).map_err(|why| fail(&file, why))?;
        opened.says_all &= is_json;
        Ok(opened)
    }

    /// The entries by their ids, where they are those of a `tokenizer.json` as BERT's are: nobody has to read it again then.
    #[must_use]
    pub fn entries(&self) -> Option<impl Iterator<Item = &str>> {
        let text = std::str::from_utf8(self.file("vocab.txt")).ok();
        let text = text.filter(|_| self.says_all)?;
        Some(text.split_terminator('\n'))
    }

    /// Whether text is lowercased, where its normalizer says that.
    #[must_use]
    pub fn lowercase(&self) -> Option<bool> {
        self.lowercase
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
        if let Some(usual) = Usual::read(&json) {
            let lowercase = usual.lowercase;
            agrees(config.as_deref(), lowercase)?;
            return Ok(Self {
                library: OnceLock::new(),
                vocab_size: usual.vocab_size,
                lowercase: Some(lowercase),
                says_all: true,
                files: files(usual.vocab_txt, json, config, special_map, lowercase),
                fast: Ok(usual.fast),
            });
        }
        let value: Value =
            serde_json::from_slice(&json).map_err(|e| format!("not a tokenizer.json: {e}"))?;
        let kind = value["model"]["type"].as_str().unwrap_or("WordPiece");
        if kind != "WordPiece" {
            return Err(format!("its model is {kind}; BERT needs WordPiece"));
        }
        let library = library(&json)?;
        if let Some(missing) = SPECIAL.iter().find(|t| library.token_to_id(t).is_none()) {
            return Err(format!("has no {missing} token"));
        }
        let says_case = value["normalizer"]["lowercase"].as_bool();
        if let Some(lowercase) = says_case {
            agrees(config.as_deref(), lowercase)?;
        }
        let lowercase = says_case.unwrap_or(true);
        for added in value["added_tokens"].as_array().into_iter().flatten() {
            let (Some(token), id) = (added["content"].as_str(), &added["id"]) else {
                continue;
            };
            let found = library.token_to_id(token);
            if found.map(Value::from).as_ref() != Some(id) {
                let found = found.map_or_else(|| "none".into(), |id| id.to_string());
                return Err(format!(
                    "its added token {token:?} has the id {id}, for which `tokenizers` takes {found}: save it with transformers once (AutoTokenizer, save_pretrained)"
                ));
            }
        }
        let mut entries: Vec<(String, u32)> = library.get_vocab(true).into_iter().collect();
        entries.sort_unstable_by(|(a, i), (b, j)| (i, a).cmp(&(j, b)));
        let vocab_size = entries.last().map_or(0, |(_, id)| *id as usize + 1);
        let mut vocab_txt = Vec::new();
        let mut lines = 0;
        for (token, id) in &entries {
            // The line is the id, also after one that no token has.
            while lines < *id {
                vocab_txt.push(b'\n');
                lines += 1;
            }
            vocab_txt.extend_from_slice(token.as_bytes());
            vocab_txt.push(b'\n');
            lines += 1;
        }
        Ok(Self {
            library: OnceLock::from(Ok(library)),
            vocab_size,
            lowercase: says_case,
            says_all: false,
            files: files(vocab_txt, json, config, special_map, lowercase),
            fast: WordPiece::from_json(&value),
        })
    }

    /// The library's tokenizer of the same file.
    fn library(&self) -> Result<&tokenizers::Tokenizer> {
        let opened = self
            .library
            .get_or_init(|| library(self.file("tokenizer.json")));
        opened.as_ref().map_err(|why| Error::Tokenizer {
            path: "tokenizer.json".into(),
            why: why.clone(),
        })
    }

    /// What a thread encodes with.
    #[must_use]
    pub fn encoder(&self) -> Encoder<'_> {
        self.encoder_in(None)
    }

    /// As [`Tokenizer::encoder`], in memory that was taken before, if there is some.
    #[must_use]
    pub fn encoder_in(&self, room: Option<Room>) -> Encoder<'_> {
        let fast = self.fast.as_ref().ok();
        Encoder {
            tokenizer: self,
            fast: fast.map(|fast| (fast, fast.scratch_in(room.unwrap_or_default()))),
        }
    }

    /// Why text is encoded by the library, which is slower, where it is.
    #[must_use]
    pub fn slow_because(&self) -> Option<&NotCovered> {
        self.fast.as_ref().err()
    }

    /// Appends the ids of `text`, without special tokens, to `out`, by the library.
    pub fn encode_into(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        out.extend_from_slice(self.by_library(text)?.get_ids());
        Ok(())
    }

    /// What the library makes of a text.
    fn by_library(&self, text: &str) -> Result<tokenizers::Encoding> {
        let library = self.library()?;
        guarded(|| library.encode_fast(text, false)).map_err(|why| Error::Encode {
            text: text.chars().take(80).collect(),
            why,
        })
    }

    /// One more than the largest id.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        if let Some(Ok(library)) = self.library.get() {
            return library.token_to_id(token);
        }
        // No entry goes over a line, and the number of a line is its id.
        let mut lines = self.file("vocab.txt").split(|&byte| byte == b'\n');
        let id = lines.position(|line| line == token.as_bytes())?;
        (id < self.vocab_size).then_some(id as u32)
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

/// Refuses a folder whose two files say different things: transformers goes by `tokenizer_config.json`, and would make other tokens of the same text.
fn agrees(config: Option<&[u8]>, lowercase: bool) -> Result<(), String> {
    let config: Option<Value> = config.and_then(|config| serde_json::from_slice(config).ok());
    let said = config.and_then(|config| config["do_lower_case"].as_bool());
    match said {
        Some(said) if said != lowercase => Err(format!(
            "its normalizer says \"lowercase\": {lowercase}, and tokenizer_config.json beside it \"do_lower_case\": {said}, by which transformers goes: make them the same"
        )),
        _ => Ok(()),
    }
}

/// The library's tokenizer of a `tokenizer.json`, with truncation and padding off and `encode_special_tokens` on.
fn library(json: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    let mut library = guarded(|| tokenizers::Tokenizer::from_bytes(json))
        .map_err(|e| format!("not a tokenizer.json: {e}"))?;
    library.with_truncation(None).map_err(|e| e.to_string())?;
    library.with_padding(None);
    library.set_encode_special_tokens(true);
    Ok(library)
}

/// What the library gives, which panics on some broken files.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(_) => Err("it is broken".into()),
    }
}

/// The files of a tokenizer.
fn files(
    vocab_txt: Vec<u8>,
    json: Vec<u8>,
    config: Option<Vec<u8>>,
    special_map: Option<Vec<u8>>,
    lowercase: bool,
) -> Vec<(String, Vec<u8>)> {
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
        ("vocab.txt".into(), vocab_txt),
    ]
}

/// How text is treated before it becomes `tokens`: as a `tokenizer_config.json` says, else as transformers does. Whether a vocabulary of cased text is to be used with
/// lowercased text nobody guesses.
fn settings(config: &Value, tokens: &[&str]) -> Result<Settings, String> {
    let said = config["do_lower_case"].as_bool();
    let is_cased = |t: &&&str| !t.starts_with('[') && t.to_lowercase() != ***t;
    let mut cased = tokens.iter().filter(is_cased).peekable();
    if let (None, Some(first)) = (said, cased.peek().copied()) {
        let count = cased.count();
        // An uncased vocabulary may have a few that only look so.
        if count > tokens.len() / 100 {
            return Err(format!(
                "{count} of its {} entries have capital letters, such as {first:?}, and nothing says whether text is lowercased: write {{\"do_lower_case\": false}} into \
                 tokenizer_config.json beside it for a cased model, or true",
                tokens.len()
            ));
        }
    }
    let default = Settings::default();
    Ok(Settings {
        lowercase: said.unwrap_or(default.lowercase),
        strip_accents: config["strip_accents"].as_bool(),
        tokenize_chinese_chars: config["tokenize_chinese_chars"].as_bool().unwrap_or(true),
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
mod tests;
