//! The text that is compared: what two texts have in common that look the same but for white space.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_128;

use crate::normalize::{Normalizer, Removed};
use crate::{ParagraphKind, UnicodeForm};

const FORM: Normalizer = Normalizer {
    form: UnicodeForm::Nfc,
    tidy_space: true,
    strip_control: true,
};

/// `text` in NFC, with one space for each run of white space and none at its ends, without control characters and those
/// that have no width. Case and punctuation stay.
#[must_use]
pub fn canonical(text: &str) -> String {
    let text = plain(text);
    let mut out = String::with_capacity(text.len());
    for piece in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(piece);
    }
    out
}

/// As [`canonical`], but white space may be as it was where the text is ASCII.
fn plain(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| matches!(b, b'\t'..=b'\r' | b' '..=b'~');
    if text.bytes().all(plain) {
        Cow::Borrowed(text)
    } else {
        FORM.apply(text, &mut Removed::default())
    }
}

/// The key of a canonical text. Never 0.
#[must_use]
pub fn key(canonical: &str) -> u128 {
    xxh3_128(canonical.as_bytes()).max(1)
}

/// The byte ranges of the paragraphs of `text`, in order; together they hold all that is not white space.
pub fn paragraphs(text: &str, kind: ParagraphKind, out: &mut Vec<std::ops::Range<usize>>) {
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        if (blank || kind == ParagraphKind::Line) && start < at {
            out.push(start..at);
            start = at;
        }
        at += line.len();
        if blank {
            start = at;
        }
    }
    if start < at {
        out.push(start..at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_look_the_same_are_the_same() {
        let same = [
            "Caf\u{e9} au lait, twice",
            " Cafe\u{301}  au\u{a0}lait,\r\ntwice\n\n",
            "Ca\u{ad}f\u{e9} au\u{200b} lait,\x0b\u{2029} twice\u{7}",
        ];
        for text in same {
            assert_eq!(canonical(text), "Café au lait, twice", "{text:?}");
        }
        for other in [
            "café au lait, twice",
            "Café au lait twice",
            "Caféau lait, twice",
        ] {
            assert_ne!(key(&canonical(other)), key(same[0]));
        }
        assert_eq!(canonical("a\x7fb \x0c\x0b c"), "ab c");
    }

    #[test]
    fn paragraphs_by_kind() {
        let text = "\n \na\nb\n\n  \nc\n\nd";
        let of = |kind| {
            let mut out = Vec::new();
            paragraphs(text, kind, &mut out);
            out.into_iter()
                .map(|r| text[r].to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(ParagraphKind::BlankLine), ["a\nb\n", "c\n", "d"]);
        assert_eq!(of(ParagraphKind::Line), ["a\n", "b\n", "c\n", "d"]);
    }

    proptest! {
        /// The short cut for ASCII is one.
        #[test]
        fn ascii_is_as_everything_else(text in "[ -~\\t-\\r\u{7f}\u{1}]{0,30}") {
            let long = FORM.apply(&text, &mut Removed::default()).split_whitespace().collect::<Vec<_>>().join(" ");
            prop_assert_eq!(canonical(&text), long);
        }

        #[test]
        fn canonical_is_itself(text in "([a \u{301}\u{a8}\n]|\\PC){0,30}") {
            let once = canonical(&text);
            prop_assert_eq!(canonical(&once), once);
        }

        #[test]
        fn paragraphs_hold_everything(text in "[ab \n\u{a0}]{0,30}", line: bool) {
            let kind = if line { ParagraphKind::Line } else { ParagraphKind::BlankLine };
            let mut ranges = Vec::new();
            paragraphs(&text, kind, &mut ranges);
            let held: String = ranges.iter().map(|r| &text[r.clone()]).collect();
            let black = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(black(&held), black(&text));
            for r in &ranges {
                prop_assert!(!text[r.clone()].trim().is_empty());
                prop_assert!(!line || text[r.clone()].trim_end_matches('\n').lines().count() == 1);
            }
        }
    }
}
