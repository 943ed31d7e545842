//! What decides the outcome of work that may be gone on with: two runs may share it if their keys are equal.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use cloze_clean::CleanOptions;
use cloze_shard::{Vocabulary, atomic};
use cloze_text::Tokenizer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::input::{Source, digest};
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
        let program = concat!("cloze ", env!("CARGO_PKG_VERSION"));
        key.insert("program".into(), program.into());
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

/// A source as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// As manifests have it: a name need not be UTF-8.
    path: String,
    bytes: u64,
    /// Nanoseconds since 1970; 0 where the file system does not say, or where there is something better.
    modified: u64,
    /// What a server calls these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
}

impl Mark {
    pub fn of(source: &Source) -> Self {
        let (modified, etag) = match &source.object {
            // One answer tells the time to the second, another one more finely.
            Some(object) => match object.etag() {
                Some(etag) => (0, Some(etag.to_owned())),
                None => (object.modified(), None),
            },
            None => {
                let modified = fs::metadata(&source.path).and_then(|m| m.modified()).ok();
                let modified = modified.and_then(|m| m.duration_since(UNIX_EPOCH).ok());
                (modified.map_or(0, |m| m.as_nanos() as u64), None)
            }
        };
        Self {
            path: source.path.to_string_lossy().into_owned(),
            bytes: source.bytes,
            modified,
            etag,
        }
    }

    /// Whether `source` is still what it was. Where only its time is another, its bytes say, if their digest is known.
    pub fn holds(&self, source: &Source, blake3: Option<&str>) -> bool {
        // What came through a pipe is gone, and reading it to compare would take it from who reads it next.
        if source.is_stream() {
            return false;
        }
        let now = Self::of(source);
        if now == *self && (self.modified > 0 || self.etag.is_some()) {
            return true;
        }
        (&now.path, now.bytes) == (&self.path, self.bytes)
            && blake3.is_some_and(|then| digest(source).is_ok_and(|(_, now)| now == then))
    }
}

/// Reads a JSON file of unfinished work; `None` where there is none. What is written there appears whole, so one that cannot be read is damage.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(cloze_shard::Error::io(path)(e).into()),
    };
    let value = serde_json::from_str(&text).map_err(|e| Error::Damaged {
        path: path.into(),
        why: e.to_string(),
    })?;
    Ok(Some(value))
}

/// Writes a JSON file of unfinished work, atomically.
pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|e| Error::Damaged {
        path: path.into(),
        why: e.to_string(),
    })?;
    atomic::write(path, &text)?;
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

    #[test]
    fn a_source_is_known_by_time_or_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let source = |path: &Path| Source {
            path: path.into(),
            format: crate::input::Format::Text,
            compression: crate::input::Compression::None,
            bytes: fs::metadata(path).unwrap().len(),
            object: None,
        };
        fs::write(&path, "one").unwrap();
        let mark = Mark::of(&source(&path));
        let digest = atomic::digest(&path).unwrap().blake3;
        assert!(mark.holds(&source(&path), None));
        let touch = |seconds| {
            let time = UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            fs::File::options()
                .append(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        touch(5);
        assert!(!mark.holds(&source(&path), None));
        assert!(mark.holds(&source(&path), Some(&digest)));
        fs::write(&path, "two").unwrap();
        touch(6);
        assert!(!mark.holds(&source(&path), Some(&digest)));
    }
}
