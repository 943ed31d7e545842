//! A dataset as one page.

mod numbers;
mod rows;

use std::path::Path;

use anyhow::Context;
use cloze_cli::format;
use cloze_cli::progress::{Unit, Work};
use cloze_page::Page;
use cloze_shard::atomic;
use cloze_shard::manifest::{LabelCounts, Manifest, Objective, SplitRecord};
use cloze_shard::masking::{Masker, MaskingRule};

use super::hashes::RowHasher;
use super::sample::{self, Decoded, Preview};
use super::statistics::{Repeated, Sources, Statistics, gather, repeated_documents};
use super::{InspectArgs, Opened};
use crate::written;

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
    written::may_be("--html", report, &args.dataset, "<!DOCTYPE html>")?;
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
        if let (Some(split), Some(hash)) = (opened.dataset.split(name), statistics.rows.example) {
            let hasher = RowHasher::new(&opened.vocabulary);
            let first = (0..split.rows()).find(|&row| hasher.hash(&split.row(row)) == hash);
            if let Some(row) = first {
                let times = format::count(statistics.rows.most);
                let why = format!("{times} times in {name}");
                samples.push((
                    sample::decode(opened, split, row, Some(&preview)),
                    Some(why),
                ));
            }
        }
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
        0.0 => "0 %".into(),
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
        let mut labels = LabelCounts::default();
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
}
