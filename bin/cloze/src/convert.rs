//! `cloze convert`

use std::io::Write;
use std::time::Instant;

use anyhow::bail;
use cloze_cli::progress::{Unit, Work};
use cloze_cli::{Status, format};
use cloze_convert::Target;

use crate::cli::{ConvertArgs, To};

pub fn run(args: &ConvertArgs) -> anyhow::Result<Status> {
    let started = Instant::now();
    let report = match args.to {
        Some(to) => convert(args, to)?,
        None => bail!("nothing to do: give --to or --from"),
    };
    for warning in &report.warnings {
        writeln!(std::io::stderr(), "warning: {warning}")?;
    }
    let [before, after] = [report.bytes_before, report.bytes_after].map(format::bytes);
    writeln!(
        std::io::stdout(),
        "{} in {}: {} rows, {} tokens; {before} became {after}",
        args.out.display(),
        format::duration(started.elapsed()),
        format::count(report.rows),
        format::count(report.tokens),
    )?;
    Ok(Status::Done)
}

fn convert(args: &ConvertArgs, to: To) -> anyhow::Result<cloze_convert::Report> {
    let [dataset] = args.inputs.as_slice() else {
        bail!("{} datasets, expected one and the folder to make", args.inputs.len());
    };
    if args.pad && to != To::Transformers {
        bail!("--pad goes with --to transformers");
    }
    let target = match to {
        To::Arrow => Target::Arrow,
        To::Parquet => Target::Parquet,
        To::Transformers => Target::Transformers { pad: args.pad },
    };
    let rows = cloze_convert::rows(dataset)?;
    let work = Work::begin("convert", Unit::Things("rows"), rows);
    let report = cloze_convert::convert(dataset, &args.out, target, args.jobs, &|rows| {
        work.advance(rows);
    })?;
    work.end();
    Ok(report)
}
