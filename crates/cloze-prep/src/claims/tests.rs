use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::{MaskingKind, Silent, Work, prepare};

/// Documents as lines of JSON, and a tokenizer of their words.
fn dataset(folder: &Path, config: &Config) -> PathBuf {
    let words = [
        "river", "stone", "bridge", "winter", "signal", "garden", "copper", "window",
    ];
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."];
    fs::create_dir_all(folder.join("tokenizer")).unwrap();
    let all: Vec<&str> = special.iter().chain(&words).copied().collect();
    fs::write(folder.join("tokenizer/vocab.txt"), all.join("\n")).unwrap();
    let mut inputs = Vec::new();
    for (name, documents) in [("a", 90), ("b", 40)] {
        let mut state = documents as usize;
        let mut draw = |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) % n
        };
        let mut sentence = || {
            let words: Vec<&str> = (0..3 + draw(6)).map(|_| words[draw(8)]).collect();
            format!("{} .", words.join(" "))
        };
        let lines: String = (0..documents)
            .map(|i| {
                let text: Vec<String> = (0..2 + i % 5).map(|_| sentence()).collect();
                let line = serde_json::json!({"id": format!("{name}{i}"), "text": text.join(" "), "url": "u"});
                format!("{line}\n")
            })
            .collect();
        let path = folder.join(format!("{name}.jsonl"));
        fs::write(&path, lines).unwrap();
        inputs.push(path);
    }
    let out = folder.join("out");
    let _ = fs::remove_dir_all(&out);
    let (tokenizer, work) = (folder.join("tokenizer"), Work::default());
    prepare(&inputs, &tokenizer, &out, config, &work, &Silent).unwrap();
    out
}

/// What is wrong with a dataset; opening it is asked, too.
fn problems(dataset: &Path) -> Vec<String> {
    match verify(dataset, &mut |_| ()) {
        Ok(report) => report.problems.into_iter().map(|p| p.why).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// Every number, string and truth value in a JSON text, as JSON pointers.
fn leaves(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| leaves(value, format!("{at}/{name}"), all)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, value)| leaves(value, format!("{at}/{i}"), all)),
        _ => all.push(at),
    }
}

/// Another value of the same kind.
fn another(value: &Value) -> Value {
    match value {
        Value::Bool(b) => (!b).into(),
        Value::String(text) => format!("{text}x").into(),
        Value::Number(n) => match n.as_u64() {
            Some(n) => (n + 1).into(),
            None => (n.as_f64().unwrap() * 0.75).into(),
        },
        // Of what may be left open, what is wrong where anything is said.
        _ => false.into(),
    }
}

/// What only the text itself tells, or nobody: `cloze verify --source` compares sources and counts with it.
fn cannot_be_told(leaf: &str) -> bool {
    let provenance = ["/created_by"];
    // What the options of reading, cutting and pairing come to is in the rows, and other values may come to the same.
    let options = [
        "dupe_factor",
        "short_seq_prob",
        "random_next_ratio",
        "text_field",
        "id_field",
        "clean/min_words",
        "clean/dedup_threshold",
        "clean/dedup_min_words",
        "clean/exclude_ngram",
        "clean/exclude_field/0",
        "clean/tidy_space",
        "clean/strip_control",
        "clean/gopher",
        "language",
    ];
    let counts = [
        "text_bytes",
        "unknown_tokens",
        "sentences_without_tokens",
        "ignored_files",
        "truncated_tokens",
        "random_unavailable",
        "random_from_own_document",
        "sentences_cut",
        "changed_documents",
        "removed_control_characters",
        "removed_invisible_characters",
        "removed_paragraphs",
        "excluding_rows",
    ];
    let of_sources = ["path", "bytes", "blake3"];
    provenance.contains(&leaf)
        || options.iter().any(|name| leaf == format!("/config/{name}"))
        || counts.iter().any(|name| leaf == format!("/counts/{name}"))
        || (leaf.starts_with("/sources/") && of_sources.iter().any(|name| leaf.ends_with(name)))
}

/// Each leaf of a manifest is changed in turn: it is noticed, unless nothing can tell.
#[test]
fn what_a_manifest_says_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Config {
        seq_len: 32,
        validation_fraction: 0.2,
        id_field: Some("id".into()),
        meta_field: vec!["url".into()],
        shard_rows: 30,
        masking: MaskingKind::Static,
        ..Config::default()
    };
    let mut cleaned = plain.clone();
    (cleaned.masking, cleaned.bins, cleaned.id_field) = (MaskingKind::Dynamic, vec![16], None);
    cleaned.clean.min_words = Some(8);
    for config in [plain, cleaned] {
        let out = dataset(folder.path(), &config);
        assert_eq!(problems(&out), Vec::<String>::new());
        let path = out.join("manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        let whole: Value = serde_json::from_str(&text).unwrap();
        let mut all = Vec::new();
        leaves(&whole, String::new(), &mut all);
        assert!(all.len() > 100);
        let mut unseen = Vec::new();
        for leaf in &all {
            let mut other = whole.clone();
            let value = other.pointer_mut(leaf).unwrap();
            *value = another(value);
            fs::write(&path, other.to_string()).unwrap();
            let found = problems(&out);
            if found.is_empty() {
                unseen.push(leaf.clone());
            }
        }
        unseen.retain(|leaf| !cannot_be_told(leaf));
        // Where the last shard is not full, one more row a shard makes the same shards.
        unseen.retain(|leaf| leaf != "/config/shard_rows");
        // Nothing is made of it where the trainer draws masks.
        let is_dynamic = config.masking == MaskingKind::Dynamic;
        unseen.retain(|leaf| !(is_dynamic && leaf == "/config/mask_rate"));
        assert_eq!(unseen, Vec::<String>::new());
    }
}

/// What differs is named with what the manifest says and what was found.
#[test]
fn a_contradiction_names_field_and_both_values() {
    let folder = tempfile::tempdir().unwrap();
    let out = dataset(
        folder.path(),
        &Config {
            seq_len: 32,
            validation_fraction: 0.2,
            ..Config::default()
        },
    );
    let path = out.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    for (from, to, said) in [
        (
            "\"vocab_size\": 14",
            "\"vocab_size\": 15",
            "tokenizer.vocab_size: the manifest says 15, found 14 in the tokenizer's files",
        ),
        (
            "\"lowercase\": true",
            "\"lowercase\": false",
            "tokenizer.lowercase: the manifest says false, found true in the tokenizer's files",
        ),
        (
            "\"max_seq_length\": 32",
            "\"max_seq_length\": 33",
            "max_seq_length: the manifest says 33, found 32 in config",
        ),
        (
            "\"documents\": 130",
            "\"documents\": 131",
            "counts.documents: the manifest says 131, found 130 in the table of documents",
        ),
        (
            "\"seed\": 0,\n  \"tok",
            "\"seed\": 1,\n  \"tok",
            "seed: the manifest says 1, found 0 in config",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replace(from, to)).unwrap();
        let found = problems(&out);
        assert!(found.iter().any(|why| why == said), "{said}: {found:?}");
    }
}

/// Masks are drawn again where this version drew them. What another version drew of its seed is not known here, and nothing is said against it.
#[test]
fn masks_of_other_versions_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = dataset(
        folder.path(),
        &Config {
            seq_len: 32,
            validation_fraction: 0.2,
            masking: MaskingKind::Static,
            ..Config::default()
        },
    );
    let path = out.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    // As if they were drawn another way.
    (manifest["seed"], manifest["config"]["seed"]) = (1.into(), 1.into());
    fs::write(&path, manifest.to_string()).unwrap();
    let found = problems(&out);
    assert!(
        found
            .iter()
            .any(|why| why.contains("its static masks are not those")),
        "{found:?}"
    );
    manifest["created_by"] = "cloze 0.2.0".into();
    fs::write(&path, manifest.to_string()).unwrap();
    let found = problems(&out);
    assert!(!found.iter().any(|why| why.contains("masks")), "{found:?}");
}
