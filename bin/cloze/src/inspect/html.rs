//! A dataset as one page.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use cloze_cli::format;
use cloze_cli::progress::{Unit, Work};
use cloze_page::chart::{Axis, Bars};
use cloze_page::{Kind, Page, Piece};
use cloze_shard::atomic;
use cloze_shard::manifest::{Manifest, Masking, Objective, SplitRecord};
use cloze_shard::masking::{Masker, MaskingRule};
use serde_json::Value;

use super::sample::{self, Decoded, Preview, Segment, Token};
use super::statistics::{Repeated, SourceTokens, Sources, Statistics, gather, repeated_documents};
use super::{InspectArgs, Opened, summary};
use crate::prepare::split_row;

/// Sources, and tokens, that are listed.
const SOURCES: usize = 30;
const TOKENS: usize = 40;
/// Bars of the histogram.
const BARS: usize = 16;

/// What the page tells of.
struct Told<'a> {
    opened: &'a Opened,
    splits: Vec<(&'a str, Statistics)>,
    /// Of all splits.
    tokens: Statistics,
    documents: Repeated,
    samples: Vec<(Decoded, Option<String>)>,
    preview: Preview,
}

pub fn run(args: &InspectArgs, opened: &Opened, report: &Path) -> anyhow::Result<()> {
    let rule = MaskingRule {
        rate: args.mask_rate,
        unit: args.mask_unit.into(),
        ..MaskingRule::default()
    };
    let preview = Preview {
        masker: Masker::of(rule, &opened.vocabulary)?,
        seed: args.seed,
        epoch: 0,
    };
    let shown = opened.split(&args.split)?;
    let rows = opened.dataset.splits().map(|(_, s)| s.rows()).sum();
    let work = Work::begin("read", Unit::Things("rows"), rows);
    let sources = Sources::new(opened);
    let mut splits = Vec::new();
    for (name, split) in opened.dataset.splits() {
        splits.push((name, gather(opened, split, &sources)));
        work.advance(split.rows());
    }
    work.end();
    let all = splits.iter().map(|(_, s)| s.clone());
    let tokens = all.reduce(|a, b| a.with_tokens_of(&b)).unwrap_or_default();
    let drawn = sample::draw(shown, args.rows, args.seed).into_iter();
    let mut samples: Vec<(Decoded, Option<String>)> = drawn
        .map(|row| (sample::decode(opened, shown, row, Some(&preview)), None))
        .collect();
    for (name, statistics) in &splits {
        if let (Some(split), Some(&(unknown, row))) =
            (opened.dataset.split(name), statistics.worst.first())
        {
            let why = format!("most [UNK] of {name}, {unknown}");
            samples.push((
                sample::decode(opened, split, row, Some(&preview)),
                Some(why),
            ));
        }
    }
    let told = Told {
        opened,
        splits,
        tokens,
        documents: repeated_documents(opened),
        samples,
        preview,
    };
    let page = told.page().html();
    atomic::write(report, page.as_bytes())
        .with_context(|| format!("cannot write {}", report.display()))?;
    Ok(())
}

/// As a dataset is called: the end of its path.
fn name(opened: &Opened) -> String {
    let path = std::path::absolute(opened.dataset.path()).ok();
    let path = path.as_deref().unwrap_or(opened.dataset.path());
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    name.unwrap_or_else(|| path.display().to_string())
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}

/// A small share: `0.013 %`.
fn fine(share: f64) -> String {
    match 100.0 * share {
        p if p == 0.0 => "0 %".into(),
        p if p < 0.001 => "under 0.001 %".into(),
        p if p < 0.1 => format!("{p:.3} %"),
        p => format!("{p:.1} %"),
    }
}

impl Told<'_> {
    fn manifest(&self) -> &Manifest {
        self.opened.dataset.manifest()
    }

    fn page(&self) -> Page {
        let mut page = Page::new(&format!("Dataset: {}", name(self.opened)), &self.lead());
        page.figures(&self.figures());
        page.section("Rows and labels");
        self.labels(&mut page);
        page.section("Lengths");
        self.lengths(&mut page);
        page.section("Sources");
        self.sources(&mut page);
        page.section("Repetition");
        self.repetition(&mut page);
        page.section("Tokens");
        self.tokens(&mut page);
        page.section("Rows");
        self.rows(&mut page);
        page.section("Configuration");
        self.configuration(&mut page);
        page
    }

    fn lead(&self) -> String {
        let manifest = self.manifest();
        let (rows, tokens) = manifest
            .splits
            .values()
            .fold((0, 0), |(r, t), s| (r + s.rows, t + s.tokens));
        let mut labels = cloze_shard::manifest::LabelCounts::default();
        manifest.splits.values().for_each(|s| labels += s.labels);
        let again: u64 = self.splits.iter().map(|(_, s)| s.rows.again()).sum();
        let pairs = match (manifest.objective, labels.not_next_ratio()) {
            (Objective::Nsp, Some(r)) => {
                format!(" In {} of the pairs, B is random.", format::percent(r))
            }
            (Objective::Sop, Some(r)) => {
                format!(" In {} of the pairs, B stood before A.", format::percent(r))
            }
            _ => " No row is a pair.".into(),
        };
        let unknown = share(self.unknown(), self.tokens.text_tokens());
        format!(
            "{} rows of {:.1} tokens on average.{pairs} {} of the rows repeat another; {} of the tokens are unknown to the vocabulary.",
            format::count(rows),
            tokens as f64 / rows.max(1) as f64,
            fine(share(again, rows)),
            fine(unknown),
        )
    }

    fn unknown(&self) -> u64 {
        let id = self.opened.vocabulary.special().unk as usize;
        self.tokens.tokens.get(id).copied().unwrap_or(0)
    }

    fn figures(&self) -> Vec<(&'static str, String)> {
        let manifest = self.manifest();
        let sum = |of: fn(&SplitRecord) -> u64| manifest.splits.values().map(of).sum::<u64>();
        let bytes = |s: &SplitRecord| s.shards.iter().map(|s| s.file.bytes).sum();
        vec![
            ("documents", format::count(sum(|s| s.documents))),
            ("rows", format::count(sum(|s| s.rows))),
            ("tokens", format::short(sum(|s| s.tokens) as f64)),
            ("sources", format::count(manifest.sources.len() as u64)),
            (
                "vocabulary",
                format::count(manifest.tokenizer.vocab_size as u64),
            ),
            ("shards", format::bytes(sum(bytes))),
        ]
    }

    fn labels(&self, page: &mut Page) {
        let manifest = self.manifest();
        let other = match manifest.objective {
            Objective::Sop => "B before A",
            _ => "random",
        };
        let rows: Vec<Vec<String>> = (manifest.splits.iter())
            .map(|(name, split)| split_row(name, split))
            .collect();
        let header = [
            "split",
            "documents",
            "rows",
            "tokens",
            "mean length",
            "shards",
            "is next",
            other,
            "no label",
            "share",
        ];
        page.table(&header, &rows);
        if matches!(manifest.objective, Objective::Nsp | Objective::Sop) {
            let series = |name: &str, of: fn(&SplitRecord) -> u64| {
                let shares = (manifest.splits.values()).map(|s| 100.0 * share(of(s), s.rows));
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

    fn lengths(&self, page: &mut Page) {
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

    fn sources(&self, page: &mut Page) {
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

    fn repetition(&self, page: &mut Page) {
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

    fn tokens(&self, page: &mut Page) {
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
        page.heading("Most frequent");
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

    fn rows(&self, page: &mut Page) {
        let masks = match self.manifest().masking {
            Masking::Static { rule } => {
                format!("Masks are those in the shards ({}).", summary::masks(&rule))
            }
            Masking::Dynamic => format!(
                "Masks are those that the trainer draws with seed {} in epoch 0 ({}).",
                self.preview.seed,
                summary::masks(self.preview.masker.rule())
            ),
        };
        page.remark(&format!(
            "Rows drawn at random. {masks} Hidden words are boxed; what a random word stands for is crossed with it (real → seen), and what is predicted but can be seen is marked (=)."
        ));
        for (row, why) in &self.samples {
            let why = why
                .as_ref()
                .map_or_else(String::new, |why| format!(" · {why}"));
            let label = sample::label(row.label, self.manifest().objective);
            page.heading(&format!("Row {} · {}{why}", row.row, row.shard));
            page.paragraph(&format!("{label} · {} tokens", row.tokens));
            for segment in &row.segments {
                let origin = segment.origin.as_deref();
                let origin = origin.unwrap_or("origin not in the table of documents");
                let heading = format!("{} · {origin}, sentence {}", segment.name, segment.sentence);
                page.sample(&heading, &self.pieces(segment));
            }
        }
    }

    fn pieces(&self, segment: &Segment) -> Vec<Piece> {
        let vocabulary = &self.opened.vocabulary;
        let mut pieces = Vec::new();
        for (i, token) in segment.tokens.iter().enumerate() {
            let continues = vocabulary.is_continuation(token.id);
            if i > 0 && !continues {
                pieces.push(Piece::new(" ", Kind::Plain));
            }
            let name = self.opened.token(token.id);
            let bare = if continues { &name[2..] } else { name };
            pieces.push(self.piece(token, bare));
        }
        pieces
    }

    fn piece(&self, token: &Token, bare: &str) -> Piece {
        let special = self.opened.vocabulary.special();
        let (text, kind, note) = match token.seen {
            None if special.sorted().contains(&token.id) => (bare.to_owned(), Kind::Faint, ""),
            None => (bare.to_owned(), Kind::Plain, ""),
            Some(seen) if seen == special.mask => {
                (bare.to_owned(), Kind::Hidden, "the model sees [MASK]")
            }
            Some(seen) if seen == token.id => (
                format!("{bare}="),
                Kind::Right,
                "predicted, though the model sees it",
            ),
            Some(seen) => {
                let text = format!("{bare} → {}", self.opened.token(seen));
                (text, Kind::Wrong, "the model sees a random token")
            }
        };
        Piece {
            text,
            kind,
            note: note.into(),
        }
    }

    fn configuration(&self, page: &mut Page) {
        let manifest = self.manifest();
        page.pairs(summary::facts(manifest));
        page.heading("Options of the preparation");
        let options = manifest.config.as_object().into_iter().flatten();
        page.pairs(options.map(|(name, value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Null => "–".into(),
                other => other.to_string(),
            };
            (name.clone(), value)
        }));
        let counts = manifest.counts.iter();
        let counts = counts.map(|(name, n)| (name.replace('_', " "), format::count(*n)));
        page.details("What preparation counted", |page| page.pairs(counts));
        let skipped = manifest.sources.iter().flat_map(|s| {
            let each = s.skipped.iter();
            each.map(|(why, n)| vec![s.path.clone(), why.clone(), format::count(*n)])
        });
        let skipped: Vec<Vec<String>> = skipped.collect();
        if !skipped.is_empty() {
            page.details("What was passed over", |page| {
                page.table(&["source", "why", "times"], &skipped);
            });
        }
        let tokenizer = manifest.tokenizer.files.iter().map(|f| (f, String::new()));
        let shards = manifest.splits.values().flat_map(|s| &s.shards);
        let shards = shards.map(|s| (&s.file, format::count(s.rows)));
        let files = std::iter::once((&manifest.documents, String::new()));
        let files: Vec<Vec<String>> = (files.chain(tokenizer).chain(shards))
            .map(|(file, rows)| {
                vec![
                    file.path.clone(),
                    format::bytes(file.bytes),
                    rows,
                    file.blake3.clone(),
                ]
            })
            .collect();
        page.details("Files and their digests (blake3)", |page| {
            page.table(&["file", "bytes", "rows", "digest"], &files);
        });
        let sources: Vec<Vec<String>> = (manifest.sources.iter())
            .map(|s| vec![s.path.clone(), format::bytes(s.bytes), s.blake3.clone()])
            .collect();
        page.details("Sources and their digests (blake3)", |page| {
            page.table(&["source", "bytes", "digest"], &sources);
        });
        page.pairs([
            ("vocabulary", manifest.tokenizer.vocab_digest.clone()),
            ("manifest", manifest.digest()),
        ]);
    }
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
