//! Cases of our own hold: all of them, in every language, but for what is listed here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cases;

use cases::{LANGUAGES, groups, ours, score, table};
use cloze_sentences::Segmenter;

/// Groups that do not hold. They are wrong in the table, too.
const WRONG: [(&str, &str); 4] = [
    ("hi", "titles"),
    ("hi", "quotations"),
    ("ar", "titles"),
    ("ar", "quotations"),
];

#[test]
fn sentences_of_a_case_are_its_text() {
    for (language, _) in LANGUAGES {
        for group in groups(language) {
            assert!(group.cases.len() >= 2, "{language}: {}", group.name);
            for (text, sentences) in &group.cases {
                let mut rest = text.as_str();
                for sentence in sentences {
                    assert_eq!(sentence.trim(), sentence, "{language}: {text}");
                    let left = rest.trim_start().strip_prefix(sentence.as_str());
                    rest = left.unwrap_or_else(|| panic!("{language}: {text}: {sentence}"));
                }
                assert_eq!(rest.trim(), "", "{language}: {text}");
            }
        }
    }
}

#[test]
fn there_are_enough_cases() {
    let english = groups("en");
    let common: Vec<_> = english.iter().filter(|group| group.is_common()).collect();
    assert_eq!(common.len(), 48);
    assert!(english.iter().all(|group| group.cases.len() >= 3));
    for (language, _) in LANGUAGES {
        let cases: usize = groups(language).iter().map(|g| g.cases.len()).sum();
        assert!(cases >= 12, "{language}: {cases}");
    }
}

#[test]
fn groups_hold() {
    for (language, _) in LANGUAGES {
        let all = groups(language);
        let wrong: Vec<&str> = WRONG
            .iter()
            .filter(|w| w.0 == language)
            .map(|w| w.1)
            .collect();
        let (expected, rest): (Vec<_>, Vec<_>) = all
            .iter()
            .partition(|group| !wrong.contains(&group.name.as_str()));
        let (here, said) = score(expected, |text| ours(language, text));
        assert_eq!(
            here.groups_held,
            here.groups,
            "{language}\n{}",
            said.join("\n")
        );
        let (rest, _) = score(rest, |text| ours(language, text));
        assert_eq!(
            (rest.groups, rest.groups_held),
            (wrong.len(), 0),
            "{language}: holds now"
        );
    }
}

#[test]
fn two_languages_have_rules_of_sentencex() {
    let general = LANGUAGES.iter().filter(|(code, _)| !Segmenter::own(code));
    assert!(general.count() >= 2);
}

#[test]
fn the_page_says_what_holds() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bench/sentences.md");
    let page = std::fs::read_to_string(path).unwrap();
    let table = table();
    assert!(page.contains(&table), "{path} should have\n{table}");
}
