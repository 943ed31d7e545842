//! Text to measure with.

use std::collections::HashMap;

/// Bytes of the text that is made up.
const BYTES: usize = 8 << 20;

/// The documents that `CLOZE_BENCH_TEXT` names, or made-up ones.
///
/// # Panics
/// If the file cannot be read.
#[must_use]
pub fn documents() -> Vec<String> {
    match std::env::var_os("CLOZE_BENCH_TEXT") {
        None => made_up(BYTES),
        Some(path) => {
            let text = std::fs::read_to_string(&path);
            read(&text.unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        }
    }
}

/// The entries that `CLOZE_BENCH_VOCAB` names, by id, or those of the words of `documents`.
///
/// # Panics
/// If the file cannot be read.
#[must_use]
pub fn vocabulary(documents: &[String]) -> Vec<String> {
    match std::env::var_os("CLOZE_BENCH_VOCAB") {
        None => vocabulary_of(documents),
        Some(path) => {
            let text = std::fs::read_to_string(&path);
            let text = text.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            text.lines().map(str::to_owned).collect()
        }
    }
}

fn read(text: &str) -> Vec<String> {
    if !text.starts_with('{') {
        return text.split("\n\n").map(str::to_owned).collect();
    }
    text.lines().filter_map(field).collect()
}

/// The field `text` of a line of JSON, or of what looks like one: good enough for a text to measure with.
fn field(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("\"text\":")?;
    let mut rest = rest.trim_start().strip_prefix('"')?.chars();
    let mut text = String::with_capacity(rest.as_str().len());
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => match rest.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'u' => {
                    let code = u32::from_str_radix(rest.as_str().get(..4)?, 16).ok()?;
                    text.push(char::from_u32(code).unwrap_or('?'));
                    rest = rest.as_str().get(4..)?.chars();
                }
                other => text.push(other),
            },
            c => text.push(c),
        }
    }
}

/// Numbers that look drawn: the same each time (a linear congruential generator, Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize * n) >> 31
    }
}

/// About so many bytes of documents that nobody wrote: words of made-up syllables, as frequent as words are (Zipf), in sentences with commas, numbers, brackets,
/// quotations, abbreviations and now and then a letter beyond ASCII, in paragraphs.
#[must_use]
pub fn made_up(bytes: usize) -> Vec<String> {
    const LITTLE: [&str; 24] = [
        "the", "of", "and", "to", "a", "in", "is", "that", "for", "it", "with", "as", "be", "on",
        "by", "this", "are", "or", "from", "an", "not", "which", "at", "if",
    ];
    const SYLLABLES: [&str; 40] = [
        "ka", "lo", "mi", "ten", "sor", "vel", "ri", "un", "pre", "com", "ta", "ble", "ing", "er",
        "ex", "do", "fi", "gra", "hu", "ja", "mon", "ne", "op", "qua", "ster", "tion", "ver",
        "wil", "zen", "al", "be", "cr", "dis", "el", "ful", "gen", "hal", "is", "ous", "ly",
    ];
    const ASIDES: [&str; 8] = [
        "e.g. ",
        "(see Fig. 3) ",
        "i.e. ",
        "Dr. ",
        "café ",
        "approx. 2.5 ",
        "“so” ",
        "No. 7 ",
    ];
    let mut dice = Dice(0x5eed);
    let words: Vec<String> = (0..20_000)
        .map(|_| {
            (0..1 + dice.below(4))
                .map(|_| SYLLABLES[dice.below(SYLLABLES.len())])
                .collect()
        })
        .collect();
    let mut documents = Vec::new();
    let mut made = 0;
    while made < bytes {
        let mut text = String::new();
        let paragraphs = 1 + dice.below(30);
        for _ in 0..paragraphs {
            for _ in 0..1 + dice.below(8) {
                sentence(&mut dice, &words, [&LITTLE, &ASIDES], &mut text);
            }
            text.pop();
            text.push('\n');
        }
        made += text.len();
        documents.push(text);
    }
    documents
}

fn sentence(dice: &mut Dice, words: &[String], [little, asides]: [&[&str]; 2], text: &mut String) {
    let begun = text.len();
    for _ in 0..4 + dice.below(22) {
        match dice.below(40) {
            0 => text.push_str(asides[dice.below(asides.len())]),
            1 => text.push_str(&format!("{} ", dice.below(3_000))),
            n => {
                let word = if n < 19 {
                    little[dice.below(little.len())]
                } else {
                    // As often as its rank says, about.
                    let most = 1 << (1 + dice.below(14));
                    &words[dice.below(most)]
                };
                text.push_str(word);
                text.push_str(if n == 39 { ", " } else { " " });
            }
        }
    }
    text.truncate(text.trim_end_matches([' ', ',']).len());
    let first = text[begun..].chars().next().unwrap_or('A');
    text.replace_range(
        begun..begun + first.len_utf8(),
        &first.to_uppercase().to_string(),
    );
    text.push_str([". ", ". ", ". ", ".) ", "? ", "! ", ".” ", ": "][dice.below(8)]);
}

/// A vocabulary of special tokens, letters, and the words of `documents`, the most frequent first: at most 16,000 whole words; others are spelt by letters and pairs
/// of them.
#[must_use]
pub fn vocabulary_of(documents: &[String]) -> Vec<String> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for document in documents {
        for word in document.split(|c: char| !c.is_ascii_alphanumeric()) {
            *counts.entry(word.to_ascii_lowercase()).or_default() += 1;
        }
    }
    counts.remove("");
    let mut words: Vec<(u64, String)> = counts.into_iter().map(|(word, n)| (n, word)).collect();
    words.sort_unstable_by(|(n, a), (m, b)| (m, a).cmp(&(n, b)));
    let mut entries: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .map(str::to_owned)
        .into();
    let signs = (0x21..0x7f).map(char::from);
    entries.extend(signs.filter(|c| !c.is_ascii_uppercase()).map(String::from));
    let letters = || ('a'..='z').chain('0'..='9');
    entries.extend(letters().map(|c| format!("##{c}")));
    entries.extend(('a'..='z').flat_map(|c| ('a'..='z').map(move |d| format!("##{c}{d}"))));
    let there: std::collections::HashSet<String> = entries.iter().cloned().collect();
    let new = words
        .into_iter()
        .map(|(_, word)| word)
        .filter(|word| !there.contains(word));
    entries.extend(new.take(16_000));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_same_each_time_and_read_as_they_were_written() {
        let documents = made_up(50_000);
        assert_eq!(documents, made_up(50_000));
        let bytes: usize = documents.iter().map(String::len).sum();
        assert!((50_000..80_000).contains(&bytes) && documents.len() > 5);
        let line = r#"{"id": 1, "text": "a \"b\"\nc\u00e9"}"#;
        assert_eq!(read(line), ["a \"b\"\ncé"]);
        assert_eq!(read("a\nb\n\nc"), ["a\nb", "c"]);
        let entries = vocabulary_of(&documents);
        let unique: std::collections::HashSet<&String> = entries.iter().collect();
        assert_eq!(unique.len(), entries.len());
        assert!(entries.contains(&"the".to_owned()) && entries.contains(&"##z".to_owned()));
    }
}
