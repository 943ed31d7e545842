//! Tables and charts of how much there is of what.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use cloze_cli::format;
use cloze_page::Page;
use cloze_page::chart::{Axis, Bars};
use cloze_shard::manifest::{Manifest, Objective, SplitRecord};

use super::{Told, fine, share};
use crate::inspect::statistics::{Repeated, SourceTokens};
use crate::prepare::{split_header, split_row};

/// Sources, and tokens, that are listed.
const SOURCES: usize = 30;
const TOKENS: usize = 40;
/// Bars of the histogram.
const BARS: usize = 16;

impl Told<'_> {
    pub fn labels(&self, page: &mut Page) {
        let manifest = self.manifest();
        let rows: Vec<Vec<String>> = (manifest.splits.iter())
            .map(|(name, split)| {
                std::iter::once(name.clone())
                    .chain(split_row(split))
                    .collect()
            })
            .collect();
        let columns = split_header(manifest);
        let other = columns[6];
        let header: Vec<&str> = std::iter::once("split").chain(columns).collect();
        page.table(&header, &rows);
        if matches!(manifest.objective, Objective::Nsp | Objective::Sop) {
            let series = |name: &str, of: fn(&SplitRecord) -> u64| {
                let shares =
                    (manifest.splits.values()).map(|s| rounded(100.0 * share(of(s), s.rows)));
                (name.to_owned(), shares.collect())
            };
            page.chart(&Bars {
                title: "Labels".into(),
                x: "split".into(),
                y: Axis::new("% of the rows"),
                categories: manifest.splits.keys().cloned().collect(),
                series: vec![
                    series("is next", |s| s.labels.is_next),
                    series(other, |s| s.labels.not_next),
                    series("no label", |s| s.labels.none),
                ],
            });
        }
    }

    pub fn lengths(&self, page: &mut Page) {
        let manifest = self.manifest();
        let all: Vec<(&String, BTreeMap<u16, u64>)> =
            (manifest.splits.iter().map(|(n, s)| (n, s.lengths()))).collect();
        let ends = || all.iter().flat_map(|(_, l)| l.keys().copied());
        if let (Some(low), Some(high)) = (ends().min(), ends().max()) {
            page.chart(&histogram(&all, low, high));
        }
        let rows: Vec<Vec<String>> = (all.iter())
            .map(|(name, lengths)| length_row(name, lengths, manifest.max_seq_length))
            .collect();
        let header = [
            "split",
            "shortest",
            "5 %",
            "median",
            "95 %",
            "longest",
            "padding to the longest allowed",
        ];
        page.table(&header, &rows);
        page.remark(&format!(
            "Lengths include [CLS] and [SEP]; at most {} are allowed. Shards hold no padding: the last column is what a trainer would add that fills every row up to that.",
            manifest.max_seq_length
        ));
        let bins = bins(manifest);
        if !bins.is_empty() {
            page.heading("Bins");
            page.table(
                &["split", "bin", "rows", "tokens", "padding to the bin's end"],
                &bins,
            );
        }
    }

    pub fn sources(&self, page: &mut Page) {
        let manifest = self.manifest();
        let unnamed = SourceTokens::default();
        let total = self.tokens.text_tokens();
        let of = |i: usize| self.tokens.sources.get(i).copied().unwrap_or(unnamed);
        let mut order: Vec<usize> = (0..manifest.sources.len()).collect();
        order.sort_by_key(|&i| (Reverse(of(i).tokens), i));
        let row = |name: String, documents: String, bytes: String, t: SourceTokens| {
            vec![
                name,
                documents,
                bytes,
                format::count(t.tokens),
                format::percent(share(t.tokens, total)),
                fine(share(t.unknown, t.tokens)),
            ]
        };
        let mut rows: Vec<Vec<String>> = (order.iter().take(SOURCES))
            .map(|&i| {
                let source = &manifest.sources[i];
                let documents = format::count(source.documents);
                row(
                    source.path.clone(),
                    documents,
                    format::bytes(source.bytes),
                    of(i),
                )
            })
            .collect();
        if let Some(rest) = order.get(SOURCES..).filter(|rest| !rest.is_empty()) {
            let sum = rest.iter().fold(unnamed, |a, &i| SourceTokens {
                tokens: a.tokens + of(i).tokens,
                unknown: a.unknown + of(i).unknown,
            });
            let documents = rest.iter().map(|&i| manifest.sources[i].documents).sum();
            let bytes = rest.iter().map(|&i| manifest.sources[i].bytes).sum();
            let name = format!("{} others", format::count(rest.len() as u64));
            rows.push(row(
                name,
                format::count(documents),
                format::bytes(bytes),
                sum,
            ));
        }
        let lost = of(manifest.sources.len());
        if lost.tokens > 0 {
            rows.push(row(
                "not in the table of documents".into(),
                "–".into(),
                "–".into(),
                lost,
            ));
        }
        page.table(
            &[
                "source",
                "documents",
                "bytes",
                "tokens in rows",
                "share",
                "unknown",
            ],
            &rows,
        );
        page.remark("Tokens as they are in rows, so that text which is in several rows counts as often; of documents of one hash, the first source counts.");
    }

    pub fn repetition(&self, page: &mut Page) {
        let row = |name: String, r: &Repeated| {
            let counts = [r.all, r.distinct, r.again()].map(format::count);
            let mut cells = vec![name];
            cells.extend(counts);
            cells.extend([fine(r.share()), format::count(r.most)]);
            cells
        };
        let mut rows: Vec<Vec<String>> = (self.splits.iter())
            .map(|(name, s)| row(format!("rows, {name}"), &s.rows))
            .collect();
        rows.push(row("documents".into(), &self.documents));
        page.table(
            &[
                "",
                "all",
                "different",
                "repeat another",
                "share",
                "most often",
            ],
            &rows,
        );
        page.remark("Rows are equal that have the same tokens (masks undone) in the same segments and the same label; documents, that have the same hash: of their id where there is one, else of their text.");
    }

    pub fn tokens(&self, page: &mut Page) {
        let vocabulary = &self.opened.vocabulary;
        let total = self.tokens.text_tokens();
        let special = vocabulary.special().sorted();
        let entries = (0..vocabulary.len() as u32).filter(|id| !special.contains(id));
        let used = |id: &u32| self.tokens.tokens.get(*id as usize).is_some_and(|&n| n > 0);
        let (used, unused): (Vec<u32>, Vec<u32>) = entries.partition(used);
        page.pairs([
            ("tokens of text", format::count(total)),
            (
                "unknown",
                format!(
                    "{} ({})",
                    format::count(self.unknown()),
                    fine(share(self.unknown(), total))
                ),
            ),
            (
                "rows with unknown tokens",
                format::count(self.splits.iter().map(|(_, s)| s.rows_unknown).sum()),
            ),
            (
                "entries that occur",
                format!(
                    "{} of {}",
                    format::count(used.len() as u64),
                    format::count((used.len() + unused.len()) as u64)
                ),
            ),
        ]);
        let rows: Vec<Vec<String>> = (self.tokens.most_frequent(TOKENS).iter().zip(1..))
            .map(|(&(id, count), rank)| {
                let name = self.opened.token(id).to_owned();
                let share = format!("{:.2} %", 100.0 * share(count, total));
                vec![
                    rank.to_string(),
                    name,
                    id.to_string(),
                    format::count(count),
                    share,
                ]
            })
            .collect();
        page.details(&format!("The {} most frequent", rows.len()), |page| {
            page.table(&["rank", "token", "id", "count", "share"], &rows);
        });
    }
}

/// As many digits as are looked at.
fn rounded(percent: f64) -> f64 {
    (100.0 * percent).round() / 100.0
}

/// Rows by length, as shares of each split.
fn histogram(splits: &[(&String, BTreeMap<u16, u64>)], low: u16, high: u16) -> Bars {
    let span = usize::from(high - low) + 1;
    let width = span.div_ceil(BARS);
    let bar = |length: u16| usize::from(length - low) / width;
    let series = splits.iter().map(|(name, lengths)| {
        let total: u64 = lengths.values().sum();
        let mut bars = vec![0.0; span.div_ceil(width)];
        for (&length, &n) in lengths {
            bars[bar(length)] += 100.0 * share(n, total);
        }
        let bars = bars.into_iter().map(rounded).collect();
        ((*name).clone(), bars)
    });
    let category = |i: usize| {
        let first = usize::from(low) + i * width;
        match (first + width - 1).min(usize::from(high)) {
            last if last == first => first.to_string(),
            last => format!("{first}–{last}"),
        }
    };
    Bars {
        title: "Row lengths".into(),
        x: "tokens".into(),
        y: Axis::new("% of the rows"),
        categories: (0..span.div_ceil(width)).map(category).collect(),
        series: series.collect(),
    }
}

/// Percentiles, and what padding would take.
fn length_row(name: &str, lengths: &BTreeMap<u16, u64>, most: u16) -> Vec<String> {
    let shown = |n: Option<u16>| n.map_or_else(|| "–".into(), |n| n.to_string());
    let mut row = vec![name.to_owned()];
    row.extend([0.0, 0.05, 0.5, 0.95, 1.0].map(|q| shown(quantile(lengths, q))));
    let tokens = lengths.iter().map(|(&l, n)| u64::from(l) * n).sum();
    row.push(padding(tokens, lengths.values().sum(), most));
    row
}

/// The share of places that are padding, where so many rows are filled up to a length.
fn padding(tokens: u64, rows: u64, length: u16) -> String {
    format::percent(1.0 - share(tokens, rows * u64::from(length)).min(1.0))
}

/// The length that a share `q` of the rows does not exceed.
fn quantile(lengths: &BTreeMap<u16, u64>, q: f64) -> Option<u16> {
    let rows: u64 = lengths.values().sum();
    let place = ((q * rows as f64).ceil() as u64).max(1);
    let mut before = 0;
    lengths.iter().find_map(|(&length, n)| {
        before += n;
        (before >= place).then_some(length)
    })
}

/// Of each bin: its split, its end, rows, tokens, and padding up to its end. Bins are told by their shards' names.
fn bins(manifest: &Manifest) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (split, record) in &manifest.splits {
        let mut bins: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
        for shard in &record.shards {
            let file = shard.file.path.rsplit('/').next().unwrap_or_default();
            let end = file.strip_prefix("to-").and_then(|f| f.split('-').next());
            if let Some(end) = end.and_then(|end| end.parse().ok()) {
                let bin = bins.entry(end).or_default();
                bin.0 += shard.rows;
                bin.1 += shard.tokens;
            }
        }
        let mut first = 1;
        for (end, (count, tokens)) in bins {
            let [n, t] = [count, tokens].map(format::count);
            rows.push(vec![
                split.clone(),
                format!("{first}–{end}"),
                n,
                t,
                padding(tokens, count, end),
            ]);
            first = end.saturating_add(1);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_lengths_that_occur() {
        let lengths = BTreeMap::from([(3, 1), (10, 8), (20, 1)]);
        let of = |q| quantile(&lengths, q);
        assert_eq!(
            [0.0, 0.1, 0.11, 0.5, 0.9, 0.91, 1.0]
                .map(of)
                .map(Option::unwrap),
            [3, 3, 10, 10, 10, 20, 20]
        );
        assert_eq!(quantile(&BTreeMap::new(), 0.5), None);
        assert_eq!(
            length_row("x", &lengths, 20),
            ["x", "3", "3", "10", "20", "20", "48.5 %"]
        );
    }

    #[test]
    fn small_shares_are_not_nothing() {
        assert_eq!(
            [0.0, 1e-7, 0.00012, 0.0123].map(fine),
            ["0 %", "under 0.001 %", "0.012 %", "1.2 %"]
        );
    }
}
