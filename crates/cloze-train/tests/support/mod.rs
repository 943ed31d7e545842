//! A small dataset and a small model, made in a folder.

#![allow(dead_code, reason = "each file of tests uses what it needs")]

pub mod model;
pub mod twins;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::manifest::{
    FileRecord, Manifest, Masking, Objective, SourceRecord, SplitRecord, TokenizerRecord,
};
use cloze_shard::random::{Key, Stage};
use cloze_shard::row::Masks;
use cloze_shard::rules::RowRules;
use cloze_shard::schema::IdType;
use cloze_shard::{
    FORMAT_VERSION, NextSentenceLabel, Row, ShardWriter, Vocabulary, atomic, documents,
};

pub const VOCAB: usize = 40;

/// Entries of the small vocabulary.
pub fn tokens() -> Vec<String> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    special
        .into_iter()
        .chain((5..VOCAB).map(|i| format!("w{i}")))
        .collect()
}

/// The same, every third of them a piece that goes on with a word.
pub fn tokens_with_pieces() -> Vec<String> {
    let piece = |(i, token): (usize, String)| match i >= 5 && i % 3 == 0 {
        true => format!("##p{i}"),
        false => token,
    };
    tokens().into_iter().enumerate().map(piece).collect()
}

/// Rows whose words follow one another, so that there is something to learn.
fn row(i: u64, masking: &Masking) -> Row {
    let mut stream = Key::new(1, Stage::Sample).stream(i, 0);
    let word = |start: u64, k: u64| 5 + (start + k) as u32 % 35;
    let (a, b) = (stream.between(1, 6), stream.between(1, 6));
    let (start, random) = (stream.below(35), i % 2 == 1);
    let other = if random { stream.below(35) } else { start + a };
    let mut input_ids = vec![2];
    input_ids.extend((0..a).map(|k| word(start, k)));
    input_ids.push(3);
    let b_start = input_ids.len() as u16;
    input_ids.extend((0..b).map(|k| word(other, k)));
    input_ids.push(3);
    let label = if random {
        NextSentenceLabel::NotNext
    } else {
        NextSentenceLabel::IsNext
    };
    let masks = matches!(masking, Masking::Static { .. }).then(|| {
        let labels = vec![input_ids[1]];
        input_ids[1] = 4;
        Masks {
            positions: vec![1],
            labels,
        }
    });
    let (doc_a, doc_b) = (i as i64, i as i64 + i64::from(random));
    Row {
        input_ids,
        b_start,
        next_sentence_label: Some(label),
        doc_a,
        doc_b,
        sentence_a: 0,
        sentence_b: 1,
        masks,
    }
}

/// A document of a source.
fn document(doc: i64, source: u32) -> documents::DocumentRecord {
    documents::DocumentRecord {
        doc,
        source,
        index: doc as u64,
        id: None,
        meta: None,
        sentences: 2,
        tokens: 9,
    }
}

/// Writes a dataset of `train` and `validation` rows into `folder`.
pub fn dataset(folder: &Path, train: u64, validation: u64, masking: Masking) -> PathBuf {
    dataset_of(tokens(), folder, train, validation, masking)
}

/// As [`dataset`], with these entries.
pub fn dataset_of(
    tokens: Vec<String>,
    folder: &Path,
    train: u64,
    validation: u64,
    masking: Masking,
) -> PathBuf {
    let path = folder.join("data");
    let tokenizer = path.join("tokenizer");
    fs::create_dir_all(&tokenizer).unwrap();
    let text = tokens.join("\n") + "\n";
    let vocabulary = Vocabulary::new(tokens, Some(true)).unwrap();
    let vocab = atomic::write(&tokenizer.join("vocab.txt"), text.as_bytes()).unwrap();
    let file = |path: &str, w: atomic::Written| FileRecord {
        path: path.into(),
        bytes: w.bytes,
        blake3: w.blake3,
    };
    let is_static = matches!(masking, Masking::Static { .. });
    let mut splits = BTreeMap::new();
    for (name, first, rows) in [("train", 0, train), ("validation", 1 << 20, validation)] {
        fs::create_dir_all(path.join(name)).unwrap();
        let shard = format!("{name}/part-00000.arrow");
        let rules = RowRules::new(VOCAB, vocabulary.special(), 16, is_static);
        let mut writer =
            ShardWriter::create(&path.join(&shard), IdType::UInt16, is_static, rules).unwrap();
        for i in first..first + rows {
            writer.push(&row(i, &masking).view()).unwrap();
        }
        splits.insert(
            name.to_owned(),
            SplitRecord::new(vec![writer.finish(&shard).unwrap()], rows),
        );
    }
    // Documents lie in two files, in turn; the second segment of every second row is of the next one.
    let of_split = |first: u64, rows: u64| first..first + rows + u64::from(rows > 0);
    let all = of_split(0, train).chain(of_split(1 << 20, validation));
    let table = documents::write(
        &path.join(documents::FILE_NAME),
        false,
        all.map(|doc| document(doc as i64, (doc % 2) as u32)),
    )
    .unwrap();
    let source = |name: &str| SourceRecord {
        path: name.into(),
        bytes: 1,
        blake3: String::new(),
        documents: 1,
        skipped: BTreeMap::new(),
    };
    Manifest {
        format: Manifest::format_name(),
        format_version: FORMAT_VERSION,
        created_by: "a test".into(),
        objective: Objective::Nsp,
        max_seq_length: 16,
        masking,
        seed: 0,
        tokenizer: TokenizerRecord::new(&vocabulary, vec![file("tokenizer/vocab.txt", vocab)]),
        config: serde_json::json!({}),
        sources: vec![source("even.txt"), source("odd.txt")],
        counts: BTreeMap::new(),
        metadata: Vec::new(),
        documents: file(documents::FILE_NAME, table),
        splits,
    }
    .write(&path)
    .unwrap();
    path
}

/// Writes the `config.json` of a small BERT.
pub fn config(folder: &Path) -> PathBuf {
    let path = folder.join("config.json");
    let json = serde_json::json!({
        "model_type": "bert", "vocab_size": VOCAB, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 16, "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "pad_token_id": 0
    });
    fs::write(&path, json.to_string()).unwrap();
    path
}
