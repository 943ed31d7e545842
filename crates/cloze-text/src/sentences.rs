//! A document's text into sentences that cover it.

use std::ops::Range;

use crate::{Error, Result};

/// Text that is segmented at once. A paragraph longer than this is cut at white space first, which may cut a sentence: it
/// bounds the time that rules which look far can take.
const WINDOW: usize = 64 * 1024;

/// Cuts text into sentences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segmenter {
    /// The rules of the crate `sentencex` for a language.
    Rules {
        /// ISO 639-1, as [`Segmenter::rules`] checked it.
        language: String,
    },
    /// Every line is a sentence.
    Line,
}

/// The languages that `sentencex` has rules of its own for.
const LANGUAGES: [&str; 31] = [
    "am", "ar", "bg", "bn", "ca", "da", "de", "el", "en", "es", "fi", "fr", "gu", "hi", "hy", "it",
    "ja", "kk", "kn", "ml", "mr", "my", "nl", "pa", "pl", "pt", "ru", "sk", "ta", "te", "uk",
];

/// Languages that its general rules are made for too.
const GENERAL: [&str; 2] = ["ur", "zh"];

impl Segmenter {
    /// The rules of `language`, or of the language whose rules it shares. An unknown code is refused: English rules would
    /// otherwise be taken silently.
    pub fn rules(language: &str) -> Result<Self> {
        let known = LANGUAGES.contains(&language) || GENERAL.contains(&language);
        if known || sentencex::languages::get_fallbacks(language).is_some() {
            Ok(Self::Rules {
                language: language.into(),
            })
        } else {
            Err(Error::Language {
                code: language.into(),
            })
        }
    }

    /// Appends the byte ranges of the sentences of `text`, in order.
    ///
    /// Ranges begin and end at characters that are not white space, none is empty, and together they hold every character
    /// of `text` that is not white space exactly once. A blank line always ends a sentence.
    pub fn sentences(&self, text: &str, out: &mut Vec<Range<usize>>) {
        match self {
            Self::Line => {
                let mut start = 0;
                for line in text.split_inclusive('\n') {
                    push_trimmed(text, start..start + line.len(), out);
                    start += line.len();
                }
            }
            Self::Rules { language } => {
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
        }
    }
}

fn push_trimmed(text: &str, range: Range<usize>, out: &mut Vec<Range<usize>>) {
    let slice = &text[range.clone()];
    let start = range.start + (slice.len() - slice.trim_start().len());
    let trimmed = slice.trim();
    if !trimmed.is_empty() {
        out.push(start..start + trimmed.len());
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn english(text: &str) -> Vec<&str> {
        let mut out = vec![];
        Segmenter::rules("en").unwrap().sentences(text, &mut out);
        out.into_iter().map(|r| &text[r]).collect()
    }

    #[test]
    fn rules_know_abbreviations() {
        assert_eq!(
            english(
                "Dr. Smith saw Fig. 3, i.e. the U.S. map. It was old.\nIt hung there.\n\nno stop here\n \nNext"
            ),
            [
                "Dr. Smith saw Fig. 3, i.e. the U.S. map.",
                "It was old.",
                "It hung there.",
                "no stop here",
                "Next"
            ]
        );
    }

    #[test]
    fn lines_are_sentences() {
        let mut out = vec![];
        Segmenter::Line.sentences("one. two\r\n\n  three\n", &mut out);
        assert_eq!(out, [0..8, 13..18]);
    }

    #[test]
    fn unknown_languages_are_refused() {
        assert!(Segmenter::rules("xx").is_err());
        assert!(Segmenter::rules("zh").is_ok());
    }

    #[test]
    fn a_text_without_a_blank_is_bounded() {
        let text = "é".repeat(300_000);
        assert_eq!(english(&text).concat(), text);
        let text = "word ".repeat(100_000);
        assert_eq!(
            english(&text)
                .iter()
                .map(|s| s.split(' ').count())
                .sum::<usize>(),
            100_000
        );
    }

    fn covers(segmenter: &Segmenter, text: &str) -> Result<(), TestCaseError> {
        let mut out = vec![];
        segmenter.sentences(text, &mut out);
        let mut last = 0;
        for range in &out {
            prop_assert!(range.start >= last && range.start < range.end);
            let sentence = &text[range.clone()];
            prop_assert_eq!(sentence, sentence.trim());
            last = range.end;
        }
        let visible = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        prop_assert_eq!(
            visible(text),
            out.iter()
                .map(|r| visible(&text[r.clone()]))
                .collect::<String>()
        );
        Ok(())
    }

    proptest! {
        #[test]
        fn sentences_cover_any_text(text in any::<String>(), language in prop::sample::select(LANGUAGES.to_vec())) {
            covers(&Segmenter::rules(language).unwrap(), &text)?;
            covers(&Segmenter::Line, &text)?;
        }

        #[test]
        fn sentences_cover_awkward_text(text in "([A-Za-z]{1,5}|[.?!…。？！]|\\.\\.\\.|[\"'“”‘’()\\[\\]«»]|[ \\t\\n\\r\\x0c\u{85}\u{a0}\u{2028}]|[0-9]\\.|a\\.m\\.|é|中){0,60}") {
            for language in ["en", "de", "ja", "hi"] {
                covers(&Segmenter::rules(language).unwrap(), &text)?;
            }
        }
    }
}
