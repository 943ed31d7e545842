//! Cases of our own in `fixtures/golden`, by language and group of rules, and how many of them a segmenter gets right.

use cloze_sentences::Segmenter;

/// The languages that have cases. Those of the last line have the rules of `sentencex` here, too.
pub const LANGUAGES: [(&str, &str); 13] = [
    ("en", "English"),
    ("de", "German"),
    ("fr", "French"),
    ("es", "Spanish"),
    ("it", "Italian"),
    ("pt", "Portuguese"),
    ("nl", "Dutch"),
    ("pl", "Polish"),
    ("ru", "Russian"),
    ("zh", "Chinese"),
    ("ja", "Japanese"),
    ("hi", "Hindi"),
    ("ar", "Arabic"),
];

/// A text and its sentences.
pub type Case = (String, Vec<String>);

/// Cases of one rule.
pub struct Group {
    pub name: String,
    pub cases: Vec<Case>,
}

impl Group {
    /// Whether segmenters are commonly asked for it, or only we are.
    pub fn is_common(&self) -> bool {
        !self.name.starts_with("besides:")
    }
}

/// The groups of a language.
pub fn groups(language: &str) -> Vec<Group> {
    let path = format!(
        "{}/tests/fixtures/golden/{language}.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut groups: Vec<Group> = vec![];
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let rest = || line[2..].replace("\\n", "\n");
        let cases = groups.last_mut().map(|group| &mut group.cases);
        match line.as_bytes().first() {
            Some(b'=') => groups.push(Group {
                name: line[3..].to_owned(),
                cases: vec![],
            }),
            Some(b'>') => cases.unwrap().push((rest(), vec![])),
            Some(b'|') => cases.unwrap().last_mut().unwrap().1.push(rest()),
            Some(b'#') | None => {}
            Some(_) => panic!("{language}: {line}"),
        }
    }
    groups
}

pub fn ours(language: &str, text: &str) -> Vec<String> {
    let mut out = vec![];
    Segmenter::rules(language)
        .unwrap()
        .sentences(text, &mut out);
    out.into_iter()
        .map(|range| text[range].to_owned())
        .collect()
}

pub fn theirs(language: &str, text: &str) -> Vec<String> {
    let sentences = sentencex::segment(language, text).into_iter();
    let trimmed = sentences.map(|s| s.trim().to_owned());
    trimmed.filter(|s| !s.is_empty()).collect()
}

/// How many groups hold, and how many cases. A group holds if every case of it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    pub groups: usize,
    pub groups_held: usize,
    pub cases: usize,
    pub cases_held: usize,
}

/// The score of a segmenter, and what it gets wrong, to be read.
pub fn score<'a>(
    groups: impl IntoIterator<Item = &'a Group>,
    segment: impl Fn(&str) -> Vec<String>,
) -> (Score, Vec<String>) {
    let (mut score, mut wrong) = (Score::default(), vec![]);
    for group in groups {
        let before = wrong.len();
        for (text, expected) in &group.cases {
            let found = segment(text);
            score.cases += 1;
            if found == *expected {
                score.cases_held += 1;
            } else {
                wrong.push(format!(
                    "{}: expected {expected:?}\n  found {found:?}",
                    group.name
                ));
            }
        }
        score.groups += 1;
        score.groups_held += usize::from(wrong.len() == before);
    }
    (score, wrong)
}

/// What holds in each language, as a table in Markdown.
pub fn table() -> String {
    let mut lines = vec![
        "| language | rules here | groups | hold here | hold with sentencex | cases | hold here | hold with sentencex |".to_owned(),
        "|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for (language, name) in LANGUAGES {
        let all = groups(language);
        let (common, besides): (Vec<_>, Vec<_>) = all.iter().partition(|group| group.is_common());
        for (groups, kind) in [(common, ""), (besides, ", technical text")] {
            if groups.is_empty() {
                continue;
            }
            let own = if Segmenter::own(language) {
                "own"
            } else {
                "sentencex"
            };
            let (here, _) = score(groups.iter().copied(), |text| ours(language, text));
            let (there, _) = score(groups.iter().copied(), |text| theirs(language, text));
            lines.push(format!(
                "| {name}{kind} | {own} | {} | {} | {} | {} | {} | {} |",
                here.groups,
                here.groups_held,
                there.groups_held,
                here.cases,
                here.cases_held,
                there.cases_held
            ));
        }
    }
    lines.join("\n")
}
