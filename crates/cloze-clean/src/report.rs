//! What was dropped and why, for a person.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::exclude::{Exclusion, Row};
use crate::ledger::EXAMPLES;
use crate::{Changes, Dropped};

/// Characters of a text that are shown.
const HEAD: usize = 80;

/// What happened to the documents of a corpus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanReport {
    /// Documents that were looked at.
    pub documents: u64,
    /// Of which stay.
    pub kept: u64,
    /// Whose text was changed.
    pub changed: u64,
    /// Control characters that were removed.
    pub control_characters: u64,
    /// Characters without width that were removed.
    pub invisible_characters: u64,
    /// Paragraphs that were removed from documents, those of emptied ones included.
    pub repeated_paragraphs: u64,
    /// Dropped documents by reason.
    pub dropped: BTreeMap<String, u64>,
    /// The first of each reason.
    pub examples: BTreeMap<String, Vec<Example>>,
    /// The paragraphs that occur most often.
    pub most_repeated: Vec<RepeatedParagraph>,
    /// How many documents each row of an evaluation set made go.
    pub excluded_by: Vec<ExcludedBy>,
    #[serde(skip)]
    hits: BTreeMap<Row, u64>,
}

/// A document as a person finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The source file.
    pub source: String,
    /// Number in it, from 0.
    pub index: u64,
    /// What the corpus calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A document that was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// How it begins.
    pub text: String,
    /// What it is a duplicate of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Box<Example>>,
    /// The first row of an evaluation set that it shares text with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<Place>,
}

/// A paragraph that occurs often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepeatedParagraph {
    /// How it begins.
    pub text: String,
    /// How often it occurs in documents that stay.
    pub times: u64,
    /// Where it stays.
    #[serde(flatten)]
    pub first: Place,
}

/// A row of an evaluation set that made documents go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcludedBy {
    /// Where it is.
    #[serde(flatten)]
    pub row: Place,
    /// How many.
    pub documents: u64,
}

/// How a text begins: at most 80 characters, as one line.
#[must_use]
pub fn head(text: &str) -> String {
    let start = text.trim_start();
    // White space may be made shorter, so a little more than is shown is looked at.
    let end = start
        .char_indices()
        .nth(4 * HEAD)
        .map_or(start.len(), |c| c.0);
    let mut out = String::new();
    for piece in start[..end].split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(piece);
    }
    if let Some((end, _)) = out.char_indices().nth(HEAD) {
        out.truncate(end);
    }
    out
}

fn row_place(row: Row, exclusion: &Exclusion) -> Place {
    Place {
        source: exclusion.sets()[row.set as usize].clone(),
        index: row.index,
        id: None,
    }
}

impl CleanReport {
    /// A document that was looked at.
    pub fn looked(&mut self, changes: &Changes) {
        self.documents += 1;
        self.kept += 1;
        self.changed += u64::from(changes.changed);
        self.control_characters += changes.removed.control;
        self.invisible_characters += changes.removed.invisible;
    }

    /// That it is dropped by itself; where it is and how it begins is asked for only where it is to be shown.
    pub fn dropped(
        &mut self,
        dropped: &Dropped,
        exclusion: Option<&Exclusion>,
        example: impl FnOnce() -> (Place, String),
    ) {
        for &row in &dropped.rows {
            *self.hits.entry(row).or_default() += 1;
        }
        let rows = dropped.rows.first().zip(exclusion);
        let row = rows.map(|(&row, exclusion)| row_place(row, exclusion));
        self.gone(dropped.reason, || {
            let (place, text) = example();
            let text = head(&text);
            let of = None;
            Example {
                place,
                text,
                of,
                row,
            }
        });
    }

    /// That a document is dropped for `reason`.
    pub fn gone(&mut self, reason: &str, example: impl FnOnce() -> Example) {
        self.kept -= 1;
        let count = self.dropped.entry(reason.to_owned()).or_default();
        *count += 1;
        if *count <= EXAMPLES as u64 {
            let examples = self.examples.entry(reason.to_owned()).or_default();
            examples.push(example());
        }
    }

    /// Names the rows of evaluation sets that were hit.
    pub fn name_rows(&mut self, exclusion: Option<&Exclusion>) {
        let Some(exclusion) = exclusion else { return };
        let named = |(&row, &documents): (&Row, &u64)| ExcludedBy {
            row: row_place(row, exclusion),
            documents,
        };
        self.excluded_by = self.hits.iter().map(named).collect();
    }

    /// The counts by name, as a manifest holds them.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts: BTreeMap<String, u64> = self
            .dropped
            .iter()
            .map(|(reason, &count)| (format!("dropped_{reason}"), count))
            .collect();
        for (name, count) in [
            ("read_documents", self.documents),
            ("changed_documents", self.changed),
            ("removed_control_characters", self.control_characters),
            ("removed_invisible_characters", self.invisible_characters),
            ("removed_paragraphs", self.repeated_paragraphs),
            ("excluding_rows", self.hits.len() as u64),
        ] {
            counts.insert(name.into(), count);
        }
        counts
    }

    /// What happened, a line each: in words, and how often.
    #[must_use]
    pub fn lines(&self) -> Vec<(String, u64)> {
        let mut lines = vec![("documents read".to_owned(), self.documents)];
        for (name, count) in [
            ("text changed", self.changed),
            ("control characters removed", self.control_characters),
            ("invisible characters removed", self.invisible_characters),
            ("repeated paragraphs removed", self.repeated_paragraphs),
        ] {
            if count > 0 {
                lines.push((name.into(), count));
            }
        }
        for (reason, &count) in &self.dropped {
            lines.push((format!("dropped: {}", reason.replace('_', " ")), count));
        }
        if !self.hits.is_empty() {
            lines.push(("evaluation rows found".into(), self.hits.len() as u64));
        }
        lines.push(("documents kept".into(), self.kept));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_one_short_line() {
        assert_eq!(head(" \n a\n\n b\tc "), "a b c");
        let long = "é ".repeat(500);
        assert_eq!(head(&long).chars().count(), HEAD);
        assert_eq!(head(&"x".repeat(HEAD + 1)), "x".repeat(HEAD));
        assert_eq!(head(""), "");
    }

    #[test]
    fn counts_add_up_and_examples_are_the_first() {
        let mut report = CleanReport::default();
        for i in 0..10 {
            report.looked(&Changes::default());
            if i != 3 {
                let dropped = Dropped {
                    reason: "min_words",
                    rows: Vec::new(),
                };
                report.dropped(&dropped, None, || {
                    let index = i;
                    (
                        Place {
                            index,
                            ..Place::default()
                        },
                        format!("text {i}"),
                    )
                });
            }
        }
        assert_eq!((report.documents, report.kept), (10, 1));
        assert_eq!(report.counts()["dropped_min_words"], 9);
        let shown: Vec<u64> = report.examples["min_words"]
            .iter()
            .map(|e| e.place.index)
            .collect();
        assert_eq!(shown, [0, 1, 2, 4, 5]);
        assert!(report.lines().contains(&("dropped: min words".into(), 9)));
    }
}
