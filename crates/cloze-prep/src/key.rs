//! What decides the outcome of work that may be gone on with: two runs may share it if their keys are equal.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use cloze_clean::CleanOptions;
use cloze_shard::Vocabulary;
use cloze_shard::atomic::{AtomicFile, Postponed};
use cloze_text::Tokenizer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Config, Error, Result};

/// Options that say what is made of tokens, and nothing of the tokens themselves. What is not named here is taken to decide them.
const NOT_OF_TOKENS: [&str; 15] = [
    "objective",
    "seq_len",
    "seed",
    "dupe_factor",
    "short_seq_prob",
    "random_next_ratio",
    "pairing",
    "validation_fraction",
    "masking",
    "mask_rate",
    "mask_share",
    "random_share",
    "mask_unit",
    "shard_rows",
    "bins",
];

/// Options by name, the program's version, and the tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key(BTreeMap<String, Value>);

impl Key {
    /// The options of `config`, as manifests hold them, and a vocabulary.
    pub fn of(config: &Value, vocab_digest: &str) -> Self {
        let options = config.as_object().into_iter().flatten();
        let mut key: BTreeMap<String, Value> = options
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        key.insert("vocabulary".into(), vocab_digest.into());
        Self(key)
    }

    /// Everything that decides a dataset, but for its sources.
    pub fn of_dataset(
        config: &Config,
        tokenizer: &Tokenizer,
        vocabulary: &Vocabulary,
    ) -> Result<Self> {
        let config = serde_json::to_value(config).map_err(|e| Error::Threads(e.to_string()))?;
        let Self(mut key) = Self::of(&config, &vocabulary.digest());
        let mut files = blake3::Hasher::new();
        for (name, bytes) in tokenizer.files() {
            files.update(name.as_bytes()).update(bytes);
        }
        key.insert("program".into(), crate::CREATED_BY.into());
        let files = files.finalize().to_hex().to_string();
        key.insert("tokenizer".into(), files.into());
        Ok(Self(key))
    }

    /// The part of it that decides tokens.
    pub fn of_tokens(&self) -> Self {
        let of_tokens = |name: &String| !NOT_OF_TOKENS.contains(&name.as_str());
        let kept = self.0.iter().filter(|(name, _)| of_tokens(name));
        Self(kept.map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    /// What is another in `now`, in words; empty where nothing is.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let (then, now) = (self.by_option(), now.by_option());
        let names = then.keys().chain(now.keys());
        let names: std::collections::BTreeSet<&String> = names.collect();
        let other = names.into_iter().filter_map(|name| {
            let [then, now] = [&then, &now].map(|all| all.get(name).filter(|v| !v.is_null()));
            let shown = match name.as_str() {
                "program" => "the program".to_owned(),
                "exclude_blake3" => {
                    return (then != now).then(|| "the evaluation sets of --exclude".to_owned());
                }
                "vocabulary" | "tokenizer" => return (then != now).then(|| format!("the {name}")),
                option => format!("--{}", option.replace('_', "-")),
            };
            let [was, is] =
                [then, now].map(|v| v.map_or_else(|| "not given".to_owned(), ToString::to_string));
            (then != now).then(|| format!("{shown} was {was}, is {is}"))
        });
        other.collect()
    }

    /// Values by the options that people type: those of cleaning one by one, as they are where none is given.
    fn by_option(&self) -> BTreeMap<String, Value> {
        let mut all = self.0.clone();
        let clean = match all.remove("clean") {
            None | Some(Value::Null) => {
                serde_json::to_value(CleanOptions::default()).unwrap_or(Value::Null)
            }
            Some(clean) => clean,
        };
        if let Value::Object(clean) = clean {
            all.extend(clean);
        }
        all
    }
}

/// Reads a JSON file of unfinished work; `None` where there is none. What is written there appears whole, so one that cannot be read, or holds something else, is
/// damage.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(cloze_shard::Error::io(path)(e).into()),
    };
    let damaged = |why: String| Error::Damaged {
        path: path.into(),
        why,
    };
    let (json, written) = bytes.split_at(
        bytes
            .iter()
            .position(|&b| b == b'\n')
            .unwrap_or(bytes.len()),
    );
    let value = serde_json::from_slice(json).map_err(|e| damaged(e.to_string()))?;
    // A number that is another is a number.
    let found = blake3::hash(json).to_hex();
    match written.strip_prefix(b"\n") == Some(found.as_bytes()) {
        true => Ok(Some(value)),
        false => Err(damaged(format!(
            "blake3 {found}, which is not that in its second line"
        ))),
    }
}

/// As [`read`], where the machine may have stopped before the file was on the disk: one that is damaged is none, and is told to `say`.
pub fn read_or_lost<T: DeserializeOwned>(path: &Path, say: impl FnOnce(&str)) -> Result<Option<T>> {
    match read(path) {
        Err(damaged @ Error::Damaged { .. }) => {
            say(&format!("{damaged}: what it told of is made anew"));
            Ok(None)
        }
        read => read,
    }
}

/// Writes a JSON file of unfinished work, atomically: a line of JSON, and one with its blake3. It is durable then, or by `postponed`.
pub fn write<T: Serialize>(path: &Path, value: &T, postponed: Option<&Postponed>) -> Result<()> {
    let mut text = serde_json::to_vec(value).map_err(|e| Error::Damaged {
        path: path.into(),
        why: e.to_string(),
    })?;
    let digest = blake3::hash(&text).to_hex();
    text.push(b'\n');
    text.extend_from_slice(digest.as_bytes());
    let file = match postponed {
        Some(postponed) => AtomicFile::unfinished(path, postponed)?,
        None => AtomicFile::create(path)?,
    };
    let mut file = file.undigested();
    file.write_all(&text)
        .map_err(cloze_shard::Error::io(path))?;
    file.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(config: &Config) -> Key {
        let value = serde_json::to_value(config).unwrap();
        Key(value.as_object().unwrap().clone().into_iter().collect())
    }

    #[test]
    fn a_note_is_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note.json");
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), None);
        write(&path, &vec![12, 345], None).unwrap();
        assert_eq!(read(&path).unwrap(), Some(vec![12, 345]));
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(read::<Vec<u32>>(&path).is_err(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(read::<Vec<u32>>(&path).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn differences_are_named_as_they_are_typed() {
        let (then, mut config) = (key(&Config::default()), Config::default());
        assert!(then.differences(&key(&config)).is_empty());
        (config.seq_len, config.language) = (64, "de".into());
        let now = key(&config);
        assert_eq!(
            then.differences(&now),
            [
                "--language was \"en\", is \"de\"",
                "--seq-len was 128, is 64"
            ]
        );
        config.clean.dedup = cloze_clean::Dedup::Exact;
        config.bins = vec![32];
        let more = then.differences(&key(&config));
        assert!(
            more.contains(&"--dedup was \"none\", is \"exact\"".to_owned()),
            "{more:?}"
        );
        assert!(
            more.contains(&"--bins was not given, is [32]".to_owned()),
            "{more:?}"
        );
        assert_eq!(more.len(), 4);
        // The length of rows says nothing of tokens, the language does.
        let tokens = then.of_tokens().differences(&now.of_tokens());
        assert_eq!(tokens, ["--language was \"en\", is \"de\""]);
    }
}
