//! Rows for a person: segments decoded, label, origin, masks.

use cloze_shard::documents::Documents;
use cloze_shard::random::{Key, Permutation, Stage};
use cloze_shard::{Dataset, NextSentenceLabel, RowRef, Split, Vocabulary};
use serde_json::{Value, json};

/// A row, decoded.
pub struct Decoded {
    pub row: u64,
    pub shard: String,
    pub tokens: usize,
    pub label: Option<NextSentenceLabel>,
    pub segments: Vec<Segment>,
}

/// A segment, decoded, with where it comes from.
pub struct Segment {
    pub name: &'static str,
    pub text: String,
    pub doc: i64,
    pub sentence: u32,
    pub origin: Option<String>,
}

/// `count` rows of `split`, drawn by `seed`, in order of their number.
pub fn draw(split: &Split, count: u64, seed: u64) -> Vec<u64> {
    let order = Permutation::new(Key::new(seed, Stage::Sample), 0, 0, split.rows());
    let mut rows: Vec<u64> = (0..count.min(split.rows())).map(|i| order.at(i)).collect();
    rows.sort_unstable();
    rows
}

/// Decodes row `number`.
pub fn decode(
    dataset: &Dataset,
    split: &Split,
    documents: &Documents,
    vocabulary: &Vocabulary,
    number: u64,
) -> Decoded {
    let row = split.row(number);
    let (shard, _) = split.locate(number);
    let words = words(&row, vocabulary);
    let b_start = usize::from(row.b_start);
    let mut segments = vec![segment(
        "A",
        words.get(1..b_start.saturating_sub(1)),
        row.doc_a,
        row.sentence_a,
    )];
    if row.has_b() {
        segments.push(segment(
            "B",
            words.get(b_start..row.len().saturating_sub(1)),
            row.doc_b,
            row.sentence_b,
        ));
    }
    for segment in &mut segments {
        segment.origin = origin(dataset, documents, segment.doc);
    }
    let path = split.shards()[shard].path();
    let shard = path
        .strip_prefix(dataset.path())
        .unwrap_or(path)
        .display()
        .to_string();
    Decoded {
        row: number,
        shard,
        tokens: row.len(),
        label: row.next_sentence_label,
        segments,
    }
}

fn segment(name: &'static str, words: Option<&[String]>, doc: i64, sentence: u32) -> Segment {
    let mut text = String::new();
    for word in words.unwrap_or_default() {
        match word
            .strip_prefix("##")
            .filter(|rest| !rest.is_empty() && !text.is_empty())
        {
            Some(rest) => text.push_str(rest),
            None => {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(word);
            }
        }
    }
    Segment {
        name,
        text,
        doc,
        sentence,
        origin: None,
    }
}

/// Every token as text; one that is predicted as `{original→seen}`.
fn words(row: &RowRef<'_>, vocabulary: &Vocabulary) -> Vec<String> {
    let name = |id: u32| {
        vocabulary
            .token(id)
            .unwrap_or("<outside the vocabulary>")
            .to_owned()
    };
    let mut words: Vec<String> = row.input_ids.iter().map(name).collect();
    if let Some(masks) = row.masks {
        for (&position, label) in masks.positions.iter().zip(masks.labels.iter()) {
            let word = &mut words[usize::from(position)];
            *word = format!("{{{}→{word}}}", name(label));
        }
    }
    words
}

fn origin(dataset: &Dataset, documents: &Documents, doc: i64) -> Option<String> {
    let found = documents.find(doc);
    let first = found.first()?;
    let source = dataset.manifest().sources.get(first.source as usize)?;
    let id = first
        .id
        .as_ref()
        .map_or_else(String::new, |id| format!(" id {id:?}"));
    let more = if found.len() > 1 {
        format!(" (and {} more of the same text)", found.len() - 1)
    } else {
        String::new()
    };
    Some(format!(
        "{} document {}{id}{more}",
        source.path, first.index
    ))
}

impl Decoded {
    /// For a person.
    pub fn text(&self) -> String {
        let label = match self.label {
            Some(NextSentenceLabel::IsNext) => "B follows A (0)",
            Some(NextSentenceLabel::NotNext) => "B is random (1)",
            None => "one segment, no label",
        };
        let mut out = format!(
            "row {} · {} · {} tokens · {label}\n",
            self.row, self.shard, self.tokens
        );
        for segment in &self.segments {
            let origin = segment
                .origin
                .as_deref()
                .unwrap_or("origin not in the table of documents");
            out.push_str(&format!("  {} │ {}\n", segment.name, segment.text));
            out.push_str(&format!(
                "    └ {origin}, sentence {} · doc {:016x}\n",
                segment.sentence, segment.doc
            ));
        }
        out
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let segments: Vec<Value> = self
            .segments
            .iter()
            .map(|s| json!({"segment": s.name, "text": s.text, "doc": s.doc, "sentence": s.sentence, "origin": s.origin}))
            .collect();
        json!({
            "row": self.row, "shard": self.shard, "tokens": self.tokens,
            "next_sentence_label": self.label.map(|l| l as i8), "segments": segments,
        })
    }
}
