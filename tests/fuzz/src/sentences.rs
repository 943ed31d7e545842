//! Segmentation: whatever the text and the language,
//!
//! - sentences begin and end at characters that are not white space, and hold all of these, once and in order;
//! - none holds a blank line; of languages with rules of our own, none is cut inside a word of ASCII;
//! - the search by each set of instructions finds what the rules find without it;
//! - parts of long sentences keep their limit and lose nothing.

use std::ops::Range;
use std::sync::OnceLock;

use cloze_sentences::{Isa, Limit, Segmenter, naive, split_long};

/// All codes of two letters that there are rules for.
fn languages() -> &'static [(String, Segmenter)] {
    static ALL: OnceLock<Vec<(String, Segmenter)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let letters = || 'a'..='z';
        let codes = letters().flat_map(|a| letters().map(move |b| format!("{a}{b}")));
        codes
            .filter_map(|code| Segmenter::rules(&code).ok().map(|s| (code, s)))
            .collect()
    })
}

/// The first byte is a language, the next two are limits, the rest a [text](super::text::text).
pub fn check(data: &[u8]) {
    let Some((&[language, bytes, words], rest)) = data.split_first_chunk() else {
        return;
    };
    let text = &super::text::text(rest);
    let all = languages();
    let (code, segmenter) = &all[usize::from(language) % all.len()];
    let mut found = vec![];
    segmenter.sentences(text, &mut found);
    covers(text, &found);
    for range in &found {
        let blank = text[range.clone()]
            .split_inclusive('\n')
            .find(|line| line.trim().is_empty());
        assert_eq!(
            blank,
            None,
            "{code}: {:?} of {text:?}",
            &text[range.clone()]
        );
    }
    if Segmenter::own(code) {
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        for range in &found {
            let (before, after) = text.split_at(range.start);
            let cut = letter(before.chars().next_back()) && letter(after.chars().next());
            assert!(!cut, "{code}: {found:?} of {text:?}");
        }
        let expected = naive::sentences(code, text);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let mut out = vec![];
            segmenter.sentences_with(isa, text, &mut out);
            assert_eq!(out, expected, "{code} {isa}: {text:?}");
        }
    }
    for other in [Segmenter::Line, Segmenter::Whole] {
        let mut out = vec![];
        other.sentences(text, &mut out);
        covers(text, &out);
    }
    let limits = [
        Limit::bytes(usize::from(bytes)),
        Limit::words(usize::from(words)),
        Limit {
            bytes: usize::from(bytes),
            words: usize::from(words),
        },
    ];
    for (range, limit) in found.iter().zip(limits.iter().cycle()) {
        let (mut parts, sentence) = (vec![], &text[range.clone()]);
        let cuts = split_long(text, range.clone(), *limit, &mut parts);
        assert_eq!(cuts + 1, parts.len());
        for part in &mut parts {
            let held = &text[part.clone()];
            assert!(held.len() <= limit.bytes.max(4), "{limit:?}: {held:?}");
            assert!(
                held.split_whitespace().count() <= limit.words.max(1),
                "{limit:?}: {held:?}"
            );
            *part = part.start - range.start..part.end - range.start;
        }
        covers(sentence, &parts);
    }
}

/// Ranges that begin and end at what is not white space and hold all of it, once and in order.
fn covers(text: &str, ranges: &[Range<usize>]) {
    let mut last = 0;
    for range in ranges {
        assert!(
            range.start >= last && range.start < range.end,
            "{ranges:?} of {text:?}"
        );
        let between = &text[last..range.start];
        assert_eq!(between.trim(), "", "{ranges:?} of {text:?}");
        let held = &text[range.clone()];
        assert_eq!(held, held.trim(), "{text:?}");
        last = range.end;
    }
    assert_eq!(text[last..].trim(), "", "{ranges:?} of {text:?}");
}
