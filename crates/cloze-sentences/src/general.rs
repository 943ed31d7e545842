//! The rules of the crate `sentencex`, for languages that have none of ours.

use std::ops::Range;

use crate::segmenter::push_trimmed;

/// Text that is segmented at once. A paragraph longer than this is cut at white space first, which may cut a sentence: it
/// bounds the time that rules which look far can take.
const WINDOW: usize = 64 * 1024;

/// The languages that `sentencex` has rules of its own for.
pub(crate) const LANGUAGES: [&str; 31] = [
    "am", "ar", "bg", "bn", "ca", "da", "de", "el", "en", "es", "fi", "fr", "gu", "hi", "hy", "it",
    "ja", "kk", "kn", "ml", "mr", "my", "nl", "pa", "pl", "pt", "ru", "sk", "ta", "te", "uk",
];

/// Languages that its general rules are made for too.
const GENERAL: [&str; 2] = ["ur", "zh"];

/// Whether it has rules for a language, or for one whose rules it shares.
pub(crate) fn known(language: &str) -> bool {
    LANGUAGES.contains(&language)
        || GENERAL.contains(&language)
        || sentencex::languages::get_fallbacks(language).is_some()
}

pub(crate) fn sentences(language: &str, text: &str, out: &mut Vec<Range<usize>>) {
    let rules = sentencex::language_factory(language);
    for paragraph in paragraphs(text) {
        for window in windows(text, paragraph) {
            let mut start = window.start;
            let slice = &text[window.clone()];
            for sentence in rules.segment(slice) {
                // Only the ends are taken from the rules, so that whatever they return, nothing is lost.
                let end = (sentence.as_ptr() as usize + sentence.len())
                    .wrapping_sub(slice.as_ptr() as usize);
                let end = window.start.wrapping_add(end);
                if end > start && end <= window.end && text.is_char_boundary(end) {
                    push_trimmed(text, start..end, out);
                    start = end;
                }
            }
            push_trimmed(text, start..window.end, out);
        }
    }
}
/// Runs of lines that are not blank.
fn paragraphs(text: &str) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            if start < at {
                out.push(start..at);
            }
            start = at + line.len();
        }
        at += line.len();
    }
    if start < at {
        out.push(start..at);
    }
    out
}

/// Pieces of at most [`WINDOW`] bytes, cut after white space where there is some.
fn windows(text: &str, range: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = range.start;
    std::iter::from_fn(move || {
        if start >= range.end {
            return None;
        }
        let mut end = range.end;
        if end - start > WINDOW {
            end = start + WINDOW;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let space = text[start..end]
                .rfind(char::is_whitespace)
                .filter(|&at| at > 0);
            end = space.map_or(end, |at| start + at);
        }
        let window = start..end;
        start = end;
        Some(window)
    })
}
