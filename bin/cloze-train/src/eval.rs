//! `cloze eval`

use std::io::Write;

use anyhow::bail;
use cloze_cli::progress::{Unit, Work};
use cloze_cli::{Status, format, table};
use cloze_train::eval::EvalReport;
use cloze_train::evaluation::{EvalOptions, Evaluation, PseudoPerplexity};
use cloze_train::parallel::World;
use cloze_train::samples::MaskedRow;

use crate::cli::{EvalArgs, Typed};

pub fn run(args: &EvalArgs, typed: &Typed) -> anyhow::Result<Status> {
    let world = World::from_environment()?;
    if world.world_size > 1 {
        bail!(
            "this is one of {} processes, but an evaluation is made by one: start `cloze eval` without torchrun, srun or mpirun",
            world.world_size
        );
    }
    let model = crate::hub::folder(&args.model, &args.dataset)?;
    crate::warn(std::slice::from_ref(&args.dataset), Some(&model), typed);
    crate::start_threads(args.jobs)?;
    let options = EvalOptions {
        split: args.split.clone(),
        rule: args.masks.rule(args.mask_rate),
        mlm_only: args.mlm_only,
        seed: args.seed,
        batch_tokens: args.batch_tokens,
        build: args.build(),
    };
    let mut evaluation = Evaluation::open(&args.dataset, &model, options)?;
    let some = |rows: u64, all: u64| if rows == 0 { all } else { rows.min(all) };
    let (all, rows) = (evaluation.rows()?, args.rows);
    let mut found = Found {
        report: with_bar("eval", some(rows, all), |told| {
            evaluation.report(rows, told)
        })?,
        sources: None,
        pseudo_perplexity: None,
        samples: None,
    };
    if args.by_source {
        let rows = with_bar("by source", some(rows, all), |told| {
            evaluation.by_source(rows, told)
        })?;
        let sources = rows.into_iter();
        found.sources = Some(
            sources
                .map(|(source, report)| Source { source, report })
                .collect(),
        );
    }
    if let Some(rows) = args.pseudo_perplexity {
        let sum = with_bar("pseudo-perplexity", some(rows, all), |told| {
            evaluation.pseudo_perplexity(rows, told)
        })?;
        found.pseudo_perplexity = Some(sum);
    }
    if args.samples > 0 {
        found.samples = Some(evaluation.samples(args.samples, TOP)?);
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&found)?)?;
    } else {
        // Tokens are what somebody wrote into a vocabulary.
        write!(out, "{}", cloze_cli::visible_lines(&found.text()))?;
    }
    Ok(Status::Done)
}

/// Predictions that are kept of a hidden token.
const TOP: usize = 5;

/// What was asked for.
#[derive(serde::Serialize)]
struct Found {
    #[serde(flatten)]
    report: EvalReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<Vec<Source>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pseudo_perplexity: Option<PseudoPerplexity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<Vec<MaskedRow>>,
}

#[derive(serde::Serialize)]
struct Source {
    source: String,
    #[serde(flatten)]
    report: EvalReport,
}

/// Does `work` with a progress bar over `rows`.
fn with_bar<T>(
    name: &'static str,
    rows: u64,
    work: impl FnOnce(&mut dyn FnMut(u64)) -> cloze_train::Result<T>,
) -> cloze_train::Result<T> {
    let bar = Work::begin(name, Unit::Things("rows"), rows);
    let found = work(&mut |rows| bar.advance(rows))?;
    bar.end();
    Ok(found)
}

impl Found {
    fn text(&self) -> String {
        let mut text = as_text(&self.report);
        if let Some(p) = &self.pseudo_perplexity {
            text += &format!(
                "pseudo-perplexity {:.2}, of {} tokens of {} rows, each hidden alone\n",
                p.pseudo_perplexity,
                format::count(p.tokens),
                format::count(p.rows)
            );
        }
        if let Some(sources) = &self.sources {
            let number = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), |x| format!("{x:.4}"));
            let share = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), format::percent);
            let rows: Vec<Vec<String>> = sources
                .iter()
                .map(|Source { source, report: r }| {
                    vec![
                        source.clone(),
                        format::count(r.rows),
                        number(r.mlm_loss),
                        share(r.mlm_accuracy),
                        number(r.pair_loss()),
                        share(r.nsp_accuracy.or(r.sop_accuracy)),
                    ]
                })
                .collect();
            let order = self.report.sop_loss.is_some();
            let pair = if order { "sop_loss" } else { "nsp_loss" };
            let columns = ["source", "rows", "mlm_loss", "right", pair, "right"];
            text += &format!("\n{}", table(&columns, &rows));
        }
        if self.samples.iter().flatten().next().is_some() {
            text += "\nIn [ ] is what was hidden; after ←, what the model says instead, and how probable it finds that:\n";
        }
        for sample in self.samples.iter().flatten() {
            text += &format!("\n{}\n", sample.text());
        }
        text
    }
}

fn as_text(report: &EvalReport) -> String {
    let number = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), |x| format!("{x:.4}"));
    let share = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), format::percent);
    let names = match report.sop_loss {
        Some(_) => ["sop_loss", "sop_accuracy"],
        None => ["nsp_loss", "nsp_accuracy"],
    };
    let rows: Vec<Vec<String>> = [
        ("mlm_loss", number(report.mlm_loss), "nats a masked token"),
        ("perplexity", number(report.perplexity), ""),
        ("mlm_accuracy", share(report.mlm_accuracy), ""),
        (names[0], number(report.pair_loss()), "nats a labelled row"),
        (
            names[1],
            share(report.nsp_accuracy.or(report.sop_accuracy)),
            "",
        ),
        ("rows", format::count(report.rows), ""),
        ("tokens", format::count(report.tokens), ""),
        ("masked_tokens", format::count(report.masked_tokens), ""),
    ]
    .map(|(name, value, note)| vec![name.to_owned(), value, note.to_owned()])
    .into();
    table(&["", "", ""], &rows)
}
