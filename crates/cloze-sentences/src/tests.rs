//! What holds for any text: sentences cover it, all ways of finding them agree, and time is linear.

use std::ops::Range;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::language::Language;
use crate::{Isa, Limit, Segmenter, general, naive, split_long};

fn sentences(segmenter: &Segmenter, text: &str) -> Vec<Range<usize>> {
    let mut out = vec![];
    segmenter.sentences(text, &mut out);
    out
}

fn visible(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Ranges that begin and end at what is not white space and hold all of it, once and in order.
fn covers(text: &str, ranges: &[Range<usize>]) -> Result<(), TestCaseError> {
    let mut last = 0;
    for range in ranges {
        prop_assert!(range.start >= last && range.start < range.end);
        let sentence = &text[range.clone()];
        prop_assert_eq!(sentence, sentence.trim());
        last = range.end;
    }
    let held: String = ranges.iter().map(|r| visible(&text[r.clone()])).collect();
    prop_assert_eq!(visible(text), held);
    Ok(())
}

/// No sentence holds a blank line, and none begins or ends within a run of ASCII letters of one case.
fn whole_words(text: &str, ranges: &[Range<usize>]) -> Result<(), TestCaseError> {
    for range in ranges {
        let lines = text[range.clone()].split_inclusive('\n');
        prop_assert!(
            lines.clone().all(|line| !line.trim().is_empty()),
            "{:?}",
            &text[range.clone()]
        );
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let before = text[..range.start].chars().next_back();
        prop_assert!(!(letter(before) && letter(text[range.start..].chars().next())));
    }
    Ok(())
}

fn check(code: &str, text: &str) -> Result<(), TestCaseError> {
    let segmenter = Segmenter::rules(code).unwrap();
    let expected = naive::sentences(code, text);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        let mut out = vec![];
        segmenter.sentences_with(isa, text, &mut out);
        prop_assert_eq!(&out, &expected, "{} {}", code, isa);
    }
    covers(text, &expected)?;
    whole_words(text, &expected)
}

/// Pieces that rules trip over.
const AWKWARD: &str = "([A-Za-z]{1,6}|[.?!…。？！．｡;:,]|\\.{2,5}|\\. \\. \\.|[\"'“”‘’()\\[\\]«»„」「*_`]|[ \\t\\n\\r\\x0c\u{85}\u{a0}\u{2028}\u{2029}\u{3000}]| |[0-9]{1,3}[.)]{1,2} |\\n\\n|\\n- |\\n# |\\n===\\n|[•⁃◦]|Mr\\. |Fig\\. |U\\.S\\. |a\\.m\\. |e\\.g\\. |etc\\. |Yahoo! |I\\. |[a-c]\\. |The |said |é|ß|ж|Ж|Ω|中|中!中|に\\?」|と|に|《|》|👍|’t |'s |—[a-zA-Z]|Abb\\. |[AB]\\. |\u{301}|-|—|/|\\$|\\.[A-Z]|in the [a-z]{2,15}\\.[ \\n][A-Za-z]|it is approx\\. [A-Z]|he was no\\. [A-Z])";

proptest! {
    #[test]
    fn any_text(text in any::<String>(), language in 0..Language::all().len()) {
        check(Language::all()[language].code, &text)?;
    }

    #[test]
    fn awkward_text(pieces in prop::collection::vec(AWKWARD, 0..60), language in 0..Language::all().len()) {
        let text = pieces.concat();
        check("en", &text)?;
        check(Language::all()[language].code, &text)?;
    }

    #[test]
    fn awkward_text_across_blocks(pieces in prop::collection::vec(AWKWARD, 0..30), pad in 40..70usize) {
        check("en", &(format!("{} ", "x".repeat(pad)) + &pieces.concat()))?;
    }

    #[test]
    fn other_segmenters_cover(pieces in prop::collection::vec(AWKWARD, 0..40), language in prop::sample::select(general::LANGUAGES.to_vec())) {
        let text = pieces.concat();
        let mut out = vec![];
        general::sentences(language, &text, &mut out);
        covers(&text, &out)?;
        covers(&text, &sentences(&Segmenter::Line, &text))?;
        let whole = sentences(&Segmenter::Whole, &text);
        prop_assert!(whole.len() <= 1);
        covers(&text, &whole)?;
    }

    #[test]
    fn long_sentences_are_cut_within_their_limit(pieces in prop::collection::vec(AWKWARD, 0..80), bytes in 1..60usize, words in 1..12usize) {
        let text = pieces.concat();
        let (start, end) = (text.len() - text.trim_start().len(), text.trim_end().len());
        let span = start.min(end)..end;
        for limit in [Limit::bytes(bytes), Limit::words(words), Limit { bytes, words }] {
            let mut parts = vec![];
            let cuts = split_long(&text, span.clone(), limit, &mut parts);
            prop_assert_eq!(cuts, parts.len().saturating_sub(1));
            covers(&text[span.clone()], &parts.iter().map(|p| p.start - span.start..p.end - span.start).collect::<Vec<_>>())?;
            for part in parts {
                let part = &text[part];
                prop_assert!(part.len() <= limit.bytes.max(4));
                prop_assert!(part.split_whitespace().count() <= limit.words);
            }
        }
    }
}

#[test]
fn long_sentences_are_cut_behind_clauses() {
    let parts = |text: &str, limit| {
        let before = 0..0;
        let mut out = vec![before];
        let cuts = split_long(text, 0..text.len(), limit, &mut out);
        assert_eq!(cuts, out[1..].len().saturating_sub(1));
        out[1..]
            .iter()
            .map(|r| text[r.clone()].to_owned())
            .collect::<Vec<_>>()
    };
    let text = "It was late, and nobody came; so we left: home was far away from there.";
    assert_eq!(
        parts(text, Limit::bytes(31)),
        [
            "It was late, and nobody came;",
            "so we left: home was far away",
            "from there."
        ]
    );
    assert_eq!(
        parts(text, Limit::words(5)),
        [
            "It was late,",
            "and nobody came;",
            "so we left:",
            "home was far away from",
            "there."
        ]
    );
    assert_eq!(parts(text, Limit::bytes(100)), [text]);
    assert_eq!(parts("ab cd ef", Limit::bytes(5)), ["ab cd", "ef"]);
    assert_eq!(parts("aaaaaaaaé", Limit::bytes(4)), ["aaaa", "aaaa", "é"]);
    assert_eq!(
        parts("他来了，我走了，天黑", Limit::bytes(24)),
        ["他来了，我走了，", "天黑"]
    );
    assert_eq!(parts("", Limit::bytes(5)), Vec::<String>::new());
}

#[test]
fn time_is_linear_on_hostile_text() {
    let pieces = [
        ".",
        "\"",
        "'",
        "(",
        ")",
        "[",
        "[1",
        "a",
        ". ",
        ".) ",
        "!",
        "!\"",
        "\n",
        " ",
        "\u{a0}",
        "\t\n\n",
        "…",
        "… ",
        "。",
        "。」",
        "• ",
        "1) ",
        "a. ",
        "a.",
        "1",
        ". . ",
        "Mr. ",
        "U.S.A.",
        "I. ",
        "- ",
        "\n- ",
        "\n#",
        "\n=",
        "#",
        "=",
        "’",
        "é",
        "жж. ",
        "A ",
        "\u{2029}",
        "x.\n \n",
        ") ",
        "1. A 2. B ",
        "\n1. ",
        "The ",
        "a\n",
        "** ",
        "?? A",
    ];
    let segmenter = Segmenter::rules("en").unwrap();
    for piece in pieces {
        let time = |bytes: usize| {
            let text = piece.repeat(bytes / piece.len() + 1);
            let before = Instant::now();
            let found = sentences(&segmenter, &text);
            let parts = found
                .into_iter()
                .map(|s| split_long(&text, s, Limit::bytes(200), &mut vec![]));
            std::hint::black_box(parts.sum::<usize>());
            before.elapsed()
        };
        // A quadratic walk over a megabyte takes minutes.
        assert!(time(1 << 20) < Duration::from_secs(2), "{piece:?}");
    }
}

#[test]
fn lines_are_sentences() {
    assert_eq!(
        sentences(&Segmenter::Line, "one. two\r\n\n  three\n"),
        [0..8, 13..18]
    );
    assert_eq!(
        sentences(&Segmenter::Whole, " one. Two\n\nthree \n"),
        std::slice::from_ref(&(1..16))
    );
}

#[test]
fn unknown_languages_are_refused() {
    let error = Segmenter::rules("xx").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no sentence rules for the language \"xx\""
    );
    for (code, own) in [("en", true), ("zh", true), ("hi", false), ("bg", false)] {
        assert!(Segmenter::rules(code).is_ok());
        assert_eq!(Segmenter::own(code), own);
    }
    assert!(Segmenter::rules("").is_err() && Segmenter::rules("EN").is_err());
}

#[test]
fn a_text_without_a_blank_is_bounded() {
    for code in ["en", "hi"] {
        let segmenter = Segmenter::rules(code).unwrap();
        let text = "é".repeat(300_000);
        assert!(covers(&text, &sentences(&segmenter, &text)).is_ok());
    }
}
