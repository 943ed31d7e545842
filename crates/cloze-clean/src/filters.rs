//! Rules that a document must keep, each by itself: those of Gopher (Rae et al. 2021, appendix A.1) and plain lengths.
//!
//! Words are what stands between white space, lines and paragraphs what stands between line ends and blank lines; blank
//! ones do not count. Shares of characters are shares of those that are not white space.

mod repetition;

use crate::CleanOptions;
pub use repetition::{Repetition, duplicate_share, top_share};

/// The thresholds of all rules; a rule without one is off.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    words: [Option<u64>; 2],
    chars: [Option<u64>; 2],
    symbol_ratio: Option<f64>,
    alpha_words: Option<f64>,
    repeated_lines: Option<f64>,
    gopher: bool,
}

/// Words that English text cannot do without; Gopher wants two of them.
const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];
/// What lists begin their lines with.
const BULLETS: [char; 6] = ['•', '‣', '*', '-', '◦', '·'];

impl Filters {
    /// The rules that `options` ask for.
    #[must_use]
    pub fn of(options: &CleanOptions) -> Self {
        let gopher = options.gopher;
        let or = |asked: Option<u64>, usual| asked.or(gopher.then_some(usual));
        let share = |asked: Option<f64>, usual| asked.or(gopher.then_some(usual));
        Self {
            words: [or(options.min_words, 50), or(options.max_words, 100_000)],
            chars: [options.min_chars, options.max_chars],
            symbol_ratio: share(options.max_symbol_ratio, 0.1),
            alpha_words: share(options.min_alpha_words, 0.8),
            repeated_lines: share(options.max_repeated_lines, 0.3),
            gopher,
        }
    }

    /// Whether no document is dropped.
    #[must_use]
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// The name of the first rule that `text` breaks.
    #[must_use]
    pub fn broken(&self, text: &str) -> Option<&'static str> {
        if self.is_off() {
            return None;
        }
        let below = |n: u64, least: Option<u64>| least.is_some_and(|least| n < least);
        let above = |n: u64, most: Option<u64>| most.is_some_and(|most| n > most);
        if self.chars != [None; 2] {
            let chars = text.chars().count() as u64;
            if below(chars, self.chars[0]) {
                return Some("min_chars");
            }
            if above(chars, self.chars[1]) {
                return Some("max_chars");
            }
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let count = words.len() as u64;
        if below(count, self.words[0]) {
            return Some("min_words");
        }
        if above(count, self.words[1]) {
            return Some("max_words");
        }
        let per_word = |n: usize| n as f64 / words.len().max(1) as f64;
        if let Some(most) = self.symbol_ratio {
            let hashes = text.bytes().filter(|&b| b == b'#').count();
            let ellipses = text.matches("...").count() + text.matches('…').count();
            if per_word(hashes) > most || per_word(ellipses) > most {
                return Some("symbol_ratio");
            }
        }
        if let Some(least) = self.alpha_words {
            let alpha = words.iter().filter(|w| w.contains(char::is_alphabetic));
            if per_word(alpha.count()) < least {
                return Some("alpha_words");
            }
        }
        let lines = Repetition::of_lines(text);
        if self.repeated_lines.is_some_and(|most| lines.share() > most) {
            return Some("repeated_lines");
        }
        if self.gopher {
            return gopher(text, &words, &lines);
        }
        None
    }
}

/// The rules of Gopher that have no option of their own.
fn gopher(text: &str, words: &[&str], lines: &Repetition) -> Option<&'static str> {
    let letters: usize = words.iter().map(|w| w.chars().count()).sum();
    let mean = letters as f64 / words.len().max(1) as f64;
    if !(3.0..=10.0).contains(&mean) {
        return Some("word_length");
    }
    let (mut all, mut bullets, mut cut) = (0usize, 0usize, 0usize);
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        all += 1;
        bullets += usize::from(line.starts_with(BULLETS));
        cut += usize::from(line.ends_with("...") || line.ends_with('…'));
    }
    let share = |n: usize| n as f64 / all.max(1) as f64;
    if share(bullets) > 0.9 {
        return Some("bullet_lines");
    }
    if share(cut) > 0.3 {
        return Some("ellipsis_lines");
    }
    let bare = |word: &&str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        STOP_WORDS.iter().position(|s| bare.eq_ignore_ascii_case(s))
    };
    let mut seen = [false; STOP_WORDS.len()];
    words
        .iter()
        .filter_map(bare)
        .for_each(|which| seen[which] = true);
    if seen.iter().filter(|&&s| s).count() < 2 {
        return Some("stop_words");
    }
    if lines.share_of_chars() > 0.2 {
        return Some("repeated_line_chars");
    }
    let paragraphs = Repetition::of_paragraphs(text);
    if paragraphs.share() > 0.3 {
        return Some("repeated_paragraphs");
    }
    if paragraphs.share_of_chars() > 0.2 {
        return Some("repeated_paragraph_chars");
    }
    let lengths: Vec<usize> = words.iter().map(|w| w.chars().count()).collect();
    let hashes: Vec<u64> = words
        .iter()
        .map(|w| xxhash_rust::xxh3::xxh3_64(w.as_bytes()))
        .collect();
    for (n, most) in [(2, 0.20), (3, 0.18), (4, 0.16)] {
        if top_share(&hashes, &lengths, n) > most {
            return Some("top_ngram");
        }
    }
    for (n, most) in (5..=10).zip([0.15, 0.14, 0.13, 0.12, 0.11, 0.10]) {
        if duplicate_share(&hashes, &lengths, n) > most {
            return Some("repeated_ngrams");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut CleanOptions), text: &str) -> Option<&'static str> {
        let mut options = CleanOptions::default();
        change(&mut options);
        Filters::of(&options).broken(text)
    }

    /// Each rule just kept and just broken.
    #[test]
    fn rules_at_their_thresholds() {
        assert_eq!(broken(|_| {}, "# # #"), None);
        type Ask = fn(&mut CleanOptions);
        let cases: [(Ask, &str, &str, &str); 9] = [
            (|o| o.min_words = Some(3), "a b  c", "a b", "min_words"),
            (|o| o.max_words = Some(2), "a\nb", "a b c", "max_words"),
            (|o| o.min_chars = Some(3), "éàü", "éà", "min_chars"),
            (|o| o.max_chars = Some(3), "éàü", "éàüx", "max_chars"),
            (
                |o| o.max_symbol_ratio = Some(0.5),
                "#a b #c d",
                "#a #b #c d",
                "symbol_ratio",
            ),
            (
                |o| o.max_symbol_ratio = Some(0.5),
                "a... b",
                "a... b…",
                "symbol_ratio",
            ),
            (
                |o| o.min_alpha_words = Some(0.5),
                "1 2 a é3",
                "1 2 3 a",
                "alpha_words",
            ),
            (
                |o| o.max_repeated_lines = Some(0.25),
                "a\nb\nc\n\n a ",
                "a\nb\nb",
                "repeated_lines",
            ),
            (
                |o| o.max_repeated_lines = Some(0.0),
                "a\nb\nc",
                "a\nb\nc\nd\nd",
                "repeated_lines",
            ),
        ];
        for (ask, kept, lost, name) in cases {
            assert_eq!(broken(ask, kept), None, "{kept:?} of {name}");
            assert_eq!(broken(ask, lost), Some(name), "{lost:?}");
        }
    }

    /// Text that keeps all of Gopher's rules: no run of words comes back.
    fn good(words: usize) -> String {
        let mut text =
            String::from("The many words of this text have no pattern, and that is good.\n");
        for i in 0..words {
            let word = format!("w{}rd{}x", char::from(b'a' + (i % 26) as u8), i * i % 9973);
            text.push_str(&word);
            text.push_str(if i % 11 == 10 { ".\n" } else { " " });
        }
        text
    }

    #[test]
    fn gopher_keeps_good_text_and_names_what_is_wrong() {
        let gopher = |o: &mut CleanOptions| o.gopher = true;
        let good = good(100);
        assert_eq!(broken(gopher, &good), None);
        let list = good.lines().map(|l| format!("- {l}\n")).collect::<String>();
        let cut = good
            .lines()
            .map(|l| format!("{l} end…\n"))
            .collect::<String>();
        let cases = [
            ("a few words".to_owned(), "min_words"),
            (good.replace(' ', " a b c d "), "word_length"),
            (list, "bullet_lines"),
            (
                cut.replace("…", " x…").replacen("x…", "x", 3),
                "ellipsis_lines",
            ),
            (
                good.replace("The", "Le")
                    .replace("of", "von")
                    .replace("and", "und")
                    .replace("have", "haben")
                    .replace("that", "dass"),
                "stop_words",
            ),
            (format!("{good}{}", "word pair ".repeat(30)), "top_ngram"),
            (
                format!(
                    "{good}\n{0} a\n{0} b\n{0} c\n",
                    "wholly equal words in lines that are not one the same"
                ),
                "repeated_ngrams",
            ),
        ];
        for (text, name) in cases {
            assert_eq!(broken(gopher, &text), Some(name), "{text}");
        }
        let lines_may = |o: &mut CleanOptions| {
            o.gopher = true;
            o.max_repeated_lines = Some(1.0);
        };
        let lines = format!("{good}\n{}", "a line that comes back again\n".repeat(13));
        assert_eq!(broken(lines_may, &lines), Some("repeated_line_chars"));
        let blocks = |of: &str| format!("{good}\n\n{}", of.repeat(5));
        assert_eq!(
            broken(lines_may, &blocks("x\ny\n\n")),
            Some("repeated_paragraphs")
        );
        assert_eq!(
            broken(lines_may, &good.replace("x ", "x\n\n")),
            None,
            "many paragraphs are none again"
        );
        // An option replaces a threshold.
        let few = |o: &mut CleanOptions| {
            o.gopher = true;
            o.min_words = Some(2);
        };
        assert_ne!(broken(few, "a few words"), Some("min_words"));
    }
}
