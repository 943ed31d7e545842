//! Which words of a corpus a vocabulary shatters, and what entries of their own would save.
//!
//! Entries are whole words, never `##` pieces. WordPiece takes the longest entry that a word goes on with, so a new entry also changes how other words are cut:
//! those that begin with it. That is taken into account from word to word, and counted.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::{Result, Tokenizer};

/// Words of a corpus, and how often each occurs: memory grows with the number of different words, not with the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    counts: HashMap<String, u64>,
    /// Words that are too long for any vocabulary. They are not kept.
    too_long: u64,
    /// Tokens that were added to the vocabulary.
    whole: u64,
}

/// Counts the words of texts.
pub struct Counter<'a> {
    tokenizer: &'a Tokenizer,
    most_chars: usize,
}

impl<'a> Counter<'a> {
    /// Words as `tokenizer` makes them.
    pub fn new(tokenizer: &'a Tokenizer) -> Result<Self> {
        let most_chars = tokenizer.rules()?.most_chars;
        Ok(Self {
            tokenizer,
            most_chars,
        })
    }

    /// Adds the words of `text` to `words`.
    pub fn count(&self, text: &str, words: &mut Words) -> Result<()> {
        let (counts, too_long) = (&mut words.counts, &mut words.too_long);
        let whole = self.tokenizer.words(text, |word| {
            if let Some(count) = counts.get_mut(word) {
                *count += 1;
            } else if word.len() > self.most_chars && word.chars().count() > self.most_chars {
                *too_long += 1;
            } else {
                counts.insert(word.to_owned(), 1);
            }
        })?;
        words.whole += whole;
        Ok(())
    }
}

impl Words {
    /// Those of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let (mut most, least) = if self.counts.len() < other.counts.len() {
            (other, self)
        } else {
            (self, other)
        };
        for (word, n) in least.counts {
            *most.counts.entry(word).or_default() += n;
        }
        most.too_long += least.too_long;
        most.whole += least.whole;
        most
    }

    /// How often a word occurs.
    #[must_use]
    pub fn count(&self, word: &str) -> u64 {
        self.counts.get(word).copied().unwrap_or(0)
    }

    /// Different words.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.counts.len()
    }
}

/// Which words are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Most words.
    pub words: usize,
    /// Words that occur less often are left alone.
    pub min_count: u64,
    /// Words of more pieces are left alone.
    pub max_pieces: Option<usize>,
}

/// A word that is to be an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// As the tokenizer's normaliser makes it.
    pub word: String,
    /// How often it occurs.
    pub count: u64,
    /// What the old vocabulary makes of it.
    pub pieces: Vec<u32>,
    /// Tokens that it saved when it was chosen.
    pub saved: u64,
}

/// What a word as an entry is worth: occurrences × (pieces − 1) tokens. A word that is `[UNK]` is worth one token an occurrence, though it saves none: what was
/// lost of it is kept.
fn worth(count: u64, pieces: Option<usize>) -> u64 {
    let spare = pieces.map_or(1, |n| n.saturating_sub(1));
    count.saturating_mul(spare as u64)
}

/// Chooses words for entries of their own: always the one that is worth most with those chosen before, ties to the one that comes first by its text. So the
/// first of many are those that would be chosen if fewer were wanted.
///
/// Left alone are words of digits only.
pub fn select(tokenizer: &Tokenizer, words: &Words, wanted: &Wanted) -> Result<Vec<Chosen>> {
    let mut rules = tokenizer.rules()?;
    let eligible = |word: &str, n: u64| {
        n >= wanted.min_count.max(1)
            && !word.chars().all(char::is_numeric)
            && tokenizer.can_add(&rules, word).is_ok()
            && wanted
                .max_pieces
                .is_none_or(|most| rules.pieces(word).is_none_or(|n| n <= most))
    };
    let counts = words.counts.iter();
    let mut candidates: Vec<(&str, u64)> = counts
        .filter(|&(word, &n)| eligible(word, n))
        .map(|(word, &n)| (word.as_str(), n))
        .collect();
    // Words that begin alike are neighbours.
    candidates.sort_unstable();
    let scored = candidates.iter().map(|(w, n)| worth(*n, rules.pieces(w)));
    let mut scores: Vec<u64> = scored.collect();
    let ranked = scores.iter().enumerate().map(|(i, &s)| (s, Reverse(i)));
    let mut heap: BinaryHeap<(u64, Reverse<usize>)> = ranked.filter(|(s, _)| *s > 0).collect();
    let mut chosen = Vec::new();
    while chosen.len() < wanted.words {
        let Some((score, Reverse(i))) = heap.pop() else {
            break;
        };
        if score != scores[i] {
            continue;
        }
        let (word, count) = candidates[i];
        let saved = rules.pieces(word).map_or(0, |n| (n as u64 - 1) * count);
        let mut pieces = Vec::new();
        tokenizer.pieces(word, &mut pieces)?;
        chosen.push(Chosen {
            word: word.to_owned(),
            count,
            pieces,
            saved,
        });
        rules.add(word);
        scores[i] = 0;
        let same = |(w, _): &&(&str, u64)| w.starts_with(word);
        let longer = candidates[i + 1..].iter().take_while(same);
        for (j, &(w, n)) in longer.enumerate().map(|(j, c)| (i + 1 + j, c)) {
            // One that was chosen is worth nothing any more.
            let score = worth(n, rules.pieces(w));
            if score != scores[j] {
                scores[j] = score;
                heap.push((score, Reverse(j)));
            }
        }
    }
    Ok(chosen)
}

/// `words` as if they had been chosen, in their order.
pub fn listed(tokenizer: &Tokenizer, words: &Words, list: &[String]) -> Result<Vec<Chosen>> {
    let mut rules = tokenizer.rules()?;
    let one = |word: &String| {
        let (count, mut pieces) = (words.count(word), Vec::new());
        tokenizer.pieces(word, &mut pieces)?;
        let saved = rules
            .pieces(word)
            .map_or(0, |n| (n.saturating_sub(1) as u64) * count);
        rules.add(word);
        Ok(Chosen {
            word: word.clone(),
            count,
            pieces,
            saved,
        })
    };
    list.iter().map(one).collect()
}

/// How a vocabulary fits a corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// Words, with repetitions.
    pub words: u64,
    /// What they are cut into.
    pub tokens: u64,
    /// Of these, `[UNK]`.
    pub unknown: u64,
}

/// Words that are no entries themselves and are cut otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recut {
    /// Different words.
    pub words: u64,
    /// How often they occur together.
    pub occurrences: u64,
    /// Different words of fewer pieces than before.
    pub fewer: u64,
    /// Of more.
    pub more: u64,
    /// That were `[UNK]` and are known now.
    pub found: u64,
    /// That were known and are `[UNK]` now.
    pub lost: u64,
}

/// What entries change on a corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The old vocabulary.
    pub before: Fit,
    /// The new one.
    pub after: Fit,
    /// Words beside the new entries.
    pub recut: Recut,
}

/// Cuts every word by both tokenizers; `added` are the entries of `new` that `old` has not.
pub fn effect(old: &Tokenizer, new: &Tokenizer, words: &Words, added: &[Chosen]) -> Result<Effect> {
    let added: HashSet<&str> = added.iter().map(|c| c.word.as_str()).collect();
    // Tokens of their own, and words that no vocabulary knows, stay what they are.
    let same = Fit {
        words: words.whole + words.too_long,
        tokens: words.whole + words.too_long,
        unknown: words.too_long,
    };
    let mut effect = Effect {
        before: same,
        after: same,
        recut: Recut::default(),
    };
    let unknown = old.rules()?.unknown;
    let is_unknown = |pieces: &[u32]| matches!(*pieces, [id] if Some(id) == unknown);
    let (mut then, mut now) = (Vec::new(), Vec::new());
    for (word, &n) in &words.counts {
        then.clear();
        now.clear();
        old.pieces(word, &mut then)?;
        new.pieces(word, &mut now)?;
        for (fit, pieces) in [(&mut effect.before, &then), (&mut effect.after, &now)] {
            fit.words += n;
            fit.tokens += n * pieces.len() as u64;
            fit.unknown += if is_unknown(pieces) { n } else { 0 };
        }
        if then != now && !added.contains(word.as_str()) {
            let recut = &mut effect.recut;
            recut.words += 1;
            recut.occurrences += n;
            if is_unknown(&now) {
                recut.lost += 1;
            } else if is_unknown(&then) {
                recut.found += 1;
            } else if now.len() < then.len() {
                recut.fewer += 1;
            } else if now.len() > then.len() {
                recut.more += 1;
            }
        }
    }
    Ok(effect)
}

#[cfg(test)]
mod tests;
