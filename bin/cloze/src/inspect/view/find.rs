//! Looking for a row that holds a text or a document, a slice at a time, so that keys are heard meanwhile.

use std::ops::Range;

use cloze_shard::{RowRef, Split};

use super::words::{Pattern, Words};

/// Rows that are looked at between two looks at the keys.
const SLICE: u64 = 4_096;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Text(Pattern),
    /// Hashes of documents, and what they were called.
    Documents(Vec<i64>, String),
}

impl Wanted {
    /// For a person.
    pub fn name(&self) -> String {
        match self {
            Self::Text(pattern) => format!("{:?}", pattern.typed),
            Self::Documents(_, name) => format!("document {name:?}"),
        }
    }
}

/// A search that is under way.
pub struct Search {
    first: u64,
    /// Whether `first` is on the other side of the split's end already.
    turned: bool,
    forward: bool,
    next: u64,
    done: u64,
    /// Memory that is used again.
    text: String,
    places: Vec<Range<usize>>,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    NotYet,
    At(u64),
    Nowhere,
}

impl Search {
    /// From row `first` on, which is looked at first; every row once.
    pub fn new(first: u64, forward: bool) -> Self {
        Self {
            first,
            turned: false,
            forward,
            next: first,
            done: 0,
            text: String::new(),
            places: Vec::new(),
        }
    }

    /// From the row after `row`, or before it, of so many.
    pub fn beside(row: u64, rows: u64, forward: bool) -> Self {
        let first = neighbour(row, rows, forward);
        let turned = if forward { first <= row } else { first >= row };
        Self {
            turned,
            ..Self::new(first, forward)
        }
    }

    /// The share of the rows that were looked at.
    pub fn share(&self, split: &Split) -> f64 {
        self.done as f64 / split.rows().max(1) as f64
    }

    /// Whether a row that was found is on the other side of the split's end.
    pub fn came_round(&self, found: u64) -> Option<&'static str> {
        match self.forward {
            true if self.turned || found < self.first => Some("went on from the first row"),
            false if self.turned || found > self.first => Some("went on from the last row"),
            _ => None,
        }
    }

    /// Looks at some more rows.
    pub fn go_on(&mut self, split: &Split, wanted: &Wanted, words: &Words) -> Found {
        let rows = split.rows();
        for _ in 0..SLICE.min(rows - self.done.min(rows)) {
            let here = self.next;
            self.done += 1;
            self.next = neighbour(here, rows, self.forward);
            if self.holds(&split.row(here), wanted, words) {
                return Found::At(here);
            }
        }
        if self.done < rows {
            Found::NotYet
        } else {
            Found::Nowhere
        }
    }

    fn holds(&mut self, row: &RowRef<'_>, wanted: &Wanted, words: &Words) -> bool {
        match wanted {
            Wanted::Documents(docs, _) => docs.contains(&row.doc_a) || docs.contains(&row.doc_b),
            Wanted::Text(pattern) => {
                let segments = match row.masks {
                    None => [row.segment_a().to_vec(), row.segment_b().to_vec()],
                    Some(_) => {
                        let ids = row.original_ids();
                        let b_start = usize::from(row.b_start);
                        let part = |start: usize, end: usize| {
                            ids.get(start..end).unwrap_or_default().to_vec()
                        };
                        let end = ids.len().saturating_sub(1);
                        [part(1, b_start.saturating_sub(1)), part(b_start, end)]
                    }
                };
                segments.into_iter().any(|ids| {
                    words.write(ids.into_iter(), &mut self.text, &mut self.places);
                    pattern.is_in(&self.text)
                })
            }
        }
    }
}

/// The row after, or before, `row` of so many; the first after the last.
fn neighbour(row: u64, rows: u64, forward: bool) -> u64 {
    match forward {
        true if row + 1 >= rows => 0,
        true => row + 1,
        false if row == 0 => rows.saturating_sub(1),
        false => row - 1,
    }
}
