//! Imports: rows that are written here, by the definitions of the formats, come back as they were, and damage is an error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lddl;
mod tfrecord;

use std::fs;
use std::path::{Path, PathBuf};

use cloze_convert::import::{Format, Options, import};
use cloze_shard::row::Masks;
use cloze_shard::{Dataset, NextSentenceLabel, Row};

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const WORDS: [&str; 11] = [
    "river", "stone", "##ing", "##s", "old", "bridge", "é", "walks", ".", "##ly", "market",
];

fn token(id: u32) -> &'static str {
    let all = SPECIAL.iter().chain(&WORDS);
    all.copied().nth(id as usize).unwrap()
}

/// Some numbers, the same each time.
fn numbers(mut state: u64) -> impl FnMut(u32) -> u32 {
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((state >> 33) % u64::from(below)) as u32
    }
}

/// A pair of segments, or one; with static masks, every third token is predicted, as `[MASK]`, as itself or as another.
fn row(seed: u64, masks: bool) -> Row {
    let mut draw = numbers(seed + 1);
    let mut segment = |n: u32| -> Vec<u32> { (0..n).map(|_| 5 + draw(11)).collect() };
    let (a, b) = (segment(1 + seed as u32 % 7), segment(1 + seed as u32 % 5));
    let mut ids = [vec![2], a, vec![3]].concat();
    let b_start = ids.len() as u16;
    ids.extend(b);
    ids.push(3);
    let label = [NextSentenceLabel::IsNext, NextSentenceLabel::NotNext][seed as usize % 2];
    let mut row: Row = Row {
        b_start,
        next_sentence_label: Some(label),
        ..Row::default()
    };
    if masks {
        let mut all = Masks::default();
        for i in (1..ids.len()).step_by(3) {
            if ids[i] == 3 {
                continue;
            }
            all.positions.push(i as u16);
            all.labels.push(ids[i]);
            ids[i] = [4, ids[i], 5 + draw(11)][draw(3) as usize];
        }
        row.masks = Some(all);
    }
    row.input_ids = ids;
    row
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let vocabulary: Vec<&str> = SPECIAL.iter().chain(&WORDS).copied().collect();
        place.write("vocab.txt", vocabulary.join("\n").as_bytes());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn options(&self, format: Format, train: &[&str]) -> Options {
        Options {
            format,
            train: train.iter().map(|name| self.path(name)).collect(),
            validation: Vec::new(),
            tokenizer: self.path("vocab.txt"),
            shard_rows: 100,
            skip_bad_rows: false,
            jobs: Some(1),
        }
    }

    /// Imports, and what is said where it fails; then nothing is left behind.
    fn import(&self, options: &Options, out: &str) -> Result<Vec<String>, String> {
        let done = std::sync::atomic::AtomicU64::new(0);
        let count = |n| {
            done.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
        };
        let outcome = import(options, &self.path(out), &count);
        match &outcome {
            Ok(report) => {
                assert_eq!(done.into_inner(), report.bytes_before);
                let clean = cloze_shard::verify::verify(&self.path(out), &mut |_| ()).unwrap();
                assert!(clean.is_clean(), "{:?}", clean.problems);
            }
            Err(_) => {
                let partial = self.path(&format!("{out}.partial"));
                assert!(!self.path(out).exists() && !partial.exists());
            }
        }
        outcome.map(|r| r.warnings).map_err(|e| e.to_string())
    }
}

/// Rows of a split without the documents, of which is only asked that they tell random text from other.
fn rows_of(dataset: &Path, split: &str) -> Vec<Row> {
    let dataset = Dataset::open(dataset).unwrap();
    assert_eq!(dataset.documents().unwrap().len(), 0);
    let mut seen = std::collections::BTreeSet::new();
    let rows = dataset.split(split).unwrap().iter().map(|r| {
        let row = r.to_row();
        assert!(seen.insert(row.doc_a), "a document of its own");
        let random = row.next_sentence_label == Some(NextSentenceLabel::NotNext);
        assert_eq!(row.doc_a != row.doc_b, random);
        Row {
            doc_a: 0,
            doc_b: 0,
            ..row
        }
    });
    rows.collect()
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push((path.clone(), fs::read(path).unwrap())),
        }
    }
    found.sort();
    found
}

/// The same bytes for any number of threads, whatever the format.
fn threads_change_nothing(place: &Place, options: &Options) {
    let mut all = Vec::new();
    for jobs in [1, 4] {
        let mut options = options.clone();
        options.jobs = Some(jobs);
        let out = format!("threads-{jobs}");
        place.import(&options, &out).unwrap();
        let root = place.path(&out);
        let named = files(&root).into_iter().map(|(path, bytes)| {
            let name = path.strip_prefix(&root).unwrap().to_path_buf();
            (name, bytes)
        });
        all.push(named.collect::<Vec<_>>());
    }
    assert!(all[0] == all[1] && all[0].len() > 4);
}
