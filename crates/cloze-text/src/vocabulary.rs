//! Training a WordPiece vocabulary.
//!
//! The algorithm is byte-pair encoding over characters (Sennrich, Haddow, Birch, ACL 2016) with `##` on pieces that continue
//! a word, which is what Hugging Face's WordPiece trainer does. Theirs breaks ties by the order of a randomly seeded hash
//! table, so two runs differ; here ties go to the pair that comes first by its text, and a corpus has one vocabulary.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use crate::{Error, Result, Settings, Tokenizer};

/// What to train.
#[derive(Clone, Copy, Debug)]
pub struct Training {
    /// Entries, the five special tokens included; fewer come out where the text does not give them.
    pub vocab_size: usize,
    /// Pairs that occur less often are not merged.
    pub min_frequency: u64,
    /// How text is normalised.
    pub settings: Settings,
}

/// Most distinct characters that get entries: the most frequent ones.
const ALPHABET: usize = 1_000;
/// Longer words are one `[UNK]` to BERT, so nothing is learnt from them.
const MAX_WORD_CHARS: usize = 100;

/// Counts words of text, then learns a vocabulary from the counts.
pub struct Trainer {
    training: Training,
    normalizer: BertNormalizer,
    words: HashMap<String, u64>,
}

impl Trainer {
    /// A trainer that has seen no text.
    #[must_use]
    pub fn new(training: Training) -> Self {
        let Settings {
            lowercase,
            strip_accents,
            tokenize_chinese_chars,
        } = training.settings;
        let normalizer =
            BertNormalizer::new(true, tokenize_chinese_chars, strip_accents, lowercase);
        Self {
            training,
            normalizer,
            words: HashMap::new(),
        }
    }

    /// Counts the words of `text`.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let fail = |e: tokenizers::Error| Error::Train { why: e.to_string() };
        let mut normalized = NormalizedString::from(text);
        self.normalizer.normalize(&mut normalized).map_err(fail)?;
        let mut split = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut split).map_err(fail)?;
        for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            if let Some(count) = self.words.get_mut(word) {
                *count += 1;
            } else {
                self.words.insert(word.to_owned(), 1);
            }
        }
        Ok(())
    }

    /// The tokenizer of the learnt vocabulary.
    pub fn train(self) -> Result<Tokenizer> {
        let tokens = self.learn()?;
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        Tokenizer::from_tokens(&tokens, self.training.settings)
    }

    fn learn(&self) -> Result<Vec<String>> {
        let mut words: Vec<(&str, u64)> = self
            .words
            .iter()
            .filter(|(w, _)| w.chars().count() <= MAX_WORD_CHARS)
            .map(|(w, &n)| (w.as_str(), n))
            .collect();
        words.sort_unstable();
        let alphabet = alphabet(&words);
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let mut pieces = Pieces::default();
        for token in special {
            pieces.id(token);
        }
        for c in &alphabet {
            pieces.id(&c.to_string());
        }
        // A word with a character outside the alphabet is cut there: both sides still teach something.
        let mut split: Vec<(Vec<u32>, u64)> = Vec::new();
        for (word, count) in words {
            let mut symbols = Vec::new();
            for (i, c) in word.chars().enumerate() {
                if alphabet.contains(&c) {
                    symbols.push(pieces.id(&if i == 0 {
                        c.to_string()
                    } else {
                        format!("##{c}")
                    }));
                } else if !symbols.is_empty() {
                    split.push((std::mem::take(&mut symbols), count));
                }
            }
            if !symbols.is_empty() {
                split.push((symbols, count));
            }
        }
        if split.is_empty() {
            return Err(Error::Train {
                why: "the text holds no word".into(),
            });
        }
        if pieces.texts.len() > self.training.vocab_size {
            return Err(Error::Train {
                why: format!(
                    "{} entries do not hold the {} special tokens and characters of the text",
                    self.training.vocab_size,
                    pieces.texts.len()
                ),
            });
        }
        merge(
            &mut split,
            &mut pieces,
            self.training.vocab_size,
            self.training.min_frequency,
        );
        Ok(pieces.texts)
    }
}

/// The most frequent characters, ascending.
fn alphabet(words: &[(&str, u64)]) -> std::collections::BTreeSet<char> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in words {
        word.chars()
            .for_each(|c| *counts.entry(c).or_default() += count);
    }
    let mut by_count: Vec<(char, u64)> = counts.into_iter().collect();
    by_count.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    by_count
        .into_iter()
        .take(ALPHABET)
        .map(|(c, _)| c)
        .collect()
}

#[derive(Default)]
struct Pieces {
    texts: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Pieces {
    fn id(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        self.ids.insert(text.to_owned(), id);
        id
    }

    fn merged(&self, pair: (u32, u32)) -> String {
        let (left, right) = (&self.texts[pair.0 as usize], &self.texts[pair.1 as usize]);
        format!("{left}{}", right.strip_prefix("##").unwrap_or(right))
    }
}

/// A pair to merge: the most frequent first, ties to the one that comes first by its text.
#[derive(PartialEq, Eq)]
struct Candidate {
    count: u64,
    text: String,
    pair: (u32, u32),
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |c: &Self| (c.count, std::cmp::Reverse((c.text.clone(), c.pair)));
        self.count
            .cmp(&other.count)
            .then_with(|| key(self).cmp(&key(other)))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn merge(
    words: &mut [(Vec<u32>, u64)],
    pieces: &mut Pieces,
    vocab_size: usize,
    min_frequency: u64,
) {
    let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
    let mut places: HashMap<(u32, u32), HashSet<usize>> = HashMap::new();
    for (w, (symbols, count)) in words.iter().enumerate() {
        for pair in symbols.windows(2) {
            let pair = (pair[0], pair[1]);
            *counts.entry(pair).or_default() += count;
            places.entry(pair).or_default().insert(w);
        }
    }
    let candidate = |pieces: &Pieces, pair, count| Candidate {
        count,
        text: pieces.merged(pair),
        pair,
    };
    let mut heap: BinaryHeap<Candidate> = counts
        .iter()
        .map(|(&pair, &n)| candidate(pieces, pair, n))
        .collect();
    while pieces.texts.len() < vocab_size {
        let Some(best) = heap.pop() else { break };
        let now = counts.get(&best.pair).copied().unwrap_or(0);
        if now != best.count {
            // Its count fell since it was pushed: it goes back with the count it has.
            if now > 0 {
                heap.push(candidate(pieces, best.pair, now));
            }
            continue;
        }
        if best.count < min_frequency.max(1) {
            break;
        }
        let merged = pieces.id(&best.text);
        let mut risen: HashSet<(u32, u32)> = HashSet::new();
        for w in places.remove(&best.pair).unwrap_or_default() {
            let (symbols, count) = &mut words[w];
            for pair in symbols.windows(2) {
                let old = counts.entry((pair[0], pair[1])).or_default();
                *old = old.saturating_sub(*count);
            }
            let mut i = 0;
            while i + 1 < symbols.len() {
                if (symbols[i], symbols[i + 1]) == best.pair {
                    symbols[i] = merged;
                    symbols.remove(i + 1);
                }
                i += 1;
            }
            for pair in symbols.windows(2) {
                let pair = (pair[0], pair[1]);
                *counts.entry(pair).or_default() += *count;
                places.entry(pair).or_default().insert(w);
                if pair.0 == merged || pair.1 == merged {
                    risen.insert(pair);
                }
            }
        }
        counts.remove(&best.pair);
        for pair in risen {
            heap.push(candidate(pieces, pair, counts[&pair]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(text: &str, vocab_size: usize) -> Vec<String> {
        let training = Training {
            vocab_size,
            min_frequency: 2,
            settings: Settings::default(),
        };
        let mut trainer = Trainer::new(training);
        text.lines().for_each(|l| trainer.add(l).unwrap());
        trainer.learn().unwrap()
    }

    /// Merges one pair at a time, counting everything anew: the definition.
    fn oracle(text: &str, vocab_size: usize) -> Vec<String> {
        let mut words: Vec<Vec<String>> = text
            .to_lowercase()
            .split_whitespace()
            .map(|w| {
                w.chars()
                    .enumerate()
                    .map(|(i, c)| if i == 0 { c.into() } else { format!("##{c}") })
                    .collect()
            })
            .collect();
        let first = learn(text, base(text));
        let mut vocabulary = first;
        while vocabulary.len() < vocab_size {
            let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
            for w in &words {
                w.windows(2)
                    .for_each(|p| *counts.entry((p[0].clone(), p[1].clone())).or_default() += 1);
            }
            let join = |p: &(String, String)| format!("{}{}", p.0, p.1.trim_start_matches("##"));
            let best = counts
                .iter()
                .max_by(|a, b| a.1.cmp(b.1).then_with(|| join(b.0).cmp(&join(a.0))));
            let Some((pair, &count)) = best else { break };
            if count < 2 {
                break;
            }
            let merged = join(pair);
            for w in &mut words {
                let mut i = 0;
                while i + 1 < w.len() {
                    if (&w[i], &w[i + 1]) == (&pair.0, &pair.1) {
                        w[i] = merged.clone();
                        w.remove(i + 1);
                    }
                    i += 1;
                }
            }
            if !vocabulary.contains(&merged) {
                vocabulary.push(merged);
            }
        }
        vocabulary
    }

    /// Entries before any merge: special tokens, characters, and characters that continue.
    fn base(text: &str) -> usize {
        let text = text.to_lowercase();
        let all: HashSet<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let inner: HashSet<char> = text
            .split_whitespace()
            .flat_map(|w| w.chars().skip(1))
            .collect();
        5 + all.len() + inner.len()
    }

    #[test]
    fn merges_agree_with_the_definition() {
        let text = "the cat sat on the mat that the rat ate at the flat\nthe hat the bat caterpillar category matter latter";
        for extra in [1, 5, 20, 200] {
            let size = base(text) + extra;
            assert_eq!(learn(text, size), oracle(text, size), "{extra}");
        }
    }

    #[test]
    fn frequent_words_become_entries_and_nothing_is_unknown() {
        let text = "network networks networking\n".repeat(50);
        let training = Training {
            vocab_size: 60,
            min_frequency: 2,
            settings: Settings::default(),
        };
        let mut trainer = Trainer::new(training);
        text.lines().for_each(|l| trainer.add(l).unwrap());
        let tokenizer = trainer.train().unwrap();
        let mut ids = vec![];
        tokenizer
            .encode_into("Networking network", &mut ids)
            .unwrap();
        assert!(!ids.contains(&1) && ids.len() <= 3, "{ids:?}");
    }

    #[test]
    fn too_small_a_vocabulary_is_refused() {
        let training = Training {
            vocab_size: 8,
            min_frequency: 2,
            settings: Settings::default(),
        };
        let mut trainer = Trainer::new(training);
        assert!(Trainer::new(training).learn().is_err());
        trainer.add("abcdefgh").unwrap();
        assert!(trainer.learn().is_err());
    }
}
