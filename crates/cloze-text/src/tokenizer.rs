//! BERT tokenization: exactly the ids of Hugging Face's `tokenizers`.

mod usual;
mod words;

use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cloze_wordpiece::{Id, NotCovered, Scratch, WordPiece};
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
    /// Whether it lowercases, where a file says that which also has no entry that `vocab.txt` cannot say.
    lowercase: Option<bool>,
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
        let is_json = file.extension().is_some_and(|e| e == "json");
        let json = if is_json {
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
        let mut opened = Self::new(json, config, special_map).map_err(|why| fail(&file, why))?;
        opened.lowercase = opened.lowercase.filter(|_| is_json);
        Ok(opened)
    }

    /// The entries by their ids and whether text is lowercased, where a `tokenizer.json` that was read, or made, says both as BERT's do: nobody has to read it again then.
    #[must_use]
    pub fn entries(&self) -> Option<(impl Iterator<Item = &str>, bool)> {
        let lowercase = self.lowercase?;
        let text = std::str::from_utf8(self.file("vocab.txt")).ok()?;
        Some((text.split_terminator('\n'), lowercase))
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
        let lowercase = value["normalizer"]["lowercase"].as_bool();
        if let Some(lowercase) = lowercase {
            agrees(config.as_deref(), lowercase)?;
        }
        let lowercase = lowercase.unwrap_or(true);
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
            lowercase: None,
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

    /// Two files of a folder say the same, ids are those of the library, and the line of `vocab.txt` is the id.
    #[test]
    fn what_contradicts_itself_is_refused() {
        let json = tokenizer_json(&TOKENS, Settings::default()).unwrap();
        let of = |json: &[u8], config: &str| {
            Tokenizer::new(json.to_vec(), Some(config.into()), None)
                .map(|t| t.file("vocab.txt").to_vec())
        };
        assert!(of(&json, r#"{"do_lower_case": true}"#).is_ok());
        assert!(of(&json, "{}").is_ok());
        let why = of(&json, r#"{"do_lower_case": false}"#).unwrap_err();
        assert!(
            why.contains("do_lower_case") && why.contains("lowercase"),
            "{why}"
        );
        let mut value: Value = serde_json::from_slice(&json).unwrap();
        value["model"]["vocab"]["]"] = json!(11);
        let bytes = value.to_string().into_bytes();
        assert!(Usual::read(&bytes).is_none());
        let lines = String::from_utf8(of(&bytes, "{}").unwrap()).unwrap();
        assert_eq!(lines.split('\n').position(|line| line == "]"), Some(11));
        let added = json!({"id": 20, "content": "more", "special": false, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
        value["added_tokens"].as_array_mut().unwrap().push(added);
        let why = of(value.to_string().as_bytes(), "{}").unwrap_err();
        assert!(why.contains("more") && why.contains("20"), "{why}");
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

    /// What is read without the library is what the library reads; and what it might read in another way, or not at all, is left to it.
    #[test]
    fn usual_files_are_read_as_the_library_reads_them() {
        let json = tokenizer_json(&TOKENS, Settings::default()).unwrap();
        let value: Value = serde_json::from_slice(&json).unwrap();
        let same = |value: &Value| {
            let t = Tokenizer::new(value.to_string().into_bytes(), None, None).unwrap();
            let was_asked = t.library.get().is_some();
            let by_line: Vec<Option<u32>> = TOKENS.iter().map(|name| t.id(name)).collect();
            assert_eq!((t.id("pla"), t.id("")), (None, None));
            let library = t.library().unwrap();
            assert_eq!(t.vocab_size(), library.get_vocab_size(true));
            assert_eq!(library.get_vocab(true).len(), t.vocab_size());
            let by_library: Vec<Option<u32>> = TOKENS
                .iter()
                .map(|name| library.token_to_id(name))
                .collect();
            assert_eq!(by_line, by_library);
            let lines = t.file("vocab.txt").split(|&b| b == b'\n');
            for (id, line) in (0..t.vocab_size() as u32).zip(lines) {
                assert_eq!(library.id_to_token(id).unwrap().as_bytes(), line);
            }
            let (mut fast, mut slow) = (vec![], vec![]);
            for text in ["Playing [SEP] play", "[MASK]ing x", "plåy 😀"] {
                t.encoder().encode_into(text, &mut fast).unwrap();
                t.encode_into(text, &mut slow).unwrap();
            }
            assert_eq!(fast, slow);
            !was_asked
        };
        assert!(same(&value), "the library is not asked");
        let with = |path: &str, to: Value| {
            let mut other = value.clone();
            *other.pointer_mut(path).unwrap() = to;
            other
        };
        let truncation =
            json!({"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
        for (path, to) in [
            ("/truncation", truncation),
            ("/normalizer/lowercase", json!(false)),
            ("/normalizer/strip_accents", json!(true)),
            ("/post_processor", json!(null)),
            ("/decoder", json!(null)),
            ("/added_tokens", json!([])),
            ("/model/max_input_chars_per_word", json!(50)),
        ] {
            assert!(same(&with(path, to)), "{path}");
        }
        // Taken, by the library.
        let added = |content: &str, id: u32, special: bool| json!([{"id": id, "content": content, "special": special, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}]);
        for (path, to) in [
            ("/normalizer/clean_text", json!(false)),
            ("/pre_tokenizer", json!({"type": "Whitespace"})),
            ("/added_tokens", added("play", 5, false)),
            ("/added_tokens", added("more", 9, true)),
        ] {
            assert!(!same(&with(path, to)), "{path}");
        }
        let mut unnamed = value.clone();
        unnamed["model"]
            .as_object_mut()
            .unwrap()
            .shift_remove("type");
        assert!(!same(&unnamed));
        // Refused, by the library.
        for (path, to) in [
            ("/version", json!("2.0")),
            ("/normalizer", json!({"type": "None"})),
            ("/post_processor", json!({"type": "Template"})),
            ("/decoder", json!(7)),
            ("/added_tokens", json!([{"id": 0}])),
            ("/model/vocab/play", json!(-5)),
            ("/model/vocab/play", json!("5")),
            ("/model/unk_token", json!(null)),
        ] {
            let bytes = with(path, to).to_string().into_bytes();
            assert!(Usual::read(&bytes).is_none(), "{path}");
            assert!(Tokenizer::new(bytes, None, None).is_err(), "{path}");
        }
        // Left to it whatever it makes of them: ids with a gap, an entry of two lines, entries that are there twice.
        for (from, to) in [
            ("\"##ing\": 6", "\"##ing\": 60"),
            (r#""play": 5"#, r#""pl\nay": 5"#),
            (r#""play": 5"#, r#""play": 9, "play": 5"#),
        ] {
            let text = String::from_utf8(json.clone()).unwrap();
            assert!(text.contains(from));
            let bytes = text.replace(from, to).into_bytes();
            assert!(Usual::read(&bytes).is_none(), "{to}");
        }
    }

    /// Whatever is another in a file, or missing, or more: what is read without the library is what the library reads.
    #[test]
    fn what_is_read_without_the_library_is_what_it_reads() {
        fn places(value: &Value, at: &str, out: &mut Vec<String>) {
            out.push(at.to_owned());
            match value {
                Value::Object(map) => map
                    .iter()
                    .for_each(|(key, value)| places(value, &format!("{at}/{key}"), out)),
                Value::Array(list) => list
                    .iter()
                    .enumerate()
                    .for_each(|(i, value)| places(value, &format!("{at}/{i}"), out)),
                _ => {}
            }
        }
        let json = tokenizer_json(&TOKENS, Settings::default()).unwrap();
        let whole: Value = serde_json::from_slice(&json).unwrap();
        let mut all = Vec::new();
        places(&whole, "", &mut all);
        let odd = [
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(7),
            json!(-1),
            json!(2.5),
            json!(4_294_967_296u64),
            json!(""),
            json!("##"),
            json!("play"),
            json!("1.0"),
            json!("Sequence"),
            json!("NFC"),
            json!("BertPreTokenizer"),
            json!([]),
            json!({}),
            json!([1]),
            json!({"type": "Sequence"}),
        ];
        let (mut read, mut refused) = (0, 0);
        let mut check = |value: &Value, what: &str| {
            let bytes = value.to_string().into_bytes();
            let Some(usual) = Usual::read(&bytes) else {
                refused += 1;
                return;
            };
            read += 1;
            let library = library(&bytes).unwrap_or_else(|why| panic!("{what}: {why}"));
            let mut vocab: Vec<_> = library.get_vocab(true).into_iter().collect();
            vocab.sort_by_key(|(_, id)| *id);
            let lines: String = vocab
                .iter()
                .map(|(token, _)| format!("{token}\n"))
                .collect();
            assert_eq!(usual.vocab_txt, lines.as_bytes(), "{what}");
            let mut fast: Vec<u32> = Vec::new();
            let text = "Playing [SEP] play plåy PLAY 中 []";
            usual
                .fast
                .encode_into(&mut usual.fast.scratch(), text, &mut fast);
            let slow = library.encode_fast(text, false).unwrap();
            assert_eq!(fast, slow.get_ids(), "{what}");
        };
        for at in &all {
            for to in &odd {
                let mut other = whole.clone();
                *other.pointer_mut(at).unwrap() = to.clone();
                check(&other, &format!("{at} is {to}"));
            }
            let mut more = whole.clone();
            if let Some(Value::Object(map)) = more.pointer_mut(at) {
                map.insert("more".into(), json!(9));
                check(&more, &format!("more in {at}"));
            }
            let mut less = whole.clone();
            if let Some((parent, key)) = at.rsplit_once('/')
                && let Some(Value::Object(map)) = less.pointer_mut(parent)
            {
                map.shift_remove(key);
                check(&less, &format!("no {at}"));
            }
        }
        assert!(read > 50 && refused > 500, "{read} {refused}");
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
