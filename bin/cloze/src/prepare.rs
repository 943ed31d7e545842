//! `cloze prepare`

use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Context;
use cloze_cli::progress::{Unit, Work};
use cloze_cli::{Status, format, table};
use cloze_prep::{Progress, Report, Stage};
use cloze_shard::manifest::{Manifest, Objective, SplitRecord};

use crate::cli::PrepareArgs;
use crate::written;

/// Preparation's stages as bars.
#[derive(Default)]
pub struct Bars(Mutex<Option<std::sync::Arc<Work>>>);

impl Bars {
    fn current(&self) -> Option<std::sync::Arc<Work>> {
        self.0.lock().ok().and_then(|work| work.clone())
    }
}

impl Progress for Bars {
    fn begin(&self, stage: Stage, total: u64) {
        let unit = match stage {
            Stage::Tokenize => Unit::Bytes,
            Stage::Deduplicate | Stage::Pair => Unit::Things("documents"),
            Stage::Find | Stage::Gather | Stage::Write => Unit::Things("rows"),
        };
        if let Ok(mut work) = self.0.lock() {
            *work = Some(std::sync::Arc::new(Work::begin(stage.name(), unit, total)));
        }
    }

    fn advance(&self, amount: u64) {
        if let Some(work) = self.current() {
            work.advance(amount);
        }
    }

    fn was_done(&self, amount: u64) {
        if let Some(work) = self.current() {
            work.was_done(amount);
        }
    }

    fn count(&self, documents: u64, tokens: u64) {
        if let Some(work) = self.current() {
            work.count(documents, tokens);
        }
    }

    fn say(&self, text: &str) {
        // Nothing can be done about a standard error that is closed.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn end(&self) {
        let work = self.0.lock().ok().and_then(|mut work| work.take());
        if let Some(work) = work.and_then(std::sync::Arc::into_inner) {
            work.end();
        }
    }
}

pub fn run(args: &PrepareArgs) -> anyhow::Result<Status> {
    let started = Instant::now();
    if let Some(path) = &args.report {
        written::may_be("--report", path, &args.out, "{\n  \"documents\": ")?;
    }
    let (out, tokens) = (args.out.clone(), args.work.tokens.clone());
    cloze_cli::when_stopped(move || cloze_prep::left_in(&out, tokens.as_deref()))?;
    let report = cloze_prep::prepare(
        &args.inputs.all()?,
        &args.tokenizer,
        &args.out,
        &args.config,
        &args.work,
        &Bars::default(),
    )?;
    for warning in &report.warnings {
        writeln!(std::io::stderr(), "warning: {warning}")?;
    }
    if let (Some(path), None) = (&args.report, &report.cleaning) {
        let path = path.display();
        writeln!(
            std::io::stderr(),
            "warning: {path} was not written: the dataset was whole already, so nothing was read, and what cleaning did is told only by tokens that were kept \
             (--tokens DIR); delete the dataset, or give another --out, to have it written"
        )?;
    }
    if let (Some(path), Some(cleaning)) = (&args.report, &report.cleaning) {
        let mut text = serde_json::to_string_pretty(cleaning)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    if let Some(cleaning) = report
        .cleaning
        .as_ref()
        .filter(|_| !args.config.clean.is_off())
    {
        let lines = cleaning.lines().into_iter();
        let rows: Vec<_> = lines
            .map(|(what, count)| vec![what, format::count(count)])
            .collect();
        writeln!(std::io::stderr(), "{}", table(&["cleaning", ""], &rows))?;
    }
    let mut out = std::io::stdout().lock();
    write!(out, "{}", summary(&report))?;
    let bytes = report
        .manifest
        .counts
        .get("text_bytes")
        .copied()
        .unwrap_or(0);
    let seconds = started.elapsed().as_secs_f64();
    writeln!(
        out,
        "\n{} in {}: {} of text, {}/s",
        args.out.display(),
        format::duration(started.elapsed()),
        format::bytes(bytes),
        format::bytes((bytes as f64 / seconds.max(1e-9)) as u64)
    )?;
    Ok(Status::Done)
}

/// What went in, and what came out by split.
fn summary(report: &Report) -> String {
    let manifest = &report.manifest;
    let count = |name: &str| manifest.counts.get(name).copied().unwrap_or(0);
    let mut rows = vec![vec![
        "sources".to_owned(),
        format::count(manifest.sources.len() as u64),
    ]];
    let always = ["documents", "sentences", "tokens"];
    let if_any = [
        "skipped",
        "ignored_files",
        "documents_without_tokens",
        "sentences_without_tokens",
        "unknown_tokens",
        "sentences_cut",
        "truncated_tokens",
        "random_unavailable",
        "random_from_own_document",
    ];
    let shown = always
        .iter()
        .chain(if_any.iter().filter(|name| count(name) > 0));
    rows.extend(shown.map(|name| vec![name.replace('_', " "), format::count(count(name))]));
    let read = table(&["read", ""], &rows);

    format!("{read}\n{}", split_table("wrote", manifest))
}

/// What a table of splits says of each.
pub fn split_header(manifest: &Manifest) -> [&'static str; 9] {
    let (other, share) = match manifest.objective {
        Objective::Sop => ("B before A", "share of these"),
        _ => ("random", "random share"),
    };
    [
        "documents",
        "rows",
        "tokens",
        "mean length",
        "shards",
        "is next",
        other,
        "no label",
        share,
    ]
}

/// A column for each split: as wide as a terminal is, however many there are to tell of.
pub fn split_table(title: &str, manifest: &Manifest) -> String {
    let splits: Vec<Vec<String>> = manifest.splits.values().map(split_row).collect();
    let rows = split_header(manifest).into_iter().enumerate();
    let rows: Vec<Vec<String>> = rows
        .map(|(i, what)| {
            let cells = splits.iter().map(|split| split[i].clone());
            std::iter::once(what.to_owned()).chain(cells).collect()
        })
        .collect();
    let header: Vec<&str> = std::iter::once(title)
        .chain(manifest.splits.keys().map(String::as_str))
        .collect();
    table(&header, &rows)
}

/// A split in a table, by [`split_header`].
pub fn split_row(split: &SplitRecord) -> Vec<String> {
    let labels = split.labels;
    let mean = split.tokens as f64 / split.rows.max(1) as f64;
    let share = labels
        .not_next_ratio()
        .map_or_else(String::new, |r| format!("{:.2} %", 100.0 * r));
    let mut row = Vec::from([split.documents, split.rows, split.tokens].map(format::count));
    row.push(format!("{mean:.1}"));
    row.extend(
        [
            split.shards.len() as u64,
            labels.is_next,
            labels.not_next,
            labels.none,
        ]
        .map(format::count),
    );
    row.push(share);
    row
}
