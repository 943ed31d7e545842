//! A small dataset for tests.

use std::path::PathBuf;

use cloze_prep::{Config, Silent, Work};
use tempfile::TempDir;

use super::Opened;

/// Words of the tests' documents; `[UNK]` is what the last one becomes.
const WORDS: [&str; 12] = [
    "river", "stone", "walks", "walking", "keeps", "old", "quiet", "garden", "copper", "signal",
    "winter", "zebra",
];

/// A dataset in a folder of its own.
pub struct Made {
    folder: TempDir,
}

/// 80 documents of up to 7 sentences, two of them of the same text, as `change` has them prepared.
pub fn dataset(change: impl FnOnce(&mut Config)) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let mut vocabulary = vec![
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "walk", "##s", "##ing",
    ];
    vocabulary.extend(
        WORDS
            .iter()
            .filter(|w| !w.starts_with("walk") && **w != "zebra"),
    );
    // Nobody says these.
    vocabulary.extend(["never", "evil\u{1b}[31m"]);
    std::fs::write(path("vocab.txt"), vocabulary.join("\n")).unwrap();
    let word = |i: usize| WORDS[i * i % 101 % WORDS.len()];
    let text = |d: usize| {
        let sentence = |s: usize| {
            let words: Vec<&str> = (0..4 + (d + s) % 5)
                .map(|w| word(d * 7 + s * 3 + w))
                .collect();
            format!("{}{}.", words[0][..1].to_uppercase(), &words.join(" ")[1..])
        };
        (0..2 + d % 6).map(sentence).collect::<Vec<_>>().join(" ")
    };
    for (name, documents) in [("one.jsonl", 0..50), ("two.jsonl", 50..80)] {
        let line = |d: usize| {
            let of = if d == 79 { 3 } else { d };
            serde_json::json!({"id": format!("d{d}"), "text": text(of)}).to_string()
        };
        let lines: Vec<String> = documents.map(line).collect();
        std::fs::write(path(name), lines.join("\n")).unwrap();
    }
    let mut config = Config {
        seq_len: 24,
        validation_fraction: 0.1,
        id_field: Some("id".into()),
        ..Config::default()
    };
    change(&mut config);
    let inputs = [path("one.jsonl"), path("two.jsonl")];
    cloze_prep::prepare(
        &inputs,
        &path("vocab.txt"),
        &path("data"),
        &config,
        &Work::default(),
        &Silent,
    )
    .unwrap();
    Made { folder }
}

impl Made {
    pub fn opened(&self) -> Opened {
        Opened::open(&self.folder.path().join("data")).unwrap()
    }
}
