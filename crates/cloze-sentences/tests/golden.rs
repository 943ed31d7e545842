//! Cases of our own, by group: how many hold with the rules of this crate, and how many with those of `sentencex`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cloze_sentences::Segmenter;

/// A text and its sentences.
type Case = (String, Vec<String>);

/// The groups of a fixture, by name.
fn groups(language: &str) -> Vec<(String, Vec<Case>)> {
    let path = format!(
        "{}/tests/fixtures/golden/{language}.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut groups: Vec<(String, Vec<Case>)> = vec![];
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let rest = || line[2..].replace("\\n", "\n");
        match line.as_bytes().first() {
            Some(b'=') => groups.push((line[3..].to_owned(), vec![])),
            Some(b'>') => groups.last_mut().unwrap().1.push((rest(), vec![])),
            Some(b'|') => groups
                .last_mut()
                .unwrap()
                .1
                .last_mut()
                .unwrap()
                .1
                .push(rest()),
            Some(b'#') | None => {}
            Some(_) => panic!("{language}: {line}"),
        }
    }
    groups
}

fn ours(language: &str, text: &str) -> Vec<String> {
    let mut out = vec![];
    Segmenter::rules(language)
        .unwrap()
        .sentences(text, &mut out);
    out.into_iter()
        .map(|range| text[range].to_owned())
        .collect()
}

fn theirs(language: &str, text: &str) -> Vec<String> {
    let sentences = sentencex::segment(language, text).into_iter();
    let trimmed = sentences.map(|s| s.trim().to_owned());
    trimmed.filter(|s| !s.is_empty()).collect()
}

/// Groups of which every case holds, and how many cases hold.
fn held(
    groups: &[(String, Vec<Case>)],
    segment: impl Fn(&str) -> Vec<String>,
    show: bool,
) -> (usize, usize) {
    let mut counts = (0, 0);
    for (name, cases) in groups {
        let mut holds = true;
        for (text, expected) in cases {
            let found = segment(text);
            counts.1 += usize::from(found == *expected);
            if found != *expected {
                holds = false;
                if show {
                    println!("{name}: {expected:#?}\nfound {found:#?}");
                }
            }
        }
        counts.0 += usize::from(holds);
    }
    counts
}

#[test]
fn english_groups_hold() {
    let all = groups("en");
    assert!(all.iter().all(|(_, cases)| cases.len() >= 3));
    let (besides, common): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|(name, _)| name.starts_with("besides:"));
    assert_eq!(common.len(), 48);
    let own = held(&common, |text| ours("en", text), true);
    let other = held(&common, |text| theirs("en", text), false);
    println!(
        "English groups, of 48: {} here, {} with sentencex",
        own.0, other.0
    );
    assert!(own.0 >= 46, "{own:?}");
    assert_eq!(
        held(&besides, |text| ours("en", text), true).0,
        besides.len()
    );
}

#[test]
fn cases_of_other_languages_hold() {
    for language in ["de", "fr", "es", "it", "ru", "ja", "zh"] {
        let groups = groups(language);
        let cases: usize = groups.iter().map(|(_, cases)| cases.len()).sum();
        assert!(cases >= 10, "{language}");
        let own = held(&groups, |text| ours(language, text), true);
        let other = held(&groups, |text| theirs(language, text), false);
        println!(
            "{language}, of {cases}: {} here, {} with sentencex",
            own.1, other.1
        );
        assert_eq!(own.1, cases, "{language}");
    }
}
