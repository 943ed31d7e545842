//! Decontamination: documents that share text with an evaluation set (Brown et al. 2020, appendix C: 13 words in a row).

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use crate::{Error, Result, canonical, words};

/// Texts of fewer words say nothing about where a document comes from: they must be all of it.
pub const FEW_WORDS: usize = 5;

/// A row of an evaluation set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// Number of the set.
    pub set: u32,
    /// Number of the row in it.
    pub index: u64,
}

/// Takes the texts of evaluation sets.
#[derive(Debug, Default)]
pub struct Builder {
    n: usize,
    sets: Vec<String>,
    rows: Vec<Row>,
    numbers: HashMap<Row, u32>,
    /// (hash, row) of every run that is looked for, and of those that must be a whole document.
    runs: [Vec<(u64, u32)>; 2],
    lengths: Vec<usize>,
    texts: u64,
    texts_before_set: u64,
    /// Texts of few words.
    short: u64,
}

/// What is looked for.
#[derive(Debug)]
pub struct Exclusion {
    sets: Vec<String>,
    rows: Vec<Row>,
    texts: u64,
    /// Of which few words, see [`FEW_WORDS`].
    short: u64,
    /// Lengths of runs, ascending.
    lengths: Vec<usize>,
    runs: [Index; 2],
}

/// Hashes are looked up by themselves.
#[derive(Clone, Copy, Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Which rows have a run.
#[derive(Debug)]
struct Index {
    first: HashMap<u64, u32, BuildHasherDefault<Same>>,
    sorted: Vec<(u64, u32)>,
}

impl Index {
    fn new(mut sorted: Vec<(u64, u32)>) -> Self {
        sorted.sort_unstable();
        sorted.dedup();
        let mut first = HashMap::default();
        for (at, (hash, _)) in sorted.iter().enumerate().rev() {
            first.insert(*hash, at as u32);
        }
        Self { first, sorted }
    }

    fn find(&self, hash: u64, out: &mut Vec<u32>) {
        if let Some(&at) = self.first.get(&hash) {
            let same = self.sorted[at as usize..].iter();
            out.extend(same.take_while(|e| e.0 == hash).map(|e| e.1));
        }
    }
}

impl Builder {
    /// Looks for `n` words in a row.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self {
            n,
            ..Self::default()
        }
    }

    /// Begins another set; texts that are added belong to it.
    pub fn set(&mut self, name: &str) {
        self.sets.push(name.into());
        self.texts_before_set = self.texts;
    }

    /// Adds a text of row `index` of the set; a row may have several.
    pub fn add(&mut self, index: u64, text: &str) {
        let mut found = Vec::new();
        words::words(&canonical::canonical(text), &mut found);
        if found.is_empty() {
            return;
        }
        self.texts += 1;
        let set = self.sets.len().saturating_sub(1) as u32;
        let row = Row { set, index };
        let rows = &mut self.rows;
        let number = *self.numbers.entry(row).or_insert_with(|| {
            rows.push(row);
            rows.len() as u32 - 1
        });
        let whole = found.len() < FEW_WORDS.min(self.n);
        self.short += u64::from(whole);
        let length = found.len().min(self.n);
        let mut hashes = Vec::new();
        words::runs(&found, length, &mut hashes);
        self.runs[usize::from(whole)].extend(hashes.into_iter().map(|h| (h, number)));
        if !whole && !self.lengths.contains(&length) {
            self.lengths.push(length);
            self.lengths.sort_unstable();
        }
    }

    /// Refuses a set without any text.
    pub fn end_set(&self) -> Result<()> {
        if self.texts > self.texts_before_set {
            return Ok(());
        }
        Err(Error::NothingToExclude {
            path: self.sets.last().cloned().unwrap_or_default(),
            why: "no row holds a word".into(),
        })
    }

    /// Everything that was added.
    #[must_use]
    pub fn finish(self) -> Exclusion {
        Exclusion {
            sets: self.sets,
            rows: self.rows,
            texts: self.texts,
            short: self.short,
            lengths: self.lengths,
            runs: self.runs.map(Index::new),
        }
    }
}

impl Exclusion {
    /// The names of the sets.
    #[must_use]
    pub fn sets(&self) -> &[String] {
        &self.sets
    }

    /// How many texts are looked for.
    #[must_use]
    pub fn texts(&self) -> u64 {
        self.texts
    }

    /// How many of them have so few words that they must be all of a document.
    #[must_use]
    pub fn short(&self) -> u64 {
        self.short
    }

    /// The rows that share a run of words with a document of these words, ascending.
    #[must_use]
    pub fn hits(&self, words: &[u64]) -> Vec<Row> {
        let (mut numbers, mut hashes) = (Vec::new(), Vec::new());
        // A run that a document repeats is looked up once: many rows may have it.
        let mut found = HashSet::new();
        for &length in &self.lengths {
            hashes.clear();
            words::runs(words, length, &mut hashes);
            for &hash in &hashes {
                if self.runs[0].first.contains_key(&hash) && found.insert(hash) {
                    self.runs[0].find(hash, &mut numbers);
                }
            }
        }
        if words.len() < FEW_WORDS {
            self.runs[1].find(words::run(words), &mut numbers);
        }
        numbers.sort_unstable();
        numbers.dedup();
        let mut rows: Vec<Row> = numbers.iter().map(|&n| self.rows[n as usize]).collect();
        rows.sort_unstable();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Vec<u64> {
        let mut out = Vec::new();
        words::words(&canonical::canonical(text), &mut out);
        out
    }

    /// By definition: which texts share `n` words in a row with the document, occur in it, or are it.
    fn naive(n: usize, texts: &[String], document: &str) -> Vec<u64> {
        let split = |t: &str| t.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let document = split(document);
        let hit = |text: &Vec<String>| {
            let length = text.len().min(n);
            length > 0
                && if text.len() < FEW_WORDS.min(n) {
                    *text == document
                } else {
                    let mut runs = text.windows(length);
                    runs.any(|run| document.windows(length).any(|other| other == run))
                }
        };
        let texts = texts.iter().map(|t| split(t)).enumerate();
        texts
            .filter(|(_, t)| hit(t))
            .map(|(i, _)| i as u64)
            .collect()
    }

    proptest! {
        #[test]
        fn by_definition(
            texts in proptest::collection::vec("[ab]{0,2}( [abc]){0,12}", 1..8),
            document in "[ab]( [abc]){0,30}", n in 2usize..9,
        ) {
            let mut builder = Builder::new(n);
            builder.set("test");
            for (i, text) in texts.iter().enumerate() {
                builder.add(i as u64, text);
            }
            let found: Vec<u64> = builder.finish().hits(&of(&document)).iter().map(|r| r.index).collect();
            prop_assert_eq!(found, naive(n, &texts, &document));
        }
    }

    #[test]
    fn case_and_punctuation_do_not_matter_and_all_rows_are_named() {
        let mut builder = Builder::new(6);
        builder.set("one.jsonl");
        builder.add(0, "What is the capital of France?");
        builder.add(7, "no");
        builder.add(7, "The capital of France is Paris");
        builder.end_set().unwrap();
        builder.set("two.jsonl");
        builder.add(2, "-- WHAT is\n“the” capital of... france and so on");
        builder.end_set().unwrap();
        builder.set("three.jsonl");
        builder.add(0, "?!");
        let message = builder.end_set().unwrap_err().to_string();
        assert!(message.starts_with("three.jsonl"), "{message}");
        let exclusion = builder.finish();
        assert_eq!((exclusion.texts(), exclusion.sets().len()), (4, 3));
        let hits = |text| {
            let rows = exclusion.hits(&of(text));
            rows.iter().map(|r| (r.set, r.index)).collect::<Vec<_>>()
        };
        assert_eq!(hits("So: what is the capital of france!"), [(0, 0), (1, 2)]);
        assert_eq!(hits("the capital of France is Paris, no?"), [(0, 7)]);
        assert_eq!(hits("No."), [(0, 7)]);
        assert_eq!(hits("no, what is the capital of Spain"), []);
        assert_eq!(hits(""), []);
    }
}
