//! `cloze verify`

use std::io::Write;
use std::path::PathBuf;

use cloze_cli::progress::{Unit, Work};
use cloze_cli::{Status, format, table};
use cloze_prep::claims;
use cloze_shard::Manifest;
use cloze_shard::verify::{self, Check, Looked, Report};
use serde_json::json;

use crate::cli::VerifyArgs;
use crate::prepare::Bars;

pub fn run(args: &VerifyArgs) -> anyhow::Result<Status> {
    let sources = args.sources.all()?;
    let mut report = match Manifest::read(&args.dataset) {
        // Datasets in other files are another crate's; against the source they are checked when they are Arrow again.
        Err(cloze_shard::Error::OtherFiles { .. }) if sources.is_empty() => other_files(args)?,
        manifest => {
            let manifest = manifest?;
            let work = Work::begin("verify", Unit::Bytes, verify::total_bytes(&manifest));
            let report = claims::verify(&args.dataset, &mut |bytes| work.advance(bytes))?;
            work.end();
            report
        }
    };
    if !sources.is_empty() {
        audit(args, &sources, &mut report)?;
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", as_json(&report))?;
    } else {
        write!(out, "{}", as_text(&report))?;
    }
    Ok(if report.is_clean() {
        Status::Done
    } else {
        Status::Problems
    })
}

fn other_files(args: &VerifyArgs) -> anyhow::Result<Report> {
    let rows = cloze_convert::rows(&args.dataset)?;
    let work = Work::begin("verify", Unit::Things("rows"), rows);
    let mut report =
        cloze_convert::verify::verify(&args.dataset, args.jobs, &|rows| work.advance(rows))?;
    work.end();
    if let Some(container) = cloze_convert::Container::read(&args.dataset)? {
        claims::check(&args.dataset, &container.dataset, &mut report);
    }
    Ok(report)
}

fn audit(args: &VerifyArgs, sources: &[PathBuf], report: &mut Report) -> anyhow::Result<()> {
    let files_are_good = report.found.get(&Check::Files).is_none_or(|&n| n == 0);
    if !files_are_good {
        let looked = Looked {
            done: 0,
            of: 0,
            unit: "rows",
        };
        report.looked_at.insert(Check::Source, looked);
        report.add(
            Check::Source,
            &args.dataset,
            None,
            "the source cannot be compared while files have problems".into(),
        );
        return Ok(());
    }
    let work = tempfile::tempdir()?;
    cloze_prep::audit::audit(
        &args.dataset,
        sources,
        &args.exclude,
        work.path(),
        (args.jobs, args.memory),
        &Bars::default(),
        report,
    )?;
    Ok(())
}

/// Notes that are shown.
const NOTES: usize = 20;

fn as_text(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .found
        .iter()
        .map(|(check, &found)| {
            let looked = report.looked_at.get(check);
            let whole = looked.is_none_or(|l| l.done == l.of);
            let result = match (found, whole) {
                (0, true) => "ok".to_owned(),
                (0, false) => "not all could be looked at".to_owned(),
                _ => problems(found),
            };
            vec![
                check.name().to_owned(),
                looked.map(looked_at).unwrap_or_default(),
                result,
            ]
        })
        .collect();
    let mut text = table(&["check", "looked at", "result"], &rows);
    if !report.problems.is_empty() {
        text.push('\n');
    }
    for problem in &report.problems {
        let row = problem
            .row
            .map_or_else(String::new, |row| format!(" row {row}:"));
        text.push_str(&format!(
            "{}: {}:{row} {}\n",
            problem.check.name(),
            problem.path.display(),
            problem.why
        ));
    }
    for (check, &found) in &report.found {
        if found > Report::KEPT {
            let more = format::count(found - Report::KEPT);
            text.push_str(&format!("{}: and {more} more\n", check.name()));
        }
    }
    for note in report.notes.iter().take(NOTES) {
        text.push_str(&format!("\nnote: {note}\n"));
    }
    if report.notes.len() > NOTES {
        let more = format::count((report.notes.len() - NOTES) as u64);
        text.push_str(&format!("\nnote: and {more} more (--json has all)\n"));
    }
    let all: u64 = report.found.values().sum();
    text.push_str(&if all == 0 {
        "\nclean\n".to_owned()
    } else {
        format!("\n{}\n", problems(all))
    });
    text
}

fn problems(n: u64) -> String {
    format!(
        "{} problem{}",
        format::count(n),
        if n == 1 { "" } else { "s" }
    )
}

fn looked_at(looked: &Looked) -> String {
    let of = format::count(looked.of);
    if looked.done == looked.of {
        format!("{of} {}", looked.unit)
    } else {
        format!("{} of {of} {}", format::count(looked.done), looked.unit)
    }
}

fn as_json(report: &Report) -> serde_json::Value {
    let checks: Vec<_> = report
        .found
        .iter()
        .map(|(check, found)| json!({"check": check.name(), "looked_at": report.looked_at.get(check).map(looked_at), "problems": found}))
        .collect();
    let problems: Vec<_> = report
        .problems
        .iter()
        .map(|p| json!({"check": p.check.name(), "path": p.path, "row": p.row, "why": p.why}))
        .collect();
    json!({"clean": report.is_clean(), "checks": checks, "problems": problems, "notes": report.notes})
}
