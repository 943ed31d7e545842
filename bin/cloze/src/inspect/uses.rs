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
