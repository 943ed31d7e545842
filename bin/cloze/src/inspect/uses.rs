//! Which segments of which rows come from a document.

use std::ops::RangeInclusive;

use cloze_shard::manifest::Objective;
use cloze_shard::{NextSentenceLabel, RowRef};
use serde_json::Value;

use super::Opened;
use super::scan::{appended, scan};
use super::source::SourceDocument;

/// A segment that is taken from the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub split: String,
    pub row: u64,
    pub segment: char,
    pub label: Option<NextSentenceLabel>,
    /// The sentence that it begins in, and the last that it is known to reach.
    pub sentences: RangeInclusive<u32>,
    /// Whether it may reach further.
    pub open: bool,
    pub doc: i64,
    pub ids: Vec<u32>,
}

/// Every segment that comes from a document with one of these hashes, in order.
///
/// A row of several documents names the first and the last: those between are known from the source only.
pub fn uses(opened: &Opened, docs: &[i64], sources: &[SourceDocument]) -> Vec<Use> {
    let manifest = opened.dataset.manifest();
    let cuts = pairing(opened) != Some("cloze");
    let rows = Rows {
        docs,
        sources,
        sep: opened.vocabulary.special().sep,
        turned: manifest.objective == Objective::Sop,
        full: match cuts {
            true => usize::from(manifest.max_seq_length),
            false => usize::MAX,
        },
        many: manifest.objective == Objective::FullSentences,
    };
    let mut all = Vec::new();
    for (name, split) in opened.dataset.splits() {
        let found = scan(
            split,
            Vec::new,
            |found, number, row| rows.of_row(name, number, row, found),
            appended,
        );
        all.extend(found);
    }
    all
}

/// How pairs were cut, as the manifest says.
pub fn pairing(opened: &Opened) -> Option<&str> {
    let config = &opened.dataset.manifest().config;
    config.get("pairing").and_then(Value::as_str)
}

/// What is looked for in rows.
#[derive(Clone, Copy)]
struct Rows<'a> {
    docs: &'a [i64],
    sources: &'a [SourceDocument],
    sep: u32,
    /// Whether label 1 says that B stood before A.
    turned: bool,
    /// From so many tokens on, some may have been cut away between A and B (`--pairing bert`).
    full: usize,
    /// Whether a row may hold several documents.
    many: bool,
}

impl Rows<'_> {
    fn of_row(&self, split: &str, number: u64, row: &RowRef<'_>, found: &mut Vec<Use>) {
        let named = self.docs.contains(&row.doc_a) || self.docs.contains(&row.doc_b);
        if !named && (!self.many || self.sources.is_empty()) {
            return;
        }
        let ids = row.original_ids();
        let part = |start: usize, end: usize| ids.get(start..end).unwrap_or_default();
        let b_start = usize::from(row.b_start);
        let a = part(1, b_start.saturating_sub(1));
        let mut push = |segment, doc, first: u32, last: u32, ids: &[u32]| {
            found.push(Use {
                split: split.into(),
                row: number,
                segment,
                label: row.next_sentence_label,
                sentences: first..=last.max(first),
                open: true,
                doc,
                ids: ids.to_vec(),
            });
        };
        if !row.has_b() {
            let parts: Vec<&[u32]> = a.split(|&id| id == self.sep).collect();
            let last = parts.len() - 1;
            for (i, &part) in parts.iter().enumerate() {
                let (doc, first) = match i {
                    0 => (Some(row.doc_a), row.sentence_a),
                    i if i == last => (Some(row.doc_b), row.sentence_b),
                    // Documents between are there as a whole.
                    _ => {
                        let whole = self.sources.iter().find(|s| s.ids == part);
                        (whole.map(|s| s.doc), 0)
                    }
                };
                if let Some(doc) = doc.filter(|doc| self.docs.contains(doc)) {
                    push('A', doc, first, first, part);
                }
            }
            return;
        }
        // What comes first of a pair reaches at least to the sentence before the other's; that one may begin within a sentence.
        let joined = row.doc_a == row.doc_b && row.len() < self.full;
        let (mut a_last, mut b_last) = (row.sentence_a, row.sentence_b);
        match row.next_sentence_label {
            Some(NextSentenceLabel::IsNext) if joined => a_last = row.sentence_b.saturating_sub(1),
            Some(NextSentenceLabel::NotNext) if joined && self.turned => {
                b_last = row.sentence_a.saturating_sub(1);
            }
            _ => {}
        }
        if self.docs.contains(&row.doc_a) {
            push('A', row.doc_a, row.sentence_a, a_last, a);
        }
        if self.docs.contains(&row.doc_b) {
            let b = part(b_start, row.len().saturating_sub(1));
            push('B', row.doc_b, row.sentence_b, b_last, b);
        }
    }
}

impl Use {
    /// Its sentences: `4–6`, `4`, or `4…` where its end is not known.
    pub fn reach(&self) -> String {
        let (first, last) = (self.sentences.start(), self.sentences.end());
        let open = if self.open { "…" } else { "" };
        match first == last {
            true => format!("{first}{open}"),
            false => format!("{first}–{last}{open}"),
        }
    }

    pub fn role(&self, objective: Objective) -> &'static str {
        match (self.label, self.segment) {
            (Some(NextSentenceLabel::NotNext), 'A') if objective == Objective::Sop => {
                "B stood before"
            }
            (Some(NextSentenceLabel::NotNext), _) if objective == Objective::Sop => {
                "stood before A"
            }
            (Some(NextSentenceLabel::IsNext), 'A') => "B follows",
            (Some(NextSentenceLabel::IsNext), _) => "follows A",
            (Some(NextSentenceLabel::NotNext), 'A') => "B is random",
            (Some(NextSentenceLabel::NotNext), _) => "random",
            (None, _) => "no B",
        }
    }
}

#[cfg(test)]
mod tests {
    use cloze_shard::Row;

    use super::*;

    fn found(rows: &Rows<'_>, row: &Row) -> Vec<(char, String)> {
        let mut found = Vec::new();
        rows.of_row("train", 0, &row.view(), &mut found);
        found.iter().map(|u| (u.segment, u.reach())).collect()
    }

    /// What a row proves of where its segments end depends on what its label means, and on whether something may lie between them.
    #[test]
    fn no_more_is_said_than_is_known() {
        let row = |label, docs: (i64, i64), sentences: (u32, u32)| Row {
            input_ids: vec![2, 7, 8, 3, 9, 3],
            b_start: 4,
            next_sentence_label: NextSentenceLabel::from_i8(label),
            doc_a: docs.0,
            doc_b: docs.1,
            sentence_a: sentences.0,
            sentence_b: sentences.1,
            masks: None,
        };
        let any = Rows {
            docs: &[1],
            sources: &[],
            sep: 3,
            turned: false,
            full: usize::MAX,
            many: false,
        };
        let one = |a: &str, b: &str| vec![('A', a.to_owned()), ('B', b.to_owned())];
        let next = row(0, (1, 1), (2, 6));
        assert_eq!(found(&any, &next), one("2–5…", "6…"));
        assert_eq!(found(&Rows { full: 7, ..any }, &next), one("2–5…", "6…"));
        assert_eq!(found(&Rows { full: 6, ..any }, &next), one("2…", "6…"));
        assert_eq!(found(&any, &row(0, (1, 1), (2, 2))), one("2…", "2…"));
        let turned = row(1, (1, 1), (6, 2));
        assert_eq!(
            found(
                &Rows {
                    turned: true,
                    ..any
                },
                &turned
            ),
            one("6…", "2–5…")
        );
        assert_eq!(found(&any, &turned), one("6…", "2…"));
        assert_eq!(
            found(&any, &row(1, (1, 5), (2, 6))),
            [('A', "2…".to_owned())]
        );
        assert_eq!(
            found(&any, &row(1, (5, 1), (2, 6))),
            [('B', "6…".to_owned())]
        );
        assert!(found(&any, &row(1, (5, 6), (2, 6))).is_empty());
    }
}
