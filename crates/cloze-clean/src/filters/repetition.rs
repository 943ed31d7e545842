//! How much of a text was in it before: lines, paragraphs and runs of words.

use std::collections::HashSet;

use crate::words::runs;

/// How many lines or paragraphs of a text stood before in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repetition {
    all: usize,
    again: usize,
    chars: usize,
    chars_again: usize,
}

impl Repetition {
    /// Of the lines of `text`.
    #[must_use]
    pub fn of_lines(text: &str) -> Self {
        Self::of(text.lines())
    }

    /// Of the paragraphs of `text`.
    #[must_use]
    pub fn of_paragraphs(text: &str) -> Self {
        let mut ranges = Vec::new();
        crate::canonical::paragraphs(text, crate::ParagraphKind::BlankLine, &mut ranges);
        Self::of(ranges.into_iter().map(|r| &text[r]))
    }

    fn of<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        let (mut found, mut seen) = (Self::default(), HashSet::new());
        for part in parts.map(str::trim).filter(|p| !p.is_empty()) {
            let chars = part.chars().filter(|c| !c.is_whitespace()).count();
            found.all += 1;
            found.chars += chars;
            if !seen.insert(part) {
                found.again += 1;
                found.chars_again += chars;
            }
        }
        found
    }

    /// The share of them that stood before.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.again as f64 / self.all.max(1) as f64
    }

    /// The share of the characters that are in those.
    #[must_use]
    pub fn share_of_chars(&self) -> f64 {
        self.chars_again as f64 / self.chars.max(1) as f64
    }
}

/// Every run of `n` words as (hash, place), those of one hash together and in order.
fn sorted_runs(words: &[u64], n: usize) -> Vec<(u64, usize)> {
    let mut hashes = Vec::new();
    runs(words, n, &mut hashes);
    let mut runs: Vec<_> = hashes.into_iter().zip(0..).collect();
    runs.sort_unstable();
    runs
}

/// The characters of the words that the runs of `n` words at `places` hold; each word once.
fn covered(places: impl Iterator<Item = usize>, lengths: &[usize], n: usize) -> usize {
    let (mut chars, mut end) = (0, 0);
    for at in places {
        chars += lengths[at.max(end)..at + n].iter().sum::<usize>();
        end = at + n;
    }
    chars
}

/// The share of the characters that are in the most frequent run of `n` words, where one comes twice at least. Of several
/// as frequent, the one with the most characters.
#[must_use]
pub fn top_share(words: &[u64], lengths: &[usize], n: usize) -> f64 {
    let runs = sorted_runs(words, n);
    let best = runs
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|same| same.len() > 1)
        .map(|same| {
            let chars = covered(same.iter().map(|run| run.1), lengths, n);
            (same.len(), chars)
        })
        .max();
    let total: usize = lengths.iter().sum();
    best.map_or(0, |(_, chars)| chars) as f64 / total.max(1) as f64
}

/// The share of the characters that are in runs of `n` words which come more than once; none counts twice.
#[must_use]
pub fn duplicate_share(words: &[u64], lengths: &[usize], n: usize) -> f64 {
    let runs = sorted_runs(words, n);
    let mut places: Vec<usize> = runs
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|same| same.len() > 1)
        .flatten()
        .map(|run| run.1)
        .collect();
    places.sort_unstable();
    let total: usize = lengths.iter().sum();
    covered(places.into_iter(), lengths, n) as f64 / total.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// By the definitions, over the words themselves.
    fn naive(words: &[&str], n: usize) -> (f64, f64) {
        let mut places: HashMap<&[&str], Vec<usize>> = HashMap::new();
        for (at, run) in words.windows(n).enumerate() {
            places.entry(run).or_default().push(at);
        }
        let total: usize = words.iter().map(|w| w.len()).sum();
        let share = |all: &[usize]| {
            let held: HashSet<usize> = all.iter().flat_map(|&at| at..at + n).collect();
            held.iter().map(|&w| words[w].len()).sum::<usize>() as f64 / total.max(1) as f64
        };
        let twice: Vec<_> = places.values().filter(|p| p.len() > 1).collect();
        let most = twice.iter().map(|p| p.len()).max();
        let top = twice.iter().filter(|p| Some(p.len()) == most);
        let top = top.map(|p| share(p)).fold(0.0, f64::max);
        (
            top,
            share(&twice.into_iter().flatten().copied().collect::<Vec<_>>()),
        )
    }

    proptest! {
        #[test]
        fn runs_by_definition(text in "([ab]|ccc){0,1}( ([ab]|ccc)){0,25}", n in 1usize..6) {
            let words: Vec<&str> = text.split_whitespace().collect();
            let hashes: Vec<u64> = words.iter().map(|w| xxhash_rust::xxh3::xxh3_64(w.as_bytes())).collect();
            let lengths: Vec<usize> = words.iter().map(|w| w.len()).collect();
            let (top, duplicate) = naive(&words, n);
            prop_assert_eq!(top_share(&hashes, &lengths, n), top);
            prop_assert_eq!(duplicate_share(&hashes, &lengths, n), duplicate);
        }
    }

    #[test]
    fn lines_and_paragraphs() {
        let lines = Repetition::of_lines("a b\n\n a b \nccc\na b\n");
        assert_eq!((lines.share(), lines.share_of_chars()), (0.5, 4.0 / 9.0));
        let paragraphs = Repetition::of_paragraphs("a\nb\n\na\n\na\nb\n \nd");
        assert_eq!(paragraphs.share(), 0.25);
        assert_eq!(Repetition::of_lines("").share(), 0.0);
    }
}
