//! `cloze convert`

use std::io::Write;
use std::time::Instant;

use anyhow::bail;
use cloze_cli::progress::{Unit, Work};
use cloze_cli::{Status, format};
use cloze_convert::{Target, import as imports};

use crate::cli::{ConvertArgs, From, OnBadRow, To};

pub fn run(args: &ConvertArgs) -> anyhow::Result<Status> {
    let started = Instant::now();
    let partial = cloze_convert::partial(&args.out);
    cloze_cli::when_stopped(move || match partial.exists() {
        true => format!(
            "{} holds what was written up to here: delete it, and convert again",
            partial.display()
        ),
        false => "nothing was written".into(),
    })?;
    let report = match (args.to, args.from) {
        (Some(to), _) => convert(args, to)?,
        (None, Some(from)) => import(args, from)?,
        (None, None) => bail!("nothing to do: give --to or --from"),
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
        bail!(
            "{} datasets, expected one and the folder to make",
            args.inputs.len()
        );
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

fn import(args: &ConvertArgs, from: From) -> anyhow::Result<cloze_convert::Report> {
    let Some(tokenizer) = &args.import.tokenizer else {
        bail!("--from needs --tokenizer: the one that the rows were made with");
    };
    let options = imports::Options {
        format: match from {
            From::Lddl => imports::Format::Lddl,
            From::Tfrecord => imports::Format::TfRecord,
        },
        train: args.inputs.clone(),
        validation: args.import.validation.clone(),
        tokenizer: tokenizer.clone(),
        shard_rows: args.import.shard_rows,
        skip_bad_rows: args.import.on_bad_row == OnBadRow::Skip,
        jobs: args.jobs,
    };
    let work = Work::begin("import", Unit::Bytes, imports::bytes(&options)?);
    let report = imports::import(&options, &args.out, &|bytes| work.advance(bytes))?;
    work.end();
    Ok(report)
}
