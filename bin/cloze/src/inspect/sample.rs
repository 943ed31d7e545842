//! Rows for a person: segments decoded, label, origin, masks.

use cloze_cli::visible;
use cloze_shard::manifest::Objective;
use cloze_shard::masking::{MaskKey, Masker};
use cloze_shard::random::{Key, Permutation, Stage};
use cloze_shard::{NextSentenceLabel, RowRef, Split};
use serde_json::{Value, json};

use super::Opened;

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
    pub tokens: Vec<Token>,
    pub doc: i64,
    pub sentence: u32,
    pub origin: Option<String>,
}

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub id: u32,
    /// Where it is to be predicted: what the model sees in its place.
    pub seen: Option<u32>,
}

/// How the trainer would mask a row that has no masks of its own.
pub struct Preview {
    pub masker: Masker,
    pub seed: u64,
    pub epoch: u32,
}

/// `count` rows of `split`, drawn by `seed`, in order of their number.
pub fn draw(split: &Split, count: u64, seed: u64) -> Vec<u64> {
    let order = Permutation::new(Key::new(seed, Stage::Sample), 0, 0, split.rows());
    let mut rows: Vec<u64> = (0..count.min(split.rows())).map(|i| order.at(i)).collect();
    rows.sort_unstable();
    rows
}

/// The tokens of row `number`, with its own masks where it has them, else with those of `preview`, as a trainer of this dataset alone draws them.
pub fn tokens(row: &RowRef<'_>, number: u64, preview: Option<&Preview>) -> Vec<Token> {
    let original = row.original_ids();
    let plain = |&id: &u32| Token { id, seen: None };
    let mut tokens: Vec<Token> = original.iter().map(plain).collect();
    if let Some(masks) = row.masks {
        for &position in masks.positions {
            let position = usize::from(position);
            if let Some(token) = tokens.get_mut(position) {
                token.seen = row.input_ids.get(position);
            }
        }
    } else if let Some(preview) = preview {
        let key = MaskKey::new(preview.seed, Stage::DynamicMask, preview.epoch);
        let (mut ids, mut positions, mut labels) = (original, Vec::new(), Vec::new());
        preview
            .masker
            .mask(key, number, &mut ids, &mut positions, &mut labels);
        for position in positions.into_iter().map(usize::from) {
            tokens[position].seen = Some(ids[position]);
        }
    }
    tokens
}

/// Decodes row `number`.
pub fn decode(opened: &Opened, split: &Split, number: u64, preview: Option<&Preview>) -> Decoded {
    let row = split.row(number);
    let (shard, _) = split.locate(number);
    let tokens = tokens(&row, number, preview);
    let b_start = usize::from(row.b_start);
    let segment = |name, range: std::ops::Range<usize>, doc, sentence| Segment {
        name,
        tokens: tokens.get(range).map_or_else(Vec::new, <[Token]>::to_vec),
        doc,
        sentence,
        origin: origin(opened, doc),
    };
    let mut segments = vec![segment(
        "A",
        1..b_start.saturating_sub(1),
        row.doc_a,
        row.sentence_a,
    )];
    if row.has_b() {
        let range = b_start..row.len().saturating_sub(1);
        segments.push(segment("B", range, row.doc_b, row.sentence_b));
    }
    let path = split.shards()[shard].path();
    let shard = path
        .strip_prefix(opened.dataset.path())
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

/// Where a document comes from.
pub fn origin(opened: &Opened, doc: i64) -> Option<String> {
    let found = opened.documents.find(doc);
    let first = found.first()?;
    let source = opened
        .dataset
        .manifest()
        .sources
        .get(first.source as usize)?;
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

/// What a label says.
pub fn label(label: Option<NextSentenceLabel>, objective: Objective) -> &'static str {
    match label {
        Some(NextSentenceLabel::NotNext) if objective == Objective::Sop => "B stood before A (1)",
        Some(NextSentenceLabel::IsNext) => "B follows A (0)",
        Some(NextSentenceLabel::NotNext) => "B is random (1)",
        None => "one segment, no label",
    }
}

impl Segment {
    /// Its words; tokens that are predicted as `{original→seen}`.
    pub fn text(&self, opened: &Opened) -> String {
        let mut text = String::new();
        for token in &self.tokens {
            let name = opened.token(token.id);
            if let Some(seen) = token.seen {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(&format!("{{{name}→{}}}", opened.token(seen)));
                continue;
            }
            match name
                .strip_prefix("##")
                .filter(|rest| !rest.is_empty() && !text.is_empty())
            {
                Some(rest) => text.push_str(rest),
                None => {
                    if !text.is_empty() {
                        text.push(' ');
                    }
                    text.push_str(name);
                }
            }
        }
        text
    }
}

impl Decoded {
    /// For a person, on a terminal.
    pub fn text(&self, opened: &Opened) -> String {
        let mut out = format!(
            "row {} · {} · {} tokens · {}\n",
            self.row,
            visible(&self.shard),
            self.tokens,
            label(self.label, opened.dataset.manifest().objective)
        );
        for segment in &self.segments {
            let origin = segment
                .origin
                .as_deref()
                .unwrap_or("origin not in the table of documents");
            let text = segment.text(opened);
            out.push_str(&format!("  {} │ {}\n", segment.name, visible(&text)));
            out.push_str(&format!(
                "    └ {}, sentence {} · doc {:016x}\n",
                visible(origin),
                segment.sentence,
                segment.doc
            ));
        }
        out
    }

    /// For a program.
    pub fn json(&self, opened: &Opened) -> Value {
        let segments: Vec<Value> = self
            .segments
            .iter()
            .map(|s| json!({"segment": s.name, "text": s.text(opened), "doc": s.doc, "sentence": s.sentence, "origin": s.origin}))
            .collect();
        json!({
            "row": self.row, "shard": self.shard, "tokens": self.tokens,
            "next_sentence_label": self.label.map(|l| l as i8), "segments": segments,
        })
    }
}
