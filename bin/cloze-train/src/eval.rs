//! `cloze eval`

use std::io::Write;

use anyhow::bail;
use cloze_cli::progress::{Unit, Work};
use cloze_cli::{Status, format, table};
use cloze_shard::Manifest;
use cloze_shard::masking::MaskingRule;
use cloze_train::eval::{EvalReport, evaluate};
use cloze_train::parallel::World;

use crate::cli::{EvalArgs, Typed};

pub fn run(args: &EvalArgs, typed: &Typed) -> anyhow::Result<Status> {
    let world = World::from_environment()?;
    if world.world_size > 1 {
        bail!(
            "this is one of {} processes, but an evaluation is made by one: start `cloze eval` without torchrun, srun or mpirun",
            world.world_size
        );
    }
    crate::warn(
        std::slice::from_ref(&args.dataset),
        Some(&args.model),
        typed,
    );
    crate::start_threads(args.jobs)?;
    let manifest = Manifest::read(&args.dataset)?;
    let all = manifest.splits.get(&args.split).map_or(0, |s| s.rows);
    let total = if args.rows == 0 {
        all
    } else {
        args.rows.min(all)
    };
    let work = Work::begin("eval", Unit::Things("rows"), total);
    let rule = MaskingRule {
        rate: args.mask_rate,
        ..MaskingRule::default()
    };
    let report = evaluate(
        &args.dataset,
        &args.split,
        &args.model,
        rule,
        args.seed,
        args.batch_tokens,
        args.rows,
        args.build(),
        &mut |rows| work.advance(rows),
    )?;
    work.end();
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(out, "{}", as_text(&report))?;
    }
    Ok(Status::Done)
}

fn as_text(report: &EvalReport) -> String {
    let number = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), |x| format!("{x:.4}"));
    let share = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), format::percent);
    let rows: Vec<Vec<String>> = [
        ("mlm_loss", number(report.mlm_loss), "nats a masked token"),
        ("perplexity", number(report.perplexity), ""),
        ("mlm_accuracy", share(report.mlm_accuracy), ""),
        ("nsp_loss", number(report.nsp_loss), "nats a labelled row"),
        ("nsp_accuracy", share(report.nsp_accuracy), ""),
        ("rows", format::count(report.rows), ""),
        ("tokens", format::count(report.tokens), ""),
        ("masked_tokens", format::count(report.masked_tokens), ""),
    ]
    .map(|(name, value, note)| vec![name.to_owned(), value, note.to_owned()])
    .into();
    table(&["", "", ""], &rows)
}
